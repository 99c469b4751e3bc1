"""A part of every_command.py's table: a command of each kind, under all conditions. `nox -s commands` makes all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from every_command import COMMANDS_WITH_A_ROW, command_paths
from typer.main import get_command

from gatepay_async.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]

PROGRAM = Path(__file__).parents[1] / "every_command.py"
A_PART = ("login", "products", "keys upload, no such product", "keys export", "uploads show", "pay", "errors")


def test_no_command_is_missing() -> None:
    """Each command has a row, so that `nox -s commands` looks at it."""
    assert set(command_paths(get_command(app))) <= COMMANDS_WITH_A_ROW


def test_commands_under_all_conditions() -> None:
    """No traceback, no broken number, a right exit status; a failure shows the cells."""
    words = [sys.executable, "-W", "error", str(PROGRAM), *A_PART]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
