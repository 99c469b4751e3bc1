"""The rows of every_command.py: a command line for each command, with its input and its expected exit status."""

import os
import re
import sys
from typing import Any

from attrs import define, field, frozen

ORDER = "order-2026-1128-0017-a"
TOKEN = "q7x"  # for `gatepay link`, which doesn't check it
FILES = {
    "keys.txt": "".join(f"WINTER-{number:04d}-KEY\n" for number in range(1200)) + "\nWINTER-0001-KEY\n",
    "heading.csv": "id,content\n1,SPRING-0001-KEY\n2,SPRING-0002-KEY\n",
    "empty.txt": "",
}


@define
class Shop:
    """
    The sandbox that all commands call.

    Attributes:
        environ: The environment of each command.
        callback: The query string of a signed callback.
        receiver: The URL of a server that replies to callbacks.
        jobs: For each state, "done" or "working", the id of a durable upload in it.
        files: The names and texts of the files in each command's working directory.
        command: How to start `gatepay`.
        wrong: A wrong appsecret, to type at a prompt.
    """

    appkey: str
    appsecret: str
    base_url: str
    environ: dict[str, str]
    callback: str = ""
    receiver: str = ""
    jobs: dict[str, str] = field(factory=dict[str, str])
    files: dict[str, str] = field(factory=lambda: dict(FILES))
    command: tuple[str, ...] = (sys.executable, "-m", "gatepay_async.cli")
    wrong: str = "0" * 32

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "Shop":
        """Return the shop from the output of `gatepay sandbox --json`."""
        environ = {
            name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "SSL_CERT_FILE", "TZ")
        } | {
            "LANG": "en_GB.UTF-8",
            "TERM": "xterm-256color",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "GATEPAY_BASE_URL": settings["base_url"],
            "GATEPAY_CLOUD_BASE_URL": settings["base_url"],
            "GATEPAY_APPKEY": settings["appkey"],
            "GATEPAY_APPSECRET": settings["appsecret"],
        }
        return cls(settings["appkey"], settings["appsecret"], settings["base_url"], environ)


@frozen
class Row:
    """
    A command line.

    Attributes:
        name: The command; a second row for the same command adds a comma and a remark.
        words: The command line. `arguments` replaces placeholders such as `{order}` (a new order number).
        status: The normal exit status.
        full_disk: The exit status if the command can't write its own files; None: the normal one.
        closed: The exit status if standard output is closed; None: the normal one.
        typed: Each prompt, and the field of the shop to type there. Without a terminal the command reads them as lines.
        queue: Whether the command needs a queue that contains uploads.
        until: A pattern in the output at which to interrupt a command that never ends by itself.
        without: The variants of conditions that are skipped for this row.
        waits: Whether the command waits for a server.
        reveals: Whether the command is meant to show secrets.
    """

    name: str
    words: str
    status: int = 0
    full_disk: int | None = None
    closed: int | None = None
    typed: tuple[tuple[str, str], ...] = ()
    queue: bool = False
    until: str = ""
    without: tuple[str, ...] = ()
    environ: dict[str, str] = field(factory=dict[str, str])
    waits: bool = False
    reveals: bool = False

    @property
    def is_main_row(self) -> bool:
        """Whether this is the first row of the command, and not a further command line with a remark."""
        return "," not in self.name

    def arguments(self, shop: Shop) -> list[str]:
        """Return the arguments of `gatepay`."""
        values = {
            "order": f"order-2026-1128-{next(_numbers):04d}-a", "placed": ORDER, "url": shop.base_url, "token": TOKEN,
            "callback": shop.callback, "forged": re.sub(r"realprice=0", "realprice=9", shop.callback),
            "receiver": shop.receiver, "done": shop.jobs.get("done", ""), "waiting": shop.jobs.get("working", ""),
        }  # fmt: skip
        return [word.format_map(values) for word in self.words.split()]


_numbers = iter(range(10_000))
UNREACHABLE = {
    "GATEPAY_BASE_URL": "http://127.0.0.1:9/api/",
    "GATEPAY_CLOUD_BASE_URL": "http://127.0.0.1:9/api/",
}
NO_KEY = {"GATEPAY_APPKEY": "", "GATEPAY_APPSECRET": "", "GATEPAY_BASE_URL": ""}
PROMPTS = (("appkey: ", "appkey"), ("appsecret: ", "appsecret"))
# The third value of a row is the exit status: 2 invalid arguments or settings, 3 refused, 4 no reply.
ROWS = (
    Row("demo", "demo", waits=True),
    Row("login", "--profile table login --base-url {url}", typed=PROMPTS, full_disk=5),
    Row("login, refused", "--profile table login --base-url {url}", 3, typed=(PROMPTS[0], ("appsecret: ", "wrong"))),
    Row("profiles", "profiles"),
    Row("logout", "logout", 2),
    Row("doctor", "doctor", waits=True),
    Row("doctor, no key", "doctor", 2, environ=NO_KEY),
    Row("products", "products", waits=True),
    Row("products, unreachable", "products", 4, environ=UNREACHABLE),
    Row("products, no key", "products", 2, environ=NO_KEY),
    Row("products, watch", "products --watch --below 20", until=r'"id"|\d\d:\d\d:\d\d', without=(">&-",), waits=True),
    Row("keys upload", "keys upload keys.txt -p 8 --failed-lines failed.txt", waits=True),
    Row("keys upload, heading", "keys upload heading.csv -p 8", 0),
    Row("keys upload, empty", "keys upload empty.txt -p 8", 2),
    Row("keys upload, dry run", "keys upload keys.txt -p 8 --dry-run"),
    Row("keys upload, no such product", "keys upload keys.txt -p 999 --failed-lines failed.txt", 3, full_disk=5),
    Row("keys upload, unreachable", "keys upload keys.txt -p 8 --failed-lines f", 4, environ=UNREACHABLE, full_disk=5),
    Row("keys upload, durable", "keys upload keys.txt -p 8 --durable", waits=True, queue=True, full_disk=4),
    Row("keys upload, wrong", "keys upload keys.txt --product eight", 2),
    Row("keys export", "keys export -p 5 -o out.csv", waits=True, full_disk=5),
    Row("keys export, stdout", "keys export -p 5 -o - --reveal", reveals=True, closed=2),
    Row("keys count", "keys count", waits=True),
    Row("uploads list", "uploads list", waits=True, queue=True, full_disk=4),
    Row("uploads show", "uploads show {done}", waits=True, queue=True, full_disk=4),
    Row("uploads watch", "uploads watch {done}", waits=True, queue=True, full_disk=4),
    Row("uploads cancel", "uploads cancel {waiting}", queue=True, full_disk=4),
    Row("uploads resume", "uploads resume {waiting}", queue=True, full_disk=4),
    Row("uploads delete", "uploads delete {done}", queue=True, full_disk=4),
    Row("uploads work", "uploads work --drain", queue=True, full_disk=4, waits=True),
    Row("pay", "pay -p 5 --type alipay --order {order} --save-qr qr.png", waits=True, full_disk=1),
    Row("pay, no such product", "pay -p 999 --type alipay --order {order}", 3),
    Row("pay, unreachable", "pay -p 5 --type alipay --order {order}", 4, environ=UNREACHABLE),
    Row("pay, wait", "pay -p 5 --type alipay --order {order} --wait --listen 127.0.0.1:0 --timeout 1", 4, waits=True),
    Row("order", "order {placed}", waits=True),
    Row("order, unknown", "order nothing-there", 3),
    Row("link", "link {token} --price 1.88"),
    Row("callback verify", "callback verify {callback}"),
    Row("callback verify, forged", "callback verify {forged}", 3),
    Row("callback sign", "callback sign --order-id 9 --order {placed} --price 0.99", reveals=True),
    Row("callback send", "callback send {receiver} --order-id 9 --order {placed} --price 0.99", waits=True),
    Row("errors", "errors"),
    Row("errors, one code", "errors pay/create 101"),
    Row(
        "sandbox", "sandbox --port 0 --database shop.sqlite3", until=r'Ctrl-C|"appkey"', without=(">&-",), reveals=True,
        full_disk=2,
    ),
    Row("help", "help keys upload"),
    Row("help, unknown command", "upload keys.txt", 2),
)  # fmt: skip
