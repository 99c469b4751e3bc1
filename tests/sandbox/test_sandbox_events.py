"""The events that the sandbox sends to its watchers."""

from typing import Any

import pytest
from shop_side import make_order, merchant

from gatepay_async.sandbox import CallEvent, DeliveryEvent, Fault, FaultKind, Sandbox
from gatepay_async.sandbox.events import SandboxEvent

pytestmark = pytest.mark.sockets


@pytest.fixture
def events(sandbox: Sandbox) -> list[SandboxEvent]:
    """All events of the sandbox."""
    events: list[SandboxEvent] = []
    sandbox.watch(events.append)
    return events


def test_each_call_sends_an_event(sandbox: Sandbox, api: Any, events: list[SandboxEvent]) -> None:
    """Each call sends an event with its code, the field at fault and the fault, but without secrets and card keys."""
    sandbox.fault(Fault(FaultKind.CODE, endpoint="pay/create", code=110))
    sandbox.fault(Fault(FaultKind.HALF_JSON, endpoint="ka/show"))
    # Each call: endpoint, changed fields, and the expected code, reason, field, fault and number of card keys.
    calls: list[tuple[str, dict[str, str | None], tuple[Any, ...]]] = [
        ("ka/create", {"content": "AAA\nBBB\nEXAMPLE-8-001"}, (100, "", "", "", 2)),
        ("ka/show", {}, (100, "", "", "half_json", 50)),
        ("pay/create", {}, (110, "", "", "code", None)),
        ("pay/create", {"custom": None}, (101, "missing", "custom", "", None)),
        ("ka/create", {"sign": "0" * 32}, (106, "signature", "appkey + product_id + content", "", None)),
        ("ka/create", {"content": "AAA"}, (112, "all_known", "", "", None)),
        (
            "anypay/create",
            {"sign": "0" * 32},
            (104, "signature", "appkey + price + type + out_order_id + custom", "", None),
        ),
        ("anypay/create", {"custom": ""}, (105, "missing", "custom", "", None)),
        ("anypay/create", {"more": "1"}, (106, "not_allowed", "more", "", None)),
        ("anypay/create", {"notify_url": "x"}, (106, "not_allowed", "notify_url", "", None)),
        ("anypay/create", {"return_url": "x"}, (106, "not_allowed", "return_url", "", None)),
    ]
    for endpoint, changes, _ in calls:
        api.call(endpoint, **changes)
    api.client.post("product/show", content=b"sign=%", headers={"content-type": "application/x-www-form-urlencoded"})
    api.client.get("../console")  # a page, not a call: it sends no event
    call_events = [event for event in events if isinstance(event, CallEvent)]
    assert [
        (event.endpoint, (event.code, event.reason, event.field, event.fault, event.card_keys)) for event in call_events
    ] == [
        *((endpoint, expected) for endpoint, _, expected in calls),
        ("product/show", (101, "malformed", "a % is not followed by two hex digits", "", None)),
    ]
    assert call_events[3].out_order_id == "T-1001-X"
    assert all(event.at == 1555750250.75 and event.milliseconds > 0 for event in call_events)
    for secret in (sandbox.appsecret, "AAA", "EXAMPLE", "0" * 32):
        assert secret not in repr(events)


@pytest.mark.anyio
async def test_each_callback_sends_an_event(sandbox: Sandbox, api: Any, events: list[SandboxEvent]) -> None:
    """Each callback sends an event with the start of the first line of the shop's response."""
    del api  # only needed because it serves the sandbox
    async with merchant("success", "x" * 99 + "\nmore") as shop:
        sandbox.change_shop(callback_url=shop.base_url)
        for _ in range(2):
            sandbox.pay(await make_order(sandbox))
            await sandbox.wait_delivered()
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    sandbox.pay(await make_order(sandbox))
    await sandbox.wait_delivered()
    delivery_events = [event for event in events if isinstance(event, DeliveryEvent)]
    assert [
        (event.order_id, event.attempt, event.status, event.answer, event.problem) for event in delivery_events
    ] == [
        (1, 1, 200, "success", None),
        (2, 1, 200, "x" * 40, "not_success"),
        (3, 1, None, None, "connection"),
    ]
