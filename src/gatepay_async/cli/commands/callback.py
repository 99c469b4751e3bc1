"""``gatepay callback verify``, ``sign`` and ``send``, for testing a shop's callback endpoint."""

import re
import sys
from contextlib import AbstractAsyncContextManager
from enum import StrEnum

import anyio
import httpx
from attrs import frozen

from gatepay_async.cli import settings
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import name_value_table, print_line, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange.failures import describe_error
from gatepay_async.exchange.network import open_transport
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.protocol.callback import parse_callback
from gatepay_async.testing import signed_callback
from gatepay_async.words.problem import Problem

_MONEY = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}")  # such as 0.99
_REPLY_TIMEOUT_S = 15.0  # GatePay doesn't document its timeout
_SIGNATURE_CHARS = 32  # hexadecimal digits at the end of the query
_MAX_SHOWN_CHARS = 40  # of a reply's body, to show in a message
_FORM_HEADERS = {"content-type": "application/x-www-form-urlencoded"}
_MAX_REPLY_CHARS = 200  # of a reply's body, to read


@frozen
class CallbackFields:
    """
    The fields of a callback. ``signed_callback`` fills in those that are 0 or empty.

    Attributes:
        forged: Whether the signature is wrong.
        post: Whether to use GatePay's second form: a POST without the appkey.
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
    """
    Verify a callback, and print its fields.

    Args:
        query: A query string or a URL with one. ``-`` reads it from standard input.

    Raises:
        CallbackError: The callback is not genuine.
    """
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
    # Scripts look only at the exit status, and must not deliver after an underpaid callback.
    underpaid = callback.realprice < callback.price
    status = Status.REFUSED if underpaid else Status.DONE
    if wants_json():
        print_json(genuine=True, underpaid=underpaid, **rows)
        return status
    print_line(text("callback.genuine"), style="green")
    print_table(name_value_table((f"  {name}", value) for name, value in rows.items()))
    if underpaid:
        print_line(text("callback.underpaid", realprice=rows["realprice"], price=rows["price"]), style="red")
    print_line(text("callback.compare"))
    return status


def sign(fields: CallbackFields) -> Status:
    """Print the query string of a callback from GatePay."""
    query = signed_query(fields)
    if wants_json():
        print_json(query=query)
    else:
        print_line(query)
    return Status.DONE


class Verdict(StrEnum):
    """How GatePay interprets a reply."""

    SUCCESS = "success"
    FAIL = "fail"
    NEITHER = "neither"


@frozen
class ShopReply:
    """
    A shop's reply to a callback.

    Attributes:
        status: The HTTP status.
        text: The start of the body, unchanged.
    """

    status: int
    text: str

    @property
    def verdict(self) -> Verdict:
        """The verdict. ``SUCCESS`` requires exactly the word ``success`` and a status 2xx, as in the sandbox."""
        if self.text == Verdict.SUCCESS and 200 <= self.status < 300:  # noqa: PLR2004 -- HTTP's successful statuses
            return Verdict.SUCCESS
        return Verdict.FAIL if self.text == Verdict.FAIL else Verdict.NEITHER

    @property
    def description(self) -> str:
        """The body if it is ``success`` or ``fail``, else its start and the HTTP status, as a text for the user."""
        if self.verdict is Verdict.NEITHER:
            excerpt = self.text if len(self.text) <= _MAX_SHOWN_CHARS else f"{self.text[:_MAX_SHOWN_CHARS]}…"
            return f"{excerpt!r} (HTTP {self.status})"
        return f"`{self.text}`"


async def send(url: str, fields: CallbackFields) -> Status:
    """Send a signed callback to the shop, as GatePay would, and print the reply."""
    reply = await send_callback(url, signed_query(fields), post=fields.post)
    result = {"http_status": reply.status, "answer": reply.text}
    if not wants_json():
        body = escape(reply.text) or text("callback.nothing")
        print_line(text("callback.answered", answer=body, status=reply.status))
    elif reply.verdict is not Verdict.NEITHER:  # otherwise the error has the result
        print_json(**result)
    if reply.verdict is Verdict.SUCCESS:
        return Status.DONE
    if reply.verdict is Verdict.FAIL:
        return Status.REFUSED
    message, todo = text("callback.neither"), text("callback.neither.todo")
    if reply.text == Verdict.SUCCESS:
        message, todo = text("callback.status", status=reply.status), text("callback.status.todo")
    raise HaltError(message, todo=todo, status=Status.NO_ANSWER, result=result)


def signed_query(fields: CallbackFields) -> str:
    """
    Return the query string of *fields* with its signature.

    Raises:
        HaltError: A price is invalid.
        InvalidRequestError: Another value is invalid.
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
        tampered={"appkey": None} if fields.post else None,  # the POST has no appkey
    )
    if fields.forged:
        unsigned, signature = query[:-_SIGNATURE_CHARS], query[-_SIGNATURE_CHARS:]
        return unsigned + signature[::-1]
    return query


async def send_callback(url: str, query: str, *, post: bool = False) -> ShopReply:
    """
    Send *query* to *url*, over the same proxy and with the same certificates as the client.

    Raises:
        HaltError: *url* is invalid, or no reply arrived.
        InvalidRequestError: The environment names an invalid proxy or invalid certificates.
    """
    transport = await open_transport(_parse_address(url))
    reason: CommandText | Problem = text("callback.late", seconds=_REPLY_TIMEOUT_S)
    # The transport has read the environment already. httpx doesn't follow redirects by default.
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:  # noqa: S113 -- move_on_after() below limits it
        with anyio.move_on_after(_REPLY_TIMEOUT_S):
            try:
                if post:
                    return await _read_reply(client.stream("POST", url, content=query, headers=_FORM_HEADERS))
                return await _read_reply(client.stream("GET", f"{url}{'&' if '?' in url else '?'}{query}"))
            except Exception as error:  # noqa: BLE001 -- with SOCKS proxies, httpcore raises errors of many classes
                reason = describe_error(error)
    # Not chained, because the error contains the URL with the signature.
    raise HaltError(
        text("callback.unreachable", url=url, reason=reason),
        todo=text("callback.unreachable.todo"),
        status=Status.NO_ANSWER,
    )


def _parse_address(url: str) -> httpx.URL:
    """Parse the URL of a callback endpoint, or explain what is wrong with it."""
    reason: CommandText | Problem = text("callback.fragment")
    try:
        if "#" not in url:  # the query would be after the "#", and clients don't send that part
            return parse_url(url)
    except BadUrlError as error:
        reason = error.problem
    raise HaltError(text("callback.address", url=url, reason=reason))


async def _read_reply(request: AbstractAsyncContextManager[httpx.Response]) -> ShopReply:
    async with request as reply:
        body = b""
        async for part in reply.aiter_bytes():
            body += part
            if len(body) > _MAX_REPLY_CHARS:
                break
        return ShopReply(reply.status_code, body.decode("utf-8", "replace")[:_MAX_REPLY_CHARS])
