"""The order's page, as a browser without JavaScript sees it, and as data."""

import re
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
import segno
from starlette.requests import Request
from tables import rows

from gatepay_async.sandbox import Sandbox
from gatepay_async.sandbox.web import language_of

pytestmark = pytest.mark.sockets

HOSTILE = """<script>alert("1")</script>'"><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;"""


class Page(HTMLParser):
    """The elements of a page, and what a reader reads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def ids(self) -> set[str]:
        return {str(attrs["id"]) for _, attrs in self.elements if "id" in attrs}


@pytest.fixture
def url(call: Any) -> str:
    """An order's page."""
    return str(call.reply("pay/create", pay_type="alipay")["data"]["order_url"])


def visit(call: Any, url: str, **headers: str) -> Page:
    response = call.client.get(url, headers=headers)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Page(response.text)


def do(call: Any, url: str, **form: str) -> Any:
    return call.client.post(url, data=form, follow_redirects=True)


def test_what_a_customer_sees(url: str, call: Any) -> None:
    """The page says what is bought, for how much, how long it is still to be paid, and that all this is a sandbox."""
    page = visit(call, url)
    for said in ("腾讯视频SVIP账号", "¥0.99", "Waiting for payment", "T-1001-X", "Alipay", "5:00", "This is a sandbox"):
        assert said in page.text
    assert page.ids() >= {"pay", "another", "expire", "amount"}


def test_the_code_is_the_pages_address(url: str, call: Any) -> None:
    """The QR code on the page is that of the address in order_url, module for module."""
    html = call.client.get(url).text
    [drawn] = re.findall(r'<path[^>]*class="qrline"[^>]* d="([^"]+)"', html)
    code = segno.make_qr(url, error="m")
    dark = set()
    x, y = 0.0, 0.0
    for kind, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?:[ ,]?(-?[\d.]+))?", drawn):
        if kind == "h":
            dark |= {(int(column), int(y - 0.5)) for column in range(int(x), int(x + float(first)))}
            x += float(first)
        elif kind == "M":
            x, y = float(first), float(second)
        else:
            x, y = x + float(first), y + float(second)
    expected = {(c + 2, r + 2) for r, row in enumerate(code.matrix) for c, module in enumerate(row) if module}
    assert dark == expected


def test_paying(url: str, sandbox: Sandbox, call: Any) -> None:
    """*Pay* makes the order a paid one, and a reload sends nothing again; a second *Pay* changes nothing."""
    response = do(call, url, do="pay")
    assert [each.status_code for each in response.history] == [303]
    page = Page(response.text)
    assert "Paid" in page.text
    assert "¥0.99 received" in page.text
    assert not page.ids() & {"pay", "another", "expire"}
    assert sandbox.orders()[0].state == "paid"
    assert "Paid" in Page(do(call, url, do="pay").text).text


@pytest.mark.parametrize("written", ["0.5", "0.50", " ¥0.50 ", "￥0.50", "1,234.50", "9999999.99"])
def test_paying_another_amount(written: str, url: str, sandbox: Sandbox, call: Any) -> None:
    """*Pay this amount* takes it as people write it."""
    page = Page(do(call, url, do="another", amount=written).text)
    amount = Decimal(re.sub("[^0-9.]", "", written))
    assert sandbox.orders()[0].realprice == amount
    assert f"Amount paid ¥{amount:,.2f}" in page.text


@rows("written", ["", "0", "0.00", "-1", "0.001", "1e3", "abc", "NaN", "99999999", "１", HOSTILE])
def test_no_amount(written: str, url: str, sandbox: Sandbox, call: Any) -> None:
    """What is no amount is said beside the field, which keeps it; nothing is paid."""
    response = do(call, url, do="another", amount=written)
    assert response.status_code == 422
    page = Page(response.text)
    [field] = [attrs for tag, attrs in page.elements if attrs.get("id") == "amount"]
    assert (field["value"], field["aria-invalid"], field["aria-describedby"]) == (written, "true", "amount-wrong")
    assert "Enter an amount from 0.01" in page.text
    assert sandbox.orders()[0].state == "pending"


def test_letting_it_expire(url: str, sandbox: Sandbox, call: Any) -> None:
    """*Expire the order* ends it; *Pay after expiry* is noted, and the page says that nobody is told."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    page = Page(do(call, url, do="expire").text)
    assert "This order can no longer be paid" in page.text
    assert "an expired order gets no callback" in page.text
    late = Page(do(call, url, do="pay").text)
    assert "Paid after expiry" in late.text
    assert "pay" not in late.ids()
    assert (sandbox.orders()[0].state, sandbox.deliveries()) == ("expired", [])


def test_time_goes_by(url: str, call: Any, clock: Any) -> None:
    """The countdown is the sandbox's; at its end the page says so by itself."""
    clock.now += 299.5
    assert "0:01" in visit(call, url).text
    clock.now += 0.5
    assert "Expired" in visit(call, url).text


def test_an_order_without_an_end(visit: Any, clock: Any) -> None:
    """An order that never expires has no countdown."""
    with Sandbox(clock=clock, expires_after=None) as sandbox:
        call = visit(sandbox)
        html = call.client.get(call.reply("pay/create")["data"]["order_url"]).text
    assert "This order does not expire." in html
    assert "data-left" not in html


def test_as_data(url: str, sandbox: Sandbox, call: Any, clock: Any) -> None:
    """With format=json the same address answers with the payment's data."""
    response = call.client.get(f"{url}&format=json")
    assert response.headers["content-type"] == "application/json"
    now = int(clock.now)
    pending = {
        "order_id": 1,
        "out_order_id": "T-1001-X",
        "product_num": 1,
        "created_at": now,
        "expires_at": now + 301,
        "paid_at": None,
        "order_name": "腾讯视频SVIP账号",
        "order_price": "0.99",
        "order_type": "alipay",
        "order_status": "pending",
        "order_url": url,
        "realprice": None,
        "callbacks": [],
        "time": now,
    }
    assert response.json() == pending
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    with sandbox._database.transaction():  # nobody sends meanwhile
        pass
    sandbox.pay(1, realprice=Decimal("0.5"))
    paid = call.client.get(f"{url}&format=json").json()
    assert paid.pop("callbacks")[0]["attempt"] == 1
    changes = {"order_status": "paid", "paid_at": now, "realprice": "0.50"}
    assert paid == {name: value for name, value in (pending | changes).items() if name != "callbacks"}


def test_no_such_order(call: Any) -> None:
    """An unknown order is not found: as a page, as data, and when somebody pays it."""
    for path in ("/pay/index", "/pay/index?id=0", "/pay/index?id=%FF%00"):
        root = str(call.client.base_url).removesuffix("/api/")
        response = call.client.get(root + path)
        assert (response.status_code, "Order not found" in response.text) == (404, True)
        assert call.client.post(root + path, data={"do": "pay"}).status_code == 404
        mark = "&" if "?" in path else "?"
        response = call.client.get(f"{root}{path}{mark}format=json")
        assert (response.status_code, response.json()) == (404, {"error": "no such order"})


def test_an_unknown_act(url: str, sandbox: Sandbox, call: Any) -> None:
    """A form that asks for something else changes nothing."""
    assert do(call, url, do="refund").status_code == 200
    assert do(call, url, x="").status_code == 200
    assert sandbox.orders()[0].state == "pending"


@pytest.mark.uncounted
@pytest.mark.parametrize("state", ["pending", "paid", "expired", "late"])
@pytest.mark.parametrize("console", [False, True])
def test_hostile_texts(state: str, console: bool, sandbox: Sandbox, call: Any) -> None:  # noqa: FBT001 -- a parameter of pytest
    """Whatever a shop or a customer writes is text on every page, and never a tag or a template."""
    with sandbox._database.transaction() as connection:
        connection.execute("UPDATE product SET name = ?", (HOSTILE,))
    url = call.reply("pay/create", out_order_id=HOSTILE, custom=HOSTILE)["data"]["order_url"]
    if state in ("expired", "late"):
        sandbox.expire(1)
    if state in ("paid", "late"):
        sandbox.pay(1)
    root = url.partition("/pay/")[0]
    for page in ("/orders/1", "/orders", "/") if console else (url.removeprefix(root), "/?lang=" + "%22%3E%3Cb%3E"):
        parsed = visit(call, root + page)
        assert [attrs for tag, attrs in parsed.elements if tag in ("script", "img", "b")] == [
            {"src": "/static/sandbox.js", "defer": None}
        ]
        assert not [attrs for _, attrs in parsed.elements for name in attrs if name.startswith("on") or name == "style"]
        if "lang" not in page:
            assert re.sub(r"\s+", " ", HOSTILE) in parsed.text


@rows(
    ("asked", "accepted", "language"),
    [
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "fr,en;q=0.5,zh;q=0.9", "zh"),
        ("", "en-GB", "en"),
        ("", "fr", "en"),
        ("", "", "en"),
        ("", "zh;q=x", "zh"),
        ("", "zhuang, en", "en"),
        ("&lang=zh", "en", "zh"),
        ("&lang=en", "zh", "en"),
        ("&lang=xx", "zh", "zh"),
    ],
)
def test_the_language(asked: str, accepted: str, language: str, url: str, call: Any) -> None:
    """A page speaks the language asked for, or the browser's, or English; and says which."""
    page = visit(call, url + asked, **{"Accept-Language": accepted})
    [html] = [attrs for tag, attrs in page.elements if tag == "html"]
    assert html["lang"] == {"en": "en", "zh": "zh-CN"}[language]
    assert ("等待付款" in page.text) == (language == "zh")


def test_no_language_said() -> None:
    """A program that says nothing of languages reads English."""
    request = Request({"type": "http", "query_string": b"", "headers": []})
    assert language_of(request) == "en"


def test_a_language_stays(url: str, call: Any) -> None:
    """Once chosen, the language stays over a form and on every link; the other one is a link away."""
    response = do(call, f"{url}&lang=zh", do="pay")
    assert response.url.params["lang"] == "zh"
    links = [str(attrs["href"]) for tag, attrs in Page(response.text).elements if tag == "a"]
    assert all("lang=" in link for link in links if link.startswith("/"))
    [english] = [link for link in links if "lang=en" in link]
    assert "Paid" in visit(call, str(response.url.join(english))).text


def test_without_a_url_the_page_says_so(url: str, sandbox: Sandbox, call: Any) -> None:
    """The page says what the shop's program hears: nothing, or what will be called, or nothing any more."""
    assert "the shop has no callback URL" in visit(call, url).text
    sandbox.pay(1)
    sandbox.change_shop(callback_url="http://127.0.0.1:1/cb")
    assert "No callback was sent for this order" in visit(call, url).text
    second = call.reply("pay/create")["data"]["order_url"]
    assert "the sandbox calls http://127.0.0.1:1/cb" in visit(call, second).text
    sandbox.remove_shop()
    assert "the shop has no callback URL" in visit(call, second).text
