"""The commands that the documentation shows are run, against the sandbox, and what they print is compared."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.uncounted, pytest.mark.hang_limit(180)]

ROOT = Path(__file__).parents[2]
TRANSCRIPTS = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "transcripts.py")))


@pytest.fixture(scope="module")
def warm() -> Iterator[Any]:
    """A process that has imported the command, and forks for each command line."""
    with TRANSCRIPTS.warm() as command:
        yield command


@pytest.mark.parametrize("page", TRANSCRIPTS.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_console(page: Path, tmp_path: Path, warm: Any) -> None:
    """Each command that is shown is run, and prints what is shown (`python docs/transcripts.py --write`)."""
    blocks = anyio.run(TRANSCRIPTS.run, page, tmp_path, warm)
    assert TRANSCRIPTS.written(page, blocks) == page.read_text("utf-8")


def test_a_real_process_prints_the_same(tmp_path: Path) -> None:
    """Where each command line is a new process, the first page shows the same."""
    page = ROOT / "README.md"
    blocks = anyio.run(TRANSCRIPTS.run, page, tmp_path)
    assert TRANSCRIPTS.written(page, blocks) == page.read_text("utf-8")


def test_a_command_line_leaves_nothing_behind(tmp_path: Path, warm: Any) -> None:
    """The next one has its own environment, folder, streams and status; what is printed comes in its order."""
    unset = TRANSCRIPTS.bare_environment()
    english, chinese = unset | {"LANG": "en_US.UTF-8"}, unset | {"LANG": "zh_CN.UTF-8", "GATEPAY_APPKEY": "K"}
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (there / "keys.txt").write_text("AAAA-1111\n")
    upload = ["keys", "upload", "keys.txt", "--product", "8", "--dry-run"]
    runs = [
        warm.run(upload, there, chinese),
        warm.run(upload, here, english),
        warm.run(["products"], here, english),
        warm.run(["products", "--json"], here, chinese),
        warm.run(["callback", "verify", "-"], here, chinese | {"GATEPAY_APPSECRET": "S"}),
        warm.run(["--version"], here, english),
    ]
    assert [status for status, _ in runs] == [0, 2, 2, 2, 3, 0]
    texts = [text for _, text in runs]
    assert "1" in texts[0]
    assert texts[1].startswith("Error: ")
    assert "GATEPAY_APPKEY is not set" in texts[2]
    assert "GATEPAY_APPSECRET" in texts[3]
    assert texts[3].startswith("{")
    assert texts[5].startswith("gatepay-async ")
    assert list(here.iterdir()) == []


def test_a_shell_line_is_run_by_a_shell(tmp_path: Path, warm: Any) -> None:
    """Pipes, variables and the status of the line before are a real shell's."""
    (tmp_path / "gatepay").write_text('#!/bin/sh\necho "$@"; echo told >&2; exit 3\n')
    (tmp_path / "gatepay").chmod(0o755)
    environment = TRANSCRIPTS.bare_environment()
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"

    async def lines() -> list[tuple[int, str]]:
        status, told = 0, []
        for line in ("echo $?", "gatepay a 2>&1 | sort", "gatepay $?", "echo $?", "cat nothing"):
            status, text = await TRANSCRIPTS.execute(line, status, tmp_path, environment, warm)
            told.append((status, text))
        return told

    told = anyio.run(lines)
    assert told[:4] == [(0, "0\n"), (0, "a\ntold\n"), (3, "0\ntold\n"), (0, "3\n")]
    assert told[4][0] == 1
    assert "nothing" in told[4][1]
