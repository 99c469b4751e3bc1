"""The quick-pay page: an unsigned link, a form, an order."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from tables import rows

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

FORM = {"price": "1.88", "custom": "terry", "type": "wechat"}


def link(call: Any, **fields: str) -> str:
    state = call.sandbox.shop()
    root = str(call.client.base_url).removesuffix("api/")
    return f"{root}pay/any?{urlencode({'appkey': call.sandbox.appkey, 'token': state.token, **fields})}"


def test_a_payment(call: Any, sandbox: Sandbox) -> None:
    """The customer enters an amount and a way to pay, and comes to an order's page, which order/check finds."""
    response = call.client.get(link(call))
    assert "Pay a shop" in response.text
    response = call.client.post(link(call), data={**FORM, "price": "¥1,234.5"}, follow_redirects=True)
    assert response.url.path == "/pay/api"
    [order] = sandbox.orders()
    assert (order.endpoint, order.price, order.pay_type, order.custom) == (
        "pay/any",
        Decimal("1234.50"),
        "wechat",
        "terry",
    )
    assert (order.name, order.expires_at) == ("任意金额支付:1234.50元", sandbox._clock() + 300)
    assert call.reply("order/check", out_order_id=order.out_order_id)["data"]["order_price"] == "1234.50"


@pytest.mark.parametrize("stable", ["0", "1"])
def test_what_the_link_gives(stable: str, call: Any, sandbox: Sandbox) -> None:
    """Price and custom of the link stand in the form; a customer may change them, unless it says stable=1."""
    url = link(call, price="1.88", custom="room 7", stable=stable, skin="1")
    page = call.client.get(url).text
    assert 'value="1.88"' in page
    assert 'value="room 7"' in page
    assert page.count(" readonly") == (2 if stable == "1" else 0)
    assert "skin-1" in page
    call.client.post(url, data={"price": "0.01", "custom": "mine", "type": "alipay"})
    [order] = sandbox.orders()
    expected = (Decimal("1.88"), "room 7") if stable == "1" else (Decimal("0.01"), "mine")
    assert (order.price, order.custom) == expected


def test_stable_without_values(call: Any, sandbox: Sandbox) -> None:
    """What a link with stable=1 doesn't give the customer enters all the same; another skin is the first."""
    url = link(call, stable="1", skin="7")
    assert "readonly" not in call.client.get(url).text
    assert "skin-0" in call.client.get(url).text
    call.client.post(url, data=FORM)
    assert sandbox.orders()[0].price == Decimal("1.88")


@rows(
    "change",
    [{"price": "0"}, {"price": ""}, {"price": "x"}, {"custom": " "}, {"custom": "x" * 501}, {"type": "onecode"}],
)
def test_what_cant_be_ordered(change: dict[str, str], call: Any, sandbox: Sandbox) -> None:
    """What is wrong is said beside its field, and no order is made."""
    response = call.client.post(link(call), data=FORM | change)
    assert response.status_code == 422
    assert response.text.count('class="wrong"') == 1
    assert sandbox.orders() == []


def test_links_that_arent_valid(call: Any, sandbox: Sandbox) -> None:
    """Another token, an unknown appkey, a shop without a token, and one that is gone: no page."""
    good = link(call)
    for url in (good + "x", good.replace("appkey=", "appkey=x"), good.partition("?")[0]):
        assert call.client.get(url).status_code == 404
        assert call.client.post(url, data=FORM).status_code == 404
    sandbox.change_shop(token=None)
    assert "Link not valid" in call.client.get(good).text
    assert call.client.get(good.partition("token=")[0] + "token=").status_code == 404
    sandbox.remove_shop()
    assert call.client.get(good).status_code == 404


@rows(
    "change",
    [
        {"closed": True},
        {"closed": False, "quota": Decimal("1.87")},
        {"quota": None, "licence_until": datetime(2019, 1, 1, tzinfo=UTC)},
        {"licence_until": None, "closed_pay_types": ["wechat"]},
    ],
)
def test_a_shop_that_takes_nothing(change: dict[str, Any], call: Any, sandbox: Sandbox) -> None:
    """A shop that is closed, over its quota or its time, or takes no WeChat, makes no order."""
    sandbox.change_shop(**change)
    response = call.client.post(link(call), data=FORM)
    assert (response.status_code, "cannot take payments now" in response.text) == (409, True)
    assert sandbox.orders() == []


def test_no_way_to_pay(call: Any, sandbox: Sandbox) -> None:
    """With one way to pay the form has that; with none there is no form."""
    sandbox.change_shop(closed_pay_types=["wechat"])
    page = call.client.get(link(call)).text
    assert ('value="alipay" checked' in page, 'value="wechat"' in page) == (True, False)
    sandbox.change_shop(closed_pay_types=["wechat", "alipay"])
    assert call.client.get(link(call)).status_code == 409


def test_for_ever(visit: Any, clock: Any) -> None:
    """Where orders don't expire, these don't either."""
    with Sandbox(clock=clock, expires_after=None) as sandbox:
        call = visit(sandbox)
        call.client.post(link(call), data=FORM)
        assert sandbox.orders()[0].expires_at is None


def test_in_the_console(call: Any, sandbox: Sandbox) -> None:
    """The console links to the page, and takes a token, a return URL and an expiry URL."""
    root = str(call.client.base_url).removesuffix("api/") + "shops"
    form = {"appkey": sandbox.appkey, "return_url": "https://shop.example/thanks", "token": "t&1"}
    call.client.post(root, data=form)
    state = sandbox.shop()
    assert state is not None
    assert (state.return_url, state.expired_url, state.token) == ("https://shop.example/thanks", None, "t&1")
    assert f"/pay/any?appkey={sandbox.appkey}&amp;token=t%261" in call.client.get(root).text
    response = call.client.post(root, data={"appkey": sandbox.appkey, "expired_url": "nowhere", "token": ""})
    assert response.status_code == 422
    assert response.text.count('aria-invalid="true"') == 1
    call.client.post(root, data={"appkey": sandbox.appkey, "token": ""})
    state = sandbox.shop()
    assert state is not None
    assert state.token is None
    assert "t%261" not in call.client.get(root).text


def test_every_kind_in_the_console(call: Any, sandbox: Sandbox) -> None:
    """Each kind of order is named in the list and on its page."""
    call.client.post(link(call), data=FORM)
    names = {"anypay/create": "Any amount", "cloudpay/create": "Cloud", "grouppay/create": "Group of products"}
    for path in names:
        call.reply(path)
    root = str(call.client.base_url).removesuffix("api/")
    listed = call.client.get(f"{root}orders").text
    for order in sandbox.orders():
        name = names.get(order.endpoint, "Quick pay")
        assert f">{name}<" in listed
        page = call.client.get(f"{root}orders/{order.order_id}").text
        assert f"{name} <code>{order.endpoint}</code>" in page
        assert order.name in page
