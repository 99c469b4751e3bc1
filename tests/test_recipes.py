"""
Runs each recipe as its first lines say: in its own process, with its framework's own server.

A recipe is copied into an empty folder together with shop.py, as a reader downloads it.
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

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

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
    """A shop from a recipe, running in its own process. `browser` sends requests to it."""

    sandbox: Sandbox
    browser: httpx.Client
    folder: Path

    def post_order(self, email: str) -> httpx.Response:
        """Order as a customer. Return the shop's response."""
        body = {"data": {"email": email}} if self.folder.name.startswith("django") else {"json": {"email": email}}
        return self.browser.post("/orders", **body)  # type: ignore[arg-type]  # httpx's parameters

    @property
    def log(self) -> str:
        """What the shop's server has printed."""
        return (self.folder / "log").read_text("utf-8")

    def leaked_secrets(self) -> list[str]:
        """Return the names of the secrets that the log contains."""
        log = self.log
        return [
            name for name, secret in {"appsecret": self.sandbox.appsecret, "sign": "sign="}.items() if secret in log
        ]

    def order(self, email: str) -> str:
        """Order as a customer. Return the order number."""
        reply = self.post_order(email)
        assert reply.status_code == 201, reply.text
        assert reply.json()["pay_at"].startswith("http://127.0.0.1:")
        return str(reply.json()["out_order_id"])

    def pay(self, out_order_id: str) -> str:
        """Pay an order as a customer. Return GatePay's callback as a query string."""
        [order] = [order for order in self.sandbox.orders() if order.out_order_id == out_order_id]
        return self.sandbox.callback_query(self.sandbox.pay(order))

    def deliver(self, query: str, *, post: bool = False) -> str:
        """Send a callback as GatePay does. Return the shop's answer; GatePay accepts only the text `success`."""
        if post:
            form = {"content-type": "application/x-www-form-urlencoded"}
            reply = self.browser.post("/gatepay/callback", content=query, headers=form)
        else:
            reply = self.browser.get(f"/gatepay/callback?{query}")
        assert reply.headers["content-type"].startswith("text/plain")
        assert (reply.status_code == 200) == (reply.text == "success")
        return reply.text

    def messages_to(self, email: str) -> list[str]:
        """Return the messages that the shop has sent to a customer."""
        with contextlib.closing(sqlite3.connect(self.folder / "shop.sqlite3")) as records:
            return [text for (text,) in records.execute("SELECT text FROM outbox WHERE email = ?", (email,))]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Return one sandbox for all recipes."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def base_url(sandbox: Sandbox) -> Iterator[str]:
    """Serve the sandbox over real HTTP. Return its base URL."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox.serve()) as url:
        yield url


@pytest.fixture(scope="module", params=COMMANDS)
def recipe(
    request: pytest.FixtureRequest, sandbox: Sandbox, base_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recipe]:
    """Run a recipe in its framework's own server."""
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
        environment["PYTHONASYNCIODEBUG"] = "1"  # then aiohttp prints its access log, unless the recipe turns it off
    with served(request.param, folder, environment) as url, httpx.Client(base_url=url, trust_env=False) as browser:
        recipe = Recipe(sandbox, browser, folder)
        yield recipe
    # The server has stopped, so this also checks its last output. pytest reports a failure here under the next test.
    assert [word for word in ("Traceback", "Warning") if word in recipe.log] == [], recipe.log


@contextlib.contextmanager
def served(name: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a recipe's server. Yield its URL once it accepts connections."""
    for _ in range(3):  # another program may take the free port before the server starts
        port = free_port()
        command = [sys.executable, "-m", *COMMANDS[name].format(name=name, port=port).split()]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                command, cwd=folder, env={**environment, "PORT": str(port)}, stdout=log, stderr=log
            ) as server,
        ):
            try:
                if wait_until_ready(server, port):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                server.terminate()
    pytest.fail((folder / "log").read_text("utf-8"))


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server accepts connections. Return False if it has ended instead."""
    wait_until(lambda: server.poll() is not None or accepts_connections(port), every=0.02)
    return server.poll() is None


def accepts_connections(port: int) -> bool:
    """Return whether a connection to the port can be opened."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_a_paid_order_is_delivered_once(recipe: Recipe, post: bool) -> None:  # noqa: FBT001 -- pytest passes it by name
    """After the callback the shop delivers once. Repeated callbacks are answered `success` and deliver nothing."""
    email = f"terry+{'post' if post else 'get'} 100%&=é@例子.com"
    query = recipe.pay(recipe.order(email))
    assert recipe.messages_to(email) == []
    assert recipe.deliver(query, post=post) == "success"
    [text] = recipe.messages_to(email)
    assert text.startswith("Thank you for ")
    for second_post in (post, not post):
        assert recipe.deliver(query, post=second_post) == "success"
    assert recipe.messages_to(email) == [text]


def test_an_order_with_a_lost_reply_is_still_delivered(recipe: Recipe) -> None:
    """If GatePay's reply to an order is lost, the customer is informed, and the callback still delivers the order."""
    recipe.sandbox.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    reply = recipe.post_order("lost@example.com")
    order = recipe.sandbox.orders()[-1]
    assert (reply.status_code, order.out_order_id in reply.text) == (201, True), reply.text
    assert recipe.deliver(recipe.pay(order.out_order_id)) == "success"
    assert len(recipe.messages_to("lost@example.com")) == 1


def test_forged_callbacks_are_refused(recipe: Recipe) -> None:
    """A callback with another price or appsecret, a repeated field, no fields or an unknown order gets `fail`."""
    shop: dict[str, Any] = {"appkey": recipe.sandbox.appkey, "appsecret": recipe.sandbox.appsecret}
    number = recipe.order("forged@example.com")
    genuine = recipe.pay(number)
    for forged in (
        genuine.replace("price=0.99", "price=0.01", 1),
        f"{genuine}&price=0.99",
        f"{genuine}&extend=%zz",
        "",
        signed_callback(**shop, out_order_id="T-0-X", price="0.99"),
        signed_callback(**shop, out_order_id=number, price="0.01"),
        signed_callback(appkey=shop["appkey"], appsecret="guessed", out_order_id=number, price="0.99"),
    ):
        assert recipe.deliver(forged) == "fail"
    assert recipe.messages_to("forged@example.com") == []
    assert recipe.deliver(genuine) == "success"
    assert len(recipe.messages_to("forged@example.com")) == 1


def test_too_long_callbacks_are_refused(recipe: Recipe) -> None:
    """A request that is much longer than a callback is refused, and the shop keeps running."""
    reply = recipe.browser.post("/gatepay/callback", content="extend=" + "x" * 50_000)
    assert 400 <= reply.status_code < 500
    assert "success" not in reply.text
    assert recipe.deliver("") == "fail"


def test_concurrent_deliveries_deliver_once(recipe: Recipe) -> None:
    """Eight concurrent callbacks of one payment are answered `success`, and the shop delivers once."""
    query = recipe.pay(recipe.order("at.once@example.com"))
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(recipe.deliver, [query] * 8)) == {"success"}
    assert len(recipe.messages_to("at.once@example.com")) == 1


def test_own_parameters_are_ignored_and_other_methods_refused(recipe: Recipe) -> None:
    """Parameters of the shop's own URL are ignored. A method that GatePay doesn't use is refused."""
    query = recipe.pay(recipe.order("own@example.com"))
    assert recipe.browser.put(f"/gatepay/callback?{query}").status_code == 405
    assert recipe.messages_to("own@example.com") == []
    assert recipe.deliver(f"shop=1&lang=%E4%B8%AD+%20&{query}") == "success"
    assert len(recipe.messages_to("own@example.com")) == 1


def test_an_underpaid_order_is_not_delivered(recipe: Recipe) -> None:
    """If the customer pays too little, the answer is `fail`. Once the full price is paid, the shop delivers."""
    number = recipe.order("stingy@example.com")
    [order] = [order for order in recipe.sandbox.orders() if order.out_order_id == number]
    underpaid = recipe.sandbox.callback_query(order, realprice=Decimal("0.01"))
    assert [recipe.deliver(underpaid), recipe.deliver(underpaid, post=True)] == ["fail", "fail"]
    assert recipe.messages_to("stingy@example.com") == []
    assert recipe.deliver(recipe.sandbox.callback_query(order, realprice=Decimal("0.99"))) == "success"
    assert len(recipe.messages_to("stingy@example.com")) == 1


def test_a_callback_without_appkey_is_accepted(recipe: Recipe) -> None:
    """A callback without appkey, as documented by GatePay since May 2019, is accepted; another appkey is refused."""
    query = recipe.pay(recipe.order("later@example.com"))
    without_appkey = query.partition("&")[2]
    assert recipe.deliver(f"appkey=another&{without_appkey}", post=True) == "fail"
    assert recipe.messages_to("later@example.com") == []
    assert [recipe.deliver(without_appkey, post=True), recipe.deliver(without_appkey)] == ["success", "success"]
    assert len(recipe.messages_to("later@example.com")) == 1


def test_the_log_contains_no_secret(recipe: Recipe) -> None:
    """The server's log contains no signature and no appsecret, after accepted, refused and malformed callbacks."""
    query = recipe.pay(recipe.order("log@example.com"))
    assert [recipe.deliver(f"{query}x"), recipe.deliver(query)] == ["fail", "success"]
    url = recipe.browser.base_url
    with socket.create_connection((url.host, url.port or 80)) as malformed:  # not URL-encoded
        malformed.sendall(f"GET /gatepay/callback?{query}&x=中 HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        assert malformed.recv(12).endswith(b" 400")
    assert recipe.leaked_secrets() == []
