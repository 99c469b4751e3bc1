"""Callbacks per second that CallbackApp handles with each store, compared with a bare Starlette endpoint."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import psutil
from attrs import frozen

from benchmarks.callback_server import APPKEY, APPSECRET
from benchmarks.measuring import (
    Arm,
    Result,
    Row,
    Sample,
    Samples,
    cpu_us_per_call,
    median_of,
    rate,
    ratio,
    run_in_turns,
)
from benchmarks.placing import place_on, two_cpus
from benchmarks.serving import ROOT
from gatepay_async import new_out_order_id
from gatepay_async.protocol.callback import SIGNED
from gatepay_async.protocol.signing import Credentials, sign

CALLERS = 64
BARE = "bare"  # the path of the bare endpoint
# For each path, the store and the goal: callbacks per second divided by those of the bare endpoint.
ARMS = {"memory": ("MemoryStore", 0.8), "sqlite": ("SQLiteStore", 0.5), "redis": ("RedisStore", 0.5)}


@frozen
class _Server:
    """The running server: its port, its process, and the names of the paths to measure. Each path is an arm."""

    port: int
    process: psutil.Process
    arms: list[str]


def measure(*, quick: bool) -> Result:
    """Deliver many payments, each once, over keep-alive connections. Each sender waits only for the reply."""
    with _run_server() as server:
        samples = asyncio.run(_measure(server, calls=300 if quick else 1000, rounds=3 if quick else 7))
    return Result(_rows(samples))


async def _measure(server: _Server, *, calls: int, rounds: int) -> Samples:
    order_ids = count(1)
    for arm in server.arms:
        await _deliver(server, arm, order_ids, CALLERS * 4)  # warm up
    arms: dict[str, Arm] = {arm: partial(_deliver, server, arm, order_ids, calls) for arm in server.arms}
    return await run_in_turns(arms, rounds=rounds)


async def _deliver(server: _Server, arm: str, order_ids: "count[int]", calls: int) -> Sample:
    requests = [_request(arm, next(order_ids)) for _ in range(calls)]
    wall, cpu = time.perf_counter(), _cpu_seconds(server.process)
    await asyncio.gather(*(_caller(server.port, requests) for _ in range(CALLERS)))
    return Sample(calls, time.perf_counter() - wall, _cpu_seconds(server.process) - cpu)


async def _caller(port: int, requests: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while requests:
        writer.write(requests.pop())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 7" in head
        assert await reader.readexactly(7) == b"success"
    writer.close()
    await writer.wait_closed()


def _request(arm: str, number: int) -> bytes:
    fields = {
        "appkey": APPKEY,
        "order_id": str(number),
        "out_order_id": new_out_order_id(),
        "price": "10.23",
        "realprice": "10.23",
        "type": "alipay",
        "paytime": "1555750250",
        "extend": "terry@example.com",
    }
    fields["sign"] = sign(Credentials(APPKEY, APPSECRET), [fields[name] for name in SIGNED])
    return f"GET /{arm}/?{urlencode(fields)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _run_server() -> Iterator[_Server]:
    """Run the server on another CPU than this process. Run Redis too, if it is installed, on any CPU."""
    ours, theirs = two_cpus()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = _redis(stack, folder)  # started before this process is pinned, so that Redis may use all CPUs
        client = place_on(ours)
        command = [sys.executable, "-m", "benchmarks.callback_server", str(folder)]
        command += [] if redis is None else ["--redis", redis]
        command += [] if theirs is None else ["--cpu", str(theirs)]
        process = stack.enter_context(
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert process.stdout is not None
        first_line = json.loads(process.stdout.readline())
        print(f"client {client}, server {first_line['placement']}", file=sys.stderr)
        yield _Server(
            first_line["port"], psutil.Process(process.pid), [BARE, *(arm for arm in ARMS if redis or arm != "redis")]
        )
        process.communicate()  # closes its standard input, which stops it


def _redis(stack: ExitStack, folder: Path) -> str | None:
    """Start a Redis that writes each commit to disk, as SQLite does. Return its URL; None: Redis isn't installed."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    options = f"--port 0 --unixsocket {folder}/redis.sock --dir {folder} --appendonly yes --appendfsync always --save"
    # The empty argument belongs to --save: no snapshots.
    process = stack.enter_context(subprocess.Popen([program, *options.split(), ""], stdout=subprocess.DEVNULL))
    stack.callback(process.terminate)
    while not (folder / "redis.sock").exists():
        assert process.poll() is None
        time.sleep(0.01)
    return f"unix://{folder}/redis.sock"


def _rows(samples: Samples) -> list[Row]:
    bare = samples[BARE]
    return [
        Row(
            what=f"callbacks a second, {name}, against a bare endpoint of Starlette's, {CALLERS} senders",
            goal=goal,
            value=ratio(samples[arm], bare, rate) if arm in samples else None,
            details=_details(samples[arm], bare) if arm in samples else "there is no redis-server",
        )
        for arm, (name, goal) in ARMS.items()
    ]


def _details(ours: list[Sample], bare: list[Sample]) -> str:
    rates = f"{median_of(ours, rate):,.0f} a second against {median_of(bare, rate):,.0f}"
    ours_cpu, bare_cpu = median_of(ours, cpu_us_per_call), median_of(bare, cpu_us_per_call)
    return f"{rates}; CPU of the server {ours_cpu:.0f} µs against {bare_cpu:.0f} µs"
