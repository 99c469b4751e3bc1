"""Start `benchmarks.server` on another CPU, and read its counts."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks.placing import place_on, two_cpus

ROOT = Path(__file__).parent.parent


@frozen
class Counts:
    """
    What the server counted since its counts were last read.

    Attributes:
        requests: The number of requests, without the refused ones.
        lines: The number of card keys in them.
        latency: The median of the seconds from the last byte of a request to the first byte of its reply.
        refused: The number of requests that got a 429.
    """

    requests: int
    lines: int
    latency: float
    refused: int = 0


@frozen
class Served:
    """A running server."""

    port: int

    @property
    def base_url(self) -> str:
        """The `base_url` for `AsyncGatePay`."""
        return f"http://127.0.0.1:{self.port}/api/"

    def counts(self) -> Counts:
        """Read the counts and reset them. Blocks the event loop for a moment."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/api/bench/counts")
            return Counts(**json.load(connection.getresponse()))
        finally:
            connection.close()


@contextmanager
def serving(
    *, latency: float = 0.0, pages: int = 1, workers: int = 0, max_in_flight: int = 0, retry_after: str = ""
) -> Iterator[Served]:
    """
    Run the server. Pins this process and the server to different CPUs; this process stays pinned.

    Args:
        latency: Seconds before each reply.
        pages: The number of pages of card keys.
        workers: The number of requests that the server processes at once; others queue. 0: no limit.
        max_in_flight: The number of requests in flight above which a request gets a 429. 0: no limit.
        retry_after: The Retry-After header of a 429; empty: none.
    """
    ours, theirs = two_cpus()
    client = place_on(ours)
    command = [sys.executable, "-m", "benchmarks.server", "--latency", str(latency), "--pages", str(pages)]
    command += ["--workers", str(workers), "--max-in-flight", str(max_in_flight), "--retry-after", retry_after]
    if theirs is not None:
        command += ["--cpu", str(theirs)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first_line = json.loads(process.stdout.readline())
        print(f"client {client}, server {first_line['placement']}", file=sys.stderr)
        try:
            yield Served(first_line["port"])
        finally:
            process.communicate()  # closes its standard input, which stops it
