"""A request of HTTP/1.1 to bytes, without I/O."""

import re
from typing import Final

import httpx

from gatepay_async.pool.port import Lines, Request
from gatepay_async.words.problem import Problem

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"[!-~\x80-\xff]+")
_FORBIDDEN: Final = re.compile(rb"[\0\r\n]")


def encode_head(method: bytes, target: bytes, headers: Lines) -> bytes:
    """
    The head of a request, without the empty line that ends it.

    Raises:
        httpx.LocalProtocolError: It would be another request than it seems to be.
    """
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError(Problem("bad_target"))
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _FORBIDDEN.search(value):
            raise httpx.LocalProtocolError(Problem("bad_request_header"))
    if sum(name.lower() == b"host" for name, _ in headers) != 1:
        raise httpx.LocalProtocolError(Problem("no_host_header"))
    lines = b"".join(b"%b: %b\r\n" % line for line in headers)
    return b"%b %b HTTP/1.1\r\n%b" % (method, target, lines)


def encode(request: Request) -> bytes:
    """All of *request* that is there: its head, and its body if that is bytes."""
    body = request.body if isinstance(request.body, bytes) else b""
    if request.start:
        return b"%b%d\r\n\r\n%b" % (request.start, len(body), body)
    head = encode_head(request.method, request.target, request.headers)
    framing = Framing(request.headers)  # of a body in parts, too: what is wrong is found before a byte leaves
    framed = framing.frame(body) + framing.end() if isinstance(request.body, bytes) else b""
    return b"%b\r\n%b" % (head, framed)


class Framing:
    """
    How the body of a request is sent: in chunks, or as long as its head says.

    Raises:
        httpx.LocalProtocolError: The head doesn't give one length. A server could take the rest for another request,
            and the next call would get the reply to that.
    """

    def __init__(self, headers: Lines) -> None:
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1 or not all(map(bytes.isdigit, lengths)) or codings not in ([], [b"chunked"]):
            raise httpx.LocalProtocolError(Problem("no_single_length"))
        self._chunked = bool(codings)
        self._missing = int(lengths[0]) if lengths else 0

    def frame(self, part: bytes) -> bytes:
        """Put *part* as it is sent."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(part), part) if part else b""
        self._missing -= len(part)
        if self._missing < 0:
            raise httpx.LocalProtocolError(Problem("request_body_too_long"))
        return part

    def end(self) -> bytes:
        """What comes behind the last part."""
        if self._missing > 0:
            raise httpx.LocalProtocolError(Problem("request_body_too_short"))
        return b"0\r\n\r\n" if self._chunked else b""
