"""Shops, accounts and products in the database. Every function runs in the transaction of its caller."""

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
    "has_product",
    "list_categories",
    "list_stock",
    "remove_shop",
    "write_shop",
]


class ShopAccount(NamedTuple):
    """A shop's appkey and appsecret. The appsecret is not in the ``repr``."""

    appkey: str
    appsecret: str

    def __repr__(self) -> str:
        return f"ShopAccount(appkey={self.appkey!r}, appsecret=…)"


@frozen(kw_only=True)
class Account:
    """An appkey, its appsecret, and the number of their owner. The account stays when the owner's shop is removed."""

    credentials: ShopAccount
    admin_id: int


@frozen(kw_only=True)
class ShopState:
    """
    The settings of a shop. ``Sandbox.change_shop`` explains them in more detail.

    Attributes:
        admin_id: The number of the owner.
        closed: Whether ``ka/show``, ``ka/create`` and the later endpoints return 107.
        quota: The limit for the orders of one day, in yuan; None: no limit.
        licence_until: From then on, ``pay/create`` returns 112, and the later endpoints 103; None: never.
        callback_url: The callback URL (支付成功回调URL); None: no callbacks.
        return_url: Where the customer's browser goes after the shop has answered ``success``; None: nowhere.
        expired_url: Where the customer's browser goes after the order has expired; None: nowhere.
        token: The token of the quick-pay link; None: the shop has no quick-pay page.
        closed_pay_types: The payment types that the later endpoints refuse: ``wechat``, ``alipay``.
        agent: Whether ``cloudpay/create`` is allowed; False: it returns 209.
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
    """The facts about a product that an order needs. ``price`` is in fen."""

    id: int
    name: str
    price: int


@frozen(kw_only=True)
class ProductStock:
    """A product, and how many of its card keys are unsold and sold. ``price`` is in yuan."""

    id: int
    name: str
    price: Decimal
    unsold: int
    sold: int


def accounts(connection: sqlite3.Connection) -> list[Account]:
    """List all accounts in the order in which they were created."""
    return [_account(row) for row in connection.execute("SELECT * FROM account ORDER BY rowid")]


def find_account(connection: sqlite3.Connection, appkey: str) -> Account | None:
    """Return the account of *appkey*, or None."""
    row = connection.execute("SELECT * FROM account WHERE appkey = ?", (appkey,)).fetchone()
    return None if row is None else _account(row)


def account_of(connection: sqlite3.Connection, admin_id: int) -> Account:
    """Return the account of an owner, which must exist."""
    return _account(connection.execute("SELECT * FROM account WHERE admin_id = ?", (admin_id,)).fetchone())


def _account(row: sqlite3.Row) -> Account:
    return Account(credentials=ShopAccount(row["appkey"], row["appsecret"]), admin_id=row["admin_id"])


def find_shop(connection: sqlite3.Connection, admin_id: int) -> ShopState | None:
    """Return the owner's shop; None: it was removed."""
    row = connection.execute("SELECT * FROM shop WHERE admin_id = ?", (admin_id,)).fetchone()
    return None if row is None else _shop_state(row)


def _shop_state(row: sqlite3.Row) -> ShopState:
    """Convert a row of ``shop``, which has money in fen and times in epoch seconds."""
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
    """Store *state*, in whole seconds and fen. If the shop was removed, create it again."""
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
    """Remove the shop. Its account, products and orders stay in the database."""
    connection.execute("DELETE FROM shop WHERE admin_id = ?", (admin_id,))


def find_product(connection: sqlite3.Connection, admin_id: int, product_id: int) -> Product | None:
    """Return the owner's product with that id; None: it doesn't exist, or belongs to another shop."""
    row = connection.execute(
        "SELECT id, name, price FROM product WHERE id = ? AND admin_id = ?", (product_id, admin_id)
    ).fetchone()
    return None if row is None else Product(id=row["id"], name=row["name"], price=row["price"])


def has_product(connection: sqlite3.Connection, product_id: int) -> bool:
    """Whether a shop has a product with that id."""
    return connection.execute("SELECT 1 FROM product WHERE id = ?", (product_id,)).fetchone() is not None


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
    """List the owner's categories and products in the format of ``product/show``; none if the shop was removed."""
    categories: dict[int, dict[str, object]] = {}
    products: dict[int, list[dict[str, object]]] = {}
    for row in connection.execute(_CATALOG_QUERY, (admin_id,)):
        category_products = products.setdefault(row["category_id"], [])
        category_products.append(_product_as_json(row))
        categories[row["category_id"]] = {
            "id": row["category_id"],
            "name": row["category_name"],
            "product": category_products,
        }
    return list(categories.values())


_PRODUCT_FIELDS = ("id", "admin_id", "category_id", "name", "description", "image", "price", "stock")


def _product_as_json(row: sqlite3.Row) -> dict[str, object]:
    # GatePay writes a product's price as text with two decimals, "1.00", but an order's price as a number.
    fields: dict[str, object] = {name: row[name] for name in _PRODUCT_FIELDS}
    return fields | {"price": str(Decimal(row["price"]).scaleb(-2))}
