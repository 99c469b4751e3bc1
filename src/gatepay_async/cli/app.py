"""
The names and parameters of all commands. A command's own module is imported when the command runs.

The values of ``help=`` are keys of ``words/command.py``. ``Root`` replaces them with texts in the user's language.
The functions ``…_and_exit()`` of ``runner`` don't return: they end the command.
"""

import math
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from gatepay_async.cli import help_texts, language, output, usage, wildcards
from gatepay_async.cli.chosen import choose_env_file, choose_profile, fresh_run
from gatepay_async.cli.language import text
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.words import LANGUAGES
from gatepay_async.words.problem import os_reason

# The order in help: commands for newcomers first.
_COMMAND_ORDER = (
    "demo",
    "login",
    "profiles",
    "logout",
    "doctor",
    "products",
    "keys",
    "uploads",
    "pay",
    "order",
    "link",
    "callback",
    "errors",
    "sandbox",
    "help",
)

_HIGHEST_PORT = 65_535


class Root(usage.Group):
    """The ``gatepay`` command: prepares the arguments and turns errors into an exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002 -- Typer's signature; see standalone_mode
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 -- Typer's signature; this class handles errors itself
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line, and end the process with its exit status."""
        arguments = list(args) if args is not None else sys.argv[1:]
        if args is None and windows_expand_args and wildcards.IS_WINDOWS:
            arguments = wildcards.expand(arguments)
        language.set_language(language.choose_language(arguments, os.environ, encoding=sys.stdout.encoding or "ascii"))
        before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
        output.configure(as_json="--json" in before_dashes, fields=_fields_option(before_dashes))
        self.commands = {name: self.commands[name] for name in _COMMAND_ORDER}
        usage.announce_waiting(self, before_dashes)
        help_texts.translate_help(self, tuple(param for param in self.params if param.name in usage.SHARED_OPTIONS))
        run = partial(super().main, arguments, "gatepay", complete_var, standalone_mode=False)
        with fresh_run():
            status = int(_run_and_report(partial(run, **extra)))
        sys.exit(status)


def _run_and_report(command: Callable[[], Any]) -> Any:
    """Run *command*, and report its error, if any. Return the exit status."""
    try:
        return command() or Status.DONE
    except TyperException as error:
        return _report_usage_error(error)
    except SystemExit as end:
        # Typer raises SystemExit after shell completion, or because standard output is a closed pipe. Before it does so
        # for a closed pipe, it replaces sys.stdout with a PacifyFlushWrapper.
        if type(sys.stdout).__name__ != "PacifyFlushWrapper":
            raise
        output.discard_stdout()
        return end.code and Status.PIPE_CLOSED
    except typer.Abort:
        return Status.INTERRUPTED
    except Exception as error:
        write_error = output.stdout_error()
        if write_error is None and not isinstance(error, HaltError) and not _is_gatepay_error(error):
            raise
        return _report_error(error) if write_error is None else _report_write_error(write_error)


def _report_usage_error(error: TyperException) -> Status:
    """Print the problem of an invalid command line. Without a command, print the help."""
    if isinstance(error, usage.NoArgumentsError) and not output.wants_json():
        output.warn(error.help_text.rstrip(), unwrapped=True)
        return Status.USAGE
    return _report_error(HaltError(usage.usage_problem(error), todo=usage.usage_hint(error)))


def _report_write_error(write_error: OSError) -> Status:
    """Report that standard output can't be written. A closed pipe is not reported, because its reader has ended."""
    output.discard_stdout()
    if isinstance(write_error, BrokenPipeError):
        return Status.PIPE_CLOSED
    # Printed on standard error, also with --json, because standard output can't be written.
    output.warn(text("output.unwritable", reason=os_reason(write_error)))
    return Status.NO_OUTPUT


def _is_gatepay_error(error: Exception) -> bool:
    """Whether *error* is a ``GatePayError``, found by name: importing the class would slow down other commands."""
    return any(kind.__name__ == "GatePayError" for kind in type(error).__mro__)


def _report_error(error: Any) -> Status:
    from gatepay_async.cli.failures import show_error

    try:
        return show_error(error)
    except OSError as write_error:  # with --json, the error is printed on standard output
        return _report_write_error(output.stdout_error() or write_error)


def run() -> None:
    """Run the command, and end the process even if a thread is still waiting for a pipe."""
    status: int | str | None = Status.DONE
    try:
        typer.main.get_command(app).main()
    except SystemExit as end:
        status = end.code
    write_error = output.stdout_error()
    if write_error is not None:
        status = _report_write_error(write_error)
    output.flush_stderr()
    running_threads = [
        thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    if running_threads:
        os._exit(int(status or 0))
    sys.exit(status)


def _fields_option(arguments: Sequence[str]) -> str:
    """Return the value of ``--fields``, anywhere in *arguments*. Typer validates it later."""
    value = ""
    for index, argument in enumerate(arguments):
        if argument == "--fields":
            value = "".join(arguments[index + 1 : index + 2])
        elif argument.startswith("--fields="):
            value = argument.removeprefix("--fields=")
    return value


def _field_names(value: str) -> str:
    """Parse names separated by commas."""
    if value and re.fullmatch(r"\w+(,\w+)*", value) is None:
        raise typer.BadParameter(text("usage.fields", value=output.escape(value)))
    return value


def _positive_int(value: str | int) -> int:
    """Parse a whole number above 0."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise typer.BadParameter(text("usage.number", value=output.escape(value)))
    return number


def _concurrency(value: str | int) -> int | str:
    """Parse a whole number above 0, or ``auto``."""
    if value == "auto":
        return value
    try:
        return _positive_int(value)
    except typer.BadParameter:
        raise typer.BadParameter(text("usage.concurrency", value=output.escape(value))) from None


def _non_empty(value: str) -> str:
    """Refuse an empty text, which a script with an unset variable passes. It must not count as a missing option."""
    if not value:
        raise typer.BadParameter(text("usage.empty"))
    return value


def _trimmed_order_number(value: str) -> str:
    """Refuse an order number with a space or a line break at either end, which a script's variable may add."""
    if value != value.strip():
        raise typer.BadParameter(text("usage.blanks", value=output.escape(value)))
    return _non_empty(value)


def _interval(value: str | float) -> float:
    """Parse a number of seconds, 1 or more."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 1 <= number < math.inf:
        raise typer.BadParameter(text("usage.interval", value=output.escape(value)))
    return number


def _listening_address(value: str) -> object:
    """Parse an address to listen on: a port, or a host and a port."""
    from gatepay_async.cli.health import HealthAddress

    try:
        return HealthAddress.parse(value)
    except ValueError:
        raise typer.BadParameter(text("usage.address", value=output.escape(value))) from None


def _positive_rate(value: str | float) -> float:
    """Parse a number above 0."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise typer.BadParameter(text("usage.per_second", value=output.escape(value)))
    return number


def _port_number(value: str | int) -> int:
    """Parse the number of a port. 0 means a free port."""
    if not str(value).isdecimal() or int(value) > _HIGHEST_PORT:
        raise typer.BadParameter(text("usage.port", value=output.escape(value)))
    return int(value)


def _encoding(value: str) -> str:
    """Parse the name of an encoding, in any spelling."""
    from gatepay_async.cli.files import encodings, reading

    if value.strip().lower() == reading.AUTO:
        return reading.AUTO
    name = encodings.normalized_name(value)
    if not name:
        choices = ", ".join((reading.AUTO, *encodings.NAMES))
        raise typer.BadParameter(text("usage.choice", value=output.escape(value), choices=choices))
    return name


def _choice_option(*choices: str) -> dict[str, Any]:
    """Return the settings of an option that takes one of *choices* and offers them for completion."""

    def check(value: str) -> str:
        if value not in choices:
            raise typer.BadParameter(text("usage.choice", value=output.escape(value), choices=", ".join(choices)))
        return value

    def offer(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return {"parser": check, "autocompletion": offer, "metavar": "|".join(choices)}


def _expand_home(path: str) -> str:
    """Replace ``~`` in *path* with the home folder. Shells don't do so in ``--output=~/keys.csv``."""
    return os.path.expanduser(path)  # noqa: PTH111 -- Path.expanduser() raises where there is no home


def _file_path(value: str | Path) -> Path:
    """Parse the name of a file."""
    return Path(_expand_home(str(value)))


def _new_file_path(value: str | Path) -> Path:
    """Parse the name of a file to write. Standard output and an empty name are refused."""
    if str(value) == "-":
        raise typer.BadParameter(text("usage.file", value="-"))
    return _file_path(_non_empty(str(value)))


def _print_version(value: bool) -> None:
    """Print the version and end the command, if ``--version`` was given."""
    if value:
        from gatepay_async.version import __version__

        if output.wants_json():
            output.print_json(version=__version__)
        else:
            typer.echo(f"gatepay-async {__version__}")
        raise typer.Exit


JsonOption = Annotated[bool, typer.Option("--json", help="option.json", expose_value=False)]
FieldsOption = Annotated[
    str, typer.Option("--fields", help="option.fields", metavar="A,B", expose_value=False, parser=_field_names)
]
LangOption = Annotated[
    str, typer.Option("--lang", help="option.lang", expose_value=False, **_choice_option(*LANGUAGES))
]
ProfileOption = Annotated[
    str,
    typer.Option("--profile", help="option.profile", metavar="NAME", expose_value=False, callback=choose_profile),
]
EnvFileOption = Annotated[
    str,
    typer.Option("--env-file", help="option.env_file", metavar="FILE", expose_value=False, callback=choose_env_file),
]
VersionOption = Annotated[
    bool, typer.Option("--version", "-V", help="option.version", is_eager=True, callback=_print_version)
]
ProductOption = Annotated[
    int, typer.Option("--product", "-p", help="option.product", metavar="ID", parser=_positive_int)
]
OptionalProductOption = Annotated[
    int | None, typer.Option("--product", "-p", help="option.product", metavar="ID", parser=_positive_int)
]
OrderIdOption = Annotated[int, typer.Option("--order-id", help="callback.order_id", metavar="N", parser=_positive_int)]
OrderOption = Annotated[str, typer.Option("--order", help="callback.order", metavar="TEXT")]
PriceOption = Annotated[str, typer.Option("--price", help="callback.price", metavar="0.99")]
RealPriceOption = Annotated[str, typer.Option("--realprice", help="callback.realprice", metavar="0.99")]
PayTypeOption = Annotated[
    str, typer.Option("--type", help="option.type", **_choice_option("alipay", "wechat", "onecode"))
]
ExtendOption = Annotated[str, typer.Option("--extend", help="callback.extend", metavar="TEXT")]
PaidAtOption = Annotated[
    int | None, typer.Option("--paid-at", help="callback.paid_at", metavar="EPOCH", parser=_positive_int)
]
FailedLinesOption = Annotated[
    Path | None, typer.Option("--failed-lines", help="upload.failed_lines", metavar="FILE", parser=_new_file_path)
]
ConcurrencyOption = Annotated[
    Any,  # int | Literal["auto"]; Typer doesn't support unions
    typer.Option("--concurrency", help="upload.concurrency", metavar="N|auto", parser=_concurrency),
]
JobArgument = Annotated[str, typer.Argument(help="uploads.which", metavar="JOB")]
ForgedOption = Annotated[bool, typer.Option("--forged", help="callback.forged")]
PostOption = Annotated[bool, typer.Option("--post", help="callback.post")]

_TYPER_SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(cls=Root, help="gatepay", **_TYPER_SETTINGS)
keys = typer.Typer(cls=usage.Group, help="keys", **_TYPER_SETTINGS)
uploads = typer.Typer(cls=usage.Group, help="uploads", **_TYPER_SETTINGS)
callback = typer.Typer(cls=usage.Group, help="callback", **_TYPER_SETTINGS)


@app.callback()
def _root(
    profile: ProfileOption = "",
    env_file: EnvFileOption = "",
    as_json: JsonOption = False,
    fields: FieldsOption = "",
    lang: LangOption = "en",
    version: VersionOption = False,
) -> None:
    """Declare the options that all commands share. The parser or callback of each option, or ``Root``, applies it."""


@app.command(cls=usage.Command, help="login")
def login(
    base_url: Annotated[str, typer.Option("--base-url", help="login.base_url", metavar="URL")] = "",
    cloud_base_url: Annotated[str, typer.Option("--cloud-base-url", help="login.cloud_base_url", metavar="URL")] = "",
    in_file: Annotated[bool, typer.Option("--in-file", help="login.in_file_option")] = False,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import login

    runner.run_and_exit(login.login, login.ask_credentials(), base_url, cloud_base_url, in_file=in_file)


@app.command(cls=usage.Command, help="profiles")
def profiles(
    default: Annotated[str, typer.Option("--default", help="profiles.default", metavar="NAME")] = "",
) -> None:
    from gatepay_async.cli.commands import login

    raise typer.Exit(login.list_profiles(default))


@app.command(cls=usage.Command, help="logout")
def logout() -> None:
    from gatepay_async.cli.commands import login

    raise typer.Exit(login.logout())


@app.command(cls=usage.WaitingCommand, help="products")
def products(
    below: Annotated[
        int | None, typer.Option("--below", help="products.below", metavar="N", parser=_positive_int)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="products.watch")] = False,
    every: Annotated[float, typer.Option("--every", help="products.every", metavar="SECONDS", parser=_interval)] = 60.0,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import products

    if not watch:
        runner.run_and_exit(products.list_products, below)
    elif below is None:
        raise HaltError(text("products.below_missing"))
    else:
        runner.serve_and_exit(products.watch_stock, below, every)


app.add_typer(keys, name="keys")


@keys.command("upload", cls=usage.WaitingCommand, help="upload")
def keys_upload(
    files: Annotated[list[Path], typer.Argument(help="upload.files", metavar="FILE", parser=_file_path)],
    product: ProductOption,
    concurrency: ConcurrencyOption = 4,
    column: Annotated[str, typer.Option("--column", help="upload.column_is", metavar="NAME|NUMBER")] = "",
    encoding: Annotated[
        str, typer.Option("--encoding", help="upload.encoding", metavar="NAME", parser=_encoding)
    ] = "auto",
    skip_heading: Annotated[bool, typer.Option("--skip-heading", help="upload.skip_heading")] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="upload.as_is")] = False,
    hidden_rows: Annotated[
        str | None, typer.Option("--hidden-rows", help="upload.hidden_rows", **_choice_option("upload", "skip"))
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="upload.yes")] = False,
    failed_lines: FailedLinesOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="upload.dry_run")] = False,
    durable: Annotated[bool, typer.Option("--durable", help="upload.durable")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="upload.no_wait")] = False,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import keys_dry_run, keys_upload
    from gatepay_async.cli.files.reading import Reading

    reading = Reading(encoding, column.strip(), skip_heading, as_is, hidden_rows or "")
    if dry_run:
        raise typer.Exit(keys_dry_run.dry_run(files, reading))
    if durable or no_wait:
        from gatepay_async.cli.commands import keys_durable

        submission = (files, product, concurrency, reading, failed_lines)
        runner.run_and_exit(keys_durable.submit, *submission, yes=yes, wait=not no_wait)
    runner.run_and_exit(keys_upload.upload, files, product, concurrency, reading, failed_lines, yes=yes)


@keys.command("export", cls=usage.WaitingCommand, help="export")
def keys_export(
    product: ProductOption,
    target: Annotated[str, typer.Option("--output", "-o", help="export.output", metavar="FILE")],
    excel: Annotated[bool, typer.Option("--excel", help="export.excel")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="export.thorough")] = False,
    force: Annotated[bool, typer.Option("--force", help="export.force")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="export.reveal")] = False,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import keys_export

    runner.run_and_exit(keys_export.export, product, _expand_home(target), excel, thorough, force, reveal)


@keys.command("count", cls=usage.WaitingCommand, help="count")
def keys_count(
    product: Annotated[
        int | None, typer.Option("--product", "-p", help="count.product", metavar="ID", parser=_positive_int)
    ] = None,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import products

    runner.run_and_exit(products.count_keys, product)


app.add_typer(uploads, name="uploads")


@uploads.command("list", cls=usage.WaitingCommand, help="list")
def uploads_list() -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads

    runner.run_and_exit(uploads.list_jobs)


@uploads.command("show", cls=usage.WaitingCommand, help="show")
def uploads_show(job: JobArgument, failed_lines: FailedLinesOption = None) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads

    runner.run_and_exit(uploads.show_job, job, failed_lines)


@uploads.command("watch", cls=usage.WaitingCommand, help="watch")
def uploads_watch(job: JobArgument, failed_lines: FailedLinesOption = None) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads

    runner.run_and_exit(uploads.watch, job, failed_lines)


@uploads.command("cancel", cls=usage.WaitingCommand, help="cancel")
def uploads_cancel(job: JobArgument) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads

    runner.run_and_exit(uploads.cancel, job)


@uploads.command("resume", cls=usage.WaitingCommand, help="resume")
def uploads_resume(job: JobArgument) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads

    runner.run_and_exit(uploads.resume, job)


@uploads.command("delete", cls=usage.WaitingCommand, help="delete")
def uploads_delete(job: JobArgument) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads

    runner.run_and_exit(uploads.delete, job)


@uploads.command("work", cls=usage.WaitingCommand, help="work")
def uploads_work(
    concurrency: ConcurrencyOption = 4,
    global_concurrency: Annotated[
        int | None,
        typer.Option("--global-concurrency", help="work.global_concurrency", metavar="N", parser=_positive_int),
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="work.rate", metavar="N", parser=_positive_rate)] = None,
    drain: Annotated[bool, typer.Option("--drain", help="work.drain")] = False,
    health: Annotated[
        Any,  # a HealthAddress; importing its module is slow
        typer.Option("--health", help="work.health", metavar="[ADDRESS:]PORT", parser=_listening_address),
    ] = None,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import uploads_work

    runner.run_worker_and_exit(uploads_work.work, concurrency, global_concurrency, rate, drain=drain, health=health)


@app.command(cls=usage.WaitingCommand, help="pay")
def pay(
    pay_type: PayTypeOption,
    product: OptionalProductOption = None,
    price: Annotated[str, typer.Option("--price", help="pay.price", metavar="10.23")] = "",
    group: Annotated[list[str] | None, typer.Option("--group", help="pay.group", metavar="ID:N,…")] = None,
    cloud: Annotated[bool, typer.Option("--cloud", help="pay.cloud")] = False,
    num: Annotated[int, typer.Option("--num", "-n", help="pay.num", metavar="N", parser=_positive_int)] = 1,
    order: Annotated[
        str | None, typer.Option("--order", help="pay.order", metavar="TEXT", parser=_trimmed_order_number)
    ] = None,
    custom: Annotated[str, typer.Option("--custom", help="pay.custom", metavar="TEXT")] = "",
    save_qr: Annotated[
        Path | None, typer.Option("--save-qr", help="pay.save_qr", metavar="FILE", parser=_file_path)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="pay.wait")] = False,
    listen: Annotated[str, typer.Option("--listen", help="pay.listen", metavar="HOST:PORT")] = "",
    timeout: Annotated[
        int, typer.Option("--timeout", help="pay.timeout", metavar="SECONDS", parser=_positive_int)
    ] = 300,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import pay, pay_waiting

    items = pay.parse_group(",".join(group or ()))
    request = pay.OrderRequest(product, price, items, cloud, num, pay_type, order or "", custom)
    runner.run_and_exit(pay.pay, request, save_qr, pay_waiting.parse_listen(listen, wait=wait), timeout)


@app.command("order", cls=usage.WaitingCommand, help="order")
def show_order(
    number: Annotated[str, typer.Argument(help="order.number", metavar="ORDER_NUMBER")],
    wait: Annotated[bool, typer.Option("--wait", help="order.wait")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", help="pay.timeout", metavar="SECONDS", parser=_positive_int)
    ] = 300,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import order

    runner.run_and_exit(order.show, number, wait, timeout)


@app.command("link", cls=usage.Command, help="link")
def show_link(
    token: Annotated[str, typer.Argument(help="link.token", metavar="TOKEN")],
    price: Annotated[str, typer.Option("--price", help="link.price", metavar="1.88")] = "",
    custom: Annotated[str, typer.Option("--custom", help="link.custom", metavar="TEXT")] = "",
    stable: Annotated[bool, typer.Option("--stable", help="link.stable")] = False,
) -> None:
    from gatepay_async.cli.commands import link

    raise typer.Exit(link.show(token, price, custom, stable))


app.add_typer(callback, name="callback")


@callback.command("verify", cls=usage.Command, help="verify")
def callback_verify(query: Annotated[str, typer.Argument(help="verify.query", metavar="QUERY")]) -> None:
    from gatepay_async.cli.commands import callback

    raise typer.Exit(callback.verify(query))


@callback.command("sign", cls=usage.Command, help="sign")
def callback_sign(
    order_id: OrderIdOption,
    order: OrderOption,
    price: PriceOption,
    realprice: RealPriceOption = "",
    pay_type: PayTypeOption = "alipay",
    extend: ExtendOption = "",
    paid_at: PaidAtOption = None,
    forged: ForgedOption = False,
    post: PostOption = False,
) -> None:
    from gatepay_async.cli.commands import callback

    fields = callback.CallbackFields(order_id, order, price, realprice, pay_type, extend, paid_at or 0, forged, post)
    raise typer.Exit(callback.sign(fields))


@callback.command("send", cls=usage.WaitingCommand, help="send")
def callback_send(
    url: Annotated[str, typer.Argument(help="send.url", metavar="URL")],
    order_id: OrderIdOption,
    order: OrderOption,
    price: PriceOption,
    realprice: RealPriceOption = "",
    pay_type: PayTypeOption = "alipay",
    extend: ExtendOption = "",
    paid_at: PaidAtOption = None,
    forged: ForgedOption = False,
    post: PostOption = False,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import callback

    fields = callback.CallbackFields(order_id, order, price, realprice, pay_type, extend, paid_at or 0, forged, post)
    runner.run_and_exit(callback.send, url, fields)


@app.command(cls=usage.Command, help="sandbox")
def sandbox(
    database: Annotated[str, typer.Option("--database", help="sandbox.database", metavar="FILE")] = ":memory:",
    port: Annotated[int | None, typer.Option("--port", help="sandbox.port", metavar="N", parser=_port_number)] = None,
    callback_url: Annotated[str, typer.Option("--callback", help="sandbox.callback", metavar="URL")] = "",
    env_file: Annotated[str, typer.Option("--env-file", help="sandbox.env_file_option", metavar="FILE")] = "",
    force: Annotated[bool, typer.Option("--force", help="sandbox.force")] = False,
    shell: Annotated[
        str | None, typer.Option("--shell", help="sandbox.shell", **_choice_option("sh", "fish", "powershell", "cmd"))
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="sandbox.quiet")] = False,
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import sandbox

    settings = sandbox.Settings(
        _expand_home(database), port, callback_url, _expand_home(env_file), force, shell or "", quiet
    )
    runner.serve_and_exit(sandbox.serve, settings)


@app.command(cls=usage.WaitingCommand, help="doctor")
def doctor(
    callback_url: Annotated[str, typer.Option("--callback", help="doctor.callback_url", metavar="URL")] = "",
) -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import doctor

    runner.run_and_exit(doctor.diagnose, callback_url)


@app.command(cls=usage.Command, help="errors")
def errors(
    endpoint: Annotated[str, typer.Argument(help="errors.endpoint", metavar="ENDPOINT")] = "",
    code: Annotated[str, typer.Argument(help="errors.code", metavar="CODE")] = "",
) -> None:
    from gatepay_async.cli.commands import errors

    raise typer.Exit(errors.list_refusals(endpoint, code))


@app.command(cls=usage.WaitingCommand, help="demo")
def demo() -> None:
    from gatepay_async.cli import runner
    from gatepay_async.cli.commands import demo

    runner.run_and_exit(demo.run_demo)


@app.command("help", cls=usage.Command, help="help")
def show_help(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(help="help.command", metavar="COMMAND")] = None,
) -> None:
    usage.print_help(context, words or [])
