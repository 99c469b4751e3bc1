"""
Whether one language lags behind the other.

    python docs/languages.py            what differs; ends with 1 if anything does
    python docs/languages.py --stamp    write into each Chinese page which English text it translates

A page and its translation have the same headings, the same code and the same names in their text, and the Chinese page
ends with the digest of the English one. Translate what has changed *before* you stamp it.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
STAMP = re.compile(r"^<!-- translates (\S+), sha256:(\w{16}) -->\n*", re.MULTILINE)


def pairs(root: Path = ROOT) -> Iterator[tuple[Path, Path]]:
    """Each English page and its translation; either may be missing."""
    yield root / "README.md", root / "README.zh-CN.md"
    english, chinese = root / "docs" / "en", root / "docs" / "zh"
    names = {page.relative_to(folder) for folder in (english, chinese) for page in folder.rglob("*.md")}
    for name in sorted(names):
        yield english / name, chinese / name


def digest(text: str) -> str:
    """Sixteen hex digits that change with *text*."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def blocks(text: str) -> list[tuple[str, str]]:
    """What must be the same: each block's language and file name, and its code without comments and captions."""
    return [(found["info"].strip(), bare(found["info"], found["body"])) for found in FENCE.finditer(text)]


def bare(info: str, body: str) -> str:
    """The code itself: comments may be translated, and so may the captions of a table of contents."""
    if info.partition(" ")[0] == "python":
        return ast.dump(ast.parse(body))
    if info == "console":  # what is printed is in the page's language
        return "\n".join(line for line in body.splitlines() if line.startswith("$ "))
    lines = (re.sub(r"(^|\s)# .*", "", line).rstrip() for line in body.splitlines())
    return "\n".join(line for line in lines if not line.startswith(":caption:"))


def headings(text: str) -> list[str]:
    """The levels of the headings, in order: ``#``, ``##``."""
    return re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)


def names(text: str) -> set[str]:
    """What is set as code in the text."""
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCE.sub("", text)))


def targets(text: str) -> list[str]:
    """What is linked to, the other language's own page left out; without the anchors, which are titles."""
    found = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(?:#[^)\s]*)?\)", FENCE.sub("", text))
    return sorted(
        target for target in found if not target.startswith("README") and "/zh/" not in target and "/en/" not in target
    )


def pictures(text: str) -> int:
    """How many; each language may have its own."""
    return len(re.findall(r"!\[[^\]]*\]\(", FENCE.sub("", text)))


def broken(text: str) -> list[str]:
    """Lines of prose that go on in the next one. English has a blank there; in Chinese each paragraph is one line."""
    return re.findall(r"^([^#|<!\n].*)\n(?![-#|<>\n]|\d+\. |$)", FENCE.sub("\n", text), re.MULTILINE)


def differences(english: Path, chinese: Path) -> Iterator[str]:
    """What the translation lacks, a sentence each."""
    if not (english.exists() and chinese.exists()):
        yield "is missing"
        return
    one, other = english.read_text("utf-8"), chinese.read_text("utf-8")
    yield from different_text(one, other)
    yield from different_code(blocks(one), blocks(other))
    stamps = STAMP.findall(other)
    if len(stamps) > 1:
        yield f"has {len(stamps)} stamps instead of one: was a merge left unfinished?"
    elif stamps != [(english.name, digest(one))]:
        yield f"translates an older {english.name}: bring it up to date, then `python docs/languages.py --stamp`"


def different_code(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> Iterator[str]:
    """The same blocks, in the same order."""
    for number, (ours, theirs) in enumerate(zip(one, other, strict=False), 1):
        if ours != theirs:
            yield f"has another block {number}:\n{ours[1]}\n---\n{theirs[1]}"
    if len(one) != len(other):
        yield f"has {len(other)} blocks of code instead of {len(one)}"


def different_text(one: str, other: str) -> Iterator[str]:
    """The same headings, names, links and pictures."""
    if headings(one) != headings(other):
        yield f"has other headings: {headings(one)} and {headings(other)}"
    if names(one) != names(other):
        yield f"names other things: {sorted(names(one) ^ names(other))}"
    if targets(one) != targets(other):
        yield f"links elsewhere: {sorted(set(targets(one)) ^ set(targets(other)))}"
    if pictures(one) != pictures(other):
        yield f"shows {pictures(other)} pictures instead of {pictures(one)}"
    for line in broken(other):
        yield f"breaks a paragraph after {line[-20:]!r}: a blank would be shown there"


def stamp(english: Path, chinese: Path) -> None:
    """Write which English text the Chinese page translates."""
    text = STAMP.sub("", chinese.read_text("utf-8")).rstrip("\n")
    mark = f"<!-- translates {english.name}, sha256:{digest(english.read_text('utf-8'))} -->"
    chinese.write_text(f"{text}\n\n{mark}\n", "utf-8")


def main(arguments: list[str]) -> int:
    """Print what differs, or stamp."""
    if arguments == ["--stamp"]:
        for english, chinese in pairs():
            if english.exists() and chinese.exists():
                stamp(english, chinese)
    found = [
        f"{chinese.relative_to(ROOT)} {each}" for english, chinese in pairs() for each in differences(english, chinese)
    ]
    print("\n".join(found) or "Both languages say the same.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
