"""Once for each order_id: over each store, on both loops; deliveries that race, fail, hang and are cancelled."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anyio
import pytest
from delivering import SHOP, Shop, call, query, word
from redis.exceptions import ResponseError
from waiting import PATIENCE, until

from gatepay_async import CallbackError
from gatepay_async.callbacks import Claim, EventKind, MemoryStore, Standing, once
from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.signing import Credentials

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]


@pytest.mark.uncounted
async def test_replay(shop: Shop) -> None:
    """The same callback, however often it comes, is handled once and answered with success each time."""
    app = shop.app()
    assert [await word(app, query()) for _ in range(5)] == ["success"] * 5
    assert shop.kinds == ["handled"] + ["repeated"] * 4
    assert len(shop.handled) == 1


@pytest.mark.uncounted
async def test_other_payments(shop: Shop) -> None:
    """Each order_id is a payment of its own."""
    app = shop.app()
    assert [await word(app, query(order_id=str(number))) for number in range(5)] == ["success"] * 5
    assert [callback.order_id for callback in shop.handled] == [0, 1, 2, 3, 4]


@pytest.mark.uncounted
async def test_two_shops_over_one_store(shop: Shop) -> None:
    """Two shops may share a store: their orders have numbers of their own."""
    other = Credentials("other-key", SHOP.appsecret)
    assert await word(shop.app(), query()) == "success"
    assert await word(shop.app(appkey="other-key"), query(shop=other, appkey="other-key")) == "success"
    assert shop.kinds == ["handled", "handled"]


@pytest.mark.parametrize("changes", [{"out_order_id": "T-1002-X"}, {"price": "10.24"}])
async def test_an_order_id_that_comes_with_other_facts(shop: Shop, changes: Any) -> None:
    """A payment that was handled and comes again as another order, or at another price, is refused with an event."""
    app = shop.app()
    assert await word(app, query()) == "success"
    assert (await call(app, query(**changes))).status == 400
    assert await word(app, query()) == "success"
    assert shop.kinds == ["handled", "refused", "repeated"]
    error = shop.events[1].error
    assert isinstance(error, CallbackError)
    assert str(error) == "callback: order_id: was handled before, with another out_order_id or price"
    assert len(shop.handled) == 1


@pytest.mark.uncounted
async def test_a_handler_that_raises(shop: Shop) -> None:
    """What the handler raises is a fail, and the next delivery is handled, at once."""
    shop.failures = [RuntimeError("mine"), CallbackError(problem="mine, too")]
    app = shop.app()
    answers = [await call(app, query()) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(500, b"fail"), (500, b"fail"), (200, b"success")]
    assert shop.kinds == ["failed", "failed", "handled"]
    assert (shop.events[0].order_id, repr(shop.events[0].error)) == (67848, "RuntimeError('mine')")


async def test_a_handler_that_takes_too_long(shop: Shop) -> None:
    """A handler is cancelled at the timeout: a fail, and the next delivery is handled."""
    hang = [True, False]
    cancelled = []

    async def handler(callback: Callback) -> None:
        if hang.pop(0):
            try:
                await anyio.sleep_forever()
            except BaseException:
                cancelled.append(callback.order_id)
                raise
        await shop.handle(callback)

    app = shop.app(handler, timeout=1)
    assert (await call(app, query())).status == 500
    assert await word(shop.app(handler), query()) == "success"
    assert cancelled == [67848]
    assert shop.kinds == ["failed", "handled"]
    assert str(shop.events[0].error) == "the handler took longer than 1 s"


async def test_a_lookup_that_takes_too_long(memory_shop: Shop) -> None:
    """The timeout bounds lookup, too."""

    async def lookup(_: str) -> Decimal:
        await anyio.sleep_forever()
        raise AssertionError

    assert (await call(memory_shop.app(lookup=lookup, timeout=0.01), query())).status == 500
    assert memory_shop.handled == []


class Gate:
    """A handler that waits until it is let through, and counts who came."""

    def __init__(self, *failures: Exception) -> None:
        self.came = self.done = 0
        self._open = anyio.Event()
        self._failures = list(failures)

    def open(self) -> None:
        self._open.set()

    async def __call__(self, _: Callback) -> None:
        self.came += 1
        await self._open.wait()
        if self._failures:
            raise self._failures.pop(0)
        self.done += 1


async def race(shop: Shop, app: Any, gate: Gate, *, deliveries: int) -> list[bytes]:
    """Deliver at once; the gate opens when the first one is in the handler and the others have asked for it."""
    answers: list[bytes] = []
    asked = 0
    claim = shop.store.claim

    async def counted(wish: Claim) -> Standing:
        nonlocal asked
        standing = await claim(wish)
        asked += standing is Standing.TAKEN
        return standing

    setattr(shop.store, "claim", counted)  # noqa: B010 -- mypy would have it named as in the protocol

    async def deliver() -> None:
        answers.append((await call(app, query())).body)

    async with anyio.create_task_group() as tasks:
        for _ in range(deliveries):
            tasks.start_soon(deliver)
        await until(lambda: gate.came == 1 and asked >= deliveries - 1)
        assert answers == []
        gate.open()
    return answers


@pytest.mark.uncounted
async def test_two_at_once(shop: Shop) -> None:
    """Of deliveries at once one is handled, and the others wait for its outcome."""
    gate = Gate()
    assert await race(shop, shop.app(gate), gate, deliveries=10) == [b"success"] * 10
    assert (gate.came, gate.done) == (1, 1)
    assert sorted(shop.kinds) == ["handled"] + ["repeated"] * 9


async def test_two_at_once_and_the_first_fails(shop: Shop) -> None:
    """When the one that is handled fails, one of those that waited is handled in its place."""
    gate = Gate(RuntimeError("mine"))
    answers = await race(shop, shop.app(gate), gate, deliveries=5)
    assert sorted(answers) == [b"fail"] + [b"success"] * 4
    assert (gate.came, gate.done) == (2, 1)


async def test_waiting_is_bounded(shop: Shop) -> None:
    """Who waits for another delivery waits no longer than the timeout; the first goes on, and is handled."""
    gate = Gate()
    app, impatient = shop.app(gate), shop.app(gate, timeout=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, app, query())
        await until(lambda: gate.came == 1)
        assert (await call(impatient, query())).status == 500
        gate.open()
    assert shop.kinds == ["failed", "handled"]
    assert str(shop.events[0].error) == "another delivery of this payment is still being handled"


@pytest.mark.parametrize("where", ["claim", "lookup", "handler", "commit", "on_event", "release"])
async def test_cancelled(shop: Shop, where: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: C901 -- six places
    """A delivery cancelled at any await: no answer, and the next one is handled at once, or found to be handled."""
    monkeypatch.setattr("gatepay_async.callbacks.events._ON_EVENT_TIMEOUT_S", 0.05)
    hung = anyio.Event()
    hang = True

    async def here(name: str) -> None:
        nonlocal hang
        if hang and name == where:
            hang = False
            hung.set()
            await anyio.sleep(0.05 if where in ("commit", "release") else 60)

    def watched(name: str, method: Any, *, before: bool) -> Any:
        async def wrapped(wish: Claim) -> Any:
            if before:
                await here(name)
            result = await method(wish)
            if not before:
                await here(name)
            return result

        return wrapped

    # After the claim is written, and before the commit and the release are: the worst moment of each.
    for name, before in (("claim", False), ("commit", True), ("release", True)):
        setattr(shop.store, name, watched(name, getattr(shop.store, name), before=before))
    failures = [RuntimeError("mine")] if where == "release" else []

    async def lookup(_: str) -> Decimal:
        await here("lookup")
        return Decimal("10.23")

    async def handler(_: Callback) -> None:
        await here("handler")
        if failures:
            raise failures.pop()

    async def on_event(_: object) -> None:
        await here("on_event")

    app = shop.app(handler, lookup=lookup, on_event=on_event)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, app, query())
        await hung.wait()
        tasks.cancel_scope.cancel()
    events: list[Any] = []
    assert await word(shop.app(on_event=events.append), query()) == "success"
    done = where in ("commit", "on_event")
    assert [event.kind for event in events] == [EventKind.REPEATED if done else EventKind.HANDLED]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("where", ["claim", "handler", "commit"])
@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_task_cancelled(shop: Shop, where: str, turns: int) -> None:
    """Asyncio's own way of cancelling reaches into shields and leaves threads behind: the same holds."""
    here = asyncio.Event()

    def watched(name: str, method: Any) -> Any:
        async def wrapped(wish: Any) -> Any:
            if name == where and not here.is_set():
                here.set()
                for _ in range(turns):
                    await asyncio.sleep(0)
            result = await method(wish)
            await asyncio.sleep(0)  # a store in memory waits for nothing, and would be done
            return result

        return wrapped

    for name in ("claim", "commit"):
        setattr(shop.store, name, watched(name, getattr(shop.store, name)))
    task = asyncio.create_task(call(shop.app(watched("handler", shop.handle)), query()))
    await here.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):  # redis-py, for one, may have its answer already, and give that
        await task
    assert task.cancelled() or where == "commit"
    assert await word(shop.app(), query()) == "success"
    assert shop.kinds[-1] == ("repeated" if where == "commit" else "handled")
    assert len(shop.handled) == 1 or where == "handler"


async def test_cancelled_is_told(memory_shop: Shop) -> None:
    """A delivery that is cancelled in its handler is told of as failed."""
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, memory_shop.app(gate), query())
        await until(lambda: gate.came == 1)
        tasks.cancel_scope.cancel()
    (event,) = memory_shop.events
    assert (event.kind, event.order_id) == (EventKind.FAILED, 67848)
    assert isinstance(event.error, anyio.get_cancelled_exc_class())


async def test_a_handler_that_leaves_the_program(memory_shop: Shop) -> None:
    """KeyboardInterrupt and its like pass through, with the claim released."""
    memory_shop.failures = [SystemExit(3)]
    app = memory_shop.app()
    with pytest.raises(SystemExit):
        await call(app, query())
    assert await word(app, query()) == "success"


class BrokenStore(MemoryStore):
    """A store that breaks where it is told to, before or after it has done its work."""

    def __init__(self, where: str, error: Exception, *, after: bool = False) -> None:
        super().__init__()
        self._where, self._error, self._after, self.broken = where, error, after, True

    async def _do(self, name: str, work: Callable[[Claim], Any], wish: Claim) -> Any:
        breaks = self.broken and name == self._where
        if breaks and not self._after:
            raise self._error
        result = await work(wish)
        if breaks:
            raise self._error
        return result

    async def claim(self, claim: Claim) -> Standing:
        return Standing(await self._do("claim", super().claim, claim))

    async def commit(self, claim: Claim) -> bool:
        return bool(await self._do("commit", super().commit, claim))

    async def release(self, claim: Claim) -> None:
        await self._do("release", super().release, claim)


ERRORS = [sqlite3.OperationalError("database or disk is full"), ResponseError("OOM"), OSError("gone")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", ["claim", "commit"])
async def test_a_store_that_breaks(where: str, error: Exception, *, after: bool) -> None:
    """An error of the store is a fail, never a success; once it works again the callback is handled, or was."""
    store = BrokenStore(where, error, after=after)
    shop = Shop(store)
    answer = await call(shop.app(), query())
    assert (answer.status, answer.body) == (500, b"fail")
    assert (shop.kinds, shop.events[0].error) == (["failed"], error)
    assert len(shop.handled) == (where == "commit")
    store.broken = False
    if where == "commit" and not after:
        # The claim can't be committed, and must not be released: it ends by itself.
        answer = await call(shop.app(timeout=0.02), query())
        assert (answer.body, shop.kinds[1:]) == (b"fail", ["failed"])
    else:
        answer = await call(shop.app(), query())
        assert (answer.body, shop.kinds[1:]) == (b"success", ["repeated" if where == "commit" else "handled"])


async def test_a_claim_that_cannot_be_released(caplog: pytest.LogCaptureFixture) -> None:
    """When the release breaks, too, it is logged, and what led there is what is told."""
    shop = Shop(BrokenStore("release", OSError("gone")))
    shop.failures.append(RuntimeError("mine"))
    assert await word(shop.app(), query()) == "fail"
    assert repr(shop.events[0].error) == "RuntimeError('mine')"
    assert "a claim was not released; it expires by itself: OSError" in caplog.text


async def test_a_claim_that_ended_too_early(shop: Shop) -> None:
    """Who holds a claim no longer can't commit it over the one who does: a fail, and the newer one's outcome stands."""
    stolen: list[Claim] = []
    claim = shop.store.claim

    async def short(wish: Claim) -> Standing:
        stolen.append(wish)
        return await claim(Claim(wish.key, wish.token, wish.facts, 0.001))

    async def handler(callback: Callback) -> None:
        await shop.handle(callback)
        thief = Claim(stolen[0].key, "thief", stolen[0].facts, 60)
        with anyio.fail_after(PATIENCE):
            while await claim(thief) is not Standing.MINE:
                await anyio.sleep(0.001)

    # As a clock that jumps would have it.
    setattr(shop.store, "claim", short)  # noqa: B010 -- mypy would have it named as in the protocol
    assert (await call(shop.app(handler), query())).status == 500
    assert "another delivery may have been handled" in str(shop.events[0].error)
    assert await claim(stolen[0]) is Standing.TAKEN


class HangingStore(MemoryStore):
    """A store that doesn't answer."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

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
        if name == self._where:
            await anyio.sleep_forever()


@pytest.mark.parametrize("where", ["claim", "commit", "release"])
async def test_a_store_that_hangs(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that doesn't answer is waited for a bounded time: a fail."""
    monkeypatch.setattr(once, "_LEASE_MARGIN_S", 0.02)
    shop = Shop(HangingStore(where))
    shop.failures += [RuntimeError("mine")] if where == "release" else []
    assert (await call(shop.app(), query())).status == 500
    assert shop.kinds == ["failed"]
    assert isinstance(shop.events[0].error, RuntimeError if where == "release" else TimeoutError)


async def test_a_claim_that_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What claiming took beyond its share is taken from the handler: the lease outlives it in any case."""
    monkeypatch.setattr(once, "_LEASE_MARGIN_S", 0.02)
    store = MemoryStore()
    claim = store.claim

    async def slow(wish: Claim) -> Standing:
        with anyio.CancelScope(shield=True):  # as a worker thread is
            await anyio.sleep(0.1)
        return await claim(wish)

    monkeypatch.setattr(store, "claim", slow)
    shop = Shop(store)

    async def handler(callback: Callback) -> None:
        await anyio.lowlevel.checkpoint()
        await shop.handle(callback)

    assert (await call(shop.app(handler, timeout=0.01), query())).status == 500
    assert shop.handled == []
