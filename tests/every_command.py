"""
Runs every command of `gatepay` in different terminals, pipes and languages, and prints a table of what is wrong.

    python tests/every_command.py                   all commands, as a table in Markdown
    python tests/every_command.py pay "keys export" only these commands
    python tests/every_command.py --show 40 pay     also their output, in a terminal of 40 columns
    python tests/every_command.py --first-output    how soon each command that waits for a server writes something

Each cell of the table is a process with its own streams. It is forked from this process, which has already imported
everything. A command without a row in command_rows.py is an error. `nox -s commands` runs all commands, and the slow
tests run some.
"""

import atexit
import fcntl
import json
import os
import pty
import re
import resource
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from command_rows import ORDER, ROWS, Row, Shop
from command_rules import FULL_DISK, Outcome, judge
from typer.main import get_command

from gatepay_async.cli.app import app
from gatepay_async.cli.entry import main

CONDITIONS = ("wide", "40 columns", "piped", "NO_COLOR", "--json", "zh", "closed stdout", "full disk")
COMMANDS_WITH_A_ROW = frozenset(row.name for row in ROWS)
COLUMNS = {"wide": 200, "40 columns": 40, "NO_COLOR": 80, "zh": 60}  # the width of the terminal
TIMEOUT_S = 60.0  # generous, because the machine may be busy
_MIB = 1 << 20
CALLBACK_SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"success")
    def log_message(self, *_):
        pass
server = HTTPServer(("127.0.0.1", 0), Shop)
print(f"http://127.0.0.1:{server.server_port}/paid", flush=True)
server.serve_forever()
"""


@define
class Cell:
    """
    A command line under one condition, and the process that runs it.

    Attributes:
        variant: How the condition is created, such as ``| true`` for a closed standard output; empty: in the only way.
        folder: The cell's HOME and working directory.
        fds: The file descriptors to read, with the name of the stream: ``out`` or ``err``.
        typed: How many of the row's prompts have been answered.
        output: The output so far, by stream.
    """

    row: Row
    condition: str
    variant: str
    arguments: list[str]
    folder: Path
    outcome: Outcome = field(factory=Outcome)
    pid: int = 0
    fds: dict[int, str] = field(factory=dict[int, str])
    output: dict[str, bytes] = field(factory=lambda: {"out": b"", "err": b""})
    typed: int = 0
    interrupted: bool = False
    started_at: float = 0.0


def command_paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of all commands, such as `keys upload`."""
    subcommands = getattr(command, "commands", {})
    for name, subcommand in subcommands.items():
        yield from command_paths(subcommand, (*path, name))
    if not subcommands:
        yield " ".join(path)


def cells_of(row: Row, shop: Shop, folder: Path, condition: str) -> Iterator[Cell]:
    """Yield the cells of a row: the command and its help. Some conditions have two variants."""
    variants = {"closed stdout": (">&-", "| true"), "full disk": (">/dev/full", FULL_DISK)}.get(condition, ("",))
    global_options = {"--json": ["--json"], "zh": ["--lang", "zh"]}.get(condition, [])
    for variant in variants:
        if variant in row.without:
            continue
        home = folder / re.sub(r"\W+", "-", f"{row.name} {condition} {variants.index(variant)}")
        yield Cell(row, condition, variant, [*global_options, *row.arguments(shop)], home)
    if row.is_main_row and condition in COLUMNS:
        home = folder / re.sub(r"\W+", "-", f"{row.name} {condition} help")
        yield Cell(Row(f"{row.name} --help", ""), condition, "", [*global_options, *row.name.split(), "--help"], home)


def prepare(cell: Cell, shop: Shop, template: Path) -> None:
    """Create the cell's folder, with the files and the queue of uploads that its command needs."""
    cell.folder.mkdir(parents=True)
    if cell.row.queue:
        shutil.copytree(template, cell.folder, dirs_exist_ok=True)
    if cell.row.typed:
        (cell.folder / "typed").write_text("".join(f"{getattr(shop, name)}\n" for _, name in cell.row.typed))
    for name, text in shop.files.items():
        (cell.folder / name).write_text(text, encoding="utf-8")


def start(cell: Cell, shop: Shop) -> None:
    """Fork the cell's process."""
    columns = COLUMNS.get(cell.condition)
    environ = shop.environ | {"HOME": str(cell.folder), "XDG_CONFIG_HOME": str(cell.folder), "TMPDIR": str(cell.folder)}
    environ |= {"NO_COLOR": "1"} if cell.condition == "NO_COLOR" else {}
    environ |= cell.row.environ
    if columns:
        controller, terminal = pty.openpty()
        size = struct.pack("HHHH", 5000, columns, 0, 0)  # so many rows that no output is shortened
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        child_fds, cell.fds = [terminal, terminal, terminal], {controller: "out"}
    else:
        typed = os.open(cell.folder / "typed" if cell.row.typed else os.devnull, os.O_RDONLY)
        read, write = os.pipe()
        error_read, error_write = os.pipe()
        child_fds, cell.fds = [typed, write, error_write], {read: "out", error_read: "err"}
        if cell.variant in (">/dev/full", "| true", ">&-"):
            os.close(read)
            del cell.fds[read]
        if cell.variant == ">/dev/full":
            os.close(write)
            child_fds[1] = os.open("/dev/full", os.O_WRONLY)
    cell.started_at = time.monotonic()
    cell.pid = os.fork()
    if cell.pid == 0:
        run_in_child(cell, child_fds, environ)
    for fd in set(child_fds):
        os.close(fd)


def run_in_child(cell: Cell, child_fds: list[int], environ: dict[str, str]) -> None:
    """
    Run the command in the forked process, and exit as Python does.

    Args:
        cell: The command and its condition.
        child_fds: The file descriptors that become standard input, output and error.
        environ: The environment of the command.
    """
    status = 1
    atexit._clear()  # the handlers of this program must run in this program only
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # this program may have been started with nohup
        if cell.condition in COLUMNS:
            fcntl.ioctl(child_fds[0], termios.TIOCSCTTY, 0)
        for number, fd in enumerate(child_fds):
            os.dup2(fd, number)
        os.closerange(3, 256)
        if cell.variant == ">&-":
            os.close(1)
        if cell.variant == FULL_DISK and not os.path.ismount(cell.folder.parent):  # a mounted disk is really full
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(cell.folder)
        tempfile.tempdir = None
        sys.argv = ["gatepay", *cell.arguments]
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 -- like Python at its start
        stdout: Any = None if cell.variant == ">&-" else open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 -- like Python at its start
        sys.stdout = stdout
        stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 -- like Python at its start
        sys.stderr = stderr
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 -- like Python, print any exception
            traceback.print_exc()
        # Do what Python does at exit.
        threading._shutdown()  # type: ignore[attr-defined]  # it has no public name
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError as error:
            os.write(2, f"Exception ignored: {error}".encode())
            status = 120
    except BaseException:  # noqa: BLE001 -- a bug in this program
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def read_output(cells: list[Cell], shop: Shop) -> None:
    """Read the output of *cells*, type what they ask for, and interrupt those that never end by themselves."""
    fds = {fd: cell for cell in cells for fd in cell.fds}
    for fd in select.select(list(fds), [], [], 1)[0] if fds else ():
        cell = fds[fd]
        try:
            data = os.read(fd, 65_536)
        except OSError:  # Linux raises this when the other side of a terminal is closed
            data = b""
        if not data:
            os.close(fd)
            del cell.fds[fd]
            continue
        cell.output[cell.fds[fd]] += data
        output = (cell.output["out"] + cell.output["err"]).decode(errors="replace")
        if cell.condition in COLUMNS and cell.typed < len(cell.row.typed):
            prompt, name = cell.row.typed[cell.typed]
            if prompt in output:
                os.write(fd, f"{getattr(shop, name)}\n".encode())
                cell.typed += 1
        if cell.row.until and re.search(cell.row.until, output) and not cell.interrupted:
            cell.interrupted = True
            os.kill(cell.pid, signal.SIGINT)


def run_all(cells: list[Cell], shop: Shop, limit: int) -> None:
    """Run *cells*, at most *limit* at the same time."""
    waiting, running = list(reversed(cells)), list[Cell]()
    while waiting or running:
        while waiting and len(running) < limit:
            running.append(waiting.pop())
            start(running[-1], shop)
        read_output(running, shop)
        for cell in list(running):
            if time.monotonic() - cell.started_at > TIMEOUT_S:
                os.kill(cell.pid, signal.SIGKILL)
                cell.outcome.hung = True
            if cell.fds:
                continue
            status = os.waitpid(cell.pid, 0)[1]
            running.remove(cell)
            cell.outcome.status = os.waitstatus_to_exitcode(status)
            cell.outcome.out, cell.outcome.err = (cell.output[name].decode(errors="replace") for name in ("out", "err"))


def fill_disk(folder: Path) -> None:
    """Fill the file system of *folder*, so that further writes fail."""
    for size in (_MIB, 4096, 1):  # smaller and smaller pieces, until not one more byte fits
        try:
            with (folder / f"full-{size}").open("wb", buffering=0) as file:
                while True:
                    if file.write(b"\0" * size) < size:
                        break
        except OSError:
            continue


def make_template(shop: Shop, folder: Path) -> None:
    """
    Submit a finished and a waiting upload in *folder*, which is copied for each command that needs a queue.

    Also create an order and sign its callback.
    """
    lines = {name: "".join(f"{name.upper()}-{number:05d}\n" for number in range(700)) for name in ("first", "second")}
    shop.files |= lines

    def run_json(line: str) -> Any:
        cell = Cell(Row("setup", ""), "piped", "", ["--json", *line.split()], folder)
        start(cell, shop)
        while cell.fds:
            read_output([cell], shop)
        status = os.waitpid(cell.pid, 0)[1]
        assert status == 0, cell.output
        return json.loads(cell.output["out"])

    prepare(Cell(Row("setup", ""), "piped", "", [], folder), shop, folder)
    run_json("keys upload first -p 8 --durable")
    run_json("keys upload second -p 8 --no-wait")
    shop.jobs = {job["state"]: job["job"] for job in run_json("uploads list")["jobs"]}
    run_json(f"pay -p 5 --type alipay --order {ORDER}")
    shop.callback = run_json(f"callback sign --order-id 9 --order {ORDER} --price 0.99")["query"]
    for name in lines:
        del shop.files[name]


def measure_first_output(rows: list[Row], shop: Shop) -> None:
    """Print how soon each command writes something in a terminal while its server doesn't respond."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api/"
        print("| command | first output (s), the fastest of 3 |\n| --- | --- |")
        for row in rows:
            if not row.waits:
                continue
            durations = []
            for turn in range(3):
                with tempfile.TemporaryDirectory() as folder:
                    cell = Cell(row, "wide", "", row.arguments(shop), Path(folder) / f"{turn}")
                    prepare(cell, shop, Path(shop.environ["TEMPLATE"]))
                    environ = shop.environ | {"GATEPAY_BASE_URL": url, "HOME": str(cell.folder)}
                    durations.append(seconds_to_first_output(shop, cell, environ))
            print(f"| {row.name} | {min(durations):.2f} |", flush=True)


def seconds_to_first_output(shop: Shop, cell: Cell, environ: dict[str, str]) -> float:
    """Return the seconds until a new process of the command writes something; 99: it wrote nothing within 20 s."""
    controller, terminal = pty.openpty()
    started_at = time.monotonic()
    process = subprocess.Popen(
        [*shop.command, *cell.arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environ, cwd=cell.folder
    )
    os.close(terminal)
    has_output = select.select([controller], [], [], 20)[0]
    seconds = time.monotonic() - started_at if has_output else 99.0
    process.kill()
    process.wait()
    os.close(controller)
    return seconds


def mount_small_disk() -> Path | None:
    """
    Return the folder of a small file system that only this process sees; None: the user may not mount one.

    To mount it, this restarts the program in a mount namespace of its own.
    """
    if mounted := os.environ.get("EVERY_COMMAND_DISK"):
        return Path(mounted)
    unshare = shutil.which("unshare")
    if (
        os.geteuid()
        or not unshare
        or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode
    ):
        return None
    folder = tempfile.mkdtemp()
    script = (
        'mount -t tmpfs -o size=24m none "$0" || export EVERY_COMMAND_DISK=; "$@"; status=$?; umount "$0"; exit $status'
    )
    environ = os.environ | {"EVERY_COMMAND_DISK": folder}
    command = [unshare, "-m", "sh", "-c", script, folder, sys.executable, *sys.argv]
    done = subprocess.run(command, env=environ, check=False)
    Path(folder).rmdir()
    sys.exit(done.returncode)


def main_program(arguments: list[str]) -> int:
    """Run the commands that *arguments* name, or all, and print the results. Return the exit status."""
    disk = mount_small_disk()
    shown_condition = arguments[arguments.index("--show") + 1] if "--show" in arguments else ""
    names = [argument for argument in arguments if not argument.startswith("--") and argument != shown_condition]
    missing = set(command_paths(get_command(app))) - COMMANDS_WITH_A_ROW
    assert not missing, f"no row for {missing}"
    rows = [row for row in ROWS if not names or row.name in names]
    # Import everything that the commands use, so that each forked process starts at once.
    runpy.run_path(str(Path(__file__).parents[1] / "docs" / "warm_command.py"))["warm"]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = subprocess.Popen(
            [sys.executable, "-m", "gatepay_async.cli", "sandbox", "--json", "--port", "0"], stdout=subprocess.PIPE
        )
        receiver = subprocess.Popen([sys.executable, "-c", CALLBACK_SERVER], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert receiver.stdout is not None
            shop = Shop.from_settings(json.loads(server.stdout.readline()))
            shop.receiver = receiver.stdout.readline().decode().strip()
            make_template(shop, folder / "template")
            if "--first-output" in arguments:
                measure_first_output(rows, evolve(shop, environ=shop.environ | {"TEMPLATE": str(folder / "template")}))
                return 0
            cells = [
                cell
                for condition in CONDITIONS
                if not shown_condition or condition.startswith(shown_condition)
                for row in rows
                for cell in cells_of(row, shop, folder, condition)
            ]
            for cell in cells:
                if cell.variant == FULL_DISK and disk is not None:
                    cell.folder = disk / cell.folder.name
                prepare(cell, shop, folder / "template")
            if disk is not None:
                fill_disk(disk)
            run_all(cells, shop, limit=2 * (os.cpu_count() or 1))
        finally:
            for process in (server, receiver):
                process.terminate()
                process.communicate()
    if shown_condition:
        for cell in cells:
            output = f"{cell.outcome.out}{cell.outcome.err}[{cell.outcome.status}]"
            print(f"$ gatepay {' '.join(cell.arguments)}  # {cell.variant}\n{output}")
    return show_table(rows, cells, shop)


def show_table(rows: list[Row], cells: list[Cell], shop: Shop) -> int:
    """Print the table. Return 1 if anything is wrong."""
    wide = {cell.row.name: cell.outcome.out for cell in cells if cell.condition == "wide"}
    piped = {cell.row.name: cell.outcome.out for cell in cells if cell.condition == "piped"}
    problems_by_cell: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        problems = judge(
            cell.outcome, cell.row, shop, cell.condition, cell.variant, columns=COLUMNS.get(cell.condition),
            wide=wide.get(cell.row.name, ""), writes=bool(piped.get(cell.row.name)),
        )  # fmt: skip
        name = cell.row.name.removesuffix(" --help")
        variant = " --help" if cell.row.name.endswith(" --help") else cell.variant
        problems_by_cell.setdefault((name, cell.condition), []).extend(
            f"{variant} {problem}".strip() for problem in problems
        )
    conditions = [condition for condition in CONDITIONS if any(cell.condition == condition for cell in cells)]
    print(f"| command | {' | '.join(conditions)} |\n| --- |{' --- |' * len(conditions)}")
    for row in rows:
        texts = (
            "; ".join(problems_by_cell[row.name, condition]) or "ok"
            if (row.name, condition) in problems_by_cell
            else "–"
            for condition in conditions
        )
        print(f"| {row.name} | {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |")
    print(f"\n{len(cells)} processes")
    return int(any(problems_by_cell.values()))


if __name__ == "__main__":
    sys.exit(main_program(sys.argv[1:]))
