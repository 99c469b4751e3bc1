"""The payment page of an order, as HTML without JavaScript and as JSON."""

import re
import time
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
import segno
from starlette.requests import Request
from tables import rows

from gatepay_async.sandbox import Sandbox
from gatepay_async.sandbox.web import _format_time, language_of

pytestmark = pytest.mark.sockets

HOSTILE = """<script>alert("1")</script>'"><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;"""


class Page(HTMLParser):
    """The elements of a page and its visible text."""

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
def url(api: Any) -> str:
    """The URL of a new order's payment page."""
    return str(api.reply("pay/create", pay_type="alipay")["data"]["order_url"])


def fetch_page(api: Any, url: str, **headers: str) -> Page:
    """Fetch a page and parse it."""
    response = api.client.get(url, headers=headers)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Page(response.text)


def post_form(api: Any, url: str, **form: str) -> Any:
    """Submit a form of the page, and follow the redirect."""
    return api.client.post(url, data=form, follow_redirects=True)


def test_page_shows_the_order(url: str, api: Any) -> None:
    """The page shows product, price, remaining time, order number, and that it is a sandbox."""
    page = fetch_page(api, url)
    for text in ("腾讯视频SVIP账号", "¥0.99", "Waiting for payment", "T-1001-X", "Alipay", "5:00", "This is a sandbox"):
        assert text in page.text
    assert page.ids() >= {"pay", "another", "expire", "amount"}


def test_qr_code_contains_the_order_url(url: str, api: Any) -> None:
    """The QR code on the page, compared module by module, is that of order_url."""
    html = api.client.get(url).text
    [svg_path] = re.findall(r'<path[^>]*class="qrline"[^>]* d="([^"]+)"', html)
    code = segno.make_qr(url, error="m")
    # The path consists of horizontal lines. The commands M (absolute) and m (relative) move, and h draws.
    dark_modules = set()
    x, y = 0.0, 0.0
    for command, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?:[ ,]?(-?[\d.]+))?", svg_path):
        if command == "h":
            dark_modules |= {(int(column), int(y - 0.5)) for column in range(int(x), int(x + float(first)))}
            x += float(first)
        elif command == "M":
            x, y = float(first), float(second)
        else:
            x, y = x + float(first), y + float(second)
    # The code has a border of two modules.
    expected = {(c + 2, r + 2) for r, row in enumerate(code.matrix) for c, module in enumerate(row) if module}
    assert dark_modules == expected


def test_pay_button_pays_the_order(url: str, sandbox: Sandbox, api: Any) -> None:
    """*Pay* marks the order as paid and redirects, so that a reload pays nothing. A second *Pay* changes nothing."""
    response = post_form(api, url, do="pay")
    assert [redirect.status_code for redirect in response.history] == [303]
    page = Page(response.text)
    assert "Paid" in page.text
    assert "¥0.99 received" in page.text
    assert not page.ids() & {"pay", "another", "expire"}
    assert sandbox.orders()[0].state == "paid"
    assert "Paid" in Page(post_form(api, url, do="pay").text).text


@pytest.mark.parametrize("text", ["0.5", "0.50", " ¥0.50 ", "￥0.50", "1,234.50", "9999999.99"])
def test_pay_this_amount_accepts_common_notations(text: str, url: str, sandbox: Sandbox, api: Any) -> None:
    """*Pay this amount* accepts spaces, currency signs and thousands separators."""
    page = Page(post_form(api, url, do="another", amount=text).text)
    amount = Decimal(re.sub("[^0-9.]", "", text))
    assert sandbox.orders()[0].realprice == amount
    assert f"Amount paid ¥{amount:,.2f}" in page.text


@rows("text", ["", "0", "0.00", "-1", "0.001", "1e3", "abc", "NaN", "99999999", "１", HOSTILE])
def test_invalid_amount_shows_an_error(text: str, url: str, sandbox: Sandbox, api: Any) -> None:
    """An invalid amount stays in its field with an error next to it, and nothing is paid."""
    response = post_form(api, url, do="another", amount=text)
    assert response.status_code == 422
    page = Page(response.text)
    [field] = [attrs for tag, attrs in page.elements if attrs.get("id") == "amount"]
    assert (field["value"], field["aria-invalid"], field["aria-describedby"]) == (text, "true", "amount-wrong")
    assert "Enter an amount from 0.01" in page.text
    assert sandbox.orders()[0].state == "pending"


def test_expire_button_expires_the_order(url: str, sandbox: Sandbox, api: Any) -> None:
    """*Expire the order* expires it. *Pay after expiry* is recorded, and the page says that no callback is sent."""
    sandbox.change_shop(callback_url="http://127.0.0.1:1")
    page = Page(post_form(api, url, do="expire").text)
    assert "This order can no longer be paid" in page.text
    assert "an expired order gets no callback" in page.text
    paid_page = Page(post_form(api, url, do="pay").text)
    assert "Paid after expiry" in paid_page.text
    assert "pay" not in paid_page.ids()
    assert (sandbox.orders()[0].state, sandbox.deliveries()) == ("expired", [])


def test_countdown_uses_the_sandboxs_clock(url: str, api: Any, clock: Any) -> None:
    """The countdown follows the sandbox's clock. At its end the page says that the order expired."""
    clock.now += 299.5
    assert "0:01" in fetch_page(api, url).text
    clock.now += 0.5
    assert "Expired" in fetch_page(api, url).text


def test_order_without_expiry_has_no_countdown(connect_to: Any, clock: Any) -> None:
    """An order that never expires has no countdown."""
    with Sandbox(clock=clock, expires_after=None) as sandbox:
        api = connect_to(sandbox)
        html = api.client.get(api.reply("pay/create")["data"]["order_url"]).text
    assert "This order does not expire." in html
    assert "data-left" not in html


def test_format_json_returns_the_payment(url: str, sandbox: Sandbox, api: Any, clock: Any) -> None:
    """With format=json, the same URL returns the payment as JSON."""
    response = api.client.get(f"{url}&format=json")
    assert response.headers["content-type"] == "application/json"
    now = int(clock.now)
    pending = {
        "order_id": 1,
        "out_order_id": "T-1001-X",
        "product_num": 1,
        "created_at": now,
        "expires_at": now + 301,  # after 300 s; the fraction of a second is rounded up
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
    with sandbox._database.transaction():  # waits until no sender uses the database
        pass
    sandbox.pay(1, realprice=Decimal("0.5"))
    paid = api.client.get(f"{url}&format=json").json()
    assert paid.pop("callbacks")[0]["attempt"] == 1
    changes = {"order_status": "paid", "paid_at": now, "realprice": "0.50"}
    assert paid == {name: value for name, value in (pending | changes).items() if name != "callbacks"}


def test_unknown_order_gets_404(api: Any) -> None:
    """An unknown order gets a 404: as HTML, as JSON, and for a POST."""
    for path in ("/pay/index", "/pay/index?id=0", "/pay/index?id=%FF%00"):
        root = str(api.client.base_url).removesuffix("/api/")
        response = api.client.get(root + path)
        assert (response.status_code, "Order not found" in response.text) == (404, True)
        assert api.client.post(root + path, data={"do": "pay"}).status_code == 404
        separator = "&" if "?" in path else "?"
        response = api.client.get(f"{root}{path}{separator}format=json")
        assert (response.status_code, response.json()) == (404, {"error": "no such order"})


def test_unknown_action_changes_nothing(url: str, sandbox: Sandbox, api: Any) -> None:
    """A form with an unknown action, or without one, changes nothing."""
    assert post_form(api, url, do="refund").status_code == 200
    assert post_form(api, url, x="").status_code == 200
    assert sandbox.orders()[0].state == "pending"


@pytest.mark.without_coverage
@pytest.mark.parametrize("state", ["pending", "paid", "expired", "late"])
@pytest.mark.parametrize("console", [False, True])
def test_texts_of_users_are_escaped(state: str, console: bool, sandbox: Sandbox, api: Any) -> None:  # noqa: FBT001 -- a parameter of pytest
    """A shop's and a customer's texts are escaped on every page."""
    with sandbox._database.transaction() as connection:
        connection.execute("UPDATE product SET name = ?", (HOSTILE,))
    url = api.reply("pay/create", out_order_id=HOSTILE, custom=HOSTILE)["data"]["order_url"]
    if state in ("expired", "late"):
        sandbox.expire(1)
    if state in ("paid", "late"):
        sandbox.pay(1)
    root = url.partition("/pay/")[0]
    for page in ("/orders/1", "/orders", "/") if console else (url.removeprefix(root), "/?lang=" + "%22%3E%3Cb%3E"):
        parsed = fetch_page(api, root + page)
        assert [attrs for tag, attrs in parsed.elements if tag in ("script", "img", "b")] == [
            {"src": "/static/sandbox.js", "defer": None}
        ]
        assert not [attrs for _, attrs in parsed.elements for name in attrs if name.startswith("on") or name == "style"]
        if "lang" not in page:
            assert re.sub(r"\s+", " ", HOSTILE) in parsed.text


@rows(
    ("query", "accepted", "language"),
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
def test_query_and_accept_language_determine_the_language_of_a_page(
    query: str, accepted: str, language: str, url: str, api: Any
) -> None:
    """The query sets the language; without it, Accept-Language does. The default is English. The page declares it."""
    page = fetch_page(api, url + query, **{"Accept-Language": accepted})
    [html] = [attrs for tag, attrs in page.elements if tag == "html"]
    assert html["lang"] == {"en": "en", "zh": "zh-CN"}[language]
    assert ("等待付款" in page.text) == (language == "zh")


def test_default_language_is_english() -> None:
    """A request without Accept-Language gets English."""
    request = Request({"type": "http", "query_string": b"", "headers": []})
    assert language_of(request) == "en"


def test_chosen_language_is_kept(url: str, api: Any) -> None:
    """A chosen language is kept after a form and in all links, and one link switches to the other language."""
    response = post_form(api, f"{url}&lang=zh", do="pay")
    assert response.url.params["lang"] == "zh"
    links = [str(attrs["href"]) for tag, attrs in Page(response.text).elements if tag == "a"]
    assert all("lang=" in link for link in links if link.startswith("/"))
    [english] = [link for link in links if "lang=en" in link]
    assert "Paid" in fetch_page(api, str(response.url.join(english))).text


def test_page_says_which_url_gets_the_callback(url: str, sandbox: Sandbox, api: Any) -> None:
    """The page says which URL is called, that the shop has none, or that no callback was sent."""
    assert "the shop has no callback URL" in fetch_page(api, url).text
    sandbox.pay(1)
    sandbox.change_shop(callback_url="http://127.0.0.1:1/cb")
    assert "No callback was sent for this order" in fetch_page(api, url).text
    second = api.reply("pay/create")["data"]["order_url"]
    assert "the sandbox calls http://127.0.0.1:1/cb" in fetch_page(api, second).text
    sandbox.remove_shop()
    assert "the shop has no callback URL" in fetch_page(api, second).text


@rows(
    ("zone", "shown"),
    [
        # In the variable TZ, the sign is reversed: POSIX counts the hours west of Greenwich.
        ("UTC0", "UTC"),
        ("AAA-8", "UTC+8"),
        ("AAA-10", "UTC+10"),
        ("AAA5", "UTC-5"),
        ("AAA-0:30", "UTC+0:30"),
        ("AAA0:30", "UTC-0:30"),
        ("AAA-5:45", "UTC+5:45"),
        ("AAA3:30", "UTC-3:30"),
    ],
)
def test_times_are_shown_with_the_offset_of_their_zone(zone: str, shown: str) -> None:
    """An offset has a sign and hours, and minutes if they are not 0. For UTC itself, no offset is shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        try:
            assert _format_time(1_000_000_000).endswith(f" {shown}")
        finally:
            patch.undo()
            time.tzset()
