"""The locked versions in requirements/ cover all requirements in pyproject.toml and satisfy their bounds."""

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGE_REQUIREMENTS = [
    *PROJECT["dependencies"],
    *itertools.chain.from_iterable(PROJECT["optional-dependencies"].values()),
]
LINTERS = ("codespell", "ruff", "zizmor")
GROUP_REQUIREMENTS = [
    requirement
    for group in PYPROJECT["dependency-groups"].values()
    for requirement in group
    if isinstance(requirement, str)
]


def read_pins(name: str) -> dict[str, list[Requirement]]:
    """Return the pins in one file by package. A package may have several pins, for different Python versions."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines():
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version_of(pin: Requirement) -> str:
    [specifier] = pin.specifier
    assert specifier.operator == "==", pin
    return specifier.version


def unsatisfied(requirements: list[str], pins: dict[str, list[Requirement]]) -> Iterator[str]:
    """Yield a line for each requirement without a pin, or with a pin outside of its bounds."""
    for requirement in map(Requirement, requirements):
        package_pins = pins.get(canonicalize_name(requirement.name), [])
        satisfied = package_pins and all(version_of(pin) in requirement.specifier for pin in package_pins)
        if requirement.name != PROJECT["name"] and not satisfied:
            yield f"{requirement}: {', '.join(map(str, package_pins)) or 'not locked'}"


def test_each_requirement_is_locked_within_its_bounds() -> None:
    """Each requirement has a locked version within its bounds. If this fails, run `nox -s lock`."""
    assert list(unsatisfied(PACKAGE_REQUIREMENTS + GROUP_REQUIREMENTS, read_pins("locked.txt"))) == []


def test_lowest_versions_are_the_lower_bounds() -> None:
    """`nox -s lowest` installs exactly the lower bound of each requirement."""
    pins = read_pins("lowest.txt")
    for requirement in map(Requirement, PACKAGE_REQUIREMENTS):
        if requirement.name != PROJECT["name"]:
            bound = next(specifier.version for specifier in requirement.specifier if specifier.operator == ">=")
            versions = [Version(version_of(pin)) for pin in pins[canonicalize_name(requirement.name)]]
            assert versions == [Version(bound)], requirement


def test_lock_files_contain_no_url() -> None:
    """The lock files contain no URL, so that everyone installs from their own package index."""
    for path in (ROOT / "requirements").iterdir():
        assert "//" not in path.read_text("utf-8"), path


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source archive has no .github")
def test_ci_runs_the_default_sessions_and_the_locked_linters() -> None:
    """The workflow runs each session that `nox` runs by default. pre-commit uses the locked versions of the linters."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    listed = [name for names in re.findall(r"session: \[(.+)\]", workflow) for name in names.split(", ")]
    default = (ROOT / "noxfile.py").read_text("utf-8").partition("nox.options.sessions = [")[2].partition("]")[0]
    assert {*listed, *re.findall(r"nox -s (\w+)", workflow)} == set(
        re.findall(r"^ {4}\"(\w+)\",$", default, re.MULTILINE)
    )
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    revisions = dict(re.findall(r"/(\w+)(?:-pre-commit)?\n +rev: v([\d.]+)", hooks))
    assert revisions.items() >= {name: version_of(read_pins("locked.txt")[name][0]) for name in LINTERS}.items()
