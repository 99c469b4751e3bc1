"""Receives callbacks with uvicorn while the command does something else."""

import logging
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from gatepay_async.cli.extras import require_extra


@asynccontextmanager
async def serve_callbacks(app: Any, listener: socket.socket) -> AsyncGenerator[None]:
    """Serve the ASGI application *app* on *listener* during the block. The caller closes *listener*."""
    with require_extra("sandbox"):
        import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            """Capture no signals: the command handles Ctrl-C itself."""
            yield

    # No access log: it would contain order numbers and signatures.
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = Server(config)
    # uvicorn closes the socket that it gets, unless it is cancelled before it starts. So it gets a copy, and this block
    # closes the copy in any case.
    with listener.dup() as copy:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [copy])
            try:
                yield
            finally:
                server.should_exit = True
