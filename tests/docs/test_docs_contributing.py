"""Tests the example in CONTRIBUTING, "A new endpoint, in four steps", on a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gatepay_async

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]  # starts a process

PACKAGE = Path(gatepay_async.__file__).parent
CONTRIBUTING = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
STEPS = CONTRIBUTING.partition("## A new endpoint, in four steps\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(python|text)(?: [^\n]*)?\n(.*?)^```$", STEPS, re.DOTALL | re.MULTILINE)
PLACE = re.compile(r"# src/gatepay_async/(\S+), (at the end|below|above)(?:: (.*))?\n")


def apply(block: str, package: Path) -> None:
    """Insert *block* into the file and at the place that its first line names."""
    place = PLACE.match(block)
    assert place is not None
    path, where, line = package / place[1], place[2], place[3]
    lines = path.read_text("utf-8").splitlines(keepends=True)
    position = len(lines)
    if where != "at the end":
        [position] = [index for index, text in enumerate(lines) if text.strip() == line]
        position += where == "below"
    path.write_text(
        "".join([*lines[:position], "\n" if where == "at the end" else "", block[place.end() :], *lines[position:]]),
        "utf-8",
    )


@pytest.mark.slow
def test_the_example_endpoint_works(tmp_path: Path) -> None:
    """The blocks, inserted at their places, add an endpoint that can be called and refused."""
    pytest.importorskip("starlette", reason="the extra `sandbox` is not installed")
    shutil.copytree(PACKAGE, tmp_path / "gatepay_async", ignore=shutil.ignore_patterns("cli", "durable", "docs"))
    *steps, (_, program), (_, printed) = BLOCKS
    for _, block in steps:
        apply(block, tmp_path / "gatepay_async")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (result.stderr, result.stdout) == ("", printed)
