"""What the pool's decisions cost, by the number of its connections: the same."""

from collections.abc import Callable
from functools import partial

from benchmarks.measuring import Result, Row, Sample, cpu_each, median_of, ratio, timed
from gatepay_async.pool.slots import Slots, Ticket

FEW, MANY, WANTED = 10, 10_000, 1.5


def measure(*, quick: bool) -> Result:
    """Each kind of round with few and with many connections, in turn."""
    rounds, times = (5, 20_000) if quick else (15, 50_000)
    kinds = {"taken and kept": _taken_and_kept, "waited for and handed on": _handed_on, "given up waiting": _given_up}
    return Result([_row(kind, prepare, rounds=rounds, times=times) for kind, prepare in kinds.items()])


def _row(kind: str, prepare: Callable[[int], Callable[[], None]], *, rounds: int, times: int) -> Row:
    few, many = prepare(FEW), prepare(MANY)
    samples: dict[str, list[Sample]] = {"few": [], "many": []}
    for _ in range(rounds):
        samples["few"].append(timed(few, times=times))
        samples["many"].append(timed(many, times=times))
    each = {name: median_of(found, cpu_each) * 1000 for name, found in samples.items()}
    return Row(
        what=f"the pool's choice, {MANY:,} connections against {FEW}: a connection {kind}",
        goal=WANTED,
        value=ratio(samples["many"], samples["few"], cpu_each),
        at_most=True,
        beside=f"{each['many']:.0f} ns against {each['few']:.0f} ns",
    )


def _nothing() -> None:
    """Nobody is woken."""


def _taken_and_kept(limit: int) -> Callable[[], None]:
    """Half of the connections are busy, half rest; one is taken and given back."""
    slots: Slots[object] = Slots(limit)
    taken = [slots.acquire() for _ in range(limit)]
    for slot in taken[: limit // 2]:
        assert slot is not None
        slots.release_open(slot, now=0.0)

    def go_round() -> None:
        slot = slots.acquire()
        assert slot is not None
        slots.release_open(slot, now=0.0)

    return go_round


def _handed_on(limit: int) -> Callable[[], None]:
    """All are busy and as many callers wait; one comes back and goes to the oldest, and another caller comes."""
    slots: Slots[object] = Slots(limit)
    for _ in range(limit):
        slots.acquire()
    tickets = [slots.enqueue(_nothing) for _ in range(limit)]
    slot = next(iter(slots._busy))

    def go_round() -> None:
        slots.release_open(slot, now=0.0)
        slots.enqueue(_nothing)

    tickets.clear()
    return go_round


def _given_up(limit: int) -> Callable[[], None]:
    """All are busy and as many callers wait; another one comes, and leaves."""
    slots: Slots[object] = Slots(limit)
    for _ in range(limit):
        slots.acquire()
        slots.enqueue(_nothing)
    return partial(_come_and_leave, slots)


def _come_and_leave(slots: Slots[object]) -> None:
    ticket: Ticket[object] = slots.enqueue(_nothing)
    slots.leave_queue(ticket)
