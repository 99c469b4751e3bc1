"""Tests of durable uploads and workers as processes that are interrupted, stopped and killed."""

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

INITIAL_KEYS = 89  # card keys that the sandbox's product 8 has from the start


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with card keys for several batches."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(25_000)))
    return path


def count_upload_calls(shop: Sandbox) -> int:
    return sum(request.endpoint == "ka/create" for request in shop.requests)


def test_interrupted_durable_upload_prints_a_report_and_continues(shop: Sandbox, keys: Path, terminal: Open) -> None:
    """Ctrl-C prints the report so far with status 130; the same command continues and sends nothing twice."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.2))
    upload = terminal("keys", "upload", keys, "-p", 8, "--durable", "--concurrency", 2)
    upload.read(lambda text: re.search(r"Uploading.*\d/25,000", text) and count_upload_calls(shop) > 2)
    os.write(upload.fd, b"\x03")
    assert upload.end() == 130
    assert "pending" in upload.text
    assert "run the same command again" in upload.text
    assert "Traceback" not in upload.text
    shop.clear_faults()
    second_run = run("keys", "upload", keys, "-p", 8, "--durable", "--json")
    assert json.loads(second_run.stdout)["stored"] == 25_000
    assert count_upload_calls(shop) == 50  # 50 chunks, each sent once
    assert "is queued" in second_run.stderr
    assert len(shop.keys(8)) == INITIAL_KEYS + 25_000


def start_worker_of_slow_calls(shop: Sandbox, keys: Path, *, seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    """Submit 12,000 card keys (24 chunks). Return a new worker with a health server, and the server's port."""
    keys.write_text("".join(f"KEY-{number:06d}\n" for number in range(12_000)))
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=seconds))
    assert run("keys", "upload", keys, "-p", 8, "--no-wait").returncode == 0
    worker = subprocess.Popen([*COMMAND, "uploads", "work", "--health", "0"], stderr=subprocess.PIPE)
    assert worker.stderr is not None
    return worker, int(re.findall(rb":([0-9]+)/metrics", worker.stderr.readline())[0])


def test_stopped_worker_finishes_calls_in_flight(shop: Sandbox, tmp_path: Path) -> None:
    """
    SIGTERM during a batch: the worker finishes its calls in flight and exits with 143; another worker does the rest.

    A second SIGTERM changes nothing, and a client that keeps its connection to /metrics open delays nothing.
    """
    keys = tmp_path / "keys.txt"
    worker, port = start_worker_of_slow_calls(shop, keys, seconds=0.5)
    with socket.create_connection(("127.0.0.1", port)):
        wait_until(lambda: count_upload_calls(shop) >= 3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE) as ready:
            assert ready.status == 200
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGTERM)
        _, stderr = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 143
    assert b"Traceback" not in stderr
    assert 3 <= count_upload_calls(shop) < 24
    shop.clear_faults()
    assert run("uploads", "work", "--drain").returncode == 0
    stored = shop.keys(8)[INITIAL_KEYS:]
    assert sorted(stored) == keys.read_text().splitlines()
    assert count_upload_calls(shop) == 24  # nothing was sent twice


def test_further_signals_dont_interrupt_a_stopping_worker(shop: Sandbox, tmp_path: Path) -> None:
    """A worker that is stopping finishes its calls in flight, even after SIGINT, SIGTERM and SIGHUP."""
    keys = tmp_path / "keys.txt"
    worker, port = start_worker_of_slow_calls(shop, keys, seconds=1.5)

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE):
                return True
        except urllib.error.HTTPError:
            return False

    wait_until(lambda: count_upload_calls(shop) >= 3)
    worker.send_signal(signal.SIGINT)
    wait_until(lambda: not is_ready())  # it is stopping
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        worker.send_signal(number)
    _, stderr = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 130
    assert stderr.endswith(b"Interrupted.\n")
    shop.clear_faults()
    assert run("uploads", "work", "--drain").returncode == 0
    assert count_upload_calls(shop) == 24  # nothing was sent twice


def test_killed_durable_upload_continues_without_duplicates(shop: Sandbox, keys: Path) -> None:
    """After SIGKILL the same command continues. Each card key is stored once, and the report adds up."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.2))
    process = subprocess.Popen(
        [*COMMAND, "keys", "upload", keys, "-p", "8", "--durable", "--json"], stdout=subprocess.DEVNULL
    )
    wait_until(lambda: count_upload_calls(shop) >= 6)
    process.kill()
    process.wait(PATIENCE)
    shop.clear_faults()
    report = json.loads(run("keys", "upload", keys, "-p", 8, "--durable", "--json").stdout)
    assert report["stored"] + report["already_there"] == report["read"] == 25_000
    assert report["ok"]
    assert sorted(shop.keys(8)[INITIAL_KEYS:]) == keys.read_text().splitlines()


def test_two_workers_share_a_job_until_they_are_stopped(shop: Sandbox, keys: Path) -> None:
    workers = [
        subprocess.Popen([*COMMAND, "uploads", "work", "--concurrency", "2"], stderr=subprocess.PIPE) for _ in range(2)
    ]
    for worker in workers:
        assert worker.stderr is not None
        assert b"Press Ctrl-C to stop" in worker.stderr.readline()
    job = json.loads(run("keys", "upload", keys, "-p", 8, "--no-wait", "--json").stdout)["job"]
    watched = run("uploads", "watch", job, "--json")
    assert json.loads(watched.stdout)["ok"]
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        _, stderr = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 143
        assert b"Traceback" not in stderr
    assert len(shop.keys(8)) == INITIAL_KEYS + 25_000
