"""Tests of standard streams that are closed, full, or a closed pipe: no traceback, and the right exit status."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# These tests start processes, because pytest replaces the streams of its own process.
pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

Run = Callable[..., tuple[int, str]]
FULL_DEVICE = Path("/dev/full")
COMMANDS = (["--help"], ["errors"], ["errors", "--json"], ["errors", "nowhere", "--json"])


@pytest.fixture
def run(counting: dict[str, str]) -> Run:
    """Runs the command with streams redirected by a shell. Returns the exit status and standard error."""

    def run(arguments: list[str], *, redirect: str, unbuffered: bool = False) -> tuple[int, str]:
        line = f'"$0" -m gatepay_async.cli "$@" {redirect}'
        settings = {"LANG": "en_GB.UTF-8", "PYTHONUNBUFFERED": "1" if unbuffered else ""}
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", line, sys.executable, *arguments],
            capture_output=True, encoding="utf-8", env=os.environ | counting | settings, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    return run


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="this system has no /dev/full")
def test_full_disk_is_reported_once(run: Run) -> None:
    """Output that can't be written causes one line on standard error and status 5."""
    for unbuffered in (False, True):
        for arguments in COMMANDS:
            status, stderr = run(arguments, redirect=">/dev/full", unbuffered=unbuffered)
            assert (status, stderr.count("No space left")) == (5, 1), (arguments, stderr)
            assert len(stderr.splitlines()) == 1, (arguments, stderr)


def test_closed_pipe_is_silent(run: Run) -> None:
    """A reader that stops early, such as ``head``, causes no error message."""
    for unbuffered in (False, True):
        for arguments in COMMANDS:
            status, stderr = run(arguments, redirect="| :", unbuffered=unbuffered)
            assert (status in (0, 2, 141), stderr) == (True, ""), (arguments, stderr)


def test_command_works_with_closed_streams(run: Run) -> None:
    """A command with closed streams succeeds, and its own files don't get the descriptors of the streams."""
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        assert run(["errors"], redirect=closed)[0] == 0, closed
        assert run(["errors", "nowhere"], redirect=closed)[0] == 2, closed


def test_demo_doesnt_write_to_sockets_in_place_of_closed_streams(run: Run) -> None:
    """The sockets of the demo may get the descriptors of closed standard streams; no output is written to them."""
    assert run(["demo"], redirect="<&- >&- 2>&-")[0] == 0


def test_export_to_closed_standard_output_is_refused(run: Run) -> None:
    """An export to closed standard output would lose every card key, so it is refused."""
    credentials = {"GATEPAY_APPKEY": "0" * 16, "GATEPAY_APPSECRET": "1" * 32}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials.items():
            environment.setenv(name, value)
        arguments = ["keys", "export", "--product", "8", "--output", "-"]
        status, stderr = run(arguments, redirect=">&-")
    assert status == 2
    assert "Standard output is closed" in stderr


def test_full_standard_error_keeps_the_exit_status(run: Run) -> None:
    if FULL_DEVICE.exists():
        assert run(["errors", "nowhere"], redirect="2>/dev/full")[0] == 2
