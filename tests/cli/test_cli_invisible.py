"""Tests of invisible characters in files of card keys."""

from pathlib import Path
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets


def test_lines_with_invisible_characters_are_listed_without_card_keys(gatepay: Any, shop: Any, tmp_path: Path) -> None:
    """Both an upload and a dry run list the lines, in both languages."""
    keys = tmp_path / "keys.txt"
    keys.write_text(
        "\ufeffA\nSEC\u200bRET-1\n\u200b\nB\u2060\n" + "".join(f"SEC\u00adRET-{n}\n" for n in range(2, 24)), "utf-8"
    )
    for flags in ([], ["--dry-run"]):
        run = gatepay("keys", "upload", keys, "-p", 8, *flags)
        assert (run.status, f"{keys}:2 contains an invisible character" in run.out) == (0, True)
        assert f"{keys}:4 " not in run.out
        assert "… and 3 more" in run.out
        assert "RET" not in run.out
        assert "含有不可见字符" in gatepay("--lang", "zh", "keys", "upload", keys, "-p", 8, *flags).out
        listed = gatepay("keys", "upload", keys, "-p", 8, *flags, "--json").json["invisible_lines"]
        assert listed == [f"{keys}:{line}" for line in (2, *range(5, 27))]


def test_unicode_line_separators_are_kept_in_card_keys(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Unicode's other line ends and spaces don't separate card keys. Their lines are listed as invisible."""
    separators = ("\u2028", "\u2029", "\u0085", "\u00a0", "\u202f")
    keys = [f"ODD-{number}{separator}KEY" for number, separator in enumerate(separators)]
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"{key}\n" for key in keys), "utf-8", newline="")
    for flags in (["--dry-run"], []):
        report = gatepay("keys", "upload", path, "-p", 8, *flags, "--json").json
        assert (report["read"], report["invisible_lines"]) == (5, [f"{path}:{line}" for line in range(1, 6)]), flags
    assert set(keys) <= set(shop.keys(8))
