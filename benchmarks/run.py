"""
Measures the figures, each in a process of its own, and writes down what came of it.

    python -m benchmarks.run                       all of them: some five minutes
    python -m benchmarks.run --quick               a look: less than one minute, and the figures are rough
    python -m benchmarks.run throughput overhead   some of them

Writes results.json, results.md and two pictures into benchmarks/results, and with --quick into
benchmarks/results/quick; figures that are not asked for stay there as they were. Without --quick it also adds a small
file to benchmarks/results/history, named after the day and the commit: a page of the documentation shows them all.
Exits with 1 if a figure is not what is wanted, but for --quick.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measuring import Row
from benchmarks.one import FIGURES
from benchmarks.pictures import draw
from benchmarks.serving import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("httpx", "httpx2", "httptools", "anyio", "aiohttp", "niquests", "pyreqwest", "uvloop", "msgspec", "orjson")

Found = dict[str, dict[str, Any]]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measures what is fast beside what a user would write instead.")
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"some of: {', '.join(FIGURES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="short rounds: rough figures in less than a minute")
    given = parser.parse_args()
    strange = [name for name in given.figures if name not in FIGURES]
    if strange:
        parser.error(f"no figure {', '.join(strange)}; there are {', '.join(FIGURES)}")
    folder = RESULTS / "quick" if given.quick else RESULTS
    failed = False
    found = _earlier(folder / "results.json")
    for name in given.figures or FIGURES:
        result = _measure(name, quick=given.quick)
        if result is None:
            failed = True
        else:
            found[name] = result
    _write(found, folder)
    if not given.quick:
        _record({name: found[name] for name in given.figures or FIGURES if name in found}, folder / "history")
    missed = [row for row in _rows(found) if row.met is False]
    print(f"\n{len(missed)} of {len(_rows(found))} figures are not what is wanted")
    return int(failed or (bool(missed) and not given.quick))


def _earlier(path: Path) -> Found:
    found: Found = json.loads(path.read_text("utf-8"))["figures"] if path.exists() else {}
    return found


def _measure(name: str, *, quick: bool) -> dict[str, Any] | None:
    """Run one figure and print its rows; None: it broke."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.one", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{name}, {time.perf_counter() - start:.0f} s", flush=True)
    if done.returncode:
        print(f"  broke, with {done.returncode}", flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for row in _rows({name: result}):
        mark = {True: "+", False: "-", None: " "}[row.met]
        print(f"  {mark} {row.what}: {row.measured} (wanted: {row.wanted or 'no figure'})", flush=True)
        print(f"      {row.beside}", flush=True)
    return result


def _rows(found: Found) -> list[Row]:
    return [Row(**row) for name in FIGURES if name in found for row in found[name]["rows"]]


def _write(found: Found, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    measured = {"with": _with(), "figures": {name: found[name] for name in FIGURES if name in found}}
    (folder / "results.json").write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "results.md").write_text(_table(_rows(found)), "utf-8")
    draw(_merged(found), folder)


def _record(found: Found, folder: Path) -> None:
    """What was measured in this run, by the commit that it was measured of."""
    described = ["git", "log", "-1", "--format=%cs %h"]
    done = subprocess.run(described, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return  # a source archive knows no commit
    day, commit = done.stdout.split()
    folder.mkdir(exist_ok=True)
    path = folder / f"{day}-{commit}.json"
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {"figures": {}, "throughput": {}}
    kept["figures"] |= {row.what: [row.value and float(f"{row.value:.3g}"), row.unit] for row in _rows(found)}
    kept["throughput"] = _merged(found).get("throughput", kept["throughput"])
    run = {"day": day, "commit": commit, "with": _with(), **kept}
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _with() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name))
    return f"Python {platform.python_version()}, {platform.system()}, {psutil.cpu_count()} CPUs; {packages}"


def _table(rows: list[Row]) -> str:
    lines = [f"Measured with {_with()}.", "", "| what | wanted | measured | beside it |", "| --- | --- | --- | --- |"]
    for row in rows:
        mark = {True: " ✓", False: " ✗", None: ""}[row.met]
        lines.append(f"| {row.what} | {row.wanted} | {row.measured}{mark} | {row.beside} |")
    return "\n".join(lines) + "\n"


def _merged(found: Found) -> dict[str, Any]:
    """The numbers for the pictures; several modules add lines to one."""
    data: dict[str, Any] = {}
    for result in found.values():
        for picture, lines in result["data"].items():
            data.setdefault(picture, {}).update(lines)
    return data


if __name__ == "__main__":
    sys.exit(main())
