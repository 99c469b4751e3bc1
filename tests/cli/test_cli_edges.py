"""The edges of the process: where the command begins, and all the ways in which it ends."""

import asyncio
import errno
import importlib
import io
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
from waiting import PATIENCE

from gatepay_async.cli import app, entry, output, runner, screens, usage, wildcards
from gatepay_async.cli.status import Status

pytestmark = pytest.mark.sockets


def test_the_entry(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The entry runs the command, as does the room as a program."""
    monkeypatch.setattr(sys, "argv", ["gatepay", "--version"])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 0
    with pytest.raises(SystemExit):
        importlib.import_module("gatepay_async.cli.__main__")
    assert capsys.readouterr().out.count("gatepay-async") == 2


def test_the_entry_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Typer it says what to install; that a module of our own is missing is no such thing."""
    monkeypatch.delitem(sys.modules, "gatepay_async.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 2
    assert "pip install 'gatepay-async[cli]'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gatepay_async.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        entry.main()


# SIGUSR1 in the place of SIGTERM and SIGHUP: those are the runner's own, and the tests of processes send them.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_signals(number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each signal that ends a program cancels the work, which may tidy up; the status says which it was."""
    tidied: list[bool] = []
    monkeypatch.setattr(runner, "_END_SIGNALS", (signal.SIGUSR1, signal.SIGUSR2))
    before = [signal.getsignal(each) for each in runner._END_SIGNALS]
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    async def work() -> Status:
        try:
            assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN  # stays ignored
            signal.raise_signal(number)
            await anyio.sleep_forever()
        finally:
            tidied.append(True)
        return Status.DONE

    with pytest.raises(typer.Exit) as end:
        runner.start(work)
    signal.signal(signal.SIGUSR2, before[1])
    assert (end.value.exit_code, tidied) == (128 + number, [True])
    assert "Interrupted." in capsys.readouterr().err
    assert [signal.getsignal(each) for each in runner._END_SIGNALS] == before


@pytest.mark.parametrize("start", [runner.start, runner.start_worker])
def test_a_signal_that_comes_twice(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first one cancels the work: the second doesn't interrupt what tidies up, nor Ctrl-C that of a worker."""
    tidied: list[bool] = []
    monkeypatch.setattr(runner, "_END_SIGNALS", (signal.SIGUSR1,))

    async def work() -> Status:
        try:
            signal.raise_signal(signal.SIGUSR1)
            await anyio.sleep_forever()
        finally:
            signal.raise_signal(signal.SIGINT if start == runner.start_worker else signal.SIGUSR1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            tidied.append(True)
        return Status.DONE

    with pytest.raises(typer.Exit) as end:
        start(work)
    assert (end.value.exit_code, tidied) == (128 + signal.SIGUSR1, [True])


NEVER_STOPS = """
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

runner.start_worker(work)
"""


def test_a_worker_that_never_stops() -> None:
    """The process ends nevertheless, with the signal's status, and says why."""
    ended = subprocess.run([sys.executable, "-c", NEVER_STOPS], capture_output=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    assert b"the database doesn't answer" in ended.stderr


def test_a_signal_before_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't lost: the work is cancelled as soon as it begins."""
    monkeypatch.setattr(runner, "_END_SIGNALS", (signal.SIGUSR1,))
    run = anyio.run

    def signalled(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return run(*arguments)

    async def work() -> Status:
        with anyio.fail_after(10):
            await anyio.sleep_forever()
        return Status.DONE

    monkeypatch.setattr(anyio, "run", signalled)
    with pytest.raises(typer.Exit) as end:
        runner.start(work)
    assert end.value.exit_code == 128 + signal.SIGUSR1


def test_signals_that_end_a_program() -> None:
    """Those of a service manager and of a terminal that is closed are among them."""
    assert runner._END_SIGNALS == (signal.SIGTERM, signal.SIGHUP)


def test_a_table_that_nobody_reads() -> None:
    """Rich's own way with a closed pipe is to end the process; here it is the edge that ends it."""

    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        screens.screen(Closed()).print("a line")


def test_a_line_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for standard error goes nowhere when that can't be written; one for standard output is an error."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Full())
    screens.print_line("told to nobody", stream=sys.stderr)
    with pytest.raises(OSError, match="No space left"):
        screens.print_line("a result", stream=sys.stdout)


def test_the_end_waits_for_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that still waits for a pipe doesn't keep the process."""
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


def test_an_end_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that can't be written at the very end goes nowhere, and the status says so."""

    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    closed = Closed()
    monkeypatch.setattr(sys, "argv", ["gatepay", "nope"])
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(SystemExit) as end:
        app.run()
    assert end.value.code == 141
    monkeypatch.undo()


def test_output_that_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """What Typer makes of a closed pipe is told from its other ends; what is left unwritten goes nowhere."""

    class PacifyFlushWrapper(io.StringIO):
        def fileno(self) -> int:
            return descriptor

    def end(code: int) -> None:
        raise SystemExit(code)

    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(SystemExit):
        app._exit_status(lambda: end(1))
    monkeypatch.setattr(sys, "stdout", PacifyFlushWrapper())
    assert app._exit_status(lambda: end(1)) == Status.PIPE_CLOSED
    os.write(descriptor, b"nowhere")
    os.close(descriptor)
    assert (tmp_path / "out").read_bytes() == b""
    output.configure(as_json=False)


def test_aborted() -> None:
    """Typer's own word for Ctrl-C has the same status."""

    def abort() -> None:
        raise typer.Abort

    assert app._exit_status(abort) == Status.INTERRUPTED


def test_what_is_no_error_of_ours() -> None:
    """A bug is not dressed up as a message."""

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        app._exit_status(bug)


def test_a_usage_error_that_nobody_foresaw() -> None:
    """What Typer says in words that we don't know is passed on; a parameter may be nameless."""
    assert usage.usage_problem(usage.UsageError("odd")) == "odd"
    assert usage.usage_problem(typer.BadParameter("odd")) == "Invalid value for : odd"
    assert usage.usage_hint(typer.BadParameter("odd")) == "see `gatepay --help`"


@pytest.mark.parametrize(
    ("shell", "words", "offered"),
    [
        ("bash", {"COMP_WORDS": "gatepay pay --type we", "COMP_CWORD": "3"}, ["wechat"]),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "gatepay pay --type "}, ["alipay", "wechat"]),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "gatepay keys "}, ["upload", "上传"]),
    ],
)
def test_completion(
    shell: str,
    words: dict[str, str],
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The shell is offered commands, options and choices, described in the reader's language."""
    for name, value in {"_GATEPAY_COMPLETE": f"complete_{shell}", "LANG": "zh_CN.UTF-8", **words}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        typer.main.get_command(app.app).main([])
    out = capsys.readouterr().out
    assert all(each in out for each in offered), out


def test_wildcards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On Windows, whose shells don't, the command puts the files in the place of a wildcard; elsewhere it doesn't."""
    for name in ("b.txt", "a.txt", "c.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    arguments = ["keys", "*.txt", f"{tmp_path}{os.sep}?.csv", "no*", "[", "--order=*.txt", "c.csv"]
    files = ["a.txt", "b.txt", str(tmp_path / "c.csv")]
    assert wildcards.expand(arguments) == ["keys", *files, "no*", "[", "--order=*.txt", "c.csv"]
    for windows, said in ((True, "Unexpected argument: b.txt"), (False, "Invalid value for CODE: *.txt")):
        monkeypatch.setattr(wildcards, "IS_WINDOWS", windows)
        monkeypatch.setattr(sys, "argv", ["gatepay", "errors", "ka/show", "*.txt"])
        with pytest.raises(SystemExit):
            typer.main.get_command(app.app).main()
        assert said in capsys.readouterr().err


def test_the_process_is_ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that doesn't stop in time says so and ends with the signal's status, although threads still run."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    runner._end_process(signal.SIGTERM)
    assert statuses == [128 + signal.SIGTERM]
    assert "The worker can't stop" in capsys.readouterr().err
