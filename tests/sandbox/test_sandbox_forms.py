"""The sandbox's form parser, which rejects malformed forms that PHP would accept."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.sandbox.forms import MalformedFormError, read_form

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

FORM = "application/x-www-form-urlencoded"
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_bytes())["signatures"]


@rows("vector", VECTORS)
def test_forms_encoded_by_php_are_read(vector: Any) -> None:
    """Each recorded form, encoded by PHP's http_build_query, is parsed into its fields."""
    form = read_form(FORM, vector["encoded"].encode())
    assert form == {**vector["params"], "sign": vector["sign"]}


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_any_percent_encoded_text_is_read(fields: dict[str, str]) -> None:
    """Any percent-encoded text is decoded unchanged, and the fields keep their order."""
    pairs = [
        f"{quote_from_bytes(n.encode(), safe='')}={quote_from_bytes(v.encode(), safe='')}" for n, v in fields.items()
    ]
    form = read_form(FORM, "&".join(pairs).encode())
    assert list(form.items()) == list(fields.items())


@rows(
    ("body", "form"),
    [
        (b"", {}),
        (b"a=", {"a": ""}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=1+2%2B3", {"a": "1 2+3"}),
        (b"a=%2525", {"a": "%25"}),
        (b"a=%e5%AF%86", {"a": "密"}),
        ("a=密".encode(), {"a": "密"}),
        (b"a%3D=1&a=2", {"a=": "1", "a": "2"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=%0A%0D%00", {"a": "\n\r\0"}),
    ],
)
def test_unusual_valid_forms_are_read(body: bytes, form: dict[str, str]) -> None:
    """Plus and percent are decoded once, and only & and the first = are separators."""
    assert read_form(FORM, body) == form


@rows("content_type", [FORM, FORM + "; charset=utf-8", " Application/X-WWW-Form-URLEncoded "])
def test_content_type_may_have_parameters(content_type: str) -> None:
    """The content type's case, surrounding spaces and parameters don't matter."""
    assert read_form(content_type, b"a=1") == {"a": "1"}


MALFORMED = {
    "a duplicate name": b"a=1&a=1",
    "a duplicate name, once encoded": b"a=1&%61=2",
    "a piece without =": b"a=1&b",
    "an empty piece": b"a=1&&b=2",
    "a lone percent": b"a=%",
    "a percent with one digit": b"a=%4",
    "a percent without hex": b"a=%zz",
    "a percent with a sign": b"a=%+1",
    "a percent with full-width digits": "a=%４１".encode(),
    "a bad percent in a name": b"%=1",
    "a byte that is not UTF-8": b"a=%FF",
    "a raw byte that is not UTF-8": b"a=\xff",
    "a surrogate": b"a=%ED%A0%80",
    "an overlong slash": b"a=%C0%AF",
    "an incomplete character": b"a=%E5%AF",
}


@rows("body", MALFORMED.values())
def test_malformed_forms_are_rejected(body: bytes) -> None:
    """A malformed or ambiguous form is rejected, and the error doesn't quote it."""
    with pytest.raises(MalformedFormError) as caught:
        read_form(FORM, body)
    assert caught.value.__cause__ is None
    assert body.decode("latin-1") not in str(caught.value)


@rows("content_type", ["", "application/json", "multipart/form-data; boundary=x", FORM + "x"])
def test_other_content_types_are_rejected(content_type: str) -> None:
    """A body with any other content type is rejected."""
    with pytest.raises(MalformedFormError, match="content type"):
        read_form(content_type, b"a=1")
