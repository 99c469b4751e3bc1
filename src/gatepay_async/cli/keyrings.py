"""
Stores secrets in the system's keyring, with the library ``keyring``.

The library takes a third of a second to import, so it is imported only when a command needs it. A keyring may ask the
user for a password, and it talks to another process, which may never answer. So all calls run in a thread, with a
time-out.
"""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.status import HaltError, Status

T = TypeVar("T")

SERVICE = "gatepay-async"
_HINT_AFTER_S = 2.0  # then a hint says that the command waits for the keyring
_KEYRING_TIMEOUT_S = 60.0  # the user may be typing a password


def keyring_name() -> str | None:
    """
    Return the name of the system's keyring, or None if there is none or it is switched off.

    Raises:
        HaltError: The keyring doesn't respond.
    """
    return _ask_keyring(_keyring_name)


def put_secret(account: str, secret: str) -> None:
    """
    Store *secret*, and replace the secret that *account* had before.

    Raises:
        HaltError: The keyring is locked, raises an error, or doesn't respond.
    """

    def put() -> bool:
        backend = _backend()
        backend.set_password(SERVICE, account, secret)
        return bool(backend.get_password(SERVICE, account) == secret)

    if not _ask_keyring(put):
        raise HaltError(text("keyring.forgets"), todo=text("keyring.todo"))


def get_secret(account: str) -> str | None:
    """
    Return the secret of *account*, or None if the keyring has none.

    Raises:
        HaltError: The keyring is locked, raises an error, or doesn't respond.
    """
    secret: str | None = _ask_keyring(lambda: _backend().get_password(SERVICE, account))
    return secret


def delete_secret(account: str) -> None:
    """
    Delete the secret of *account*, if there is one.

    Raises:
        HaltError: The keyring is locked, raises an error, or doesn't respond.
    """

    def delete() -> None:
        backend = _backend()
        if backend.get_password(SERVICE, account) is not None:
            backend.delete_password(SERVICE, account)

    _ask_keyring(delete)


def _backend() -> Any:
    import keyring

    return keyring.get_keyring()


def _keyring_name() -> str | None:
    try:
        from keyring.backends import fail, null
    except ModuleNotFoundError:  # not installed: the rest of the command works without it
        return None
    backend = _backend()
    return None if isinstance(backend, (fail.Keyring, null.Keyring)) else str(backend.name)


def _ask_keyring(work: Callable[[], T]) -> T:
    """Run *work* in a thread, with a time-out, and explain its errors."""
    results: list[T] = []
    failures: list[str] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 -- each keyring has its own errors; their texts may hold anything
            failures.append(type(error).__name__)

    thread = threading.Thread(target=run, name="gatepay-keyring", daemon=True)
    with _ended_by_ctrl_c():
        thread.start()
        thread.join(_HINT_AFTER_S)
        if thread.is_alive():
            warn(text("keyring.waiting"))
            thread.join(_KEYRING_TIMEOUT_S)
    if results:
        return results[0]
    if not failures:
        problem = text("keyring.hangs", seconds=f"{_HINT_AFTER_S + _KEYRING_TIMEOUT_S:g}")
    elif failures == ["KeyringLocked"]:
        problem = text("keyring.locked")
    elif failures == ["NoKeyringError"]:
        raise HaltError(text("keyring.missing"), todo=text("keyring.missing.todo"), status=Status.USAGE)
    else:
        problem = text("keyring.refuses", reason=failures[0])
    raise HaltError(problem, todo=text("keyring.todo"), status=Status.USAGE)


@contextmanager
def _ended_by_ctrl_c() -> Generator[None]:
    """Let Ctrl-C end the wait. The event loop's own handler can't run, because the wait blocks the loop."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
