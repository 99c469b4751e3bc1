"""
Stores profiles: each has the key of one shop, from ``gatepay login``.

Each profile has its own file, and another file has the name of the default profile. So concurrent logins don't
conflict, and a damaged file affects one profile only.
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, cast

import typer
from attrs import asdict, field, frozen
from attrs.validators import in_, instance_of, min_len

from gatepay_async.cli.language import text
from gatepay_async.cli.private_file import atomic_write, remove_leftovers
from gatepay_async.cli.status import HaltError
from gatepay_async.words.problem import os_reason

DEFAULT_NAME = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # part of a file name, so no capitals: some systems ignore case
_FILE_PREFIX, _FILE_SUFFIX = "profile-", ".json"
_MAX_PROFILE_BYTES = 16 * 1024  # a longer file can't be a profile

_non_empty_text: Any = (instance_of(str), min_len(1))


@frozen
class Profile:
    """
    The key of one shop, and its server.

    Attributes:
        base_url: The server; empty: GatePay's own.
        cloud_base_url: The server for cloud payments; empty: GatePay's own.
        kept_in: Where the secret is stored: in the ``keyring``, or in the profile's ``file``.
        secret: The appsecret, if it is stored in the profile's file; otherwise empty.
    """

    appkey: str = field(validator=_non_empty_text)
    base_url: str = field(default="", validator=instance_of(str))
    cloud_base_url: str = field(default="", validator=instance_of(str))
    kept_in: str = field(default="keyring", validator=in_(("keyring", "file")))
    secret: str = field(default="", repr=False, validator=instance_of(str))

    def account(self, name: str) -> str:
        """
        Return the name of the secret in the keyring.

        It includes the appkey, so a secret is never used for another appkey.
        """
        return f"{name}/{self.appkey}"


def check_name(name: str) -> str:
    """
    Return *name* if it is valid for a profile.

    Raises:
        HaltError: *name* is invalid.
    """
    if not _NAME.fullmatch(name):
        raise HaltError(text("profiles.name", name=name))
    return name


def app_folder() -> Path:
    """
    Return the folder for this user's profiles and queues. It may not exist yet.

    Raises:
        HaltError: The user's home folder is unknown.
    """
    if not _has_home():
        raise HaltError(text("profiles.no_home"), todo=text("profiles.no_home.todo"))
    return Path(typer.get_app_dir("gatepay"))


def path_of(name: str) -> Path:
    """Return the file of the profile *name*."""
    return app_folder() / f"{_FILE_PREFIX}{check_name(name)}{_FILE_SUFFIX}"


def find_profile(name: str) -> Profile | None:
    """
    Read a profile, or return None if it doesn't exist.

    Raises:
        HaltError: Its file can't be read, is damaged, or is readable by others.
    """
    path = path_of(name)
    content = _read_private(path)
    if content is None:
        return None
    try:
        return Profile(**cast("dict[str, Any]", json.loads(content)))
    except (ValueError, TypeError, RecursionError):
        pass  # raised below, as this error may hold the secret
    raise HaltError(text("profiles.damaged", path=path), todo=text("profiles.damaged.todo", name=name))


def get_profile(name: str, *, suggest_creating: bool = True) -> Profile:
    """
    Read a profile.

    Args:
        name: The name of the profile.
        suggest_creating: Whether the remedy for a missing profile suggests to create it.

    Raises:
        HaltError: The profile doesn't exist, or can't be read (see ``find_profile``).
    """
    profile = find_profile(name)
    if profile is None:
        names = ", ".join(list_names()) or text("profiles.none_there")
        todo = text("profiles.unknown.todo", name=name) if suggest_creating else text("profiles.check.todo")
        raise HaltError(text("profiles.unknown", name=name, names=names), todo=todo)
    return profile


def list_names() -> list[str]:
    """Return the sorted names of all profiles. There are none if the home folder is unknown."""
    if not _has_home():
        return []
    paths = sorted(app_folder().glob(f"{_FILE_PREFIX}*{_FILE_SUFFIX}"))
    names = [path.name.removeprefix(_FILE_PREFIX).removesuffix(_FILE_SUFFIX) for path in paths]
    return [name for name in names if _NAME.fullmatch(name)]


def save_profile(name: str, profile: Profile) -> None:
    """
    Write a profile. It replaces one with the same name. The first profile becomes the default one.

    Raises:
        HaltError: The file can't be written. An existing profile stays as it was.
    """
    path = path_of(name)
    _make_private_folder(path.parent)
    _write_private(path, json.dumps(asdict(profile), indent=1))
    if not default_name():
        set_default(name)


def remove_profile(name: str) -> None:
    """
    Remove a profile. If it was the default one, there is no default any more.

    Raises:
        HaltError: The file can't be removed.
    """
    paths = [path_of(name), *([_default_path()] if default_name() == name else [])]
    remove_leftovers(path_of(name))
    try:
        for path in paths:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise HaltError(text("files.unwritable", path=error.filename, reason=os_reason(error))) from None


def default_name() -> str:
    """
    Return the name of the default profile, or an empty string.

    Raises:
        HaltError: The file with the name can't be read, or doesn't hold a profile's name.
    """
    name = (_read_private(_default_path()) or "").strip() if _has_home() else ""
    return check_name(name) if name else ""


def set_default(name: str) -> None:
    """
    Make a profile the default one.

    Raises:
        HaltError: The file can't be written.
    """
    _write_private(_default_path(), f"{name}\n")


def _default_path() -> Path:
    return app_folder() / "default-profile"


def _has_home() -> bool:
    """Whether the home folder of this user is known."""
    return Path(typer.get_app_dir("gatepay")).is_absolute()


def _make_private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HaltError(text("files.unwritable", path=folder, reason=os_reason(error))) from None


def _write_private(path: Path, content: str) -> None:
    # If *path* is a symbolic link, keep the link, and write the file that it points to.
    path = Path(os.path.realpath(path))
    remove_leftovers(path)
    with atomic_write(path) as file:
        file.write(content.encode())


def _read_private(path: Path) -> str | None:
    """Read a file that only its owner can read. Return None if it doesn't exist."""
    try:
        with open(path, "rb", opener=_open_without_blocking) as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_PROFILE_BYTES) if stat.S_ISREG(mode) else b""
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HaltError(text("profiles.unreadable", path=path, reason=os_reason(error))) from None
    if not stat.S_ISREG(mode):
        raise HaltError(text("files.no_file", path=path))
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise HaltError(text("profiles.shared", path=path), todo=text("profiles.shared.todo", path=path))
    return raw.decode("utf-8", "replace")


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # otherwise, opening a pipe that has no writer blocks
