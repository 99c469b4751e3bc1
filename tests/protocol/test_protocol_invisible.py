"""Characters that nobody sees: stripped at the ends of a line, kept within a card key and reported."""

import sys
import unicodedata

import pytest

from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.protocol import invisible
from gatepay_async.protocol.bulk import MOST_INVISIBLE, Ledger
from gatepay_async.protocol.chunking import Chunker, clean
from gatepay_async.protocol.signing import Credentials

pytestmark = pytest.mark.fast

# Prepended_Concatenation_Mark, PropList.txt: they show a sign.
SHOWN = [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD]

# What comes along from spreadsheets, chats and web pages; most of it named in the Unicode Character Database.
STRAY = {
    "zero-width space": "\u200b", "word joiner": "\u2060", "soft hyphen": "\u00ad", "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e", "Ctrl-Z": "\x1a", "byte-order mark": "\ufeff", "Hangul filler": "\u3164",
    "halfwidth Hangul filler": "\uffa0", "Hangul choseong filler": "\u115f", "Hangul jungseong filler": "\u1160",
    "braille blank": "\u2800", "grapheme joiner": "\u034f", "Mongolian vowel separator": "\u180e",
    "tag": "\U000e0041", "annotation": "\ufff9", "delete": "\x7f", "escape": "\x1b", "joiner": "\u200d",
    "non-joiner": "\u200c", "variation selector": "\ufe0f", "another selector": "\U000e0100", "C1": "\x9b",
    "line separator": "\u2028", "paragraph separator": "\u2029", "next line": "\x85", "no-break space": "\u00a0",
    "narrow no-break space": "\u202f", "thin space": "\u2009", "mathematical space": "\u205f", "em space": "\u2003",
}  # fmt: skip

# A joiner, a selector or a tag that belongs to what is seen.
BELONGS = {
    "a red heart": "\u2764\ufe0f", "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a pirate": "\U0001f3f4\u200d\u2620\ufe0f", "a keycap": "1\ufe0f\u20e3",
    "England": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a woman with a skin tone at a computer": "\U0001f469\U0001f3fd\u200d\U0001f4bb",
    "a shaking head": "\U0001f642\u200d\u2194\ufe0f", "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi": "\u0915\u094d\u200d\u0937", "Malayalam, at the end": "\u0d28\u0d4d\u200d",
    "a variant of a Han character": "\u845b\U000e0100", "Mongolian": "\u1820\u180b",
}  # fmt: skip


def test_the_table_is_unicodes() -> None:
    """Every format and control character is in the table, but for those that show a sign, blanks, and NUL."""
    left = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cf", "Cc")
        and not invisible.holds_any(chr(code))
        and code not in (*SHOWN, *b"\t\n\r\0")
    ]
    assert left == []
    assert not any(invisible.holds_any(chr(code)) for code in SHOWN)


def test_at_the_ends_they_go() -> None:
    """Invisible characters at the ends of a line are no part of the card key, in any mixture with blanks."""
    failed = [
        name
        for name, odd in STRAY.items()
        if {clean(line) for line in (f"{odd}KEY", f"KEY{odd}", f" {odd} \ufeffKEY\u3000{odd}\r\n", f"{odd}{odd}KEY")}
        != {("KEY", None)}
    ]
    assert failed == []
    assert clean(b"\xef\xbb\xbf\xef\xbb\xbfKEY\x1a") == ("KEY", None)


def test_nothing_visible_is_blank() -> None:
    """A line of nothing but invisible characters and blanks is blank."""
    assert [name for name, odd in STRAY.items() if clean(f"{odd} {odd}") != ("", None)] == []


def test_within_a_key_they_are_kept_and_listed() -> None:
    """Within a card key they stay as they are, and the report lists the line."""
    for name, odd in STRAY.items():
        ledger = Ledger()
        chunker = Chunker(ledger)
        list(chunker.chunks(["A", f"B{odd}C", "", f"{odd}D"]))
        rest = chunker.last_chunk()
        assert rest is not None
        assert (name, rest.keys, ledger.report(stopped=None).invisible) == (name, ("A", f"B{odd}C", "D"), (2,))


def test_what_belongs_to_a_visible_character() -> None:
    """A joiner, a selector or a tag that is part of what is seen stays, at the end, too, and is no finding."""
    for name, text in BELONGS.items():
        assert (name, clean(f"\u200b{text} \u200b")) == (name, (text, None))
        assert (name, invisible.holds_any(text)) == (name, False)
        assert (name, invisible.holds_any(f"A{text}\u200bB")) == (name, True)


def test_nothing_odd() -> None:
    """Ordinary text in any script, blanks within it and tabs are no finding; NUL and broken lines are other faults."""
    for text in ("ABC-123", "卡密 一", "clé", "ключ", "مفتاح", "कुंजी", "🙂", "a\tb", "a\u3000b", "e\u0301"):
        assert (text, invisible.holds_any(text), invisible.strip(text)) == (text, False, text)
    assert clean("A\0")[1] == clean("\0")[1] == "contains a NUL character; the file may be UTF-16"
    assert not invisible.may_be_odd("卡密")


def test_the_list_is_bounded() -> None:
    """A report lists so many lines, however many there are."""
    ledger = Ledger()
    list(Chunker(ledger).chunks(f"A\u200b{number}" for number in range(MOST_INVISIBLE + 10)))
    assert ledger.report(stopped=None).invisible == tuple(range(1, MOST_INVISIBLE + 1))


def test_credentials_are_cleaned() -> None:
    """A key or secret that was copied with a line break or a byte-order mark at its ends is the one that was meant."""
    for odd in (*STRAY.values(), "\n", "\u00a0", "\u3000"):
        shop = Credentials(f"{odd}my-key{odd}", f"\t{odd}my-secret\r\n")
        assert (shop.appkey, shop.appsecret) == ("my-key", "my-secret"), ascii(odd)


def test_credentials_and_addresses() -> None:
    """Inside, neither an appkey, an appsecret nor a base_url may hold one: the error names the parameter."""
    right = {"appkey": "K-12345", "appsecret": "S-12345", "base_url": "https://shop.example/api/"}
    for name, value in right.items():
        for odd in ("\u200b", "\ufeff", "\u202e", "\x1a", "\n", "\u00a0"):
            with pytest.raises(InvalidRequestError, match="invisible") as caught:
                AsyncGatePay(**{**right, name: f"{value[:4]}{odd}{value[4:]}"})  # type: ignore[arg-type]  # text, all three
            assert (caught.value.field, value in str(caught.value)) == (name, False)


def test_the_first_is_named() -> None:
    """The first one is named by its code point; a plain space is none, nor what belongs to a visible character."""
    rows = {"a\u200bb": "U+200B", "a\u00a0b": "U+00A0", "a\0": "U+0000", "a\nb\tc": "U+000A", "a b": None, "": None}
    assert {text: invisible.first(text) for text in rows} == rows
    assert [text for text in BELONGS.values() if invisible.first(text)] == []
