"""The command as a process: in a real terminal, interrupted, resized, its output closed early, without its extra."""

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from cli_terminal import COMMAND, Open, run, screen_of
from rich.cells import cell_len
from waiting import PATIENCE, wait_until

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """More than is sent before anybody can stop it."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(20_000)))
    return path


def test_progress_in_a_terminal(shop: Sandbox, keys: Path, terminal: Open) -> None:
    """In a terminal a bar shows how far an upload has come, also while the window changes its size; then it goes."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.05))
    it = terminal("keys", "upload", keys, "-p", 8, "--concurrency", 1)
    it.read(lambda text: "Uploading" in text and "/20,000" in text)
    it.resize(50)
    os.kill(it.pid, signal.SIGWINCH)
    it.read(lambda text: re.search(r"[\d,]+/s", text))
    shop.clear_faults()
    assert it.end() == 0
    assert "All card keys are on the server." in it.text
    assert "\x1b[2K" in it.text  # the bar is taken away
    assert len(shop.keys(8)) == 20_089


def test_interrupted_in_a_terminal(shop: Sandbox, keys: Path, terminal: Open, tmp_path: Path) -> None:
    """Ctrl-C ends an upload with the ledger so far; what is missing is kept, and sent when it is run again."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, skip=4, seconds=30))
    failed = tmp_path / "failed.txt"
    it = terminal("keys", "upload", keys, "-p", 8, "--concurrency", 2, "--failed-lines", failed)
    it.read(lambda text: "2,000/20,000" in text)  # four chunks; the next two take long
    os.write(it.fd, b"\x03")
    assert it.end() == 130
    assert "unknown" in it.text
    assert "Interrupted." in it.text
    assert "Traceback" not in it.text
    stored = set(shop.keys(8)[89:])
    everything = set(keys.read_text().splitlines())
    missing = set(failed.read_text().splitlines())
    assert stored | missing == everything
    assert stat.S_IMODE(failed.stat().st_mode) == 0o600
    shop.clear_faults()
    again = run("keys", "upload", failed, "-p", 8, "--json")
    assert json.loads(again.stdout)["ok"] is True
    assert set(shop.keys(8)[89:]) == everything


def test_a_bar_at_any_width(shop: Sandbox, keys: Path, terminal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 40 columns on the bar is one line, and after Ctrl-C nothing is left of it; in both languages."""
    monkeypatch.delenv("COLUMNS", raising=False)  # would count for more than the terminal
    for lang, what in (("en", "Uploading"), ("zh", "正在上传")):
        for columns in (40, 60, 80, 200):
            shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, skip=4, seconds=30))
            it = terminal("--lang", lang, "keys", "upload", keys, "-p", 8, "--concurrency", 2, columns=columns)
            it.read(lambda text: "2,000/20,000" in text)
            # Until the next one is drawn, so that this one is whole.
            it.read(lambda text: "\x1b[2K" in text.partition("2,000/20,000")[2])
            half_way = next(part for part in it.text.split("\r\x1b[2K") if "2,000/20,000" in part)
            half_way = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", half_way).strip()
            assert cell_len(half_way) <= columns - 3, (lang, columns, half_way)
            assert columns == 40 or what in half_way, (lang, columns, half_way)
            os.write(it.fd, b"\x03")
            assert it.end() == 130
            left = screen_of(it.text, columns)
            assert not any("20,000" in line or "━" in line for line in left), (lang, columns, left)
            not_read = next(line for line in left if {"en": "not read yet", "zh": "尚未读取"}[lang] in line)
            assert re.search(r"\d\d,\d00$", not_read), not_read
            shop.clear_faults()


def test_ended_by_a_signal(shop: Sandbox, keys: Path) -> None:
    """What ends a service, or a terminal that is closed, ends an upload with its ledger; so where Ctrl-C is ignored."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=30))
    words = shlex.join([*COMMAND, "keys", "upload", str(keys), "-p", "8", "--json"])
    cases = [(signal.SIGTERM, "exec"), (signal.SIGHUP, "exec"), (signal.SIGTERM, "trap '' INT; exec")]
    with ExitStack() as stack:
        processes = [in_a_shell(stack, f"{how} {words}") for _, how in cases]
        # All that each sends at once; each request takes long.
        wait_until(lambda: len(shop.requests) == 4 * len(cases))
        for process, (number, how) in zip(processes, cases, strict=True):
            process.send_signal(number)
            out, _ = process.communicate(timeout=PATIENCE)
            ledger = json.loads(out)
            ended = (process.returncode, ledger["interrupted"], ledger["unknown"])
            assert ended == (128 + number, True, 2000), (number, how)


def in_a_shell(stack: ExitStack, script: str) -> subprocess.Popen[bytes]:
    """A process that ends with the *stack*, at the latest."""
    process = stack.enter_context(subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE))
    stack.callback(process.kill)
    return process


def test_a_signal_that_is_ignored(shop: Sandbox, keys: Path) -> None:
    """Under nohup an upload outlives its terminal."""
    words = [*COMMAND, "keys", "upload", str(keys), "-p", "8", "--json"]
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=4, seconds=1))
    with ExitStack() as stack:
        process = in_a_shell(stack, f"trap '' HUP; exec {shlex.join(words)}")
        wait_until(lambda: shop.requests)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(out)["stored"]) == (0, 20_000)


TOLD_IN_ANOTHER_THREAD = """
import signal, sys, threading
import anyio
from gatepay_async.cli import runner

main = threading.get_ident()

def tell():
    while sys._current_frames()[main].f_code.co_name != "select":
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

async def work():
    threading.Thread(target=tell).start()
    await anyio.sleep_forever()

try:
    runner.start(work)
except BaseException as error:
    sys.exit(error.exit_code)
"""


def test_a_signal_that_another_thread_is_told() -> None:
    """A signal that the system gives to any other thread, or just as the loop goes to sleep, ends the command, too."""
    done = subprocess.run([sys.executable, "-c", TOLD_IN_ANOTHER_THREAD], timeout=PATIENCE, check=False)
    assert done.returncode == 143


def test_a_pipe_that_gives_nothing(shop: Sandbox, terminal: Open) -> None:
    """An upload that waits for somebody to type can be interrupted, though a thread waits with it."""
    it = terminal("keys", "upload", "-", "-p", 8)
    it.read(lambda text: "Reading" in text)
    os.write(it.fd, b"\x03")
    assert it.end() == 130
    assert not shop.requests


def test_output_that_is_closed_early(shop: Sandbox) -> None:
    """`| head`: when nobody reads on, the command ends without a word."""
    shop.add_keys(8, [f"MORE-{number:06d}" for number in range(20_000)])
    command = " ".join(f"'{word}'" for word in [*COMMAND, "keys", "export", "-p", "8", "-o", "-"])
    script = f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["/bin/bash", "-c", script], capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False
    )
    assert done.stdout == "EXAMPLE-8-001\n141\n"
    assert done.stderr == ""
    for table in ("errors", "errors --json", "--help"):
        closed = f"({' '.join(COMMAND)} {table}; echo $? >&2) | true"
        done = subprocess.run(
            ["/bin/bash", "-c", closed], capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False
        )
        assert done.stderr in ("141\n", "0\n"), table


def test_a_terminal_of_another_encoding(shop: Sandbox) -> None:
    """Output that can't hold Chinese shows names as escapes; files of card keys are UTF-8 wherever they go."""
    environ = os.environ | {"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "ascii"}
    shown = run("products", env=environ).stdout
    assert "in stock" in shown
    assert r"\u817e" in shown
    exported = subprocess.run(
        [*COMMAND, *["keys", "export", "-p", "8", "-o", "-"]], env=environ, capture_output=True, check=True
    )
    assert exported.stdout.decode().splitlines() == shop.keys(8)


def test_colours(shop: Sandbox, terminal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal is given colours, also in the help; one whose user has set NO_COLOR is not."""
    monkeypatch.setenv("TERM", "xterm-256color")
    colour = re.compile(r"\x1b\[[\d;]*3[0-7]")
    coloured = [terminal(*arguments) for arguments in (["doctor"], ["--help"])]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = [terminal(*arguments) for arguments in (["doctor"], ["--help"])]
    for it in [*coloured, *plain]:
        assert it.end() == 0
        assert bool(colour.search(it.text)) == (it in coloured), it.text


def test_the_sandbox_as_a_process(terminal: Open, tmp_path: Path) -> None:
    """`gatepay sandbox` says what to set, and each call, keeps its shop in the file; Ctrl-C ends it without a word."""
    it = terminal("sandbox", "--database", tmp_path / "shop.sqlite3", "--shell", "sh", columns=120)
    it.read(lambda text: "Press Ctrl-C" in text)
    environ = os.environ | dict(re.findall(r"export (GATEPAY_\w+)=(\S+)", it.text))
    assert json.loads(run("products", "--json", env=environ).stdout)["products"]
    it.read(lambda text: "product/show 100" in text and text.endswith("ms\r\n"))
    before = it.text
    os.write(it.fd, b"\x03")
    assert it.end() == 0
    assert it.text.removeprefix(before) in ("", "^C")
    assert (tmp_path / "shop.sqlite3").exists()
    for_programs = subprocess.Popen([*COMMAND, "sandbox", "--json"], stdout=subprocess.PIPE, encoding="utf-8")
    assert for_programs.stdout
    assert json.loads(for_programs.stdout.readline())["base_url"].startswith("http://127.0.0.1:")
    for_programs.send_signal(signal.SIGTERM)
    for_programs.communicate(timeout=PATIENCE)
    assert for_programs.returncode == 143


def test_without_the_extra(tmp_path: Path) -> None:
    """Without Typer the command says which extra is missing, wherever it is shown, instead of a traceback."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run("products", env=os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'gatepay-async[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def _shows(expected: str, text: str) -> bool:
    return expected in text


def test_what_follows_ctrl_c(shop: Sandbox, terminal: Open, tmp_path: Path) -> None:
    """What is said after Ctrl-C begins a line, behind the terminal's ^C or a question that nobody has answered."""
    odd = tmp_path / "odd.txt"
    odd.write_text("AAAA,BBBB\nCCCC\n")
    for arguments, shown, before in (
        (("keys", "upload", odd, "-p", 8), "[y/N] ", "one card key? [y/N] ^C"),
        (("login",), "appkey: ", "appkey: ^C"),
        (("uploads", "work"), "nothing is lost.", "nothing is lost."),
    ):
        it = terminal(*arguments, columns=100)
        it.read(partial(_shows, shown))
        os.write(it.fd, b"\x03")
        assert it.end() == 130
        *_, last, end, nothing = screen_of(it.text, 100)
        assert (last.rstrip()[-len(before) :], end.rstrip(), nothing) == (before, "Interrupted.", ""), it.text
