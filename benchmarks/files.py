"""
`gatepay keys upload` with 1,000,000 card keys from text, CSV and Excel files; the server takes 20 ms for each call.

In each round, every file is uploaded once, in a new process, so that other load on the machine affects all files alike.
``python -m benchmarks.files --quick`` prints the results of one round with 100,000 card keys.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import xlsxwriter  # type: ignore[import-untyped]  # it has no types

from benchmarks.measuring import Result, Row
from benchmarks.peers import APPKEY, PRODUCT
from benchmarks.serving import Served, serving

KEYS, CONCURRENCY, LATENCY_S = 1_000_000, "auto", 0.02
MAX_TIME_RATIO, MAX_MEMORY_MB = 1.3, 150.0  # time relative to the text file
NAMES = ("keys.txt", "keys.csv", "keys.xlsx")

# Runs the command, then prints the seconds that it took, and its peak memory in MB over the memory after the imports.
PROGRAM = """
import json, threading, time
import psutil, typer.main
from gatepay_async import AsyncGatePay, UploadReport, client, upload
from gatepay_async.cli import app, checking, runner
from gatepay_async.cli.commands import keys_dry_run, keys_upload

command, process = typer.main.get_command(app.app), psutil.Process()
start, before = time.perf_counter(), process.memory_info().rss
peak, ended = [before], threading.Event()

def watch():
    while not ended.wait(0.005):
        peak[0] = max(peak[0], process.memory_info().rss)

watcher = threading.Thread(target=watch)
watcher.start()
try:
    command.main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    ended.set()
    watcher.join()
try:  # the kernel's own peak misses no moment; ru_maxrss would include the memory of the parent process
    with open("/proc/self/status") as status:
        peak[0] = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    pass
print(json.dumps([time.perf_counter() - start, (peak[0] - before) / 1e6]))
"""


def measure(*, quick: bool) -> Result:
    """Upload the files in turn, each in a process of its own."""
    count, rounds = (100_000, 1) if quick else (KEYS, 3)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder, serving(latency=LATENCY_S) as served:
        write_files(Path(folder), count)
        for _ in range(rounds):
            for name in NAMES:
                measured[name].append(upload(served, Path(folder) / name, count))
    rows: list[Row] = []
    text_seconds = median(seconds for seconds, _ in measured["keys.txt"])
    for name in NAMES:
        seconds = median(took for took, _ in measured[name])
        memory = max(used for _, used in measured[name])
        what = f"{count:,} card keys from {name}, {LATENCY_S * 1000:g} ms server, concurrency={CONCURRENCY}"
        goal = None if name == "keys.txt" else MAX_TIME_RATIO
        details = f"{seconds:.1f} s"
        rows.append(
            Row(
                what=f"{what}: time of the text file",
                goal=goal,
                value=seconds / text_seconds,
                at_most=True,
                details=details,
            )
        )
        row = Row(what=f"{what}: memory over the start", goal=MAX_MEMORY_MB, value=memory, at_most=True, unit="MB")
        rows.append(row)
    return Result(rows)


def write_files(folder: Path, count: int) -> None:
    """Write the same card keys as text, CSV and Excel. The workbook has one table for all texts, as Excel writes it."""
    # The multiplication makes neighbouring keys differ in many digits, as real ones do.
    keys = [f"KEY-{number * 7919 % 10**9:09d}-{number:07d}" for number in range(count)]
    (folder / "keys.txt").write_text("".join(f"{key}\n" for key in keys))
    (folder / "keys.csv").write_text("id,content\n" + "".join(f"{number},{key}\n" for number, key in enumerate(keys)))
    book = xlsxwriter.Workbook(str(folder / "keys.xlsx"))
    sheet = book.add_worksheet()
    sheet.write_string(0, 0, "content")
    for row, key in enumerate(keys, 1):
        sheet.write_string(row, 0, key)
    book.close()


def upload(served: Served, path: Path, count: int) -> tuple[float, float]:
    """Upload a file with the command; return the seconds and the peak memory in MB over the start."""
    served.counts()
    arguments = ["keys", "upload", str(path), "--product", str(PRODUCT), "--concurrency", str(CONCURRENCY), "--json"]
    settings = {"GATEPAY_BASE_URL": served.base_url, "GATEPAY_APPKEY": APPKEY, "GATEPAY_APPSECRET": "0" * 32}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert served.counts().lines == count
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


if __name__ == "__main__":
    for row in measure(quick="--quick" in sys.argv).rows:
        print(f"{row.what}: {row.value_text} {row.details} (goal: {row.goal_text or 'none'})")
