"""The remedies of codes with two possible causes; and replies in which optional texts are missing."""

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

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

SAMPLES = Path(__file__).parents[1] / "samples"
# The characters that GatePay's input filter changes, as the remedies list them.
CHANGED_CHARACTERS = "& < > \" '"


def test_remedy_names_the_less_obvious_cause_first() -> None:
    """The code may be about a product of another shop, or a text that GatePay changes, instead of the credentials."""
    for endpoint, code, words in (
        ("pay/create", 108, ("product of another shop", "copy the appkey")),
        ("ka/show", 105, ("product of another shop", "copy the appkey")),
        ("ka/create", 105, ("product of another shop", "copy the appkey")),
        ("pay/create", 109, ("out_order_id and custom", CHANGED_CHARACTERS, "spaces", "copy appkey and appsecret")),
        ("ka/create", 106, ("the text of the card keys", CHANGED_CHARACTERS, "spaces", "copy appkey and appsecret")),
    ):
        remedy = REFUSALS[endpoint, code].remedy
        positions = [remedy[0].find(word) for word in words]
        assert -1 not in positions, (endpoint, code)
        assert positions == sorted(positions), (endpoint, code)
        chinese = "其他店铺" if "product" in words[0] else "首尾空白"
        assert chinese in remedy[1], (endpoint, code)


def test_remedy_names_no_cause_that_the_endpoint_excludes() -> None:
    """These calls send only digits and the appkey, so GatePay can't have changed a text."""
    for endpoint, code in (("product/show", 102), ("product/show", 103), ("ka/show", 106)):
        remedy = REFUSALS[endpoint, code].remedy[0]
        assert "another shop" not in remedy, (endpoint, code)
        assert CHANGED_CHARACTERS not in remedy, (endpoint, code)


def test_remedies_of_the_command_name_both_causes_of_a_code() -> None:
    """The ``gatepay`` command has its own remedies, in both languages."""
    english, chinese = COMMAND["todo.InvalidAppKeyError"]
    assert "another shop" in english
    assert "其他店铺" in chinese
    assert all(CHANGED_CHARACTERS in text for text in COMMAND["todo.SignatureRejectedError"])


def test_texts_name_only_parameters_of_the_endpoint() -> None:
    """No cause or remedy names a parameter that the endpoint doesn't have."""
    parameters = {call.path: {field.alias for field in fields(call)} for call in CALLS}
    parameter_names = {name for names in parameters.values() for name in names if "_" in name or name == "custom"}
    for (endpoint, code), refusal in REFUSALS.items():
        mentioned = set(re.findall(r"[a-z_]+", " ".join((*refusal.cause, *refusal.remedy)))) & parameter_names
        foreign = mentioned - parameters[endpoint]
        assert not foreign, (endpoint, code, foreign)


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_catalogue_with_missing_texts_is_decoded() -> None:
    """Names, descriptions, images and product lists may be null or absent."""
    reply = json.loads((SAMPLES / "product_show.json").read_bytes())
    first, second = reply["data"]["category"]
    [example] = first["product"]
    first["product"] = [
        {**example, "name": None, "description": None, "image": None},
        without(example, "name", "description", "image"),
    ]
    reply["data"]["category"] = [
        {**first, "name": None},
        without(second, "name", "product"),
        {**second, "product": None},
    ]
    catalog = decode(ProductShow(), Reply(200, json.dumps(reply).encode()))
    assert [(category.name, len(category.products)) for category in catalog.categories] == [
        ("", 2),
        ("", 0),
        (second["name"], 0),
    ]
    for product in catalog.products:
        assert (product.name, product.description, product.image) == ("", "", "")
        assert (product.id, str(product.price), product.stock) == (4, "1.00", 4)


def test_page_with_missing_card_key_status_is_decoded() -> None:
    """The status of a card key may be null or absent."""
    reply = json.loads((SAMPLES / "ka_show.json").read_bytes())
    first, second = reply["data"]["ka"]["data"]
    reply["data"]["ka"]["data"] = [{**first, "status": None}, without(second, "status")]
    page = decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert [key.status for key in page.keys] == ["", ""]
    assert [key.content for key in page.keys] == [first["content"], second["content"]]
