"""Deliveries of callbacks in the database. Every function runs in the transaction of its caller."""

import sqlite3
from collections.abc import Iterable
from enum import StrEnum

from attrs import field, frozen

from gatepay_async.sandbox import orders, shops
from gatepay_async.sandbox.options import CallbackMethod
from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.shops import ShopState
from gatepay_async.sandbox.signed_queries import callback_query, with_query

__all__ = [
    "ACCEPTED",
    "MAX_ATTEMPTS",
    "Answer",
    "ClaimedDelivery",
    "Delivery",
    "claim",
    "count",
    "count_failed",
    "finish",
    "has_open_delivery",
    "list_all",
    "list_page",
    "next_due",
    "plan_first",
    "release",
    "urls_of",
]

# As in the vendor's FAQ: after a failed delivery, GatePay tries three more times, a minute apart.
MAX_ATTEMPTS = 4
ACCEPTED = "success"  # the answer of a merchant who accepts the callback


@frozen(kw_only=True)
class Answer:
    """
    The result of one attempt to deliver a callback.

    Attributes:
        status: The HTTP status; None: there was no answer.
        text: The body, as far as it was read.
        problem: Why the attempt failed: a name from :mod:`gatepay_async.words.pages`. None: the merchant answered
            ``success``.
    """

    status: int | None = None
    text: str | None = None
    problem: str | None = None


@frozen(kw_only=True)
class ClaimedDelivery:
    """
    A delivery that a sender has claimed. ``url`` and ``body`` are signed, so they are not in the ``repr``.

    Attributes:
        delivery_id: Its number.
        order_id: The order that was paid.
        attempt: From 1 to 4.
        url_owner: ``order``: call the order's own URL. ``shop``: call the shop's.
        url: The URL to call; None: the shop has no URL.
        body: The form to POST; None: send a GET.
    """

    delivery_id: int
    order_id: int
    attempt: int
    url_owner: str
    url: str | None = field(repr=False)
    body: str | None = field(repr=False)


class DeliveryState(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@frozen(kw_only=True)
class Delivery:
    """
    One attempt to deliver a callback to the merchant. All times are epoch seconds.

    Attributes:
        delivery_id: Ascending in the order of planning.
        order_id: The order that was paid.
        attempt: From 1 to 4.
        state: ``waiting`` (until ``due_at``), ``sending``, ``accepted`` (the answer was ``success``), or ``refused``.
        due_at: When to send it.
        url: The URL that was called, including the signed query of a GET, so not in the ``repr``. None: not sent yet,
            or the URL was removed before the attempt.
        body: The signed form that was POSTed, so not in the ``repr``. None: it was a GET, or ``url`` is None.
        sent_at: When it was sent; None: not yet.
        answered_at: When the answer arrived or the attempt failed; None: not yet.
        status: The HTTP status of the answer; None: no answer.
        answer: The body of the answer, cut after 4,096 bytes; None: no answer.
        problem: Why the attempt failed, such as ``not_success``, ``timeout``, ``connection``; None: it didn't.
    """

    delivery_id: int
    order_id: int
    attempt: int
    state: DeliveryState
    due_at: float
    url: str | None = field(repr=False)
    body: str | None = field(repr=False)
    sent_at: float | None
    answered_at: float | None
    status: int | None
    answer: str | None
    problem: str | None


def _delivery(row: sqlite3.Row) -> Delivery:
    """Convert a row of ``delivery``."""
    return Delivery(
        delivery_id=row["id"],
        order_id=row["order_id"],
        attempt=row["attempt"],
        state=_delivery_state(row),
        due_at=row["due"],
        url=row["url"],
        body=row["body"],
        sent_at=row["sent"],
        answered_at=row["answered"],
        status=row["status"],
        answer=row["answer"],
        problem=row["problem"],
    )


def _delivery_state(row: sqlite3.Row) -> DeliveryState:
    if row["answered"] is None:
        return DeliveryState.WAITING if row["claimed"] is None else DeliveryState.SENDING
    return DeliveryState.ACCEPTED if row["problem"] is None else DeliveryState.REFUSED


def urls_of(order: Order, shop: ShopState | None, *, notify_both: bool) -> dict[str, str]:
    """
    Return the URLs to call when *order* is paid. The keys are the owners of the URLs: ``order`` or ``shop``.

    Args:
        order: The order. Its own URL takes precedence over the shop's.
        shop: Its shop; None: the shop was removed, and no URL is called.
        notify_both: Whether to call both URLs.
    """
    urls: dict[str, str] = {}
    if shop is not None and order.notify_url is not None:
        urls["order"] = order.notify_url
    if shop is not None and shop.callback_url is not None and (not urls or notify_both):
        urls["shop"] = shop.callback_url
    return urls


def plan_first(connection: sqlite3.Connection, order_id: int, *, url_owners: Iterable[str], due: float) -> None:
    """Insert the first delivery to each URL. Delete the order's deliveries that are still waiting."""
    connection.execute("DELETE FROM delivery WHERE order_id = ? AND answered IS NULL AND claimed IS NULL", (order_id,))
    for url_owner in url_owners:
        _insert_delivery(connection, order_id, attempt=1, url_owner=url_owner, due=due)


def _insert_delivery(
    connection: sqlite3.Connection, order_id: int, *, attempt: int, url_owner: str, due: float
) -> None:
    connection.execute(
        "INSERT INTO delivery (order_id, attempt, url_of, due) VALUES (?, ?, ?, ?)", (order_id, attempt, url_owner, due)
    )


# A claim made at :abandoned or earlier has expired.
_DUE_QUERY = """
SELECT * FROM delivery WHERE answered IS NULL AND due <= :now AND (claimed IS NULL OR claimed <= :abandoned)
ORDER BY due, id LIMIT 1
"""


def claim(
    connection: sqlite3.Connection, *, now: float, machine_time: float, lease: float, method: CallbackMethod
) -> ClaimedDelivery | None:
    """
    Claim the delivery that has been due longest; None: no delivery is due.

    Args:
        connection: The caller's transaction.
        now: The sandbox's time, by which deliveries are due.
        machine_time: The machine's time, by which claims expire.
        lease: The seconds after which a claim expires, because its sender must have died. Longer than any delivery.
        method: How callbacks are sent.
    """
    row = connection.execute(_DUE_QUERY, {"now": now, "abandoned": machine_time - lease}).fetchone()
    if row is None:
        return None
    url, body = _url_and_body(connection, row, now=now, method=method)
    connection.execute(
        "UPDATE delivery SET claimed = ?, sent = ?, url = ?, body = ? WHERE id = ?",
        (machine_time, now, url, body, row["id"]),
    )
    return ClaimedDelivery(
        delivery_id=row["id"],
        order_id=row["order_id"],
        attempt=row["attempt"],
        url_owner=row["url_of"],
        url=url,
        body=body,
    )


def _url_and_body(
    connection: sqlite3.Connection, row: sqlite3.Row, *, now: float, method: CallbackMethod
) -> tuple[str | None, str | None]:
    """Return the URL to call and the form to POST (None: send a GET). Both are None if there is no URL any more."""
    # Read the shop's URL anew for each attempt: the user may have corrected it.
    order = orders.get(connection, row["order_id"])
    shop = shops.find_shop(connection, order.admin_id)
    # notify_both: which of the URLs are called was decided when the delivery was planned.
    url = urls_of(order, shop, notify_both=True).get(row["url_of"])
    if url is None:
        return None, None
    query = callback_query(
        order,
        shops.account_of(connection, order.admin_id).credentials,
        realprice=order.price if order.realprice is None else order.realprice,
        paytime=int(now) if order.paid_at is None else order.paid_at,
        with_appkey=method == "GET",
    )
    return (url, query) if method == "POST" else (with_query(url, query), None)


def release(connection: sqlite3.Connection, delivery: ClaimedDelivery) -> None:
    """Release a claimed delivery that was not attempted. It is due again."""
    connection.execute(
        "UPDATE delivery SET claimed = NULL, sent = NULL, url = NULL, body = NULL WHERE id = ? AND answered IS NULL",
        (delivery.delivery_id,),
    )


def finish(
    connection: sqlite3.Connection, delivery: ClaimedDelivery, answer: Answer, *, now: float, interval: float
) -> None:
    """Store the answer and, after a failure, plan the next attempt. A second answer to the same delivery is ignored."""
    changed = connection.execute(
        "UPDATE delivery SET answered = ?, status = ?, answer = ?, problem = ? WHERE id = ? AND answered IS NULL",
        (now, answer.status, answer.text, answer.problem, delivery.delivery_id),
    )
    if changed.rowcount and answer.problem is not None and delivery.attempt < MAX_ATTEMPTS:
        _insert_delivery(
            connection,
            delivery.order_id,
            attempt=delivery.attempt + 1,
            url_owner=delivery.url_owner,
            due=now + interval,
        )


def next_due(connection: sqlite3.Connection) -> float | None:
    """Return when the next unclaimed delivery is due; None: there is none."""
    row = connection.execute("SELECT min(due) FROM delivery WHERE answered IS NULL AND claimed IS NULL").fetchone()
    return None if row[0] is None else float(row[0])


def has_open_delivery(connection: sqlite3.Connection, order_id: int | None, *, now: float) -> bool:
    """Return whether a delivery of the order (None: of any order) is in progress, or due and not sent yet."""
    cursor = connection.execute(
        "SELECT 1 FROM delivery WHERE answered IS NULL AND (claimed IS NOT NULL OR due <= :now)"
        " AND (:order_id IS NULL OR order_id = :order_id) LIMIT 1",
        {"now": now, "order_id": order_id},
    )
    return cursor.fetchone() is not None


def list_all(connection: sqlite3.Connection, order_id: int | None = None) -> list[Delivery]:
    """List all deliveries, or an order's, oldest first."""
    cursor = connection.execute(
        "SELECT * FROM delivery WHERE :order_id IS NULL OR order_id = :order_id ORDER BY id", {"order_id": order_id}
    )
    return [_delivery(row) for row in cursor]


def count(connection: sqlite3.Connection) -> int:
    """Count all deliveries."""
    return int(connection.execute("SELECT count(*) FROM delivery").fetchone()[0])


def count_failed(connection: sqlite3.Connection) -> int:
    """Count the deliveries that failed."""
    query = "SELECT count(*) FROM delivery WHERE answered IS NOT NULL AND problem IS NOT NULL"
    return int(connection.execute(query).fetchone()[0])


def list_page(connection: sqlite3.Connection, *, offset: int, limit: int) -> list[Delivery]:
    """List deliveries, newest first: at most *limit* of them, without the *offset* newest ones."""
    cursor = connection.execute("SELECT * FROM delivery ORDER BY id DESC LIMIT ? OFFSET ?", (limit, offset))
    return [_delivery(row) for row in cursor]
