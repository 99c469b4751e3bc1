"""Tests of the command as a process: in a terminal, interrupted, resized, with closed output, without its extra."""

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
from surroundings import python_path
from waiting import PATIENCE, wait_until

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

INITIAL_KEYS = 89  # card keys that the sandbox's product 8 has from the start


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file that takes several calls, so that an upload can be interrupted."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(20_000)))
    return path


def test_progress_bar_survives_a_resize_and_disappears(shop: Sandbox, keys: Path, terminal: Open) -> None:
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.05))
    upload = terminal("keys", "upload", keys, "-p", 8, "--concurrency", 1)
    upload.read(lambda text: "Uploading" in text and "/20,000" in text)
    upload.resize(50)
    os.kill(upload.pid, signal.SIGWINCH)
    upload.read(lambda text: re.search(r"[\d,]+/s", text))
    shop.clear_faults()
    assert upload.end() == 0
    assert "All card keys are on the server." in upload.text
    assert "\x1b[2K" in upload.text  # the bar is erased
    assert len(shop.keys(8)) == INITIAL_KEYS + 20_000


def test_interrupted_upload_keeps_the_missing_lines(shop: Sandbox, keys: Path, terminal: Open, tmp_path: Path) -> None:
    """Ctrl-C prints the report so far. The missing lines are in the file of failed lines and can be uploaded."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, skip=4, seconds=30))
    failed = tmp_path / "failed.txt"
    upload = terminal("keys", "upload", keys, "-p", 8, "--concurrency", 2, "--failed-lines", failed)
    upload.read(lambda text: "2,000/20,000" in text)  # four chunks; the next two take 30 s
    os.write(upload.fd, b"\x03")
    assert upload.end() == 130
    assert "unknown" in upload.text
    assert "Interrupted." in upload.text
    assert "Traceback" not in upload.text
    stored = set(shop.keys(8)[INITIAL_KEYS:])
    everything = set(keys.read_text().splitlines())
    missing = set(failed.read_text().splitlines())
    assert stored | missing == everything
    assert stat.S_IMODE(failed.stat().st_mode) == 0o600
    shop.clear_faults()
    second_run = run("keys", "upload", failed, "-p", 8, "--json")
    assert json.loads(second_run.stdout)["ok"] is True
    assert set(shop.keys(8)[INITIAL_KEYS:]) == everything


def test_progress_bar_fits_and_is_erased_at_any_width(
    shop: Sandbox, keys: Path, terminal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 40 columns on the bar is one line, and after Ctrl-C nothing of it remains on the screen."""
    monkeypatch.delenv("COLUMNS", raising=False)  # it takes precedence over the size of the terminal
    for lang, label in (("en", "Uploading"), ("zh", "正在上传")):
        for columns in (40, 60, 80, 200):
            shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, skip=4, seconds=30))
            upload = terminal("--lang", lang, "keys", "upload", keys, "-p", 8, "--concurrency", 2, columns=columns)
            upload.read(lambda text: "2,000/20,000" in text)
            # Wait until the next bar starts, so that this one is complete.
            upload.read(lambda text: "\x1b[2K" in text.partition("2,000/20,000")[2])
            bar = next(part for part in upload.text.split("\r\x1b[2K") if "2,000/20,000" in part)
            bar = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", bar).strip()
            assert cell_len(bar) <= columns - 3, (lang, columns, bar)
            assert columns == 40 or label in bar, (lang, columns, bar)
            os.write(upload.fd, b"\x03")
            assert upload.end() == 130
            screen = screen_of(upload.text, columns)
            assert not any("20,000" in line or "━" in line for line in screen), (lang, columns, screen)
            not_read = next(line for line in screen if {"en": "not read yet", "zh": "尚未读取"}[lang] in line)
            assert re.search(r"\d\d,\d00$", not_read), not_read
            shop.clear_faults()


def test_signal_ends_an_upload_with_its_report(shop: Sandbox, keys: Path) -> None:
    """SIGTERM and SIGHUP end an upload with its report, also in a process that ignores Ctrl-C."""
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=30))
    command = shlex.join([*COMMAND, "keys", "upload", str(keys), "-p", "8", "--json"])
    cases = [(signal.SIGTERM, "exec"), (signal.SIGHUP, "exec"), (signal.SIGTERM, "trap '' INT; exec")]
    with ExitStack() as stack:
        processes = [start_shell(stack, f"{prefix} {command}") for _, prefix in cases]
        # Each upload has four requests in flight at first, and each request takes 30 s.
        wait_until(lambda: len(shop.requests) == 4 * len(cases))
        for process, (number, prefix) in zip(processes, cases, strict=True):
            process.send_signal(number)
            out, _ = process.communicate(timeout=PATIENCE)
            report = json.loads(out)
            ended = (process.returncode, report["interrupted"], report["unknown"])
            assert ended == (128 + number, True, 2000), (number, prefix)


def start_shell(stack: ExitStack, script: str) -> subprocess.Popen[bytes]:
    """Start a shell script whose process is killed when the *stack* closes."""
    process = stack.enter_context(subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE))
    stack.callback(process.kill)
    return process


def test_upload_under_nohup_ignores_sighup(shop: Sandbox, keys: Path) -> None:
    command = [*COMMAND, "keys", "upload", str(keys), "-p", "8", "--json"]
    shop.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=4, seconds=1))
    with ExitStack() as stack:
        process = start_shell(stack, f"trap '' HUP; exec {shlex.join(command)}")
        wait_until(lambda: shop.requests)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(out)["stored"]) == (0, 20_000)


SIGNAL_IN_ANOTHER_THREAD = """
import signal, sys, threading
import anyio
from gatepay_async.cli import runner

main = threading.get_ident()

def send_signal():
    while sys._current_frames()[main].f_code.co_name != "select":
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

async def work():
    threading.Thread(target=send_signal).start()
    await anyio.sleep_forever()

try:
    runner.run_and_exit(work)
except BaseException as error:
    sys.exit(error.exit_code)
"""


def test_signal_to_another_thread_ends_the_command() -> None:
    """A signal that another thread receives while the event loop blocks in select() ends the command."""
    done = subprocess.run([sys.executable, "-c", SIGNAL_IN_ANOTHER_THREAD], timeout=PATIENCE, check=False)
    assert done.returncode == 143


def test_upload_waiting_for_input_can_be_interrupted(shop: Sandbox, terminal: Open) -> None:
    """Ctrl-C ends an upload whose reader thread blocks on the terminal."""
    upload = terminal("keys", "upload", "-", "-p", 8)
    upload.read(lambda text: "Reading" in text)
    os.write(upload.fd, b"\x03")
    assert upload.end() == 130
    assert not shop.requests


def test_closed_pipe_ends_the_command_silently(shop: Sandbox) -> None:
    """`gatepay … | head` ends without an error message."""
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


def test_ascii_output_shows_chinese_names_as_escapes(shop: Sandbox) -> None:
    """Exported card keys are UTF-8 even if the output encoding is ASCII."""
    environ = os.environ | {"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "ascii"}
    shown = run("products", env=environ).stdout
    assert "in stock" in shown
    assert r"\u817e" in shown
    exported = subprocess.run(
        [*COMMAND, *["keys", "export", "-p", "8", "-o", "-"]], env=environ, capture_output=True, check=True
    )
    assert exported.stdout.decode().splitlines() == shop.keys(8)


def test_colours_are_used_unless_no_color_is_set(
    shop: Sandbox, terminal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    colour = re.compile(r"\x1b\[[\d;]*3[0-7]")
    coloured = [terminal(*arguments) for arguments in (["doctor"], ["--help"])]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = [terminal(*arguments) for arguments in (["doctor"], ["--help"])]
    for process in [*coloured, *plain]:
        assert process.end() == 0
        assert bool(colour.search(process.text)) == (process in coloured), process.text


def test_sandbox_process_prints_settings_and_calls(terminal: Open, tmp_path: Path) -> None:
    """`gatepay sandbox` prints variables and each call, stores the shop in its file, and ends silently on Ctrl-C."""
    server = terminal("sandbox", "--database", tmp_path / "shop.sqlite3", "--shell", "sh", columns=120)
    server.read(lambda text: "Press Ctrl-C" in text)
    environ = os.environ | dict(re.findall(r"export (GATEPAY_\w+)=(\S+)", server.text))
    assert json.loads(run("products", "--json", env=environ).stdout)["products"]
    server.read(lambda text: "product/show 100" in text and text.endswith("ms\r\n"))
    before = server.text
    os.write(server.fd, b"\x03")
    assert server.end() == 0
    assert server.text.removeprefix(before) in ("", "^C")
    assert (tmp_path / "shop.sqlite3").exists()
    json_server = subprocess.Popen([*COMMAND, "sandbox", "--json"], stdout=subprocess.PIPE, encoding="utf-8")
    assert json_server.stdout
    assert json.loads(json_server.stdout.readline())["base_url"].startswith("http://127.0.0.1:")
    json_server.send_signal(signal.SIGTERM)
    json_server.communicate(timeout=PATIENCE)
    assert json_server.returncode == 143


def test_missing_typer_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')")
    done = run("products", env=os.environ | {"PYTHONPATH": python_path(tmp_path), "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'gatepay-async[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def _contains(expected: str, text: str) -> bool:
    return expected in text


def test_text_after_ctrl_c_starts_a_line(shop: Sandbox, terminal: Open, tmp_path: Path) -> None:
    """The text replaces the terminal's ``^C``, or follows an unanswered question on a new line."""
    odd = tmp_path / "odd.txt"
    odd.write_text("AAAA,BBBB\nCCCC\n")
    for arguments, prompt, before in (
        (("keys", "upload", odd, "-p", 8), "[y/N] ", "one card key? [y/N] ^C"),
        (("login",), "appkey: ", "appkey: ^C"),
        (("uploads", "work"), "nothing is lost.", "nothing is lost."),
    ):
        process = terminal(*arguments, columns=100)
        process.read(partial(_contains, prompt))
        os.write(process.fd, b"\x03")
        assert process.end() == 130
        *_, last, end, rest = screen_of(process.text, 100)
        assert (last.rstrip()[-len(before) :], end.rstrip(), rest) == (before, "Interrupted.", ""), process.text
