"""
1,000,000 card keys from text, CSV and Excel files by the command, to a server that takes 20 ms for each call.

Files take turns, each round in a new process, so what else the machine does falls on all of them.
``python -m benchmarks.files --quick`` prints the figures of 100,000 card keys, in one round.
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

KEYS, CONCURRENCY, LATENCY = 1_000_000, "auto", 0.02
MOST_TIME, MOST_MEMORY = 1.3, 150.0
NAMES = ("keys.txt", "keys.csv", "keys.xlsx")

# Seconds, and the most memory (MB) over what it is when all is imported and no file has been looked at.
PROGRAM = """
import json, threading, time
import psutil, typer.main
from gatepay_async import AsyncGatePay, UploadReport, client, upload
from gatepay_async.cli import app, checking, runner
from gatepay_async.cli.commands import keys_dry_run, keys_upload

command, process = typer.main.get_command(app.app), psutil.Process()
start, before = time.perf_counter(), process.memory_info().rss
most, ended = [before], threading.Event()

def watch():
    while not ended.wait(0.005):
        most[0] = max(most[0], process.memory_info().rss)

watching = threading.Thread(target=watch)
watching.start()
try:
    command.main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    ended.set()
    watching.join()
try:  # what the system has seen, which no moment escapes; ru_maxrss would include whoever started this process
    with open("/proc/self/status") as status:
        most[0] = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    pass
print(json.dumps([time.perf_counter() - start, (most[0] - before) / 1e6]))
"""


def measure(*, quick: bool) -> Result:
    """Each file in turn, in processes of their own."""
    count, rounds = (100_000, 1) if quick else (KEYS, 3)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder, serving(latency=LATENCY) as served:
        write_files(Path(folder), count)
        for _ in range(rounds):
            for name in NAMES:
                found[name].append(upload(served, Path(folder) / name, count))
    rows: list[Row] = []
    text = median(seconds for seconds, _ in found["keys.txt"])
    for name in NAMES:
        seconds = median(each for each, _ in found[name])
        memory = max(each for _, each in found[name])
        what = f"{count:,} card keys from {name}, {LATENCY * 1000:g} ms server, concurrency={CONCURRENCY}"
        goal = None if name == "keys.txt" else MOST_TIME
        beside = f"{seconds:.1f} s"
        rows.append(
            Row(what=f"{what}: time of the text file", goal=goal, value=seconds / text, at_most=True, beside=beside)
        )
        row = Row(what=f"{what}: memory over the start", goal=MOST_MEMORY, value=memory, at_most=True, unit="MB")
        rows.append(row)
    return Result(rows)


def write_files(folder: Path, count: int) -> None:
    """The same card keys three times; the workbook as Excel writes it, with all texts in one table."""
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
    """Seconds, and MB over the start."""
    served.counts()
    arguments = ["keys", "upload", str(path), "--product", str(PRODUCT), "--concurrency", str(CONCURRENCY), "--json"]
    own = {"GATEPAY_BASE_URL": served.base_url, "GATEPAY_APPKEY": APPKEY, "GATEPAY_APPSECRET": "0" * 32}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=os.environ | own, capture_output=True, text=True, check=True
    )
    assert served.counts().lines == count
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


if __name__ == "__main__":
    for row in measure(quick="--quick" in sys.argv).rows:
        print(f"{row.what}: {row.measured} {row.beside} (wanted: {row.wanted or 'nothing'})")
