"""``gatepay demo``: the main job, against GatePay's other end on this machine. No account, no network, no file."""

import random
from collections.abc import Iterator
from typing import Any

from gatepay_async.cli.extras import needing
from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import line, progress
from gatepay_async.cli.status import Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.order_ids import new_out_order_id
from gatepay_async.protocol.bulk import UploadProgress
from gatepay_async.protocol.errors import CallbackError

_PRODUCT = 8
_KEYS = 12_000
_BLANK_EVERY, _REPEATED_EVERY = 100, 50


def _lines() -> Iterator[str]:
    """A merchant's file: card keys, blank lines, and some of them twice."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    chance = random.Random(8)  # noqa: S311 -- the same every time; they open nothing
    for number in range(_KEYS):
        key = f"{number:05d}-" + "-".join("".join(chance.choices(letters, k=4)) for _ in range(3))
        yield key
        if number % _BLANK_EVERY == 0:
            yield ""
        if number % _REPEATED_EVERY == 0:
            yield f"{key}\r"


async def demonstrate() -> Status:
    """Upload, walk back, pay, believe a callback, and not a forged one; 1 if something did not hold."""
    with needing("sandbox"):
        from gatepay_async.sandbox import Sandbox
    with Sandbox(seed=False) as sandbox:
        async with sandbox.serve() as base_url:
            appkey, appsecret = sandbox.shops[0]
            async with AsyncGatePay(appkey, appsecret, base_url=base_url) as gatepay:
                _tell(say("demo.where", url=base_url))
                held = [await _upload(gatepay), await _walk(gatepay), await _pay(gatepay, sandbox)]
    if wants_json():
        emit(held=all(held), uploaded=held[0], walked=held[1], paid=held[2])
    else:
        line(say("demo.held" if all(held) else "demo.not_held"), style="bold green" if all(held) else "bold red")
        line(say("demo.next"))
    return Status.DONE if all(held) else Status.PARTLY


def _tell(text: str) -> None:
    if not wants_json():
        line(text)


async def _upload(gatepay: AsyncGatePay) -> bool:
    lines = list(_lines())
    with progress(say("upload.doing"), total=len(lines)) as update:

        def tell(so_far: UploadProgress) -> None:
            update(so_far.read - so_far.in_flight, len(lines))

        report = await gatepay.upload_card_keys(_PRODUCT, lines, on_progress=tell)
    counts = {name: f"{getattr(report, name):,}" for name in ("read", "stored", "duplicates", "blank")}
    _tell(say("demo.uploaded", **counts))
    return report.ok and report.stored == _KEYS


async def _walk(gatepay: AsyncGatePay) -> bool:
    with progress(say("export.doing"), total=_KEYS) as update:
        found: list[str] = []
        async for page in gatepay.list_card_keys(_PRODUCT, prefetch=8).pages():
            found.extend(key.content for key in page.keys)
            update(len(found), page.total)
    equal = len(found) == len(set(found)) and set(found) == {key.strip() for key in _lines()} - {""}
    _tell(say("demo.walked" if equal else "demo.walk_differs", count=f"{len(found):,}"))
    return equal


async def _pay(gatepay: AsyncGatePay, sandbox: Any) -> bool:
    payment = await gatepay.create_payment(
        product_id=_PRODUCT, product_num=1, pay_type="alipay", out_order_id=new_out_order_id(), custom="demo"
    )
    _tell(say("demo.ordered", price=f"{payment.order_price:f}", url=plain(payment.order_url)))
    query = sandbox.callback_query(sandbox.orders()[-1])
    callback = gatepay.parse_callback(query)
    _tell(say("demo.called_back", order=plain(callback.out_order_id), price=f"{callback.realprice:f}"))
    forged = query.replace("&realprice=0", "&realprice=9")
    try:
        gatepay.parse_callback(forged)
    except CallbackError:
        _tell(say("demo.forged"))
        return callback.out_order_id == payment.out_order_id
    return False
