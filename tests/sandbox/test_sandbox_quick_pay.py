"""The quick-pay page: an unsigned link to a form that creates an order."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from tables import rows

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

FORM = {"price": "1.88", "custom": "terry", "type": "wechat"}


def quick_pay_url(api: Any, **fields: str) -> str:
    """Return the URL of shop one's quick-pay page with *fields* as parameters."""
    state = api.sandbox.shop()
    root = str(api.client.base_url).removesuffix("api/")
    return f"{root}pay/any?{urlencode({'appkey': api.sandbox.appkey, 'token': state.token, **fields})}"


def test_form_creates_an_order(api: Any, sandbox: Sandbox) -> None:
    """The customer enters an amount and a payment method, and is redirected to the page of a new order."""
    response = api.client.get(quick_pay_url(api))
    assert "Pay a shop" in response.text
    response = api.client.post(quick_pay_url(api), data={**FORM, "price": "¥1,234.5"}, follow_redirects=True)
    assert response.url.path == "/pay/api"
    [order] = sandbox.orders()
    assert (order.endpoint, order.price, order.pay_type, order.custom) == (
        "pay/any",
        Decimal("1234.50"),
        "wechat",
        "terry",
    )
    assert (order.name, order.expires_at) == ("任意金额支付:1234.50元", sandbox._clock() + 300)
    assert api.reply("order/check", out_order_id=order.out_order_id)["data"]["order_price"] == "1234.50"


@pytest.mark.parametrize("stable", ["0", "1"])
def test_link_fills_in_the_form(stable: str, api: Any, sandbox: Sandbox) -> None:
    """The link's price and custom are filled in. With stable=1 the customer can't change them."""
    url = quick_pay_url(api, price="1.88", custom="room 7", stable=stable, skin="1")
    page = api.client.get(url).text
    assert 'value="1.88"' in page
    assert 'value="room 7"' in page
    assert page.count(" readonly") == (2 if stable == "1" else 0)
    assert "skin-1" in page
    api.client.post(url, data={"price": "0.01", "custom": "mine", "type": "alipay"})
    [order] = sandbox.orders()
    expected = (Decimal("1.88"), "room 7") if stable == "1" else (Decimal("0.01"), "mine")
    assert (order.price, order.custom) == expected


def test_fields_missing_in_a_stable_link_can_be_filled_in(api: Any, sandbox: Sandbox) -> None:
    """With stable=1, fields that the link leaves out can be filled in. An unknown skin is replaced by the first."""
    url = quick_pay_url(api, stable="1", skin="7")
    assert "readonly" not in api.client.get(url).text
    assert "skin-0" in api.client.get(url).text
    api.client.post(url, data=FORM)
    assert sandbox.orders()[0].price == Decimal("1.88")


@rows(
    "change",
    [{"price": "0"}, {"price": ""}, {"price": "x"}, {"custom": " "}, {"custom": "x" * 501}, {"type": "onecode"}],
)
def test_invalid_input_shows_an_error(change: dict[str, str], api: Any, sandbox: Sandbox) -> None:
    """Invalid input shows an error next to its field, and no order is created."""
    response = api.client.post(quick_pay_url(api), data=FORM | change)
    assert response.status_code == 422
    assert response.text.count('class="wrong"') == 1
    assert sandbox.orders() == []


def test_invalid_links_get_404(api: Any, sandbox: Sandbox) -> None:
    """A link gets a 404 if its token or appkey is wrong, or if the shop has no token or was removed."""
    valid_url = quick_pay_url(api)
    for url in (valid_url + "x", valid_url.replace("appkey=", "appkey=x"), valid_url.partition("?")[0]):
        assert api.client.get(url).status_code == 404
        assert api.client.post(url, data=FORM).status_code == 404
    sandbox.change_shop(token=None)
    assert "Link not valid" in api.client.get(valid_url).text
    assert api.client.get(valid_url.partition("token=")[0] + "token=").status_code == 404
    sandbox.remove_shop()
    assert api.client.get(valid_url).status_code == 404


@rows(
    "change",
    [
        {"closed": True},
        {"closed": False, "quota": Decimal("1.87")},
        {"quota": None, "licence_until": datetime(2019, 1, 1, tzinfo=UTC)},
        {"licence_until": None, "closed_pay_types": ["wechat"]},
    ],
)
def test_shop_that_cannot_take_payments_gets_409(change: dict[str, Any], api: Any, sandbox: Sandbox) -> None:
    """No order is created if the shop is closed, over its quota, without a licence or without the payment method."""
    sandbox.change_shop(**change)
    response = api.client.post(quick_pay_url(api), data=FORM)
    assert (response.status_code, "cannot take payments now" in response.text) == (409, True)
    assert sandbox.orders() == []


def test_form_offers_open_pay_types_only(api: Any, sandbox: Sandbox) -> None:
    """The form offers only the payment methods that the shop has open. Without any, the page gets a 409."""
    sandbox.change_shop(closed_pay_types=["wechat"])
    page = api.client.get(quick_pay_url(api)).text
    assert ('value="alipay" checked' in page, 'value="wechat"' in page) == (True, False)
    sandbox.change_shop(closed_pay_types=["wechat", "alipay"])
    assert api.client.get(quick_pay_url(api)).status_code == 409


def test_quick_pay_order_does_not_expire_without_limit(connect_to: Any, clock: Any) -> None:
    """With `expires_after=None`, a quick-pay order doesn't expire."""
    with Sandbox(clock=clock, expires_after=None) as sandbox:
        api = connect_to(sandbox)
        api.client.post(quick_pay_url(api), data=FORM)
        assert sandbox.orders()[0].expires_at is None


def test_console_sets_token_and_urls(api: Any, sandbox: Sandbox) -> None:
    """The console sets the token, the return URL and the expiry URL, and links to the quick-pay page."""
    root = str(api.client.base_url).removesuffix("api/") + "shops"
    form = {"appkey": sandbox.appkey, "return_url": "https://shop.example/thanks", "token": "t&1"}
    api.client.post(root, data=form)
    state = sandbox.shop()
    assert state is not None
    assert (state.return_url, state.expired_url, state.token) == ("https://shop.example/thanks", None, "t&1")
    assert f"/pay/any?appkey={sandbox.appkey}&amp;token=t%261" in api.client.get(root).text
    response = api.client.post(root, data={"appkey": sandbox.appkey, "expired_url": "nowhere", "token": ""})
    assert response.status_code == 422
    assert response.text.count('aria-invalid="true"') == 1
    api.client.post(root, data={"appkey": sandbox.appkey, "token": ""})
    state = sandbox.shop()
    assert state is not None
    assert state.token is None
    assert "t%261" not in api.client.get(root).text


def test_console_names_the_kind_of_each_order(api: Any, sandbox: Sandbox) -> None:
    """The list of orders and an order's page name the kind of the order."""
    api.client.post(quick_pay_url(api), data=FORM)
    names = {"anypay/create": "Any amount", "cloudpay/create": "Cloud", "grouppay/create": "Group of products"}
    for path in names:
        api.reply(path)
    root = str(api.client.base_url).removesuffix("api/")
    listed = api.client.get(f"{root}orders").text
    for order in sandbox.orders():
        name = names.get(order.endpoint, "Quick pay")
        assert f">{name}<" in listed
        page = api.client.get(f"{root}orders/{order.order_id}").text
        assert f"{name} <code>{order.endpoint}</code>" in page
        assert order.name in page
