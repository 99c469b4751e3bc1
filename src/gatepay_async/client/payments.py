"""Orders: making them, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import anyio

from gatepay_async.client.base import Base
from gatepay_async.client.caller import sealed_async
from gatepay_async.client.settings import check_kind
from gatepay_async.protocol.calls import PayCreate
from gatepay_async.protocol.errors import OrderNotFoundError, OutcomeUnknownError, ProtocolError, TransportError
from gatepay_async.protocol.models import OrderStatus, Payment, PaymentLink, PayType
from gatepay_async.protocol.payment_calls import (
    AnypayCreate,
    CloudpayCreate,
    GrouppayCreate,
    OrderCheck,
    StablepayCreate,
)

# Seconds before each of the questions of `settle`: an order may be found later than its answer was lost.
_SETTLE_WAITS = (0.0, 1.0, 2.0, 4.0, 8.0)


class Payments(Base):
    """The methods of ``AsyncGatePay`` that make orders and ask for them."""

    async def create_payment(
        self, *, product_id: int, product_num: int, pay_type: PayType | str, out_order_id: str, custom: str
    ) -> Payment:
        """
        Make an order for a customer to pay (支付接口, ``pay/create``).

        Never sent again once a byte of it has left: GatePay's API has no idempotency key, so that a second
        call may be a second order.

        Args:
            product_id: One of ``list_products()``.
            product_num: How many; 1 with WeChat.
            pay_type: ``PayType`` or its text.
            out_order_id: Your number of the order, a new one for each. Let it neither begin nor end in a digit
                (``T-1001-X``): the signature of the callback lets digits slide between neighbouring fields.
            custom: Comes back as the callback's ``extend``: the customer's number or address, for example.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            PayCreate(
                product_id=product_id,
                out_order_id=out_order_id,
                pay_type=pay_type,
                product_num=product_num,
                custom=custom,
            )
        )

    async def create_anypay(
        self,
        *,
        price: Decimal | str,
        pay_type: PayType | str,
        out_order_id: str,
        custom: str,
        notify_url: str | None = None,
        return_url: str | None = None,
    ) -> PaymentLink:
        """
        Make an order of any amount (任意金额支付接口, ``anypay/create``). GatePay needs no product for it.

        Like ``create_payment`` it is never sent again once a byte of it has left.

        Args:
            price: In yuan, above 0, with at most two decimals; no float.
            pay_type: ``alipay`` or ``wechat``.
            out_order_id: Your number of the order, as for ``create_payment``.
            custom: Comes back as the callback's ``extend``.
            notify_url: Where GatePay sends the callback of this order. Whether it calls the URL of its console as well
                isn't known, so handle each ``order_id`` once. Not signed.
            return_url: Where the customer's browser goes after the payment. Not signed.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            AnypayCreate(
                price=price,
                pay_type=pay_type,
                out_order_id=out_order_id,
                custom=custom,
                notify_url=notify_url,
                return_url=return_url,
            )
        )

    async def create_stablepay(
        self,
        *,
        product_id: int,
        pay_type: PayType | str,
        out_order_id: str,
        custom: str,
        notify_url: str | None = None,
        return_url: str | None = None,
    ) -> PaymentLink:
        """
        Make an order of one piece of one product (固定商品支付接口, ``stablepay/create``).

        Args:
            product_id: One of ``list_products()``.
            pay_type: As for ``create_anypay``, like the rest.
            out_order_id: Likewise.
            custom: Likewise.
            notify_url: Likewise.
            return_url: Likewise.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            StablepayCreate(
                product_id=product_id,
                pay_type=pay_type,
                out_order_id=out_order_id,
                custom=custom,
                notify_url=notify_url,
                return_url=return_url,
            )
        )

    async def create_grouppay(
        self,
        *,
        items: Mapping[int, int] | Iterable[tuple[int, int]],
        pay_type: PayType | str,
        out_order_id: str,
        custom: str,
        notify_url: str | None = None,
        return_url: str | None = None,
    ) -> PaymentLink:
        """
        Make an order of several products (组合商品支付接口, ``grouppay/create``).

        Args:
            items: How many of each product: ``{8: 2, 7: 3}``, or pairs. At most 100 products, none twice.
            pay_type: As for ``create_anypay``, like the rest.
            out_order_id: Likewise.
            custom: Likewise.
            notify_url: Likewise.
            return_url: Likewise.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            GrouppayCreate(
                items=items,
                pay_type=pay_type,
                out_order_id=out_order_id,
                custom=custom,
                notify_url=notify_url,
                return_url=return_url,
            )
        )

    async def create_cloudpay(
        self, *, price: Decimal | str, pay_type: PayType | str, out_order_id: str, custom: str
    ) -> PaymentLink:
        """
        Make an order of any amount at GatePay's cloud (云端支付接口, ``cloudpay/create`` at ``cloud_base_url``).

        With another ``base_url`` than GatePay's, set ``cloud_base_url`` too: a sandbox takes both at the same URL.

        Args:
            price: As for ``create_anypay``, like the rest.
            pay_type: Likewise. One of GatePay's pages says that only ``alipay`` works here.
            out_order_id: Likewise.
            custom: Likewise.

        Raises:
            InvalidRequestError: An argument can't be right, or ``cloud_base_url`` is missing; nothing was sent.
            OutcomeUnknownError: The order may have been made, or not. GatePay does not say whether ``check_order``
                finds orders of its cloud.
        """
        return await self.send(CloudpayCreate(price=price, pay_type=pay_type, out_order_id=out_order_id, custom=custom))

    async def check_order(self, out_order_id: str) -> OrderStatus:
        """
        Ask what became of an order (付款结果查询接口, ``order/check``). Retried as often as the client retries.

        The way out of an ``OutcomeUnknownError``: an order that is found was made. One that isn't found may still
        exist: GatePay does not say whether it finds the orders of ``create_payment`` and ``create_cloudpay``.

        It is no proof of payment: of ``order_status`` GatePay documents one word only, ``expired``. Deliver because of
        a callback.

        Args:
            out_order_id: Your number of the order. Which of two orders with the same number is found isn't known.

        Raises:
            OrderNotFoundError: GatePay finds no such order.
        """
        return await self.send(OrderCheck(out_order_id))

    @sealed_async
    async def settle(self, error: OutcomeUnknownError) -> OrderStatus | None:
        """
        Ask GatePay for an order whose response was lost: ``check_order`` five times, over 15 seconds.

        If it returns an ``OrderStatus``, the order exists. Don't create it again. The address where to pay was in the
        lost response: if you have no other way to send the customer there, let the order expire.

        If it returns None, GatePay finds no such order. That does not prove that there is none:

        - After ``create_payment`` and ``create_cloudpay`` None proves nothing. GatePay does not say whether
          ``order/check`` finds their orders.
        - After the other calls the order was probably not created, but the request may still arrive.

        So look in GatePay's console, or create another order with a new ``out_order_id``. Never use the same one.

        Args:
            error: What a ``create_…`` method has raised.

        Raises:
            TransportError: GatePay was not reached in the end; ask again later.
            ProtocolError: Likewise.
        """
        check_kind("error", error, OutcomeUnknownError)
        failure: TransportError | ProtocolError | None = None
        for wait in _SETTLE_WAITS:
            await anyio.sleep(wait)
            try:
                return await self.check_order(error.out_order_id)
            except OrderNotFoundError:
                failure = None
            except (TransportError, ProtocolError) as unanswered:
                failure = unanswered
        if failure is not None:
            raise failure
        return None
