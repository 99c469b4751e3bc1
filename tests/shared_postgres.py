"""
One PostgreSQL for all processes of a test run.

    python shared_postgres.py FOLDER

starts it, prints its port, and stays behind to stop it when nobody uses it any more. Whoever uses it holds a lock on a
file, which the system takes from a process that dies; so a worker that is killed neither stops it nor keeps it running.
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

# It is thrown away after the run: what it holds need not survive a power cut.
_FORGETFUL = ("fsync=off", "full_page_writes=off", "max_connections=500")
_TEMPLATE = "uploads_template"


@frozen
class SharedPostgres:
    """
    As a test uses it.

    Attributes:
        folder: Where it keeps what it holds.
        port: On loopback.
    """

    folder: Path
    port: int

    def url(self, database: str) -> str:
        """The address of a *database*."""
        return url_of(self.port, database)

    def new_database(self) -> str:
        """The name of a new, empty database."""
        return self._create("")

    def ready_database(self) -> str:
        """The name of a new database that has the tables of durable uploads."""
        return self._create(f" TEMPLATE {_TEMPLATE}")

    def _create(self, like: str) -> str:
        name = f"uploads_{token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}{like}")
        return name

    def execute(self, statement: str) -> None:
        """Execute *statement* outside of a transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def shared(place: Path) -> Generator[SharedPostgres]:
    """
    The server of all who come with the same *place*, an existing folder; the first one starts it.

    It is stopped soon after the last one has left, or died.
    """
    with (place / "postgres.door").open("wb") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        users, server = _running(place / "postgres.json") or _start(place / "postgres.json")
    with users:
        yield server


def _running(card: Path) -> tuple[BinaryIO, SharedPostgres] | None:
    """The server that is described in *card*, unless it is about to stop."""
    try:
        said = json.loads(card.read_text())
        users = Path(said["folder"], "users").open("rb")  # noqa: SIM115 -- it is locked as long as it is open
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        users.close()
        return None
    if os.fstat(users.fileno()).st_nlink == 0:  # it was stopped before we had the lock
        users.close()
        return None
    return users, SharedPostgres(Path(said["folder"]), said["port"])


def _start(card: Path) -> tuple[BinaryIO, SharedPostgres]:
    # Not in one of pytest's folders: the server's user must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="gatepay-postgres-"))
    folder.chmod(0o755)
    (folder / "users").touch()
    users = (folder / "users").open("rb")
    fcntl.flock(users, fcntl.LOCK_SH)
    # A worker's children are killed when it has died. This one is everybody's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    command = [sys.executable, __file__, str(folder)]
    started = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    server = SharedPostgres(folder, int(started.stdout))
    _make_template(server)
    card.write_text(json.dumps({"folder": str(folder), "port": server.port}))
    return users, server


def _make_template(server: SharedPostgres) -> None:
    from gatepay_async.durable.storage.database import Database  # noqa: PLC0415 -- the keeper needs none of it

    server.execute(f"CREATE DATABASE {_TEMPLATE}")
    Database(server.url(_TEMPLATE)).migrate()


def main(folder: Path) -> None:
    """Start a server, and stop it when nobody has a lock on *folder*/users."""
    os.setsid()  # Ctrl-C is for the tests; they say when it is over
    server = Postgres(folder / "server", settings=_FORGETFUL)
    server.start()
    os.write(sys.stdout.fileno(), f"{server.port}\n".encode())
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    with (folder / "users").open("rb") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        server.stop(at_once=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
