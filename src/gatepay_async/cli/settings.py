"""
The source of the credentials: the command line, the environment, or a profile, in this order.

Appkey and appsecret always come from the same source, so that those of different shops are never combined. With
``--profile``, the server comes from the profile, too; otherwise GATEPAY_BASE_URL takes precedence over the server of a
profile. No secret is read from the command line.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen

from gatepay_async.cli import keyrings, profiles
from gatepay_async.cli.chosen import KEY_VARIABLES, chosen
from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.profiles import Profile
from gatepay_async.cli.status import HaltError
from gatepay_async.client import BASE_URL, CLOUD_BASE_URL, AsyncGatePay
from gatepay_async.client.settings import read_secret
from gatepay_async.protocol.errors import InvalidRequestError


class ShopCredentials(Protocol):
    """The credentials of one shop, and where they come from."""

    @property
    def base_url(self) -> str:
        """The URL of the server."""
        ...

    @property
    def secret_location(self) -> str:
        """Where the secret is stored, as a text for the user."""
        ...

    def appkey(self) -> str:
        """
        Return the appkey.

        Raises:
            HaltError: There is none.
        """
        ...

    def secret(self) -> str:
        """
        Return the appsecret.

        Raises:
            HaltError: There is none, or it can't be read.
        """
        ...

    def client(self, **options: Any) -> AsyncGatePay:
        """Return a client for the shop, which is not open yet."""
        ...


@frozen
class EnvironmentCredentials:
    """Credentials in environment variables, which may come from an ``--env-file``."""

    @property
    def base_url(self) -> str:
        """GATEPAY_BASE_URL, or the client's default."""
        return os.environ.get("GATEPAY_BASE_URL") or BASE_URL

    @property
    def secret_location(self) -> str:
        """The file or the variable that contains the secret."""
        path = secret_path()
        if path is not None:
            return text("doctor.secret_in_file", path=path)
        if chosen().env_file:
            return text("doctor.secret_in_file", path=chosen().env_file)
        return text("doctor.secret_in_variable")

    def appkey(self) -> str:
        """Return GATEPAY_APPKEY."""
        value = os.environ.get("GATEPAY_APPKEY", "").strip()
        if not value:
            raise HaltError(text("settings.no_appkey"), todo=text("settings.no_appkey.todo"))
        return value

    def secret(self) -> str:
        """Return GATEPAY_APPSECRET, or the contents of the file that GATEPAY_APPSECRET_FILE names."""
        value, path = os.environ.get("GATEPAY_APPSECRET", "").strip(), secret_path()
        if value and path is not None:
            raise HaltError(text("settings.two_secrets"), todo=text("settings.two_secrets.todo"))
        if path is not None:
            return _read_secret(path)
        if not value:
            raise HaltError(text("settings.no_secret"), todo=text("settings.no_secret.todo"))
        return value

    def client(self, **options: Any) -> AsyncGatePay:
        """Return a client. It reads the variables for the URLs itself."""
        return AsyncGatePay(self.appkey(), self.secret(), **options)


@frozen
class StoredCredentials:
    """
    Credentials that `gatepay login` has stored.

    Attributes:
        name: The name of the profile.
        profile: The profile.
        base_url: The URL of the server, from the profile, or from the environment if that takes precedence.
        cloud_base_url: The URL of the server for cloud payments.
    """

    name: str
    profile: Profile
    base_url: str
    cloud_base_url: str
    # The secret, once it is known. A list, because this class is frozen.
    _cache: list[str] = field(factory=list[str], repr=False, eq=False)

    @property
    def secret_location(self) -> str:
        """The profile, and whether its secret is in the keyring or in a file."""
        place = text(f"profiles.in_{self.profile.kept_in}")
        return text("doctor.secret_in_profile", name=self.name, place=place)

    def appkey(self) -> str:
        """Return the profile's appkey."""
        return self.profile.appkey

    def secret(self) -> str:
        """Return the appsecret from the profile's file or from the keyring, which is asked only once."""
        if not self._cache:
            profile = self.profile
            secret = profile.secret if profile.kept_in == "file" else keyrings.get_secret(profile.account(self.name))
            if not secret:
                raise HaltError(
                    text("profiles.no_secret", name=self.name), todo=text("profiles.no_secret.todo", name=self.name)
                )
            self._cache.append(secret)
        return self._cache[0]

    def use_secret(self, secret: str) -> None:
        """Use *secret*, which isn't stored yet, for this run."""
        self._cache[:] = [secret]

    def client(self, **options: Any) -> AsyncGatePay:
        """Return a client for the profile's shop."""
        return AsyncGatePay(
            self.appkey(), self.secret(), base_url=self.base_url, cloud_base_url=self.cloud_base_url, **options
        )


def credentials() -> ShopCredentials:
    """
    Return the credentials, the same object for the whole run.

    Raises:
        HaltError: The named profile doesn't exist or can't be read.
    """
    run = chosen()
    if run.credentials is None:
        run.credentials = _choose_credentials(run.profile)
    chosen_credentials: ShopCredentials = run.credentials
    return chosen_credentials


def _choose_credentials(profile_option: str) -> ShopCredentials:
    """Choose the source of the credentials. *profile_option* is the value of ``--profile``."""
    if profile_option:
        return _stored(profile_option, above_environment=True)
    if any(os.environ.get(name) for name in KEY_VARIABLES):
        return EnvironmentCredentials()
    name = os.environ.get("GATEPAY_PROFILE") or profiles.default_name()
    return _stored(name, above_environment=False) if name else EnvironmentCredentials()


def _stored(name: str, *, above_environment: bool) -> StoredCredentials:
    """Return the credentials of a profile. If it is *above_environment*, ignore the URLs in the environment."""
    profile = profiles.get_profile(name)
    variables: Mapping[str, str] = {} if above_environment else os.environ
    base_url = variables.get("GATEPAY_BASE_URL") or profile.base_url or BASE_URL
    # The cloud URL has the same source as the base URL: orders for a sandbox must never reach GatePay's cloud server.
    cloud_base_url = ""
    if is_same_url(base_url, variables.get("GATEPAY_BASE_URL") or BASE_URL):
        cloud_base_url = variables.get("GATEPAY_CLOUD_BASE_URL", "")
    if not cloud_base_url and is_same_url(base_url, profile.base_url or BASE_URL):
        cloud_base_url = profile.cloud_base_url
    if not cloud_base_url:
        cloud_base_url = CLOUD_BASE_URL if is_same_url(base_url, BASE_URL) else base_url
    return StoredCredentials(name, profile, base_url, cloud_base_url)


def is_same_url(first: str, second: str) -> bool:
    """Whether both URLs name the same server. A slash at the end makes no difference."""
    return first.strip().rstrip("/").casefold() == second.strip().rstrip("/").casefold()


def base_url() -> str:
    """Return the URL of the server."""
    return credentials().base_url


def appkey() -> str:
    """
    Return the shop's appkey.

    Raises:
        HaltError: There is none.
    """
    return credentials().appkey()


def secret() -> str:
    """
    Return the shop's appsecret.

    Raises:
        HaltError: There is none, or it can't be read.
    """
    return credentials().secret()


def client() -> AsyncGatePay:
    """Return a client for the shop, which is not open yet."""
    return credentials().client()


def secret_path() -> Path | None:
    """Return the path in GATEPAY_APPSECRET_FILE, or None if the variable is not set."""
    path = os.environ.get("GATEPAY_APPSECRET_FILE", "")
    return Path(os.path.expanduser(path)) if path else None  # noqa: PTH111 -- Path.expanduser() raises without a home


def is_world_readable(path: Path) -> bool:
    """Whether all users of this machine can read *path*. Always False on Windows, which has no file modes."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IROTH)


def _read_secret(path: Path) -> str:
    """Return the secret in a file. Warn if all users can read it."""
    try:
        secret = read_secret(path)
    except InvalidRequestError as error:
        raise HaltError(text("failing.field", field="GATEPAY_APPSECRET_FILE", problem=error.problem)) from None
    with suppress(OSError):  # the file may be gone by now
        if is_world_readable(path):
            warn(text("settings.secret_shared", path=path))
    return secret
