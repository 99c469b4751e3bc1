"""The sandbox never rejects the form of a request that the client accepts: both run in this process."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gatepay_async import (
    AlreadyStoredError,
    AsyncGatePay,
    InvalidRequestError,
    OrderNotFoundError,
    OutOfStockError,
    ProductNotFoundError,
    ProductUnavailableError,
    RetryPolicy,
    StorageFailedError,
)
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.sandbox.endpoints import ENDPOINTS
from gatepay_async.sandbox.refusals import Cause

pytestmark = pytest.mark.sockets

# The refusals that a valid request may get, depending on the products and orders of the shop.
ALLOWED_REFUSALS = (
    AlreadyStoredError,
    OrderNotFoundError,
    OutOfStockError,
    ProductNotFoundError,
    ProductUnavailableError,
    StorageFailedError,  # a card key longer than the database's column
)
ORDER = {"pay_type": "alipay", "out_order_id": "T-1-X", "custom": "c"}


@frozen
class ClientAndSandbox:
    """A client, and the sandbox to which it sends its requests without a socket."""

    gatepay: AsyncGatePay
    sandbox: Sandbox
    portal: BlockingPortal

    def call(self, method: str, *args: object, **kwargs: object) -> object:
        """
        Run the method of the client.

        Returns:
            Its result. None: the client rejected the arguments and sent nothing, or the refusal is an allowed one.
        """
        requests_before = len(self.sandbox.requests)

        async def run() -> object:
            return await getattr(self.gatepay, method)(*args, **kwargs)

        try:
            return self.portal.call(run)
        except InvalidRequestError:
            assert len(self.sandbox.requests) == requests_before
        except ALLOWED_REFUSALS:
            pass
        return None


def make_client(sandbox: Sandbox) -> AsyncGatePay:
    """Return a client that sends its requests to *sandbox* without a socket."""
    url = "http://sandbox/api/"
    return AsyncGatePay(
        sandbox.appkey,
        sandbox.appsecret,
        base_url=url,
        cloud_base_url=url,
        allow_http=True,
        transport=httpx.ASGITransport(sandbox.app),
        retry=RetryPolicy(attempts=1),
    )


@pytest.fixture(scope="module")
def shop() -> Iterator[ClientAndSandbox]:
    with Sandbox() as sandbox, start_blocking_portal() as portal:
        sandbox.change_shop(agent=True)
        client = make_client(sandbox)
        with portal.wrap_async_context_manager(client):
            yield ClientAndSandbox(client, sandbox, portal)


UNUSUAL_TEXTS = st.sampled_from(
    [
        "", " ", "0", "\0", "\x0b", "\x1c", "\ufeff", "\u3000", "\ud800", "a b", "+", "%", "%zz", "&", "=", "a=b&c=d",
        "#", ";", "'", '"', "<b>", "&amp;", "\r\n", "\n", "密" * 85, "x" * 255, "x" * 256, "密" * 700, "x" * 2001,
    ]
)  # fmt: skip
texts = st.text(max_size=40) | UNUSUAL_TEXTS
numbers = st.integers(-1, 9) | st.sampled_from([8, 10**17, 10**18, 2**63 - 1, 2**63, 10**30]) | st.integers()
prices: SearchStrategy[object] = (
    st.decimals(min_value=Decimal(-1), max_value=Decimal(10) ** 13, places=2)
    | st.decimals()
    | st.sampled_from(["1", "1.0", "1e3", "1E-2", "01.00", "１", "1_0", " 1 ", "9999999.99", "999999999999.99"])
    | st.text(alphabet="0123456789.eE+- ", max_size=15)
)  # fmt: skip
pay_types = st.sampled_from(["alipay", "wechat", "onecode", "", "ALIPAY"])
urls = st.none() | st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTPS://", "ftp://", "//", ""]),
        st.sampled_from(["h", "h:1", "h:0", "h:99999", "u@h", "[::1]", "[", "", "例子", "127.0.0.1:80", "h..", "%41"]),
        st.sampled_from(["", "/", "/a b", "/ü", "/%", "/[", "/a#b", "/" + "x" * 1990]),
        st.sampled_from(["", "?", "?a=b", "?sign=1", "?order_id", "?&&=", "?extend=", "?product_id", "?" + "x" * 701]),
    ),
)  # fmt: skip
common = {"pay_type": pay_types, "out_order_id": texts, "custom": texts}
with_urls = {**common, "notify_url": urls, "return_url": urls}
CREATIONS: dict[str, dict[str, Any]] = {
    "create_payment": {**common, "product_id": numbers, "product_num": numbers},
    "create_anypay": {**with_urls, "price": prices},
    "create_cloudpay": {**common, "price": prices},
    "create_stablepay": {**with_urls, "product_id": numbers},
    "create_grouppay": {**with_urls, "items": st.dictionaries(numbers, numbers, max_size=3)},
}
# Each example sends a request, which takes time, so these tests try half as many.
half_the_examples = settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))


def _mostly_valid(method: str) -> SearchStrategy[dict[str, Any]]:
    """Generate arguments of which one or two are random: with more, the first invalid one would hide the others."""
    valid = {
        "pay_type": "alipay", "out_order_id": "T-1-X", "custom": "c", "product_id": 8, "product_num": 1, "price": "1",
        "items": {8: 1}, "notify_url": None, "return_url": None,
    }  # fmt: skip
    fields = CREATIONS[method]
    random_names = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2, unique=True)
    usual = {name: valid[name] for name in fields}
    return random_names.flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names}).map(usual.__or__)
    )


@pytest.mark.parametrize("method", CREATIONS)
def test_accepted_order_is_created_with_the_given_texts_and_price(shop: ClientAndSandbox, method: str) -> None:
    """An order that the client rejects isn't created."""

    @half_the_examples
    @given(arguments=_mostly_valid(method))
    def check(arguments: dict[str, Any]) -> None:
        orders_before = len(shop.sandbox.orders())
        if shop.call(method, **arguments) is None:
            assert len(shop.sandbox.orders()) == orders_before
            return
        order = shop.sandbox.orders()[-1]
        assert (order.out_order_id, order.custom) == (arguments["out_order_id"], arguments["custom"])
        assert "price" not in arguments or order.price == Decimal(arguments["price"])

    check()


def test_sandbox_sends_the_messages_of_the_catalogue() -> None:
    """For each code, the sandbox sends the message that GatePay documents."""
    texts = {
        (path, code): text
        for path, endpoint in ENDPOINTS.items()
        for cause, (code, text) in endpoint.refusals.items()
        if cause is not Cause.NO_SIGN  # a second meaning of 103, which a client that signs never gets
    }
    assert {key: REFUSALS[key].message for key in texts} == texts


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_code_raises_the_exception_of_the_catalogue(backend: str) -> None:
    """Each code of each endpoint is tried with HTTP status 200 and with the code as the status, on both event loops."""
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "pay/create": ("create_payment", {"product_id": 8, "product_num": 1, **ORDER}),
        "anypay/create": ("create_anypay", {"price": "1", **ORDER}),
        "cloudpay/create": ("create_cloudpay", {"price": "1", **ORDER}),
        "stablepay/create": ("create_stablepay", {"product_id": 8, **ORDER}),
        "grouppay/create": ("create_grouppay", {"items": {8: 1}, **ORDER}),
        "order/check": ("check_order", {"out_order_id": "T-1-X"}),
        "product/show": ("list_products", {}),
        "ka/create": ("create_card_keys", {"product_id": 8, "keys": ["A"]}),
    }

    async def run() -> None:
        for status_is_code in (False, True):
            with Sandbox(status_is_code=status_is_code) as sandbox:
                async with make_client(sandbox) as gatepay:
                    for (endpoint, code), refusal in REFUSALS.items():
                        if endpoint in calls:  # without ka/show: other tests check its refusals
                            sandbox.fault(Fault(FaultKind.CODE, endpoint=endpoint, code=code))
                            method, arguments = calls[endpoint]
                            with pytest.raises(refusal.error) as caught:
                                await getattr(gatepay, method)(**arguments)
                            assert (type(caught.value), caught.value.code) == (refusal.error, code)
                assert sandbox.orders() == []

    anyio.run(run, backend=backend)


@half_the_examples
@given(number=texts)
def test_sandbox_answers_every_order_check_that_is_sent(shop: ClientAndSandbox, number: str) -> None:
    """Any order number that the client accepts can be checked."""
    shop.call("check_order", number)


@half_the_examples
@given(product_id=numbers, page=numbers)
def test_sandbox_answers_every_page_request_that_is_sent(shop: ClientAndSandbox, product_id: int, page: int) -> None:
    """Any product and page number that the client accepts can be listed."""

    async def fetch_page(*args: int) -> object:
        return await shop.gatepay.list_card_keys(args[0], page=args[1])

    try:
        shop.portal.call(fetch_page, product_id, page)
    except (InvalidRequestError, *ALLOWED_REFUSALS):
        pass


@half_the_examples
@given(
    keys=st.lists(texts, max_size=5)
    | st.lists(st.text(max_size=8), max_size=5, unique_by=str.strip)
    | st.text(min_size=1, max_size=4).flatmap(lambda key: st.permutations([key, f" {key}", f"{key}\t", f"{key}\x0b"]))
)
def test_sandbox_accepts_all_card_keys_that_are_sent(shop: ClientAndSandbox, keys: list[str]) -> None:
    """Any card keys that the client accepts can be stored."""
    shop.call("create_card_keys", 8, keys)
