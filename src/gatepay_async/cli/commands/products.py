"""``gatepay products`` and ``gatepay keys count``."""

from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import line, show, table
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import Status
from gatepay_async.protocol.models import Catalog, Product

Count = tuple[int, str, int | None, int]  # number, name, left to sell, on the server


async def listing() -> Status:
    """What the shop sells."""
    return _show_catalog(await _catalog())


def _show_catalog(catalog: Catalog) -> Status:
    if wants_json():
        names = ("id", "name", "description", "price", "stock", "category_id", "image")
        emit(products=[{name: getattr(product, name) for name in names} for product in catalog.products])
        return Status.DONE
    rows = table(*(say(f"products.{name}") for name in ("id", "category", "name", "price", "stock")), right=(0, 3, 4))
    for category in catalog.categories:
        for each in category.products:
            rows.add_row(str(each.id), plain(category.name), plain(each.name), f"{each.price:f}", f"{each.stock:,}")
    if rows.row_count:
        show(rows)
    else:
        line(say("products.none"))
    return Status.DONE


async def _catalog() -> Catalog:
    async with client() as gatepay:
        return await gatepay.list_products()


async def count(product_id: int | None) -> Status:
    """How many card keys are on the server, and how many of them are left to sell; of one product, or of each."""
    return _show_counts(await _counts(product_id))


def _show_counts(counts: list[Count]) -> Status:
    if wants_json():
        emit(
            counts=[
                {"product": number, "name": name, "stock": stock, "total": total}
                for number, name, stock, total in counts
            ]
        )
        return Status.DONE
    rows = table(*(say(f"products.{name}") for name in ("id", "name", "stock", "total")), right=(0, 2, 3))
    for number, name, stock, total in counts:
        rows.add_row(str(number), plain(name), "" if stock is None else f"{stock:,}", f"{total:,}")
    show(rows)
    return Status.DONE


async def _counts(product_id: int | None) -> list[Count]:
    """GatePay may count card keys of a product that it doesn't list."""
    async with client() as gatepay:
        products = {each.id: each for each in (await gatepay.list_products()).products}
        wanted = list(products) if product_id is None else [product_id]
        totals = {number: (await gatepay.list_card_keys(number)).total for number in wanted}
        return [_counted(number, products.get(number), total) for number, total in totals.items()]


def _counted(number: int, product: Product | None, total: int) -> Count:
    return (number, "", None, total) if product is None else (number, product.name, product.stock, total)
