"""A payment behind a proxy: whether a byte of it has left is told from what happens on the way there."""

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import SocketStream
from own_httpx import httpx
from proxy_server import REFUSALS, ProxyServer, proxy_server
from servers import RawServer, http, raw_server

from gatepay_async import AsyncGatePay, GatePayError, OutcomeUnknownError, OutOfStockError, RetryPolicy, TransportError

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.gatepay_live]

ORDER: dict[str, Any] = {
    "product_id": 8, "product_num": 1, "pay_type": "alipay", "out_order_id": "T-1-X", "custom": "c",
}  # fmt: skip
NO_STOCK = b'{"code": 110, "msg": "", "time": "1", "data": []}'
TWICE = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
SHOP = "https://gatepay.example/api/"

Way = Callable[[str, ssl.SSLContext], Any]


@asynccontextmanager
async def through_environment(proxy: str, _: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """What the client does by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("https_proxy", proxy)
        patch.setenv("http_proxy", proxy)
        yield {}


@asynccontextmanager
async def through_transport(proxy: str, tls: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """Httpx's transport, of yours."""
    async with httpx.AsyncHTTPTransport(proxy=proxy, verify=tls) as transport:
        yield {"transport": transport}


@asynccontextmanager
async def through_client(proxy: str, tls: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """A client of yours with a proxy."""
    async with httpx.AsyncClient(proxy=proxy, verify=tls, timeout=None) as client:
        yield {"http_client": client}


@asynccontextmanager
async def through_mounts(proxy: str, tls: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """A client of yours that has the proxy mounted."""
    mounts = {"all://": httpx.AsyncHTTPTransport(proxy=proxy, verify=tls)}
    async with httpx.AsyncClient(mounts=mounts, timeout=None) as client:
        yield {"http_client": client}


WAYS: dict[str, Way] = {
    "environment": through_environment, "transport": through_transport, "client": through_client,
    "mounts": through_mounts,
}  # fmt: skip


@pytest.fixture
def ours(authority: trustme.CA, authority_file: str, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Trusts our authority; so does the environment."""
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def shop_behind(
    authority: trustme.CA, answer: Callable[[SocketStream, int], Any]
) -> AsyncGenerator[tuple[RawServer, ProxyServer]]:
    """A shop over TLS, and a proxy that works and leads there."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("gatepay.example").configure_cert(theirs)
    async with raw_server(answer, tls=theirs) as shop:
        port = httpx.URL(shop.base_url).port
        async with proxy_server(leads_to=port or 0) as proxy:
            yield shop, proxy


async def pay(base_url: str = SHOP, *, timeout: float = 20, **options: Any) -> GatePayError:  # noqa: ASYNC109 -- the client's
    """How a payment ends, which doesn't succeed here."""
    async with AsyncGatePay(
        "a", "b", base_url=base_url, timeout=timeout, retry=TWICE, allow_http=True, **options
    ) as it:
        with pytest.raises(GatePayError) as caught:
            await it.create_payment(**ORDER)
    return caught.value


async def test_a_proxy_that_makes_no_tunnel(ours: ssl.SSLContext) -> None:
    """Whatever a proxy does instead of a tunnel, no byte has left: the payment is tried again; the error says so."""
    wrong = []
    for name, way in WAYS.items():
        for behaviour in (*REFUSALS, "hangs"):
            async with proxy_server(behaviour) as proxy, way(proxy.url, ours) as options:
                error = await pay(timeout=0.3 if behaviour == "hangs" else 20, **options)
            asked = {ask.partition(" ")[0] for ask in proxy.asked}
            if not isinstance(error, TransportError) or (error.sent, error.attempts, asked) != (False, 2, {"CONNECT"}):
                wrong.append((name, behaviour, repr(error), proxy.asked))
    assert not wrong, "\n".join(map(str, wrong))


async def test_a_proxy_that_nobody_listens_at(ours: ssl.SSLContext) -> None:
    """Without a proxy there, likewise."""
    async with proxy_server() as gone:
        pass
    for way in WAYS.values():
        async with way(gone.url, ours) as options:
            error = await pay(**options)
        assert isinstance(error, TransportError)
        assert (error.sent, error.attempts) == (False, 2)


async def test_a_tunnel(authority: trustme.CA, ours: ssl.SSLContext) -> None:
    """Through a tunnel the shop answers, over TLS of its own; the proxy sees where to, and nothing of the payment."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(NO_STOCK))

    for name, way in WAYS.items():
        async with shop_behind(authority, answer) as (shop, proxy), way(proxy.url, ours) as options:
            error = await pay(**options)
        assert "110" in str(error), name
        assert (proxy.asked, len(shop.bodies)) == (["CONNECT gatepay.example:443"], 1), name


async def test_each_call_has_a_tunnel_of_its_own(authority: trustme.CA, ours: ssl.SSLContext) -> None:
    """Through the environment's proxy no connection is used twice: whether a byte is left over in one, nobody knows."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(NO_STOCK))

    async with shop_behind(authority, answer) as (_, proxy), through_environment(proxy.url, ours):
        async with AsyncGatePay("a", "b", base_url=SHOP) as gatepay:
            for _ in range(2):
                with pytest.raises(OutOfStockError):
                    await gatepay.create_payment(**ORDER)
        assert proxy.asked == ["CONNECT gatepay.example:443"] * 2


async def test_a_tunnel_that_breaks(authority: trustme.CA, ours: ssl.SSLContext) -> None:
    """A tunnel that breaks or hangs once the payment is in it leaves an unknown outcome; it isn't sent again."""

    async def die(_: SocketStream, __: int) -> None:
        raise ConnectionAbortedError

    async def hang(_: SocketStream, __: int) -> None:
        await anyio.sleep_forever()

    for name, way in WAYS.items():
        for answer, timeout in ((die, 20), (hang, 1)):
            async with shop_behind(authority, answer) as (shop, proxy), way(proxy.url, ours) as options:
                error = await pay(timeout=timeout, **options)
            assert isinstance(error, OutcomeUnknownError), name
            assert (error.attempts, len(shop.bodies)) == (1, 1), name


async def test_plain_http_goes_to_the_proxy(ours: ssl.SSLContext) -> None:
    """Without TLS the proxy is sent the payment itself: what it does then is an unknown outcome."""
    for name, way in WAYS.items():
        for behaviour in ("closes", "garbage"):
            async with proxy_server(behaviour) as proxy, way(proxy.url, ours) as options:
                error = await pay("http://gatepay.example/api/", **options)
            assert isinstance(error, OutcomeUnknownError), (name, behaviour)
            assert proxy.asked == ["POST http://gatepay.example/api/pay/create"], (name, behaviour)


async def test_socks(ours: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy that hangs up, or speaks something else, has been sent nothing either."""

    async def hang_up(stream: SocketStream, _: int) -> None:
        await stream.receive()
        raise ConnectionAbortedError

    async def speak_http(stream: SocketStream, _: int) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def refuse(stream: SocketStream, _: int) -> None:
        await stream.receive()
        await stream.send(b"\x05\xff")

    async def say_nothing(_: SocketStream, __: int) -> None:
        await anyio.sleep_forever()

    for answer in (hang_up, speak_http, refuse, say_nothing):
        async with raw_server(answer, read=False) as proxy:
            monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{httpx.URL(proxy.base_url).port}")
            error = await pay(timeout=0.5 if answer is say_nothing else 20)
        assert isinstance(error, TransportError), answer.__name__
        assert (error.sent, error.attempts) == (False, 2), answer.__name__
