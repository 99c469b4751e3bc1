"""``Sandbox``: a local GatePay with shops, orders and faults, over HTTP or in process."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from os import PathLike
from types import TracebackType
from typing import Self, Unpack

from anyio import CancelScope, to_thread

from gatepay_async.sandbox.api_service import ApiService
from gatepay_async.sandbox.app import FaultyApp, build_app
from gatepay_async.sandbox.callback_sender import CallbackSender
from gatepay_async.sandbox.events import SandboxEvent, Watcher
from gatepay_async.sandbox.faults import Fault, FaultQueue
from gatepay_async.sandbox.options import Options, Switches
from gatepay_async.sandbox.order_controls import OrderControls
from gatepay_async.sandbox.pages_app import build_pages_app
from gatepay_async.sandbox.replies import Replies
from gatepay_async.sandbox.request_log import RequestLog, SeenRequest
from gatepay_async.sandbox.server import LoopbackServer
from gatepay_async.words.arguments import check_callable, check_instance

__all__ = ["Sandbox"]


class Sandbox(OrderControls):
    """
    A local GatePay with the vendor's example shops.

    Shop one (``appkey``, ``appsecret``) owns the products 4, 5 and 8 of the vendor's page. Shop two, the second of
    :attr:`shops`, owns product 3, which starts without card keys.

    Every method raises ``InvalidArgumentError`` for an argument of a wrong kind or value.

    Args:
        database: An SQLite file, which is created if it doesn't exist, and kept when the sandbox closes; or
            ``:memory:``.
        seed: Whether a new database gets example card keys (4, 1 and 89 for the products 4, 5 and 8). False: no product
            has any.
        callback_url: The callback URL of shop one, as with :meth:`change_shop`; None: keep the one in the database.
        clock: Returns the sandbox's time, in epoch seconds.
        **switches: The attributes of :class:`Options`, by name.

    Raises:
        InvalidArgumentError: An argument, or the value of a switch, is invalid. For *callback_url* it is a
            ``CallbackUrlError``.
        LaterVersionError: A later version of this package has created the file.
        sqlite3.Error: The file can't be opened, or is no database.
    """

    def __init__(
        self,
        database: str | PathLike[str] = ":memory:",
        *,
        seed: bool = True,
        callback_url: str | None = None,
        clock: Callable[[], float] = time.time,
        **switches: Unpack[Switches],
    ) -> None:
        options = Options(**switches)
        super().__init__(database, options, seed=seed, callback_url=callback_url, clock=clock)
        self._faults = FaultQueue()
        self._request_log = RequestLog()
        api = ApiService(database=self._database, clock=clock, paging=self._paging, options=options)
        pages = build_pages_app(self._order_service, self._faults, beyond_loopback=options.callbacks_beyond_loopback)
        self._watchers: list[Watcher] = []
        self.app = FaultyApp(
            build_app(api, pages), pick=self._pick, now=clock, replies=Replies(options), notify=self._notify_watchers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. Leave serve() first. A second call does nothing."""
        self._database.close()

    @asynccontextmanager
    async def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str, None]:
        """
        Serve HTTP in one thread, and send callbacks in another. Works on asyncio and trio.

        The console is at ``/``. Callbacks that are left from an earlier run are sent, too.

        Args:
            host: Only 127.0.0.1 is accepted.
            port: The port; 0: a free one.

        Yields:
            The base URL, such as ``http://127.0.0.1:43211/api/``, as soon as the server accepts connections. At the end
            of the block, requests in progress are cut off.

        Raises:
            InvalidArgumentError: *host* is not 127.0.0.1, or *port* is no number of a port.
            PortTakenError: The port is in use, or requires privileges.
            RuntimeError: The server's thread failed before it accepted connections.
        """
        server = LoopbackServer(self.app, host=host, port=port)
        beyond_loopback = self._options.callbacks_beyond_loopback
        callback_sender = CallbackSender(
            self._outbox, beyond_loopback=beyond_loopback, now=self._clock, notify=self._notify_watchers
        )
        server.start()
        try:
            await to_thread.run_sync(server.wait)
            await to_thread.run_sync(callback_sender.start)
            yield f"http://{host}:{server.port}/api/"
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(server.stop)
                await to_thread.run_sync(callback_sender.stop)

    # -- faults ------------------------------------------------------------------------------------------

    def fault(self, fault: Fault) -> None:
        """
        Add a fault after the existing ones. A request is hit by the first fault that matches and is not used up.

        A fault with ``skip`` or ``probability`` may let a matching request pass. Then a later fault can hit it.

        Raises:
            InvalidArgumentError: *fault* is no :class:`Fault`.
        """
        check_instance("fault", fault, Fault)
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    @property
    def requests(self) -> list[SeenRequest]:
        """The last 10,000 requests to the endpoints, oldest first, including those hit by a fault."""
        return self._request_log.read()

    def watch(self, watcher: Watcher) -> None:
        """
        Call *watcher* with an event for each call that has ended, and each callback that was sent.

        Args:
            watcher: Called in several threads of the sandbox at the same time. It must not block.

        Raises:
            InvalidArgumentError: *watcher* can't be called.
        """
        check_callable("watcher", watcher)
        self._watchers.append(watcher)

    def _notify_watchers(self, event: SandboxEvent) -> None:
        for watcher in self._watchers:
            watcher(event)

    def _pick(self, endpoint: str) -> Fault | None:
        """Record a request to *endpoint*, and return the fault that hits it, or None."""
        self._request_log.record(endpoint, self._clock())
        return self._faults.pick(endpoint)
