"""
The other end of the benchmarks: HTTP as fast as plain asyncio can answer it, in a process of its own.

    python -m benchmarks.server --latency 0.05 --pages 400 --cpu 1

Answers ka/show, ka/create and product/show as GatePay does, checks nothing, and keeps nothing but counts. The
first line that it prints says where it is; it ends when its standard input does, and so with its parent.
"""

import argparse
import asyncio
import heapq
import json
import sys
import time
from collections import deque
from functools import lru_cache
from statistics import median

from attrs import define, field

from benchmarks.placing import place_on

ROWS = 50  # on a page, as in the vendor's example
# Stands for the page's number; in no other place of the reply.
_HERE = b"@"
_TIMED = 5000  # replies whose latency is remembered


def page_template(pages: int) -> bytes:
    """The JSON of a page of card keys, `@` wherever the page's number belongs: one replace() makes a page."""
    rows = [
        {
            "id": f"@{row:02d}",  # page 7: 700 to 749; ascending over all pages
            "admin_id": 3,
            "pay_product_id": 8,
            "pay_order_id": 0,
            "content": f"KEY-@-{row:02d}-ABCDEFGH",
            "createtime": 1556251520,
            "updatetime": 1556251520,
            "status": "soldin",
        }
        for row in range(ROWS)
    ]
    ka = {"total": pages * ROWS, "per_page": ROWS, "current_page": "@", "last_page": pages, "data": rows}
    text = json.dumps({"code": 100, "msg": "请求成功", "time": "1556251812", "data": {"ka": ka}}, ensure_ascii=False)
    for quoted in ('"@"', *(f'"@{row:02d}"' for row in range(ROWS))):
        text = text.replace(quoted, quoted.strip('"'), 1)  # text so far, so that JSON would take the `@`
    return text.encode()


def reply(data: bytes) -> bytes:
    """A whole HTTP response."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


def success(data: object) -> bytes:
    """What every reply is wrapped in."""
    return json.dumps({"code": 100, "msg": "ok", "time": "1556251812", "data": data}, ensure_ascii=False).encode()


def form_field(body: bytes, name: bytes) -> bytes:
    """The field as it was sent, still encoded; empty if it is not there."""
    _, found, rest = (b"&" + body).partition(b"&" + name + b"=")
    return rest.partition(b"&")[0] if found else b""


@define
class Shop:
    """
    What is answered, and what is counted.

    Args:
        pages: How many pages of card keys there are.
        latency: Seconds before each reply.
        workers: How many requests are worked at, for that long each; the others queue. 0: all.
        most: With so many in flight, one more is answered 429. 0: never.
        retry_after: What that asks for; empty: nothing.
    """

    pages: int
    latency: float
    workers: int = 0
    most: int = 0
    retry_after: str = ""
    requests: int = 0
    lines: int = 0
    refused: int = 0
    in_flight: int = 0
    free_at: list[float] = field(factory=list[float])
    took: deque[float] = field(factory=lambda: deque(maxlen=_TIMED))

    def answer(self, target: bytes, body: bytes) -> bytes:
        """The whole response to one request."""
        if target.endswith(b"/bench/counts"):
            return reply(json.dumps(self._counts()).encode())
        self.requests += 1
        if target.endswith(b"/ka/show"):
            return self._page(form_field(body, b"page"))
        if target.endswith(b"/ka/create"):
            lines = form_field(body, b"content").count(b"%0A") + 1
            self.lines += lines
            return reply(success(f"成功录入:{lines}条卡密"))
        return _CATALOG

    def refusal(self) -> bytes | None:
        """What is answered instead where too many are in flight."""
        if not self.most or self.in_flight < self.most:
            return None
        self.refused += 1
        asks = f"retry-after: {self.retry_after}\r\n" if self.retry_after else ""
        return f"HTTP/1.1 429 Too Many Requests\r\n{asks}content-length: 0\r\n\r\n".encode()

    def seconds(self, now: float) -> float:
        """Until the reply to a request that comes *now*."""
        if not self.workers:
            return self.latency
        if not self.free_at:
            self.free_at = [0.0] * self.workers
        until = max(now, heapq.heappop(self.free_at)) + self.latency
        heapq.heappush(self.free_at, until)
        return until - now

    def _page(self, number: bytes) -> bytes:
        return _page(self.pages, number)

    def _counts(self) -> dict[str, float]:
        """All since it was last asked; the latency from the request's last byte in to the reply's first byte out."""
        counts = {
            "requests": self.requests,
            "lines": self.lines,
            "latency": median(self.took) if self.took else 0.0,
            "refused": self.refused,
        }
        self.requests = self.lines = self.refused = 0
        self.took.clear()
        return counts


_CATALOG = reply(success({"category": []}))


@lru_cache(maxsize=16)
def _page(pages: int, number: bytes) -> bytes:
    return reply(_template(pages).replace(_HERE, number or b"1"))


@lru_cache(maxsize=1)
def _template(pages: int) -> bytes:
    return page_template(pages)


class Connection(asyncio.Protocol):
    """One connection: requests in, replies out, in order."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio sets TCP_NODELAY itself."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            length = _content_length(head)
            if not found or len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(head.split(b" ", 2)[1], rest[:length])

    def _answer(self, target: bytes, body: bytes) -> None:
        came = time.perf_counter()
        is_call = not target.endswith(b"/bench/counts")
        refusal = self._shop.refusal() if is_call else None
        if refusal is not None:
            self._transport.write(refusal)
            return
        response = self._shop.answer(target, body)
        if self._shop.latency and is_call:
            self._shop.in_flight += 1
            self._loop.call_later(self._shop.seconds(self._loop.time()), self._write, response, came)
        else:
            self._transport.write(response)

    def _write(self, response: bytes, came: float) -> None:
        self._shop.in_flight -= 1
        self._shop.took.append(time.perf_counter() - came)
        self._transport.write(response)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve(shop: Shop, *, placed: str) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(shop), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "placed": placed}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description="What the benchmarks call.")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--pages", type=int, default=1, help="pages of 50 card keys")
    parser.add_argument("--workers", type=int, default=0, help="requests that are worked at; the others queue")
    parser.add_argument("--most", type=int, default=0, help="requests in flight; one more is answered 429")
    parser.add_argument("--retry-after", default="", help="what a 429 asks for")
    parser.add_argument("--cpu", type=int, help="the only CPU to run on")
    given = parser.parse_args()
    placed = place_on(given.cpu)
    shop = Shop(given.pages, given.latency, given.workers, given.most, given.retry_after)
    asyncio.run(serve(shop, placed=placed))


if __name__ == "__main__":
    main()
