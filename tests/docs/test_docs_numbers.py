"""Numbers in the documentation equal those in the code."""

import inspect
import re
from pathlib import Path

import pytest
from attrs import asdict

from gatepay_async import AsyncGatePay, RetryPolicy

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

DOCS = Path(__file__).parents[2] / "docs"


def test_documented_defaults_equal_those_in_the_code() -> None:
    """The page about time-outs lists each setting with its default, in both languages."""
    parameters = inspect.signature(AsyncGatePay).parameters
    defaults = {name: parameters[name].default for name in ("timeout", "deadline")} | asdict(RetryPolicy())
    for language in ("en", "zh"):
        page = (DOCS / language / "howto" / "timeouts.md").read_text("utf-8")
        rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)(?: \w+)? \|", page, re.MULTILINE)
        assert {name: float(number) for name, number in rows} == defaults, language
