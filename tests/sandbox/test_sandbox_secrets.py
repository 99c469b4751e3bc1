"""No secret is logged or shown in a repr."""

import sqlite3
import traceback
from typing import Any

import httpx
import pytest

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

CANARY = "CANARY-KEY-0001"


def test_logs_contain_no_secret(sandbox: Sandbox, connect_to: Any, caplog: pytest.LogCaptureFixture) -> None:
    """At the level DEBUG, no log line contains an appsecret, a signature or a card key."""
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="uvicorn.error")  # tests of the CLI leave it at a higher level
    api = connect_to(sandbox)
    api.call("ka/create", content=CANARY)
    api.call("ka/create", content=CANARY)
    api.call("ka/create", content=CANARY + "x" * 256)
    api.call("ka/show", page="2")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    api.client.post("ka/create", content=b"content=%FF" + CANARY.encode(), headers=form)
    for kind in FaultKind:
        sandbox.fault(Fault(kind, code=113, seconds=0))
        try:
            api.call("ka/create", content=CANARY)
        except httpx.RemoteProtocolError:
            continue
    records = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert {record.name for record in records} >= {"gatepay_async.sandbox", "uvicorn.error"}
    messages = [record.getMessage() for record in records]
    assert messages.count("ka/create: 100") == 1
    assert sum(line.startswith("ka/create: 113") for line in messages) == 2
    assert "ka/create: fault half_json" in messages
    assert any(line.endswith("a name or value is not UTF-8") for line in messages)
    text = "\n".join(str(record.__dict__) for record in records)
    for secret in (CANARY, sandbox.appsecret, api.form("ka/create", content=CANARY)["sign"]):
        assert secret not in text


@pytest.mark.anyio
async def test_tracebacks_contain_no_secret(sandbox: Sandbox, connect_to: Any) -> None:
    """If the sandbox's database fails, the traceback's local variables contain no card key and no signature."""
    form = connect_to(sandbox).form("ka/create", content=CANARY)
    with sandbox._database.transaction() as connection:
        connection.execute("DROP TABLE card_key")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app)) as client:
        with pytest.raises(sqlite3.OperationalError) as caught:
            await client.post("http://127.0.0.1/api/ka/create", data=form)
    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    frames = [
        f"{frame.name} {frame.locals}" for frame in stack if "sandbox" in frame.filename and frame.filename != __file__
    ]
    assert frames
    assert [frame for frame in frames if CANARY in frame or form["sign"] in frame] == []


def test_reprs_contain_no_secret(sandbox: Sandbox) -> None:
    """The reprs of a sandbox, its shops and their state don't contain an appsecret."""
    reprs = repr([sandbox, sandbox.shops, sandbox.shop(), sandbox._accounts, vars(sandbox)]) + str(sandbox.shops)
    for appkey, appsecret in sandbox.shops:
        assert appkey in reprs
        assert appsecret not in reprs
