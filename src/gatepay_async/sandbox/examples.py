"""
The vendor's example shops, as its page prints them, and what fills a new database with them.

Shop one (admin 6) owns the three products of 产品接口's example, with as many unsold keys as their stock
says: 4, 1 and 89. Shop two (admin 3) is the owner in 卡密接口's example; its product 3 starts without keys,
so what is uploaded there is all that a walk gives back.
"""

import secrets
import sqlite3

from gatepay_async.sandbox.card_keys import add

__all__ = ["SHOP_ONE", "SHOP_TWO", "fill"]

SHOP_ONE = 6
SHOP_TWO = 3

_IMAGES = "https://gatepay.gatecdn.com/uploads/"

# id, admin_id, name. The page doesn't show shop two's category and product: names and price are ours.
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

_STOCK = {4: 4, 5: 1, 8: 89}


def fill(connection: sqlite3.Connection, *, keys: bool, now: int) -> None:
    """Write both shops, each with an appkey and appsecret made for this database, and their products."""
    for admin_id in (SHOP_ONE, SHOP_TWO):
        account = (secrets.token_hex(8), secrets.token_hex(16), admin_id)
        connection.execute("INSERT INTO account VALUES (?, ?, ?)", account)
        connection.execute("INSERT INTO shop (admin_id, token) VALUES (?, ?)", (admin_id, secrets.token_hex(8)))
    connection.executemany("INSERT INTO category VALUES (?, ?, ?)", _CATEGORIES)
    connection.executemany("INSERT INTO product VALUES (?, ?, ?, ?, ?, ?, ?)", _PRODUCTS)
    for product_id, stock in _STOCK.items() if keys else ():
        contents = [f"EXAMPLE-{product_id}-{number:03d}" for number in range(1, stock + 1)]
        add(connection, product_id, contents, now=now)
