"""The texts of the sandbox's pages: complete in both languages, and all of them used."""

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

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

SANDBOX = Path(str(sandbox.__file__)).parent
TEMPLATES = {path.name: path.read_text("utf-8") for path in (SANDBOX / "templates").glob("*.html")}
# The texts whose names are computed in the templates: {{ t("delivery_" + state) }}, {{ t(order.pay_type) }}.
COMPUTED_NAMES = {
    *("delivery_waiting", "delivery_sending", "delivery_accepted", "delivery_refused"),
    *("pending", "paid", "expired", "late", "pending_more", "paid_more", "expired_more", "late_more"),
    *("underpaid", "underpaid_more"),
    *("wechat", "alipay", "onecode", "shops", "orders", "deliveries", "faults"),
    *("no_order", "no_page", "no_order_more", "no_page_more", "nothing_to_send"),
    *("no_link", "no_link_more", "link_closed", "link_closed_more"),
    "callback_url_more",
    "url_host",  # in databases of earlier versions
    *("return_url", "return_url_more", "expired_url", "expired_url_more", "token", "token_more"),
    *("pay/create", "stablepay/create", "grouppay/create", "anypay/create", "cloudpay/create", "pay/any"),
    *({kind.value for kind in FaultKind} - {"code"}),
}


@rows("name", PAGES)
def test_text_exists_in_both_languages_with_the_same_placeholders(name: str) -> None:
    """The English text has no Chinese characters, and the Chinese text has some."""
    english, chinese = PAGES[name]
    assert english.strip()
    assert chinese.strip()
    assert not re.search(r"[\u3400-\u9fff]", english)
    if name not in ("lang", "applied_of"):  # a language code, and numbers only
        assert re.search(r"[\u3400-\u9fff]", chinese)
    placeholders = [{part[1] for part in string.Formatter().parse(text) if part[1]} for text in PAGES[name]]
    assert placeholders[0] == placeholders[1]


def test_pages_use_every_text_and_no_other() -> None:
    """Each text of the table is used by a template or the code, and each text that a template uses exists."""
    pages = [Environment().parse(page) for page in TEMPLATES.values()]  # noqa: S701 -- parsed, never rendered
    constants = {const.value for page in pages for const in page.find_all(nodes.Const)}
    code = [ast.parse(path.read_text("utf-8")) for path in SANDBOX.glob("*.py")]
    constants |= {node.value for tree in code for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert set(PAGES) - constants - COMPUTED_NAMES == set()
    calls = [call for page in pages for call in page.find_all(nodes.Call)]
    requested = [call.args[0] for call in calls if isinstance(call.node, nodes.Name) and call.node.name == "t"]
    assert {name.value for name in requested if isinstance(name, nodes.Const)} <= set(PAGES)


def test_templates_contain_no_words_of_their_own() -> None:
    """The names of HTTP methods are allowed."""
    for name, page in TEMPLATES.items():
        without_class = re.sub(r"(main_class %\})\w+", r"\1", page)
        visible_text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", without_class, flags=re.DOTALL)
        assert set(re.findall(r"[^\W\d_]{2,}", visible_text)) <= {"HTTP", "GET", "POST"}, name
