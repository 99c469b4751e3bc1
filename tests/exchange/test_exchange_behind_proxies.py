"""Payments through proxies: whether a byte of the payment was sent."""

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import SocketStream
from proxy_server import REFUSALS, ProxyServer, proxy_server
from selected_httpx import httpx
from servers import RawServer, http, raw_server

from gatepay_async import AsyncGatePay, GatePayError, OutcomeUnknownError, OutOfStockError, RetryPolicy, TransportError

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.gatepay_live]

ORDER: dict[str, Any] = {
    "product_id": 8, "product_num": 1, "pay_type": "alipay", "out_order_id": "T-1-X", "custom": "c",
}  # fmt: skip
NO_STOCK = b'{"code": 110, "msg": "", "time": "1", "data": []}'
TWO_ATTEMPTS = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
SHOP_URL = "https://gatepay.example/api/"

Route = Callable[[str, ssl.SSLContext], Any]


@asynccontextmanager
async def through_environment(proxy: str, _: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """Yield the options of a client that takes the proxy from the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("https_proxy", proxy)
        patch.setenv("http_proxy", proxy)
        yield {}


@asynccontextmanager
async def through_transport(proxy: str, tls: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """Yield the options of a client with the user's own httpx transport, which has the proxy."""
    async with httpx.AsyncHTTPTransport(proxy=proxy, verify=tls) as transport:
        yield {"transport": transport}


@asynccontextmanager
async def through_client(proxy: str, tls: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """Yield the options of a client with the user's own httpx client, which has the proxy."""
    async with httpx.AsyncClient(proxy=proxy, verify=tls, timeout=None) as client:
        yield {"http_client": client}


@asynccontextmanager
async def through_mounts(proxy: str, tls: ssl.SSLContext) -> AsyncGenerator[dict[str, Any]]:
    """Yield the options of a client with the user's own httpx client, in which the proxy is mounted."""
    mounts = {"all://": httpx.AsyncHTTPTransport(proxy=proxy, verify=tls)}
    async with httpx.AsyncClient(mounts=mounts, timeout=None) as client:
        yield {"http_client": client}


ROUTES: dict[str, Route] = {
    "environment": through_environment, "transport": through_transport, "client": through_client,
    "mounts": through_mounts,
}  # fmt: skip


@pytest.fixture
def client_tls(authority: trustme.CA, authority_file: str, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return a TLS context that trusts our CA. The environment trusts it too."""
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def shop_behind_proxy(
    authority: trustme.CA, answer: Callable[[SocketStream, int], Any]
) -> AsyncGenerator[tuple[RawServer, ProxyServer]]:
    """Serve a shop over TLS, and a working proxy that leads to it."""
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("gatepay.example").configure_cert(server_tls)
    async with raw_server(answer, tls=server_tls) as shop:
        port = httpx.URL(shop.base_url).port
        async with proxy_server(tunnel_port=port or 0) as proxy:
            yield shop, proxy


async def pay(base_url: str = SHOP_URL, *, timeout: float = 20, **options: Any) -> GatePayError:  # noqa: ASYNC109 -- the client's
    """Make a payment that fails. Return its error."""
    async with AsyncGatePay(
        "a", "b", base_url=base_url, timeout=timeout, retry=TWO_ATTEMPTS, allow_http=True, **options
    ) as gatepay:
        with pytest.raises(GatePayError) as caught:
            await gatepay.create_payment(**ORDER)
    return caught.value


async def test_refused_tunnel_means_nothing_was_sent(client_tls: ssl.SSLContext) -> None:
    """If the proxy opens no tunnel, nothing was sent: the payment is retried, and the error says so."""
    wrong = []
    for name, route in ROUTES.items():
        for behaviour in (*REFUSALS, "hangs"):
            async with proxy_server(behaviour) as proxy, route(proxy.url, client_tls) as options:
                error = await pay(timeout=0.3 if behaviour == "hangs" else 20, **options)
            methods = {request.partition(" ")[0] for request in proxy.request_lines}
            if not isinstance(error, TransportError) or (error.sent, error.attempts, methods) != (
                False,
                2,
                {"CONNECT"},
            ):
                wrong.append((name, behaviour, repr(error), proxy.request_lines))
    assert not wrong, "\n".join(map(str, wrong))


async def test_proxy_down_means_nothing_was_sent(client_tls: ssl.SSLContext) -> None:
    """If the proxy is down, nothing was sent: the payment is retried, and the error says so."""
    async with proxy_server() as stopped:
        pass
    for route in ROUTES.values():
        async with route(stopped.url, client_tls) as options:
            error = await pay(**options)
        assert isinstance(error, TransportError)
        assert (error.sent, error.attempts) == (False, 2)


async def test_payment_through_a_tunnel_reaches_the_shop(authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    """Through a tunnel the shop responds over TLS. The proxy sees only the destination."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(NO_STOCK))

    for name, route in ROUTES.items():
        async with shop_behind_proxy(authority, answer) as (shop, proxy), route(proxy.url, client_tls) as options:
            error = await pay(**options)
        assert "110" in str(error), name
        assert (proxy.request_lines, len(shop.bodies)) == (["CONNECT gatepay.example:443"], 1), name


async def test_tunnels_are_not_reused(authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    """Through the environment's proxy no connection is reused: httpx can't detect left-over bytes."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(NO_STOCK))

    async with shop_behind_proxy(authority, answer) as (_, proxy), through_environment(proxy.url, client_tls):
        async with AsyncGatePay("a", "b", base_url=SHOP_URL) as gatepay:
            for _ in range(2):
                with pytest.raises(OutOfStockError):
                    await gatepay.create_payment(**ORDER)
        assert proxy.request_lines == ["CONNECT gatepay.example:443"] * 2


async def test_broken_tunnel_makes_the_outcome_unknown(authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    """If the tunnel breaks or hangs after the payment was sent, its outcome is unknown. It isn't retried."""

    async def die(_: SocketStream, __: int) -> None:
        raise ConnectionAbortedError

    async def hang(_: SocketStream, __: int) -> None:
        await anyio.sleep_forever()

    for name, route in ROUTES.items():
        for answer, timeout in ((die, 20), (hang, 1)):
            async with shop_behind_proxy(authority, answer) as (shop, proxy), route(proxy.url, client_tls) as options:
                error = await pay(timeout=timeout, **options)
            assert isinstance(error, OutcomeUnknownError), name
            assert (error.attempts, len(shop.bodies)) == (1, 1), name


async def test_failed_plain_http_proxy_makes_the_outcome_unknown(client_tls: ssl.SSLContext) -> None:
    """Without TLS the proxy receives the payment itself. If it fails, the outcome is unknown."""
    for name, route in ROUTES.items():
        for behaviour in ("closes", "garbage"):
            async with proxy_server(behaviour) as proxy, route(proxy.url, client_tls) as options:
                error = await pay("http://gatepay.example/api/", **options)
            assert isinstance(error, OutcomeUnknownError), (name, behaviour)
            assert proxy.request_lines == ["POST http://gatepay.example/api/pay/create"], (name, behaviour)


async def test_failed_socks_proxy_means_nothing_was_sent(
    client_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a SOCKS proxy closes the connection or speaks another protocol, nothing was sent."""

    async def close_after_reading(stream: SocketStream, _: int) -> None:
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

    for answer in (close_after_reading, speak_http, refuse, say_nothing):
        async with raw_server(answer, read=False) as proxy:
            monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{httpx.URL(proxy.base_url).port}")
            error = await pay(timeout=0.5 if answer is say_nothing else 20)
        assert isinstance(error, TransportError), answer.__name__
        assert (error.sent, error.attempts) == (False, 2), answer.__name__
