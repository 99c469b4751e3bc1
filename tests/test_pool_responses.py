"""Parsing responses and encoding requests, without sockets."""

from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_replies import REPLIES, OddReply

from gatepay_async.pool.port import Request
from gatepay_async.pool.requests import Framing, encode, encode_head
from gatepay_async.pool.responses import MAX_HEAD_BYTES, ResponseReader

pytestmark = pytest.mark.fast

# The most bytes that the event loop delivers at once.
READ_SIZE = 64 * 1024


def parse(row: OddReply, pieces: Iterable[bytes]) -> tuple[int, bytes, bool]:
    """Feed *pieces* to a reader. Return the status, the body and whether the connection may be reused."""
    reader = ResponseReader()
    reader.start(answers_head_request=row.method == "HEAD")
    for piece in pieces:
        reader.feed(piece)
        if reader.problem is not None:
            break
    if row.ends:
        reader.end()
    if reader.problem is not None or not reader.complete:
        return 0, b"", False
    body = b"".join(reader.take() for _ in range(len(reader.parts)))
    assert reader.held_bytes == 0
    return reader.status, body, reader.reusable and not reader.surplus


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_odd_replies_are_parsed_as_expected() -> None:
    """Each reply of the table gives the expected result: whole, byte by byte, and cut in two anywhere."""
    wrong: list[str] = []
    for row in REPLIES:
        # Single bytes would be slow for a long reply.
        splits = [split(row.sent, READ_SIZE), split(row.sent, 1 if len(row.sent) < 10_000 else 777)]
        if len(row.sent) < 200:
            splits += [[row.sent[:i], row.sent[i:]] for i in range(1, len(row.sent))]
        results = [parse(row, pieces) for pieces in splits]
        wrong += [f"{row.name}: {result}" for result in results if result != (row.status, row.body, row.kept)]
    assert not wrong, "\n".join(wrong)


token = st.text("aZ0-._:;= \t", min_size=1, max_size=8).filter(lambda text: text.strip() == text)
header_line = st.tuples(st.sampled_from(["Server", "date", "X-A", "connection", "Upgrade", "Transfer-Encoding"]), token)


@given(
    st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
    st.sampled_from([200, 204, 299, 404, 599, 600]),
    token,
    st.lists(header_line | st.tuples(st.just("Connection"), st.sampled_from(["Keep-Alive", "close"])), max_size=3),
    st.binary(max_size=4) | st.sampled_from([b"\r\n", b"x\n"]),
    st.integers(-1, 2),
    st.integers(0, 9),
)
def test_fast_and_llhttp_parsers_agree(  # noqa: PLR0917 -- the parts of a reply
    version: str, status: int, reason: str, headers: list[tuple[str, str]], body: bytes, missing: int, cut_at: int
) -> None:
    """The regular expression for plain heads and llhttp, which parses a head in two parts, give the same results."""
    lines = [f"{version} {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    whole = "\r\n".join([*lines, f"Content-Length: {max(0, len(body) + missing)}", "", ""]).encode() + body
    cut = len(whole) - len(body) + min(cut_at, len(body))  # in the body: the first reader gets the head in one piece
    splits = ([whole[:cut], *([whole[cut:]] if whole[cut:] else [])], [whole[:1], whole[1:]])
    readers = [ResponseReader(), ResponseReader()]
    for reader, pieces in zip(readers, splits, strict=True):
        for piece in pieces:
            if reader.problem is None:
                reader.feed(piece)
    # After a problem nobody reads the rest, which depends on the pieces.
    fast, slow = [
        (r.problem,)
        if r.problem is not None
        else (
            r.held_bytes,
            r.status,
            r.reason,
            r.headers,
            r.fields,
            b"".join(r.parts),
            r.complete,
            r.reusable,
            r.surplus,
        )
        for r in readers
    ]
    assert fast == slow


def test_problem_does_not_quote_the_reply() -> None:
    secret = b"SECRET"
    for raw in (
        secret,
        b"HTTP/1.1 200 OK\r\n" + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: SECRET\r\n",
    ):
        reader = ResponseReader()
        reader.feed(raw)
        assert reader.problem is not None
        assert "SECRET" not in reader.problem


def test_reader_reads_a_second_response() -> None:
    """After ``start()`` the reader has forgotten the last response, and reads the next one."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 404 Gone\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-b: 2\r\n\r\n")
    assert (reader.status, reader.reason, reader.reusable) == (404, b"Gone", True)
    reader.start()
    assert (reader.status, reader.headers, reader.complete) == (0, [], False)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (reader.status, reader.reason, list(reader.parts)) == (200, b"OK", [b"hi"])
    assert reader.headers == [(b"Content-Length", b"2")]
    assert reader.fields == {b"content-length": b"2"}


def test_line_breaks_in_single_bytes_are_parts_of_the_body() -> None:
    """A line break that arrives alone is a part of the body. An empty part would mean the end of the body."""
    for body in (b"\r\n\r\n", b"a\n\r\nb\n"):
        chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(body)
        for head in (b"content-length: %d\r\n\r\n" % len(body), chunked):
            reader = ResponseReader()
            raw = b"HTTP/1.1 200 OK\r\n" + head + body + (b"\r\n0\r\n\r\n" if b"chunked" in head else b"")
            for byte in raw:
                reader.feed(bytes((byte,)))
            assert (reader.complete, list(reader.parts)) == (True, [bytes((byte,)) for byte in body])


def test_head_up_to_the_limit_is_accepted() -> None:
    """A head just below the limit is accepted. A longer one is rejected even if the response is complete."""
    for length, is_accepted in ((MAX_HEAD_BYTES - 100, True), (MAX_HEAD_BYTES + 1, False)):
        reader = ResponseReader()
        reader.feed(b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * length + b"\r\ncontent-length: 2\r\n\r\nhi")
        assert (reader.complete, reader.problem is None) == (is_accepted, is_accepted)


def test_request_is_encoded_into_one_buffer() -> None:
    """A request is encoded into one buffer with head and body, with a prepared head and without."""
    lines = [(b"Host", b"x"), (b"X-A", b"1")]
    encoded_head = encode_head(b"POST", b"/a?b", lines) + b"Content-Length: "
    expected = b"POST /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi"
    assert encode(Request(b"POST", b"/a?b", lines, b"hi", encoded_head=encoded_head)) == expected
    assert encode(Request(b"POST", b"/a?b", [*lines, (b"Content-Length", b"2")], b"hi")) == expected
    assert encode(Request(b"GET", b"/", [(b"host", b"x")], b"")) == b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GE T", b"/", []),
        (b"", b"/", []),
        (b"GET", b"/ HTTP/1.1\r\nx: y", []),
        (b"GET", b"", []),
        (b"GET", b"/", [(b"x\n", b"y")]),
        (b"GET", b"/", [(b"x", b"y\r\nz: 1")]),
        (b"GET", b"/", [(b"x", b"y\0")]),
        (b"GET", b"/", [(b"host", b"y")]),
    ],
)
def test_invalid_request_head_is_rejected(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """A method, target or header that would change the structure of the request is rejected."""
    with pytest.raises(httpx.LocalProtocolError):
        encode_head(method, target, [(b"host", b"x"), *headers])


def test_request_without_host_is_rejected() -> None:
    with pytest.raises(httpx.LocalProtocolError, match="Host"):
        encode_head(b"GET", b"/", [])


def test_streamed_body_is_sent_in_chunks_or_with_its_length() -> None:
    """A streamed body is sent in chunks, or with the exact Content-Length of its headers."""
    chunked = Framing([(b"Transfer-Encoding", b"chunked")])
    assert [chunked.frame(b"x" * 17), chunked.frame(b""), chunked.end()] == [
        b"11\r\n" + b"x" * 17 + b"\r\n",
        b"",
        b"0\r\n\r\n",
    ]
    exact = Framing([(b"Content-Length", b"3")])
    assert [exact.frame(b"ab"), exact.frame(b"c"), exact.end()] == [b"ab", b"c", b""]
    with pytest.raises(httpx.LocalProtocolError, match="longer"):
        exact.frame(b"d")
    with pytest.raises(httpx.LocalProtocolError, match="shorter"):
        Framing([(b"Content-Length", b"3")]).end()


def test_body_must_match_its_headers() -> None:
    """The headers must give exactly one length, that of the body: the server could read the rest as another request."""
    length, chunked = (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")
    invalid: list[tuple[list[tuple[bytes, bytes]], bytes]] = [
        ([(b"content-length", b"1")], b"abc"),
        ([(b"content-length", b"4")], b"abc"),
        ([], b"abc"),
        ([length, length], b"abc"),
        ([length, chunked], b"abc"),
        ([chunked, chunked], b"abc"),
        ([(b"content-length", b"1_0")], b"x" * 10),
        ([(b"content-length", b"+3")], b"abc"),
        ([(b"transfer-encoding", b"gzip, chunked")], b"abc"),
    ]
    accepted = []
    for headers, body in invalid:
        try:
            encode(Request(b"POST", b"/", [(b"host", b"x"), *headers], body))
        except httpx.LocalProtocolError:
            continue
        accepted.append((headers, body))
    assert accepted == []
    for headers, sent in [([length], b"abc"), ([chunked], b"3\r\nabc\r\n0\r\n\r\n")]:
        assert encode(Request(b"POST", b"/", [(b"host", b"x"), *headers], b"abc")).endswith(b"\r\n\r\n" + sent)
