"""A merchant for the sandbox's tests: creates orders, signs them without our client, and responds to callbacks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import md5
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx
from anyio.abc import SocketStream
from servers import RawServer, http, raw_server

from gatepay_async.sandbox import Order, Sandbox

# The signed fields of pay/create, in the order of the signature.
FIELDS = ("product_id", "product_num", "pay_type", "out_order_id", "custom")


def md5_hex(text: str) -> str:
    return md5(text.encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice


def order_form(sandbox: Sandbox, **changes: str) -> dict[str, str]:
    """Return the form of a valid call of pay/create, with *changes*."""
    values = {"product_id": "8", "product_num": "1", "pay_type": "wechat", "out_order_id": "T-1001-X", "custom": "c@d"}
    values |= changes
    inner = md5_hex(sandbox.appkey + "".join(values[name] for name in FIELDS))
    return {"appkey": sandbox.appkey, **values, "sign": md5_hex(inner + sandbox.appsecret)}


async def make_order(sandbox: Sandbox, **changes: str) -> Order:
    """Call pay/create in this process, without a server. Return the order."""
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/") as client:
        reply = await client.post("pay/create", data=order_form(sandbox, **changes))
    assert reply.json()["code"] == 100, reply.text
    return sandbox.orders()[-1]


@asynccontextmanager
async def merchant(*answers: str | bytes) -> AsyncGenerator[RawServer]:
    """Serve *answers* in turn, repeating the last: a body, the bytes of a response, or "" for no response."""

    async def answer(stream: SocketStream, number: int) -> None:
        response = answers[min(number, len(answers)) - 1]
        if response == "":
            await anyio.sleep_forever()
        await stream.send(http(response.encode()) if isinstance(response, str) else response)
        raise ConnectionAbortedError

    async with raw_server(answer) as server:
        server.base_url = server.base_url.replace("/api/", "/callback")
        yield server


def query_of(head: bytes) -> dict[str, str]:
    """Return the query of a callback."""
    target = head.split(b" ")[1].decode()
    return dict(parse_qsl(urlsplit(target).query, keep_blank_values=True, strict_parsing=True))
