"""
The server of the benchmarks: replies over HTTP as fast as plain asyncio can, in a process of its own.

    python -m benchmarks.server --latency 0.05 --pages 400 --cpu 1

Replies to ka/show, ka/create and product/show as GatePay does, but checks nothing and stores only counts. The first
line that it prints is a JSON object with the port. It stops when its standard input is closed, so also when its parent
process ends.
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

ROWS_PER_PAGE = 50  # as in the vendor's example
# Placeholder for the page number. The reply contains no other `@`.
_PLACEHOLDER = b"@"
_MAX_LATENCIES = 5000  # the median latency is computed from at most so many of the latest replies


def page_template(pages: int) -> bytes:
    """Return the JSON of a page of card keys with `@` for the page number, so that one `replace()` makes a page."""
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
        for row in range(ROWS_PER_PAGE)
    ]
    ka = {
        "total": pages * ROWS_PER_PAGE,
        "per_page": ROWS_PER_PAGE,
        "current_page": "@",
        "last_page": pages,
        "data": rows,
    }
    text = json.dumps({"code": 100, "msg": "请求成功", "time": "1556251812", "data": {"ka": ka}}, ensure_ascii=False)
    for quoted in ('"@"', *(f'"@{row:02d}"' for row in range(ROWS_PER_PAGE))):
        text = text.replace(quoted, quoted.strip('"'), 1)  # remove the quotes: these are numbers
    return text.encode()


def reply(data: bytes) -> bytes:
    """Return a complete HTTP response with *data* as its body."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


def success(data: object) -> bytes:
    """Return the JSON of a successful reply with *data*."""
    return json.dumps({"code": 100, "msg": "ok", "time": "1556251812", "data": data}, ensure_ascii=False).encode()


def form_field(body: bytes, name: bytes) -> bytes:
    """Return the field as it was sent, still URL-encoded; empty if it is missing."""
    _, separator, rest = (b"&" + body).partition(b"&" + name + b"=")
    return rest.partition(b"&")[0] if separator else b""


@define
class Shop:
    """
    Creates the replies and counts requests.

    Attributes:
        pages: The number of pages of card keys.
        latency: Seconds before each reply.
        workers: The number of requests that are processed at once, each for `latency`; others queue. 0: no limit.
        max_in_flight: The number of requests in flight above which a request gets a 429. 0: no limit.
        retry_after: The Retry-After header of a 429; empty: none.
        requests: The number of requests since the counts were read.
        lines: The number of card keys in uploads since the counts were read.
        refused: The number of 429 replies since the counts were read.
        in_flight: The number of requests in flight.
        free_at: For each worker, when it is free; a heap.
        latencies: Measured latencies of the latest replies.
    """

    pages: int
    latency: float
    workers: int = 0
    max_in_flight: int = 0
    retry_after: str = ""
    requests: int = 0
    lines: int = 0
    refused: int = 0
    in_flight: int = 0
    free_at: list[float] = field(factory=list[float])
    latencies: deque[float] = field(factory=lambda: deque(maxlen=_MAX_LATENCIES))

    def answer(self, target: bytes, body: bytes) -> bytes:
        """Count the request, and return the complete response."""
        if target.endswith(b"/bench/counts"):
            return reply(json.dumps(self._counts()).encode())
        self.requests += 1
        if target.endswith(b"/ka/show"):
            return self._page(form_field(body, b"page"))
        if target.endswith(b"/ka/create"):
            lines = form_field(body, b"content").count(b"%0A") + 1
            self.lines += lines
            return reply(success(f"成功录入:{lines}条卡密"))
        return _PRODUCTS_RESPONSE

    def refused_reply(self) -> bytes | None:
        """Return a 429 if too many requests are in flight, otherwise None."""
        if not self.max_in_flight or self.in_flight < self.max_in_flight:
            return None
        self.refused += 1
        header = f"retry-after: {self.retry_after}\r\n" if self.retry_after else ""
        return f"HTTP/1.1 429 Too Many Requests\r\n{header}content-length: 0\r\n\r\n".encode()

    def seconds_until_reply(self, now: float) -> float:
        """Return the seconds until the reply to a request that arrives *now*."""
        if not self.workers:
            return self.latency
        if not self.free_at:
            self.free_at = [0.0] * self.workers
        reply_time = max(now, heapq.heappop(self.free_at)) + self.latency
        heapq.heappush(self.free_at, reply_time)
        return reply_time - now

    def _page(self, number: bytes) -> bytes:
        return _page(self.pages, number)

    def _counts(self) -> dict[str, float]:
        """Return the counts and the median latency since the last call, and reset them."""
        counts = {
            "requests": self.requests,
            "lines": self.lines,
            "latency": median(self.latencies) if self.latencies else 0.0,
            "refused": self.refused,
        }
        self.requests = self.lines = self.refused = 0
        self.latencies.clear()
        return counts


_PRODUCTS_RESPONSE = reply(success({"category": []}))


@lru_cache(maxsize=16)
def _page(pages: int, number: bytes) -> bytes:
    return reply(_template(pages).replace(_PLACEHOLDER, number or b"1"))


@lru_cache(maxsize=1)
def _template(pages: int) -> bytes:
    return page_template(pages)


class Connection(asyncio.Protocol):
    """One connection: receives requests and sends replies in the same order."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport. asyncio sets TCP_NODELAY itself."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Reply to each request that has arrived completely."""
        self._buffer += data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            length = _content_length(head)
            if not separator or len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(head.split(b" ", 2)[1], rest[:length])

    def _answer(self, target: bytes, body: bytes) -> None:
        received = time.perf_counter()
        is_call = not target.endswith(b"/bench/counts")
        refused_reply = self._shop.refused_reply() if is_call else None
        if refused_reply is not None:
            self._transport.write(refused_reply)
            return
        response = self._shop.answer(target, body)
        if self._shop.latency and is_call:
            self._shop.in_flight += 1
            self._loop.call_later(self._shop.seconds_until_reply(self._loop.time()), self._write, response, received)
        else:
            self._transport.write(response)

    def _write(self, response: bytes, received: float) -> None:
        self._shop.in_flight -= 1
        self._shop.latencies.append(time.perf_counter() - received)
        self._transport.write(response)


def _content_length(head: bytes) -> int:
    _, separator, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if separator else 0


async def serve(shop: Shop, *, placement: str) -> None:
    """Serve until standard input is closed. *placement*, which says on which CPU, is printed with the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(shop), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "placement": placement}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description="The server of the benchmarks.")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--pages", type=int, default=1, help="pages of 50 card keys")
    parser.add_argument("--workers", type=int, default=0, help="requests processed at once; others queue")
    parser.add_argument("--max-in-flight", type=int, default=0, help="requests in flight; more get a 429")
    parser.add_argument("--retry-after", default="", help="the Retry-After header of a 429")
    parser.add_argument("--cpu", type=int, help="the only CPU to run on")
    options = parser.parse_args()
    placement = place_on(options.cpu)
    shop = Shop(options.pages, options.latency, options.workers, options.max_in_flight, options.retry_after)
    asyncio.run(serve(shop, placement=placement))


if __name__ == "__main__":
    main()
