"""The licences of what we depend on: written down, and the same as what is installed says."""

import importlib.metadata
import re
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tables import rows

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKED: dict[str, str] = tomllib.loads((ROOT / "tests/licences.toml").read_text("utf-8"))["licences"]
# What MIT software may be built on without another thought.
PERMISSIVE = {"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC"}
# How others say it: in a classifier, or in a word.
NAMED = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",  # of those that are locked below
    "BSD": "BSD-3-Clause",
}
# Their metadata name no licence.
SILENT = {"obstore"}
# How the text itself is recognised, where the metadata hold all of it.
BSD_3 = "Neither the name of"


def direct() -> set[str]:
    """The requirements of the package and of its extras, itself left out."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names: set[str] = {canonicalize_name(Requirement(each).name) for group in groups for each in group}
    return names - {"gatepay-async"}


def licence_of(name: str) -> str:
    """What the installed distribution says: an expression, a classifier, or a name."""
    about = importlib.metadata.metadata(name)
    fields = ("License-Expression", "License", "Classifier")
    said: list[str] = [each for field in fields for each in about.get_all(field) or ()]
    for each in said:
        if BSD_3 in each:
            return "BSD-3-Clause"
        if set(each.replace(" AND ", " OR ").split(" OR ")) <= PERMISSIVE:
            return each
        if each in NAMED:
            return NAMED[each]
    return f"unknown: {said}"


def test_every_direct_dependency_is_listed() -> None:
    """licences.toml has each direct dependency, of the package and of its extras, and no other."""
    assert set(LOCKED) == direct()


def test_all_are_permissive() -> None:
    """No licence asks more of a user than a notice."""
    parts = {part for licence in LOCKED.values() for part in re.split(" AND | OR | \\| ", licence)}
    assert parts <= PERMISSIVE


@rows("name", sorted(LOCKED.keys() - SILENT))
def test_installed_licence(name: str) -> None:
    """A release that changes its licence is noticed. An extra may be missing here; `nox -s docs` has all of them."""
    with suppress(importlib.metadata.PackageNotFoundError):
        assert licence_of(name) in LOCKED[name].split(" | ")
