"""``gatepay link``: prints a quick-pay link."""

from gatepay_async.cli import settings
from gatepay_async.cli.language import text
from gatepay_async.cli.output import print_json, wants_json, warn
from gatepay_async.cli.screens import print_line
from gatepay_async.cli.status import Status


def show(token: str, price: str, custom: str, stable: bool) -> Status:  # noqa: FBT001 -- the value of an option
    """Print the link. On a terminal, also warn that it is not signed."""
    url = settings.client().quick_pay_url(token, price=price or None, custom=custom or None, stable=stable)
    if wants_json():
        print_json(url=url)
        return Status.DONE
    print_line(url)
    warn(text("link.unsigned"))
    return Status.DONE
