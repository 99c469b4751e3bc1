"""
Protects the pages: only the user of this machine may use them.

The console shows secrets and changes data without a password, so three attacks are blocked:

- DNS rebinding: a request for a host name that an attacker points at 127.0.0.1 is refused.
- Requests from other sites: links to the console work, but forms and scripts of other sites are refused.
- Injected content: pages load nothing from other sites, run no inline scripts, and can't be framed.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

_SECURITY_HEADERS = {
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
        """Pass the request on, or refuse it. Either way the response gets the security headers."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY_HEADERS)
            await send(message)

        refusal = _rejection(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send_guarded)


def _rejection(scope: Scope) -> Response | None:
    """Return the response that refuses the request; None: the request is allowed."""
    headers = Headers(scope=scope)
    if not _is_own_host(headers.get("host", ""), scope):
        return PlainTextResponse("Misdirected Request: the sandbox is 127.0.0.1 or localhost", status_code=421)
    if scope["method"] not in ("GET", "HEAD") and not _is_own_form(headers):
        return PlainTextResponse("Forbidden: this form was sent by another site's page", status_code=403)
    return None


def _is_own_host(host: str, scope: Scope) -> bool:
    """Whether the Host header is a name of this machine. The port may differ, for example if it is forwarded."""
    name = _host_of(f"//{host}")  # None: the header is missing or invalid, which is refused
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        # In process (httpx.ASGITransport) there is no socket, and the caller chooses the server's name.
        return bool(scope["server"]) and name == scope["server"][0]


def _is_own_form(headers: Mapping[str, str]) -> bool:
    # Browsers since 2023 send Sec-Fetch-Site; `none` means that the user started the request. Older browsers send
    # Origin. A client that sends neither header isn't a browser, so the request can't come from another site's page.
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
