"""Memory while 20,000 pages are walked, and while a million card keys are uploaded."""

import asyncio
from collections.abc import Iterator

from benchmarks.measuring import Result, Row, resident
from benchmarks.peers import PRODUCT, client
from benchmarks.server import ROWS
from benchmarks.serving import Served, serving
from gatepay_async import UploadProgress

PAGES, AHEAD, FROM, MOST = 20_000, 8, 100, 5.0
KEYS, CONCURRENCY, EVERY = 2_000_000, 8, 50_000


def measure(*, quick: bool) -> Result:
    """The walk first, in a process that has done nothing else."""
    pages, keys = (2_000, 200_000) if quick else (PAGES, KEYS)
    with serving(pages=pages) as served:
        walked = asyncio.run(_walk(served, pages))
        uploaded = asyncio.run(_upload(served, keys))
    over = walked[pages] - walked[FROM]
    beside = f"{walked[FROM]:.1f} MB at page {FROM}, {walked[pages]:.1f} MB at page {pages:,}"
    what = f"{pages:,} pages walked: memory over page {FROM}"
    row = Row(what=what, goal=MOST, value=over, at_most=True, unit="MB", beside=beside)
    return Result([row], {"memory": {"ours, uploading": uploaded}})


async def _walk(served: Served, pages: int) -> dict[int, float]:
    memory: dict[int, float] = {}
    keys = 0
    async with client(served) as gatepay:
        async for _ in gatepay.list_card_keys(PRODUCT, prefetch=AHEAD):
            keys += 1
            if keys % ROWS == 0 and keys // ROWS in (FROM, pages):
                memory[keys // ROWS] = resident()
    return memory


async def _upload(served: Served, count: int) -> list[tuple[int, float]]:
    """Memory over the start, as the upload goes on."""
    memory: list[tuple[int, float]] = [(0, 0.0)]
    start = resident()

    def look(progress: UploadProgress) -> None:
        if progress.read - memory[-1][0] >= EVERY:
            memory.append((progress.read, resident() - start))

    async with client(served) as gatepay:
        report = await gatepay.upload_card_keys(PRODUCT, _lines(count), concurrency=CONCURRENCY, on_progress=look)
    assert report.ok
    return memory


def _lines(count: int) -> Iterator[str]:
    return (f"KEY-{number:020d}" for number in range(count))
