"""How far data travels through the package: no further than today. `python tests/paths.py` prints the figures."""

import sys
from pathlib import Path

import paths
import pytest

pytestmark = [pytest.mark.sockets]

# Files and functions. These may only fall: whoever shortens a way lowers its bounds. A durable batch has no bound: its
# threads poll, and how much of that is seen depends on the moment.
# The pool's own part is 5 files and 23 functions of each.
PAYMENT = (16, 46)
PAGE = (19, 72)
OPENS = 1


@pytest.fixture(autouse=True)
def outside_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: our pytest plugin makes a call ask whether the test may make it."""
    monkeypatch.delitem(sys.modules, "_gatepay_async_pytest", raising=False)


@pytest.mark.asyncio  # on trio, the pool uses other code
@pytest.mark.parametrize(("way", "bounds"), [(paths.pay, PAYMENT), (paths.read_page, PAGE)])
async def test_a_call(way: paths.Way, bounds: tuple[int, int]) -> None:
    """A payment, and a page of a listing, over the client's own pool."""
    check(await paths.entered_by(way), bounds)


def test_an_upload_reads_its_file(tmp_path: Path) -> None:
    """The command opens the file that it uploads this often."""
    assert paths.count_opens(tmp_path) <= OPENS


def test_no_import_cycles() -> None:
    """No modules import each other in a circle, not even for type checkers."""
    assert paths.import_cycles() == []


def check(entered: paths.Entered, bounds: tuple[int, int]) -> None:
    figures = (len(entered.files), len(entered.functions))
    assert all(figure <= bound for figure, bound in zip(figures, bounds, strict=True)), "\n".join(entered.functions)
