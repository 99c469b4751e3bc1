"""``gatepay callback verify``, ``sign`` and ``send``: for testing a shop's own end."""

import re
import sys
from enum import StrEnum

import anyio
import httpx
from attrs import frozen

from gatepay_async.cli import failures, settings
from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import facts, line, show
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange.failures import is_quoting, worded
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.exchange.way import open_transport
from gatepay_async.protocol.callback import parse_callback
from gatepay_async.protocol.masking import mask
from gatepay_async.testing import signed_callback

_MONEY = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}")
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
    # A script that goes by the status must not deliver goods that were not paid for in full.
    underpaid = callback.realprice < callback.price
    status = Status.REFUSED if underpaid else Status.DONE
    if wants_json():
        emit(genuine=True, underpaid=underpaid, **rows)
        return status
    line(say("callback.genuine"), style="green")
    show(facts((f"  {name}", value) for name, value in rows.items()))
    if underpaid:
        line(say("callback.underpaid", realprice=rows["realprice"], price=rows["price"]), style="red")
    line(say("callback.compare"))
    return status


def sign(told: Told) -> Status:
    """The query text that GatePay would call with."""
    query = signed(told)
    if wants_json():
        emit(query=query)
    else:
        line(query)
    return Status.DONE


class Verdict(StrEnum):
    """What an answer is to GatePay."""

    SUCCESS = "success"
    FAIL = "fail"
    NEITHER = "neither"


@frozen
class Answer:
    """
    What a shop answers a callback.

    Attributes:
        status: HTTP's.
        text: The beginning of the body, as it came.
    """

    status: int
    text: str

    @property
    def verdict(self) -> Verdict:
        """`success` counts as the sandbox counts it: the bare word, with a status of success."""
        if self.text == Verdict.SUCCESS and 200 <= self.status < 300:  # noqa: PLR2004 -- what HTTP calls successful
            return Verdict.SUCCESS
        return Verdict.FAIL if self.text == Verdict.FAIL else Verdict.NEITHER

    @property
    def shown(self) -> str:
        """For people: the word itself, or all that it is not."""
        if self.verdict is Verdict.NEITHER:
            return f"{self.text!r} (HTTP {self.status})"
        return f"`{self.text}`"


async def send(url: str, told: Told) -> Status:
    """Call the shop as GatePay would, and say what it answers."""
    answer = await deliver(url, signed(told))
    if wants_json():
        emit(http_status=answer.status, answer=answer.text)
    else:
        shown = plain(answer.text) or say("callback.nothing")
        line(say("callback.answered", answer=shown, status=answer.status))
    if answer.verdict is Verdict.SUCCESS:
        return Status.DONE
    if answer.verdict is Verdict.FAIL:
        return Status.REFUSED
    text, todo = say("callback.neither"), say("callback.neither.todo")
    if answer.text == Verdict.SUCCESS:
        text, todo = say("callback.status", status=answer.status), say("callback.status.todo")
    raise HaltError(text, todo=todo, status=Status.NO_ANSWER)


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


async def deliver(url: str, query: str) -> Answer:
    """
    GET *url* with *query*, by the way that the client would take, too.

    Raises:
        HaltError: It is no address, or nobody answers there.
        InvalidRequestError: The environment names a proxy or certificates that there are not.
    """
    transport = await open_transport(_address(url))
    reason = say("callback.late", seconds=f"{_PATIENCE:g}")
    # Neither the environment nor a redirect leads elsewhere from here.
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:  # noqa: S113 -- below
        with anyio.move_on_after(_PATIENCE):
            try:
                return await _get(client, f"{url}{'&' if '?' in url else '?'}{query}")
            except Exception as error:  # noqa: BLE001 -- SOCKS proxies make httpcore raise what it likes
                said = worded(error) if is_quoting(error) else f"{type(error).__name__}: {innermost(error)}"
                reason = failures.worded(mask(said.removesuffix(": ")))
    # Not chained: the error holds the address, and that the signature.
    raise HaltError(
        say("callback.unreachable", url=url, reason=reason),
        todo=say("callback.unreachable.todo"),
        status=Status.NO_ANSWER,
    )


def _address(url: str) -> httpx.URL:
    try:
        if "#" not in url:
            return parse_url(url)
        reason = say("callback.fragment")  # what follows is never sent, and that would be the callback
    except BadUrlError as error:
        reason = failures.worded(error.problem)
    raise HaltError(say("callback.address", url=url, reason=reason))


async def _get(client: httpx.AsyncClient, address: str) -> Answer:
    async with client.stream("GET", address) as reply:
        body = b""
        async for part in reply.aiter_bytes():
            body += part
            if len(body) > _SHOWN:
                break
        return Answer(reply.status_code, body.decode("utf-8", "replace")[:_SHOWN])


def innermost(error: BaseException) -> str:
    """What the system said: what was raised because of it may only say that all attempts failed."""
    text = ""
    inner: BaseException | None = error
    while inner is not None:
        text = str(inner) or text
        inner = inner.__cause__ or inner.__context__
    return text
