"""In which encoding a text file is: what its user says, what its first bytes say, or what all of its bytes allow."""

import codecs
from collections.abc import Callable
from typing import BinaryIO

# Marks at the start of a file. That of UTF-16 LE begins that of UTF-32 LE.
UTF_8_MARK = codecs.BOM_UTF8
_MARKS = (
    (UTF_8_MARK, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 4  # bytes; the longest mark
# Their line ends are more than one byte.
WIDE = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32"})
NAMES = ("utf-8", "gb18030", "gbk", "big5", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
_ALSO = {"gb2312": "gb18030", "utf-8-sig": "utf-8", "cp950": "big5", "ascii": "utf-8"}

_BLOCK_BYTES = 2**18  # bytes decoded at a time
_SAMPLE = 20_000  # characters that are looked at
_CHINESE = 0.8  # of those that are no ASCII are common ones


def known_name(name: str) -> str:
    """The encoding of that *name*, in any spelling, as in ``NAMES``; or nothing."""
    try:
        found = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):  # ValueError: a NUL
        return ""
    found = _ALSO.get(found, found)
    return found if found in NAMES else ""


def marked(start: bytes) -> str:
    """The encoding that the mark at the *start* of a file names, or nothing."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "")


def guess(file: BinaryIO) -> str:
    """
    The encoding of all of *file*, which is read to its end; or nothing: it can't be said.

    A mark decides. What is valid UTF-8 is UTF-8: another encoding hardly ever is, by chance. GB18030 decodes nearly
    anything, so what comes out must be the Chinese that people write.
    """
    file.seek(0)
    found = marked(file.read(MARK_BYTES))
    if found:
        return found if _sample(file, found) is not None else ""
    for name, fits in (("utf-8", _anything), ("gb18030", reads_as_chinese)):
        sample = _sample(file, name)
        if sample is not None and fits(sample):
            return name
    return ""


def reads_as_chinese(sample: str) -> bool:
    """Whether *sample*, text without ASCII, is made of common Chinese characters."""
    common = _common_characters()
    return sum(letter in common for letter in sample) >= _CHINESE * len(sample)


def _anything(_: str) -> bool:
    return True


def _common_characters() -> frozenset[str]:
    """GB 2312: its signs and wide letters, and its first level, the 3,755 characters that are written most."""
    rows = (*range(0xA1, 0xA4), *range(0xB0, 0xD8))
    cells = (bytes((row, cell)) for row in rows for cell in range(0xA1, 0xFF))
    return frozenset("".join(cell.decode("gb2312", "ignore") for cell in cells))


def _sample(file: BinaryIO, encoding: str) -> str | None:
    """The first characters of *file* that are no ASCII; None: it is not in *encoding*."""
    decode: Callable[..., str] = codecs.getincrementaldecoder(encoding)().decode
    file.seek(0)
    sample = ""
    try:
        while block := file.read(_BLOCK_BYTES):
            decoded = decode(block)
            if len(sample) < _SAMPLE and not decoded.isascii():
                sample += "".join(letter for letter in decoded if not letter.isascii())[:_SAMPLE]
        decode(b"", True)
    except UnicodeDecodeError:
        return None
    return sample
