"""What an error advises where GatePay's number has two causes; and what may be absent from a reply."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from gatepay_async.protocol.calls import KaShow, ProductShow
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.protocol.messages import Reply, decode
from gatepay_async.protocol.payment_calls import CALLS
from gatepay_async.words.command import COMMAND

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

SAMPLES = Path(__file__).parents[1] / "samples"
TEXT_CHANGED = "& < > \" '"


def test_both_causes_are_named() -> None:
    """Where a product of another shop, or a text that GatePay changes, may be the cause, the remedy says so first."""
    for endpoint, code, words in (
        ("pay/create", 108, ("product of another shop", "copy the appkey")),
        ("ka/show", 105, ("product of another shop", "copy the appkey")),
        ("ka/create", 105, ("product of another shop", "copy the appkey")),
        ("pay/create", 109, ("out_order_id and custom", TEXT_CHANGED, "spaces", "copy appkey and appsecret")),
        ("ka/create", 106, ("the text of the card keys", TEXT_CHANGED, "spaces", "copy appkey and appsecret")),
    ):
        remedy = REFUSALS[endpoint, code].remedy
        places = [remedy[0].find(word) for word in words]
        assert -1 not in places, (endpoint, code)
        assert places == sorted(places), (endpoint, code)
        chinese = "其他店铺" if "product" in words[0] else "首尾空白"
        assert chinese in remedy[1], (endpoint, code)


def test_one_cause_is_named_alone() -> None:
    """Where nothing but digits and the appkey are sent, no other cause is suggested."""
    for endpoint, code in (("product/show", 102), ("product/show", 103), ("ka/show", 106)):
        remedy = REFUSALS[endpoint, code].remedy[0]
        assert "another shop" not in remedy, (endpoint, code)
        assert TEXT_CHANGED not in remedy, (endpoint, code)


def test_the_command_names_both_causes() -> None:
    """The command's own words for the same errors name them, too, in both languages."""
    english, chinese = COMMAND["todo.InvalidAppKeyError"]
    assert "another shop" in english
    assert "其他店铺" in chinese
    assert all(TEXT_CHANGED in text for text in COMMAND["todo.SignatureRejectedError"])


def test_only_parameters_that_the_endpoint_has_are_named() -> None:
    """No cause and no remedy names a parameter that the endpoint's method doesn't take."""
    parameters = {call.path: {field.alias for field in fields(call)} for call in CALLS}
    known = {name for names in parameters.values() for name in names if "_" in name or name == "custom"}
    for (endpoint, code), refusal in REFUSALS.items():
        named = set(re.findall(r"[a-z_]+", " ".join((*refusal.cause, *refusal.remedy)))) & known
        wrong = named - parameters[endpoint] - ({"pay_type"} if code == 101 else set())
        assert not wrong, (endpoint, code, wrong)


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_a_catalogue_with_holes() -> None:
    """A product without name, description or image, and a category without name or products, spoil no catalogue."""
    reply = json.loads((SAMPLES / "product_show.json").read_bytes())
    first, second = reply["data"]["category"]
    [product] = first["product"]
    first["product"] = [
        {**product, "name": None, "description": None, "image": None},
        without(product, "name", "description", "image"),
    ]
    reply["data"]["category"] = [
        {**first, "name": None},
        without(second, "name", "product"),
        {**second, "product": None},
    ]
    catalog = decode(ProductShow(), Reply(200, json.dumps(reply).encode()))
    assert [(each.name, len(each.products)) for each in catalog.categories] == [("", 2), ("", 0), (second["name"], 0)]
    for each in catalog.products:
        assert (each.name, each.description, each.image) == ("", "", "")
        assert (each.id, str(each.price), each.stock) == (4, "1.00", 4)


def test_a_page_with_holes() -> None:
    """A card key without a status spoils no page."""
    reply = json.loads((SAMPLES / "ka_show.json").read_bytes())
    first, second = reply["data"]["ka"]["data"]
    reply["data"]["ka"]["data"] = [{**first, "status": None}, without(second, "status")]
    page = decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert [each.status for each in page.keys] == ["", ""]
    assert [each.content for each in page.keys] == [first["content"], second["content"]]
