"""Accessibility: keyboard, screen reader, both languages, phone sizes and dark mode."""

import json
from collections.abc import Callable
from importlib.resources import files

import pytest
from browser.running_shop import RunningShop
from playwright.sync_api import BrowserContext, Page, expect

from gatepay_async import new_out_order_id
from gatepay_async.sandbox import Fault, FaultKind

pytestmark = pytest.mark.slow

Window = Callable[..., BrowserContext]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture
def pages(shop: RunningShop) -> dict[str, str]:
    """The URLs of every page in each of its states, by name."""
    # More orders than a page of the list shows.
    urls = [shop.create_payment(out_order_id=new_out_order_id()) for _ in range(24)]
    sandbox = shop.sandbox
    sandbox.pay(2)
    sandbox.expire(3)
    sandbox.expire(4)
    sandbox.pay(4)
    amount = shop.order_amount(return_url=f"{shop.merchant}/stay")
    sandbox.pay(25)  # the order for an amount
    sandbox.change_shop(closed=True)
    sandbox.fault(Fault(FaultKind.CODE, code=110, endpoint="pay/create", times=None))
    shop.portal.call(sandbox.wait_delivered)
    return {
        **dict(zip(("pending", "paid", "expired", "late"), urls, strict=False)),
        "an amount, going back": amount,
        "quick pay": shop.quick_pay_url(skin="1"),
        "quick pay, fixed": shop.quick_pay_url(price="1.88", custom="room 7", stable="1"),
        "overview": f"{shop.root}/",
        "shops": f"{shop.root}/shops",
        "orders": f"{shop.root}/orders",
        "an order": f"{shop.root}/orders/2",
        "an expired order": f"{shop.root}/orders/3",
        "callbacks": f"{shop.root}/callbacks",
        "faults": f"{shop.root}/faults",
        "nothing": f"{shop.root}/orders/99",
    }


def in_language(url: str, language: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}lang={language}"


def violations(page: Page) -> list[str]:
    result = page.evaluate(f"axe.run(document, {json.dumps(RULES)})")
    return [f"{rule['id']}: {node['html'][:120]}" for rule in result["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize(
    ("language", "scheme", "width"),  # every pair of two values occurs
    [("en", "light", 1180), ("en", "dark", 390), ("zh", "light", 390), ("zh", "dark", 1180)],
)
def test_axe_finds_no_violations(language: str, scheme: str, width: int, pages: dict[str, str], window: Window) -> None:
    """The axe tool finds no accessibility violations on any page, wide or narrow, light or dark."""
    page = window(color_scheme=scheme, viewport={"width": width, "height": 844}).new_page()
    page.add_init_script(AXE)
    for name, url in pages.items():
        page.goto(in_language(url, language))
        for details in page.locator("summary").all():
            details.click()
        assert violations(page) == [], name


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_do_not_scroll_sideways(language: str, pages: dict[str, str], window: Window) -> None:
    """No page is wider than its window, at any width from the narrowest phone."""
    page = window().new_page()
    for name, url in pages.items():
        page.goto(in_language(url, language))
        for details in page.locator("summary").all():
            details.click()
        for width in (320, 390, 768, 1180):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)


def test_customer_can_pay_by_keyboard(shop: RunningShop, window: Window) -> None:
    """A customer can pay with the keyboard alone. The focus is visible, and the first link skips to the content."""
    page = window().new_page()
    page.goto(shop.create_payment())
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    pay = page.get_by_role("button", name="Pay ¥0.99")
    expect(pay).to_be_focused()
    assert pay.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    focused_ids = []
    for _ in range(3):
        page.keyboard.press("Tab")
        focused_ids.append(page.evaluate("document.activeElement.id"))
    assert focused_ids == ["expire", "amount", "another"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("0.50")
    page.keyboard.press("Enter")  # in the amount field, submits the form
    expect(page.locator("#state")).to_have_text("Underpaid")
    expect(page.get_by_text("¥0.50 received, less than the price. The shop should not deliver.")).to_be_visible()


def test_accessibility_tree_names_all_parts_of_the_payment_page(shop: RunningShop, window: Window) -> None:
    """The accessibility tree has the product, the amount, the state as a heading, and named buttons."""
    page = window().new_page()
    page.goto(shop.create_payment())
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("main")).to_match_aria_snapshot("""
        - main:
          - region "Waiting for payment":
            - paragraph: 腾讯视频SVIP账号
            - paragraph: Amount ¥0.99
            - heading "Waiting for payment" [level=1]
            - paragraph: Pay before the time runs out.
            - paragraph:
              - timer "Time left"
            - figure:
              - img "QR code of this page's address"
          - region "Sandbox Act as the customer":
            - button "Pay ¥0.99"
            - button "Expire the order"
            - textbox "Other amount (yuan)"
            - button "Pay this amount"
          - region "Sandbox Callbacks to your program"
    """)


def test_chinese_browser_gets_chinese(shop: RunningShop, window: Window) -> None:
    """A Chinese browser gets Chinese. A link switches the language, which is kept after a payment."""
    page = window(locale="zh-CN").new_page()
    page.goto(shop.create_payment())
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("#state")).to_have_text("等待付款")
    page.get_by_role("link", name="English").click()
    expect(page.locator("#state")).to_have_text("Waiting for payment")
    page.get_by_role("button", name="Pay ¥0.99").click()
    expect(page.locator("#state")).to_have_text("Paid")
    page.get_by_role("link", name="中文").click()
    expect(page.locator("#state")).to_have_text("已付款")


def test_reduced_motion_disables_transitions(shop: RunningShop, window: Window) -> None:
    """If the browser prefers reduced motion, no element has a transition."""
    page = window(reduced_motion="reduce").new_page()
    page.goto(shop.create_payment())
    animated = "[...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0)"
    assert page.evaluate(f"{animated}.length") == 0


def test_copy_button_fills_the_clipboard(shop: RunningShop, window: Window) -> None:
    """*Copy* copies the secret to the clipboard and shows a message."""
    context = window(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{shop.root}/shops")
    page.get_by_role("button", name="Copy appsecret").first.click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shop.sandbox.appsecret
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("button", name="Copy: sh").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[1:3] == [
        f"export GATEPAY_APPSECRET={shop.sandbox.appsecret}", f"export GATEPAY_BASE_URL={shop.base_url}",
    ]  # fmt: skip
