"""
The frozen classes of GatePay's later endpoints: four more kinds of payment, and the status of an order.

See ``calls``. The optional fields (``notify_url``, ``return_url``) are not signed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, Literal

from attrs import field, frozen, validators

from gatepay_async.protocol import checks, codec, errors, money
from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate, ProductShow, Usual
from gatepay_async.protocol.models import OrderStatus, PaymentLink, PayType
from gatepay_async.protocol.web_addresses import web_address
from gatepay_async.words.problem import Problem

_PAGE_PAY_TYPES = (PayType.WECHAT, PayType.ALIPAY)  # no onecode at these endpoints


def _as_alipay_or_wechat(value: Any) -> PayType:
    if value in _PAGE_PAY_TYPES:
        return PayType(value)
    raise errors.InvalidRequestError(
        field="pay_type", problem=Problem("not_one_of", choices=", ".join(_PAGE_PAY_TYPES))
    )


def _as_price(value: Any) -> Decimal:
    return money.parse_price("price", value)


_url = validators.optional(web_address)


@frozen(kw_only=True)
class _Creation(Usual):
    """The base of the four payments. GatePay has no idempotency key: sent twice, a call may create two orders."""

    repeatable: ClassVar[bool] = False

    pay_type: PayType = field(converter=_as_alipay_or_wechat)
    out_order_id: str = field(validator=checks.order_number)
    custom: str = field(validator=checks.custom)

    def _common_fields(self) -> dict[str, str]:
        """Return the fields that all four payments have."""
        return {"type": self.pay_type.value, "out_order_id": self.out_order_id, "custom": self.custom}

    def read(self, data: Any) -> PaymentLink:
        """
        Read the fields of a success (返回结果表): pay_url, qrcode_url, qrcode_body.

        Another field, params, is ignored, because it may hold the signature.
        """
        return codec.read(PaymentLink, data, path="data", out_order_id=self.out_order_id)


@frozen(kw_only=True)
class _CreationWithUrls(_Creation):
    """The base of the three payments that accept URLs of the shop."""

    notify_url: str | None = field(default=None, validator=_url)
    return_url: str | None = field(default=None, validator=_url)

    def _common_fields(self) -> dict[str, str]:
        # Code 106 is "a parameter that is not allowed", so parameters without a value aren't sent.
        urls = {"notify_url": self.notify_url, "return_url": self.return_url}
        return {**super()._common_fields(), **{name: url for name, url in urls.items() if url is not None}}


@frozen(kw_only=True)
class AnypayCreate(_CreationWithUrls):
    """任意金额支付接口: an order of any amount."""

    path: ClassVar[str] = "anypay/create"
    # Signature (签名信息算法): md5(md5(appkey + price + type + out_order_id + custom) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("price", "type", "out_order_id", "custom")

    price: Decimal = field(converter=_as_price)

    def fields(self) -> dict[str, str]:
        """``price`` with exactly two decimals (精确小数点后2位)."""
        return {"price": f"{self.price:f}", **self._common_fields()}


@frozen(kw_only=True)
class StablepayCreate(_CreationWithUrls):
    """固定商品支付接口: an order of one piece of one product."""

    path: ClassVar[str] = "stablepay/create"
    # Signature (签名信息算法): md5(md5(appkey + product_id + type + out_order_id + custom) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("product_id", "type", "out_order_id", "custom")

    product_id: int = field(validator=checks.positive)

    def fields(self) -> dict[str, str]:
        """The fields in the order of the vendor's table."""
        return {"product_id": str(self.product_id), **self._common_fields()}


@frozen(kw_only=True)
class GrouppayCreate(_CreationWithUrls):
    """组合商品支付接口: an order of several products, with a quantity of each."""

    path: ClassVar[str] = "grouppay/create"
    # Signature (签名信息算法): md5(md5(appkey + fields + type + out_order_id + custom) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("fields", "type", "out_order_id", "custom")

    items: tuple[tuple[int, int], ...] = field(converter=checks.as_items, validator=checks.order_items)

    def fields(self) -> dict[str, str]:
        """``fields`` is a list of 商品ID:购买件数, separated by commas (8:1,7:1)."""
        items = ",".join(f"{product_id}:{count}" for product_id, count in self.items)
        return {"fields": items, **self._common_fields()}


@frozen(kw_only=True)
class CloudpayCreate(_Creation):
    """云端支付接口: an order of any amount, on the cloud server or an agent's own."""

    path: ClassVar[str] = "cloudpay/create"
    on_cloud: ClassVar[bool] = True
    # Signature (签名信息算法): md5(md5(appkey + price + type + out_order_id + custom) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("price", "type", "out_order_id", "custom")

    price: Decimal = field(converter=_as_price)

    def fields(self) -> dict[str, str]:
        """``price`` with exactly two decimals (精确小数点后2位)."""
        return {"price": f"{self.price:f}", **self._common_fields()}


@frozen
class OrderCheck(Usual):
    """付款结果查询接口: the status of an order."""

    path: ClassVar[str] = "order/check"
    method: ClassVar[Literal["GET", "POST"]] = "GET"
    # Signature (签名信息算法): md5(md5(appkey + out_order_id) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("out_order_id",)
    repeatable: ClassVar[bool] = True

    out_order_id: str = field(validator=checks.order_number)

    def fields(self) -> dict[str, str]:
        """The only field."""
        return {"out_order_id": self.out_order_id}

    def read(self, data: Any) -> OrderStatus:
        """Read the fields of a success (返回结果表): order_id, order_name, order_price, order_type, order_status."""
        return codec.read(OrderStatus, data, path="data")


CALLS: tuple[type[Any], ...] = (
    PayCreate,
    ProductShow,
    KaShow,
    KaCreate,
    AnypayCreate,
    CloudpayCreate,
    GrouppayCreate,
    StablepayCreate,
    OrderCheck,
)
