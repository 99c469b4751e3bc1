"""``gatepay login``, ``profiles`` and ``logout``: a place for the key."""

import os
import sys
from contextlib import suppress
from getpass import getpass
from typing import NamedTuple

from gatepay_async.cli import keyrings, profiles
from gatepay_async.cli.chosen import KEY_VARIABLES, chosen
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json, warn
from gatepay_async.cli.profiles import Profile
from gatepay_async.cli.screens import print_line, print_table, table
from gatepay_async.cli.settings import Stored, is_same_url
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import BASE_URL, CLOUD_BASE_URL
from gatepay_async.protocol import invisible

_MAX_CHARS = 4096  # a line that is longer is something else


class Asked(NamedTuple):
    """What was typed."""

    appkey: str
    secret: str


def ask() -> Asked:
    """
    Ask for appkey and appsecret; without a terminal, read one line of standard input for each.

    Raises:
        HaltError: One of them is missing.
    """
    hidden = sys.stdin.isatty()
    if hidden:
        warn(text("login.ask"))
        _prompt("appkey: ")
    appkey = _line()
    # getpass() talks to the terminal itself, and shows nothing of what is typed there.
    secret = invisible.strip(getpass("appsecret: ")) if hidden and appkey else _line()
    if not appkey or not secret:
        raise HaltError(text("login.nothing"), todo=text("login.nothing.todo"))
    return Asked(appkey, secret)


def _prompt(message: str) -> None:
    sys.stderr.write(message)
    sys.stderr.flush()


def _line() -> str:
    return invisible.strip(sys.stdin.readline(_MAX_CHARS))


async def login(asked: Asked, base_url: str, cloud_base_url: str, *, in_file: bool) -> Status:
    """Check the key with one call, and put it away."""
    name = profiles.check_name(_named() or profiles.DEFAULT_NAME)
    from_environment = "" if base_url else os.environ.get("GATEPAY_BASE_URL", "")
    if from_environment:
        base_url, cloud_base_url = from_environment, cloud_base_url or os.environ.get("GATEPAY_CLOUD_BASE_URL", "")
    # A server of one's own is the cloud, too, if nobody says where that is.
    profile = Profile(asked.appkey, base_url, cloud_base_url or base_url)
    before = profiles.find_profile(name)
    keyring = None if in_file else keyrings.keyring_name()
    count = await _check_key(
        Stored(name, profile, base_url or BASE_URL, profile.cloud_base_url or CLOUD_BASE_URL), asked
    )
    place = _store(name, profile, asked.secret, keyring)
    if before is not None and before.kept_in == "keyring" and (keyring is None or before.appkey != asked.appkey):
        with suppress(HaltError):  # what is left there opens nothing: no profile leads to it
            keyrings.delete_secret(before.account(name))
    is_default = profiles.default_name() == name
    if wants_json():
        print_json(
            profile=name, appkey=asked.appkey, base_url=base_url or BASE_URL, kept_in=place, default=is_default,
            products=count,
        )  # fmt: skip
        return Status.DONE
    print_line(text("login.done", name=name, products=count), style="green")
    print_line(text("login.kept", place=place))
    if from_environment and not is_same_url(from_environment, BASE_URL):
        print_line(text("login.server", url=escape(from_environment)))
    if not is_default:
        print_line(text("login.not_default", name=name))
    if any(os.environ.get(each) for each in KEY_VARIABLES):
        warn(text("login.environment"))
    return Status.DONE


def _named() -> str:
    return chosen().profile or os.environ.get("GATEPAY_PROFILE", "")


async def _check_key(stored: Stored, asked: Asked) -> int:
    stored.know(asked.secret)
    async with stored.client() as gatepay:
        return len((await gatepay.list_products()).products)


def _store(name: str, profile: Profile, secret: str, keyring: str | None) -> str:
    """Put it away; where that is."""
    if keyring is None:
        path = profiles.path_of(name)
        profiles.save_profile(name, Profile(profile.appkey, profile.base_url, profile.cloud_base_url, "file", secret))
        return text("login.in_file", path=path)
    account = profile.account(name)
    had = keyrings.get_secret(account)
    keyrings.put_secret(account, secret)
    try:
        profiles.save_profile(name, profile)
    except HaltError:
        if had is None:  # nothing leads to it
            keyrings.delete_secret(account)
        raise
    return text("login.in_keyring", keyring=keyring)


def list_profiles(default: str) -> Status:
    """Show all profiles, and nothing secret; make one the default before, if that is asked."""
    if default:
        profiles.get_profile(default)
        profiles.set_default(default)
    first = profiles.default_name()
    found = [(name, profiles.get_profile(name)) for name in profiles.list_names()]
    if wants_json():
        print_json(
            profiles=[
                {
                    "profile": name,
                    "default": name == first,
                    "appkey": profile.appkey,
                    "base_url": profile.base_url or BASE_URL,
                    "kept_in": profile.kept_in,
                }
                for name, profile in found
            ]
        )
        return Status.DONE
    if not found:
        print_line(text("profiles.none"))
        return Status.DONE
    rows = table(*(text(f"profiles.{name}_column") for name in ("name", "appkey", "server", "kept")))
    for name, profile in found:
        shown = text("profiles.the_default", name=name) if name == first else name
        place = text(f"profiles.in_{profile.kept_in}")
        rows.add_row(shown, escape(profile.appkey), escape(profile.base_url or BASE_URL), place)
    print_table(rows)
    return Status.DONE


def logout() -> Status:
    """Forget a profile, and its secret."""
    name = _named() or profiles.default_name()
    if not name:
        raise HaltError(text("logout.nothing"), todo=text("logout.nothing.todo"))
    profile = profiles.get_profile(name)
    # First the secret: if that can't be, the profile still leads to it.
    if profile.kept_in == "keyring" and keyrings.keyring_name() is not None:
        keyrings.delete_secret(profile.account(name))
    profiles.remove_profile(name)
    if wants_json():
        print_json(profile=name, removed=True)
    else:
        print_line(text("logout.done", name=name))
    return Status.DONE
