"""``AsyncGatePay``: its settings, opening and closing. Its other methods are in the other files of this package."""

from __future__ import annotations

import math
import threading
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import httpx

from gatepay_async.client.caller import Caller
from gatepay_async.client.card_keys import CardKeys
from gatepay_async.client.payments import Payments
from gatepay_async.client.queries import Queries
from gatepay_async.client.settings import (
    check_transport,
    cloud_url_or_env,
    secret_or_env,
    url_or_env,
    value_or_env,
)
from gatepay_async.event_loop import run_in_thread
from gatepay_async.exchange.attempts import Attempts
from gatepay_async.exchange.libraries import classes
from gatepay_async.exchange.opening import open_exchange
from gatepay_async.protocol import checks
from gatepay_async.protocol.checks import check_instance
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.frames import scrub_errors
from gatepay_async.protocol.observing import ClientFacts, Telemetry
from gatepay_async.protocol.retrying import RetryPolicy
from gatepay_async.protocol.signing import Credentials
from gatepay_async.words.arguments import check_bool
from gatepay_async.words.problem import Problem

if TYPE_CHECKING:
    import httpx2

BASE_URL = "https://gatepay.io/api/"
CLOUD_BASE_URL = "https://cloud.gatepay.io/api/"

# The methods need these modules. They are imported when a client is opened. Importing them with the package would make
# that a quarter slower. At their first use, it would block the event loop, and a failed import would lose a reply.
_IMPORTED_BY_OPENING: Final = ("upload", "walking", "protocol.converters", "protocol.payment_calls")
_HAS_IMPORTED: Final = threading.Event()


class AsyncGatePay(Payments, CardKeys, Queries):
    """
    A client of GatePay, on asyncio or trio; an asynchronous context manager.

    ::

        async with AsyncGatePay(appkey, appsecret) as gatepay:
            catalog = await gatepay.list_products()

    Create one client when your program starts and share it between the tasks of one event loop. You can cancel
    any call at any await. Every method may raise ``InvalidRequestError`` (nothing was sent),
    ``RefusedError`` (GatePay refused the call), ``ProtocolError`` (the reply is not GatePay's), ``TransportError`` (no
    reply).

    Args:
        appkey: From GatePay's console. The default is the environment variable ``GATEPAY_APPKEY``.
        appsecret: From GatePay's console. The default is ``GATEPAY_APPSECRET``, or else the contents of the file that
            ``GATEPAY_APPSECRET_FILE`` names. It is never sent, and never appears in a ``repr`` or an error.
        base_url: The default is ``GATEPAY_BASE_URL``, or else ``https://gatepay.io/api/``.
        cloud_base_url: The base URL of ``create_cloudpay``; GatePay's agents have their own. The default is
            ``GATEPAY_CLOUD_BASE_URL``, or else ``https://cloud.gatepay.io/api/``. Two exceptions prevent a test with a
            sandbox from creating a real order. First, if you pass ``base_url``, ``GATEPAY_CLOUD_BASE_URL`` is used
            only if your ``base_url`` equals ``GATEPAY_BASE_URL`` (or its default). Second,
            ``https://cloud.gatepay.io/api/`` is the default only if the client's base URL is GatePay's. If none of
            these URLs applies, ``create_cloudpay`` raises ``InvalidRequestError``.
        timeout: Seconds, or a ``timedelta``, for one attempt, from connecting to the last byte; None: no limit. Waiting
            for one of ``max_connections`` doesn't count.
        deadline: Seconds, or a ``timedelta``, for a whole call, including waits and retries; None: no limit.
        max_connections: The largest number of open connections. Further calls wait, first come, first served.
        retry: How often and when a call is retried, where that is safe.
        http_client: Your own httpx or httpx2 client, used unchanged; you close it.
        transport: Your own httpx or httpx2 transport, used unchanged; you close it.
        allow_http: Allow a ``base_url`` or ``cloud_base_url`` without TLS on another machine.
        trust_env: Use the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names (NO_PROXY lists exceptions), and the
            certificates of SSL_CERT_FILE or SSL_CERT_DIR. Your own ``http_client`` or ``transport`` is not affected.

    Raises:
        InvalidRequestError: An argument or an environment variable is invalid; ``.field`` is its name.
    """

    @scrub_errors
    def __init__(
        self,
        appkey: str | None = None,
        appsecret: str | None = None,
        *,
        base_url: str | None = None,
        cloud_base_url: str | None = None,
        timeout: Seconds | None = 10.0,
        deadline: Seconds | None = 60.0,
        max_connections: int = 100,
        retry: RetryPolicy | None = None,
        http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
        transport: httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport | None = None,
        allow_http: bool = False,
        trust_env: bool = True,
    ) -> None:
        self._credentials = Credentials(
            value_or_env("appkey", appkey, "GATEPAY_APPKEY"),
            secret_or_env(appsecret),
        )
        for name, value in (("allow_http", allow_http), ("trust_env", trust_env)):
            check_bool(name, value, error=InvalidRequestError)
        self._base_url = url_or_env("base_url", base_url, BASE_URL, allow_http=allow_http)
        # If only base_url is set to a sandbox, create_cloudpay must not create a real order.
        cloud_default = CLOUD_BASE_URL if self._base_url == BASE_URL else ""
        passed_base_url = None if base_url is None else self._base_url
        cloud_base_url = cloud_url_or_env(
            cloud_base_url,
            cloud_default,
            passed_base_url=passed_base_url,
            default_base_url=BASE_URL,
            allow_http=allow_http,
        )
        timeout = to_seconds_or_none("timeout", timeout)
        deadline = to_seconds_or_none("deadline", deadline)
        checks.check("max_connections", max_connections, checks.positive)
        if http_client is not None and transport is not None:
            raise InvalidRequestError(field="transport", problem=Problem("client_and_transport"))
        check_instance("http_client", http_client, *classes("AsyncClient"))
        check_transport(transport, *classes("AsyncBaseTransport"))
        check_instance("retry", retry, RetryPolicy)
        self._deadline = math.inf if deadline is None else deadline
        self._timeout = math.inf if timeout is None else timeout
        self._max_connections = max_connections
        self._opens_pool = http_client is None and transport is None
        self._policy = retry or RetryPolicy()

        def attempts_at(url: str) -> Attempts:
            open_connections = partial(
                open_exchange,
                url,
                max_connections=max_connections,
                http_client=http_client,
                transport=transport,
                trust_env=trust_env,
                lazy_client_timeout=timeout,  # of the client that `http` creates at its first use
            )
            return Attempts(url, timeout=self._timeout, open_exchange=open_connections)

        self._caller = Caller(
            self._credentials,
            attempts=attempts_at(self._base_url),
            cloud_attempts=attempts_at(cloud_base_url) if cloud_base_url else None,
            deadline=self._deadline,
            policy=self._policy,
        )

        self._cloud_base_url = cloud_base_url

    def __repr__(self) -> str:
        return f"<AsyncGatePay {self._credentials.appkey!r} at {self._base_url}>"

    def _instrument(self, telemetry: Telemetry) -> None:
        """Report all further calls to *telemetry*."""
        facts = ClientFacts(self._base_url, self._cloud_base_url or None, self._caller.connections)
        self._caller.observer = telemetry.client(facts)

    async def __aenter__(self) -> Self:
        if not _HAS_IMPORTED.is_set():
            if self._opens_pool:
                await run_in_thread(_import_the_rest)
            else:
                # Not in a thread: a test with its own transport may use a virtual clock, which waits for no thread.
                _import_the_rest()
        await self._caller.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._caller.aclose()

    @property
    def http(self) -> httpx.AsyncClient:
        """
        An httpx client for other requests, such as a payment page; open as long as this one.

        Requests to the origin of ``base_url`` share this client's connections. Requests to other origins use httpx's
        connections, with the same proxy and certificates. Nothing is signed or retried, and errors are httpx's. The
        ``timeout`` is this client's; ``deadline`` doesn't apply. Redirects are followed only if you ask for it. If you
        passed ``http_client``, this is that client. If you passed ``transport``, this is a client over it, from the
        same library (httpx or httpx2).

        If this client is not open, ``InvalidRequestError`` is raised.
        """
        return self._caller.http()

    @property
    def max_call_seconds(self) -> float:
        """The longest time of a call in seconds, including waits and retries. Infinite without timeout and deadline."""
        attempts = self._policy.attempts
        wait = max(self._policy.longest_wait, self._policy.longest_retry_after)
        return min(self._deadline, self._timeout * attempts + wait * (attempts - 1))


def _import_the_rest() -> None:
    """Import the modules that the client's methods need."""
    for name in _IMPORTED_BY_OPENING:
        import_module(f"gatepay_async.{name}")
    _HAS_IMPORTED.set()
