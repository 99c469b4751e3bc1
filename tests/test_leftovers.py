"""The plugin leftovers.py: what a failed test has left open doesn't fail the next test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import python_path

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

TESTS = Path(__file__).parent
TESTS_THAT_LEAVE_A_FILE = """
import gc


def test_that_fails():
    file = open(__file__)
    cycle = [file]
    cycle.append(cycle)
    raise ValueError


def test_after_it():
    gc.collect()
"""


def test_open_file_of_a_failed_test_does_not_fail_the_next_test(tmp_path: Path) -> None:
    """Only the first test fails, although its file is still open after it, and warnings are errors."""
    (tmp_path / "test_it.py").write_text(TESTS_THAT_LEAVE_A_FILE, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-pleftovers", "-rA"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": python_path(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout
