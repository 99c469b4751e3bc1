"""A server that keeps card keys as GatePay does, and remembers who asked what, and when."""

import re
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from urllib.parse import parse_qs

import anyio
from anyio.abc import SocketStream
from attrs import define, field
from servers import http, raw_server


@define
class Shop:
    """
    What it has, and what it has seen.

    Attributes:
        latency: Seconds before each reply.
        refuse: A code that it answers instead of storing anything; 0: none.
        stored: How often each card key was stored: once, if all is well.
        sent: How often each chunk came, by its first card key.
        in_flight: Calls being answered.
        most_in_flight: The most of them at any time.
        times: When each call was sent, if it says so; else when it came.
        down: Connections are cut.
        cut: How many were.
        refuse_with: What calls that hold such a card key are answered.
    """

    latency: float = 0.0
    refuse: int = 0
    base_url: str = ""
    down: bool = False
    cut: int = 0
    refuse_with: dict[str, int] = field(factory=dict)
    stored: Counter[str] = field(factory=Counter)
    sent: Counter[str] = field(factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    times: list[float] = field(factory=list)

    def most_in(self, seconds: float) -> int:
        """The most calls within *seconds*."""
        times = sorted(self.times)
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def longest_gap(self) -> float:
        """The longest time in which no call came."""
        return max((later - earlier for earlier, later in pairwise(self.times)), default=0.0)

    async def think(self) -> None:
        """What goes on before each reply."""
        await anyio.sleep(self.latency)

    def answer(self, body: bytes) -> bytes:
        """The reply to ka/create."""
        if self.refuse:
            return reply(self.refuse, "no")
        keys = parse_qs(body.decode())["content"][0].split("\n")
        self.sent[keys[0]] += 1
        for key in self.refuse_with.keys() & set(keys):
            return reply(self.refuse_with[key], "no")
        fresh = [key for key in keys if key not in self.stored]
        self.stored.update(fresh)
        return reply(100, f"成功录入:{len(fresh)}条卡密") if fresh else reply(112, "卡密全部存在")


def reply(code: int, data: str) -> bytes:
    """As GatePay's."""
    return f'{{"code": {code}, "msg": "msg", "time": "1556251812", "data": "{data}"}}'.encode()


@asynccontextmanager
async def serving(shop: Shop) -> AsyncGenerator[Shop]:
    """Serve *shop* on loopback."""

    async def answer(stream: SocketStream, _: int) -> None:
        body = server.bodies.pop()
        head = server.heads.pop()
        if shop.down:
            shop.cut += 1
            raise ConnectionAbortedError
        said = re.search(rb"\r\nx-sent: ([\d.]+)", head)
        shop.times.append(float(said[1]) if said else time.monotonic())
        shop.in_flight += 1
        shop.most_in_flight = max(shop.most_in_flight, shop.in_flight)
        try:
            await shop.think()
            await stream.send(http(shop.answer(body)))
        finally:
            shop.in_flight -= 1

    async with raw_server(answer) as server:
        shop.base_url = server.base_url
        yield shop
