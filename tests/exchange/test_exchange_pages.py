"""`gatepay.http`: an httpx client for other requests, over the client's own connections."""

import ssl

import anyio
import httpx
import pytest
import trustme
from anyio.abc import SocketStream
from proxy_server import proxy_server
from selected_httpx import httpx as user_httpx
from servers import http, raw_server

from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.exchange import permission

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

CATALOG = b'{"code": 100, "msg": "", "time": "1", "data": {"category": []}}'


async def reply(stream: SocketStream, _: int) -> None:
    """Send a successful reply."""
    await stream.send(http(CATALOG))


async def redirect(stream: SocketStream, _: int) -> None:
    """Redirect to another path of the same server."""
    await stream.send(http(b"", status="302 Found", headers="location: /elsewhere\r\n"))


async def test_same_origin_shares_the_pool() -> None:
    """Requests to the client's own origin share its connections, and don't contain the signed form."""
    async with raw_server(reply) as server, AsyncGatePay("KEY", "SECRET", base_url=server.base_url) as gatepay:
        await gatepay.list_products()
        page = await gatepay.http.get(server.base_url.replace("/api/", "/page?format=json"))
        assert page.json()["code"] == 100
        assert gatepay.http is gatepay.http
        await gatepay.list_products()
    assert server.connections == 1
    assert server.heads[1].startswith(b"GET /page?format=json HTTP/1.1")
    assert server.bodies[1] == b""
    assert b"user-agent: gatepay-async/" in server.heads[1].lower()


async def test_other_origin_gets_new_connections() -> None:
    """Each request to another origin opens a new connection. Redirects are not followed by default."""
    async with (
        raw_server(redirect) as other_server,
        AsyncGatePay("KEY", "SECRET", base_url="http://127.0.0.1:9/api/") as gatepay,
    ):
        for _ in range(2):
            assert (await gatepay.http.get(other_server.base_url)).status_code == 302
    assert other_server.connections == 2


@pytest.mark.gatepay_live
async def test_other_origin_uses_proxy_and_certificates(
    authority: trustme.CA, authority_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests to another origin use the proxy and the certificates from the environment."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "page.example").configure_cert(tls)
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    async with (
        raw_server(reply, tls=tls) as other_server,
        proxy_server(tunnel_port=httpx.URL(other_server.base_url).port or 0) as proxy,
        AsyncGatePay("KEY", "SECRET", base_url="http://127.0.0.1:9/api/") as gatepay,
        AsyncGatePay("KEY", "SECRET", base_url="http://127.0.0.1:9/api/", trust_env=False) as without_env,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert (await gatepay.http.get(other_server.base_url)).status_code == 200
        assert (await gatepay.http.get("https://page.example/")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await without_env.http.get(other_server.base_url)
    assert proxy.request_lines == ["CONNECT page.example:443"]


async def test_real_hosts_are_refused_in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pytest plugin also forbids requests to real hosts through ``http``, before anything connects."""
    monkeypatch.setattr(permission, "is_loopback", lambda _: False)
    async with raw_server(reply) as server, AsyncGatePay("KEY", "SECRET", base_url=server.base_url) as gatepay:
        for url in (server.base_url, "https://gatepay.invalid/"):
            with pytest.raises(InvalidRequestError) as caught:
                await gatepay.http.get(url)
            assert caught.value.field == "http"
            assert "gatepay_live" in caught.value.problem
    assert server.connections == 0


async def test_http_is_available_while_the_client_is_open() -> None:
    """Before opening and after closing, ``http`` raises. The httpx client that it returned is closed."""
    gatepay = AsyncGatePay("KEY", "SECRET")
    with pytest.raises(InvalidRequestError, match="is not open yet"):
        _ = gatepay.http
    async with gatepay:
        http_client = gatepay.http
    assert http_client.is_closed
    with pytest.raises(InvalidRequestError, match="has been closed"):
        _ = gatepay.http


async def test_http_uses_the_users_own_client_or_transport() -> None:
    """``http`` is the user's own client, or a client over the user's own transport. Neither is closed."""

    class Transport(user_httpx.MockTransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    transport = Transport(lambda request: user_httpx.Response(200, text=request.url.host))
    async with user_httpx.AsyncClient(transport=transport) as http_client:
        async with AsyncGatePay("KEY", "SECRET", http_client=http_client) as gatepay:
            assert gatepay.http is http_client
        assert not http_client.is_closed
        async with AsyncGatePay("KEY", "SECRET", transport=transport) as gatepay:
            assert (await gatepay.http.get("https://page.example/")).text == "page.example"
        assert not transport.closed


async def test_request_times_out_like_an_attempt() -> None:
    """A request has the time-out of an attempt."""

    async def reply_from_the_second_request(stream: SocketStream, number: int) -> None:
        if number == 1:
            await anyio.sleep_forever()
        await stream.send(http(CATALOG))

    async with (
        raw_server(reply_from_the_second_request) as server,
        AsyncGatePay("KEY", "SECRET", base_url=server.base_url, timeout=0.2, max_connections=1) as gatepay,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await gatepay.http.get(server.base_url)
    assert server.connections == 1
