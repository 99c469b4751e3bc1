"""A local server that stands in for GatePay, with a real database, and with faults on request."""

try:
    from gatepay_async.sandbox.callback_urls import CallbackUrlError
    from gatepay_async.sandbox.database import LaterVersionError
    from gatepay_async.sandbox.deliveries import Delivery, DeliveryState
    from gatepay_async.sandbox.events import CallEvent, DeliveryEvent
    from gatepay_async.sandbox.faults import Fault, FaultKind
    from gatepay_async.sandbox.options import Options
    from gatepay_async.sandbox.order_service import NoCallbackError
    from gatepay_async.sandbox.orders import Order, OrderState, ShownState
    from gatepay_async.sandbox.request_log import SeenRequest
    from gatepay_async.sandbox.sandbox import Sandbox
    from gatepay_async.sandbox.server import PortTakenError
    from gatepay_async.sandbox.shops import ShopAccount, ShopState
except ModuleNotFoundError as error:
    if str(error.name).startswith("gatepay_async"):
        raise
    missing = f"the sandbox needs {error.name}, which is not installed: pip install 'gatepay-async[sandbox]'"
    raise ModuleNotFoundError(missing, name=error.name) from error

__all__ = [
    "CallEvent",
    "CallbackUrlError",
    "Delivery",
    "DeliveryEvent",
    "DeliveryState",
    "Fault",
    "FaultKind",
    "LaterVersionError",
    "NoCallbackError",
    "Options",
    "Order",
    "OrderState",
    "PortTakenError",
    "Sandbox",
    "SeenRequest",
    "ShopAccount",
    "ShopState",
    "ShownState",
]
