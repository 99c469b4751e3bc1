"""A page of the sandbox links to itself, whatever path it was asked for."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.uncounted]


def test_a_path_that_looks_like_a_host(sandbox: Sandbox, visit: Callable[[Sandbox], Any]) -> None:
    """No link of a page that was asked for as ``//evil.example/`` leads to that host."""
    caller = visit(sandbox)
    for path in ("//evil.example/", "///evil.example", "/\\evil.example", "//evil.example/console"):
        page = caller.client.get(str(caller.client.base_url).removesuffix("/api/") + path).text
        links = re.findall(r'(?:href|action|src)="([^"]*)"', page)
        assert links, path
        assert not [link for link in links if re.match(r"[/\\]{2}|\w+://", link)], (path, links)
