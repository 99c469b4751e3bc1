"""``gatepay pay`` after a lost reply: asks GatePay whether the order exists."""

from gatepay_async.cli.failures import headline
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.output import escape, warn
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.protocol.errors import GatePayError, OutcomeUnknownError
from gatepay_async.protocol.models import OrderStatus

# GatePay doesn't document whether order/check finds orders of these endpoints, so an order that isn't found may exist.
_ENDPOINTS_ORDER_CHECK_MAY_MISS = ("pay/create", "cloudpay/create")


async def find_order(gatepay: AsyncGatePay, error: OutcomeUnknownError) -> OrderStatus:
    """
    Return the order that the failed call may have created.

    Raises:
        HaltError: The order isn't found, or GatePay can't be reached. The error has a remedy for each case.
    """
    order = escape(error.out_order_id)
    warn(text("pay.asking", order=order))
    try:
        status = await gatepay.settle(error)
    except GatePayError as failure:
        message = text("pay.not_asked", order=order, reason=headline(failure))
        raise _unsettled(error, "not_asked", message, text("todo.OutcomeUnknownError")) from None
    if status is not None:
        warn(text("pay.found", order=order, status=escape(status.order_status)))
        return status
    key = "not_found" if error.endpoint in _ENDPOINTS_ORDER_CHECK_MAY_MISS else "probably_not"
    raise _unsettled(error, "not_found", text(f"pay.{key}", order=order), text(f"pay.{key}.todo"))


def _unsettled(error: OutcomeUnknownError, settled: str, message: CommandText, todo: str) -> HaltError:
    """Return the error for an order that may exist. *settled* says why that is still unknown."""
    facts = {
        "type": type(error).__name__,
        "endpoint": error.endpoint,
        "out_order_id": error.out_order_id,
        "attempts": error.attempts,
        "settled": settled,
    }
    return HaltError(message, todo=todo, status=Status.NO_ANSWER, facts=facts)
