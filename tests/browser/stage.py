"""What a browser is shown: a sandbox on a real port, a merchant's own program, and Debian's Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import field, frozen
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, sync_playwright

from gatepay_async import AsyncGatePay, Callback, PayType
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.sandbox import Sandbox
from gatepay_async.sandbox.server import LoopbackServer

# Nothing of it asks anybody on the network, as a browser that has just been installed would.
_QUIET = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@frozen(kw_only=True)
class Stage:
    """A shop under way: the sandbox, its address, the merchant's, and what the merchant has handled."""

    sandbox: Sandbox
    base_url: str
    merchant: str
    portal: BlockingPortal
    handled: list[Callback] = field(factory=list)

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/api/")

    def order(self, pay_type: PayType = PayType.ALIPAY, out_order_id: str = "T-1001-X") -> str:
        """Create a payment as a merchant's program does; the address of its page."""
        return self.portal.call(self._order, pay_type, out_order_id)

    async def _order(self, pay_type: PayType, out_order_id: str) -> str:
        account = self.sandbox.shops[0]
        async with AsyncGatePay(*account, base_url=self.base_url) as gatepay:
            payment = await gatepay.create_payment(
                product_id=8, product_num=1, pay_type=pay_type, out_order_id=out_order_id, custom="terry@example.com"
            )
        return payment.order_url


@contextmanager
def stage(sandbox: Sandbox) -> Iterator[Stage]:
    """Serve *sandbox*, and beside it a merchant's FastAPI application that its shop calls back."""
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

            @app.get("/evil")
            async def evil() -> HTMLResponse:
                form = f'<form method="post" action="{base_url.removesuffix("/api/")}/faults">'
                button = '<button name="do" value="add">Win a prize</button>'
                return HTMLResponse(f"<!doctype html>{form}{button}</form>")

            sandbox.change_shop(callback_url=f"{merchant}/callback/")
            yield Stage(sandbox=sandbox, base_url=base_url, merchant=merchant, portal=portal, handled=handled)
        finally:
            server.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium that is on the PATH."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("no chromium on the PATH: apt-get install chromium, or set CHROMIUM to where it is")
    # Chromium's own sandbox needs rights that a container has not; root may not use it at all.
    quiet = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()
