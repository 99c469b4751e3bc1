"""The commands and groups of commands, and the errors of an invalid command line, in both languages."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from gatepay_async.cli import help_texts
from gatepay_async.cli.chosen import chosen
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.output import clear_waiting, escape, show_waiting


class CommandLineError(TyperException):
    """
    The command line is invalid.

    Args:
        problem: What is wrong.
        ctx: Typer's context of the command.
    """

    def __init__(self, problem: CommandText, ctx: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.ctx = ctx

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problem, None)  # a context can't be pickled


class NoArgumentsError(CommandLineError):
    """
    A group of commands has no arguments.

    Args:
        help_text: The help of the group.
        ctx: Typer's context of the group.
    """

    def __init__(self, help_text: str, ctx: Any) -> None:
        super().__init__(text("usage.missing_command"), ctx)
        self.help_text = help_text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.help_text, None)


SHARED_OPTIONS = ("profile", "env_file", "as_json", "fields", "lang")  # options that every command takes
# These commands accept any profile's name, or report an unknown one themselves.
_WITHOUT_PROFILE_CHECK = ("login", "logout", "profiles", "help")


@contextmanager
def _add_context(ctx: Any) -> Generator[None]:
    """Add *ctx* to an error without a context. Typer raises such errors while it parses a command line."""
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
            if not ctx.resilient_parsing:
                self._refuse_repeated_options(ctx, args)
            extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            raise CommandLineError(text("usage.extra", extra=escape(" ".join(extra))), ctx)
        return extra

    def _refuse_repeated_options(self, ctx: Any, args: list[str]) -> None:
        """Refuse an option that is given twice: the command would silently ignore one of two products, for example."""
        _, _, in_order = self.make_parser(ctx).parse_args(args=list(args))
        for param, count in Counter[Any](in_order).items():
            if count > 1 and not (param.multiple or param.is_flag):
                raise CommandLineError(text("usage.twice", option=max(param.opts, key=len)), ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Refuse an unknown profile, also for a command that needs no profile."""
        profile = chosen().profile
        if profile and self.name not in _WITHOUT_PROFILE_CHECK:
            from gatepay_async.cli.profiles import get_profile

            get_profile(profile)
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this command."""
        formatter.write(help_texts.format_help(self, ctx))


class WaitingCommand(Command):
    """A command for which ``announce_waiting`` prints ``One moment…``, because it waits for imports or a server."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. If it has printed nothing, remove ``One moment…`` at the end."""
        try:
            return super().invoke(ctx)
        finally:
            clear_waiting()


def announce_waiting(root: Any, arguments: list[str]) -> None:
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
        formatter.write(help_texts.format_help(self, ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command, or raise an error that suggests a similar one."""
        if args[0] not in self.commands:
            has_option = any(f"--{args[0]}" in param.opts for param in self.params)  # such as --version
            suggestion = f"--{args[0]}" if has_option else self._nearest(args[0])
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


def usage_problem(error: Any) -> CommandText:
    """
    Return a text that says what is wrong with the command line.

    Typer exports few of its classes of errors, so they are recognized by their attributes.
    """
    command: Any = None if getattr(error, "ctx", None) is None else error.ctx.command
    if isinstance(error, CommandLineError):
        return error.problem
    if hasattr(error, "option_name"):
        return _option_problem(error, {name: param for param in command.get_params(error.ctx) for name in param.opts})
    if isinstance(error, typer.BadParameter):
        name = _param_name(error.param)
        is_missing = hasattr(error, "param_type")
        return text("usage.missing", name=name) if is_missing else text("usage.bad", name=name, problem=error.message)
    return text("usage.missing_command") if isinstance(command, Group) else text("usage.other", problem=error.message)


def _option_problem(error: Any, params: dict[str, Any]) -> CommandText:
    """Return what is wrong with an option. *params* maps each name of an option of the command to that option."""
    option: str = error.option_name
    if option in params:
        return text("usage.no_value" if params[option].is_flag else "usage.needs_value", option=escape(option))
    matches = [name for name in params if name.lower() == option.lower()] or get_close_matches(option, params, n=1)
    hint = text("usage.meant", name=max(params[matches[0]].opts, key=len)) if matches else ""
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
