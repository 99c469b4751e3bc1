"""``CallbackApp``: the ASGI application that GatePay calls when a customer has paid."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import anyio

from gatepay_async.callbacks.events import CallbackEvent, EventKind, OnEvent, report_event
from gatepay_async.callbacks.once import Handler, Lookup, OncePerPayment
from gatepay_async.callbacks.store import Store
from gatepay_async.protocol.callback import credentials_of, verify_callback
from gatepay_async.protocol.callback_errors import CallbackError, MalformedCallbackError, StaleCallbackError
from gatepay_async.protocol.checks import check_members
from gatepay_async.protocol.durations import Seconds, to_seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.frames import scrub_errors
from gatepay_async.protocol.models import Callback, CallbackReply
from gatepay_async.protocol.money import parse_amount
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.protocol.queries import MAX_QUERY_BYTES
from gatepay_async.words.arguments import check_callable
from gatepay_async.words.problem import Problem

# ASGI's types.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_MAX_CLOCK_SKEW_S = 300.0  # seconds that GatePay's clock may be ahead of ours
_MAX_TIMEOUT_S = 3600.0
_SHUTDOWN_TIMEOUT_S = 15.0  # how long a stopping server waits for deliveries in progress
_DRAIN_INTERVAL_S = 0.01  # how often a stopping server checks whether they have ended

_FORM_CONTENT_TYPE = b"application/x-www-form-urlencoded"

# The headers of a reply, by its body.
_REPLY_HEADERS = {
    body: (
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),  # otherwise a cache in between could answer the next delivery
    )
    for body in ("success", "fail")
}

# GatePay documents only the two words. The HTTP status is for proxies, logs and alarms.
_SUCCESS_REPLY = CallbackReply("success", 200)
_REFUSED_REPLY = CallbackReply("fail", 400)
_FAILED_REPLY = CallbackReply("fail", 500)
_WRONG_METHOD_REPLY = CallbackReply("fail", 405)
_TOO_SLOW_REPLY = CallbackReply("fail", 408)
_REPLY_BY_KIND = {
    EventKind.HANDLED: _SUCCESS_REPLY,
    EventKind.REPEATED: _SUCCESS_REPLY,
    EventKind.UNDERPAID: _REFUSED_REPLY,
    EventKind.REFUSED: _REFUSED_REPLY,
    EventKind.FAILED: _FAILED_REPLY,
}


class CallbackApp:
    """
    Receives callbacks (支付成功回调接口): an ASGI application, to be served or mounted at any path.

    In a framework that is not ASGI, or to keep your own view, pass the raw text to ``receive()`` instead.

    ::

        async def handler(callback: Callback) -> None:
            await deliver(callback.out_order_id)

        app = CallbackApp(handler, appkey=…, appsecret=…, store=SQLiteStore("callbacks.sqlite3"), lookup=price_of)
        shop.mount("/gatepay/callback", app)  # FastAPI, Starlette; in GatePay's console: https://…/gatepay/callback/

    The callback URL of a mounted application ends with a slash: without it, Starlette redirects, and GatePay may not
    follow. ``Route("/gatepay/callback", app)`` needs no slash.

    A verified callback is passed to *handler* once for each ``order_id``, even if concurrent deliveries arrive in
    several processes. When the handler returns, the store records that, and this delivery and all later ones are
    answered with ``success``. If the handler raises, is cancelled, takes too long or its process dies, the answer is
    ``fail`` or none, and the next delivery runs it again (GatePay makes three more, a minute apart).

    **At least once**: your handler can run again after it has failed half-way. It can also run again after it has
    returned: if the process dies or the store fails before the store commits, or if the store loses its records. For
    exactly once, record the payment in your own database, in the transaction in which you deliver::

        CREATE TABLE paid (order_id BIGINT PRIMARY KEY, …);

        async with database.transaction():
            if await database.execute("INSERT INTO paid … ON CONFLICT DO NOTHING") == 0:
                return  # delivered before; returning answers `success`
            … deliver, in the same transaction …

    **Pass** *lookup*: GatePay signs the fields without separators. Whoever sees a genuine callback can move digits
    between ``order_id``, ``out_order_id`` and ``price`` without breaking the signature, and so make a callback with
    another ``order_id``. To prevent that, compare with your own record of order and price, and use order numbers that
    don't start or end with a digit (``new_out_order_id()``).

    **Paid less than the price**: a customer can pay 0.01 for an order of 0.99, and GatePay calls back all the same.
    Such a callback is answered with ``fail``, *handler* is not called, and ``on_event`` gets an ``underpaid`` event.
    Nothing is recorded: if the customer pays the price later, that callback is handled. *shortfall* allows a
    difference.

    **GET and POST**: of a GET request, the application reads the query string. Of a POST request, it reads the body,
    which must be a form, and ignores the query string. Both kinds may leave out ``appkey``.

    The response is the word ``success`` or ``fail``, as ``text/plain``. The HTTP status is 200 for ``success``. For
    ``fail`` it is 400 if the callback was refused or underpaid, 500 if an error happened on your side, 405 for a method
    other than GET and POST, and 408 if the body doesn't arrive in time. GatePay documents only the two words; the
    status is for your proxies and alarms.

    Args:
        handler: ``async def handler(callback)``, or an object with an async ``__call__``. If it raises, the answer is
            ``fail``.
        appkey: Your appkey. A callback with another appkey is refused.
        appsecret: Your appsecret, or several during a rotation. A signature made with any of them is accepted.
        store: Records handled callbacks: a ``SQLiteStore``, ``RedisStore`` or ``MemoryStore``. Several applications may
            share one store.
        max_age: A callback is refused if the customer paid longer ago than this, in seconds or as a ``timedelta``.
            Leave GatePay time for its retries: an hour rather than a minute. A payment dated more than 300 seconds in
            the future is refused, too. None: any time is accepted. If the store has a ``keep``, ``max_age`` is
            required, and must be at least 300 seconds smaller.
        lookup: ``async def lookup(out_order_id)``: returns the price of the order from your own record, as a
            ``Decimal``, or None if you have no such order. A callback with another ``price`` is refused. With or
            without *lookup*, ``price`` is compared with ``realprice``, the amount that the customer really paid.
        shortfall: How much less than ``price`` the customer may have paid, in yuan, as a ``Decimal`` or text. 0: no
            less. GatePay doesn't document how far ``price`` and ``realprice`` may differ.
        on_event: A function, plain or async, that is called with a ``CallbackEvent`` for each delivery, but not after a
            405, a 408 or a client that disconnects before its body is complete. It is awaited for at most five seconds.
            An error that it raises is only logged.
        timeout: Seconds for *lookup* and *handler* together, at most 3600. A concurrent delivery of the same payment
            waits as long for the result. Work that can't be cancelled (a thread) continues after the timeout; if it
            takes ten seconds more, the next delivery may run concurrently with it.
        clock: Returns the time in epoch seconds; replace it in tests.

    Raises:
        InvalidRequestError: *handler* or *lookup* is not async, or another argument is invalid.
    """

    @scrub_errors
    def __init__(
        self,
        handler: Handler,
        *,
        appkey: str,
        appsecret: str | Sequence[str],
        store: Store,
        max_age: Seconds | None = None,
        lookup: Lookup | None = None,
        shortfall: Decimal | str = Decimal(0),
        on_event: OnEvent | None = None,
        timeout: Seconds = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_async("handler", handler)
        if lookup is not None:
            _check_async("lookup", lookup)
        check_members("store", store, "Store", ("claim", "commit", "release", "keep"))
        if on_event is not None:
            check_callable("on_event", on_event, error=InvalidRequestError)
        check_callable("clock", clock, error=InvalidRequestError)
        self._appkey = appkey
        self._credentials = credentials_of(appkey, appsecret)
        self._max_age = _check_max_age(max_age, store)
        self._on_event = on_event
        self._timeout = _check_timeout(timeout)
        self._clock = clock
        self._store = store
        self._once = OncePerPayment(handler, store, lookup, parse_amount("shortfall", shortfall), self._timeout)
        self._in_progress = 0
        self._telemetry: Telemetry | None = None

    def __repr__(self) -> str:
        return f"<CallbackApp of {self._appkey!r}>"

    def _instrument(self, telemetry: Telemetry) -> None:
        """Report all deliveries from now on to *telemetry*."""
        self._telemetry = telemetry

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, whatever its path. As a server's only application, also close the store at shutdown."""
        if scope["type"] == "http":
            reply = await self._handle_request(scope, receive)
            if reply is not None:
                await _send_reply(reply, send)
        elif scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            raise ValueError(f"CallbackApp handles http, not {scope['type']}")

    async def receive(self, query: str | bytes) -> CallbackReply:
        """
        Handle one delivery, without ASGI: for Django, Flask, aiohttp.web and others.

        ::

            reply = await app.receive(request.META["QUERY_STRING"])  # of a GET; request.body of a POST
            return HttpResponse(reply.body, status=reply.status, content_type="text/plain")

        Call ``aclose()`` of your store when your program ends; only an ASGI server does so by itself.

        Args:
            query: The raw text, as ``parse_callback()`` takes it: a GET's query string, or a POST's body. Not decoded,
                and not a dict.

        Returns:
            The response to send: ``success`` or ``fail``, with its status.

        Raises:
            BaseException: A cancellation, or an error of *handler* that is no ``Exception``. Nothing else.
        """
        response = self._respond(query)
        del query  # it holds the signature, and this frame is in the traceback of what *handler* raises
        return await response

    async def _handle_request(self, scope: MutableMapping[str, Any], receive: Receive) -> CallbackReply | None:
        """Return the reply, or None if the client has disconnected."""
        if scope["method"] == "GET":
            # Not deleted as in receive(): the server's own frames hold the query, too.
            return await self._respond(scope["query_string"])
        if scope["method"] != "POST":
            return _WRONG_METHOD_REPLY
        if not _is_form(scope["headers"]):
            return await self._refuse(MalformedCallbackError(problem=Problem("not_a_form")))
        body = None
        with anyio.move_on_after(self._timeout) as reading:
            body = await _read_body(receive)
        if reading.cancelled_caught:
            return _TOO_SLOW_REPLY
        if body is None:
            return None
        response = self._respond(body)
        del body  # as in receive()
        return await response

    async def _respond(self, query: str | bytes) -> CallbackReply:
        """Verify and handle one delivery, report its event, and return the reply."""
        try:
            callback = self._verify(query)
        except CallbackError as error:
            del query  # as in receive()
            return await self._refuse(error)
        del query
        return await self._report_and_reply(await self._handle(callback))

    async def _refuse(self, error: CallbackError) -> CallbackReply:
        return await self._report_and_reply(CallbackEvent(EventKind.REFUSED, error=error))

    async def _report_and_reply(self, event: CallbackEvent) -> CallbackReply:
        """Report *event*, and return the reply to its delivery."""
        await report_event(event, self._on_event, self._telemetry)
        return _REPLY_BY_KIND[event.kind]

    async def _handle(self, callback: Callback) -> CallbackEvent:
        """Handle a verified callback. A cancellation is reported as a failure, and raised."""
        self._in_progress += 1
        try:
            return await self._once.handle(callback, shop=self._appkey)
        except BaseException as error:
            event = CallbackEvent.of(EventKind.FAILED, callback, error)
            await report_event(event, self._on_event, self._telemetry)
            raise
        finally:
            self._in_progress -= 1

    @scrub_errors
    def _verify(self, query: str | bytes) -> Callback:
        """Return the callback, or raise if it doesn't verify, is too old or is from the future."""
        callback = verify_callback(query, *self._credentials)
        if self._max_age is not None:
            age = self._clock() - callback.paid_at.timestamp()
            if age > self._max_age:
                raise StaleCallbackError(field="paytime", problem=Problem("too_old", seconds=self._max_age))
            if age < -_MAX_CLOCK_SKEW_S:
                raise StaleCallbackError(field="paytime", problem=Problem("in_the_future", seconds=_MAX_CLOCK_SKEW_S))
        return callback

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Close the store when the server stops (ASGI's lifespan protocol)."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        # Deliveries that the server has just cancelled still need the store, to commit or release their claims.
        with anyio.move_on_after(_SHUTDOWN_TIMEOUT_S):
            while self._in_progress:  # noqa: ASYNC110 -- an event would belong to one event loop
                await anyio.sleep(_DRAIN_INTERVAL_S)
        await self._store.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, or None if the client has disconnected. Stop reading when it is too large for a callback."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_QUERY_BYTES or not message.get("more_body", False):
            return bytes(body)


def _is_form(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the content type is that of a form. A missing one is accepted."""
    types = [value for name, value in headers if name.lower() == b"content-type"]
    return all(value.partition(b";")[0].strip().lower() == _FORM_CONTENT_TYPE for value in types)


async def _send_reply(reply: CallbackReply, send: Send) -> None:
    headers = list(_REPLY_HEADERS[reply.body])
    if reply is _WRONG_METHOD_REPLY:
        headers.append((b"allow", b"GET, POST"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body.encode()})


def _check_async(name: str, function: object) -> None:
    """Raise if *function* is neither an async function nor an object with an async ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004 -- its type's: calling a class only constructs an object
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(call):
        raise InvalidRequestError(field=name, problem=Problem("not_async_function", name=name))


def _check_max_age(max_age: Seconds | None, store: Store) -> float | None:
    """Return *max_age* in seconds, or raise if the store may forget a callback before it is too old."""
    seconds = to_seconds_or_none("max_age", max_age)
    if store.keep is not None and (seconds is None or seconds + _MAX_CLOCK_SKEW_S > store.keep):
        problem = Problem("max_age_too_long", keep=store.keep, most=store.keep - _MAX_CLOCK_SKEW_S)
        raise InvalidRequestError(field="max_age", problem=problem)
    return seconds


def _check_timeout(timeout: Seconds) -> float:
    seconds = to_seconds("timeout", timeout)
    if seconds > _MAX_TIMEOUT_S:
        problem = Problem("timeout_too_long", seconds=_MAX_TIMEOUT_S)
        raise InvalidRequestError(field="timeout", problem=problem)
    return seconds
