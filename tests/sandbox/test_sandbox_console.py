"""The sandbox's console, as a browser without JavaScript shows it."""

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
def console(api: Any) -> Any:
    """An httpx client whose base URL is the root of the sandbox's server."""
    api.client.base_url = str(api.client.base_url).removesuffix("api/")
    return api.client


def text_of(response: Any, status: int = 200) -> str:
    """Return the visible text of a response with the expected status."""
    assert response.status_code == status
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))


def test_shops_page_lists_shops_and_products(sandbox: Sandbox, console: Any) -> None:
    """`/shops` shows both shops' appkeys and appsecrets, a notice, and each product's unsold and sold card keys."""
    page = text_of(console.get("/shops"))
    assert "Sandbox" in page
    assert "its secrets are for testing" in page
    for shop in sandbox.shops:
        assert shop.appkey in page
        assert shop.appsecret in page
    assert "8 腾讯视频SVIP账号 ¥0.99 89 0" in page
    assert "3 示例产品 ¥1.50 0 0" in page


@pytest.mark.anyio
async def test_payment_moves_keys_from_stock_to_sold(sandbox: Sandbox, console: Any) -> None:
    """The shops page counts the keys of a paid order as sold."""
    sandbox.pay(await make_order(sandbox, product_num="2", pay_type="alipay"))
    assert "8 腾讯视频SVIP账号 ¥0.99 87 2" in text_of(console.get("/shops"))


def test_closed_and_removed_shops_are_marked(sandbox: Sandbox, console: Any) -> None:
    """A closed shop is marked. A removed shop is marked and has no field for a URL."""
    sandbox.change_shop(closed=True)
    sandbox.remove_shop(sandbox.shops[1].appkey)
    response = console.get("/shops")
    assert "card key API closed" in text_of(response)
    assert "This shop was deleted" in text_of(response)
    assert response.text.count('name="callback_url"') == 1
    console.post("/shops", data={"appkey": sandbox.shops[1].appkey, "callback_url": "http://127.0.0.1/"})
    assert sandbox.shop(sandbox.shops[1].appkey) is None  # the form doesn't restore the shop


def test_callback_url_form_saves_shows_and_clears(sandbox: Sandbox, console: Any) -> None:
    """The form saves and shows a shop's callback URL; an empty field removes it. Unknown appkeys are ignored."""
    url = "http://127.0.0.1:8000/callback?shop=1"
    form = {"appkey": sandbox.shops[1].appkey, "callback_url": f" {url} "}
    response = console.post("/shops", data=form, follow_redirects=True)
    assert "Saved." in text_of(response)
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
    ("url", "message"),
    [
        ("nonsense", "Enter a full http:// or https:// URL"),
        ('"><script>alert(1)</script>', "Enter a full http:// or https:// URL"),
        ("http://me@127.0.0.1/", "user name"),
        ("http://127.0.0.1/?sign=1", "a parameter with the same name"),
        ("http://example.com/", "allows other hosts"),
    ],
)
def test_invalid_callback_url_shows_an_error(url: str, message: str, sandbox: Sandbox, console: Any) -> None:
    """An invalid URL stays in its field with an error next to it, and the shop isn't changed."""
    response = console.post("/shops", data={"appkey": sandbox.appkey, "callback_url": url})
    assert message in text_of(response, 422).replace("&#39;", "'")
    assert response.text.count('aria-invalid="true"') == 1
    assert "<script>" not in response.text
    state = sandbox.shop()
    assert state is not None
    assert state.callback_url is None


@pytest.mark.anyio
async def test_console_accepts_other_hosts_if_allowed(connect_to: Any, clock: Any) -> None:
    """With `callbacks_beyond_loopback`, the console accepts the URL of another host."""
    with Sandbox(clock=clock, callbacks_beyond_loopback=True) as sandbox:
        client = connect_to(sandbox).client
        root = str(client.base_url).removesuffix("api/")
        form = {"appkey": sandbox.appkey, "callback_url": "https://shop.example/cb"}
        assert client.post(f"{root}shops", data=form).status_code == 303
        state = sandbox.shop()
        assert state is not None
        assert state.callback_url == "https://shop.example/cb"


def test_overview_shows_setup_and_counts(sandbox: Sandbox, console: Any, api: Any) -> None:
    """`/` shows the environment variables for four shells and the numbers of orders, callbacks and faults."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, endpoint="ka/show"))
    sandbox.fault(Fault(FaultKind.CODE, code=110, endpoint="product/show"))
    for path in ("product/show", "pay/create", "pay/create"):
        console.post(f"/api/{path}", data=api.form(path))
    sandbox.pay(1)
    response = console.get("/")
    page = text_of(response)
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


def test_console_creates_orders(sandbox: Sandbox, console: Any) -> None:
    """The console creates orders for either shop. Invalid input shows an error and stays in the form."""
    form = {"product": "8", "quantity": "2", "pay_type": "alipay", "out_order_id": "", "custom": "me"}
    page = text_of(console.post("/orders", data=form, follow_redirects=True))
    assert "Order 1" in page
    [order] = sandbox.orders()
    assert (order.product_id, order.product_num, order.pay_type, order.custom) == (8, 2, "alipay", "me")
    assert (order.state, order.price, order.endpoint) == ("pending", Decimal("1.98"), "pay/create")
    assert re.fullmatch(r"C[0-9A-F]{8}X", order.out_order_id)
    sandbox.add_keys(3, ["A"])
    assert console.post("/orders", data={"product": "3", "out_order_id": " T-1-X "}).headers["location"] == "/orders/2"
    assert (sandbox.orders()[1].out_order_id, sandbox.orders()[1].expires_at is None) == ("T-1-X", False)
    invalid_inputs = [
        ({"quantity": "0"}, "a quantity above 0"),
        ({"product": "99"}, "Choose a product"),
        ({"pay_type": "cash"}, "a payment method"),
        ({"pay_type": "wechat"}, "one item at a time"),
        ({"quantity": "90"}, "not enough stock"),
    ]
    for change, message in invalid_inputs:
        response = console.post("/orders", data={**form, **change})
        assert message in text_of(response, 422)
        assert 'value="me"' in response.text
    sandbox.remove_shop(sandbox.shops[1].appkey)
    assert "Choose a product" in text_of(console.post("/orders", data={"product": "3"}), 422)
    assert len(sandbox.orders()) == 2


def test_console_order_does_not_expire_without_limit(connect_to: Any) -> None:
    """With `expires_after=None`, an order created in the console doesn't expire."""
    with Sandbox(expires_after=None) as sandbox:
        client = connect_to(sandbox).client
        client.post(f"{str(client.base_url).removesuffix('api/')}orders", data={"product": "8"})
        assert sandbox.orders()[0].expires_at is None


@pytest.mark.anyio
async def test_orders_are_paged_newest_first(sandbox: Sandbox, console: Any) -> None:
    """Orders are listed twenty per page, newest first. An invalid page number gets the nearest page, or the first."""
    assert "No orders yet" in text_of(console.get("/"))
    for _ in range(45):
        await make_order(sandbox)
    pages = {
        page: [int(n) for n in re.findall(r"Order (\d+)", text_of(console.get(f"/orders?page={page}")))]
        for page in ("", "1", "2", "3", "4", "0", "-1", "x", "9999999999999", "²")
    }
    assert pages["1"] == list(range(45, 25, -1))
    assert pages["2"] == list(range(25, 5, -1))
    assert pages["3"] == list(range(5, 0, -1))
    assert pages["4"] == pages["3"]
    assert pages[""] == pages["0"] == pages["-1"] == pages["x"] == pages["9999999999999"] == pages["²"] == pages["1"]
    assert "Page 2 of 3" in text_of(console.get("/orders?page=2"))


@pytest.mark.anyio
async def test_order_page_shows_details_and_allowed_actions(sandbox: Sandbox, console: Any) -> None:
    """An order's page shows its details and the actions that its state allows."""
    await make_order(sandbox)
    page = console.get("/orders/1")
    for text in (
        "T-1001-X",
        "¥0.99",
        "Waiting for payment",
        "WeChat Pay",
        "c@d",
        "None: the shop has no callback URL",
    ):
        assert text in text_of(page)
    assert 'id="again"' not in page.text
    assert 'id="confirm"' not in page.text
    sandbox.expire(1)
    assert 'id="confirm"' in console.get("/orders/1").text
    sandbox.pay(1)
    assert "Paid after expiry" in text_of(console.get("/orders/1"))
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    assert "No callback was sent" in text_of(console.get("/orders/1"))
    for path in ("/orders/2", "/orders/99999999999999999999999"):
        assert "Order not found" in text_of(console.get(path), 404)
        assert "Order not found" in text_of(console.post(path, data={"do": "again"}), 404)
    assert "Page not found" in text_of(console.get("/orders/x"), 404)


@pytest.mark.anyio
async def test_confirm_and_send_again_deliver_callbacks(sandbox: Sandbox, console: Any) -> None:
    """*I have been paid* marks an expired order as paid and sends the callback. *Send again* sends it again."""
    async with merchant("fail", "success") as shop:
        sandbox.change_shop(callback_url=shop.base_url)
        await make_order(sandbox)
        sandbox.expire(1)

        async def press(action: str) -> str:
            return text_of(
                await anyio.to_thread.run_sync(
                    lambda: console.post("/orders/1", data={"do": action}, follow_redirects=True)
                )
            )

        assert "Paid" in await press("confirm")
        await sandbox.wait_delivered()
        await press("again")
        deliveries = await sandbox.wait_delivered()
        assert [(delivery.attempt, delivery.state) for delivery in deliveries] == [(1, "refused"), (1, "accepted")]
        assert "Waiting" not in await press("nothing")
    page = text_of(console.get("/orders/1"))
    assert "Accepted" in page
    assert "200 fail" in page
    assert "The response was not success." in page
    listed = console.get("/callbacks")
    assert [int(n) for n in re.findall(r"Order (\d+)", text_of(listed))] == [1, 1]
    assert f"GET {deliveries[0].url}".replace("&", "&amp;") in listed.text


@pytest.mark.anyio
async def test_send_again_of_pending_order_shows_an_error(sandbox: Sandbox, console: Any) -> None:
    """*Send again* for an unpaid order responds with 409 and the reason."""
    await make_order(sandbox)
    assert "A callback needs a paid order" in text_of(console.post("/orders/1", data={"do": "again"}), 409)


@pytest.mark.anyio
async def test_callback_responses_are_shown_escaped(sandbox: Sandbox, console: Any) -> None:
    """HTML in a shop's response is shown as text. A missing response is shown as such."""
    async with merchant("<script>alert(1)</script>" * 9) as shop:
        sandbox.change_shop(callback_url=shop.base_url)
        for _ in range(2):
            sandbox.pay(await make_order(sandbox))
            await sandbox.wait_delivered(1)
            sandbox.change_shop(callback_url="http://127.0.0.1:1")
        await sandbox.wait_delivered()
    response = console.get("/callbacks")
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" * 9 in response.text
    page = text_of(response)
    assert "Could not connect" in page
    assert "due 2019-04-2" in page
    assert "Response (none)" in page


def test_callbacks_page_without_deliveries_says_so(console: Any) -> None:
    assert "No callbacks yet" in text_of(console.get("/callbacks"))


def test_faults_page_adds_counts_and_removes_faults(sandbox: Sandbox, console: Any, api: Any) -> None:
    """The faults page adds faults, counts how often they were applied, and removes one or all of them."""
    assert "No faults: everything works." in text_of(console.get("/faults"))
    console.post("/faults", data={"do": "add", "kind": "code", "code": "110", "endpoint": "product/show", "times": "2"})
    console.post("/faults", data={"do": "add", "kind": "slow", "seconds": "3", "endpoint": "", "times": ""})
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    assert api.client.post("/api/product/show", data=api.form("product/show")).json()["code"] == 110
    page = text_of(console.get("/faults"))
    assert "code 110 refused with a code, call not executed product/show 1 of 2" in page
    assert "slow 3 s slow response, call executed any endpoint 0 (no limit)" in page
    added = [
        (active.fault.kind, active.fault.endpoint, active.fault.times, active.fault.seconds)
        for active in sandbox._faults.read()
    ]
    assert added[1] == (FaultKind.SLOW, None, None, 3.0)
    for number in ("2", "2", "x", "99"):
        assert console.post("/faults", data={"do": "remove", "number": number}).status_code == 303
    assert [active.number for active in sandbox._faults.read()] == [1, 3]
    console.post("/faults", data={"do": "clear"})
    assert "No faults" in text_of(console.get("/faults"))
    assert console.post("/faults", data={"x": ""}).status_code == 303


@rows(
    "change",
    [
        {"kind": "nothing"},
        {"kind": "code"},
        {"endpoint": "pay/refund"},
        {"times": "0"},
        {"times": "x"},
        {"kind": ""},
        {"seconds": "0.5"},
        {"retry_after": "soon"},
    ],
)
def test_invalid_fault_shows_an_error(change: dict[str, str], sandbox: Sandbox, console: Any) -> None:
    """An invalid fault shows an error, and no fault is added."""
    response = console.post("/faults", data={"do": "add", "kind": "slow", "times": "1", **change})
    assert "Invalid fault" in text_of(response, 422)
    assert sandbox._faults.read() == []


@pytest.fixture
def underpaid_order(sandbox: Sandbox, console: Any, api: Any) -> None:
    """An order that was paid with less than its price."""
    console.post("/api/pay/create", data=api.form("pay/create"))
    sandbox.pay(1, realprice=Decimal("0.5"))


@rows("path", ["/", "/shops", "/orders", "/orders/1", "/callbacks", "/faults", "/nowhere", "/orders/2"])
@rows("language", ["en", "zh"])
@pytest.mark.usefixtures("underpaid_order")
def test_every_page_is_shown_in_the_requested_language(path: str, language: str, console: Any) -> None:
    """Every page of the console shows the sandbox warning in the requested language and declares that language."""
    response = console.get(path, params={"lang": language})
    assert f'<html lang="{"en" if language == "en" else "zh-CN"}">' in response.text
    assert response.headers["content-language"] == language
    warning = {"en": "This is a sandbox on your own machine", "zh": "这是你本机上的沙箱"}[language]
    assert warning in response.text


def test_console_uses_the_sandboxs_order_service(
    sandbox: Sandbox, console: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console shows a change that was made through the sandbox object."""
    api.client.post("/api/pay/create", data=api.form("pay/create"))
    sandbox.expire(1)
    assert "Expired" in text_of(console.get("/orders"))
    assert isinstance(sandbox._order_service, OrderService)
