"""The sandbox's callbacks as GET and as POST, and how underpaid orders are shown."""

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_side import make_order, md5_hex, merchant, query_of

from gatepay_async import parse_callback
from gatepay_async.protocol.checks import MAX_CUSTOM_BYTES, MAX_ORDER_NUMBER_BYTES
from gatepay_async.sandbox import CallbackUrlError, Sandbox, ShownState

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SIGNED_FIELDS = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")
LONGEST_OWN_QUERY = "own=" + "x" * 696  # 700 characters, the limit for the query of a callback URL


async def test_post_callback_has_a_form_without_appkey(clock: Any) -> None:
    """With `callback_method="POST"`, the fields are a signed form without appkey. The URL keeps its query."""
    with Sandbox(clock=clock, callback_method="POST") as sandbox:
        async with merchant("success") as shop, sandbox.serve():
            sandbox.change_shop(callback_url=f"{shop.base_url}?shop=1")
            order = await make_order(sandbox, custom="a+b &c=密")
            sandbox.pay(order)
            [delivery] = await sandbox.wait_delivered(order)
        [head] = shop.heads
        assert head.startswith(b"POST /callback?shop=1 HTTP/1.1\r\n")
        assert b"\r\ncontent-type: application/x-www-form-urlencoded\r\n" in head.lower()
        assert delivery.body is not None
        assert f"\r\ncontent-length: {len(delivery.body)}".encode() in head.lower()
        assert query_of(head) == {"shop": "1"}
        fields = dict(parse_qsl(delivery.body, keep_blank_values=True, strict_parsing=True))
        sign = fields.pop("sign")
        assert sign == md5_hex(
            md5_hex(sandbox.appkey + "".join(fields[name] for name in SIGNED_FIELDS)) + sandbox.appsecret
        )
        assert list(fields) == list(SIGNED_FIELDS)
        assert delivery.body == sandbox.callback_query(order)
        assert delivery.url == f"{shop.base_url}?shop=1"
        assert sign not in repr(delivery)
        page = await fetch_page(sandbox, f"/orders/{order.order_id}")
        assert f"POST {delivery.url}" in page
        assert "extend=a%2Bb+%26c%3D%E5%AF%86" in page


async def test_get_callback_has_no_body(sandbox: Sandbox) -> None:
    """With GET, the default, a delivery records no body."""
    async with merchant("success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url)
        sandbox.pay(await make_order(sandbox))
        [delivery] = await sandbox.wait_delivered()
    assert delivery.body is None


async def fetch_page(sandbox: Sandbox, path: str) -> str:
    """Return a page, with &amp; unescaped so that URLs can be compared."""
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as browser:
        return (await browser.get(path)).text.replace("&amp;", "&")


async def test_underpaid_orders_are_shown_as_underpaid(sandbox: Sandbox) -> None:
    """If less than the price was paid, every page says Underpaid, and none says Paid."""
    order = sandbox.pay(await make_order(sandbox), realprice=Decimal("0.01"))
    for path in (f"/pay/index?id={order.page_id}", "/orders", f"/orders/{order.order_id}"):
        for lang, underpaid, paid in (("en", ">Underpaid<", ">Paid<"), ("zh", ">付款不足<", ">已付款<")):
            page = "".join((await fetch_page(sandbox, f"{path}{'&' if '?' in path else '?'}lang={lang}")).split())
            # The label may follow an icon.
            assert underpaid in page or f"</svg>{underpaid[1:]}" in page, path
            assert paid not in page, path
            assert f"</svg>{paid[1:]}" not in page, path


async def test_shown_state_compares_price_and_payment(sandbox: Sandbox) -> None:
    """An order paid with too little has `shown_state` "underpaid", but GatePay's own `state` "paid"."""
    for realprice, state in ((None, "paid"), (Decimal("1.00"), "paid"), (Decimal("0.98"), "underpaid")):
        order = sandbox.pay(await make_order(sandbox), realprice=realprice)
        assert (order.state, order.shown_state) == ("paid", state)
        assert isinstance(order.shown_state, ShownState)
    expired = sandbox.expire(await make_order(sandbox))
    assert expired.shown_state == "expired"
    assert sandbox.pay(expired, realprice=Decimal("0.01")).shown_state == "late"
    assert sandbox.confirm(expired).shown_state == "underpaid"


def test_callback_url_with_long_query_is_rejected(sandbox: Sandbox) -> None:
    """A callback URL whose own query leaves no room for the callback's fields is rejected."""
    sandbox.change_shop(callback_url=f"http://127.0.0.1/?{LONGEST_OWN_QUERY}")
    with pytest.raises(CallbackUrlError, match="700 characters") as caught:
        sandbox.change_shop(callback_url=f"http://127.0.0.1/?{LONGEST_OWN_QUERY}x")
    assert caught.value.problem.name == "url_query"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(out_order_id=TEXTS, custom=TEXTS, repeat=st.integers(1, 60), method=st.sampled_from(["GET", "POST"]))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_client_accepts_the_callback_of_any_order(out_order_id: str, custom: str, repeat: int, method: Any) -> None:
    """`parse_callback` accepts the callback of any order within the limits, after the longest own query of a URL."""
    # Repeated, so that long texts occur often.
    custom = (custom * repeat).encode()[:MAX_CUSTOM_BYTES].decode("utf-8", "ignore")
    out_order_id = out_order_id.encode()[:MAX_ORDER_NUMBER_BYTES].decode("utf-8", "ignore")
    with Sandbox(callback_method=method) as sandbox:
        order = anyio.run(lambda: make_order(sandbox, out_order_id=out_order_id, custom=custom))
        query = f"{LONGEST_OWN_QUERY}&{sandbox.callback_query(sandbox.pay(order))}"
        callback = parse_callback(query, appkey=sandbox.appkey, appsecret=sandbox.appsecret)
    assert (callback.out_order_id, callback.extend) == (out_order_id, custom)
