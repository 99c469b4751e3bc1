"""A browser for the whole session; a shop, and a window onto it, for each test."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser.stage import Stage, chromium, stage
from playwright.sync_api import Browser, BrowserContext, Page

from gatepay_async.sandbox import Sandbox


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium() as it:
        yield it


@pytest.fixture
def shop() -> Iterator[Stage]:
    """A shop with nothing ordered yet."""
    with Sandbox(callback_interval=0) as sandbox, stage(sandbox) as it:
        yield it


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Open a window of any kind; whatever its pages complain of, or ask of other machines, fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda request: complaints.append(request.url) if is_away(request.url) else None)

    def opened(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(20_000)
        context.on("page", watch)
        contexts.append(context)
        return context

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def is_away(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme != "data" and parts.hostname != "127.0.0.1"
