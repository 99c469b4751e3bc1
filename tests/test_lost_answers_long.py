"""Cuts the reply of every call that creates an order at every byte, on both event loops."""

from typing import Any

import pytest
from anyio.abc import SocketStream
from servers import http, raw_server

from gatepay_async import AsyncGatePay, OutcomeUnknownError, RetryPolicy

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.anyio]

COMMON = {"pay_type": "alipay", "out_order_id": "T-1001-X", "custom": "c"}
LINK = http(b'{"code":100,"data":{"pay_url":"https://h/1"}}')
PAYMENT = http(
    b'{"code":100,"data":{"order_type":"alipay","order_price":1,"order_url":"https://h/1",'
    b'"order_qrcode":"data:image/png;base64,iVBORw0KGgo="}}'
)
CREATIONS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "pay": ("create_payment", {"product_id": 8, "product_num": 1}, PAYMENT),
    "anypay": ("create_anypay", {"price": "10.20"}, LINK),
    "cloudpay": ("create_cloudpay", {"price": "10.20"}, LINK),
    "stablepay": ("create_stablepay", {"product_id": 8}, LINK),
    "grouppay": ("create_grouppay", {"items": {8: 2}}, LINK),
}


@pytest.mark.parametrize("kind", CREATIONS)
async def test_a_reply_cut_at_any_byte_has_an_unknown_outcome(kind: str) -> None:
    """A reply that is cut at any byte raises OutcomeUnknownError without a retry. The complete reply is accepted."""
    method, arguments, full_reply = CREATIONS[kind]
    sent_length = 0

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(full_reply[:sent_length])
        raise ConnectionAbortedError

    async with (
        raw_server(answer) as server,
        AsyncGatePay(
            "K",
            "S",
            base_url=server.base_url,
            cloud_base_url=server.base_url,
            retry=RetryPolicy(first_wait=0, longest_wait=0),
        ) as gatepay,
    ):
        create = getattr(gatepay, method)
        for sent_length in range(len(full_reply)):  # noqa: B007 -- answer() uses it
            with pytest.raises(OutcomeUnknownError) as caught:
                await create(**COMMON, **arguments)
            assert (caught.value.endpoint, caught.value.out_order_id) == (f"{kind}/create", "T-1001-X")
        sent_length = len(full_reply)
        assert (await create(**COMMON, **arguments)).out_order_id == "T-1001-X"
    assert len(server.bodies) == len(full_reply) + 1
