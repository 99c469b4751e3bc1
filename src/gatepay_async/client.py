"""``AsyncGatePay``: one verb, ``send(call)``, and one short method for each endpoint."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, Self, TypeVar

import anyio
import httpx

from gatepay_async.exchange.attempts import Attempts, current_loop
from gatepay_async.exchange.libraries import classes
from gatepay_async.exchange.loopback import is_loopback
from gatepay_async.exchange.opening import open_exchange
from gatepay_async.exchange.port import ForeignError
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.lines import Lines
from gatepay_async.listing import CardKeyListing
from gatepay_async.places import AutoPlaces
from gatepay_async.protocol import callback, checks, invisible, payment_return, quick_pay
from gatepay_async.protocol.bulk import UploadReport
from gatepay_async.protocol.calls import Call, KaCreate, KaShow, PayCreate, ProductShow
from gatepay_async.protocol.errors import (
    AlreadyStoredError,
    GatePayError,
    InvalidRequestError,
    OrderNotFoundError,
    OutcomeUnknownError,
    ProtocolError,
    RefusedError,
    TransportError,
)
from gatepay_async.protocol.frames import clear_frames, sealed
from gatepay_async.protocol.messages import Reply, decode, decode_raw, encode
from gatepay_async.protocol.models import (
    Callback,
    Catalog,
    OrderStatus,
    Payment,
    PaymentLink,
    PaymentReturn,
    PayType,
    Stored,
)
from gatepay_async.protocol.observing import Ended, Observer
from gatepay_async.protocol.payment_calls import (
    AnypayCreate,
    CloudpayCreate,
    GrouppayCreate,
    OrderCheck,
    StablepayCreate,
)
from gatepay_async.protocol.raw import Outgoing, RawCall, RawReply
from gatepay_async.protocol.retrying import RetryBudget, RetryPolicy, Sent, wait_after
from gatepay_async.protocol.signing import Credentials
from gatepay_async.upload import OnProgress, upload
from gatepay_async.words.problem import Problem

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
P = ParamSpec("P")

BASE_URL = "https://gatepay.io/api/"
CLOUD_BASE_URL = "https://cloud.gatepay.io/api/"

# Of an upload's calls, seconds: whether the same card keys are sent again after a longer time, the upload decides. It
# knows what other calls met meanwhile.
_RESENT_WITHIN = 5.0

# Seconds before each of the questions of `settle`: an order may be found later than its answer was lost.
_SETTLE_WAITS = (0.0, 1.0, 2.0, 4.0, 8.0)

_HOW_TO = "    async with AsyncGatePay(appkey, appsecret) as gatepay:\n        await gatepay.list_products()"


def _sealed_async(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """As ``sealed``: errors leave without the form, the card keys and the reply in the locals of their frames."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except BaseException as error:
            del args, kwargs  # this frame stays
            clear_frames(error)
            raise

    return call


class AsyncGatePay:
    """
    A client of GatePay, on asyncio or trio; an asynchronous context manager.

    ::

        async with AsyncGatePay(appkey, appsecret) as gatepay:
            catalog = await gatepay.list_products()

    One client is meant for the life of a program, or of its event loop, and for any number of tasks. Any
    call can be cancelled at any await. Every method may raise ``InvalidRequestError`` (nothing was sent),
    ``RefusedError`` (GatePay said no), ``ProtocolError`` (the reply is not GatePay's), ``TransportError`` (no reply).

    Args:
        appkey: From GatePay's console; by default the environment's ``GATEPAY_APPKEY``.
        appsecret: Likewise; ``GATEPAY_APPSECRET``. It never travels, and is in no ``repr`` and no error.
        base_url: By default ``GATEPAY_BASE_URL``, or else ``https://gatepay.io/api/``.
        cloud_base_url: Where ``create_cloudpay`` sends to: by default ``GATEPAY_CLOUD_BASE_URL``, or else
            ``https://cloud.gatepay.io/api/``; an agent has a host of its own.
        timeout: Seconds for one attempt, from connect to last byte; None: no bound. Waiting for one of
            ``max_connections`` is not part of it.
        deadline: Seconds for a whole call, waits and retries included; None: no bound.
        max_connections: Open at once. Further calls wait for their turn, first come, first served.
        retry: When a call that may be sent again is sent again.
        http_client: Your own client of httpx or httpx2, used as it is; you close it.
        transport: Your own transport of httpx or httpx2, used as it is; you close it. Or ``"aiohttp"`` (the extra
            ``aiohttp``; on asyncio only): a faster one.
        allow_http: Send to a ``base_url`` or ``cloud_base_url`` without TLS that isn't on this machine.
        trust_env: Use the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names (NO_PROXY lists exceptions), and the
            certificates of SSL_CERT_FILE or SSL_CERT_DIR. An ``http_client`` or ``transport`` of yours decides itself.

    Raises:
        InvalidRequestError: An argument can't be right; ``.field`` is its name, or that of the environment variable.
    """

    @sealed
    def __init__(
        self,
        appkey: str | None = None,
        appsecret: str | None = None,
        *,
        base_url: str | None = None,
        cloud_base_url: str | None = None,
        timeout: float | None = 10.0,
        deadline: float | None = 60.0,
        max_connections: int = 100,
        retry: RetryPolicy | None = None,
        http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
        transport: httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport | Literal["aiohttp"] | None = None,
        allow_http: bool = False,
        trust_env: bool = True,
    ) -> None:
        self._credentials = Credentials(
            _value_or_env("appkey", appkey, "GATEPAY_APPKEY"),
            _value_or_env("appsecret", appsecret, "GATEPAY_APPSECRET"),
        )
        self._base_url = _url_or_env("base_url", base_url, BASE_URL, allow_http)
        cloud_base_url = _url_or_env("cloud_base_url", cloud_base_url, CLOUD_BASE_URL, allow_http)
        checks.check("timeout", timeout, checks.seconds)
        checks.check("deadline", deadline, checks.seconds)
        checks.check("max_connections", max_connections, checks.positive)
        if http_client is not None and transport is not None:
            raise InvalidRequestError(field="transport", problem=Problem("client_and_transport"))
        _check_kind("http_client", http_client, *classes("AsyncClient"))
        _check_kind("transport", None if transport == "aiohttp" else transport, *classes("AsyncBaseTransport"))
        _check_kind("retry", retry, RetryPolicy)
        self._deadline = math.inf if deadline is None else deadline
        self._timeout = math.inf if timeout is None else timeout
        self._max_connections = max_connections
        self._policy = retry or RetryPolicy()
        self._budget = RetryBudget(self._policy.budget)
        self._attempts, self._cloud_attempts = (
            Attempts(
                url,
                timeout=self._timeout,
                open_exchange=partial(
                    open_exchange,
                    url,
                    max_connections=max_connections,
                    http_client=http_client,
                    transport=transport,
                    trust_env=trust_env,
                    page_timeout=timeout,
                ),
            )
            for url in (self._base_url, cloud_base_url)
        )
        self._loop: object = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<AsyncGatePay {self._credentials.appkey!r} at {self._base_url}>"

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise _misuse_error(Problem("opened_twice"))
        self._loop = current_loop()
        await self._attempts.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        try:
            await self._attempts.aclose()
        finally:
            await self._cloud_attempts.aclose()

    @property
    def http(self) -> httpx.AsyncClient:
        """
        An httpx client for other requests, such as a payment page; open as long as this one.

        Requests to the origin of ``base_url`` share this client's connections. For other origins, it uses httpx's,
        with the same proxy and certificates. Nothing is signed or retried, and errors are httpx's. The ``timeout``
        is this client's; ``deadline`` doesn't apply. Redirects are followed only if you ask for it. If you have
        passed ``http_client``, you get that; with ``transport``, a client over that (httpx2's if it is httpx2's).

        Raises:
            InvalidRequestError: This client is not open.
        """
        self._check_open()
        return self._attempts.http()

    @property
    def longest_call(self) -> float:
        """Seconds that a call takes at most, waits and retries included; infinite with neither timeout nor deadline."""
        attempts = self._policy.attempts
        wait = max(self._policy.longest_wait, self._policy.longest_retry_after)
        return min(self._deadline, self._timeout * attempts + wait * (attempts - 1))

    async def create_payment(
        self, *, product_id: int, product_num: int, pay_type: PayType | str, out_order_id: str, custom: str
    ) -> Payment:
        """
        Make an order for a customer to pay (支付接口, ``pay/create``).

        Never sent again once a byte of it has left: GatePay's API has no idempotency key, so that a second
        call may be a second order.

        Args:
            product_id: One of ``list_products()``.
            product_num: How many; 1 with WeChat.
            pay_type: ``PayType`` or its text.
            out_order_id: Your number of the order, a new one for each. Let it neither begin nor end in a digit
                (``T-1001-X``): the signature of the callback lets digits slide between neighbouring fields.
            custom: Comes back as the callback's ``extend``: the customer's number or address, for example.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            PayCreate(
                product_id=product_id,
                out_order_id=out_order_id,
                pay_type=pay_type,
                product_num=product_num,
                custom=custom,
            )
        )

    async def create_anypay(
        self,
        *,
        price: Decimal | str,
        pay_type: PayType | str,
        out_order_id: str,
        custom: str,
        notify_url: str | None = None,
        return_url: str | None = None,
    ) -> PaymentLink:
        """
        Make an order of any amount (任意金额支付接口, ``anypay/create``). GatePay needs no product for it.

        Like ``create_payment`` it is never sent again once a byte of it has left.

        Args:
            price: In yuan, above 0, with at most two decimals; no float.
            pay_type: ``alipay`` or ``wechat``.
            out_order_id: Your number of the order, as for ``create_payment``.
            custom: Comes back as the callback's ``extend``.
            notify_url: Where GatePay sends the callback of this order. Whether it calls the URL of its console as well
                isn't known, so handle each ``order_id`` once. Not signed.
            return_url: Where the customer's browser goes after the payment. Not signed.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            AnypayCreate(
                price=price,
                pay_type=pay_type,
                out_order_id=out_order_id,
                custom=custom,
                notify_url=notify_url,
                return_url=return_url,
            )
        )

    async def create_stablepay(
        self,
        *,
        product_id: int,
        pay_type: PayType | str,
        out_order_id: str,
        custom: str,
        notify_url: str | None = None,
        return_url: str | None = None,
    ) -> PaymentLink:
        """
        Make an order of one piece of one product (固定商品支付接口, ``stablepay/create``).

        Args:
            product_id: One of ``list_products()``.
            pay_type: As for ``create_anypay``, like the rest.
            out_order_id: Likewise.
            custom: Likewise.
            notify_url: Likewise.
            return_url: Likewise.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            StablepayCreate(
                product_id=product_id,
                pay_type=pay_type,
                out_order_id=out_order_id,
                custom=custom,
                notify_url=notify_url,
                return_url=return_url,
            )
        )

    async def create_grouppay(
        self,
        *,
        items: Mapping[int, int] | Iterable[tuple[int, int]],
        pay_type: PayType | str,
        out_order_id: str,
        custom: str,
        notify_url: str | None = None,
        return_url: str | None = None,
    ) -> PaymentLink:
        """
        Make an order of several products (组合商品支付接口, ``grouppay/create``).

        Args:
            items: How many of each product: ``{8: 2, 7: 3}``, or pairs. At most 100 products, none twice.
            pay_type: As for ``create_anypay``, like the rest.
            out_order_id: Likewise.
            custom: Likewise.
            notify_url: Likewise.
            return_url: Likewise.

        Raises:
            OutcomeUnknownError: The order may have been made, or not; ``settle(error)`` asks.
        """
        return await self.send(
            GrouppayCreate(
                items=items,
                pay_type=pay_type,
                out_order_id=out_order_id,
                custom=custom,
                notify_url=notify_url,
                return_url=return_url,
            )
        )

    async def create_cloudpay(
        self, *, price: Decimal | str, pay_type: PayType | str, out_order_id: str, custom: str
    ) -> PaymentLink:
        """
        Make an order of any amount at GatePay's cloud (云端支付接口, ``cloudpay/create`` at ``cloud_base_url``).

        Args:
            price: As for ``create_anypay``, like the rest.
            pay_type: Likewise. One of GatePay's pages says that only ``alipay`` works here.
            out_order_id: Likewise.
            custom: Likewise.

        Raises:
            OutcomeUnknownError: The order may have been made, or not. GatePay does not say whether ``check_order``
                finds orders of its cloud.
        """
        return await self.send(CloudpayCreate(price=price, pay_type=pay_type, out_order_id=out_order_id, custom=custom))

    async def check_order(self, out_order_id: str) -> OrderStatus:
        """
        Ask what became of an order (付款结果查询接口, ``order/check``). Retried as often as the client retries.

        The way out of an ``OutcomeUnknownError``: an order that is found was made. One that isn't found may still
        exist: GatePay does not say whether it finds the orders of ``create_payment`` and ``create_cloudpay``.

        It is no proof of payment: of ``order_status`` GatePay documents one word only, ``expired``. Deliver because of
        a callback.

        Args:
            out_order_id: Your number of the order. Which of two orders with the same number is found isn't known.

        Raises:
            OrderNotFoundError: GatePay finds no such order.
        """
        return await self.send(OrderCheck(out_order_id))

    @_sealed_async
    async def settle(self, error: OutcomeUnknownError) -> OrderStatus | None:
        """
        Find out what became of an order whose answer was lost: asks ``check_order`` five times, over 15 seconds.

        An order that is found was made: give the customer its link, or let it expire; don't make it again.

        None means that GatePay finds no such order. It does not prove that there is none:

        - After ``create_payment`` and ``create_cloudpay`` it proves nothing. GatePay does not say whether
          ``order/check`` finds their orders.
        - After the others the order was probably not made, but the request may still be on its way.

        So look in GatePay's console, or make another order with a new ``out_order_id``, never with the same one.

        Args:
            error: What a ``create_…`` method has raised.

        Raises:
            TransportError: GatePay was not reached in the end; ask again later.
            ProtocolError: Likewise.
        """
        _check_kind("error", error, OutcomeUnknownError)
        failure: TransportError | ProtocolError | None = None
        for wait in _SETTLE_WAITS:
            await anyio.sleep(wait)
            try:
                return await self.check_order(error.out_order_id)
            except OrderNotFoundError:
                failure = None
            except (TransportError, ProtocolError) as unanswered:
                failure = unanswered
        if failure is not None:
            raise failure
        return None

    async def list_products(self) -> Catalog:
        """What the shop sells, with prices and stock (产品接口, ``product/show``)."""
        return await self.send(ProductShow())

    def list_card_keys(
        self, product_id: int, *, page: int = 1, prefetch: int = 1, thorough: bool = False
    ) -> CardKeyListing:
        """
        A product's card keys (卡密接口, ``ka/show``): awaited, one page; iterated, all from that page on.

        A walk gives every key that was there all along, once, also when others are deleted or added meanwhile. What
        it can't see is a deletion that an addition at the same moment hides from the reply's ``total``, unless it
        is ``thorough``.

        Args:
            product_id: One of ``list_products()``.
            page: From 1.
            prefetch: Pages fetched concurrently, and held in memory; their keys come in order. The first of them (8 at
                most) are asked for before it is known how many there are.
            thorough: Also find a deletion that ``total`` does not show. Costs about one call in seven more, and memory
                for up to three blocks of 8 pages, or of ``prefetch`` if that is more.

        Raises:
            InvalidRequestError: At once; everything else when it is awaited or iterated.
        """
        return CardKeyListing(self.send, KaShow(product_id, page), prefetch=prefetch, thorough=thorough)

    @_sealed_async
    async def create_card_keys(self, product_id: int, keys: list[str] | tuple[str, ...]) -> Stored:
        """
        Store 1 to 500 card keys in one call (卡密接口, ``ka/create``); ``upload_card_keys`` takes any number.

        The server keeps one copy of each: keys that it has are passed over, and a call that broke off is
        sent again.

        Args:
            product_id: One of ``list_products()``.
            keys: Each one line, none twice; sent exactly as they are.

        Raises:
            AlreadyStoredError: All of them were there already.
        """
        call = KaCreate(product_id, keys)
        try:
            return (await self._send_card_keys(call)).value
        except AlreadyStoredError as error:
            if not error.in_doubt:
                raise
            # An attempt before this one broke off; this one has found its keys, or keys that were there before.
            return Stored(None, error.message)

    @_sealed_async
    async def upload_card_keys(
        self,
        product_id: int,
        keys: Lines,
        *,
        concurrency: int | Literal["auto"] = 4,
        on_progress: OnProgress | None = None,
    ) -> UploadReport:
        """
        Upload any number of card keys: cleaned, deduplicated over the whole input, 500 a call, side by side.

        Each line is stripped of blanks and invisible characters (a byte-order mark, for example) at both ends; blank
        lines and repetitions are counted and left out. What is refused is an outcome in the report, not an exception: a
        line that can't be a card key, and a card key that GatePay can't store, which is found by halving its chunk. A
        refusal that every chunk would meet (wrong key, closed endpoint) ends the upload. While nobody answers, what is
        in flight waits and is sent again; 20 seconds without a success (5 at the start) end the upload. Uploading the
        same input again is always safe.

        Reading waits for sending: memory holds the chunks in flight and what deduplication needs, which is bounded.
        Past a million different card keys it goes on in a private temporary file of keyed digests, in which nothing
        can be read and which is gone however the process ends. From then on up to 2,000 lines are read ahead; those
        being looked up when the upload is cancelled, or the file fails, count as not sent.

        Args:
            product_id: One of ``list_products()``.
            keys: Any iterable or asynchronous iterable of text or UTF-8 bytes, or an open text or binary file
                (read in a worker thread).
            concurrency: Calls in flight at once. ``"auto"``: begins with 4, sends more while that makes the upload
                faster, up to ``max_connections``, and fewer when GatePay slows down or answers 429 or 503.
            on_progress: Called with an ``UploadProgress`` after each chunk and at the end, never two at a time;
                plain or async. The upload waits for it.

        Returns:
            The ledger: every line read is in exactly one column.

        Raises:
            InvalidRequestError: *keys* is no such thing, or a text file is in another encoding than it was opened with.
            sqlite3.Error: The temporary file can't be written (a full disk).
            GatePayError: Something awaited in *keys* or *on_progress* was cancelled, but not the upload.
            BaseException: What *keys* or *on_progress* raised, once nothing is in flight any more; or a
                cancellation. Each has the ledger so far as ``.report``.
        """
        send = partial(self._send_card_keys, resent_within=_RESENT_WITHIN)
        places: int | AutoPlaces
        if concurrency == "auto":
            places = AutoPlaces(self._max_connections)
            send = partial(send, observer=places.observe)
        else:
            places = concurrency
        return await upload(send, product_id, keys, concurrency=places, on_progress=on_progress)

    @sealed
    def parse_callback(self, query: str | bytes) -> Callback:
        """
        Believe a callback, or raise; no I/O. See ``gatepay_async.parse_callback``.

        With this client's one secret, which is the one that it signs with; while you change yours, give
        ``gatepay_async.parse_callback`` the old one, too.
        """
        return callback.verify_callback(query, self._credentials)

    @sealed
    def parse_return(self, query: str | bytes) -> PaymentReturn:
        """
        Verify the query that a customer's browser came back with, or raise; no I/O.

        **It is never a proof of payment.** Anyone can come back with the same query again, and digits can be moved
        between ``product_id``, ``order_id`` and ``out_order_id`` without breaking the signature. Use it to show a page;
        deliver because of a callback only.

        Args:
            query: The raw query string, as received. A leading ``?`` is ignored.

        Raises:
            MalformedCallbackError: A field is missing, comes twice or has not its exact form.
            CallbackSignatureError: It was not signed with this client's secret.
        """
        return payment_return.verify_return(query, self._credentials)

    @sealed
    def quick_pay_url(
        self,
        token: str,
        *,
        price: Decimal | str | None = None,
        custom: str | None = None,
        stable: bool = False,
        skin: Literal[0, 1] | None = None,
    ) -> str:
        """
        A link to GatePay's quick-pay page (快捷收款, ``pay/any``), where a customer pays any amount; no I/O.

        **The link is not signed.** Whoever has it can change the price in it, so compare what the callback says was
        paid with what you want. ``stable`` keeps the page from offering a change, not the link from being changed.

        Args:
            token: From GatePay's console.
            price: In yuan, above 0; the customer decides where there is none.
            custom: Comes back as the callback's ``extend``.
            stable: The customer can't change on the page what the link gives.
            skin: Which of GatePay's two pages: 0 or 1.

        Raises:
            InvalidRequestError: An argument can't be right.
        """
        appkey = self._credentials.appkey
        return quick_pay.quick_pay_url(
            self._base_url, appkey, token, price=price, custom=custom, stable=stable, skin=skin
        )

    async def send(self, call: Call[T]) -> T:
        """
        Send *call*, again where that is safe, and read the reply. All methods above end here.

        Args:
            call: One of ``gatepay_async.protocol.calls`` or ``gatepay_async.protocol.payment_calls``.
        """
        return (await self._send_until_answered(call, partial(decode, call))).value

    @_sealed_async
    async def send_raw(
        self,
        path: str,
        fields: Mapping[str, str] | None = None,
        *,
        signed: Sequence[str] = (),
        repeatable: bool = False,
    ) -> RawReply:
        """
        Send a call to an endpoint that this SDK doesn't know.

        The call is signed as GatePay signs: the appkey, then the fields that *signed* names, in that order.
        Retries, deadline and errors are those of every other call. An error shows no field and nothing of the reply.

        Args:
            path: Below ``base_url``: ``"some/path"``, for example.
            fields: Text by name, sent in this order. The client adds ``appkey`` and ``sign``.
            signed: The names of the fields to sign, in the order that GatePay's page gives.
            repeatable: Pass True only if a call that is carried out twice does no harm. Otherwise the client sends
                the call again only while no byte of it has left.

        Raises:
            RefusedError: The reply has a ``code`` other than 100. What the number means is unknown, so the error
                has the class and the remedy of an unlisted code; a known endpoint keeps its own.
            OutcomeUnknownError: The call is not repeatable, and it may have been carried out, or not.
        """
        call = RawCall(path, {} if fields is None else fields, signed, repeatable)
        return (await self._send_until_answered(call, partial(decode_raw, call))).value

    async def _send_card_keys(
        self, call: KaCreate, *, resent_within: float = math.inf, observer: Observer | None = None
    ) -> Sent[Stored]:
        read = partial(decode, call)
        return await self._send_until_answered(call, read, resent_within=resent_within, observer=observer)

    @_sealed_async
    async def _send_until_answered(
        self,
        call: Outgoing,
        read: Callable[[Reply], T],
        *,
        resent_within: float = math.inf,
        observer: Observer | None = None,
    ) -> Sent[T]:
        """
        Send *call* until *read* can read its reply; not again once *resent_within* seconds have passed.

        *observer* is told of each attempt.
        """
        form = encode(call, self._credentials)
        attempt = 0
        in_doubt = False  # an attempt broke off, and may have been carried out
        self._check_open()
        attempts = await self._open_cloud() if call.on_cloud else self._attempts
        began = self._attempts.now()
        ends = began + self._deadline
        while True:
            attempt += 1
            try:
                reply = attempts.make(call, form, ends=ends)
                value = read(await reply) if observer is None else await _observed(observer(call, attempt), reply, read)
            except (RefusedError, ProtocolError, TransportError, ForeignError) as error:
                failure = error
            else:
                self._budget.refund()
                return Sent(value, attempt)
            if isinstance(failure, ForeignError):
                _raise_foreign(call, failure, attempt=attempt, in_doubt=in_doubt)
            now = self._attempts.now()
            wait = None if now - began > resent_within else self._wait_after(call, failure, attempt, left=ends - now)
            if wait is None:
                _raise(call, failure, attempt=attempt, in_doubt=in_doubt)
            await anyio.sleep(wait)
            if self._closed:
                _raise(call, failure, attempt=attempt, in_doubt=in_doubt)
            # Whoever sent a reply that is not GatePay's may have sent it in the place of one that is.
            in_doubt = in_doubt or isinstance(failure, ProtocolError) or _maybe_done(failure)

    def _wait_after(
        self, call: Outgoing, failure: RefusedError | ProtocolError | TransportError, attempt: int, *, left: float
    ) -> float | None:
        """Seconds until *call* is sent again, or None: it isn't."""
        if self._closed:
            return None
        if not call.repeatable and not (isinstance(failure, TransportError) and not failure.sent):
            return None
        jitter = random.random()  # noqa: S311 -- spreads callers, guards nothing
        wait = wait_after(failure, attempt=attempt, policy=self._policy, jitter=jitter, left=left)
        return wait if wait is not None and self._budget.try_spend() else None

    async def _open_cloud(self) -> Attempts:
        """The attempts at the cloud, opened when they are first needed: most shops have nothing there."""
        await self._cloud_attempts.open()
        if self._closed:
            await self._cloud_attempts.aclose()
        self._check_open()
        return self._cloud_attempts

    def _check_open(self) -> None:
        if self._loop is None:
            raise _misuse_error(Problem("not_open"))
        if self._closed:
            raise _misuse_error(Problem("closed"))
        if self._loop != current_loop():
            raise _misuse_error(Problem("other_event_loop"))


async def _observed(ended: Ended, reply: Awaitable[Reply], read: Callable[[Reply], T]) -> T:
    """What *read* makes of *reply*; *ended* is told."""
    try:
        value = read(await reply)
    except BaseException as error:
        ended(error)
        raise
    ended(None)
    return value


def _raise(
    call: Outgoing, failure: RefusedError | ProtocolError | TransportError, *, attempt: int, in_doubt: bool
) -> NoReturn:
    """Raise *failure*, with what is known of all the attempts."""
    failure.attempts = attempt
    if isinstance(failure, RefusedError):
        failure.in_doubt = in_doubt
    if isinstance(failure, TransportError):
        failure.sent = failure.sent or in_doubt
    if call.repeatable or not _maybe_done(failure):
        raise failure
    raise _outcome_unknown_error(call, attempt) from failure


def _raise_foreign(call: Outgoing, failure: ForeignError, *, attempt: int, in_doubt: bool) -> NoReturn:
    """Raise what a hook or a transport of the user's has raised; never another attempt: it is no network error."""
    error, sent = failure.error, failure.sent or in_doubt
    left = "the request may have arrived" if sent else "no byte of the request has left"
    error.add_note(f"gatepay-async: raised by your httpx client or transport during {call.path}; {left}")
    if sent and not call.repeatable:
        raise _outcome_unknown_error(call, attempt) from error
    if isinstance(error, GatePayError):  # of another call, within a hook; as ours it would say something else
        problem = Problem("foreign_error", kind=type(error).__name__)
        raise TransportError(endpoint=call.path, sent=sent, problem=problem, attempts=attempt) from error
    raise error


def _outcome_unknown_error(call: Outgoing, attempts: int) -> OutcomeUnknownError:
    # A raw call's fields may all be secrets.
    out_order_id = "" if isinstance(call, RawCall) else call.fields()["out_order_id"]
    return OutcomeUnknownError(endpoint=call.path, out_order_id=out_order_id, attempts=attempts)


def _maybe_done(failure: RefusedError | ProtocolError | TransportError) -> bool:
    """Whether the attempt that ended so may have been carried out."""
    if isinstance(failure, ProtocolError):
        return failure.may_have_been_done
    return isinstance(failure, TransportError) and failure.sent


def _value_or_env(name: str, value: str | None, variable: str) -> str:
    if value is not None:
        return value
    value = os.environ.get(variable)
    if value is None:
        raise InvalidRequestError(field=name, problem=Problem("not_set", variable=variable))
    checks.check(variable, checks.cleaned(value), checks.token)
    return value


def _url_or_env(name: str, url: str | None, default: str, allow_http: bool) -> str:  # noqa: FBT001 -- private
    # An empty one that was passed is somebody's missing setting, and must not become the real shop.
    if url is not None:
        return _check_url(name, url, allow_http)
    variable = f"GATEPAY_{name.upper()}"
    return _check_url(variable, os.environ.get(variable) or default, allow_http)


def _check_url(name: str, base_url: str, allow_http: bool) -> str:  # noqa: FBT001 -- private
    """*base_url* with a slash at its end."""
    problem = Problem("not_base_url")
    try:
        url = parse_url(invisible.strip(base_url))
    except BadUrlError as error:
        if base_url:
            problem = Problem("not_base_url_because", reason=error.problem)
    except (TypeError, AttributeError):  # no text
        pass
    else:
        unfit = _url_problem(url, allow_http)
        if unfit is None:
            return str(url).rstrip("/") + "/"
        problem = unfit
    raise InvalidRequestError(field=name, problem=problem)


def _url_problem(url: httpx.URL, allow_http: bool) -> Problem | None:  # noqa: FBT001 -- private
    if url.userinfo or url.query or url.fragment:
        return Problem("url_with_extras")
    if url.scheme == "http" and not allow_http and not is_loopback(url.host):
        return Problem("not_https")
    return None


def _check_kind(name: str, value: object, *kinds: type) -> None:
    if value is not None and not isinstance(value, kinds):
        problem = Problem("wrong_type", wanted=kinds[0].__name__, kind=type(value).__name__)
        raise InvalidRequestError(field=name, problem=problem)


def _misuse_error(problem: Problem) -> InvalidRequestError:
    return InvalidRequestError(field="client", problem=Problem("with_example", problem=problem, example=_HOW_TO))
