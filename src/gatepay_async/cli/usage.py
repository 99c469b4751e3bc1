"""Formats help and usage errors in both languages. Typer's are English only and misalign wide characters."""

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from copy import copy
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from gatepay_async.cli.language import text
from gatepay_async.cli.output import clear_waiting, escape, json_line, show_waiting, wants_json
from gatepay_async.cli.wrapping import width_of, wrap
from gatepay_async.words.command import COMMAND

_MIN_WIDTH, _MAX_WIDTH = 40, 100  # the width of a help text
_MAX_NAME_COLUMNS = 30  # an option that is longer than this, or than 2/5 of the width, gets its own line

# Translated help texts for Typer's own options.
_TYPER_OPTIONS = {"--help": "option.help", "--install-completion": "option.install", "--show-completion": "option.show"}


class CommandLineError(TyperException):
    """
    The command line is invalid.

    Args:
        message: What is wrong, in the user's language.
        ctx: Typer's context of the command.
    """

    def __init__(self, message: str, ctx: Any) -> None:
        super().__init__(message)
        self.ctx = ctx


class NoArgumentsError(CommandLineError):
    """A group of commands has no arguments. The message is its help."""


@contextmanager
def _add_context(ctx: Any) -> Generator[None]:
    """Add *ctx* to an error without one: Typer raises some while it parses a command line."""
    try:
        yield
    except TyperException as error:
        usage_error: Any = error
        usage_error.ctx = getattr(error, "ctx", None) or ctx
        raise


class Command(TyperCommand):
    """A command whose help and errors this module formats."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line after the command's name."""
        ctx.allow_extra_args = True  # Typer's error would contain them only within its English text
        with _add_context(ctx):
            extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            raise CommandLineError(text("usage.extra", extra=escape(" ".join(extra))), ctx)
        return extra

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this command."""
        formatter.write(_format_help(self, ctx))


class WaitingCommand(Command):
    """A command that prints ``One moment…`` first, because it waits for imports or a server."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        finally:
            clear_waiting()


def announce(root: Any, arguments: list[str]) -> None:
    """Print ``One moment…`` before Typer reads the command line, because Typer may import many modules for that."""
    command = root
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    if isinstance(command, WaitingCommand) and not {"-h", "--help"}.intersection(arguments):
        show_waiting()


class Group(TyperGroup):
    """A group of commands whose help and errors this module formats."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line after the group's name."""
        if not args and not ctx.resilient_parsing:
            raise NoArgumentsError(ctx.get_help(), ctx)
        with _add_context(ctx):
            return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this group."""
        formatter.write(_format_help(self, ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command, or raise an error that suggests a similar one."""
        if args[0] not in self.commands:
            suggestion = self._nearest(args[0])
            hint = text("usage.meant_command", name=f"{ctx.command_path} {suggestion}") if suggestion else ""
            raise CommandLineError(text("usage.no_command", name=escape(args[0]), hint=hint), ctx)
        return super().resolve_command(ctx, args)

    def _nearest(self, name: str) -> str:
        """Return the most similar command, such as `keys upload` for `upload`, or an empty string."""
        group_names = {  # by the name of the command in the group
            child: group_name for group_name, group in self.commands.items() for child in getattr(group, "commands", {})
        }
        matches = get_close_matches(name, [*self.commands, *group_names], n=1)
        if not matches or matches[0] in self.commands:
            return "".join(matches)
        return f"{group_names[matches[0]]} {matches[0]}"


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


def usage_problem(error: Any) -> str:
    """
    Return a text that says what is wrong with the command line.

    Typer exports few of its classes of errors, so they are recognized by their attributes.
    """
    command: Any = None if getattr(error, "ctx", None) is None else error.ctx.command
    if isinstance(error, NoArgumentsError):
        return text("usage.missing_command")
    if isinstance(error, CommandLineError):
        return error.message
    if hasattr(error, "option_name"):
        return _option_problem(error, {name: param for param in command.get_params(error.ctx) for name in param.opts})
    if isinstance(error, typer.BadParameter):
        name = _param_name(error.param)
        is_missing = hasattr(error, "param_type")
        return text("usage.missing", name=name) if is_missing else text("usage.bad", name=name, problem=error.message)
    return text("usage.missing_command") if isinstance(command, Group) else str(error.message)


def _option_problem(error: Any, params: dict[str, Any]) -> str:
    """Return what is wrong with an option. *params* are those of the command, by each of their names."""
    option: str = error.option_name
    if option in params:
        return text("usage.no_value" if params[option].is_flag else "usage.needs_value", option=escape(option))
    matches = get_close_matches(option, params, n=1)
    hint = text("usage.meant", name=matches[0]) if matches else ""
    return text("usage.no_option", option=escape(option), hint=hint)


def usage_hint(error: Any) -> str:
    """Return a text that refers to the help of the command."""
    ctx = getattr(error, "ctx", None)
    return text("usage.hint", command="gatepay" if ctx is None else ctx.command_path)


def print_help(ctx: Any, words: list[str]) -> None:
    """Print the help of the command that *words* name, for `gatepay help keys upload`."""
    context = ctx.find_root()
    for word in words:
        if not isinstance(context.command, Group):
            raise CommandLineError(text("usage.extra", extra=escape(word)), context)
        _, subcommand, _ = context.command.resolve_command(context, [word])
        context = type(context)(subcommand, parent=context, info_name=word)
    typer.echo(context.get_help())


def _param_name(param: Any) -> str:
    """Return the name of an option or argument, for a message."""
    if param is None:
        return ""
    return max(param.opts, key=len) if param.param_type_name == "option" else str(param.metavar)


def _format_help(command: Any, ctx: Any) -> str:
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
    column = min(_MAX_NAME_COLUMNS, width * 2 // 5, max(width_of(name) for name, _ in rows))
    lines = [_bold(text(key))]
    for name, message in rows:
        first, *more = wrap(message, width - column - 4)
        if width_of(name) > column:
            lines.append(f"  {_cyan(name)}")
            more = [first, *more]
        else:
            lines.append(f"  {_cyan(name)}{' ' * (column - width_of(name))}  {first}".rstrip())
        lines += [f"{' ' * (column + 4)}{line}" for line in more]
    return ["\n".join(lines)]


def _bold(message: str) -> str:
    return typer.style(message, bold=True) if _wants_colour() else message


def _cyan(message: str) -> str:
    return typer.style(message, fg="cyan") if _wants_colour() else message


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
