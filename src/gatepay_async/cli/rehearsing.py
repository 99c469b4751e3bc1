"""``gatepay keys upload --dry-run``: what would be sent. Nothing is, and no key or secret is needed."""

from pathlib import Path

from gatepay_async.cli import ledger, sources
from gatepay_async.cli.output import emit, wants_json
from gatepay_async.cli.screens import facts, line, show
from gatepay_async.cli.speech import say
from gatepay_async.cli.status import Status
from gatepay_async.protocol import invisible
from gatepay_async.protocol.checks import MOST_KEYS
from gatepay_async.protocol.chunking import clean

_SHOWN = 20


def rehearse(names: list[Path], *, encoding: str) -> Status:
    """Count lines, blanks, repetitions and chunks, as the upload would."""
    reader = sources.Reader(sources.look_through(names, encoding), encoding)
    first_seen: dict[str, int] = {}
    repeated: list[tuple[int, int]] = []
    refused: list[int] = []
    odd: list[int] = []
    read = blank = 0
    for read, raw in enumerate(reader, 1):
        key, problem = clean(raw)
        if problem is not None:
            refused.append(read)
            continue
        if not key:
            blank += 1
            continue
        if invisible.may_be_odd(key) and invisible.holds_any(key):
            odd.append(read)
        if first_seen.setdefault(key, read) != read:
            repeated.append((read, first_seen[key]))
    would_send = len(first_seen)
    counts = {
        "read": read,
        "blank": blank,
        "duplicates": len(repeated),
        "refused": len(refused),
        "would_send": would_send,
        "chunks": -(-would_send // MOST_KEYS),
    }
    places = [(reader.place(again), reader.place(first)) for again, first in repeated]
    if wants_json():
        repetitions = [{"line": again, "first": first} for again, first in places]
        emit(
            **counts,
            repetitions=repetitions,
            refused_lines=[reader.place(each) for each in refused],
            invisible_lines=[reader.place(each) for each in odd],
        )
        return Status.DONE
    show(facts((say(f"upload.{name}"), f"{count:,}") for name, count in counts.items()))
    for again, first in places[:_SHOWN]:
        line(say("upload.repeats", line=again, first=first))
    if len(places) > _SHOWN:
        line(say("upload.more", count=len(places) - _SHOWN))
    for each in refused[:_SHOWN]:
        line(say("upload.cant_be", line=reader.place(each)))
    ledger.show_invisible([reader.place(each) for each in odd[:_SHOWN]], of=len(odd))
    line(say("upload.nothing_sent"))
    return Status.DONE
