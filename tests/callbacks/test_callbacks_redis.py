"""The store in Redis, with a real server: killed, stopped, full."""

import asyncio
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import evolve
from delivering import Shop, query, word
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, RedisError
from redis_server import RedisServer
from waiting import PATIENCE

from gatepay_async import callbacks
from gatepay_async.callbacks import Claim, RedisStore, Standing

# redis-py speaks asyncio only.
pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

ONE = Claim("shop/1", "one", "facts", 20)
TWO = Claim("shop/1", "two", "facts", 20)
OTHER = Claim("shop/1", "two", "other", 20)


@pytest.mark.parametrize("decode", [False, True])
async def test_a_client_of_the_users(redis_url: str, monkeypatch: pytest.MonkeyPatch, *, decode: bool) -> None:
    """A client of the user's is used as it is, and left open; the keys have their prefix."""
    async with Redis.from_url(redis_url, decode_responses=decode) as redis:
        store = RedisStore(redis, prefix="mine:")
        assert await store.claim(ONE) is Standing.MINE
        assert await store.claim(TWO) is Standing.TAKEN
        assert await store.commit(ONE) is True
        assert await store.claim(OTHER) is Standing.CONFLICT
        with monkeypatch.context() as patch:
            patch.setattr(redis, "aclose", None)
            await store.aclose()
        assert await redis.keys() in ([b"mine:shop/1"], ["mine:shop/1"])
        assert await redis.ttl("mine:shop/1") == -1


async def test_redis_forgets_by_itself(redis_url: str) -> None:
    """A claim has an expiry, and what was handled has one where it shall be forgotten."""
    store = RedisStore(redis_url, keep=timedelta(days=1))
    async with Redis.from_url(redis_url) as redis:
        await store.claim(ONE)
        assert 0 < await redis.pttl("gatepay:callback:shop/1") <= 20_000
        await store.commit(ONE)
        assert 86_000_000 < await redis.pttl("gatepay:callback:shop/1") <= 86_400_000
        await store.claim(Claim("shop/2", "one", "facts", 0.01))
        with anyio.fail_after(PATIENCE):
            while await store.claim(Claim("shop/2", "two", "facts", 20)) is not Standing.MINE:
                await anyio.sleep(0.005)
    await store.aclose()


async def test_a_command_that_comes_twice(redis_url: str) -> None:
    """A command that redis-py sends again, as the answer to it was lost, does no harm."""
    store = RedisStore(redis_url)
    assert [await store.claim(ONE), await store.claim(ONE)] == [Standing.MINE] * 2
    assert [await store.commit(ONE), await store.commit(ONE)] == [True, True]
    await store.aclose()


async def test_redis_killed_and_started_again(redis_server: RedisServer, redis_url: str) -> None:
    """While Redis is away: fail. When it is back, what was handled is known, and the rest is handled."""
    store = RedisStore(redis_url)
    shop = Shop(store)
    app = shop.app()
    assert await word(app, query()) == "success"
    redis_server.kill()
    try:
        assert [await word(app, received) for received in (query(), query(order_id="1"))] == ["fail", "fail"]
    finally:
        await anyio.to_thread.run_sync(redis_server.start)
    assert [await word(app, received) for received in (query(), query(order_id="1"))] == ["success", "success"]
    assert shop.kinds == ["handled", "failed", "failed", "repeated", "handled"]
    assert {type(event.error).__mro__[1] for event in shop.events[1:3]} <= {RedisError, Exception}
    await store.aclose()


async def test_redis_killed_between_handling_and_committing(redis_server: RedisServer, redis_url: str) -> None:
    """A Redis that dies under the handler: fail, and what the handler has done comes to it again."""
    store = RedisStore(redis_url)
    shop = Shop(store)

    async def handler(callback: Any) -> None:
        await shop.handle(callback)
        if len(shop.handled) == 1:
            redis_server.kill()

    app = shop.app(handler, timeout=0.5)
    try:
        assert await word(app, query()) == "fail"
    finally:
        await anyio.to_thread.run_sync(redis_server.start)
    async with Redis.from_url(redis_url) as redis:
        await redis.pexpire("gatepay:callback:gp-key/67848", 1)  # as if the lease had ended
    assert await word(shop.app(handler), query()) == "success"
    assert (shop.kinds, len(shop.handled)) == (["failed", "handled"], 2)
    await store.aclose()


async def test_redis_hangs(redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that doesn't answer is waited for a bounded time: a fail."""
    monkeypatch.setattr(callbacks.once, "_LEASE_MARGIN_S", 0.1)
    store = RedisStore(redis_url)
    shop = Shop(store)
    redis_server.pause()
    try:
        assert await word(shop.app(), query()) == "fail"
    finally:
        redis_server.resume()
    assert shop.kinds == ["failed"]
    await store.aclose()


async def test_redis_out_of_memory(redis_url: str) -> None:
    """A Redis that takes nothing more is a fail, never a success."""
    store = RedisStore(redis_url)
    shop = Shop(store)
    async with Redis.from_url(redis_url) as redis:
        await redis.config_set("maxmemory", "1")
        try:
            assert await word(shop.app(), query()) == "fail"
        finally:
            await redis.config_set("maxmemory", "0")
    assert "maxmemory" in str(shop.events[0].error)
    await store.aclose()


async def test_a_master_that_became_a_replica(redis_url: str) -> None:
    """The error is redis-py's own, by which it looks for the new master."""
    store = RedisStore(redis_url)
    async with Redis.from_url(redis_url) as redis:
        await redis.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(ReadOnlyError):
                await store.claim(ONE)
        finally:
            await redis.replicaof("NO", "ONE")
    await store.aclose()


async def test_many_at_once_are_one_call(redis_url: str) -> None:
    """What is asked for while a call is under way gathers into the next one; in a cluster each is its own."""
    async with Redis.from_url(redis_url) as redis:
        for together, most in ((True, 2), (False, 50)):
            store = RedisStore(redis, prefix=f"{together}:")
            store._batches = together
            before = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(store.commit, Claim(f"shop/{number}", "one", "facts", 20))
            after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
            assert after - before <= most + 1  # Redis didn't know the script the first time
            assert await store.claim(TWO) is Standing.HANDLED
            await store.aclose()


async def test_an_error_of_one_is_its_own(redis_url: str) -> None:
    """A key that is something else fails alone; so does one that UTF-8 can't encode, and a claim that is given up."""
    async with Redis.from_url(redis_url) as redis:
        await redis.rpush("gatepay:callback:shop/bad", "a list")
        store = RedisStore(redis)
        asked = [
            asyncio.create_task(store.claim(evolve(ONE, key=f"shop/{name}"))) for name in ("bad", "left", "3", "\ud800")
        ]
        await asyncio.sleep(0)  # all of them have asked
        asked[1].cancel()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert "WRONGTYPE" in str(outcomes[0])
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert outcomes[2] is Standing.MINE
        assert isinstance(outcomes[3], UnicodeEncodeError)
        assert not await redis.exists("gatepay:callback:shop/left")
        await store.aclose()


async def test_given_up_while_it_is_called(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that is cancelled while Redis has its claim, or an event loop that ends, leaves nobody waiting."""
    store = RedisStore(redis_url)
    script = store._script
    await store.claim(TWO)
    for gives_up in ("one", "all"):
        called, answers = asyncio.Event(), asyncio.Event()

        async def slow(
            keys: Any, args: Any, called: asyncio.Event = called, answers: asyncio.Event = answers
        ) -> object:
            called.set()
            await answers.wait()
            return await script(keys=keys, args=args)

        monkeypatch.setattr(store, "_script", slow)
        first = asyncio.create_task(store.claim(evolve(ONE, key="shop/first")))
        await called.wait()
        second = asyncio.create_task(store.claim(evolve(ONE, key="shop/second")))
        await asyncio.sleep(0)
        assert store._calling is not None
        (first if gives_up == "one" else store._calling).cancel()
        answers.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in outcomes] == [True, gives_up == "all"]

    called, answers = asyncio.Event(), asyncio.Event()

    async def failing(**_: Any) -> object:
        called.set()
        await answers.wait()
        raise RedisError("broken")

    monkeypatch.setattr(store, "_script", failing)
    asked = [asyncio.create_task(store.claim(evolve(ONE, key=f"shop/{number}"))) for number in range(2)]
    await called.wait()
    asked[0].cancel()
    answers.set()
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in ends] == [asyncio.CancelledError, RedisError]
    await store.aclose()


async def test_an_event_loop_closed_in_the_middle_of_a_call(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next event loop begins anew: what the closed one has left behind is waited for by nobody."""
    store = RedisStore(redis_url)

    async def never(**_: Any) -> object:
        return await asyncio.Event().wait()

    def close_early() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it would log what is meant here
        left = loop.create_task(store.claim(TWO))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert not left.done()

    with monkeypatch.context() as patch:
        patch.setattr(store, "_script", never)
        await anyio.to_thread.run_sync(close_early)
    with anyio.fail_after(PATIENCE):
        await store.aclose()
        assert await store.claim(ONE) is Standing.MINE
        await store.aclose()
