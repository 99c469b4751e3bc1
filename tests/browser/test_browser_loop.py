"""Orders, payments and callbacks in a real browser."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from browser.running_shop import RunningShop
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = pytest.mark.slow

Window = Callable[..., BrowserContext]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_payment_is_called_back_and_shown(shop: RunningShop, window: Window) -> None:
    """After a payment on the order's page, the merchant has handled the callback, and the page shows the delivery."""
    page = window().new_page()
    page.goto(shop.create_payment())
    expect(page.locator("#state")).to_have_text("Waiting for payment")
    page.get_by_role("button", name="Pay ¥0.99").click()
    expect(page.locator("#state")).to_have_text("Paid")
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")  # without a reload
    [callback] = shop.handled
    assert (callback.order_id, callback.out_order_id, callback.price) == (1, "T-1001-X", Decimal("0.99"))
    assert callback.realprice == Decimal("0.99")


def test_open_page_updates_after_payment_elsewhere(shop: RunningShop, window: Window) -> None:
    """An open page shows a payment that was made elsewhere, and announces it to screen readers."""
    page = window().new_page()
    page.goto(shop.create_payment())
    expect(page.get_by_role("timer")).not_to_have_text("5:00")  # the countdown runs
    shop.sandbox.pay(1, realprice=Decimal("1.00"))
    expect(page.locator("#state")).to_have_text("Paid")
    expect(page.get_by_role("status")).to_have_text("Paid. ¥1.00 received. Thank you.")
    expect(page).to_have_title("Paid · ¥0.99 · 腾讯视频SVIP账号")
    assert page.get_by_role("button").count() == 0


def test_callback_sent_again_is_handled_once(shop: RunningShop, window: Window) -> None:
    """A callback sent again from the console is accepted, but not handled again."""
    page = window().new_page()
    page.goto(shop.create_payment())
    page.get_by_role("button", name="Pay ¥0.99").click()
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    page.get_by_role("link", name="Show this order in the console").click()
    for number in (2, 3):
        page.get_by_role("button", name="Send again").click()
        expect(page.locator(".delivery .chip.accepted")).to_have_count(number)
    assert [callback.order_id for callback in shop.handled] == [1]
    assert len(shop.sandbox.deliveries()) == 3


def test_paying_less_is_underpaid(shop: RunningShop, window: Window) -> None:
    """*Pay this amount* below the price is Underpaid, and the merchant rejects it. Invalid input shows an error."""
    page = window().new_page()
    page.goto(shop.create_payment())
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


def test_payment_after_expiry_needs_confirmation(shop: RunningShop, window: Window) -> None:
    """After a late payment, the callback is sent only once *I have been paid* is pressed in the console."""
    page = window().new_page()
    page.goto(shop.create_payment())
    page.get_by_role("button", name="Expire the order").click()
    expect(page.locator("#state")).to_have_text("Expired")
    page.get_by_role("button", name="Pay after expiry").click()
    expect(page.locator("#state")).to_have_text("Paid after expiry")
    page.get_by_role("link", name="Show this order in the console").click()
    assert shop.handled == []
    page.get_by_role("button", name="I have been paid").click()
    expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    assert [callback.order_id for callback in shop.handled] == [1]


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_everything_works_without_javascript(options: dict[str, object], shop: RunningShop, window: Window) -> None:
    """Without JavaScript one can pay, reload, set a URL, send a callback again, and add a fault."""
    page = window(java_script_enabled=False, **options).new_page()
    page.goto(shop.create_payment())
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
    assert [callback.order_id for callback in shop.handled] == [1]


def wait_for_updates(page: Page, number: int) -> None:
    """Wait until the page has requested its own URL *number* times, to update itself."""
    for _ in range(number):
        with page.expect_response(page.url):
            pass


def test_update_keeps_a_field_being_edited(shop: RunningShop, window: Window) -> None:
    """While a field is being edited, the page doesn't update. Afterwards it does, and keeps the text and the focus."""
    page = window().new_page()
    page.goto(f"{shop.root}/shops")
    field = page.get_by_label("Callback URL").first
    field.fill("http://127.0.0.1:9/half")
    shop.create_payment()
    shop.sandbox.pay(1)
    wait_for_updates(page, 2)
    expect(page.get_by_role("cell", name="88")).to_be_hidden()  # the new stock isn't shown yet
    page.keyboard.press("Tab")
    expect(page.get_by_role("cell", name="88")).to_be_visible()
    expect(field).to_have_value("http://127.0.0.1:9/half")
    expect(page.get_by_role("button", name="Save").first).to_be_focused()


def test_update_keeps_an_error_message(shop: RunningShop, window: Window) -> None:
    """The error for an invalid amount is shown until the order's state changes."""
    page = window().new_page()
    page.goto(shop.create_payment())
    page.get_by_label("Other amount (yuan)").fill("plenty")
    page.get_by_role("button", name="Pay this amount").click()
    error = page.get_by_text("Enter an amount from 0.01")
    expect(error).to_be_visible()
    wait_for_updates(page, 2)
    expect(error).to_be_visible()
    shop.sandbox.pay(1)
    expect(page.locator("#state")).to_have_text("Paid")


def test_update_keeps_open_details_and_focus(shop: RunningShop, window: Window) -> None:
    """When a delivery is added, opened details stay open, and the focus is kept."""
    page = window().new_page()
    shop.create_payment()
    shop.sandbox.pay(1)
    shop.portal.call(shop.sandbox.wait_delivered)
    page.goto(f"{shop.root}/orders/1")
    page.get_by_text("Request and response").click()
    page.get_by_role("button", name="Send again").focus()
    shop.sandbox.send_again(1)
    expect(page.locator(".delivery .chip.accepted")).to_have_count(2)
    expect(page.get_by_text("GET http://127.0.0.1").last).to_be_visible()
    expect(page.get_by_role("button", name="Send again")).to_be_focused()


def test_page_says_if_the_sandbox_is_offline(shop: RunningShop, window: Window) -> None:
    """A page shows an alert while the sandbox can't be reached."""
    context = window()
    page = context.new_page()
    page.goto(shop.create_payment())
    context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text("The sandbox is not responding. This page may be out of date.")
    context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()


def test_form_of_another_site_is_forbidden(shop: RunningShop, window: Window) -> None:
    """A form on another site's page, even on this machine, changes nothing in the sandbox."""
    page = window().new_page()
    page.goto(f"{shop.merchant}/evil")
    page.get_by_role("button", name="Win a prize").click()
    expect(page.get_by_text("Forbidden: this form was sent by another site's page")).to_be_visible()
    assert shop.sandbox._faults.read() == []


def test_concurrent_payments_are_handled_once(shop: RunningShop, window: Window) -> None:
    """If two windows pay the same order at the same time, the merchant handles it once."""
    url = shop.create_payment()
    pages = [window().new_page() for _ in range(2)]
    for page in pages:
        page.goto(url)
    for page in pages:  # in one step: the second page may turn to "Paid" by itself at any moment
        page.evaluate("{ const pay = document.querySelector('#pay'); pay?.form.requestSubmit(pay); }")
    for page in pages:
        expect(page.locator("#state")).to_have_text("Paid")
        expect(page.locator(".delivery .chip")).to_have_text("Accepted")
    assert len(shop.handled) == 1


def test_browser_returns_to_the_shop(shop: RunningShop, window: Window) -> None:
    """After the callback was accepted, the browser is sent to the return URL."""
    page = window().new_page()
    page.goto(shop.order_amount(return_url=f"{shop.merchant}/thanks"))
    expect(page.get_by_text("任意金额支付:1.88元")).to_be_visible()
    page.get_by_role("button", name="Pay ¥1.88").click()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert page.url == f"{shop.merchant}/thanks?{shop.sandbox.return_query(1)}"
    assert [callback.order_id for callback in shop.handled] == [1]


def test_expired_order_page_leaves_for_the_expiry_url(shop: RunningShop, window: Window) -> None:
    """When an order expires, its open page leaves for the shop's expiry URL."""
    shop.sandbox.change_shop(expired_url=f"{shop.merchant}/late")
    page = window().new_page()
    page.goto(shop.order_group())
    shop.sandbox.expire(1)
    expect(page.get_by_role("heading", name="Too late")).to_be_visible()


def test_quick_payment_from_the_console_is_called_back(shop: RunningShop, window: Window) -> None:
    """The console links to the quick-pay page, which creates an order that can be paid and is called back."""
    page = window(locale="zh-CN").new_page()
    page.goto(f"{shop.root}/shops")
    page.get_by_text("返回地址、过期跳转地址").first.click()
    page.get_by_role("link", name="打开快捷收款页面").first.click()
    page.get_by_label("金额（元）").fill("1.88")
    page.get_by_label("联系方式或备注").fill("terry")
    page.get_by_label("支付宝").check()
    page.get_by_role("button", name="去付款").click()
    page.get_by_role("button", name="付款 ¥1.88").click()
    expect(page.locator("#state")).to_have_text("已付款")
    expect(page.locator(".delivery .chip")).to_have_text("成功")
    assert [(callback.order_id, callback.extend) for callback in shop.handled] == [(1, "terry")]
