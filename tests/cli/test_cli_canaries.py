"""Commands never print card keys from replies."""

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


def test_no_card_key_in_output(gatepay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No command prints a card key, wherever in a reply the card key is."""
    reply = b""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(reply)
        raise ConnectionAbortedError

    wrong: list[str] = []
    failures = 0
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(raw_server(answer)) as server:
        for name, value in (("BASE_URL", server.base_url), ("APPKEY", "shop"), ("APPSECRET", "secret")):
            monkeypatch.setenv(f"GATEPAY_{name}", value)
        secret = canary(random.Random())  # noqa: S311 -- a new secret in each run
        for place, each in replies(secret):
            if place not in PLACES:
                continue
            reply = each
            for command in COMMANDS:
                result = gatepay(*command)
                failures += result.status != 0
                found = remains(secret, result.out + result.err)
                wrong += [f"{secret!r} in {place!r}: {' '.join(command)}: {found}"] * bool(found)
    assert failures > len(PLACES) * 3
    assert not wrong, "\n".join(wrong)
