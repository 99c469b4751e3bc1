"""Shops, their accounts and products in the database; every function works in its caller's transaction."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from attrs import field, frozen

__all__ = [
    "Account",
    "Product",
    "ProductStock",
    "ShopAccount",
    "ShopState",
    "account_of",
    "accounts",
    "find_account",
    "find_product",
    "find_shop",
    "list_categories",
    "list_stock",
    "remove_shop",
    "write_shop",
]


class ShopAccount(NamedTuple):
    """A shop's pair of keys; the secret is not in its ``repr``."""

    appkey: str
    appsecret: str

    def __repr__(self) -> str:
        return f"ShopAccount(appkey={self.appkey!r}, appsecret=…)"


@frozen(kw_only=True)
class Account:
    """Who an appkey belongs to; stays when the shop is removed."""

    keys: ShopAccount
    admin_id: int


@frozen(kw_only=True)
class ShopState:
    """
    What can be switched at a shop.

    Attributes:
        admin_id: The owner's number.
        closed: Whether ``ka/show``, ``ka/create`` and the later endpoints answer 107.
        quota: What may be ordered in one day, in yuan; None: any amount.
        licence_until: From then on ``pay/create`` answers 112, the later endpoints 103; aware; None: never.
        callback_url: Where a paid order is told of (支付成功回调URL); None: nowhere.
        return_url: Where the customer goes back to after a payment that the shop has accepted; None: nowhere.
        expired_url: Where the customer goes when the order has expired; None: nowhere.
        token: What the quick-pay link carries; None: the shop has no such page.
        closed_pay_types: Ways to pay that the later endpoints refuse: ``wechat``, ``alipay``.
        agent: Whether ``cloudpay/create`` is allowed; False: it answers 209.
    """

    admin_id: int
    closed: bool
    quota: Decimal | None
    licence_until: datetime | None
    callback_url: str | None = None
    return_url: str | None = None
    expired_url: str | None = None
    token: str | None = field(default=None, repr=False)
    closed_pay_types: frozenset[str] = frozenset()
    agent: bool = True


@frozen(kw_only=True)
class Product:
    """A product as an order needs it; ``price`` in fen."""

    id: int
    name: str
    price: int


@frozen(kw_only=True)
class ProductStock:
    """A product with its card keys counted by state; ``price`` in yuan."""

    id: int
    name: str
    price: Decimal
    unsold: int
    sold: int


def accounts(connection: sqlite3.Connection) -> list[Account]:
    """List all accounts in the order they were made."""
    return [_account(row) for row in connection.execute("SELECT * FROM account ORDER BY rowid")]


def find_account(connection: sqlite3.Connection, appkey: str) -> Account | None:
    """Find the account of *appkey*."""
    row = connection.execute("SELECT * FROM account WHERE appkey = ?", (appkey,)).fetchone()
    return None if row is None else _account(row)


def account_of(connection: sqlite3.Connection, admin_id: int) -> Account:
    """Give the account of an owner; whoever sells has one."""
    return _account(connection.execute("SELECT * FROM account WHERE admin_id = ?", (admin_id,)).fetchone())


def _account(row: sqlite3.Row) -> Account:
    return Account(keys=ShopAccount(row["appkey"], row["appsecret"]), admin_id=row["admin_id"])


def find_shop(connection: sqlite3.Connection, admin_id: int) -> ShopState | None:
    """Find the owner's shop; None once it is removed."""
    row = connection.execute("SELECT * FROM shop WHERE admin_id = ?", (admin_id,)).fetchone()
    return None if row is None else _shop_state(row)


def _shop_state(row: sqlite3.Row) -> ShopState:
    quota, until = row["quota"], row["licence_until"]
    return ShopState(
        admin_id=row["admin_id"],
        closed=bool(row["closed"]),
        quota=None if quota is None else Decimal(quota) / 100,
        licence_until=None if until is None else datetime.fromtimestamp(until, UTC),
        callback_url=row["callback_url"],
        return_url=row["return_url"],
        expired_url=row["expired_url"],
        token=row["token"],
        closed_pay_types=frozenset(row["closed_pay_types"].split()),
        agent=bool(row["agent"]),
    )


def write_shop(connection: sqlite3.Connection, state: ShopState) -> None:
    """Write *state* over what the shop had; makes the shop again if it was removed. Whole seconds and fen."""
    quota = None if state.quota is None else int(state.quota * 100)
    until = None if state.licence_until is None else int(state.licence_until.timestamp())
    connection.execute(
        "INSERT OR REPLACE INTO shop (admin_id, closed, quota, licence_until, callback_url, return_url, expired_url,"
        " token, closed_pay_types, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(state.admin_id, state.closed, quota, until, state.callback_url, state.return_url, state.expired_url),
            *(state.token, " ".join(sorted(state.closed_pay_types)), state.agent),
        ),
    )


def remove_shop(connection: sqlite3.Connection, admin_id: int) -> None:
    """Remove the shop; its account, products and orders stay, as rows without a shop."""
    connection.execute("DELETE FROM shop WHERE admin_id = ?", (admin_id,))


def find_product(connection: sqlite3.Connection, admin_id: int, product_id: int) -> Product | None:
    """Find a product among the owner's; another shop's is not found."""
    row = connection.execute(
        "SELECT id, name, price FROM product WHERE id = ? AND admin_id = ?", (product_id, admin_id)
    ).fetchone()
    return None if row is None else Product(id=row["id"], name=row["name"], price=row["price"])


_STOCK_QUERY = """
SELECT product.id, product.name, product.price,
    (SELECT count(*) FROM card_key WHERE card_key.product_id = product.id AND card_key.order_id = 0) AS unsold,
    (SELECT count(*) FROM card_key WHERE card_key.product_id = product.id AND card_key.order_id <> 0) AS sold
FROM product WHERE product.admin_id = ? ORDER BY product.id
"""


def list_stock(connection: sqlite3.Connection, admin_id: int) -> list[ProductStock]:
    """List the owner's products, with their card keys counted by state."""
    return [
        ProductStock(
            id=row["id"],
            name=row["name"],
            price=Decimal(row["price"]).scaleb(-2),
            unsold=row["unsold"],
            sold=row["sold"],
        )
        for row in connection.execute(_STOCK_QUERY, (admin_id,))
    ]


_CATALOG_QUERY = """
SELECT category.name AS category_name, product.*,
    (SELECT count(*) FROM card_key WHERE card_key.product_id = product.id AND card_key.order_id = 0) AS stock
FROM product JOIN category ON category.id = product.category_id JOIN shop ON shop.admin_id = product.admin_id
WHERE product.admin_id = ? ORDER BY category.id, product.id
"""


def list_categories(connection: sqlite3.Connection, admin_id: int) -> list[dict[str, object]]:
    """List the owner's categories and products in 产品接口's shape; none without a shop."""
    categories: dict[int, dict[str, object]] = {}
    products: dict[int, list[dict[str, object]]] = {}
    for row in connection.execute(_CATALOG_QUERY, (admin_id,)):
        within = products.setdefault(row["category_id"], [])
        within.append(_product_shown(row))
        categories[row["category_id"]] = {
            "id": row["category_id"],
            "name": row["category_name"],
            "product": within,
        }
    return list(categories.values())


_PRODUCT_FIELDS = ("id", "admin_id", "category_id", "name", "description", "image", "price", "stock")


def _product_shown(row: sqlite3.Row) -> dict[str, object]:
    # A product's price is text with two decimals, "1.00"; an order's is a number.
    shown: dict[str, object] = {name: row[name] for name in _PRODUCT_FIELDS}
    return shown | {"price": str(Decimal(row["price"]).scaleb(-2))}
