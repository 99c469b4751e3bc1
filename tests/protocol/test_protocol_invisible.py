"""Characters that nobody sees: off the ends, and found inside."""

import pytest

from gatepay_async import InvalidRequestError
from gatepay_async.protocol.invisible import first_invisible, strip_invisible
from gatepay_async.protocol.signing import Credentials

pytestmark = pytest.mark.fast

HIDDEN = [
    "\t", "\n", "\r\n", " ", "\x00", "\x1a", "\x7f", "\u00a0", "\u00ad", "\u034f", "\u115f", "\u180e", "\u200b",
    "\u200e", "\u202e", "\u2028", "\u2060", "\u2800", "\u3000", "\u3164", "\ufeff", "\ufe0f",
    "\U000e0001", "\U000e0101",
]  # fmt: skip


def test_ends_are_stripped() -> None:
    """Whatever leaves no ink is taken off both ends, and nothing else."""
    for hidden in HIDDEN:
        assert strip_invisible(f"{hidden}a b密{hidden}{hidden}") == "a b密", ascii(hidden)
        assert strip_invisible(hidden) == "", ascii(hidden)


def test_inside_it_is_found() -> None:
    """Inside it is found and named; a plain space isn't, nor a joiner that belongs to a visible character."""
    rows = {
        "a\u200bb": "U+200B", "a\u00a0b": "U+00A0", "\u200da": "U+200D", "a \ufe0fb": "U+FE0F", "a b": None,
        "👩‍💻": None, "❤️": None, "葛\U000e0100": None, "": None, "a\u200b\u200d": "U+200B",
    }  # fmt: skip
    assert {text: first_invisible(text) for text in rows} == rows


def test_credentials_are_cleaned() -> None:
    """A key or secret that was copied with its line break, or with a byte-order mark, is the one that was meant."""
    shop = Credentials("\ufeffmy-key\u200b", "\tmy-secret\r\n")
    assert (shop.appkey, shop.appsecret) == ("my-key", "my-secret")
    for inside in ("my\u200bkey", "my\nkey"):
        with pytest.raises(InvalidRequestError, match="invisible character") as caught:
            Credentials("K", inside)
        assert caught.value.field == "appsecret"
        assert "my" not in str(caught.value)
