"""Tests a part of every_command.py's table: some commands under all conditions. `nox -s commands` tests all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from every_command import COMMANDS_WITH_A_ROW, command_paths
from typer.main import get_command

from gatepay_async.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

PROGRAM = Path(__file__).parents[1] / "every_command.py"
TESTED_ROWS = ("login", "products", "keys upload, no such product", "keys export", "pay", "errors")


def test_each_command_has_a_row() -> None:
    assert set(command_paths(get_command(app))) <= COMMANDS_WITH_A_ROW


@pytest.mark.hang_limit(200)  # eighty processes
def test_commands_behave_under_all_conditions() -> None:
    """No command prints a traceback or breaks a number, and each has its exit status. A failure prints the table."""
    words = [sys.executable, "-W", "error", str(PROGRAM), *TESTED_ROWS]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
