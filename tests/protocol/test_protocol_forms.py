"""``encode_form`` returns the same form as ``urllib.parse.urlencode``."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol.messages import encode_form

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

texts_to_escape = st.text(st.sampled_from("AZaz09_.-~%+ &=\n")) | st.text(st.sampled_from("A%+ \r卡"))


@given(
    st.dictionaries(
        st.sampled_from(["appkey", "content", "sign"]), texts_to_escape | st.text(st.characters(codec="utf-8"))
    )
)
def test_form_equals_that_of_urllib(fields: dict[str, str]) -> None:
    """The forms are equal for any field values."""
    assert encode_form(fields) == urlencode(fields).encode()


@rows("value", ["100% +1 &x=y", "%2B+%20", "卡号----密码", "a\r\nb", "", "%%++  ", "~._-"])
def test_form_equals_that_of_urllib_for_escaped_characters(value: str) -> None:
    """``encode_form`` replaces one character after the other. No replacement may change the result of another."""
    assert encode_form({"content": value}) == urlencode({"content": value}).encode()


def test_form_of_500_card_keys_equals_that_of_urllib() -> None:
    """500 card keys are the largest form that is sent."""
    content = "\n".join(f"ABCD-EFGH-{number:08d}" for number in range(500))
    assert encode_form({"content": content}) == urlencode({"content": content}).encode()
