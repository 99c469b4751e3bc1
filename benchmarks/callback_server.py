"""
The callbacks' benchmark, the server's side: uvicorn, and in one Starlette application a bare endpoint and CallbackApps.

    python -m benchmarks.callback_server FOLDER --redis unix:///…/redis.sock --cpu 1

The first line that it prints says where it is; it ends when its standard input does, and so with its parent.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from benchmarks.placing import place_on
from gatepay_async.callbacks import CallbackApp, MemoryStore, RedisStore, SQLiteStore, Store
from gatepay_async.protocol.models import Callback

APPKEY, APPSECRET = "bench-key", "bench-secret"


async def bare(request: Request) -> PlainTextResponse:
    """What costs nothing: it believes everything."""
    assert request.query_params["order_id"]
    return PlainTextResponse("success")


async def handle(_: Callback) -> None:
    """Does nothing: what is measured is everything else."""


def application(stores: dict[str, Store]) -> Starlette:
    """One path for each way."""
    apps = [
        Mount(f"/{name}", CallbackApp(handle, appkey=APPKEY, appsecret=APPSECRET, store=store))
        for name, store in stores.items()
    ]
    return Starlette(routes=[Route("/bare/", bare), *apps])


async def serve(app: Starlette, *, placed: str) -> None:
    """Serve until standard input ends."""
    # h11 and asyncio's own loop: what the extra `sandbox` brings, and so the same everywhere.
    config = uvicorn.Config(app, port=0, http="h11", loop="asyncio", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has nothing to wait for
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "placed": placed}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description="What the callbacks' benchmark calls.")
    parser.add_argument("folder", type=Path, help="for the SQLite file")
    parser.add_argument("--redis", help="the URL of a Redis")
    parser.add_argument("--cpu", type=int, help="the only CPU to run on")
    given = parser.parse_args()
    stores: dict[str, Store] = {"memory": MemoryStore(), "sqlite": SQLiteStore(given.folder / "callbacks.sqlite3")}
    if given.redis:
        stores["redis"] = RedisStore(given.redis)
    asyncio.run(serve(application(stores), placed=place_on(given.cpu)))


if __name__ == "__main__":
    main()
