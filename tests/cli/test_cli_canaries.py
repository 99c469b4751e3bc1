"""What the command says of replies that hold card keys: not one of them."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from anyio.abc import SocketStream
from anyio.from_thread import start_blocking_portal
from canaries import canary, remains, replies
from servers import raw_server

pytestmark = pytest.mark.sockets

COMMANDS = (("keys", "count", "8"), ("keys", "count", "8", "--json"), ("products",), ("doctor",), ("doctor", "--json"))
PLACES = frozenset(
    {
        "status line", "header line", "left-over page", "204 with a page", "page", "title", "a name in JSON",
        "message of 105", "length too short",
    }
)  # fmt: skip


def test_canaries(gatepay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No command's output repeats a card key, wherever in a reply it stood."""
    reply = b""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(reply)
        raise ConnectionAbortedError

    wrong: list[str] = []
    told = 0
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(raw_server(answer)) as server:
        for name, value in (("BASE_URL", server.base_url), ("APPKEY", "shop"), ("APPSECRET", "secret")):
            monkeypatch.setenv(f"GATEPAY_{name}", value)
        secret = canary(random.Random())  # noqa: S311 -- another one in each run
        for place, each in replies(secret):
            if place not in PLACES:
                continue
            reply = each
            for command in COMMANDS:
                came = gatepay(*command)
                told += came.status != 0
                left = remains(secret, came.out + came.err)
                wrong += [f"{secret!r} in {place!r}: {' '.join(command)}: {left}"] * bool(left)
    assert told > len(PLACES) * 3
    assert not wrong, "\n".join(wrong)
