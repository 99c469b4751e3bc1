"""Follows the progress of a request in httpx's own transports, with httpx's extension ``trace``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from gatepay_async.exchange.port import Watch


class Trace:
    """
    Reports the progress of one request to *watch*.

    For a tunnel through a proxy, httpcore sends a request of its own (CONNECT), and reports it with the same events.
    The CONNECT doesn't count as sending, because it contains nothing of our request.

    Args:
        watch: Receives the reports.
        check_host: Raises if a test must not call the host; None: no check. Called before each step of the request.
    """

    def __init__(self, watch: Watch, *, check_host: Callable[[], None] | None = None) -> None:
        self._watch = watch
        self._check_host = check_host
        self._failure: BaseException | None = None
        self._proxy_stream: Any = None

    async def on_event(self, event: str, info: dict[str, Any]) -> None:
        """Handle an event, such as ``http11.send_request_headers.started`` or ``connection.connect_tcp.failed``."""
        step, _, state = event.partition(".")[2].rpartition(".")
        if step == "response_closed":
            return  # it may come after a failure, and its start must not reset self._failure
        if state == "failed":
            self._failure = info.get("exception")
            if isinstance(self._failure, Exception):
                # A user's transport may now send the request through another transport, which reports nothing.
                self._watch.reports_sending = False
            else:
                self._watch.note_cancellation()
            if step == "setup_socks5_connection":
                await self._close_proxy_stream()
        if state == "started":
            self._proxy_stream = info.get("stream")
            self._note_start(step, info)

    async def _close_proxy_stream(self) -> None:
        """Close the connection after a SOCKS proxy has refused a tunnel. httpcore would leave it open."""
        if self._proxy_stream is not None:
            with anyio.CancelScope(shield=True):
                await self._proxy_stream.aclose()

    def _note_start(self, step: str, info: dict[str, Any]) -> None:
        if self._check_host is not None:
            self._check_host()
        self._failure = None
        self._watch.reports_sending = True
        if step == "send_request_headers" and getattr(info.get("request"), "method", b"") != b"CONNECT":
            self._watch.note_sending()

    def reply_received(self) -> None:
        """Record that a reply came, so that the request must have been sent."""
        self._watch.note_sending()

    def has_traced(self, error: BaseException) -> bool:
        """
        Whether *error* is the last traced failure, or the httpx error that was raised from it.

        If so, the trace shows all that was sent. The ``__context__`` of *error* is not considered: a user's transport
        may have handled the failure by trying another transport, which raised *error*.
        """
        return self._failure is not None and self._failure in (error, error.__cause__)
