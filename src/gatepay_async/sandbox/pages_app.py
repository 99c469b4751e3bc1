"""All pages as one guarded ASGI application: the payment page, the quick-pay page and the console."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from gatepay_async.sandbox.console import Console
from gatepay_async.sandbox.faults import FaultQueue
from gatepay_async.sandbox.forms import MalformedFormError
from gatepay_async.sandbox.guard import Guard
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.pages import OrderPage
from gatepay_async.sandbox.quick_pay import QuickPayPage
from gatepay_async.sandbox.web import render, static_route

__all__ = ["build_pages_app"]


def build_pages_app(order_service: OrderService, faults: FaultQueue, *, beyond_loopback: bool) -> ASGIApp:
    """
    Build the application.

    Args:
        order_service: Carries out changes to orders.
        faults: The faults that the console adds and removes.
        beyond_loopback: Whether a callback URL may lead to another machine.
    """
    console = Console(order_service, faults, beyond_loopback=beyond_loopback)
    pages = (OrderPage(order_service), QuickPayPage(order_service), console)
    routes = [*(route for page in pages for route in page.routes()), static_route()]
    return Guard(Starlette(routes=routes, exception_handlers={404: _no_page, MalformedFormError: _malformed}))


async def _no_page(request: Request, _error: Exception) -> Response:
    return render(request, "error.html", status=404, problem="no_page")


async def _malformed(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"Bad Request: {error}", status_code=400)
