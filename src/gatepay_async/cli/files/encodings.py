"""Recognizes the encoding of a text file by its byte-order mark, or by decoding the whole file."""

import codecs
from collections.abc import Callable
from typing import BinaryIO

# Byte-order marks. UTF-32 LE comes first, because its mark starts with that of UTF-16 LE.
UTF_8_MARK = codecs.BOM_UTF8
_MARKS = (
    (UTF_8_MARK, "utf-8"),
    ("\ufeff".encode("gb18030"), "gb18030"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 4  # the length of the longest mark
MAX_CHARACTER_BYTES = 4  # of a character in any of the encodings
# Encodings in which a line end has more than one byte.
WIDE = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32"})
NAMES = ("utf-8", "gb18030", "gbk", "big5", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
_ALIASES = {"gb2312": "gb18030", "utf-8-sig": "utf-8", "cp950": "big5", "ascii": "utf-8"}

_BLOCK_BYTES = 2**18  # to decode at once
_SAMPLE_CHARS = 20_000  # non-ASCII characters by which Chinese text is recognized
_MIN_COMMON_SHARE = 0.8  # the share of common characters among the non-ASCII characters of Chinese text


def normalized_name(name: str) -> str:
    """Return the name in ``NAMES`` of an encoding in any spelling, or an empty string if it is unknown."""
    try:
        encoding = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):  # ValueError: the name contains a NUL
        return ""
    encoding = _ALIASES.get(encoding, encoding)
    return encoding if encoding in NAMES else ""


def encoding_of_mark(start: bytes) -> str:
    """Return the encoding of the byte-order mark at the *start* of a file, or an empty string."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "")


def whole_characters(content: bytes, encoding: str) -> bytes:
    """Return *content*, the start of a text in one of the encodings ``WIDE``, without an incomplete last character."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(content[:MARK_BYTES])  # may set the byte order
    # The last bytes suffice. They start at a multiple of 4, so that the decoder reads whole code units.
    end_start = max(MARK_BYTES, len(content) // MAX_CHARACTER_BYTES * MAX_CHARACTER_BYTES - 2 * MAX_CHARACTER_BYTES)
    decoder.decode(content[end_start:])
    incomplete, _ = decoder.getstate()
    return content[: len(content) - len(incomplete)]


def guess(file: BinaryIO) -> str:
    """
    Return the encoding of *file*, which is read to its end, or an empty string if it is unknown.

    A byte-order mark is decisive. A file without one that is valid UTF-8 is UTF-8, because text in other encodings is
    hardly ever valid UTF-8. GB18030 can decode nearly anything, so the decoded text must be common Chinese characters.
    """
    file.seek(0)
    encoding = encoding_of_mark(file.read(MARK_BYTES))
    if encoding:
        return encoding if _sample(file, encoding) is not None else ""
    for name, accepts in (("utf-8", _accept_any), ("gb18030", reads_as_chinese)):
        sample = _sample(file, name)
        if sample is not None and accepts(sample):
            return name
    return ""


def reads_as_chinese(sample: str) -> bool:
    """Whether *sample*, which has no ASCII characters, consists mostly of common Chinese characters."""
    common = _common_characters()
    return sum(letter in common for letter in sample) >= _MIN_COMMON_SHARE * len(sample)


def _accept_any(_: str) -> bool:
    return True


def _common_characters() -> frozenset[str]:
    """Return the signs, the full-width letters and the 3,755 most common characters (level 1) of GB 2312."""
    rows = (*range(0xA1, 0xA4), *range(0xB0, 0xD8))
    cells = (bytes((row, cell)) for row in rows for cell in range(0xA1, 0xFF))
    return frozenset("".join(cell.decode("gb2312", "ignore") for cell in cells))


def _sample(file: BinaryIO, encoding: str) -> str | None:
    """Return the first non-ASCII characters of *file*, or None if the file is not in *encoding*."""
    decode: Callable[..., str] = codecs.getincrementaldecoder(encoding)().decode
    file.seek(0)
    sample = ""
    try:
        while block := file.read(_BLOCK_BYTES):
            decoded = decode(block)
            if len(sample) < _SAMPLE_CHARS and not decoded.isascii():
                sample += "".join(letter for letter in decoded if not letter.isascii())[:_SAMPLE_CHARS]
        decode(b"", True)
    except UnicodeDecodeError:
        return None
    return sample
