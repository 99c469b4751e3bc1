"""Tests the examples: some as a reader runs them, and parts of those that run forever."""

import csv
import os
import re
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from waiting import PATIENCE

from gatepay_async import AsyncGatePay, GatePayError, RetryPolicy
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("impatient_uploads")]

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = RetryPolicy(first_wait=0, longest_wait=0)


def load(name: str) -> ModuleType:
    """Run an example's code and return it as a module."""
    module = ModuleType(name)
    vars(module).update(runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name))
    return module


@pytest.fixture
def environment(sandbox: Sandbox, base_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment variables that the examples read. Return the whole environment."""
    for name, value in (("APPKEY", sandbox.appkey), ("APPSECRET", sandbox.appsecret), ("BASE_URL", base_url)):
        monkeypatch.setenv(f"GATEPAY_{name}", value)
    return dict(os.environ)


# -- make_card_keys ---------------------------------------------------------------------------------------------------


def test_card_keys_txt_is_the_scripts_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """card_keys.txt is exactly what its script writes, with the peculiarities of real merchants' files."""
    script = load("make_card_keys")
    monkeypatch.setitem(script.main.__globals__, "TARGET", tmp_path / "card_keys.txt")
    script.main()
    written = (tmp_path / "card_keys.txt").read_bytes()
    assert written == (EXAMPLES / "card_keys.txt").read_bytes()
    assert written.count(b"\n") == 12_345
    for peculiarity in (b"\xef\xbb\xbf", b"\r\n", b"\n\n", "\u3000".encode(), b"\t"):
        assert peculiarity in written


# -- fastapi_service --------------------------------------------------------------------------------------------------


@pytest.fixture
async def service(sandbox: Sandbox) -> Any:
    """Start the service with a client of the sandbox. Return a browser for it."""
    app = load("fastapi_service").create_app(
        appkey=sandbox.appkey,
        appsecret=sandbox.appsecret,
        transport=httpx.ASGITransport(sandbox.app),
        base_url="https://sandbox.example/api/",
        retry=QUICK,
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as browser,
    ):
        yield browser


@pytest.mark.anyio
async def test_service_creates_a_payment(service: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """The service creates an order, with an order number that doesn't start or end with a digit."""
    reply = await service.post("/payments", json={"product_id": 8, "email": "terry@example.com"})
    assert reply.status_code == 201
    [order] = sandbox.orders()
    assert reply.json()["out_order_id"] == order.out_order_id
    assert re.fullmatch(r"[A-Z][0-9A-Z]{26}[A-Z]", order.out_order_id)
    assert reply.json()["price"] == "0.99"
    assert reply.json()["qr_code"].startswith("data:image/png;base64,")


@pytest.mark.anyio
async def test_service_lists_products(service: httpx.AsyncClient) -> None:
    """The service returns the products of the shop."""
    assert [product["id"] for product in (await service.get("/products")).json()] == [4, 5, 8]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(FaultKind.CODE, code=110, times=None), 409),
        (Fault(FaultKind.CODE, code=112, times=None), 502),
        (Fault(FaultKind.CUT_AFTER, endpoint="pay/create"), 201),  # GatePay has the order
        (Fault(FaultKind.CUT_BEFORE, endpoint="pay/create"), 504),  # GatePay has no such order
    ],
)
async def test_service_maps_errors_to_statuses(
    service: httpx.AsyncClient, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, fault: Fault, status: int
) -> None:
    """Sold out, unavailable and unknown outcome each have their own status, and no order is created twice."""
    # If the outcome is unknown, the service asks for the order with `settle()`: here without waiting.
    monkeypatch.setattr("gatepay_async.client.payments._SETTLE_DELAYS_S", (0.0, 0.0))
    sandbox.fault(fault)
    reply = await service.post("/payments", json={"product_id": 8, "email": "terry@example.com"})
    # With each of these faults the service doesn't get the address to pay at, even if the order exists.
    assert (reply.status_code, "pay_at" in reply.json()) == (status, False)
    assert len(sandbox.orders()) <= 1


@pytest.mark.anyio
async def test_service_refuses_bad_input(service: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Invalid input is answered with 422 and not sent to GatePay."""
    blank = {"product_id": 8, "email": "     "}
    for body in ({"product_id": 0, "email": "a@b"}, {"product_id": 8, "email": ""}, blank):
        assert (await service.post("/payments", json=body)).status_code == 422
    assert sandbox.orders() == []


# -- upload_worker ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_worker_moves_an_uploaded_file_to_done(gatepay: AsyncGatePay, sandbox: Sandbox, tmp_path: Path) -> None:
    """A file whose card keys are all stored is moved to done/."""
    worker = load("upload_worker")
    (tmp_path / "keys.txt").write_bytes(b"AAAA\r\nBBBB\r\n")
    assert (await worker.upload(gatepay, tmp_path / "keys.txt", 8)).ok
    assert sandbox.keys(8)[-2:] == ["AAAA", "BBBB"]
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["keys.txt"]
    assert (tmp_path / "done" / "keys.txt").exists()


@pytest.mark.anyio
async def test_worker_writes_failed_lines_to_a_file(gatepay: AsyncGatePay, sandbox: Sandbox, tmp_path: Path) -> None:
    """Lines that are not known to be stored are written unchanged to a file that only its owner can read."""
    worker = load("upload_worker")
    (tmp_path / "keys.txt").write_bytes(b"AAAA\n\xff\xfe\nBBBB\n")
    report = await worker.upload(gatepay, tmp_path / "keys.txt", 8)
    assert (report.stored, report.refused) == (2, 1)
    failed_lines = tmp_path / "failed" / "keys.rest.txt"
    assert failed_lines.read_bytes() == b"\xff\xfe\n"
    assert stat.S_IMODE(failed_lines.stat().st_mode) == 0o600
    assert (tmp_path / "failed" / "keys.txt").exists()


@pytest.mark.anyio
async def test_worker_renames_files_with_the_same_name(gatepay: AsyncGatePay, sandbox: Sandbox, tmp_path: Path) -> None:
    """A second file with the same name doesn't overwrite the first one's results."""
    worker = load("upload_worker")
    for key in (b"AAAA\n", b"BBBB\n"):
        (tmp_path / "keys.txt").write_bytes(key + b"\xff\n")
        await worker.upload(gatepay, tmp_path / "keys.txt", 8)
    failed = {path.name: path.read_bytes() for path in (tmp_path / "failed").iterdir()}
    assert failed == {
        "keys.txt": b"AAAA\n\xff\n",
        "keys.rest.txt": b"\xff\n",
        "keys.1.txt": b"BBBB\n\xff\n",
        "keys.1.rest.txt": b"\xff\n",
    }


@pytest.mark.anyio
async def test_worker_leaves_a_file_that_could_not_be_sent(sandbox: Sandbox, tmp_path: Path) -> None:
    """If GatePay is unreachable, the file stays in its place for the next attempt."""
    async with sandbox.serve() as url:
        pass  # from here on nothing listens at the URL
    (tmp_path / "keys.txt").write_text("AAAA\n")
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url, retry=QUICK) as gatepay:
        report = await load("upload_worker").upload(gatepay, tmp_path / "keys.txt", 8)
    assert (report.not_sent, [path.name for path in tmp_path.iterdir()]) == (1, ["keys.txt"])


@pytest.mark.anyio
async def test_worker_leaves_a_stopped_file(gatepay: AsyncGatePay, sandbox: Sandbox, tmp_path: Path) -> None:
    """If the upload stopped before the end of the file, the file stays in its place."""
    worker = load("upload_worker")
    sandbox.change_shop(closed=True)
    (tmp_path / "keys.txt").write_text("AAAA\n")
    assert (await worker.upload(gatepay, tmp_path / "keys.txt", 8)).stopped is not None
    assert [path.name for path in tmp_path.iterdir()] == ["keys.txt"]


# -- export_keys ------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_export_writes_every_key(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> None:
    """The exported file has every card key, and only its owner can read it."""
    sandbox.add_keys(8, ['with "quotes", and a comma', "卡号1"])
    path = tmp_path / "keys.csv"
    await load("export_keys").main(["8", str(path)])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [row["content"] for row in rows] == sandbox.keys(8)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.anyio
async def test_a_failed_export_leaves_the_old_file(gatepay: AsyncGatePay, sandbox: Sandbox, tmp_path: Path) -> None:
    """If a page fails, no file is written, and an older file is unchanged."""
    path = tmp_path / "keys.csv"
    path.write_text("yesterday's")
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=None, skip=1))
    with pytest.raises(GatePayError):
        await load("export_keys").export(gatepay, 8, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("keys.csv", "yesterday's")]


@pytest.mark.parametrize("name", ["upload_worker", "export_keys"])
def test_programs_print_help(name: str) -> None:
    """The programs explain themselves with --help."""
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert "card keys" in run.stdout
