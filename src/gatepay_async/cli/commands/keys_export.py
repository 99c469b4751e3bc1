"""``gatepay keys export``: writes all card keys of a product to a file."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli import sources
from gatepay_async.cli.files import writing
from gatepay_async.cli.files.columns import EXPORTED_COLUMN
from gatepay_async.cli.language import text
from gatepay_async.cli.output import (
    clear_waiting,
    escape,
    fields,
    is_closed,
    pick_fields,
    print_json,
    wants_json,
    warn,
)
from gatepay_async.cli.private_file import atomic_write
from gatepay_async.cli.screens import print_line, progress
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.models import CardKey

_COLUMNS = ("id", EXPORTED_COLUMN, "status", "pay_order_id", "created_at", "updated_at")


def _row(key: CardKey) -> writing.OutputRow:
    """Return the values of a card key for ``_COLUMNS``."""
    return (key.id, key.content, key.status, key.pay_order_id, key.created_at.isoformat(), key.updated_at.isoformat())


async def export(product_id: int, target: str, excel: bool, thorough: bool, force: bool, reveal: bool) -> Status:  # noqa: FBT001, PLR0917 -- the options of the command, in the same order
    """Write all card keys of a product to *target*. The file appears only when it is complete."""
    gatepay = client()
    path = _check_target(target, excel=excel, reveal=reveal, force=force)
    written = 0
    async with gatepay:
        listing = gatepay.list_card_keys(product_id, prefetch=4, thorough=thorough)
        with (
            _open_target(target) as file,
            progress(text("export.doing"), total=None) as update,
            sources.explain_format(),
            writing.open_writer(
                path, file, _COLUMNS, fields=_fields_of(target), excel=excel, refuse_line_breaks=True
            ) as writer,
        ):
            async for page in listing.pages():
                writer.write(map(_row, page.keys))
                written += len(page.keys)
                update(written, page.total)
        _print_result(target, written, drifted=listing.drifted)
        return Status.DONE


def _fields_of(target: str) -> tuple[str, ...]:
    """Return the selected ``--fields`` if card keys are printed, otherwise none. Warn about unknown fields."""
    selected = fields() if target == "-" else ()
    return tuple(pick_fields(dict.fromkeys(_COLUMNS), selected))


def _check_target(target: str, *, excel: bool, reveal: bool, force: bool) -> Path:
    """
    Check that *target* can be written. Return the path whose suffix decides the format.

    Raises:
        HaltError: The suffix is unknown, or writing there needs another option, such as ``--force``.
    """
    path = Path(target)
    if excel and path.suffix.lower() not in {".csv", ".xlsx"}:
        raise HaltError(text("export.excel_ending"), todo=text("export.excel_ending.todo"))
    if target == "-":
        if is_closed("stdout"):
            raise HaltError(text("export.closed"), todo=text("export.closed.todo"))
        if sys.stdout.isatty() and not reveal:
            raise HaltError(text("export.terminal"), todo=text("export.terminal.todo"))
        return Path("-.jsonl" if wants_json() else "-.txt")
    if path.suffix.lower() not in writing.ENDINGS:
        raise HaltError(text("export.ending", path=path, endings=" ".join(writing.ENDINGS)))
    if path.exists() and not force:
        raise HaltError(text("files.there", path=path), todo=text("files.there.todo"))
    return path


@contextmanager
def _open_target(target: str) -> Generator[BinaryIO]:
    """Open the file *target*, or standard output for ``-``."""
    if target == "-":
        clear_waiting()
        sys.stdout.flush()
        yield sys.stdout.buffer  # card keys are UTF-8, whatever the encoding of the terminal
        sys.stdout.buffer.flush()
        return
    with atomic_write(Path(target)) as file:
        yield file


def _print_result(target: str, written: int, *, drifted: bool) -> None:
    """Print the result, on standard error if standard output has the card keys."""
    if wants_json():
        document = {"written": written, "output": target, "drifted": drifted}
        if target == "-":
            sys.stderr.write(f"{json.dumps(document)}\n")
        else:
            print_json(**document)
        return
    if target != "-":
        print_line(text("export.written", count=f"{written:,}", path=escape(target)), style="green")
    if drifted:
        warn(text("export.drifted"))
