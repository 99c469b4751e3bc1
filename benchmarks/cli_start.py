"""Time of `gatepay --help` until its first output, compared with importing typer."""

import subprocess
import sys
import time
from statistics import median

from benchmarks.measuring import Result, Row
from benchmarks.serving import ROOT

MAX_TIME_RATIO = 2
PROGRAMS = {
    "help": [sys.executable, "-m", "gatepay_async.cli", "--help"],
    "typer": [sys.executable, "-c", "import typer; print()"],
    "nothing": [sys.executable, "-c", "print()"],
}


def measure(*, quick: bool) -> Result:
    """Run the programs in turn, each in a new process, and time them until their first byte on standard output."""
    took: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(5 if quick else 25):
        for name, program in PROGRAMS.items():
            took[name].append(_seconds_to_first_byte(program))
    ours, typer, nothing = (median(took[name]) for name in PROGRAMS)
    value = median(help_time / typer_time for help_time, typer_time in zip(took["help"], took["typer"], strict=True))
    details = f"{ours * 1000:.0f} ms against {typer * 1000:.0f} ms, of which the interpreter {nothing * 1000:.0f} ms"
    row = Row(
        what="gatepay --help, against import typer", goal=MAX_TIME_RATIO, value=value, at_most=True, details=details
    )
    return Result([row])


def _seconds_to_first_byte(program: list[str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        took = time.perf_counter() - start
        process.stdout.read()
    return took
