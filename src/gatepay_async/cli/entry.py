"""The entry point of the ``gatepay`` command. It names the extra to install if one is missing."""

import os
import sys

from gatepay_async.cli.output import open_closed_streams, watch_stdout

# Typer may not be installed, so modules that need it are imported in main().

_MISSING = """\
gatepay: this command requires the `cli` extra ({name} is not installed):
    pip install 'gatepay-async[cli]'
gatepay：此命令需要可选依赖 cli（未安装 {name}），请执行上面的命令。
"""
USAGE = 2  # the exit status ``Status.USAGE``


def main() -> None:
    """Run the command, and end the process with its exit status."""
    open_closed_streams()
    watch_stdout()
    try:
        from gatepay_async.cli.app import run
    except ModuleNotFoundError as error:
        if str(error.name).startswith("gatepay_async"):
            raise
        if "--json" in sys.argv:
            _print_as_json(str(error.name))
            sys.exit(USAGE)
        # Escape Chinese for terminals that can't show it. Normally, cli.output does this.
        text = _MISSING.format(name=error.name).encode(sys.stderr.encoding or "ascii", "backslashreplace")
        sys.stderr.write(text.decode(sys.stderr.encoding or "ascii"))
        sys.exit(USAGE)
    run()


def _print_as_json(missing: str) -> None:
    """Print the error for a module that is not installed in the format of all errors."""
    from gatepay_async.cli import failures, language, output
    from gatepay_async.cli.status import HaltError

    output.configure(as_json=True)
    language.set_language(language.choose_language(sys.argv, os.environ, encoding=sys.stdout.encoding or "ascii"))
    failures.show_error(HaltError(language.text("extras.missing", name=missing, extra="cli")))
