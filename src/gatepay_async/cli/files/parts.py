"""Reads the parts of an Excel file (a zip file of XML) in blocks: its sheets, shared texts and styles."""

import re
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from posixpath import join, normpath
from typing import IO, BinaryIO
from xml.parsers import expat

from attrs import frozen

from gatepay_async.cli.files.number_formats import AS_STORED, ShownUnchanged, shown_unchanged
from gatepay_async.cli.files.reading import FileProblemError

BLOCK_BYTES = 2**16  # bytes of XML to read at once
# A small zip file can unpack to gigabytes, so each part that is kept in memory has a limit.
_MAX_TAG_BYTES = 2**20  # for a tag or the text between two tags; Excel's longest text has 32,767 characters
MAX_LETTERS = 2**20  # characters, for one text
_MAX_TEXT_BYTES = 2**29  # for all shared texts
_MAX_SMALL_BYTES = 2**25  # for any other part that is not a sheet
# The errors of a file that is damaged or protected by a password. zipfile raises NotImplementedError for a compression
# that it doesn't know and RuntimeError for a password; numbers that are too large raise OverflowError.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, expat.ExpatError, OSError, EOFError, KeyError, ValueError, IndexError,
    NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip

# A shared text in the form that nearly all programs write.
_SIMPLE_TEXT = re.compile(rb'<si><t(?: xml:space="preserve")?>([^<]*)</t></si>')
_TEXT_START, _TEXT_END = b"<si><t>", b"</t></si>"
_TAGS_PER_TEXT = 4  # <si>, <t>, </t> and </si>
_UTF_8_DECLARATIONS = (b"<?xml", b"\xef\xbb\xbf<?xml")  # without and with a byte-order mark
_END = b"\0"  # ends each text in SharedTexts; XML can't contain it
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")  # Excel's escape for a character that XML can't contain


@frozen
class Part:
    """
    The part of an Excel file that holds a worksheet.

    Attributes:
        name: The name that Excel shows.
        path: The path in the zip file.
        visible: Whether the sheet is visible.
    """

    name: str
    path: str
    visible: bool


class Package:
    """An Excel file as a zip file. Finds and opens its parts."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file)
        # Some programs write a part's name and a reference to it with different capitals, or with backslashes.
        self._names = {_plain_path(name): name for name in self._zip.namelist()}

    def open(self, path: str) -> IO[bytes]:
        """
        Open a part for reading.

        Raises:
            KeyError: There is no part with this name.
        """
        return self._zip.open(self._names[_plain_path(path)])

    def elements(self, path: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the name and the attributes of each element of a small part."""
        elements: list[tuple[str, dict[str, str]]] = []
        parser = safe_parser(lambda name, attributes: elements.append((local_name(name), attributes)))
        size = 0
        with self.open(path) as part:
            while block := part.read(BLOCK_BYTES):
                size += len(block)
                if size > _MAX_SMALL_BYTES:
                    raise ValueError("too large")
                parser.Parse(block)
                yield from elements
                elements.clear()
            parser.Parse(b"", True)
        yield from elements  # elements that the parser had held back

    def sheets(self) -> tuple[list[Part], str, str]:
        """Return the worksheets, and the paths of the shared texts and of the styles, which may be empty."""
        book_path = {kind: target for kind, target, _ in self._references_of("")}["officeDocument"]
        related = list(self._references_of(book_path))
        by_id = {key: (kind, target) for kind, target, key in related}
        sheets: list[Part] = []
        for name, attributes in self.elements(book_path):
            if name == "sheet":
                local_attributes = {local_name(key): value for key, value in attributes.items()}
                kind, target = by_id[local_attributes["id"]]
                if kind == "worksheet":
                    is_visible = local_attributes.get("state", "visible") == "visible"
                    sheets.append(Part(local_attributes["name"], target, is_visible))
        paths = {kind: target for kind, target, _ in related}
        return sheets, paths.get("sharedStrings", ""), paths.get("styles", "")

    def styles(self, path: str) -> list[ShownUnchanged]:
        """Return for each cell style which values it shows unchanged."""
        format_codes: dict[int, str] = {}
        styles: list[ShownUnchanged] = []
        in_cell_formats = False
        for name, attributes in self.elements(path) if path else ():
            if name == "numFmt" and "formatCode" in attributes:
                format_codes[int(attributes["numFmtId"])] = attributes["formatCode"]
            elif name == "xf" and in_cell_formats:
                format_id = int(attributes.get("numFmtId", 0))
                styles.append(shown_unchanged(format_id, format_codes.get(format_id)))
            elif name in {"cellXfs", "cellStyles", "cellStyleXfs", "dxfs"}:
                in_cell_formats = name == "cellXfs"
        return styles or [AS_STORED]

    def _references_of(self, path: str) -> Iterator[tuple[str, str, str]]:
        """Yield the references of the part at *path*: the kind and the path of the target, and the reference's ID."""
        folder, _, name = path.rpartition("/")
        for element, attributes in self.elements(join(folder, "_rels", f"{name}.rels")):
            if element == "Relationship" and attributes.get("TargetMode") != "External":
                target = normpath(join("/", folder, attributes["Target"].replace("\\", "/")))
                yield attributes["Type"].rpartition("/")[2], target.lstrip("/"), attributes["Id"]


class SharedTexts:
    """
    The texts that all sheets share. Cells refer to them by number.

    They are kept in one block of bytes, because a million Python strings would take four times as much memory.
    """

    def __init__(self, package: Package, path: str) -> None:
        self._data = b""
        self._starts = array("Q", (0,))  # for each text, the length of all texts before it
        if path:
            with package.open(path) as part:
                self._data = b"".join(self._read(part))
        self._escaped = b"_x" in self._data

    def get(self, number: int) -> str:
        """
        Return the text with this *number*.

        Raises:
            IndexError: There is no text with this number.
        """
        if number < 0:
            raise IndexError(number)
        return self._unescape_all([self._text_at(number)])[0]

    def get_all(self, numbers: Sequence[bytes] | range) -> list[str]:
        """Return the texts with these *numbers*."""
        if not isinstance(numbers, range):
            return self._unescape_all([self._text_at(int(number)) for number in numbers])
        if numbers.step < 0:
            return self.get_all(numbers[::-1])[::-1]
        data = self._bytes_of(numbers[0], numbers[-1])
        return self._unescape_all(data.decode().split(_END.decode())[:: numbers.step])

    def _text_at(self, number: int) -> str:
        return self._bytes_of(number, number).decode()

    def _bytes_of(self, first: int, last: int) -> bytes:
        """Return the texts from number *first* to number *last*, with ``_END`` between them."""
        # _starts doesn't count the _END after each text.
        return self._data[self._starts[first] + first : self._starts[last + 1] + last]

    def _unescape_all(self, texts: list[str]) -> list[str]:
        return list(map(unescaped, texts)) if self._escaped else texts

    def _read(self, part: IO[bytes]) -> Iterator[bytes]:
        """Yield blocks of texts, for ``_data``."""
        parser = _TextParser()
        unread = b""
        while block := part.read(BLOCK_BYTES):
            unread += block
            end = unread.rfind(b"</si>") + len(b"</si>")
            if end < len(b"</si>"):  # there is no </si>
                end = end_of_tags(unread)
            piece, unread = unread[:end], unread[end:]
            yield self._joined((parser.is_between_texts and _read_simple_texts(piece)) or parser.read(piece))
        yield self._joined(parser.read(unread, last=True))

    def _joined(self, texts: list[bytes]) -> bytes:
        """Return *texts* with ``_END`` after each, and add their starts to ``_starts``."""
        if self._starts[-1] > _MAX_TEXT_BYTES:
            raise FileProblemError("sources.too_large", most=_MAX_TEXT_BYTES // 2**20)
        self._starts.extend(accumulate(map(len, texts), initial=self._starts.pop()))
        return b"".join([_END.join(texts), _END]) if texts else b""


def _read_simple_texts(piece: bytes) -> list[bytes]:
    """Return the texts of *piece* if all of them are simple: without formatting and entities. Else return no texts."""
    if b"&" in piece or _END in piece or b"\r" in piece:
        return []
    tags = piece.count(b"<")
    if piece.startswith(_TEXT_START) and piece.endswith(_TEXT_END):
        texts = piece[len(_TEXT_START) : -len(_TEXT_END)].split(_TEXT_END + _TEXT_START)
        if tags == _TAGS_PER_TEXT * len(texts):
            return texts
    texts = _SIMPLE_TEXT.findall(piece) if piece.lstrip().startswith(b"<si>") else []
    return texts if tags == _TAGS_PER_TEXT * len(texts) else []  # with more tags, the pattern has missed something


class _TextParser:
    """Reads shared texts, also formatted ones, with an XML parser. Skips their pronunciations (``<rPh>``)."""

    def __init__(self) -> None:
        self._parser = PlainParser(self._start_of_text, self._end_of_text, self._add_text_letters)
        self._complete_texts: list[bytes] = []
        self._letters: list[str] = []
        self._phonetic_depth = 0
        self._in_text = False
        self._after_text = False

    @property
    def is_between_texts(self) -> bool:
        """Whether the next bytes are the start of a text, so that ``_read_simple_texts`` may read them."""
        return self._parser.is_plain and self._after_text

    def read(self, data: bytes, *, last: bool = False) -> list[bytes]:
        """Return the texts that end in *data*."""
        self._parser.parse(data, last=last)
        if sum(map(len, self._letters)) > MAX_LETTERS:
            raise ValueError("too long")
        texts, self._complete_texts = self._complete_texts, []
        return texts

    def _start_of_text(self, name: str, _: dict[str, str]) -> None:
        name = local_name(name)
        self._phonetic_depth += name == "rPh"
        self._in_text = name == "t" and not self._phonetic_depth
        self._after_text = False
        if name == "si":
            self._letters.clear()

    def _end_of_text(self, name: str) -> None:
        name = local_name(name)
        self._phonetic_depth -= name == "rPh"
        self._in_text = False
        if name == "si":
            self._complete_texts.append("".join(self._letters).encode("utf-8", "surrogatepass"))
            self._after_text = True

    def _add_text_letters(self, letters: str) -> None:
        if self._in_text:
            self._letters.append(letters)


class PlainParser:
    """
    An XML parser that knows whether faster code may read the next bytes in its place.

    Attributes:
        is_plain: Whether everything so far is UTF-8 without comments, CDATA sections and processing instructions.
            Inside one of these, bytes may look like elements although they are not.
    """

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], object],
        end: Callable[[str], object],
        letters: Callable[[str], object],
    ) -> None:
        self.is_plain = True
        self._parser = safe_parser(start, end, letters)
        self._parser.XmlDeclHandler = self._declare

    def parse(self, data: bytes, *, last: bool) -> None:
        """Parse the next *data*."""
        self._parser.Parse(data, last)
        instructions = data.count(b"<?") - data.startswith(_UTF_8_DECLARATIONS)
        if instructions or b"<!" in data or b"\0" in data:  # a NUL is in every tag of UTF-16
            self.is_plain = False

    def close(self) -> None:
        """Break the reference cycle of the parser and its handlers."""
        self._parser.StartElementHandler = self._parser.EndElementHandler = self._parser.CharacterDataHandler = None
        self._parser.XmlDeclHandler = None

    def _declare(self, _: str, encoding: str | None, __: int) -> None:
        """Handle the XML declaration, which names the encoding."""
        if (encoding or "utf-8").casefold() != "utf-8":
            self.is_plain = False


def safe_parser(
    start: Callable[[str, dict[str, str]], object],
    end: Callable[[str], object] | None = None,
    letters: Callable[[str], object] | None = None,
) -> expat.XMLParserType:
    """Return an XML parser that refuses a DOCTYPE. Excel writes none, and its entities could fill the memory."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = letters
    parser.StartDoctypeDeclHandler = _refuse_entities
    return parser


def end_of_tags(data: bytes) -> int:
    """
    Return how many bytes of *data* to give to an XML parser: up to the end of the last tag.

    Expat 2.6 and later may hold back a partial tag, and then also the data of the next call.

    Raises:
        ValueError: There is too much data without the end of a tag.
    """
    end = data.rfind(b">") + 1
    if not end and len(data) > _MAX_TAG_BYTES:
        raise ValueError("too long")
    return end


def local_name(name: str) -> str:
    """Return an XML name without its prefix."""
    return name.rpartition(":")[2]


def unescaped(letters: str) -> str:
    """Replace Excel's escapes, such as ``_x0007_``, with the characters that XML can't contain."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), letters) if "_x" in letters else letters


def _refuse_entities(*_: object) -> None:
    raise FileProblemError("sources.no_workbook")


def _plain_path(path: str) -> str:
    """Return *path* in a form that is equal for all ways to write it."""
    return path.replace("\\", "/").lstrip("/").casefold()
