"""The types that a user's type checker sees. mypy and pyright read this file; the tests only import it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import assert_type

import httpx

from gatepay_async import (
    AsyncGatePay,
    Callback,
    CardKey,
    CardKeyPage,
    Catalog,
    ChunkOutcome,
    OrderStatus,
    OutcomeUnknownError,
    Payment,
    PaymentLink,
    PaymentReturn,
    PayType,
    Product,
    QrCode,
    RawReply,
    RetryPolicy,
    Stored,
    UploadProgress,
    UploadReport,
    new_out_order_id,
    parse_callback,
)
from gatepay_async.callbacks import (
    CallbackApp,
    CallbackEvent,
    EventKind,
    MemoryStore,
    RedisStore,
    SQLiteStore,
    Store,
)
from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate, ProductShow
from gatepay_async.protocol.payment_calls import OrderCheck, StablepayCreate
from gatepay_async.testing import signed_callback


def show(progress: UploadProgress) -> None:
    """A plain progress callback."""
    assert_type(progress.stored, int)


async def show_async(progress: UploadProgress) -> None:
    """An async progress callback."""
    assert_type(progress.in_flight, int)


async def generate() -> AsyncIterator[str]:
    """An async source of card keys."""
    yield "AAA"


async def handle(callback: Callback) -> None:
    """A callback handler."""
    assert_type(callback.price, Decimal)


async def price_of(out_order_id: str) -> Decimal | None:
    """A price lookup."""
    return Decimal(len(out_order_id))


def on_event(event: CallbackEvent) -> None:
    """An event handler."""
    assert_type(event.kind, EventKind)
    assert_type(event.order_id, int | None)
    assert_type(event.error, BaseException | None)


def create_callback_apps() -> list[CallbackApp]:
    """Return an application for each kind of store, with every option of ``CallbackApp``."""
    stores: list[Store] = [MemoryStore(keep=9e9), SQLiteStore("file", keep=timedelta(days=90)), RedisStore("redis://x")]
    age = timedelta(hours=1)
    return [
        CallbackApp(
            handle,
            appkey="a",
            appsecret=("b", "c"),
            store=store,
            max_age=age,
            lookup=price_of,
            on_event=on_event,
            timeout=5,
        )
        for store in stores
    ]


async def use_client() -> None:
    """Every public method, and the type of its result."""
    async with AsyncGatePay("a", "b", timeout=None, retry=RetryPolicy(attempts=2)) as gatepay:
        assert_type(gatepay, AsyncGatePay)

        for pay_type in (PayType.WECHAT, "wechat"):
            payment = await gatepay.create_payment(
                product_id=8, product_num=1, pay_type=pay_type, out_order_id="T-1-X", custom="c"
            )
            assert_type(payment, Payment)
        assert_type(payment.order_price, Decimal)
        assert_type(payment.order_qrcode, QrCode)
        assert_type(payment.order_qrcode.data, bytes)

        catalog = await gatepay.list_products()
        assert_type(catalog, Catalog)
        assert_type(catalog.products, tuple[Product, ...])
        assert_type(catalog.product(8).stock, int)

        assert_type(await gatepay.list_card_keys(8, page=2), CardKeyPage)
        async for key in gatepay.list_card_keys(8, prefetch=4, thorough=True):
            assert_type(key, CardKey)
            assert_type(key.created_at, datetime)
        async for page in gatepay.list_card_keys(8).pages():
            assert_type(page, CardKeyPage)
        assert_type(gatepay.list_card_keys(8).drifted, bool)

        assert_type(await gatepay.create_card_keys(8, ["AAA"]), Stored)
        raw = await gatepay.send_raw("some/path", {"a": "1"}, signed=("a",), repeatable=True)
        assert_type(raw, RawReply)
        assert_type(gatepay.http, httpx.AsyncClient)
        assert_type(raw.code, int | None)
        with open("keys.txt", encoding="utf-8") as text, open("keys.txt", "rb") as binary:  # noqa: PTH123 -- never run
            for keys in (["AAA"], {"AAA"}, text, binary, generate(), (key for key in ["AAA"])):
                report = await gatepay.upload_card_keys(8, keys, concurrency=8, on_progress=show)
                assert_type(report, UploadReport)
        report = await gatepay.upload_card_keys(8, [b"AAA"], concurrency="auto", on_progress=show_async)
        assert_type(report.chunks, tuple[ChunkOutcome, ...])
        assert_type(report.ok, bool)

        assert_type(gatepay.parse_callback(b"a=b"), Callback)
        assert_type(parse_callback("a=b", appkey="a", appsecret="b"), Callback)

        assert_type(parse_callback("a=b", appkey="a", appsecret=["b", "c"]), Callback)
        assert_type(new_out_order_id(), str)
        assert_type(signed_callback(appkey="a", appsecret="b", price="9.99", tampered={"sign": None}), str)

        assert_type(await gatepay.send(ProductShow()), Catalog)
        assert_type(await gatepay.send(KaShow(8)), CardKeyPage)
        assert_type(await gatepay.send(KaCreate(8, ("AAA",))), Stored)
        order = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="alipay", product_num=1, custom="c")
        assert_type(await gatepay.send(order), Payment)


async def use_later_endpoints() -> None:
    """The methods of the later endpoints."""
    async with AsyncGatePay("a", "b", cloud_base_url="https://cloud.example/api/") as gatepay:
        link = await gatepay.create_anypay(
            price="10.23", pay_type="alipay", out_order_id="T-1-X", custom="c", notify_url="https://shop.example/"
        )
        assert_type(link, PaymentLink)
        assert_type(link.qrcode, QrCode | None)
        for price in (Decimal("1.50"), "1.50"):
            link = await gatepay.create_cloudpay(price=price, pay_type="alipay", out_order_id="T-1-X", custom="c")
        for items in ({8: 2, 7: 3}, [(8, 2), (7, 3)]):
            link = await gatepay.create_grouppay(items=items, pay_type="wechat", out_order_id="T-1-X", custom="c")
        link = await gatepay.create_stablepay(product_id=8, pay_type="wechat", out_order_id="T-1-X", custom="c")
        status = await gatepay.check_order(link.out_order_id)
        assert_type(status, OrderStatus)
        assert_type(status.order_price, Decimal)

        try:
            await gatepay.create_payment(
                product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="c"
            )
        except OutcomeUnknownError as error:
            assert_type(await gatepay.settle(error), OrderStatus | None)
        assert_type(gatepay.quick_pay_url("token", price=Decimal(1), custom="c", stable=True, skin=1), str)
        back = gatepay.parse_return("a=b")
        assert_type(back, PaymentReturn)
        assert_type(back.product_id, int | None)

        assert_type(await gatepay.send(OrderCheck("T-1-X")), OrderStatus)
        stable = StablepayCreate(product_id=8, out_order_id="T-1-X", pay_type="alipay", custom="c")
        assert_type(await gatepay.send(stable), PaymentLink)
