"""
Run all kinds of calls concurrently for a minute against a sandbox with faults; check results and resource usage.

    python -m benchmarks.soak --seconds 60 --loop trio

Workers share one client: they list products and card keys, upload, create payments and verify callbacks. The sandbox
fails about one request in fourteen, and many calls are cancelled. No card key or order may be lost or doubled. Memory,
sockets, files and tasks are recorded each second; after ten seconds they must no longer grow. The program prints each
check and exits with 1 if one failed.
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
from benchmarks.soak_server import LISTED_PRODUCT, ORDERED_PRODUCT, STOCK, UPLOAD_PRODUCT
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

MAX_CONNECTIONS = 10
LINES_PER_UPLOAD = 700  # two chunks
MAX_PREFETCH = 4
UPLOAD_CONCURRENCY = 3
WARM_UP_S = 10.0  # in shorter runs, a third of the run
# Allowed growth from the first third of a run to the last. It is not 0: the memory allocator keeps some free memory,
# and the number of calls in flight varies.
MAX_GROWTH_MB, MAX_GROWTH_HANDLES, MAX_GROWTH_TASKS = 3.0, 3.0, 8.0
MAX_SHOWN = 5  # failed checks that are printed in full
REPORT_COLUMNS = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")


@frozen
class Usage:
    """The resources that this process used at one moment; memory in MB, and the seconds since the start."""

    second: float
    memory: float
    sockets: int
    files: int
    tasks: int


@frozen
class UploadRecord:
    """
    What the report of one upload says about each line.

    Attributes:
        number: The number of the upload, from which `lines_of_upload` generates its lines.
        read: How many of these lines the upload read.
        positions_by_fate: For each fate, the positions of the lines that the report lists with this fate. Positions
            are bits of an integer: storing the card keys would use memory that looks like a leak of the client.
    """

    number: int
    read: int
    positions_by_fate: dict[str, int]

    def fates(self) -> Iterator[tuple[str, str]]:
        """Yield each card key that the upload read, with its fate: "stored" unless the report lists the key."""
        seen: set[str] = set()
        for position, line in enumerate(lines_of_upload(self.number)[: self.read]):
            key = line.strip()
            if key and key not in seen:
                seen.add(key)
                listed = (fate for fate, bits in self.positions_by_fate.items() if bits >> position & 1)
                yield key, next(listed, "stored")


@define
class Observations:
    """
    What the workers record.

    Attributes:
        done: The number of calls of each kind.
        errors: The number of errors of each kind of call and class.
        violations: The failed checks.
        uploads: The uploads, to compare with the card keys on the server at the end.
        payments: The result of each payment: "made", "not made" or "unknown". To compare with the server's orders.
        usages: The resources used, recorded each second.
    """

    done: Counter[str] = field(factory=Counter)
    errors: Counter[str] = field(factory=Counter)
    violations: list[str] = field(factory=list)
    uploads: list[UploadRecord] = field(factory=list)
    payments: list[str] = field(factory=list)
    usages: list[Usage] = field(factory=list)


class Shop:
    """The settings of the sandbox's process, and a way to ask it for its orders, card keys and callbacks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lock = anyio.Lock()
        settings: dict[str, str] = json.loads(self._exchange(None))
        self.base_url, self.appkey, self.appsecret = settings["base_url"], settings["appkey"], settings["appsecret"]

    async def ask(self, name: str, **details: str) -> Any:
        """Ask the sandbox's process for what `soak_server.answer` returns for the question *name*."""
        async with self._lock:
            question = json.dumps({"ask": name, **details})
            return json.loads(await anyio.to_thread.run_sync(self._exchange, question))

    def _exchange(self, question: str | None) -> str:
        """Write *question*, unless it is None, and return the next line that the process prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if question is not None:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def sandbox_process() -> Iterator["subprocess.Popen[str]"]:
    """Run the sandbox's process; closing its standard input at the end stops it."""
    command = [sys.executable, "-m", "benchmarks.soak_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.communicate()


class Soak:
    """Runs all workers on one client."""

    def __init__(self, shop: Shop, gatepay: AsyncGatePay, observations: Observations, *, end_time: float) -> None:
        self._shop = shop
        self._gatepay = gatepay
        self._observations = observations
        self._end_time = end_time
        self._random = random.Random(1)  # noqa: S311 -- repeatable, not secret
        self._uploads = 0

    async def run(self) -> None:
        """Run two workers for each kind of call until the end time."""
        jobs = (self._list, self._list_all, self._upload, self._pay, self._cancel_calls)
        async with anyio.create_task_group() as group:
            group.start_soon(self._record_usage)
            for job in jobs:
                for _ in range(2):
                    group.start_soon(self._work, job)

    async def _work(self, job: Callable[[], Awaitable[None]]) -> None:
        name = job.__name__.strip("_")
        while anyio.current_time() < self._end_time:
            try:
                await job()
            except GatePayError as error:
                self._observations.errors[f"{name}: {type(error).__name__}"] += 1
            self._observations.done[name] += 1

    async def _record_usage(self) -> None:
        start = anyio.current_time()
        while anyio.current_time() < self._end_time:
            await anyio.sleep(1)
            tasks = len(anyio.get_running_tasks())
            usage = Usage(anyio.current_time() - start, resident(), sockets(), descriptors(), tasks)
            self._observations.usages.append(usage)

    def _check(self, ok: bool, message: str) -> None:  # noqa: FBT001 -- like an assert: condition first
        if not ok:
            self._observations.violations.append(message)

    async def _list(self) -> None:
        await self._gatepay.list_products()
        page = await self._gatepay.list_card_keys(LISTED_PRODUCT, page=self._random.randint(1, STOCK // 50))
        self._check(len(page.keys) == page.per_page, f"page {page.current_page} has {len(page.keys)} card keys")

    async def _list_all(self) -> None:
        prefetch = self._random.randint(1, MAX_PREFETCH)
        thorough = self._random.random() < 0.2  # noqa: PLR2004 -- one listing in five
        stop_at = self._random.choice((None, None, self._random.randrange(STOCK)))  # stop early in one of three
        seen: list[str] = []
        async for key in self._gatepay.list_card_keys(LISTED_PRODUCT, prefetch=prefetch, thorough=thorough):
            seen.append(key.content)
            if len(seen) == stop_at:
                return
        self._check(
            len(seen) == len(set(seen)) == STOCK, f"a listing has {len(seen)} card keys, {len(set(seen))} different"
        )

    async def _upload(self) -> None:
        self._uploads += 1
        number = self._uploads
        cancel_after = self._random.choice((None, None, self._random.uniform(0, 0.3)))  # seconds; one upload in three
        report: UploadReport | None = None
        with anyio.move_on_after(cancel_after):
            try:
                # Async and plain iterables in turn.
                keys = _slowly(lines_of_upload(number)) if number % 2 else lines_of_upload(number)
                report = await self._gatepay.upload_card_keys(UPLOAD_PRODUCT, keys, concurrency=UPLOAD_CONCURRENCY)
            except BaseException as error:  # an interrupted upload's exception has its report
                report = getattr(error, "report", None)
                raise
        if report is not None:
            self._record_upload(number, report)
        await anyio.sleep(0.2)

    def _record_upload(self, number: int, report: UploadReport) -> None:
        total = sum(getattr(report, column) for column in REPORT_COLUMNS)
        self._check(total == report.read, f"upload {number} read {report.read} lines, its columns add up to {total}")
        # Reversed, so that a repeated card key has the position of its first line.
        positions = {line.strip(): position for position, line in reversed(list(enumerate(lines_of_upload(number))))}
        positions_by_fate: dict[str, int] = {}
        for chunk in report.chunks:
            bits = sum(1 << positions[key] for key in chunk.keys)
            positions_by_fate[chunk.fate.value] = positions_by_fate.get(chunk.fate.value, 0) | bits
        self._observations.uploads.append(UploadRecord(number, report.read, positions_by_fate))

    async def _pay(self) -> None:
        position = len(self._observations.payments)
        number = out_order_id(position)
        self._observations.payments.append("unknown")  # also the result of a cancelled call
        try:
            payment = await self._gatepay.create_payment(
                product_id=ORDERED_PRODUCT, product_num=1, pay_type=PayType.ALIPAY, out_order_id=number, custom="terry"
            )
        except OutcomeUnknownError:
            raise
        except GatePayError:
            self._observations.payments[position] = "not made"
            raise
        self._observations.payments[position] = "made"
        query = await self._shop.ask("callback", out_order_id=number)
        callback = self._gatepay.parse_callback(query)
        self._check(
            callback.out_order_id == number and callback.price == payment.order_price,
            f"the callback of {number} is wrong",
        )
        try:
            parse_callback(
                query.replace("extend=terry", "extend=jerry"), appkey=self._shop.appkey, appsecret=self._shop.appsecret
            )
        except CallbackError:
            return
        self._check(False, f"a forged callback of {number} was accepted")

    async def _cancel_calls(self) -> None:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            self._gatepay.list_products,
            lambda: self._gatepay.list_card_keys(LISTED_PRODUCT),
            self._count_all,
        )
        with anyio.move_on_after(self._random.uniform(0, 0.05)):
            await self._random.choice(calls)()

    async def _count_all(self) -> int:
        return sum([1 async for _ in self._gatepay.list_card_keys(LISTED_PRODUCT, prefetch=MAX_PREFETCH)])


def out_order_id(position: int) -> str:
    """Return the order number of the payment at *position* of `Observations.payments`."""
    return f"S-{position}-X"


def lines_of_upload(number: int) -> list[str]:
    """Generate the lines of an upload: some blank, some repeated, some also in the previous upload."""
    upload_lines = [f"SOAK-{number:06d}-{line:04d}" for line in range(LINES_PER_UPLOAD)]
    upload_lines[10::50] = ["  "] * len(upload_lines[10::50])
    upload_lines[11::50] = upload_lines[9::50]
    upload_lines[12::50] = [f"SOAK-{number - 1:06d}-{line:04d}" for line in range(12, LINES_PER_UPLOAD, 50)]
    return upload_lines


async def _slowly(upload_lines: list[str]) -> AsyncIterator[str]:
    for position, line in enumerate(upload_lines):
        if position % 100 == 0:
            await anyio.sleep(0.01)
        yield line


async def soak(process: "subprocess.Popen[str]", seconds: float) -> list[tuple[bool, str]]:
    """Run all workers; return each check's result and text."""
    shop, observations = Shop(process), Observations()
    await shop.ask("orders")  # starts the worker thread, before its resources are counted
    before = Usage(0, resident(), sockets(), descriptors(), len(anyio.get_running_tasks()))
    retry_policy = RetryPolicy(first_wait=0.05)
    client = AsyncGatePay(
        shop.appkey,
        shop.appsecret,
        base_url=shop.base_url,
        max_connections=MAX_CONNECTIONS,
        timeout=2,
        deadline=15,
        retry=retry_policy,
    )
    async with client as gatepay:
        await Soak(shop, gatepay, observations, end_time=anyio.current_time() + seconds).run()
        await shop.ask("calm")  # no more faults
        listed_at_end = len((await gatepay.list_card_keys(LISTED_PRODUCT)).keys)
    await anyio.sleep(0.2)
    after = Usage(seconds, resident(), sockets(), descriptors(), len(anyio.get_running_tasks()))
    _print(observations)
    return [
        (
            not observations.violations,
            f"listings, upload reports and callbacks are right{_format_violations(observations.violations)}",
        ),
        (listed_at_end > 0, "the client still works at the end"),
        (
            _leaked(before, after) == (0, 0, 0),
            "no socket, file or task is left: {}, {}, {}".format(*_leaked(before, after)),
        ),
        *_check_growth(observations.usages, seconds),
        _check_uploads(observations.uploads, await shop.ask("keys")),
        _check_payments(observations.payments, await shop.ask("orders")),
    ]


def _leaked(before: Usage, after: Usage) -> tuple[int, int, int]:
    return after.sockets - before.sockets, after.files - before.files, after.tasks - before.tasks


def _check_growth(usages: list[Usage], seconds: float) -> Iterator[tuple[bool, str]]:
    after_warm_up = [usage for usage in usages if usage.second >= min(WARM_UP_S, seconds / 3)]
    third = max(1, len(after_warm_up) // 3)
    for name, allowed in {
        "memory": MAX_GROWTH_MB,
        "sockets": MAX_GROWTH_HANDLES,
        "files": MAX_GROWTH_HANDLES,
        "tasks": MAX_GROWTH_TASKS,
    }.items():
        values = [float(getattr(usage, name)) for usage in after_warm_up]
        first, last = median(values[:third]), median(values[-third:])
        message = f"{name}: {first:.1f} in the first third, {last:.1f} in the last; {allowed:g} more are allowed"
        yield last - first <= allowed, message
    max_sockets = max(usage.sockets for usage in usages)
    yield max_sockets <= MAX_CONNECTIONS, f"never more than {MAX_CONNECTIONS} sockets: {max_sockets}"


def _check_uploads(uploads: list[UploadRecord], on_server: list[str]) -> tuple[bool, str]:
    """
    Check the card keys on the server against the reports.

    Each card key that a report counts as stored must be there. No card key may be there twice, or if it was reported as
    refused or not sent, or if no upload read it.
    """
    counts = Counter(on_server)
    fates_by_key: dict[str, set[str]] = {}  # a card key can be in two uploads, with two fates
    for upload in uploads:
        for key, fate in upload.fates():
            fates_by_key.setdefault(key, set()).add(fate)
    lost = [key for key, fates in fates_by_key.items() if "stored" in fates and key not in counts]
    denied = [key for key, fates in fates_by_key.items() if fates <= {"refused", "not_sent"} and key in counts]
    doubled = [key for key, count in counts.items() if count > 1]
    unread = [key for key in counts if key.startswith("SOAK-") and key not in fates_by_key]
    not_stored = sum("stored" not in fates for fates in fates_by_key.values())
    totals = f"{len(fates_by_key):,} card keys of {len(uploads)} uploads, {not_stored:,} of them reported as not stored"
    failures = f"{len(lost)} lost, {len(doubled)} twice, {len(denied)} stored but denied, {len(unread)} never read"
    return not (lost or doubled or denied or unread), f"{totals}: {failures}"


def _check_payments(payments: list[str], orders: list[str]) -> tuple[bool, str]:
    order_counts = Counter(orders)
    allowed = {"made": (1,), "not made": (0,), "unknown": (0, 1)}
    differing = [n for n, result in enumerate(payments) if order_counts[out_order_id(n)] not in allowed[result]]
    counts = _format_counts(Counter(payments))
    return not differing, f"{len(payments)} payments, {counts}: {len(differing)} not as reported"


def _format_violations(violations: list[str]) -> str:
    return "".join(f"\n      {message}" for message in violations[:MAX_SHOWN]) + (
        f"\n      … {len(violations)} in all" if violations else ""
    )


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _print(observations: Observations) -> None:
    print("done:", _format_counts(observations.done))
    print("errors:", _format_counts(observations.errors) or "none")
    print("second  memory MB  sockets  files  tasks")
    for usage in observations.usages[:: max(1, len(observations.usages) // 12)]:
        print(f"{usage.second:6.0f}  {usage.memory:9.1f}  {usage.sockets:7}  {usage.files:5}  {usage.tasks:5}")


def main() -> int:
    """Run the soak test and print each check."""
    parser = argparse.ArgumentParser(description="Runs all kinds of calls at once; checks results and resource usage.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    options = parser.parse_args()
    with sandbox_process() as process:
        checks = anyio.run(soak, process, options.seconds, backend=options.loop)
    for ok, message in checks:
        print(f"{'+' if ok else '-'} {message}")
    failed = sum(not ok for ok, _ in checks)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
