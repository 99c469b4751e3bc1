"""
The whole workflow against a local sandbox. You need no account and no network.

    python examples/quickstart.py

Uploads card_keys.txt, lists the card keys and compares them, creates a payment, saves its QR code, verifies the
callback, and rejects a forged one.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from gatepay_async import AsyncGatePay, CallbackError, OutcomeUnknownError, PayType, UploadProgress, UploadReport
from gatepay_async.sandbox import Sandbox

CARD_KEYS = Path(__file__).with_name("card_keys.txt")
PRODUCT = 8
REPORT_COLUMNS = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")


def show_progress(progress: UploadProgress) -> None:
    """Show the progress on a terminal, on a line that is overwritten."""
    done = progress.read - progress.in_flight
    if sys.stdout.isatty():
        print(f"\r  {done:6,} lines done, {progress.in_flight:5,} in progress", end="", flush=True)


def print_report(report: UploadReport) -> None:
    """Print the result: every line read is counted in exactly one row."""
    print(f"\r  read {report.read:,} lines, sent {len(report.chunks)} chunks:".ljust(60))
    for column in REPORT_COLUMNS:
        print(f"    {column:<14}{getattr(report, column):7,}")
    total = sum(getattr(report, column) for column in REPORT_COLUMNS)
    print(f"    {'total':<14}{total:7,}  {'= lines read' if total == report.read else 'DIFFERS FROM LINES READ'}")


async def upload(gatepay: AsyncGatePay) -> bool:
    """Upload the file; return whether the server has exactly the card keys of the file."""
    print(f"1. Upload {CARD_KEYS.name}")
    with CARD_KEYS.open(encoding="utf-8") as file:
        report = await gatepay.upload_card_keys(PRODUCT, file, on_progress=show_progress)
    print_report(report)

    print("2. List the card keys")
    in_file = {line.removeprefix("\ufeff").strip() for line in CARD_KEYS.read_text("utf-8").split("\n")} - {""}
    on_server = [key.content async for key in gatepay.list_card_keys(PRODUCT, prefetch=8)]
    equal = len(on_server) == len(set(on_server)) and set(on_server) == in_file
    print(f"  {len(on_server):,} card keys listed; {'the same' if equal else 'NOT THE SAME'} as in the file")
    return report.ok and equal


async def pay(gatepay: AsyncGatePay, sandbox: Sandbox, folder: Path) -> bool:
    """Create an order and verify its callback."""
    print("3. Create a payment")
    try:
        payment = await gatepay.create_payment(
            product_id=PRODUCT,
            product_num=1,
            pay_type=PayType.ALIPAY,
            out_order_id="T-1001-X",
            custom="terry@example.com",
        )
    except OutcomeUnknownError as error:  # the response was lost: ask GatePay for the order; don't create another
        existing = await gatepay.settle(error)
        print(f"  {error.out_order_id}: {existing.order_status if existing else 'unknown; see the console'}")
        return False
    qr_code = payment.order_qrcode.save(folder / "payment.png")
    print(f"  ¥{payment.order_price} with {payment.order_type}; pay at {payment.order_url}")
    print(f"  QR code: {qr_code} ({payment.order_qrcode.media_type}, {len(payment.order_qrcode.data)} bytes)")

    print("4. Verify the callback")
    query = sandbox.callback_query(sandbox.orders()[-1])
    callback = gatepay.parse_callback(query)
    print(f"  order {callback.order_id} ({callback.out_order_id}): ¥{callback.realprice} paid at {callback.paid_at}")

    print("5. Reject a forged callback")
    try:
        gatepay.parse_callback(query.replace("realprice=0", "realprice=9"))
    except CallbackError as error:
        print(f"  {type(error).__name__}: {error}")
        return True
    print("  IT WAS ACCEPTED")
    return False


async def main() -> int:
    """Run all steps; return 0 if all of them worked."""
    folder = Path(tempfile.mkdtemp(prefix="gatepay-"))
    # Without the example card keys (`seed`), so that the listing has only the uploaded ones.
    with Sandbox(folder / "shop.sqlite3", seed=False) as sandbox:
        async with sandbox.serve() as base_url:
            print(f"The sandbox is running at {base_url} with {folder / 'shop.sqlite3'}")
            async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
                uploaded = await upload(gatepay)
                paid = await pay(gatepay, sandbox, folder)
    print("Everything works." if uploaded and paid else "Something does NOT work; see above.")
    return 0 if uploaded and paid else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit("\nStopped. The database with the uploaded card keys is in the folder above.")
