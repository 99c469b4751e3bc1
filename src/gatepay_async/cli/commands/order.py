"""``gatepay order``: shows the status of an order, and can wait until it changes."""

import anyio

from gatepay_async.cli import settings
from gatepay_async.cli.language import text
from gatepay_async.cli.output import print_json, wants_json
from gatepay_async.cli.screens import name_value_table, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.protocol import checks
from gatepay_async.protocol.errors import ProtocolError, TransportError
from gatepay_async.protocol.models import OrderStatus

_POLL_SECONDS = 3.0
_EXPIRED = "expired"
# GatePay documents only the status "expired". Any other change of the status ends the wait, too.
_FINAL_STATUSES = (_EXPIRED, "paid")


async def show(number: str, wait: bool, timeout: int) -> Status:  # noqa: ASYNC109, FBT001 -- the values of options
    """
    Print the status of order *number*.

    With *wait*, first wait until the order is paid or expires. Then the exit status tells a script which of the two.
    """
    checks.check("ORDER_NUMBER", number, checks.order_number)
    async with settings.client() as gatepay:
        status = await gatepay.check_order(number)
        if wait:
            status = await _wait_for_change(gatepay, number, status, timeout)
    document = _order_as_json(number, status)
    if wants_json():
        print_json(**document)
    else:
        names = ("id", "name", "price", "type", "status")
        print_table(name_value_table((text(f"order.{name}_is"), document[f"order_{name}"]) for name in names))
    return Status.REFUSED if wait and status.order_status == _EXPIRED else Status.DONE


def _order_as_json(number: str, status: OrderStatus) -> dict[str, str]:
    return {
        "out_order_id": number,
        "order_id": str(status.order_id),
        "order_name": status.order_name,
        "order_price": f"{status.order_price:f}",
        "order_type": status.order_type,
        "order_status": status.order_status,
    }


async def _wait_for_change(
    gatepay: AsyncGatePay,
    number: str,
    status: OrderStatus,
    timeout: int,  # noqa: ASYNC109 -- named after the option
) -> OrderStatus:
    """Return the status once it differs from *status*, or immediately if *status* is final."""
    first_status = status.order_status
    with anyio.move_on_after(timeout):
        while status.order_status == first_status and status.order_status not in _FINAL_STATUSES:
            await anyio.sleep(_POLL_SECONDS)
            try:
                status = await gatepay.check_order(number)
            except (TransportError, ProtocolError):  # this may be temporary, and the timeout ends the wait in any case
                continue
        return status
    raise HaltError(
        text("order.unchanged", status=status.order_status),
        todo=text("order.unchanged.todo"),
        status=Status.NO_ANSWER,
        result=_order_as_json(number, status),
    )
