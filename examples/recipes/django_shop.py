"""
Django, with async views: creates orders and receives callbacks. All in one file; comments say where the parts go.

    pip install gatepay-async django uvicorn
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… uvicorn django_shop:app --no-access-log

    POST /orders            email=terry@example.com
    /gatepay/callback       the address to enter in GatePay's console

It needs shop.py in the same folder, which stands for your own records.
"""

import os
import secrets
from contextlib import suppress
from decimal import Decimal

import shop
from anyio import to_thread
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from gatepay_async import AsyncGatePay, Callback, GatePayError, OutcomeUnknownError, PayType
from gatepay_async.callbacks import CallbackApp, SQLiteStore

# -- settings.py
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(50),
)


# -- views.py
async def price_of(out_order_id: str) -> Decimal | None:
    """Return the price of an order from the shop's own records."""
    return await to_thread.run_sync(shop.price_of, out_order_id)


async def deliver(callback: Callback) -> None:
    """Deliver; called once for each payment, and only if the price was paid in full."""
    await to_thread.run_sync(shop.deliver, callback)


callbacks = CallbackApp(
    deliver,
    appkey=os.environ["GATEPAY_APPKEY"],
    appsecret=os.environ["GATEPAY_APPSECRET"],
    store=SQLiteStore("callbacks.sqlite3"),
    lookup=price_of,
)


@csrf_exempt  # GatePay has no CSRF token; its requests are signed instead
@require_http_methods(["GET", "POST"])
async def gatepay_callback(request: HttpRequest) -> HttpResponse:
    """Receive a callback. Uses the raw text, because request.GET would hide a repeated name."""
    reply = await callbacks.receive(request.META["QUERY_STRING"] if request.method == "GET" else request.body)
    return HttpResponse(reply.body, status=reply.status, content_type="text/plain")


@csrf_exempt  # only for this example, which has no page with a form
@require_POST
async def create_order(request: HttpRequest) -> HttpResponse:
    """Record an order, create its payment, and return where to pay."""
    email = request.POST["email"]
    # Django has no events for starting and stopping, so each order opens its own client.
    async with AsyncGatePay() as gatepay:
        out_order_id = await to_thread.run_sync(shop.new_order, email)
        try:
            payment = await gatepay.create_payment(
                product_id=shop.PRODUCT,
                product_num=1,
                pay_type=PayType.ALIPAY,
                out_order_id=out_order_id,
                custom=email,
            )
        except OutcomeUnknownError as error:
            # The order may exist: a second one could charge the customer twice. If it is paid, a callback arrives.
            with suppress(GatePayError):
                if existing := await gatepay.settle(error):  # the order exists; only its payment URL is lost
                    return JsonResponse({"out_order_id": out_order_id, "status": existing.order_status}, status=201)
            return JsonResponse({"error": f"order {out_order_id} is being checked"}, status=504)
    return JsonResponse({"out_order_id": payment.out_order_id, "pay_at": payment.order_url}, status=201)


# -- urls.py
urlpatterns = [path("orders", create_order), path("gatepay/callback", gatepay_callback)]

# -- asgi.py
app = get_asgi_application()
