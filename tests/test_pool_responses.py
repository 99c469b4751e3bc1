"""HTTP/1.1 without sockets: bytes to responses, requests to bytes."""

from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_replies import REPLIES, OddReply

from gatepay_async.pool.port import Request
from gatepay_async.pool.requests import Framing, encode, encode_head
from gatepay_async.pool.responses import MAX_HEAD, ResponseReader

pytestmark = pytest.mark.fast

# As much as is read at a time.
AT_ONCE = 64 * 1024


def play(row: OddReply, pieces: Iterable[bytes]) -> tuple[int, bytes, bool]:
    """What is read of *row*, when it comes in *pieces*."""
    reader = ResponseReader()
    reader.start(to_head=row.method == "HEAD")
    for piece in pieces:
        reader.feed(piece)
        if reader.problem is not None:
            break
    if row.ends:
        reader.end()
    if reader.problem is not None or not reader.complete:
        return 0, b"", False
    body = b"".join(reader.take() for _ in range(len(reader.parts)))
    assert reader.held == 0
    return reader.status, body, reader.reusable and not reader.surplus


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_odd_replies() -> None:
    """Each reply of the table is read as it must be: whole, byte by byte, and cut in two anywhere."""
    wrong: list[str] = []
    for row in REPLIES:
        ways = [cut(row.sent, AT_ONCE), cut(row.sent, 1 if len(row.sent) < 10_000 else 777)]
        if len(row.sent) < 200:
            ways += [[row.sent[:place], row.sent[place:]] for place in range(1, len(row.sent))]
        came = [play(row, way) for way in ways]
        wrong += [f"{row.name}: {one}" for one in came if one != (row.status, row.body, row.kept)]
    assert not wrong, "\n".join(wrong)


word = st.text("aZ0-._:;= \t", min_size=1, max_size=8).filter(lambda text: text.strip() == text)
header = st.tuples(st.sampled_from(["Server", "date", "X-A", "connection", "Upgrade", "Transfer-Encoding"]), word)


@given(
    st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
    st.sampled_from([200, 204, 299, 404, 599, 600]),
    word,
    st.lists(header | st.tuples(st.just("Connection"), st.sampled_from(["Keep-Alive", "close"])), max_size=3),
    st.binary(max_size=4) | st.sampled_from([b"\r\n", b"x\n"]),
    st.integers(-1, 2),
    st.integers(0, 9),
)
def test_plain_replies(  # noqa: PLR0917 -- what a reply is made of
    version: str, status: int, reason: str, headers: list[tuple[str, str]], body: bytes, missing: int, cut_at: int
) -> None:
    """A reply whose head comes in one piece is read as llhttp reads it, whatever becomes of its body."""
    lines = [f"{version} {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    whole = "\r\n".join([*lines, f"Content-Length: {max(0, len(body) + missing)}", "", ""]).encode() + body
    head = len(whole) - len(body) + min(cut_at, len(body))
    ways = ([whole[:head], *([whole[head:]] if whole[head:] else [])], [whole[:1], whole[1:]])
    readers = [ResponseReader(), ResponseReader()]
    for reader, pieces in zip(readers, ways, strict=True):
        for piece in pieces:
            if reader.problem is None:
                reader.feed(piece)
    quick, slow = [
        (
            r.problem,
            r.held,
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
    assert quick == slow


def test_nothing_of_a_reply_in_a_problem() -> None:
    """What is said of a reply that is none quotes nothing of it."""
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


def test_one_after_the_other() -> None:
    """The same reader reads the next response, with nothing left of the one before."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 404 Gone\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-b: 2\r\n\r\n")
    assert (reader.status, reader.reason, reader.reusable) == (404, b"Gone", True)
    reader.start()
    assert (reader.status, reader.headers, reader.complete) == (0, [], False)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (reader.status, reader.reason, list(reader.parts)) == (200, b"OK", [b"hi"])
    assert reader.headers == [(b"Content-Length", b"2")]
    assert reader.fields == {b"content-length": b"2"}


def test_line_breaks_one_by_one() -> None:
    """A line break that comes alone is a part like any other: an empty part would be the body's end."""
    for body in (b"\r\n\r\n", b"a\n\r\nb\n"):
        chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(body)
        for head in (b"content-length: %d\r\n\r\n" % len(body), chunked):
            reader = ResponseReader()
            raw = b"HTTP/1.1 200 OK\r\n" + head + body + (b"\r\n0\r\n\r\n" if b"chunked" in head else b"")
            for byte in raw:
                reader.feed(bytes((byte,)))
            assert (reader.complete, list(reader.parts)) == (True, [bytes((byte,)) for byte in body])


def test_the_longest_head() -> None:
    """A head may be nearly as long as the limit; one that is longer is refused though all of the reply is there."""
    for length, ends in ((MAX_HEAD - 100, True), (MAX_HEAD + 1, False)):
        reader = ResponseReader()
        reader.feed(b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * length + b"\r\ncontent-length: 2\r\n\r\nhi")
        assert (reader.complete, reader.problem is None) == (ends, ends)


def test_requests() -> None:
    """A request is one buffer: its head, ready-made or not, and its body."""
    lines = [(b"Host", b"x"), (b"X-A", b"1")]
    start = encode_head(b"POST", b"/a?b", lines) + b"Content-Length: "
    wanted = b"POST /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi"
    assert encode(Request(b"POST", b"/a?b", lines, b"hi", {}, start)) == wanted
    assert encode(Request(b"POST", b"/a?b", [*lines, (b"Content-Length", b"2")], b"hi", {})) == wanted
    assert encode(Request(b"GET", b"/", [(b"host", b"x")], b"", {})) == b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


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
def test_no_requests(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """What would be another request than it seems to be is refused."""
    with pytest.raises(httpx.LocalProtocolError):
        encode_head(method, target, [(b"host", b"x"), *headers])


def test_no_host() -> None:
    """A request names its host."""
    with pytest.raises(httpx.LocalProtocolError, match="Host"):
        encode_head(b"GET", b"/", [])


def test_framing() -> None:
    """A body in parts goes out in chunks, or as long as its head says, neither longer nor shorter."""
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


def test_a_body_of_another_length_than_its_head_says() -> None:
    """A body of bytes is held to its head, and a head gives one length: the rest would be another request."""
    length, chunked = (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")
    wrong: list[tuple[list[tuple[bytes, bytes]], bytes]] = [
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
    for headers, body in wrong:
        try:
            encode(Request(b"POST", b"/", [(b"host", b"x"), *headers], body, {}))
        except httpx.LocalProtocolError:
            continue
        accepted.append((headers, body))
    assert accepted == []
    for headers, sent in [([length], b"abc"), ([chunked], b"3\r\nabc\r\n0\r\n\r\n")]:
        assert encode(Request(b"POST", b"/", [(b"host", b"x"), *headers], b"abc", {})).endswith(b"\r\n\r\n" + sent)
