"""Time to import the client, compared with `import httpx`."""

import subprocess
import sys
import time
from statistics import median

from benchmarks.measuring import Result, Row
from benchmarks.serving import ROOT

MAX_TIME_RATIO = 1.5
PROGRAMS = {"ours": "from gatepay_async import AsyncGatePay", "httpx": "import httpx", "nothing": "pass"}


def measure(*, quick: bool) -> Result:
    """Run the imports in turn, each in a new interpreter."""
    took: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(5 if quick else 25):
        for name, program in PROGRAMS.items():
            took[name].append(_run(program))
    ours, httpx, nothing = (median(took[name]) for name in ("ours", "httpx", "nothing"))
    value = median(own_time / httpx_time for own_time, httpx_time in zip(took["ours"], took["httpx"], strict=True))
    details = (
        f"{ours * 1000:.0f} ms against {httpx * 1000:.0f} ms, of which the interpreter {nothing * 1000:.0f} ms; "
        f"without it {(ours - nothing) / (httpx - nothing):.2f} ×"
    )
    what = "from gatepay_async import AsyncGatePay, against import httpx"
    return Result([Row(what=what, goal=MAX_TIME_RATIO, value=value, at_most=True, details=details)])


def _run(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    return time.perf_counter() - start
