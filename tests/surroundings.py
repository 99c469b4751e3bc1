"""Makes the environment and the signals of the tests the same, however they are started."""

import os
import signal
import tempfile
from pathlib import Path

# Removed in upper and lower case: they change the network, the language, the terminal or the account of a test.
_REMOVED_NAMES = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy", "ws_proxy", "wss_proxy",
    "ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle", "netrc",
    "language", "locpath", "no_color", "force_color", "clicolor", "clicolor_force", "columns", "lines",
    "tty_compatible", "tty_interactive", "pythonioencoding", "pythonwarnings", "comp_words", "comp_cword",
)  # fmt: skip
_REMOVED_PREFIXES = ("GATEPAY_", "LC_", "AWS_", "PG", "DBOS_", "_GATEPAY_", "_TYPER_")
_KEPT_PREFIX = "GATEPAY_TEST_"  # settings of these tests
# A file with one certificate. Each httpx client reads all certificates; the usual 150 take as long as a whole test.
_AUTHORITY = Path(__file__).with_name("authority.pem")
_SET_VARIABLES = {
    "LANG": "C.UTF-8",
    "TERM": "xterm-256color",
    "SSL_CERT_FILE": str(_AUTHORITY),
    "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",  # not the keyring of the developer
}
# nohup, or a shell without job control, may have ignored these. Each program that a test starts would inherit that.
_IGNORED_SIGNALS = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGWINCH")
_DEFAULT_SIGNALS = ("SIGCHLD", "SIGALRM")  # if they are ignored, subprocesses and timers don't work


def normalise_environment() -> None:
    """Set the environment. Called before test modules are imported; workers and started programs inherit it."""
    for name in list(os.environ):
        if name.lower() in _REMOVED_NAMES or (name.startswith(_REMOVED_PREFIXES) and not name.startswith(_KEPT_PREFIX)):
            del os.environ[name]
    os.environ.update(_SET_VARIABLES)
    if not _is_writable_folder(os.environ.get("HOME", "")):
        os.environ["HOME"] = tempfile.mkdtemp(prefix="gatepay-home-")
    if os.environ.get("PYTHONPATH"):
        # Programs that tests start in other folders must import the same package as the tests.
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))


def python_path(*folders: Path) -> str:
    """
    Return a ``PYTHONPATH`` with *folders* before the folders that are in it already.

    A test that replaced ``PYTHONPATH`` might start a program that imports another version of the package.
    """
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def _is_writable_folder(path: str) -> bool:
    """Whether files can be created in *path*. An empty path is no folder."""
    try:
        with tempfile.TemporaryFile(dir=path):
            return bool(path)
    except OSError:
        return False


def socket_folder() -> str | None:
    """Return a folder with a short path for Unix sockets: their paths may have about 100 characters."""
    short = "/tmp"  # noqa: S108 -- files in it are created with private permissions
    return short if os.access(short, os.W_OK) else None


def normalise_signals() -> None:
    """Unblock all signals and ignore none, in this process and in the programs that it starts."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio handles Ctrl-C only if it finds this handler
    for name in (*_IGNORED_SIGNALS, *_DEFAULT_SIGNALS):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            # A handler that does nothing ignores the signal here, but not in the programs that start here.
            signal.signal(number, signal.SIG_DFL if name in _DEFAULT_SIGNALS else _nothing)


def _nothing(_number: int, _frame: object) -> None:
    """Do nothing, as if the signal were ignored."""
