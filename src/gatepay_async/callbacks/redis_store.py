"""[extra: redis] ``RedisStore``: what was handled, in a Redis that several machines share. On asyncio only."""

from __future__ import annotations

from redis.asyncio import Redis, RedisCluster

from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

# A claim is `token`, with an expiry; what was handled is `=facts token`, with one or without. Each script is one step
# for Redis: nothing comes in between. redis-py sends a command again when a connection breaks: each may come twice.
_CLAIM = """
local found = redis.call('GET', KEYS[1])
if not found then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 'MINE'
end
if found == ARGV[1] then return 'MINE' end
if string.sub(found, 1, 1) ~= '=' then return 'TAKEN' end
if string.sub(found, 1, #ARGV[3]) == ARGV[3] then return 'HANDLED' end
return 'CONFLICT'
"""
_COMMIT = """
local found = redis.call('GET', KEYS[1])
local handled = ARGV[2] .. ARGV[1]
if found and found ~= ARGV[1] and found ~= handled then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], handled)
else redis.call('SET', KEYS[1], handled, 'PX', ARGV[3]) end
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


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
        self._scripts = {text: self._redis.register_script(text) for text in (_CLAIM, _COMMIT, _RELEASE)}

    async def claim(self, claim: Claim) -> Standing:
        """As ``Store.claim``."""
        return Standing[
            _as_text(await self._run_script(_CLAIM, claim, str(int(claim.lease * 1000)), f"={claim.facts} "))
        ]

    async def commit(self, claim: Claim) -> bool:
        """As ``Store.commit``."""
        keep = "" if self.keep is None else str(int(self.keep * 1000))
        return await self._run_script(_COMMIT, claim, f"={claim.facts} ", keep) == 1

    async def release(self, claim: Claim) -> None:
        """As ``Store.release``."""
        await self._run_script(_RELEASE, claim)

    async def aclose(self) -> None:
        """Close the connections, if the client is not yours; the next callback opens others."""
        if self._owns_client:
            await self._redis.aclose()

    async def _run_script(self, script: str, claim: Claim, *args: str) -> object:
        return await self._scripts[script](keys=[self._prefix + claim.key], args=[claim.token, *args])


def _as_text(value: object) -> str:
    """A client may be set to give text, or bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
