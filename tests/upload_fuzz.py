"""
Runs uploads with random input over a transport with random faults, which records what was really stored.

A seed determines one upload: its input, its server, its callbacks, and when it is cancelled. ``run_upload`` checks what
must hold for every upload.
"""

import asyncio
import json
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import virtual_time
from attrs import define, field

from gatepay_async import AsyncGatePay, Fate, RetryPolicy, UploadReport
from gatepay_async.durable.records import results
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.work.sender import BATCH_PATIENCE, send_batch
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Ledger
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.progress import Progress

MAX_SECONDS = 6 * 3600.0  # virtual seconds

REPLIES = {109: "卡密内容本身有重复", 110: "卡密内容为空", 113: "批量插入数据库失败", 199: "?", 106: "签名失败"}
# Replies to every call with a certain card key.
KEY_FAULTS = (109, 110, 113, 199, 106, "403", "500", "200 page", "reset")
# Faults of single calls with valid card keys.
RANDOM_FAULTS = (
    "stored, cut", "stored, 502", "stored, garbage", "stored, hangs", "cut", "refused to connect", "hangs", "slow",
    "500", "429", "403", 113, 109, 199,
)  # fmt: skip
# Replies to a retry which say that it stored nothing. They say nothing about the first attempt.
RETRY_REPLIES = (109, 113, 199, "403", "refused to connect")
# Replies to every call from a certain number on.
PERMANENT_FAULTS = (109, 110, 113, 199, 106, 105, 107, "403", "404", "500", "reset", "refused to connect", "hangs")


class UserError(Exception):
    """An Exception of the user's code."""


class UserBaseException(BaseException):
    """A BaseException of the user's code."""


@define
class Server(httpx.AsyncBaseTransport):
    """
    Stores card keys as GatePay does, with faults.

    Attributes:
        random: The source of randomness.
        fault_probability: The probability of a random fault.
        faults_by_key: For some card keys, the fault of every call that contains the card key.
        doubtful: Card keys whose first call is stored while its reply is lost; the value is the result of later calls.
        permanent_fault: The fault of every call from a certain one on; None: no such fault.
        permanent_fault_from: The number of the first call with ``permanent_fault``.
        down: The start and end of a period in which connecting fails.
        stray_error_at: The number of the call that raises ``stray_error``; 0: none.
        stray_error: A CancelledError, or an error that no transport should raise.
        db: The stored card keys.
        calls: The number of calls so far.
    """

    random: random.Random
    fault_probability: float = 0.0
    faults_by_key: dict[str, Any] = field(factory=dict)
    doubtful: dict[str, Any] = field(factory=dict)
    permanent_fault: Any = None
    permanent_fault_from: int = 0
    down: tuple[float, float] = (0.0, 0.0)
    stray_error_at: int = 0
    stray_error: BaseException | None = None
    db: set[str] = field(factory=set)
    calls: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        keys = parse_qs((await request.aread()).decode(), keep_blank_values=True)["content"][0].split("\n")
        self.calls += 1
        await anyio.sleep(self.random.choice((0.0, 0.001, 0.05)))
        if self.calls == self.stray_error_at and self.stray_error is not None:
            raise self.stray_error
        if self.down[0] <= anyio.current_time() < self.down[1]:
            return await self._answer_with("refused to connect", keys)
        if self.permanent_fault is not None and self.calls >= self.permanent_fault_from:
            return await self._answer_with(self.permanent_fault, keys)
        doubtful = next((key for key in keys if key in self.doubtful), None)
        if doubtful is not None:
            return await self._answer_with(self.doubtful[doubtful] if doubtful in self.db else "stored, cut", keys)
        fault = next((self.faults_by_key[key] for key in keys if key in self.faults_by_key), None)
        if fault is None and self.random.random() < self.fault_probability:
            fault = self.random.choice(RANDOM_FAULTS)
        return self._store(keys) if fault is None else await self._answer_with(fault, keys)

    def _store(self, keys: list[str]) -> httpx.Response:
        new = set(keys) - self.db
        self.db |= new
        return reply(100, f"成功录入:{len(new)}条卡密") if new else reply(112, "均已存在")

    async def _answer_with(self, fault: Any, keys: list[str]) -> httpx.Response:
        if isinstance(fault, int):
            return reply(fault, REPLIES.get(fault, "?"))
        if fault.startswith("stored"):
            self._store(keys)
        match fault.removeprefix("stored, "):
            case "cut" | "reset":
                raise httpx.ReadError("cut")
            case "refused to connect":
                raise httpx.ConnectError("refused")
            case "hangs":
                await anyio.sleep(1000)
            case "slow":
                await anyio.sleep(5)
                return self._store(keys)
            case "garbage":
                return httpx.Response(200, content=b'{"code": 100, "msg')
            case "200 page":
                return httpx.Response(200, html="<title>blocked</title>")
            case "429":
                return httpx.Response(429, headers={"retry-after": str(self.random.randint(0, 40))})
        return httpx.Response(int(fault.removeprefix("stored, ")), html="<title>error</title>")


def reply(code: int, data: str) -> httpx.Response:
    return httpx.Response(200, json={"code": code, "msg": "x", "time": "1556251812", "data": data})


def random_server(rng: random.Random, keys: list[str]) -> Server:
    server = Server(rng)
    server.fault_probability = rng.choice((0, 0, 0.02, 0.2, 0.6))
    if keys and rng.random() < 0.5:
        kinds = rng.sample(KEY_FAULTS, rng.randint(1, 2))
        for key in rng.sample(keys, min(len(keys), rng.choice((1, 1, 2, 5, 40)))):
            server.faults_by_key[key] = rng.choice(kinds)
    if keys and rng.random() < 0.5:
        server.doubtful[rng.choice(keys)] = rng.choice(RETRY_REPLIES)
    if rng.random() < 0.2:
        server.permanent_fault, server.permanent_fault_from = rng.choice(PERMANENT_FAULTS), rng.choice((1, 1, 3, 20))
    if rng.random() < 0.3:
        start = rng.choice((0.0, 0.1, 1.0))
        server.down = (start, start + rng.choice((0.1, 1.0, 3.0, 15.0, 1e9)))
    return server


BLANK_CHARACTERS = ("", " ", "\t", "\u200b", "\ufeff", "\x1a", "\u202e \u2060", "\u3000")
INVALID_KEYS = ("A\nB", "A\rB", "A\0", "A\ud800", None, 7)


def random_lines(rng: random.Random) -> list[Any]:
    count = rng.choice((0, 1, 3, 40, 499, 501, 1200, 3000))
    lines: list[Any] = [f"KEY-{number:05d}" for number in range(count)]
    for _ in range(rng.choice((0, 0, 5, 60))):
        line = rng.choice(
            (*BLANK_CHARACTERS, *INVALID_KEYS, "é" * rng.randint(1, 4), f"x{rng.random()}&<'\"", "a\u200bb")
        )
        lines.insert(rng.randint(0, len(lines)), line)
    for _ in range(rng.choice((0, 0, 30))):
        if lines:
            repeated = rng.choice(lines)
            lines.insert(
                rng.randint(0, len(lines)),
                f"{rng.choice(BLANK_CHARACTERS)}{repeated}" if isinstance(repeated, str) else repeated,
            )
    return lines


def key_in(line: Any) -> str | None:
    """Return the card key in *line*; "" for a blank line, None for an invalid one. Independent of the package."""
    if not isinstance(line, str):
        return None
    blank = " \t\r\n\u3000\u200b\ufeff\x1a\u202e\u2060"
    key = line.strip(blank)
    is_invalid = any(letter in "\n\r\0" or 0xD800 <= ord(letter) < 0xE000 for letter in key)
    return None if is_invalid else key


@define
class Input:
    """The lines of an upload, as a randomly chosen type. Raises *error* before line *error_at*, counted from 0."""

    lines: list[Any]
    rng: random.Random
    error_at: int = -1
    error: BaseException | None = None

    def _plain(self) -> Iterator[Any]:
        for number, line in enumerate(self.lines):
            if number == self.error_at and self.error is not None:
                raise self.error
            yield line

    async def _slowly(self) -> AsyncIterator[Any]:
        pause = self.rng.choice((0.0, 0.001))
        for number, line in enumerate(self.lines):
            if number == self.error_at and self.error is not None:
                raise self.error
            if number % 50 == 0:
                await anyio.sleep(pause)
            yield line

    def as_random_type(self) -> Any:
        """Return the lines as a file, an async generator or a generator."""
        is_text = all(isinstance(line, str) and not set("\n\r") & set(line) for line in self.lines)
        if is_text and self.error is None and self.rng.random() < 0.3:
            file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", newline="")  # noqa: SIM115 -- the caller closes it
            file.writelines(f"{line}\n" for line in self.lines)
            file.seek(0)
            return file
        return self._slowly() if self.rng.random() < 0.4 else self._plain()


def random_callback(rng: random.Random, backend: str) -> Any:
    """Return an `on_progress` function: none, a plain or async one, or one that raises at a random call."""
    kind = rng.choice((None, None, "plain", "async", "raises"))
    error: BaseException = rng.choice((UserError("x"), UserBaseException("x"), KeyboardInterrupt()))
    if backend == "asyncio" and rng.random() < 0.4:
        error = asyncio.CancelledError()
    failing_call, count = rng.randint(1, 6), 0

    async def slow(_: Any) -> None:
        await anyio.sleep(0.01)

    async def raises(_: Any) -> None:
        nonlocal count
        count += 1
        if count == failing_call:
            raise error

    return {None: None, "plain": lambda _: None, "async": slow, "raises": raises}[kind]


def check_report(report: UploadReport, lines: list[Any], server: Server) -> None:
    """Check what must hold for every report."""
    total_of_results = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + total_of_results, "the columns do not add up"
    read = lines[: report.read]
    keys_read = [key for line in read if (key := key_in(line))]
    assert report.blank == sum(key_in(line) == "" for line in read)
    numbered = [outcome for outcome in report.chunks if outcome.index >= 0]
    failed = Counter(key for outcome in numbered for key in outcome.keys)
    assert max(failed.values(), default=1) == 1, "a card key is in two outcomes"
    # Lines that were being deduplicated when the upload ended are in one outcome, with index -1 and with duplicates.
    not_stored = {key for outcome in report.chunks for key in outcome.keys}
    assert set(keys_read) - not_stored <= server.db, "stored, but not on the server"
    for outcome in numbered:
        assert len(outcome.keys) == (0 if outcome.fate is Fate.STORED else outcome.count)
        if outcome.fate in (Fate.REFUSED, Fate.NOT_SENT):
            assert not set(outcome.keys) & server.db, f"{outcome.fate}, but on the server"
    if report.ok:
        assert set(keys_read) <= server.db


async def _run_upload(seed: int, backend: str) -> str:
    """Run one upload with random settings, and check its report. Return how it ended."""
    rng = random.Random(seed)  # noqa: S311 -- not for security
    lines = random_lines(rng)
    keys = sorted({key for line in lines if (key := key_in(line))})
    server = random_server(rng, keys)
    source = Input(lines, rng)
    if rng.random() < 0.15:
        source.error_at, source.error = (
            rng.randint(0, len(lines)),
            rng.choice((UserError("x"), UserBaseException("x"))),
        )
    if rng.random() < 0.15:
        unexpected: tuple[BaseException, ...] = (ValueError("odd"), UserBaseException("odd"))
        server.stray_error = rng.choice((*unexpected, asyncio.CancelledError()) if backend == "asyncio" else unexpected)
        server.stray_error_at = rng.randint(1, 8)
    policy = rng.choice((RetryPolicy(), RetryPolicy(attempts=1), RetryPolicy(first_wait=0, budget=1e9)))
    keys_input = source.as_random_type()
    report: Any = None
    how_it_ended = "cancelled"
    scope = anyio.CancelScope(deadline=rng.choice((0.0, 0.01, 0.3, 5.0)) if rng.random() < 0.1 else float("inf"))
    with scope:
        try:
            async with AsyncGatePay("k", "s", transport=server, retry=policy) as gatepay:
                report = await gatepay.upload_card_keys(
                    8, keys_input, concurrency=rng.choice((1, 2, 4, 16, 64)), on_progress=random_callback(rng, backend)
                )
            how_it_ended = "ok" if report.ok else "stopped" if report.stopped is not None else "incomplete"
            assert report.read == len(lines) or report.stopped is not None, "returned before all lines were read"
        except BaseException as error:
            report = getattr(error, "report", None)
            how_it_ended = type(error).__name__
            if report is None or (scope.cancel_called and not isinstance(error, UserError | UserBaseException)):
                raise
            if isinstance(error, BaseExceptionGroup):
                raise AssertionError("a group of errors") from None  # noqa: TRY004 -- not about a type
        finally:
            if hasattr(keys_input, "aclose"):
                with anyio.CancelScope(shield=True):
                    await keys_input.aclose()  # otherwise trio warns that the generator was garbage collected
            elif hasattr(keys_input, "close"):
                keys_input.close()
            if report is not None:
                check_report(report, lines, server)
    assert anyio.current_time() < MAX_SECONDS, "takes too long"
    # Halving finds a refused card key with about 20 calls; retries may double that.
    assert server.calls <= 40 * len(keys) + 2_000, "too many calls"
    return how_it_ended


def run_upload(seed: int, backend: str) -> str:
    """Run one upload. Return how it ended."""
    return str(virtual_time.run(_run_upload, seed, backend, backend=backend))


async def _run_durable(seed: int) -> str:
    """Run a job with one batch several times. Each run reads the results of the earlier ones from their rows."""
    rng = random.Random(seed)  # noqa: S311 -- not for security
    lines = [line for line in random_lines(rng) if isinstance(line, str)]
    chunker = Chunker(Ledger())
    chunks = list(chunker.chunks(lines))
    last_chunk = chunker.last_chunk()
    chunks += [last_chunk] if last_chunk is not None else []
    keys = [key for chunk in chunks for key in chunk.keys]
    server = random_server(rng, keys)
    rows: list[BatchResult] = []
    async with AsyncGatePay("k", "s", transport=server) as gatepay:
        for _ in range(rng.randint(1, 6)):
            calls_left = rng.choice((1, 3, 30, 10**9))

            async def may_send() -> bool:
                nonlocal calls_left
                calls_left -= 1
                return calls_left >= 0

            unsettled = results.unsettled_chunks(chunks, rows)
            progress = Progress(BATCH_PATIENCE)
            run = await send_batch(gatepay._send_card_keys, 8, unsettled, progress, may_send=may_send)
            rows.append(BatchResult.from_row(json.loads(json.dumps(run.to_row()))))
            _check_durable(results.merge_runs(rows), chunks, server)
            await anyio.sleep(rng.choice((0.1, 2.0, 60.0)))
    assert anyio.current_time() < MAX_SECONDS, "takes too long"
    return "durable"


def _check_durable(outcomes_by_chunk: dict[int, list[ChunkOutcome]], chunks: list[Chunk], server: Server) -> None:
    """Check that the outcomes of each chunk add up and agree with the server."""
    for chunk in chunks:
        outcomes = outcomes_by_chunk.get(chunk.index, [])
        assert sum(outcome.count for outcome in outcomes) == len(chunk.keys), "the rows do not add up"
        for outcome in outcomes:
            pairs = zip(chunk.lines, chunk.keys, strict=True)
            keys = {key for line, key in pairs if outcome.first_line <= line <= outcome.last_line}
            assert len(keys) == outcome.count
            if outcome.fate is Fate.STORED:
                assert keys <= server.db, "stored, but not on the server"
            elif outcome.fate is not Fate.UNKNOWN:
                assert not keys & server.db, f"{outcome.fate}, but on the server"


def run_durable(seed: int) -> str:
    """Run one batch several times. Return "durable", which ``run_many`` counts."""
    return str(virtual_time.run(_run_durable, seed, backend="asyncio"))


def run_many(first: int, count: int) -> Counter[str]:
    """Run *count* uploads from seed *first*, in turn on asyncio, on trio and as durable runs. Count how they ended."""
    endings = Counter[str]()
    for seed in range(first, first + count):
        try:
            endings[run_durable(seed) if seed % 3 == 2 else run_upload(seed, ("asyncio", "trio")[seed % 3])] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}: upload_fuzz.run_many({seed}, 1)")
            raise
    return endings
