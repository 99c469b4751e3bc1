"""
The server of `benchmarks.callbacks`: one Starlette application on uvicorn, with a bare endpoint and CallbackApps.

    python -m benchmarks.callback_server FOLDER --redis unix:///…/redis.sock --cpu 1

The first line that it prints is a JSON object with the port. It stops when its standard input is closed, so also when
its parent process ends.
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
    """Accept every callback without verifying it: the lower bound of the cost."""
    assert request.query_params["order_id"]
    return PlainTextResponse("success")


async def handle(_: Callback) -> None:
    """Do nothing, so that only the cost of CallbackApp is measured."""


def application(stores: dict[str, Store]) -> Starlette:
    """Create the application: `/bare/`, and a path for each store."""
    apps = [
        Mount(f"/{name}", CallbackApp(handle, appkey=APPKEY, appsecret=APPSECRET, store=store))
        for name, store in stores.items()
    ]
    return Starlette(routes=[Route("/bare/", bare), *apps])


async def serve(app: Starlette, *, placement: str) -> None:
    """Serve until standard input is closed."""
    # h11 and asyncio's own loop, as the extra `sandbox` installs them, so that all machines use the same.
    config = uvicorn.Config(app, port=0, http="h11", loop="asyncio", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for this
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "placement": placement}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description="The server of the callbacks' benchmark.")
    parser.add_argument("folder", type=Path, help="for the SQLite file")
    parser.add_argument("--redis", help="the URL of a Redis")
    parser.add_argument("--cpu", type=int, help="the only CPU to run on")
    options = parser.parse_args()
    stores: dict[str, Store] = {"memory": MemoryStore(), "sqlite": SQLiteStore(options.folder / "callbacks.sqlite3")}
    if options.redis:
        stores["redis"] = RedisStore(options.redis)
    asyncio.run(serve(application(stores), placement=place_on(options.cpu)))


if __name__ == "__main__":
    main()
