"""
The vendor's example shops, as its page prints them. A new database contains them.

Shop one (admin 6) owns the three products of the example of 产品接口, with as many unsold card keys as their stock
there: 4, 1 and 89. Shop two (admin 3) is the owner in the example of 卡密接口. Its product 3 starts without card keys,
so that a listing shows exactly what was uploaded.
"""

import secrets
import sqlite3

from gatepay_async.sandbox.card_keys import add

__all__ = ["SHOP_ONE", "SHOP_TWO", "insert_examples"]

SHOP_ONE = 6
SHOP_TWO = 3

_IMAGES = "https://gatepay.gatecdn.com/uploads/"

# id, admin_id, name. The vendor's page doesn't show the category and product of shop two: we made up names and price.
_CATEGORIES = [
    (38, SHOP_TWO, "示例分类"),
    (39, SHOP_ONE, "爱奇艺会员"),
    (40, SHOP_ONE, "腾讯会员"),
]

# id, admin_id, category_id, name, description, image, price in fen
_PRODUCTS = [
    (3, SHOP_TWO, 38, "示例产品", "示例产品", f"{_IMAGES}example.png", 150),
    (
        4,
        SHOP_ONE,
        39,
        "爱奇艺牛逼号",
        "爱奇艺牛逼账号出售",
        f"{_IMAGES}20190414/51bf070aef0b51ea6c0597569a2a3f32.jpeg",
        100,
    ),
    (
        5,
        SHOP_ONE,
        40,
        "腾讯视频稳定号",
        "腾讯视频稳定号",
        f"{_IMAGES}20190414/98095a716fe1de7ca364fac50408a260.jpg",
        190,
    ),
    (
        8,
        SHOP_ONE,
        40,
        "腾讯视频SVIP账号",
        "超强，什么都能看",
        f"{_IMAGES}20190415/2d169ca784ebfef2bc97f204b18ad80f.png",
        99,
    ),
]

# The number of example card keys of each product.
_STOCK = {4: 4, 5: 1, 8: 89}


def insert_examples(connection: sqlite3.Connection, *, with_card_keys: bool, now: int) -> None:
    """Insert both shops with random credentials, and their products; with *with_card_keys*, also card keys."""
    for admin_id in (SHOP_ONE, SHOP_TWO):
        account = (secrets.token_hex(8), secrets.token_hex(16), admin_id)
        connection.execute("INSERT INTO account VALUES (?, ?, ?)", account)
        connection.execute("INSERT INTO shop (admin_id, token) VALUES (?, ?)", (admin_id, secrets.token_hex(8)))
    connection.executemany("INSERT INTO category VALUES (?, ?, ?)", _CATEGORIES)
    connection.executemany("INSERT INTO product VALUES (?, ?, ?, ?, ?, ?, ?)", _PRODUCTS)
    for product_id, stock in _STOCK.items() if with_card_keys else ():
        contents = [f"EXAMPLE-{product_id}-{number:03d}" for number in range(1, stock + 1)]
        add(connection, product_id, contents, now=now)
