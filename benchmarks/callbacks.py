"""What 1,000 callbacks a second cost: CallbackApp over each store, beside a bare endpoint of Starlette's."""

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
from benchmarks.measuring import Arm, Result, Row, Sample, Samples, cpu_each, median_of, rate, ratio, run_in_turns
from benchmarks.placing import place_on, two_cpus
from benchmarks.serving import ROOT
from gatepay_async import new_out_order_id
from gatepay_async.protocol.callback import SIGNED
from gatepay_async.protocol.signing import Credentials, sign

CALLERS = 64
BARE = "bare"  # a bare endpoint of Starlette's
# Each store, and how many callbacks a second are wanted for each of the bare endpoint's.
ARMS = {"memory": ("MemoryStore", 0.8), "sqlite": ("SQLiteStore", 0.5), "redis": ("RedisStore", 0.5)}


@frozen
class _Serving:
    port: int
    process: psutil.Process
    arms: list[str]


def measure(*, quick: bool) -> Result:
    """Different payments, each delivered once, over keep-alive connections and as fast as they are answered."""
    with _serving() as serving:
        samples = asyncio.run(_measure(serving, calls=300 if quick else 1000, rounds=3 if quick else 7))
    return Result(_rows(samples))


async def _measure(serving: _Serving, *, calls: int, rounds: int) -> Samples:
    numbers = count(1)
    for arm in serving.arms:
        await _deliver(serving, arm, numbers, CALLERS * 4)
    arms: dict[str, Arm] = {arm: partial(_deliver, serving, arm, numbers, calls) for arm in serving.arms}
    return await run_in_turns(arms, rounds=rounds)


async def _deliver(serving: _Serving, arm: str, numbers: "count[int]", calls: int) -> Sample:
    requests = [_request(arm, next(numbers)) for _ in range(calls)]
    wall, cpu = time.perf_counter(), _cpu(serving.process)
    await asyncio.gather(*(_caller(serving.port, requests) for _ in range(CALLERS)))
    return Sample(calls, time.perf_counter() - wall, _cpu(serving.process) - cpu)


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


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _serving() -> Iterator[_Serving]:
    """The server on another CPU than this process, and a Redis, if there is one, wherever there is room."""
    ours, theirs = two_cpus()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = _redis(stack, folder)
        client = place_on(ours)
        command = [sys.executable, "-m", "benchmarks.callback_server", str(folder)]
        command += [] if redis is None else ["--redis", redis]
        command += [] if theirs is None else ["--cpu", str(theirs)]
        process = stack.enter_context(
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        print(f"client {client}, server {said['placement']}", file=sys.stderr)
        yield _Serving(
            said["port"], psutil.Process(process.pid), [BARE, *(arm for arm in ARMS if redis or arm != "redis")]
        )
        process.communicate()  # its standard input ends, and so does it


def _redis(stack: ExitStack, folder: Path) -> str | None:
    """The URL of a Redis that writes each commit to its disk, as SQLite does; None: there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    options = f"--port 0 --unixsocket {folder}/redis.sock --dir {folder} --appendonly yes --appendfsync always --save"
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
            beside=_beside(samples[arm], bare) if arm in samples else "there is no redis-server",
        )
        for arm, (name, goal) in ARMS.items()
    ]


def _beside(ours: list[Sample], bare: list[Sample]) -> str:
    rates = f"{median_of(ours, rate):,.0f} a second against {median_of(bare, rate):,.0f}"
    return f"{rates}; CPU of the server {median_of(ours, cpu_each):.0f} µs against {median_of(bare, cpu_each):.0f} µs"
