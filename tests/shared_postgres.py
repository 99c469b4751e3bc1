"""
One PostgreSQL for all processes of a test run.

    python shared_postgres.py FOLDER

starts the server and prints its port. The program keeps running in the background, and stops the server when no process
uses it any more. Each process that uses it holds a lock on a file. The system releases the lock when the process dies,
so a killed worker doesn't keep the server running.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import psycopg
from attrs import frozen
from postgres import Postgres, url_of

# The data is deleted after the run, so it needn't survive a power cut.
_NOT_DURABLE = ("fsync=off", "full_page_writes=off", "max_connections=500")
_TEMPLATE = "uploads_template"


@frozen
class SharedPostgres:
    """
    A running PostgreSQL server, which other test processes use too.

    Attributes:
        folder: The folder of its data.
        port: The port on loopback.
    """

    folder: Path
    port: int

    def url(self, database: str) -> str:
        """Return the URL of *database*."""
        return url_of(self.port, database)

    def new_database(self) -> str:
        """Create an empty database. Return its name."""
        return self._create("")

    def ready_database(self) -> str:
        """Create a database with the tables of durable uploads. Return its name."""
        return self._create(f" TEMPLATE {_TEMPLATE}")

    def _create(self, options: str) -> str:
        name = f"uploads_{token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}{options}")
        return name

    def execute(self, statement: str) -> None:
        """Execute *statement* outside of a transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def shared(folder: Path) -> Generator[SharedPostgres]:
    """
    Yield the server that all processes with the same *folder* share. The first process starts it.

    It stops soon after the last process has left the context or died. *folder* must exist.
    """
    with (folder / "postgres.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users_file, server = _join(folder / "postgres.json") or _start(folder / "postgres.json")
    with users_file:
        yield server


def _join(description_file: Path) -> tuple[BinaryIO, SharedPostgres] | None:
    """
    Return the open and locked file "users", and the server; None: no server is running, or it is stopping.

    The server runs as long as any process holds a lock on this file. Closing the file releases the lock.
    """
    try:
        description = json.loads(description_file.read_text())
        users_file = Path(description["folder"], "users").open("rb")  # noqa: SIM115 -- it is locked as long as it is open
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(users_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        users_file.close()
        return None
    if os.fstat(users_file.fileno()).st_nlink == 0:  # the server was stopped before we had the lock
        users_file.close()
        return None
    return users_file, SharedPostgres(Path(description["folder"]), description["port"])


def _start(description_file: Path) -> tuple[BinaryIO, SharedPostgres]:
    """Start the server, and write *description_file*. Return the open and locked file "users", and the server."""
    # Not in one of pytest's folders: the server's user must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="gatepay-postgres-"))
    folder.chmod(0o755)
    (folder / "users").touch()
    users_file = (folder / "users").open("rb")
    fcntl.flock(users_file, fcntl.LOCK_SH)
    # When a worker dies, its child processes are killed. The server must survive: other workers use it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    command = [sys.executable, __file__, str(folder)]
    started = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    server = SharedPostgres(folder, int(started.stdout))
    _create_template(server)
    description_file.write_text(json.dumps({"folder": str(folder), "port": server.port}))
    return users_file, server


def _create_template(server: SharedPostgres) -> None:
    from gatepay_async.durable.storage.database import QueueDatabase  # noqa: PLC0415 -- the background process doesn't need it

    server.execute(f"CREATE DATABASE {_TEMPLATE}")
    QueueDatabase(server.url(_TEMPLATE)).migrate()


def main(folder: Path) -> None:
    """Start a server. Stop it when no process holds a lock on *folder*/users."""
    os.setsid()  # so that Ctrl-C reaches the tests only; the server stops when they release the lock
    server = Postgres(folder / "server", settings=_NOT_DURABLE)
    server.start()
    os.write(sys.stdout.fileno(), f"{server.port}\n".encode())
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for standard_stream in range(3):
        os.dup2(null, standard_stream)  # so that the caller, which reads our output, doesn't wait for us
    with (folder / "users").open("rb") as users_file:
        fcntl.flock(users_file, fcntl.LOCK_EX)
        server.stop(at_once=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
