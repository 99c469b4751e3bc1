"""Wrong arguments of the sandbox, the pool and the callbacks raise one kind of error, which names the argument."""

import copy
import inspect
import math
import pickle
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tables import rows

from gatepay_async import InvalidArgumentError, InvalidRequestError, callbacks, pool, sandbox
from gatepay_async.callbacks import CallbackApp, MemoryStore, RedisStore, SQLiteStore
from gatepay_async.pool import OriginPool
from gatepay_async.sandbox import CallbackUrlError, Fault, FaultKind, Options, Sandbox
from gatepay_async.words.problem import Problem

pytestmark = pytest.mark.fast

ALL_INTERFACES = "0.0.0.0"  # noqa: S104 -- what must be refused
HUGE = 10**5000  # too long to be printed, and too large for a float
THIS_FILE = Path(__file__)
# Wrong values for parameters of a certain type: NOT_TEXT for one that must be text, and so on.
NOT_TEXT_OR_NONE = [3, True, b"text", [], object()]
NOT_TEXT = [None, *NOT_TEXT_OR_NONE]
NOT_CALLABLE: list[object] = [None, 3, "time.time", []]
NOT_BOOL: list[object] = [None, 0, 1, "yes", "", []]
NOT_WHOLE = ["3", 3.0, True, math.nan, math.inf, [], Decimal(3)]
NOT_WHOLE_FROM_1 = [None, *NOT_WHOLE, 0, -1, HUGE, -HUGE]
NOT_WHOLE_FROM_0 = [*NOT_WHOLE, -1, HUGE, -HUGE]
NOT_SECONDS_FROM_0: list[object] = [
    None,
    "3",
    True,
    -1,
    math.nan,
    -math.inf,
    HUGE,
    -HUGE,
    timedelta(seconds=-1),
    [],
    Decimal(3),
]
NOT_SECONDS_ABOVE_0 = [*NOT_SECONDS_FROM_0, 0, math.inf, timedelta(0)]
NOT_SECONDS_OR_NONE = ["3", True, 0, -1, math.nan, -math.inf, HUGE, -HUGE, timedelta(0), [], Decimal(3)]
NOT_MONEY = [
    3,
    0.5,
    "0.50",
    True,
    [],
    Decimal("nan"),
    Decimal("inf"),
    Decimal("1E+5000"),
    Decimal(-1),
    Decimal("0.001"),
]
WRONG_URLS = [
    *NOT_TEXT_OR_NONE,
    "",
    "ftp://127.0.0.1/",
    "http://",
    "http://a:b@127.0.0.1/",
    "http://127.0.0.1/?sign=1",
    "http://[::1",
]
WRONG_PRODUCT_IDS = NOT_WHOLE_FROM_1
WRONG_ORDERS = [None, "1", 1.0, True, 0, -1, HUGE, [], object()]
WRONG_APPKEYS = [3, True, b"appkey", []]
WRONG_KEYS = [None, 3, "AAAA", b"AAAA", [3], [None], [""], ["A", b"B"], ["\ud800"]]


async def handler(_callback: object) -> None:
    """Do nothing."""


# Every public class and function: how to call it with valid arguments, and the wrong values of each parameter.
Table = dict[str, tuple[Callable[..., object], dict[str, Any], dict[str, list[Any]]]]


def table(shop: Sandbox) -> Table:
    app = {"handler": handler, "appkey": "k", "appsecret": "s", "store": MemoryStore()}
    return {
        "OriginPool": (
            OriginPool,
            {"origin": "http://127.0.0.1/"},
            {
                "origin": [*NOT_TEXT, "", "gatepay.io", "ftp://gatepay.io", "http://", "http://[::1", "http://a\0b/"],
                "max_connections": NOT_WHOLE_FROM_1,
                "keepalive_expiry": NOT_SECONDS_FROM_0,
                "ssl_context": [3, True, "tls", []],
                "uds": [3, True, b"socket"],
                "clock": NOT_CALLABLE,
            },
        ),
        "CallbackApp": (
            CallbackApp,
            app,
            {
                "handler": [None, 3, "handler", print],
                "appkey": [*NOT_TEXT, "", " "],
                "appsecret": [None, 3, True, b"s", "", " ", [], [""], [3], [b"s"]],
                "store": [None, 3, "store", MemoryStore],
                "max_age": NOT_SECONDS_OR_NONE,
                "lookup": [3, "lookup", print],
                "shortfall": [None, 3, 0.5, True, "x", "-1", "nan", "inf", "0.001", Decimal("nan"), Decimal(-1)],
                "on_event": [3, "on_event", []],
                "timeout": [*NOT_SECONDS_ABOVE_0, 3601],
                "clock": NOT_CALLABLE,
            },
        ),
        "MemoryStore": (MemoryStore, {}, {"keep": NOT_SECONDS_OR_NONE, "clock": NOT_CALLABLE}),
        "SQLiteStore": (
            SQLiteStore,
            {"path": THIS_FILE.with_name("callbacks.sqlite3")},
            {
                "path": [
                    *NOT_TEXT,
                    "",
                    ":memory:",
                    "a\0b",
                    THIS_FILE.parent,
                    THIS_FILE / "no folder" / "callbacks.sqlite3",
                ],
                "keep": NOT_SECONDS_OR_NONE,
                "clock": NOT_CALLABLE,
            },
        ),
        "RedisStore": (
            RedisStore,
            {"redis": "redis://127.0.0.1"},
            {"redis": [*NOT_TEXT, "", "http://127.0.0.1"], "prefix": NOT_TEXT, "keep": NOT_SECONDS_OR_NONE},
        ),
        "Fault": (
            Fault,
            {"kind": FaultKind.SLOW},
            {
                "kind": [*NOT_TEXT, "", "explode", FaultKind.CODE],  # CODE needs a code
                "endpoint": [*NOT_TEXT_OR_NONE, "", "ka/shwo"],
                "times": NOT_WHOLE_FROM_0,
                "probability": [None, "0.5", True, -0.1, 1.1, math.nan, math.inf, HUGE, []],
                "seed": [None, *NOT_WHOLE],
                "skip": [None, *NOT_WHOLE_FROM_0],
                "seconds": NOT_SECONDS_FROM_0,
                "retry_after": [None, 3.0, True, -1, HUGE, "", [], b"3", timedelta(-1)],
                "code": [None, *NOT_WHOLE_FROM_0],
            },
        ),
        "Options": (
            Options,
            {},
            {
                "past_last_page": [*NOT_TEXT, "", "explode"],
                "case_insensitive_keys": NOT_BOOL,
                "expires_after": NOT_SECONDS_OR_NONE,
                "callback_interval": NOT_SECONDS_FROM_0,
                "callback_timeout": NOT_SECONDS_ABOVE_0,
                "callbacks_beyond_loopback": NOT_BOOL,
                "callback_method": [*NOT_TEXT, "", "get", "PUT"],
                "php_floats": [*NOT_TEXT_OR_NONE, "", "16 digits"],
                "status_is_code": NOT_BOOL,
                "html_escaped": NOT_BOOL,
                "params": [*NOT_TEXT, "", "half"],
                "pay_path": [*NOT_TEXT, "", "pay/api"],
                "refuse_extra": NOT_BOOL,
                "urls_required": NOT_BOOL,
                "notify_both": NOT_BOOL,
                "cloud_alipay_only": NOT_BOOL,
                "check_finds_all": NOT_BOOL,
                "order_statuses": [None, 3, "paid", ["paid"], {"late": "x"}, {3: "x"}, {"paid": 3}, {"paid": ""}],
                "return_product_id": NOT_BOOL,
                "input_filter": NOT_BOOL,
            },
        ),
        "Sandbox": (
            Sandbox,
            {},
            {
                "database": [*NOT_TEXT, ""],
                "seed": NOT_BOOL,
                "callback_url": [*WRONG_URLS, "http://gatepay.io/"],
                "clock": NOT_CALLABLE,
            },
        ),
        "Sandbox.serve": (
            shop.serve,
            {},
            {"host": [*NOT_TEXT, "", ALL_INTERFACES, "localhost", "::1"], "port": [None, *NOT_WHOLE_FROM_0, 65536]},
        ),
        "Sandbox.fault": (shop.fault, {}, {"fault": [None, "slow", FaultKind.SLOW, {}]}),
        "Sandbox.watch": (shop.watch, {}, {"watcher": NOT_CALLABLE}),
        "Sandbox.callback_query": (
            shop.callback_query,
            {"order": 1},
            {
                "order": WRONG_ORDERS,
                "paid_at": ["now", True, 1.5, -1, HUGE, datetime(2026, 1, 1), []],  # noqa: DTZ001 -- what must be refused
                "realprice": NOT_MONEY,
            },
        ),
        "Sandbox.return_query": (shop.return_query, {}, {"order": WRONG_ORDERS}),
        "Sandbox.pay": (
            shop.pay,
            {"order": 1},
            {"order": WRONG_ORDERS, "realprice": [*NOT_MONEY, Decimal(0), Decimal("1E7")]},
        ),
        "Sandbox.expire": (shop.expire, {}, {"order": WRONG_ORDERS}),
        "Sandbox.confirm": (shop.confirm, {}, {"order": WRONG_ORDERS}),
        "Sandbox.send_again": (shop.send_again, {}, {"order": WRONG_ORDERS}),
        "Sandbox.deliveries": (shop.deliveries, {}, {"order": WRONG_ORDERS[1:]}),
        "Sandbox.wait_delivered": (shop.wait_delivered, {}, {"order": WRONG_ORDERS[1:], "timeout": NOT_SECONDS_FROM_0}),
        "Sandbox.shop": (shop.shop, {}, {"appkey": WRONG_APPKEYS}),
        "Sandbox.remove_shop": (shop.remove_shop, {}, {"appkey": WRONG_APPKEYS}),
        "Sandbox.change_shop": (
            shop.change_shop,
            {},
            {
                "appkey": WRONG_APPKEYS,
                "closed": NOT_BOOL,
                "quota": NOT_MONEY,
                "licence_until": [3, True, "2026-01-01", datetime(2026, 1, 1)],  # noqa: DTZ001 -- what must be refused
                "callback_url": [*WRONG_URLS, "http://gatepay.io/"],
                "return_url": WRONG_URLS,
                "expired_url": WRONG_URLS,
                "token": [*NOT_TEXT_OR_NONE, ""],
                "closed_pay_types": [None, 3, "alipay", ["paypal"], [None], ["alipay", ""]],
                "agent": NOT_BOOL,
            },
        ),
        "Sandbox.keys": (shop.keys, {}, {"product_id": WRONG_PRODUCT_IDS}),
        "Sandbox.key_ids": (shop.key_ids, {}, {"product_id": WRONG_PRODUCT_IDS}),
        "Sandbox.add_keys": (
            shop.add_keys,
            {"product_id": 8, "keys": []},
            {"product_id": WRONG_PRODUCT_IDS, "keys": WRONG_KEYS},
        ),
        "Sandbox.delete_keys": (
            shop.delete_keys,
            {"product_id": 8, "ids": []},
            {"product_id": WRONG_PRODUCT_IDS, "ids": [None, 3, "123", ["1"], [True], [0], [HUGE], [None]]},
        ),
        "Sandbox.restore_keys": (
            shop.restore_keys,
            {"product_id": 8, "keys": {}},
            {
                "product_id": WRONG_PRODUCT_IDS,
                "keys": [None, 3, "A", ["A"], {"1": "A"}, {0: "A"}, {1: 2}, {1: ""}, {True: "A"}],
            },
        ),
        "Sandbox.set_per_page": (shop.set_per_page, {}, {"per_page": NOT_WHOLE_FROM_1}),
    }


# Public classes that users don't create: results, errors, interfaces and enums.
NOT_CREATED_BY_USERS = {
    "CallEvent", "CallbackEvent", "CallbackReply", "CallbackUrlError", "Claim", "Delivery", "DeliveryEvent",
    "DeliveryState", "EventKind", "FaultKind", "LaterVersionError", "NoCallbackError", "Order", "OrderState",
    "PoolClosedError", "PortTakenError", "SeenRequest", "ShopAccount", "ShopState", "ShownState", "Standing", "Store",
}  # fmt: skip


# Methods that users don't call: httpx and the client call the pool's, and CallbackApp calls a store's. `receive` takes
# any request, and answers a wrong one with `fail`.
NOT_CALLED_BY_USERS = {
    *(f"OriginPool.{name}" for name in ("handle_async_request", "prepare", "post", "post_at_once", "post_in_turn")),
    *(f"{kind}Store.{name}" for kind in ("Memory", "SQLite", "Redis") for name in ("claim", "commit", "release")),
    "CallbackApp.receive",
}


@pytest.fixture(scope="module")
def shop() -> Any:
    with Sandbox() as new_sandbox:
        yield new_sandbox


def run(result: object) -> None:
    """Run a coroutine, or enter a context manager, until it waits for the first time."""
    if isinstance(result, AbstractAsyncContextManager) and not isinstance(result, OriginPool):
        result = result.__aenter__()
    if isinstance(result, Coroutine):
        try:
            result.send(None)
        finally:
            result.close()


def test_wrong_arguments_raise_one_kind_of_error(shop: Sandbox) -> None:
    """Each wrong value of each parameter raises InvalidArgumentError with the parameter's name and a problem."""
    failures, tried = [], 0
    for name, (function, valid, wrong) in table(shop).items():
        for parameter, values in wrong.items():
            for value in values:
                tried += 1
                try:
                    run(function(**{**valid, parameter: value}))
                except InvalidArgumentError as error:
                    # The kind CODE is valid, but requires the parameter `code`.
                    expected = "code" if value is FaultKind.CODE else parameter
                    # The problem "other" has no text in two languages.
                    if error.field == expected and type(error.problem) is Problem and error.problem.name != "other":
                        continue
                    failures.append(f"{name}({parameter}={type(value)}): {error.field}, {error.problem!r}")
                except Exception as error:  # noqa: BLE001 -- listed below
                    failures.append(f"{name}({parameter}={str(value)[:40]!r}): {type(error).__name__}")
                else:
                    failures.append(f"{name}({parameter}={str(value)[:40]!r}) is accepted")
    assert failures == []
    assert tried > 500


def test_the_table_has_every_public_function_and_parameter(shop: Sandbox) -> None:
    """The table has all public names of the three packages, all methods of Sandbox, and all of their parameters."""
    public_names = {*pool.__all__, *callbacks.__all__, "RedisStore", *sandbox.__all__}
    classes = {OriginPool, CallbackApp, MemoryStore, SQLiteStore, RedisStore, Fault, Options, Sandbox}
    assert {cls.__name__ for cls in classes} == public_names - NOT_CREATED_BY_USERS
    methods = {
        f"{cls.__name__}.{name}"
        for cls in classes
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and len(inspect.signature(method).parameters) > 1
    }
    assert public_names - NOT_CREATED_BY_USERS | methods - NOT_CALLED_BY_USERS == set(table(shop))
    for name, (function, _, wrong) in table(shop).items():
        parameters = inspect.signature(function).parameters.values()
        assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} == set(wrong), name


@rows("error", [
    InvalidArgumentError(field="times", problem=Problem("not_whole", kind="str")),
    InvalidRequestError(field="keep", problem=Problem("seconds_or_none")),
    CallbackUrlError(field="callback_url", problem=Problem("url_form")),
])  # fmt: skip
def test_error_survives_copying(error: InvalidArgumentError) -> None:
    """An error is a ValueError. Its pickle and its copy keep its class, field and problem."""
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 -- pickled in this test
        assert (type(copied), str(copied), copied.field) == (type(error), str(error), error.field)
        assert copied.problem.name == error.problem.name
    assert isinstance(error, ValueError)


def test_callbacks_raise_the_error_of_the_client() -> None:
    """A wrong argument in `callbacks` raises InvalidRequestError, as one of the client does."""
    with pytest.raises(InvalidRequestError, match="keep: must be a number of seconds above 0"):
        MemoryStore(keep=0)


def test_error_of_a_redis_url_does_not_quote_it() -> None:
    """The URL may hold a password, so the error has no cause and doesn't repeat it."""
    with pytest.raises(InvalidRequestError) as caught:
        RedisStore("http://user:hunter2@127.0.0.1")
    assert "hunter2" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_durations_may_be_timedeltas() -> None:
    """Each duration of the sandbox takes a timedelta, too; `expires_after=math.inf` means never."""
    options = Options(
        expires_after=timedelta(minutes=1),
        callback_interval=timedelta(seconds=2),
        callback_timeout=timedelta(seconds=3),
    )
    assert (options.expires_after, options.callback_interval, options.callback_timeout) == (60, 2, 3)
    assert Options(expires_after=math.inf).expires_after is None
    fault = Fault(FaultKind.RATE_LIMITED, seconds=timedelta(seconds=2), retry_after=timedelta(seconds=2.5))
    assert (fault.seconds, fault.retry_after) == (2, 3)


def test_unknown_product_is_a_lookup_error(shop: Sandbox) -> None:
    """A product that no shop has raises LookupError, as an unknown order and an unknown shop do."""
    calls: list[Callable[[], object]] = [
        lambda: shop.keys(9),
        lambda: shop.key_ids(9),
        lambda: shop.add_keys(9, ["A"]),
        lambda: shop.delete_keys(9, [1]),
        lambda: shop.restore_keys(9, {1: "A"}),
    ]
    for call in calls:
        with pytest.raises(LookupError, match="no shop has the product 9"):
            call()
