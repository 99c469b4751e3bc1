"""CPU time of the pool's choice of a connection. It must not grow with the number of connections."""

from collections.abc import Callable
from functools import partial

from benchmarks.measuring import Result, Row, Sample, cpu_us_per_call, median_of, ratio, timed
from gatepay_async.pool.slots import Slots, Ticket

FEW, MANY, MAX_TIME_RATIO = 10, 10_000, 1.5


def measure(*, quick: bool) -> Result:
    """Measure each kind of choice with few and with many connections, in turn."""
    rounds, times = (5, 20_000) if quick else (15, 50_000)
    kinds = {"taken and kept": _taken_and_kept, "waited for and handed on": _handed_on, "given up waiting": _given_up}
    return Result([_row(kind, prepare, rounds=rounds, times=times) for kind, prepare in kinds.items()])


def _row(kind: str, prepare: Callable[[int], Callable[[], None]], *, rounds: int, times: int) -> Row:
    few, many = prepare(FEW), prepare(MANY)
    samples: dict[str, list[Sample]] = {"few": [], "many": []}
    for _ in range(rounds):
        samples["few"].append(timed(few, times=times))
        samples["many"].append(timed(many, times=times))
    nanoseconds = {name: median_of(measured, cpu_us_per_call) * 1000 for name, measured in samples.items()}
    return Row(
        what=f"the pool's choice, {MANY:,} connections against {FEW}: a connection {kind}",
        goal=MAX_TIME_RATIO,
        value=ratio(samples["many"], samples["few"], cpu_us_per_call),
        at_most=True,
        details=f"{nanoseconds['many']:.0f} ns against {nanoseconds['few']:.0f} ns",
    )


def _nothing() -> None:
    """Wake nobody: the waiting callers are only simulated."""


def _taken_and_kept(limit: int) -> Callable[[], None]:
    """Return a function that acquires and releases a connection. Half of the connections are busy and half are idle."""
    slots: Slots[object] = Slots(limit)
    taken = [slots.acquire() for _ in range(limit)]
    for slot in taken[: limit // 2]:
        assert slot is not None
        slots.release_open(slot, now=0.0)

    def acquire_and_release() -> None:
        slot = slots.acquire()
        assert slot is not None
        slots.release_open(slot, now=0.0)

    return acquire_and_release


def _handed_on(limit: int) -> Callable[[], None]:
    """
    Return a function that releases a busy connection to the oldest waiting caller, and enqueues another caller.

    All connections are busy, and as many callers wait.
    """
    slots: Slots[object] = Slots(limit)
    for _ in range(limit):
        slots.acquire()
    tickets = [slots.enqueue(_nothing) for _ in range(limit)]
    slot = next(iter(slots._busy))

    def release_and_enqueue() -> None:
        slots.release_open(slot, now=0.0)
        slots.enqueue(_nothing)

    tickets.clear()
    return release_and_enqueue


def _given_up(limit: int) -> Callable[[], None]:
    """
    Return a function that enqueues a caller, who leaves the queue again.

    All connections are busy, and as many callers wait.
    """
    slots: Slots[object] = Slots(limit)
    for _ in range(limit):
        slots.acquire()
        slots.enqueue(_nothing)
    return partial(_enqueue_and_leave, slots)


def _enqueue_and_leave(slots: Slots[object]) -> None:
    ticket: Ticket[object] = slots.enqueue(_nothing)
    slots.leave_queue(ticket)
