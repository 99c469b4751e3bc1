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
from gatepay_async.durable.work.sender import BatchSender
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Ledger
from gatepay_async.protocol.chunking import Chunker

LONGEST = 6 * 3600.0  # virtual seconds

REPLIES = {109: "卡密内容本身有重复", 110: "卡密内容为空", 113: "批量插入数据库失败", 199: "?", 106: "签名失败"}
# What each call with a certain card key may be answered with.
BAD = (109, 110, 113, 199, 106, "403", "500", "200 page", "reset")
# What may happen to a call with valid card keys.
MISHAPS = (
    "stored, cut", "stored, 502", "stored, garbage", "stored, hangs", "cut", "refused to connect", "hangs", "slow",
    "500", "429", "403", 113, 109, 199,
)  # fmt: skip
# Replies which say that this call stored nothing. They say nothing about the call before.
AFTER_DOUBT = (109, 113, 199, "403", "refused to connect")
EVERYTHING = (109, 110, 113, 199, 106, 105, 107, "403", "404", "500", "reset", "refused to connect", "hangs")


class OwnError(Exception):
    """An Exception of the user's code."""


class OwnBaseException(BaseException):
    """A BaseException of the user's code."""


@define
class Server(httpx.AsyncBaseTransport):
    """
    Stores card keys as GatePay does, with faults.

    Attributes:
        random: The source of randomness.
        chance: The probability of a mishap.
        bad: The result of each call that contains a certain card key.
        doubtful: Card keys whose first call is stored while its reply is lost; the value is the result of later calls.
        refuses: The result of every call from number ``refuses_from`` on; None: no such rule.
        refuses_from: See ``refuses``.
        down: The start and end of a period in which connecting fails.
        stray: The number of the call that raises ``stray_error``; 0: none.
        stray_error: A CancelledError, or an error that transports don't raise.
        db: The stored card keys.
        calls: The number of calls so far.
    """

    random: random.Random
    chance: float = 0.0
    bad: dict[str, Any] = field(factory=dict)
    doubtful: dict[str, Any] = field(factory=dict)
    refuses: Any = None
    refuses_from: int = 0
    down: tuple[float, float] = (0.0, 0.0)
    stray: int = 0
    stray_error: BaseException | None = None
    db: set[str] = field(factory=set)
    calls: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        keys = parse_qs((await request.aread()).decode(), keep_blank_values=True)["content"][0].split("\n")
        self.calls += 1
        await anyio.sleep(self.random.choice((0.0, 0.001, 0.05)))
        if self.calls == self.stray and self.stray_error is not None:
            raise self.stray_error
        if self.down[0] <= anyio.current_time() < self.down[1]:
            return await self._meet("refused to connect", keys)
        if self.refuses is not None and self.calls >= self.refuses_from:
            return await self._meet(self.refuses, keys)
        lost = next((key for key in keys if key in self.doubtful), None)
        if lost is not None:
            return await self._meet(self.doubtful[lost] if lost in self.db else "stored, cut", keys)
        found = next((self.bad[key] for key in keys if key in self.bad), None)
        if found is None and self.random.random() < self.chance:
            found = self.random.choice(MISHAPS)
        return self._store(keys) if found is None else await self._meet(found, keys)

    def _store(self, keys: list[str]) -> httpx.Response:
        new = set(keys) - self.db
        self.db |= new
        return reply(100, f"成功录入:{len(new)}条卡密") if new else reply(112, "均已存在")

    async def _meet(self, what: Any, keys: list[str]) -> httpx.Response:
        if isinstance(what, int):
            return reply(what, REPLIES.get(what, "?"))
        if what.startswith("stored"):
            self._store(keys)
        match what.removeprefix("stored, "):
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
        return httpx.Response(int(what.removeprefix("stored, ")), html="<title>error</title>")


def reply(code: int, data: str) -> httpx.Response:
    return httpx.Response(200, json={"code": code, "msg": "x", "time": "1556251812", "data": data})


def server_of(choose: random.Random, keys: list[str]) -> Server:
    server = Server(choose)
    server.chance = choose.choice((0, 0, 0.02, 0.2, 0.6))
    if keys and choose.random() < 0.5:
        kinds = choose.sample(BAD, choose.randint(1, 2))
        for key in choose.sample(keys, min(len(keys), choose.choice((1, 1, 2, 5, 40)))):
            server.bad[key] = choose.choice(kinds)
    if keys and choose.random() < 0.5:
        server.doubtful[choose.choice(keys)] = choose.choice(AFTER_DOUBT)
    if choose.random() < 0.2:
        server.refuses, server.refuses_from = choose.choice(EVERYTHING), choose.choice((1, 1, 3, 20))
    if choose.random() < 0.3:
        start = choose.choice((0.0, 0.1, 1.0))
        server.down = (start, start + choose.choice((0.1, 1.0, 3.0, 15.0, 1e9)))
    return server


ODD = ("", " ", "\t", "\u200b", "\ufeff", "\x1a", "\u202e \u2060", "\u3000")
SPOILT = ("A\nB", "A\rB", "A\0", "A\ud800", None, 7)


def lines_of(choose: random.Random) -> list[Any]:
    count = choose.choice((0, 1, 3, 40, 499, 501, 1200, 3000))
    lines: list[Any] = [f"KEY-{number:05d}" for number in range(count)]
    for _ in range(choose.choice((0, 0, 5, 60))):
        line = choose.choice((*ODD, *SPOILT, "é" * choose.randint(1, 4), f"x{choose.random()}&<'\"", "a\u200bb"))
        lines.insert(choose.randint(0, len(lines)), line)
    for _ in range(choose.choice((0, 0, 30))):
        if lines:
            again = choose.choice(lines)
            lines.insert(
                choose.randint(0, len(lines)), f"{choose.choice(ODD)}{again}" if isinstance(again, str) else again
            )
    return lines


def cleaned(line: Any) -> str | None:
    """Return the card key in *line*, by a second implementation of the rule. "": blank; None: no card key."""
    if not isinstance(line, str):
        return None
    odd = " \t\r\n\u3000\u200b\ufeff\x1a\u202e\u2060"
    key = line.strip(odd)
    spoilt = any(letter in "\n\r\0" or 0xD800 <= ord(letter) < 0xE000 for letter in key)
    return None if spoilt else key


@define
class Input:
    """Lines, passed in one of several ways. May raise an error before the line with the number *raises*."""

    lines: list[Any]
    choose: random.Random
    raises: int = -1
    error: BaseException | None = None

    def _plain(self) -> Iterator[Any]:
        for number, line in enumerate(self.lines):
            if number == self.raises and self.error is not None:
                raise self.error
            yield line

    async def _slowly(self) -> AsyncIterator[Any]:
        pause = self.choose.choice((0.0, 0.001))
        for number, line in enumerate(self.lines):
            if number == self.raises and self.error is not None:
                raise self.error
            if number % 50 == 0:
                await anyio.sleep(pause)
            yield line

    def given(self) -> Any:
        is_text = all(isinstance(line, str) and not set("\n\r") & set(line) for line in self.lines)
        if is_text and self.error is None and self.choose.random() < 0.3:
            file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", newline="")  # noqa: SIM115 -- given away
            file.writelines(f"{line}\n" for line in self.lines)
            file.seek(0)
            return file
        return self._slowly() if self.choose.random() < 0.4 else self._plain()


def callback_of(choose: random.Random, backend: str) -> Any:
    kind = choose.choice((None, None, "plain", "async", "raises"))
    error: BaseException = choose.choice((OwnError("x"), OwnBaseException("x"), KeyboardInterrupt()))
    if backend == "asyncio" and choose.random() < 0.4:
        error = asyncio.CancelledError()
    at, count = choose.randint(1, 6), 0

    async def slow(_: Any) -> None:
        await anyio.sleep(0.01)

    async def raises(_: Any) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise error

    return {None: None, "plain": lambda _: None, "async": slow, "raises": raises}[kind]


def check_report(report: UploadReport, lines: list[Any], server: Server) -> None:
    """Check what must hold for every report."""
    settled = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + settled, "the ledger does not add up"
    read = lines[: report.read]
    found = [key for line in read if (key := cleaned(line))]
    assert report.blank == sum(cleaned(line) == "" for line in read)
    own = [outcome for outcome in report.chunks if outcome.index >= 0]
    failed = Counter(key for outcome in own for key in outcome.keys)
    assert max(failed.values(), default=1) == 1, "a card key in two outcomes"
    # Lines that were being deduplicated when the upload ended are in an outcome of their own, including duplicates.
    kept = {key for outcome in report.chunks for key in outcome.keys}
    assert set(found) - kept <= server.db, "stored, and not on the server"
    for outcome in own:
        assert len(outcome.keys) == (0 if outcome.fate is Fate.STORED else outcome.count)
        if outcome.fate in (Fate.REFUSED, Fate.NOT_SENT):
            assert not set(outcome.keys) & server.db, f"{outcome.fate}, and on the server"
    if report.ok:
        assert set(found) <= server.db


async def _run_upload(seed: int, backend: str) -> str:
    choose = random.Random(seed)  # noqa: S311 -- not for security
    lines = lines_of(choose)
    keys = sorted({key for line in lines if (key := cleaned(line))})
    server = server_of(choose, keys)
    source = Input(lines, choose)
    if choose.random() < 0.15:
        source.raises, source.error = (
            choose.randint(0, len(lines)),
            choose.choice((OwnError("x"), OwnBaseException("x"))),
        )
    if choose.random() < 0.15:
        odd: tuple[BaseException, ...] = (ValueError("odd"), OwnBaseException("odd"))
        server.stray_error = choose.choice((*odd, asyncio.CancelledError()) if backend == "asyncio" else odd)
        server.stray = choose.randint(1, 8)
    policy = choose.choice((RetryPolicy(), RetryPolicy(attempts=1), RetryPolicy(first_wait=0, budget=1e9)))
    given = source.given()
    report: Any = None
    ended = "cancelled"
    scope = anyio.CancelScope(deadline=choose.choice((0.0, 0.01, 0.3, 5.0)) if choose.random() < 0.1 else float("inf"))
    with scope:
        try:
            async with AsyncGatePay("k", "s", transport=server, retry=policy) as gatepay:
                report = await gatepay.upload_card_keys(
                    8, given, concurrency=choose.choice((1, 2, 4, 16, 64)), on_progress=callback_of(choose, backend)
                )
            ended = "ok" if report.ok else "stopped" if report.stopped is not None else "incomplete"
            assert report.read == len(lines) or report.stopped is not None, "returned, and not all was read"
        except BaseException as error:
            report = getattr(error, "report", None)
            ended = type(error).__name__
            if report is None or (scope.cancel_called and not isinstance(error, OwnError | OwnBaseException)):
                raise
            if isinstance(error, BaseExceptionGroup):
                raise AssertionError("a group of errors") from None  # noqa: TRY004 -- a test fails
        finally:
            if hasattr(given, "aclose"):
                with anyio.CancelScope(shield=True):
                    await given.aclose()  # otherwise trio warns that the generator was garbage collected
            elif hasattr(given, "close"):
                given.close()
            if report is not None:
                check_report(report, lines, server)
    assert anyio.current_time() < LONGEST, "takes too long"
    assert server.calls <= 40 * len(keys) + 2_000, "too many calls"
    return ended


def run_upload(seed: int, backend: str) -> str:
    """Run one upload. Return how it ended."""
    return str(virtual_time.run(_run_upload, seed, backend, backend=backend))


async def _run_durable(seed: int) -> str:
    """Run a job with one batch several times. Each run knows the earlier ones only from their rows."""
    choose = random.Random(seed)  # noqa: S311 -- not for security
    lines = [line for line in lines_of(choose) if isinstance(line, str)]
    chunker = Chunker(Ledger())
    chunks = list(chunker.chunks(lines))
    rest = chunker.last_chunk()
    chunks += [rest] if rest is not None else []
    keys = [key for chunk in chunks for key in chunk.keys]
    server = server_of(choose, keys)
    rows: list[BatchResult] = []
    async with AsyncGatePay("k", "s", transport=server) as gatepay:
        for _ in range(choose.randint(1, 6)):
            going = choose.choice((1, 3, 30, 10**9))

            async def may_send() -> bool:
                nonlocal going
                going -= 1
                return going >= 0

            run = await BatchSender(gatepay._send_card_keys, 8, may_send).send_chunks(
                results.unsettled_chunks(chunks, rows)
            )
            rows.append(BatchResult.from_row(json.loads(json.dumps(run.to_row()))))
            _check(results.merge_runs(rows), chunks, server)
            await anyio.sleep(choose.choice((0.1, 2.0, 60.0)))
    assert anyio.current_time() < LONGEST, "takes too long"
    return "durable"


def _check(known: dict[int, list[ChunkOutcome]], chunks: list[Chunk], server: Server) -> None:
    for chunk in chunks:
        outcomes = known.get(chunk.index, [])
        assert sum(outcome.count for outcome in outcomes) == len(chunk.keys), "the rows do not add up"
        for outcome in outcomes:
            pairs = zip(chunk.lines, chunk.keys, strict=True)
            keys = {key for line, key in pairs if outcome.first_line <= line <= outcome.last_line}
            assert len(keys) == outcome.count
            if outcome.fate is Fate.STORED:
                assert keys <= server.db, "stored, and not on the server"
            elif outcome.fate is not Fate.UNKNOWN:
                assert not keys & server.db, f"{outcome.fate}, and on the server"


def run_durable(seed: int) -> str:
    """Run one batch several times. Return how it ended."""
    return str(virtual_time.run(_run_durable, seed, backend="asyncio"))


def run_many(first: int, count: int) -> Counter[str]:
    """Run *count* uploads from seed *first*, in turn on asyncio, on trio and as durable runs. Count how they ended."""
    ended = Counter[str]()
    for seed in range(first, first + count):
        try:
            ended[run_durable(seed) if seed % 3 == 2 else run_upload(seed, ("asyncio", "trio")[seed % 3])] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}: upload_fuzz.run_many({seed}, 1)")
            raise
    return ended
