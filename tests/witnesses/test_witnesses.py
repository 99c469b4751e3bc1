"""Checks against independent code in PHP and Node: receivers of callbacks, API clients and arithmetic."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
import httpx
import pytest
from seeds import fresh_seed
from servers import free_port
from shop_side import make_order
from waiting import wait_until

from gatepay_async import AsyncGatePay
from gatepay_async.protocol.money import whole_fen
from gatepay_async.sandbox import Sandbox
from gatepay_async.sandbox.prices import format_price

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

FOLDER = Path(__file__).parent
# Characters that languages encode or escape differently.
CUSTOM = "特里+1 & <a href='x'>100%\"密 \n钥"
CLIENTS = {"php": ["php", str(FOLDER / "client.php")], "node": ["node", str(FOLDER / "client.js")]}
SIGNED_FIELDS = {
    "pay/create": ["product_id", "product_num", "pay_type", "out_order_id", "custom"],
    "product/show": [],
    "ka/show": ["product_id"],
    "ka/create": ["product_id", "content"],
    "anypay/create": ["price", "type", "out_order_id", "custom"],
    "cloudpay/create": ["price", "type", "out_order_id", "custom"],
    "grouppay/create": ["fields", "type", "out_order_id", "custom"],
    "stablepay/create": ["product_id", "type", "out_order_id", "custom"],
    "order/check": ["out_order_id"],
}


@pytest.fixture(params=["php", "node"])
def language(request: pytest.FixtureRequest) -> str:
    """The language of the independent program. The test is skipped if it isn't installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@contextmanager
def run_receiver(language: str, log: Path, sandbox: Sandbox) -> Generator[str]:
    """Run a receiver of callbacks that writes a line to *log* for each. Yield its URL."""
    environment = {"WITNESS_APPKEY": sandbox.appkey, "WITNESS_APPSECRET": sandbox.appsecret, "WITNESS_LOG": str(log)}
    port = free_port()
    command = {
        "php": ["php", "-S", f"127.0.0.1:{port}", str(FOLDER / "receiver.php")],
        "node": ["node", str(FOLDER / "receiver.js")],
    }[language]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            if language == "node":
                assert server.stdout is not None
                port = int(server.stdout.readline())
            url = f"http://127.0.0.1:{port}/notify"
            assert wait_for_receiver(server, url)
            log.unlink(missing_ok=True)  # the lines of the requests that waited for the receiver
            yield url
        finally:
            server.kill()


def wait_for_receiver(server: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the receiver responds. Return False if it has exited."""
    wait_until(lambda: server.poll() is not None or responds_fail(url), every=0.02)
    return server.poll() is None


def responds_fail(url: str) -> bool:
    """Return whether the receiver responds to a request without a signature, which it does with `fail`."""
    try:
        return httpx.get(url, trust_env=False).text == "fail"
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_receivers_accept_the_sandboxs_callbacks(language: str, method: Any, tmp_path: Path) -> None:
    """Receivers in other languages accept the sandbox's callbacks, as GET and POST, and read the same fields."""
    log = tmp_path / "log"
    with Sandbox(callback_method=method, callback_interval=0) as sandbox, run_receiver(language, log, sandbox) as url:
        async with sandbox.serve():
            for own_query, custom, realprice in (
                ("", CUSTOM, None),
                ("?shop=1&lang=%E4%B8%AD", "中" * 600, None),
                ("", "terry", Decimal("0.01")),
            ):
                sandbox.change_shop(callback_url=url + own_query)
                sandbox.pay(await make_order(sandbox, custom=custom, out_order_id="订单-X"), realprice=realprice)
                await sandbox.wait_delivered(timeout=30)
        deliveries = sandbox.deliveries()
    # The callback of the underpaid order fails at all four attempts.
    assert [delivery.answer for delivery in deliveries] == ["success", "success", *["fail"] * 4]
    log_entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [entry["verdict"] for entry in log_entries] == ["success", "success", *["underpaid"] * 4]
    assert [entry["extend"] for entry in log_entries[:2]] == [CUSTOM, "中" * 600]
    assert {entry["out_order_id"] for entry in log_entries} == {"订单-X"}
    assert {(entry["method"], entry["has_appkey"]) for entry in log_entries} == {(method, method == "GET")}


async def test_receivers_reject_forged_callbacks(language: str, tmp_path: Path) -> None:
    """Receivers in other languages reject callbacks that were changed or have an incomplete signature."""
    log = tmp_path / "log"
    with Sandbox() as sandbox, run_receiver(language, log, sandbox) as url:
        valid_query = sandbox.callback_query(sandbox.pay(await make_order(sandbox)))
        queries = [
            valid_query,
            valid_query.replace("price=0.99", "price=0.01", 1),
            valid_query.replace("appkey=", "appkey=x"),
            valid_query[:-1],
        ]
        async with httpx.AsyncClient(trust_env=False) as client:
            assert [(await client.get(f"{url}?{query}")).text for query in queries] == [
                "success",
                "fail",
                "fail",
                "fail",
            ]


async def test_clients_get_the_same_data_as_our_client(language: str) -> None:
    """Clients in other languages, with their own signatures, get the same data from the sandbox as our client."""
    calls: list[tuple[str, dict[str, str]]] = [
        ("product/show", {}),
        ("ka/create", {"product_id": "8", "content": "卡密-1 & <b>\nB+B=%41\nC"}),
        ("ka/show", {"product_id": "8", "page": "2"}),
        (
            "pay/create",
            {"product_id": "8", "product_num": "3", "pay_type": "alipay", "out_order_id": "订单-X", "custom": CUSTOM},
        ),
        ("pay/create", {"product_id": "8", "product_num": "0", "pay_type": "x", "out_order_id": "T", "custom": "c"}),
    ]
    with Sandbox(php_floats="shortest") as sandbox:
        async with sandbox.serve() as base_url:
            environment = {"WITNESS_APPKEY": sandbox.appkey, "WITNESS_APPSECRET": sandbox.appsecret}
            process = await anyio.run_process(
                CLIENTS[language],
                input=json.dumps([(path, fields, SIGNED_FIELDS[path]) for path, fields in calls]).encode(),
                env={**os.environ, **environment, "WITNESS_BASE_URL": base_url, "NO_PROXY": "127.0.0.1"},
            )
            async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
                catalog = await gatepay.list_products()
                page = await gatepay.list_card_keys(8, page=2)
        [order] = sandbox.orders()
    replies = [json.loads(body) for body in json.loads(process.stdout)]
    assert [reply["code"] for reply in replies] == [100, 100, 100, 100, 102]  # 102: invalid pay type
    products = [product for category in replies[0]["data"]["category"] for product in category["product"]]
    assert [product["name"] for product in products] == [product.name for product in catalog.products]
    assert [row["content"] for row in replies[2]["data"]["ka"]["data"]] == [key.content for key in page.keys]
    assert [key.content for key in page.keys][-3:] == ["卡密-1 & <b>", "B+B=%41", "C"]
    assert (order.out_order_id, order.custom, order.price) == ("订单-X", CUSTOM, Decimal("2.97"))
    assert replies[3]["data"]["order_price"] == 2.9699999999999998  # 3 × 0.99 in PHP's floats


async def test_clients_can_call_the_later_endpoints(language: str) -> None:
    """Clients in other languages create and check orders with the later endpoints, and get the documented refusals."""
    order = {"type": "alipay", "custom": CUSTOM}
    urls = {"notify_url": "http://127.0.0.1:1/notify?shop=1", "return_url": "https://shop.example/%E8%BF%94?a=%26"}
    calls: list[tuple[str, dict[str, str]]] = [
        ("anypay/create", {**order, **urls, "price": "1.88", "out_order_id": "订单-1"}),
        ("cloudpay/create", {**order, "price": "0.82", "out_order_id": "订单-2"}),
        ("grouppay/create", {**order, **urls, "fields": "8:2,4:1", "out_order_id": "订单-3"}),
        ("stablepay/create", {**order, "product_id": "8", "out_order_id": "订单-4"}),
        *[("order/check", {"out_order_id": f"订单-{number}"}) for number in range(1, 6)],
        ("anypay/create", {**order, "price": "1.8", "out_order_id": "订单-5"}),
        ("cloudpay/create", {**order, **urls, "price": "0.82", "out_order_id": "订单-5"}),
    ]
    with Sandbox() as sandbox:
        async with sandbox.serve() as base_url:
            environment = {"WITNESS_APPKEY": sandbox.appkey, "WITNESS_APPSECRET": sandbox.appsecret}
            process = await anyio.run_process(
                CLIENTS[language],
                input=json.dumps([(path, fields, SIGNED_FIELDS[path]) for path, fields in calls]).encode(),
                env={**os.environ, **environment, "WITNESS_BASE_URL": base_url, "NO_PROXY": "127.0.0.1"},
            )
        orders = sandbox.orders()
    replies = [json.loads(body) for body in json.loads(process.stdout)]
    # The last three: unknown order, price with one decimal, URLs that cloudpay/create doesn't have.
    assert [reply["code"] for reply in replies] == [*[100] * 8, 201, 201, 106]
    checked = [(reply["data"]["order_name"], reply["data"]["order_price"]) for reply in replies[4:8]]
    assert checked == [
        ("任意金额支付:1.88元", "1.88"),
        ("任意金额支付:0.82元", "0.82"),
        ("腾讯视频SVIP账号 × 2、爱奇艺牛逼号", "2.98"),
        ("腾讯视频SVIP账号", "0.99"),
    ]
    assert [order.custom for order in orders] == [CUSTOM] * 4
    stored_urls = [(order.notify_url, order.return_url) for order in orders]
    assert stored_urls == [(urls["notify_url"], urls["return_url"]), (None, None)] * 2
    assert replies[0]["data"]["params"]["custom"] == CUSTOM


async def test_return_query_has_the_signature_that_php_and_node_compute(language: str) -> None:
    with Sandbox() as sandbox:
        sandbox.pay(await make_order(sandbox, out_order_id="订单-X"))
        fields = dict(parse_qsl(sandbox.return_query(1)))
    text = sandbox.appkey + "".join(
        fields[name] for name in ("price", "type", "product_id", "order_id", "out_order_id")
    )
    program = {
        "php": ["php", "-r", "echo md5(md5($argv[1]) . $argv[2]);", "--", text, sandbox.appsecret],
        "node": [
            "node",
            "-e",
            (
                "const md5 = (text) => require('crypto').createHash('md5').update(text).digest('hex');"
                "process.stdout.write(md5(md5(process.argv[1]) + process.argv[2]))"
            ),
            text,
            sandbox.appsecret,
        ],
    }[language]
    assert (await anyio.run_process(program)).stdout.decode() == fields["sign"]


@pytest.mark.parametrize(("php_floats", "precision"), [("shortest", "-1"), ("17 digits", "17")])
def test_prices_equal_those_computed_by_php(php_floats: Any, precision: str) -> None:
    """The sandbox sends the same prices as PHP computes in either precision, and the client reads them exactly."""
    if shutil.which("php") is None:
        pytest.skip("php is not installed")
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- shown when the test fails
    randomness = random.Random(seed)  # noqa: S311 -- no secret
    factors = [(fen, number) for fen in range(1, 2001) for number in (1, 3, 5, 7, 10)]
    factors += [
        (randomness.randint(1, 10 ** randomness.randint(1, 9)), randomness.randint(1, 1000)) for _ in range(50_000)
    ]
    program_input = json.dumps([(f"{fen // 100}.{fen % 100:02d}", number) for fen, number in factors])
    command = ["php", "-d", f"serialize_precision={precision}", str(FOLDER / "prices.php")]
    process = subprocess.run(command, input=program_input, capture_output=True, encoding="utf-8", check=True)
    php_texts = json.loads(process.stdout)
    inexact = 0
    for (fen, number), text in zip(factors, php_texts, strict=True):
        exact = Decimal(fen * number).scaleb(-2)
        inexact += Decimal(text) != exact
        assert whole_fen(Decimal(text)) == exact, (fen, number, text)
        assert format_price(fen, number, php_floats) == text, (fen, number)
    # The sample contains enough inexact prices to test their rounding.
    assert inexact > len(factors) / 10
