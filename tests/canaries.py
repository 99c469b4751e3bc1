"""Puts secrets into every part of a reply, and finds traces of them in a text."""

import html
import json
import random
import re
import string
from collections.abc import Iterator
from urllib.parse import quote_plus

LETTERS = string.ascii_uppercase
LOWERCASE = string.ascii_lowercase
DIGITS = string.digits


def canary(rng: random.Random) -> str:
    """Return a random secret that looks like a card key or a signature, and appears in no ordinary sentence."""

    def random_text(letters: str, count: int) -> str:
        return "".join(rng.choices(letters, k=count))

    return rng.choice(
        [
            "-".join(random_text(LETTERS + DIGITS, 5) for _ in range(4)),
            random_text(LETTERS, 12),
            random_text(DIGITS, 18),
            random_text("0123456789abcdef", 32),
            random_text(string.ascii_letters + DIGITS, 16) + "7",  # a digit, so that it can't be taken for a word
            f"{random_text(LOWERCASE, 8)}7----{random_text(string.ascii_letters, 6)}@{random_text(DIGITS, 5)}",
            " ".join(random_text(DIGITS, 4) for _ in range(4)),
            f"卡密{random_text(LETTERS + DIGITS, 9)}&<{random_text(LETTERS, 6)}>",
            f"{random_text(LETTERS, 7)}\\\"'{random_text(DIGITS, 7)}",
        ]
    )


def find_traces(secret: str, text: str) -> list[str]:
    """Return the parts of *secret* that *text* contains: whole or in pieces, unchanged or escaped."""
    # Shorter pieces may be in the text by coincidence.
    pieces = {piece for piece in re.findall(r"[A-Za-z0-9]+", secret) if len(piece) > (6 if piece.isdigit() else 4)}
    forms = {secret, html.escape(secret), quote_plus(secret), json.dumps(secret)[1:-1], *pieces}
    return sorted(form for form in forms if form in text)


def replies(secret: str) -> Iterator[tuple[str, bytes]]:
    """Yield replies that contain *secret* in different places, each with the name of the place."""
    raw = secret.encode()
    row = {"id": 1, "admin_id": 1, "pay_product_id": 8, "pay_order_id": 0, "content": secret, "createtime": 1}
    rows = [{**row, "updatetime": 1, "status": "soldin"}]
    ka = {"total": 1, "per_page": 50, "current_page": 1, "last_page": 1, "data": rows}
    whole = {"code": 100, "msg": "ok", "time": "1", "data": {"ka": ka}}

    def http_reply(body: bytes, head: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
        return b"%b\r\ncontent-length: %d\r\n%b\r\n%b" % (start, len(body), head, body)

    page = http_reply(json.dumps(whole).encode())
    empty = b'{"code": 100, "data": {"category": []}}'
    yield "status line", b"HTTP/1.1 " + raw + b" OK\r\n\r\n"
    yield "reason", http_reply(b"{}", start=b"HTTP/1.1 502 " + raw)
    yield "version", http_reply(b"{}", start=raw + b" 200 OK")
    yield "header line", b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n"
    yield "header name", http_reply(b"{}", head=b"x-" + raw + b": 1\r\n")
    yield "header value", http_reply(b"{}", head=b"content-type: " + raw + b"\r\n")
    yield "a redirect", http_reply(b"", head=b"location: /" + raw + b"\r\n", start=b"HTTP/1.1 302 Found")
    yield "length", b"HTTP/1.1 200 OK\r\ncontent-length: " + raw + b"\r\n\r\n"
    yield "coding", http_reply(raw, head=b"content-encoding: deflate\r\n")
    yield "chunk size", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + raw + b"\r\n"
    yield (
        "chunk extension",
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=" + raw + b"\r\n{}\r\n0\r\n\r\n"),
    )
    yield "chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}" + raw + b"\r\n0\r\n\r\n"
    yield "trailer", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + raw + b"\r\n\r\n"
    yield "left over", http_reply(empty) + raw
    yield "left-over page", http_reply(empty) + page
    yield "204 with a page", b"HTTP/1.1 204 No Content" + page.removeprefix(b"HTTP/1.1 200 OK")
    yield "length too short", page.replace(b"content-length: ", b"content-length: 7\r\nx-was: ")
    yield "page", page
    yield "text", http_reply(raw)
    yield "title", http_reply(b"<html><title>" + html.escape(secret).encode() + b"</title>" + raw)
    yield "title with words", http_reply(b"<title>Error in " + raw + b" at line 7</title>", start=b"HTTP/1.1 500 X")
    yield "a name in JSON", http_reply(json.dumps({secret: {secret: 1}}).encode())
    yield "a list in JSON", http_reply(json.dumps([secret, secret]).encode())
    yield "text in JSON", http_reply(json.dumps(secret).encode())
    yield "cut JSON", http_reply(json.dumps(whole).encode()[:-4])
    yield "invalid UTF-8", http_reply(b'{"code": 100, "msg": "' + raw + b'\xff"}')
    yield "two byte-order marks", http_reply(b"\xef\xbb\xbf\xef\xbb\xbf" + json.dumps(whole).encode())
    for name, change in (
        ("message", {"msg": f"错误：{secret}。"}),
        ("data", {"data": secret}),
        ("time", {"time": secret}),
    ):
        for code in (100, 105, 112, 999):
            yield (
                f"{name} of {code}",
                http_reply(json.dumps({**whole, "code": code, **change}, ensure_ascii=False).encode()),
            )
    for field in ka:
        yield f"field {field}", http_reply(json.dumps({**whole, "data": {"ka": {**ka, field: secret}}}).encode())
    for field in rows[0]:
        invalid = {**ka, "data": [{**rows[0], field: [secret]}]}
        yield f"field of a row {field}", http_reply(json.dumps({**whole, "data": {"ka": invalid}}).encode())
    for field in ("order_type", "order_price", "order_url", "order_qrcode", "category"):
        yield f"field {field}", http_reply(json.dumps({**whole, "data": {field: secret}}).encode())
