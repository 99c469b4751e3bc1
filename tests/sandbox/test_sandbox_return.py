"""An order's own URLs: where its callback is sent, and where the customer's browser is sent."""

from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from shop_side import md5_hex, merchant

from gatepay_async.sandbox import CallbackUrlError, NoCallbackError, Sandbox
from gatepay_async.sandbox.options import Options, Switches

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SIGNED_FIELDS = {
    "anypay/create": ("price", "type", "out_order_id", "custom"),
    "stablepay/create": ("product_id", "type", "out_order_id", "custom"),
}
RETURN_URL = "http://127.0.0.1:1/thanks"


async def create(sandbox: Sandbox, path: str = "anypay/create", **changes: str) -> str:
    """Create an order in this process. Return the URL of its page."""
    fields = {"price": "1.88", "type": "alipay", "out_order_id": "T-2001-X", "custom": "terry", **changes}
    if path == "stablepay/create":
        del fields["price"]
    text = sandbox.appkey + "".join(fields[name] for name in SIGNED_FIELDS[path])
    form = {"appkey": sandbox.appkey, "sign": md5_hex(md5_hex(text) + sandbox.appsecret), **fields}
    async with browser(sandbox) as client:
        reply = (await client.post(f"/api/{path}", data=form)).json()
    assert reply["code"] == 100
    return str(reply["data"]["pay_url"])


def browser(sandbox: Sandbox) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), base_url="http://127.0.0.1")


async def fetch_page(sandbox: Sandbox, url: str) -> str:
    async with browser(sandbox) as client:
        return (await client.get(url)).text.replace("&amp;", "&")


async def test_notify_url_replaces_the_shops_url(sandbox: Sandbox) -> None:
    """An order's `notify_url` gets the callback instead of the shop's URL, and keeps its own query."""
    async with merchant("success") as order_server, merchant("success") as shop_server, sandbox.serve():
        sandbox.change_shop(callback_url=shop_server.base_url)
        await create(sandbox, notify_url=f"{order_server.base_url}?a=1")
        sandbox.pay(1)
        [delivery] = await sandbox.wait_delivered()
    assert str(delivery.url) == f"{order_server.base_url}?a=1&{sandbox.callback_query(1)}"
    assert (len(order_server.heads), len(shop_server.heads)) == (1, 0)


async def test_notify_both_calls_both_urls(clock: Any) -> None:
    """With `notify_both`, both URLs get the callback, each with its own attempts. send_again() calls both, too."""
    with Sandbox(clock=clock, notify_both=True, callback_interval=0) as sandbox:
        async with (
            merchant("fail", "success", "success") as order_server,
            merchant("success", "success") as shop_server,
        ):
            sandbox.change_shop(callback_url=shop_server.base_url)
            async with sandbox.serve():
                await create(sandbox, notify_url=order_server.base_url)
                sandbox.pay(1)
                await sandbox.wait_delivered()
                sandbox.send_again(1)
                deliveries = await sandbox.wait_delivered()
    results = sorted(
        (str(delivery.url).startswith(order_server.base_url), delivery.attempt, delivery.state)
        for delivery in deliveries
    )
    assert results == [
        (False, 1, "accepted"),
        (False, 1, "accepted"),
        (True, 1, "accepted"),
        (True, 1, "refused"),
        (True, 2, "accepted"),
    ]


async def test_notify_url_on_other_host_is_not_called(sandbox: Sandbox) -> None:
    """A `notify_url` on another host is accepted, but the delivery fails with `url_not_local`."""
    async with sandbox.serve():
        await create(sandbox, notify_url="https://shop.example/cb")
        sandbox.pay(1)
        first, _ = await sandbox.wait_delivered()
    assert (first.state, first.problem) == ("refused", "url_not_local")


async def test_removed_shop_gets_no_callback_and_no_return(sandbox: Sandbox) -> None:
    """For a removed shop, no callback is sent, and the page doesn't link to the return URL."""
    url = await create(sandbox, notify_url=RETURN_URL, return_url=RETURN_URL)
    sandbox.remove_shop()
    sandbox.pay(1)
    assert sandbox.deliveries() == []
    assert "thanks" not in await fetch_page(sandbox, url)
    with pytest.raises(NoCallbackError, match="the shop of order 1 was removed"):
        sandbox.send_again(1)


@pytest.mark.parametrize("order_has_url", [True, False])
async def test_browser_returns_after_an_accepted_callback(order_has_url: bool, sandbox: Sandbox) -> None:  # noqa: FBT001 -- a parameter of pytest
    """The page leaves for the return URL of the order, or of the shop, only after the callback was accepted."""
    async with merchant("fail", "success") as shop, sandbox.serve():
        sandbox.change_shop(
            callback_url=shop.base_url, return_url="http://127.0.0.1:1/shops" if order_has_url else RETURN_URL
        )
        url = await create(sandbox, **({"return_url": RETURN_URL} if order_has_url else {}))
        before = await fetch_page(sandbox, url)
        assert f"the browser goes to {RETURN_URL}." in before
        sandbox.pay(1)
        await sandbox.wait_delivered()
        assert "data-leave-after" not in await fetch_page(sandbox, url)
        sandbox.send_again(1)
        await sandbox.wait_delivered()
        after = await fetch_page(sandbox, url)
    assert f'href="{RETURN_URL}?{sandbox.return_query(1)}" data-leave-after="3000"' in after
    assert f'<code class="long">{RETURN_URL}</code>' in await fetch_page(sandbox, "/orders/1")


def signature_of_return(sandbox: Sandbox, fields: dict[str, str]) -> str:
    """Return the signature of a return query with these fields, computed without the sandbox's code."""
    names = ("price", "type", "product_id", "order_id", "out_order_id")
    text = sandbox.appkey + "".join(fields.get(name, "") for name in names)
    return md5_hex(md5_hex(text) + sandbox.appsecret)


async def test_return_query_has_product_id_and_signature(sandbox: Sandbox) -> None:
    """The signed return query has the product's number, or a made-up one if the order has no product."""
    await create(sandbox, "stablepay/create", product_id="8")
    await create(sandbox)
    for order_id, price, product_id in ((1, "0.99", "8"), (2, "1.88", "1000002")):
        fields = dict(parse_qsl(sandbox.return_query(order_id), strict_parsing=True))
        sign = fields.pop("sign")
        assert fields == {
            "price": price,
            "type": "alipay",
            "product_id": product_id,
            "order_id": str(order_id),
            "out_order_id": "T-2001-X",
        }
        assert sign == signature_of_return(sandbox, fields)


async def test_return_product_id_false_omits_a_made_up_product_id(clock: Any) -> None:
    """With `return_product_id=False`, the query of an order without a product has no product_id."""
    with Sandbox(clock=clock, return_product_id=False) as sandbox:
        await create(sandbox)
        await create(sandbox, "stablepay/create", product_id="8")
        fields = dict(parse_qsl(sandbox.return_query(1), strict_parsing=True))
        assert "product_id" not in fields
        assert fields.pop("sign") == signature_of_return(sandbox, fields)
        assert "product_id=8&" in sandbox.return_query(2)


async def test_expired_order_leads_to_the_expiry_url(sandbox: Sandbox) -> None:
    """The page of an expired order leaves for the shop's `expired_url`, unless the order was paid after expiry."""
    sandbox.change_shop(expired_url="http://127.0.0.1:1/too-late", return_url=RETURN_URL)
    url = await create(sandbox)
    assert "too-late" not in await fetch_page(sandbox, url)
    sandbox.expire(1)
    assert 'href="http://127.0.0.1:1/too-late" data-leave-after="3000"' in await fetch_page(sandbox, url)
    sandbox.pay(1)
    assert "data-leave-after" not in await fetch_page(sandbox, url)


async def test_invalid_return_urls_are_rejected(sandbox: Sandbox) -> None:
    """A shop's return and expiry URL must not contain parameters of the return query, but may be on any host."""
    for invalid in ("javascript:alert(1)", RETURN_URL + "?order_id=1"):
        for name in ("return_url", "expired_url"):
            with pytest.raises(CallbackUrlError):
                sandbox.change_shop(**{name: invalid})  # type: ignore[arg-type]  # either name
    state = sandbox.change_shop(return_url="https://shop.example/thanks", expired_url="https://shop.example/")
    assert sandbox.shop() == state
    assert sandbox.change_shop(return_url=None).expired_url == "https://shop.example/"


def test_switches_lists_all_options() -> None:
    """The keyword arguments typed in Switches are the attributes of Options."""
    assert set(Switches.__annotations__) == {attribute.name for attribute in Options.__attrs_attrs__}
