"""SIGTERM ends pytest, whatever runs just then, and with it every process that it has started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]

TESTS = Path(__file__).parent
# Both take the signal for their own: the command, as it does in the tests of it, and a loop of asyncio.
RUNNING = '''
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
    """One that ignores what it can, one in a session of its own, and one that has a child."""
    # Sleeps for a day: only the end of the run may end it.
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(86398)"  # ended by the run
    subprocess.Popen([sys.executable, "-c", deaf, MARK])
    subprocess.Popen(["sleep", "86397"], start_new_session=True)
    subprocess.Popen(["/bin/sh", "-c", "sleep 86396 & wait"])


async def work(name):
    start_programs()
    Path(f"{name}.running").touch()
    await anyio.sleep_forever()


def test_command():
    runner.start(work, "command")


def test_loop():
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        await work("loop")

    asyncio.run(main())
'''


def of_run(mark: str) -> list[int]:
    """The processes of a run, by what they were started with; its programs inherit it."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdecimal() and holds(folder / "environ", mark)
    ]


def holds(path: Path, mark: str) -> bool:
    try:
        return mark.encode() in path.read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return False


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by their environment")
@pytest.mark.parametrize(("workers", "tests"), [("-n2", ["command", "loop"]), ("-n0", ["command"]), ("-n0", ["loop"])])
def test_sigterm(tmp_path: Path, workers: str, tests: list[str]) -> None:
    """With workers and without, in the middle of a test that takes SIGTERM for its own: all of it is gone."""
    mark = f"GATEPAY_TEST_RUN={tmp_path.name}-{os.getpid()}"
    (tmp_path / "test_it.py").write_text(RUNNING.replace("MARK", repr(mark)), "utf-8")
    (tmp_path / "pytest.ini").touch()
    plugins = ("hanging", "ending", "xdist.plugin")
    command = [sys.executable, "-m", "pytest", *(f"-p{name}" for name in plugins), workers, "-k", " or ".join(tests)]
    environ = os.environ | {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | dict([mark.split("=")])
    with (tmp_path / "out").open("wb") as out:
        run = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: all((tmp_path / f"{name}.running").exists() for name in tests))
        wait_until(lambda: len(of_run(mark)) >= 1 + 4 * len(tests))  # the shell starts its child in its own time
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == -signal.SIGTERM
        wait_until(lambda: not of_run(mark), seconds=5)
        assert "ended by SIGTERM during" in (tmp_path / "out").read_text("utf-8")
    finally:
        for pid in of_run(mark):
            os.kill(pid, signal.SIGKILL)
        run.wait()
