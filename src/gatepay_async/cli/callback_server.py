"""Callbacks are listened for: uvicorn, beside what else the command does."""

import logging
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from gatepay_async.cli.extras import require_extra


@asynccontextmanager
async def serve_callbacks(app: Any, listener: socket.socket) -> AsyncGenerator[None]:
    """Serve the ASGI application *app* on *listener*, which stays its owner's to close."""
    with require_extra("sandbox"):
        import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            """Leave them alone: Ctrl-C is the command's."""
            yield

    # An order or a signature is nobody's business who reads a log.
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = Server(config)
    # uvicorn closes its copy, but not if it is cancelled before it has begun.
    with listener.dup() as copy:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [copy])
            try:
                yield
            finally:
                server.should_exit = True
