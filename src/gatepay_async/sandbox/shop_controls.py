"""The methods of ``Sandbox`` for shops and card keys."""

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from os import PathLike
from sqlite3 import Connection
from types import EllipsisType
from typing import Any

from attrs import evolve

from gatepay_async.sandbox import callback_urls, card_keys, shops
from gatepay_async.sandbox.api_service import Paging
from gatepay_async.sandbox.arguments import check_amount, list_texts, list_wholes
from gatepay_async.sandbox.database import SandboxDatabase
from gatepay_async.sandbox.later_endpoints import PAY_TYPES
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.shops import ShopAccount, ShopState
from gatepay_async.words.arguments import (
    check_aware,
    check_bool,
    check_callable,
    check_choice,
    check_instance,
    check_str,
    check_text,
    check_whole,
)

__all__ = ["ShopControls"]


class ShopControls:
    """The methods for shops and card keys, as a base class of :class:`~gatepay_async.sandbox.Sandbox`."""

    def __init__(
        self,
        database: str | PathLike[str],
        options: Options,
        *,
        seed: bool,
        callback_url: str | None,
        clock: Callable[[], float],
    ) -> None:
        check_instance("database", database, str, PathLike)
        path = os.fspath(database)
        check_text("database", path)
        check_bool("seed", seed)
        check_callable("clock", clock)
        self._options = options
        self._check_callback_url(callback_url)
        self._clock = clock
        self._database = SandboxDatabase(path, with_card_keys=seed, now=int(clock()))
        with self._database.transaction() as connection:
            self._accounts = shops.accounts(connection)
        self._paging = Paging(card_keys.PER_PAGE)
        if callback_url is not None:
            self.change_shop(callback_url=callback_url)

    # -- shops -------------------------------------------------------------------------------------------

    @property
    def appkey(self) -> str:
        """Shop one's public key."""
        return self._accounts[0].credentials.appkey

    @property
    def appsecret(self) -> str:
        """Shop one's secret."""
        return self._accounts[0].credentials.appsecret

    @property
    def shops(self) -> list[ShopAccount]:
        """Both shops' ``(appkey, appsecret)``, shop one first."""
        return [account.credentials for account in self._accounts]

    def _admin_id(self, appkey: str | None) -> int:
        """Return the admin id of a shop (None: of shop one)."""
        appkey = self.appkey if appkey is None else appkey
        check_str("appkey", appkey)
        for account in self._accounts:
            if account.credentials.appkey == appkey:
                return account.admin_id
        raise LookupError(f"no shop has the appkey {appkey!r}")

    def shop(self, appkey: str | None = None) -> ShopState | None:
        """
        Return the state of a shop (None: of shop one), or None if it was removed.

        Raises:
            LookupError: No shop has that appkey.
        """
        with self._database.transaction() as connection:
            return shops.find_shop(connection, self._admin_id(appkey))

    def change_shop(
        self,
        appkey: str | None = None,
        *,
        closed: bool | EllipsisType = ...,
        quota: Decimal | EllipsisType | None = ...,
        licence_until: datetime | EllipsisType | None = ...,
        callback_url: str | EllipsisType | None = ...,
        return_url: str | EllipsisType | None = ...,
        expired_url: str | EllipsisType | None = ...,
        token: str | EllipsisType | None = ...,
        closed_pay_types: Iterable[str] | EllipsisType = ...,
        agent: bool | EllipsisType = ...,
    ) -> ShopState:
        """
        Change the settings that you pass, and keep the others. A removed shop is created again, with its defaults.

        Args:
            appkey: The shop; None: shop one.
            closed: Whether ``ka/show``, ``ka/create`` and the later endpoints return 107.
            quota: The limit for the orders of one day, in yuan. Beyond it, ``pay/create`` returns 111, and the later
                endpoints 110. None: no limit.
            licence_until: A time with a time zone. From then on, ``pay/create`` returns 112, and the later endpoints
                103. None: never.
            callback_url: The callback URL, which may have parameters of your own; None: no callbacks.
            return_url: Where the customer's browser goes after the shop has answered ``success``; None: nowhere.
            expired_url: Where the customer's browser goes after the order has expired; None: nowhere.
            token: The token of the quick-pay link; None: the shop has no quick-pay page.
            closed_pay_types: Which of ``wechat`` and ``alipay`` the later endpoints refuse.
            agent: Whether ``cloudpay/create`` is allowed; False: it returns 209.

        Returns:
            The new state.

        Raises:
            CallbackUrlError: A URL is invalid, or the callback URL leads to another machine.
            LookupError: No shop has that appkey.
            InvalidArgumentError: Another argument is invalid.
        """
        # The default of each setting is `...`, because None is a value of some of them.
        arguments = {
            "closed": closed,
            "quota": quota,
            "licence_until": licence_until,
            "callback_url": callback_url,
            "return_url": return_url,
            "expired_url": expired_url,
            "token": token,
            "closed_pay_types": closed_pay_types,
            "agent": agent,
        }
        changes: dict[str, Any] = {name: value for name, value in arguments.items() if value is not ...}
        for name, value in changes.items():
            self._check_setting(name, value)
        if "closed_pay_types" in changes:
            changes["closed_pay_types"] = _checked_pay_types(changes["closed_pay_types"])
        admin_id = self._admin_id(appkey)
        default_state = ShopState(admin_id=admin_id, closed=False, quota=None, licence_until=None)
        with self._database.transaction() as connection:
            state = evolve(shops.find_shop(connection, admin_id) or default_state, **changes)
            shops.write_shop(connection, state)
        return state

    def _check_setting(self, name: str, value: Any) -> None:
        """Check an argument of ``change_shop``."""
        if name in ("closed", "agent"):
            check_bool(name, value)
        elif name == "closed_pay_types" or value is None:
            return
        elif name == "quota":
            check_amount(name, value, least=Decimal(0))
        elif name == "licence_until":
            check_instance(name, value, datetime)
            check_aware(name, value)
        elif name == "token":
            check_text(name, value)
        elif name == "callback_url":
            self._check_callback_url(value)
        else:
            callback_urls.check_return(value, name=name)

    def _check_callback_url(self, url: str | None) -> None:
        if url is not None:
            callback_urls.check(url, beyond_loopback=self._options.callbacks_beyond_loopback)

    def remove_shop(self, appkey: str | None = None) -> None:
        """
        Remove a shop (None: shop one). Its appkey stays valid: ``pay/create`` returns 107, and ``ka/…`` 104.

        Raises:
            LookupError: No shop has that appkey.
        """
        with self._database.transaction() as connection:
            shops.remove_shop(connection, self._admin_id(appkey))

    # -- card keys ---------------------------------------------------------------------------------------

    def keys(self, product_id: int) -> list[str]:
        """
        Return all card keys of a product, ordered by id.

        Raises:
            LookupError: There is no such product. The other methods for card keys raise it, too.
        """
        with self._open_product(product_id) as connection:
            return card_keys.contents(connection, product_id)

    def key_ids(self, product_id: int) -> list[int]:
        """Return the ids of all card keys of a product, ascending: in the same order as :meth:`keys`."""
        with self._open_product(product_id) as connection:
            return card_keys.ids(connection, product_id)

    def add_keys(self, product_id: int, keys: Iterable[str]) -> None:
        """
        Store *keys* unchanged, all or none.

        Raises:
            sqlite3.IntegrityError: A key is longer than 255 characters, or stored already.
        """
        new_keys = list_texts("keys", keys)
        with self._open_product(product_id) as connection:
            card_keys.add(connection, product_id, new_keys, now=int(self._clock()))

    def delete_keys(self, product_id: int, ids: Iterable[int]) -> int:
        """Delete the product's keys with these ids. Return how many were deleted."""
        key_ids = list_wholes("ids", ids)
        with self._open_product(product_id) as connection:
            return card_keys.delete(connection, product_id, key_ids)

    def restore_keys(self, product_id: int, keys: Mapping[int, str]) -> None:
        """
        Store deleted keys under their former ids, as when a backup is restored; all or none.

        Args:
            product_id: The product.
            keys: The keys by id.

        Raises:
            sqlite3.IntegrityError: An id or a key is stored already.
        """
        check_instance("keys", keys, Mapping)
        list_wholes("keys", keys)
        list_texts("keys", keys.values())
        with self._open_product(product_id) as connection:
            card_keys.restore(connection, product_id, keys, now=int(self._clock()))

    @contextmanager
    def _open_product(self, product_id: int) -> Generator[Connection, None, None]:
        """Check that the product exists, and run a transaction."""
        check_whole("product_id", product_id, 1)
        with self._database.transaction() as connection:
            if not shops.has_product(connection, product_id):
                raise LookupError(f"no shop has the product {product_id}")
            yield connection

    def set_per_page(self, per_page: int) -> None:
        """
        Set the page size of ``ka/show``, which is 50 at first.

        Raises:
            InvalidArgumentError: *per_page* is no whole number from 1.
        """
        check_whole("per_page", per_page, 1)
        self._paging.per_page = per_page


def _checked_pay_types(closed: Iterable[str]) -> frozenset[str]:
    """Return the argument ``closed_pay_types`` as a set. Raise if it has an unknown payment type."""
    names = list_texts("closed_pay_types", closed)
    for name in names:
        check_choice("closed_pay_types", name, PAY_TYPES)
    return frozenset(names)
