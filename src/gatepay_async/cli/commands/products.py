"""``gatepay products``: lists the products or watches their stock. ``gatepay keys count``: counts card keys."""

import math
from datetime import datetime
from typing import NoReturn

from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import print_line, print_list, table
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import Status
from gatepay_async.protocol.models import Catalog, Product

# A product's ID, its name, the number of its unsold card keys, and the number of all its card keys.
Count = tuple[int, str, int | None, int]


async def list_products(below: int | None) -> Status:
    """Print the shop's products. With *below*, print only those with a lower stock."""
    max_stock = math.inf if below is None else below - 1
    return _print_catalog(await _fetch_catalog(), max_stock)


def _print_catalog(catalog: Catalog, max_stock: float) -> Status:
    listed = [product for product in catalog.products if product.stock <= max_stock]
    if wants_json():
        names = ("id", "name", "description", "price", "stock", "category_id", "image")
        print_json(products=[{name: getattr(product, name) for name in names} for product in listed])
        return Status.DONE
    rows = table(
        *(text(f"products.{name}") for name in ("id", "category", "name", "price", "stock")), number_columns=(0, 3, 4)
    )
    for category in catalog.categories:
        for product in filter(listed.__contains__, category.products):
            rows.add_row(
                str(product.id), escape(category.name), escape(product.name), f"{product.price:f}", f"{product.stock:,}"
            )
    if rows.row_count:
        print_list(rows)
    else:
        print_line(text("products.none" if not catalog.products else "products.none_low"))
    return Status.DONE


async def watch_stock(below: int, every: float) -> NoReturn:
    """Print a line for each product whose stock falls below *below*, until Ctrl-C."""
    async with client() as gatepay:
        if not wants_json():
            print_line(text("products.watching", below=below))
        alerts = gatepay.watch_stock(below=below, every=every)
        while True:
            product = (await anext(alerts)).product
            now = datetime.now().astimezone()
            if wants_json():
                print_json(at=now.isoformat(timespec="seconds"), id=product.id, name=product.name, stock=product.stock)
            else:
                values = {"product_id": product.id, "name": escape(product.name), "stock": f"{product.stock:,}"}
                print_line(f"{now:%H:%M:%S} {text('products.low', **values)}", style="yellow")


async def _fetch_catalog() -> Catalog:
    async with client() as gatepay:
        return await gatepay.list_products()


async def count_keys(product_id: int | None) -> Status:
    """Print how many card keys of one product, or of each, are on the server and how many are still unsold."""
    return _print_counts(await _fetch_counts(product_id))


def _print_counts(counts: list[Count]) -> Status:
    if wants_json():
        print_json(
            counts=[
                {"product": product_id, "name": name, "stock": stock, "total": total}
                for product_id, name, stock, total in counts
            ]
        )
        return Status.DONE
    rows = table(*(text(f"products.{name}") for name in ("id", "name", "stock", "total")), number_columns=(0, 2, 3))
    for product_id, name, stock, total in counts:
        rows.add_row(str(product_id), escape(name), "" if stock is None else f"{stock:,}", f"{total:,}")
    print_list(rows)
    return Status.DONE


async def _fetch_counts(product_id: int | None) -> list[Count]:
    """Count the card keys, also those of a product that GatePay doesn't list."""
    async with client() as gatepay:
        products = {product.id: product for product in (await gatepay.list_products()).products}
        product_ids = list(products) if product_id is None else [product_id]
        totals = {current_id: (await gatepay.list_card_keys(current_id)).total for current_id in product_ids}
        return [_count_row(current_id, products.get(current_id), total) for current_id, total in totals.items()]


def _count_row(product_id: int, product: Product | None, total: int) -> Count:
    return (product_id, "", None, total) if product is None else (product_id, product.name, product.stock, total)
