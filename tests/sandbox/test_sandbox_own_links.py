"""Links on the sandbox's pages never lead to another host."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]


def test_links_stay_local_for_paths_that_look_like_hosts(
    sandbox: Sandbox, connect_to: Callable[[Sandbox], Any]
) -> None:
    """On a page requested with a path like ``//evil.example/``, no link leads to that host."""
    caller = connect_to(sandbox)
    for path in ("//evil.example/", "///evil.example", "/\\evil.example", "//evil.example/console"):
        page = caller.client.get(str(caller.client.base_url).removesuffix("/api/") + path).text
        links = re.findall(r'(?:href|action|src)="([^"]*)"', page)
        assert links, path
        assert not [link for link in links if re.match(r"[/\\]{2}|\w+://", link)], (path, links)
