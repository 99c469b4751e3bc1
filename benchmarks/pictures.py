"""Draw the two pictures of the results: throughput and memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# `hashsalt` makes the SVG file identical for identical data.
_SETTINGS: Any = {"svg.hashsalt": "gatepay-async", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}
_COLOURS = {
    "ours": "#0b6e4f",
    "raw httpx, bytes": "#c0392b",
    "aiohttp by hand, bytes": "#e08e0b",
    "niquests, bytes": "#8e44ad",
    "pyreqwest, decoded": "#2c6fbb",
    "floor, bytes": "#7f8c8d",
    "ours, deduplicating": "#0b6e4f",
    "ours, uploading": "#2fb380",
    "a plain set of text": "#c0392b",
}
_DASHED = ("floor, bytes",)
_RATES = (300, 1_000, 3_000, 10_000, 30_000, 100_000)  # the fastest is a hundred times as fast as the slowest


def draw(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw each picture that *data* has numbers for; return the paths."""
    drawn: list[Path] = []
    with mpl.rc_context(_SETTINGS):
        if "throughput" in data:
            drawn.append(_save(_throughput(data["throughput"]["asyncio"]), folder / "throughput.svg"))
        if "memory" in data:
            drawn.append(_save(_memory(data["memory"]), folder / "memory.svg"))
    return drawn


def _throughput(by_callers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    figure, axes = _new_figure("Pages of 50 card keys, over callers at once", "callers at once", "pages a second")
    callers = sorted(map(int, by_callers))
    for name in [name for name in by_callers[str(callers[0])] if name in _COLOURS]:
        rates = [by_callers[str(number)][name]["pages_a_second"] for number in callers]
        label = "ours, decoded" if name == "ours" else name
        _line(axes, name, callers, rates, label=label, marker="o")
    axes.set_xscale("log")
    axes.set_xticks(callers, [str(number) for number in callers])
    axes.set_yscale("log")
    axes.set_yticks(_RATES, [f"{rate:,}" for rate in _RATES])
    axes.minorticks_off()
    figure.legend(loc="outside right center", frameon=False)
    return figure


def _memory(by_name: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    figure, axes = _new_figure("Memory over the start, by lines read", "lines of 24 characters, in millions", "MB")
    for name, points in by_name.items():
        lines = [count / 1e6 for count, _ in points]
        _line(axes, name, lines, [used for _, used in points], label=name)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _new_figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    axes.plot(x, y, color=_COLOURS[name], linestyle="--" if name in _DASHED else "-", linewidth=2, **style)


def _save(figure: Figure, path: Path) -> Path:
    # No date, so that the file only changes with the data. A white background, because of pages in dark mode.
    figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    # matplotlib writes trailing spaces.
    path.write_text("\n".join(line.rstrip() for line in path.read_text("utf-8").splitlines()) + "\n", "utf-8")
    return path
