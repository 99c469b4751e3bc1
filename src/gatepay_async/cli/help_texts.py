"""Formats help texts in both languages. Typer's are English only and misalign wide characters."""

import os
import shutil
import sys
from collections.abc import Iterator
from copy import copy
from typing import Any

import typer

from gatepay_async.cli.language import text
from gatepay_async.cli.output import json_line, wants_json
from gatepay_async.cli.wrapping import width_of, wrap
from gatepay_async.words.command import COMMAND

_MIN_WIDTH, _MAX_WIDTH = 40, 100  # the width of a help text
_MAX_NAME_COLUMNS = 30  # an option that is longer than this, or than 2/5 of the width, gets its own line

# Translated help texts for Typer's own options.
_TYPER_OPTIONS = {"--help": "option.help", "--install-completion": "option.install", "--show-completion": "option.show"}
# Commands with their own help text for the shared option --profile or --json.
_OTHER_PROFILE_HELP = ("login", "logout", "profiles")
_OTHER_JSON_HELP = ("products", "pay", "export", "sandbox")


def translate_help(command: Any, shared: tuple[Any, ...] = ()) -> None:
    """Translate the help texts of all commands, and add the *shared* options to each command."""
    command.help = text(command.help)
    for param in command.params:
        param.help = _param_help(param)
    for subcommand in getattr(command, "commands", {}).values():
        translate_help(subcommand, shared)
        own_names = {param.name for param in subcommand.params}
        subcommand.params.extend(
            _with_help_for(param, subcommand.name) for param in shared if param.name not in own_names
        )


def _with_help_for(param: Any, command: str) -> Any:
    """Return a shared option with its help text for *command*."""
    if param.name == "as_json" and command in _OTHER_JSON_HELP:
        param = copy(param)
        param.help = text(f"option.json_{command}")
    if param.name == "profile" and command in _OTHER_PROFILE_HELP:
        param = copy(param)
        param.help = text(f"option.profile_{command}")
    return param


def _param_help(param: Any) -> str:
    """Return the help text of an option or argument."""
    key = next((_TYPER_OPTIONS[option] for option in param.opts if option in _TYPER_OPTIONS), param.help)
    return text(key) if key in COMMAND else str(key or "")  # translate_help() may have replaced the key by its text


def format_help(command: Any, ctx: Any) -> str:
    """Return the help of a command as text, or as JSON with ``--json``."""
    if wants_json():
        return json_line(_describe(command, ctx))
    width = max(_MIN_WIDTH, min(_MAX_WIDTH, shutil.get_terminal_size().columns)) - 1
    arguments, options, commands = _params_and_commands(command, ctx)
    usage = [ctx.command_path, text("help.options_there"), *(_argument(param) for param in arguments)]
    usage += [text("help.command_there")] if commands else []
    parts = [_usage_line(" ".join(usage), width)]
    parts.append("\n".join(_wrap_lines(command.help or "", width)))
    parts += _section("help.arguments", [(param.metavar, param.help) for param in arguments], width)
    parts += _section(
        "help.commands", [(name, _first_line(subcommand.help)) for name, subcommand in commands.items()], width
    )
    parts += _section("help.options", [(_option(param), _option_help(param)) for param in options], width)
    return "\n\n".join(parts) + "\n"


def _describe(command: Any, ctx: Any) -> dict[str, object]:
    """Return the help of a command as JSON."""
    arguments, options, commands = _params_and_commands(command, ctx)
    return {
        "command": ctx.command_path,
        "help": command.help,
        "arguments": [
            {
                "name": argument.metavar,
                "help": argument.help,
                "required": argument.required,
                "several": argument.nargs != 1,
            }
            for argument in arguments
        ],
        "commands": [{"name": name, "help": _first_line(subcommand.help)} for name, subcommand in commands.items()],
        "options": [
            {
                "names": option.opts,
                "value": None if option.is_flag else option.metavar,
                "help": _param_help(option),
                "required": option.required,
            }
            for option in options
        ],
    }


def _params_and_commands(command: Any, ctx: Any) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Return a command's arguments, its options, and the commands of a group by name."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.get_params(ctx) if param.param_type_name == "option" and not param.hidden]
    return arguments, options, getattr(command, "commands", {})


def _usage_line(usage: str, width: int) -> str:
    """Format the line that shows how to call the command."""
    heading = text("help.usage")
    indent = width_of(heading)
    return _bold(heading) + f"\n{' ' * indent}".join(wrap(usage, width - indent))


def _wrap_lines(message: str, width: int) -> Iterator[str]:
    """Yield the wrapped lines of *message*. A line that starts with spaces is an example."""
    for line in message.splitlines():
        yield from _wrap_example(line, width) if line.startswith("  ") else wrap(line, width)


def _wrap_example(line: str, width: int) -> list[str]:
    """Wrap an example so that its command can still be copied. If its explanation doesn't fit, it follows below."""
    if width_of(line) <= width:
        return [line]
    command, _, explanation = line.strip().partition("  ")
    parts = wrap(command, width - 6)
    lines = [f"{'      ' if number else '  '}{part}" for number, part in enumerate(parts)]
    lines[:-1] = [f"{part} \\" for part in lines[:-1]]
    return lines + [f"      {part}" for part in wrap(explanation.strip(), width - 6) if part]


def _first_line(message: str | None) -> str:
    return (message or "").partition("\n")[0]


def _argument(param: Any) -> str:
    """Format an argument for the usage line: in brackets if it is optional, with ``…`` if it may be repeated."""
    name = f"{param.metavar}{'…' if param.nargs != 1 else ''}"
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    """Format the names of an option, and the name of its value."""
    names = ", ".join(sorted(param.opts, key=len))
    return names if param.is_flag or not param.metavar else f"{names} {param.metavar}"


def _option_help(param: Any) -> str:
    """Return the help text of an option, with a note if the option is required."""
    return f"{_param_help(param)} {text('help.required')}" if param.required else _param_help(param)


def _section(key: str, rows: list[tuple[str, str]], width: int) -> list[str]:
    """Return a heading with its rows, the second column aligned. Without rows, return nothing."""
    if not rows:
        return []
    name_columns = min(_MAX_NAME_COLUMNS, width * 2 // 5, max(width_of(name) for name, _ in rows))
    lines = [_bold(text(key))]
    for name, message in rows:
        first, *more = wrap(message, width - name_columns - 4)
        if width_of(name) > name_columns:
            lines.append(f"  {_cyan(name)}")
            more = [first, *more]
        else:
            lines.append(f"  {_cyan(name)}{' ' * (name_columns - width_of(name))}  {first}".rstrip())
        lines += [f"{' ' * (name_columns + 4)}{line}" for line in more]
    return ["\n".join(lines)]


def _bold(message: str) -> str:
    return typer.style(message, bold=True) if _wants_colour() else message


def _cyan(message: str) -> str:
    return typer.style(message, fg="cyan") if _wants_colour() else message


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
