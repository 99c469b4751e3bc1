"""Standard streams that are closed, full, or read by nobody: no traceback, and the right exit status."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]  # real processes: a test's own streams are pytest's

Run = Callable[..., tuple[int, str]]
FULL = Path("/dev/full")
COMMANDS = (["--help"], ["errors"], ["errors", "--json"])


@pytest.fixture
def run(counting: dict[str, str]) -> Run:
    """The command, its streams redirected as a shell does: its status, and standard error."""

    def run(arguments: list[str], *, redirect: str, unbuffered: bool = False) -> tuple[int, str]:
        line = f'"$0" -m gatepay_async.cli "$@" {redirect}'
        settings = {"LANG": "en_GB.UTF-8", "PYTHONUNBUFFERED": "1" if unbuffered else ""}
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", line, sys.executable, *arguments],
            capture_output=True, encoding="utf-8", env=os.environ | counting | settings, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    return run


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk(run: Run) -> None:
    """What can't be written is said once, in a sentence, with a status of its own."""
    for unbuffered in (False, True):
        for arguments in COMMANDS:
            status, said = run(arguments, redirect=">/dev/full", unbuffered=unbuffered)
            assert (status, said.count("No space left")) == (5, 1), (arguments, said)
            assert len(said.splitlines()) == 1, (arguments, said)


def test_a_closed_pipe(run: Run) -> None:
    """A reader that has seen enough is no error: nothing is said."""
    for unbuffered in (False, True):
        for arguments in COMMANDS:
            status, said = run(arguments, redirect="| :", unbuffered=unbuffered)
            assert (status in (0, 141), said) == (True, ""), (arguments, said)


def test_closed_streams(run: Run) -> None:
    """A command whose streams are closed does its work; no file of its own takes their place."""
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        assert run(["errors"], redirect=closed)[0] == 0, closed
        assert run(["errors", "nowhere"], redirect=closed)[0] == 2, closed


def test_a_demo_with_closed_streams(run: Run) -> None:
    """Its sockets may get the numbers of standard streams, and nothing is written to them."""
    assert run(["demo"], redirect="<&- >&- 2>&-")[0] == 0


def test_card_keys_are_not_written_to_a_closed_stream(run: Run) -> None:
    """An export to standard output is refused while that is closed: it would lose every card key."""
    credentials = {"GATEPAY_APPKEY": "0" * 16, "GATEPAY_APPSECRET": "1" * 32}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials.items():
            environment.setenv(name, value)
        arguments = ["keys", "export", "--product", "8", "--output", "-"]
        status, said = run(arguments, redirect=">&-")
    assert status == 2
    assert "Standard output is closed" in said


def test_a_full_standard_error(run: Run) -> None:
    """Where even errors can't be written, the status still tells."""
    if FULL.exists():
        assert run(["errors", "nowhere"], redirect="2>/dev/full")[0] == 2
