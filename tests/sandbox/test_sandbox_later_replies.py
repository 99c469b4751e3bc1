"""The replies of the later endpoints that create orders, compared with GatePay's examples; the sandbox's options."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tables import rows

from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.sandbox.forms import filtered

pytestmark = pytest.mark.sockets

CREATING_ENDPOINTS = ("anypay/create", "cloudpay/create", "grouppay/create", "stablepay/create")
DATA_FIELDS = ["pay_url", "qrcode_url", "qrcode_body", "params"]


@rows(
    ("path", "price", "name", "items"),
    [
        ("anypay/create", "1.88", "任意金额支付:1.88元", ()),
        ("cloudpay/create", "0.82", "任意金额支付:0.82元", ()),
        ("grouppay/create", "2.98", "腾讯视频SVIP账号 × 2、爱奇艺牛逼号", ((8, 2), (4, 1))),
        ("stablepay/create", "0.99", "腾讯视频SVIP账号", ((8, 1),)),
    ],
)
def test_each_creating_endpoint_replies_and_stores_the_order(
    path: str, price: str, name: str, items: object, api: Any
) -> None:
    """The reply has the page's URL, the image's URL and the sent fields. The order is stored as requested."""
    reply = api.reply(path)
    assert (reply["code"], reply["msg"]) == (100, "请求成功")
    data, order = reply["data"], api.sandbox.orders()[-1]
    assert list(data) == [field for field in DATA_FIELDS if path != "cloudpay/create" or field != "qrcode_body"]
    root = str(api.client.base_url).removesuffix("/api/")
    assert data["pay_url"] == f"{root}/pay/api?id={order.page_id}&type={order.pay_type}"
    assert data["qrcode_url"] == f"{root}/qrcode/build?size=130&text={quote(data['pay_url'], safe='')}"
    sent_fields = api.form(path)
    if path in ("grouppay/create", "stablepay/create"):
        del sent_fields["appkey"], sent_fields["sign"]
    assert data["params"] == sent_fields
    assert (order.endpoint, order.price, order.name, order.items) == (path, Decimal(price), name, items)
    assert (order.out_order_id, order.custom, order.pay_type) == (
        sent_fields["out_order_id"],
        "terry",
        sent_fields["type"],
    )
    assert (order.state, order.admin_id) == ("pending", 6)
    assert api.client.get(data["pay_url"]).status_code == 200


def test_qrcode_url_is_a_png_of_the_pay_url(api: Any) -> None:
    """qrcode_url is a PNG of the pay_url that other sites may embed; qrcode_body is the same image as a data URI."""
    data = api.reply("anypay/create")["data"]
    image = api.client.get(data["qrcode_url"])
    assert (image.headers["content-type"], image.content[:4]) == ("image/png", b"\x89PNG")
    assert "cross-origin-resource-policy" not in image.headers
    assert data["qrcode_body"].startswith("data:image/jpeg;base64,iVBOR")
    root = data["qrcode_url"].partition("text=")[0]
    assert api.client.get(f"{root}text=" + quote("支" * 500)).status_code == 200
    for invalid_query in ("", "text=", "text=" + "x" * 501):
        assert api.client.get(root.removesuffix("text=") + invalid_query).status_code == 400


@rows(
    ("params_option", "signed", "unsigned"),
    [
        ("as shown", ["anypay/create", "cloudpay/create"], ["grouppay/create", "stablepay/create"]),
        ("signed", CREATING_ENDPOINTS, []),
        ("unsigned", [], CREATING_ENDPOINTS),
        ("absent", [], []),
    ],
)
def test_params_determines_the_sent_fields_in_a_reply(
    params_option: Any, signed: list[str], unsigned: list[str], connect_to: Any, clock: Any
) -> None:
    """The option `params` determines whether a reply has the sent fields, and whether they include the signature."""
    with Sandbox(clock=clock, params=params_option) as sandbox:
        api = connect_to(sandbox)
        for path in CREATING_ENDPOINTS:
            fields = api.reply(path)["data"].get("params")
            assert (fields is not None and "sign" in fields) == (path in signed)
            assert (fields is not None and "sign" not in fields) == (path in unsigned)


def test_status_is_code_makes_the_code_the_http_status(connect_to: Any, clock: Any) -> None:
    """With `status_is_code`, a code from 200 to 599 is the HTTP status, and 204 and 205 have no body."""
    with Sandbox(clock=clock, status_is_code=True) as sandbox:
        api = connect_to(sandbox)
        for code in (110, 199, *range(201, 210), 404, 600):
            sandbox.fault(Fault(FaultKind.CODE, code=code))
            response = api.call("anypay/create")
            assert response.status_code == (code if 200 <= code < 600 else 200)
            if code in (204, 205):
                assert response.content == b""
            else:
                assert response.json()["code"] == code
        assert (
            api.call("order/check", out_order_id="nobody's").status_code,
            api.call("anypay/create").status_code,
        ) == (
            201,
            200,
        )


def test_html_escaped_escapes_each_string_once(connect_to: Any, clock: Any) -> None:
    """With `html_escaped`, every string of a reply is escaped once, and the reply is still valid JSON."""
    with Sandbox(clock=clock, html_escaped=True) as sandbox:
        api = connect_to(sandbox)
        data = api.reply("anypay/create", custom="<b>&")["data"]
        assert data["pay_url"].endswith(f"{sandbox.orders()[0].page_id}&amp;type=alipay")
        assert data["params"]["custom"] == "&lt;b&gt;&amp;"
        data = api.reply("pay/create")["data"]
        assert "&amp;type=wechat" in data["order_url"]
        assert data["order_price"] == 0.99
        api.reply("ka/create", content="A&B")
        assert api.reply("ka/show", page="2")["data"]["ka"]["data"][-1]["content"] == "A&amp;B"


def test_pay_path_is_the_path_of_the_pay_url(connect_to: Any, clock: Any) -> None:
    """With `pay_path`, the pay_url has the path /pay/index. Each order's page is at both paths."""
    with Sandbox(clock=clock, pay_path="/pay/index") as sandbox:
        api = connect_to(sandbox)
        url = api.reply("anypay/create")["data"]["pay_url"]
        assert "/pay/index?" in url
        for address in (url, url.replace("index", "api")):
            assert api.client.get(f"{address}&format=json").json()["order_url"] == address
        response = api.client.post(url.replace("index", "api"), data={"do": "pay"})
        assert response.headers["location"].startswith("/pay/api?")


def test_extra_fields_are_ignored_if_refuse_extra_is_false(connect_to: Any, clock: Any) -> None:
    """With `refuse_extra=False`, a field that the endpoint doesn't have is ignored."""
    with Sandbox(clock=clock, refuse_extra=False) as sandbox:
        api = connect_to(sandbox)
        assert api.reply("cloudpay/create", notify_url="nonsense", page="1")["code"] == 100
        # anypay/create has this field, and checks its value.
        assert api.reply("anypay/create", notify_url="nonsense")["code"] == 106
        assert sandbox.orders()[0].notify_url is None


def test_input_filter_changes_signed_texts(connect_to: Any, clock: Any) -> None:
    """With `input_filter`, a text that the filter changes gets a signature error; any other text is accepted."""
    with Sandbox(clock=clock, input_filter=True) as sandbox:
        api = connect_to(sandbox)
        for text in ("a & b", "<b>a</b>", "it's", ' "x"', "a < b", "a<b"):
            assert api.reply("anypay/create", custom=text)["code"] == 104
            assert api.reply("pay/create", custom=text)["code"] == 109
        assert api.reply("anypay/create", custom="密 a")["code"] == 100
    assert filtered({"x": "\t<b>a</b> & 'b' < c <d"}) == {"x": "a &amp; &#x27;b&#x27; &lt; c "}


def test_cloud_alipay_only_refuses_wechat(connect_to: Any, clock: Any) -> None:
    """With `cloud_alipay_only`, cloudpay/create accepts only alipay."""
    with Sandbox(clock=clock, cloud_alipay_only=True) as sandbox:
        api = connect_to(sandbox)
        paths = ("cloudpay/create", "cloudpay/create", "anypay/create")
        codes = [
            api.reply(path, type=pay_type)["code"]
            for path, pay_type in zip(paths, ("wechat", "alipay", "wechat"), strict=True)
        ]
        sandbox.change_shop(closed_pay_types=["alipay"])
        codes.append(api.reply("cloudpay/create")["code"])
    assert codes == [202, 100, 100, 204]


def test_payment_of_a_group_reduces_the_stock(sandbox: Sandbox, api: Any) -> None:
    """Paying a group order sells card keys of each product. Paying an amount without a product sells none."""
    api.reply("grouppay/create")
    api.reply("anypay/create")
    for order in sandbox.orders():
        sandbox.pay(order)
    stock = {p["id"]: p["stock"] for c in api.reply("product/show")["data"]["category"] for p in c["product"]}
    assert stock == {4: 3, 5: 1, 8: 87}


@pytest.mark.parametrize("name", ["anypay", "cloudpay", "grouppay", "stablepay"])
def test_reply_has_the_fields_of_the_example(name: str, api: Any) -> None:
    """A reply has the same fields in the same order as GatePay's example, which has a superfluous comma."""
    path = Path(__file__).parents[1] / "samples" / "later" / f"{name}.reply.txt"
    example = json.loads(path.read_text("utf-8").replace('b13e",', 'b13e"'))
    reply = api.reply(f"{name}/create")
    assert list(reply) == list(example)
    assert list(reply["data"]) == list(example["data"])
    assert set(reply["data"]["params"]) == set(example["data"]["params"])


def test_unknown_option_is_rejected() -> None:
    """An unknown option raises Python's own error for unknown arguments."""
    with pytest.raises(TypeError, match="loud"):
        Sandbox(loud=True)  # type: ignore[call-arg]  # tests the error
