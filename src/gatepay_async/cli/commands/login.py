"""``gatepay login``, ``profiles`` and ``logout``: stores credentials on this machine."""

import os
import sys
from contextlib import suppress
from getpass import getpass
from typing import NamedTuple

from gatepay_async.cli import keyrings, profiles
from gatepay_async.cli.chosen import KEY_VARIABLES, chosen
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, question, wants_json, warn, warn_interrupted
from gatepay_async.cli.profiles import Profile
from gatepay_async.cli.screens import print_line, print_table, table
from gatepay_async.cli.settings import StoredCredentials, is_same_url
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import BASE_URL, CLOUD_BASE_URL
from gatepay_async.protocol import invisible

_MAX_CHARS = 4096  # no appkey or appsecret is longer


class TypedCredentials(NamedTuple):
    """The credentials that the user has typed."""

    appkey: str
    secret: str


def ask_credentials() -> TypedCredentials:
    """
    Ask for appkey and appsecret. Without a terminal, read one line of standard input for each.

    Raises:
        HaltError: One of them is missing.
    """
    hidden = sys.stdin.isatty()
    if hidden:
        warn(text("login.ask"))
    try:
        with question("appkey: " if hidden else ""):
            appkey = _read_line()
        with question(""):
            secret = invisible.strip(getpass("appsecret: ")) if hidden and appkey else _read_line()
    except KeyboardInterrupt:
        warn_interrupted(text("running.interrupted"))
        raise
    if not appkey or not secret:
        raise HaltError(text("login.nothing"), todo=text("login.nothing.todo"))
    return TypedCredentials(appkey, secret)


def _read_line() -> str:
    return invisible.strip(sys.stdin.readline(_MAX_CHARS))


async def login(credentials: TypedCredentials, base_url: str, cloud_base_url: str, *, in_file: bool) -> Status:
    """
    Check *credentials* with one call, and save them as a profile.

    Args:
        credentials: The appkey and the appsecret.
        base_url: The server; empty: GATEPAY_BASE_URL, or else GatePay's own.
        cloud_base_url: The server for cloud payments; empty: *base_url*, or else GatePay's own.
        in_file: Whether to save the appsecret in a file, even if the system has a keyring.
    """
    name = profiles.check_name(_chosen_name() or profiles.DEFAULT_NAME)
    environment_url = "" if base_url else os.environ.get("GATEPAY_BASE_URL", "")
    if environment_url:
        base_url, cloud_base_url = environment_url, cloud_base_url or os.environ.get("GATEPAY_CLOUD_BASE_URL", "")
    profile = Profile(credentials.appkey, base_url, cloud_base_url or base_url)
    previous = profiles.find_profile(name)
    keyring = None if in_file else keyrings.keyring_name()
    stored = StoredCredentials(name, profile, base_url or BASE_URL, profile.cloud_base_url or CLOUD_BASE_URL)
    product_count = await _check_credentials_work(stored, credentials)
    place = _save(name, profile, credentials.secret, keyring)
    if (
        previous is not None
        and previous.kept_in == "keyring"
        and (keyring is None or previous.appkey != credentials.appkey)
    ):
        # The new secret didn't replace the previous one: it is stored elsewhere, or under another appkey.
        with suppress(HaltError):  # if this fails, an unused secret stays in the keyring
            keyrings.delete_secret(previous.account(name))
    is_default = profiles.default_name() == name
    if wants_json():
        print_json(
            profile=name, appkey=credentials.appkey, base_url=base_url or BASE_URL, kept_in=place, default=is_default,
            products=product_count,
        )  # fmt: skip
        return Status.DONE
    print_line(text("login.done", name=name, products=product_count), style="green")
    print_line(text("login.kept", place=place))
    if environment_url and not is_same_url(environment_url, BASE_URL):
        print_line(text("login.server", url=escape(environment_url)))
    if not is_default:
        print_line(text("login.not_default", name=name))
    if any(os.environ.get(variable) for variable in KEY_VARIABLES):
        warn(text("login.environment"))
    return Status.DONE


def _chosen_name() -> str:
    """Return the name in ``--profile`` or else in GATEPAY_PROFILE, or an empty string."""
    return chosen().profile or os.environ.get("GATEPAY_PROFILE", "")


async def _check_credentials_work(stored: StoredCredentials, credentials: TypedCredentials) -> int:
    """Call GatePay with *credentials*. Return how many products the shop has."""
    stored.use_secret(credentials.secret)
    async with stored.client() as gatepay:
        return len((await gatepay.list_products()).products)


def _save(name: str, profile: Profile, secret: str, keyring: str | None) -> str:
    """Save the profile and its secret. Return a text for the user that says where the secret is."""
    if keyring is None:
        path = profiles.path_of(name)
        profiles.save_profile(
            name, Profile(profile.appkey, profile.base_url, profile.cloud_base_url, kept_in="file", secret=secret)
        )
        return text("login.in_file", path=path)
    account = profile.account(name)
    previous_secret = keyrings.get_secret(account)
    keyrings.put_secret(account, secret)
    try:
        profiles.save_profile(name, profile)
    except HaltError:
        if previous_secret is None:  # don't leave a secret that no profile refers to
            keyrings.delete_secret(account)
        raise
    return text("login.in_keyring", keyring=keyring)


def list_profiles(default: str) -> Status:
    """Show all profiles, without their secrets. If *default* isn't empty, first make it the default profile."""
    if default:
        profiles.get_profile(default)
        profiles.set_default(default)
    default_name = profiles.default_name()
    named_profiles = [(name, profiles.get_profile(name)) for name in profiles.list_names()]
    if wants_json():
        print_json(
            profiles=[
                {
                    "profile": name,
                    "default": name == default_name,
                    "appkey": profile.appkey,
                    "base_url": profile.base_url or BASE_URL,
                    "kept_in": profile.kept_in,
                }
                for name, profile in named_profiles
            ]
        )
        return Status.DONE
    if not named_profiles:
        print_line(text("profiles.none"))
        return Status.DONE
    rows = table(*(text(f"profiles.{name}_column") for name in ("name", "appkey", "server", "kept")))
    for name, profile in named_profiles:
        label = text("profiles.the_default", name=name) if name == default_name else name
        place = text(f"profiles.in_{profile.kept_in}")
        rows.add_row(label, escape(profile.appkey), escape(profile.base_url or BASE_URL), place)
    print_table(rows)
    return Status.DONE


def logout() -> Status:
    """Delete a profile and its secret."""
    name = _chosen_name() or profiles.default_name()
    if not name:
        todo = text("logout.nothing.todo") if profiles.list_names() else ""
        raise HaltError(text("logout.nothing"), todo=todo)
    profile = profiles.get_profile(name, suggest_creating=False)
    # Delete the secret first: if that fails, the profile still refers to it.
    secret_remains = profile.kept_in == "keyring" and keyrings.keyring_name() is None
    if profile.kept_in == "keyring" and not secret_remains:
        keyrings.delete_secret(profile.account(name))
    profiles.remove_profile(name)
    if secret_remains:
        warn(text("logout.remains", account=profile.account(name), service=keyrings.SERVICE))
    if wants_json():
        print_json(profile=name, removed=True, secret_removed=not secret_remains)
    else:
        print_line(text("logout.profile_only" if secret_remains else "logout.done", name=name))
    return Status.DONE
