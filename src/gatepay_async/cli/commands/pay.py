"""``gatepay pay``: creates an order, prints its link and QR code, and can wait until it is paid."""

import re
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
from attrs import frozen

from gatepay_async.cli import settings
from gatepay_async.cli.commands.pay_lost import find_order
from gatepay_async.cli.commands.pay_waiting import open_listener, wait_for_payment
from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.output import escape, print_json, wants_json, warn
from gatepay_async.cli.screens import name_value_table, new_console, print_line, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.order_ids import new_out_order_id
from gatepay_async.protocol.errors import OutcomeUnknownError
from gatepay_async.protocol.models import QrCode
from gatepay_async.protocol.money import parse_amount
from gatepay_async.words.problem import os_reason


@frozen
class OrderRequest:
    """
    The order to create: one product, an amount, or several products.

    An empty ``order`` gets a generated order number; an empty ``custom`` gets the order number.
    """

    product: int | None
    price: str
    items: tuple[tuple[int, int], ...]
    cloud: bool
    num: int
    pay_type: str
    order: str
    custom: str


@frozen
class CreatedOrder:
    """
    The fields that the replies of the four endpoints for orders have in common.

    Attributes:
        price: The price, or None if the reply doesn't have it.
        url: The URL where the customer pays; empty: the reply was lost.
    """

    out_order_id: str
    price: Decimal | None
    pay_type: str
    url: str
    picture: QrCode | None


def parse_group(group: str) -> tuple[tuple[int, int], ...]:
    """
    Parse the value of ``--group``, such as ``8:2,7:3``, to pairs of product ID and quantity.

    Raises:
        HaltError: *group* is invalid.
    """
    if not group:
        return ()
    if re.fullmatch(r"[0-9]+:[0-9]+(,[0-9]+:[0-9]+)*", group) is None:
        raise HaltError(text("pay.bad_group", group=group), todo=text("pay.bad_group.todo"))
    pairs = (pair.split(":") for pair in group.split(","))
    return tuple((int(product), int(count)) for product, count in pairs)


def _check_kind(request: OrderRequest) -> None:
    """Check that the options ask for exactly one kind of order, and that they fit that kind."""
    kinds = [request.product is not None, bool(request.price), bool(request.items)]
    if sum(kinds) != 1 or (request.cloud and not request.price) or (request.num != 1 and request.product is None):
        raise HaltError(text("pay.one_kind"), todo=text("pay.one_kind.todo"))


async def pay(request: OrderRequest, save_qr: Path | None, listen: tuple[str, int] | None, timeout: int) -> Status:  # noqa: ASYNC109 -- named after the option
    """Create an order, and print its link. With *listen*, wait there for the callback of the order."""
    _check_kind(request)
    gatepay = settings.client()
    if save_qr is not None:
        _check_new_file(save_qr)
    listener = None if listen is None else open_listener(*listen)
    if _is_digit(request.order[:1]) or _is_digit(request.order[-1:]):
        warn(text("pay.digits", order=escape(request.order)))
    out_order_id = request.order or new_out_order_id()
    async with gatepay:
        if listener is None:
            order = await _create_order(gatepay, request, out_order_id, save_qr)
            return Status.DONE if order.url else Status.PARTLY
        with listener:
            return await wait_for_payment(
                partial(_create_and_return_price, gatepay, request, out_order_id, save_qr),
                out_order_id,
                listener,
                timeout,
                knows_price=not request.items,
            )


def _is_digit(letter: str) -> bool:
    return letter.isascii() and letter.isdecimal()


async def _create_and_return_price(
    gatepay: AsyncGatePay, request: OrderRequest, out_order_id: str, save_qr: Path | None
) -> Decimal | None:
    return (await _create_order(gatepay, request, out_order_id, save_qr)).price


def _check_new_file(path: Path) -> None:
    """Check that the QR code can be saved to *path*, before an order is created."""
    if path.suffix.lower() != ".png":
        raise HaltError(text("pay.picture_name", path=path))
    if path.exists():
        raise HaltError(text("files.there", path=path))
    if not path.absolute().parent.is_dir():
        raise HaltError(text("files.no_folder", path=path))


async def _create_order(
    gatepay: AsyncGatePay, request: OrderRequest, out_order_id: str, save_qr: Path | None
) -> CreatedOrder:
    """Create the order, print it, and save its QR code. If the reply is lost, ask GatePay about the order."""
    try:
        payment = await _send_order(gatepay, request, out_order_id)
    except OutcomeUnknownError as error:
        status = await find_order(gatepay, error)
        payment = CreatedOrder(out_order_id, status.order_price, status.order_type, "", None)
    except anyio.get_cancelled_exc_class():
        warn(text("pay.perhaps", order=escape(out_order_id)))
        raise
    problem = _save_picture(payment, save_qr) if save_qr is not None and payment.url else None
    if problem is None or not wants_json():
        _print_payment(payment)
    if problem is not None:
        raise HaltError(problem, status=Status.PARTLY, result=_payment_as_json(payment))
    return payment


def _save_picture(payment: CreatedOrder, path: Path) -> CommandText | None:
    """Save the QR code of the order. Return why that is impossible, or None."""
    if payment.picture is None:
        return text("pay.no_picture")
    try:
        payment.picture.save(path)
    except OSError as error:
        return text("files.unwritable", path=path, reason=os_reason(error))
    if payment.picture.media_type != "image/png":
        warn(text("pay.picture_type", path=escape(path), media_type=payment.picture.media_type))
    return None


async def _send_order(gatepay: AsyncGatePay, request: OrderRequest, out_order_id: str) -> CreatedOrder:
    """Call the endpoint for this kind of order."""
    common = {
        "pay_type": request.pay_type, "out_order_id": out_order_id, "custom": request.custom or out_order_id,
    }  # fmt: skip
    if request.product is not None:
        payment = await gatepay.create_payment(product_id=request.product, product_num=request.num, **common)
        return CreatedOrder(
            out_order_id, payment.order_price, payment.order_type, payment.order_url, payment.order_qrcode
        )
    price = None
    if request.items:
        link = await gatepay.create_grouppay(items=request.items, **common)
    else:
        create = gatepay.create_cloudpay if request.cloud else gatepay.create_anypay
        link = await create(price=request.price, **common)
        price = parse_amount("price", request.price)
    return CreatedOrder(out_order_id, price, request.pay_type, link.pay_url, link.qrcode)


def _payment_as_json(payment: CreatedOrder) -> dict[str, object]:
    return {
        "out_order_id": payment.out_order_id,
        "order_price": None if payment.price is None else f"{payment.price:f}",
        "order_type": payment.pay_type,
        "order_url": payment.url or None,
    }


def _print_payment(payment: CreatedOrder) -> None:
    document = _payment_as_json(payment)
    if wants_json():
        print_json(**document)
        return
    rows = {"order": document["out_order_id"], "price": document["order_price"], "type": document["order_type"]}
    print_table(name_value_table((text(f"pay.{name}_is"), value) for name, value in rows.items() if value))
    if not payment.url:
        print_line(text("pay.link_lost"))
        return
    print_line(f"{text('pay.link_is')}{escape(payment.url)}")
    _print_qr_code(payment.url)


def _print_qr_code(address: str) -> None:
    """Print the QR code of *address*, two of its rows on each line, if standard output is a terminal."""
    if not _can_print_qr_code():
        return
    with require_extra("cli"):
        import segno
    rows = [list(row) for row in segno.make_qr(address, error="l").matrix_iter(border=2)]
    rows.append([0] * len(rows[0]))  # add a row, because a QR code has an odd number of them
    if len(rows[0]) > new_console().width:
        return
    # Print the light modules as white on black: a scanner needs a light border, even on a dark terminal.
    # Each character shows a module of the upper row and the module below it: 0 is light, 1 is dark.
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        print_line(
            "".join(blocks[int(bool(top)), int(bool(bottom))] for top, bottom in zip(upper, lower, strict=True)),
            style="#ffffff on #000000",
            unwrapped=True,
        )


def _can_print_qr_code() -> bool:
    """Whether standard output is a terminal that can print block characters."""
    return sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf")
