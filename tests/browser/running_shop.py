"""The servers for browser tests: a sandbox, and a merchant's application that receives its callbacks. Also Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import field, frozen
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, sync_playwright
from shop_side import md5_hex

from gatepay_async import AsyncGatePay, Callback, PayType
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.sandbox import Sandbox
from gatepay_async.sandbox.server import LoopbackServer

# Prevents the network requests of a newly installed Chromium.
_QUIET_OPTIONS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@frozen(kw_only=True)
class RunningShop:
    """
    A running sandbox and merchant.

    Attributes:
        sandbox: The sandbox.
        base_url: The URL of the sandbox's API.
        merchant: The URL of the merchant's application.
        portal: Runs async functions in another thread.
        handled: The callbacks that the merchant has handled.
    """

    sandbox: Sandbox
    base_url: str
    merchant: str
    portal: BlockingPortal
    handled: list[Callback] = field(factory=list)

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/api/")

    def create_payment(self, pay_type: PayType = PayType.ALIPAY, out_order_id: str = "T-1001-X") -> str:
        """Create a payment with the client, as a merchant's program does. Return the URL of its page."""
        return self.portal.call(self._create_payment, pay_type, out_order_id)

    async def _create_payment(self, pay_type: PayType, out_order_id: str) -> str:
        account = self.sandbox.shops[0]
        async with AsyncGatePay(*account, base_url=self.base_url) as gatepay:
            payment = await gatepay.create_payment(
                product_id=8, product_num=1, pay_type=pay_type, out_order_id=out_order_id, custom="terry@example.com"
            )
        return payment.order_url

    def call_later_endpoint(self, path: str, signed: dict[str, str], **unsigned: str) -> str:
        """Call a later creating endpoint, and sign the call without the client. Return the URL of the order's page."""
        appkey, appsecret = self.sandbox.shops[0]
        text = md5_hex(appkey + "".join(signed.values())) + appsecret
        form = {"appkey": appkey, "sign": md5_hex(text), **signed, **unsigned}
        reply = httpx.post(self.base_url + path, data=form, trust_env=False).json()
        return str(reply["data"]["pay_url"])

    def order_amount(self, **unsigned: str) -> str:
        """Create an order for an amount. Return the URL of its page."""
        signed = {"price": "1.88", "type": "alipay", "out_order_id": "T-2001-X", "custom": "terry"}
        return self.call_later_endpoint("anypay/create", signed, **unsigned)

    def order_group(self) -> str:
        """Create an order for several products. Return the URL of its page."""
        signed = {"fields": "8:2,4:1", "type": "wechat", "out_order_id": "T-2002-X", "custom": "terry"}
        return self.call_later_endpoint("grouppay/create", signed)

    def quick_pay_url(self, **fields: str) -> str:
        """Return the shop's quick-pay link."""
        state = self.sandbox.shop()
        assert state is not None
        parameters = {"appkey": self.sandbox.appkey, "token": str(state.token), **fields}
        return f"{self.root}/pay/any?{urlencode(parameters)}"


@contextmanager
def run_shop(sandbox: Sandbox) -> Iterator[RunningShop]:
    """Serve *sandbox*, and a merchant's FastAPI application that receives its callbacks."""
    app = FastAPI()
    handled: list[Callback] = []

    async def handle(callback: Callback) -> None:
        handled.append(callback)

    app.mount("/callback", CallbackApp(handle, appkey=sandbox.appkey, appsecret=sandbox.appsecret, store=MemoryStore()))
    server = LoopbackServer(app, host="127.0.0.1", port=0)
    server.start()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox.serve()) as base_url:
        server.wait()
        try:
            merchant = f"http://127.0.0.1:{server.port}"

            @app.get("/thanks")
            async def thanks() -> HTMLResponse:
                return HTMLResponse("<!doctype html><title>shop</title><h1>Thank you</h1>")

            @app.get("/stay", status_code=204)  # 204: the browser stays on the current page
            async def stay() -> None: ...

            @app.get("/late")
            async def late() -> HTMLResponse:
                return HTMLResponse("<!doctype html><title>shop</title><h1>Too late</h1>")

            @app.get("/evil")
            async def evil() -> HTMLResponse:
                form = f'<form method="post" action="{base_url.removesuffix("/api/")}/faults">'
                button = '<button name="do" value="add">Win a prize</button>'
                return HTMLResponse(f"<!doctype html>{form}{button}</form>")

            sandbox.change_shop(callback_url=f"{merchant}/callback/")
            yield RunningShop(sandbox=sandbox, base_url=base_url, merchant=merchant, portal=portal, handled=handled)
        finally:
            server.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium that is on the PATH."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("no chromium on the PATH: apt-get install chromium, or set CHROMIUM to where it is")
    # Chromium's own sandbox doesn't work for root.
    options = [*_QUIET_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()
