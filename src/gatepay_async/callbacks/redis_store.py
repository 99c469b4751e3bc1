"""[extra: redis] ``RedisStore``: records handled callbacks in a Redis that several machines share. On asyncio only."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.arguments import check_str
from gatepay_async.words.problem import Problem

# The value of a claim is `token`, with an expiry. The value of a handled callback is `=facts token`, with or without
# an expiry. Redis runs a script atomically. If a connection breaks, redis-py sends the script again, so running it
# twice must have the same effect as running it once.
_SCRIPT = """
local function carry_out(key, operation, token, facts, expiry)
    local value = redis.call('GET', key)
    if operation == 'CLAIM' then
        if not value then redis.call('SET', key, token, 'PX', expiry) return 'MINE' end
        if value == token then return 'MINE' end
        if string.sub(value, 1, 1) ~= '=' then return 'TAKEN' end
        if string.sub(value, 1, #facts) == facts then return 'HANDLED' end
        return 'CONFLICT'
    end
    if operation == 'COMMIT' then
        local handled = facts .. token
        if value and value ~= token and value ~= handled then return 'ANOTHER' end
        if expiry == '' then redis.call('SET', key, handled) else redis.call('SET', key, handled, 'PX', expiry) end
        return 'WRITTEN'
    end
    if value == token then redis.call('DEL', key) end
    return 'RELEASED'
end
local answers = {}
for i, key in ipairs(KEYS) do
    local succeeded, answer = pcall(carry_out, key, ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i])
    if not succeeded then
        answer = type(answer) == 'table' and answer.err or answer
        -- A replica refuses all writes, so none was made. redis-py looks for the new master only if it gets this error.
        if string.find(answer, 'READONLY', 1, true) then return redis.error_reply('READONLY it became a replica') end
        answer = 'ERR ' .. answer
    end
    answers[i] = answer
end
return answers
"""
_MAX_REQUESTS_PER_CALL = 500  # because Redis serves no other client while it runs a script
_CALL_TIMEOUT_S = 4.0  # for one call of the script; less than the time-out for a commit in once.py


class _ScriptRequest(NamedTuple):
    """The arguments of the script for one key."""

    key: bytes
    operation: str
    token: str
    facts: bytes
    expiry: str  # milliseconds; empty: never


class RedisStore:
    """
    Records handled callbacks in Redis, for any number of processes and machines. On asyncio only, like redis-py.

    Guarantee: at least once, as long as Redis keeps its data. That needs ``appendonly yes`` and ``appendfsync always``.
    With the default settings, Redis loses the last minutes in a crash and the last moments in a failover to a
    replica. With a ``maxmemory-policy`` other than ``noeviction``, it may drop any data. A callback whose record is
    lost is handled again if it comes again. To be safe, record payments in your own database, as ``CallbackApp`` shows.

    Args:
        redis: A client of ``redis.asyncio``, which you close, or a URL: ``redis://…``, ``rediss://…``, ``unix://…``.
        prefix: The start of all Redis keys.
        keep: How long a handled callback is remembered, in seconds or as a ``timedelta``. ``CallbackApp`` then requires
            a ``max_age`` that is at least 300 seconds smaller, so that older callbacks can't be replayed. None: for
            ever (some 150 bytes each).

    Raises:
        InvalidRequestError: *redis* is another client or an invalid URL, *prefix* is no text, or *keep* is not a valid
            duration.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster | str,
        *,
        prefix: str = "gatepay:callback:",
        keep: Seconds | None = None,
    ) -> None:
        self.keep = to_seconds_or_none("keep", keep)
        check_str("prefix", prefix, error=InvalidRequestError)
        self._prefix = prefix
        self._owns_client = isinstance(redis, str)
        if isinstance(redis, str):
            redis = _client_of(redis)
        if not isinstance(redis, Redis | RedisCluster):
            # It is probably a redis.Redis, which would block the event loop.
            raise InvalidRequestError(field="redis", problem=Problem("not_redis"))
        self._redis = redis
        self._script = self._redis.register_script(_SCRIPT)
        # Whether one call carries several requests. In a cluster, a script can't use keys on several nodes.
        self._sends_batches = not isinstance(redis, RedisCluster)
        self._sent: list[tuple[_ScriptRequest, asyncio.Future[str]]] = []  # in the current call
        self._waiting: deque[tuple[_ScriptRequest, asyncio.Future[str]]] = deque()
        self._calling: asyncio.Task[None] | None = None  # calls the script until no request waits

    async def claim(self, claim: Claim) -> Standing:
        """Implement ``Store.claim``."""
        return Standing[await self._run_script("CLAIM", claim, str(int(claim.lease * 1000)))]

    async def commit(self, claim: Claim) -> bool:
        """Implement ``Store.commit``."""
        return (
            await self._run_script("COMMIT", claim, "" if self.keep is None else str(int(self.keep * 1000)))
            == "WRITTEN"
        )

    async def release(self, claim: Claim) -> None:
        """Implement ``Store.release``."""
        await self._run_script("RELEASE", claim, "")

    async def aclose(self) -> None:
        """Close the connections, unless you passed your own client. The next callback opens new ones."""
        if self._calling is not None and self._calling.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._calling])
        if self._owns_client:
            await self._redis.aclose()

    async def _run_script(self, operation: str, claim: Claim, expiry: str) -> str:
        """Run an operation with the next call of the script. Requests made during a call are sent together after it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        # Encode here: text that UTF-8 can't encode then fails only its own request, and not the whole call.
        key, facts = f"{self._prefix}{claim.key}".encode(), f"={claim.facts} ".encode()
        request = _ScriptRequest(key, operation, claim.token, facts, expiry)
        if not self._sends_batches:
            await self._run_script_once([(request, answer)])
            return answer.result()
        if self._calling is not None and self._calling.get_loop() is not loop:
            # The event loop of the earlier call has been closed. No caller waits for its requests any more.
            self._calling, self._sent, self._waiting = None, [], deque()
        self._waiting.append((request, answer))
        if self._calling is None or self._calling.done():
            self._calling = asyncio.create_task(self._run_script_until_none_waits())
            self._calling.add_done_callback(self._cancel_answers)
        return await answer

    async def _run_script_until_none_waits(self) -> None:
        waiting = self._waiting  # _run_script() replaces the attribute if another event loop uses the store
        while waiting:
            batch = [waiting.popleft() for _ in range(min(_MAX_REQUESTS_PER_CALL, len(waiting)))]
            # If an answer is done, its request was cancelled.
            sent = self._sent = [(request, answer) for request, answer in batch if not answer.done()]
            try:
                await self._run_script_once(sent)
            except Exception as error:  # noqa: BLE001 -- each waiting caller raises a copy
                for _, answer in sent:
                    if not answer.done():
                        answer.set_exception(copy.copy(error))

    def _cancel_answers(self, calling: asyncio.Task[None]) -> None:
        if calling.cancelled():  # the event loop is being closed
            for _, answer in [*self._sent, *self._waiting]:
                answer.cancel()

    async def _run_script_once(self, sent: Sequence[tuple[_ScriptRequest, asyncio.Future[str]]]) -> None:
        """Call the script with these requests, and set their answers."""
        keys = [request[0] for request, _ in sent]
        args = [argument for request, _ in sent for argument in request[1:]]
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            results = cast("list[bytes | str]", await self._script(keys=keys, args=args))
        for (_, answer), result in zip(sent, results, strict=True):
            text = result.decode() if isinstance(result, bytes) else result  # str with decode_responses
            if answer.done():
                continue
            if text.startswith("ERR "):
                answer.set_exception(ResponseError(text.removeprefix("ERR ")))
            else:
                answer.set_result(text)


def _client_of(url: str) -> Redis:
    """Return a client for *url*. The error for an invalid URL has no cause, because the URL may hold a password."""
    with suppress(ValueError):
        return Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] -- its options have no types
    raise InvalidRequestError(field="redis", problem=Problem("not_redis"))
