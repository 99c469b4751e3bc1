"""
Export all card keys of a product to a CSV file, in constant memory.

    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… python examples/export_keys.py 8 keys.csv

The file is created when the export is complete, and only you can read it.
"""

import argparse
import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio

from gatepay_async import AsyncGatePay, CardKey

HEADER = ("id", "content", "status", "pay_order_id", "created_at", "updated_at")


def row(key: CardKey) -> tuple[object, ...]:
    """Return one row of the file."""
    return (key.id, key.content, key.status, key.pay_order_id, key.created_at.isoformat(), key.updated_at.isoformat())


async def export(gatepay: AsyncGatePay, product_id: int, path: Path) -> int:
    """
    Write every card key of the product to *path*.

    Returns:
        The number of card keys.
    """
    written = 0
    # A unique name with mode 0600, so that concurrent exports don't overwrite each other.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    unfinished = anyio.Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            async for page in gatepay.list_card_keys(product_id, prefetch=4).pages():
                writer.writerows(map(row, page.keys))
                written += len(page.keys)
        await unfinished.replace(path)
    finally:
        with anyio.CancelScope(shield=True):  # delete an unfinished file even if this task is cancelled
            await unfinished.unlink(missing_ok=True)
    return written


async def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description="Export the card keys of a product.")
    parser.add_argument("product", type=int)
    parser.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    async with AsyncGatePay() as gatepay:
        written = await export(gatepay, options.product, options.path)
    print(f"{written} card keys written to {options.path}")


if __name__ == "__main__":
    anyio.run(main)
