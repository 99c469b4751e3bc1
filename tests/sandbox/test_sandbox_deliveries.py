"""The sandbox's callbacks: signature, retries, recorded responses, and no callback for expired orders."""

import sqlite3
import ssl
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream
from servers import http, raw_server
from shop_side import make_order, md5_hex, merchant, query_of
from tables import rows
from waiting import until

from gatepay_async import InvalidArgumentError
from gatepay_async.sandbox import Delivery, NoCallbackError, Sandbox
from gatepay_async.sandbox.deliveries import Answer
from gatepay_async.sandbox.outbox import Outbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SIGNED_FIELDS = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")


@pytest.fixture
def instant_retry_sandbox(clock: Any) -> Iterator[Sandbox]:
    """A sandbox that doesn't wait between two delivery attempts."""
    with Sandbox(clock=clock, callback_interval=0, callback_timeout=5) as sandbox:
        yield sandbox


def outcomes(deliveries: list[Delivery]) -> list[tuple[int, str, str | None]]:
    """Return the attempt, the state and the problem of each delivery."""
    return [(delivery.attempt, delivery.state, delivery.problem) for delivery in deliveries]


async def test_payment_sends_signed_callback(sandbox: Sandbox, clock: Any) -> None:
    """A payment sends a signed GET to the shop's URL. The delivery records the response and the times."""
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=f"{shop.base_url}?shop=1")
        order = await make_order(sandbox, custom="a+b &c=密", pay_type="alipay")
        clock.now += 5
        sandbox.pay(order, realprice=Decimal("0.98"))
        [delivery] = await sandbox.wait_delivered(order)
    [head] = shop.heads
    fields = query_of(head)
    assert head.startswith(b"GET /callback?shop=1&appkey=")
    assert b"\r\nuser-agent: gatepay-sandbox\r\n" in head.lower()
    assert fields.pop("sign") == md5_hex(
        md5_hex(sandbox.appkey + "".join(fields[name] for name in SIGNED_FIELDS)) + sandbox.appsecret
    )
    assert fields == {
        "shop": "1",
        "appkey": sandbox.appkey,
        "order_id": "1",
        "out_order_id": "T-1001-X",
        "price": "0.99",
        "realprice": "0.98",
        "type": "alipay",
        "paytime": "1555750255",
        "extend": "a+b &c=密",
    }
    assert outcomes([delivery]) == [(1, "accepted", None)]
    assert (delivery.status, delivery.answer, delivery.order_id) == (200, "success", 1)
    assert delivery.due_at == delivery.sent_at == delivery.answered_at == clock.now
    assert delivery.url is not None
    assert delivery.url.endswith(head.split(b" ")[1].decode())
    assert sandbox.callback_query(order) in delivery.url


async def test_failed_callback_is_attempted_four_times(instant_retry_sandbox: Sandbox) -> None:
    """If the response isn't `success`, the callback is retried three times."""
    async with merchant("fail") as shop, instant_retry_sandbox.serve():
        instant_retry_sandbox.change_shop(callback_url=shop.base_url)
        instant_retry_sandbox.pay(await make_order(instant_retry_sandbox))
        deliveries = await instant_retry_sandbox.wait_delivered()
        assert outcomes(deliveries) == [(number, "refused", "not_success") for number in (1, 2, 3, 4)]
        assert [delivery.answer for delivery in deliveries] == ["fail"] * 4
    assert len(shop.heads) == 4
    assert len(set(shop.heads)) == 1  # all attempts are identical


async def test_callback_is_retried_after_a_minute_until_success(sandbox: Sandbox, clock: Any) -> None:
    """A retry is sent a minute after the failed attempt. After `success` there are no more attempts."""
    async with merchant("fail", "success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        deliveries = await sandbox.wait_delivered()
        assert outcomes(deliveries) == [(1, "refused", "not_success"), (2, "waiting", None)]
        assert (deliveries[1].due_at, deliveries[1].sent_at, deliveries[1].url) == (clock.now + 60, None, None)
        clock.now += 59
        assert len(await sandbox.wait_delivered()) == 2
        assert len(shop.heads) == 1  # the second attempt is still waiting
        clock.now += 1
        assert outcomes(await sandbox.wait_delivered())[1:] == [(2, "accepted", None)]
        clock.now += 600
        assert len(await sandbox.wait_delivered()) == len(shop.heads) == 2  # no third attempt


STATUS_LINE = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "problem", "status", "text"),
    [
        ("success\n", "not_success", 200, "success\n"),
        ("SUCCESS", "not_success", 200, "SUCCESS"),
        ("\ufeffsuccess", "not_success", 200, "\ufeffsuccess"),
        (http(b""), "not_success", 200, ""),
        (http(b"success", status="500 Oops"), "not_success", 500, "success"),
        (http(b"", status="302 Found", headers="Location: http://127.0.0.1/\r\n"), "not_success", 302, ""),
        (http(b"\xff<b>"), "not_success", 200, "\ufffd<b>"),
        (http(b"x" * 4097), "too_long", 200, "x" * 4096),
        (STATUS_LINE + b"Content-Length: 9\r\n\r\nsuccess", "no_http", None, None),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no_http", None, None),
        (STATUS_LINE + b"x: " + b"y" * 100_000 + b"\r\n\r\n", "no_http", None, None),
        (STATUS_LINE + b"\r\nsuccess", None, 200, "success"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"success", status="201 Created"), None, 201, "success"),
        (STATUS_LINE + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsucc\r\n3\r\ness\r\n0\r\n\r\n", None, 200, "success"),
    ],
)
async def test_only_success_with_2xx_accepts_a_callback(
    answer: bytes, problem: str | None, status: int | None, text: str | None, sandbox: Sandbox
) -> None:
    """A delivery is accepted only if the status is 2xx and the body is exactly `success`. Any response is recorded."""
    async with merchant(answer) as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        first = (await sandbox.wait_delivered())[0]
    assert (first.problem, first.status, first.answer) == (problem, status, text)


async def test_unreachable_url_fails_four_times(instant_retry_sandbox: Sandbox) -> None:
    """If nothing listens at the URL, all four attempts fail, also for a name with two addresses."""
    async with merchant("success") as closed_shop:
        pass
    async with instant_retry_sandbox.serve():
        for host in ("127.0.0.1", "localhost"):
            instant_retry_sandbox.change_shop(callback_url=closed_shop.base_url.replace("127.0.0.1", host))
            order = await make_order(instant_retry_sandbox)
            instant_retry_sandbox.pay(order)
            deliveries = await instant_retry_sandbox.wait_delivered(order)
            assert outcomes(deliveries) == [(number, "refused", "connection") for number in (1, 2, 3, 4)]


async def test_localhost_reaches_ipv4_and_ipv6(sandbox: Sandbox) -> None:
    """A callback to `localhost` reaches a shop that listens only on IPv6, or only on IPv4."""
    for host in ("127.0.0.1", "::1"):
        listener = await anyio.create_tcp_listener(local_host=host)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django's extra()

        async def answer(stream: SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(http(b"success"))

        async with listener, anyio.create_task_group() as group, sandbox.serve():
            group.start_soon(listener.serve, answer)
            sandbox.change_shop(callback_url=f"http://localhost:{port}")
            order = await make_order(sandbox)
            sandbox.pay(order)
            assert outcomes(await sandbox.wait_delivered(order)) == [(1, "accepted", None)]
            group.cancel_scope.cancel()


async def test_untrusted_certificate_gets_no_callback(sandbox: Sandbox) -> None:
    """If the certificate of the shop's server isn't trusted, nothing is sent."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(b"success"))

    async with raw_server(answer, tls=context) as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        assert (await sandbox.wait_delivered())[0].problem == "tls"
    assert shop.heads == []


async def test_slow_shop_does_not_delay_other_callbacks(clock: Any) -> None:
    """A shop that never responds is abandoned after the time-out. Other callbacks are delivered meanwhile."""
    with Sandbox(clock=clock, callback_timeout=4) as sandbox:
        async with merchant("") as slow, merchant("success") as quick, sandbox.serve():
            sandbox.change_shop(callback_url=slow.base_url)
            slow_order = await make_order(sandbox)
            sandbox.pay(slow_order)
            await until(lambda: slow.heads)
            sandbox.change_shop(callback_url=quick.base_url)
            order = await make_order(sandbox)
            sandbox.pay(order)
            assert outcomes(await sandbox.wait_delivered(order)) == [(1, "accepted", None)]
            assert outcomes(sandbox.deliveries(slow_order)) == [(1, "sending", None)]
            assert outcomes(await sandbox.wait_delivered(slow_order))[0] == (1, "refused", "timeout")


async def test_concurrent_deliveries_are_limited(sandbox: Sandbox) -> None:
    """Fifty payments cause one callback each. Each of the two servers sends at most sixteen concurrently."""
    active = peak = 0
    sixteen_active = anyio.Event()

    async def answer(stream: SocketStream, _: int) -> None:
        nonlocal active, peak
        active += 1
        peak = max(peak, active)
        if peak == 16:
            sixteen_active.set()
        await sixteen_active.wait()
        active -= 1
        await stream.send(http(b"success"))
        raise ConnectionAbortedError  # raw_server closes the connection

    async with raw_server(answer) as shop, sandbox.serve(), sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        for _ in range(50):
            sandbox.pay(await make_order(sandbox))
        deliveries = await sandbox.wait_delivered(timeout=60)
    assert outcomes(deliveries) == [(1, "accepted", None)] * 50
    assert sorted(int(query_of(head)["order_id"]) for head in shop.heads) == list(range(1, 51))
    assert 16 <= peak <= 32  # two servers, 16 each


async def test_shop_without_url_gets_no_callback(sandbox: Sandbox) -> None:
    """A shop without a callback URL gets no callback, and send_again() raises an error."""
    async with sandbox.serve():
        order = sandbox.pay(await make_order(sandbox))
        assert await sandbox.wait_delivered() == []
    with pytest.raises(
        NoCallbackError,
        match="order 1 has no notify_url, and its shop has no callback URL; set one with",
    ):
        sandbox.send_again(order)


async def test_callback_of_unpaid_order_cannot_be_sent(sandbox: Sandbox) -> None:
    """send_again() raises an error for a pending order and for an unknown order number."""
    order = await make_order(sandbox)
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    with pytest.raises(NoCallbackError, match="order 1 is pending: only paid orders have a callback"):
        sandbox.send_again(order)
    with pytest.raises(LookupError, match="no order has the number 9"):
        sandbox.send_again(9)
    assert sandbox.deliveries() == []


@pytest.mark.parametrize("change", ["url", "shop"])
async def test_waiting_callback_fails_without_url(change: str, sandbox: Sandbox) -> None:
    """A waiting delivery fails with `no_url` if the shop or its URL is removed before the attempt."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    sandbox.change_shop(callback_url=None) if change == "url" else sandbox.remove_shop()
    async with sandbox.serve():
        first = (await sandbox.wait_delivered())[0]
    assert (first.problem, first.url, first.status) == ("no_url", None, None)


async def test_removed_shop_gets_no_callback(sandbox: Sandbox) -> None:
    """An order of a removed shop can be paid, but no callback is sent."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    order = await make_order(sandbox)
    sandbox.remove_shop()
    assert sandbox.pay(order).state == "paid"
    assert sandbox.deliveries() == []


async def test_retry_uses_the_changed_url(sandbox: Sandbox, clock: Any) -> None:
    """If the shop's URL changes between two attempts, the next attempt uses the new URL."""
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url="http://127.0.0.1:1")
        sandbox.pay(await make_order(sandbox))
        await sandbox.wait_delivered()
        sandbox.change_shop(callback_url=shop.base_url)
        clock.now += 60
        assert outcomes(await sandbox.wait_delivered()) == [(1, "refused", "connection"), (2, "accepted", None)]


async def test_send_again_restarts_the_attempts(sandbox: Sandbox, clock: Any) -> None:
    """send_again() sends the same callback with a new series of attempts, which replaces a waiting attempt."""
    async with merchant("fail", "fail", "success", "success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        order = sandbox.pay(await make_order(sandbox))
        await sandbox.wait_delivered()
        clock.now += 10
        sandbox.send_again(order)
        deliveries = await sandbox.wait_delivered()
        assert outcomes(deliveries) == [(1, "refused", "not_success")] * 2 + [(2, "waiting", None)]
        clock.now += 60
        assert outcomes(await sandbox.wait_delivered())[2:] == [(2, "accepted", None)]
        sandbox.send_again(order.order_id)
        assert outcomes(await sandbox.wait_delivered(1))[3:] == [(1, "accepted", None)]
    assert len(set(shop.heads)) == 1


async def test_waiting_callbacks_survive_a_restart(tmp_path: Path) -> None:
    """A callback that was waiting or being sent when the sandbox closed is sent after the next start."""
    path = tmp_path / "shop.sqlite3"
    with Sandbox(path, callback_url="http://127.0.0.1:1/callback", callback_timeout=600) as first:
        order = first.pay(await make_order(first))
        assert outcomes(first.deliveries()) == [(1, "waiting", None)]
        async with merchant("") as silent:
            first.change_shop(callback_url=silent.base_url)
            async with first.serve():
                await until(lambda: silent.heads)
        assert outcomes(first.deliveries()) == [(1, "waiting", None)]
    with Sandbox(path) as second:
        async with merchant("success") as shop:
            second.change_shop(callback_url=shop.base_url)
            async with second.serve():
                [delivery] = await second.wait_delivered(order)
        assert outcomes([delivery]) == [(1, "accepted", None)]
        assert query_of(shop.heads[0]) == query_of(silent.heads[0])


async def test_delivery_of_dead_process_is_sent_after_its_lease(tmp_path: Path) -> None:
    """A delivery claimed by a process that died is sent by another process after the lease expires."""
    path = tmp_path / "shop.sqlite3"
    async with merchant("success") as shop:
        with Sandbox(path, callback_url=shop.base_url) as sandbox:
            sandbox.pay(await make_order(sandbox))
            assert sandbox._outbox.claim() is not None  # as if the process died here
            async with sandbox.serve():
                with pytest.raises(TimeoutError, match=r"still due after 0\.1 s"):
                    await sandbox.wait_delivered(timeout=0.1)
                assert shop.heads == []
                with sandbox._database.transaction() as connection:
                    # The lease lasts 40 s: callback_timeout, which is 10 s, and LEASE_MARGIN_S.
                    connection.execute("UPDATE delivery SET claimed = claimed - 41")
                assert outcomes(await sandbox.wait_delivered()) == [(1, "accepted", None)]


async def test_url_on_other_host_is_not_called_once_forbidden(tmp_path: Path) -> None:
    """A stored URL on another host isn't called by a sandbox that allows only loopback URLs."""
    path = tmp_path / "shop.sqlite3"
    with Sandbox(path, callback_url="http://shop.example/", callbacks_beyond_loopback=True) as sandbox:
        sandbox.pay(await make_order(sandbox))
    with Sandbox(path) as sandbox:
        async with sandbox.serve():
            assert (await sandbox.wait_delivered())[0].problem == "url_not_local"


async def test_second_result_of_a_delivery_is_ignored(sandbox: Sandbox) -> None:
    """If two senders finish one delivery, the first result is stored, and only one retry is scheduled."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    claimed = sandbox._outbox.claim()
    assert claimed is not None
    sandbox._outbox.finish(claimed, Answer(problem="timeout"))
    sandbox._outbox.finish(claimed, Answer(status=200, text="success"))
    sandbox._outbox.finish(claimed, Answer(problem="connection"))
    sandbox._outbox.release(claimed)
    assert outcomes(sandbox.deliveries()) == [(1, "refused", "timeout"), (2, "waiting", None)]


async def test_order_of_schema_version_1_can_be_sent_again(sandbox: Sandbox) -> None:
    """An order stored by an earlier version, without paid price and payment time, can be sent again."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    order = sandbox.pay(await make_order(sandbox))
    with sandbox._database.transaction() as connection:
        connection.execute("UPDATE pay_order SET paid = NULL, realprice = NULL")
    sandbox.send_again(order)
    claimed = sandbox._outbox.claim()
    assert claimed is not None
    assert "price=0.99&realprice=0.99&type=wechat&paytime=1555750250" in str(claimed.url)


async def test_waiting_without_serve_times_out(sandbox: Sandbox) -> None:
    """Callbacks aren't sent without serve(). The TimeoutError of wait_delivered() says so."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    with pytest.raises(TimeoutError, match=r"callbacks are sent while serve\(\) is open"):
        await sandbox.wait_delivered(timeout=0.05)


@pytest.mark.parametrize("method", ["claim", "finish"])
async def test_sender_survives_a_database_error(
    method: str, clock: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A database error doesn't stop the sender: it is logged, and the callback is delivered later."""
    original = getattr(Outbox, method)
    failures = [sqlite3.OperationalError("database is locked")]

    def fail_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(*args)

    monkeypatch.setattr(Outbox, method, fail_once)
    with Sandbox(clock=clock) as sandbox:
        async with merchant("success") as shop, sandbox.serve():
            sandbox.change_shop(callback_url=shop.base_url)
            sandbox.pay(await make_order(sandbox))
            await until(lambda: shop.heads and not failures and "database is locked" in caplog.text)
            with sandbox._database.transaction() as connection:  # as if its lease had expired
                connection.execute("UPDATE delivery SET claimed = 0 WHERE answered IS NULL")
            assert outcomes(await sandbox.wait_delivered()) == [(1, "accepted", None)]


async def test_no_thread_remains_after_serve(sandbox: Sandbox) -> None:
    """When serve() ends, also with an exception, all threads of the sandbox have ended."""

    async def fail() -> None:
        async with sandbox.serve():
            assert any("sandbox-callbacks" in thread.name for thread in threading.enumerate())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gatepay-sandbox")]


async def test_repr_and_logs_contain_no_signature(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the repr of a delivery nor a log line contains the callback's signature."""
    caplog.set_level("DEBUG")
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        deliveries = await sandbox.wait_delivered()
    sign = query_of(shop.heads[0])["sign"]
    assert sign in str(deliveries[0].url)
    records = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert "callback of order 1, attempt 1: accepted" in [record.getMessage() for record in records]
    assert sign not in repr(deliveries) + "".join(str(vars(record)) for record in records)


@rows("settings", [{"callback_interval": -1}, {"seed": None}, {"callback_url": "ftp://127.0.0.1/"}])
def test_invalid_setting_creates_no_file(settings: Any, tmp_path: Path) -> None:
    """The error names the invalid setting, and no file is created."""
    with pytest.raises(InvalidArgumentError, match=f"^{next(iter(settings))}: "):
        Sandbox(tmp_path / "shop.sqlite3", **settings)
    assert list(tmp_path.iterdir()) == []
