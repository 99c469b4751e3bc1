"""The plugin hanging.py: a test that hangs ends soon, with its name and its stacks, and the other tests run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import python_path

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.hang_limit(180)]

TESTS = Path(__file__).parent
# Tests that hang in different ways, some followed by one that must pass. The stacks must contain `never`, `never_ends`.
TESTS_THAT_FAIL = """
import threading
import time

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def never():
    await anyio.sleep_forever()


def never_ends(*_):
    time.sleep(1000)  # hangs on purpose


async def test_task():
    async with anyio.create_task_group() as group:
        group.start_soon(never)


@pytest.mark.hang_limit(60)
async def test_after_task():
    await anyio.sleep(0.01)


async def test_blocks_the_loop():
    never_ends()


@pytest.mark.hang_limit(60)
async def test_after_a_blocked_loop():
    await anyio.sleep(0.01)


def test_thread():
    thread = threading.Thread(target=never_ends, daemon=True)
    thread.start()
    thread.join()


def test_swallows_once():
    try:
        time.sleep(1000)  # hangs on purpose
    except BaseException:
        never_ends()


@pytest.fixture
def leaving():
    yield
    never_ends()


def test_teardown(leaving):
    assert not "this fails, and then its teardown hangs"


@pytest.mark.hang_limit(60)
def test_last():
    pass
"""
TESTS_THAT_END_THE_PROCESS = """
import signal
import subprocess
import time

import anyio
import pytest


@pytest.mark.hang_limit(60)
def test_first():
    pass


@pytest.mark.parametrize("which", ["卡 密"])
def test_swallows_all(which):
    subprocess.Popen(["sleep", "86399"])
    while True:
        try:
            time.sleep(1000)  # hangs on purpose
        except BaseException:
            pass


@pytest.mark.hang_limit(60)
def test_between():
    pass


def test_ignores_alarm():
    signal.signal(signal.SIGALRM, lambda *_: None)
    while True:
        time.sleep(1000)  # hangs on purpose


@pytest.mark.hang_limit(60)
def test_last():
    pass
"""
TEST_WITH_A_HANGING_FIXTURE = """
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


@pytest.mark.hang_limit(60)
async def test_last():
    await anyio.sleep(0.01)
"""

# Raises the alarm while pytest writes the report of a test.
CONFTEST_WITH_AN_ALARM = """
import signal


def pytest_runtest_makereport(item, call):
    if call.when == "call":
        signal.raise_signal(signal.SIGALRM)
"""

TEST_THAT_LEAVES_A_THREAD = """
import threading


def test_left():
    threading.Thread(target=threading.Event().wait).start()
"""


def run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """
    Run *tests* in another pytest process, with a limit of one second for those that hang. Its output is in `stdout`.

    The process has no limit of its own: on a busy machine it may take minutes.
    """
    (folder / "test_it.py").write_text(tests, "utf-8")
    (folder / "pytest.ini").touch()
    plugins = ("hanging", "ending", "anyio.pytest_plugin", "xdist.plugin")
    command = [sys.executable, "-m", "pytest", *(f"-p{name}" for name in plugins), "--hang-limit=1", "-rA", *options]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": python_path(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )


def names_by_result(output: str) -> dict[str, set[str]]:
    """Return the names of the tests by their result, from the output of ``pytest -rA``."""
    results: dict[str, set[str]] = {}
    for kind, name in re.findall(r"^(PASSED|FAILED|ERROR) test_it\.py::(\w+)", output, re.MULTILINE):
        results.setdefault(kind, set()).add(name)
    return results


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_hanging_test_fails(tmp_path: Path, workers: str) -> None:
    """A test that hangs, anywhere in its code or its teardown, fails with all stacks; the other tests pass."""
    output = run(tmp_path, TESTS_THAT_FAIL, workers, "--hang-grace=40").stdout
    results = names_by_result(output)
    assert results["PASSED"] == {"test_after_task", "test_after_a_blocked_loop", "test_last"}, output
    assert results["FAILED"] == {
        "test_task", "test_blocks_the_loop", "test_thread", "test_swallows_once", "test_teardown"
    }, output  # fmt: skip
    assert results["ERROR"] == {"test_teardown"}
    assert output.count("in never\n") == 2  # on both loops
    assert "in never_ends\n" in output
    assert re.search(r"Thread Thread-\d+ \(never_ends\):", output)


def test_a_test_that_ignores_the_alarm_ends_its_worker(tmp_path: Path) -> None:
    """A test that ignores the alarm ends with its worker and the programs it started; the other tests pass."""
    output = run(tmp_path, TESTS_THAT_END_THE_PROCESS, "-n1", "--hang-grace=1").stdout
    results = names_by_result(output)
    assert results["PASSED"] == {"test_first", "test_between", "test_last"}, output
    assert results["FAILED"] == {"test_swallows_all", "test_ignores_alarm"}, output
    assert re.search(r"crashed while running 'test_it\.py::test_ignores_alarm'", output)
    assert "in test_ignores_alarm\n" in output
    assert not processes_with_argument("86399")


def test_a_test_that_ignores_the_alarm_ends_the_run(tmp_path: Path) -> None:
    """Without workers, a test that ignores the alarm ends the run. The output has its name and its stack."""
    # Without pytest-xdist nothing kills the program that the first test would leave, so it starts none.
    done = run(tmp_path, TESTS_THAT_END_THE_PROCESS.replace("subprocess.Popen", "print"), "-n0", "--hang-grace=1")
    assert done.returncode == 1
    assert "in <test test_it.py::test_swallows_all[" in done.stdout


def test_a_fixture_that_cant_be_cancelled_ends_its_worker(tmp_path: Path) -> None:
    """A fixture that can't be cancelled ends its worker, so that the next tests have a working event loop."""
    output = run(tmp_path, TEST_WITH_A_HANGING_FIXTURE, "-n1", "--hang-grace=40").stdout
    results = names_by_result(output)
    assert results["PASSED"] >= {"test_last"}, output
    assert results["FAILED"] == {"test_fixture"}, output
    assert output.count("PASSED test_it.py::test_last") == 2  # on both loops


def test_an_alarm_during_a_report_fails_nothing(tmp_path: Path) -> None:
    """An alarm while pytest writes a report fails no test, and the run continues."""
    (tmp_path / "conftest.py").write_text(CONFTEST_WITH_AN_ALARM, "utf-8")
    output = run(tmp_path, "def test_one(): pass\ndef test_two(): pass\n", "-n1").stdout
    assert names_by_result(output) == {"PASSED": {"test_one", "test_two"}}, output


def test_a_remaining_thread_does_not_block_the_end(tmp_path: Path) -> None:
    """A thread that is still running after the last test keeps the process alive only for a short time."""
    output = run(tmp_path, TEST_THAT_LEAVES_A_THREAD, "-n0", "--hang-grace=1").stdout
    assert names_by_result(output) == {"PASSED": {"test_left"}}, output
    assert "in _shutdown\n" in output


def processes_with_argument(word: str) -> list[str]:
    """Return the command lines of the processes with this argument."""
    command = ["ps", "-A", "-o", "args="]  # the options of POSIX
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if word in line.split()]
