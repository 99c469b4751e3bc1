"""
A table of valid and invalid HTTP replies, byte by byte, with the expected result of each.

The cases are those of the test suites of h11, httpcore, llhttp, aiohttp and curl, written from scratch.
"""

from attrs import frozen

LONG = b"x" * 300_000  # more than the event loop reads at once


@frozen
class OddReply:
    """
    A reply of a server, and the expected result of reading it.

    Attributes:
        name: Describes the reply.
        sent: The bytes that the server sends.
        status: The expected status; 0: an error is expected.
        body: The expected body.
        kept: Whether the connection is kept for another request.
        ends: Whether the server closes the connection after the reply.
        method: The method of the request.
    """

    name: str
    sent: bytes
    status: int = 0
    body: bytes = b""
    kept: bool = False
    ends: bool = False
    method: str = "POST"


def _good(name: str, sent: bytes, body: bytes = b"hello", *, status: int = 200, method: str = "POST") -> OddReply:
    """Describe a reply that is read; the connection is kept."""
    return OddReply(name, sent, status, body, kept=True, method=method)


def _closing(
    name: str, sent: bytes, body: bytes = b"hello", *, status: int = 200, ends: bool = False, method: str = "POST"
) -> OddReply:
    """Describe a reply that is read; the connection is closed."""
    return OddReply(name, sent, status, body, ends=ends, method=method)


def _bad(name: str, sent: bytes, *, ends: bool = False) -> OddReply:
    """Describe a reply that raises an error."""
    return OddReply(name, sent, ends=ends)


OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def _with_headers(headers: bytes, start: bytes = OK) -> bytes:
    """Return a reply with more headers and the body ``hello``."""
    return start + headers + b"content-length: 5\r\n\r\nhello"


REPLIES = (
    # -- the first line
    _good("plain", HELLO),
    _good("no reason after the status", b"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nhello"),
    _good("no space after the status", b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello"),
    _good("a reason that is not ASCII", _with_headers(b"", b"HTTP/1.1 200 \xe5\xa5\xbd\r\n")),
    _good("an unknown status", _with_headers(b"", b"HTTP/1.1 599 What\r\n"), status=599),
    _good("a line break before the reply", b"\r\n" + HELLO),
    _bad("a status of two digits", _with_headers(b"", b"HTTP/1.1 20 OK\r\n")),
    _bad("a status of four digits", _with_headers(b"", b"HTTP/1.1 2000 OK\r\n")),
    _bad("a status below 100", _with_headers(b"", b"HTTP/1.1 099 OK\r\n")),
    _bad("a status that is not a number", _with_headers(b"", b"HTTP/1.1 2x0 OK\r\n")),
    _bad("HTTP in lower case", _with_headers(b"", b"http/1.1 200 OK\r\n")),
    _bad("HTTP/2.0", _with_headers(b"", b"HTTP/2.0 200 OK\r\n")),
    _bad("HTTP/0.9 in a first line", _with_headers(b"", b"HTTP/0.9 200 OK\r\n")),
    _bad("HTTP/1.2", _with_headers(b"", b"HTTP/1.2 200 OK\r\n")),
    _bad("HTTP/11.1", _with_headers(b"", b"HTTP/11.1 200 OK\r\n")),
    _bad("no version", _with_headers(b"", b"HTTP 200 OK\r\n")),
    _bad("another protocol's first line", _with_headers(b"", b"ICY 200 OK\r\n")),
    _bad("a similar protocol", _with_headers(b"", b"RTSP/1.0 200 OK\r\n")),
    _bad("another protocol that looks alike", _with_headers(b"", b"ICE/1.1 200 OK\r\n")),
    _bad(
        "another protocol after 100", b"\r\nHTTP/1.1 100 Continue\r\n\r\n" + _with_headers(b"", b"RTSP/1.1 200 OK\r\n")
    ),
    _good(
        "another protocol after a line break in the body",
        OK + b"content-length: 10\r\n\r\n\r\nRTSP/1.1",
        b"\r\nRTSP/1.1",
    ),
    _bad("HTTP/0.9: only a body", b"<html>hello</html>\r\n", ends=True),
    _bad("a request", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    _bad("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    _bad("SMTP", b"220 mail.example ESMTP\r\n"),
    _bad("TLS on a plain connection", b"\x15\x03\x01\x00\x02\x02\x46"),
    _bad("zeros", b"\0" * 20),
    # -- headers
    _good("no space after a colon", _with_headers(b"x-a:1\r\n")),
    _good("spaces around a value", _with_headers(b"x-a: \t 1 \t \r\n")),
    _good("an empty value", _with_headers(b"x-a:\r\nx-b: \r\n")),
    _good("a name twice", _with_headers(b"set-cookie: a=1\r\nset-cookie: b=2\r\n")),
    _good("upper case", OK + b"CONTENT-LENGTH: 5\r\n\r\nhello"),
    _good("bytes above ASCII in a value", _with_headers("x-a: 好\r\n".encode())),
    _good("a name with unusual characters", _with_headers(b"!#$%&'*+-.^_`|~: 1\r\n")),
    _bad("a line without a colon", _with_headers(b"x-a\r\n")),
    _bad("a space before the colon", _with_headers(b"x-a : 1\r\n")),
    _bad("no name", _with_headers(b": 1\r\n")),
    _bad("a space in a name", _with_headers(b"x a: 1\r\n")),
    _bad("a name that is not ASCII", _with_headers(b"x-\xe5: 1\r\n")),
    _bad("a folded line", _with_headers(b"x-a: 1\r\n 2\r\n")),
    _bad("a space before the first header", _with_headers(b" x-a: 1\r\n")),
    _bad("a zero byte in a value", _with_headers(b"x-a: 1\x002\r\n")),
    _bad("a carriage return in a value", _with_headers(b"x-a: 1\r2\r\n")),
    _bad("LF only", b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello"),
    _bad("CR only", b"HTTP/1.1 200 OK\rcontent-length: 5\r\rhello", ends=True),
    _bad("a header that is too long", _with_headers(b"x-a: " + LONG + b"\r\n")),
    _bad("a name that is too long", _with_headers(LONG + b": 1\r\n")),
    _bad("too many headers", _with_headers(b"x-a: 0123456789\r\n" * 20_000)),
    # -- lengths
    _good("length 0", OK + b"content-length: 0\r\n\r\n", b""),
    _good("zeros before a length", OK + b"content-length: 0005\r\n\r\nhello"),
    _good("a space after a length", OK + b"content-length: 5 \r\n\r\nhello"),
    _bad("a negative length", OK + b"content-length: -5\r\n\r\nhello"),
    _bad("a length with a plus", OK + b"content-length: +5\r\n\r\nhello"),
    _bad("a hexadecimal length", OK + b"content-length: 0x5\r\n\r\nhello"),
    _bad("a length with a decimal point", OK + b"content-length: 5.0\r\n\r\nhello"),
    _bad("a length in two words", OK + b"content-length: 5 5\r\n\r\nhello"),
    _bad("no digit in a length", OK + b"content-length:\r\n\r\nhello"),
    _bad("a length that is too large for an integer", OK + b"content-length: 99999999999999999999\r\n\r\nhello"),
    _bad("a list of lengths", OK + b"content-length: 5, 5\r\n\r\nhello"),
    _bad("two lengths", OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    _bad("the same length twice", OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello"),
    # -- chunks
    _good("chunked", CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
    _good("chunked, empty body", CHUNKED + b"0\r\n\r\n", b""),
    _good("chunked, in upper case", OK + b"Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    _good("chunked, with line breaks in it", CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    _good("a chunk's size in upper case", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    _good("zeros before a chunk's size", CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n"),
    _good("a chunk's extension", CHUNKED + b'5;a=1;b="2"\r\nhello\r\n0;c\r\n\r\n'),
    _good("trailers", CHUNKED + b"5\r\nhello\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n"),
    _good("a trailer that looks like a header", CHUNKED + b"5\r\nhello\r\n0\r\ncontent-type: x\r\n\r\n"),
    _closing(
        "chunked, with a length", OK + b"content-length: 7\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ),
    _bad("chunked twice", OK + b"transfer-encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    _bad("chunked twice, in two lines", OK + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n5\r\nhello\r\n0\r\n\r\n"),
    _bad(
        "gzip, and chunked in a second line",
        OK + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    _bad("chunked, and gzip", OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    _bad("gzip, and not chunked", OK + b"transfer-encoding: gzip\r\n\r\nhello", ends=True),
    _bad("identity, which is obsolete", OK + b"transfer-encoding: identity\r\n\r\nhello", ends=True),
    _bad("nearly chunked", OK + b"transfer-encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ends=True),
    _bad("a chunk without a size", CHUNKED + b"\r\nhello\r\n0\r\n\r\n"),
    _bad("a negative chunk size", CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"),
    _bad("a chunk's size with 0x", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    _bad("a space after a chunk's size", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"),
    _bad("a chunk's size that is too large for an integer", CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    _bad("a chunk size that is not a number", CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n"),
    _bad("a chunk that is longer than it says", CHUNKED + b"4\r\nhello\r\n0\r\n\r\n"),
    _bad("a chunk line that ends in LF only", CHUNKED + b"5\nhello\r\n0\r\n\r\n"),
    _bad("no line break after a chunk", CHUNKED + b"5\r\nhello0\r\n\r\n"),
    _bad("an extension that is too long", CHUNKED + b"5;" + LONG + b"\r\nhello\r\n0\r\n\r\n"),
    _bad("trailers that are too long", CHUNKED + b"5\r\nhello\r\n0\r\n" + b"x-a: 0123456789\r\n" * 20_000 + b"\r\n"),
    # -- interim replies
    _good("100 before the reply", b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO),
    _good("103 before the reply", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + HELLO),
    _good("many interim replies", b"HTTP/1.1 102 Processing\r\nx-a: 1\r\n\r\n" * 20 + HELLO),
    _bad("too many interim replies", b"HTTP/1.1 102 Processing\r\nx-a: 1\r\n\r\n" * 8000 + HELLO),
    _bad("101", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello"),
    _bad("101 without headers", b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello"),
    _bad("100 and nothing else", b"HTTP/1.1 100 Continue\r\n\r\n", ends=True),
    # -- replies without a body; the connection isn't used again, because a faulty server may still send a body
    _closing("204", b"HTTP/1.1 204 No Content\r\n\r\n", b"", status=204),
    _closing("204 with a length", b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello", b"", status=204),
    _closing("304 with a length", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", status=304),
    _closing("205", b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", b"", status=205),
    _closing("HEAD", OK + b"content-length: 5\r\n\r\n", b"", method="HEAD"),
    _closing("HEAD, chunked", CHUNKED, b"", method="HEAD"),
    _closing("HEAD with a body", HELLO, b"", method="HEAD"),
    # -- the end of a connection
    _closing("close", _with_headers(b"connection: close\r\n")),
    _closing("close in a list", _with_headers(b"connection: x, Close\r\n")),
    _good("keep-alive", _with_headers(b"connection: keep-alive\r\nkeep-alive: timeout=5\r\n")),
    _closing("HTTP/1.0", _with_headers(b"", b"HTTP/1.0 200 OK\r\n")),
    _closing("HTTP/1.0, keep-alive", _with_headers(b"connection: keep-alive\r\n", b"HTTP/1.0 200 OK\r\n")),
    _bad("HTTP/1.0, chunked", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    _closing("no length, ends with the connection", OK + b"\r\nhello", ends=True),
    _closing("no length, HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nhello", ends=True),
    _closing("no length, empty body", OK + b"\r\n", b"", ends=True),
    # -- incomplete replies
    _bad("nothing at all", b"", ends=True),
    _bad("half a first line", b"HTTP/1.1 20", ends=True),
    _bad("half a head", OK + b"content-len", ends=True),
    _bad("no body", OK + b"content-length: 5\r\n\r\n", ends=True),
    _bad("half a body", OK + b"content-length: 5\r\n\r\nhel", ends=True),
    _bad("half a chunk", CHUNKED + b"5\r\nhel", ends=True),
    _bad("no last chunk", CHUNKED + b"5\r\nhello\r\n", ends=True),
    _bad("half a last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n", ends=True),
    _bad("half the trailers", CHUNKED + b"5\r\nhello\r\n0\r\nx-a: 1\r\n", ends=True),
    # -- bytes after the reply
    _closing("a line break after the reply", HELLO + b"\r\n"),
    _closing("a line feed after the reply", HELLO + b"\n"),
    _closing("a zero byte after the reply", HELLO + b"\0"),
    _closing("another reply after the reply", HELLO + HELLO),
    _closing("half a reply after the reply", HELLO + OK),
    _closing("100 after the reply", HELLO + b"HTTP/1.1 100 Continue\r\n\r\n"),
    _closing("a line break after the last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n\r\n"),
    _closing("a second last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n0\r\n\r\n"),
    _closing("a line break after an empty body", OK + b"content-length: 0\r\n\r\n\r\n", b""),
)
