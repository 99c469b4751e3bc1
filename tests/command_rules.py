"""The rules by which every_command.py judges a cell: what the output must not contain, and the exit status."""

import json
import re
from collections.abc import Iterator

from attrs import define
from command_rows import Row, Shop
from rich.cells import cell_len

FULL_DISK = "full disk"  # a variant of the condition with this name: the command can't write its own files
ESCAPES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[\d;]*(?<!\d)(?:3[0-8]|4[0-8]|9[0-7])[\d;]*m")
CHANGING = re.compile(r"[\d,.]+(?:/s|ms|s)")  # a speed or a duration differs between two runs
CARD_KEYS = re.compile(r"(?:WINTER|SPRING)-\d{4}-KEY")
# Words that may appear in a Chinese text: names, commands, options and so on. All other words are English prose.
ALLOWED_WORDS = frozenset(
    """
    GatePay JSON CSV TSV Excel UTF ASCII URL HTTP HTTPS TCP DNS TLS HTML MiB ms QR Ctrl Enter macOS Windows
    Linux Redis SQLite PostgreSQL Python appkey appsecret worker shell bash zsh fish powershell cmd sh alipay
    wechat onecode pending success export Open Jan httpx anyio msgspec typer rich uvicorn App Unix id stock
    price realprice type extend custom sign content durable uploads upload keys work auto eight nonsense first
    second Connect call failed OpenSSL SVIP MissingParameterError doctor pay page fields default skip
    """.split()  # noqa: SIM905 -- a list with a hundred lines is harder to read
)


@define
class Outcome:
    """The result of a process."""

    status: int = -1
    out: str = ""
    err: str = ""
    hung: bool = False


def judge(
    outcome: Outcome,
    row: Row,
    shop: Shop,
    condition: str,
    variant: str,
    *,
    columns: int | None,
    wide: str,
    writes: bool,
) -> list[str]:
    """
    Return descriptions of what is wrong with the outcome.

    Args:
        outcome: The outcome to judge.
        row: The command line.
        shop: The sandbox that the command called.
        condition: The condition under which the command ran.
        variant: The variant of the condition, or empty.
        columns: The width of the terminal; None: there was no terminal.
        wide: The output of the same command in a wide terminal.
        writes: Whether the command writes to standard output.
    """
    everything = outcome.out + outcome.err
    problems = []
    if outcome.hung:
        problems.append("hung")
    if expected := expected_if_wrong(outcome.status, row, variant, writes=writes):
        problems.append(f"status {outcome.status}, not {expected}")
    if "Traceback" in everything or "Exception ignored" in everything or "Warning:" in everything:
        problems.append("traceback")
    if condition in ("piped", "--json", "closed stdout", "full disk") and "\x1b" in everything:
        problems.append("escape codes")
    if condition == "NO_COLOR" and COLOUR.search(everything):
        problems.append("colours")
    if condition == "--json":
        # With --reveal, `keys export` writes the card keys themselves, even with --json.
        problems += (
            [f"no JSON: {line[:40]!r}" for line in outcome.out.splitlines() if not is_json(line)]
            if not row.reveals or "export" not in row.name
            else []
        )
    if columns:
        problems += list(wrong_lines(outcome.out, columns, wide, translated=condition == "zh"))
    if condition == "zh":
        problems += [f"English: {words!r}" for words in english_words(outcome.out)]
    if shop.environ["GATEPAY_APPSECRET"] in everything or (not row.reveals and CARD_KEYS.search(everything)):
        problems.append("a secret")
    return problems


def expected_if_wrong(status: int, row: Row, variant: str, *, writes: bool) -> str:
    """Return the expected status if *status* is wrong, otherwise an empty string."""
    expected = {row.status}
    if variant == ">/dev/full" and writes:
        expected = {5}  # standard output can't be written
    elif variant == "| true" and writes:
        expected = {141}  # 128 + SIGPIPE, as in a shell
    elif variant == ">&-" and row.closed is not None:
        expected = {row.closed}
    elif variant == FULL_DISK and row.full_disk is not None:
        expected = {row.full_disk}
    return "" if status in expected else " or ".join(map(str, expected))


def is_json(line: str) -> bool:
    """Whether *line* is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def wrong_lines(text: str, columns: int, wide: str, *, translated: bool) -> Iterator[str]:
    """Yield descriptions of lines that are too wide, of lost text, and of words that are broken over two lines."""
    # Without colours, and without what a carriage return lets the terminal overwrite, such as a progress bar.
    plain, wide = (
        ESCAPES.sub("", re.sub(r"[^\n]*\r(?!\n)", "", output.replace("\r\n", "\n"))) for output in (text, wide)
    )
    for line in plain.splitlines():
        has_long_word = max((cell_len(word) for word in line.split()), default=0) > columns - (
            len(line) - len(line.lstrip())
        )
        if (
            cell_len(line) > columns
            and not line.startswith("  export ")  # a shell command to copy isn't broken
            and not (has_long_word and len(line.split()) == 1)
        ):
            yield f"{cell_len(line)} columns: {line[:30]!r}"
    letter_counts = [len(re.findall(r"\w", output)) for output in (plain, wide)]
    if not translated and letter_counts[0] < 0.8 * letter_counts[1]:
        yield f"{letter_counts[0]} letters instead of {letter_counts[1]}"
    joined = re.sub(r"\s*\n\s*", "", plain)
    for word in sorted(set(re.findall(r"\S*\d\S*", wide))):
        if (
            len(word) >= 4
            and not CHANGING.fullmatch(word)
            and "█" not in word  # this and the next two: a bar or a QR code
            and "▀" not in word
            and "▄" not in word
            and word in joined
            and word not in plain
        ):
            yield f"broken: {word[:40]}"


def english_words(text: str) -> Iterator[str]:
    """Yield the English words of each line of a Chinese text."""
    for line in ESCAPES.sub("", text).splitlines():
        if re.match(r"  gatepay |用法", line):
            continue
        prose = re.sub(
            r"`[^`]*`|\b[0-9a-f]{8,}\b|\S*[/_.=:\d\\|]\S*|--?[\w-]+|\b[A-Z]{2,}\b|gatepay( [a-z-]+)*", " ", line
        )
        words = [word for word in re.findall(r"[A-Za-z]{2,}", prose) if word not in ALLOWED_WORDS]
        if words:
            yield " ".join(words)
