"""Forms: ours beside urllib's."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol.messages import encode_form

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

few = st.text(st.sampled_from("AZaz09_.-~%+ &=\n")) | st.text(st.sampled_from("A%+ \r卡"))


@given(st.dictionaries(st.sampled_from(["appkey", "content", "sign"]), few | st.text(st.characters(codec="utf-8"))))
def test_forms(fields: dict[str, str]) -> None:
    """Whatever the values, the form is the one that urllib makes."""
    assert encode_form(fields) == urlencode(fields).encode()


@rows("value", ["100% +1 &x=y", "%2B+%20", "卡号----密码", "a\r\nb", "", "%%++  ", "~._-"])
def test_awkward_values(value: str) -> None:
    """What one replacement could do to another's result."""
    assert encode_form({"content": value}) == urlencode({"content": value}).encode()


def test_a_chunk_of_500() -> None:
    """A whole chunk, as it is sent."""
    content = "\n".join(f"ABCD-EFGH-{number:08d}" for number in range(500))
    assert encode_form({"content": content}) == urlencode({"content": content}).encode()
