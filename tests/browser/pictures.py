"""
Takes the screenshots in docs/images/ (`nox -s pictures`), or all possible ones into a folder given as the argument.

Look at each screenshot before you keep it: on desktop and phone, in both languages, light and dark.
"""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Literal

from browser.running_shop import RunningShop, chromium, run_shop

from gatepay_async import PayType
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

Scheme = Literal["light", "dark"]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESKTOP, PHONE = (1120, 700), (390, 780)
# The screenshots in docs/images/: file name, then page, window size and language.
SCREENSHOTS = {
    "order": ("waiting", DESKTOP, "en"),
    "order-phone-zh": ("waiting", PHONE, "zh"),
    "paid": ("paid", DESKTOP, "en"),
    "paid-zh": ("paid", DESKTOP, "zh"),
    "console": ("overview", DESKTOP, "en"),
    "console-zh": ("overview", DESKTOP, "zh"),
    "console-order": ("order", DESKTOP, "en"),
    "console-order-zh": ("order", DESKTOP, "zh"),
}


def set_up(shop: RunningShop) -> dict[str, str]:
    """Create orders in all states. Return the URL of each page, by name."""
    sandbox = shop.sandbox
    pay_types = list(PayType) * 9  # 27 orders, more than a page of the list shows
    urls = [shop.create_payment(pay_type, f"T-{1000 + number}-X") for number, pay_type in enumerate(pay_types)]
    # Order 2 is paid, and its first callbacks fail. Order 3 is expired, 4 is paid after expiry, and 5 is underpaid.
    merchant = sandbox.change_shop().callback_url
    sandbox.change_shop(callback_url="http://127.0.0.1:9/callback")  # nothing listens there
    sandbox.pay(2)
    shop.portal.call(sandbox.wait_delivered)
    sandbox.change_shop(callback_url=merchant)
    sandbox.send_again(2)
    sandbox.expire(3)
    sandbox.expire(4)
    sandbox.pay(4)
    sandbox.pay(5, realprice=Decimal("0.98"))
    shop.portal.call(sandbox.wait_delivered)
    sandbox.change_shop(expired_url=f"{shop.merchant}/late")
    thanks_url = f"{shop.merchant}/thanks"
    urls += [
        shop.order_amount(return_url=thanks_url),
        shop.order_group(),
        shop.order_amount(return_url=thanks_url),
        shop.order_amount(),
    ]
    names = ("waiting", "paid", "expired", "late", "another", "amount", "group", "going-back", "ran-out")
    urls[5:-4] = []  # keep the pages that have a name in `names`
    [expired, paid] = sandbox.orders()[:-3:-1]  # the two newest orders, for "ran-out" and "going-back"
    sandbox.pay(paid)
    sandbox.expire(expired)
    shop.portal.call(sandbox.wait_delivered)
    links = {
        "quick": shop.quick_pay_url(skin="1"),
        "quick-fixed": shop.quick_pay_url(price="1.88", custom="room 7", stable="1"),
    }
    sandbox.fault(Fault(FaultKind.CUT_AFTER, endpoint="ka/create"))
    sandbox.fault(Fault(FaultKind.CODE, code=110, times=None))
    orders = links | dict(zip(names, urls, strict=True))
    return orders | {name: f"{shop.root}/{path}" for name, path in CONSOLE.items()}


# The pages of the console: name, then path.
CONSOLE = {
    "overview": "",
    "shops": "shops",
    "orders": "orders",
    "order": "orders/2",
    "amount-order": "orders/28",  # the first order after the 27
    "group-order": "orders/29",
    "expired-order": "orders/3",
    "deliveries": "callbacks",
    "faults": "faults",
    "nothing": "orders/99",
}


def main(folder: Path, selected: dict[str, tuple[str, tuple[int, int], str]] | None) -> None:
    """Take the *selected* screenshots. None: take every page in each window size, language and color scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    with Sandbox(callback_interval=0) as sandbox, run_shop(sandbox) as shop, chromium() as browser:
        pages = set_up(shop)
        all_screenshots = {
            f"{name}-{width}-{language}": (name, (width, height), language)
            for name in pages
            for width, height in (DESKTOP, PHONE)
            for language in ("en", "zh")
        }
        schemes: list[Scheme] = ["light"] if selected else ["light", "dark"]
        for scheme in schemes:
            for name, (page_name, (width, height), language) in (selected or all_screenshots).items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(pages[page_name] + ("&" if "?" in pages[page_name] else "?") + f"lang={language}")
                # Show the details of the first row, unless the page shows details already.
                for details in [] if page.locator("details[open]").count() else page.locator("summary").all()[:1]:
                    details.click()
                suffix = "" if selected else f"-{scheme}"
                page.screenshot(path=folder / f"{name}{suffix}.png", full_page=True, animations="disabled")
                page.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), None)
    else:
        main(IMAGES, SCREENSHOTS)
