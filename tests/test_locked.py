"""The versions in requirements/: all that the project asks for is locked, within the bounds that it names."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

ROOT = Path(__file__).parents[1]
FILE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = FILE["project"]
PACKAGE = [*PROJECT["dependencies"], *(each for one in PROJECT["optional-dependencies"].values() for each in one)]
LINTERS = ("codespell", "ruff", "zizmor")
GROUPS = [each for one in FILE["dependency-groups"].values() for each in one if isinstance(each, str)]


def locked(name: str) -> dict[str, list[Requirement]]:
    """The pins of one file by package; a package may have several, for different Pythons."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines():
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version_of(pin: Requirement) -> str:
    [only] = pin.specifier
    assert only.operator == "==", pin
    return only.version


def outside(requirements: list[str], pins: dict[str, list[Requirement]]) -> Iterator[str]:
    """What is not locked, or not to a version that is asked for."""
    for each in map(Requirement, requirements):
        found = pins.get(canonicalize_name(each.name), [])
        if each.name != PROJECT["name"] and not (found and all(version_of(pin) in each.specifier for pin in found)):
            yield f"{each}: {', '.join(map(str, found)) or 'not locked'}"


def test_everything_is_locked() -> None:
    """`nox -s lock` was run after the last change of a requirement."""
    assert list(outside(PACKAGE + GROUPS, locked("locked.txt"))) == []


def test_the_lowest_are_the_bounds() -> None:
    """What `nox -s lowest` installs are the lower bounds themselves."""
    pins = locked("lowest.txt")
    for each in map(Requirement, PACKAGE):
        if each.name != PROJECT["name"]:
            bound = next(one.version for one in each.specifier if one.operator == ">=")
            found = [Version(version_of(pin)) for pin in pins[canonicalize_name(each.name)]]
            assert found == [Version(bound)], each


def test_the_lock_names_no_host() -> None:
    """Each installs from the package index of their own; no address of another is written down."""
    for path in (ROOT / "requirements").iterdir():
        assert "//" not in path.read_text("utf-8"), path


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source archive has no .github")
def test_the_forge_runs_the_same() -> None:
    """The workflow runs each session that `nox` runs by default; pre-commit runs the linters that are locked."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    listed = [name for names in re.findall(r"session: \[(.+)\]", workflow) for name in names.split(", ")]
    default = (ROOT / "noxfile.py").read_text("utf-8").partition("nox.options.sessions = [")[2].partition("]")[0]
    assert {*listed, *re.findall(r"nox -s (\w+)", workflow)} == set(
        re.findall(r"^ {4}\"(\w+)\",$", default, re.MULTILINE)
    )
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    revisions = dict(re.findall(r"/(\w+)(?:-pre-commit)?\n +rev: v([\d.]+)", hooks))
    assert revisions.items() >= {name: version_of(locked("locked.txt")[name][0]) for name in LINTERS}.items()
