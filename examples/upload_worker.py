"""
A worker that uploads whatever is put into a folder; safe to stop at any moment.

    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… python examples/upload_worker.py inbox --product 8

Each `NAME.txt` in the folder becomes `done/NAME.txt` when all its card keys are on the server. Where lines of it were
refused it becomes `failed/NAME.txt`, with what is not there in `failed/NAME.rest.txt` (readable by you alone; to upload
it again, put it back into the folder). Nothing is overwritten: a name that is taken gets a number. A file that could
not be sent, or was being uploaded when the worker was stopped, stays where it is and is uploaded again: the server
keeps one copy of each card key.

Write files elsewhere and rename them into the folder, so that the worker never sees half of one. One worker a folder.
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
    """Upload one file, and move it where it belongs."""
    with path.open("rb") as file:
        report = await gatepay.upload_card_keys(product_id, file)
    # Where nothing was refused the same file can simply be sent again: it stays for the next look.
    if report.ok or (report.stopped is None and report.refused):
        finish(path, report)
    return report


def finish(path: Path, report: UploadReport) -> None:
    """Move an uploaded file; first write down what is missing, so that a crash between the two loses nothing."""
    folder = path.parent / ("done" if report.ok else "failed")
    folder.mkdir(exist_ok=True)
    target = free_name(folder / path.name)
    if not report.ok:
        keys = [key for chunk in report.chunks for key in chunk.keys]
        write_private(target.with_suffix(".rest.txt"), keys)
    path.rename(target)


def free_name(path: Path) -> Path:
    """*path*, or the first of NAME.1.txt, NAME.2.txt … that is not taken: what failed last time must not be lost."""
    numbered = (path.with_suffix(f".{number}{path.suffix}") for number in itertools.count(1))
    return next(name for name in itertools.chain([path], numbered) if not name.exists())


def write_private(path: Path, keys: Sequence[str]) -> None:
    """Card keys are money: nobody else may read them, not even for a moment, and nothing may be overwritten."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # Lines that are not UTF-8 come out as they were.
        file.write("".join(f"{key}\n" for key in keys).encode("utf-8", "surrogateescape"))


async def work(gatepay: AsyncGatePay, folder: Path, product_id: int, *, interval: float) -> None:
    """Upload what is there, look again every *interval* seconds, for ever."""
    while True:
        for name in sorted([path.name async for path in anyio.Path(folder).glob("*.txt") if await path.is_file()]):
            try:
                report = await upload(gatepay, folder / name, product_id)
            except OSError as error:  # gone, or not readable: the others can be uploaded all the same
                print(f"{name}: {error}", flush=True)
                continue
            print(
                f"{name}: {report.read} lines, {report.stored} stored, {report.already_there} there already, "
                f"{report.refused} refused, {report.unknown} unknown, {report.not_sent} not sent",
                flush=True,
            )
            if report.stopped is not None:
                print(f"stopped: {report.stopped}", flush=True)
        await anyio.sleep(interval)


async def stop_on_signal(scope: anyio.CancelScope) -> None:
    """Ctrl-C, or what a service manager sends, cancels the work; a cancelled upload loses nothing."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            print("stopping; what is unfinished stays in the folder", flush=True)
            scope.cancel()
            return


async def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and work until told to stop."""
    parser = argparse.ArgumentParser(description="Upload card keys from a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--product", type=int, required=True)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between looks (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not await anyio.Path(options.folder).is_dir():
        parser.error(f"there is no folder {options.folder}")
    async with AsyncGatePay() as gatepay, anyio.create_task_group() as group:
        group.start_soon(stop_on_signal, group.cancel_scope)
        print(f"watching {options.folder}", flush=True)
        await work(gatepay, options.folder, options.product, interval=options.interval)


if __name__ == "__main__":
    anyio.run(main)
