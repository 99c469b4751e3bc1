"""Checks the extra `durable`: a worker uploads a file from a queue in a SQLite file."""

import json
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import anyio

from gatepay_async import AsyncGatePay
from gatepay_async.durable import DurableUploads

stored: list[str] = []


class Shop(BaseHTTPRequestHandler):
    """A simulated GatePay that stores card keys."""

    def do_POST(self) -> None:
        """Answer the call ka/create."""
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        keys = form["content"][0].split("\n")
        stored.extend(keys)
        reply = {"code": 100, "msg": "", "time": "1700000000", "data": f"成功录入:{len(keys)}条卡密"}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Don't log requests."""


async def main(folder: Path, base_url: str) -> None:
    """Submit a file, and wait until a worker has uploaded it."""
    (folder / "keys.txt").write_text("AAA\nBBB\nAAA\n")
    uploads = DurableUploads(
        lambda: AsyncGatePay("a", "b", base_url=base_url), database=f"sqlite:///{folder}/uploads.sqlite3"
    )
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(folder / "keys.txt", product_id=8)
        report = await job.wait()
    print(report)
    assert (report.ok, stored) == (True, ["AAA", "BBB"])


with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server, tempfile.TemporaryDirectory() as new_folder:
    Thread(target=server.serve_forever, daemon=True).start()
    anyio.run(main, Path(new_folder), f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
