"""Memory while listing 20,000 pages of card keys, and while uploading two million card keys."""

import asyncio
from collections.abc import Iterator

from benchmarks.measuring import Result, Row, resident
from benchmarks.peers import PRODUCT, client
from benchmarks.server import ROWS_PER_PAGE
from benchmarks.serving import Served, serving
from gatepay_async import UploadProgress

PAGES, PREFETCH, MAX_GROWTH_MB = 20_000, 8, 5.0
FIRST_SAMPLE_PAGE = 100  # growth is measured from this page on, after caches and pools are filled
KEYS, CONCURRENCY, LINES_PER_SAMPLE = 2_000_000, 8, 50_000


def measure(*, quick: bool) -> Result:
    """Measure the listing first, while the process has done nothing else."""
    pages, keys = (2_000, 200_000) if quick else (PAGES, KEYS)
    with serving(pages=pages) as served:
        listing_memory = asyncio.run(_list(served, pages))
        upload_memory = asyncio.run(_upload(served, keys))
    first, last = listing_memory[FIRST_SAMPLE_PAGE], listing_memory[pages]
    details = f"{first:.1f} MB at page {FIRST_SAMPLE_PAGE}, {last:.1f} MB at page {pages:,}"
    what = f"{pages:,} pages walked: memory over page {FIRST_SAMPLE_PAGE}"
    row = Row(what=what, goal=MAX_GROWTH_MB, value=last - first, at_most=True, unit="MB", details=details)
    return Result([row], {"memory": {"ours, uploading": upload_memory}})


async def _list(served: Served, pages: int) -> dict[int, float]:
    memory: dict[int, float] = {}
    keys = 0
    async with client(served) as gatepay:
        async for _ in gatepay.list_card_keys(PRODUCT, prefetch=PREFETCH):
            keys += 1
            if keys % ROWS_PER_PAGE == 0 and keys // ROWS_PER_PAGE in (FIRST_SAMPLE_PAGE, pages):
                memory[keys // ROWS_PER_PAGE] = resident()
    return memory


async def _upload(served: Served, count: int) -> list[tuple[int, float]]:
    """Return pairs: how many lines were read, and by how many MB memory had grown since the start."""
    memory: list[tuple[int, float]] = [(0, 0.0)]
    start = resident()

    def sample_memory(progress: UploadProgress) -> None:
        if progress.read - memory[-1][0] >= LINES_PER_SAMPLE:
            memory.append((progress.read, resident() - start))

    async with client(served) as gatepay:
        report = await gatepay.upload_card_keys(
            PRODUCT, _lines(count), concurrency=CONCURRENCY, on_progress=sample_memory
        )
    assert report.ok
    return memory


def _lines(count: int) -> Iterator[str]:
    return (f"KEY-{number:020d}" for number in range(count))
