"""
The main job, against GatePay's other end on this machine: no account, no network.

    python examples/quickstart.py

Uploads card_keys.txt, walks the card keys back and compares, creates a payment, saves its QR code, verifies
the callback that GatePay would send, and shows what becomes of a forged one.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from gatepay_async import AsyncGatePay, CallbackError, PayType, UploadProgress, UploadReport
from gatepay_async.sandbox import Sandbox

CARD_KEYS = Path(__file__).with_name("card_keys.txt")
PRODUCT = 8
COLUMNS = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")


def show(progress: UploadProgress) -> None:
    """One line that is written over on a terminal; in a file, only the last."""
    done = progress.read - progress.in_flight
    if sys.stdout.isatty():
        print(f"\r  {done:6,} lines settled, {progress.in_flight:5,} in flight", end="", flush=True)


def print_ledger(report: UploadReport) -> None:
    """Every line that was read is in exactly one column."""
    print(f"\r  read {report.read:,} lines in {len(report.chunks)} chunks:".ljust(60))
    for column in COLUMNS:
        print(f"    {column:<14}{getattr(report, column):7,}")
    total = sum(getattr(report, column) for column in COLUMNS)
    print(f"    {'together':<14}{total:7,}  {'= read' if total == report.read else 'IS NOT WHAT WAS READ'}")


async def upload(gatepay: AsyncGatePay) -> bool:
    """Upload the file; say whether what the server has is what the file holds."""
    print(f"1. Upload {CARD_KEYS.name}")
    with CARD_KEYS.open(encoding="utf-8") as file:
        report = await gatepay.upload_card_keys(PRODUCT, file, on_progress=show)
    print_ledger(report)

    print("2. Walk them all back")
    in_file = {line.removeprefix("\ufeff").strip() for line in CARD_KEYS.read_text("utf-8").split("\n")} - {""}
    on_server = [key.content async for key in gatepay.list_card_keys(PRODUCT, prefetch=8)]
    equal = len(on_server) == len(set(on_server)) and set(on_server) == in_file
    print(f"  {len(on_server):,} card keys walked; the two sets are {'equal' if equal else 'NOT EQUAL'}")
    return report.ok and equal


async def pay(gatepay: AsyncGatePay, sandbox: Sandbox, folder: Path) -> bool:
    """Make an order, and hear that it was paid."""
    print("3. Create a payment")
    payment = await gatepay.create_payment(
        product_id=PRODUCT,
        product_num=1,
        pay_type=PayType.ALIPAY,
        out_order_id="T-1001-X",
        custom="terry@example.com",
    )
    qr_code = payment.order_qrcode.save(folder / "payment.png")
    print(f"  {payment.order_price} by {payment.order_type}, to be paid at {payment.order_url}")
    print(f"  its QR code: {qr_code} ({payment.order_qrcode.media_type}, {len(payment.order_qrcode.data)} bytes)")

    print("4. Verify the callback")
    query = sandbox.callback_query(sandbox.orders()[-1])
    callback = gatepay.parse_callback(query)
    print(f"  order {callback.order_id} ({callback.out_order_id}): {callback.realprice} paid at {callback.paid_at}")

    print("5. And a forged one")
    try:
        gatepay.parse_callback(query.replace("realprice=0", "realprice=9"))
    except CallbackError as error:
        print(f"  {type(error).__name__}: {error}")
        return True
    print("  WAS BELIEVED")
    return False


async def main() -> int:
    """Run the whole; 0 if all of it held."""
    folder = Path(tempfile.mkdtemp(prefix="gatepay-"))
    with Sandbox(folder / "shop.sqlite3", seed=False) as sandbox:
        async with sandbox.serve() as base_url:
            print(f"The sandbox serves {base_url} from {folder / 'shop.sqlite3'}")
            async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
                uploaded = await upload(gatepay)
                paid = await pay(gatepay, sandbox, folder)
    print("All of it held." if uploaded and paid else "Something did NOT hold; see above.")
    return 0 if uploaded and paid else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit("\nStopped; what was uploaded so far is in the folder above.")
