"""What httpx's own transports tell of a request, through the extension ``trace``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from gatepay_async.exchange.port import Watch


class Trace:
    """
    Tells *watch* of one request, wherever in httpcore it is.

    A proxy is asked for a tunnel with a request of its own (CONNECT), and httpcore reports that one by the same events,
    since it passes the extensions on. Nothing of ours has left with it.

    Args:
        permit: Called before anything else happens; what it raises ends the request.
    """

    def __init__(self, watch: Watch, *, permit: Callable[[], None] | None = None) -> None:
        self._watch = watch
        self._permit = permit
        self._failed: BaseException | None = None
        self._proxy_stream: Any = None

    async def on_event(self, event: str, info: dict[str, Any]) -> None:
        """One event: ``http11.send_request_headers.started``, for example, or ``connection.connect_tcp.failed``."""
        step, _, state = event.partition(".")[2].rpartition(".")
        if step == "response_closed":  # comes after a failure, and says nothing new
            return
        if state == "failed":
            self._failed = info.get("exception")
            if isinstance(self._failed, Exception):
                # What a transport does next, after an error, may be in other hands, which tell nothing.
                self._watch.reports_sending = False
            else:
                self._watch.interrupted()
            if step == "setup_socks5_connection":
                await self._close_proxy_stream()
        if state == "started":
            self._proxy_stream = info.get("stream")
            self._note_start(step, info)

    async def _close_proxy_stream(self) -> None:
        """Close the connection to a SOCKS proxy that makes no tunnel: httpcore leaves it to the garbage collector."""
        if self._proxy_stream is not None:
            with anyio.CancelScope(shield=True):
                await self._proxy_stream.aclose()

    def _note_start(self, step: str, info: dict[str, Any]) -> None:
        if self._permit is not None:
            self._permit()
        self._failed = None
        self._watch.reports_sending = True
        if step == "send_request_headers" and getattr(info.get("request"), "method", b"") != b"CONNECT":
            self._watch.sending()

    def reply_received(self) -> None:
        """There is a reply: whoever carried the request has sent it."""
        self._watch.sending()

    def has_traced(self, error: BaseException) -> bool:
        """
        Whether *error* is the failure that was traced last, or what httpx has made of it.

        If so, the trace knows all of it. An error that was merely raised while that failure was handled, as its
        ``__context__`` shows, may be another transport's, to which a transport of yours has turned.
        """
        return self._failed is not None and self._failed in (error, error.__cause__)
