"""Help and usage errors, in both languages: Typer's own are English, and its columns don't know wide letters."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from copy import copy
from difflib import get_close_matches
from typing import Any
from unicodedata import east_asian_width

import typer
from typer.core import TyperCommand, TyperGroup

from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape
from gatepay_async.words.command import COMMAND

# Typer exports the class of one usage error only; this is what all of them are.
UsageError: Any = typer.BadParameter.__mro__[1]

_MIN_COLUMNS, _MAX_COLUMNS = 40, 100  # columns
_MAX_NAME_COLUMNS = 30  # columns of an option and its value; a longer one, or one of 2/5 of the width, has its own line

# Of what Typer says itself: the option's attribute "opts" -> our text.
_TYPER_OPTIONS = {"--help": "option.help", "--install-completion": "option.install", "--show-completion": "option.show"}


class Command(TyperCommand):
    """A command with our help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this command."""
        formatter.write(_format_help(self, ctx))


class Group(TyperGroup):
    """Commands with our help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this group."""
        formatter.write(_format_help(self, ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which one may have been meant."""
        if args[0] not in self.commands:
            hint = text("usage.meant", name=near) if (near := self._nearest(args[0])) else ""
            raise UsageError(text("usage.no_command", name=escape(args[0])) + hint, ctx)
        return super().resolve_command(ctx, args)

    def _nearest(self, wanted: str) -> str:
        """The command that may have been meant: `keys upload` for `upload`; empty: there is none."""
        inner = {name: group for group, each in self.commands.items() for name in getattr(each, "commands", {})}
        near = get_close_matches(wanted, [*self.commands, *inner], n=1)
        if not near or near[0] in self.commands:
            return "".join(near)
        return f"{inner[near[0]]} {near[0]}"


_OTHER_PROFILES = ("login", "logout", "profiles")  # for which a profile is something else than a key
# Commands that print more than one JSON object, each on a line of its own.
_JSON_LINES = ("products", "pay", "export", "sandbox")


def translate_help(command: Any, shared: tuple[Any, ...] = ()) -> None:
    """Put the texts where their keys are, all the way down; give every command the options that are *shared*."""
    command.help = text(command.help)
    for param in command.params:
        param.help = _param_help(param)
    for inner in getattr(command, "commands", {}).values():
        translate_help(inner, shared)
        own = {param.name for param in inner.params}
        inner.params.extend(_described(each, inner.name) for each in shared if each.name not in own)


def _described(param: Any, command: str) -> Any:
    """A shared option, as it is of that command."""
    if param.name == "as_json" and command in _JSON_LINES:
        param = copy(param)
        param.help = text(f"option.json_{command}")
    if param.name == "profile" and command in _OTHER_PROFILES:
        param = copy(param)
        param.help = text(f"option.profile_{command}")
    return param


def _param_help(param: Any) -> str:
    """What it is for; Typer's own options have no key of ours."""
    key = next((_TYPER_OPTIONS[option] for option in param.opts if option in _TYPER_OPTIONS), param.help)
    return text(key) if key in COMMAND else str(key or "")


def usage_problem(error: Any) -> str:
    """What is wrong with the command line."""
    kind = type(error).__name__
    option = getattr(error, "option_name", "")
    if kind == "NoSuchOption":
        return text("usage.no_option", option=escape(option))
    if kind == "MissingParameter":
        return text("usage.missing", name=_param_name(error.param))
    if kind == "BadOptionUsage":
        key = "usage.no_value" if "not take" in error.message else "usage.needs_value"
        return text(key, option=escape(option))
    if isinstance(error, typer.BadParameter):
        return text("usage.bad", name=_param_name(error.param), problem=error.message)
    if kind == "NoArgsIsHelpError" or error.message == "Missing command.":
        return text("usage.missing_command")
    extra = re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message, re.DOTALL)
    return text("usage.extra", extra=escape(extra[1])) if extra else str(error.message)


def usage_hint(error: Any) -> str:
    """Where to read more."""
    path = error.ctx.command_path if error.ctx is not None else "gatepay"
    return text("usage.hint", command=path)


def print_help(ctx: Any, words: list[str]) -> None:
    """Write the help of the command that *words* name: `gatepay help keys upload`."""
    found = ctx.find_root()
    for word in words:
        if not isinstance(found.command, Group):
            raise UsageError(text("usage.extra", extra=escape(word)), found)
        _, inner, _ = found.command.resolve_command(found, [word])
        found = type(found)(inner, parent=found, info_name=word)
    typer.echo(found.get_help())


def wrap(message: str, width: int) -> list[str]:
    """Lines of *text*, none wider than *width* columns; broken at blanks, and between Chinese letters."""
    lines = [""]
    for piece in re.findall(r"[⺀-￯]|[^\s⺀-￯]+|\s+", message):
        if _width(lines[-1] + piece.rstrip()) > width and lines[-1]:
            # What closes a phrase stays with it.
            if piece in "，。；：、）”]":
                lines[-1] += piece
                continue
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]


def _width(message: str) -> int:
    """Columns; a Chinese letter fills two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in message)


def _param_name(param: Any) -> str:
    if param is None:
        return ""
    return max(param.opts, key=len) if param.param_type_name == "option" else str(param.metavar)


def _format_help(command: Any, ctx: Any) -> str:
    width = max(_MIN_COLUMNS, min(_MAX_COLUMNS, shutil.get_terminal_size().columns)) - 1
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.get_params(ctx) if param.param_type_name == "option" and not param.hidden]
    commands = getattr(command, "commands", {})
    usage = [ctx.command_path, text("help.options_there"), *(_argument(param) for param in arguments)]
    usage += [text("help.command_there")] if commands else []
    parts = [f"{_bold(text('help.usage'))}{' '.join(usage)}"]
    parts.append("\n".join(_wrap_lines(command.help or "", width)))
    parts += _section("help.arguments", [(param.metavar, param.help) for param in arguments], width)
    parts += _section("help.commands", [(name, _first_line(each.help)) for name, each in commands.items()], width)
    parts += _section("help.options", [(_option(param), _required(param)) for param in options], width)
    return "\n\n".join(parts) + "\n"


def _wrap_lines(message: str, width: int) -> Iterator[str]:
    """A text of several lines; one that begins with blanks is an example, and kept as it is."""
    for line in message.splitlines():
        yield from [line] if line.startswith("  ") else wrap(line, width)


def _first_line(message: str | None) -> str:
    return (message or "").partition("\n")[0]


def _argument(param: Any) -> str:
    name = f"{param.metavar}{'…' if param.nargs != 1 else ''}"
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join(sorted(param.opts, key=len))
    return names if param.is_flag or not param.metavar else f"{names} {param.metavar}"


def _required(param: Any) -> str:
    return f"{_param_help(param)} {text('help.required')}" if param.required else _param_help(param)


def _section(key: str, rows: list[tuple[str, str]], width: int) -> list[str]:
    """A heading and its rows, the second column aligned; nothing without rows."""
    if not rows:
        return []
    column = min(_MAX_NAME_COLUMNS, width * 2 // 5, max(_width(name) for name, _ in rows))
    lines = [_bold(text(key))]
    for name, message in rows:
        first, *more = wrap(message, width - column - 4)
        if _width(name) > column:
            lines.append(f"  {_cyan(name)}")
            more = [first, *more]
        else:
            lines.append(f"  {_cyan(name)}{' ' * (column - _width(name))}  {first}".rstrip())
        lines += [f"{' ' * (column + 4)}{line}" for line in more]
    return ["\n".join(lines)]


def _bold(message: str) -> str:
    return typer.style(message, bold=True) if _coloured() else message


def _cyan(message: str) -> str:
    return typer.style(message, fg="cyan") if _coloured() else message


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
