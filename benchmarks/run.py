"""
Run the benchmarks, each in a process of its own, and save the results.

    python -m benchmarks.run                       run all benchmarks: about five minutes
    python -m benchmarks.run --quick               run shorter rounds: less than a minute, inaccurate results
    python -m benchmarks.run throughput overhead   run some benchmarks

Writes results.json, results.md and two pictures to benchmarks/results, or with --quick to benchmarks/results/quick.
The results of benchmarks that did not run stay in these files. Without --quick, it also adds a small file to
benchmarks/results/history, named after the day and the commit, for the page of the documentation about speed. Exits
with 1 if a benchmark failed or, without --quick, missed its goal.
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
from benchmarks.one import BENCHMARKS
from benchmarks.pictures import draw
from benchmarks.serving import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("httpx", "httpx2", "httptools", "anyio", "aiohttp", "niquests", "pyreqwest", "uvloop", "msgspec", "orjson")

Results = dict[str, dict[str, Any]]


def main() -> int:
    """Run the benchmarks, print the results and save them."""
    parser = argparse.ArgumentParser(description="Compares the client with what a user would write instead.")
    parser.add_argument("benchmarks", nargs="*", metavar="benchmark", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="shorter rounds: inaccurate results in less than a minute")
    options = parser.parse_args()
    unknown = [name for name in options.benchmarks if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    folder = RESULTS / "quick" if options.quick else RESULTS
    failed = False
    results = _saved_results(folder / "results.json")
    for name in options.benchmarks or BENCHMARKS:
        result = _measure(name, quick=options.quick)
        if result is None:
            failed = True
        else:
            results[name] = result
    _write(results, folder)
    if not options.quick:
        _record(
            {name: results[name] for name in options.benchmarks or BENCHMARKS if name in results}, folder / "history"
        )
    missed = [row for row in _rows(results) if row.meets_goal is False]
    print(f"\n{len(missed)} of {len(_rows(results))} goals are missed")
    return int(failed or (bool(missed) and not options.quick))


def _saved_results(path: Path) -> Results:
    results: Results = json.loads(path.read_text("utf-8"))["figures"] if path.exists() else {}
    return results


def _measure(name: str, *, quick: bool) -> dict[str, Any] | None:
    """Run one benchmark and print its rows; return None if it failed."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.one", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{name}, {time.perf_counter() - start:.0f} s", flush=True)
    if done.returncode:
        print(f"  failed with exit status {done.returncode}", flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for row in _rows({name: result}):
        mark = {True: "+", False: "-", None: " "}[row.meets_goal]
        print(f"  {mark} {row.what}: {row.value_text} (goal: {row.goal_text or 'none'})", flush=True)
        print(f"      {row.details}", flush=True)
    return result


def _rows(results: Results) -> list[Row]:
    return [Row(**row) for name in BENCHMARKS if name in results for row in results[name]["rows"]]


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    measured = {"with": _environment(), "figures": {name: results[name] for name in BENCHMARKS if name in results}}
    (folder / "results.json").write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "results.md").write_text(_table(_rows(results)), "utf-8")
    draw(_merged(results), folder)


def _record(results: Results, folder: Path) -> None:
    """Save the results of this run to the history, under the current commit."""
    git_log = ["git", "log", "-1", "--format=%cs %h"]
    done = subprocess.run(git_log, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return  # not a Git repository, such as a source archive
    day, commit = done.stdout.split()
    folder.mkdir(exist_ok=True)
    path = folder / f"{day}-{commit}.json"
    record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {"figures": {}, "throughput": {}}
    record["figures"] |= {row.what: [row.value and float(f"{row.value:.3g}"), row.unit] for row in _rows(results)}
    record["throughput"] = _merged(results).get("throughput", record["throughput"])
    run = {"day": day, "commit": commit, "with": _environment(), **record}
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _environment() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name))
    return f"Python {platform.python_version()}, {platform.system()}, {psutil.cpu_count()} CPUs; {packages}"


def _table(rows: list[Row]) -> str:
    lines = [
        f"Measured with {_environment()}.",
        "",
        "| benchmark | goal | result | details |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        mark = {True: " ✓", False: " ✗", None: ""}[row.meets_goal]
        lines.append(f"| {row.what} | {row.goal_text} | {row.value_text}{mark} | {row.details} |")
    return "\n".join(lines) + "\n"


def _merged(results: Results) -> dict[str, Any]:
    """Merge the data for the pictures: several benchmarks add lines to one picture."""
    data: dict[str, Any] = {}
    for result in results.values():
        for picture, lines in result["data"].items():
            data.setdefault(picture, {}).update(lines)
    return data


if __name__ == "__main__":
    sys.exit(main())
