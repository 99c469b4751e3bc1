"""Checks of fields before they are sent: attrs validators that raise ``InvalidRequestError``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sized
from contextlib import suppress
from typing import Any, cast

from attrs import frozen

from gatepay_async.protocol import invisible
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

MAX_KEYS_PER_CALL = 500  # ka/create: 最多支持500条
# In UTF-8. A callback returns both texts in its query, where each byte may take three (%E4). If the query were longer
# than parse_callback() accepts, the order could be paid but not delivered. `protocol.callback` shows the sum.
MAX_ORDER_NUMBER_BYTES, MAX_CUSTOM_BYTES = 255, 2000
_MAX_INT64 = 2**63 - 1  # the largest integer of most databases
MAX_PRODUCTS_PER_ORDER = 100  # GatePay's limit isn't known; so many make a field of at most 4 kB
# The characters that PHP's trim() removes from both ends. GatePay's framework applies it to each card key.
_TRIMMED_FROM_KEYS = " \t\n\r\0\x0b"
_VISIBLE_ASCII = bytes(range(0x21, 0x7F))


class CheckedKeys(tuple[str, ...]):
    """Card keys that are known to be valid, different and at most 500: ``card_keys`` doesn't check them again."""

    __slots__ = ()


@frozen
class _Field:
    """Stands for an attrs attribute when the parameter of a function is checked. A validator reads only its name."""

    name: str


def check(name: str, value: object, rule: Any) -> None:
    """Check the parameter *name* of a function with *rule*, a validator for attrs fields."""
    rule(None, _Field(name), value)


def check_instance(name: str, value: object, *kinds: type) -> None:
    """Require that the parameter *name* of a function is an instance of one of *kinds*, or None."""
    if value is not None and not isinstance(value, kinds):
        problem = Problem("not_instance", wanted=kinds[0].__name__, kind=type(value).__name__)
        raise InvalidRequestError(field=name, problem=problem)


def check_members(name: str, value: object, protocol: str, members: tuple[str, ...]) -> None:
    """
    Require that the parameter *name* of a function is an object with certain methods and attributes.

    Unlike ``isinstance`` with a protocol, this accepts an object that delegates to another one.

    Args:
        name: The name of the parameter, for the error.
        value: The argument.
        protocol: The name of the protocol that *value* should implement, for the error.
        members: The names of the methods and attributes.
    """
    missing = [member for member in members if isinstance(value, type) or not hasattr(value, member)]
    if missing:
        problem = Problem("lacks_members", wanted=protocol, kind=type(value).__name__, missing=", ".join(missing))
        raise InvalidRequestError(field=name, problem=problem)


def positive(_: object, attribute: Any, value: Any) -> None:
    """Require a whole number above 0. ``True`` is refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(field=attribute.name, problem=Problem("not_whole", kind=type(value).__name__))
    if not 0 < value <= _MAX_INT64:
        raise InvalidRequestError(field=attribute.name, problem=Problem("out_of_range"))


def concurrency(_: object, attribute: Any, value: Any) -> None:
    """Require a whole number above 0, or ``"auto"``."""
    if isinstance(value, str) and value != "auto":
        raise InvalidRequestError(field=attribute.name, problem=Problem("not_auto"))
    if value != "auto":
        positive(None, attribute, value)


@frozen
class TextCheck:
    """
    Requires a text that isn't blank, can be encoded in UTF-8, and has at most ``max_bytes`` bytes in UTF-8.

    Attributes:
        max_bytes: The largest number of bytes.
    """

    max_bytes: float = math.inf

    def __call__(self, _: object, attribute: Any, value: Any) -> None:
        """Check *value*."""
        if not isinstance(value, str):
            problem = Problem("not_text", kind=type(value).__name__)
        elif not value.strip():
            problem = Problem("empty")
        elif not value.isascii() and not is_utf8(value):
            problem = Problem("lone_surrogate")
        elif (size := len(value.encode())) > self.max_bytes:
            problem = Problem("too_many_bytes", size=size, most=self.max_bytes)
        else:
            return
        raise InvalidRequestError(field=attribute.name, problem=problem)


text = TextCheck()
order_number = TextCheck(MAX_ORDER_NUMBER_BYTES)  # the callback returns it as `out_order_id`
custom = TextCheck(MAX_CUSTOM_BYTES)  # the callback returns it as `extend`


def order_items(_: object, attribute: Any, items: tuple[Any, ...]) -> None:
    """Require pairs of product and quantity, with no product twice."""
    if not items:
        raise InvalidRequestError(field=attribute.name, problem=Problem("no_items"))
    if len(items) > MAX_PRODUCTS_PER_ORDER:
        problem = Problem("too_many_items", count=len(items), most=MAX_PRODUCTS_PER_ORDER)
        raise InvalidRequestError(field=attribute.name, problem=problem)
    seen: set[int] = set()
    for product_id, count in items:
        positive(None, attribute, product_id)
        positive(None, attribute, count)
        if product_id in seen:
            raise InvalidRequestError(field=attribute.name, problem=Problem("item_twice", product=product_id))
        seen.add(product_id)


def token(instance: object, attribute: Any, value: Any) -> None:
    """Require an appkey or appsecret without invisible characters. ``cleaned`` strips both ends before this check."""
    text(instance, attribute, value)
    hidden = invisible.first_code_point(value)
    if hidden is not None:
        # The error doesn't say where the character is, because that would reveal something about the secret.
        problem = Problem("invisible_character", code=hidden)
        raise InvalidRequestError(field=attribute.name, problem=problem)


def cleaned(value: object) -> Any:
    """Strip blanks and invisible characters (a file's line break, a byte-order mark) if *value* is text."""
    return invisible.strip(value) if isinstance(value, str) else value


def not_negative(_: object, attribute: Any, value: Any) -> None:
    """Require a number that is not below 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InvalidRequestError(field=attribute.name, problem=Problem("number_from_0"))


def key_problem(key: object) -> Problem | None:
    """Return why *key* can't be sent as a card key, or None. The problem never repeats the key."""
    if not isinstance(key, str):
        return Problem("not_text", kind=type(key).__name__)
    if not key.strip():
        return Problem("blank")
    if "\n" in key or "\r" in key:
        return Problem("line_break")
    if "\0" in key:
        return Problem("nul")
    if not is_utf8(key):
        return Problem("not_utf8")
    return None


def card_keys(_: object, attribute: Any, keys: tuple[Any, ...]) -> None:
    """Require 1 to 500 different card keys without line breaks. Blanks at the ends don't make a card key different."""
    if isinstance(keys, CheckedKeys):
        return
    if not keys:
        raise InvalidRequestError(field=attribute.name, problem=Problem("no_keys"))
    if len(keys) > MAX_KEYS_PER_CALL:
        too_many = Problem("too_many_keys", count=len(keys), most=MAX_KEYS_PER_CALL)
        raise InvalidRequestError(field=attribute.name, problem=too_many)
    if _are_plain(keys):
        return
    first_seen: dict[object, int] = {}
    for number, key in enumerate(keys, 1):
        problem = key_problem(key)
        if problem is None and first_seen.setdefault(key.strip(_TRIMMED_FROM_KEYS), number) != number:
            problem = Problem("repeats_line", line=first_seen[key.strip(_TRIMMED_FROM_KEYS)])
        if problem is not None:
            raise InvalidRequestError(field=attribute.name, problem=Problem("line", line=number, problem=problem))


def _are_plain(keys: tuple[Any, ...]) -> bool:
    """A quick check: True means that all *keys* are valid and different. It is True for nearly all card keys."""
    try:
        together = "".join(keys)
    except TypeError:  # not all are text
        return False
    # Printable text has no line break, no NUL and no lone surrogate, and its only blank is the space.
    is_plain = is_visible_ascii(together) or (together.isprintable() and " " not in together)
    return is_plain and all(keys) and len(set(keys)) == len(keys)


def is_visible_ascii(value: str) -> bool:
    """Whether *value* consists of visible ASCII characters. Three times as fast as ``isprintable``."""
    return value.isascii() and not value.encode("ascii").translate(None, _VISIBLE_ASCII)


def as_keys(keys: Iterable[Any]) -> tuple[Any, ...]:
    """Convert *keys* to a tuple. A single text is refused: it would be split into letters."""
    if isinstance(keys, CheckedKeys):
        return keys
    if isinstance(keys, str | bytes):
        raise InvalidRequestError(field="keys", problem=Problem("one_text_as_keys"))
    if not isinstance(keys, Iterable):
        raise InvalidRequestError(field="keys", problem=Problem("keys_not_list", kind=type(keys).__name__))
    return tuple(keys)


def as_items(items: Any) -> tuple[tuple[Any, Any], ...]:
    """Convert a mapping or pairs to pairs of product and quantity."""
    with suppress(TypeError, ValueError):
        pairs: Iterable[Any] = cast("Any", items).items() if isinstance(items, Mapping) else items
        return tuple((product_id, count) for product_id, count in pairs)
    raise InvalidRequestError(field="items", problem=Problem("not_items"))


def is_utf8(value: str) -> bool:
    """Whether *value* can be encoded in UTF-8, which lone surrogates can't."""
    # encode() isn't tried: its UnicodeEncodeError would hold the text, which may be a card key.
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def show_length(value: Sized) -> str:
    """Return the length in angle brackets. A ``repr`` shows it instead of a value that is long or secret."""
    return f"<{len(value)}>"
