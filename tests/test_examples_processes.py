"""Runs the examples that are programs as a reader would, and stops some of them while they work."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest
from waiting import PATIENCE, until

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

EXAMPLES = Path(__file__).parents[1] / "examples"


# -- quickstart -------------------------------------------------------------------------------------------------------


def test_quickstart_succeeds_and_adds_up(tmp_path: Path) -> None:
    """The quickstart ends successfully, and the columns of its report add up."""
    run = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "quickstart.py")],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith("Everything works.\n")
    assert "read 12,345 lines" in run.stdout
    columns = {
        name: int(count.replace(",", ""))
        for name, count in re.findall(r"^    (\w+) +([\d,]+)", run.stdout, re.MULTILINE)
    }
    assert columns.pop("total") == sum(columns.values()) == 12_345
    assert columns["duplicates"] > 0
    assert columns["blank"] > 0
    assert "card keys listed; the same as in the file" in run.stdout
    assert "CallbackSignatureError: callback: sign: does not match" in run.stdout
    [picture] = tmp_path.rglob("payment.png")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


# -- see_the_loop -----------------------------------------------------------------------------------------------------


def test_see_the_loop_reports_payments_until_ctrl_c() -> None:
    """The program prints URLs, reports that an order was paid at one of them, and ends silently after Ctrl-C."""
    command = [sys.executable, "-W", "error", "-u", str(EXAMPLES / "see_the_loop.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as program:
        assert program.stdout is not None
        try:
            lines = [program.stdout.readline() for _ in range(4)]
            console, *orders = [line.split()[-1] for line in lines]
            assert httpx.get(console).status_code == 200
            assert httpx.post(orders[0], data={"do": "pay"}).status_code == 303
            assert re.fullmatch(r"The shop receives: T\w+ is paid, ¥0\.99 of ¥0\.99\n", program.stdout.readline())
            program.send_signal(signal.SIGINT)
            remaining_output = program.communicate(timeout=PATIENCE)
        finally:
            program.kill()
    assert (program.returncode, remaining_output) == (0, ("", ""))


def test_see_the_loop_on_a_used_port_prints_an_error() -> None:
    """If the port is in use, the program says so in one line, and how to find a free one."""
    with socket.create_server(("127.0.0.1", 0)) as used:
        command = [sys.executable, str(EXAMPLES / "see_the_loop.py"), str(used.getsockname()[1])]
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert "port=0 chooses a free one: python examples/see_the_loop.py 0" in run.stderr


# -- upload_worker ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the worker is another process, with its own event loop
async def test_a_stopped_worker_finishes_after_a_restart(sandbox: Sandbox, base_url: str, tmp_path: Path) -> None:
    """A worker stopped in the middle of a file finishes it after a restart, without storing a card key twice."""
    keys = [f"KEY-{number:06d}" for number in range(3000)]
    (tmp_path / "keys.txt").write_text("\n".join(keys))
    account = {"APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret, "BASE_URL": base_url}
    environment = os.environ | {f"GATEPAY_{name}": value for name, value in account.items()}
    command = [
        sys.executable,
        str(EXAMPLES / "upload_worker.py"),
        str(tmp_path),
        "--product",
        "8",
        "--interval",
        "0.05",
    ]
    sandbox.fault(Fault(FaultKind.SLOW, endpoint="ka/create", seconds=30, times=None, skip=2))
    with anyio.fail_after(PATIENCE):
        async with await anyio.open_process(command, env=environment, stderr=None) as worker:
            await until(lambda: len(sandbox.requests) >= 6)  # two chunks done, four in flight
            worker.send_signal(signal.SIGTERM)
            assert await worker.wait() == 0
        assert (tmp_path / "keys.txt").exists()
        sandbox.clear_faults()
        async with await anyio.open_process(command, env=environment, stderr=None) as worker:
            await until((tmp_path / "done" / "keys.txt").exists)
            worker.send_signal(signal.SIGINT)
            assert await worker.wait() == 0
    assert sorted(sandbox.keys(8)[89:]) == keys  # 89 were there before
