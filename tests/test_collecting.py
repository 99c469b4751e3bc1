"""The tests have the same names, in the same order, in every process: workers that share them must agree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180)]

ROOT = Path(__file__).parents[1]


def test_names_do_not_depend_on_the_process() -> None:
    """Two processes that hash differently collect the same tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    collecting = [
        subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    ids = [[line for line in process.communicate()[0].splitlines() if b"::" in line] for process in collecting]
    assert [process.returncode for process in collecting] == [0, 0]
    assert len(ids[0]) > len(list((ROOT / "tests").rglob("test_*.py")))
    assert ids[0] == ids[1]
