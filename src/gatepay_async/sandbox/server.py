"""Real HTTP on loopback: uvicorn in a thread and an event loop of its own."""

import asyncio
import socket
from threading import Event, Thread
from typing import cast

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from gatepay_async.sandbox.fault_injection import CONNECTION

__all__ = ["LoopbackServer", "PortTakenError"]

_LOOPBACK = "127.0.0.1"


class PortTakenError(OSError):
    """The port to serve on can't be had: another program has it, or it is not for everybody."""

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(f"port {port} on {_LOOPBACK} can't be had ({reason}); port=0 finds a free one")
        self.port = port
        self.reason = reason


class LoopbackServer:
    """
    Serves one application on 127.0.0.1; the port is taken as soon as the object is there.

    Args:
        app: The ASGI application.
        host: 127.0.0.1 and nothing else: the sandbox hands out card keys.
        port: 0 for a free one.

    Raises:
        ValueError: Another host.
        PortTakenError: Something else has the port.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        if host != _LOOPBACK:
            raise ValueError(f"the sandbox serves on {_LOOPBACK} only, not on {host!r}")
        try:
            # As asyncio does it: a port whose last connections still linger may be taken again.
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise PortTakenError(port, str(error.strerror)) from error
        self.port = int(self._listener.getsockname()[1])
        # uvicorn's own logging set-up and its switch for the access log would change its
        # loggers for the whole process, where a user's own server may run too.
        config = Config(app, http=_Protocol, ws="none", lifespan="off", proxy_headers=False, log_config=None)
        self._server = _Server(config)
        self._thread = Thread(target=self._run, name=f"gatepay-sandbox-{self.port}", daemon=True)

    def start(self) -> None:
        """Start the thread, without waiting for it."""
        self._thread.start()

    def wait(self) -> None:
        """
        Return when connections are accepted. Blocks.

        Raises:
            RuntimeError: The thread died; what of, it has written to stderr.
        """
        self._server.accepting.wait()
        if not self._server.started:
            raise RuntimeError("the sandbox's server could not start; its thread says why on stderr")

    def stop(self) -> None:
        """End every connection and the thread; returns when both are gone. Blocks. For after start()."""
        self._server.accepting.wait()
        self._server.stop()
        self._thread.join()

    def _run(self) -> None:
        with self._listener:
            try:
                # Windows' usual loop has no remove_reader(), which stopping needs.
                with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                    runner.run(self._server.serve(sockets=[self._listener]))
            finally:
                self._server.accepting.set()  # or wait() would wait for a dead thread


class _Protocol(H11Protocol):
    """uvicorn's HTTP, with the connection put where a fault can reach it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Put the connection among what uvicorn copies into every request's scope, as ``state``."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, CONNECTION: transport}
        # asyncio does this only where the listener names TCP, and create_server() names
        # nothing: head and body would be 40 ms apart.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.access_log = False


class _Server(Server):
    """uvicorn's server, which says when it accepts and stops without waiting for anybody."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.accepting = Event()
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note the loop, and tell wait() that the socket is listened on."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        """Wait for stop(), where uvicorn looks ten times a second."""
        await self._stopping.wait()

    def stop(self) -> None:
        """Ask the server to end, from another thread; nothing if it never started."""
        if self.started:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def shutdown(
        self,
        sockets: list[socket.socket] | None = None,  # noqa: ARG002 -- uvicorn's signature; _run() closes it
    ) -> None:
        """
        End every connection, then wait for what is under way.

        That ends by itself, as its client is gone; cancelling it would have uvicorn log tracebacks.
        """
        # No more accepting; but a connection that was just accepted is a task still, and a
        # server closed under it would lose its socket. So: tasks first, then the servers.
        for listener in (listener for server in self.servers for listener in server.sockets):
            self._loop.remove_reader(listener)
        self._abort_connections()
        while under_way := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(under_way, timeout=0.01)
            self._abort_connections()
        for server in self.servers:
            server.close()

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            cast(H11Protocol, connection).transport.abort()
