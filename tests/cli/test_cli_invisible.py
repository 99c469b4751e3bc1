"""Invisible characters in a file of card keys: the command says in which lines."""

from pathlib import Path
from typing import Any

import pytest

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
