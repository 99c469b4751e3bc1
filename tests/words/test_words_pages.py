"""Two languages, side by side: nothing is missing in one, and nothing is there that no page says."""

import ast
import re
import string
from pathlib import Path

import pytest
from jinja2 import Environment, nodes
from tables import rows

from gatepay_async import sandbox
from gatepay_async.sandbox import FaultKind
from gatepay_async.words.pages import PAGES

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

HERE = Path(str(sandbox.__file__)).parent
TEMPLATES = {path.name: path.read_text("utf-8") for path in (HERE / "templates").glob("*.html")}
# Said by a name that is put together: {{ t("delivery_" + state) }}, {{ t(order.pay_type) }}.
PUT_TOGETHER = {
    *("delivery_waiting", "delivery_sending", "delivery_accepted", "delivery_refused"),
    *("pending", "paid", "expired", "late", "pending_more", "paid_more", "expired_more", "late_more"),
    *("underpaid", "underpaid_more"),
    *("wechat", "alipay", "onecode", "shops", "orders", "deliveries", "faults"),
    *("no_order", "no_page", "no_order_more", "no_page_more", "nothing_to_send"),
    *("no_link", "no_link_more", "link_closed", "link_closed_more"),
    "callback_url_more",
    *("return_url", "return_url_more", "expired_url", "expired_url_more", "token", "token_more"),
    *("pay/create", "stablepay/create", "grouppay/create", "anypay/create", "cloudpay/create", "pay/any"),
    *({kind.value for kind in FaultKind} - {"code"}),
}


@rows("name", PAGES)
def test_both_languages(name: str) -> None:
    """Each text is there in English and in Chinese, with the same places to fill in."""
    english, chinese = PAGES[name]
    assert english.strip()
    assert chinese.strip()
    assert not re.search(r"[\u3400-\u9fff]", english)
    if name not in ("lang", "applied_of"):
        assert re.search(r"[\u3400-\u9fff]", chinese)
    places = [{part[1] for part in string.Formatter().parse(said) if part[1]} for said in (english, chinese)]
    assert places[0] == places[1]


def test_every_text_is_said() -> None:
    """The pages say every text of the table, and ask for none that isn't there."""
    pages = [Environment().parse(page) for page in TEMPLATES.values()]  # noqa: S701 -- parsed, never rendered
    written = {const.value for page in pages for const in page.find_all(nodes.Const)}
    code = [ast.parse(path.read_text("utf-8")) for path in HERE.glob("*.py")]
    written |= {node.value for tree in code for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert set(PAGES) - written - PUT_TOGETHER == set()
    calls = [call for page in pages for call in page.find_all(nodes.Call)]
    asked = [call.args[0] for call in calls if isinstance(call.node, nodes.Name) and call.node.name == "t"]
    assert {each.value for each in asked if isinstance(each, nodes.Const)} <= set(PAGES)


def test_no_text_stands_in_a_template() -> None:
    """No template holds a word of its own, but for HTTP's."""
    for name, page in TEMPLATES.items():
        unclassed = re.sub(r"(main_class %\})\w+", r"\1", page)
        bare = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", unclassed, flags=re.DOTALL)
        assert set(re.findall(r"[^\W\d_]{2,}", bare)) <= {"HTTP", "GET", "POST"}, name
