"""A delivery without ASGI, with a form, and without an appkey."""

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from delivering import SHOP, Shop, call, fields, query

from gatepay_async import CallbackReply
from gatepay_async.callbacks import MemoryStore
from gatepay_async.protocol.signing import Credentials

pytestmark = [pytest.mark.fast, pytest.mark.anyio]

FORM = b"application/x-www-form-urlencoded"


def without(name: str = "appkey", *, shop: Credentials = SHOP) -> bytes:
    """The callback without a field."""
    return urlencode({each: value for each, value in fields(shop=shop).items() if each != name}).encode()


async def post(app: Any, body: bytes, *, query_string: bytes = b"", types: tuple[bytes, ...] = (FORM,)) -> str:
    """POST a body; the bare answer."""

    class Typed:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "headers": [(b"Content-Type", each) for each in types]}, receive, send)

    parts = [{"type": "http.request", "body": body, "more_body": False}]
    answer = await call(Typed(), query_string, method="POST", parts=parts)
    return f"{answer.status} {answer.body.decode()}"


async def test_receive() -> None:
    """Text or bytes come to the handler once, and the reply is the word and its status, whatever came."""
    shop = Shop(MemoryStore())
    app = shop.app()
    success, refused = CallbackReply("success", 200), CallbackReply("fail", 400)
    assert await app.receive(query().decode()) == success
    assert await app.receive(query()) == success
    assert await app.receive(b"?" + query()) == success
    anything: list[Any] = ["", b"\xff", "\ud800", None, {"a": "1"}, query(realprice="0.01", order_id="2")]
    assert [await app.receive(each) for each in anything] == [refused] * 6
    shop.failures.append(OSError("no disk"))
    assert await app.receive(query(order_id="3")) == CallbackReply("fail", 500)
    assert shop.kinds == ["handled", "repeated", "repeated", *["refused"] * 5, "underpaid", "failed"]


async def test_without_an_appkey() -> None:
    """A callback without appkey is verified by its signature, by GET and by POST; it is the same payment as with it."""
    shop = Shop(MemoryStore())
    app = shop.app()
    assert await post(app, without()) == "200 success"
    assert (await call(app, without())).body == b"success"
    assert (await call(app, query())).body == b"success"
    assert shop.kinds == ["handled", "repeated", "repeated"]


async def test_another_appkey() -> None:
    """One that names another appkey, or an empty one, is refused however it is signed; so is another's signature."""
    shop = Shop(MemoryStore())
    app = shop.app()
    other = Credentials("other", "canary-of-the-appsecret")
    rest = without()
    sent = [
        b"appkey=other&" + rest,
        b"appkey=&" + rest,
        b"appkey&" + rest,
        b"appkey=gp-key%20&" + rest,
        b"appkey=GP-KEY&" + rest,
        query(shop=other, appkey="other"),
        query(shop=other),
        without(shop=other),
        b"appkey=gp-key&appkey=other&" + rest,
        b"appkey=gp-key&%61ppkey=gp-key&" + rest,
    ]
    for each in sent:
        assert (await app.receive(each)).body == "fail", each
    assert shop.kinds == ["refused"] * len(sent)


async def test_what_slides_without_an_appkey() -> None:
    """Without appkey as with it, digits that slide into a neighbour break the form, or name an order of nobody."""
    signed = fields(order_id="12", out_order_id="3A4", price="12.00", realprice="12.00")
    shop = Shop(MemoryStore(), prices={"3A4": Decimal("12.00")})
    app = shop.app()
    slides = [
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
    for slide in slides:
        text = urlencode({name: value for name, value in {**signed, **slide}.items() if name != "appkey"})
        assert (await app.receive(text)).body == "fail", slide
    assert shop.handled == []
    assert await app.receive(urlencode({**signed, "appkey": "gp-key"})) == CallbackReply("success", 200)


async def test_a_body_and_a_query() -> None:
    """Of a POST the body alone is read, of a GET the query string alone; what is in the other is the shop's own."""
    shop = Shop(MemoryStore())
    app = shop.app()
    assert await post(app, b"", query_string=query()) == "400 fail"
    assert await post(app, b"sign=" + b"0" * 32, query_string=without("sign")) == "400 fail"
    assert await post(app, query(), query_string=b"shop=1&price=0.01&appkey=other") == "200 success"
    body = [{"type": "http.request", "body": query(price="0.01"), "more_body": False}]
    assert (await call(app, query(), parts=body)).body == b"success"
    assert shop.kinds == ["refused", "refused", "handled", "repeated"]


async def test_types_of_a_body() -> None:
    """A body is read if it says that it is a form, or nothing; of another type it is refused, and not read."""
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
        assert shop.kinds == ["handled" if expected == "200 success" else "refused"]


async def test_a_body_without_measure() -> None:
    """A body that is longer than a callback can be is refused once that much has come, and no more of it is read."""
    shop = Shop(MemoryStore())
    pieces = [b"extend=" + b"x" * 5000, b"y" * 5000, RuntimeError("read on")]
    answer = await call(shop.app(), method="POST", parts=pieces)
    assert (answer.status, answer.body, shop.kinds) == (400, b"fail", ["refused"])
