"""Each order_id is handled once, in each kind of store, even if deliveries are concurrent, fail or are cancelled."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anyio
import pytest
from delivering import CREDENTIALS, Shop, call, query, reply_to
from redis.exceptions import ResponseError
from waiting import PATIENCE, until

from gatepay_async import CallbackError
from gatepay_async.callbacks import Claim, EventKind, MemoryStore, Standing, once
from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.signing import Credentials

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]


@pytest.mark.without_coverage
async def test_repeated_callback_is_handled_once(shop: Shop) -> None:
    """A callback that is delivered five times is handled once, and each delivery gets ``success``."""
    app = shop.app()
    assert [await reply_to(app, query()) for _ in range(5)] == ["success"] * 5
    assert shop.event_kinds == ["handled"] + ["repeated"] * 4
    assert len(shop.handled) == 1


@pytest.mark.without_coverage
async def test_each_order_id_is_handled(shop: Shop) -> None:
    """Callbacks with different ``order_id`` are different payments, and all are handled."""
    app = shop.app()
    assert [await reply_to(app, query(order_id=str(number))) for number in range(5)] == ["success"] * 5
    assert [callback.order_id for callback in shop.handled] == [0, 1, 2, 3, 4]


@pytest.mark.without_coverage
async def test_two_shops_can_share_a_store(shop: Shop) -> None:
    """Callbacks of two shops with the same ``order_id`` are both handled, though the shops share a store."""
    other_credentials = Credentials("other-key", CREDENTIALS.appsecret)
    assert await reply_to(shop.app(), query()) == "success"
    assert (
        await reply_to(shop.app(appkey="other-key"), query(credentials=other_credentials, appkey="other-key"))
        == "success"
    )
    assert shop.event_kinds == ["handled", "handled"]


@pytest.mark.parametrize("changes", [{"out_order_id": "T-1002-X"}, {"price": "10.24"}])
async def test_handled_order_id_with_another_order_or_price_is_refused(shop: Shop, changes: Any) -> None:
    """If a handled ``order_id`` is delivered with another order number or price, it is refused, with an event."""
    app = shop.app()
    assert await reply_to(app, query()) == "success"
    assert (await call(app, query(**changes))).status == 400
    assert await reply_to(app, query()) == "success"
    assert shop.event_kinds == ["handled", "refused", "repeated"]
    error = shop.events[1].error
    assert isinstance(error, CallbackError)
    assert str(error) == "callback: order_id: was handled before, with another out_order_id or price"
    assert len(shop.handled) == 1


@pytest.mark.without_coverage
async def test_handler_that_raises_runs_again_at_the_next_delivery(shop: Shop) -> None:
    """If the handler raises, the delivery gets ``fail``, and the next delivery runs the handler again."""
    shop.failures = [RuntimeError("expected"), CallbackError(problem="expected, too")]
    app = shop.app()
    answers = [await call(app, query()) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(500, b"fail"), (500, b"fail"), (200, b"success")]
    assert shop.event_kinds == ["failed", "failed", "handled"]
    assert (shop.events[0].order_id, repr(shop.events[0].error)) == (67848, "RuntimeError('expected')")


async def test_handler_is_cancelled_at_the_timeout(shop: Shop) -> None:
    """A handler that exceeds the timeout is cancelled; the delivery fails, and the next one is handled."""
    hangs = [True, False]  # at the first and the second delivery
    cancelled = []

    async def handler(callback: Callback) -> None:
        if hangs.pop(0):
            try:
                await anyio.sleep_forever()
            except BaseException:
                cancelled.append(callback.order_id)
                raise
        await shop.handle(callback)

    app = shop.app(handler, timeout=1)
    assert (await call(app, query())).status == 500
    assert await reply_to(shop.app(handler), query()) == "success"
    assert cancelled == [67848]
    assert shop.event_kinds == ["failed", "handled"]
    assert str(shop.events[0].error) == "the handler took longer than 1 s"


async def test_timeout_applies_to_lookup(memory_shop: Shop) -> None:
    """A ``lookup`` that exceeds the timeout fails the delivery."""

    async def lookup(_: str) -> Decimal:
        await anyio.sleep_forever()
        raise AssertionError

    assert (await call(memory_shop.app(lookup=lookup, timeout=0.01), query())).status == 500
    assert memory_shop.handled == []


class BlockingHandler:
    """A handler that waits until ``open`` is called, and counts its calls and successful ends."""

    def __init__(self, *failures: Exception) -> None:
        self.calls = self.completed = 0
        self._open = anyio.Event()
        self._failures = list(failures)

    def open(self) -> None:
        self._open.set()

    async def __call__(self, _: Callback) -> None:
        self.calls += 1
        await self._open.wait()
        if self._failures:
            raise self._failures.pop(0)
        self.completed += 1


async def deliver_concurrently(shop: Shop, app: Any, handler: BlockingHandler, *, deliveries: int) -> list[bytes]:
    """Make concurrent deliveries of one callback, and open the handler when all others wait for the first."""
    answers: list[bytes] = []
    waiting = 0
    original_claim = shop.store.claim

    async def claim_and_count(claim: Claim) -> Standing:
        nonlocal waiting
        standing = await original_claim(claim)
        waiting += standing is Standing.TAKEN
        return standing

    setattr(shop.store, "claim", claim_and_count)  # noqa: B010 -- mypy refuses to assign to a method

    async def deliver() -> None:
        answers.append((await call(app, query())).body)

    async with anyio.create_task_group() as tasks:
        for _ in range(deliveries):
            tasks.start_soon(deliver)
        await until(lambda: handler.calls == 1 and waiting >= deliveries - 1)
        assert answers == []
        handler.open()
    return answers


@pytest.mark.without_coverage
async def test_concurrent_deliveries_run_the_handler_once(shop: Shop) -> None:
    """Of ten concurrent deliveries, one is handled. The others wait for it and get ``success``."""
    handler = BlockingHandler()
    assert await deliver_concurrently(shop, shop.app(handler), handler, deliveries=10) == [b"success"] * 10
    assert (handler.calls, handler.completed) == (1, 1)
    assert sorted(shop.event_kinds) == ["handled"] + ["repeated"] * 9


async def test_waiting_delivery_is_handled_if_the_first_one_fails(shop: Shop) -> None:
    """If the handler fails for the first of several concurrent deliveries, one of the waiting ones is handled."""
    handler = BlockingHandler(RuntimeError("expected"))
    answers = await deliver_concurrently(shop, shop.app(handler), handler, deliveries=5)
    assert sorted(answers) == [b"fail"] + [b"success"] * 4
    assert (handler.calls, handler.completed) == (2, 1)


async def test_waiting_for_another_delivery_ends_at_the_timeout(shop: Shop) -> None:
    """A delivery that waits for another one fails at its timeout. The other one continues and is handled."""
    handler = BlockingHandler()
    app, impatient_app = shop.app(handler), shop.app(handler, timeout=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, app, query())
        await until(lambda: handler.calls == 1)
        assert (await call(impatient_app, query())).status == 500
        handler.open()
    assert shop.event_kinds == ["failed", "handled"]
    assert str(shop.events[0].error) == "another delivery of this payment is still being handled"


@pytest.mark.parametrize("where", ["claim", "lookup", "handler", "commit", "on_event", "release"])
async def test_delivery_after_a_cancelled_one_succeeds_at_once(  # noqa: C901 -- it hangs at six places
    shop: Shop, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a delivery is cancelled, the next one succeeds at once: as handled, or as repeated after the commit."""
    monkeypatch.setattr("gatepay_async.callbacks.events._ON_EVENT_TIMEOUT_S", 0.05)
    is_hanging = anyio.Event()

    async def hang_once(name: str) -> None:
        if not is_hanging.is_set() and name == where:
            is_hanging.set()
            # Commit and release are shielded from the cancellation, so they must end by themselves.
            await anyio.sleep(0.05 if where in ("commit", "release") else 60)

    def hang_in(name: str, method: Any, *, before: bool) -> Any:
        async def wrapped(claim: Claim) -> Any:
            if before:
                await hang_once(name)
            result = await method(claim)
            if not before:
                await hang_once(name)
            return result

        return wrapped

    # The worst moments: after the claim is written, and before the commit or the release is written.
    for name, before in (("claim", False), ("commit", True), ("release", True)):
        setattr(shop.store, name, hang_in(name, getattr(shop.store, name), before=before))
    failures = [RuntimeError("expected")] if where == "release" else []  # only a failure leads to a release

    async def lookup(_: str) -> Decimal:
        await hang_once("lookup")
        return Decimal("10.23")

    async def handler(_: Callback) -> None:
        await hang_once("handler")
        if failures:
            raise failures.pop()

    async def on_event(_: object) -> None:
        await hang_once("on_event")

    app = shop.app(handler, lookup=lookup, on_event=on_event)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, app, query())
        await is_hanging.wait()
        tasks.cancel_scope.cancel()
    events: list[Any] = []
    assert await reply_to(shop.app(on_event=events.append), query()) == "success"
    committed = where in ("commit", "on_event")
    assert [event.kind for event in events] == [EventKind.REPEATED if committed else EventKind.HANDLED]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("where", ["claim", "handler", "commit"])
@pytest.mark.parametrize("loop_turns", [0, 1, 2, 5])
async def test_delivery_after_a_cancelled_asyncio_task_succeeds(shop: Shop, where: str, loop_turns: int) -> None:
    """After ``Task.cancel``, which ignores anyio's shields and leaves threads running, the next delivery succeeds."""
    reached = asyncio.Event()

    def signal_at(name: str, method: Any) -> Any:
        async def wrapped(argument: Any) -> Any:
            if name == where and not reached.is_set():
                reached.set()
                for _ in range(loop_turns):
                    await asyncio.sleep(0)
            result = await method(argument)
            await asyncio.sleep(0)  # MemoryStore never yields to the event loop, so nothing could be cancelled
            return result

        return wrapped

    for name in ("claim", "commit"):
        setattr(shop.store, name, signal_at(name, getattr(shop.store, name)))
    task = asyncio.create_task(call(shop.app(signal_at("handler", shop.handle)), query()))
    await reached.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):  # not raised if redis-py has its reply already
        await task
    assert task.cancelled() or where == "commit"
    assert await reply_to(shop.app(), query()) == "success"
    assert shop.event_kinds[-1] == ("repeated" if where == "commit" else "handled")
    # A handler that was cancelled after its work is done runs again.
    assert len(shop.handled) == 1 or where == "handler"


async def test_cancelled_delivery_makes_a_failed_event(memory_shop: Shop) -> None:
    """A delivery that is cancelled in its handler makes an event of kind ``failed``."""
    handler = BlockingHandler()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, memory_shop.app(handler), query())
        await until(lambda: handler.calls == 1)
        tasks.cancel_scope.cancel()
    (event,) = memory_shop.events
    assert (event.kind, event.order_id) == (EventKind.FAILED, 67848)
    assert isinstance(event.error, anyio.get_cancelled_exc_class())


async def test_system_exit_releases_the_claim_and_propagates(memory_shop: Shop) -> None:
    """A ``SystemExit`` of the handler propagates, and the claim is released."""
    memory_shop.failures = [SystemExit(3)]
    app = memory_shop.app()
    with pytest.raises(SystemExit):
        await call(app, query())
    assert await reply_to(app, query()) == "success"


class BrokenStore(MemoryStore):
    """A store in which one operation raises an error, before or after it has taken effect."""

    def __init__(self, operation: str, error: Exception, *, takes_effect: bool = False) -> None:
        super().__init__()
        self._operation, self._error, self._takes_effect, self.broken = operation, error, takes_effect, True

    async def _run(self, name: str, method: Callable[[Claim], Any], claim: Claim) -> Any:
        fails = self.broken and name == self._operation
        if fails and not self._takes_effect:
            raise self._error
        result = await method(claim)
        if fails:
            raise self._error
        return result

    async def claim(self, claim: Claim) -> Standing:
        return Standing(await self._run("claim", super().claim, claim))

    async def commit(self, claim: Claim) -> bool:
        return bool(await self._run("commit", super().commit, claim))

    async def release(self, claim: Claim) -> None:
        await self._run("release", super().release, claim)


ERRORS = [sqlite3.OperationalError("database or disk is full"), ResponseError("OOM"), OSError("gone")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("where", ["claim", "commit"])
async def test_error_of_the_store_fails_the_delivery(where: str, error: Exception, *, takes_effect: bool) -> None:
    """If the store raises, the delivery fails. Once it works again, a delivery is handled, or reported as repeated."""
    store = BrokenStore(where, error, takes_effect=takes_effect)
    shop = Shop(store)
    answer = await call(shop.app(), query())
    assert (answer.status, answer.body) == (500, b"fail")
    assert (shop.event_kinds, shop.events[0].error) == (["failed"], error)
    assert len(shop.handled) == (1 if where == "commit" else 0)
    store.broken = False
    if where == "commit" and not takes_effect:
        # The handler has run, so the claim must not be released. It lasts until its lease ends.
        answer = await call(shop.app(timeout=0.02), query())
        assert (answer.body, shop.event_kinds[1:]) == (b"fail", ["failed"])
    else:
        answer = await call(shop.app(), query())
        assert (answer.body, shop.event_kinds[1:]) == (b"success", ["repeated" if where == "commit" else "handled"])


async def test_failed_release_is_logged_and_the_first_error_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """If the handler and then the release fail, the event has the handler's error, and the release's is logged."""
    shop = Shop(BrokenStore("release", OSError("gone")))
    shop.failures.append(RuntimeError("expected"))
    assert await reply_to(shop.app(), query()) == "fail"
    assert repr(shop.events[0].error) == "RuntimeError('expected')"
    assert "a claim was not released; it expires by itself: OSError" in caplog.text


async def test_delivery_whose_lease_ended_early_fails(shop: Shop) -> None:
    """If a lease ends early and another token claims the callback, the first delivery's commit and response fail."""
    claims: list[Claim] = []
    original_claim = shop.store.claim

    async def claim_briefly(claim: Claim) -> Standing:
        claims.append(claim)
        return await original_claim(Claim(claim.key, claim.token, claim.facts, lease=0.001))

    async def handler(callback: Callback) -> None:
        await shop.handle(callback)
        other_claim = Claim(claims[0].key, token="other", facts=claims[0].facts, lease=60)
        with anyio.fail_after(PATIENCE):
            while await original_claim(other_claim) is not Standing.MINE:
                await anyio.sleep(0.001)

    # A short lease has the same effect as a clock that jumps.
    setattr(shop.store, "claim", claim_briefly)  # noqa: B010 -- mypy refuses to assign to a method
    assert (await call(shop.app(handler), query())).status == 500
    assert "another delivery may have been handled" in str(shop.events[0].error)
    assert await original_claim(claims[0]) is Standing.TAKEN


class HangingStore(MemoryStore):
    """A store in which one operation never ends."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation

    async def claim(self, claim: Claim) -> Standing:
        await self._hang("claim")
        return await super().claim(claim)

    async def commit(self, claim: Claim) -> bool:
        await self._hang("commit")
        return await super().commit(claim)

    async def release(self, claim: Claim) -> None:
        await self._hang("release")
        await super().release(claim)

    async def _hang(self, name: str) -> None:
        if name == self._operation:
            await anyio.sleep_forever()


@pytest.mark.parametrize("where", ["claim", "commit", "release"])
async def test_operation_of_the_store_that_hangs_fails_the_delivery(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an operation of the store doesn't end in time, the delivery fails."""
    monkeypatch.setattr(once, "_LEASE_MARGIN_S", 0.02)
    shop = Shop(HangingStore(where))
    shop.failures += [RuntimeError("expected")] if where == "release" else []  # only a failure leads to a release
    assert (await call(shop.app(), query())).status == 500
    assert shop.event_kinds == ["failed"]
    assert isinstance(shop.events[0].error, RuntimeError if where == "release" else TimeoutError)


async def test_slow_claim_shortens_the_handlers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that a slow claim takes is subtracted from the handler's time, so that the lease never ends before it."""
    monkeypatch.setattr(once, "_LEASE_MARGIN_S", 0.02)
    store = MemoryStore()
    original_claim = store.claim

    async def claim_slowly(claim: Claim) -> Standing:
        with anyio.CancelScope(shield=True):  # like a worker thread, it can't be cancelled
            await anyio.sleep(0.1)
        return await original_claim(claim)

    monkeypatch.setattr(store, "claim", claim_slowly)
    shop = Shop(store)

    async def handler(callback: Callback) -> None:
        await anyio.lowlevel.checkpoint()  # here the handler is cancelled, because its time is over
        await shop.handle(callback)

    assert (await call(shop.app(handler, timeout=0.01), query())).status == 500
    assert shop.handled == []
