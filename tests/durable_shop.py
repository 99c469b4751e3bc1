"""A server that stores card keys as GatePay does and records its calls."""

import re
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TypeVar
from urllib.parse import parse_qs

import anyio
from anyio.abc import SocketStream
from attrs import define, field
from servers import http, raw_server

AnyShop = TypeVar("AnyShop", bound="Shop")


@define
class Shop:
    """
    The server's settings and records.

    Attributes:
        latency: Seconds before each reply.
        refuse: The code with which every call is refused; 0: no call is refused.
        stored: How often each card key was stored, which should be once.
        sent: How often each chunk arrived, by its first card key.
        in_flight: The number of calls that are being answered.
        most_in_flight: The largest value of ``in_flight`` so far.
        times: When each call was sent, if its header says so; else when it arrived.
        down: Whether the server cuts every connection.
        cut_connections: The number of connections that were cut.
        refuse_with: For some card keys, the code with which each call that contains the card key is refused.
    """

    latency: float = 0.0
    refuse: int = 0
    base_url: str = ""
    down: bool = False
    cut_connections: int = 0
    refuse_with: dict[str, int] = field(factory=dict)
    stored: Counter[str] = field(factory=Counter)
    sent: Counter[str] = field(factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    times: list[float] = field(factory=list)

    def most_in(self, seconds: float) -> int:
        """Return the largest number of calls in any period of *seconds*."""
        times = sorted(self.times)
        maximum = first_index = 0
        for last_index, time_of_last in enumerate(times):
            while times[first_index] <= time_of_last - seconds:
                first_index += 1
            maximum = max(maximum, last_index - first_index + 1)
        return maximum

    def longest_gap(self) -> float:
        """Return the longest time between two calls, in seconds."""
        return max((later - earlier for earlier, later in pairwise(self.times)), default=0.0)

    async def wait_before_reply(self) -> None:
        """Wait before a reply; tests override this."""
        await anyio.sleep(self.latency)

    def answer(self, body: bytes) -> bytes:
        """Return the reply to a call of ka/create."""
        if self.refuse:
            return reply(self.refuse, "no")
        keys = parse_qs(body.decode())["content"][0].split("\n")
        self.sent[keys[0]] += 1
        for key in self.refuse_with.keys() & set(keys):
            return reply(self.refuse_with[key], "no")
        new = [key for key in keys if key not in self.stored]
        self.stored.update(new)
        return reply(100, f"成功录入:{len(new)}条卡密") if new else reply(112, "卡密全部存在")


def reply(code: int, data: str) -> bytes:
    """Return a reply in GatePay's format."""
    return f'{{"code": {code}, "msg": "msg", "time": "1556251812", "data": "{data}"}}'.encode()


@asynccontextmanager
async def serving(shop: AnyShop) -> AsyncGenerator[AnyShop]:
    """Serve *shop* on loopback."""

    async def answer(stream: SocketStream, _: int) -> None:
        body = server.bodies.pop()
        head = server.heads.pop()
        if shop.down:
            shop.cut_connections += 1
            raise ConnectionAbortedError
        sent_header = re.search(rb"\r\nx-sent: ([\d.]+)", head)
        shop.times.append(float(sent_header[1]) if sent_header else time.monotonic())
        shop.in_flight += 1
        shop.most_in_flight = max(shop.most_in_flight, shop.in_flight)
        try:
            await shop.wait_before_reply()
            await stream.send(http(shop.answer(body)))
        finally:
            shop.in_flight -= 1

    async with raw_server(answer) as server:
        shop.base_url = server.base_url
        yield shop
