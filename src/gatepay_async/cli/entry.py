"""Where the ``gatepay`` command begins: it runs, or says which extra is missing."""

import sys

# Typer needs a moment, and may not be there: it is imported below.

_MISSING = """\
gatepay: the command needs the extra `cli` ({name} is not installed):
    pip install 'gatepay-async[cli]'
gatepay：命令行需要附加组件 cli（未安装 {name}），请执行上面的命令。
"""
USAGE = 2


def main() -> None:
    """Run the command; ends the process with its exit status."""
    missing = ""
    try:
        from gatepay_async.cli.app import run  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if missing.startswith("gatepay_async"):
            raise
    if missing:
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal's, or a file's
        sys.stderr.write(_MISSING.format(name=missing))
        sys.exit(USAGE)
    run()
