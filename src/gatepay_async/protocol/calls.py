"""
One frozen class for each endpoint: its path, its fields, their signed order, and how to read the data of a success.

The classes follow the tables of the vendor's page (接口). Their constructors refuse invalid values. ``catalogue`` has
the meaning of the codes.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from attrs import field, frozen

from gatepay_async.protocol import checks, codec, errors
from gatepay_async.protocol.frames import scrub_init_errors
from gatepay_async.protocol.masking import mask
from gatepay_async.protocol.models import CardKeyPage, Catalog, Payment, PayType, Stored
from gatepay_async.protocol.values import MisreadError
from gatepay_async.words.problem import Problem

T_co = TypeVar("T_co", covariant=True)


class Call(Protocol[T_co]):
    """
    A call: what to send, and how to read the reply.

    Attributes:
        path: The path after the base URL, such as ``"pay/create"``.
        method: ``"POST"``: the fields are a form. ``"GET"``: they are the query.
        on_cloud: Whether it goes to ``cloud_base_url`` instead of ``base_url``.
        signed: The signed fields, in order, after the appkey.
        repeatable: Whether it is safe to send it again even if it may have been carried out.
        carries_keys: Whether the call or its reply contains card keys. If so, no error shows the reply.
    """

    path: ClassVar[str]
    method: ClassVar[Literal["GET", "POST"]]
    on_cloud: ClassVar[bool]
    signed: ClassVar[tuple[str, ...]]
    repeatable: ClassVar[bool]
    carries_keys: ClassVar[bool]

    def fields(self) -> dict[str, str]:
        """The fields to send besides appkey and sign, with the vendor's names."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """The card keys among the fields, which no error may repeat."""
        ...

    def read(self, data: Any) -> T_co:
        """
        Read the ``data`` of a success.

        Raises:
            MisreadError: *data* has another structure.
        """
        ...


class Usual:
    """The base of the calls, with the values that most of them share."""

    __slots__ = ()

    method: ClassVar[Literal["GET", "POST"]] = "POST"
    on_cloud: ClassVar[bool] = False
    carries_keys: ClassVar[bool] = False

    def secrets(self) -> tuple[str, ...]:
        """Return no secrets."""
        return ()


def _as_pay_type(value: Any) -> PayType:
    try:
        return PayType(value)
    except ValueError:
        pass
    raise errors.InvalidRequestError(field="pay_type", problem=Problem("not_one_of", choices=", ".join(PayType)))


def _check_quantity(call: PayCreate, attribute: Any, value: int) -> None:
    """Require a whole number above 0, and 1 with WeChat."""
    checks.positive(call, attribute, value)
    if call.pay_type is PayType.WECHAT and value != 1:
        raise errors.InvalidRequestError(field=attribute.name, problem=Problem("wechat_single", count=value))


@frozen
class PayCreate(Usual):
    """支付接口, 创建支付订单: create an order."""

    path: ClassVar[str] = "pay/create"
    # Signature (签名信息算法):
    # md5(md5(appkey + product_id + product_num + pay_type + out_order_id + custom) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("product_id", "product_num", "pay_type", "out_order_id", "custom")
    # GatePay has no idempotency key. Sent twice, the call may create two orders.
    repeatable: ClassVar[bool] = False

    product_id: int = field(validator=checks.positive)
    out_order_id: str = field(validator=checks.order_number)
    pay_type: PayType = field(converter=_as_pay_type)
    product_num: int = field(validator=_check_quantity)
    custom: str = field(validator=checks.custom)

    def fields(self) -> dict[str, str]:
        """The fields in the order of the vendor's table."""
        return {
            "product_id": str(self.product_id),
            "out_order_id": self.out_order_id,
            "product_num": str(self.product_num),
            "pay_type": self.pay_type.value,
            "custom": self.custom,
        }

    def read(self, data: Any) -> Payment:
        """Read the fields of a success (返回结果表): order_type, order_price, order_url, order_qrcode."""
        return codec.read(Payment, data, path="data", out_order_id=self.out_order_id)


@frozen
class ProductShow(Usual):
    """产品接口, 获取产品信息: list the shop's products."""

    path: ClassVar[str] = "product/show"
    # Signature (签名信息算法): md5(md5(appkey) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ()
    repeatable: ClassVar[bool] = True

    def fields(self) -> dict[str, str]:
        """Return no fields."""
        return {}

    def read(self, data: Any) -> Catalog:
        """Read the reply of a success (返回结果表): data.category, with the products of each category."""
        return codec.read(Catalog, data, path="data")


@frozen
class KaShow(Usual):
    """卡密接口, 获取产品卡密: one page of a product's card keys."""

    path: ClassVar[str] = "ka/show"
    # Signature (签名信息算法): md5(md5(appkey + product_id) + appsecret): `page` is not signed.
    signed: ClassVar[tuple[str, ...]] = ("product_id",)
    repeatable: ClassVar[bool] = True
    carries_keys: ClassVar[bool] = True

    product_id: int = field(validator=checks.positive)
    page: int = field(default=1, validator=checks.positive)

    def fields(self) -> dict[str, str]:
        """The fields in the order of the vendor's table."""
        return {"product_id": str(self.product_id), "page": str(self.page)}

    def secrets(self) -> tuple[str, ...]:
        """Return no secrets: the fields hold none. The card keys are in the reply."""
        return ()

    def read(self, data: Any) -> CardKeyPage:
        """Read the reply of a success (返回结果表): data.ka, with the rows in data.ka.data."""
        reply = codec.as_object(data, path="data")
        if "ka" not in reply:
            raise MisreadError(Problem("missing"), path="data.ka")
        return codec.read(CardKeyPage, reply["ka"], path="data.ka")


@scrub_init_errors
@frozen
class KaCreate(Usual):
    """卡密接口, 创建产品卡密: store up to 500 card keys."""

    path: ClassVar[str] = "ka/create"
    # Signature (签名信息算法): md5(md5(appkey + product_id + content) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("product_id", "content")
    # The server keeps one copy of a card key, so sending it again stores nothing twice.
    repeatable: ClassVar[bool] = True
    carries_keys: ClassVar[bool] = True

    product_id: int = field(validator=checks.positive)
    keys: tuple[str, ...] = field(converter=checks.as_keys, validator=checks.card_keys, repr=checks.show_length)

    # 成功录入:1条卡密. This sentence is only in the vendor's example, so nothing depends on it.
    _sentence: ClassVar[re.Pattern[str]] = re.compile(r"成功录入\s*[:：]\s*([0-9]{1,9})\s*条(卡密)?")

    def fields(self) -> dict[str, str]:
        """``content`` has one card key on each line (一行一条记录), without a line feed at the end."""
        return {"product_id": str(self.product_id), "content": "\n".join(self.keys)}

    def secrets(self) -> tuple[str, ...]:
        """Every card key of the call."""
        return self.keys

    def read(self, data: Any) -> Stored:
        """Read the sentence. Even if it is unreadable, the call has succeeded and the card keys are stored."""
        sentence = data if isinstance(data, str) else ""
        match = self._sentence.search(sentence)
        stored = int(match[1]) if match else None
        if stored is not None and stored > len(self.keys):
            stored = None  # more than were sent: the number is wrong
        return Stored(stored, self._printable_sentence(sentence))

    def _printable_sentence(self, sentence: str) -> str:
        """Return *sentence*, masked if it isn't the documented one: another sentence might repeat a card key."""
        if self._sentence.fullmatch(sentence):
            return sentence
        return mask(sentence, keys=self.keys)
