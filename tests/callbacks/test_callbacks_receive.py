"""``CallbackApp.receive``, which needs no ASGI server; deliveries as a form, and without an appkey."""

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from delivering import CREDENTIALS, Shop, call, query, signed_fields

from gatepay_async import CallbackReply
from gatepay_async.callbacks import MemoryStore
from gatepay_async.protocol.signing import Credentials

pytestmark = [pytest.mark.fast, pytest.mark.anyio]

FORM = b"application/x-www-form-urlencoded"


def query_without(name: str, *, credentials: Credentials = CREDENTIALS) -> bytes:
    """Return the query string of a genuine callback without the field *name*."""
    return urlencode(
        {key: value for key, value in signed_fields(credentials=credentials).items() if key != name}
    ).encode()


async def post(app: Any, body: bytes, *, query_string: bytes = b"", types: tuple[bytes, ...] = (FORM,)) -> str:
    """POST *body* with a Content-Type header for each of *types*. Return the response's status and body."""

    class WithContentTypes:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "headers": [(b"Content-Type", content_type) for content_type in types]}, receive, send)

    parts = [{"type": "http.request", "body": body, "more_body": False}]
    answer = await call(WithContentTypes(), query_string, method="POST", parts=parts)
    return f"{answer.status} {answer.body.decode()}"


async def test_receive_accepts_text_or_bytes_and_returns_body_and_status() -> None:
    """``receive`` handles a query as text or bytes once. Invalid input of any kind gets ``fail`` with status 400."""
    shop = Shop(MemoryStore())
    app = shop.app()
    success, refused = CallbackReply("success", 200), CallbackReply("fail", 400)
    assert await app.receive(query().decode()) == success
    assert await app.receive(query()) == success
    assert await app.receive(b"?" + query()) == success
    invalid: list[Any] = ["", b"\xff", "\ud800", None, {"a": "1"}, query(realprice="0.01", order_id="2")]
    assert [await app.receive(received) for received in invalid] == [refused] * 6
    shop.failures.append(OSError("no disk"))
    assert await app.receive(query(order_id="3")) == CallbackReply("fail", 500)
    assert shop.event_kinds == ["handled", "repeated", "repeated", *["refused"] * 5, "underpaid", "failed"]


async def test_callback_without_an_appkey_is_handled() -> None:
    """A callback without an appkey is verified by its signature, and is the same payment as one with the appkey."""
    shop = Shop(MemoryStore())
    app = shop.app()
    assert await post(app, query_without("appkey")) == "200 success"
    assert (await call(app, query_without("appkey"))).body == b"success"
    assert (await call(app, query())).body == b"success"
    assert shop.event_kinds == ["handled", "repeated", "repeated"]


async def test_another_appkey_or_signature_is_refused() -> None:
    """A callback with another, an empty or two appkeys, or with another shop's signature, is refused."""
    shop = Shop(MemoryStore())
    app = shop.app()
    other_credentials = Credentials("other", "canary-of-the-appsecret")
    without_appkey = query_without("appkey")
    queries = [
        b"appkey=other&" + without_appkey,
        b"appkey=&" + without_appkey,
        b"appkey&" + without_appkey,
        b"appkey=gp-key%20&" + without_appkey,
        b"appkey=GP-KEY&" + without_appkey,
        query(credentials=other_credentials, appkey="other"),
        query(credentials=other_credentials),
        query_without("appkey", credentials=other_credentials),
        b"appkey=gp-key&appkey=other&" + without_appkey,
        b"appkey=gp-key&%61ppkey=gp-key&" + without_appkey,
    ]
    for received in queries:
        assert (await app.receive(received)).body == "fail", received
    assert shop.event_kinds == ["refused"] * len(queries)


async def test_characters_moved_between_fields_are_refused_without_an_appkey() -> None:
    """Without an appkey, a character moved to a neighbouring field makes the field invalid or the order unknown."""
    signed = signed_fields(order_id="12", out_order_id="3A4", price="12.00", realprice="12.00")
    shop = Shop(MemoryStore(), prices={"3A4": Decimal("12.00")})
    app = shop.app()
    changes = [
        {"order_id": "1", "out_order_id": "23A4"},
        {"order_id": "123", "out_order_id": "A4"},
        {"order_id": "y12"},
        {"out_order_id": "3A41", "price": "2.00"},
        {"out_order_id": "3A", "price": "412.00"},
        {"price": "12.0", "realprice": "012.00"},
        {"price": "12.001", "realprice": "2.00"},
        {"realprice": "12.00a", "type": "lipay"},
        {"type": "alipay1", "paytime": "555750250"},
        {"paytime": "155575025", "extend": "0" + signed["extend"]},
        {"paytime": signed["paytime"] + "t", "extend": signed["extend"][1:]},
    ]
    for changed in changes:
        text = urlencode({name: value for name, value in {**signed, **changed}.items() if name != "appkey"})
        assert (await app.receive(text)).body == "fail", changed
    assert shop.handled == []
    assert await app.receive(urlencode({**signed, "appkey": "gp-key"})) == CallbackReply("success", 200)


async def test_post_reads_only_its_body_and_get_only_its_query() -> None:
    """A POST's fields are read from its body only, a GET's from its query string only."""
    shop = Shop(MemoryStore())
    app = shop.app()
    assert await post(app, b"", query_string=query()) == "400 fail"
    assert await post(app, b"sign=" + b"0" * 32, query_string=query_without("sign")) == "400 fail"
    assert await post(app, query(), query_string=b"shop=1&price=0.01&appkey=other") == "200 success"
    body = [{"type": "http.request", "body": query(price="0.01"), "more_body": False}]
    assert (await call(app, query(), parts=body)).body == b"success"
    assert shop.event_kinds == ["refused", "refused", "handled", "repeated"]


async def test_body_of_another_content_type_is_refused() -> None:
    """A body is read if its Content-Type is that of a form, or missing. With another type it is refused."""
    for types, expected in (
        ((FORM,), "200 success"),
        ((b"Application/X-WWW-Form-UrlEncoded; charset=UTF-8",), "200 success"),
        ((), "200 success"),
        ((b"application/json",), "400 fail"),
        ((b"multipart/form-data; boundary=x",), "400 fail"),
        ((b"",), "400 fail"),
        ((FORM, b"text/plain"), "400 fail"),
    ):
        shop = Shop(MemoryStore())
        assert await post(shop.app(), query(), types=types) == expected, types
        assert shop.event_kinds == ["handled" if expected == "200 success" else "refused"]


async def test_reading_stops_when_the_body_is_too_long() -> None:
    """A body is refused as soon as it exceeds the maximum length. The rest isn't read."""
    shop = Shop(MemoryStore())
    pieces = [b"extend=" + b"x" * 5000, b"y" * 5000, RuntimeError("read on")]
    answer = await call(shop.app(), method="POST", parts=pieces)
    assert (answer.status, answer.body, shop.event_kinds) == (400, b"fail", ["refused"])
