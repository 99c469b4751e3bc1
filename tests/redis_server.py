"""A real Redis server for tests."""

import signal
import subprocess
import time
from pathlib import Path

from attrs import define
from redis import Redis
from redis.exceptions import RedisError


@define
class RedisServer:
    """A redis-server on a Unix socket, which writes each change to disk."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        """Start the server, and wait until it responds."""
        settings = f"""
            port 0
            unixsocket {self.folder}/redis.sock
            dir {self.folder}
            save ""
            appendonly yes
            appendfsync always
            logfile {self.folder}/log
        """
        command = ["redis-server", "-"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(settings.encode())
        with Redis.from_url(self.url) as redis:
            wait_for(redis)

    def pause(self) -> None:
        """Suspend the process."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the process."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process."""
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)


def wait_for(redis: Redis, seconds: float = 30) -> None:
    """Wait until *redis* replies. Raise its error after *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            redis.ping()
        except RedisError:
            if time.monotonic() > deadline:
                raise
        else:
            return
