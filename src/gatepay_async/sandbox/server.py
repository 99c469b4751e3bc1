"""An HTTP server on loopback: uvicorn on an event loop in its own thread."""

import asyncio
import socket
from threading import Event, Thread
from typing import cast

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from gatepay_async.sandbox.fault_injection import CONNECTION_KEY
from gatepay_async.words.arguments import InvalidArgumentError, check_whole
from gatepay_async.words.problem import Problem

__all__ = ["LoopbackServer", "PortTakenError"]

_LOOPBACK = "127.0.0.1"
_MAX_PORT = 65_535


class PortTakenError(OSError):
    """The sandbox can't listen on the port: another program uses it, or it requires privileges."""

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(f"can't listen on port {port} of {_LOOPBACK} ({reason}); port=0 chooses a free one")
        self.port = port
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class with the message.
        return type(self), (self.port, self.reason)


class LoopbackServer:
    """
    Serves one application on 127.0.0.1. The constructor opens the port.

    Args:
        app: The ASGI application.
        host: Only 127.0.0.1 is accepted, because the sandbox shows its secrets.
        port: The port; 0: a free one.

    Raises:
        InvalidArgumentError: *host* is not 127.0.0.1, or *port* is no number of a port.
        PortTakenError: The port is in use, or requires privileges.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        if host != _LOOPBACK:
            raise InvalidArgumentError(field="host", problem=Problem("only_loopback"))
        check_whole("port", port, 0, _MAX_PORT)
        try:
            # create_server() sets SO_REUSEADDR: a port in TIME_WAIT can be used again at once.
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise PortTakenError(port, str(error.strerror)) from error
        self.port = int(self._listener.getsockname()[1])
        # uvicorn's logging set-up and its option for the access log would change its loggers for the whole process, in
        # which a user's own server may run, too.
        config = Config(app, http=_Protocol, ws="none", lifespan="off", proxy_headers=False, log_config=None)
        self._server = _Server(config)
        self._thread = Thread(target=self._run, name=f"gatepay-sandbox-{self.port}", daemon=True)

    def start(self) -> None:
        """Start the thread, without waiting for it."""
        self._thread.start()

    def wait(self) -> None:
        """
        Wait until the server accepts connections. Blocks.

        Raises:
            RuntimeError: The thread failed. It has written its error to stderr.
        """
        self._server.accepting.wait()
        if not self._server.started:
            raise RuntimeError("the sandbox's server could not start; its error is on stderr")

    def stop(self) -> None:
        """Close all connections and end the thread. Blocks until it has ended. Call it only after start()."""
        self._server.accepting.wait()
        self._server.stop()
        self._thread.join()

    def _run(self) -> None:
        """Serve in this thread until stop() is called."""
        with self._listener:
            try:
                # The default event loop on Windows has no remove_reader(), which shutdown() needs.
                with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                    runner.run(self._server.serve(sockets=[self._listener]))
            finally:
                self._server.accepting.set()  # so that wait() returns even if the thread has failed


class _Protocol(H11Protocol):
    """uvicorn's HTTP protocol, which gives faults access to the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's signature
        """Add the connection to the state, which uvicorn copies into the scope of every request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, CONNECTION_KEY: transport}
        # asyncio sets TCP_NODELAY only if the listener's protocol is IPPROTO_TCP, but create_server() leaves it 0.
        # Without TCP_NODELAY, the body of a response arrives 40 ms after the head.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.access_log = False  # otherwise uvicorn would log each request


class _Server(Server):
    """uvicorn's server, which signals when it accepts connections, and stops without waiting for clients."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.accepting = Event()
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and set ``accepting``."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        """Wait for stop(). uvicorn's own loop polls ten times a second."""
        await self._stopping.wait()

    def stop(self) -> None:
        """Make the server end, from another thread. If it has not started, do nothing."""
        if self.started:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def shutdown(
        self,
        sockets: list[socket.socket] | None = None,  # noqa: ARG002 -- uvicorn's signature; _run() closes the socket
    ) -> None:
        """
        Close all connections, then wait for the tasks of requests in progress.

        They end by themselves, because their clients are gone. If they were cancelled, uvicorn would log tracebacks.
        """
        # Stop accepting first. A connection that was just accepted is still a task, and loses its socket if its server
        # is closed. So close the servers only after all tasks have ended.
        for listener in (listener for server in self.servers for listener in server.sockets):
            self._loop.remove_reader(listener)
        self._abort_connections()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=0.01)
            self._abort_connections()
        for server in self.servers:
            server.close()

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            cast(H11Protocol, connection).transport.abort()
