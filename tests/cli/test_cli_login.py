"""Tests of `login`, `profiles`, `logout`, `--profile` and `--env-file`, also with failing keyrings and files."""

import io
import os
import signal
import stat
import sys
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import keyring
import keyring.backends.fail
import keyring.errors
import pytest
from tables import rows

from gatepay_async.cli import keyrings, profiles, settings
from gatepay_async.cli.chosen import KEY_VARIABLES, choose_env_file, fresh_run
from gatepay_async.cli.commands import login as login_command
from gatepay_async.cli.language import text
from gatepay_async.cli.status import HaltError
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

VARIABLES = ("GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL")


class MemoryKeyring:
    """A keyring in memory."""

    name = "Test Ring"

    @cached_property
    def secrets(self) -> dict[tuple[str, str], str]:
        return {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.secrets.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.secrets[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.secrets[service, username]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    """Replaces the system's keyring."""
    keyring_in_memory = MemoryKeyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: keyring_in_memory)
    return keyring_in_memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the profiles."""
    return tmp_path / "settings" / "gatepay"


@pytest.fixture
def server_url(shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """Remove the shop's settings from the environment. Return its base URL."""
    url = os.environ["GATEPAY_BASE_URL"]
    for name in VARIABLES:
        monkeypatch.delenv(name)
    return url


@pytest.fixture
def login(gatepay: Any, shop: Sandbox, server_url: str) -> Any:
    """Returns a function that logs in to the sandbox's shop with this index."""

    def log_in(*arguments: object, shop_index: int = 0, secret: str = "") -> Any:
        appkey, appsecret = shop.shops[shop_index]
        typed = f"\ufeff{appkey}\r\n{secret or appsecret}\n"
        return gatepay("login", "--base-url", server_url, *arguments, input=typed)

    return log_in


def product_ids(run: Any) -> list[int]:
    """Return the IDs of the listed products: 4, 5 and 8 in the sandbox's first shop, 3 in its second."""
    return [product["id"] for product in run.json["products"]]


def test_login_stores_the_secret_in_the_keyring(
    gatepay: Any, login: Any, shop: Sandbox, ring: MemoryKeyring, folder: Path
) -> None:
    """`login` checks the key and stores the secret for later commands; no file and no output contains the secret."""
    run = login()
    assert run.status == 0
    assert "profile default" in run.out
    assert "your keyring (Test Ring)" in run.out
    assert product_ids(gatepay("products", "--json")) == [4, 5, 8]
    assert login("--profile", "two", shop_index=1).status == 0
    assert product_ids(gatepay("products", "--json", "--profile", "two")) == [3]
    listed = gatepay("profiles")
    doctor = gatepay("doctor")
    assert "secret from the profile default (keyring)" in doctor.out
    everything = (
        listed.out + doctor.out + run.out + run.err + "".join(path.read_text("utf-8") for path in folder.iterdir())
    )
    for _, secret in shop.shops:
        assert secret in ring.secrets.values()
        assert secret not in everything
    [first, second] = gatepay("profiles", "--json").json["profiles"]
    assert (first["profile"], first["default"], first["appkey"], first["kept_in"]) == (
        "default", True, shop.appkey, "keyring",
    )  # fmt: skip
    assert (second["profile"], second["default"]) == ("two", False)


def test_login_in_a_terminal_prompts_without_echoing_the_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("the key\r\n"))
    monkeypatch.setattr(login_command, "getpass", lambda prompt: f" {prompt} ")
    assert login_command.ask_credentials() == login_command.TypedCredentials("the key", "appsecret:")
    assert capsys.readouterr().err.endswith("appkey: ")


def test_login_without_a_keyring_uses_a_private_file(gatepay: Any, login: Any, shop: Sandbox, folder: Path) -> None:
    """Without a keyring the secret is stored in a file that only its owner can read."""
    run = login("--json")
    assert run.json["kept_in"] == f"{folder / 'profile-default.json'}, which only you can read"
    assert run.json["default"] is True
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert product_ids(gatepay("products", "--json")) == [4, 5, 8]
    assert shop.appsecret not in repr(profiles.find_profile("default"))


def test_arguments_override_the_environment_which_overrides_profiles(
    gatepay: Any, login: Any, shop: Sandbox, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments take precedence over the environment, and the environment over a profile; sources are never mixed."""
    assert login("--profile", "one").status == 0
    assert login("--profile", "two", shop_index=1).status == 0
    assert product_ids(gatepay("products", "--json")) == [4, 5, 8]  # the first one is the default
    monkeypatch.setenv("GATEPAY_PROFILE", "two")
    assert product_ids(gatepay("products", "--json")) == [3]
    assert gatepay("profiles", "--default", "two").status == 0
    monkeypatch.delenv("GATEPAY_PROFILE")
    assert product_ids(gatepay("products", "--json")) == [3]
    for name, value in zip(VARIABLES, (*shop.shops[0], server_url), strict=True):
        monkeypatch.setenv(name, value)
    assert product_ids(gatepay("products", "--json")) == [4, 5, 8]
    assert "come before the profile" in login("--profile", "two", shop_index=1).err
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    assert product_ids(gatepay("--profile", "two", "products", "--json")) == [3]


def test_login_stores_no_unverified_key(login: Any, gatepay: Any, ring: MemoryKeyring, folder: Path) -> None:
    """A refused key, an appkey without a secret, and a key that no server could check are not stored."""
    assert login(secret="0" * 32).status == 3
    assert gatepay("login", input="only-one\n").status == 2
    assert gatepay("login", "--base-url", "http://127.0.0.1:9/api/", input="a\nb\n").status == 4
    assert gatepay("login", "--profile", "../x", input="a\nb\n").status == 2
    assert ring.secrets == {}
    assert not folder.exists()


def test_logout_deletes_the_profile_and_its_secret(gatepay: Any, login: Any, ring: MemoryKeyring, folder: Path) -> None:
    """`logout` deletes the secret from the keyring or the file, and the default profile."""
    login()
    login("--profile", "two", "--in-file", shop_index=1)
    assert gatepay("logout", "--profile", "two", "--json").json == {
        "profile": "two",
        "removed": True,
        "secret_removed": True,
    }
    assert "deleted" in gatepay("logout").out
    assert ring.secrets == {}
    assert list(folder.iterdir()) == []
    assert gatepay("logout").status == 2
    assert "No profiles yet" in gatepay("profiles").out
    assert "profiles: none" in gatepay("products", "--profile", "two").err


def test_second_login_replaces_the_stored_secret(login: Any, ring: MemoryKeyring, shop: Sandbox) -> None:
    """A new key for a profile, or another place to store it, removes the old secret."""
    login()
    login(shop_index=1)
    assert list(ring.secrets.values()) == [shop.shops[1].appsecret]
    login("--in-file", shop_index=1)
    assert ring.secrets == {}


class _FailingKeyring(MemoryKeyring):
    """Raises an error on every read."""

    error: Exception

    def get_password(self, service: str, username: str) -> str | None:  # noqa: ARG002 -- the signature of keyring backends
        raise self.error


def failing_keyring(error: Exception) -> MemoryKeyring:
    ring = _FailingKeyring()
    ring.error = error
    return ring


class _ForgetfulKeyring(MemoryKeyring):
    def set_password(self, service: str, username: str, password: str) -> None: ...


@rows(
    ("ring", "expected"),
    [
        (failing_keyring(keyring.errors.KeyringLocked("hunter2")), "Your keyring is locked."),
        (failing_keyring(OSError("hunter2")), "Your keyring refused (OSError)."),
        (_ForgetfulKeyring(), "did not keep the secret"),
    ],
)
def test_failing_keyring_suggests_a_file_and_stores_nothing(
    ring: MemoryKeyring, expected: str, login: Any, gatepay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyring that is locked, raises or doesn't keep the secret is an error that suggests --in-file."""
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    run = login()
    assert run.status == 2
    assert expected in run.err
    assert "--in-file" in run.err
    assert "hunter2" not in run.err
    assert gatepay("profiles", "--json").json == {"profiles": []}
    assert login("--in-file").status == 0
    assert gatepay("logout").status == 0


def test_hanging_keyring_times_out(login: Any, ring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that doesn't respond causes a hint, and then an error after a timeout."""
    released = threading.Event()
    monkeypatch.setattr(keyrings, "_HINT_AFTER_S", 0.01)
    monkeypatch.setattr(keyrings, "_KEYRING_TIMEOUT_S", 0.01)

    def hang(*_: object) -> bool:
        return released.wait(20)

    monkeypatch.setattr(MemoryKeyring, "get_password", hang)
    run = login()
    released.set()
    assert run.status == 2
    assert "may be asking for its password" in run.err
    assert "did not respond" in run.err


def test_ctrl_c_ends_the_wait_for_a_hanging_keyring(
    login: Any, gatepay: Any, ring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the wait for a keyring; a process that ignores Ctrl-C still ignores it."""
    login()
    released = threading.Event()

    def hang(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        released.wait(20)

    monkeypatch.setattr(MemoryKeyring, "get_password", hang)
    run = gatepay("products")
    released.set()
    assert (run.status, run.err) == (130, "Interrupted.\n")
    monkeypatch.undo()
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert keyrings.keyring_name() == "Test Ring"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_failed_second_login_keeps_the_first_secret(
    login: Any, ring: MemoryKeyring, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    login()

    def refuse(*_: object) -> None:
        raise HaltError(text("keyring.forgets"))

    monkeypatch.setattr(profiles, "save_profile", refuse)
    assert login().status == 2
    assert list(ring.secrets.values()) == [shop.appsecret]


def test_login_without_the_keyring_package_uses_a_file(login: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring.backends", None)
    assert "which only you can read" in login().out


def test_secret_missing_from_the_keyring_advises_login(gatepay: Any, login: Any, ring: MemoryKeyring) -> None:
    login()
    ring.secrets.clear()
    run = gatepay("products")
    assert run.status == 2
    assert "run `gatepay login --profile default` again" in run.err
    assert gatepay("logout").status == 0


@pytest.mark.usefixtures("ring")
def test_profile_is_unusable_without_its_keyring(gatepay: Any, login: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the keyring is missing, commands fail with advice, and `logout` warns that the secret couldn't be deleted."""
    login()
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.fail.Keyring)
    run = gatepay("products")
    assert (run.status, "no keyring is available here" in run.err, "--in-file" in run.err) == (2, True, True)
    run = gatepay("logout")
    assert (run.status, run.out) == (0, "Profile default is deleted.\n")
    assert "the secret could not be deleted" in run.err


def test_unwritable_or_unknown_home_stores_nothing(
    login: Any, ring: MemoryKeyring, folder: Path, monkeypatch: pytest.MonkeyPatch, gatepay: Any
) -> None:
    """If no profile file can be written, the keyring stays empty. Without a home folder there are no profiles."""
    folder.parent.write_text("a file in the place of the folder")
    run = login()
    assert run.status == 2
    assert "Can't write" in run.err
    assert ring.secrets == {}

    def unknown_home(_: str) -> str:
        return "~/.config/gatepay"

    monkeypatch.setattr("typer.get_app_dir", unknown_home)
    assert "Your home folder is unknown" in login().err
    assert "GATEPAY_APPKEY is not set" in gatepay("products").err
    assert gatepay("profiles", "--json").json == {"profiles": []}


def test_invalid_profile_file_is_named(gatepay: Any, login: Any, folder: Path, tmp_path: Path) -> None:
    """A damaged, shared, unreadable or special file is an error with its path; a symbolic link is followed and kept."""
    login()
    path = folder / "profile-default.json"
    good = path.read_text("utf-8")

    def error_text() -> str:
        run = gatepay("products")
        assert run.status == 2
        assert str(path) in run.err
        return str(run.err)

    invalid_fields = ('{"appkey": 1}', '{"appkey": "a", "more": 1}', '{"appkey": "a", "kept_in": "sky"}')
    for content in ("", "{", "[]", "[" * 16_000, *invalid_fields):
        path.write_text(content)
        assert "is damaged" in error_text()
    path.write_text(good)
    path.chmod(0o640)
    assert f"chmod 600 {path}" in error_text()
    path.unlink()
    path.symlink_to(path)
    assert "Can't read" in error_text()
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in error_text()
    path.unlink()
    elsewhere = tmp_path / "elsewhere.json"
    path.symlink_to(elsewhere)
    elsewhere.write_text(good)
    elsewhere.chmod(0o600)
    assert gatepay("products").status == 0
    assert login(shop_index=1).status == 0
    assert path.is_symlink()
    assert product_ids(gatepay("products", "--json")) == [3]
    (folder / "profile-No!.json").write_text("")
    assert len(gatepay("profiles", "--json").json["profiles"]) == 1


def test_logout_reports_a_file_that_cant_be_removed(
    gatepay: Any, login: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login()

    def refuse(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 -- the signature of Path.unlink
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    run = gatepay("logout")
    assert run.status == 2
    assert f"Can't write {folder}" in run.err


def test_env_file_takes_precedence_over_the_environment(
    gatepay: Any, shop: Sandbox, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--env-file` overrides the environment for one run, and only its GATEPAY_ variables are used."""
    path = tmp_path / ".env"
    appkey, secret = shop.shops[1]
    path.write_text(
        f'\ufeffexport GATEPAY_APPKEY="{appkey}"\r\nGATEPAY_APPSECRET={secret} # mine\nGATEPAY_BASE_URL={server_url}\n'
        "HTTP_PROXY=http://127.0.0.1:9\nGATEPAY_PROFILE\n",
        "utf-8",
    )
    path.chmod(0o644)
    monkeypatch.setenv("GATEPAY_APPKEY", shop.appkey)
    run = gatepay("products", "--json", "--env-file", path)
    assert product_ids(run) == [3]
    assert "every user of this machine can read" in run.err
    assert os.environ["GATEPAY_APPKEY"] == shop.appkey
    assert "GATEPAY_APPSECRET" not in os.environ
    monkeypatch.setenv("HOME", str(tmp_path))
    path.chmod(0o600)
    run = gatepay("doctor", "--env-file=~/.env")
    assert f"secret from the file {path}" in run.out
    assert run.err == ""
    (tmp_path / "secret").write_text(secret)
    (tmp_path / "secret").chmod(0o600)
    path.write_text(f"GATEPAY_APPKEY={appkey}\nGATEPAY_APPSECRET_FILE=~/secret\nGATEPAY_BASE_URL={server_url}\n")
    assert product_ids(gatepay("products", "--json", "--env-file", path)) == [3]
    for content in ("A=1\n", "GATEPAY_APPKEY=1\n" * 20_000):
        path.write_text(content)
        assert "sets no variable" in gatepay("products", "--env-file", path).err
    assert "can't read" in gatepay("products", "--env-file", tmp_path).err


def test_env_file_is_never_combined_with_another_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file sets only a part of a key or server, the rest isn't taken from the environment."""
    path, base, cloud = tmp_path / ".env", "GATEPAY_BASE_URL", "GATEPAY_CLOUD_BASE_URL"
    names = (*KEY_VARIABLES, base, cloud)
    for in_file, from_environment in (
        ({"GATEPAY_APPKEY"}, {base, cloud}),
        ({"GATEPAY_APPSECRET"}, {base, cloud}),
        ({base}, KEY_VARIABLES),
        ({cloud}, KEY_VARIABLES | {base}),
    ):
        path.write_text("".join(f"{name}=file\n" for name in in_file))
        path.chmod(0o600)
        for name in names:
            monkeypatch.setenv(name, "environment")
        with fresh_run():
            choose_env_file(str(path))
            effective = {name: os.environ[name] for name in names if name in os.environ}
        assert effective == {**dict.fromkeys(from_environment, "environment"), **dict.fromkeys(in_file, "file")}
        assert all(os.environ[name] == "environment" for name in names)


def test_help_command_equals_the_help_option(gatepay: Any) -> None:
    """`gatepay help keys upload` prints `gatepay keys upload --help`; an unknown command is a usage error."""
    assert gatepay("help").out == gatepay("--help").out
    assert gatepay("help", "keys", "upload").out == gatepay("keys", "upload", "--help").out
    for wrong in (("keys", "uplaod"), ("products", "x"), ("nothing",)):
        assert gatepay("help", *wrong).status == 2
    assert gatepay("-V").out == gatepay("--version").out


def test_help_as_json_lists_arguments_options_and_commands(gatepay: Any) -> None:
    description = gatepay("help", "keys", "--json").json
    assert description["command"] == "gatepay keys"
    assert [command["name"] for command in description["commands"]] == ["upload", "export", "count"]
    upload = gatepay("keys", "upload", "--help", "--json", "--lang", "zh").json
    assert [(argument["name"], argument["required"], argument["several"]) for argument in upload["arguments"]] == [
        ("FILE", True, True)
    ]
    options = {option["names"][0]: option for option in upload["options"]}
    assert options["--product"] == {"names": ["--product", "-p"], "value": "ID", "required": True} | {
        "help": "商品编号；可用 gatepay products 查看。"
    }
    assert options["--skip-heading"]["value"] is None


def test_default_cloud_url_matches_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox's base URL is never combined with the real cloud URL, wherever it is set."""
    sandbox_url, real, cloud = "http://127.0.0.1:1/api/", "https://gatepay.io/api/", "https://cloud.gatepay.io/api/"
    urls: list[tuple[str, str]] = []
    for stored, in_environment in (("", ""), ("", sandbox_url), (sandbox_url, ""), (sandbox_url, real)):
        monkeypatch.setenv("GATEPAY_BASE_URL", in_environment)
        profile = profiles.Profile("key", base_url=stored, cloud_base_url=stored)
        monkeypatch.setattr(profiles, "get_profile", {"shop": profile}.__getitem__)
        credentials = settings._stored("shop", above_environment=False)
        urls.append((credentials.base_url, credentials.cloud_base_url))
    assert urls == [(real, cloud), (sandbox_url, sandbox_url), (sandbox_url, sandbox_url), (real, cloud)]
    monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", sandbox_url)  # an explicit URL is used as it is
    assert settings._stored("shop", above_environment=False).cloud_base_url == sandbox_url


def test_cloud_url_of_the_environment_needs_its_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base URLs may differ by a slash at the end; the environment's cloud URL is used with its base URL only."""
    sandbox_url, real, cloud = "http://127.0.0.1:1/api", "https://gatepay.io/api/", "https://cloud.gatepay.io/api/"
    for stored, variable, variable_cloud, expected in (
        (sandbox_url, f"{sandbox_url}/", "", "of the profile"),
        ("", real.rstrip("/"), "", cloud),
        (sandbox_url, "", cloud, "of the profile"),
        ("", "", sandbox_url, sandbox_url),
        ("", sandbox_url, cloud, cloud),
    ):
        monkeypatch.setenv("GATEPAY_BASE_URL", variable)
        monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", variable_cloud)
        profile = profiles.Profile("key", base_url=stored, cloud_base_url=stored and "of the profile")
        monkeypatch.setattr(profiles, "get_profile", {"shop": profile}.__getitem__)
        cloud_base_url = settings._stored("shop", above_environment=False).cloud_base_url
        assert cloud_base_url == expected, (stored, variable, variable_cloud)


def test_login_uses_the_server_of_the_environment(
    gatepay: Any, shop: Sandbox, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --base-url, `login` stores the key for GATEPAY_BASE_URL and prints that URL."""
    monkeypatch.setenv("GATEPAY_BASE_URL", server_url)
    run = gatepay("login", input="\n".join((*shop.shops[0], "")))
    assert (run.status, f"The profile belongs to {server_url}" in run.out) == (0, True)
    stored = profiles.get_profile("default")
    assert (stored.base_url, stored.cloud_base_url) == (server_url, server_url)


def test_help_explains_profile_for_each_command(gatepay: Any) -> None:
    """The help of --profile says whether the command stores, removes or uses the profile."""
    for command, expected in (
        ("login", "Store the key as this profile"),
        ("logout", "Remove this profile"),
        ("profiles", "Has no effect"),
        ("products", "Use the key of this profile"),
    ):
        assert expected in " ".join(gatepay(command, "--help").out.split()), command


def test_leftover_files_of_a_killed_login_are_removed(gatepay: Any, login: Any, folder: Path) -> None:
    """The next `login` or `logout` removes old temporary files of its profile. Recent ones and other profiles' stay."""
    for command in (login, lambda: gatepay("logout")):
        folder.mkdir(parents=True, exist_ok=True)
        old, new, of_other_profile = (
            folder / f".profile-{name}.part" for name in ("default.json.a", "default.json.b", "x.json.a")
        )
        for part in (old, new, of_other_profile):
            part.write_text("secret")
        os.utime(old, (0, 0))
        os.utime(of_other_profile, (0, 0))
        assert command().status == 0
        assert [part.exists() for part in (old, new, of_other_profile)] == [False, True, True]


def test_tilde_is_the_home_folder(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a path is expanded, even in `--option=~/path`, which the shell doesn't expand."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gatepay("keys", "export", "-p", 8, "--output=~/keys.txt").status == 0
    assert len((tmp_path / "keys.txt").read_text("utf-8").splitlines()) == len(shop.keys(8))
    assert gatepay("keys", "upload", "-p", 8, "~/keys.txt", "--failed-lines=~/failed.txt").status == 0
    assert (tmp_path / "failed.txt").exists()


def test_advice_for_a_stored_key_names_login(gatepay: Any, login: Any, shop: Sandbox) -> None:
    """The advice about a refused key or product names `login`, not only environment variables."""
    for lang in ("en", "zh"):
        assert "gatepay login" in login("--lang", lang, secret="wrong").err
    login("--in-file")
    for lang in ("en", "zh"):
        run = gatepay("--lang", lang, "keys", "count", "--product", "99")
        assert run.status == 3
        assert "GATEPAY_APPKEY" not in run.err


def test_advice_for_an_unknown_profile_names_the_list(gatepay: Any, login: Any) -> None:
    """If other profiles exist, the name is probably mistyped, so the error suggests `gatepay profiles`."""
    assert "gatepay profiles" not in gatepay("logout").err
    login("--in-file")
    assert "Fix: check the name with `gatepay profiles`, or" in gatepay("products", "--profile", "mine").err
    assert "Fix: check the name with `gatepay profiles`\n" in gatepay("logout", "--profile", "mine").err


def test_ctrl_c_at_the_prompt_prints_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(login_command, "_read_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        login_command.ask_credentials()
    assert capsys.readouterr().err == "Interrupted.\n"
