"""Makes signed callbacks, and calls an ASGI application without a server."""

from collections.abc import MutableMapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import anyio
from attrs import define, field

from gatepay_async.callbacks import CallbackApp, CallbackEvent, Store
from gatepay_async.protocol.callback import SIGNED
from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.signing import Credentials, sign

CREDENTIALS = Credentials("gp-key", "canary-of-the-appsecret")
PAID_AT = 1555750250  # a Unix time
CALLBACK_FIELDS = {
    "appkey": "gp-key",
    "order_id": "67848",
    "out_order_id": "T-1001-X",
    "price": "10.23",
    "realprice": "10.23",
    "type": "alipay",
    "paytime": str(PAID_AT),
    "extend": "terry@example.com",
}


def signed_fields(*, credentials: Credentials = CREDENTIALS, **changes: str) -> dict[str, str]:
    """Return the fields of a callback with *changes*, signed with *credentials*."""
    changed = {**CALLBACK_FIELDS, **changes}
    return {**changed, "sign": sign(credentials, [changed[name] for name in SIGNED])}


def query(*, credentials: Credentials = CREDENTIALS, **changes: str) -> bytes:
    """Return the query string of a callback with *changes*, signed with *credentials*."""
    return urlencode(signed_fields(credentials=credentials, **changes)).encode()


@define
class Answer:
    """The response of an application."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class NoAnswerError(Exception):
    """The application sent no response."""


async def call(app: Any, query_string: bytes = b"", *, method: str = "GET", parts: list[Any] | None = None) -> Answer:
    """
    Make one request. ``receive()`` returns *parts* one after the other, then waits for ever.

    A part of type bytes is a piece of the body that is not the last one. Other parts are ASGI messages.
    """
    sent: list[MutableMapping[str, Any]] = []
    queue = list(parts if parts is not None else [{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        if not queue:
            await anyio.sleep_forever()
        part = queue.pop(0)
        return {"type": "http.request", "body": part, "more_body": True} if isinstance(part, bytes) else part

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/", "query_string": query_string, "headers": []}
    await app(scope, receive, send)
    if not sent:
        raise NoAnswerError
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    return Answer(start["status"], dict(start["headers"]), body["body"])


async def reply_to(app: Any, query_string: bytes) -> str:
    """Return the body of the response to a GET with *query_string*."""
    return (await call(app, query_string)).body.decode()


@define
class Shop:
    """
    A merchant, who records handled callbacks and events.

    Attributes:
        store: The store of the merchant's app.
        handled: The callbacks that the handler was called with.
        events: The arguments of ``on_event``.
        failures: Errors that the handler raises, one in each call.
        prices: The price of each order, for ``lookup``; None: the app has no ``lookup``.
    """

    store: Store
    handled: list[Callback] = field(factory=list)
    events: list[CallbackEvent] = field(factory=list)
    failures: list[BaseException] = field(factory=list)
    prices: dict[str, Decimal] | None = None

    async def handle(self, callback: Callback) -> None:
        self.handled.append(callback)
        if self.failures:
            raise self.failures.pop(0)

    async def price_of(self, out_order_id: str) -> Decimal | None:
        assert self.prices is not None
        return self.prices.get(out_order_id)

    def app(self, handler: Any = None, **options: Any) -> CallbackApp:
        return CallbackApp(
            handler or self.handle,
            **{
                "appkey": CREDENTIALS.appkey,
                "appsecret": CREDENTIALS.appsecret,
                "store": self.store,
                "on_event": self.events.append,
                "lookup": None if self.prices is None else self.price_of,
                **options,
            },
        )

    @property
    def event_kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]
