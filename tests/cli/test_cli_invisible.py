"""Invisible characters in a file of card keys: the command says in which lines."""

from pathlib import Path
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets


def test_where_invisible_characters_are(gatepay: Any, shop: Any, tmp_path: Path) -> None:
    """An upload and its rehearsal name the lines of keys that hold one, in either language, and never the keys."""
    keys = tmp_path / "keys.txt"
    keys.write_text(
        "\ufeffA\nSEC\u200bRET-1\n\u200b\nB\u2060\n" + "".join(f"SEC\u00adRET-{n}\n" for n in range(2, 24)), "utf-8"
    )
    for more in ([], ["--dry-run"]):
        run = gatepay("keys", "upload", keys, "-p", 8, *more)
        assert (run.status, f"{keys}:2 contains an invisible character" in run.out) == (0, True)
        assert f"{keys}:4 " not in run.out
        assert "… and 3 more" in run.out
        assert "RET" not in run.out
        assert "含有不可见字符" in gatepay("--lang", "zh", "keys", "upload", keys, "-p", 8, *more).out
        listed = gatepay("keys", "upload", keys, "-p", 8, *more, "--json").json["invisible_lines"]
        assert listed == [f"{keys}:{line}" for line in (2, *range(5, 27))]


def test_line_ends_that_are_none(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Unicode's other line ends, and spaces that look like a plain one, part no keys: they are kept, and listed."""
    odd = ("\u2028", "\u2029", "\u0085", "\u00a0", "\u202f")
    keys = [f"ODD-{place}{letter}KEY" for place, letter in enumerate(odd)]
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"{key}\n" for key in keys), "utf-8", newline="")
    for more in (["--dry-run"], []):
        ran = gatepay("keys", "upload", path, "-p", 8, *more, "--json").json
        assert (ran["read"], ran["invisible_lines"]) == (5, [f"{path}:{line}" for line in range(1, 6)]), more
    assert set(keys) <= set(shop.keys(8))
