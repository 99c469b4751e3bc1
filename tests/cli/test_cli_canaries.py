"""Tests that commands never print card keys from replies."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from anyio.abc import SocketStream
from anyio.from_thread import start_blocking_portal
from canaries import canary, find_traces, replies
from servers import raw_server

pytestmark = pytest.mark.sockets

COMMANDS = (("keys", "count", "8"), ("keys", "count", "8", "--json"), ("products",), ("doctor",), ("doctor", "--json"))
# The parts of a reply in which this test puts a card key; canaries.replies() has more.
PLACES = frozenset(
    {
        "status line", "header line", "left-over page", "204 with a page", "page", "title", "a name in JSON",
        "message of 105", "length too short",
    }
)  # fmt: skip


def test_no_command_prints_a_card_key_of_any_part_of_a_reply(
    gatepay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = b""

    async def respond(stream: SocketStream, _: int) -> None:
        await stream.send(reply)
        raise ConnectionAbortedError

    leaks: list[str] = []
    failures = 0
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(raw_server(respond)) as server:
        for name, value in (("BASE_URL", server.base_url), ("APPKEY", "shop"), ("APPSECRET", "secret")):
            monkeypatch.setenv(f"GATEPAY_{name}", value)
        secret = canary(random.Random())  # noqa: S311 -- a new secret in each run
        for place, content in replies(secret):
            if place not in PLACES:
                continue
            reply = content
            for command in COMMANDS:
                result = gatepay(*command)
                failures += result.status != 0
                leak = find_traces(secret, result.out + result.err)
                leaks += [f"{secret!r} in {place!r}: {' '.join(command)}: {leak}"] * bool(leak)
    assert failures > len(PLACES) * 3  # most of these replies are invalid, so error messages were searched, too
    assert not leaks, "\n".join(leaks)
