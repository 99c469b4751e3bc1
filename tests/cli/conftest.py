"""The command, run by its runner; and a shop for it to talk to, over real HTTP."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from attrs import frozen
from cli_terminal import Open, Terminal, opened
from typer.main import get_command
from typer.testing import CliRunner

from gatepay_async import AsyncGatePay, RetryPolicy
from gatepay_async.cli import language, output, runner, settings
from gatepay_async.cli.app import app
from gatepay_async.sandbox import Sandbox

QUICK = RetryPolicy(first_wait=0, longest_wait=0)


@frozen
class BatchResult:
    """What came of a run."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What it wrote for programs: one object, on one line."""
        [line] = self.out.splitlines()
        document: dict[str, Any] = json.loads(line)
        return document


Gatepay = Callable[..., BatchResult]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An English user on a line without waits, and without profiles; tests/surroundings.py sets up the rest."""
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(settings, "AsyncGatePay", partial(AsyncGatePay, retry=QUICK))
    # A worker that is told to stop ends its process after this time, which here would be that of the tests.
    monkeypatch.setattr(runner, "_WORKER_STOP_S", 100_000.0)
    # What an earlier run in this process has chosen.
    language.set_language("en")
    output._wants_json.set(False)
    output._fields.set(())


@pytest.fixture(scope="session")
def built() -> Callable[[object], Any]:
    """
    What makes a command line parser of `app`: made once, and set back before each run.

    To make one takes longer than most commands. A run translates its help, and adds options to it.
    """
    root = get_command(app)
    kept: list[tuple[Any, str, list[Any]]] = []
    left = [root]
    while left:
        command: Any = left.pop()
        kept.append((command, command.help, list(command.params)))
        kept.extend((param, param.help, []) for param in command.params)
        left.extend(getattr(command, "commands", {}).values())

    def set_back(_: object) -> Any:
        for each, text, params in kept:
            each.help = text
            if hasattr(each, "params"):
                each.params = list(params)
        return root

    return set_back


@pytest.fixture
def gatepay(built: Callable[[object], Any], monkeypatch: pytest.MonkeyPatch) -> Gatepay:
    """The command."""
    monkeypatch.setattr("typer.testing._get_command", built)

    def run(*arguments: object, input: str | bytes = "", charset: str = "utf-8") -> BatchResult:  # noqa: A002 -- the runner's word
        result = CliRunner(charset=charset).invoke(app, [str(each) for each in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return BatchResult(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def shop(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A shop that the environment points at."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox.serve()) as base_url:
        monkeypatch.setenv("GATEPAY_BASE_URL", base_url)
        monkeypatch.setenv("GATEPAY_APPKEY", sandbox.appkey)
        monkeypatch.setenv("GATEPAY_APPSECRET", sandbox.appsecret)
        yield sandbox


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Opens terminals with the command in them, and closes them."""
    terminals: list[Terminal] = []

    def start(*arguments: object, columns: int = 90) -> Terminal:
        terminals.append(opened(*arguments, columns=columns))
        return terminals[-1]

    yield start
    for each in terminals:
        os.close(each.fd)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has no queue of uploads yet."""
    for name in ("GATEPAY_UPLOADS", "GATEPAY_UPLOADS_SPOOL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "home"
    monkeypatch.setenv("HOME", str(path))
    return path
