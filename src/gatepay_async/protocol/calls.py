"""
One frozen class for each endpoint: its path, its fields, their signed order, and how to read what success carries. The
tables are the vendor's page (接口); a class that can't be right can't be built. What codes mean: ``catalogue``.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from attrs import field, frozen

from gatepay_async.protocol import checks, codec, errors
from gatepay_async.protocol.frames import sealed_init
from gatepay_async.protocol.masking import mask
from gatepay_async.protocol.models import CardKeyPage, Catalog, Payment, PayType, Stored
from gatepay_async.words.problem import Problem

T_co = TypeVar("T_co", covariant=True)


class Call(Protocol[T_co]):
    """
    What is known of a call, and how its reply is read.

    Attributes:
        path: After the base URL, ``"pay/create"``.
        method: ``"POST"``: the fields are a form; ``"GET"``: they are the query.
        on_cloud: Whether it goes to ``cloud_base_url`` instead of ``base_url``.
        signed: The fields that are signed, in this order, after the appkey.
        repeatable: Whether it may be sent again when it may have been carried out already.
        carries_keys: Whether card keys travel in it, either way: then no error may show the reply.
    """

    path: ClassVar[str]
    method: ClassVar[Literal["GET", "POST"]]
    on_cloud: ClassVar[bool]
    signed: ClassVar[tuple[str, ...]]
    repeatable: ClassVar[bool]
    carries_keys: ClassVar[bool]

    def fields(self) -> dict[str, str]:
        """What is sent besides appkey and sign, by the vendor's names."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """The card keys among it, which no error may repeat."""
        ...

    def read(self, data: Any) -> T_co:
        """
        Read the ``data`` of a success.

        Raises:
            MisreadError: It has another shape.
        """
        ...


class Usual:
    """What most calls have in common."""

    __slots__ = ()

    method: ClassVar[Literal["GET", "POST"]] = "POST"
    on_cloud: ClassVar[bool] = False
    carries_keys: ClassVar[bool] = False

    def secrets(self) -> tuple[str, ...]:
        """None."""
        return ()


def _as_pay_type(value: Any) -> PayType:
    try:
        return PayType(value)
    except ValueError:
        pass
    raise errors.InvalidRequestError(field="pay_type", problem=Problem("not_one_of", choices=", ".join(PayType)))


def _one_with_wechat(call: PayCreate, attribute: Any, value: int) -> None:
    if call.pay_type is PayType.WECHAT and value != 1:
        raise errors.InvalidRequestError(field=attribute.name, problem=Problem("wechat_single", count=value))


@frozen
class PayCreate(Usual):
    """支付接口, 创建支付订单: make an order."""

    path: ClassVar[str] = "pay/create"
    # 签名信息算法 is md5(md5(appkey + product_id + product_num + pay_type + out_order_id + custom) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("product_id", "product_num", "pay_type", "out_order_id", "custom")
    # The page knows no idempotency key and no query: sent twice, it may be two orders.
    repeatable: ClassVar[bool] = False

    product_id: int = field(validator=checks.positive)
    out_order_id: str = field(validator=checks.order_number)
    pay_type: PayType = field(converter=_as_pay_type)
    product_num: int = field(validator=[checks.positive, _one_with_wechat])
    custom: str = field(validator=checks.custom)

    def fields(self) -> dict[str, str]:
        """In the order of the vendor's table."""
        return {
            "product_id": str(self.product_id),
            "out_order_id": self.out_order_id,
            "product_num": str(self.product_num),
            "pay_type": self.pay_type.value,
            "custom": self.custom,
        }

    def read(self, data: Any) -> Payment:
        """返回结果表: order_type, order_price, order_url, order_qrcode."""
        return codec.read(Payment, data, path="data", out_order_id=self.out_order_id)


@frozen
class ProductShow(Usual):
    """产品接口, 获取产品信息: what the shop sells."""

    path: ClassVar[str] = "product/show"
    # 签名信息算法 is md5(md5(appkey) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ()
    repeatable: ClassVar[bool] = True

    def fields(self) -> dict[str, str]:
        """None."""
        return {}

    def read(self, data: Any) -> Catalog:
        """返回结果表: data.category, and in each its products."""
        return codec.read(Catalog, data, path="data")


@frozen
class KaShow(Usual):
    """卡密接口, 获取产品卡密: one page of a product's card keys."""

    path: ClassVar[str] = "ka/show"
    # 签名信息算法 is md5(md5(appkey + product_id) + appsecret): `page` is not signed..
    signed: ClassVar[tuple[str, ...]] = ("product_id",)
    repeatable: ClassVar[bool] = True
    carries_keys: ClassVar[bool] = True

    product_id: int = field(validator=checks.positive)
    page: int = field(default=1, validator=checks.positive)

    def fields(self) -> dict[str, str]:
        """In the order of the vendor's table."""
        return {"product_id": str(self.product_id), "page": str(self.page)}

    def secrets(self) -> tuple[str, ...]:
        """None: they are in the reply."""
        return ()

    def read(self, data: Any) -> CardKeyPage:
        """返回结果表: data.ka, and in it the rows as data.ka.data."""
        reply = codec.as_object(data, path="data")
        if "ka" not in reply:
            raise codec.MisreadError(Problem("missing"), path="data.ka")
        return codec.read(CardKeyPage, reply["ka"], path="data.ka")


@sealed_init
@frozen
class KaCreate(Usual):
    """卡密接口, 创建产品卡密: store up to 500 card keys."""

    path: ClassVar[str] = "ka/create"
    # 签名信息算法 is md5(md5(appkey + product_id + content) + appsecret).
    signed: ClassVar[tuple[str, ...]] = ("product_id", "content")
    # The server keeps one copy of a card key: sent again, it stores nothing twice.
    repeatable: ClassVar[bool] = True
    carries_keys: ClassVar[bool] = True

    product_id: int = field(validator=checks.positive)
    keys: tuple[str, ...] = field(converter=checks.as_keys, validator=checks.card_keys, repr=checks.how_many)

    # 成功录入:1条卡密. Only the example shows it, so nothing depends on its being readable.
    _sentence: ClassVar[re.Pattern[str]] = re.compile(r"成功录入\s*[:：]\s*([0-9]{1,9})\s*条(卡密)?")

    def fields(self) -> dict[str, str]:
        """``content`` is one card key a line (一行一条记录), joined by a line feed, none at the end."""
        return {"product_id": str(self.product_id), "content": "\n".join(self.keys)}

    def secrets(self) -> tuple[str, ...]:
        """Every card key of the call."""
        return self.keys

    def read(self, data: Any) -> Stored:
        """The sentence; whatever it is, the call was a success and the card keys are stored."""
        sentence = data if isinstance(data, str) else ""
        match = self._sentence.search(sentence)
        stored = int(match[1]) if match else None
        if stored is not None and stored > len(self.keys):
            stored = None  # a number that can't be true is none
        return Stored(stored, self._printable_sentence(sentence))

    def _printable_sentence(self, sentence: str) -> str:
        """The sentence, which may be printed; what is in no example may repeat a card key."""
        if self._sentence.fullmatch(sentence):
            return sentence
        return mask(sentence, keys=self.keys)
