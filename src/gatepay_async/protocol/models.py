"""The results that callers get: frozen attrs classes. Times are aware and in UTC, money is ``Decimal``."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import NewType

from attrs import field, frozen

from gatepay_async.protocol.checks import how_many


class PayType(StrEnum):
    """How the customer pays. The plain text (``"alipay"``) is accepted wherever this is."""

    WECHAT = "wechat"
    ALIPAY = "alipay"
    ONECODE = "onecode"


# The first bytes of an image, and the media type that they mean.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


@frozen
class QrCode:
    """
    The picture that the customer scans.

    Attributes:
        data: The image file's bytes.
        declared: The media type that GatePay's data URI gives.
    """

    data: bytes = field(repr=how_many)
    declared: str = field(default="image/png", repr=False)

    @property
    def media_type(self) -> str:
        """``image/png`` and so on, by the bytes themselves: the vendor's example declares JPEG and holds PNG."""
        if self.data[:4] == b"RIFF" and self.data[8:12] == b"WEBP":
            return "image/webp"
        return next((kind for start, kind in _SIGNATURES if self.data.startswith(start)), self.declared)

    @property
    def data_uri(self) -> str:
        """For an ``<img src=…>``, with the true media type."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"

    def save(self, path: str | PathLike[str]) -> Path:
        """
        Write the image to *path* (a few kB, at once), replacing what is there.

        Returns:
            *path*, as a ``Path``.

        Raises:
            OSError: It can't be written.
        """
        target = Path(path)
        target.write_bytes(self.data)
        return target


@frozen
class Payment:
    """
    An order that waits to be paid (支付接口, 返回结果表).

    Attributes:
        order_type: How it is to be paid, as GatePay says it.
        order_price: What the customer has to pay, in yuan, with exactly two decimals.
        order_url: The page where the customer pays.
        order_qrcode: A picture with the QR code of ``order_url``.
        out_order_id: Your order number, as sent.
    """

    order_type: str
    order_price: Decimal
    order_url: str
    order_qrcode: QrCode
    out_order_id: str


def _read_ampersands(url: str) -> str:
    # GatePay's pages show these URLs escaped for HTML in one place and not in another. `amp;type` is never a name.
    return url.replace("&amp;", "&")


@frozen
class PaymentLink:
    """
    Where a customer pays an order.

    Attributes:
        pay_url: The page where the customer pays. Send the browser there; its form may change, so don't take it apart.
        qrcode_url: The address of a picture with the QR code of ``pay_url``; empty where GatePay gives none.
        qrcode: The picture itself, or None where GatePay gives none.
        out_order_id: Your order number, as sent.
    """

    pay_url: str = field(converter=_read_ampersands)
    qrcode_url: str = field(converter=_read_ampersands)
    qrcode: QrCode | None
    out_order_id: str


@frozen
class OrderStatus:
    """
    What GatePay knows of an order.

    Attributes:
        order_id: GatePay's number.
        order_name: What is ordered, as GatePay says it; empty where it gives nothing.
        order_price: In yuan, with exactly two decimals.
        order_type: How it is to be paid, as GatePay says it.
        order_status: ``expired``, or another word: GatePay documents no others, so don't deliver because of one.
    """

    order_id: int
    order_name: str
    order_price: Decimal
    order_type: str
    order_status: str


@frozen
class Product:
    """
    One product (产品接口).

    Attributes:
        admin_id: The user who owns it.
        name: Empty where GatePay gives none, like ``description`` and ``image``.
        image: The address of a picture.
        price: In yuan, with exactly two decimals.
        stock: Card keys left to sell.
    """

    id: int
    admin_id: int
    category_id: int
    name: str
    description: str
    image: str
    price: Decimal
    stock: int


@frozen
class Category:
    """A category and its products, in GatePay's order."""

    id: int
    name: str
    products: tuple[Product, ...]


@frozen
class Catalog:
    """All that the shop sells (产品接口), in GatePay's order."""

    categories: tuple[Category, ...]

    @property
    def products(self) -> tuple[Product, ...]:
        """The products of all categories, in one tuple."""
        return tuple(product for category in self.categories for product in category.products)

    def product(self, id: int) -> Product:  # noqa: A002 -- the contract's and the vendor's name
        """
        The product with this number.

        Raises:
            KeyError: The shop has none.
        """
        for product in self.products:
            if product.id == id:
                return product
        raise KeyError(id)


Epoch = NewType("Epoch", int)  # seconds since 1970 that a datetime can hold


def _as_epoch(time: datetime | int) -> Epoch:
    return Epoch(int(time.timestamp()) if isinstance(time, datetime) else time)


@frozen
class CardKey:
    """
    One card key (卡密接口, 获取产品卡密).

    Attributes:
        admin_id: The user who owns it.
        pay_order_id: The order it was sold with; 0: not sold.
        content: The key itself, worth money: never in ``repr``.
        createtime: Epoch seconds, as GatePay sends them; ``created_at`` is the same as a time.
        updatetime: Likewise. The constructor takes either as ``created_at`` and ``updated_at``.
        status: ``soldin`` in the vendor's example. GatePay documents no other value, so this can be any text; empty
            where GatePay gives none.
    """

    id: int
    admin_id: int
    pay_product_id: int
    pay_order_id: int
    content: str = field(repr=False)
    createtime: Epoch = field(alias="created_at", converter=_as_epoch)
    updatetime: Epoch = field(alias="updated_at", converter=_as_epoch)
    status: str

    # Computed on access: most listings never need them, and a datetime costs more than the rest of a row.

    @property
    def created_at(self) -> datetime:
        """Aware, UTC."""
        return datetime.fromtimestamp(self.createtime, UTC)

    @property
    def updated_at(self) -> datetime:
        """Aware, UTC."""
        return datetime.fromtimestamp(self.updatetime, UTC)


@frozen
class CardKeyPage:
    """
    One page of a product's card keys, in ascending ``id``.

    Attributes:
        total: Card keys that the product has, on all pages.
        per_page: 50 in the vendor's example.
        current_page: From 1.
        last_page: The number of pages.
        keys: This page's.
    """

    total: int
    per_page: int
    current_page: int
    last_page: int
    keys: tuple[CardKey, ...]


@frozen
class Stored:
    """
    What ``ka/create`` did.

    Attributes:
        stored: How many of the card keys are new to the server. None where that isn't known: the
            sentence can't be read, or the call was retried and an earlier attempt may have stored them. All of them
            are on the server in any case.
        message: GatePay's sentence, ``成功录入:1条卡密`` (what it repeats of a card key is masked).
    """

    stored: int | None
    message: str


@frozen
class Callback:
    """
    A payment that a verified callback reports (支付成功回调接口).

    Attributes:
        order_id: GatePay's number; handle each one once.
        out_order_id: Your number. Look the order up by it and compare its price: see
            ``parse_callback``.
        price: The order's price.
        realprice: What the customer really paid. Can be less than ``price``: compare the two before you deliver.
        pay_type: ``wechat``, ``alipay`` or ``onecode``.
        paid_at: Aware, UTC.
        extend: What ``custom`` was.
    """

    order_id: int
    out_order_id: str
    price: Decimal
    realprice: Decimal
    pay_type: str
    paid_at: datetime
    extend: str


@frozen
class PaymentReturn:
    """
    What a customer's browser came back with. Never a proof of payment.

    Attributes:
        price: The order's price.
        pay_type: ``wechat``, ``alipay`` or ``onecode``.
        product_id: None where there is none.
        order_id: GatePay's number. A forger can move digits between it, ``product_id`` and ``out_order_id``.
        out_order_id: Your number: look up in your own record whether this order's callback has come.
    """

    price: Decimal
    pay_type: str
    product_id: int | None
    order_id: int
    out_order_id: str


@frozen
class CallbackReply:
    """
    What to answer GatePay, from ``CallbackApp.receive()``.

    Attributes:
        body: ``success`` or ``fail``; the whole body of your response, as ``text/plain``.
        status: The HTTP status: 200 with ``success``, 400 or 500 with ``fail``.
    """

    body: str
    status: int
