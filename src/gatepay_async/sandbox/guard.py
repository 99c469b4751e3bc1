"""
What stands around the pages: nobody but this machine's user, in a browser or out of one, may use them.

The console shows secrets and changes things without a password, so three doors are shut. A name that an attacker
points at 127.0.0.1 (DNS rebinding) is no name of ours. Another site's page may link here, but its forms and scripts
are refused. And what is shown loads nothing from elsewhere, runs nothing inline, and stands in nobody's frame.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI application around the pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or refuse it; either way with the headers that shut the doors."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = _rejection(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send_guarded)


def _rejection(scope: Scope) -> Response | None:
    headers = Headers(scope=scope)
    if not _is_own_host(headers.get("host", ""), scope):
        return PlainTextResponse("Misdirected Request: the sandbox is 127.0.0.1 or localhost", status_code=421)
    if scope["method"] not in ("GET", "HEAD") and not _comes_from_here(headers):
        return PlainTextResponse("Forbidden: this form was sent by another site's page", status_code=403)
    return None


def _is_own_host(host: str, scope: Scope) -> bool:
    # The port may differ, as when it is forwarded; an attacker's name may not.
    name = _host_of(f"//{host}")
    if name is None or name == "localhost" or name.endswith(".localhost"):
        return name is not None
    try:
        return ip_address(name).is_loopback
    except ValueError:
        # In one process there is no listening: the address is whatever its caller made up.
        return bool(scope["server"]) and name == scope["server"][0]


def _comes_from_here(headers: Mapping[str, str]) -> bool:
    # Fetch metadata: every browser since 2023 says whose page sends; a person's own doing is `none`. Before that,
    # Origin. What says neither is no browser, and carries nobody's rights but its own.
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
