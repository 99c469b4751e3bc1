"""A table in one test: every row is tried, and every row that fails is named with its reason."""

import inspect
from typing import Any

import pytest
from tables import RowsFailedError, rows

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]


def test_every_failing_row_is_told() -> None:
    """All rows are tried; those that fail are named by their values, with the reason and the line."""
    tried = []

    @rows(("one", "other"), [(1, 1), (1, 2), ("a", len), (3, 3)])
    def same(one: Any, other: Any) -> None:
        tried.append(one)
        assert one == other, "not the same"

    line = inspect.getsourcelines(same)[1] + 3
    with pytest.raises(RowsFailedError) as caught:
        same()
    assert tried == [1, 1, "a", 3]
    assert caught.value.failures == [
        f"one=1, other=2: AssertionError on line {line}: not the same assert 1 == 2",
        f"one='a', other=len: AssertionError on line {line}: not the same assert 'a' == <built-in function len>",
    ]
    assert str(caught.value) == "\n".join(["2 of 4 rows failed:", *caught.value.failures])
    assert isinstance(caught.value.__cause__, AssertionError)


def test_tables_are_combined() -> None:
    """Each row of one table meets each of the other; errors, and errors that are missing, are failures too."""

    @rows("one", [2, 0])
    @rows("other", [0, 4])
    def divisible(one: int, other: int) -> None:
        with pytest.raises(ValueError, match="nothing raises it"):
            assert other % one == 0

    with pytest.raises(RowsFailedError) as caught:
        divisible()
    assert [failure.split(" on line")[0] for failure in caught.value.failures] == [
        "one=2, other=0: Failed",
        "one=2, other=4: Failed",
        "one=0, other=0: ZeroDivisionError",
        "one=0, other=4: ZeroDivisionError",
    ]
    assert caught.value.tried == 4
    assert not isinstance(caught.value.__cause__, RowsFailedError)


def test_rows_that_pass() -> None:
    """A table whose rows all hold is silent, and the test is still asked for its fixtures only."""

    @rows("value", range(3))
    def is_small(value: int, limit: int) -> None:
        assert value < limit

    assert list(inspect.signature(is_small).parameters) == ["limit"]
    is_small(limit=3)
    with pytest.raises(RowsFailedError, match="1 of 3 rows failed:\nvalue=2"):
        is_small(limit=2)


@pytest.mark.anyio
async def test_rows_of_a_coroutine() -> None:
    """A coroutine is awaited for each row."""

    @rows("value", [1, 2, 3])
    async def is_odd(value: int) -> None:
        assert value % 2 == 1

    with pytest.raises(RowsFailedError, match="1 of 3 rows failed:\nvalue=2"):
        await is_odd()


def test_a_table_that_says_nothing() -> None:
    """An empty table, a row of another length, and a parameter that the test lacks are mistakes."""
    with pytest.raises(ValueError, match="no row for value"):
        rows("value", [])
    with pytest.raises(ValueError, match="zip"):
        rows(("one", "other"), [(1, 2, 3)])
    with pytest.raises(ValueError, match="no row for value"):
        rows("value", lambda: ())(lambda value: value)()
    with pytest.raises(AssertionError, match="lacks one of"):
        rows("value", [1])(lambda other: other)


def test_a_table_is_made_when_it_is_needed() -> None:
    """A table that takes a while to make may be a function, which is called when the test runs."""
    made = []

    def table() -> list[int]:
        made.append("now")
        return [1, 2]

    @rows("value", table)
    def is_one(value: int) -> None:
        assert value == 1

    assert made == []
    with pytest.raises(RowsFailedError, match="1 of 2 rows failed:\nvalue=2"):
        is_one()
    assert made == ["now"]


def test_no_row_is_skipped() -> None:
    """A row that skips would hide those after it, so it fails."""

    @rows("value", [1, 2])
    def skips(value: int) -> None:
        pytest.skip(f"no {value}")

    with pytest.raises(RowsFailedError, match="2 of 2 rows failed:\nvalue=1: Skipped"):
        skips()


def test_a_long_value_is_cut() -> None:
    """A value of any length leaves a message that can be read, even a number that Python doesn't write."""

    @rows("value", ["x" * 5000, 10**5000])
    def is_short(value: Any) -> None:
        assert isinstance(value, str)
        assert len(value) < 100

    with pytest.raises(RowsFailedError, match=r"2 of 2 rows failed:\n.*x…:.*\nvalue=<int object at ") as caught:
        is_short()
    assert len(str(caught.value)) < 1000
