"""
The recipes: each run as its first lines say, in a process of its own, by its framework's own server.

It is copied into an empty folder with shop.py, as a reader downloads it.
"""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from attrs import frozen
from servers import free_port
from waiting import wait_until

from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.testing import signed_callback

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"
UVICORN = "uvicorn {name}:app --no-access-log --host 127.0.0.1 --port {port}"
COMMANDS = {
    "fastapi_shop": UVICORN,
    "starlette_shop": UVICORN,
    "litestar_shop": UVICORN,
    "django_shop": UVICORN,
    "aiohttp_shop": "{name}",
    "flask_shop": "waitress --listen 127.0.0.1:{port} {name}:app",
}


@frozen
class Recipe:
    """A shop that is being served."""

    sandbox: Sandbox
    browser: httpx.Client
    folder: Path

    def ask(self, email: str) -> httpx.Response:
        """Order as a customer."""
        given = {"data": {"email": email}} if self.folder.name.startswith("django") else {"json": {"email": email}}
        return self.browser.post("/orders", **given)  # type: ignore[arg-type]  # httpx's own names

    @property
    def log(self) -> str:
        """What its server has printed."""
        return (self.folder / "log").read_text("utf-8")

    def told(self) -> list[str]:
        """Which secrets its log holds, by their names."""
        log = self.log
        return [
            name for name, secret in {"appsecret": self.sandbox.appsecret, "sign": "sign="}.items() if secret in log
        ]

    def order(self, email: str) -> str:
        """Order as a customer; the number of the order."""
        reply = self.ask(email)
        assert reply.status_code == 201, reply.text
        assert reply.json()["pay_at"].startswith("http://127.0.0.1:")
        return str(reply.json()["out_order_id"])

    def paid(self, out_order_id: str) -> str:
        """The customer pays; GatePay's callback, as query text."""
        [order] = [each for each in self.sandbox.orders() if each.out_order_id == out_order_id]
        return self.sandbox.callback_query(self.sandbox.pay(order))

    def deliver(self, query: str, *, post: bool = False) -> str:
        """Call back, as GatePay does; the answer, of which only the two words are known to it."""
        if post:
            form = {"content-type": "application/x-www-form-urlencoded"}
            reply = self.browser.post("/gatepay/callback", content=query, headers=form)
        else:
            reply = self.browser.get(f"/gatepay/callback?{query}")
        assert reply.headers["content-type"].startswith("text/plain")
        assert (reply.status_code == 200) == (reply.text == "success")
        return reply.text

    def sent(self, email: str) -> list[str]:
        """What the shop has sent to a customer."""
        with contextlib.closing(sqlite3.connect(self.folder / "shop.sqlite3")) as records:
            return [text for (text,) in records.execute("SELECT text FROM outbox WHERE email = ?", (email,))]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """GatePay's other end, for all recipes."""
    with Sandbox() as it:
        yield it


@pytest.fixture(scope="module")
def base_url(sandbox: Sandbox) -> Iterator[str]:
    """The sandbox over real HTTP."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox.serve()) as url:
        yield url


@pytest.fixture(scope="module", params=COMMANDS)
def recipe(
    request: pytest.FixtureRequest, sandbox: Sandbox, base_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recipe]:
    """A recipe, served."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in (request.param, "shop"):
        shutil.copy(RECIPES / f"{name}.py", folder)
    environment = os.environ | {
        "GATEPAY_APPKEY": sandbox.appkey,
        "GATEPAY_APPSECRET": sandbox.appsecret,
        "GATEPAY_BASE_URL": base_url,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
    }
    if request.param == "aiohttp_shop":
        environment["PYTHONASYNCIODEBUG"] = "1"  # then aiohttp prints its access log by itself, if it has one
    with served(request.param, folder, environment) as url, httpx.Client(base_url=url, trust_env=False) as browser:
        it = Recipe(sandbox, browser, folder)
        yield it
    # What it says when it stops. pytest reports this under the test that comes next, of another recipe: whatever can be
    # seen before is the last test's.
    assert [word for word in ("Traceback", "Warning") if word in it.log] == [], it.log


@contextlib.contextmanager
def served(name: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a recipe's server; its address, once it answers."""
    for _ in range(3):  # between the look for a free port and the server's start another program may take it
        port = free_port()
        command = [sys.executable, "-m", *COMMANDS[name].format(name=name, port=port).split()]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                command, cwd=folder, env={**environment, "PORT": str(port)}, stdout=log, stderr=log
            ) as server,
        ):
            try:
                if answers(server, port):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                server.terminate()
    pytest.fail((folder / "log").read_text("utf-8"))


def answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server accepts; False if it has ended instead."""
    wait_until(lambda: server.poll() is not None or accepts(port), every=0.02)
    return server.poll() is None


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_paid_is_delivered_once(recipe: Recipe, post: bool) -> None:  # noqa: FBT001 -- pytest gives it by name
    """Ordered, paid, called back: the goods are sent; called back again: `success`, and nothing is sent twice."""
    email = f"terry+{'post' if post else 'get'} 100%&=é@例子.com"
    query = recipe.paid(recipe.order(email))
    assert recipe.sent(email) == []
    assert recipe.deliver(query, post=post) == "success"
    [text] = recipe.sent(email)
    assert text.startswith("Thank you for ")
    for again in (post, not post):
        assert recipe.deliver(query, post=again) == "success"
    assert recipe.sent(email) == [text]


def test_an_order_whose_reply_is_lost(recipe: Recipe) -> None:
    """The customer is told so; if they pay all the same, the callback finds the order, and it is delivered."""
    recipe.sandbox.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    reply = recipe.ask("lost@example.com")
    order = recipe.sandbox.orders()[-1]
    assert (reply.status_code, order.out_order_id in reply.text) == (201, True), reply.text
    assert recipe.deliver(recipe.paid(order.out_order_id)) == "success"
    assert len(recipe.sent("lost@example.com")) == 1


def test_what_is_forged_is_refused(recipe: Recipe) -> None:
    """Another price, a name twice, nothing at all, an order that isn't there: `fail`; the genuine one still works."""
    shop: dict[str, Any] = {"appkey": recipe.sandbox.appkey, "appsecret": recipe.sandbox.appsecret}
    number = recipe.order("forged@example.com")
    genuine = recipe.paid(number)
    for bad in (
        genuine.replace("price=0.99", "price=0.01", 1),
        f"{genuine}&price=0.99",
        f"{genuine}&extend=%zz",
        "",
        signed_callback(**shop, out_order_id="T-0-X", price="0.99"),
        signed_callback(**shop, out_order_id=number, price="0.01"),
        signed_callback(appkey=shop["appkey"], appsecret="guessed", out_order_id=number, price="0.99"),
    ):
        assert recipe.deliver(bad) == "fail"
    assert recipe.sent("forged@example.com") == []
    assert recipe.deliver(genuine) == "success"
    assert len(recipe.sent("forged@example.com")) == 1


def test_what_is_too_long_is_refused(recipe: Recipe) -> None:
    """Far more than a callback can be is refused, and the shop is still there."""
    reply = recipe.browser.post("/gatepay/callback", content="extend=" + "x" * 50_000)
    assert 400 <= reply.status_code < 500
    assert "success" not in reply.text
    assert recipe.deliver("") == "fail"


def test_deliveries_at_once(recipe: Recipe) -> None:
    """Eight deliveries of one payment at once: all are answered with `success`, and the goods are sent once."""
    query = recipe.paid(recipe.order("at.once@example.com"))
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(recipe.deliver, [query] * 8)) == {"success"}
    assert len(recipe.sent("at.once@example.com")) == 1


def test_own_parameters_and_other_methods(recipe: Recipe) -> None:
    """Parameters of the shop's own address don't disturb; a method that GatePay doesn't use is refused."""
    query = recipe.paid(recipe.order("own@example.com"))
    assert recipe.browser.put(f"/gatepay/callback?{query}").status_code == 405
    assert recipe.sent("own@example.com") == []
    assert recipe.deliver(f"shop=1&lang=%E4%B8%AD+%20&{query}") == "success"
    assert len(recipe.sent("own@example.com")) == 1


def test_underpaid_is_refused(recipe: Recipe) -> None:
    """A customer who pays 0.01 for an order of 0.99 gets `fail` and no goods; once the price is paid, the goods."""
    number = recipe.order("stingy@example.com")
    [order] = [each for each in recipe.sandbox.orders() if each.out_order_id == number]
    short = recipe.sandbox.callback_query(order, realprice=Decimal("0.01"))
    assert [recipe.deliver(short), recipe.deliver(short, post=True)] == ["fail", "fail"]
    assert recipe.sent("stingy@example.com") == []
    assert recipe.deliver(recipe.sandbox.callback_query(order, realprice=Decimal("0.99"))) == "success"
    assert len(recipe.sent("stingy@example.com")) == 1


def test_without_an_appkey(recipe: Recipe) -> None:
    """A callback without appkey, which GatePay's page has had since May 2019, is accepted; another's is refused."""
    query = recipe.paid(recipe.order("later@example.com"))
    rest = query.partition("&")[2]
    assert recipe.deliver(f"appkey=another&{rest}", post=True) == "fail"
    assert recipe.sent("later@example.com") == []
    assert [recipe.deliver(rest, post=True), recipe.deliver(rest)] == ["success", "success"]
    assert len(recipe.sent("later@example.com")) == 1


def test_the_log_holds_no_secret(recipe: Recipe) -> None:
    """No signature and no secret is in the log: of callbacks accepted, of callbacks refused, of all tests before."""
    query = recipe.paid(recipe.order("log@example.com"))
    assert [recipe.deliver(f"{query}x"), recipe.deliver(query)] == ["fail", "success"]
    url = recipe.browser.base_url
    with socket.create_connection((url.host, url.port or 80)) as malformed:  # text that nobody has escaped
        malformed.sendall(f"GET /gatepay/callback?{query}&x=中 HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        assert malformed.recv(12).endswith(b" 400")
    assert recipe.told() == []
