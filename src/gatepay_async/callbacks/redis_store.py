"""[extra: redis] ``RedisStore``: what was handled, in a Redis that several machines share. On asyncio only."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

# A claim is `token`, with an expiry; what was handled is `=facts token`, with one or without. The script is one step
# for Redis: nothing comes in between. redis-py sends a command again when a connection breaks: each may come twice.
_SCRIPT = """
local function carry_out(key, act, token, facts, lasts)
    local found = redis.call('GET', key)
    if act == 'CLAIM' then
        if not found then redis.call('SET', key, token, 'PX', lasts) return 'MINE' end
        if found == token then return 'MINE' end
        if string.sub(found, 1, 1) ~= '=' then return 'TAKEN' end
        if string.sub(found, 1, #facts) == facts then return 'HANDLED' end
        return 'CONFLICT'
    end
    if act == 'COMMIT' then
        local handled = facts .. token
        if found and found ~= token and found ~= handled then return 'ANOTHER' end
        if lasts == '' then redis.call('SET', key, handled) else redis.call('SET', key, handled, 'PX', lasts) end
        return 'WRITTEN'
    end
    if found == token then redis.call('DEL', key) end
    return 'RELEASED'
end
local answers = {}
for i, key in ipairs(KEYS) do
    local fine, answer = pcall(carry_out, key, ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i])
    if not fine then
        answer = type(answer) == 'table' and answer.err or answer
        -- Of all alike, and none was written: redis-py looks for the new master when it sees this error itself.
        if string.find(answer, 'READONLY', 1, true) then return redis.error_reply('READONLY it became a replica') end
        answer = 'ERR ' .. answer
    end
    answers[i] = answer
end
return answers
"""
_MOST_AT_ONCE = 500  # wishes in one call: Redis does nothing else meanwhile
_ANSWER_S = 4.0  # seconds for one call of the script; less than a commit may take


class _Asked(NamedTuple):
    """What the script is asked for one key."""

    key: str
    act: str
    token: str
    facts: str
    lasts: str  # milliseconds


class RedisStore:
    """
    Remembers in Redis, for any number of processes and machines. On asyncio only (redis-py's own limit).

    Guarantee: at least once, as long as Redis keeps what it was told. With ``appendonly yes`` and ``appendfsync
    always`` it
    does; with its defaults a Redis that crashes forgets the last minutes, one that fails over to a replica the last
    moments, and one with a ``maxmemory-policy`` other than ``noeviction`` whatever it likes. What it forgot and comes
    again is handled again: let your own database say what is paid, as ``CallbackApp`` shows.

    Args:
        redis: A client of ``redis.asyncio`` (yours to close), or a URL: ``redis://…``, ``rediss://…``, ``unix://…``.
        prefix: Of all keys.
        keep: How long a handled callback is remembered, in seconds or as a ``timedelta``. ``CallbackApp`` then wants a
            ``max_age`` below it, or what is forgotten could be replayed. None: for ever, some 150 bytes each.

    Raises:
        InvalidRequestError: *redis* is another client, or *keep* is no time.
        ValueError: The URL is none.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster | str,
        *,
        prefix: str = "gatepay:callback:",
        keep: Seconds | None = None,
    ) -> None:
        self.keep = to_seconds_or_none("keep", keep)
        self._prefix = prefix
        self._owns_client = isinstance(redis, str)
        if isinstance(redis, str):
            redis = Redis.from_url(redis)  # pyright: ignore[reportUnknownMemberType] -- its options have no types
        if not isinstance(redis, Redis | RedisCluster):
            # redis.Redis, most likely: it would block the event loop.
            raise InvalidRequestError(field="redis", problem=Problem("not_redis"))
        self._redis = redis
        self._script = self._redis.register_script(_SCRIPT)
        self._together = not isinstance(redis, RedisCluster)  # whose keys lie on several machines
        self._asked: list[tuple[_Asked, asyncio.Future[str]]] = []  # of the call that is under way
        self._waiting: deque[tuple[_Asked, asyncio.Future[str]]] = deque()
        self._calling: asyncio.Task[None] | None = None

    async def claim(self, claim: Claim) -> Standing:
        """As ``Store.claim``."""
        return Standing[await self._run_script("CLAIM", claim, str(int(claim.lease * 1000)))]

    async def commit(self, claim: Claim) -> bool:
        """As ``Store.commit``."""
        return (
            await self._run_script("COMMIT", claim, "" if self.keep is None else str(int(self.keep * 1000)))
            == "WRITTEN"
        )

    async def release(self, claim: Claim) -> None:
        """As ``Store.release``."""
        await self._run_script("RELEASE", claim, "")

    async def aclose(self) -> None:
        """Close the connections, if the client is not yours; the next callback opens others."""
        if self._calling is not None and self._calling.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._calling])
        if self._owns_client:
            await self._redis.aclose()

    async def _run_script(self, act: str, claim: Claim, lasts: str) -> str:
        """Have it done with the next call of the script; what is asked for while one is under way gathers."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        wish = _Asked(self._prefix + claim.key, act, claim.token, f"={claim.facts} ", lasts)
        if not self._together:
            await self._run_script_once([(wish, answer)])
            return answer.result()
        if self._calling is not None and self._calling.get_loop() is not loop:
            # That event loop may have been closed in the middle of a call: nobody there waits any more.
            self._calling, self._asked, self._waiting = None, [], deque()
        self._waiting.append((wish, answer))
        if self._calling is None or self._calling.done():
            self._calling = asyncio.create_task(self._run_script_until_none_waits())
            self._calling.add_done_callback(self._cancel_answers)
        return await answer

    async def _run_script_until_none_waits(self) -> None:
        waiting = self._waiting  # of this event loop
        while waiting:
            taken = [waiting.popleft() for _ in range(min(_MOST_AT_ONCE, len(waiting)))]
            asked = self._asked = [(wish, answer) for wish, answer in taken if not answer.done()]  # not given up
            try:
                await self._run_script_once(asked)
            except Exception as error:  # noqa: BLE001 -- it is told to those who asked
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(copy.copy(error))

    def _cancel_answers(self, calling: asyncio.Task[None]) -> None:
        if calling.cancelled():  # the event loop ends
            for _, answer in [*self._asked, *self._waiting]:
                answer.cancel()

    async def _run_script_once(self, asked: Sequence[tuple[_Asked, asyncio.Future[str]]]) -> None:
        keys = [wish[0] for wish, _ in asked]
        args = [each for wish, _ in asked for each in wish[1:]]
        async with asyncio.timeout(_ANSWER_S):
            found = cast("list[bytes | str]", await self._script(keys=keys, args=args))
        for (_, answer), each in zip(asked, found, strict=True):
            text = each.decode() if isinstance(each, bytes) else each  # a client may be set to give text, or bytes
            if answer.done():
                continue
            if text.startswith("ERR "):
                answer.set_exception(ResponseError(text.removeprefix("ERR ")))
            else:
                answer.set_result(text)
