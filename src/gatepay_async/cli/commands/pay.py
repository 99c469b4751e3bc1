"""``gatepay pay``: an order's link and QR code, and the wait until it is paid."""

import re
import socket
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
from attrs import frozen

from gatepay_async.cli import settings
from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import facts, print_line, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.order_ids import new_out_order_id
from gatepay_async.protocol.models import Callback, QrCode
from gatepay_async.protocol.money import amount_of

_MAX_PORT = 65_535


@frozen
class OrderRequest:
    """What is ordered: a product, any amount, or several products; an empty *order* or *custom* is filled in."""

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
    """What the four ways of making an order have in common; a price of None isn't known."""

    out_order_id: str
    price: Decimal | None
    pay_type: str
    url: str
    picture: QrCode | None


def parse_group(group: str) -> tuple[tuple[int, int], ...]:
    """
    The products of ``--group 8:2,7:3``, and how many of each.

    Raises:
        HaltError: It has another form.
    """
    if not group:
        return ()
    if re.fullmatch(r"[0-9]+:[0-9]+(,[0-9]+:[0-9]+)*", group) is None:
        raise HaltError(text("pay.bad_group", group=group), todo=text("pay.bad_group.todo"))
    pairs = (pair.split(":") for pair in group.split(","))
    return tuple((int(product), int(count)) for product, count in pairs)


def _check_kind(request: OrderRequest) -> None:
    kinds = [request.product is not None, bool(request.price), bool(request.items)]
    if sum(kinds) != 1 or (request.cloud and not request.price) or (request.num != 1 and request.product is None):
        raise HaltError(text("pay.one_kind"), todo=text("pay.one_kind.todo"))


def parse_listen(listen: str, *, wait: bool) -> tuple[str, int] | None:
    """
    The host and port of ``--listen``, or None: nobody waits.

    Raises:
        HaltError: ``--wait`` without ``--listen``, the other way round, or no address.
    """
    if bool(listen) != wait:
        raise HaltError(text("pay.wait_and_listen"), todo=text("pay.wait_and_listen.todo"))
    if not wait:
        return None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise HaltError(text("pay.address", address=listen))
    return host.strip("[]"), int(port)


async def pay(request: OrderRequest, save_qr: Path | None, listen: tuple[str, int] | None, timeout: int) -> Status:  # noqa: ASYNC109 -- the option's name
    """Make an order, show where it is paid, and with *listen* wait until GatePay says that it is."""
    _check_kind(request)
    gatepay = settings.client()
    if save_qr is not None:
        _check_new_file(save_qr)
    listener = None if listen is None else _open_listener(*listen)
    out_order_id = request.order or new_out_order_id()
    async with gatepay:
        if listener is None:
            await _create_order(gatepay, request, out_order_id, save_qr)
            return Status.DONE
        with listener:
            return await _wait_for_payment(
                partial(_create_order, gatepay, request, out_order_id, save_qr),
                out_order_id,
                listener,
                timeout,
                knows_price=not request.items,
            )


def _check_new_file(path: Path) -> None:
    """Before the order is made: a picture that can't be saved costs no order."""
    if path.exists():
        raise HaltError(text("files.there", path=path))
    if not path.absolute().parent.is_dir():
        raise HaltError(text("files.no_folder", path=path))


async def _create_order(
    gatepay: AsyncGatePay, request: OrderRequest, out_order_id: str, save_qr: Path | None
) -> CreatedOrder:
    payment = await _send_order(gatepay, request, out_order_id)
    _print_payment(payment)
    if save_qr is not None:
        if payment.picture is None:
            raise HaltError(text("pay.no_picture"), status=Status.PARTLY)
        try:
            payment.picture.save(save_qr)
        except OSError as error:
            raise HaltError(
                text("files.unwritable", path=save_qr, reason=error.strerror), status=Status.PARTLY
            ) from None
    return payment


async def _send_order(gatepay: AsyncGatePay, request: OrderRequest, out_order_id: str) -> CreatedOrder:
    common = {
        "pay_type": request.pay_type, "out_order_id": out_order_id, "custom": request.custom or out_order_id,
    }  # fmt: skip
    if request.product is not None:
        made = await gatepay.create_payment(product_id=request.product, product_num=request.num, **common)
        return CreatedOrder(out_order_id, made.order_price, made.order_type, made.order_url, made.order_qrcode)
    price = None
    if request.items:
        link = await gatepay.create_grouppay(items=request.items, **common)
    else:
        create = gatepay.create_cloudpay if request.cloud else gatepay.create_anypay
        link = await create(price=request.price, **common)
        price = amount_of("price", request.price)
    return CreatedOrder(out_order_id, price, request.pay_type, link.pay_url, link.qrcode)


def _print_payment(payment: CreatedOrder) -> None:
    rows = {
        "order": payment.out_order_id,
        "price": None if payment.price is None else f"{payment.price:f}",
        "type": payment.pay_type,
        "link": payment.url,
    }
    if wants_json():
        print_json(
            out_order_id=rows["order"], order_price=rows["price"], order_type=rows["type"], order_url=rows["link"]
        )
        return
    print_table(facts((text(f"pay.{name}_is"), value) for name, value in rows.items() if value and name != "link"))
    print_line(f"{text('pay.link_is')}{escape(payment.url)}")
    _print_qr_code(payment.url)


def _print_qr_code(address: str) -> None:
    """The QR code of *address* as blocks, two rows of it to a line; on a terminal only."""
    if not _can_print_qr_code():
        return
    with require_extra("cli"):
        import segno
    rows = [list(row) for row in segno.make_qr(address, error="l").matrix_iter(border=2)]
    rows.append([0] * len(rows[0]))  # a QR code's rows are always odd in number
    # Light modules are drawn, so that it reads on a dark terminal; a light one is told by the codes around it.
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        print_line(
            "".join(blocks[int(bool(one)), int(bool(two))] for one, two in zip(upper, lower, strict=True)),
            style="#ffffff on #000000",
        )


def _can_print_qr_code() -> bool:
    """Whether standard output is a terminal that knows the letters."""
    return sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf")


def _open_listener(host: str, port: int) -> socket.socket:
    """Taken before the order is made: an address that can't be had costs no order."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise HaltError(text("pay.cant_listen", address=f"{host}:{port}", reason=error.strerror or error)) from None


async def _wait_for_payment(
    make: Callable[[], Awaitable[CreatedOrder]],
    out_order_id: str,
    listener: socket.socket,
    timeout: int,  # noqa: ASYNC109 -- the option's name
    *,
    knows_price: bool,
) -> Status:
    """Serve callbacks and make the order; whichever payment of it comes first ends the wait."""
    from gatepay_async.callbacks import CallbackApp, MemoryStore
    from gatepay_async.cli.callback_server import serve_callbacks

    paid: list[Callback] = []
    arrived = anyio.Event()
    price: list[Decimal | None] = []
    made = anyio.Event()

    async def lookup(order: str) -> Decimal | None:
        # The callback may be quicker than the answer to our own call.
        await made.wait()
        return price[0] if order == out_order_id else None

    async def handler(callback: Callback) -> None:
        if callback.out_order_id != out_order_id:
            raise LookupError
        paid.append(callback)
        arrived.set()

    app = CallbackApp(
        handler,
        appkey=settings.appkey(),
        appsecret=settings.secret(),
        store=MemoryStore(),
        lookup=lookup if knows_price else None,
    )
    host, port = listener.getsockname()[:2]
    async with serve_callbacks(app, listener):
        payment = await make()
        price.append(payment.price)
        made.set()
        if not wants_json():
            print_line(
                text("pay.waiting", address=f"http://{host}:{port}/", minutes=f"{timeout / 60:g}"), stream=sys.stderr
            )
        with anyio.move_on_after(timeout):
            await arrived.wait()
    if not paid:
        raise HaltError(text("pay.not_paid"), todo=text("pay.not_paid.todo"), status=Status.NO_ANSWER)
    _print_paid(paid[0])
    return Status.DONE


def _print_paid(callback: Callback) -> None:
    if wants_json():
        print_json(
            paid=True,
            order_id=callback.order_id,
            out_order_id=callback.out_order_id,
            realprice=f"{callback.realprice:f}",
            paid_at=callback.paid_at.isoformat(),
        )
        return
    values = {"order_id": callback.order_id, "realprice": f"{callback.realprice:f}", "type": callback.pay_type}
    print_line(text("pay.paid", **{name: escape(value) for name, value in values.items()}), style="green")
