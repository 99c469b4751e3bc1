"""How long `gatepay --help` takes to its first output, against importing what it is made with."""

import subprocess
import sys
import time
from statistics import median

from benchmarks.measuring import Result, Row
from benchmarks.serving import ROOT

WANTED = 2
PROGRAMS = {
    "help": [sys.executable, "-m", "gatepay_async.cli", "--help"],
    "typer": [sys.executable, "-c", "import typer; print()"],
    "nothing": [sys.executable, "-c", "print()"],
}


def measure(*, quick: bool) -> Result:
    """A new process each time, in turn; both from the start to the first byte on standard output."""
    took: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(5 if quick else 25):
        for name, program in PROGRAMS.items():
            took[name].append(_first_byte(program))
    ours, typer, nothing = (median(took[name]) for name in PROGRAMS)
    value = median(one / other for one, other in zip(took["help"], took["typer"], strict=True))
    beside = f"{ours * 1000:.0f} ms against {typer * 1000:.0f} ms, of which the interpreter {nothing * 1000:.0f} ms"
    row = Row(what="gatepay --help, against import typer", goal=WANTED, value=value, at_most=True, beside=beside)
    return Result([row])


def _first_byte(program: list[str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        took = time.perf_counter() - start
        process.stdout.read()
    return took
