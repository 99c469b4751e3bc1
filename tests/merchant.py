"""
Runs a merchant's server on uvicorn: a CallbackApp over a store that several processes share.

    python merchant.py FOLDER STORE [--hang handler] [--block handler|commit|answer]

STORE is the path of an SQLite file or the URL of a Redis. The first printed line is the port.

The handler writes a line to FOLDER/handled and, once for each order_id, a row to FOLDER/shop.sqlite3. Then it waits
until FOLDER/go exists. At the step named by --hang or --block, the server creates the file "FOLDER/hangs in STEP", and
hangs or blocks. The step "answer" is between the commit and the response.
"""

import argparse
import asyncio
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

import uvicorn
from delivering import CREDENTIALS

from gatepay_async.callbacks import CallbackApp, CallbackEvent, Claim, RedisStore, SQLiteStore, Store
from gatepay_async.protocol.models import Callback


class Merchant:
    """The server, whose handler or store can hang or block at a given step."""

    def __init__(self, folder: Path, store: Store, hang: str, block: str) -> None:
        self._folder = folder
        self._hang, self._block = hang, block
        self._commit = store.commit
        store.commit = self.commit  # type: ignore[method-assign]  # adds a step at which it can hang
        self.app = CallbackApp(
            self.handle,
            appkey=CREDENTIALS.appkey,
            appsecret=CREDENTIALS.appsecret,
            store=store,
            on_event=self.on_event,
            timeout=20,
        )

    async def handle(self, callback: Callback) -> None:
        with (self._folder / "handled").open("a") as log:
            log.write(f"{callback.order_id}\n")
        self._deliver_once(callback)
        while not (self._folder / "go").exists():
            await asyncio.sleep(0.005)
        await self._stop_at("handler")

    def _deliver_once(self, callback: Callback) -> None:
        """Deliver exactly once: ``paid.order_id`` is unique, and ``delivered`` gets its row in the same transaction."""
        shop = sqlite3.connect(self._folder / "shop.sqlite3", timeout=20)
        with shop:
            shop.execute("CREATE TABLE IF NOT EXISTS paid (order_id INTEGER PRIMARY KEY)")
            shop.execute("CREATE TABLE IF NOT EXISTS delivered (order_id INTEGER)")
        with shop:
            if shop.execute("INSERT OR IGNORE INTO paid VALUES (?)", (callback.order_id,)).rowcount:
                shop.execute("INSERT INTO delivered VALUES (?)", (callback.order_id,))
        shop.close()

    async def commit(self, claim: Claim) -> bool:
        await self._stop_at("commit")
        return await self._commit(claim)

    async def on_event(self, _: CallbackEvent) -> None:
        await self._stop_at("answer")

    async def _stop_at(self, name: str) -> None:
        if name in (self._hang, self._block):
            (self._folder / f"hangs in {name}").touch()
        if name == self._block:
            signal.pause()  # blocks the whole process, so that no timeout can end it
        if name == self._hang:
            await asyncio.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("store")
    parser.add_argument("--hang", default="")
    parser.add_argument("--block", default="")
    arguments = parser.parse_args()
    store: Any = RedisStore(arguments.store) if "://" in arguments.store else SQLiteStore(arguments.store)
    merchant = Merchant(arguments.folder, store, arguments.hang, arguments.block)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(merchant.app, log_config=None, timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
