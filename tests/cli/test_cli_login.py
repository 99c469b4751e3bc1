"""A place for the key: `login`, `profiles`, `logout`, `--profile`, `--env-file`; keyrings that fail, wrong files."""

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
from gatepay_async.cli.status import HaltError
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

VARIABLES = ("GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL")


class Ring:
    """A keyring in memory."""

    name = "Test Ring"

    @cached_property
    def kept(self) -> dict[tuple[str, str], str]:
        return {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    """The system's keyring."""
    it = Ring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: it)
    return it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where profiles are."""
    return tmp_path / "settings" / "gatepay"


@pytest.fixture
def server(shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shop that the environment doesn't point at: its server."""
    url = os.environ["GATEPAY_BASE_URL"]
    for name in VARIABLES:
        monkeypatch.delenv(name)
    return url


@pytest.fixture
def login(gatepay: Any, shop: Sandbox, server: str) -> Any:
    """Log in at a shop, by its number."""

    def log_in(*arguments: object, number: int = 0, secret: str = "") -> Any:
        appkey, appsecret = shop.shops[number]
        typed = f"\ufeff{appkey}\r\n{secret or appsecret}\n"
        return gatepay("login", "--base-url", server, *arguments, input=typed)

    return log_in


def products(run: Any) -> list[int]:
    return [each["id"] for each in run.json["products"]]


def test_logged_in_by_the_keyring(gatepay: Any, login: Any, shop: Sandbox, ring: Ring, folder: Path) -> None:
    """`login` checks the key, says where the secret is, and later commands use it; no file and no output holds it."""
    run = login()
    assert run.status == 0
    assert "profile default" in run.out
    assert "your keyring (Test Ring)" in run.out
    assert products(gatepay("products", "--json")) == [4, 5, 8]
    assert login("--profile", "two", number=1).status == 0
    assert products(gatepay("products", "--json", "--profile", "two")) == [3]
    listed = gatepay("profiles")
    doctor = gatepay("doctor")
    assert "secret from the profile default (keyring)" in doctor.out
    said = listed.out + doctor.out + run.out + run.err + "".join(path.read_text("utf-8") for path in folder.iterdir())
    for _, secret in shop.shops:
        assert secret in ring.kept.values()
        assert secret not in said
    [first, second] = gatepay("profiles", "--json").json["profiles"]
    assert (first["profile"], first["default"], first["appkey"], first["kept_in"]) == (
        "default", True, shop.appkey, "keyring",
    )  # fmt: skip
    assert (second["profile"], second["default"]) == ("two", False)


def test_asked_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal it says what it wants, and the secret is asked for by what shows nothing."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("the key\r\n"))
    monkeypatch.setattr(login_command, "getpass", lambda prompt: f" {prompt} ")
    assert login_command.ask_credentials() == login_command.Credentials("the key", "appsecret:")
    assert capsys.readouterr().err.endswith("appkey: ")


def test_logged_in_without_a_keyring(gatepay: Any, login: Any, shop: Sandbox, folder: Path) -> None:
    """Where there is no keyring, or on request, the secret is in a file that nobody else can read."""
    run = login("--json")
    assert run.json["kept_in"] == f"{folder / 'profile-default.json'}, which only you can read"
    assert run.json["default"] is True
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert products(gatepay("products", "--json")) == [4, 5, 8]
    assert shop.appsecret not in repr(profiles.find_profile("default"))


def test_the_order(gatepay: Any, login: Any, shop: Sandbox, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments come before the environment, and that before a profile: key, secret and server of one of them."""
    assert login("--profile", "one").status == 0
    assert login("--profile", "two", number=1).status == 0
    assert products(gatepay("products", "--json")) == [4, 5, 8]  # the first one is the default
    monkeypatch.setenv("GATEPAY_PROFILE", "two")
    assert products(gatepay("products", "--json")) == [3]
    assert gatepay("profiles", "--default", "two").status == 0
    monkeypatch.delenv("GATEPAY_PROFILE")
    assert products(gatepay("products", "--json")) == [3]
    for name, value in zip(VARIABLES, (*shop.shops[0], server), strict=True):
        monkeypatch.setenv(name, value)
    assert products(gatepay("products", "--json")) == [4, 5, 8]
    assert "come before the profile" in login("--profile", "two", number=1).err
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    assert products(gatepay("--profile", "two", "products", "--json")) == [3]


def test_a_key_that_is_refused(login: Any, gatepay: Any, ring: Ring, folder: Path) -> None:
    """A wrong key is not put away, nor is half a key, nor one that no server has checked."""
    assert login(secret="0" * 32).status == 3
    assert gatepay("login", input="only-one\n").status == 2
    assert gatepay("login", "--base-url", "http://127.0.0.1:9/api/", input="a\nb\n").status == 4
    assert gatepay("login", "--profile", "../x", input="a\nb\n").status == 2
    assert ring.kept == {}
    assert not folder.exists()


def test_logging_out(gatepay: Any, login: Any, ring: Ring, folder: Path) -> None:
    """`logout` forgets a profile with its secret, in the keyring or in the file, and which one was the default."""
    login()
    login("--profile", "two", "--in-file", number=1)
    assert gatepay("logout", "--profile", "two", "--json").json == {
        "profile": "two",
        "removed": True,
        "secret_removed": True,
    }
    assert "deleted" in gatepay("logout").out
    assert ring.kept == {}
    assert list(folder.iterdir()) == []
    assert gatepay("logout").status == 2
    assert "No profiles yet" in gatepay("profiles").out
    assert "profiles: none" in gatepay("products", "--profile", "two").err


def test_another_key_under_the_same_name(login: Any, ring: Ring, shop: Sandbox) -> None:
    """A profile that gets another key leaves no secret behind; another secret of the same key takes its place."""
    login()
    login(number=1)
    assert list(ring.kept.values()) == [shop.shops[1].appsecret]
    login("--in-file", number=1)
    assert ring.kept == {}


class _Broken(Ring):
    """Raises, whatever it is asked."""

    error: Exception

    def get_password(self, service: str, username: str) -> str | None:  # noqa: ARG002 -- the keyring's signature
        raise self.error


def broken(error: Exception) -> Ring:
    ring = _Broken()
    ring.error = error
    return ring


class _Forgetful(Ring):
    def set_password(self, service: str, username: str, password: str) -> None: ...


@rows(
    ("ring", "said"),
    [
        (broken(keyring.errors.KeyringLocked("hunter2")), "Your keyring is locked."),
        (broken(OSError("hunter2")), "Your keyring refused (OSError)."),
        (_Forgetful(), "did not keep the secret"),
    ],
)
def test_a_keyring_that_fails(ring: Ring, said: str, login: Any, gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that is locked, refuses or forgets is an error with a way on, and nothing is stored by halves."""
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    run = login()
    assert run.status == 2
    assert said in run.err
    assert "--in-file" in run.err
    assert "hunter2" not in run.err
    assert gatepay("profiles", "--json").json == {"profiles": []}
    assert login("--in-file").status == 0
    assert gatepay("logout").status == 0


def test_a_keyring_that_hangs(login: Any, ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that never answers is waited for so long, and no longer; meanwhile the user is told."""
    gone = threading.Event()
    monkeypatch.setattr(keyrings, "_HINT_AFTER_S", 0.01)
    monkeypatch.setattr(keyrings, "_TIMEOUT_S", 0.01)

    def hang(*_: object) -> bool:
        return gone.wait(20)

    monkeypatch.setattr(Ring, "get_password", hang)
    run = login()
    gone.set()
    assert run.status == 2
    assert "may be asking for its password" in run.err
    assert "did not respond" in run.err


def test_ctrl_c_while_a_keyring_hangs(login: Any, gatepay: Any, ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the wait for a keyring; where Ctrl-C is ignored, it stays so."""
    login()
    gone = threading.Event()

    def hang(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        gone.wait(20)

    monkeypatch.setattr(Ring, "get_password", hang)
    run = gatepay("products")
    gone.set()
    assert (run.status, run.err) == (130, "Interrupted.\n")
    monkeypatch.undo()
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert keyrings.keyring_name() == "Test Ring"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_profile_that_cant_be_written(login: Any, ring: Ring, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second login whose file can't be written leaves the secret of the first one in the keyring."""
    login()

    def refuse(*_: object) -> None:
        raise HaltError("full")

    monkeypatch.setattr(profiles, "save_profile", refuse)
    assert login().status == 2
    assert list(ring.kept.values()) == [shop.appsecret]


def test_without_the_library(login: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `keyring` itself is missing, the file serves."""
    monkeypatch.setitem(sys.modules, "keyring.backends", None)
    assert "which only you can read" in login().out


def test_a_secret_that_is_gone(gatepay: Any, login: Any, ring: Ring) -> None:
    """A secret that somebody took out of the keyring is asked for again."""
    login()
    ring.kept.clear()
    run = gatepay("products")
    assert run.status == 2
    assert "run `gatepay login --profile default` again" in run.err
    assert gatepay("logout").status == 0


@pytest.mark.usefixtures("ring")
def test_a_keyring_that_is_missing_later(gatepay: Any, login: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the keyring that holds its secret, a profile can't be used, and `logout` says that the secret remains."""
    login()
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.fail.Keyring)
    run = gatepay("products")
    assert (run.status, "There is no keyring here" in run.err, "--in-file" in run.err) == (2, True, True)
    run = gatepay("logout")
    assert (run.status, run.out) == (0, "Profile default is deleted.\n")
    assert "the secret could not be deleted" in run.err


def test_a_home_that_cant_be_written(
    login: Any, ring: Ring, folder: Path, monkeypatch: pytest.MonkeyPatch, gatepay: Any
) -> None:
    """Where no file can be made, nothing stays in the keyring; a home that nobody knows has no profiles."""
    folder.parent.write_text("a file in the place of the folder")
    run = login()
    assert run.status == 2
    assert "Can't write" in run.err
    assert ring.kept == {}

    def nowhere(_: str) -> str:
        return "~/.config/gatepay"

    monkeypatch.setattr("typer.get_app_dir", nowhere)
    assert "Your home folder is unknown" in login().err
    assert "GATEPAY_APPKEY is not set" in gatepay("products").err
    assert gatepay("profiles", "--json").json == {"profiles": []}


def test_files_that_are_wrong(gatepay: Any, login: Any, folder: Path, tmp_path: Path) -> None:
    """A damaged, shared, unreadable or strange file is an error that names it; a link is followed, and stays one."""
    login()
    path = folder / "profile-default.json"
    good = path.read_text("utf-8")

    def said() -> str:
        run = gatepay("products")
        assert run.status == 2
        assert str(path) in run.err
        return str(run.err)

    wrong = ('{"appkey": 1}', '{"appkey": "a", "more": 1}', '{"appkey": "a", "kept_in": "sky"}')
    for content in ("", "{", "[]", "[" * 16_000, *wrong):
        path.write_text(content)
        assert "is damaged" in said()
    path.write_text(good)
    path.chmod(0o640)
    assert f"chmod 600 {path}" in said()
    path.unlink()
    path.symlink_to(path)
    assert "Can't read" in said()
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in said()
    path.unlink()
    elsewhere = tmp_path / "elsewhere.json"
    path.symlink_to(elsewhere)
    elsewhere.write_text(good)
    elsewhere.chmod(0o600)
    assert gatepay("products").status == 0
    assert login(number=1).status == 0
    assert path.is_symlink()
    assert products(gatepay("products", "--json")) == [3]
    (folder / "profile-No!.json").write_text("")
    assert len(gatepay("profiles", "--json").json["profiles"]) == 1


def test_a_profile_that_cant_be_removed(
    gatepay: Any, login: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`logout` says so when a file stays."""
    login()

    def refuse(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 -- as Path.unlink
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    run = gatepay("logout")
    assert run.status == 2
    assert f"Can't write {folder}" in run.err


def test_an_env_file(gatepay: Any, shop: Sandbox, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--env-file` comes before the environment, takes GATEPAY_ variables alone, and lasts for one run."""
    path = tmp_path / ".env"
    appkey, secret = shop.shops[1]
    path.write_text(
        f'\ufeffexport GATEPAY_APPKEY="{appkey}"\r\nGATEPAY_APPSECRET={secret} # mine\nGATEPAY_BASE_URL={server}\n'
        "HTTP_PROXY=http://127.0.0.1:9\nGATEPAY_PROFILE\n",
        "utf-8",
    )
    path.chmod(0o644)
    monkeypatch.setenv("GATEPAY_APPKEY", shop.appkey)
    run = gatepay("products", "--json", "--env-file", path)
    assert products(run) == [3]
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
    path.write_text(f"GATEPAY_APPKEY={appkey}\nGATEPAY_APPSECRET_FILE=~/secret\nGATEPAY_BASE_URL={server}\n")
    assert products(gatepay("products", "--json", "--env-file", path)) == [3]
    for content in ("A=1\n", "GATEPAY_APPKEY=1\n" * 20_000):
        path.write_text(content)
        assert "sets no variable" in gatepay("products", "--env-file", path).err
    assert "can't read" in gatepay("products", "--env-file", tmp_path).err


def test_an_env_file_is_never_half_a_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file leaves out of a key, or of a server, doesn't come from the environment: that is another shop's."""
    path, base, cloud = tmp_path / ".env", "GATEPAY_BASE_URL", "GATEPAY_CLOUD_BASE_URL"
    names = (*KEY_VARIABLES, base, cloud)
    for inside, left in (
        ({"GATEPAY_APPKEY"}, {base, cloud}),
        ({"GATEPAY_APPSECRET"}, {base, cloud}),
        ({base}, KEY_VARIABLES),
        ({cloud}, KEY_VARIABLES | {base}),
    ):
        path.write_text("".join(f"{name}=file\n" for name in inside))
        path.chmod(0o600)
        for name in names:
            monkeypatch.setenv(name, "environment")
        with fresh_run():
            choose_env_file(str(path))
            found = {name: os.environ[name] for name in names if name in os.environ}
        assert found == {**dict.fromkeys(left, "environment"), **dict.fromkeys(inside, "file")}
        assert all(os.environ[name] == "environment" for name in names)


def test_help_of_a_command(gatepay: Any) -> None:
    """`gatepay help keys upload` is `gatepay keys upload --help`; what there isn't is said."""
    assert gatepay("help").out == gatepay("--help").out
    assert gatepay("help", "keys", "upload").out == gatepay("keys", "upload", "--help").out
    for wrong in (("keys", "uplaod"), ("products", "x"), ("nothing",)):
        assert gatepay("help", *wrong).status == 2
    assert gatepay("-V").out == gatepay("--version").out


def test_help_as_json(gatepay: Any) -> None:
    """With --json, the help is one JSON object: the arguments, the options and the commands, in either language."""
    found = gatepay("help", "keys", "--json").json
    assert found["command"] == "gatepay keys"
    assert [each["name"] for each in found["commands"]] == ["upload", "export", "count"]
    upload = gatepay("keys", "upload", "--help", "--json", "--lang", "zh").json
    assert [(each["name"], each["required"], each["several"]) for each in upload["arguments"]] == [("FILE", True, True)]
    options = {each["names"][0]: each for each in upload["options"]}
    assert options["--product"] == {"names": ["--product", "-p"], "value": "ID", "required": True} | {
        "help": "商品编号；可用 gatepay products 查看。"
    }
    assert options["--skip-heading"]["value"] is None


def test_the_cloud_is_of_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base URL of a sandbox never goes with the real cloud, whichever of the two says it."""
    ours, real, cloud = "http://127.0.0.1:1/api/", "https://gatepay.io/api/", "https://cloud.gatepay.io/api/"
    found: list[tuple[str, str]] = []
    for stored, in_environment in (("", ""), ("", ours), (ours, ""), (ours, real)):
        monkeypatch.setenv("GATEPAY_BASE_URL", in_environment)
        profile = profiles.Profile("key", stored, stored)
        monkeypatch.setattr(profiles, "get_profile", {"shop": profile}.__getitem__)
        source = settings._stored("shop", above_environment=False)
        found.append((source.base_url, source.cloud_base_url))
    assert found == [(real, cloud), (ours, ours), (ours, ours), (real, cloud)]
    monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", ours)  # somebody says so
    assert settings._stored("shop", above_environment=False).cloud_base_url == ours


def test_servers_are_compared_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slash at its end makes no other server; the environment's cloud belongs to the environment's server alone."""
    ours, real, cloud = "http://127.0.0.1:1/api", "https://gatepay.io/api/", "https://cloud.gatepay.io/api/"
    for stored, variable, variable_cloud, expected in (
        (ours, f"{ours}/", "", "of the profile"),
        ("", real.rstrip("/"), "", cloud),
        (ours, "", cloud, "of the profile"),
        ("", "", ours, ours),
        ("", ours, cloud, cloud),
    ):
        monkeypatch.setenv("GATEPAY_BASE_URL", variable)
        monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", variable_cloud)
        profile = profiles.Profile("key", stored, stored and "of the profile")
        monkeypatch.setattr(profiles, "get_profile", {"shop": profile}.__getitem__)
        found = settings._stored("shop", above_environment=False).cloud_base_url
        assert found == expected, (stored, variable, variable_cloud)


def test_logged_in_at_the_environments_server(
    gatepay: Any, shop: Sandbox, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --base-url, `login` checks and stores the key for the server that GATEPAY_BASE_URL names, and says so."""
    monkeypatch.setenv("GATEPAY_BASE_URL", server)
    run = gatepay("login", input="\n".join((*shop.shops[0], "")))
    assert (run.status, f"The profile belongs to {server}" in run.out) == (0, True)
    stored = profiles.get_profile("default")
    assert (stored.base_url, stored.cloud_base_url) == (server, server)


def test_profiles_in_the_help(gatepay: Any) -> None:
    """--profile is what a command stores, removes or uses."""
    for command, said in (
        ("login", "Store the key as this profile"),
        ("logout", "Remove this profile"),
        ("profiles", "Has no effect"),
        ("products", "Use the key of this profile"),
    ):
        assert said in " ".join(gatepay(command, "--help").out.split()), command


def test_what_a_killed_login_has_left(gatepay: Any, login: Any, folder: Path) -> None:
    """A secret in the file of a login that was killed is removed by the next one, and by `logout`; a new file stays."""
    for command in (login, lambda: gatepay("logout")):
        folder.mkdir(parents=True, exist_ok=True)
        old, new, other = (
            folder / f".profile-{name}.part" for name in ("default.json.a", "default.json.b", "x.json.a")
        )
        for each in (old, new, other):
            each.write_text("secret")
        os.utime(old, (0, 0))
        os.utime(other, (0, 0))
        assert command().status == 0
        assert [each.exists() for each in (old, new, other)] == [False, True, True]


def test_the_home_folder(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a path is the home folder, also where the shell leaves it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gatepay("keys", "export", "-p", 8, "--output=~/keys.txt").status == 0
    assert len((tmp_path / "keys.txt").read_text("utf-8").splitlines()) == len(shop.keys(8))
    assert gatepay("keys", "upload", "-p", 8, "~/keys.txt", "--failed-lines=~/failed.txt").status == 0
    assert (tmp_path / "failed.txt").exists()


def test_advice_for_a_stored_key(gatepay: Any, login: Any, shop: Sandbox) -> None:
    """What to do about a refused key or product fits a key from `login`, not only one from variables."""
    for lang in ("en", "zh"):
        assert "gatepay login" in login("--lang", lang, secret="wrong").err
    login("--in-file")
    for lang in ("en", "zh"):
        run = gatepay("--lang", lang, "keys", "count", "--product", "99")
        assert run.status == 3
        assert "GATEPAY_APPKEY" not in run.err


def test_advice_for_an_unknown_profile(gatepay: Any, login: Any) -> None:
    """A name that no profile has is probably mistyped; without any profile, there is no list to look at."""
    assert "gatepay profiles" not in gatepay("logout").err
    login("--in-file")
    assert "Fix: check the name with `gatepay profiles`, or" in gatepay("logout", "--profile", "mine").err


def test_interrupted_before_an_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C instead of the appkey is acknowledged."""

    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(login_command, "_read_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        login_command.ask_credentials()
    assert capsys.readouterr().err == "Interrupted.\n"
