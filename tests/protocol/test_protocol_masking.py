"""What is left of text that others wrote."""

import pytest

from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.protocol.masking import mask

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

SIGNATURE = "0123456789abcdef0123456789abcdef"
# text, as masked, as masked where only known words may stay (the same where empty)
ROWS = (
    ("[Errno 111] Connection refused", "[Errno 111] Connection refused", ""),
    ("[Errno -2] Name or service not known", "[Errno -2] Name or service not known", ""),
    (
        "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)",
        "[SSL: WRONG_VERSION_NUMBER] wrong version number (***)",
        "",
    ),
    (
        "peer closed connection (received 3 bytes, expected 10)",
        "peer closed connection (received 3 bytes, expected 10)",
        "",
    ),
    (
        "illegal status line: bytearray(b'secret horse')",
        "illegal status line: *** horse')",
        "illegal status line: ***')",
    ),
    ("407 blue horse", "407 blue horse", "407 ***"),
    ("order T-1001-X of terry@example.com", "order *** of ***", "*** of ***"),
    (
        "product_id, orderPrice; it's 500条 for 1.50",
        "product_id, orderPrice; it's 500条 for 1.50",
        "***, ***; *** for 1.50",
    ),
    ("ABCDEFG Abcdefg aBcDeF AB12", "*** Abcdefg ***", "***"),
    ("1234 5678 9012 and 123456", "*** and ***", ""),
    ("卡密ＡＢ１２3", "卡密***", "***"),
    ("系统错误:卡密", "系统错误:卡密", "系统错误***"),
    (f"sign={SIGNATURE} {SIGNATURE.upper()}", "***", ""),
    ("red \x1b[31m\u202e", "red \\x1b[***\\u202e", "*** \\x1b[***"),
    ("!!! *** ???", "!!! *** ???", ""),
    ("supercalifragilisticexpialidocious", "***", ""),
)


def test_masks() -> None:
    """Words, small numbers and Chinese stay; what may be a card key, a signature or a number of an order goes."""
    wrong: list[str] = []
    for text, plain, strict in ROWS:
        came = [mask(text, strict=each) for each in (False, True)]
        if came != [plain, strict or plain]:
            wrong.append(f"{text!r}: {came}")
    assert not wrong, "\n".join(wrong)


def test_what_was_sent() -> None:
    """A card key that was sent goes first, the longest first, whatever it is made of."""
    assert mask("blue horse, blue and 卡密", keys=["blue", "blue horse", "卡密"]) == "***, *** and ***"


def test_length() -> None:
    """What is longer than 200 characters is cut."""
    assert mask("word " * 100) == ("word " * 40)[:199] + "…"


def test_the_vendors_messages() -> None:
    """Every message of GatePay's tables stays as it is."""
    assert {mask(each.message) for each in REFUSALS.values()} == {each.message for each in REFUSALS.values()}
