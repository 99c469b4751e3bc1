"""``gatepay callback verify``, ``sign`` and ``send``: for testing a shop's own end."""

import re
import sys
from contextlib import AbstractAsyncContextManager
from enum import StrEnum

import anyio
import httpx
from attrs import frozen

from gatepay_async.cli import settings
from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import facts, print_line, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange.failures import describe_error, may_quote
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.exchange.way import open_transport
from gatepay_async.protocol.callback import parse_callback
from gatepay_async.testing import signed_callback
from gatepay_async.words.problem import message_of

_MONEY = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}")
_REPLY_TIMEOUT_S = 15.0  # seconds for an answer; how long GatePay waits: silent
_SIGNATURE_CHARS = 32  # hex digits, the last of a query
_SHOWN_CHARS = 40  # characters of it within a sentence
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_EXCERPT_CHARS = 200  # characters of an answer that is neither word


@frozen
class CallbackFields:
    """
    What a callback says; 0 and empty ones are filled in.

    Attributes:
        forged: With a wrong signature.
        post: In GatePay's later form, without the appkey.
    """

    order_id: int
    order: str
    price: str
    realprice: str
    pay_type: str
    extend: str
    paid_at: int
    forged: bool = False
    post: bool = False


def verify(query: str) -> Status:
    """Believe a query text, or a whole address with one, or raise what is wrong with it; ``-``: standard input."""
    raw = (sys.stdin.readline() if query == "-" else query).strip()
    if raw.startswith(("http://", "https://")):
        raw = raw.partition("?")[2].partition("#")[0]
    callback = parse_callback(raw, appkey=settings.appkey(), appsecret=settings.secret())
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
        print_json(genuine=True, underpaid=underpaid, **rows)
        return status
    print_line(text("callback.genuine"), style="green")
    print_table(facts((f"  {name}", value) for name, value in rows.items()))
    if underpaid:
        print_line(text("callback.underpaid", realprice=rows["realprice"], price=rows["price"]), style="red")
    print_line(text("callback.compare"))
    return status


def sign(fields: CallbackFields) -> Status:
    """The query text that GatePay would call with."""
    query = signed_query(fields)
    if wants_json():
        print_json(query=query)
    else:
        print_line(query)
    return Status.DONE


class Verdict(StrEnum):
    """What an answer is to GatePay."""

    SUCCESS = "success"
    FAIL = "fail"
    NEITHER = "neither"


@frozen
class ShopReply:
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
    def description(self) -> str:
        """For people: the word itself, or all that it is not."""
        if self.verdict is Verdict.NEITHER:
            shown = self.text if len(self.text) <= _SHOWN_CHARS else f"{self.text[:_SHOWN_CHARS]}…"
            return f"{shown!r} (HTTP {self.status})"
        return f"`{self.text}`"


async def send(url: str, fields: CallbackFields) -> Status:
    """Call the shop as GatePay would, and say what it answers."""
    reply = await send_callback(url, signed_query(fields), post=fields.post)
    if wants_json():
        print_json(http_status=reply.status, answer=reply.text)
    else:
        shown = escape(reply.text) or text("callback.nothing")
        print_line(text("callback.answered", answer=shown, status=reply.status))
    if reply.verdict is Verdict.SUCCESS:
        return Status.DONE
    if reply.verdict is Verdict.FAIL:
        return Status.REFUSED
    message, todo = text("callback.neither"), text("callback.neither.todo")
    if reply.text == Verdict.SUCCESS:
        message, todo = text("callback.status", status=reply.status), text("callback.status.todo")
    raise HaltError(message, todo=todo, status=Status.NO_ANSWER)


def signed_query(fields: CallbackFields) -> str:
    """
    The query text of *fields*, signed; with another signature where it is to be forged.

    Raises:
        HaltError: A price is none.
        InvalidRequestError: Another value can't be right.
    """
    price, realprice = fields.price, fields.realprice or fields.price
    for value in (price, realprice):
        if not _MONEY.fullmatch(value):
            raise HaltError(text("callback.money", value=value))
    query = signed_callback(
        appkey=settings.appkey(),
        appsecret=settings.secret(),
        order_id=fields.order_id,
        out_order_id=fields.order,
        price=price,
        realprice=realprice,
        pay_type=fields.pay_type,
        extend=fields.extend,
        paid_at=fields.paid_at or None,
        tampered={"appkey": None} if fields.post else None,
    )
    if fields.forged:
        unsigned, signature = query[:-_SIGNATURE_CHARS], query[-_SIGNATURE_CHARS:]
        return unsigned + signature[::-1]
    return query


async def send_callback(url: str, query: str, *, post: bool = False) -> ShopReply:
    """
    GET *url* with *query*, or POST it there, by the way that the client would take, too.

    Raises:
        HaltError: It is no address, or nobody answers there.
        InvalidRequestError: The environment names a proxy or certificates that there are not.
    """
    transport = await open_transport(_parse_address(url))
    reason = text("callback.late", seconds=f"{_REPLY_TIMEOUT_S:g}")
    # Neither the environment nor a redirect leads elsewhere from here.
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:  # noqa: S113 -- below
        with anyio.move_on_after(_REPLY_TIMEOUT_S):
            try:
                if post:
                    return await _read_reply(client.stream("POST", url, content=query, headers=_FORM))
                return await _read_reply(client.stream("GET", f"{url}{'&' if '?' in url else '?'}{query}"))
            except Exception as error:  # noqa: BLE001 -- SOCKS proxies make httpcore raise what it likes
                problem = describe_error(error, None if may_quote(error) else root_cause(error))
                reason = problem.in_(current_language())
    # Not chained: the error holds the address, and that the signature.
    raise HaltError(
        text("callback.unreachable", url=url, reason=reason),
        todo=text("callback.unreachable.todo"),
        status=Status.NO_ANSWER,
    )


def _parse_address(url: str) -> httpx.URL:
    try:
        if "#" not in url:
            return parse_url(url)
        reason = text("callback.fragment")  # what follows is never sent, and that would be the callback
    except BadUrlError as error:
        reason = error.problem.in_(current_language())
    raise HaltError(text("callback.address", url=url, reason=reason))


async def _read_reply(request: AbstractAsyncContextManager[httpx.Response]) -> ShopReply:
    async with request as reply:
        body = b""
        async for part in reply.aiter_bytes():
            body += part
            if len(body) > _EXCERPT_CHARS:
                break
        return ShopReply(reply.status_code, body.decode("utf-8", "replace")[:_EXCERPT_CHARS])


def root_cause(error: BaseException) -> str:
    """What the system said: what was raised because of it may only say that all attempts failed."""
    message = ""
    inner: BaseException | None = error
    while inner is not None:
        message = message_of(inner) or message
        inner = inner.__cause__ or inner.__context__
    return message
