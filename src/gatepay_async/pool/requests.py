"""Encodes HTTP/1.1 requests, without I/O."""

import re
from typing import Final

import httpx

from gatepay_async.pool.port import HeaderLines, Request
from gatepay_async.words.problem import Problem

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"[!-~\x80-\xff]+")
_FORBIDDEN: Final = re.compile(rb"[\0\r\n]")


def encode_head(method: bytes, target: bytes, headers: HeaderLines) -> bytes:
    """
    Encode the head of a request, without the empty line that ends it.

    Raises:
        httpx.LocalProtocolError: A part is invalid: a line break in it, for example, would start another header.
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
    """Encode the head of *request*, and its body if that is bytes."""
    body = request.body if isinstance(request.body, bytes) else b""
    if request.encoded_head:
        return b"%b%d\r\n\r\n%b" % (request.encoded_head, len(body), body)
    head = encode_head(request.method, request.target, request.headers)
    framing = Framing(request.headers)  # even for a stream: invalid headers must raise before anything is sent
    framed = framing.frame(body) + framing.end() if isinstance(request.body, bytes) else b""
    return b"%b\r\n%b" % (head, framed)


class Framing:
    """
    Encodes the body of a request: chunked, or with the length that the headers give.

    Raises:
        httpx.LocalProtocolError: The headers don't give exactly one length. A server could then read the rest of the
            body as another request, and the next call would get the reply to that.
    """

    def __init__(self, headers: HeaderLines) -> None:
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1 or not all(map(bytes.isdigit, lengths)) or codings not in ([], [b"chunked"]):
            raise httpx.LocalProtocolError(Problem("no_single_length"))
        self._chunked = bool(codings)
        self._missing = int(lengths[0]) if lengths else 0  # bytes of the body that were not encoded yet

    def frame(self, part: bytes) -> bytes:
        """
        Encode the next part of the body.

        Raises:
            httpx.LocalProtocolError: The body is longer than its Content-Length.
        """
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(part), part) if part else b""
        self._missing -= len(part)
        if self._missing < 0:
            raise httpx.LocalProtocolError(Problem("request_body_too_long"))
        return part

    def end(self) -> bytes:
        """
        Return the bytes that follow the last part.

        Raises:
            httpx.LocalProtocolError: The body is shorter than its Content-Length.
        """
        if self._missing > 0:
            raise httpx.LocalProtocolError(Problem("request_body_too_short"))
        return b"0\r\n\r\n" if self._chunked else b""
