"""Masking of possible secrets in text from outside."""

import pytest

from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.protocol.masking import mask

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

SIGNATURE = "0123456789abcdef0123456789abcdef"
# text, masked text, masked text in strict mode, which keeps only known words ("": the same)
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


def test_words_and_small_numbers_are_kept_and_possible_secrets_masked() -> None:
    """A possible secret is a card key, a signature or an order number."""
    mismatches: list[str] = []
    for text, masked, masked_strictly in ROWS:
        actual = [mask(text), mask(text, strict=True)]
        if actual != [masked, masked_strictly or masked]:
            mismatches.append(f"{text!r}: {actual}")
    assert not mismatches, "\n".join(mismatches)


def test_card_keys_that_were_sent_are_masked_longest_first() -> None:
    """A card key is masked even if it consists of ordinary words."""
    assert mask("blue horse, blue and 卡密", keys=["blue", "blue horse", "卡密"]) == "***, *** and ***"


def test_masked_text_is_cut_at_200_characters() -> None:
    """A longer text ends with an ellipsis."""
    assert mask("word " * 100) == ("word " * 40)[:199] + "…"


def test_documented_messages_of_gatepay_are_not_masked() -> None:
    """The messages in GatePay's tables contain no secrets, so errors quote them unchanged."""
    messages = {refusal.message for refusal in REFUSALS.values()}
    assert set(map(mask, messages)) == messages
