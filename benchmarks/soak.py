"""
A minute of everything at once, against the sandbox and its faults: nothing may be lost, and nothing may grow.

    python -m benchmarks.soak --seconds 60 --loop trio

Workers list, walk, upload, pay and verify callbacks, side by side on one client, while one request in fourteen
meets a fault and many calls are cancelled. Memory, sockets, files and tasks are looked at each second; from the
tenth second on they must be flat. Prints what it has found; exits with 1 if something did not hold.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import anyio
import anyio.to_thread
from attrs import define, field, frozen

from benchmarks.measuring import descriptors, resident, sockets
from benchmarks.serving import ROOT
from benchmarks.soak_server import SOLD, STOCK, UPLOADED, WALKED
from gatepay_async import (
    AsyncGatePay,
    CallbackError,
    GatePayError,
    OutcomeUnknownError,
    PayType,
    RetryPolicy,
    UploadReport,
    parse_callback,
)

CONNECTIONS, LINES, AHEAD, SIDE_BY_SIDE = 10, 700, 4, 3
FLAT_FROM = 10.0  # seconds; a third of the time where that is less
# What the last third may be over the first: the allocator's breathing, and callers that come and go.
MEGABYTES, HANDLES, TASKS = 3.0, 3.0, 8.0
SHOWN = 5  # of what is wrong
COLUMNS = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")


@frozen
class Look:
    """What was open at one moment."""

    second: float
    memory: float
    sockets: int
    files: int
    tasks: int


@frozen
class Uploaded:
    """
    What an upload has said.

    Attributes:
        number: Says which lines it had.
        read: How many of them it has read.
        kept: Those of them whose card keys it gave back, by what it says became of them: one bit for each line,
            as notes that grow would be taken for a client that does.
    """

    number: int
    read: int
    kept: dict[str, int]

    def claims(self) -> Iterator[tuple[str, str]]:
        """Each card key that it has read, and what it says became of it."""
        seen: set[str] = set()
        for place, line in enumerate(lines(self.number)[: self.read]):
            key = line.strip()
            if key and key not in seen:
                seen.add(key)
                yield key, next((fate for fate, places in self.kept.items() if places >> place & 1), "stored")


@define
class Notes:
    """What the workers have seen."""

    done: Counter[str] = field(factory=Counter)
    errors: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)
    uploads: list[Uploaded] = field(factory=list)
    payments: list[str] = field(factory=list)
    looks: list[Look] = field(factory=list)


class Shop:
    """The sandbox's process: where it is, and what it answers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._turn = anyio.Lock()
        said: dict[str, str] = json.loads(self._exchange(None))
        self.base_url, self.appkey, self.appsecret = said["base_url"], said["appkey"], said["appsecret"]

    async def ask(self, what: str, **details: str) -> Any:
        """Put a question to it."""
        async with self._turn:
            question = json.dumps({"ask": what, **details})
            return json.loads(await anyio.to_thread.run_sync(self._exchange, question))

    def _exchange(self, question: str | None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if question is not None:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def sandbox_process() -> Iterator["subprocess.Popen[str]"]:
    """Run it; it ends with its standard input."""
    command = [sys.executable, "-m", "benchmarks.soak_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.communicate()


class Soak:
    """One client and its workers."""

    def __init__(self, shop: Shop, gatepay: AsyncGatePay, notes: Notes, *, ends: float) -> None:
        self._shop = shop
        self._gatepay = gatepay
        self._notes = notes
        self._ends = ends
        self._chance = random.Random(1)  # noqa: S311 -- a draw that can be repeated
        self._uploads = 0

    async def run(self) -> None:
        """All workers, until the time is over."""
        jobs = (self._list, self._walk, self._upload, self._pay, self._give_up)
        async with anyio.create_task_group() as group:
            group.start_soon(self._look)
            for job in jobs:
                for _ in range(2):
                    group.start_soon(self._work, job)

    async def _work(self, job: Callable[[], Awaitable[None]]) -> None:
        name = job.__name__.strip("_")
        while anyio.current_time() < self._ends:
            try:
                await job()
            except GatePayError as error:
                self._notes.errors[f"{name}: {type(error).__name__}"] += 1
            self._notes.done[name] += 1

    async def _look(self) -> None:
        start = anyio.current_time()
        while anyio.current_time() < self._ends:
            await anyio.sleep(1)
            tasks = len(anyio.get_running_tasks())
            look = Look(anyio.current_time() - start, resident(), sockets(), descriptors(), tasks)
            self._notes.looks.append(look)

    def _hold(self, held: bool, what: str) -> None:  # noqa: FBT001 -- a condition reads best in place
        if not held:
            self._notes.wrong.append(what)

    async def _list(self) -> None:
        await self._gatepay.list_products()
        page = await self._gatepay.list_card_keys(WALKED, page=self._chance.randint(1, STOCK // 50))
        self._hold(len(page.keys) == page.per_page, f"page {page.current_page} has {len(page.keys)} card keys")

    async def _walk(self) -> None:
        ahead, thorough = self._chance.randint(1, AHEAD), self._chance.random() < 0.2  # noqa: PLR2004 -- one in five
        leave_at = self._chance.choice((None, None, self._chance.randrange(STOCK)))
        seen: list[str] = []
        async for key in self._gatepay.list_card_keys(WALKED, prefetch=ahead, thorough=thorough):
            seen.append(key.content)
            if len(seen) == leave_at:
                return
        self._hold(
            len(seen) == len(set(seen)) == STOCK, f"a walk gave {len(seen)} card keys, {len(set(seen))} different"
        )

    async def _upload(self) -> None:
        self._uploads += 1
        number = self._uploads
        patience = self._chance.choice((None, None, self._chance.uniform(0, 0.3)))
        report: UploadReport | None = None
        with anyio.move_on_after(patience):
            try:
                keys = _slowly(lines(number)) if number % 2 else lines(number)
                report = await self._gatepay.upload_card_keys(UPLOADED, keys, concurrency=SIDE_BY_SIDE)
            except BaseException as error:
                report = getattr(error, "report", None)
                raise
        if report is not None:
            self._note(number, report)
        await anyio.sleep(0.2)

    def _note(self, number: int, report: UploadReport) -> None:
        together = sum(getattr(report, column) for column in COLUMNS)
        self._hold(together == report.read, f"upload {number} read {report.read} lines, its columns are {together}")
        places = {line.strip(): place for place, line in reversed(list(enumerate(lines(number))))}
        kept: dict[str, int] = {}
        for chunk in report.chunks:
            bits = sum(1 << places[key] for key in chunk.keys)
            kept[chunk.fate.value] = kept.get(chunk.fate.value, 0) | bits
        self._notes.uploads.append(Uploaded(number, report.read, kept))

    async def _pay(self) -> None:
        place = len(self._notes.payments)
        name = out_order_id(place)
        self._notes.payments.append("unknown")  # until we know better
        try:
            payment = await self._gatepay.create_payment(
                product_id=SOLD, product_num=1, pay_type=PayType.ALIPAY, out_order_id=name, custom="terry"
            )
        except OutcomeUnknownError:
            raise
        except GatePayError:
            self._notes.payments[place] = "not made"
            raise
        self._notes.payments[place] = "made"
        query = await self._shop.ask("callback", out_order_id=name)
        callback = self._gatepay.parse_callback(query)
        self._hold(callback.out_order_id == name and callback.price == payment.order_price, f"callback of {name}")
        try:
            parse_callback(
                query.replace("extend=terry", "extend=jerry"), appkey=self._shop.appkey, appsecret=self._shop.appsecret
            )
        except CallbackError:
            return
        self._hold(False, f"a forged callback of {name} was believed")

    async def _give_up(self) -> None:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            self._gatepay.list_products,
            lambda: self._gatepay.list_card_keys(WALKED),
            self._count_all,
        )
        with anyio.move_on_after(self._chance.uniform(0, 0.05)):
            await self._chance.choice(calls)()

    async def _count_all(self) -> int:
        return sum([1 async for _ in self._gatepay.list_card_keys(WALKED, prefetch=AHEAD)])


def out_order_id(place: int) -> str:
    """The number of the payment at that place of the notes."""
    return f"S-{place}-X"


def lines(number: int) -> list[str]:
    """The lines of an upload: some blank, some repeated, some those of the upload before."""
    made = [f"SOAK-{number:06d}-{line:04d}" for line in range(LINES)]
    made[10::50] = ["  "] * len(made[10::50])
    made[11::50] = made[9::50]
    made[12::50] = [f"SOAK-{number - 1:06d}-{line:04d}" for line in range(12, LINES, 50)]
    return made


async def _slowly(made: list[str]) -> AsyncIterator[str]:
    for place, line in enumerate(made):
        if place % 100 == 0:
            await anyio.sleep(0.01)
        yield line


async def soak(process: "subprocess.Popen[str]", seconds: float) -> list[tuple[bool, str]]:
    """Run it all; gives what held and what didn't."""
    shop, notes = Shop(process), Notes()
    await shop.ask("orders")  # the worker thread is there from now on
    before = Look(0, resident(), sockets(), descriptors(), len(anyio.get_running_tasks()))
    patient = RetryPolicy(first_wait=0.05)
    client = AsyncGatePay(
        shop.appkey,
        shop.appsecret,
        base_url=shop.base_url,
        max_connections=CONNECTIONS,
        timeout=2,
        deadline=15,
        retry=patient,
    )
    async with client as gatepay:
        await Soak(shop, gatepay, notes, ends=anyio.current_time() + seconds).run()
        await shop.ask("calm")
        healthy = len((await gatepay.list_card_keys(WALKED)).keys)
    await anyio.sleep(0.2)
    after = Look(seconds, resident(), sockets(), descriptors(), len(anyio.get_running_tasks()))
    _print(notes)
    return [
        (not notes.wrong, f"walks, ledgers and callbacks are right{_these(notes.wrong)}"),
        (healthy > 0, "the client works when all is over"),
        (
            _left(before, after) == (0, 0, 0),
            "no socket, file or task is left: {}, {}, {}".format(*_left(before, after)),
        ),
        *_flatness(notes.looks, seconds),
        _check_uploads(notes.uploads, await shop.ask("keys")),
        _check_payments(notes.payments, await shop.ask("orders")),
    ]


def _left(before: Look, after: Look) -> tuple[int, int, int]:
    return after.sockets - before.sockets, after.files - before.files, after.tasks - before.tasks


def _flatness(looks: list[Look], seconds: float) -> Iterator[tuple[bool, str]]:
    warm = [look for look in looks if look.second >= min(FLAT_FROM, seconds / 3)]
    third = max(1, len(warm) // 3)
    for name, allowed in {"memory": MEGABYTES, "sockets": HANDLES, "files": HANDLES, "tasks": TASKS}.items():
        seen = [float(getattr(look, name)) for look in warm]
        first, last = median(seen[:third]), median(seen[-third:])
        what = f"{name}: {first:.1f} in the first third, {last:.1f} in the last; {allowed:g} more are allowed"
        yield last - first <= allowed, what
    most = max(look.sockets for look in looks)
    yield most <= CONNECTIONS, f"never more than {CONNECTIONS} sockets: {most}"


def _check_uploads(uploads: list[Uploaded], on_server: list[str]) -> tuple[bool, str]:
    """Every card key that was read is on the server once, or in its upload's report; and no other is there."""
    there = Counter(on_server)
    claims: dict[str, set[str]] = {}
    for upload in uploads:
        for key, fate in upload.claims():
            claims.setdefault(key, set()).add(fate)
    lost = [key for key, fates in claims.items() if "stored" in fates and key not in there]
    # Some card keys are in two uploads, and one of the two may have stored them.
    denied = [key for key, fates in claims.items() if fates <= {"refused", "not_sent"} and key in there]
    twice = [key for key, count in there.items() if count > 1]
    strange = [key for key in there if key.startswith("SOAK-") and key not in claims]
    given_back = sum("stored" not in fates for fates in claims.values())
    counted = f"{len(claims):,} card keys of {len(uploads)} uploads, {given_back:,} of them given back in a report"
    wrong = f"{len(lost)} lost, {len(twice)} twice, {len(denied)} there but denied, {len(strange)} never read"
    return not (lost or twice or denied or strange), f"{counted}: {wrong}"


def _check_payments(payments: list[str], orders: list[str]) -> tuple[bool, str]:
    made = Counter(orders)
    allowed = {"made": (1,), "not made": (0,), "unknown": (0, 1)}
    wrong = [place for place, fate in enumerate(payments) if made[out_order_id(place)] not in allowed[fate]]
    return not wrong, f"{len(payments)} payments, {_counted(Counter(payments))}: {len(wrong)} not as reported"


def _these(wrong: list[str]) -> str:
    return "".join(f"\n      {each}" for each in wrong[:SHOWN]) + (f"\n      … {len(wrong)} in all" if wrong else "")


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(what.items()))


def _print(notes: Notes) -> None:
    print("done:", _counted(notes.done))
    print("met:", _counted(notes.errors) or "no error")
    print("second  memory MB  sockets  files  tasks")
    for look in notes.looks[:: max(1, len(notes.looks) // 12)]:
        print(f"{look.second:6.0f}  {look.memory:9.1f}  {look.sockets:7}  {look.files:5}  {look.tasks:5}")


def main() -> int:
    """Soak, and say what held."""
    parser = argparse.ArgumentParser(description="Everything at once; nothing may be lost, and nothing may grow.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    given = parser.parse_args()
    with sandbox_process() as process:
        found = anyio.run(soak, process, given.seconds, backend=given.loop)
    for held, what in found:
        print(f"{'+' if held else '-'} {what}")
    failed = sum(not held for held, _ in found)
    print(f"{len(found) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
