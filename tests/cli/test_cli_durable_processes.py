"""``gatepay keys upload --durable`` and ``gatepay uploads work`` in processes: interrupted, killed, taken up again."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cli_terminal import COMMAND, Open, run
from waiting import PATIENCE, wait_until

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]

EXAMPLES = 89  # card keys that the sandbox's product 8 has from the start


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Enough for several batches."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(25_000)))
    return path


def calls(shop: Sandbox) -> int:
    return sum(request.endpoint == "ka/create" for request in shop.requests)


def test_interrupted(shop: Sandbox, keys: Path, terminal: Open) -> None:
    """Ctrl-C ends it with the ledger so far; run again it goes on, and sends nothing twice."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.2))
    it = terminal("keys", "upload", keys, "-p", 8, "--durable", "--concurrency", 2)
    it.read(lambda text: re.search(r"Uploading.*\d/25,000", text) and calls(shop) > 2)
    os.write(it.fd, b"\x03")
    assert it.end() == 130
    assert "pending" in it.text
    assert "run the same command again" in it.text
    assert "Traceback" not in it.text
    shop.clear_faults()
    again = run("keys", "upload", keys, "-p", 8, "--durable", "--json")
    assert (json.loads(again.stdout)["stored"], calls(shop)) == (25_000, 50)
    assert "is queued" in again.stderr
    assert len(shop.keys(8)) == EXAMPLES + 25_000


def test_a_service_that_is_stopped(shop: Sandbox, tmp_path: Path) -> None:
    """
    SIGTERM within a batch ends with 143: calls in flight are finished, and the rest is another worker's.

    A second SIGTERM doesn't change that. A scraper that hangs delays nothing.
    """
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"KEY-{number:06d}\n" for number in range(12_000)))
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.5))
    assert run("keys", "upload", keys, "-p", 8, "--no-wait").returncode == 0
    worker = subprocess.Popen([*COMMAND, "uploads", "work", "--health", "0"], stderr=subprocess.PIPE)
    assert worker.stderr is not None
    port = int(re.findall(rb":([0-9]+)/metrics", worker.stderr.readline())[0])
    with socket.create_connection(("127.0.0.1", port)):
        wait_until(lambda: calls(shop) >= 3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE) as ready:
            assert ready.status == 200
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 143
    assert b"Traceback" not in said
    assert 3 <= calls(shop) < 24
    shop.clear_faults()
    assert run("uploads", "work", "--drain").returncode == 0
    stored = shop.keys(8)[EXAMPLES:]
    assert sorted(stored) == keys.read_text().splitlines()
    assert calls(shop) == 24  # nothing was sent twice


def test_a_service_that_is_told_to_stop_again(shop: Sandbox, tmp_path: Path) -> None:
    """Further signals while a worker stops, of any kind, don't interrupt its calls in flight."""
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"KEY-{number:06d}\n" for number in range(12_000)))
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=1.5))
    assert run("keys", "upload", keys, "-p", 8, "--no-wait").returncode == 0
    worker = subprocess.Popen([*COMMAND, "uploads", "work", "--health", "0"], stderr=subprocess.PIPE)
    assert worker.stderr is not None
    port = int(re.findall(rb":([0-9]+)/metrics", worker.stderr.readline())[0])

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE):
                return True
        except urllib.error.HTTPError:
            return False

    wait_until(lambda: calls(shop) >= 3)
    worker.send_signal(signal.SIGINT)
    wait_until(lambda: not is_ready())  # it is stopping
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        worker.send_signal(number)
    _, said = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 130
    assert said.endswith(b"Interrupted.\n")
    shop.clear_faults()
    assert run("uploads", "work", "--drain").returncode == 0
    assert calls(shop) == 24  # nothing was sent twice


def test_killed(shop: Sandbox, keys: Path) -> None:
    """After kill -9 the same command goes on; every card key is there once, and the ledger adds up."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.2))
    process = subprocess.Popen(
        [*COMMAND, "keys", "upload", keys, "-p", "8", "--durable", "--json"], stdout=subprocess.DEVNULL
    )
    wait_until(lambda: calls(shop) >= 6)
    process.kill()
    process.wait(PATIENCE)
    shop.clear_faults()
    ledger = json.loads(run("keys", "upload", keys, "-p", 8, "--durable", "--json").stdout)
    assert ledger["stored"] + ledger["already_there"] == ledger["read"] == 25_000
    assert ledger["ok"]
    assert sorted(shop.keys(8)[EXAMPLES:]) == keys.read_text().splitlines()


def test_a_worker_as_a_service(shop: Sandbox, keys: Path) -> None:
    """A worker works until it is told to end; two of them share the work, each within the rate of all."""
    workers = [
        subprocess.Popen([*COMMAND, "uploads", "work", "--concurrency", "2"], stderr=subprocess.PIPE) for _ in range(2)
    ]
    for worker in workers:
        assert worker.stderr is not None
        assert b"Press Ctrl-C to stop" in worker.stderr.readline()
    number = json.loads(run("keys", "upload", keys, "-p", 8, "--no-wait", "--json").stdout)["job"]
    watched = run("uploads", "watch", number, "--json")
    assert json.loads(watched.stdout)["ok"]
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 143
        assert b"Traceback" not in said
    assert len(shop.keys(8)) == EXAMPLES + 25_000
