"""
Reading ``application/x-www-form-urlencoded`` bodies, and queries: strict, and the sandbox's own.

The client's writing of forms is not used here on purpose: two ends that share a mistake agree with each
other. PHP, which the vendor runs, would mend most of what is refused here; a test partner should not.
"""

import html
import re

__all__ = ["MalformedFormError", "filtered", "read_form", "read_pairs"]

# What PHP's trim() takes off, and what its strip_tags() takes for a tag: an open one to the end, too.
_BLANKS = " \t\n\r\0\x0b"
_TAG = re.compile(r"<(?!\s)[^>]*>?")

_FORM = "application/x-www-form-urlencoded"
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PERCENT = re.compile(rb"%(..)")


class MalformedFormError(ValueError):
    """The body is not a form. Its text names the fault and never quotes the body."""


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """
    Read *body* into its fields, in the order sent.

    Raises:
        MalformedFormError: Another content type, a piece without ``=``, a ``%`` without two hex digits
            behind it, bytes that are not UTF-8, or a name that comes twice.
    """
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise MalformedFormError(f"the content type is not {_FORM}")
    return read_pairs(body)


def read_pairs(text: bytes) -> dict[str, str]:
    """
    Read the pairs of a form, or of a query, in the order sent.

    Raises:
        MalformedFormError: As read_form().
    """
    form: dict[str, str] = {}
    for piece in text.split(b"&") if text else ():
        name, value = _pair(piece)
        if name in form:
            raise MalformedFormError("a name comes twice")
        form[name] = value
    return form


def filtered(form: dict[str, str]) -> dict[str, str]:
    """Change the values as FastAdmin does with ``trim,strip_tags,htmlspecialchars``."""
    return {name: html.escape(_TAG.sub("", value.strip(_BLANKS))) for name, value in form.items()}


def _pair(piece: bytes) -> tuple[str, str]:
    name, equals, value = piece.partition(b"=")
    if not equals:
        raise MalformedFormError("a piece has no =")
    return _text(name), _text(value)


def _text(raw: bytes) -> str:
    if _BAD_PERCENT.search(raw):
        raise MalformedFormError("a % is not followed by two hex digits")
    # Plus first: an encoded plus, %2B, must stay one.
    decoded = _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), raw.replace(b"+", b" "))
    try:
        return decoded.decode("utf-8", "strict")
    except UnicodeDecodeError:
        # Without `from`: that exception carries the bytes, and they may be a card key.
        raise MalformedFormError("a name or value is not UTF-8") from None
