"""
An order's price as the vendor's server writes it into its JSON: PHP's number.

PHP multiplies the product's price, which is text in its database, by the quantity as a float. PHP 7.1 and later write
the shortest text that reads back as that float (``5.699999999999999`` for 3 × 1.90), earlier ones 17 digits
(``5.6999999999999993``). A whole sum is ``1``, never ``1.0``.
"""

from decimal import Decimal

from gatepay_async.sandbox.options import PhpFloats

__all__ = ["written"]


def written(price: int, number: int, php_floats: PhpFloats | None) -> str:
    """
    Write what *number* pieces come to.

    Args:
        price: Of one piece, in fen.
        number: How many.
        php_floats: How PHP's product is written; None: the exact sum.

    Returns:
        A number in JSON, in yuan.
    """
    if php_floats is None:
        exact = Decimal(price * number).scaleb(-2)
        return f"{exact:f}".rstrip("0").rstrip(".")
    product = float(str(Decimal(price).scaleb(-2))) * number
    if product.is_integer():
        return str(int(product))
    return repr(product) if php_floats == "shortest" else format(product, ".17g")
