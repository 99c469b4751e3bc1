"""``RedisStore`` with a real server that is killed, paused or full."""

import asyncio
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import evolve
from delivering import Shop, query, reply_to
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, RedisError
from redis_server import RedisServer
from waiting import PATIENCE

from gatepay_async import callbacks
from gatepay_async.callbacks import Claim, RedisStore, Standing

# redis-py supports asyncio only.
pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

# The claims of three deliveries of one payment: key, token, facts, and lease in seconds. The third has other facts.
FIRST_DELIVERY = Claim("shop/1", "one", "facts", 20)
SECOND_DELIVERY = Claim("shop/1", "two", "facts", 20)
CONFLICTING_DELIVERY = Claim("shop/1", "two", "other", 20)


@pytest.mark.parametrize("decode_responses", [False, True])
async def test_users_redis_client_is_left_open(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, *, decode_responses: bool
) -> None:
    """``RedisStore`` uses the user's client unchanged, doesn't close it, and prefixes its keys."""
    async with Redis.from_url(redis_url, decode_responses=decode_responses) as redis:
        store = RedisStore(redis, prefix="mine:")
        assert await store.claim(FIRST_DELIVERY) is Standing.MINE
        assert await store.claim(SECOND_DELIVERY) is Standing.TAKEN
        assert await store.commit(FIRST_DELIVERY) is True
        assert await store.claim(CONFLICTING_DELIVERY) is Standing.CONFLICT
        with monkeypatch.context() as patch:
            patch.setattr(redis, "aclose", None)  # so that a call of it fails
            await store.aclose()
        assert await redis.keys() in ([b"mine:shop/1"], ["mine:shop/1"])
        assert await redis.ttl("mine:shop/1") == -1


async def test_entries_expire_in_redis(redis_url: str) -> None:
    """A claim expires with its lease, and a handled callback after the ``keep`` time."""
    store = RedisStore(redis_url, keep=timedelta(days=1))
    async with Redis.from_url(redis_url) as redis:
        await store.claim(FIRST_DELIVERY)
        assert 0 < await redis.pttl("gatepay:callback:shop/1") <= 20_000
        await store.commit(FIRST_DELIVERY)
        assert 86_000_000 < await redis.pttl("gatepay:callback:shop/1") <= 86_400_000
        await store.claim(Claim("shop/2", "one", "facts", 0.01))
        with anyio.fail_after(PATIENCE):
            while await store.claim(Claim("shop/2", "two", "facts", 20)) is not Standing.MINE:
                await anyio.sleep(0.005)
    await store.aclose()


async def test_repeated_command_has_no_effect(redis_url: str) -> None:
    """Claiming or committing twice with the same token succeeds, because redis-py retries after a lost reply."""
    store = RedisStore(redis_url)
    assert [await store.claim(FIRST_DELIVERY), await store.claim(FIRST_DELIVERY)] == [Standing.MINE] * 2
    assert [await store.commit(FIRST_DELIVERY), await store.commit(FIRST_DELIVERY)] == [True, True]
    await store.aclose()


async def test_deliveries_fail_while_redis_is_down(redis_server: RedisServer, redis_url: str) -> None:
    """While Redis is down, deliveries fail. Later, handled callbacks are recognised, and all others are handled."""
    store = RedisStore(redis_url)
    shop = Shop(store)
    app = shop.app()
    assert await reply_to(app, query()) == "success"
    redis_server.kill()
    try:
        assert [await reply_to(app, received) for received in (query(), query(order_id="1"))] == ["fail", "fail"]
    finally:
        await anyio.to_thread.run_sync(redis_server.start)
    assert [await reply_to(app, received) for received in (query(), query(order_id="1"))] == ["success", "success"]
    assert shop.event_kinds == ["handled", "failed", "failed", "repeated", "handled"]
    # The errors are redis-py's own: RedisError, or a direct subclass of it.
    assert {type(event.error).__mro__[1] for event in shop.events[1:3]} <= {RedisError, Exception}
    await store.aclose()


async def test_handler_runs_again_if_redis_dies_before_the_commit(redis_server: RedisServer, redis_url: str) -> None:
    """If Redis is killed while the handler runs, the delivery fails, and a later delivery runs the handler again."""
    store = RedisStore(redis_url)
    shop = Shop(store)

    async def handler(callback: Any) -> None:
        await shop.handle(callback)
        if len(shop.handled) == 1:
            redis_server.kill()

    app = shop.app(handler, timeout=0.5)
    try:
        assert await reply_to(app, query()) == "fail"
    finally:
        await anyio.to_thread.run_sync(redis_server.start)
    async with Redis.from_url(redis_url) as redis:
        await redis.pexpire("gatepay:callback:gp-key/67848", 1)  # as if the lease had ended
    assert await reply_to(shop.app(handler), query()) == "success"
    assert (shop.event_kinds, len(shop.handled)) == (["failed", "handled"], 2)
    await store.aclose()


async def test_delivery_fails_if_redis_hangs(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Redis doesn't reply in time, the delivery fails."""
    monkeypatch.setattr(callbacks.once, "_LEASE_MARGIN_S", 0.1)
    store = RedisStore(redis_url)
    shop = Shop(store)
    redis_server.pause()
    try:
        assert await reply_to(shop.app(), query()) == "fail"
    finally:
        redis_server.resume()
    assert shop.event_kinds == ["failed"]
    await store.aclose()


async def test_delivery_fails_if_redis_is_out_of_memory(redis_url: str) -> None:
    """If Redis is out of memory, the delivery fails with Redis's error."""
    store = RedisStore(redis_url)
    shop = Shop(store)
    async with Redis.from_url(redis_url) as redis:
        await redis.config_set("maxmemory", "1")
        try:
            assert await reply_to(shop.app(), query()) == "fail"
        finally:
            await redis.config_set("maxmemory", "0")
    assert "maxmemory" in str(shop.events[0].error)
    await store.aclose()


async def test_read_only_redis_raises_redis_pys_own_error(redis_url: str) -> None:
    """A replica's error reaches the caller as ``ReadOnlyError``, so that redis-py looks for the new master."""
    store = RedisStore(redis_url)
    async with Redis.from_url(redis_url) as redis:
        await redis.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(ReadOnlyError):
                await store.claim(FIRST_DELIVERY)
        finally:
            await redis.replicaof("NO", "ONE")
    await store.aclose()


async def test_waiting_commits_share_one_call(redis_url: str) -> None:
    """Commits that wait for a call in progress share the next call. In a cluster, each commit is its own call."""
    async with Redis.from_url(redis_url) as redis:
        for sends_batches, max_calls in ((True, 2), (False, 50)):
            store = RedisStore(redis, prefix=f"{sends_batches}:")
            store._sends_batches = sends_batches
            calls_before = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(store.commit, Claim(f"shop/{number}", "one", "facts", 20))
            calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
            assert calls - calls_before <= max_calls + 1  # one more, because Redis doesn't know the script at first
            assert await store.claim(SECOND_DELIVERY) is Standing.HANDLED
            await store.aclose()


async def test_error_of_one_claim_does_not_affect_others(redis_url: str) -> None:
    """A key of another type, a cancelled claim and an undecodable key don't affect other claims in the same call."""
    async with Redis.from_url(redis_url) as redis:
        await redis.rpush("gatepay:callback:shop/bad", "a list")
        store = RedisStore(redis)
        names = ("bad", "cancelled", "good", "\ud800")
        tasks = [asyncio.create_task(store.claim(evolve(FIRST_DELIVERY, key=f"shop/{name}"))) for name in names]
        await asyncio.sleep(0)  # let all of them start
        tasks[1].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert "WRONGTYPE" in str(outcomes[0])
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert outcomes[2] is Standing.MINE
        assert isinstance(outcomes[3], UnicodeEncodeError)
        assert not await redis.exists("gatepay:callback:shop/cancelled")
        await store.aclose()


async def test_cancelled_claim_does_not_block_others(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one claim, or the call that several share, is cancelled or fails, no other claim waits for ever."""
    store = RedisStore(redis_url)
    script = store._script
    await store.claim(SECOND_DELIVERY)
    for cancelled in ("first claim", "call"):
        called, may_reply = asyncio.Event(), asyncio.Event()

        # Default arguments, because the next iteration creates other events.
        async def reply_late(
            keys: Any, args: Any, called: asyncio.Event = called, may_reply: asyncio.Event = may_reply
        ) -> object:
            called.set()
            await may_reply.wait()
            return await script(keys=keys, args=args)

        monkeypatch.setattr(store, "_script", reply_late)
        first = asyncio.create_task(store.claim(evolve(FIRST_DELIVERY, key="shop/first")))
        await called.wait()
        second = asyncio.create_task(store.claim(evolve(FIRST_DELIVERY, key="shop/second")))
        await asyncio.sleep(0)
        assert store._calling is not None
        (first if cancelled == "first claim" else store._calling).cancel()
        may_reply.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        cancellations = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
        assert cancellations == [True, cancelled == "call"]

    called, may_reply = asyncio.Event(), asyncio.Event()

    async def fail_late(**_: Any) -> object:
        called.set()
        await may_reply.wait()
        raise RedisError("broken")

    monkeypatch.setattr(store, "_script", fail_late)
    tasks = [asyncio.create_task(store.claim(evolve(FIRST_DELIVERY, key=f"shop/{number}"))) for number in range(2)]
    await called.wait()
    tasks[0].cancel()
    may_reply.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [asyncio.CancelledError, RedisError]
    await store.aclose()


async def test_store_works_after_an_event_loop_was_closed_during_a_call(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an event loop is closed during a call, the store can be used and closed in the next event loop."""
    store = RedisStore(redis_url)

    async def never_reply(**_: Any) -> object:
        return await asyncio.Event().wait()

    def close_early() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it would log the pending task
        pending = loop.create_task(store.claim(SECOND_DELIVERY))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert not pending.done()

    with monkeypatch.context() as patch:
        patch.setattr(store, "_script", never_reply)
        await anyio.to_thread.run_sync(close_early)
    with anyio.fail_after(PATIENCE):
        await store.aclose()
        assert await store.claim(FIRST_DELIVERY) is Standing.MINE
        await store.aclose()
