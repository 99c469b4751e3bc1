"""Tests of how the command starts and exits: entry point, signals, closed streams, completion."""

import asyncio
import errno
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import typer
from typer.exceptions import TyperException
from waiting import PATIENCE

from gatepay_async.cli import app, entry, output, runner, screens, usage, wildcards
from gatepay_async.cli.status import Status

pytestmark = pytest.mark.sockets


def test_entry_point_and_module_run_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``gatepay`` and ``python -m gatepay_async.cli`` run the same command."""
    monkeypatch.setattr(sys, "argv", ["gatepay", "--version"])
    with pytest.raises(SystemExit) as raised:
        entry.main()
    assert raised.value.code == 0
    with pytest.raises(SystemExit):
        importlib.import_module("gatepay_async.cli.__main__")
    assert capsys.readouterr().out.count("gatepay-async") == 2


def test_entry_point_without_typer_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Typer the entry point says what to install; any other missing module is raised as an error."""
    monkeypatch.delitem(sys.modules, "gatepay_async.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as raised:
        entry.main()
    assert raised.value.code == 2
    assert "pip install 'gatepay-async[cli]'" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["gatepay", "--json", "products"])
        with pytest.raises(SystemExit) as raised:
            entry.main()
    assert raised.value.code == 2
    problem = json.loads(capsys.readouterr().out)["error"]["problem"]
    assert (problem["name"], problem["facts"]) == ("extras.missing", {"name": "typer", "extra": "cli"})
    monkeypatch.setitem(sys.modules, "gatepay_async.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        entry.main()


# Not SIGTERM or SIGHUP, which would reach the test runner. The tests with processes send these.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_signal_cancels_the_work_and_sets_the_exit_status(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal cancels the work, which can clean up. The exit status is 128 plus the number of the signal."""
    cleaned_up: list[bool] = []
    monkeypatch.setattr(runner, "_END_SIGNALS", (signal.SIGUSR1, signal.SIGUSR2))
    before = {signal_number: signal.getsignal(signal_number) for signal_number in runner._END_SIGNALS}
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    async def work() -> Status:
        try:
            assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN  # an ignored signal stays ignored
            signal.raise_signal(number)
            await anyio.sleep_forever()
        finally:
            cleaned_up.append(True)
        return Status.DONE

    with pytest.raises(typer.Exit) as raised:
        runner.run_and_exit(work)
    signal.signal(signal.SIGUSR2, before[signal.SIGUSR2])
    assert (raised.value.exit_code, cleaned_up) == (128 + number, [True])
    assert "Interrupted." in capsys.readouterr().err
    assert {signal_number: signal.getsignal(signal_number) for signal_number in runner._END_SIGNALS} == before


@pytest.mark.parametrize("start", [runner.run_and_exit, runner.run_worker_and_exit])
def test_second_signal_doesnt_interrupt_the_cleanup(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SIGUSR1 doesn't interrupt the cleanup of a command, and Ctrl-C doesn't interrupt that of a worker."""
    cleaned_up: list[bool] = []
    monkeypatch.setattr(runner, "_END_SIGNALS", (signal.SIGUSR1,))

    async def work() -> Status:
        try:
            signal.raise_signal(signal.SIGUSR1)
            await anyio.sleep_forever()
        finally:
            signal.raise_signal(signal.SIGINT if start == runner.run_worker_and_exit else signal.SIGUSR1)
            await asyncio.sleep(0)  # the event loop handles the second signal here
            await asyncio.sleep(0)
            cleaned_up.append(True)
        return Status.DONE

    with pytest.raises(typer.Exit) as raised:
        start(work)
    assert (raised.value.exit_code, cleaned_up) == (128 + signal.SIGUSR1, [True])


WORKER_THAT_NEVER_STOPS = """
import signal, threading
import anyio
from gatepay_async.cli import runner

runner._WORKER_STOP_S = 0.1

async def work():
    try:
        signal.raise_signal(signal.SIGTERM)
        await anyio.sleep_forever()
    finally:
        await anyio.to_thread.run_sync(threading.Event().wait)

runner.run_worker_and_exit(work)
"""


def test_worker_that_cant_stop_is_ended_with_the_signals_status() -> None:
    """A worker whose thread never ends exits with the status of the signal and prints the reason."""
    ended = subprocess.run(
        [sys.executable, "-c", WORKER_THAT_NEVER_STOPS], capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 128 + signal.SIGTERM
    assert b"the database doesn't answer" in ended.stderr


def test_signal_before_the_work_starts_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that arrives before the event loop runs is not lost."""
    monkeypatch.setattr(runner, "_END_SIGNALS", (signal.SIGUSR1,))
    run = anyio.run

    def signal_and_run(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return run(*arguments)

    async def work() -> Status:
        with anyio.fail_after(10):
            await anyio.sleep_forever()
        return Status.DONE

    monkeypatch.setattr(anyio, "run", signal_and_run)
    with pytest.raises(typer.Exit) as raised:
        runner.run_and_exit(work)
    assert raised.value.exit_code == 128 + signal.SIGUSR1


def test_end_signals_are_those_of_service_managers_and_closed_terminals() -> None:
    assert runner._END_SIGNALS == (signal.SIGTERM, signal.SIGHUP)


def test_closed_pipe_raises_instead_of_ending_the_process() -> None:
    """Rich would exit when its output pipe is closed; our console raises, and `app.run` sets the exit status."""

    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        screens.new_console(Closed()).print("a line")


def test_unwritable_standard_error_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that can't be written to standard error is dropped. An error of standard output is raised."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Full())
    screens.print_line("a warning", stream=sys.stderr)
    with pytest.raises(OSError, match="No space left"):
        screens.print_line("a result", stream=sys.stdout)


def test_exit_doesnt_wait_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that blocks on a pipe doesn't keep the process alive."""
    ended: list[int] = []
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    monkeypatch.setattr(sys, "argv", ["gatepay", "nope"])
    monkeypatch.setattr(os, "_exit", ended.append)
    thread.start()
    with pytest.raises(SystemExit):
        app.run()
    waiting.set()
    thread.join()
    assert ended == [2]


def test_flush_error_at_exit_sets_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the last output can't be flushed to a closed pipe, the exit status is 141."""

    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    closed = Closed()
    monkeypatch.setattr(sys, "argv", ["gatepay", "nope"])
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(SystemExit) as raised:
        app.run()
    assert raised.value.code == 141
    monkeypatch.undo()


def test_typers_exit_for_a_closed_pipe_is_recognized(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Typer's exit with status 1 after a closed pipe becomes PIPE_CLOSED; buffered output is dropped."""

    class PacifyFlushWrapper(io.StringIO):  # Typer's class for a closed pipe, which app.py recognizes by its name
        def fileno(self) -> int:
            return descriptor

    def exit_with(code: int) -> None:
        raise SystemExit(code)

    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(SystemExit):
        app._run_and_report(lambda: exit_with(1))
    monkeypatch.setattr(sys, "stdout", PacifyFlushWrapper())
    assert app._run_and_report(lambda: exit_with(1)) == Status.PIPE_CLOSED
    os.write(descriptor, b"nowhere")
    os.close(descriptor)
    assert (tmp_path / "out").read_bytes() == b""
    output.configure(as_json=False)


def test_typers_abort_has_the_status_of_ctrl_c() -> None:

    def abort() -> None:
        raise typer.Abort

    assert app._run_and_report(abort) == Status.INTERRUPTED


def test_bug_is_raised() -> None:
    """An unexpected exception is not turned into a message."""

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        app._run_and_report(bug)


def test_unknown_usage_error_keeps_its_text() -> None:
    """A usage error without a translation keeps its text, even if it has no parameter name."""
    assert usage.usage_problem(TyperException("odd")) == "odd"
    assert usage.usage_problem(typer.BadParameter("odd")) == "Invalid value for : odd"
    assert usage.usage_hint(typer.BadParameter("odd")) == "see `gatepay --help`"


@pytest.mark.parametrize(
    ("shell", "variables", "offered"),
    [
        ("bash", {"COMP_WORDS": "gatepay pay --type we", "COMP_CWORD": "3"}, ["wechat"]),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "gatepay pay --type "}, ["alipay", "wechat"]),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "gatepay keys "}, ["upload", "上传"]),
    ],
)
def test_completion_offers_translated_commands_and_choices(
    shell: str,
    variables: dict[str, str],
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"_GATEPAY_COMPLETE": f"complete_{shell}", "LANG": "zh_CN.UTF-8", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        typer.main.get_command(app.app).main([])
    out = capsys.readouterr().out
    assert all(offer in out for offer in offered), out


def test_wildcards_are_expanded_on_windows_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Windows shells leave wildcards to the program, so the command expands them there."""
    for name in ("b.txt", "a.txt", "c.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    arguments = ["keys", "*.txt", f"{tmp_path}{os.sep}?.csv", "no*", "[", "--order=*.txt", "c.csv"]
    files = ["a.txt", "b.txt", str(tmp_path / "c.csv")]
    assert wildcards.expand(arguments) == ["keys", *files, "no*", "[", "--order=*.txt", "c.csv"]
    for windows, expected in ((True, "Unexpected argument: b.txt"), (False, "Invalid value for CODE: *.txt")):
        monkeypatch.setattr(wildcards, "IS_WINDOWS", windows)
        monkeypatch.setattr(sys, "argv", ["gatepay", "errors", "ka/show", "*.txt"])
        with pytest.raises(SystemExit):
            typer.main.get_command(app.app).main()
        assert expected in capsys.readouterr().err


def test_end_process_reports_and_exits_despite_threads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that doesn't stop in time prints an error and exits with the status of the signal."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    runner._end_process(signal.SIGTERM)
    assert statuses == [128 + signal.SIGTERM]
    assert "The worker can't stop" in capsys.readouterr().err
