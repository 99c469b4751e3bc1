"""Invisible characters: stripped at the ends of a line, kept and reported within a card key."""

import sys
import unicodedata

import pytest

from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.protocol import invisible
from gatepay_async.protocol.bulk import MAX_INVISIBLE_LINES, Ledger
from gatepay_async.protocol.chunking import Chunker, clean
from gatepay_async.protocol.signing import Credentials

pytestmark = pytest.mark.fast

# Format characters that are visible: Prepended_Concatenation_Mark in Unicode's PropList.txt.
VISIBLE_FORMAT_CHARACTERS = [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD]

# Characters that are copied along from spreadsheets, chats and web pages.
INVISIBLE = {
    "zero-width space": "\u200b", "word joiner": "\u2060", "soft hyphen": "\u00ad", "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e", "Ctrl-Z": "\x1a", "byte-order mark": "\ufeff", "Hangul filler": "\u3164",
    "halfwidth Hangul filler": "\uffa0", "Hangul choseong filler": "\u115f", "Hangul jungseong filler": "\u1160",
    "braille blank": "\u2800", "grapheme joiner": "\u034f", "Mongolian vowel separator": "\u180e",
    "tag": "\U000e0041", "annotation": "\ufff9", "delete": "\x7f", "escape": "\x1b", "joiner": "\u200d",
    "non-joiner": "\u200c", "variation selector": "\ufe0f", "another selector": "\U000e0100", "C1": "\x9b",
    "line separator": "\u2028", "paragraph separator": "\u2029", "next line": "\x85", "no-break space": "\u00a0",
    "narrow no-break space": "\u202f", "thin space": "\u2009", "mathematical space": "\u205f", "em space": "\u2003",
}  # fmt: skip

# Texts in which a joiner, a selector or a tag modifies a visible character.
MODIFIED = {
    "a red heart": "\u2764\ufe0f", "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a pirate": "\U0001f3f4\u200d\u2620\ufe0f", "a keycap": "1\ufe0f\u20e3",
    "England": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a woman with a skin tone at a computer": "\U0001f469\U0001f3fd\u200d\U0001f4bb",
    "a shaking head": "\U0001f642\u200d\u2194\ufe0f", "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi": "\u0915\u094d\u200d\u0937", "Malayalam, at the end": "\u0d28\u0d4d\u200d",
    "a variant of a Han character": "\u845b\U000e0100", "Mongolian": "\u1820\u180b",
}  # fmt: skip


def test_all_format_and_control_characters_count_as_invisible() -> None:
    """The exceptions are visible format characters, blanks and NUL."""
    missing = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cf", "Cc")
        and not invisible.holds_any(chr(code))
        and code not in (*VISIBLE_FORMAT_CHARACTERS, *b"\t\n\r\0")
    ]
    assert missing == []
    assert not any(invisible.holds_any(chr(code)) for code in VISIBLE_FORMAT_CHARACTERS)


def test_invisible_characters_at_both_ends_are_stripped() -> None:
    """Invisible characters are stripped even if they are mixed with blanks."""
    failed = [
        name
        for name, character in INVISIBLE.items()
        if {
            clean(line)
            for line in (
                f"{character}KEY",
                f"KEY{character}",
                f" {character} \ufeffKEY\u3000{character}\r\n",
                f"{character}{character}KEY",
            )
        }
        != {("KEY", None)}
    ]
    assert failed == []
    assert clean(b"\xef\xbb\xbf\xef\xbb\xbfKEY\x1a") == ("KEY", None)


def test_line_of_invisible_characters_is_blank() -> None:
    """A line with only invisible characters and blanks has no card key."""
    assert [name for name, character in INVISIBLE.items() if clean(f"{character} {character}") != ("", None)] == []


def test_invisible_characters_within_a_key_are_kept_and_reported() -> None:
    """The report lists the line."""
    for name, character in INVISIBLE.items():
        ledger = Ledger()
        chunker = Chunker(ledger)
        list(chunker.chunks(["A", f"B{character}C", "", f"{character}D"]))
        chunk = chunker.last_chunk()
        assert chunk is not None
        assert (name, chunk.keys, ledger.report(stopped=None).invisible) == (name, ("A", f"B{character}C", "D"), (2,))


def test_characters_that_modify_a_visible_one_are_kept_and_not_reported() -> None:
    """Joiners and selectors of emoji and letters are part of the visible text, even at the end of a line."""
    for name, text in MODIFIED.items():
        assert (name, clean(f"\u200b{text} \u200b")) == (name, (text, None))
        assert (name, invisible.holds_any(text)) == (name, False)
        assert (name, invisible.holds_any(f"A{text}\u200bB")) == (name, True)


def test_ordinary_text_has_no_invisible_characters() -> None:
    """The text may be in any script, and contain blanks or tabs. NUL is another problem."""
    for text in ("ABC-123", "卡密 一", "clé", "ключ", "مفتاح", "कुंजी", "🙂", "a\tb", "a\u3000b", "e\u0301"):
        assert (text, invisible.holds_any(text), invisible.strip(text)) == (text, False, text)
    assert clean("A\0")[1] == clean("\0")[1] == "contains a NUL character; the file may be UTF-16"
    assert not invisible.may_have_invisible("卡密")


def test_report_lists_a_limited_number_of_lines() -> None:
    """A report lists at most ``MAX_INVISIBLE_LINES`` lines with invisible characters."""
    ledger = Ledger()
    list(Chunker(ledger).chunks(f"A\u200b{number}" for number in range(MAX_INVISIBLE_LINES + 10)))
    assert ledger.report(stopped=None).invisible == tuple(range(1, MAX_INVISIBLE_LINES + 1))


def test_credentials_are_stripped() -> None:
    """An appkey or appsecret copied with a line break or a byte-order mark at its ends is accepted."""
    for character in (*INVISIBLE.values(), "\n", "\u00a0", "\u3000"):
        shop = Credentials(f"{character}my-key{character}", f"\t{character}my-secret\r\n")
        assert (shop.appkey, shop.appsecret) == ("my-key", "my-secret"), ascii(character)


def test_invisible_character_within_credentials_or_url_is_rejected() -> None:
    """The error names the parameter and doesn't repeat its value."""
    valid = {"appkey": "K-12345", "appsecret": "S-12345", "base_url": "https://shop.example/api/"}
    for name, value in valid.items():
        for character in ("\u200b", "\ufeff", "\u202e", "\x1a", "\n", "\u00a0"):
            with pytest.raises(InvalidRequestError, match="invisible") as caught:
                AsyncGatePay(**{**valid, name: f"{value[:4]}{character}{value[4:]}"})  # type: ignore[arg-type]  # all three parameters are texts
            assert (caught.value.field, value in str(caught.value)) == (name, False)


def test_first_invisible_character_is_returned_as_its_code_point() -> None:
    """Plain spaces and characters that modify a visible one don't count."""
    expected = {"a\u200bb": "U+200B", "a\u00a0b": "U+00A0", "a\0": "U+0000", "a\nb\tc": "U+000A", "a b": None, "": None}
    assert {text: invisible.first_code_point(text) for text in expected} == expected
    assert [text for text in MODIFIED.values() if invisible.first_code_point(text)] == []
