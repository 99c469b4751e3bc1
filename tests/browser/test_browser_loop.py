"""The whole loop in a real browser: order, pay, callback, done."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from browser.stage import Stage
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = pytest.mark.slow

Window = Callable[..., BrowserContext]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_the_whole_loop(shop: Stage, window: Window) -> None:
    """A customer opens the page that create_payment gave and pays; the merchant hears of it, and the page says so."""
    page = window().new_page()
    page.goto(shop.order())
    expect(page.locator("#state")).to_have_text("Waiting for payment")
    page.get_by_role("button", name="Pay ¥0.99").click()
    expect(page.locator("#state")).to_have_text("Paid")
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")  # by itself, without a reload
    [callback] = shop.handled
    assert (callback.order_id, callback.out_order_id, callback.price) == (1, "T-1001-X", Decimal("0.99"))
    assert callback.realprice == Decimal("0.99")


def test_the_page_turns_by_itself(shop: Stage, window: Window) -> None:
    """A page that waits turns to paid when somebody pays elsewhere, and tells a screen reader."""
    page = window().new_page()
    page.goto(shop.order())
    expect(page.get_by_role("timer")).not_to_have_text("5:00")  # it counts
    shop.sandbox.pay(1, realprice=Decimal("1.00"))
    expect(page.locator("#state")).to_have_text("Paid")
    expect(page.get_by_role("status")).to_have_text("Paid. ¥1.00 received. Thank you.")
    expect(page).to_have_title("Paid · ¥0.99 · 腾讯视频SVIP账号")
    assert page.get_by_role("button").count() == 0


def test_sent_again_and_handled_once(shop: Stage, window: Window) -> None:
    """The console sends the callback again; the merchant says success again, and handles nothing twice."""
    page = window().new_page()
    page.goto(shop.order())
    page.get_by_role("button", name="Pay ¥0.99").click()
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    page.get_by_role("link", name="Show this order in the console").click()
    for number in (2, 3):
        page.get_by_role("button", name="Send again").click()
        expect(page.locator(".delivery .chip.accepted")).to_have_count(number)
    assert [each.order_id for each in shop.handled] == [1]
    assert len(shop.sandbox.deliveries()) == 3


def test_another_amount(shop: Stage, window: Window) -> None:
    """*Pay this amount* below the price is Underpaid, and the merchant fails it; nonsense is said at the field."""
    page = window().new_page()
    page.goto(shop.order())
    field = page.get_by_label("Other amount (yuan)")
    field.fill("plenty")
    page.get_by_role("button", name="Pay this amount").click()
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description("Enter an amount from 0.01 to 9999999.99 yuan, such as 0.50.")
    field.fill("0.50")
    page.get_by_role("button", name="Pay this amount").click()
    expect(page.locator("#state")).to_have_text("Underpaid")
    expect(page.locator(".delivery .chip").first).to_have_text("Failed")
    assert shop.handled == []


def test_an_expired_order(shop: Stage, window: Window) -> None:
    """Paid too late, the merchant hears nothing, until he says in the console that he has been paid."""
    page = window().new_page()
    page.goto(shop.order())
    page.get_by_role("button", name="Expire the order").click()
    expect(page.locator("#state")).to_have_text("Expired")
    page.get_by_role("button", name="Pay after expiry").click()
    expect(page.locator("#state")).to_have_text("Paid after expiry")
    page.get_by_role("link", name="Show this order in the console").click()
    assert shop.handled == []
    page.get_by_role("button", name="I have been paid").click()
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    assert [each.order_id for each in shop.handled] == [1]


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_without_javascript(options: dict[str, object], shop: Stage, window: Window) -> None:
    """Without JavaScript all of it works: pay, reload by a link, enter a URL, send again, switch a fault on."""
    page = window(java_script_enabled=False, **options).new_page()
    page.goto(shop.order())
    expect(page.get_by_text("This page needs JavaScript to update by itself.")).to_be_visible()
    page.get_by_role("button", name="Pay ¥0.99").click()
    shop.portal.call(shop.sandbox.wait_delivered)
    page.get_by_role("link", name="Reload").click()
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    page.get_by_role("link", name="Show this order in the console").click()
    page.get_by_role("button", name="Send again").click()
    shop.portal.call(shop.sandbox.wait_delivered)
    page.get_by_role("link", name="Callbacks").click()
    page.get_by_text("Request and response").first.click()
    expect(page.get_by_text("GET http://127.0.0.1")).to_have_count(2)
    page.get_by_role("link", name="Shops").click()
    page.get_by_label("Callback URL").first.fill("http://127.0.0.1:9/other")
    page.get_by_role("button", name="Save").first.click()
    expect(page.get_by_label("Callback URL").first).to_have_value("http://127.0.0.1:9/other")
    page.get_by_role("link", name="Faults").click()
    expect(page.get_by_label("Seconds", exact=True)).to_be_hidden()
    page.get_by_label("Fault", exact=True).select_option("slow")
    expect(page.get_by_label("Seconds", exact=True)).to_be_visible()
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("button", name="Switch off: slow")).to_be_visible()
    assert [each.order_id for each in shop.handled] == [1]


def wait_for_looks(page: Page, number: int) -> None:
    """Wait until the page has looked so many times how things stand."""
    for _ in range(number):
        with page.expect_response(page.url):
            pass


def test_a_field_that_is_being_filled_in(shop: Stage, window: Window) -> None:
    """What somebody is writing stays while the page keeps itself up to date: in the field, and behind it."""
    page = window().new_page()
    page.goto(f"{shop.root}/shops")
    field = page.get_by_label("Callback URL").first
    field.fill("http://127.0.0.1:9/half")
    shop.order()
    shop.sandbox.pay(1)
    wait_for_looks(page, 2)
    expect(page.get_by_role("cell", name="88")).to_be_hidden()  # it waits
    page.keyboard.press("Tab")
    expect(page.get_by_role("cell", name="88")).to_be_visible()
    expect(field).to_have_value("http://127.0.0.1:9/half")
    expect(page.get_by_role("button", name="Save").first).to_be_focused()


def test_a_refusal_stays(shop: Stage, window: Window) -> None:
    """What was wrong with an amount stays said, until the order's state changes."""
    page = window().new_page()
    page.goto(shop.order())
    page.get_by_label("Other amount (yuan)").fill("plenty")
    page.get_by_role("button", name="Pay this amount").click()
    refusal = page.get_by_text("Enter an amount from 0.01")
    expect(refusal).to_be_visible()
    wait_for_looks(page, 2)
    expect(refusal).to_be_visible()
    shop.sandbox.pay(1)
    expect(page.locator("#state")).to_have_text("Paid")


def test_what_is_open_stays_open(shop: Stage, window: Window) -> None:
    """A request that is being read stays open, and the focus stays where it is, when a delivery comes in."""
    page = window().new_page()
    shop.order()
    shop.sandbox.pay(1)
    shop.portal.call(shop.sandbox.wait_delivered)
    page.goto(f"{shop.root}/orders/1")
    page.get_by_text("Request and response").click()
    page.get_by_role("button", name="Send again").focus()
    shop.sandbox.send_again(1)
    expect(page.locator(".delivery .chip.accepted")).to_have_count(2)
    expect(page.get_by_text("GET http://127.0.0.1").last).to_be_visible()
    expect(page.get_by_role("button", name="Send again")).to_be_focused()


def test_a_sandbox_that_ends(shop: Stage, window: Window) -> None:
    """When the sandbox is gone the page says so, and when it is back, no longer."""
    context = window()
    page = context.new_page()
    page.goto(shop.order())
    context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text("The sandbox is not responding. This page may be out of date.")
    context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()


def test_another_sites_form(shop: Stage, window: Window) -> None:
    """A form on another site's page, even one on this machine, changes nothing in the sandbox."""
    page = window().new_page()
    page.goto(f"{shop.merchant}/evil")
    page.get_by_role("button", name="Win a prize").click()
    expect(page.get_by_text("Forbidden: this form was sent by another site's page")).to_be_visible()
    assert shop.sandbox._faults.read() == []


def test_two_customers(shop: Stage, window: Window) -> None:
    """Two windows pay the same order at once: the merchant hears of it once."""
    url = shop.order()
    pages = [window().new_page() for _ in range(2)]
    for page in pages:
        page.goto(url)
    for page in pages:  # in one step: the second page may turn to "Paid" by itself at any moment
        page.evaluate("{ const pay = document.querySelector('#pay'); pay?.form.requestSubmit(pay); }")
    for page in pages:
        expect(page.locator("#state")).to_have_text("Paid")
        expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    assert len(shop.handled) == 1


def test_the_way_back(shop: Stage, window: Window) -> None:
    """A customer pays an amount; the browser is back in the shop once that has said `success`."""
    page = window().new_page()
    page.goto(shop.any_amount(return_url=f"{shop.merchant}/thanks"))
    expect(page.get_by_text("任意金额支付:1.88元")).to_be_visible()
    page.get_by_role("button", name="Pay ¥1.88").click()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert page.url == f"{shop.merchant}/thanks?{shop.sandbox.return_query(1)}"
    assert [each.order_id for each in shop.handled] == [1]


def test_the_way_away(shop: Stage, window: Window) -> None:
    """A customer who waits too long is sent to the shop's address for that, by the open page itself."""
    shop.sandbox.change_shop(expired_url=f"{shop.merchant}/late")
    page = window().new_page()
    page.goto(shop.group())
    shop.sandbox.expire(1)
    expect(page.get_by_role("heading", name="Too late")).to_be_visible()


def test_a_quick_payment(shop: Stage, window: Window) -> None:
    """From the console to the quick-pay page, and from there to an order that is paid and called back."""
    page = window(locale="zh-CN").new_page()
    page.goto(f"{shop.root}/shops")
    page.get_by_text("返回地址、过期跳转地址").first.click()
    page.get_by_role("link", name="打开快捷支付页面").first.click()
    page.get_by_label("金额（元）").fill("1.88")
    page.get_by_label("联系方式或备注").fill("terry")
    page.get_by_label("支付宝").check()
    page.get_by_role("button", name="去付款").click()
    page.get_by_role("button", name="付款 ¥1.88").click()
    expect(page.locator("#state")).to_have_text("已付款")
    expect(page.locator(".delivery .chip")).to_have_text("成功")
    assert [(each.order_id, each.extend) for each in shop.handled] == [(1, "terry")]
