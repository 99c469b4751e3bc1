"""Runs the commands that the documentation shows, with a sandbox, and compares their output."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.hang_limit(180)]

ROOT = Path(__file__).parents[2]
TRANSCRIPTS = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "transcripts.py")))


@pytest.fixture(scope="module")
def warm_command() -> Iterator[Any]:
    """Return a process that has imported the command, and forks for each command line."""
    with TRANSCRIPTS.warm() as command:
        yield command


@pytest.mark.parametrize("page", TRANSCRIPTS.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_print_the_shown_output(page: Path, tmp_path: Path, warm_command: Any) -> None:
    """Each command on a page prints the shown output; `python docs/transcripts.py --write` updates the page."""
    blocks = anyio.run(TRANSCRIPTS.run, page, tmp_path, warm_command)
    assert TRANSCRIPTS.page_with_output(page, blocks) == page.read_text("utf-8")


def test_new_processes_print_the_same_as_forks(tmp_path: Path) -> None:
    """With a new process for each command line, the commands of the README print the same output."""
    page = ROOT / "README.md"
    blocks = anyio.run(TRANSCRIPTS.run, page, tmp_path)
    assert TRANSCRIPTS.page_with_output(page, blocks) == page.read_text("utf-8")


def test_forked_command_lines_are_independent(tmp_path: Path, warm_command: Any) -> None:
    """Each forked command line has its own environment, folder, streams and exit status, and prints in order."""
    base = TRANSCRIPTS.bare_environment()
    english, chinese = base | {"LANG": "en_US.UTF-8"}, base | {"LANG": "zh_CN.UTF-8", "GATEPAY_APPKEY": "K"}
    empty_folder, folder = tmp_path / "empty", tmp_path / "folder"
    empty_folder.mkdir()
    folder.mkdir()
    (folder / "keys.txt").write_text("AAAA-1111\n")
    upload = ["keys", "upload", "keys.txt", "--product", "8", "--dry-run"]
    runs = [
        warm_command.run(upload, folder, chinese),
        warm_command.run(upload, empty_folder, english),
        warm_command.run(["products"], empty_folder, english),
        warm_command.run(["products", "--json"], empty_folder, chinese),
        warm_command.run(["callback", "verify", "-"], empty_folder, chinese | {"GATEPAY_APPSECRET": "S"}),
        warm_command.run(["--version"], empty_folder, english),
    ]
    assert [status for status, _ in runs] == [0, 2, 2, 2, 3, 0]
    texts = [text for _, text in runs]
    assert "1" in texts[0]
    assert texts[1].startswith("Error: ")
    assert "GATEPAY_APPKEY is not set" in texts[2]
    assert "GATEPAY_APPSECRET" in texts[3]
    assert texts[3].startswith("{")
    assert texts[5].startswith("gatepay-async ")
    assert list(empty_folder.iterdir()) == []


def test_shell_syntax_is_run_by_a_shell(tmp_path: Path, warm_command: Any) -> None:
    """Pipes, variables and `$?` work as in a real shell."""
    (tmp_path / "gatepay").write_text('#!/bin/sh\necho "$@"; echo told >&2; exit 3\n')
    (tmp_path / "gatepay").chmod(0o755)
    environment = TRANSCRIPTS.bare_environment()
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"

    async def lines() -> list[tuple[int, str]]:
        status, results = 0, []
        for line in ("echo $?", "gatepay a 2>&1 | sort", "gatepay $?", "echo $?", "cat nothing"):
            status, text = await TRANSCRIPTS.execute(line, status, tmp_path, environment, warm_command)
            results.append((status, text))
        return results

    results = anyio.run(lines)
    assert results[:4] == [(0, "0\n"), (0, "a\ntold\n"), (3, "0\ntold\n"), (0, "3\n")]
    assert results[4][0] == 1
    assert "nothing" in results[4][1]
