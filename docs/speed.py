"""The directive ``{speed}``: the CPU time of fetching one page of card keys, from benchmarks/results/history."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HISTORY = Path(__file__).parent.parent / "benchmarks" / "results" / "history"
CALLERS = "16"  # concurrent tasks in the benchmark
# The libraries that are shown, and the colours of their bars.
COLOURS = {
    "ours": "#0b6e4f",
    "raw httpx, bytes": "#c0392b",
    "httpx2, bytes": "#d98880",
    "aiohttp by hand, bytes": "#e08e0b",
    "aiohttp by hand, decoded": "#f0b95a",
    "niquests, bytes": "#8e44ad",
    "pyreqwest, bytes": "#7fb3e6",
    "pyreqwest, decoded": "#2c6fbb",
}
WORDS = {
    "en": {
        "run": "Run",
        "ours": "ours, decoded",
        "bytes": "bytes",
        "decoded": "decoded",
        "by hand": "by hand",
        "raw httpx": "raw httpx",
        "title": "CPU of a page, ours = 1",
    },
    "zh": {
        "run": "运行",
        "ours": "本库，已解码",
        "bytes": "仅字节",
        "decoded": "已解码",
        "by hand": "手写",
        "raw httpx": "原生 httpx",
        "title": "每页的 CPU 时间，本库 = 1",
    },
}
BAR, GAP, LEFT, WIDTH = 16, 6, 190, 720  # in pixels: height of a bar, space below it, width of the labels and of all

Run = dict[str, Any]


class Speed(SphinxDirective):
    """``{speed} picture`` shows the last run, ``{speed} table`` all runs, in microseconds of CPU per page."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Return the picture or the table."""
        words = WORDS["zh" if str(self.config.language).startswith("zh") else "en"]
        runs = read_history()
        for path in HISTORY.glob("*.json"):
            self.env.note_dependency(str(path))
        if self.arguments[0] == "table":
            return [table(runs, words)]
        return [nodes.raw("", picture(runs[-1], words), format="html")]


def read_history() -> list[Run]:
    """Return all runs with this measurement, oldest first."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(HISTORY.glob("*.json"))]
    return [run for run in runs if CALLERS in run["throughput"].get("asyncio", {})]


def cpu_per_page(run: Run) -> dict[str, float]:
    """Return the microseconds of CPU per page for each library."""
    cpu = run["throughput"]["asyncio"][CALLERS]
    return {name: cpu[name]["cpu_us_a_page"] for name in COLOURS if name in cpu}


def label(name: str, words: dict[str, str]) -> str:
    """Return the name of a library for readers."""
    if name == "ours":
        return words["ours"]
    library, _, result = name.partition(", ")
    library = words["raw httpx"] if library == "raw httpx" else library.replace("by hand", words["by hand"])
    return f"{library}, {words[result]}" if words is WORDS["en"] else f"{library}，{words[result]}"


def table(runs: list[Run], words: dict[str, str]) -> nodes.Node:
    """Return a table with a row for each run, newest first."""
    head = [words["run"], *(label(name, words) for name in COLOURS)]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *(_row(_cells(run)) for run in reversed(runs)))
    return nodes.table("", group)


def _cells(run: Run) -> Iterator[str]:
    cpu = cpu_per_page(run)
    yield f"{run['day']} {run['commit']}"
    for name in COLOURS:
        yield f"{cpu[name]:,.0f}" if name in cpu else "–"


def _row(cells: Iterator[str] | list[str]) -> nodes.Node:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


def picture(run: Run, words: dict[str, str]) -> str:
    """Return a bar chart as SVG, which uses the text colour of the page."""
    cpu = cpu_per_page(run)
    maximum = max(cpu.values()) / cpu["ours"]
    bars: list[str] = []
    for index, (name, microseconds) in enumerate(cpu.items()):
        ratio, top = microseconds / cpu["ours"], index * (BAR + GAP) + 24
        width = max(2.0, ratio / maximum * (WIDTH - LEFT - 60))
        bars.append(
            f'<text x="{LEFT - 8}" y="{top + 12}" text-anchor="end">{label(name, words)}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[name]}"/>'
            f'<text x="{LEFT + width + 6:.1f}" y="{top + 12}">{ratio:.2f}</text>'
        )
    height = len(cpu) * (BAR + GAP) + 24
    return (
        f'<svg role="img" aria-label="{words["title"]}" viewBox="0 0 {WIDTH} {height}" font-size="12" '
        f'fill="currentColor" style="max-width: 100%"><text x="{LEFT}" y="12">{words["title"]}</text>'
        f"{''.join(bars)}</svg>"
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect this extension. Sphinx calls it."""
    app.add_directive("speed", Speed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
