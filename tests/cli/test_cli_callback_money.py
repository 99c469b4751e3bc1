"""Tests of `gatepay callback`: underpaid callbacks, callbacks without an appkey, and fields that are too long."""

from typing import Any

import pytest

from gatepay_async import parse_callback
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.sockets

SHOP: dict[str, Any] = {"appkey": "gp-key", "appsecret": "gp-secret"}
SIGN = ("callback", "sign", "--order-id", "7", "--order", "T-1-X", "--price", "0.99")


@pytest.fixture(autouse=True)
def configured_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the shop whose callbacks are signed and verified."""
    monkeypatch.setenv("GATEPAY_APPKEY", SHOP["appkey"])
    monkeypatch.setenv("GATEPAY_APPSECRET", SHOP["appsecret"])


def test_verify_reports_underpaid_callbacks(gatepay: Any) -> None:
    """A genuine callback with `realprice` below `price` is reported with status 3."""
    underpaid, paid = (signed_callback(**SHOP, price="0.99", realprice=price) for price in ("0.01", "0.99"))
    run = gatepay("callback", "verify", underpaid)
    assert run.status == 3
    assert "Underpaid: the order costs ¥0.99, but only ¥0.01 was paid." in run.out
    run = gatepay("callback", "verify", underpaid, "--json")
    assert (run.status, run.json["genuine"], run.json["underpaid"]) == (3, True, True)
    run = gatepay("callback", "verify", paid)
    assert (run.status, "Underpaid" in run.out) == (0, False)


def test_verify_uses_the_configured_appkey_if_the_callback_has_none(gatepay: Any) -> None:
    run = gatepay("callback", "verify", signed_callback(**SHOP, tampered={"appkey": None}))
    assert run.status == 0
    assert "Genuine" in run.out


def test_signed_callback_is_accepted_and_a_forged_one_differs_in_the_signature(gatepay: Any) -> None:
    run = gatepay(*SIGN, "--realprice", "0.50", "--extend", "密 &=", "--paid-at", "1555750250")
    callback = parse_callback(run.out.strip(), **SHOP)
    assert (callback.order_id, callback.out_order_id, str(callback.realprice)) == (7, "T-1-X", "0.50")
    assert (callback.extend, callback.paid_at.timestamp()) == ("密 &=", 1555750250)
    forged = gatepay(*SIGN, "--realprice", "0.50", "--extend", "密 &=", "--paid-at", "1555750250", "--forged")
    assert forged.out.rpartition("sign=")[0] == run.out.rpartition("sign=")[0]
    assert forged.out != run.out


def test_sign_refuses_fields_that_are_too_long(gatepay: Any) -> None:
    """A text that is too long for a callback is a usage error that names the field, its size and the limit."""
    short = {"--order": "T-1-X", "--extend": "x"}
    for option, size, limit in (("--extend", 2700, 2000), ("--order", 2700, 255)):
        values = [f"{name}={value}" for name, value in (short | {option: "中" * 900}).items()]
        run = gatepay("callback", "sign", "--order-id", 7, "--price", "0.99", *values)
        assert run.status == 2
        assert f"{option}: " in run.err
        assert f"takes {size} bytes in UTF-8, and the limit is {limit}" in " ".join(run.err.split())
