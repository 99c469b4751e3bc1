"""The public API: what was promised is there, with the same parameters and types; and all of it is documented."""

import ast
import difflib
import re
from pathlib import Path

import public_api
import pytest
from tables import rows

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
KEPT = (ROOT / "tests/public_api.txt").read_text("utf-8")
REFERENCE = "".join(page.read_text("utf-8") for page in (ROOT / "docs/en/reference").glob("*.md"))
# Module -> what tells whether its extra is installed. `nox -s docs` has all of them.
NEEDS = {"gatepay_async.callbacks": "redis", "gatepay_async.durable": "dbos", "gatepay_async.sandbox": "starlette"}
# Names that are explained in passing: aliases, type variables and tables.
NOT_DOCUMENTED = {"CALLS", "Usual", "FAULTS", "Fact", "REFUSALS", "Lang", "T_co", "__version__"}


def part(module: str) -> list[str]:
    """The lines of one module, its title first."""
    return next(part for each in KEPT.split("\n\n") if (part := each.splitlines())[0] == f"# {module}")


@pytest.fixture
def module(request: pytest.FixtureRequest) -> str:
    """A public module, if its extra is installed."""
    name = str(request.param)
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{name} needs an extra that is not installed")
    return name


every = pytest.mark.parametrize("module", public_api.MODULES, indirect=True)


@every
def test_the_api_is_what_was_written_down(module: str) -> None:
    """A name or a type that goes away, changes or is new stands in public_api.txt: nothing of it happens unseen."""
    kept = part(module)
    made = public_api.api(module).splitlines()
    changes = difflib.unified_diff(kept, made, "kept", "made", lineterm="", n=0)
    assert kept == made, "\n".join(["python tests/public_api.py > tests/public_api.txt", *changes])


@pytest.mark.uncounted
@every
def test_every_name_is_in_the_reference(module: str) -> None:
    """Each public name has its place in the documentation."""
    documented = set(re.findall(r":: ([\w.]+)", REFERENCE))
    names = {found[0] for line in part(module) if (found := re.match(rf"{re.escape(module)}\.\w+(?=[: ])", line))}
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
def test_what_is_written_down(code: str, lines: list[str]) -> None:
    """Parameters, defaults, types, bases, fields and members are; what begins with an underscore is not."""
    (node,) = ast.parse(code).body
    names = public_api.names_of(node)
    assert [line for name in names for line in public_api.statement(f"m.{name}", node)] == lines
