"""The methods for orders: create them, and ask GatePay for their status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import anyio

from gatepay_async.client.base import BaseClient
from gatepay_async.client.caller import scrub_errors_async
from gatepay_async.protocol.calls import PayCreate
from gatepay_async.protocol.checks import check_instance
from gatepay_async.protocol.errors import OrderNotFoundError, OutcomeUnknownError, ProtocolError, TransportError
from gatepay_async.protocol.models import OrderStatus, Payment, PaymentLink, PayType

# Seconds that `settle` waits before each call: GatePay may find an order only some time after it was created.
_SETTLE_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)


class Payments(BaseClient):
    """The methods of ``AsyncGatePay`` that create orders and ask for them."""

    async def create_payment(
        self, *, product_id: int, product_num: int, pay_type: PayType | str, out_order_id: str, custom: str
    ) -> Payment:
        """
        Create an order for a customer to pay (支付接口, ``pay/create``).

        Not retried once a byte of it has left: GatePay's API has no idempotency key, so a second call may create a
        second order.

        Args:
            product_id: One of ``list_products()``.
            product_num: How many; 1 with WeChat.
            pay_type: ``PayType`` or its text.
            out_order_id: Your order number, a new one for each order. Don't let it start or end with a digit (use
                ``T-1001-X``): the callback's signature doesn't protect digits from being moved to a neighbouring field.
            custom: The callback returns it as ``extend``: the customer's number or address, for example.

        Raises:
            OutcomeUnknownError: The order may or may not exist; ``settle(error)`` asks GatePay.
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
        Create an order of any amount (任意金额支付接口, ``anypay/create``). It needs no product.

        Like ``create_payment``, it is not retried once a byte of it has left.

        Args:
            price: In yuan, above 0, with at most two decimals; no float.
            pay_type: ``alipay`` or ``wechat``.
            out_order_id: Your order number, as for ``create_payment``.
            custom: The callback returns it as ``extend``.
            notify_url: Where GatePay sends the callback of this order. Whether it calls the URL of its console as well
                isn't known, so handle each ``order_id`` once. Not signed.
            return_url: Where the customer's browser goes after the payment. Not signed.

        Raises:
            OutcomeUnknownError: The order may or may not exist; ``settle(error)`` asks GatePay.
        """
        from gatepay_async.protocol.payment_calls import AnypayCreate  # noqa: PLC0415 -- opening the client imported it

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
        Create an order of one piece of one product (固定商品支付接口, ``stablepay/create``).

        Args:
            product_id: One of ``list_products()``.
            pay_type: As for ``create_anypay``.
            out_order_id: As for ``create_anypay``.
            custom: As for ``create_anypay``.
            notify_url: As for ``create_anypay``.
            return_url: As for ``create_anypay``.

        Raises:
            OutcomeUnknownError: The order may or may not exist; ``settle(error)`` asks GatePay.
        """
        from gatepay_async.protocol.payment_calls import StablepayCreate  # noqa: PLC0415 -- opening the client imported it

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
        Create an order of several products (组合商品支付接口, ``grouppay/create``).

        Args:
            items: How many of each product: ``{8: 2, 7: 3}``, or pairs. At most 100 products, none twice.
            pay_type: As for ``create_anypay``.
            out_order_id: As for ``create_anypay``.
            custom: As for ``create_anypay``.
            notify_url: As for ``create_anypay``.
            return_url: As for ``create_anypay``.

        Raises:
            OutcomeUnknownError: The order may or may not exist; ``settle(error)`` asks GatePay.
        """
        from gatepay_async.protocol.payment_calls import GrouppayCreate  # noqa: PLC0415 -- opening the client imported it

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
        Create an order of any amount at GatePay's cloud (云端支付接口, ``cloudpay/create`` at ``cloud_base_url``).

        If ``base_url`` isn't GatePay's, set ``cloud_base_url`` too. With a sandbox, both are the same URL.

        Args:
            price: As for ``create_anypay``.
            pay_type: As for ``create_anypay``. One of GatePay's pages says that only ``alipay`` works here.
            out_order_id: As for ``create_anypay``.
            custom: As for ``create_anypay``.

        Raises:
            InvalidRequestError: An argument is invalid, or ``cloud_base_url`` is missing; nothing was sent.
            OutcomeUnknownError: The order may or may not exist. GatePay does not say whether ``check_order``
                finds orders of its cloud.
        """
        from gatepay_async.protocol.payment_calls import CloudpayCreate  # noqa: PLC0415 -- opening the client imported it

        return await self.send(CloudpayCreate(price=price, pay_type=pay_type, out_order_id=out_order_id, custom=custom))

    async def check_order(self, out_order_id: str) -> OrderStatus:
        """
        Ask GatePay for the status of an order (付款结果查询接口, ``order/check``). Retried by the client's policy.

        Use it after an ``OutcomeUnknownError``. If the order is found, it exists. If it isn't found, it may still
        exist: GatePay does not say whether it finds the orders of ``create_payment`` and ``create_cloudpay``.

        It is no proof of payment: GatePay documents only one value of ``order_status``, ``expired``. Deliver only
        after a verified callback.

        Args:
            out_order_id: Your order number. GatePay doesn't say which order it finds if two have the same number.

        Raises:
            OrderNotFoundError: GatePay finds no such order.
        """
        from gatepay_async.protocol.payment_calls import OrderCheck  # noqa: PLC0415 -- opening the client imported it

        return await self.send(OrderCheck(out_order_id))

    @scrub_errors_async
    async def settle(self, error: OutcomeUnknownError) -> OrderStatus | None:
        """
        Ask GatePay for an order whose response was lost: ``check_order`` up to five times.

        It waits 0, 1, 2, 4 and 8 seconds before these calls: 15 seconds in all. The calls themselves take more time.

        If this returns an ``OrderStatus``, the order exists. Don't create it again. The payment URL was in the lost
        response: if you have no other way to send the customer there, let the order expire.

        If this returns None, GatePay finds no such order. That does not prove that there is none:

        - After ``create_payment`` and ``create_cloudpay`` None proves nothing. GatePay does not say whether
          ``order/check`` finds their orders.
        - After the other calls the order was probably not created, but the request may still arrive.

        So look in GatePay's console, or create another order with a new ``out_order_id``. Never use the same one.

        Args:
            error: The error of a ``create_…`` method.

        Raises:
            TransportError: GatePay did not answer the last call; call this again later.
            ProtocolError: The reply to the last call is not GatePay's; call this again later.
        """
        check_instance("error", error, OutcomeUnknownError)
        failure: TransportError | ProtocolError | None = None
        for wait in _SETTLE_DELAYS_S:
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
