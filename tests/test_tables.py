"""The decorator @rows: all rows run, and every failed row is reported with its reason."""

import inspect
from typing import Any

import pytest
from tables import RowsFailedError, rows

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]


def test_all_failed_rows_are_reported() -> None:
    """All rows run. Each failed row is reported with its values, the reason and the line."""
    tried = []

    @rows(("left", "right"), [(1, 1), (1, 2), ("a", len), (3, 3)])
    def same(left: Any, right: Any) -> None:
        tried.append(left)
        assert left == right, "not the same"

    line = inspect.getsourcelines(same)[1] + 3
    with pytest.raises(RowsFailedError) as caught:
        same()
    assert tried == [1, 1, "a", 3]
    assert caught.value.failures == [
        f"left=1, right=2: AssertionError on line {line}: not the same assert 1 == 2",
        f"left='a', right=len: AssertionError on line {line}: not the same assert 'a' == <built-in function len>",
    ]
    assert str(caught.value) == "\n".join(["2 of 4 rows failed:", *caught.value.failures])
    assert isinstance(caught.value.__cause__, AssertionError)


def test_two_tables_run_all_pairs_of_rows() -> None:
    """With two tables the test runs for each pair of rows. Exceptions and missing exceptions are failures too."""

    @rows("divisor", [2, 0])
    @rows("number", [0, 4])
    def divisible(divisor: int, number: int) -> None:
        with pytest.raises(ValueError, match="nothing raises it"):
            assert number % divisor == 0

    with pytest.raises(RowsFailedError) as caught:
        divisible()
    assert [failure.split(" on line")[0] for failure in caught.value.failures] == [
        "divisor=2, number=0: Failed",
        "divisor=2, number=4: Failed",
        "divisor=0, number=0: ZeroDivisionError",
        "divisor=0, number=4: ZeroDivisionError",
    ]
    assert caught.value.tried == 4
    assert not isinstance(caught.value.__cause__, RowsFailedError)


def test_a_table_without_failures_passes() -> None:
    """If all rows pass, the test passes. Its signature has only the fixtures."""

    @rows("value", range(3))
    def is_small(value: int, limit: int) -> None:
        assert value < limit

    assert list(inspect.signature(is_small).parameters) == ["limit"]
    is_small(limit=3)
    with pytest.raises(RowsFailedError, match="1 of 3 rows failed:\nvalue=2"):
        is_small(limit=2)


@pytest.mark.anyio
async def test_async_tests_are_awaited_for_each_row() -> None:
    """An async test is awaited for each row."""

    @rows("value", [1, 2, 3])
    async def is_odd(value: int) -> None:
        assert value % 2 == 1

    with pytest.raises(RowsFailedError, match="1 of 3 rows failed:\nvalue=2"):
        await is_odd()


def test_invalid_tables_are_refused() -> None:
    """An empty table, a row of the wrong length, and a parameter that the test lacks raise an error."""
    with pytest.raises(ValueError, match="no row for value"):
        rows("value", [])
    with pytest.raises(ValueError, match="zip"):
        rows(("left", "right"), [(1, 2, 3)])
    with pytest.raises(ValueError, match="no row for value"):
        rows("value", lambda: ())(lambda value: value)()
    with pytest.raises(AssertionError, match="lacks one of"):
        rows("value", [1])(lambda other: other)


def test_a_table_function_is_called_when_the_test_runs() -> None:
    """If the table is a function, it is called once, when the test runs."""
    calls = []

    def table() -> list[int]:
        calls.append("now")
        return [1, 2]

    @rows("value", table)
    def is_one(value: int) -> None:
        assert value == 1

    assert calls == []
    with pytest.raises(RowsFailedError, match="1 of 2 rows failed:\nvalue=2"):
        is_one()
    assert calls == ["now"]


def test_a_skipped_row_fails() -> None:
    """A row that skips counts as failed, because skipping would hide the rows after it."""

    @rows("value", [1, 2])
    def skips(value: int) -> None:
        pytest.skip(f"no {value}")

    with pytest.raises(RowsFailedError, match="2 of 2 rows failed:\nvalue=1: Skipped"):
        skips()


def test_a_long_value_is_cut() -> None:
    """A long value is cut in the message, even an int that is too long for repr()."""

    @rows("value", ["x" * 5000, 10**5000])
    def is_short(value: Any) -> None:
        assert isinstance(value, str)
        assert len(value) < 100

    with pytest.raises(RowsFailedError, match=r"2 of 2 rows failed:\n.*x…:.*\nvalue=<int object at ") as caught:
        is_short()
    assert len(str(caught.value)) < 1000
