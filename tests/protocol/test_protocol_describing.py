"""Errors describe a reply that doesn't come from GatePay, without its secrets."""

import pytest

from gatepay_async.protocol.describing import describe

pytestmark = pytest.mark.fast

ROW = '{"id": 1, "content": "SECRET", "price": 1.5, "sold": true, "gone": null}'
DEEP = '{"a": {"a": {"a": {"a": {"a": 1}}}}}'
MANY = "{" + ", ".join(f'"{letter}": 1' for letter in "abcdefghijklmn") + "}"
CUT_TITLE = "<title>Half a ti"

# body, content type, the description, and the strict description for calls with card keys ("": the same)
REPLIES = (
    ("", "", "0 bytes", ""),
    ("x", "", "1 byte", ""),
    ("Fatal error: SECRET", "text/plain; charset=utf-8", "text/plain, 19 bytes", ""),
    ("Fatal error", "SECRET/1", "of an unknown type, 11 bytes", ""),
    (
        "<title>Oh &amp; no</title>",
        "TEXT/HTML",
        'text/html, 26 bytes, titled "Oh & no"',
        'text/html, 26 bytes, titled "*** & no"',
    ),
    ("<TITLE lang=x>502\n Bad  Gateway</TITLE>", "", '39 bytes, titled "502 Bad Gateway"', ""),
    (
        "<title>Sign in to Sunny Inn</title>",
        "",
        '35 bytes, titled "Sign in to Sunny Inn"',
        '35 bytes, titled "Sign in to ***"',
    ),
    ("<title>SECRET-1 and 4444 5555</title>", "", '37 bytes, titled "*** and ***"', ""),
    ("<title>系统发生错误</title>", "", '33 bytes, titled "系统发生错误"', ""),
    ("<title></title>", "", '15 bytes, titled ""', ""),
    (CUT_TITLE, "", "16 bytes", ""),
    (
        '{"code": 100, "data": {"order_price": "1"}}',
        "application/json",
        "application/json, 43 bytes, {code: int, data: {order_price: text}}",
        "",
    ),
    (
        f"[{ROW}, {ROW}]",
        "",
        "148 bytes, [2 × {id: int, content: text, price: number, sold: bool, gone: null}]",
        "148 bytes, [2 × {id: int, content: text, price: number, ***: bool, ***: null}]",
    ),
    ('{"SECRET-1": {"SECRET": []}}', "", "28 bytes, {***: {***: []}}", ""),
    (DEEP, "", "36 bytes, {a: {a: {a: {a: {…}}}}}", "36 bytes, {***: {***: {***: {***: {…}}}}}"),
    (
        MANY,
        "",
        "112 bytes, {" + "".join(f"{letter}: int, " for letter in "abcdefghijkl") + "…}",
        "112 bytes, {" + "***: int, " * 12 + "…}",
    ),
    ('"SECRET"', "", "8 bytes, text", ""),
)


def test_description_has_type_length_and_title_or_field_types() -> None:
    """Possible secrets are masked. The strict description shows only words and field names of a fixed list."""
    mismatches: list[str] = []
    for body, content_type, description, strict_description in REPLIES:
        actual = [describe(body.encode(), content_type=content_type, strict=strict) for strict in (False, True)]
        if actual != [description, strict_description or description]:
            mismatches.append(f"{body!r}: {actual}")
    assert not mismatches, "\n".join(mismatches)


def test_description_is_cut_at_300_characters() -> None:
    """A reply with many long field names has a long description, which is cut."""
    names = "{" + ", ".join(f'"{letter * 20}": {DEEP}' for letter in "abcdefghijkl") + "}"
    assert len(describe(names.encode())) == 300


def test_a_huge_reply_is_not_parsed() -> None:
    """The description of a reply of more than a megabyte has only its length."""
    assert describe(b"[" + b" " * 2**20 + b"]") == "1048578 bytes"


def test_card_key_in_a_title_is_masked() -> None:
    """A card key that was sent is masked in a title, even if it consists of ordinary words."""
    page = b"<title>Error in blue horse: bad gateway</title>"
    assert describe(page, keys=["blue horse", "bad"]) == '47 bytes, titled "Error in ***: *** gateway"'
