"""``gatepay keys export``."""

import csv
import io
import json
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli.language import say
from gatepay_async.cli.output import complain, is_closed, plain, wants_json
from gatepay_async.cli.private_file import replacing
from gatepay_async.cli.screens import line, progress
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.models import CardKey

_NAMES = ("id", "content", "status", "pay_order_id", "created_at", "updated_at")

Write = Callable[[Iterable[CardKey]], str]


def _row(key: CardKey) -> tuple[object, ...]:
    return (key.id, key.content, key.status, key.pay_order_id, key.created_at.isoformat(), key.updated_at.isoformat())


def _as_csv(keys: Iterable[CardKey]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(_row, keys))
    return text.getvalue()


def _as_jsonl(keys: Iterable[CardKey]) -> str:
    rows = (json.dumps(dict(zip(_NAMES, _row(key), strict=True)), ensure_ascii=False) for key in keys)
    return "".join(f"{row}\n" for row in rows)


def _as_txt(keys: Iterable[CardKey]) -> str:
    return "".join(f"{key.content}\n" for key in keys)


# The ending of the file's name -> what it begins with, and how card keys are written in it.
_FORMATS: dict[str, tuple[str, Write]] = {
    ".csv": (",".join(_NAMES) + "\n", _as_csv),
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
        with _opened(target) as file, progress(say("export.doing"), total=None) as update:
            file.write(heading.encode())
            async for page in listing.pages():
                file.write(write(page.keys).encode("utf-8", "surrogatepass"))
                written += len(page.keys)
                update(written, page.total)
        _tell(target, written, drifted=listing.drifted)
        return Status.DONE


def _format(target: str, *, reveal: bool, force: bool) -> tuple[str, Write]:
    """
    How to write to *target*.

    Raises:
        HaltError: Not at all, without another word of the user's.
    """
    if target == "-":
        if is_closed("stdout"):
            raise HaltError(say("export.closed"), todo=say("export.closed.todo"))
        if sys.stdout.isatty() and not reveal:
            raise HaltError(say("export.terminal"), todo=say("export.terminal.todo"))
        return _FORMATS[".jsonl" if wants_json() else ".txt"]
    path = Path(target)
    if path.suffix.lower() not in _FORMATS:
        raise HaltError(say("export.ending", path=path, endings=" ".join(_FORMATS)))
    if path.exists() and not force:
        raise HaltError(say("files.there", path=path), todo=say("files.there.todo"))
    return _FORMATS[path.suffix.lower()]


@contextmanager
def _opened(target: str) -> Generator[BinaryIO]:
    if target == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer  # card keys are written as they are, whatever the terminal can show
        sys.stdout.buffer.flush()
        return
    with replacing(Path(target)) as file:
        yield file


def _tell(target: str, written: int, *, drifted: bool) -> None:
    """On standard error where standard output has the card keys."""
    if wants_json():
        document = json.dumps({"written": written, "output": target, "drifted": drifted}, ensure_ascii=True)
        (sys.stderr if target == "-" else sys.stdout).write(f"{document}\n")
        return
    if target != "-":
        line(say("export.written", count=f"{written:,}", path=plain(target)), style="green")
    if drifted:
        complain(say("export.drifted"))
