"""What the extra `aiohttp` promises: a call over aiohttp's connections, to a server of Python's own."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import anyio

from gatepay_async import AsyncGatePay

SHOP = b'{"code": 100, "msg": "", "time": "1700000000", "data": {"category": []}}'


class Shop(BaseHTTPRequestHandler):
    """Sells nothing."""

    def do_POST(self) -> None:
        """Any call."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(SHOP)))
        self.end_headers()
        self.wfile.write(SHOP)


async def main(base_url: str) -> None:
    """One call."""
    async with AsyncGatePay("a", "b", base_url=base_url, transport="aiohttp") as gatepay:
        print(len((await gatepay.list_products()).products), "products, by", sys.modules["aiohttp"].__name__)


with HTTPServer(("127.0.0.1", 0), Shop) as server:
    Thread(target=server.serve_forever, daemon=True).start()
    anyio.run(main, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
