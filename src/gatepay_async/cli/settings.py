"""
Where the key comes from: the command line, the environment, or a profile, in this order.

A key and its secret always come from one of them: what belongs to two shops is never put together. With ``--profile``,
so does the server; else GATEPAY_BASE_URL comes before that of a profile. Nothing secret is ever read from the command
line.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen

from gatepay_async.cli import keyrings, profiles
from gatepay_async.cli.chosen import KEY_VARIABLES, chosen
from gatepay_async.cli.env_files import decoded
from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.profiles import Profile
from gatepay_async.cli.status import HaltError
from gatepay_async.client import BASE_URL, CLOUD_BASE_URL, AsyncGatePay

_MAX_SECRET_BYTES = 4096  # bytes; a file that is longer is another file


class Source(Protocol):
    """Where one shop's key comes from."""

    @property
    def base_url(self) -> str:
        """Where GatePay is."""
        ...

    @property
    def where(self) -> str:
        """For people: where the secret is."""
        ...

    def appkey(self) -> str:
        """
        The shop's public key.

        Raises:
            HaltError: There is none.
        """
        ...

    def secret(self) -> str:
        """
        The shop's secret.

        Raises:
            HaltError: There is none, or it can't be read.
        """
        ...

    def client(self, **options: Any) -> AsyncGatePay:
        """A client for that shop; to be opened."""
        ...


@frozen
class Environment:
    """The variables, of the environment or of an ``--env-file``."""

    @property
    def base_url(self) -> str:
        """As the client reads it."""
        return os.environ.get("GATEPAY_BASE_URL") or BASE_URL

    @property
    def where(self) -> str:
        """A file, or the variable itself."""
        path = secret_path()
        if path is not None:
            return text("doctor.secret_in_file", path=path)
        if chosen().env_file:
            return text("doctor.secret_in_file", path=chosen().env_file)
        return text("doctor.secret_in_variable")

    def appkey(self) -> str:
        """GATEPAY_APPKEY."""
        value = os.environ.get("GATEPAY_APPKEY", "").strip()
        if not value:
            raise HaltError(text("settings.no_appkey"), todo=text("settings.no_appkey.todo"))
        return value

    def secret(self) -> str:
        """GATEPAY_APPSECRET, or what is in the file that GATEPAY_APPSECRET_FILE names."""
        value, path = os.environ.get("GATEPAY_APPSECRET", "").strip(), secret_path()
        if value and path is not None:
            raise HaltError(text("settings.two_secrets"), todo=text("settings.two_secrets.todo"))
        if path is not None:
            return _read_secret(path)
        if not value:
            raise HaltError(text("settings.no_secret"), todo=text("settings.no_secret.todo"))
        return value

    def client(self, **options: Any) -> AsyncGatePay:
        """The client reads where to call by itself."""
        return AsyncGatePay(self.appkey(), self.secret(), **options)


@frozen
class Stored:
    """
    What `gatepay login` has put away.

    Attributes:
        base_url: Of the profile, or of the environment where that comes first.
    """

    name: str
    profile: Profile
    base_url: str
    cloud_base_url: str
    _cache: list[str] = field(factory=list[str], repr=False, eq=False)

    @property
    def where(self) -> str:
        """The profile, and where that keeps it."""
        place = text(f"profiles.in_{self.profile.kept_in}")
        return text("doctor.secret_in_profile", name=self.name, place=place)

    def appkey(self) -> str:
        """The profile's."""
        return self.profile.appkey

    def secret(self) -> str:
        """The profile's, or the keyring's, which is asked once."""
        if not self._cache:
            profile = self.profile
            found = profile.secret if profile.kept_in == "file" else keyrings.get_secret(profile.account(self.name))
            if not found:
                raise HaltError(
                    text("profiles.no_secret", name=self.name), todo=text("profiles.no_secret.todo", name=self.name)
                )
            self._cache.append(found)
        return self._cache[0]

    def know(self, secret: str) -> None:
        """Take *secret* for this run, which isn't put away yet."""
        self._cache[:] = [secret]

    def client(self, **options: Any) -> AsyncGatePay:
        """A client for the profile's shop."""
        return AsyncGatePay(
            self.appkey(), self.secret(), base_url=self.base_url, cloud_base_url=self.cloud_base_url, **options
        )


def source() -> Source:
    """
    Where the key comes from, for all of this run.

    Raises:
        HaltError: A profile is named that there isn't, or that can't be read.
    """
    run = chosen()
    if run.source is None:
        run.source = _choose_source(run.profile)
    found: Source = run.source
    return found


def _choose_source(named: str) -> Source:
    if named:
        return _stored(named, above_environment=True)
    if any(os.environ.get(name) for name in KEY_VARIABLES):
        return Environment()
    name = os.environ.get("GATEPAY_PROFILE") or profiles.default_name()
    return _stored(name, above_environment=False) if name else Environment()


def _stored(name: str, *, above_environment: bool) -> Stored:
    profile = profiles.get_profile(name)
    variables: Mapping[str, str] = {} if above_environment else os.environ
    base_url = variables.get("GATEPAY_BASE_URL") or profile.base_url or BASE_URL
    # Of the same place as the base URL: orders of a sandbox must never reach the real cloud.
    cloud_base_url = ""
    if is_same_url(base_url, variables.get("GATEPAY_BASE_URL") or BASE_URL):
        cloud_base_url = variables.get("GATEPAY_CLOUD_BASE_URL", "")
    if not cloud_base_url and is_same_url(base_url, profile.base_url or BASE_URL):
        cloud_base_url = profile.cloud_base_url
    if not cloud_base_url:
        cloud_base_url = CLOUD_BASE_URL if is_same_url(base_url, BASE_URL) else base_url
    return Stored(name, profile, base_url, cloud_base_url)


def is_same_url(one: str, other: str) -> bool:
    """Whether both are the same server, with a slash at the end or without."""
    return one.strip().rstrip("/").casefold() == other.strip().rstrip("/").casefold()


def base_url() -> str:
    """Where GatePay is."""
    return source().base_url


def appkey() -> str:
    """
    The shop's public key.

    Raises:
        HaltError: There is none.
    """
    return source().appkey()


def secret() -> str:
    """
    The shop's secret.

    Raises:
        HaltError: There is none, or it can't be read.
    """
    return source().secret()


def client() -> AsyncGatePay:
    """A client for the shop; to be opened."""
    return source().client()


def secret_path() -> Path | None:
    """The file that GATEPAY_APPSECRET_FILE names; None: none."""
    path = os.environ.get("GATEPAY_APPSECRET_FILE", "")
    return Path(os.path.expanduser(path)) if path else None  # noqa: PTH111 -- Path.expanduser() raises without a home


def is_world_readable(path: Path) -> bool:
    """Whether others on this machine may read *path*; Windows has other means."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IROTH)


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_SECRET_BYTES + 1)
        shared = is_world_readable(path)
    except OSError as error:
        raise HaltError(text("settings.secret_file", path=path, reason=error.strerror)) from None
    value = decoded(raw).strip()
    if not value or len(raw) > _MAX_SECRET_BYTES or len(value.split()) != 1:
        raise HaltError(text("settings.secret_form", path=path))
    if shared:
        warn(text("settings.secret_shared", path=path))
    return value
