"""Asks our pytest plugin whether a client may call a host. By default, tests may only call this machine."""

from __future__ import annotations

import sys

from gatepay_async.exchange.loopback import is_loopback
from gatepay_async.exchange.port import NotPermittedError
from gatepay_async.words.problem import Problem

_PYTEST_PLUGIN = "_gatepay_async_pytest"


def in_pytest() -> bool:
    """Whether our pytest plugin is loaded."""
    return _PYTEST_PLUGIN in sys.modules


def check_permitted(host: str) -> None:
    """
    Raise if a test may not call *host* over a client's own connections. Without the plugin, do nothing.

    Raises:
        NotPermittedError: *host* is another machine, and the test isn't allowed to call it.
    """
    plugin = sys.modules.get(_PYTEST_PLUGIN)
    if plugin is not None and not is_loopback(host) and not plugin.may_call_live():
        problem = Problem("call_in_test", host=host)
        raise NotPermittedError(problem)
