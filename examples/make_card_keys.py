"""
Make card_keys.txt: 12,345 lines as merchants have them. The same ones at every run.

    python examples/make_card_keys.py

A byte-order mark, CRLF and LF in turns, blank lines, blanks at the ends (tabs and the wide ones of Chinese
keyboards among them), and card keys that come twice, near each other and far apart.
"""

import random
from pathlib import Path

LINES = 12_345
TARGET = Path(__file__).with_name("card_keys.txt")
ODD_BLANKS = ("", "", "", "", " ", "  ", "\t", "\u3000", "\u00a0")
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def card_key(chance: random.Random) -> str:
    """Four groups of four, or an account with its password, as they are sold."""
    groups = ["".join(chance.choices(LETTERS, k=4)) for _ in range(4)]
    if chance.random() < 0.1:  # noqa: PLR2004 -- one in ten
        return f"卡号{groups[0]}----密码{groups[1]}{groups[2]}"
    return "-".join(groups)


def lines() -> list[str]:
    """The lines, without their ends."""
    chance = random.Random(20190426)  # noqa: S311 -- nothing here is worth guessing
    made: list[str] = []
    for _ in range(LINES):
        kind = chance.random()
        if kind < 0.02 or not made:  # noqa: PLR2004 -- one in fifty is blank
            key = ""
        elif kind < 0.06:  # noqa: PLR2004 -- one in twenty-five comes twice
            key = chance.choice(made).strip()
        else:
            key = card_key(chance)
        made.append(chance.choice(ODD_BLANKS) + key + chance.choice(ODD_BLANKS))
    return made


def main() -> None:
    """Write the file, byte for byte."""
    text = "".join(line + ("\r\n" if number % 3 else "\n") for number, line in enumerate(lines()))
    TARGET.write_bytes(b"\xef\xbb\xbf" + text.encode())


if __name__ == "__main__":
    main()
