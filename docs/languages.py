"""
Checks that the Chinese pages are up to date.

    python docs/languages.py            print the differences; the exit status is 1 if there are any
    python docs/languages.py --stamp    write the digest of the English text into each Chinese page

A page and its translation have the same headings, the same code and the same names in their text. The Chinese page ends
with a digest of the English text that it translates. Translate changes *before* you use ``--stamp``.
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
    """Yield each English page with its translation. Either file may be missing."""
    yield root / "README.md", root / "README.zh-CN.md"
    english, chinese = root / "docs" / "en", root / "docs" / "zh"
    names = {page.relative_to(folder) for folder in (english, chinese) for page in folder.rglob("*.md")}
    for name in sorted(names):
        yield english / name, chinese / name


def digest(text: str) -> str:
    """Return 16 hex digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the code blocks: language and file name, and the code without comments and captions."""
    return [(match["info"].strip(), without_comments(match["info"], match["body"])) for match in FENCE.finditer(text)]


def without_comments(info: str, body: str) -> str:
    """Return the code without comments and captions of a table of contents, which may be translated."""
    if info.partition(" ")[0] == "python":
        return ast.dump(ast.parse(body))
    if info == "console":  # the output is in the page's language
        return "\n".join(line for line in body.splitlines() if line.startswith("$ "))
    lines = (re.sub(r"(^|\s)# .*", "", line).rstrip() for line in body.splitlines())
    return "\n".join(line for line in lines if not line.startswith(":caption:"))


def headings(text: str) -> list[str]:
    """Return the levels of the headings, in order: ``#``, ``##``."""
    return re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)


def names(text: str) -> set[str]:
    """Return the words that are formatted as code in the text."""
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCE.sub("", text)))


def targets(text: str) -> list[str]:
    """Return the link targets, without anchors and without links to the page's translation."""
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(?:#[^)\s]*)?\)", FENCE.sub("", text))
    return sorted(
        target for target in links if not target.startswith("README") and "/zh/" not in target and "/en/" not in target
    )


def pictures(text: str) -> int:
    """Return the number of pictures. Each language may have its own."""
    return len(re.findall(r"!\[[^\]]*\]\(", FENCE.sub("", text)))


def wrapped_lines(text: str) -> list[str]:
    """Return lines of a paragraph that continue on the next line: in Chinese that would show a space."""
    return re.findall(r"^([^#|<!\n].*)\n(?![-#|<>\n]|\d+\. |$)", FENCE.sub("\n", text), re.MULTILINE)


def differences(english: Path, chinese: Path) -> Iterator[str]:
    """Yield a sentence for each difference between a page and its translation."""
    if not (english.exists() and chinese.exists()):
        yield "is missing"
        return
    english_text, chinese_text = english.read_text("utf-8"), chinese.read_text("utf-8")
    yield from different_text(english_text, chinese_text)
    yield from different_code(blocks(english_text), blocks(chinese_text))
    stamps = STAMP.findall(chinese_text)
    if len(stamps) > 1:
        yield f"has {len(stamps)} stamps instead of one: was a merge left unfinished?"
    elif stamps != [(english.name, digest(english_text))]:
        yield f"translates an older {english.name}: bring it up to date, then `python docs/languages.py --stamp`"


def different_code(english: list[tuple[str, str]], chinese: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the differences in the code blocks and their order."""
    for number, (expected, found) in enumerate(zip(english, chinese, strict=False), 1):
        if expected != found:
            yield f"has another block {number}:\n{expected[1]}\n---\n{found[1]}"
    if len(english) != len(chinese):
        yield f"has {len(chinese)} blocks of code instead of {len(english)}"


def different_text(english: str, chinese: str) -> Iterator[str]:
    """Yield the differences in headings, names, links and pictures."""
    if headings(english) != headings(chinese):
        yield f"has other headings: {headings(english)} and {headings(chinese)}"
    if names(english) != names(chinese):
        yield f"names other things: {sorted(names(english) ^ names(chinese))}"
    if targets(english) != targets(chinese):
        yield f"links elsewhere: {sorted(set(targets(english)) ^ set(targets(chinese)))}"
    if pictures(english) != pictures(chinese):
        yield f"shows {pictures(chinese)} pictures instead of {pictures(english)}"
    for line in wrapped_lines(chinese):
        yield f"breaks a paragraph after {line[-20:]!r}: a space would be shown there"


def stamp(english: Path, chinese: Path) -> None:
    """Write the digest of the English text into the Chinese page."""
    text = STAMP.sub("", chinese.read_text("utf-8")).rstrip("\n")
    mark = f"<!-- translates {english.name}, sha256:{digest(english.read_text('utf-8'))} -->"
    chinese.write_text(f"{text}\n\n{mark}\n", "utf-8")


def main(arguments: list[str]) -> int:
    """Print the differences, or write the digests first."""
    if arguments == ["--stamp"]:
        for english, chinese in pairs():
            if english.exists() and chinese.exists():
                stamp(english, chinese)
    all_differences = [
        f"{chinese.relative_to(ROOT)} {difference}"
        for english, chinese in pairs()
        for difference in differences(english, chinese)
    ]
    print("\n".join(all_differences) or "Both languages say the same.")
    return bool(all_differences)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
