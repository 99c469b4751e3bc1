"""
A strict parser for ``application/x-www-form-urlencoded`` bodies and for queries.

It shares no code with the client's encoder on purpose, so that a bug in the encoder can't be hidden by the same bug
here. The vendor's PHP accepts most of the malformed forms that are refused here. The sandbox refuses them so that such
errors are noticed.
"""

import html
import re

__all__ = ["MalformedFormError", "filtered", "read_form", "read_pairs"]

# What PHP's trim() and strip_tags() remove. A tag that isn't closed extends to the end of the text.
TRIMMED_CHARS = " \t\n\r\0\x0b"
_TAG = re.compile(r"<(?!\s)[^>]*>?")

_FORM_TYPE = "application/x-www-form-urlencoded"
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PERCENT = re.compile(rb"%(..)")


class MalformedFormError(ValueError):
    """The body is not a valid form. The message says why, and never quotes the body."""


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """
    Parse a body. Return its fields in the order sent.

    Raises:
        MalformedFormError: The content type isn't a form's, a pair has no ``=``, a ``%`` isn't followed by two hex
            digits, a text isn't UTF-8, or a name comes twice.
    """
    if content_type.partition(";")[0].strip().lower() != _FORM_TYPE:
        raise MalformedFormError(f"the content type is not {_FORM_TYPE}")
    return read_pairs(body)


def read_pairs(text: bytes) -> dict[str, str]:
    """
    Parse a form or a query. Return its fields in the order sent.

    Raises:
        MalformedFormError: As in read_form(), without the content type.
    """
    form: dict[str, str] = {}
    for piece in text.split(b"&") if text else ():
        name, value = _parse_pair(piece)
        if name in form:
            raise MalformedFormError("a name comes twice")
        form[name] = value
    return form


def filtered(form: dict[str, str]) -> dict[str, str]:
    """Change the values as FastAdmin does with ``trim,strip_tags,htmlspecialchars``."""
    return {name: html.escape(_TAG.sub("", value.strip(TRIMMED_CHARS))) for name, value in form.items()}


def _parse_pair(piece: bytes) -> tuple[str, str]:
    name, equals, value = piece.partition(b"=")
    if not equals:
        raise MalformedFormError("a piece has no =")
    return _decode_text(name), _decode_text(value)


def _decode_text(raw: bytes) -> str:
    if _BAD_PERCENT.search(raw):
        raise MalformedFormError("a % is not followed by two hex digits")
    # Replace + by a space first, because %2B must become a plus.
    decoded = _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), raw.replace(b"+", b" "))
    try:
        return decoded.decode("utf-8", "strict")
    except UnicodeDecodeError:
        # `from None`, because the original error contains the bytes, which may be a card key.
        raise MalformedFormError("a name or value is not UTF-8") from None
