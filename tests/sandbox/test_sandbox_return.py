"""An order's own URLs: where its payment is told of, and where the customer's browser goes."""

from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from shop_side import md5_hex, merchant

from gatepay_async.sandbox import CallbackUrlError, NoCallbackError, Sandbox
from gatepay_async.sandbox.options import Options, Switches

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SIGNED = {
    "anypay/create": ("price", "type", "out_order_id", "custom"),
    "stablepay/create": ("product_id", "type", "out_order_id", "custom"),
}
HERE = "http://127.0.0.1:1/thanks"


async def create(sandbox: Sandbox, path: str = "anypay/create", **changes: str) -> str:
    """Make an order in this process; the path of its page."""
    fields = {"price": "1.88", "type": "alipay", "out_order_id": "T-2001-X", "custom": "terry", **changes}
    if path == "stablepay/create":
        del fields["price"]
    text = sandbox.appkey + "".join(fields[name] for name in SIGNED[path])
    form = {"appkey": sandbox.appkey, "sign": md5_hex(md5_hex(text) + sandbox.appsecret), **fields}
    async with browser(sandbox) as client:
        reply = (await client.post(f"/api/{path}", data=form)).json()
    assert reply["code"] == 100
    return str(reply["data"]["pay_url"])


def browser(sandbox: Sandbox) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), base_url="http://127.0.0.1")


async def page(sandbox: Sandbox, url: str) -> str:
    async with browser(sandbox) as client:
        return (await client.get(url)).text.replace("&amp;", "&")


async def test_an_orders_own_callback_url(sandbox: Sandbox) -> None:
    """With `notify_url` its callback goes there, and not to the shop's URL; one parameter of its own is kept."""
    async with merchant("success") as own, merchant("success") as shops_own, sandbox.serve():
        sandbox.change_shop(callback_url=shops_own.base_url)
        await create(sandbox, notify_url=f"{own.base_url}?a=1")
        sandbox.pay(1)
        [delivery] = await sandbox.wait_delivered()
    assert str(delivery.url) == f"{own.base_url}?a=1&{sandbox.callback_query(1)}"
    assert (len(own.heads), len(shops_own.heads)) == (1, 0)


async def test_both_are_called(clock: Any) -> None:
    """With `notify_both` the shop's URL is called as well, each with attempts of its own; sending again is to both."""
    with Sandbox(clock=clock, notify_both=True, callback_interval=0) as sandbox:
        async with merchant("fail", "success", "success") as own, merchant("success", "success") as second:
            sandbox.change_shop(callback_url=second.base_url)
            async with sandbox.serve():
                await create(sandbox, notify_url=own.base_url)
                sandbox.pay(1)
                await sandbox.wait_delivered()
                sandbox.send_again(1)
                deliveries = await sandbox.wait_delivered()
    told = sorted((str(each.url).startswith(own.base_url), each.attempt, each.state) for each in deliveries)
    assert told == [
        (False, 1, "accepted"),
        (False, 1, "accepted"),
        (True, 1, "accepted"),
        (True, 1, "refused"),
        (True, 2, "accepted"),
    ]


async def test_a_callback_url_that_leads_away(sandbox: Sandbox) -> None:
    """An order's URL on another machine is taken, and the delivery says why nobody was called."""
    async with sandbox.serve():
        await create(sandbox, notify_url="https://shop.example/cb")
        sandbox.pay(1)
        first, _ = await sandbox.wait_delivered()
    assert (first.state, first.problem) == ("refused", "url_host")


async def test_a_shop_that_is_gone(sandbox: Sandbox) -> None:
    """Nobody is told for a shop that was removed, and its customers go nowhere."""
    url = await create(sandbox, notify_url=HERE, return_url=HERE)
    sandbox.remove_shop()
    sandbox.pay(1)
    assert sandbox.deliveries() == []
    assert "thanks" not in await page(sandbox, url)
    with pytest.raises(NoCallbackError):
        sandbox.send_again(1)


@pytest.mark.parametrize("own", [True, False])
async def test_the_way_back(own: bool, sandbox: Sandbox) -> None:  # noqa: FBT001 -- a parameter of pytest
    """The browser is sent to the return URL, the order's or the shop's, and only after the shop said `success`."""
    async with merchant("fail", "success") as shop, sandbox.serve():
        sandbox.change_shop(callback_url=shop.base_url, return_url="http://127.0.0.1:1/shops" if own else HERE)
        url = await create(sandbox, **({"return_url": HERE} if own else {}))
        before = await page(sandbox, url)
        assert f"the browser goes to {HERE}." in before
        sandbox.pay(1)
        await sandbox.wait_delivered()
        assert "data-leave-after" not in await page(sandbox, url)
        sandbox.send_again(1)
        await sandbox.wait_delivered()
        after = await page(sandbox, url)
    assert f'href="{HERE}?{sandbox.return_query(1)}" data-leave-after="3000"' in after
    assert f'<code class="long">{HERE}</code>' in await page(sandbox, "/orders/1")


def return_sign(sandbox: Sandbox, fields: dict[str, str]) -> str:
    names = ("price", "type", "product_id", "order_id", "out_order_id")
    text = sandbox.appkey + "".join(fields.get(name, "") for name in names)
    return md5_hex(md5_hex(text) + sandbox.appsecret)


async def test_what_comes_back(sandbox: Sandbox) -> None:
    """The return query has the product's number, a made-up one for an amount, and is signed in the page's order."""
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
        assert sign == return_sign(sandbox, fields)


async def test_no_product_comes_back(clock: Any) -> None:
    """Without `return_product_id` an amount has none; a product's order has its own still."""
    with Sandbox(clock=clock, return_product_id=False) as sandbox:
        await create(sandbox)
        await create(sandbox, "stablepay/create", product_id="8")
        fields = dict(parse_qsl(sandbox.return_query(1), strict_parsing=True))
        assert "product_id" not in fields
        assert fields.pop("sign") == return_sign(sandbox, fields)
        assert "product_id=8&" in sandbox.return_query(2)


async def test_an_order_that_ran_out(sandbox: Sandbox) -> None:
    """The shop's third address is for orders that have expired: unsigned, and not once they are paid late."""
    sandbox.change_shop(expired_url="http://127.0.0.1:1/too-late", return_url=HERE)
    url = await create(sandbox)
    assert "too-late" not in await page(sandbox, url)
    sandbox.expire(1)
    assert 'href="http://127.0.0.1:1/too-late" data-leave-after="3000"' in await page(sandbox, url)
    sandbox.pay(1)
    assert "data-leave-after" not in await page(sandbox, url)


async def test_urls_that_cant_be(sandbox: Sandbox) -> None:
    """A shop's return and expiry URL must be URLs without parameters of the way back; they may lead anywhere."""
    for wrong in ("javascript:alert(1)", HERE + "?order_id=1"):
        for name in ("return_url", "expired_url"):
            with pytest.raises(CallbackUrlError):
                sandbox.change_shop(**{name: wrong})  # type: ignore[arg-type]  # one name or the other
    state = sandbox.change_shop(return_url="https://shop.example/thanks", expired_url="https://shop.example/")
    assert sandbox.shop() == state
    assert sandbox.change_shop(return_url=None).expired_url == "https://shop.example/"


def test_every_switch_has_its_type() -> None:
    """What the sandbox takes by name is what Options has."""
    assert set(Switches.__annotations__) == {each.name for each in Options.__attrs_attrs__}
