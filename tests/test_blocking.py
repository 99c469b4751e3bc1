"""Nothing blocks the event loop: functions that could block run in other threads."""

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

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]

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
    """An open file that records the threads that read it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = iter(lines)
        self.threads: set[int] = set()

    def readline(self) -> str:
        """Return the next line. An upload recognises a file by this method."""
        return next(self)

    def __iter__(self) -> "File":
        return self

    def __next__(self) -> str:
        self.threads.add(threading.get_ident())
        return next(self._lines)


@pytest.fixture
def blocking_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the blocking functions in BLOCKING that this thread calls."""
    this_thread = threading.get_ident()
    calls: list[str] = []

    def record_calls(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # With AI_NUMERICHOST, getaddrinfo() only parses an IP address, and doesn't block.
            flags = kwargs.get("flags", args[-1] if len(args) == 6 else 0)  # the sixth parameter of getaddrinfo()
            is_ip_address = name == "socket.getaddrinfo" and flags & socket.AI_NUMERICHOST
            if threading.get_ident() == this_thread and not is_ip_address:
                calls.append(name)
            return original(*args, **kwargs)

        return wrapper

    for owner, name in BLOCKING:
        monkeypatch.setattr(owner, name, record_calls(f"{owner.__name__}.{name}", getattr(owner, name)))
    return calls


@pytest.mark.anyio
async def test_the_client_calls_no_blocking_function_on_the_loop(
    sandbox: Sandbox, base_url: str, blocking_calls: list[str]
) -> None:
    """Opening a client, calls, a file upload and a listing read no file, host name or certificate on the event loop."""
    trust._context.cache_clear()  # so that certificates are read again
    url = base_url.replace("127.0.0.1", "localhost")  # a name that must be looked up
    # The first client is for https://gatepay.io, so it needs certificates.
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret), AsyncGatePay("a", "b", base_url=url):
        pass
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
        file = File([f"KEY-{number}" for number in range(1200)])
        report = await gatepay.upload_card_keys(8, file)
        listed = [key async for key in gatepay.list_card_keys(8, prefetch=4)]
        assert (report.stored, len(listed)) == (1200, 1289)  # 89 were there before
    assert threading.get_ident() not in file.threads
    assert blocking_calls == []


def test_blocking_calls_are_recorded(blocking_calls: list[str], tmp_path: Path) -> None:
    """The fixture records blocking calls of this thread."""
    (tmp_path / "file").write_text("x")
    time.sleep(0)  # must be recorded
    assert {"io.open", "time.sleep"} <= set(blocking_calls)
