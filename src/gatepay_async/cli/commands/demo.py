"""``gatepay demo``: the main features against a local sandbox. It needs no account, no network and no files."""

import random
from collections.abc import Iterator
from typing import Any

from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import print_line, progress
from gatepay_async.cli.status import Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.order_ids import new_out_order_id
from gatepay_async.protocol.bulk import UploadProgress
from gatepay_async.protocol.callback_errors import CallbackError

_PRODUCT_ID = 8  # a product of the sandbox
_KEY_COUNT = 12_000
_BLANK_EVERY, _DUPLICATE_EVERY = 100, 50  # a blank line follows every 100th card key, a duplicate every 50th


def _sample_lines() -> Iterator[str]:
    """Yield the lines of a merchant's file: card keys, blank lines and some duplicates."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    randomness = random.Random(8)  # noqa: S311 -- the same sample each time; these card keys are worth nothing
    for number in range(_KEY_COUNT):
        key = f"{number:05d}-" + "-".join("".join(randomness.choices(letters, k=4)) for _ in range(3))
        yield key
        if number % _BLANK_EVERY == 0:
            yield ""
        if number % _DUPLICATE_EVERY == 0:
            yield f"{key}\r"  # a duplicate, with a Windows line end


async def run_demo() -> Status:
    """Upload and list card keys, create a payment, and verify a genuine and a forged callback."""
    with require_extra("sandbox"):
        from gatepay_async.sandbox import Sandbox
    with Sandbox(seed=False) as sandbox:
        async with sandbox.serve() as base_url:
            appkey, appsecret = sandbox.shops[0]
            async with AsyncGatePay(appkey, appsecret, base_url=base_url) as gatepay:
                _print_step(text("demo.where", url=base_url))
                results = [
                    await _check_upload(gatepay),
                    await _check_walk(gatepay),
                    await _check_payment(gatepay, sandbox),
                ]
    ok = all(results)
    if wants_json():
        print_json(ok=ok, uploaded=results[0], listed=results[1], paid=results[2])
    else:
        print_line(text("demo.ok" if ok else "demo.failed"), style="bold green" if ok else "bold red")
        print_line(text("demo.next"))
    return Status.DONE if ok else Status.PARTLY


def _print_step(message: str) -> None:
    if not wants_json():
        print_line(message)


async def _check_upload(gatepay: AsyncGatePay) -> bool:
    """Upload the sample. Return whether each card key was stored once."""
    lines = list(_sample_lines())
    with progress(text("upload.doing"), total=len(lines)) as update:

        def report_progress(so_far: UploadProgress) -> None:
            update(so_far.read - so_far.in_flight, len(lines))

        report = await gatepay.upload_card_keys(_PRODUCT_ID, lines, on_progress=report_progress)
    counts = {name: f"{getattr(report, name):,}" for name in ("read", "stored", "duplicates", "blank")}
    _print_step(text("demo.uploaded", **counts))
    return report.ok and report.stored == _KEY_COUNT


async def _check_walk(gatepay: AsyncGatePay) -> bool:
    """List all card keys. Return whether they are those of the sample."""
    with progress(text("export.doing"), total=_KEY_COUNT) as update:
        contents: list[str] = []
        async for page in gatepay.list_card_keys(_PRODUCT_ID, prefetch=8).pages():
            contents.extend(key.content for key in page.keys)
            update(len(contents), page.total)
    equal = len(contents) == len(set(contents)) and set(contents) == {key.strip() for key in _sample_lines()} - {""}
    _print_step(text("demo.walked" if equal else "demo.walk_differs", count=f"{len(contents):,}"))
    return equal


async def _check_payment(gatepay: AsyncGatePay, sandbox: Any) -> bool:
    """Create an order. Return whether its callback is accepted and a forged one is refused."""
    payment = await gatepay.create_payment(
        product_id=_PRODUCT_ID, product_num=1, pay_type="alipay", out_order_id=new_out_order_id(), custom="demo"
    )
    _print_step(text("demo.ordered", price=f"{payment.order_price:f}", url=escape(payment.order_url)))
    query = sandbox.callback_query(sandbox.orders()[-1])
    callback = gatepay.parse_callback(query)
    _print_step(text("demo.called_back", order=escape(callback.out_order_id), price=f"{callback.realprice:f}"))
    forged = query.replace("&realprice=0", "&realprice=9")
    try:
        gatepay.parse_callback(forged)
    except CallbackError:
        _print_step(text("demo.forged"))
        return callback.out_order_id == payment.out_order_id
    return False
