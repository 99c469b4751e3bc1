"""A test that hangs, in whatever way, ends soon, with its name and its stacks; the others run."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]

TESTS = Path(__file__).parent
# Each test is called after what it shows. `never` is the function that must be found in the stacks.
FAILED = """
import threading
import time

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def never():
    await anyio.sleep_forever()


def never_ends(*_):
    time.sleep(1000)  # hangs: the test that is tested


async def test_task():
    async with anyio.create_task_group() as group:
        group.start_soon(never)


async def test_after_task():
    await anyio.sleep(0.01)


async def test_blocks_the_loop():
    never_ends()


async def test_after_a_blocked_loop():
    await anyio.sleep(0.01)


def test_thread():
    thread = threading.Thread(target=never_ends, daemon=True)
    thread.start()
    thread.join()


def test_swallows_once():
    try:
        time.sleep(1000)  # hangs: the test that is tested
    except BaseException:
        never_ends()


@pytest.fixture
def leaving():
    yield
    never_ends()


def test_teardown(leaving):
    assert not "this fails, and then its teardown hangs"


def test_last():
    pass
"""
ENDED = """
import signal
import subprocess
import time

import anyio
import pytest


def test_first():
    pass


@pytest.mark.parametrize("which", ["卡 密"])
def test_swallows_all(which):
    subprocess.Popen(["sleep", "86399"])
    while True:
        try:
            time.sleep(1000)  # hangs: the test that is tested
        except BaseException:
            pass


def test_between():
    pass


def test_deaf():
    signal.signal(signal.SIGALRM, lambda *_: None)
    while True:
        time.sleep(1000)  # hangs: the test that is tested


def test_last():
    pass
"""
FIXTURE = """
import anyio
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shielded():
    yield
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def test_fixture(shielded):
    pass


async def test_last():
    await anyio.sleep(0.01)
"""

# The alarm strikes while pytest writes its report of a test, as it may on a busy machine.
REPORTED = """
import signal


def pytest_runtest_makereport(item, call):
    if call.when == "call":
        signal.raise_signal(signal.SIGALRM)
"""

LEFT = """
import threading


def test_left():
    threading.Thread(target=threading.Event().wait).start()
"""


def run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """These tests in a pytest of their own, with a limit of a second; what it says stands in `stdout`."""
    (folder / "test_it.py").write_text(tests, "utf-8")
    (folder / "pytest.ini").touch()
    plugins = ("hanging", "ending", "anyio.pytest_plugin", "xdist.plugin")
    command = [sys.executable, "-m", "pytest", *(f"-p{name}" for name in plugins), "--hang-limit=1", "-rA", *options]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def outcomes(told: str) -> dict[str, set[str]]:
    """What pytest says at the end, by the name of the test."""
    found: dict[str, set[str]] = {}
    for kind, name in re.findall(r"^(PASSED|FAILED|ERROR) test_it\.py::(\w+)", told, re.MULTILINE):
        found.setdefault(kind, set()).add(name)
    return found


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_test_is_failed(tmp_path: Path, workers: str) -> None:
    """In Python, on a loop, in a thread or in a teardown: a test that hangs fails, with all stacks; the others pass."""
    told = run(tmp_path, FAILED, workers, "--hang-grace=40").stdout
    found = outcomes(told)
    assert found["PASSED"] == {"test_after_task", "test_after_a_blocked_loop", "test_last"}, told
    assert found["FAILED"] == {
        "test_task", "test_blocks_the_loop", "test_thread", "test_swallows_once", "test_teardown"
    }, told  # fmt: skip
    assert found["ERROR"] == {"test_teardown"}
    assert told.count("in never\n") == 2  # on both loops
    assert "in never_ends\n" in told
    assert re.search(r"Thread Thread-\d+ \(never_ends\):", told)


def test_a_process_is_ended(tmp_path: Path) -> None:
    """A test that can't be failed is ended with its worker, named, and its programs with it; the others pass."""
    told = run(tmp_path, ENDED, "-n1", "--hang-grace=1").stdout
    found = outcomes(told)
    assert found["PASSED"] == {"test_first", "test_between", "test_last"}, told
    assert found["FAILED"] == {"test_swallows_all", "test_deaf"}, told
    assert re.search(r"crashed while running 'test_it\.py::test_deaf'", told)
    assert "in test_deaf\n" in told
    assert not processes("86399")


def test_a_process_is_ended_without_workers(tmp_path: Path) -> None:
    """Where there are no workers the run ends, and says which test it was, and where."""
    begun = time.monotonic()
    done = run(tmp_path, ENDED.replace("subprocess.Popen", "print"), "-n0", "--hang-grace=1")
    assert time.monotonic() - begun < PATIENCE
    assert done.returncode == 1
    assert "in <test test_it.py::test_swallows_all[" in done.stdout


def test_a_fixture_that_cant_be_cancelled(tmp_path: Path) -> None:
    """A loop that goes on waiting is ended with its worker, so that the tests after it have a loop that works."""
    told = run(tmp_path, FIXTURE, "-n1", "--hang-grace=40").stdout
    found = outcomes(told)
    assert found["PASSED"] >= {"test_last"}, told
    assert found["FAILED"] == {"test_fixture"}, told
    assert told.count("PASSED test_it.py::test_last") == 2  # on both loops


def test_an_alarm_between_two_phases(tmp_path: Path) -> None:
    """An alarm that strikes while pytest writes a report fails nothing, and the run goes on."""
    (tmp_path / "conftest.py").write_text(REPORTED, "utf-8")
    told = run(tmp_path, "def test_one(): pass\ndef test_two(): pass\n", "-n1").stdout
    assert outcomes(told) == {"PASSED": {"test_one", "test_two"}}, told


def test_a_thread_that_is_left(tmp_path: Path) -> None:
    """A thread that would keep the process after the last test doesn't keep it for long."""
    told = run(tmp_path, LEFT, "-n0", "--hang-grace=1").stdout
    assert outcomes(told) == {"PASSED": {"test_left"}}, told
    assert "in _shutdown\n" in told


def processes(word: str) -> list[str]:
    """The command lines with this word."""
    command = ["ps", "-A", "-o", "args="]  # as POSIX has it
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if word in line.split()]
