"""
Django, with async views: makes orders, and hears of payments. One file here; comments say where its parts go in yours.

    pip install gatepay-async django uvicorn
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… uvicorn django_shop:app --no-access-log

    POST /orders            email=terry@example.com
    /gatepay/callback       the address to enter in GatePay's console
"""

import logging
import os
import secrets

import shop
from anyio import to_thread
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from gatepay_async import AsyncGatePay, CallbackError, PayType, new_out_order_id, parse_callback

# -- settings.py
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(50),
)

# -- views.py
APPKEY, APPSECRET = os.environ["GATEPAY_APPKEY"], os.environ["GATEPAY_APPSECRET"]

logger = logging.getLogger(__name__)


@csrf_exempt  # GatePay has no token of yours; what vouches for the call is its signature
@require_http_methods(["GET", "POST"])
async def gatepay_callback(request: HttpRequest) -> HttpResponse:
    """Hear of a payment. The raw text, not request.GET: a name that comes twice must be seen."""
    query = request.META["QUERY_STRING"] if request.method == "GET" else request.body
    try:
        callback = parse_callback(query, appkey=APPKEY, appsecret=APPSECRET)
    except CallbackError as error:
        logger.warning("refused: %s", error)
        return HttpResponse("fail", status=400, content_type="text/plain")
    # The signature alone lets digits slide between number and price: the shop's own record decides.
    if await to_thread.run_sync(shop.price_of, callback.out_order_id) != callback.price:
        logger.warning("refused: %s is no order of this price", callback.out_order_id)
        return HttpResponse("fail", status=400, content_type="text/plain")
    # Exactly once, however often the callback comes; if it raises, the answer is a 500, and GatePay comes again.
    await to_thread.run_sync(shop.deliver, callback)
    return HttpResponse("success", content_type="text/plain")


@csrf_exempt  # for this example alone, which has no page with a form
@require_POST
async def create_order(request: HttpRequest) -> HttpResponse:
    """Make an order, write it down, and say where to pay."""
    email = request.POST["email"]
    # Django tells nobody when it starts and stops: a client for each order, then.
    async with AsyncGatePay() as gatepay:
        payment = await gatepay.create_payment(
            product_id=8, product_num=1, pay_type=PayType.ALIPAY, out_order_id=new_out_order_id(), custom=email
        )
    await to_thread.run_sync(shop.write_down, payment, email)
    return JsonResponse({"out_order_id": payment.out_order_id, "pay_at": payment.order_url}, status=201)


# -- urls.py
urlpatterns = [path("orders", create_order), path("gatepay/callback", gatepay_callback)]

# -- asgi.py
app = get_asgi_application()
