"""Expands wildcards on Windows, where shells don't."""

import os
from collections.abc import Iterable
from glob import glob

IS_WINDOWS = os.name == "nt"


def expand(arguments: Iterable[str]) -> list[str]:
    """Replace each wildcard with the files that match it, sorted. A wildcard without matches is kept."""
    return [name for argument in arguments for name in _matching_files(argument) or [argument]]


def _matching_files(argument: str) -> list[str]:
    has_wildcard = any(character in argument for character in "*?[")
    return sorted(glob(argument)) if has_wildcard and not argument.startswith("-") else []  # noqa: PTH207 -- Path.glob() accepts no absolute patterns
