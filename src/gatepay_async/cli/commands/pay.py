"""``gatepay pay``: an order's link and QR code, and the wait until it is paid."""

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
from gatepay_async.protocol.models import Callback, Payment

_MAX_PORT = 65_535


@frozen
class OrderRequest:
    """What is ordered; an empty *order* or *custom* is filled in."""

    product: int
    num: int
    pay_type: str
    order: str
    custom: str


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
                partial(_create_order, gatepay, request, out_order_id, save_qr), out_order_id, listener, timeout
            )


def _check_new_file(path: Path) -> None:
    """Before the order is made: a picture that can't be saved costs no order."""
    if path.exists():
        raise HaltError(text("files.there", path=path))
    if not path.absolute().parent.is_dir():
        raise HaltError(text("files.no_folder", path=path))


async def _create_order(
    gatepay: AsyncGatePay, request: OrderRequest, out_order_id: str, save_qr: Path | None
) -> Payment:
    payment = await gatepay.create_payment(
        product_id=request.product,
        product_num=request.num,
        pay_type=request.pay_type,
        out_order_id=out_order_id,
        custom=request.custom or out_order_id,
    )
    _print_payment(payment)
    if save_qr is not None:
        try:
            payment.order_qrcode.save(save_qr)
        except OSError as error:
            raise HaltError(
                text("files.unwritable", path=save_qr, reason=error.strerror), status=Status.PARTLY
            ) from None
    return payment


def _print_payment(payment: Payment) -> None:
    rows = {
        "order": payment.out_order_id,
        "price": f"{payment.order_price:f}",
        "type": payment.order_type,
        "link": payment.order_url,
    }
    if wants_json():
        print_json(
            out_order_id=rows["order"], order_price=rows["price"], order_type=rows["type"], order_url=rows["link"]
        )
        return
    print_table(facts((text(f"pay.{name}_is"), value) for name, value in rows.items() if name != "link"))
    print_line(f"{text('pay.link_is')}{escape(payment.order_url)}")
    _print_qr_code(payment.order_url)


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
    make: Callable[[], Awaitable[Payment]],
    out_order_id: str,
    listener: socket.socket,
    timeout: int,  # noqa: ASYNC109 -- the option's name
) -> Status:
    """Serve callbacks and make the order; whichever payment of it comes first ends the wait."""
    from gatepay_async.callbacks import CallbackApp, MemoryStore
    from gatepay_async.cli.callback_server import serve_callbacks

    paid: list[Callback] = []
    arrived = anyio.Event()
    price: list[Decimal] = []
    made = anyio.Event()

    async def lookup(order: str) -> Decimal | None:
        # The callback may be quicker than the answer to our own call.
        await made.wait()
        return price[0] if order == out_order_id else None

    async def handler(callback: Callback) -> None:
        paid.append(callback)
        arrived.set()

    app = CallbackApp(
        handler, appkey=settings.appkey(), appsecret=settings.secret(), store=MemoryStore(), lookup=lookup
    )
    host, port = listener.getsockname()[:2]
    async with serve_callbacks(app, listener):
        payment = await make()
        price.append(payment.order_price)
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
