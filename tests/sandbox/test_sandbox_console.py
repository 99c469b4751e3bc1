"""The console, as a browser without JavaScript sees it."""

import re
from decimal import Decimal
from typing import Any

import anyio
import pytest
from shop_side import make_order, merchant
from tables import rows

from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.sandbox.order_service import OrderService

pytestmark = pytest.mark.sockets


@pytest.fixture
def console(call: Any) -> Any:
    """A client at the root of the sandbox's server."""
    call.client.base_url = str(call.client.base_url).removesuffix("api/")
    return call.client


def said(response: Any, status: int = 200) -> str:
    assert response.status_code == status
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))


def test_shops(sandbox: Sandbox, console: Any) -> None:
    """`/shops` shows both shops' keys and secrets, loudly a sandbox's, and each product with its keys by state."""
    page = said(console.get("/shops"))
    assert page.count("Sandbox") >= 1
    assert "its secrets are for testing" in page
    for pair in sandbox.shops:
        assert pair.appkey in page
        assert pair.appsecret in page
    assert "8 腾讯视频SVIP账号 ¥0.99 89 0" in page
    assert "3 示例产品 ¥1.50 0 0" in page


@pytest.mark.anyio
async def test_selling_takes_a_key(sandbox: Sandbox, console: Any) -> None:
    """A paid order moves its keys from the unsold to the sold ones."""
    sandbox.pay(await make_order(sandbox, product_num="2", pay_type="alipay"))
    assert "8 腾讯视频SVIP账号 ¥0.99 87 2" in said(console.get("/shops"))


def test_a_closed_and_a_removed_shop(sandbox: Sandbox, console: Any) -> None:
    """A closed shop is marked, and a removed one has no URL to enter."""
    sandbox.change_shop(closed=True)
    sandbox.remove_shop(sandbox.shops[1].appkey)
    response = console.get("/shops")
    assert "card key API closed" in said(response)
    assert "This shop was deleted" in said(response)
    assert response.text.count('name="callback_url"') == 1
    console.post("/shops", data={"appkey": sandbox.shops[1].appkey, "callback_url": "http://127.0.0.1/"})
    assert sandbox.shop(sandbox.shops[1].appkey) is None


def test_entering_a_url(sandbox: Sandbox, console: Any) -> None:
    """A shop's URL is entered, shown again, and taken away by an empty one; an unknown shop's is passed over."""
    url = "http://127.0.0.1:8000/callback?shop=1"
    form = {"appkey": sandbox.shops[1].appkey, "callback_url": f" {url} "}
    response = console.post("/shops", data=form, follow_redirects=True)
    assert "Saved." in said(response)
    assert f'value="{url}"' in response.text
    state = sandbox.shop(sandbox.shops[1].appkey)
    assert state is not None
    assert state.callback_url == url
    console.post("/shops", data={**form, "callback_url": ""})
    state = sandbox.shop(sandbox.shops[1].appkey)
    assert state is not None
    assert state.callback_url is None
    assert console.post("/shops", data={"appkey": "x", "callback_url": url}).status_code == 303
    assert console.post("/shops", data={"x": ""}).status_code == 303


@rows(
    ("url", "sentence"),
    [
        ("nonsense", "Enter a full http:// or https:// URL"),
        ('"><script>alert(1)</script>', "Enter a full http:// or https:// URL"),
        ("http://me@127.0.0.1/", "user name"),
        ("http://127.0.0.1/?sign=1", "a parameter with the same name"),
        ("http://example.com/", "allows other hosts"),
    ],
)
def test_a_url_that_cant_be(url: str, sentence: str, sandbox: Sandbox, console: Any) -> None:
    """A URL that can't be is said beside its field, which keeps it, and changes nothing."""
    response = console.post("/shops", data={"appkey": sandbox.appkey, "callback_url": url})
    assert sentence in said(response, 422).replace("&#39;", "'")
    assert response.text.count('aria-invalid="true"') == 1
    assert "<script>" not in response.text
    state = sandbox.shop()
    assert state is not None
    assert state.callback_url is None


@pytest.mark.anyio
async def test_beyond_loopback(visit: Any, clock: Any) -> None:
    """Where callbacks may leave this machine, the console takes such a URL, too."""
    with Sandbox(clock=clock, callbacks_beyond_loopback=True) as sandbox:
        client = visit(sandbox).client
        root = str(client.base_url).removesuffix("api/")
        form = {"appkey": sandbox.appkey, "callback_url": "https://shop.example/cb"}
        assert client.post(f"{root}shops", data=form).status_code == 303
        state = sandbox.shop()
        assert state is not None
        assert state.callback_url == "https://shop.example/cb"


def test_the_overview(sandbox: Sandbox, console: Any, call: Any) -> None:
    """`/` says how to connect, in the words of four shells, and how many orders, callbacks and faults there are."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, endpoint="ka/show"))
    sandbox.fault(Fault(FaultKind.CODE, code=110, endpoint="product/show"))
    for path in ("product/show", "pay/create", "pay/create"):
        console.post(f"/api/{path}", data=call.form(path))
    sandbox.pay(1)
    response = console.get("/")
    page = said(response)
    for line in (
        "export GATEPAY_APPKEY=",
        "set -gx GATEPAY_APPKEY &#39;",
        "$env:GATEPAY_APPKEY = &#39;",
        "set &#34;GATEPAY_",
    ):
        assert line in response.text
    assert f"GATEPAY_BASE_URL={console.base_url}api/" in page
    assert sandbox.appsecret in page
    assert "2 Orders 1 paid 0 Callbacks 0 failed 1 Faults switched on" in page
    assert "Order 2" in page
    assert " UTC" in page


def test_an_order_from_the_console(sandbox: Sandbox, console: Any) -> None:
    """An order can be made in the console, of either shop; what can't be ordered is said, and the form kept."""
    form = {"product": "8", "quantity": "2", "pay_type": "alipay", "out_order_id": "", "custom": "me"}
    page = said(console.post("/orders", data=form, follow_redirects=True))
    assert "Order 1" in page
    [order] = sandbox.orders()
    assert (order.product_id, order.product_num, order.pay_type, order.custom) == (8, 2, "alipay", "me")
    assert (order.state, order.price, order.endpoint) == ("pending", Decimal("1.98"), "pay/create")
    assert re.fullmatch(r"C[0-9A-F]{8}X", order.out_order_id)
    sandbox.add_keys(3, ["A"])
    assert console.post("/orders", data={"product": "3", "out_order_id": " T-1-X "}).headers["location"] == "/orders/2"
    assert (sandbox.orders()[1].out_order_id, sandbox.orders()[1].expires_at is None) == ("T-1-X", False)
    wrong = [
        ({"quantity": "0"}, "a quantity above 0"),
        ({"product": "99"}, "Choose a product"),
        ({"pay_type": "cash"}, "a payment method"),
        ({"pay_type": "wechat"}, "one item at a time"),
        ({"quantity": "90"}, "not enough stock"),
    ]
    for change, sentence in wrong:
        response = console.post("/orders", data={**form, **change})
        assert sentence in said(response, 422)
        assert 'value="me"' in response.text
    sandbox.remove_shop(sandbox.shops[1].appkey)
    assert "Choose a product" in said(console.post("/orders", data={"product": "3"}), 422)
    assert len(sandbox.orders()) == 2


def test_an_order_that_does_not_expire(visit: Any) -> None:
    """Where orders don't expire, one from the console doesn't either."""
    with Sandbox(expires_after=None) as sandbox:
        client = visit(sandbox).client
        client.post(f"{str(client.base_url).removesuffix('api/')}orders", data={"product": "8"})
        assert sandbox.orders()[0].expires_at is None


@pytest.mark.anyio
async def test_many_orders(sandbox: Sandbox, console: Any) -> None:
    """Orders come twenty a page, newest first; a page past the last, or none at all, is the nearest one."""
    assert "No orders yet" in said(console.get("/"))
    for _ in range(45):
        await make_order(sandbox)
    pages = {
        page: [int(n) for n in re.findall(r"Order (\d+)", said(console.get(f"/orders?page={page}")))]
        for page in ("", "1", "2", "3", "4", "0", "-1", "x", "9999999999999", "²")
    }
    assert pages["1"] == list(range(45, 25, -1))
    assert pages["2"] == list(range(25, 5, -1))
    assert pages["3"] == list(range(5, 0, -1))
    assert pages["4"] == pages["3"]
    assert pages[""] == pages["0"] == pages["-1"] == pages["x"] == pages["9999999999999"] == pages["²"] == pages["1"]
    assert "Page 2 of 3" in said(console.get("/orders?page=2"))


@pytest.mark.anyio
async def test_an_order(sandbox: Sandbox, console: Any) -> None:
    """An order's page says all about it, and offers what its state allows."""
    await make_order(sandbox)
    response = console.get("/orders/1")
    for each in (
        "T-1001-X",
        "¥0.99",
        "Waiting for payment",
        "WeChat Pay",
        "c@d",
        "None: the shop has no callback URL",
    ):
        assert each in said(response)
    assert 'id="again"' not in response.text
    assert 'id="confirm"' not in response.text
    sandbox.expire(1)
    assert 'id="confirm"' in console.get("/orders/1").text
    sandbox.pay(1)
    assert "Paid after expiry" in said(console.get("/orders/1"))
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    assert "No callback was sent" in said(console.get("/orders/1"))
    for path in ("/orders/2", "/orders/99999999999999999999999"):
        assert "Order not found" in said(console.get(path), 404)
        assert "Order not found" in said(console.post(path, data={"do": "again"}), 404)
    assert "Page not found" in said(console.get("/orders/x"), 404)


@pytest.mark.anyio
async def test_i_have_been_paid(sandbox: Sandbox, console: Any) -> None:
    """*I have been paid* makes an expired order a paid one and calls back; *Send again* does so once more."""
    async with merchant("fail", "success") as shop:
        sandbox.change_shop(callback_url=shop.base_url)
        await make_order(sandbox)
        sandbox.expire(1)

        async def press(what: str) -> str:
            return said(
                await anyio.to_thread.run_sync(
                    lambda: console.post("/orders/1", data={"do": what}, follow_redirects=True)
                )
            )

        assert "Paid" in await press("confirm")
        await sandbox.wait_delivered()
        await press("again")
        deliveries = await sandbox.wait_delivered()
        assert [(each.attempt, each.state) for each in deliveries] == [(1, "refused"), (1, "accepted")]
        assert "Waiting" not in await press("nothing")
    page = said(console.get("/orders/1"))
    assert "Accepted" in page
    assert "200 fail" in page
    assert "The response was not success." in page
    listed = console.get("/callbacks")
    assert [int(n) for n in re.findall(r"Order (\d+)", said(listed))] == [1, 1]
    assert f"GET {deliveries[0].url}".replace("&", "&amp;") in listed.text


@pytest.mark.anyio
async def test_nothing_to_send(sandbox: Sandbox, console: Any) -> None:
    """*Send again* where nobody is to be told is answered with the reason."""
    await make_order(sandbox)
    assert "A callback needs a paid order" in said(console.post("/orders/1", data={"do": "again"}), 409)


@pytest.mark.anyio
async def test_what_merchants_answered_is_text(sandbox: Sandbox, console: Any) -> None:
    """An answer that is a page of HTML is shown as text; one that never came, or says nothing, is said to be so."""
    async with merchant("<script>alert(1)</script>" * 9, "") as shop:
        sandbox.change_shop(callback_url=shop.base_url)
        for _ in range(2):
            sandbox.pay(await make_order(sandbox))
            await sandbox.wait_delivered(1)
            sandbox.change_shop(callback_url="http://127.0.0.1:1")
        await sandbox.wait_delivered()
    response = console.get("/callbacks")
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" * 9 in response.text
    page = said(response)
    assert "Could not connect" in page
    assert "due 2019-04-2" in page
    assert "Response (none)" in page


def test_no_deliveries(console: Any) -> None:
    """Without a delivery the page says how they begin."""
    assert "No callbacks yet" in said(console.get("/callbacks"))


def test_faults(sandbox: Sandbox, console: Any, call: Any) -> None:
    """A fault is switched on, hits, says how often it did, and is switched off; so are all of them."""
    assert "No faults: everything works." in said(console.get("/faults"))
    console.post("/faults", data={"do": "add", "kind": "code", "code": "110", "endpoint": "product/show", "times": "2"})
    console.post("/faults", data={"do": "add", "kind": "slow", "seconds": "3", "endpoint": "", "times": ""})
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    assert call.client.post("/api/product/show", data=call.form("product/show")).json()["code"] == 110
    page = said(console.get("/faults"))
    assert "code 110 refused with a code, call not executed product/show 1 of 2" in page
    assert "slow 3 s slow response, call executed any endpoint 0 (no limit)" in page
    added = [
        (each.fault.kind, each.fault.endpoint, each.fault.times, each.fault.seconds) for each in sandbox._faults.read()
    ]
    assert added[1] == (FaultKind.SLOW, None, None, 3.0)
    for number in ("2", "2", "x", "99"):
        assert console.post("/faults", data={"do": "remove", "number": number}).status_code == 303
    assert [each.number for each in sandbox._faults.read()] == [1, 3]
    console.post("/faults", data={"do": "clear"})
    assert "No faults" in said(console.get("/faults"))
    assert console.post("/faults", data={"x": ""}).status_code == 303


@rows(
    "change",
    [{"kind": "nothing"}, {"kind": "code"}, {"endpoint": "pay/refund"}, {"times": "0"}, {"times": "x"}, {"kind": ""}],
)
def test_no_fault(change: dict[str, str], sandbox: Sandbox, console: Any) -> None:
    """What is no fault is said, and nothing is switched on."""
    response = console.post("/faults", data={"do": "add", "kind": "slow", "times": "1", **change})
    assert "Invalid fault" in said(response, 422)
    assert sandbox._faults.read() == []


@pytest.fixture
def one_order(sandbox: Sandbox, console: Any, call: Any) -> None:
    """Paid with less than it costs."""
    console.post("/api/pay/create", data=call.form("pay/create"))
    sandbox.pay(1, realprice=Decimal("0.5"))


@rows("path", ["/", "/shops", "/orders", "/orders/1", "/callbacks", "/faults", "/nowhere", "/orders/2"])
@rows("language", ["en", "zh"])
@pytest.mark.usefixtures("one_order")
def test_every_page_in_both_languages(path: str, language: str, console: Any) -> None:
    """Every page of the console says on top that it is a sandbox, in either language, and which that is."""
    response = console.get(path, params={"lang": language})
    assert f'<html lang="{"en" if language == "en" else "zh-CN"}">' in response.text
    assert response.headers["content-language"] == language
    warning = {"en": "This is a sandbox on your own machine", "zh": "这是你本机上的沙箱"}[language]
    assert warning in response.text


def test_an_order_gone_meanwhile(sandbox: Sandbox, console: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order service of the console is the sandbox's own: what one does the other sees."""
    call.client.post("/api/pay/create", data=call.form("pay/create"))
    sandbox.expire(1)
    assert "Expired" in said(console.get("/orders"))
    assert isinstance(sandbox._order_service, OrderService)
