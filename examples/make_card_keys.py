"""
Create card_keys.txt: 12,345 lines like those in merchants' files, the same ones on every run.

    python examples/make_card_keys.py

The file has a byte-order mark, mixed CRLF and LF line ends, blank lines, leading and trailing spaces (also tabs
and the wide spaces of Chinese keyboards), and duplicate card keys.
"""

import random
from pathlib import Path

LINES = 12_345
TARGET = Path(__file__).with_name("card_keys.txt")
ODD_SPACES = ("", "", "", "", " ", "  ", "\t", "\u3000", "\u00a0")
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def card_key(random_source: random.Random) -> str:
    """Return four groups of four letters, or an account with its password."""
    groups = ["".join(random_source.choices(LETTERS, k=4)) for _ in range(4)]
    if random_source.random() < 0.1:  # noqa: PLR2004 -- one in ten
        return f"卡号{groups[0]}----密码{groups[1]}{groups[2]}"
    return "-".join(groups)


def lines() -> list[str]:
    """Return the lines, without line ends."""
    random_source = random.Random(20190426)  # noqa: S311 -- the same file on every run
    generated: list[str] = []
    for _ in range(LINES):
        kind = random_source.random()
        if kind < 0.02 or not generated:  # noqa: PLR2004 -- one in fifty is blank
            key = ""
        elif kind < 0.06:  # noqa: PLR2004 -- one in twenty-five is a duplicate
            key = random_source.choice(generated).strip()
        else:
            key = card_key(random_source)
        generated.append(random_source.choice(ODD_SPACES) + key + random_source.choice(ODD_SPACES))
    return generated


def main() -> None:
    """Write the file."""
    text = "".join(line + ("\r\n" if number % 3 else "\n") for number, line in enumerate(lines()))
    TARGET.write_bytes(b"\xef\xbb\xbf" + text.encode())


if __name__ == "__main__":
    main()
