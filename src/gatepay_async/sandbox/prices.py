"""
Formats an order's price as the vendor's PHP server writes it into JSON.

The product's price is text in the vendor's database, and PHP multiplies it by the quantity as a float. PHP 7.1 and
later write the shortest text that parses to the same float (``5.699999999999999`` for 3 × 1.90). Earlier versions write
17 digits (``5.6999999999999993``). A whole price is ``1``, never ``1.0``.
"""

from decimal import Decimal

from gatepay_async.sandbox.options import PhpFloats

__all__ = ["format_price"]


def format_price(price: int, quantity: int, php_floats: PhpFloats | None) -> str:
    """
    Format the price of *quantity* pieces.

    Args:
        price: The price of one piece, in fen.
        quantity: The number of pieces.
        php_floats: Which version of PHP to imitate; None: write the exact price.

    Returns:
        A JSON number, in yuan.
    """
    if php_floats is None:
        exact = Decimal(price * quantity).scaleb(-2)
        return f"{exact:f}".rstrip("0").rstrip(".")
    product = float(str(Decimal(price).scaleb(-2))) * quantity
    if product.is_integer():
        return str(int(product))
    return repr(product) if php_floats == "shortest" else format(product, ".17g")
