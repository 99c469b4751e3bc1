"""Nothing secret gets out: not into a log, not into a repr."""

import sqlite3
import traceback
from typing import Any

import httpx
import pytest

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

CANARY = "CANARY-KEY-0001"


def test_the_log_holds_no_secret(sandbox: Sandbox, visit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """At the chattiest level no log line holds the secret, a signature or a card key, whatever happens."""
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="uvicorn.error")  # the command quiets it, in tests that ran before
    call = visit(sandbox)
    call("ka/create", content=CANARY)
    call("ka/create", content=CANARY)
    call("ka/create", content=CANARY + "x" * 256)
    call("ka/show", page="2")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    call.client.post("ka/create", content=b"content=%FF" + CANARY.encode(), headers=form)
    for kind in FaultKind:
        sandbox.fault(Fault(kind, code=113, seconds=0))
        try:
            call("ka/create", content=CANARY)
        except httpx.RemoteProtocolError:
            continue
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert {record.name for record in ours} >= {"gatepay_async.sandbox", "uvicorn.error"}
    said = [record.getMessage() for record in ours]
    assert said.count("ka/create: 100") == 1
    assert sum(line.startswith("ka/create: 113") for line in said) == 2
    assert "ka/create: fault half_json" in said
    assert any(line.endswith("a name or value is not UTF-8") for line in said)
    text = "\n".join(str(record.__dict__) for record in ours)
    for secret in (CANARY, sandbox.appsecret, call.form("ka/create", content=CANARY)["sign"]):
        assert secret not in text


@pytest.mark.anyio
async def test_an_error_of_the_sandbox_holds_no_secret(sandbox: Sandbox, visit: Any) -> None:
    """What the sandbox raises when its database fails has no card key and no signature in the locals of its frames."""
    form = visit(sandbox).form("ka/create", content=CANARY)
    with sandbox._database.transaction() as connection:
        connection.execute("DROP TABLE card_key")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app)) as client:
        with pytest.raises(sqlite3.OperationalError) as caught:
            await client.post("http://127.0.0.1/api/ka/create", data=form)
    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [
        f"{frame.name} {frame.locals}" for frame in stack if "sandbox" in frame.filename and frame.filename != __file__
    ]
    assert ours
    assert [frame for frame in ours if CANARY in frame or form["sign"] in frame] == []


def test_no_repr_holds_a_secret(sandbox: Sandbox) -> None:
    """The reprs of a sandbox, its shops and its state don't show an appsecret."""
    shown = repr([sandbox, sandbox.shops, sandbox.shop(), sandbox._accounts, vars(sandbox)]) + str(sandbox.shops)
    for appkey, appsecret in sandbox.shops:
        assert appkey in shown
        assert appsecret not in shown
