"""What a user's hooks, transports and ``auth`` do with a call: read its reply, raise, answer in forms of their own."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from own_httpx import httpx
from servers import http, raw_server

from gatepay_async import (
    AsyncGatePay,
    InvalidRequestError,
    OutcomeUnknownError,
    ProtocolError,
    RefusedError,
    RetryPolicy,
    TransportError,
)
from gatepay_async.exchange.tracing import Trace
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

QUICK = RetryPolicy(first_wait=0, longest_wait=0)
ORDER: dict[str, Any] = {
    "product_id": 8, "product_num": 1, "pay_type": "alipay", "out_order_id": "T-1-X", "custom": "c",
}  # fmt: skip
EMPTY_CATALOG = {"code": 100, "msg": "", "time": "1", "data": {"category": []}}
Hook = Callable[..., Awaitable[None]]


@asynccontextmanager
async def client_with(base_url: str, shop: Sandbox | None = None, **options: Any) -> AsyncGenerator[AsyncGatePay]:
    """A client over an httpx client that is made with *options*."""
    key, secret = (shop.appkey, shop.appsecret) if shop else ("a", "b")
    async with (
        httpx.AsyncClient(**options) as own,
        AsyncGatePay(key, secret, base_url=base_url, http_client=own, retry=QUICK, timeout=20) as gatepay,
    ):
        yield gatepay


def on_response(*hooks: Hook) -> dict[str, Any]:
    """Options of a client with these hooks."""
    return {"event_hooks": {"response": list(hooks)}}


class OddError(Exception):
    """A user's own."""


async def read(response: httpx.Response) -> None:
    """As httpx's documentation shows it."""
    await response.aread()
    assert response.text


async def consume(response: httpx.Response) -> None:
    """Reads, and keeps nothing."""
    async for _ in response.aiter_bytes():
        pass


async def raise_status(response: httpx.Response) -> None:
    """As httpx's documentation shows it."""
    response.raise_for_status()


async def read_and_raise_status(response: httpx.Response) -> None:
    """Both."""
    await response.aread()
    response.raise_for_status()


async def fail(_: object) -> None:
    """A mistake in a hook."""
    raise OddError("my log is full")


async def look_without_reading(response: httpx.Response) -> None:
    """A common mistake in a hook."""
    assert response.text


def answering(body: bytes, status: str = "200 OK", headers: str = "") -> Callable[[SocketStream, int], Awaitable[None]]:
    """An answer of a raw server's."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(body, status=status, headers=headers))

    return answer


async def test_a_hook_that_reads(sandbox: Sandbox, base_url: str) -> None:
    """A reply that a hook has read is read once more, from where it keeps it: payments, lists and refusals alike."""
    async with client_with(base_url, sandbox, **on_response(read)) as gatepay:
        with anyio.fail_after(15):
            assert (await gatepay.create_payment(**ORDER)).out_order_id == "T-1-X"
            assert len((await gatepay.list_products()).products) == 3
            assert len([key async for key in gatepay.list_card_keys(8, prefetch=4)]) == 89
            with pytest.raises(RefusedError):
                await gatepay.list_card_keys(999)
    assert len(sandbox.orders()) == 1


async def test_a_hook_that_uses_the_reply_up(sandbox: Sandbox, base_url: str) -> None:
    """A reply that a hook has iterated over can't be had any more: said once, with the cure; a payment is unknown."""
    async with client_with(base_url, sandbox, **on_response(consume)) as gatepay:
        with anyio.fail_after(15), pytest.raises(ProtocolError, match=r"call `await response.aread\(\)`") as caught:
            await gatepay.list_products()
        assert (caught.value.http_status, caught.value.attempts) == (200, 1)
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert len(sandbox.orders()) == 1


async def test_a_hook_that_raises_the_status() -> None:
    """`raise_for_status()` in a hook: the reply is known if it was read, and its status in any case; sent once."""
    refusal = json.dumps({"code": 110, "msg": "", "time": "1", "data": []}).encode()
    # The hooks, HTTP's status -> the error, its attempts
    rows: list[tuple[list[Hook], str, type[Exception], int]] = [
        ([read_and_raise_status], "400 Bad Request", RefusedError, 1),
        ([read, raise_status], "400 Bad Request", RefusedError, 1),
        ([raise_status], "400 Bad Request", ProtocolError, 1),
        ([raise_status], "307 Temporary Redirect", ProtocolError, 1),
        ([raise_status], "500 Internal Server Error", OutcomeUnknownError, 1),
        ([raise_status], "200 OK", RefusedError, 1),
    ]
    for hooks, status, error, sent in rows:
        answer = answering(refusal, status, "location: /x\r\n" if status.startswith("3") else "")
        async with raw_server(answer) as server, client_with(server.base_url, **on_response(*hooks)) as gatepay:
            with pytest.raises(error) as caught:
                await gatepay.create_payment(**ORDER)
        assert type(caught.value).__name__ in (error.__name__, "OutOfStockError"), status
        assert len(server.bodies) == sent, status
        assert b"sign=" in server.bodies[0]
        assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, ProtocolError)


async def test_a_raised_status_is_retried_as_the_reply_would_be() -> None:
    """A 503 that a hook raises is a 503: reading is repeated after it, and Retry-After heard."""
    answer = answering(b"", "503 Service Unavailable", "retry-after: 0\r\n")
    async with raw_server(answer) as server, client_with(server.base_url, **on_response(raise_status)) as gatepay:
        with pytest.raises(ProtocolError) as caught:
            await gatepay.list_products()
    assert (caught.value.http_status, caught.value.retry_after, len(server.bodies)) == (503, 0, 4)


async def test_a_connection_that_breaks_while_a_hook_reads() -> None:
    """What the network does while a hook reads is the network's: tried again where that is safe."""

    async def half(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        raise ConnectionAbortedError

    async with raw_server(half) as server, client_with(server.base_url, **on_response(read)) as gatepay:
        with pytest.raises(TransportError, match="RemoteProtocolError") as caught:
            await gatepay.list_products()
        assert (caught.value.sent, len(server.bodies)) == (True, 4)
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
        assert len(server.bodies) == 5


async def test_an_error_of_a_response_hook(sandbox: Sandbox, base_url: str) -> None:
    """A hook's own error comes out as it is, once; a payment's outcome is unknown, and the error is its cause."""
    for hook, kind in ((fail, OddError), (look_without_reading, httpx.ResponseNotRead), (partial(fail), OddError)):
        before = len(sandbox.requests)
        async with client_with(base_url, sandbox, **on_response(hook)) as gatepay:
            with pytest.raises(kind) as caught:
                await gatepay.list_products()
            said = "gatepay-async: raised by your httpx client or transport during product/show;"
            assert caught.value.__notes__ == [f"{said} the request may have arrived"]
            with pytest.raises(OutcomeUnknownError) as unknown:
                await gatepay.create_payment(**ORDER)
        assert isinstance(unknown.value.__cause__, kind)
        assert len(sandbox.requests) - before == 2


async def test_an_error_of_a_request_hook(sandbox: Sandbox, base_url: str) -> None:
    """One of a hook before sending comes out as it is: of a payment, too, for nothing has left."""
    async with client_with(base_url, sandbox, event_hooks={"request": [fail]}) as gatepay:
        with pytest.raises(OddError) as caught:
            await gatepay.create_payment(**ORDER)
    assert caught.value.__notes__[0].endswith("no byte of the request has left")
    assert sandbox.requests == []


async def test_an_error_of_a_request_hook_in_the_middle_of_a_login(sandbox: Sandbox, base_url: str) -> None:
    """With an `auth`, which may have sent before, a request hook's error leaves a payment's outcome open."""
    async with client_with(base_url, sandbox, event_hooks={"request": [fail]}, auth=("me", "mine")) as gatepay:
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)


async def test_a_hook_whose_own_call_fails(sandbox: Sandbox, base_url: str) -> None:
    """A log server that can't be reached, out of a hook, is not GatePay: never taken for "no byte has left"."""

    async def ship(_: httpx.Response) -> None:
        async with httpx.AsyncClient() as logs:
            await logs.post("http://127.0.0.1:9/")

    async def refused_elsewhere(_: httpx.Response) -> None:
        elsewhere = httpx.Response(400, request=httpx.Request("POST", "https://logs.example/"))
        elsewhere.raise_for_status()

    async def another_call(_: httpx.Response) -> None:
        raise InvalidRequestError(field="product_id", problem="must be from 1 to 9223372036854775807")

    transports: list[Callable[[], httpx.AsyncBaseTransport]] = [
        httpx.AsyncHTTPTransport, lambda: httpx.ASGITransport(sandbox.app),
    ]  # fmt: skip
    for hook in (ship, refused_elsewhere, another_call):
        for make in transports:
            before = len(sandbox.orders())
            async with client_with(base_url, sandbox, transport=make(), **on_response(hook)) as gatepay:
                with pytest.raises(OutcomeUnknownError):
                    await gatepay.create_payment(**ORDER)
                with pytest.raises((httpx.HTTPError, TransportError)) as caught:
                    await gatepay.create_card_keys(8, ["AAA"])
            assert not isinstance(caught.value, InvalidRequestError)
            assert len(sandbox.orders()) - before == 1, hook.__name__


async def test_an_auth_that_logs_in(sandbox: Sandbox, base_url: str) -> None:
    """An `auth` that asks for a token first is used; if that call fails, the error is its own."""

    class Login(httpx.Auth):
        def __init__(self, address: str) -> None:
            self._address = address

        def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
            yield httpx.Request("GET", self._address)
            request.headers["x-token"] = "t"
            yield request

    async with client_with(base_url, sandbox, auth=Login(base_url)) as gatepay:
        assert (await gatepay.create_payment(**ORDER)).out_order_id == "T-1-X"
    async with client_with(base_url, sandbox, auth=Login("http://127.0.0.1:9/")) as gatepay:
        with pytest.raises(httpx.ConnectError):
            await gatepay.list_products()
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert len(sandbox.orders()) == 1


async def test_replies_that_were_read_before() -> None:
    """A transport may return a response that is whole already, as MockTransport and caches do."""

    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=EMPTY_CATALOG)

    def with_status(_: httpx.Request) -> httpx.Response:
        raise httpx.HTTPStatusError(
            "no", request=_, response=httpx.Response(400, json={"code": 110, "msg": "", "time": "1"}, request=_)
        )

    transport = httpx.MockTransport(handle)
    for options in ({"transport": transport}, {"http_client": httpx.AsyncClient(transport=transport)}):
        async with AsyncGatePay("a", "b", retry=QUICK, **options) as gatepay:
            assert (await gatepay.list_products()).products == ()
    async with AsyncGatePay("a", "b", transport=httpx.MockTransport(with_status)) as gatepay:
        with pytest.raises(RefusedError):
            await gatepay.create_payment(**ORDER)


async def test_a_synchronous_stream() -> None:
    """A stream of the synchronous kind is a transport's mistake, and the error says so; it is closed."""

    class Stream(httpx.SyncByteStream):
        closed = False

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=stream))
    async with AsyncGatePay("a", "b", transport=transport, retry=QUICK) as gatepay:
        with pytest.raises(TypeError, match="synchronous stream; it must be an AsyncByteStream"):
            await gatepay.list_products()
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert stream.closed


async def test_a_transport_that_raises_its_own(sandbox: Sandbox) -> None:
    """A transport's own error comes out as it is; whether it had sent can't be known."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise OddError(request.method)

    async with AsyncGatePay("a", "b", transport=Broken(), retry=QUICK) as gatepay:
        with pytest.raises(OddError):
            await gatepay.list_products()
        with pytest.raises(OutcomeUnknownError) as caught:
            await gatepay.create_payment(**ORDER)
    assert isinstance(caught.value.__cause__, OddError)


# Loading the certificates would take longer than all the rest.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def test_a_transport_that_goes_on_elsewhere(sandbox: Sandbox) -> None:
    """A transport that can't connect, and then sends in a way that tells nothing, may have sent."""

    class Failover(httpx.AsyncBaseTransport):
        def __init__(self, then: Callable[[], Awaitable[None]]) -> None:
            self._then = then

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async with httpx.AsyncHTTPTransport(verify=NO_TLS) as first:
                try:
                    return await first.handle_async_request(request)
                except httpx.ConnectError:
                    await self._then()
            raise httpx.ReadError("cut")

    async with sandbox.serve() as gone:
        pass
    for then in (anyio.lowlevel.checkpoint, anyio.sleep_forever):
        async with AsyncGatePay("a", "b", base_url=gone, transport=Failover(then), retry=QUICK, timeout=2) as gatepay:
            with pytest.raises(OutcomeUnknownError):
                await gatepay.create_payment(**ORDER)


async def test_a_transport_that_prepares(sandbox: Sandbox) -> None:
    """A transport of yours that has methods by the names of ours is used by httpx's face, so it proves nothing."""
    orders: list[bytes] = []

    class Prepares(httpx.AsyncBaseTransport):
        tells_sending = True

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            orders.append(await request.aread())
            raise httpx.ReadError("the reply is lost")

        def prepare(self, *_: Any) -> Any:
            raise AssertionError("this is not ours")

    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=Prepares()) as gatepay:
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(
                product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="terry"
            )
    assert len(orders) == 1


async def test_a_transport_with_a_spare(sandbox: Sandbox) -> None:
    """A spare transport that tells nothing has the order once, however the first one failed and however it fails."""
    orders: list[bytes] = []

    class Spare(httpx.AsyncBaseTransport):
        def __init__(self, then: Callable[[], Awaitable[None]]) -> None:
            self._then = then

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            orders.append(await request.aread())
            await self._then()
            raise httpx.ReadError("the reply is lost")

    class WithSpare(httpx.AsyncBaseTransport):
        def __init__(self, seconds: float, then: Callable[[], Awaitable[None]]) -> None:
            self._seconds, self._spare = seconds, Spare(then)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async with httpx.AsyncHTTPTransport(verify=NO_TLS) as first:
                try:
                    with anyio.fail_after(self._seconds):
                        return await first.handle_async_request(request)
                except (httpx.ConnectError, TimeoutError):
                    return await self._spare.handle_async_request(request)

    async with sandbox.serve() as gone:
        pass
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # from then on the system lets nobody connect
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        for address in (gone, f"http://127.0.0.1:{full.getsockname()[1]}/api/"):
            for then in (anyio.lowlevel.checkpoint, anyio.sleep_forever):
                orders.clear()
                over = WithSpare(0.05, then)
                async with AsyncGatePay("a", "b", base_url=address, transport=over, retry=QUICK, timeout=1) as gatepay:
                    with pytest.raises(OutcomeUnknownError):
                        await gatepay.create_payment(**ORDER)
                assert len(orders) == 1, (address, then)


async def test_a_closed_client(sandbox: Sandbox, base_url: str) -> None:
    """A client of yours that is closed already is named."""
    own = httpx.AsyncClient()
    await own.aclose()
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, http_client=own) as gatepay:
        with pytest.raises(InvalidRequestError, match="has been closed") as caught:
            await gatepay.list_products()
    assert caught.value.field == "http_client"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_of_somebody_elses(sandbox: Sandbox) -> None:
    """A transport whose own task was cancelled has failed; this call was not cancelled, and doesn't end as if."""

    class Cancelled(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task
            raise AssertionError(request)

    async with AsyncGatePay("a", "b", transport=Cancelled(), retry=QUICK) as gatepay:
        with pytest.raises(TransportError, match="cancelled from within") as caught:
            await gatepay.list_products()
        assert (caught.value.sent, caught.value.attempts) == (True, 4)
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
        call = asyncio.ensure_future(gatepay.list_products())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_no_reply_is_quoted() -> None:
    """What h11 quotes of a reply that is no HTTP is in no error, nor in what it is chained to."""
    for reply in (b"HTTP/1.1 2xx CANARY\r\n\r\n", b"HTTP/1.1 200 OK\r\nCANARY\r\n\r\n"):

        async def answer(stream: SocketStream, _: int, reply: bytes = reply) -> None:
            await stream.send(reply)
            raise ConnectionAbortedError

        async with raw_server(answer) as server, client_with(server.base_url) as gatepay:
            with pytest.raises(TransportError, match=r"RemoteProtocolError") as caught:
                await gatepay.list_products()
        assert "CANARY" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


async def test_what_an_error_is_chained_to_holds_no_request() -> None:
    """The cause of a TransportError is httpx's error without its request, in whose body is the signed form."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ReadError("cut", request=request)

    async with AsyncGatePay("a", "b", transport=Broken(), retry=RetryPolicy(attempts=1)) as gatepay:
        with pytest.raises(TransportError) as caught:
            await gatepay.list_products()
    cause = caught.value.__cause__
    assert isinstance(cause, httpx.ReadError)
    with pytest.raises(RuntimeError, match="has not been set"):
        _ = cause.request


async def test_a_status_that_a_transport_raises() -> None:
    """A transport may raise for the status before it reads: the reply is read then, or breaks off, or isn't one."""

    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise httpx.ReadError("cut")

    def raising(**content: Any) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            response = httpx.Response(400, request=request, **content)
            raise httpx.HTTPStatusError("no", request=request, response=response)

        return httpx.MockTransport(handle)

    for content, kind in (({"stream": Breaking()}, TransportError), ({"stream": httpx.SyncByteStream()}, TypeError)):
        async with AsyncGatePay("a", "b", transport=raising(**content), retry=QUICK) as gatepay:
            with pytest.raises(kind):
                await gatepay.list_products()
            with pytest.raises(OutcomeUnknownError):
                await gatepay.create_payment(**ORDER)


async def test_an_error_that_names_no_request(sandbox: Sandbox, base_url: str) -> None:
    """An httpx error that a hook makes up, without a request, is the hook's own."""

    async def make_up(_: httpx.Response) -> None:
        raise httpx.ConnectError("made up")

    async with client_with(base_url, sandbox, **on_response(make_up)) as gatepay:
        with pytest.raises(httpx.ConnectError, match="made up"):
            await gatepay.list_products()
    assert len(sandbox.requests) == 1


async def test_a_trace_without_a_stream() -> None:
    """A SOCKS handshake that fails before anything was told of its connection leaves nothing to close."""

    class Watch:
        reports_sending = True
        ends = 0.0

        def waiting(self) -> None: ...
        def connected(self) -> None: ...
        def sending(self) -> None: ...
        def interrupted(self) -> None: ...

    watch = Watch()
    trace = Trace(watch)
    await trace.on_event("socks.setup_socks5_connection.failed", {"exception": OddError()})
    assert not watch.reports_sending
