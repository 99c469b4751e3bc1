"""The check of the wheel and the sdist finds unexpected and missing files and secrets; each extra has a program."""

import io
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import packaged
import pytest
from tables import rows

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[1]
DIST_INFO = "gatepay_async-1.0.dist-info"
WHEEL = {
    "gatepay_async/__init__.py": b"",
    "gatepay_async/py.typed": b"",
    "gatepay_async/sandbox/static/sandbox.css": b"",
    "gatepay_async/sandbox/examples.py": b"images/0123456789abcdef0123456789abcdef.jpeg",
    "_gatepay_async_pytest.py": b"",
    f"{DIST_INFO}/METADATA": b"",
    f"{DIST_INFO}/licenses/LICENSE": b"",
}
SDIST = {
    "PKG-INFO": b"",
    "LICENSE": b"",
    "README.md": b"",
    "README.zh-CN.md": b"",
    "pyproject.toml": b"",
    "src/gatepay_async/py.typed": b"",
    "src/_gatepay_async_pytest.py": b"",
    "tests/vectors/signatures.json": b"0123456789abcdef0123456789abcdef",
    "docs/locale/zh_CN/LC_MESSAGES/sphinx.po": b"",
    "docs/zh/howto/going-live.md": b"",
}


def write_packages(folder: Path, wheel: dict[str, bytes], sdist: dict[str, bytes]) -> Path:
    """Write a wheel and an sdist with these files into a folder. Return the folder."""
    with ZipFile(folder / "x-1.0-py3-none-any.whl", "w") as zipped:
        for name, content in wheel.items():
            zipped.writestr(name, content)
    with tarfile.open(folder / "x-1.0.tar.gz", "w:gz") as tarred:
        for name, content in sdist.items():
            about = tarfile.TarInfo(f"x-1.0/{name}")
            about.size = len(content)
            tarred.addfile(about, io.BytesIO(content))
    return folder


def test_expected_files_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wheel and an sdist with only the expected files pass the check."""
    assert packaged.main(write_packages(tmp_path, WHEEL, SDIST)) == 0
    assert "2 gatepay_async\n" in capsys.readouterr().out


@rows(
    ("name", "content", "problem"),
    [
        ("tests/test_client.py", b"", "is a test"),
        ("gatepay_async/test_client.py", b"", "is a test"),
        ("gatepay_async/__pycache__/client.cpython-311.pyc", b"", "should not be there"),
        ("gatepay_async/.env", b"", "should not be there"),
        ("gatepay_async/shop.sqlite3", b"", "should not be there"),
        ("gatepay_async/x.py", b'SECRET = "0123456789abcdef0123456789abcdef"', "32 hex digits"),
        ("gatepay_async/x.py", b"-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("gatepay_async/x.py", b"ghp_0123456789abcdef0123", "a token"),
        ("gatepay_async/x.py", b'"/home/terry/x"', "a path in a home folder"),
    ],
)
def test_unexpected_files_and_secrets_in_the_wheel_are_found(
    name: str, content: bytes, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected file or something like a secret in the wheel is reported, without repeating the secret."""
    assert packaged.main(write_packages(tmp_path, WHEEL | {name: content}, SDIST)) == 1
    out = capsys.readouterr().out
    assert f"{name}" in out
    assert problem in out
    assert not content or content.decode() not in out


def test_relative_links_in_the_readme_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A relative link in the README is reported, because a package index can't follow it."""
    text = b"[a](docs/en/index.md) [b](https://example.com) [c](#start) ![d](docs/images/x.svg)"
    assert packaged.main(write_packages(tmp_path, WHEEL | {f"{DIST_INFO}/METADATA": text}, SDIST)) == 1
    # The lines end in "links to TARGET, which is relative".
    links = [line.split()[-4] for line in capsys.readouterr().out.splitlines() if line.endswith("is relative")]
    assert links == ["docs/en/index.md,", "docs/images/x.svg,"]


@rows("missing", [*packaged.NEEDED_IN_THE_WHEEL, f"{DIST_INFO}/licenses/LICENSE"])
def test_missing_files_in_the_wheel_are_found(missing: str, tmp_path: Path) -> None:
    """If py.typed, the licence or the pytest plugin is missing, the check fails."""
    assert packaged.main(write_packages(tmp_path, {name: WHEEL[name] for name in WHEEL if name != missing}, SDIST)) == 1


@rows(
    ("name", "content"),
    [
        (".git/config", b""),
        (".venv/bin/python", b""),
        ("src/gatepay_async/.env", b""),
        ("tests/.coverage", b""),
        ("examples/keys.bak", b""),
        ("src/gatepay_async/x.py", b"0123456789abcdef0123456789abcdef"),
        ("docs/en/start.md", b"export GATEPAY_APPSECRET=0123456789abcdef0123456789abcdef"),
    ],
)
def test_unexpected_files_and_secrets_in_the_sdist_are_found(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sdist has only sources. Text like a secret is allowed in its tests only."""
    assert packaged.main(write_packages(tmp_path, WHEEL, SDIST | {name: content})) == 1
    assert name in capsys.readouterr().out


def test_a_missing_licence_in_the_sdist_is_found(tmp_path: Path) -> None:
    """If the sdist has no licence, the check fails."""
    assert (
        packaged.main(write_packages(tmp_path, WHEEL, {name: SDIST[name] for name in SDIST if name != "LICENSE"})) == 1
    )


def test_each_extra_has_a_program() -> None:
    """Each extra has a program in tests/extras/, which `nox -s extras` runs with only that extra installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    programs = {path.stem for path in (ROOT / "tests" / "extras").glob("*.py")}
    assert set(project["optional-dependencies"]) - {"all"} == programs
