"""
Ten million lines deduplicated: memory over the start, and time a line; and so for an input that fits in memory.

    python -m benchmarks.dedup ours 10000000

What is timed is what an upload does with its lines before it sends them: cleaning, finding repetitions, cutting chunks.
Each measurement has a process of its own, or what one leaves behind would be counted for the next.
"""

import argparse
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
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.retrying import Sent
from gatepay_async.upload import _Upload

MANY, FEW = 10_000_000, 500_000
MOST_MEMORY, MOST_TIME, MOST_TIME_BELOW = 350.0, 6.0, 0.6
# A plain set of as many lines needs this much; less is free on some machines.
_PLAIN_NEEDS = 2.5e9
_EVERY = 100_000  # lines between two looks at the memory


def measure(*, quick: bool) -> Result:
    """Ours and a plain set, each in a process of its own."""
    many = MANY // 10 if quick else MANY
    ours = _apart("ours", many)
    below, below_set = (_middle([_apart(how, FEW) for _ in range(1 if quick else 5)]) for how in ("ours", "set"))
    room = psutil.virtual_memory().available
    plain = _apart("set", many if room > _PLAIN_NEEDS else many // 10)
    there = f"a plain set: {plain['peak']:.0f} MB for {plain['lines']:,}, {plain['us']:.2f} µs"
    rows = [
        Row(
            what=f"{many:,} lines of 24 characters deduplicated: peak memory over the start",
            goal=MOST_MEMORY,
            value=ours["peak"],
            at_most=True,
            unit="MB",
            beside=there,
        ),
        Row(
            what=f"{many:,} lines deduplicated: time a line",
            goal=MOST_TIME,
            value=ours["us"],
            at_most=True,
            unit="µs",
            beside=f"CPU {ours['cpu_us']:.2f} µs; {there}",
        ),
        Row(
            what=f"{FEW:,} lines, below the threshold: time a line",
            goal=MOST_TIME_BELOW,
            value=below["us"],
            at_most=True,
            unit="µs",
            beside=f"CPU {below['cpu_us']:.2f} µs; a plain set: {below_set['us']:.2f} µs",
        ),
    ]
    return Result(rows, {"memory": {"ours, deduplicating": ours["memory"], "a plain set of text": plain["memory"]}})


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run in the middle."""
    return sorted(runs, key=lambda run: float(run["us"]))[len(runs) // 2]


def _apart(how: str, lines: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.dedup", how, str(lines)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def deduplicated(lines: Iterable[str]) -> int:
    """How many different lines there are, by the first half of an upload."""

    async def send(_: object) -> Sent[Stored]:
        raise NotImplementedError  # nothing is sent

    chunker = _Upload(send, 8, Permits(1), None)._chunker
    rest = 0
    full = sum(len(chunk.keys) for chunk in chunker.chunks(lines))
    last = chunker.last_chunk()
    if last is not None:
        rest = len(last.keys)
    return full + rest


def plain_set(lines: Iterable[str]) -> int:
    """What a user would write."""
    seen: set[str] = set()
    for line in lines:
        key = line.strip()
        if key and key not in seen:
            seen.add(key)
    return len(seen)


HOW: dict[str, Callable[[Iterable[str]], int]] = {"ours": deduplicated, "set": plain_set}


class _Peak:
    """Looks at this process's memory over and over, from a thread."""

    def __init__(self) -> None:
        self.start = self.most = resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, resident())

    def stop(self) -> float:
        """MB over the start, at most."""
        self._ended.set()
        self._thread.join()
        return self.most - self.start


def _numbered(count: int, memory: list[tuple[int, float]], start: float) -> Iterator[str]:
    """Different lines of 24 characters, made as they are asked for, with a look at the memory now and then."""
    for number in range(count):
        if number % _EVERY == 0:
            memory.append((number, resident() - start))
        yield f"KEY-{number:020d}"


def _alone(how: str, count: int) -> dict[str, Any]:
    memory: list[tuple[int, float]] = []
    peak = _Peak()
    making = _making(count)
    wall, cpu = time.perf_counter(), time.process_time()
    found = HOW[how](_numbered(count, memory, peak.start))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert found == count
    return {
        "lines": count,
        "us": wall / count * 1e6 - making,
        "cpu_us": cpu / count * 1e6 - making,
        "peak": peak.stop(),
        "memory": memory,
    }


def _making(count: int) -> float:
    """Microseconds for making a line and not looking at it: no part of what is measured."""
    some = min(count, _EVERY * 5)
    start = time.process_time()
    for _ in _numbered(some, [], 0.0):
        pass
    return (time.process_time() - start) / some * 1e6


def main() -> None:
    """Measure one way, here."""
    parser = argparse.ArgumentParser(description="Deduplicates numbered lines.")
    parser.add_argument("how", choices=HOW)
    parser.add_argument("lines", type=int)
    given = parser.parse_args()
    print(json.dumps(_alone(given.how, given.lines)), flush=True)
    os._exit(0)  # freeing ten million texts one by one takes longer than the measurement


if __name__ == "__main__":
    main()
