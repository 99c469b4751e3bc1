"""Nothing blocks the event loop: what could is called in other threads, or not at all."""

import builtins
import io
import os
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatepay_async import AsyncGatePay
from gatepay_async.exchange import trust
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.uncounted]

BLOCKING: list[tuple[Any, str]] = [
    (builtins, "open"),
    (io, "open"),
    (os, "open"),
    (time, "sleep"),
    (socket, "getaddrinfo"),
    (sqlite3, "connect"),
    (ssl.SSLContext, "load_verify_locations"),
    (ssl, "create_default_context"),
]


class File:
    """An open file whose reading could block; knows which threads read it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = iter(lines)
        self.threads: set[int] = set()

    def readline(self) -> str:
        """What makes a file of it."""
        return next(self)

    def __iter__(self) -> "File":
        return self

    def __next__(self) -> str:
        self.threads.add(threading.get_ident())
        return next(self._lines)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was called in this thread, of all that could block it."""
    here = threading.get_ident()
    called: list[str] = []

    def watch(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            # Whether a name is a number is asked first, which needs no answer from elsewhere.
            flags = kwargs.get("flags", args[-1] if len(args) == 6 else 0)  # the sixth of getaddrinfo()
            only_a_number = name == "socket.getaddrinfo" and flags & socket.AI_NUMERICHOST
            if threading.get_ident() == here and not only_a_number:
                called.append(name)
            return original(*args, **kwargs)

        return watched

    for owner, name in BLOCKING:
        monkeypatch.setattr(owner, name, watch(f"{owner.__name__}.{name}", getattr(owner, name)))
    return called


@pytest.mark.anyio
async def test_nothing_blocks(sandbox: Sandbox, base_url: str, blocked: list[str]) -> None:
    """Opening, calling, uploading a file, walking and closing: no file, name or certificate is read on the loop."""
    trust._context.cache_clear()
    url = base_url.replace("127.0.0.1", "localhost")  # a name that must be looked up
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret), AsyncGatePay("a", "b", base_url=url):
        pass
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
        file = File([f"KEY-{number}" for number in range(1200)])
        report = await gatepay.upload_card_keys(8, file)
        assert (report.stored, len([key async for key in gatepay.list_card_keys(8, prefetch=4)])) == (1200, 1289)
    assert threading.get_ident() not in file.threads
    assert blocked == []


def test_the_watch_watches(blocked: list[str], tmp_path: Path) -> None:
    """What blocks in this thread is noticed."""
    (tmp_path / "file").write_text("x")
    time.sleep(0)  # waits for nothing: it is here to be noticed
    assert {"io.open", "time.sleep"} <= set(blocked)
