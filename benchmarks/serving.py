"""Starts `benchmarks.server` on the other CPU, and asks it what it has counted."""

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
    What the server saw since it was last asked.

    Attributes:
        requests: How many.
        lines: Card keys in them.
        latency: Seconds between the last byte of a request and the first one of its reply; the median.
        refused: How many were answered 429; they are in no other number.
    """

    requests: int
    lines: int
    latency: float
    refused: int = 0


@frozen
class Served:
    """Where the server is."""

    port: int

    @property
    def base_url(self) -> str:
        """As `AsyncGatePay` takes it."""
        return f"http://127.0.0.1:{self.port}/api/"

    def counts(self) -> Counts:
        """Ask, and have it count from zero again. Blocks, for a moment."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/api/bench/counts")
            return Counts(**json.load(connection.getresponse()))
        finally:
            connection.close()


@contextmanager
def serving(
    *, latency: float = 0.0, pages: int = 1, workers: int = 0, most: int = 0, retry_after: str = ""
) -> Iterator[Served]:
    """Run the server, pinned to another CPU than this process, which is pinned too from now on."""
    ours, theirs = two_cpus()
    client = place_on(ours)
    command = [sys.executable, "-m", "benchmarks.server", "--latency", str(latency), "--pages", str(pages)]
    command += ["--workers", str(workers), "--most", str(most), "--retry-after", retry_after]
    if theirs is not None:
        command += ["--cpu", str(theirs)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        print(f"client {client}, server {said['placed']}", file=sys.stderr)
        try:
            yield Served(said["port"])
        finally:
            process.communicate()  # its standard input ends, and so does it
