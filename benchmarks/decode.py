"""Decode a page of 50 card keys to checked objects; compared with hand-written code that uses orjson."""

from datetime import UTC, datetime
from typing import Any

import orjson

from benchmarks.measuring import Result, Row, Sample, cpu_us_per_call, median_of, ratio, timed
from benchmarks.server import page_template
from gatepay_async import CardKey, CardKeyPage
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.messages import Reply, decode

MAX_TIME_RATIO = 0.35  # relative to the hand-written code
BODY = page_template(400).replace(b"@", b"7")


class WrongFieldError(ValueError):
    """A field has another type than GatePay's documentation says."""


def whole(value: object) -> int:
    """Return *value* if it is an int, and not a bool."""
    if type(value) is not int:
        raise WrongFieldError("whole number")
    return value


def text(value: object) -> str:
    """Return *value* if it is a string."""
    if type(value) is not str:
        raise WrongFieldError("text")
    return value


def time(value: object) -> datetime:
    """Convert epoch seconds."""
    return datetime.fromtimestamp(whole(value), UTC)


def by_hand(body: bytes) -> CardKeyPage:
    """Decode the page as a careful user would: check the type of each field."""
    reply = orjson.loads(body)
    if whole(reply["code"]) != 100:  # noqa: PLR2004 -- GatePay's code for success
        raise WrongFieldError("refused")
    page: dict[str, Any] = reply["data"]["ka"]
    return CardKeyPage(
        total=whole(page["total"]),
        per_page=whole(page["per_page"]),
        current_page=whole(page["current_page"]),
        last_page=whole(page["last_page"]),
        keys=tuple(
            CardKey(
                id=whole(row["id"]),
                admin_id=whole(row["admin_id"]),
                pay_product_id=whole(row["pay_product_id"]),
                pay_order_id=whole(row["pay_order_id"]),
                content=text(row["content"]),
                created_at=time(row["createtime"]),
                updated_at=time(row["updatetime"]),
                status=text(row["status"]),
            )
            for row in page["data"]
        ),
    )


def careless(body: bytes) -> CardKeyPage:
    """Decode the page without checking any type."""
    page = orjson.loads(body)["data"]["ka"]
    keys = tuple(
        CardKey(
            id=row["id"],
            admin_id=row["admin_id"],
            pay_product_id=row["pay_product_id"],
            pay_order_id=row["pay_order_id"],
            content=row["content"],
            created_at=datetime.fromtimestamp(row["createtime"], UTC),
            updated_at=datetime.fromtimestamp(row["updatetime"], UTC),
            status=row["status"],
        )
        for row in page["data"]
    )
    return CardKeyPage(page["total"], page["per_page"], page["current_page"], page["last_page"], keys)


def ours(body: bytes) -> CardKeyPage:
    """Decode the page as the client does."""
    return decode(KaShow(8), Reply(200, body))


def measure(*, quick: bool) -> Result:
    """Measure the three functions, and orjson alone, in turn."""
    assert ours(BODY) == by_hand(BODY) == careless(BODY)
    samples: dict[str, list[Sample]] = {"ours": [], "by hand": [], "careless": [], "orjson alone": []}
    work = {"ours": ours, "by hand": by_hand, "careless": careless, "orjson alone": orjson.loads}
    for _ in range(5 if quick else 15):
        for name, read in work.items():
            samples[name].append(timed(lambda read=read: read(BODY), times=300 if quick else 1000))  # type: ignore[misc]
    times = ", ".join(f"{name} {median_of(rounds, cpu_us_per_call):.0f} µs" for name, rounds in samples.items())
    value = ratio(samples["ours"], samples["by hand"], cpu_us_per_call)
    what = "a page of 50 decoded, against orjson with hand-written construction"
    return Result([Row(what=what, goal=MAX_TIME_RATIO, value=value, at_most=True, details=times)])
