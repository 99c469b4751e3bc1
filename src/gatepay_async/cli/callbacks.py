"""``gatepay callback verify``, ``sign`` and ``send``: for testing a shop's own end."""

import re
import sys

import httpx
from attrs import frozen

from gatepay_async.cli import failing, settings
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import facts, line, show
from gatepay_async.cli.speech import say
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.callback import parse_callback
from gatepay_async.testing import signed_callback

_MONEY = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}")
_ADDRESS = re.compile(r"https?://[^/?#]", re.IGNORECASE)
_PATIENCE = 15.0  # seconds for an answer; how long GatePay waits: silent
_SIGNATURE = 32  # hex digits, the last of a query
_SHOWN = 200  # characters of an answer that is neither word


@frozen
class Told:
    """What a callback says; 0 and empty ones are filled in."""

    order_id: int
    order: str
    price: str
    realprice: str
    pay_type: str
    extend: str
    paid_at: int
    forged: bool = False


def verify(query: str) -> Status:
    """Believe a query text, or a whole address with one, or raise what is wrong with it; ``-``: standard input."""
    text = (sys.stdin.readline() if query == "-" else query).strip()
    if text.startswith(("http://", "https://")):
        text = text.partition("?")[2].partition("#")[0]
    callback = parse_callback(text, appkey=settings.appkey(), appsecret=settings.secret())
    rows = {
        "order_id": str(callback.order_id),
        "out_order_id": callback.out_order_id,
        "price": f"{callback.price:f}",
        "realprice": f"{callback.realprice:f}",
        "type": callback.pay_type,
        "paid_at": callback.paid_at.isoformat(),
        "extend": callback.extend,
    }
    if wants_json():
        emit(genuine=True, **rows)
        return Status.DONE
    line(say("callback.genuine"), style="green")
    show(facts((f"  {name}", value) for name, value in rows.items()))
    if callback.realprice < callback.price:
        line(say("callback.underpaid", realprice=rows["realprice"], price=rows["price"]), style="red")
    line(say("callback.compare"))
    return Status.DONE


def sign(told: Told) -> Status:
    """The query text that GatePay would call with."""
    query = signed(told)
    if wants_json():
        emit(query=query)
    else:
        line(query)
    return Status.DONE


async def send(url: str, told: Told) -> Status:
    """Call the shop as GatePay would, and say what it answers."""
    status, answer = await deliver(url, signed(told))
    if wants_json():
        emit(http_status=status, answer=answer)
    else:
        line(say("callback.answered", answer=plain(answer) or say("callback.nothing"), status=status))
    if answer == "success":
        return Status.DONE
    if answer == "fail":
        return Status.REFUSED
    raise HaltError(say("callback.neither"), todo=say("callback.neither.todo"), status=Status.NO_ANSWER)


def signed(told: Told) -> str:
    """
    The query text of *told*, signed; with another signature where it is to be forged.

    Raises:
        HaltError: A price is none.
        InvalidRequestError: Another value can't be right.
    """
    price, realprice = told.price, told.realprice or told.price
    for value in (price, realprice):
        if not _MONEY.fullmatch(value):
            raise HaltError(say("callback.money", value=value))
    query = signed_callback(
        appkey=settings.appkey(),
        appsecret=settings.secret(),
        order_id=told.order_id,
        out_order_id=told.order,
        price=price,
        realprice=realprice,
        pay_type=told.pay_type,
        extend=told.extend,
        paid_at=told.paid_at or None,
    )
    if told.forged:
        fields, signature = query[:-_SIGNATURE], query[-_SIGNATURE:]
        return fields + signature[::-1]
    return query


async def deliver(url: str, query: str) -> tuple[int, str]:
    """
    GET *url* with *query*; the HTTP status and the answer's text.

    Raises:
        HaltError: It is no address, or nobody answers there.
    """
    if not _ADDRESS.match(url):
        raise HaltError(say("callback.address", url=url))
    address = f"{url}{'&' if '?' in url else '?'}{query}"
    reason = ""
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE) as client, client.stream("GET", address) as reply:
            body = b""
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > _SHOWN:
                    break
            return reply.status_code, body.decode("utf-8", "replace")[:_SHOWN].strip()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason = failing.worded(f"{type(error).__name__}: {innermost(error)}".removesuffix(": "))
    # Not chained: the error holds the address, and that the signature.
    raise HaltError(
        say("callback.unreachable", url=url, reason=reason),
        todo=say("callback.unreachable.todo"),
        status=Status.NO_ANSWER,
    )


def innermost(error: BaseException) -> str:
    """What the system said: what was raised because of it may only say that all attempts failed."""
    text = ""
    inner: BaseException | None = error
    while inner is not None:
        text = str(inner) or text
        inner = inner.__cause__ or inner.__context__
    return text
