"""GatePay's other end as one object: the shops, the orders, their faults, and both ways to reach it."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from anyio import CancelScope, to_thread

from gatepay_async.sandbox.api_service import ApiService
from gatepay_async.sandbox.app import FaultyApp, build_app
from gatepay_async.sandbox.callback_sender import CallbackSender
from gatepay_async.sandbox.endpoints import ENDPOINTS
from gatepay_async.sandbox.events import SandboxEvent, Watcher
from gatepay_async.sandbox.faults import Fault, FaultQueue
from gatepay_async.sandbox.options import Options, Switches
from gatepay_async.sandbox.order_controls import OrderControls
from gatepay_async.sandbox.pages_app import build_pages_app
from gatepay_async.sandbox.replies import Replies
from gatepay_async.sandbox.request_log import RequestLog, SeenRequest
from gatepay_async.sandbox.server import LoopbackServer

__all__ = ["Sandbox"]


class Sandbox(OrderControls):
    """
    GatePay on your own machine, with the vendor's example shops in it.

    Shop one (``appkey``, ``appsecret``) owns the products 4, 5 and 8 of the vendor's page; shop two, the
    second of :attr:`shops`, owns product 3, which starts without keys.

    Args:
        database: An SQLite file, made if it is not there and kept when the sandbox closes; or ``:memory:``.
        seed: Whether a new database gets the example keys that the examples' stock speaks of
            (4, 1 and 89 for the products 4, 5 and 8). False: no product has a key.
        callback_url: Where shop one is told of paid orders, as by :meth:`change_shop`; None: as it was.
        clock: Epoch seconds.
        **switches: What :class:`Options` has, by name.

    Raises:
        CallbackUrlError: The callback URL can't be one.
        ValueError: A switch has no such position: a number of seconds is not above 0 (the interval: below 0), a word
            is none of those.
        LaterVersionError: A later version has made the file.
        sqlite3.Error: The file can't be opened, or is no database.
    """

    def __init__(
        self,
        database: str | Path = ":memory:",
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
            build_app(api, pages), pick=self._pick, now=clock, replies=Replies(options), tell=self._tell
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
        """Close the database; a second call does nothing. End serve() first."""
        self._database.close()

    @asynccontextmanager
    async def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str, None]:
        """
        Serve real HTTP from a thread of its own, from asyncio or trio, and send callbacks from another.

        The console is at ``/``. Callbacks that wait since an earlier run go out, too.

        Args:
            host: 127.0.0.1; nothing else is accepted.
            port: 0 for a free one.

        Yields:
            The base URL, such as ``http://127.0.0.1:43211/api/``, once it accepts connections. On leaving,
            whatever request is under way is cut off.

        Raises:
            ValueError: Another host.
            PortTakenError: Something else has the port.
            RuntimeError: The server's thread died before it could accept.
        """
        server = LoopbackServer(self.app, host=host, port=port)
        beyond_loopback = self._options.callbacks_beyond_loopback
        callback_sender = CallbackSender(
            self._outbox, beyond_loopback=beyond_loopback, now=self._clock, tell=self._tell
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
        Add a fault behind those that are there; a request meets the first that matches and is not used up.

        Raises:
            ValueError: The fault names an endpoint that there isn't.
        """
        if fault.endpoint not in (None, *ENDPOINTS):
            raise ValueError(f"no endpoint {fault.endpoint!r}; there are {', '.join(ENDPOINTS)}")
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    @property
    def requests(self) -> list[SeenRequest]:
        """The last 10,000 requests to the endpoints, oldest first, those that met a fault too."""
        return self._request_log.read()

    def watch(self, watcher: Watcher) -> None:
        """
        Have *watcher* called with each call that has ended, and each callback that was sent.

        Args:
            watcher: Is called in the sandbox's own threads, several at once, and must not block.
        """
        self._watchers.append(watcher)

    def _tell(self, event: SandboxEvent) -> None:
        for watcher in self._watchers:
            watcher(event)

    def _pick(self, endpoint: str) -> Fault | None:
        self._request_log.record(endpoint, self._clock())
        return self._faults.pick(endpoint)
