"""Fixtures: a sandbox on a real socket, and an API client that signs independently of the SDK's client."""

import ssl
from collections.abc import Callable, Iterator
from hashlib import md5
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from gatepay_async.sandbox import Sandbox, ShopAccount

# Copied by hand from GatePay's documentation: the fields that each endpoint signs after the appkey, in order.
SIGNED_FIELDS = {
    "pay/create": ("product_id", "product_num", "pay_type", "out_order_id", "custom"),
    "product/show": (),
    "ka/show": ("product_id",),
    "ka/create": ("product_id", "content"),
    # The endpoints that GatePay documented later.
    "anypay/create": ("price", "type", "out_order_id", "custom"),
    "cloudpay/create": ("price", "type", "out_order_id", "custom"),
    "grouppay/create": ("fields", "type", "out_order_id", "custom"),
    "stablepay/create": ("product_id", "type", "out_order_id", "custom"),
    "order/check": ("out_order_id",),
}
# For each endpoint, the fields of a call that succeeds.
VALID_FIELDS = {
    "pay/create": {
        "product_id": "8",
        "product_num": "1",
        "pay_type": "wechat",
        "out_order_id": "T-1001-X",
        "custom": "terry@example.com",
    },
    "product/show": {},
    "ka/show": {"product_id": "8", "page": "1"},
    "ka/create": {"product_id": "8", "content": "AAA"},
    "anypay/create": {"price": "1.88", "type": "alipay", "out_order_id": "T-2001-X", "custom": "terry"},
    "cloudpay/create": {"price": "0.82", "type": "alipay", "out_order_id": "T-2002-X", "custom": "terry"},
    "grouppay/create": {"fields": "8:2,4:1", "type": "wechat", "out_order_id": "T-2003-X", "custom": "terry"},
    "stablepay/create": {"product_id": "8", "type": "wechat", "out_order_id": "T-2004-X", "custom": "terry"},
    "order/check": {"out_order_id": "T-2001-X"},
}


def _md5_hex(text: str) -> str:
    return md5(text.encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice


class Clock:
    """The sandbox's clock, set by tests. It starts at the time in the vendor's first example."""

    now = 1555750250.75

    def __call__(self) -> float:
        return self.now


class ApiClient:
    """
    Calls endpoints over plain httpx with the fields of VALID_FIELDS.

    ``api.call("ka/show", page="2")`` overrides the field ``page``; None as a value leaves a field out.
    """

    def __init__(self, sandbox: Sandbox, client: httpx.Client) -> None:
        self.sandbox = sandbox
        self.client = client

    def form(self, path: str, account: ShopAccount | None = None, **changes: str | None) -> dict[str, str]:
        """Return the fields of a call with their signature."""
        key, secret = account or self.sandbox.shops[0]
        fields = {"appkey": key, **VALID_FIELDS[path], **changes}
        signed = [fields[name] or "" for name in ("appkey", *SIGNED_FIELDS[path])]
        fields = {"sign": _md5_hex(_md5_hex("".join(signed)) + secret), **fields}
        return {name: value for name, value in fields.items() if value is not None}

    def call(self, path: str, account: ShopAccount | None = None, **changes: str | None) -> httpx.Response:
        """Call an endpoint. Return the response."""
        form = self.form(path, account, **changes)
        return self.client.get(path, params=form) if path == "order/check" else self.client.post(path, data=form)

    def reply(self, path: str, account: ShopAccount | None = None, **changes: str | None) -> dict[str, Any]:
        """Call an endpoint. Return the JSON object of the reply."""
        response = self.call(path, account, **changes)
        assert response.status_code == 200
        envelope: dict[str, Any] = response.json()
        assert list(envelope) == ["code", "msg", "time", "data"]
        return envelope


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def no_certificates() -> ssl.SSLContext:
    """A TLS context that trusts no certificate. Loading certificates takes httpx 26 ms, and the sandbox has no TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def connect_to(no_certificates: ssl.SSLContext) -> Iterator[Callable[[Sandbox], ApiClient]]:
    """Return a function that serves a sandbox on a free port until the test ends and returns an ApiClient for it."""
    with start_blocking_portal() as portal:
        clients = []

        def serve(sandbox: Sandbox) -> ApiClient:
            serving = portal.wrap_async_context_manager(sandbox.serve())
            client = httpx.Client(base_url=serving.__enter__(), verify=no_certificates, timeout=20)
            clients.append((client, serving))
            return ApiClient(sandbox, client)

        yield serve
        for client, serving in clients:
            client.close()
            serving.__exit__(None, None, None)


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    """A sandbox in memory, with the time of the fixture `clock`."""
    with Sandbox(clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox: Sandbox, connect_to: Callable[[Sandbox], ApiClient]) -> ApiClient:
    """An API client of the fixture `sandbox`, which is served until the test ends."""
    return connect_to(sandbox)
