"""``{speed}``: what a page has cost, run by run, from benchmarks/results/history: a picture and a table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HISTORY = Path(__file__).parent.parent / "benchmarks" / "results" / "history"
CALLERS = "16"
# What is shown, and its colour.
SHOWN = {
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
BAR, GAP, LEFT, WIDTH = 16, 6, 190, 720

Run = dict[str, Any]


class Speed(SphinxDirective):
    """``{speed} picture``: the last run; ``{speed} table``: all runs, microseconds of CPU a page."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        words = WORDS["zh" if str(self.config.language).startswith("zh") else "en"]
        runs = read_history()
        for path in HISTORY.glob("*.json"):
            self.env.note_dependency(str(path))
        if self.arguments[0] == "table":
            return [table(runs, words)]
        return [nodes.raw("", picture(runs[-1], words), format="html")]


def read_history() -> list[Run]:
    """All runs that have measured it, the oldest first."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(HISTORY.glob("*.json"))]
    return [run for run in runs if CALLERS in run["throughput"].get("asyncio", {})]


def costs(run: Run) -> dict[str, float]:
    """Microseconds of CPU a page, by whom."""
    found = run["throughput"]["asyncio"][CALLERS]
    return {name: found[name]["cpu_us_a_page"] for name in SHOWN if name in found}


def label(name: str, words: dict[str, str]) -> str:
    """Who it is, for readers."""
    if name == "ours":
        return words["ours"]
    who, _, what = name.partition(", ")
    who = words["raw httpx"] if who == "raw httpx" else who.replace("by hand", words["by hand"])
    return f"{who}, {words[what]}" if words is WORDS["en"] else f"{who}，{words[what]}"


def table(runs: list[Run], words: dict[str, str]) -> nodes.Node:
    """A row for each run, the newest first."""
    head = [words["run"], *(label(name, words) for name in SHOWN)]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *(_row(_cells(run)) for run in reversed(runs)))
    return nodes.table("", group)


def _cells(run: Run) -> Iterator[str]:
    found = costs(run)
    yield f"{run['day']} {run['commit']}"
    for name in SHOWN:
        yield f"{found[name]:,.0f}" if name in found else "–"


def _row(cells: Iterator[str] | list[str]) -> nodes.Node:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


def picture(run: Run, words: dict[str, str]) -> str:
    """Bars, as SVG: no file, no script, and the colours of the text from the page."""
    found = costs(run)
    most = max(found.values()) / found["ours"]
    bars: list[str] = []
    for place, (name, cost) in enumerate(found.items()):
        times, top = cost / found["ours"], place * (BAR + GAP) + 24
        width = max(2.0, times / most * (WIDTH - LEFT - 60))
        bars.append(
            f'<text x="{LEFT - 8}" y="{top + 12}" text-anchor="end">{label(name, words)}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{SHOWN[name]}"/>'
            f'<text x="{LEFT + width + 6:.1f}" y="{top + 12}">{times:.2f}</text>'
        )
    height = len(found) * (BAR + GAP) + 24
    return (
        f'<svg role="img" aria-label="{words["title"]}" viewBox="0 0 {WIDTH} {height}" font-size="12" '
        f'fill="currentColor" style="max-width: 100%"><text x="{LEFT}" y="12">{words["title"]}</text>'
        f"{''.join(bars)}</svg>"
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls it."""
    app.add_directive("speed", Speed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
