"""Fixtures that run the command in this process, with a sandbox over real HTTP."""

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

NO_WAITS = RetryPolicy(first_wait=0, longest_wait=0)


@frozen
class RunResult:
    """The exit status and the output of one run of the command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The only line of standard output, parsed as a JSON object."""
        [line] = self.out.splitlines()
        document: dict[str, Any] = json.loads(line)
        return document


Gatepay = Callable[..., RunResult]


@pytest.fixture(autouse=True)
def cli_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set an English locale, retries without waits, and no profiles; tests/surroundings.py sets up the rest."""
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(settings, "AsyncGatePay", partial(AsyncGatePay, retry=NO_WAITS))
    # A worker that doesn't stop within this time ends its process, and in these tests that is pytest's.
    monkeypatch.setattr(runner, "_WORKER_STOP_S", 100_000.0)
    # Reset the choices of earlier runs in this process.
    language.set_language("en")
    output._wants_json.set(False)
    output._chosen_fields.set(())


@pytest.fixture(scope="session")
def reset_parser() -> Callable[[object], Any]:
    """
    Returns a function that resets the command line parser of `app` to its original state.

    The parser is built once, because building it takes longer than most commands. Each run translates its help texts
    and adds options to it.
    """
    root = get_command(app)
    originals: list[tuple[Any, str, list[Any]]] = []
    remaining = [root]
    while remaining:
        command: Any = remaining.pop()
        originals.append((command, command.help, list(command.params)))
        originals.extend((param, param.help, []) for param in command.params)
        remaining.extend(getattr(command, "commands", {}).values())

    def reset(_: object) -> Any:
        for element, help_text, params in originals:
            element.help = help_text
            if hasattr(element, "params"):
                element.params = list(params)
        return root

    return reset


@pytest.fixture
def gatepay(reset_parser: Callable[[object], Any], monkeypatch: pytest.MonkeyPatch) -> Gatepay:
    """Returns a function that runs the command in this process."""
    monkeypatch.setattr("typer.testing._get_command", reset_parser)

    def run(*arguments: object, input: str | bytes = "", charset: str = "utf-8") -> RunResult:  # noqa: A002 -- the parameter of CliRunner
        result = CliRunner(charset=charset).invoke(app, [str(argument) for argument in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return RunResult(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def shop(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A shop on a running sandbox, configured in the environment."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox.serve()) as base_url:
        monkeypatch.setenv("GATEPAY_BASE_URL", base_url)
        monkeypatch.setenv("GATEPAY_APPKEY", sandbox.appkey)
        monkeypatch.setenv("GATEPAY_APPSECRET", sandbox.appsecret)
        yield sandbox


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Starts the command in terminals, and closes them after the test."""
    terminals: list[Terminal] = []

    def open_terminal(*arguments: object, columns: int = 90) -> Terminal:
        terminals.append(opened(*arguments, columns=columns))
        return terminals[-1]

    yield open_terminal
    for opened_terminal in terminals:
        os.close(opened_terminal.fd)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a queue of uploads."""
    for name in ("GATEPAY_UPLOADS", "GATEPAY_UPLOADS_SPOOL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "home"
    monkeypatch.setenv("HOME", str(path))
    return path
