"""
Upload every file that appears in a folder. You can stop the worker at any time.

    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… python examples/upload_worker.py inbox --product 8

The worker moves `NAME.txt` to `done/NAME.txt` when all its card keys are on the server. If the server refused some
lines, the worker moves it to `failed/NAME.txt` and writes those card keys to `failed/NAME.rest.txt`, which only you can
read. To upload them again, move that file back into the folder. Existing files are never overwritten: a number is added
to the new name. A file that could not be sent, or was not finished when the worker stopped, stays in the folder and is
uploaded again; the server stores each card key once.

Create your files elsewhere and rename them into the folder, so that the worker never reads an unfinished file. Run one
worker per folder.
"""

import argparse
import itertools
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio

from gatepay_async import AsyncGatePay, UploadReport


async def upload(gatepay: AsyncGatePay, path: Path, product_id: int) -> UploadReport:
    """Upload one file, and move it to the folder for its result."""
    with path.open("rb") as file:
        report = await gatepay.upload_card_keys(product_id, file)
    # In all other cases, card keys are missing for another reason than a refusal: the file stays here for another try.
    if report.ok or (report.stopped is None and report.refused):
        finish(path, report)
    return report


def finish(path: Path, report: UploadReport) -> None:
    """Move an uploaded file. Write the missing card keys first, so that a crash in between loses nothing."""
    folder = path.parent / ("done" if report.ok else "failed")
    folder.mkdir(exist_ok=True)
    target = free_name(folder / path.name)
    if not report.ok:
        keys = [key for chunk in report.chunks for key in chunk.keys]
        write_private(target.with_suffix(".rest.txt"), keys)
    path.rename(target)


def free_name(path: Path) -> Path:
    """Return *path*, or NAME.1.txt, NAME.2.txt and so on if it exists, so that no earlier file is overwritten."""
    numbered = (path.with_suffix(f".{number}{path.suffix}") for number in itertools.count(1))
    return next(name for name in itertools.chain([path], numbered) if not name.exists())


def write_private(path: Path, keys: Sequence[str]) -> None:
    """Write card keys to a new file that only you can read. It must not exist yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # Lines that are not UTF-8 are written unchanged.
        file.write("".join(f"{key}\n" for key in keys).encode("utf-8", "surrogateescape"))


async def work(gatepay: AsyncGatePay, folder: Path, product_id: int, *, interval: float) -> None:
    """Upload all files in the folder, and look for new ones every *interval* seconds."""
    while True:
        for name in sorted([path.name async for path in anyio.Path(folder).glob("*.txt") if await path.is_file()]):
            try:
                report = await upload(gatepay, folder / name, product_id)
            except OSError as error:  # deleted or not readable: go on with the other files
                print(f"{name}: {error}", flush=True)
                continue
            print(
                f"{name}: {report.read} lines, {report.stored} stored, {report.already_there} already stored, "
                f"{report.refused} refused, {report.unknown} unknown, {report.not_sent} not sent",
                flush=True,
            )
            if report.stopped is not None:
                print(f"stopped: {report.stopped}", flush=True)
        await anyio.sleep(interval)


async def stop_on_signal(scope: anyio.CancelScope) -> None:
    """Cancel the work on SIGINT or SIGTERM. A cancelled upload loses nothing."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            print("stopping; unfinished files stay in the folder", flush=True)
            scope.cancel()
            return


async def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and work until stopped."""
    parser = argparse.ArgumentParser(description="Upload card keys from a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--product", type=int, required=True)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two checks (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not await anyio.Path(options.folder).is_dir():
        parser.error(f"no such folder: {options.folder}")
    async with AsyncGatePay() as gatepay, anyio.create_task_group() as group:
        group.start_soon(stop_on_signal, group.cancel_scope)
        print(f"watching {options.folder}", flush=True)
        await work(gatepay, options.folder, options.product, interval=options.interval)


if __name__ == "__main__":
    anyio.run(main)
