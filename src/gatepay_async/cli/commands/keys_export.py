"""``gatepay keys export``."""

import csv
import io
import json
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, is_closed, wants_json, warn
from gatepay_async.cli.private_file import atomic_write
from gatepay_async.cli.screens import print_line, progress
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.models import CardKey

_COLUMNS = ("id", "content", "status", "pay_order_id", "created_at", "updated_at")

Write = Callable[[Iterable[CardKey]], str]


def _row(key: CardKey) -> tuple[object, ...]:
    return (key.id, key.content, key.status, key.pay_order_id, key.created_at.isoformat(), key.updated_at.isoformat())


def _as_csv(keys: Iterable[CardKey]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(_row, keys))
    return text.getvalue()


def _as_jsonl(keys: Iterable[CardKey]) -> str:
    rows = (json.dumps(dict(zip(_COLUMNS, _row(key), strict=True)), ensure_ascii=False) for key in keys)
    return "".join(f"{row}\n" for row in rows)


def _as_txt(keys: Iterable[CardKey]) -> str:
    return "".join(f"{key.content}\n" for key in keys)


# The ending of the file's name -> what it begins with, and how card keys are written in it.
_FORMATS: dict[str, tuple[str, Write]] = {
    ".csv": (",".join(_COLUMNS) + "\n", _as_csv),
    ".jsonl": ("", _as_jsonl),
    ".txt": ("", _as_txt),
}


async def export(product_id: int, target: str, thorough: bool, force: bool, reveal: bool) -> Status:  # noqa: FBT001 -- the command's options, in its order
    """Write every card key of a product; a file appears only when it is whole."""
    gatepay = client()
    heading, write = _format(target, reveal=reveal, force=force)
    written = 0
    async with gatepay:
        listing = gatepay.list_card_keys(product_id, prefetch=4, thorough=thorough)
        with _open_target(target) as file, progress(text("export.doing"), total=None) as update:
            file.write(heading.encode())
            async for page in listing.pages():
                file.write(write(page.keys).encode("utf-8", "surrogatepass"))
                written += len(page.keys)
                update(written, page.total)
        _print_result(target, written, drifted=listing.drifted)
        return Status.DONE


def _format(target: str, *, reveal: bool, force: bool) -> tuple[str, Write]:
    """
    How to write to *target*.

    Raises:
        HaltError: Not at all, without another word of the user's.
    """
    if target == "-":
        if is_closed("stdout"):
            raise HaltError(text("export.closed"), todo=text("export.closed.todo"))
        if sys.stdout.isatty() and not reveal:
            raise HaltError(text("export.terminal"), todo=text("export.terminal.todo"))
        return _FORMATS[".jsonl" if wants_json() else ".txt"]
    path = Path(target)
    if path.suffix.lower() not in _FORMATS:
        raise HaltError(text("export.ending", path=path, endings=" ".join(_FORMATS)))
    if path.exists() and not force:
        raise HaltError(text("files.there", path=path), todo=text("files.there.todo"))
    return _FORMATS[path.suffix.lower()]


@contextmanager
def _open_target(target: str) -> Generator[BinaryIO]:
    if target == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer  # card keys are written as they are, whatever the terminal can show
        sys.stdout.buffer.flush()
        return
    with atomic_write(Path(target)) as file:
        yield file


def _print_result(target: str, written: int, *, drifted: bool) -> None:
    """On standard error where standard output has the card keys."""
    if wants_json():
        document = json.dumps({"written": written, "output": target, "drifted": drifted}, ensure_ascii=True)
        (sys.stderr if target == "-" else sys.stdout).write(f"{document}\n")
        return
    if target != "-":
        print_line(text("export.written", count=f"{written:,}", path=escape(target)), style="green")
    if drifted:
        warn(text("export.drifted"))
