"""Calls with the user's own httpx hooks, transports and ``auth``, which may read the reply or raise errors."""

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
from selected_httpx import httpx
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
    """Open a client over an httpx client that is created with *options*."""
    key, secret = (shop.appkey, shop.appsecret) if shop else ("a", "b")
    async with (
        httpx.AsyncClient(**options) as http_client,
        AsyncGatePay(key, secret, base_url=base_url, http_client=http_client, retry=QUICK, timeout=20) as gatepay,
    ):
        yield gatepay


def response_hooks(*hooks: Hook) -> dict[str, Any]:
    """Return the options of an httpx client with these response hooks."""
    return {"event_hooks": {"response": list(hooks)}}


class OddError(Exception):
    """An exception class of the user's code."""


async def read_body(response: httpx.Response) -> None:
    """A response hook that reads the body, as httpx's documentation shows."""
    await response.aread()
    assert response.text


async def consume(response: httpx.Response) -> None:
    """A response hook that iterates over the body and doesn't keep it."""
    async for _ in response.aiter_bytes():
        pass


async def raise_status(response: httpx.Response) -> None:
    """A response hook that calls ``raise_for_status()``, as httpx's documentation shows."""
    response.raise_for_status()


async def read_and_raise_status(response: httpx.Response) -> None:
    """A response hook that reads the body and calls ``raise_for_status()``."""
    await response.aread()
    response.raise_for_status()


async def fail(_: object) -> None:
    """A hook that raises the user's own exception."""
    raise OddError("my log is full")


async def use_text_without_reading(response: httpx.Response) -> None:
    """A response hook that uses the text without reading the body first: a common mistake."""
    assert response.text


def replying(body: bytes, status: str = "200 OK", headers: str = "") -> Callable[[SocketStream, int], Awaitable[None]]:
    """Return the function of a raw server that always sends this reply."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(body, status=status, headers=headers))

    return answer


async def test_reply_read_by_a_hook_is_used(sandbox: Sandbox, base_url: str) -> None:
    """If a response hook has read the body, the client uses that body: for payments, lists and refusals."""
    async with client_with(base_url, sandbox, **response_hooks(read_body)) as gatepay:
        with anyio.fail_after(15):
            assert (await gatepay.create_payment(**ORDER)).out_order_id == "T-1-X"
            assert len((await gatepay.list_products()).products) == 3
            assert len([key async for key in gatepay.list_card_keys(8, prefetch=4)]) == 89
            with pytest.raises(RefusedError):
                await gatepay.list_card_keys(999)
    assert len(sandbox.orders()) == 1


async def test_reply_consumed_by_a_hook_raises(sandbox: Sandbox, base_url: str) -> None:
    """If a hook has consumed the body, the error says how to fix the hook. A payment's outcome is unknown."""
    async with client_with(base_url, sandbox, **response_hooks(consume)) as gatepay:
        with anyio.fail_after(15), pytest.raises(ProtocolError, match=r"call `await response.aread\(\)`") as caught:
            await gatepay.list_products()
        assert (caught.value.http_status, caught.value.attempts) == (200, 1)
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert len(sandbox.orders()) == 1


async def test_raise_for_status_in_a_hook_raises_the_error_of_the_reply() -> None:
    """A hook that calls ``raise_for_status()`` changes nothing: a payment raises its usual error, and is sent once."""
    refusal = json.dumps({"code": 110, "msg": "", "time": "1", "data": []}).encode()
    # Hooks, HTTP status, expected error, expected number of requests
    rows: list[tuple[list[Hook], str, type[Exception], int]] = [
        ([read_and_raise_status], "400 Bad Request", RefusedError, 1),
        ([read_body, raise_status], "400 Bad Request", RefusedError, 1),
        ([raise_status], "400 Bad Request", ProtocolError, 1),
        ([raise_status], "307 Temporary Redirect", ProtocolError, 1),
        ([raise_status], "500 Internal Server Error", OutcomeUnknownError, 1),
        ([raise_status], "200 OK", RefusedError, 1),
    ]
    for hooks, status, error, request_count in rows:
        answer = replying(refusal, status, "location: /x\r\n" if status.startswith("3") else "")
        async with raw_server(answer) as server, client_with(server.base_url, **response_hooks(*hooks)) as gatepay:
            with pytest.raises(error) as caught:
                await gatepay.create_payment(**ORDER)
        # Code 110 raises OutOfStockError, a RefusedError.
        assert type(caught.value).__name__ in (error.__name__, "OutOfStockError"), status
        assert len(server.bodies) == request_count, status
        assert b"sign=" in server.bodies[0]
        assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, ProtocolError)


async def test_status_raised_by_a_hook_is_retried() -> None:
    """A 503 that a hook raises is retried like any 503, and its Retry-After is used."""
    answer = replying(b"", "503 Service Unavailable", "retry-after: 0\r\n")
    async with raw_server(answer) as server, client_with(server.base_url, **response_hooks(raise_status)) as gatepay:
        with pytest.raises(ProtocolError) as caught:
            await gatepay.list_products()
    assert (caught.value.http_status, caught.value.retry_after, len(server.bodies)) == (503, 0, 4)


async def test_network_error_while_a_hook_reads_is_retried_if_that_is_safe() -> None:
    """If the connection breaks while a hook reads, listing products is retried. A payment isn't."""

    async def send_half_a_reply(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        raise ConnectionAbortedError

    async with (
        raw_server(send_half_a_reply) as server,
        client_with(server.base_url, **response_hooks(read_body)) as gatepay,
    ):
        with pytest.raises(TransportError, match="RemoteProtocolError") as caught:
            await gatepay.list_products()
        assert (caught.value.sent, len(server.bodies)) == (True, 4)
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
        assert len(server.bodies) == 5


async def test_error_of_a_response_hook_is_raised(sandbox: Sandbox, base_url: str) -> None:
    """A response hook's error is raised unchanged, without a retry. A payment raises OutcomeUnknownError from it."""
    for hook, kind in ((fail, OddError), (use_text_without_reading, httpx.ResponseNotRead), (partial(fail), OddError)):
        requests_before = len(sandbox.requests)
        async with client_with(base_url, sandbox, **response_hooks(hook)) as gatepay:
            with pytest.raises(kind) as caught:
                await gatepay.list_products()
            note = "gatepay-async: raised by your httpx client or transport during product/show;"
            assert caught.value.__notes__ == [f"{note} the request may have arrived"]
            with pytest.raises(OutcomeUnknownError) as unknown:
                await gatepay.create_payment(**ORDER)
        assert isinstance(unknown.value.__cause__, kind)
        assert len(sandbox.requests) - requests_before == 2


async def test_error_of_a_request_hook_is_raised(sandbox: Sandbox, base_url: str) -> None:
    """A request hook's error is raised unchanged, also by a payment: nothing was sent."""
    async with client_with(base_url, sandbox, event_hooks={"request": [fail]}) as gatepay:
        with pytest.raises(OddError) as caught:
            await gatepay.create_payment(**ORDER)
    assert caught.value.__notes__[0].endswith("no byte of the request has left")
    assert sandbox.requests == []


async def test_error_of_a_request_hook_with_auth_makes_the_outcome_unknown(sandbox: Sandbox, base_url: str) -> None:
    """With ``auth``, which may have sent a request, a request hook's error makes a payment's outcome unknown."""
    async with client_with(base_url, sandbox, event_hooks={"request": [fail]}, auth=("me", "mine")) as gatepay:
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)


async def test_error_of_a_hooks_own_request_leaves_the_outcome_unknown(sandbox: Sandbox, base_url: str) -> None:
    """A hook's error, even a failure to connect to another server, doesn't mean that the payment wasn't sent."""

    async def log_to_unreachable_server(_: httpx.Response) -> None:
        async with httpx.AsyncClient() as logs:
            await logs.post("http://127.0.0.1:9/")

    async def raise_status_of_another_request(_: httpx.Response) -> None:
        elsewhere = httpx.Response(400, request=httpx.Request("POST", "https://logs.example/"))
        elsewhere.raise_for_status()

    async def raise_invalid_request(_: httpx.Response) -> None:
        raise InvalidRequestError(field="product_id", problem="must be from 1 to 9223372036854775807")

    transports: list[Callable[[], httpx.AsyncBaseTransport]] = [
        httpx.AsyncHTTPTransport, lambda: httpx.ASGITransport(sandbox.app),
    ]  # fmt: skip
    for hook in (log_to_unreachable_server, raise_status_of_another_request, raise_invalid_request):
        for make_transport in transports:
            orders_before = len(sandbox.orders())
            async with client_with(base_url, sandbox, transport=make_transport(), **response_hooks(hook)) as gatepay:
                with pytest.raises(OutcomeUnknownError):
                    await gatepay.create_payment(**ORDER)
                with pytest.raises((httpx.HTTPError, TransportError)) as caught:
                    await gatepay.create_card_keys(8, ["AAA"])
            assert not isinstance(caught.value, InvalidRequestError)
            assert len(sandbox.orders()) - orders_before == 1, hook.__name__


async def test_auth_with_a_login_request_is_used(sandbox: Sandbox, base_url: str) -> None:
    """An ``auth`` that first requests a token is used. If that request fails, its error is raised."""

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


async def test_response_with_a_complete_body_is_read() -> None:
    """A transport may return a response whose body is complete, as MockTransport and caches do."""

    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=EMPTY_CATALOG)

    def raise_status_error(request: httpx.Request) -> httpx.Response:
        response = httpx.Response(400, json={"code": 110, "msg": "", "time": "1"}, request=request)
        raise httpx.HTTPStatusError("no", request=request, response=response)

    transport = httpx.MockTransport(handle)
    for options in ({"transport": transport}, {"http_client": httpx.AsyncClient(transport=transport)}):
        async with AsyncGatePay("a", "b", retry=QUICK, **options) as gatepay:
            assert (await gatepay.list_products()).products == ()
    async with AsyncGatePay("a", "b", transport=httpx.MockTransport(raise_status_error)) as gatepay:
        with pytest.raises(RefusedError):
            await gatepay.create_payment(**ORDER)


async def test_synchronous_stream_raises_type_error() -> None:
    """If a transport returns a synchronous stream, the error says what it must be, and the stream is closed."""

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


async def test_transports_own_exception_is_raised(sandbox: Sandbox) -> None:
    """A transport's own exception is raised unchanged. A payment raises OutcomeUnknownError from it."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise OddError(request.method)

    async with AsyncGatePay("a", "b", transport=Broken(), retry=QUICK) as gatepay:
        with pytest.raises(OddError):
            await gatepay.list_products()
        with pytest.raises(OutcomeUnknownError) as caught:
            await gatepay.create_payment(**ORDER)
    assert isinstance(caught.value.__cause__, OddError)


# Without certificates: loading them is slow.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def test_transport_with_untraced_fallback_may_have_sent(sandbox: Sandbox) -> None:
    """If a transport can't connect, and goes on with code that isn't traced, a payment's outcome is unknown."""

    class Failover(httpx.AsyncBaseTransport):
        def __init__(self, finish: Callable[[], Awaitable[None]]) -> None:
            self._finish = finish

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async with httpx.AsyncHTTPTransport(verify=NO_CERTIFICATES) as traced:
                try:
                    return await traced.handle_async_request(request)
                except httpx.ConnectError:
                    await self._finish()
            raise httpx.ReadError("cut")

    async with sandbox.serve() as stopped_url:
        pass
    for finish in (anyio.lowlevel.checkpoint, anyio.sleep_forever):  # the fallback fails at once, or at the time-out
        async with AsyncGatePay(
            "a", "b", base_url=stopped_url, transport=Failover(finish), retry=QUICK, timeout=2
        ) as gatepay:
            with pytest.raises(OutcomeUnknownError):
                await gatepay.create_payment(**ORDER)


async def test_prepare_method_of_a_users_transport_is_not_called(sandbox: Sandbox) -> None:
    """A user's transport is used through httpx's interface only, even if it has a method named like one of ours."""
    orders: list[bytes] = []

    class Prepares(httpx.AsyncBaseTransport):
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


async def test_transport_with_a_spare_gets_the_order_once(sandbox: Sandbox) -> None:
    """If a transport falls back on a spare, which gets the payment and fails, the payment isn't retried."""
    orders: list[bytes] = []

    class Spare(httpx.AsyncBaseTransport):
        def __init__(self, finish: Callable[[], Awaitable[None]]) -> None:
            self._finish = finish

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            orders.append(await request.aread())
            await self._finish()
            raise httpx.ReadError("the reply is lost")

    class WithSpare(httpx.AsyncBaseTransport):
        def __init__(self, seconds: float, finish: Callable[[], Awaitable[None]]) -> None:
            self._seconds, self._spare = seconds, Spare(finish)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async with httpx.AsyncHTTPTransport(verify=NO_CERTIFICATES) as traced:
                try:
                    with anyio.fail_after(self._seconds):
                        return await traced.handle_async_request(request)
                except (httpx.ConnectError, TimeoutError):
                    return await self._spare.handle_async_request(request)

    async with sandbox.serve() as stopped_url:
        pass
    with contextlib.ExitStack() as sockets:
        full_listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # they fill the backlog: further connections hang
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full_listener.getsockname())
        for base_url in (stopped_url, f"http://127.0.0.1:{full_listener.getsockname()[1]}/api/"):
            # The spare fails at once, or at the time-out.
            for finish in (anyio.lowlevel.checkpoint, anyio.sleep_forever):
                orders.clear()
                transport = WithSpare(0.05, finish)
                async with AsyncGatePay(
                    "a", "b", base_url=base_url, transport=transport, retry=QUICK, timeout=1
                ) as gatepay:
                    with pytest.raises(OutcomeUnknownError):
                        await gatepay.create_payment(**ORDER)
                assert len(orders) == 1, (base_url, finish)


async def test_closed_http_client_is_named_in_the_error(sandbox: Sandbox, base_url: str) -> None:
    """If the user's httpx client is closed, the error names the argument ``http_client``."""
    http_client = httpx.AsyncClient()
    await http_client.aclose()
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, http_client=http_client) as gatepay:
        with pytest.raises(InvalidRequestError, match="has been closed") as caught:
            await gatepay.list_products()
    assert caught.value.field == "http_client"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancellation_inside_a_transport_is_a_transport_error(sandbox: Sandbox) -> None:
    """If a transport raises CancelledError and the call itself wasn't cancelled, that is a TransportError."""

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


async def test_invalid_reply_is_not_quoted_in_errors() -> None:
    """h11 quotes an invalid reply in its error. Neither our error nor its cause or context contains it."""
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


async def test_cause_of_an_error_has_no_request() -> None:
    """The cause of a TransportError is httpx's error without its request, which contains the signed form."""

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


async def test_unreadable_body_after_a_raised_status_raises_the_reading_error() -> None:
    """If a transport raises for the status and the body can't be read afterwards, the error of reading is raised."""

    class BrokenStream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise httpx.ReadError("cut")

    def transport_that_raises(**content: Any) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            response = httpx.Response(400, request=request, **content)
            raise httpx.HTTPStatusError("no", request=request, response=response)

        return httpx.MockTransport(handle)

    for content, kind in (
        ({"stream": BrokenStream()}, TransportError),
        ({"stream": httpx.SyncByteStream()}, TypeError),
    ):
        async with AsyncGatePay("a", "b", transport=transport_that_raises(**content), retry=QUICK) as gatepay:
            with pytest.raises(kind):
                await gatepay.list_products()
            with pytest.raises(OutcomeUnknownError):
                await gatepay.create_payment(**ORDER)


async def test_httpx_error_without_a_request_is_raised_unchanged(sandbox: Sandbox, base_url: str) -> None:
    """An httpx error that a hook creates without a request is raised unchanged, like any error of a hook."""

    async def raise_made_up_error(_: httpx.Response) -> None:
        raise httpx.ConnectError("made up")

    async with client_with(base_url, sandbox, **response_hooks(raise_made_up_error)) as gatepay:
        with pytest.raises(httpx.ConnectError, match="made up"):
            await gatepay.list_products()
    assert len(sandbox.requests) == 1


async def test_failed_socks_handshake_without_a_stream_closes_nothing() -> None:
    """If a SOCKS handshake fails before the trace has seen a stream, the trace handles that without an error."""

    class Watch:
        reports_sending = True
        ends_at = 0.0

        def note_wait(self) -> None: ...
        def note_connection(self) -> None: ...
        def note_sending(self) -> None: ...
        def note_cancellation(self) -> None: ...

    watch = Watch()
    trace = Trace(watch)
    await trace.on_event("socks.setup_socks5_connection.failed", {"exception": OddError()})
    assert not watch.reports_sending
