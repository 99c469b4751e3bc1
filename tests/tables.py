"""
The decorator ``@rows``: runs one test for each row of a table, and reports all failed rows at the end.

::

    @rows(("price", "cents"), [("1.00", 100), ("0.10", 10)])
    def test_cents(price: str, cents: int) -> None:
        assert read(price) == cents

Unlike ``pytest.mark.parametrize``, this creates one test instead of one per row, which is much faster if there are many
rows. All rows share the fixtures: a test that changes a fixture must undo the change, or use ``parametrize``. A failure
shows the values of its row, so rows need no ids.
"""

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

# pytest.fail(), and pytest.raises() if nothing is raised, raise a BaseException. A skipped row counts as failed,
# because skipping the test would hide the other rows.
FAILED = (Exception, pytest.fail.Exception, pytest.skip.Exception)
MAX_LENGTH = 200  # of a value or a reason in the output


class RowsFailedError(AssertionError):
    """
    Some rows of a table failed. Its text lists each of them with the reason.

    Attributes:
        failures: A line for each failed row: its values, the error, and the line of the test.
        tried: The number of rows that ran.
    """

    def __init__(self, failures: list[str], tried: int) -> None:
        super().__init__(f"{len(failures)} of {tried} rows failed:\n" + "\n".join(failures))
        self.failures = failures
        self.tried = tried


class Tally:
    """Runs the rows of one test, counts them, and collects their failures."""

    def __init__(self) -> None:
        self.tried = 0
        self.failures: list[str] = []
        self.first_failure: BaseException | None = None

    @contextmanager
    def row(self, case: dict[str, Any]) -> Iterator[None]:
        """Run the test for one row. Keep its failure, if any, until ``end`` is called."""
        try:
            yield
        except RowsFailedError as inner:  # from a second @rows decorator
            self.tried += inner.tried
            self._fail(inner, [f"{format_arguments(case)}, {failure}" for failure in inner.failures])
        except FAILED as error:
            self.tried += 1
            self._fail(error, [f"{format_arguments(case)}: {reason_of(error)}"])
        else:
            self.tried += 1

    def _fail(self, error: BaseException, failures: list[str]) -> None:
        self.first_failure = self.first_failure or error.__cause__ or error
        self.failures += failures

    def end(self) -> None:
        """Raise RowsFailedError if any row failed, with the first failure as its cause."""
        if self.failures:
            raise RowsFailedError(self.failures, self.tried) from self.first_failure


def reason_of(error: BaseException) -> str:
    """Return the error, with the line of the test on which it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename != __file__]
    text = " ".join(str(error).split())
    return f"{type(error).__name__} on line {lines[0] if lines else '?'}: {text[:MAX_LENGTH]}"


Table = Iterable[Any] | Callable[[], Iterable[Any]]


def rows(names: str | tuple[str, ...], table: Table) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Decorate a test so that it runs once for each row of *table*, as a single pytest test.

    It is similar to ``pytest.mark.parametrize``, but all rows run even if one fails, and share the test's fixtures. At
    the end the test raises RowsFailedError if any row failed.

    Args:
        names: The name of the test's parameter for a row, or a tuple of names for the values in a row.
        table: The rows, or a function that returns them when the test runs, so that collecting tests isn't slowed down.
            With two decorators, the test runs for each pair of rows.

    Raises:
        ValueError: The table is empty, so the test would check nothing.
    """
    parameters = (names,) if isinstance(names, str) else names
    known_cases = None if callable(table) else arguments_of_rows(parameters, table)

    def cases() -> list[dict[str, Any]]:
        return (
            known_cases
            if known_cases is not None
            else arguments_of_rows(parameters, table() if callable(table) else table)
        )

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            @wraps(test)
            async def run(**fixtures: Any) -> None:
                tally = Tally()
                for case in cases():
                    with tally.row(case):
                        await test(**fixtures, **case)
                tally.end()

        else:

            @wraps(test)
            def run(**fixtures: Any) -> None:
                tally = Tally()
                for case in cases():
                    with tally.row(case):
                        test(**fixtures, **case)
                tally.end()

        # pytest reads the test's fixtures from its signature, which must not contain the parameters of the table.
        signature = inspect.signature(test)
        fixture_parameters = [p for name, p in signature.parameters.items() if name not in parameters]
        assert len(fixture_parameters) + len(parameters) == len(signature.parameters), (
            f"{test.__name__} lacks one of {parameters}"
        )
        run.__signature__ = signature.replace(parameters=fixture_parameters)  # type: ignore[attr-defined]  # inspect reads it
        return run

    return decorate


def arguments_of_rows(parameters: tuple[str, ...], table: Iterable[Any]) -> list[dict[str, Any]]:
    """Return each row as the arguments of the test. If there is one parameter, the row is its value."""
    is_single = len(parameters) == 1
    cases = [dict(zip(parameters, (row,) if is_single else row, strict=True)) for row in table]
    if not cases:
        raise ValueError(f"no row for {', '.join(parameters)}")
    return cases


def format_arguments(case: dict[str, Any]) -> str:
    """Return the arguments as text: ``price='1.00', cents=100``."""
    return ", ".join(f"{name}={short_repr(value)}" for name, value in case.items())


def short_repr(value: object) -> str:
    try:
        text = getattr(value, "__name__", None) or repr(value)
    except ValueError:  # an int with too many digits for repr()
        text = object.__repr__(value)
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"
