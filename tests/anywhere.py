"""
Run the tests in unusual environments: `python tests/anywhere.py [NAME …] [-- OPTION …]`.

Each run contains the fast lane and some tests of the other lanes, in an environment with several peculiarities at once.
The output names the peculiarities of a failed run; `python tests/anywhere.py proxies`, for example, runs the tests with
one peculiarity. Options after `--` are passed to pytest. The last lines are a table. The status is 1 if a test failed.
"""

import fcntl
import os
import pty
import pwd
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from threading import Timer

import certifi
from attrs import field, frozen

import gatepay_async

ROOT = Path(__file__).parents[1]
# The tests that depend most on the environment.
SELECTED_TESTS = (
    "tests/cli/test_cli_edges.py",
    "tests/cli/test_cli_keys.py",
    "tests/cli/test_cli_pay.py",
    "tests/cli/test_cli_shop.py",
    "tests/cli/test_cli_streams.py",
    "tests/cli/test_cli_terminal.py::test_colours_are_used_unless_no_color_is_set",
    "tests/cli/test_cli_terminal.py::test_signal_ends_an_upload_with_its_report",
    "tests/cli/test_cli_terminal.py::test_progress_bar_survives_a_resize_and_disappears",
    "tests/test_client.py",
    "tests/test_pool_stream.py",
    "tests/callbacks/test_callbacks_stores.py",
)
WORKERS = 2  # of pytest-xdist, in each run
CONCURRENT_RUNS = 2
TIME_LIMIT = 900  # seconds for a run
COLUMNS = 40
CLOSED_URL = "http://127.0.0.1:9"  # no server listens on this port
USER = "nobody"


@frozen
class Peculiarity:
    """
    One peculiarity of an environment.

    Attributes:
        shell: Commands that /bin/sh runs before pytest.
        environ: The variables to set, or to remove if the value is None. `{folder}` is the prepared folder.
        needs: The name of a program that this needs, or empty.
        terminal: Whether pytest runs in its own terminal.
        ordinary_user: Whether an ordinary user runs the tests, from a source archive. Needs root.
    """

    shell: str = ""
    environ: Mapping[str, str | None] = field(factory=dict[str, str | None])
    needs: str = ""
    terminal: bool = False
    ordinary_user: bool = False


PECULIARITIES = {
    "ignored signals": Peculiarity("trap '' HUP INT"),
    "no input": Peculiarity("exec <&-"),
    "null input": Peculiarity("exec </dev/null"),
    "umask": Peculiarity("umask 077"),
    "terminal": Peculiarity(terminal=True, environ={"COLUMNS": None}),
    "columns": Peculiarity(environ={"COLUMNS": str(COLUMNS)}),
    "dumb": Peculiarity(environ={"TERM": "dumb"}),
    "C": Peculiarity(environ={"LANG": "C", "LC_ALL": None}),
    "no such locale": Peculiarity(environ={"LANG": "zh_CN.GB18030", "LC_ALL": None}),
    "GB18030": Peculiarity(
        environ={"LANG": "zh_CN.GB18030", "LC_ALL": None, "LOCPATH": "{folder}/locales"}, needs="localedef"
    ),
    "Shanghai": Peculiarity(environ={"TZ": "Asia/Shanghai"}),
    "folders": Peculiarity(environ={"TMPDIR": "{folder}/a folder with 临时文件 in it"}),
    "no home": Peculiarity(environ={"HOME": None}),
    "read-only home": Peculiarity(environ={"HOME": "/proc"}),  # also read-only for root
    "proxies": Peculiarity(
        environ={
            name: CLOSED_URL
            for proxy in ("http_proxy", "https_proxy", "all_proxy")
            for name in (proxy, proxy.upper())
        }
    ),
    "certificates": Peculiarity(environ={"SSL_CERT_FILE": "{folder}/bundle.pem"}),
    "no certificates": Peculiarity(environ={"SSL_CERT_FILE": "{folder}/none.pem", "SSL_CERT_DIR": "{folder}/none"}),
    "hash seed": Peculiarity(environ={"PYTHONHASHSEED": str(os.getpid())}),
    "user": Peculiarity(ordinary_user=True, environ={"HOME": "/"}, needs="setpriv"),
}  # fmt: skip
# The combinations to run. If root runs this, all but the last run as root.
COMBINATIONS = (
    ("ignored signals", "no input", "umask", "C", "Shanghai", "no home", "hash seed"),
    ("terminal", "dumb", "read-only home", "proxies", "certificates"),
    ("folders", "columns", "null input", "no such locale", "no certificates"),
    ("GB18030", "umask", "proxies"),
    ("user", "no input", "C"),
)


@frozen
class Result:
    """The result of a run. *output* is pytest's output."""

    status: int = 0
    seconds: float = 0
    output: str = ""
    skipped_because: str = ""

    @property
    def row(self) -> str:
        if self.skipped_because:
            return f"NOT TRIED: {self.skipped_because}"
        counts = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", (self.output.splitlines() or [""])[-1])
        return f"{', '.join(counts) or 'no tests'}; status {self.status}; {self.seconds:.0f} s"


def main(arguments: list[str]) -> int:
    """Run all combinations in COMBINATIONS, or each named peculiarity, and print the table."""
    requested = arguments[: arguments.index("--")] if "--" in arguments else arguments
    pytest_options = arguments[len(requested) + 1 :]
    combinations: list[tuple[str, ...]] = [(name,) for name in requested] if requested else list(COMBINATIONS)
    with tempfile.TemporaryDirectory(prefix="anywhere-") as folder, ThreadPoolExecutor(CONCURRENT_RUNS) as pool:
        prepared_folder = Path(folder)
        prepared_folder.chmod(0o755)
        prepare(prepared_folder)
        names_by_future = {pool.submit(run_in, names, prepared_folder, pytest_options): names for names in combinations}
        for future in as_completed(names_by_future):
            if future.result().status:
                print(f"\n{' + '.join(names_by_future[future])}:\n{future.result().output}", flush=True)
    print()
    for future, names in names_by_future.items():
        print(f"{' + '.join(names)}: {future.result().row}")
    return int(any(future.result().status for future in names_by_future))


def prepare(prepared_folder: Path) -> None:
    """Create the files that the peculiarities need in *prepared_folder*."""
    shutil.copy(certifi.where(), prepared_folder / "bundle.pem")
    (prepared_folder / "locales").mkdir()
    localedef = shutil.which("localedef")
    if localedef:
        # Not checked: localedef warns about this locale and returns a status other than 0, although it creates it.
        target = str(prepared_folder / "locales" / "zh_CN.GB18030")
        subprocess.run([localedef, "-i", "zh_CN", "-f", "GB18030", target], capture_output=True, check=False)
    (prepared_folder / "a folder with 临时文件 in it").mkdir()


def run_in(names: tuple[str, ...], prepared_folder: Path, options: list[str]) -> Result:
    """Run the tests in this environment, or return why that is impossible."""
    peculiarities = [PECULIARITIES[name] for name in names]
    missing_programs = [
        peculiarity.needs for peculiarity in peculiarities if peculiarity.needs and not shutil.which(peculiarity.needs)
    ]
    if missing_programs:
        return Result(skipped_because=f"there is no {missing_programs[0]}")
    as_ordinary_user = any(peculiarity.ordinary_user for peculiarity in peculiarities)
    if as_ordinary_user and os.geteuid() != 0:
        return Result(skipped_because="it needs root, to switch to an ordinary user")
    environ = dict(os.environ)
    for name, value in [item for peculiarity in peculiarities for item in peculiarity.environ.items()]:
        environ.pop(name, None)
        if value is not None:
            environ[name] = value.format(folder=prepared_folder)
    tree, prefix = copy_archive(prepared_folder, environ) if as_ordinary_user else (ROOT, [])
    shell = "; ".join([*(peculiarity.shell for peculiarity in peculiarities if peculiarity.shell), 'exec "$@"'])
    command = ["/bin/sh", "-c", shell, "sh", *prefix, *pytest_command(tree), *options]
    started = time.monotonic()
    status, output = run(command, tree, environ, terminal=any(peculiarity.terminal for peculiarity in peculiarities))
    return Result(status, time.monotonic() - started, output)


def pytest_command(tree: Path) -> list[str]:
    """Return the command that runs the fast lane and SELECTED_TESTS."""
    fast = [str(path.relative_to(tree)) for path in sorted((tree / "tests").rglob("test_*.py")) if is_fast(path)]
    options = ["-q", "--tb=short", "--color=no", "-rfE", "-p", "no:cacheprovider", "--hypothesis-profile=few"]
    return [sys.executable, "-m", "pytest", *options, f"-n{WORKERS}", *fast, *SELECTED_TESTS]


def is_fast(path: Path) -> bool:
    match = re.search(r"^pytestmark = (\[[^\]]*\]|.*)", path.read_text("utf-8"), re.MULTILINE)
    return bool(match and "mark.fast" in match[1])


def run(command: list[str], tree: Path, environ: dict[str, str], *, terminal: bool) -> tuple[int, str]:
    """Run *command*, in its own narrow terminal or without one. Return its status and its output."""
    output_end, program_end = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(program_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        # The first terminal that a session leader opens becomes the session's controlling terminal.
        command = ["/bin/sh", "-c", f'exec <{os.ttyname(program_end)}; exec "$@"', "sh", *command]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=program_end,
        stderr=program_end,
        start_new_session=True,
    )
    os.close(program_end)
    timer = Timer(TIME_LIMIT, process.terminate)
    timer.start()
    output = b""
    with suppress(OSError):  # Linux raises this when the other side of a terminal is closed
        while data := os.read(output_end, 65_536):
            output += data
    os.close(output_end)
    status = process.wait()
    timer.cancel()
    return status, output.decode(errors="replace").replace("\r\n", "\n")


def copy_archive(prepared_folder: Path, environ: dict[str, str]) -> tuple[Path, list[str]]:
    """Copy the files of a source archive for an ordinary user. Return the copy and the command prefix for that user."""
    tree = prepared_folder / "archive"
    for path in archived_files():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tree / path)
    needed = [Path(sys.base_prefix), Path(sys.prefix)]
    package = Path(gatepay_async.__file__).resolve()
    if package.is_relative_to(ROOT / "src"):  # an editable install: test the copy instead
        environ["PYTHONPATH"] = str(tree / "src")
    temporary = prepared_folder / "of the user"
    temporary.mkdir()
    shutil.chown(temporary, USER)
    environ["TMPDIR"] = str(temporary)
    become = ["setpriv", f"--reuid={USER}", f"--regid={pwd.getpwnam(USER).pw_gid}", "--clear-groups", "--"]
    return tree, [*expose_folders(needed, prepared_folder), *become]


def archived_files() -> Iterable[Path]:
    """Return the files of a source archive."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        names = [os.fsdecode(name) for name in listed.stdout.split(b"\0")]
        return [Path(name) for name in names if (ROOT / name).is_file()]
    return [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def expose_folders(needed: Iterable[Path], prepared_folder: Path) -> list[str]:
    """Return a command prefix that lets every user read *needed* in private folders such as /root; may be empty."""
    lines: list[str] = []
    for number, path in enumerate(needed):
        private = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if private:
            aside = prepared_folder / f"aside-{number}"
            aside.mkdir()
            # Hide the private folder behind an empty one, in which the needed folder is mounted again.
            lines += [f"mount --bind '{path}' '{aside}'", f"mount -t tmpfs -o mode=755 none '{private[0]}'"]
            lines += [f"mkdir -p '{path}'", f"mount --bind '{aside}' '{path}'"]
    return ["unshare", "--mount", "/bin/sh", "-ec", "; ".join([*lines, 'exec "$@"']), "sh"] if lines else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
