"""`gatepay.http`: an httpx client for other requests, over the client's own connections."""

import ssl

import anyio
import httpx
import pytest
import trustme
from anyio.abc import SocketStream
from own_httpx import httpx as yours
from proxy_server import proxy_server
from servers import http, raw_server

from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.exchange import permission

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

CATALOG = b'{"code": 100, "msg": "", "time": "1", "data": {"category": []}}'


async def answer(stream: SocketStream, _: int) -> None:
    """As a shop, and as a page."""
    await stream.send(http(CATALOG))


async def go_away(stream: SocketStream, _: int) -> None:
    """To another address of the same server."""
    await stream.send(http(b"", status="302 Found", headers="location: /elsewhere\r\n"))


async def test_one_pool() -> None:
    """Calls and pages of one origin share connections; a page carries nothing of the form."""
    async with raw_server(answer) as server, AsyncGatePay("KEY", "SECRET", base_url=server.base_url) as gatepay:
        await gatepay.list_products()
        page = await gatepay.http.get(server.base_url.replace("/api/", "/page?format=json"))
        assert page.json()["code"] == 100
        assert gatepay.http is gatepay.http
        await gatepay.list_products()
    assert server.connections == 1
    assert server.heads[1].startswith(b"GET /page?format=json HTTP/1.1")
    assert server.bodies[1] == b""
    assert b"user-agent: gatepay-async/" in server.heads[1].lower()


async def test_another_origin() -> None:
    """Another origin is reached too, by a new connection each time; redirects are not followed unasked."""
    async with (
        raw_server(go_away) as other,
        AsyncGatePay("KEY", "SECRET", base_url="http://127.0.0.1:9/api/") as gatepay,
    ):
        for _ in range(2):
            assert (await gatepay.http.get(other.base_url)).status_code == 302
    assert other.connections == 2


@pytest.mark.gatepay_live
async def test_same_way(authority: trustme.CA, authority_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another origin is reached through the proxy, and with the certificates, that the environment names."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "page.example").configure_cert(tls)
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    async with (
        raw_server(answer, tls=tls) as other,
        proxy_server(leads_to=httpx.URL(other.base_url).port or 0) as proxy,
        AsyncGatePay("KEY", "SECRET", base_url="http://127.0.0.1:9/api/") as gatepay,
        AsyncGatePay("KEY", "SECRET", base_url="http://127.0.0.1:9/api/", trust_env=False) as careless,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert (await gatepay.http.get(other.base_url)).status_code == 200
        assert (await gatepay.http.get("https://page.example/")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await careless.http.get(other.base_url)
    assert proxy.asked == ["CONNECT page.example:443"]


async def test_refused_in_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our pytest plugin refuses real hosts here as well: own origin and others, before anybody connects."""
    monkeypatch.setattr(permission, "is_loopback", lambda _: False)
    async with raw_server(answer) as server, AsyncGatePay("KEY", "SECRET", base_url=server.base_url) as gatepay:
        for url in (server.base_url, "https://gatepay.invalid/"):
            with pytest.raises(InvalidRequestError) as caught:
                await gatepay.http.get(url)
            assert caught.value.field == "http"
            assert "gatepay_live" in caught.value.problem
    assert server.connections == 0


async def test_as_long_as_it_is_open() -> None:
    """Before and after, there is none; one that was kept is closed."""
    gatepay = AsyncGatePay("KEY", "SECRET")
    with pytest.raises(InvalidRequestError, match="is not open yet"):
        _ = gatepay.http
    async with gatepay:
        kept = gatepay.http
    assert kept.is_closed
    with pytest.raises(InvalidRequestError, match="has been closed"):
        _ = gatepay.http


async def test_your_own() -> None:
    """A client of yours is what you get; over a transport of yours, a client. Neither is closed."""

    class Transport(yours.MockTransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    transport = Transport(lambda request: yours.Response(200, text=request.url.host))
    async with yours.AsyncClient(transport=transport) as own:
        async with AsyncGatePay("KEY", "SECRET", http_client=own) as gatepay:
            assert gatepay.http is own
        assert not own.is_closed
        async with AsyncGatePay("KEY", "SECRET", transport=transport) as gatepay:
            assert (await gatepay.http.get("https://page.example/")).text == "page.example"
        assert not transport.closed


async def test_timeout() -> None:
    """A page is given as long as an attempt; then its connection is gone, and the pool whole."""

    async def dawdle(stream: SocketStream, number: int) -> None:
        if number == 1:
            await anyio.sleep_forever()
        await stream.send(http(CATALOG))

    async with (
        raw_server(dawdle) as server,
        AsyncGatePay("KEY", "SECRET", base_url=server.base_url, timeout=0.2, max_connections=1) as gatepay,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await gatepay.http.get(server.base_url)
    assert server.connections == 1
