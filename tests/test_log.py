"""The log of calls: a line for each retry, refusal and unknown outcome, and none for a call that succeeds."""

import json
import logging
from typing import Any

import pytest
from selected_httpx import httpx

from gatepay_async import AsyncGatePay, OutcomeUnknownError, RefusedError, RetryPolicy

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage, pytest.mark.anyio]

ORDER: dict[str, Any] = {
    "product_id": 8,
    "product_num": 1,
    "pay_type": "alipay",
    "out_order_id": "T-1-X",
    "custom": "terry",
}
SUCCESS = {"code": 100, "msg": "CANARY", "time": "1", "data": {"category": []}}
REFUSED = {**SUCCESS, "code": 106, "data": None}


async def test_retries_and_failures_are_logged_without_reply_texts(caplog: pytest.LogCaptureFixture) -> None:
    """A success logs nothing. Retries, refusals and unknown outcomes are logged, without texts of replies."""
    replies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        reply = replies.pop(0)
        if reply is None:
            raise httpx.ReadError("CANARY", request=request)
        status, body = reply
        return httpx.Response(status, content=json.dumps(body))

    caplog.set_level(logging.INFO, "gatepay_async")
    gatepay = AsyncGatePay(
        "key", "CANARY-SECRET", transport=httpx.MockTransport(answer), retry=RetryPolicy(attempts=2, first_wait=0)
    )
    async with gatepay:
        replies[:] = [(200, SUCCESS)]
        await gatepay.list_products()
        assert caplog.records == []
        replies[:] = [(503, "CANARY"), (200, REFUSED)]
        with pytest.raises(RefusedError):
            await gatepay.list_products()
        replies[:] = [None]
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    names = ("endpoint", "error", "http_status", "code", "attempts", "wait", "out_order_id")
    fields = [{name: vars(record).get(f"gatepay_{name}") for name in names} for record in caplog.records]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "product/show: attempt 1: ProtocolError HTTP 503; again in 0.0 s"),
        ("INFO", "product/show: RefusedError 106"),
        ("WARNING", "pay/create: OutcomeUnknownError"),
    ]
    no_fields = dict.fromkeys(names)
    retried = {"endpoint": "product/show", "error": "ProtocolError", "http_status": 503, "attempts": 1, "wait": 0.0}
    refused = {"endpoint": "product/show", "error": "RefusedError", "code": 106, "attempts": 2}
    unknown = {"endpoint": "pay/create", "error": "OutcomeUnknownError", "attempts": 1, "out_order_id": "T-1-X"}
    assert fields == [{**no_fields, **expected} for expected in (retried, refused, unknown)]
    assert "CANARY" not in repr([vars(record) for record in caplog.records])
