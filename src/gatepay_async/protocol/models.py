"""The results that callers get: frozen attrs classes. Times are ``datetime`` in UTC, money is ``Decimal``."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import NewType

from attrs import field, frozen

from gatepay_async.protocol.checks import show_length


class PayType(StrEnum):
    """How the customer pays. A plain text such as ``"alipay"`` is accepted, too."""

    WECHAT = "wechat"
    ALIPAY = "alipay"
    ONECODE = "onecode"


# The first bytes of image files, and their media types.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


@frozen
class QrCode:
    """
    The picture of a QR code that the customer scans.

    Attributes:
        data: The bytes of the image file.
        declared: The media type in GatePay's data URI, which may be wrong: see ``media_type``.
    """

    data: bytes = field(repr=show_length)
    declared: str = field(default="image/png", repr=False)

    @property
    def media_type(self) -> str:
        """The media type, such as ``image/png``, from the bytes: the vendor's example declares JPEG and holds PNG."""
        if self.data[:4] == b"RIFF" and self.data[8:12] == b"WEBP":
            return "image/webp"
        return next((kind for start, kind in _SIGNATURES if self.data.startswith(start)), self.declared)

    @property
    def data_uri(self) -> str:
        """The picture as a data URI for ``<img src=…>``, with the right media type."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"

    def save(self, path: str | PathLike[str]) -> Path:
        """
        Write the image (a few kB) to *path*. An existing file is replaced.

        Returns:
            *path* as a ``Path``.

        Raises:
            OSError: The file can't be written.
        """
        target = Path(path)
        target.write_bytes(self.data)
        return target


@frozen
class Payment:
    """
    A new order that the customer can pay (支付接口, 返回结果表).

    Attributes:
        order_type: The payment type in GatePay's reply.
        order_price: The amount to pay, in yuan, with exactly two decimals.
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
    # In GatePay's examples, some of these URLs are HTML-escaped. No parameter is really called `amp;type`.
    return url.replace("&amp;", "&")


@frozen
class PaymentLink:
    """
    The page on which a customer pays an order.

    Attributes:
        pay_url: The page where the customer pays. Send the browser there. Don't parse the URL: its form may change.
        qrcode_url: The URL of a picture with the QR code of ``pay_url``; empty: the reply has none.
        qrcode: The picture itself; None: the reply has none.
        out_order_id: Your order number, as sent.
    """

    pay_url: str = field(converter=_read_ampersands)
    qrcode_url: str = field(converter=_read_ampersands)
    qrcode: QrCode | None
    out_order_id: str


@frozen
class OrderStatus:
    """
    The status of an order at GatePay.

    Attributes:
        order_id: GatePay's number of the order.
        order_name: The name of what is ordered; empty: the reply has none.
        order_price: The price, in yuan, with exactly two decimals.
        order_type: The payment type in GatePay's reply.
        order_status: ``expired`` or another word. GatePay documents no others, so don't deliver because of this status.
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
        id: The number of the product.
        admin_id: The number of its owner.
        category_id: The number of its category.
        name: The name; like ``description`` and ``image``, it is empty if the reply has none.
        description: The description.
        image: The URL of a picture.
        price: In yuan, with exactly two decimals.
        stock: The number of unsold card keys.
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
    """All products of the shop (产品接口), in GatePay's order."""

    categories: tuple[Category, ...]

    @property
    def products(self) -> tuple[Product, ...]:
        """The products of all categories, in one tuple."""
        return tuple(product for category in self.categories for product in category.products)

    def product(self, id: int) -> Product:  # noqa: A002 -- the contract's and the vendor's name
        """
        Return the product with this number.

        Raises:
            KeyError: The shop has no such product.
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
        id: The number of the card key, unique and ascending.
        admin_id: The number of its owner.
        pay_product_id: The product that it belongs to.
        pay_order_id: The order with which it was sold; 0: it is unsold.
        content: The card key itself. It is worth money, and never in ``repr``.
        createtime: When it was created, in epoch seconds. ``created_at`` is the same as a ``datetime``.
        updatetime: When it was last changed, in epoch seconds. ``updated_at`` is the same as a ``datetime``. The
            constructor's parameters are ``created_at`` and ``updated_at``, which take either form.
        status: ``soldin`` in the vendor's example. GatePay documents no other value, so this can be any text; empty:
            the reply has none.
    """

    id: int
    admin_id: int
    pay_product_id: int
    pay_order_id: int
    content: str = field(repr=False)
    createtime: Epoch = field(alias="created_at", converter=_as_epoch)
    updatetime: Epoch = field(alias="updated_at", converter=_as_epoch)
    status: str

    # These are computed on access: most programs don't need them, and creating a datetime costs more than the rest.

    @property
    def created_at(self) -> datetime:
        """When the card key was created, in UTC."""
        return datetime.fromtimestamp(self.createtime, UTC)

    @property
    def updated_at(self) -> datetime:
        """When the card key was last changed, in UTC."""
        return datetime.fromtimestamp(self.updatetime, UTC)


@frozen
class CardKeyPage:
    """
    One page of a product's card keys, in ascending ``id``.

    Attributes:
        total: The number of the product's card keys on all pages.
        per_page: The page size, 50 in the vendor's example.
        current_page: The number of this page, from 1.
        last_page: The number of pages.
        keys: The card keys on this page.
    """

    total: int
    per_page: int
    current_page: int
    last_page: int
    keys: tuple[CardKey, ...]


@frozen
class Stored:
    """
    The result of ``ka/create``. All card keys of the call are on the server.

    Attributes:
        stored: How many of the card keys are new to the server. None: that isn't known, because the sentence can't be
            read, or because the call was retried and an earlier attempt may have stored them.
        message: GatePay's sentence, such as ``成功录入:1条卡密``. Card keys in it are masked.
    """

    stored: int | None
    message: str


@frozen
class Callback:
    """
    A payment that a verified callback reports (支付成功回调接口).

    Attributes:
        order_id: GatePay's number of the order. Handle each one once.
        out_order_id: Your order number. Look the order up by it, and compare its price: see ``parse_callback``.
        price: The price of the order.
        realprice: The amount that the customer has paid. It can be less than ``price``: compare the two before you
            deliver.
        pay_type: ``wechat``, ``alipay`` or ``onecode``.
        paid_at: When the customer paid, in UTC.
        extend: The ``custom`` text of the order.
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
    The query with which the customer's browser opens your return URL. It doesn't prove a payment.

    Attributes:
        price: The price of the order.
        pay_type: ``wechat``, ``alipay`` or ``onecode``.
        product_id: The product; None: the query has none.
        order_id: GatePay's number of the order. A forger can move digits between it, ``product_id`` and
            ``out_order_id``.
        out_order_id: Your order number. Look up in your own record whether the callback of this order has arrived.
    """

    price: Decimal
    pay_type: str
    product_id: int | None
    order_id: int
    out_order_id: str


@frozen
class CallbackReply:
    """
    The response to send to GatePay, from ``CallbackApp.receive()``.

    Attributes:
        body: ``success`` or ``fail``: the whole body, as ``text/plain``.
        status: The HTTP status: 200 with ``success``, 400 or 500 with ``fail``.
    """

    body: str
    status: int
