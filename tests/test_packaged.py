"""The check of what is in the wheel and the sdist sees what must not be there; and each extra has its program."""

import io
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import packaged
import pytest
from tables import rows

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

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


def written(folder: Path, wheel: dict[str, bytes], sdist: dict[str, bytes]) -> Path:
    """A folder with the two."""
    with ZipFile(folder / "x-1.0-py3-none-any.whl", "w") as zipped:
        for name, content in wheel.items():
            zipped.writestr(name, content)
    with tarfile.open(folder / "x-1.0.tar.gz", "w:gz") as tarred:
        for name, content in sdist.items():
            about = tarfile.TarInfo(f"x-1.0/{name}")
            about.size = len(content)
            tarred.addfile(about, io.BytesIO(content))
    return folder


def test_what_may_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said against the package, its metadata, its licence and, in the sdist, its tests and docs."""
    assert packaged.main(written(tmp_path, WHEEL, SDIST)) == 0
    assert "2 gatepay_async\n" in capsys.readouterr().out


@rows(
    ("name", "content", "said"),
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
def test_what_must_not_be_there(
    name: str, content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no part of the package, or looks like a secret, is found in the wheel; the secret is not repeated."""
    assert packaged.main(written(tmp_path, WHEEL | {name: content}, SDIST)) == 1
    out = capsys.readouterr().out
    assert f"{name}" in out
    assert said in out
    assert not content or content.decode() not in out


def test_links_of_the_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A relative link of the README, which a package index can't follow, is found; others are fine."""
    text = b"[a](docs/en/index.md) [b](https://example.com) [c](#start) ![d](docs/images/x.svg)"
    assert packaged.main(written(tmp_path, WHEEL | {f"{DIST_INFO}/METADATA": text}, SDIST)) == 1
    links = [line.split()[-4] for line in capsys.readouterr().out.splitlines() if line.endswith("is relative")]
    assert links == ["docs/en/index.md,", "docs/images/x.svg,"]


@rows("missing", [*packaged.NEEDED_IN_THE_WHEEL, f"{DIST_INFO}/licenses/LICENSE"])
def test_what_must_be_there(missing: str, tmp_path: Path) -> None:
    """The marker for type checkers, the licence and the plugin are missed."""
    assert packaged.main(written(tmp_path, {name: WHEEL[name] for name in WHEEL if name != missing}, SDIST)) == 1


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
def test_the_sdist(name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sdist has the sources and nothing of who built it; secrets that open nothing are in its tests alone."""
    assert packaged.main(written(tmp_path, WHEEL, SDIST | {name: content})) == 1
    assert name in capsys.readouterr().out


def test_the_sdist_needs(tmp_path: Path) -> None:
    """A licence that is missing is missed."""
    assert packaged.main(written(tmp_path, WHEEL, {name: SDIST[name] for name in SDIST if name != "LICENSE"})) == 1


def test_each_extra_has_a_program() -> None:
    """What an extra promises is shown by a program in tests/extras/, which `nox -s extras` runs with that one alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    programs = {path.stem for path in (ROOT / "tests" / "extras").glob("*.py")}
    assert set(project["optional-dependencies"]) - {"all"} == programs
