"""Finds products whose stock has fallen below a limit: catalogs in, alerts out. No I/O; doesn't read the clock."""

from __future__ import annotations

from attrs import frozen

from gatepay_async.protocol.models import Catalog, Product


@frozen
class StockAlert:
    """
    A product's stock has fallen below a limit.

    Attributes:
        product: As GatePay lists it now.
        below: The limit.
    """

    product: Product
    below: int


class StockLevels:
    """
    Compares each catalog with the one before.

    Args:
        below: The limit. A product is low if its stock is below it.
    """

    def __init__(self, below: int) -> None:
        self._below = below
        self._low_ids: set[int] = set()

    def new_alerts(self, catalog: Catalog) -> list[StockAlert]:
        """
        Return an alert for each product that is low now and was not low in the previous catalog.

        A product that is no longer listed, or was restocked, counts as not low: it gives an alert when it is low again.
        """
        low = {product.id: product for product in catalog.products if product.stock < self._below}
        newly_low = [product for product_id, product in low.items() if product_id not in self._low_ids]
        self._low_ids = set(low)
        return [StockAlert(product, self._below) for product in newly_low]
