"""
Takes the pictures of docs/images/ (`nox -s pictures`), or all that there are into the folder given as its argument.

Look at each of them before you keep it: the desk and the telephone, both languages, light and dark.
"""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Literal

from browser.stage import Stage, chromium, stage

from gatepay_async import PayType
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

Scheme = Literal["light", "dark"]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESK, PHONE = (1120, 700), (390, 780)
# What is kept: its file, the page, the window, the language.
KEPT = {
    "order": ("waiting", DESK, "en"),
    "order-phone-zh": ("waiting", PHONE, "zh"),
    "paid": ("paid", DESK, "en"),
    "paid-zh": ("paid", DESK, "zh"),
    "console": ("overview", DESK, "en"),
    "console-zh": ("overview", DESK, "zh"),
    "console-order": ("order", DESK, "en"),
    "console-order-zh": ("order", DESK, "zh"),
}


def set_up(shop: Stage) -> dict[str, str]:
    """Make orders of every kind; the pages to be seen."""
    sandbox = shop.sandbox
    types = list(PayType) * 9
    urls = [shop.order(pay_type, f"T-{1000 + number}-X") for number, pay_type in enumerate(types)]
    merchant = sandbox.change_shop().callback_url
    sandbox.change_shop(callback_url="http://127.0.0.1:9/callback")  # nobody is there
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
    thanks = f"{shop.merchant}/thanks"
    urls += [shop.any_amount(return_url=thanks), shop.group(), shop.any_amount(return_url=thanks), shop.any_amount()]
    names = ("waiting", "paid", "expired", "late", "another", "amount", "group", "going-back", "ran-out")
    urls[5:-4] = []
    [ran_out, back] = sandbox.orders()[:-3:-1]
    sandbox.pay(back)
    sandbox.expire(ran_out)
    shop.portal.call(sandbox.wait_delivered)
    links = {
        "quick": shop.quick_pay(skin="1"),
        "quick-fixed": shop.quick_pay(price="1.88", custom="room 7", stable="1"),
    }
    sandbox.fault(Fault(FaultKind.CUT_AFTER, endpoint="ka/create"))
    sandbox.fault(Fault(FaultKind.CODE, code=110, times=None))
    orders = links | dict(zip(names, urls, strict=True))
    return orders | {name: f"{shop.root}/{path}" for name, path in CONSOLE.items()}


CONSOLE = {
    "overview": "",
    "shops": "shops",
    "orders": "orders",
    "order": "orders/2",
    "amount-order": "orders/28",
    "group-order": "orders/29",
    "expired-order": "orders/3",
    "deliveries": "callbacks",
    "faults": "faults",
    "nothing": "orders/99",
}


def main(folder: Path, wanted: dict[str, tuple[str, tuple[int, int], str]] | None) -> None:
    """Take them."""
    folder.mkdir(parents=True, exist_ok=True)
    with Sandbox(callback_interval=0) as sandbox, stage(sandbox) as shop, chromium() as browser:
        pages = set_up(shop)
        everything = {
            f"{name}-{width}-{language}": (name, (width, height), language)
            for name in pages
            for width, height in (DESK, PHONE)
            for language in ("en", "zh")
        }
        schemes: list[Scheme] = ["light"] if wanted else ["light", "dark"]
        for scheme in schemes:
            for name, (which, (width, height), language) in (wanted or everything).items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(pages[which] + ("&" if "?" in pages[which] else "?") + f"lang={language}")
                for details in [] if page.locator("details[open]").count() else page.locator("summary").all()[:1]:
                    details.click()
                suffix = "" if wanted else f"-{scheme}"
                page.screenshot(path=folder / f"{name}{suffix}.png", full_page=True, animations="disabled")
                page.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), None)
    else:
        main(IMAGES, KEPT)
