"""Fixtures: one browser for the session, and for each test a running shop and browser windows."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser.running_shop import RunningShop, chromium, run_shop
from playwright.sync_api import Browser, BrowserContext, Page

from gatepay_async.sandbox import Sandbox


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that is on the PATH."""
    with chromium() as started:
        yield started


@pytest.fixture
def shop() -> Iterator[RunningShop]:
    """A running shop without orders."""
    with Sandbox(callback_interval=0) as sandbox, run_shop(sandbox) as running_shop:
        yield running_shop


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """
    Return a function that opens a browser window.

    The test fails if a page has an error, violates its Content-Security-Policy or requests another host.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda message: problems.append(message.text) if "Content Security" in message.text else None
        )
        page.on("request", lambda request: problems.append(request.url) if is_remote(request.url) else None)

    def open_window(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(20_000)
        context.on("page", watch)
        contexts.append(context)
        return context

    yield open_window
    for context in contexts:
        context.close()
    assert problems == []


def is_remote(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme != "data" and parts.hostname != "127.0.0.1"
