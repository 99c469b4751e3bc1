"""Shell commands that set environment variables."""

import shlex
from collections.abc import Callable, Mapping

__all__ = ["SHELLS", "SHELL_NAMES", "setting_lines"]

SHELL_NAMES = {"sh": "sh, bash, zsh", "fish": "fish", "powershell": "PowerShell", "cmd": "cmd (Windows)"}

# For each shell, a function that returns the command for a variable's name and value. chr(39) is a single quote: in
# Python 3.11, the braces of an f-string can't contain a quote of the same kind or a backslash.
SHELLS: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: f"set -gx {name} '{_escaped(value)}'",
    "powershell": lambda name, value: f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'",
    "cmd": lambda name, value: f'set "{name}={value}"',
}


def setting_lines(shell: str, variables: Mapping[str, str]) -> list[str]:
    """Return the command for each of *variables*. *shell* is one of SHELLS."""
    return [SHELLS[shell](name, value) for name, value in variables.items()]


def _escaped(value: str) -> str:
    """Escape *value* for single quotes in fish."""
    return value.replace("\\", "\\\\").replace("'", "\\'")
