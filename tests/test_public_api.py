"""The public API equals public_api.txt, and the reference documents all of it."""

import ast
import difflib
import re
from pathlib import Path

import public_api
import pytest
from tables import rows

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
COMMITTED = (ROOT / "tests/public_api.txt").read_text("utf-8")
REFERENCE = "".join(page.read_text("utf-8") for page in (ROOT / "docs/en/reference").glob("*.md"))
# Module -> a package of the extra that it needs. `nox -s docs` installs all extras.
NEEDS = {"gatepay_async.callbacks": "redis", "gatepay_async.durable": "dbos", "gatepay_async.sandbox": "starlette"}
# Aliases, type variables and tables without an entry of their own in the reference.
NOT_DOCUMENTED = {"CALLS", "Usual", "ERROR_MEANINGS", "Fact", "REFUSALS", "Lang", "T_co", "__version__"}


def committed_lines_of(module: str) -> list[str]:
    """Return the lines of one module in public_api.txt, starting with its title."""
    return next(lines for text in COMMITTED.split("\n\n") if (lines := text.splitlines())[0] == f"# {module}")


@pytest.fixture
def module(request: pytest.FixtureRequest) -> str:
    """Return the name of a public module. Skip the test if the module's extra isn't installed."""
    name = str(request.param)
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{name} needs an extra that is not installed")
    return name


each_module = pytest.mark.parametrize("module", public_api.MODULES, indirect=True)


@each_module
def test_the_public_api_equals_public_api_txt(module: str) -> None:
    """Every public name, with its parameters and types, is the same as in public_api.txt."""
    committed = committed_lines_of(module)
    current = public_api.api(module).splitlines()
    changes = difflib.unified_diff(committed, current, "committed", "current", lineterm="", n=0)
    assert committed == current, "\n".join(["python tests/public_api.py > tests/public_api.txt", *changes])


@pytest.mark.without_coverage
@each_module
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """Each public name has an entry in the reference documentation."""
    documented = set(re.findall(r":: ([\w.]+)", REFERENCE))
    names = {
        match[0]
        for line in committed_lines_of(module)
        if (match := re.match(rf"{re.escape(module)}\.\w+(?=[: ])", line))
    }
    assert {name for name in names - documented if name.rpartition(".")[2] not in NOT_DOCUMENTED} == set()


@rows(
    ("code", "lines"),
    [
        ("def f(a: int, *, b: str = 'x') -> bool: ...", ["m.f: (a: int, *, b: str='x') -> bool"]),
        ("async def f() -> None: ...", ["m.f: async () -> None"]),
        ("def f(a): ...", ["m.f: (a) -> ?"]),
        ("X = 1 | 2", ["m.X = 1 | 2"]),
        ("X: TypeAlias = int | str", ["m.X: TypeAlias = int | str"]),
        (
            "@frozen\nclass C(B):\n    a: int = field(default=1, validator=v)\n    b: int = 2\n    _c: int = 3",
            ["m.C: class(B) @frozen", "m.C.a: int = field(default=1)", "m.C.b: int = 2"],
        ),
        (
            "class C:\n    @property\n    def p(self) -> int: ...\n    def _q(self): 0\n    def __init__(self, a): 0",
            ["m.C: class()", "m.C.p: property -> int", "m.C.__init__: (self, a) -> ?"],
        ),
        ("class C:\n    @classmethod\n    def of(cls) -> C: ...", ["m.C: class()", "m.C.of: classmethod (cls) -> C"]),
        ("class E(StrEnum):\n    A = 'a'\n    'a text'", ["m.E: class(StrEnum)", "m.E.A = 'a'"]),
        ("import os", []),
    ],
)
def test_definition_is_printed_without_private_names(code: str, lines: list[str]) -> None:
    """The lines contain parameters, defaults, types, bases, fields and members, but no private names."""
    (node,) = ast.parse(code).body
    names = public_api.names_of(node)
    assert [line for name in names for line in public_api.statement(f"m.{name}", node)] == lines
