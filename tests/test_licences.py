"""The licences of our dependencies: listed in licences.toml, permissive, and equal to the installed ones."""

import importlib.metadata
import re
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tables import rows

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LISTED_LICENCES: dict[str, str] = tomllib.loads((ROOT / "tests/licences.toml").read_text("utf-8"))["licences"]
# Licences of dependencies that MIT software may use without further obligations.
PERMISSIVE = {"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC"}
# Classifiers and names that stand for a licence.
LICENCES_BY_NAME = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",  # true for the dependencies in licences.toml
    "BSD": "BSD-3-Clause",
}
# Dependencies whose metadata name no licence.
WITHOUT_LICENCE_METADATA = {"obstore"}
# A phrase of the BSD-3-Clause licence, for metadata that contain the whole text.
BSD_3_PHRASE = "Neither the name of"


def direct_dependencies() -> set[str]:
    """Return the requirements of the package and of its extras, without the package itself."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names: set[str] = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    return names - {"gatepay-async"}


def licence_of(name: str) -> str:
    """Return the licence in a distribution's metadata: an expression, or one derived from a classifier or a name."""
    about = importlib.metadata.metadata(name)
    fields = ("License-Expression", "License", "Classifier")
    values: list[str] = [value for field in fields for value in about.get_all(field) or ()]
    for value in values:
        if BSD_3_PHRASE in value:
            return "BSD-3-Clause"
        if set(value.replace(" AND ", " OR ").split(" OR ")) <= PERMISSIVE:
            return value
        if value in LICENCES_BY_NAME:
            return LICENCES_BY_NAME[value]
    return f"unknown: {values}"


def test_every_direct_dependency_is_listed() -> None:
    """licences.toml lists the direct dependencies of the package and of its extras, and no others."""
    assert set(LISTED_LICENCES) == direct_dependencies()


def test_all_licences_are_permissive() -> None:
    """Every licence in licences.toml is permissive."""
    parts = {part for licence in LISTED_LICENCES.values() for part in re.split(" AND | OR | \\| ", licence)}
    assert parts <= PERMISSIVE


@rows("name", sorted(LISTED_LICENCES.keys() - WITHOUT_LICENCE_METADATA))
def test_installed_licences_equal_the_listed_ones(name: str) -> None:
    """The licence of each installed dependency is the listed one. `nox -s docs` has all extras."""
    with suppress(importlib.metadata.PackageNotFoundError):
        assert licence_of(name) in LISTED_LICENCES[name].split(" | ")
