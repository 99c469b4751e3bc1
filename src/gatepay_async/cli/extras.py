"""Optional dependencies."""

from collections.abc import Generator
from contextlib import contextmanager

from gatepay_async.cli.language import text
from gatepay_async.cli.status import HaltError


@contextmanager
def require_extra(extra: str) -> Generator[None]:
    """
    Wrap imports that need *extra*.

    Raises:
        HaltError: The extra is not installed. The error has the command to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise HaltError(text("extras.missing", name=error.name, extra=extra)) from None
