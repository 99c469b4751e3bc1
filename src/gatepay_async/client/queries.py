"""Query strings: GatePay's callbacks and returns, and the link to the quick-pay page. No I/O."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from gatepay_async.client.base import BaseClient
from gatepay_async.protocol import callback, payment_return, quick_pay
from gatepay_async.protocol.frames import scrub_errors
from gatepay_async.protocol.models import Callback, PaymentReturn


class Queries(BaseClient):
    """The methods of ``AsyncGatePay`` that verify and write query strings."""

    @scrub_errors
    def parse_callback(self, query: str | bytes) -> Callback:
        """
        Verify a callback, or raise; no I/O. See ``gatepay_async.parse_callback``.

        This method accepts only the secret that the client signs with. While you rotate your secret, use
        ``gatepay_async.parse_callback`` with both.
        """
        return callback.verify_callback(query, self._credentials)

    @scrub_errors
    def parse_return(self, query: str | bytes) -> PaymentReturn:
        """
        Verify the query that a customer's browser came back with, or raise; no I/O.

        **It is never a proof of payment.** Anyone can come back with the same query again, and digits can be moved
        between ``product_id``, ``order_id`` and ``out_order_id`` without breaking the signature. Use it to show a page;
        deliver only after a verified callback.

        Args:
            query: The raw query string, as received. A leading ``?`` is ignored.

        Raises:
            MalformedCallbackError: A field is missing, comes twice or doesn't have its exact form.
            CallbackSignatureError: It was not signed with this client's secret.
        """
        return payment_return.verify_return(query, self._credentials)

    @scrub_errors
    def quick_pay_url(
        self,
        token: str,
        *,
        price: Decimal | str | None = None,
        custom: str | None = None,
        stable: bool = False,
        skin: Literal[0, 1] | None = None,
    ) -> str:
        """
        Return a link to GatePay's quick-pay page (快捷收款, ``pay/any``), where a customer pays any amount; no I/O.

        **The link is not signed.** Whoever has it can change the price in it, so compare the paid amount in the
        callback with your price. ``stable`` doesn't prevent that: it only stops the page from offering a change.

        Args:
            token: From GatePay's console.
            price: In yuan, above 0. None: the customer decides.
            custom: The callback returns it as ``extend``.
            stable: The page doesn't let the customer change the values in the link.
            skin: Which of GatePay's two pages: 0 or 1.

        Raises:
            InvalidRequestError: An argument is invalid.
        """
        appkey = self._credentials.appkey
        return quick_pay.quick_pay_url(
            self._base_url, appkey, token, price=price, custom=custom, stable=stable, skin=skin
        )
