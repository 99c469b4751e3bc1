"""
Parses HTTP/1.1 responses, without I/O. The parser is llhttp, through httptools.

Most responses are plain: the head arrives in one piece and has a Content-Length. A regular expression reads those
faster than llhttp.
"""

import re
from collections import deque
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gatepay_async.pool.port import HeaderLines
from gatepay_async.words.problem import Problem

# The most bytes of a head, and of anything else outside the body: chunk extensions, trailers, repeated 1xx responses.
MAX_HEAD_BYTES: Final = 64 * 1024
STATUSES_WITHOUT_BODY: Final = (204, 205, 304)  # although some servers send one, perhaps late
FIRST_FINAL_STATUS: Final = 200  # lower statuses are informational: another response follows
SWITCHING_PROTOCOLS: Final = 101

_LINE_ENDS: Final = b"\r\n"
_PROTOCOL: Final = b"HTTP/"  # llhttp also accepts RTSP/ and ICE/
_NO_PARTS: Final[deque[bytes]] = deque(maxlen=0)  # shared by all idle connections

# A head that every parser reads the same way. llhttp reads all other heads, and finds what is invalid.
_PLAIN_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([!-~](?:[ -~]*[!-~])?)\r\n((?:[-A-Za-z0-9]+: [!-~]+(?:[ \t]+[!-~]+)*\r\n)+)\r\n"
)
_PLAIN_HEADER: Final = re.compile(rb"([^:]+): ([^\r]+)\r\n")
_PLAIN_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
# A response with one of these headers is read by llhttp.
_NOT_PLAIN: Final = {b"transfer-encoding", b"upgrade", b"proxy-connection"}
_KEEP_ALIVE: Final = b"keep-alive"


class ResponseReader:
    """
    Parses one response after another: call `start`, then `feed` until `complete` or `problem` is set.

    Attributes:
        status: The HTTP status, or 0 until the head is complete.
        reason: The reason phrase after the status.
        headers: The headers, as received.
        fields: The headers' values by lower-case name.
        parts: The parts of the body that have arrived and were not taken yet.
        held_bytes: The number of bytes in `parts`.
        complete: Whether the response has ended.
        surplus: Whether bytes arrived after the end of the response.
        reusable: Whether the response allows another exchange on the same connection.
        problem: Why this is not a valid response, or None. It never quotes the response.
    """

    __slots__ = (
        "_answers_head_request",
        "_ends_with_connection",
        "_head_parts",
        "_heads_begun",
        "_informational",
        "_missing",
        "_non_body_bytes",
        "_parser",
        "complete",
        "fields",
        "headers",
        "held_bytes",
        "parts",
        "problem",
        "reason",
        "reusable",
        "status",
        "surplus",
    )  # fmt: skip

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        # A response with Content-Length and `chunked` is read as chunked. Its connection isn't reused.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)
        self.start()

    def start(self, *, answers_head_request: bool = False) -> None:
        """
        Get ready for the next response.

        Args:
            answers_head_request: Whether the request's method is HEAD: then the response has no body, whatever its
                headers say.
        """
        self.status = 0
        self.reason = b""
        self.headers: HeaderLines = []
        self.fields: dict[bytes, bytes] = {}
        self.parts: deque[bytes] = deque()
        self.held_bytes = 0
        self.complete = False
        self.surplus = False
        self.reusable = False
        self.problem: Problem | None = None
        self._answers_head_request = answers_head_request
        self._ends_with_connection = False  # the response has no length: the end of the connection ends it
        self._informational = False  # the latest head is that of a 1xx response
        self._non_body_bytes = 0  # received since the last part of the body
        self._head_parts: list[bytes] = []  # the bytes received, until the head is complete
        self._heads_begun = 0  # includes the heads of 1xx responses
        self._missing = 0  # bytes of a plain response's body that have not arrived yet

    def forget(self) -> None:
        """Free the response's memory: the connection may stay idle for a long time."""
        self.headers, self.fields, self.parts = [], {}, _NO_PARTS

    def feed(self, data: bytes) -> None:
        """Read *data*, the next bytes received."""
        if self._missing:
            self._read_plain_body(data)
            return
        if not (self.status or self._head_parts) and self._read_plain_head(data):
            return
        if len(data) <= MAX_HEAD_BYTES:
            self._feed(data)
            return
        for start in range(0, len(data), MAX_HEAD_BYTES):
            if self.problem is None:
                self._feed(data[start : start + MAX_HEAD_BYTES])

    def end(self) -> None:
        """Handle the end of the connection. A response without a length ends there."""
        if self._ends_with_connection and not self.problem:
            self.complete = True

    def take(self) -> bytes:
        """Remove and return the first part."""
        part = self.parts.popleft()
        self.held_bytes -= len(part)
        return part

    def take_all(self) -> bytes:
        """Remove and return all parts."""
        parts = b"".join(self.parts)
        self.parts.clear()
        self.held_bytes = 0
        return parts

    def on_message_begin(self) -> None:
        """Count a response that begins: the expected one, a 1xx before it, or a surplus one."""
        self._heads_begun += 1
        if self.complete:
            self.surplus = True

    def on_status(self, reason: bytes) -> None:
        """Add a piece of the reason phrase."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; ignore a trailer."""
        if not self.status:
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Check the head, and set `status`, `fields` and `reusable`."""
        if self.complete:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < FIRST_FINAL_STATUS:
            self._informational = True
            if status == SWITCHING_PROTOCOLS or status < 100:  # noqa: PLR2004 -- HTTP's lowest status
                self._fail(Problem("unexpected_status"))
            return
        self.fields = fields = {name.lower(): value for name, value in self.headers}
        # Not from `fields`, which has only the last header of a name: each Transfer-Encoding header adds a coding.
        codings = [value.lower() for name, value in self.headers if name.lower() == b"transfer-encoding"]
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._fail(Problem("unsupported_http_version"))
        if codings and (codings != [b"chunked"] or version == "1.0"):
            self._fail(Problem("unsupported_transfer_encoding"))
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._fail_too_long()
        if not self._is_http():
            self._fail(Problem("other_protocol"))
        if self.problem is not None:
            return
        self.status = status
        has_length = b"content-length" in fields
        self.reusable = (
            version == "1.1"
            and status not in STATUSES_WITHOUT_BODY
            and not self._answers_head_request  # the parser still expects a body
            and not (codings and has_length)  # a proxy may have used the other length
            and parser.should_keep_alive()
        )
        self.complete = self._answers_head_request
        self._ends_with_connection = not codings and not has_length
        self._head_parts = []

    def on_body(self, part: bytes) -> None:
        """Add a part of the body."""
        if self.complete:
            self.surplus = True
            return
        self._non_body_bytes = 0
        self.parts.append(part)
        self.held_bytes += len(part)

    def on_message_complete(self) -> None:
        """End the response, or get ready for the one after a 1xx."""
        if self._informational:
            self._informational = False
            self.headers = []
            self.reason = b""
        elif self.problem is None:
            self.complete = True

    def _read_plain_head(self, data: bytes) -> bool:
        """Read *data* if it is a plain response or begins one. If not, return False: the parser has to read it."""
        head = _PLAIN_HEAD.match(data)
        if head is None or self._answers_head_request or self.problem is not None:
            return False
        headers: HeaderLines = _PLAIN_HEADER.findall(head[3])
        fields = {name.lower(): value for name, value in headers}
        status, end, length = int(head[1]), head.end(), fields.get(b"content-length", b"")
        if (
            not _PLAIN_LENGTH.fullmatch(length)
            or int(length) < len(data) - end  # bytes follow the response
            or len(fields) != len(headers)  # a name comes twice
            or fields.get(b"connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE
            or not _NOT_PLAIN.isdisjoint(fields)
            or status in STATUSES_WITHOUT_BODY
            or end > MAX_HEAD_BYTES
        ):
            return False
        self.status, self.reason, self.headers, self.fields = status, head[2], headers, fields
        self.reusable = True
        self._missing = int(length)
        self._read_plain_body(data[end:])
        return True

    def _read_plain_body(self, data: bytes) -> None:
        """Add *data* to the body of a plain response."""
        if len(data) > self._missing:
            self.surplus = True
            data = data[: self._missing]
        if data:
            self.parts.append(data)
            self.held_bytes += len(data)
        self._missing -= len(data)
        self.complete = not self._missing

    def _is_http(self) -> bool:
        """Whether this head, and the head of each 1xx response before it, begins with `HTTP/`."""
        rest = b"".join(self._head_parts)
        for _ in range(self._heads_begun):
            rest = rest.lstrip(_LINE_ENDS)
            if not rest.startswith(_PROTOCOL):
                return False
            rest = rest.partition(b"\r\n\r\n")[2]
        return True

    def _feed(self, data: bytes) -> None:
        """Let llhttp read *data*, and check that the head doesn't get too long."""
        self._non_body_bytes += len(data)
        if not self.status:
            self._head_parts.append(data)
        if data[-1] in _LINE_ENDS and len(data) > 1:
            # llhttp silently skips line breaks between two responses. So the last byte is parsed separately: if the
            # response is complete before it, that byte is surplus. Never parse empty bytes: llhttp would report an
            # empty part of the body, and an empty part means the end of the body.
            view = memoryview(data)
            self._execute(view[:-1])
            data = bytes(view[-1:])
        if self.complete:
            self.surplus = True
            return
        self._execute(data)
        if self._non_body_bytes > MAX_HEAD_BYTES and not self.complete:
            self._fail_too_long()

    def _execute(self, data: bytes | memoryview) -> None:
        """Let llhttp read *data*. Turn its error into `problem`, or into `surplus` if the response is complete."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # llhttp's message is one of its fixed sentences: it quotes nothing of the reply.
            problem = Problem("not_valid_http", reason=str(error))
        else:
            return
        if self.complete:
            self.surplus = True
        else:
            self._fail(problem)

    def _fail_too_long(self) -> None:
        self._fail(Problem("response_header_too_long"))

    def _fail(self, problem: Problem) -> None:
        """Set `problem`, unless an earlier one is set."""
        if self.problem is None:
            self.problem = problem
