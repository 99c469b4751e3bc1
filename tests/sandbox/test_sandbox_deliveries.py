"""Callbacks go out: signed, four times at most, kept with what was answered, and never for what expired."""

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

from gatepay_async.sandbox import Delivery, NoCallbackError, Sandbox
from gatepay_async.sandbox.deliveries import Answer
from gatepay_async.sandbox.outbox import Outbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SIGNED = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")


@pytest.fixture
def impatient(clock: Any) -> Iterator[Sandbox]:
    """A sandbox that waits for nothing between two attempts."""
    with Sandbox(clock=clock, callback_interval=0, callback_timeout=5) as it:
        yield it


def outcomes(deliveries: list[Delivery]) -> list[tuple[int, str, str | None]]:
    return [(each.attempt, each.state, each.problem) for each in deliveries]


async def test_a_paid_order_is_told_of(sandbox: Sandbox, clock: Any) -> None:
    """A payment calls the shop's URL with a GET, signed as the vendor says; the answer and the times are kept."""
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=f"{shop.base_url}?shop=1")
        order = await make_order(sandbox, custom="a+b &c=密", pay_type="alipay")
        clock.now += 5
        sandbox.pay(order, realprice=Decimal("0.98"))
        [delivery] = await sandbox.wait_delivered(order)
    [head] = shop.heads
    sent = query_of(head)
    assert head.startswith(b"GET /callback?shop=1&appkey=")
    assert b"\r\nuser-agent: gatepay-sandbox\r\n" in head.lower()
    assert sent.pop("sign") == md5_hex(
        md5_hex(sandbox.appkey + "".join(sent[name] for name in SIGNED)) + sandbox.appsecret
    )
    assert sent == {
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


async def test_a_merchant_who_fails_is_asked_four_times(impatient: Sandbox) -> None:
    """After anything but `success` there are three more tries, then no more."""
    async with merchant("fail") as shop, impatient.serve():
        impatient.change_shop(callback_url=shop.base_url)
        impatient.pay(await make_order(impatient))
        deliveries = await impatient.wait_delivered()
        assert outcomes(deliveries) == [(number, "refused", "not_success") for number in (1, 2, 3, 4)]
        assert [each.answer for each in deliveries] == ["fail"] * 4
    assert len(shop.heads) == 4
    assert len(set(shop.heads)) == 1  # the same callback, byte for byte


async def test_attempts_are_a_minute_apart(sandbox: Sandbox, clock: Any) -> None:
    """The next try waits for its minute; the one that meets `success` is the last."""
    async with merchant("fail", "success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        deliveries = await sandbox.wait_delivered()
        assert outcomes(deliveries) == [(1, "refused", "not_success"), (2, "waiting", None)]
        assert (deliveries[1].due_at, deliveries[1].sent_at, deliveries[1].url) == (clock.now + 60, None, None)
        clock.now += 59
        assert len(await sandbox.wait_delivered()) == len(shop.heads) + 1 == 2
        clock.now += 1
        assert outcomes(await sandbox.wait_delivered())[1:] == [(2, "accepted", None)]
        clock.now += 600
        assert len(await sandbox.wait_delivered()) == len(shop.heads) == 2


HEAD = b"HTTP/1.1 200 OK\r\n"


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
        (HEAD + b"Content-Length: 9\r\n\r\nsuccess", "no_http", None, None),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no_http", None, None),
        (HEAD + b"x: " + b"y" * 100_000 + b"\r\n\r\n", "no_http", None, None),
        (HEAD + b"\r\nsuccess", None, 200, "success"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"success", status="201 Created"), None, 201, "success"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsucc\r\n3\r\ness\r\n0\r\n\r\n", None, 200, "success"),
    ],
)
async def test_what_merchants_answer(
    answer: bytes, problem: str | None, status: int | None, text: str | None, sandbox: Sandbox
) -> None:
    """Only a successful reply whose body is the bare `success` counts; whatever else comes is kept as it came."""
    async with merchant(answer) as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        first = (await sandbox.wait_delivered())[0]
    assert (first.problem, first.status, first.answer) == (problem, status, text)


async def test_nobody_is_there(impatient: Sandbox) -> None:
    """A URL where nobody listens fails four times, also where a name has two addresses."""
    async with merchant("success") as gone:
        pass
    async with impatient.serve():
        for host in ("127.0.0.1", "localhost"):
            impatient.change_shop(callback_url=gone.base_url.replace("127.0.0.1", host))
            order = await make_order(impatient)
            impatient.pay(order)
            deliveries = await impatient.wait_delivered(order)
            assert outcomes(deliveries) == [(number, "refused", "connection") for number in (1, 2, 3, 4)]


async def test_localhost_is_either_loopback(sandbox: Sandbox) -> None:
    """`localhost` finds a merchant who listens on IPv6 alone, and one on IPv4 alone."""
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


async def test_an_untrusted_certificate(sandbox: Sandbox) -> None:
    """A merchant whose HTTPS can't be trusted is not told anything."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(b"success"))

    async with raw_server(answer, tls=context) as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        assert (await sandbox.wait_delivered())[0].problem == "tls"
    assert shop.heads == []


async def test_a_slow_merchant_holds_up_nobody(clock: Any) -> None:
    """A merchant who never answers is given up after the time-out, and others are told meanwhile."""
    with Sandbox(clock=clock, callback_timeout=4) as sandbox:
        async with merchant("") as slow, merchant("success") as quick, sandbox.serve():
            sandbox.change_shop(callback_url=slow.base_url)
            late = await make_order(sandbox)
            sandbox.pay(late)
            await until(lambda: slow.heads)
            sandbox.change_shop(callback_url=quick.base_url)
            order = await make_order(sandbox)
            sandbox.pay(order)
            assert outcomes(await sandbox.wait_delivered(order)) == [(1, "accepted", None)]
            assert outcomes(sandbox.deliveries(late)) == [(1, "sending", None)]
            assert outcomes(await sandbox.wait_delivered(late))[0] == (1, "refused", "timeout")


async def test_many_at_once(sandbox: Sandbox) -> None:
    """Fifty payments are told of, each once, at most sixteen at a time."""
    at_once = [0, 0]
    go_on = anyio.Event()

    async def answer(stream: SocketStream, _: int) -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        if at_once[1] == 16:
            go_on.set()
        await go_on.wait()
        at_once[0] -= 1
        await stream.send(http(b"success"))
        raise ConnectionAbortedError

    async with raw_server(answer) as shop, sandbox.serve(), sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        for _ in range(50):
            sandbox.pay(await make_order(sandbox))
        deliveries = await sandbox.wait_delivered(timeout=60)
    assert outcomes(deliveries) == [(1, "accepted", None)] * 50
    assert sorted(int(query_of(head)["order_id"]) for head in shop.heads) == list(range(1, 51))
    assert 16 <= at_once[1] <= 32  # two senders


async def test_no_url_no_callback(sandbox: Sandbox) -> None:
    """A shop without a URL is told nothing, and there is nothing to send again."""
    async with sandbox.serve():
        order = sandbox.pay(await make_order(sandbox))
        assert await sandbox.wait_delivered() == []
    with pytest.raises(NoCallbackError, match="the shop of order 1 has no callback URL"):
        sandbox.send_again(order)


async def test_an_unpaid_order_is_not_sent(sandbox: Sandbox) -> None:
    """What isn't paid can't be called back for."""
    order = await make_order(sandbox)
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    with pytest.raises(NoCallbackError, match="order 1 is pending: only paid orders have a callback"):
        sandbox.send_again(order)
    with pytest.raises(LookupError, match="no order has the number 9"):
        sandbox.send_again(9)
    assert sandbox.deliveries() == []


@pytest.mark.parametrize("change", ["url", "shop"])
async def test_the_url_is_taken_away(change: str, sandbox: Sandbox) -> None:
    """A delivery that waits while the shop's URL, or the shop, goes, says so: what counts is the URL of that moment."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    sandbox.change_shop(callback_url=None) if change == "url" else sandbox.remove_shop()
    async with sandbox.serve():
        first = (await sandbox.wait_delivered())[0]
    assert (first.problem, first.url, first.status) == ("no_url", None, None)


async def test_a_removed_shop_hears_nothing(sandbox: Sandbox) -> None:
    """An order of a shop that was removed can be paid; nobody is told."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    order = await make_order(sandbox)
    sandbox.remove_shop()
    assert sandbox.pay(order).state == "paid"
    assert sandbox.deliveries() == []


async def test_a_url_put_right_between_two_attempts(sandbox: Sandbox, clock: Any) -> None:
    """The next attempt goes to the URL as it is by then."""
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url="http://127.0.0.1:1")
        sandbox.pay(await make_order(sandbox))
        await sandbox.wait_delivered()
        sandbox.change_shop(callback_url=shop.base_url)
        clock.now += 60
        assert outcomes(await sandbox.wait_delivered()) == [(1, "refused", "connection"), (2, "accepted", None)]


async def test_send_again(sandbox: Sandbox, clock: Any) -> None:
    """A callback sent again says the same again, with all attempts anew; the attempt that waited is replaced."""
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


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    """A payment made while nobody serves is told of at the next start; so is a try that was broken off."""
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


async def test_a_sender_that_died(tmp_path: Path) -> None:
    """A delivery that another process took on and never finished is taken on again, once that must be dead."""
    path = tmp_path / "shop.sqlite3"
    async with merchant("success") as shop:
        with Sandbox(path, callback_url=shop.base_url) as sandbox:
            sandbox.pay(await make_order(sandbox))
            assert sandbox._outbox.claim() is not None  # and then its process is killed
            async with sandbox.serve():
                with pytest.raises(TimeoutError, match=r"still due after 0\.1 s"):
                    await sandbox.wait_delivered(timeout=0.1)
                assert shop.heads == []
                with sandbox._database.transaction() as connection:
                    connection.execute("UPDATE delivery SET claimed = claimed - 41")
                assert outcomes(await sandbox.wait_delivered()) == [(1, "accepted", None)]


async def test_a_url_that_is_no_longer_allowed(tmp_path: Path) -> None:
    """A URL beyond this machine that was entered while that was allowed is not called once it isn't."""
    path = tmp_path / "shop.sqlite3"
    with Sandbox(path, callback_url="http://shop.example/", callbacks_beyond_loopback=True) as sandbox:
        sandbox.pay(await make_order(sandbox))
    with Sandbox(path) as sandbox:
        async with sandbox.serve():
            assert (await sandbox.wait_delivered())[0].problem == "url_host"


async def test_the_first_answer_counts(sandbox: Sandbox) -> None:
    """When two senders carried out the same delivery, what the first wrote down stays, and there is one next try."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    errand = sandbox._outbox.claim()
    assert errand is not None
    sandbox._outbox.finish(errand, Answer(problem="timeout"))
    sandbox._outbox.finish(errand, Answer(status=200, text="success"))
    sandbox._outbox.finish(errand, Answer(problem="connection"))
    sandbox._outbox.release(errand)
    assert outcomes(sandbox.deliveries()) == [(1, "refused", "timeout"), (2, "waiting", None)]


async def test_an_order_of_the_first_layout_is_called_back(sandbox: Sandbox) -> None:
    """An order that has no price paid and no time of payment, as earlier versions left them, can be sent again."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    order = sandbox.pay(await make_order(sandbox))
    with sandbox._database.transaction() as connection:
        connection.execute("UPDATE pay_order SET paid = NULL, realprice = NULL")
    sandbox.send_again(order)
    errand = sandbox._outbox.claim()
    assert errand is not None
    assert "price=0.99&realprice=0.99&type=wechat&paytime=1555750250" in str(errand.url)


async def test_nothing_is_sent_unserved(sandbox: Sandbox) -> None:
    """Without serve() a callback waits, and who waits for it is told why."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    with pytest.raises(TimeoutError, match=r"callbacks are sent while serve\(\) is open"):
        await sandbox.wait_delivered(timeout=0.05)


@pytest.mark.parametrize("where", ["claim", "finish"])
async def test_a_database_that_is_locked(where: str, clock: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A database error stops no sender: it is logged, and the work goes on."""
    real = getattr(Outbox, where)
    failures = [sqlite3.OperationalError("database is locked")]

    def fail_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(Outbox, where, fail_once)
    with Sandbox(clock=clock) as sandbox:
        async with merchant("success") as shop, sandbox.serve():
            sandbox.change_shop(callback_url=shop.base_url)
            sandbox.pay(await make_order(sandbox))
            await until(lambda: shop.heads and not failures and "database is locked" in caplog.text)
            with sandbox._database.transaction() as connection:  # as if its lease had run out
                connection.execute("UPDATE delivery SET claimed = 0 WHERE answered IS NULL")
            assert outcomes(await sandbox.wait_delivered()) == [(1, "accepted", None)]


async def test_the_sender_leaves(sandbox: Sandbox) -> None:
    """When serve() ends no thread of the sandbox is left, whatever happens in the block."""

    async def fail() -> None:
        async with sandbox.serve():
            assert any("sandbox-callbacks" in thread.name for thread in threading.enumerate())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gatepay-sandbox")]


async def test_no_signature_is_shown(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the repr of a delivery nor a log line holds the signature of a callback."""
    caplog.set_level("DEBUG")
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        deliveries = await sandbox.wait_delivered()
    sign = query_of(shop.heads[0])["sign"]
    assert sign in str(deliveries[0].url)
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert "callback of order 1, attempt 1: accepted" in [record.getMessage() for record in ours]
    assert sign not in repr(deliveries) + "".join(str(vars(record)) for record in ours)


@rows(
    ("given", "sentence"),
    [
        ({"callback_interval": -1}, "callback_interval must be 0 or a positive number of seconds, not -1"),
        ({"callback_interval": float("nan")}, "callback_interval"),
        ({"callback_timeout": 0}, "callback_timeout must be a number of seconds above 0, not 0"),
        ({"expires_after": 0}, "expires_after must be a number of seconds above 0, not 0"),
        ({"callback_url": "ftp://127.0.0.1/"}, "not a callback URL. Enter a full http"),
    ],
)
def test_invalid_settings(given: Any, sentence: str, tmp_path: Path) -> None:
    """The error names the invalid setting, and no file is created."""
    with pytest.raises(ValueError, match=sentence):
        Sandbox(tmp_path / "shop.sqlite3", **given)
    assert list(tmp_path.iterdir()) == []
