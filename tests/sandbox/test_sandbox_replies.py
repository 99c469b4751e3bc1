"""The data of successful replies, compared with the examples in GatePay's documentation."""

import base64
import io
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
import segno

from gatepay_async.sandbox import Sandbox, app, orders

pytestmark = pytest.mark.sockets

IMAGES = "https://gatepay.gatecdn.com/uploads/"
# 产品接口, 成功返回的结果例子
EXAMPLE: dict[str, Any] = {
    "category": [
        {
            "id": 39,
            "name": "爱奇艺会员",
            "product": [
                {
                    "id": 4,
                    "admin_id": 6,
                    "category_id": 39,
                    "name": "爱奇艺牛逼号",
                    "description": "爱奇艺牛逼账号出售",
                    "image": IMAGES + "20190414/51bf070aef0b51ea6c0597569a2a3f32.jpeg",
                    "price": "1.00",
                    "stock": 4,
                }
            ],
        },
        {
            "id": 40,
            "name": "腾讯会员",
            "product": [
                {
                    "id": 5,
                    "admin_id": 6,
                    "category_id": 40,
                    "name": "腾讯视频稳定号",
                    "description": "腾讯视频稳定号",
                    "image": IMAGES + "20190414/98095a716fe1de7ca364fac50408a260.jpg",
                    "price": "1.90",
                    "stock": 1,
                },
                {
                    "id": 8,
                    "admin_id": 6,
                    "category_id": 40,
                    "name": "腾讯视频SVIP账号",
                    "description": "超强，什么都能看",
                    "image": IMAGES + "20190415/2d169ca784ebfef2bc97f204b18ad80f.png",
                    "price": "0.99",
                    "stock": 89,
                },
            ],
        },
    ]
}


def test_product_show_replies_with_the_example(api: Any) -> None:
    """product/show replies with GatePay's example, with its fields in the same order."""
    data = api.reply("product/show")["data"]
    assert data == EXAMPLE
    assert list(data["category"][0]["product"][0]) == list(EXAMPLE["category"][0]["product"][0])


def test_second_shop_sees_only_its_own_products(sandbox: Sandbox, api: Any) -> None:
    """The second shop has product 3 without keys, and can't see products of the first shop."""
    [category] = api.reply("product/show", sandbox.shops[1])["data"]["category"]
    [product] = category["product"]
    assert (product["id"], product["admin_id"], product["stock"]) == (3, 3, 0)
    assert product["price"] == "1.50"
    assert api.reply("ka/show", sandbox.shops[1])["code"] == 103


def test_replies_are_utf8_json(api: Any) -> None:
    """A reply is JSON in UTF-8 with the content type application/json."""
    response = api.call("product/show")
    assert response.headers["content-type"] == "application/json"
    assert '"msg": "请求成功", "time": "1555750250"'.encode() in response.content


@pytest.mark.parametrize(
    ("product_id", "product_num", "pay_type", "price"),
    [
        ("8", "1", "wechat", 0.99),
        ("4", "3", "onecode", 3.0),
        ("8", "89", "alipay", 88.11),
        ("5", "1", "alipay", 1.9),
    ],
)
def test_pay_create_replies_and_stores_the_order(
    product_id: str, product_num: str, pay_type: str, price: float, api: Any
) -> None:
    """pay/create replies with type, price, page and image, and stores the order as requested."""
    changes = {"product_id": product_id, "product_num": product_num, "pay_type": pay_type}
    data = api.reply("pay/create", **changes)["data"]
    assert list(data) == ["order_type", "order_price", "order_url", "order_qrcode"]
    assert (data["order_type"], data["order_price"]) == (pay_type, price)
    [order] = api.sandbox.orders()
    port = api.client.base_url.port
    assert data["order_url"] == f"http://127.0.0.1:{port}/pay/index?id={order.page_id}&type={pay_type}"
    assert order.price == Decimal(str(price))
    assert order.price.as_tuple().exponent == -2
    assert (order.order_id, order.admin_id, order.state, order.created_at) == (1, 6, "pending", 1555750250)
    assert (order.out_order_id, order.pay_type, order.custom) == ("T-1001-X", pay_type, "terry@example.com")
    assert (order.product_id, order.product_num) == (int(product_id), int(product_num))


def test_order_url_ignores_headers(api: Any) -> None:
    """The origin of order_url is that of the socket, regardless of the request's headers."""
    headers = {"Host": "evil.test", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.test"}
    response = api.client.post("pay/create", data=api.form("pay/create"), headers=headers)
    assert response.json()["data"]["order_url"].startswith(f"http://127.0.0.1:{api.client.base_url.port}/pay/")


def test_order_qrcode_is_a_png_declared_as_jpeg(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """order_qrcode is a PNG of order_url in a data URI that declares a JPEG, as in GatePay's example."""
    monkeypatch.setattr(orders, "qrcode_png", vars(app)["qrcode_png"])  # undo the fixture one_qr_code
    data = api.reply("pay/create")["data"]
    declared, image = data["order_qrcode"].split(",")
    assert declared == "data:image/jpeg;base64"
    expected = io.BytesIO()
    segno.make_qr(data["order_url"], error="m").save(expected, kind="png", scale=5)
    assert base64.b64decode(image, validate=True) == expected.getvalue()
    assert expected.getvalue().startswith(b"\x89PNG\r\n")


def test_repeated_out_order_id_creates_a_second_order(sandbox: Sandbox, api: Any) -> None:
    """The API has no idempotency key: two calls with the same out_order_id create two orders."""
    api.reply("pay/create")
    api.reply("pay/create")
    assert [(order.order_id, order.out_order_id) for order in sandbox.orders()] == [
        (1, "T-1001-X"),
        (2, "T-1001-X"),
    ]


def test_payment_sells_the_oldest_keys_once(sandbox: Sandbox, api: Any) -> None:
    """A payment sells the oldest unsold keys once, reduces the stock, and sets their order in ka/show."""
    api.reply("pay/create", product_num="2", pay_type="alipay")
    order = sandbox.pay(sandbox.orders()[0])
    assert sandbox.pay(order) == order
    assert order.state == "paid"
    stock = {p["id"]: p["stock"] for c in api.reply("product/show")["data"]["category"] for p in c["product"]}
    assert stock == {4: 4, 5: 1, 8: 87}
    rows = api.reply("ka/show")["data"]["ka"]["data"]
    assert [(row["pay_order_id"], row["status"]) for row in rows[:3]] == [
        (1, "sold"),
        (1, "sold"),
        (0, "soldin"),
    ]
    assert api.reply("ka/create", content="EXAMPLE-8-001")["code"] == 112  # sold keys are still stored


def test_unknown_order_raises_lookup_error(sandbox: Sandbox) -> None:
    """Paying an unknown order and requesting its callback raises LookupError."""
    with pytest.raises(LookupError, match="no order has the number 7"):
        sandbox.pay(7)
    with pytest.raises(LookupError, match="7"):
        sandbox.callback_query(7)


BEIJING = timezone(timedelta(hours=8))


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    ("payment", "realprice", "paytime"),
    [
        ({}, "1.98", "1555750250"),
        ({"paid_at": 1555750300}, "1.98", "1555750300"),
        ({"paid_at": datetime(2019, 4, 20, 17, 0, tzinfo=BEIJING)}, "1.98", "1555750800"),
        ({"paid_at": datetime(2019, 4, 20, 9, 0, 0, 999999, tzinfo=UTC)}, "1.98", "1555750800"),
        ({"realprice": Decimal("1.9")}, "1.90", "1555750250"),
        ({"realprice": Decimal(0)}, "0.00", "1555750250"),
    ],
)
def test_callback_query_has_the_values_of_the_order(
    payment: Any, realprice: str, paytime: str, sandbox: Sandbox, api: Any
) -> None:
    """A callback has prices with two decimals, the time in seconds, and the order's custom as extend."""
    api.reply("pay/create", product_num="2", pay_type="alipay", custom="a+b &c=密")
    query = dict(parse_qsl(sandbox.callback_query(1, **payment), strict_parsing=True))
    sign = query.pop("sign")
    assert query == {
        "appkey": sandbox.appkey,
        "order_id": "1",
        "out_order_id": "T-1001-X",
        "price": "1.98",
        "realprice": realprice,
        "type": "alipay",
        "paytime": paytime,
        "extend": "a+b &c=密",
    }
    assert sandbox.callback_query(sandbox.orders()[0], **payment).endswith(f"&sign={sign}")
    assert sandbox.orders()[0].state == "pending"


def test_callback_has_the_appkey_of_the_orders_shop(sandbox: Sandbox, api: Any) -> None:
    """The callback of the second shop's order has the second shop's appkey."""
    sandbox.add_keys(3, ["AAA"])
    api.reply("pay/create", sandbox.shops[1], product_id="3")
    assert parse_qs(sandbox.callback_query(1))["appkey"] == [sandbox.shops[1].appkey]


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ("AAA", ["AAA"]),
        ("AAA\r\nBBB\nCCC\r\n", ["AAA", "BBB", "CCC"]),
        (" \tAAA\x0b\0\n\n \nBBB ", ["AAA", "BBB"]),
        ("A A\rA\n\u3000B\u3000", ["A A\rA", "\u3000B\u3000"]),
        ("<b>&'\"%+\\😀", ["<b>&'\"%+\\😀"]),
    ],
)
def test_ka_create_stores_each_line(content: str, keys: list[str], sandbox: Sandbox, api: Any) -> None:
    """Each line is a key, without the characters that PHP's trim() removes. Empty lines are skipped."""
    assert api.reply("ka/create", content=content)["data"] == f"成功录入:{len(keys)}条卡密"
    assert sandbox.keys(8)[89:] == keys  # the example shop has 89


def test_stored_keys_are_skipped(sandbox: Sandbox, api: Any) -> None:
    """The message counts only newly stored keys. If all keys are stored already, the code is 112."""
    content = "EXAMPLE-8-001\nAAA\nBBB"
    assert api.reply("ka/create", content=content)["data"] == "成功录入:2条卡密"
    assert api.reply("ka/create", content=content)["code"] == 112
    assert sandbox.keys(8)[89:] == ["AAA", "BBB"]


def test_products_may_share_a_key(sandbox: Sandbox, api: Any) -> None:
    """A key that is stored for another product is new for this one."""
    assert api.reply("ka/create", product_id="4", content="EXAMPLE-8-001")["data"] == "成功录入:1条卡密"
    assert sandbox.keys(4)[-1] == "EXAMPLE-8-001"


def test_seed_false_creates_products_without_keys(connect_to: Any) -> None:
    """Sandbox(seed=False) has the example's products, but no card keys."""
    with Sandbox(seed=False) as sandbox:
        categories = connect_to(sandbox).reply("product/show")["data"]["category"]
    assert [product["stock"] for category in categories for product in category["product"]] == [0, 0, 0]
