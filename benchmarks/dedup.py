"""
Memory and time of deduplicating ten million lines, and time for an input that is deduplicated in memory.

    python -m benchmarks.dedup ours 10000000

Measures what an upload does with its lines before it sends them: stripping, finding duplicates, building chunks. Each
measurement runs in a process of its own, so that it doesn't count memory of an earlier one.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil

from benchmarks.measuring import Result, Row, resident
from benchmarks.serving import ROOT
from gatepay_async.permits import Permits
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.retrying import Sent
from gatepay_async.upload import _Upload

MANY, FEW = 10_000_000, 500_000
MAX_MEMORY_MB, MAX_LINE_US, MAX_LINE_US_FEW = 350.0, 6.0, 0.6
# Memory that a plain set of all lines needs. With less free memory, the set gets a tenth of the lines.
_SET_NEEDS_BYTES = 2.5e9
_LINES_PER_SAMPLE = 100_000  # lines between two samples of the memory


def measure(*, quick: bool) -> Result:
    """Measure ours and a plain set, each in a process of its own."""
    many = MANY // 10 if quick else MANY
    ours = _in_new_process("ours", many)
    ours_few, plain_set_few = (
        _median_run([_in_new_process(method, FEW) for _ in range(1 if quick else 5)]) for method in ("ours", "set")
    )
    free = psutil.virtual_memory().available
    plain_set_many = _in_new_process("set", many if free > _SET_NEEDS_BYTES else many // 10)
    plain_set_values = (
        f"a plain set: {plain_set_many['peak_mb']:.0f} MB for {plain_set_many['lines']:,}, "
        f"{plain_set_many['us_per_line']:.2f} µs"
    )
    rows = [
        Row(
            what=f"{many:,} lines of 24 characters deduplicated: peak memory over the start",
            goal=MAX_MEMORY_MB,
            value=ours["peak_mb"],
            at_most=True,
            unit="MB",
            details=plain_set_values,
        ),
        Row(
            what=f"{many:,} lines deduplicated: time a line",
            goal=MAX_LINE_US,
            value=ours["us_per_line"],
            at_most=True,
            unit="µs",
            details=f"CPU {ours['cpu_us_per_line']:.2f} µs; {plain_set_values}",
        ),
        Row(
            what=f"{FEW:,} lines, below the threshold: time a line",
            goal=MAX_LINE_US_FEW,
            value=ours_few["us_per_line"],
            at_most=True,
            unit="µs",
            details=f"CPU {ours_few['cpu_us_per_line']:.2f} µs; a plain set: {plain_set_few['us_per_line']:.2f} µs",
        ),
    ]
    memory = {"ours, deduplicating": ours["memory"], "a plain set of text": plain_set_many["memory"]}
    return Result(rows, {"memory": memory})


def _median_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run with the median time."""
    return sorted(runs, key=lambda run: float(run["us_per_line"]))[len(runs) // 2]


def _in_new_process(method: str, lines: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.dedup", method, str(lines)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def deduplicated(lines: Iterable[str]) -> int:
    """Count the different lines with the part of an upload that runs before sending."""

    async def send(_: object) -> Sent[Stored]:
        raise NotImplementedError  # chunking alone never sends

    async def new_chunker() -> Chunker:  # `_Upload` needs a running event loop
        return _Upload(send, 8, Permits(1), None)._chunker

    chunker = asyncio.run(new_chunker())
    count = sum(len(chunk.keys) for chunk in chunker.chunks(lines))
    last = chunker.last_chunk()
    if last is not None:
        count += len(last.keys)
    return count


def plain_set(lines: Iterable[str]) -> int:
    """Count the different lines with a set, as a user would write it."""
    seen: set[str] = set()
    for line in lines:
        key = line.strip()
        if key and key not in seen:
            seen.add(key)
    return len(seen)


METHODS: dict[str, Callable[[Iterable[str]], int]] = {"ours": deduplicated, "set": plain_set}


class _PeakMemory:
    """Samples this process's memory every 50 ms in a thread."""

    def __init__(self) -> None:
        self.start = self.peak = resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, resident())

    def stop(self) -> float:
        """Stop sampling, and return the peak memory in MB over the start."""
        self._ended.set()
        self._thread.join()
        return self.peak - self.start


def _numbered_lines(count: int, memory: list[tuple[int, float]], start: float) -> Iterator[str]:
    """Generate different lines of 24 characters, and sample the memory into *memory* along the way."""
    for number in range(count):
        if number % _LINES_PER_SAMPLE == 0:
            memory.append((number, resident() - start))
        yield f"KEY-{number:020d}"


def _measure_here(method: str, count: int) -> dict[str, Any]:
    memory: list[tuple[int, float]] = []
    peak = _PeakMemory()
    generating_us = _generating_us(count)
    wall, cpu = time.perf_counter(), time.process_time()
    different = METHODS[method](_numbered_lines(count, memory, peak.start))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert different == count
    return {
        "lines": count,
        "us_per_line": wall / count * 1e6 - generating_us,
        "cpu_us_per_line": cpu / count * 1e6 - generating_us,
        "peak_mb": peak.stop(),
        "memory": memory,
    }


def _generating_us(count: int) -> float:
    """Return the microseconds that generating a line takes; subtracted from the measured time."""
    lines = min(count, _LINES_PER_SAMPLE * 5)
    start = time.process_time()
    for _ in _numbered_lines(lines, [], 0.0):
        pass
    return (time.process_time() - start) / lines * 1e6


def main() -> None:
    """Measure one method in this process."""
    parser = argparse.ArgumentParser(description="Deduplicates numbered lines.")
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("lines", type=int)
    options = parser.parse_args()
    print(json.dumps(_measure_here(options.method, options.lines)), flush=True)
    os._exit(0)  # skip freeing ten million strings, which takes longer than the measurement


if __name__ == "__main__":
    main()
