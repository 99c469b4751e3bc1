"""``gatepay pay --wait``: receives callbacks until the order is paid."""

import socket
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import anyio

from gatepay_async.cli import settings
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json, warn_interrupted
from gatepay_async.cli.screens import format_duration, local_time, print_line
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange.urls import MAX_PORT
from gatepay_async.protocol.models import Callback
from gatepay_async.words.problem import os_reason

# How long an order of the sandbox can be paid, and the default of `--timeout`. GatePay doesn't document its limit.
ORDER_SECONDS = 300


def parse_listen(listen: str, *, wait: bool) -> tuple[str, int] | None:
    """
    Parse ``--listen`` to host and port. Return None if neither ``--wait`` nor ``--listen`` was given.

    Raises:
        HaltError: Only one of the two was given, or *listen* is not an address.
    """
    if bool(listen) != wait:
        raise HaltError(text("pay.wait_and_listen"), todo=text("pay.wait_and_listen.todo"))
    if not wait:
        return None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise HaltError(text("pay.address", address=listen))
    return host.strip("[]"), int(port)


def open_listener(host: str, port: int) -> socket.socket:
    """
    Open the socket for callbacks. Call this before the order is created, so that an error leaves no order behind.

    Raises:
        HaltError: The address is in use or invalid.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise HaltError(text("pay.cant_listen", address=f"{host}:{port}", reason=os_reason(error))) from None


async def wait_for_payment(
    create: Callable[[], Awaitable[Decimal | None]],
    out_order_id: str,
    listener: socket.socket,
    timeout: int,  # noqa: ASYNC109 -- named after the option
    *,
    knows_price: bool,
) -> Status:
    """
    Create the order, and receive callbacks until the callback of this order arrives.

    Args:
        create: Creates the order, and returns its price.
        out_order_id: The order number.
        listener: The socket on which callbacks arrive.
        timeout: The seconds to wait.
        knows_price: Whether to compare callbacks with the price that *create* returns.

    Raises:
        HaltError: No callback for the order arrived in time.
    """
    from gatepay_async.callbacks import CallbackApp, MemoryStore
    from gatepay_async.cli.callback_server import serve_callbacks

    paid: list[Callback] = []
    arrived = anyio.Event()
    price: list[Decimal | None] = []  # empty until the order is created
    created = anyio.Event()

    async def lookup(order: str) -> Decimal | None:
        # The callback may arrive before the reply to our own call.
        await created.wait()
        return price[0] if order == out_order_id else None

    async def handler(callback: Callback) -> None:
        if callback.out_order_id != out_order_id:
            raise LookupError  # another order: the app responds `fail`, so GatePay delivers the callback again later
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
        price.append(await create())
        created.set()
        payable_until = local_time(datetime.now(UTC) + timedelta(seconds=ORDER_SECONDS))
        if not wants_json():
            print_line(
                text("pay.waiting", address=f"http://{host}:{port}/", time=format_duration(timeout)), stream=sys.stderr
            )
        try:
            with anyio.move_on_after(timeout):
                await arrived.wait()
        except anyio.get_cancelled_exc_class():
            warn_interrupted(text("pay.still_open", order=escape(out_order_id), until=payable_until))
            raise
    if not paid:
        raise HaltError(
            text("pay.not_paid", order=out_order_id),
            todo=text("pay.not_paid.todo", order=out_order_id, until=payable_until),
            status=Status.NO_ANSWER,
        )
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
