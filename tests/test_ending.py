"""The plugin ending.py: SIGTERM ends pytest and every process that it started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import python_path
from waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

TESTS = Path(__file__).parent
# Two tests that handle SIGTERM themselves: through the command's runner, and on asyncio's event loop.
TESTS_THAT_RUN = '''
import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from gatepay_async.cli import runner


def start_programs():
    """Start a program that ignores SIGTERM, one in another session, and one with a child process."""
    # They sleep for a day, so that only the end of the run can end them. No test waits for these sleeps.
    ignores_sigterm = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(86398)"
    subprocess.Popen([sys.executable, "-c", ignores_sigterm, MARK])
    subprocess.Popen(["sleep", "86397"], start_new_session=True)
    subprocess.Popen(["/bin/sh", "-c", "sleep 86396 & wait"])


async def work(name):
    start_programs()
    Path(f"{name}.running").touch()
    await anyio.sleep_forever()


def test_command():
    runner.run_and_exit(work, "command")


def test_loop():
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        await work("loop")

    asyncio.run(main())
'''


def processes_of_run(mark: str) -> list[int]:
    """Return the IDs of a run's processes. They inherit the environment variable *mark*."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdecimal() and file_contains(folder / "environ", mark)
    ]


def file_contains(path: Path, mark: str) -> bool:
    try:
        return mark.encode() in path.read_bytes()
    except OSError:  # the process has ended, or is another user's
        return False


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by their environment")
@pytest.mark.parametrize(("workers", "tests"), [("-n2", ["command", "loop"]), ("-n0", ["command"]), ("-n0", ["loop"])])
def test_sigterm_ends_the_run_and_its_programs(tmp_path: Path, workers: str, tests: list[str]) -> None:
    """SIGTERM ends the run and every process that it started, even during a test that handles SIGTERM itself."""
    mark = f"GATEPAY_TEST_RUN={tmp_path.name}-{os.getpid()}"
    (tmp_path / "test_it.py").write_text(TESTS_THAT_RUN.replace("MARK", repr(mark)), "utf-8")
    (tmp_path / "pytest.ini").touch()
    plugins = ("hanging", "ending", "xdist.plugin")
    command = [sys.executable, "-m", "pytest", *(f"-p{name}" for name in plugins), workers, "-k", " or ".join(tests)]
    environ = (
        os.environ | {"PYTHONPATH": python_path(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | dict([mark.split("=")])
    )
    with (tmp_path / "out").open("wb") as out:
        run = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: all((tmp_path / f"{name}.running").exists() for name in tests))
        # The run itself, and four processes for each test. The shell's child may start late.
        wait_until(lambda: len(processes_of_run(mark)) >= 1 + 4 * len(tests))
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == -signal.SIGTERM
        wait_until(lambda: not processes_of_run(mark), seconds=5)
        assert "ended by SIGTERM during" in (tmp_path / "out").read_text("utf-8")
    finally:
        for pid in processes_of_run(mark):
            os.kill(pid, signal.SIGKILL)
        run.wait()
