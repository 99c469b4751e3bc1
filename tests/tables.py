"""
Runs one test over the rows of a table, and reports all failed rows at the end.

::

    @rows(("price", "cents"), [("1.00", 100), ("0.10", 10)])
    def test_cents(price: str, cents: int) -> None:
        assert read(price) == cents

Unlike ``pytest.mark.parametrize`` this is one test, so a row needs no set-up. All rows share the fixtures: a test that
changes a fixture must undo the change, or use ``parametrize``. Failures name a row by its values, so rows need no ids
that are the same in every process.
"""

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

# pytest.fail(), and pytest.raises() if nothing is raised, raise a BaseException. A skip would hide the next rows.
FAILED = (Exception, pytest.fail.Exception, pytest.skip.Exception)
LONGEST = 200


class RowsFailedError(AssertionError):
    """The rows that failed, each with its reason."""

    def __init__(self, failures: list[str], tried: int) -> None:
        super().__init__(f"{len(failures)} of {tried} rows failed:\n" + "\n".join(failures))
        self.failures = failures
        self.tried = tried


class Tally:
    """Counts the rows and collects their failures."""

    def __init__(self) -> None:
        self.tried = 0
        self.failures: list[str] = []
        self.first: BaseException | None = None

    @contextmanager
    def row(self, case: dict[str, Any]) -> Iterator[None]:
        """Run the test for one row, and keep its failure for ``end``."""
        try:
            yield
        except RowsFailedError as inner:
            self.tried += inner.tried
            self._fail(inner, [f"{named(case)}, {failure}" for failure in inner.failures])
        except FAILED as error:
            self.tried += 1
            self._fail(error, [f"{named(case)}: {reason(error)}"])
        else:
            self.tried += 1

    def _fail(self, error: BaseException, failures: list[str]) -> None:
        self.first = self.first or error.__cause__ or error
        self.failures += failures

    def end(self) -> None:
        """Fail if any row failed; the first one's traceback is shown, too."""
        if self.failures:
            raise RowsFailedError(self.failures, self.tried) from self.first


def reason(error: BaseException) -> str:
    """Return the error, with the line of the test on which it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename != __file__]
    text = " ".join(str(error).split())
    return f"{type(error).__name__} on line {lines[0] if lines else '?'}: {text[:LONGEST]}"


Table = Iterable[Any] | Callable[[], Iterable[Any]]


def rows(names: str | tuple[str, ...], table: Table) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Run a test once for each row of *table*, as one test.

    Args:
        names: The parameter for a row, or a tuple of the parameters for its parts.
        table: The rows, or a function that returns them when the test runs, so that collecting tests isn't slowed down.
            With two decorators, the test runs for each pair of rows.

    Raises:
        ValueError: The table is empty, so the test would check nothing.
    """
    parameters = (names,) if isinstance(names, str) else names
    made = None if callable(table) else cases_of(parameters, table)

    def cases() -> list[dict[str, Any]]:
        return made if made is not None else cases_of(parameters, table() if callable(table) else table)

    def over_all(test: Callable[..., Any]) -> Callable[..., Any]:
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

        # From the signature, pytest reads which fixtures the test needs.
        signature = inspect.signature(test)
        left = [each for name, each in signature.parameters.items() if name not in parameters]
        assert len(left) + len(parameters) == len(signature.parameters), f"{test.__name__} lacks one of {parameters}"
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]  # a function has it
        return run

    return over_all


def cases_of(parameters: tuple[str, ...], table: Iterable[Any]) -> list[dict[str, Any]]:
    """Return each row as the arguments of the test. If there is one parameter, the row is its value."""
    alone = len(parameters) == 1
    cases = [dict(zip(parameters, (row,) if alone else row, strict=True)) for row in table]
    if not cases:
        raise ValueError(f"no row for {', '.join(parameters)}")
    return cases


def named(case: dict[str, Any]) -> str:
    """Return the arguments as text: ``price='1.00', cents=100``."""
    return ", ".join(f"{name}={shortened(value)}" for name, value in case.items())


def shortened(value: object) -> str:
    try:
        text = getattr(value, "__name__", None) or repr(value)
    except ValueError:  # an int with too many digits for repr()
        text = object.__repr__(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
