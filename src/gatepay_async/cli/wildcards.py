"""Wildcards on Windows, whose shells leave them to programs."""

import os
from collections.abc import Iterable
from glob import glob

IS_WINDOWS = os.name == "nt"


def expand(arguments: Iterable[str]) -> list[str]:
    """Put the files that a wildcard matches, sorted, in its place; one that matches none stays as it is."""
    return [name for each in arguments for name in _matching_files(each) or [each]]


def _matching_files(argument: str) -> list[str]:
    has_wildcard = any(sign in argument for sign in "*?[")
    # Not Path.glob(), which refuses a whole path.
    return sorted(glob(argument)) if has_wildcard and not argument.startswith("-") else []  # noqa: PTH207 -- see above
