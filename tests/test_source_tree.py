"""What holds for the files of the project: no unfinished merge in any of them, and each test module in one lane."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from lanes import LANES, lane_of_module, pytest_ignore_collect

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

ROOT = Path(__file__).parents[1]
HIDDEN_BUT_OURS = {".ci", ".github"}
BUILT = {"__pycache__", "build", "dist", "node_modules"}
# Not at the start of a line here, or this file would be found.
MARKER = re.compile(rb"^(?:<{7}|>{7}|[|]{7})(?: .*)?\r?$|^={7}\r?$", re.MULTILINE)
# The exceptions to a lane for each module: some tests run again over PostgreSQL or Redis, in the slow lane.
LANE_OF_A_PARAMETER = {"tests/durable/conftest.py": {"slow"}, "tests/callbacks/conftest.py": {"slow"}}


def is_ours(folder: Path) -> bool:
    """Whether a folder of the source tree holds files that we wrote. Works without git, as in a source archive."""
    hidden = folder.name.startswith(".") and folder.name not in HIDDEN_BUT_OURS
    built = folder.name in BUILT or folder.name.endswith(".egg-info") or (folder / "pyvenv.cfg").exists()
    return not (hidden or built)


def files(root: Path = ROOT) -> Iterator[Path]:
    """Every file of the source tree, without build output, caches and virtual environments."""
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if is_ours(Path(place, name))]
        yield from (Path(place, name) for name in names)


def conflicts(path: Path) -> list[str]:
    """Where a merge left its markers: ``page.md:48``. A picture or an archive has none."""
    content = path.read_bytes()
    if b"\0" in content:
        return []
    lines = [content.count(b"\n", 0, found.start()) + 1 for found in MARKER.finditer(content)]
    return [f"{path}:{line}" for line in lines]


def test_no_merge_was_left_unfinished() -> None:
    """No file of the project has a conflict marker."""
    found = [path for path in files() if path.is_file()]
    assert {ROOT / "README.md", ROOT / "docs" / "zh" / "index.md", Path(__file__)} <= set(found)
    assert [place for path in found for place in conflicts(path)] == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_unfinished_merge_is_found(tmp_path: Path, end: str) -> None:
    """Each kind of marker is found by its line, but not what only looks like one; build output is left out."""
    left, base, middle, right = ("<" * 7, "|" * 7, "=" * 7, ">" * 7)
    lines = ["text", f"{left} HEAD", "ours", f"{base} 1a2b3c", "old", middle, "theirs", f"{right} branch"]
    lines += [f"a {left} b", "=" * 8, f"{left}<", f"{middle} title"]
    page = tmp_path / "page.md"
    page.write_bytes(end.join(lines).encode())
    assert conflicts(page) == [f"{page}:{line}" for line in (2, 4, 6, 8)]
    page.write_bytes(page.read_bytes() + b"\0")
    assert conflicts(page) == []
    for folder in ("build", ".nox", "x.egg-info", ".ci", "env"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert set(files(tmp_path)) == {page, tmp_path / ".ci" / "file"}


def lanes(node: ast.AST) -> list[str]:
    """The lanes that are named in *node*, as ``pytest.mark.fast``."""
    attributes = [each for each in ast.walk(node) if isinstance(each, ast.Attribute) and each.attr in LANES]
    return sorted(each.attr for each in attributes if ast.unparse(each.value) == "pytest.mark")


def lanes_of_module(tree: ast.Module) -> list[str]:
    """The lanes in the ``pytestmark`` of a module."""
    marks = [
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return [lane for node in marks for lane in lanes(node)]


def silent_tests(tree: ast.Module) -> list[str]:
    """The tests of a module that have no docstring."""
    inner = [each for node in tree.body if isinstance(node, ast.ClassDef) for each in node.body]
    tests = [each for each in [*tree.body, *inner] if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [each.name for each in tests if each.name.startswith("test_") and not ast.get_docstring(each)]


def test_each_test_module_is_in_one_lane() -> None:
    """A module of tests names one lane, and a single test may be slow; each test says what it tests."""
    wrong = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        name = path.relative_to(ROOT).as_posix()
        assert silent_tests(tree) == [], f"{name}: these tests have no sentence that says what they test"
        all_lanes, of_module = lanes(tree), lanes_of_module(tree)
        expected = 1 if path.name.startswith("test_") else 0
        single = set(all_lanes) - set(of_module)  # tests of a quicker module may be slow
        elsewhere = not single <= {"slow"} or (not of_module and single != LANE_OF_A_PARAMETER.get(name, set()))
        is_unseen = path.name.startswith("test_") and [lane_of_module(path)] != of_module
        if len(of_module) != expected or elsewhere or is_unseen:
            wrong[name] = all_lanes
    assert wrong == {}


def test_a_module_in_two_lanes_is_seen() -> None:
    """A lane is read from a mark, a list of marks, and what stands beside them."""
    read = [
        ("pytestmark = pytest.mark.fast", ["fast"]),
        ("pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.fast]", ["fast", "slow"]),
        ("pytestmark = [pytest.mark.slow, pytest.mark.slow]", ["slow", "slow"]),
        ("@pytest.mark.fast\ndef test(): pass", []),
    ]
    assert [lanes_of_module(ast.parse(text)) for text, _ in read] == [found for _, found in read]
    assert lanes(ast.parse(read[3][0])) == ["fast"]
    assert silent_tests(ast.parse("def test_one(): 'Says.'\nclass T:\n    async def test_two(self): pass")) == [
        "test_two"
    ]


def test_only_the_modules_of_a_lane_are_imported(tmp_path: Path) -> None:
    """`--lane fast` leaves modules of other lanes unread, but for those that are named."""
    for lane in (*LANES, "nobodys"):
        (tmp_path / f"test_{lane}.py").write_text(f"pytestmark = [\n    pytest.mark.{lane},\n]\n")
    left_out = {}
    for asked, named in (
        (["fast"], []),
        (["fast"], ["test_sockets.py"]),
        (["fast", "sockets"], []),
        (["slow"], []),
        (None, []),
    ):
        options = {"--lane": asked, "--and-module": named}
        config = cast("pytest.Config", SimpleNamespace(getoption=options.__getitem__, rootpath=tmp_path))
        found = [path.stem for path in tmp_path.iterdir() if pytest_ignore_collect(path, config)]
        left_out[f"{asked} {named}"] = {stem.removeprefix("test_") for stem in found}
    assert left_out == {
        "['fast'] []": {"sockets", "slow"},
        "['fast'] ['test_sockets.py']": {"slow"},
        "['fast', 'sockets'] []": {"slow"},
        "['slow'] []": {"fast"},
        "None []": set(),
    }


def test_ids_are_the_same_in_every_process(request: pytest.FixtureRequest) -> None:
    """No test has the address of an object in its name: workers that share the tests would disagree."""
    ids = [item.nodeid for item in request.session.items]
    assert [each for each in ids if re.search(r" at 0x[0-9a-fA-F]+|object at ", each)] == []
