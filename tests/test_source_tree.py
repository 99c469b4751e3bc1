"""Rules for all files: no conflict markers, each test module in one lane, each test with a docstring."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from lanes import LANES, lane_of_module, pytest_ignore_collect

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[1]
HIDDEN_SOURCE_FOLDERS = {".ci", ".github"}
BUILD_FOLDERS = {"__pycache__", "build", "dist", "node_modules"}
# Written so that this file itself doesn't match.
MARKER = re.compile(rb"^(?:<{7}|>{7}|[|]{7})(?: .*)?\r?$|^={7}\r?$", re.MULTILINE)
MIN_WORDS_IN_NAME = 3  # of a test without a docstring
# These aren't test modules, but name a lane: it is that of a fixture's parameter for PostgreSQL or Redis.
LANE_OF_A_PARAMETER = {"tests/durable/conftest.py": {"slow"}, "tests/callbacks/conftest.py": {"slow"}}


def is_source_folder(folder: Path) -> bool:
    """Return whether a folder contains sources. Works without git, as in a source archive."""
    is_hidden = folder.name.startswith(".") and folder.name not in HIDDEN_SOURCE_FOLDERS
    is_build = folder.name in BUILD_FOLDERS or folder.name.endswith(".egg-info") or (folder / "pyvenv.cfg").exists()
    return not (is_hidden or is_build)


def source_files(root: Path = ROOT) -> Iterator[Path]:
    """Yield every file of the source tree, without build output, caches and virtual environments."""
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if is_source_folder(Path(parent, name))]
        yield from (Path(parent, name) for name in names)


def conflict_markers(path: Path) -> list[str]:
    """Return the places of conflict markers: ``page.md:48``. Binary files are skipped."""
    content = path.read_bytes()
    if b"\0" in content:
        return []
    lines = [content.count(b"\n", 0, match.start()) + 1 for match in MARKER.finditer(content)]
    return [f"{path}:{line}" for line in lines]


def test_no_file_has_conflict_markers() -> None:
    """No file of the project has a conflict marker of an unfinished merge."""
    files = [path for path in source_files() if path.is_file()]
    assert {ROOT / "README.md", ROOT / "docs" / "zh" / "index.md", Path(__file__)} <= set(files)
    assert [marker for path in files for marker in conflict_markers(path)] == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_conflict_markers_are_found(tmp_path: Path, end: str) -> None:
    """Each kind of conflict marker is found, but no similar lines. Build output is skipped."""
    left, base, middle, right = ("<" * 7, "|" * 7, "=" * 7, ">" * 7)
    lines = ["text", f"{left} HEAD", "ours", f"{base} 1a2b3c", "old", middle, "theirs", f"{right} branch"]
    lines += [f"a {left} b", "=" * 8, f"{left}<", f"{middle} title"]
    page = tmp_path / "page.md"
    page.write_bytes(end.join(lines).encode())
    assert conflict_markers(page) == [f"{page}:{line}" for line in (2, 4, 6, 8)]
    page.write_bytes(page.read_bytes() + b"\0")
    assert conflict_markers(page) == []
    for folder in ("build", ".nox", "x.egg-info", ".ci", "env"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert set(source_files(tmp_path)) == {page, tmp_path / ".ci" / "file"}


def lanes_in(node: ast.AST) -> list[str]:
    """Return the lanes that are named in *node*, as ``pytest.mark.fast``."""
    attributes = [inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute) and inner.attr in LANES]
    return sorted(attribute.attr for attribute in attributes if ast.unparse(attribute.value) == "pytest.mark")


def lanes_of_module(tree: ast.Module) -> list[str]:
    """Return the lanes in the ``pytestmark`` of a module."""
    marks = [
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return [lane for node in marks for lane in lanes_in(node)]


def undocumented_tests(tree: ast.Module) -> list[str]:
    """Return the tests of a module that have neither a docstring nor a name of three words or more."""
    methods = [method for node in tree.body if isinstance(node, ast.ClassDef) for method in node.body]
    functions = [node for node in [*tree.body, *methods] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    tests = [function for function in functions if function.name.startswith("test_")]
    return [test.name for test in tests if not ast.get_docstring(test) and test.name.count("_") < MIN_WORDS_IN_NAME]


def test_each_test_module_has_one_lane_and_docstrings() -> None:
    """A test module names one lane; single tests may be slow. Each test has a docstring or a telling name."""
    violations = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        name = path.relative_to(ROOT).as_posix()
        assert undocumented_tests(tree) == [], f"{name}: these tests have neither a docstring nor a telling name"
        all_lanes, module_lanes = lanes_in(tree), lanes_of_module(tree)
        expected_count = 1 if path.name.startswith("test_") else 0
        single_test_lanes = set(all_lanes) - set(module_lanes)
        # Single tests of a faster module may be slow.
        is_misplaced = not single_test_lanes <= {"slow"} or (
            not module_lanes and single_test_lanes != LANE_OF_A_PARAMETER.get(name, set())
        )
        # lanes.py finds the lane with a regular expression, which needs it as the first mark.
        is_misread = path.name.startswith("test_") and [lane_of_module(path)] != module_lanes
        if len(module_lanes) != expected_count or is_misplaced or is_misread:
            violations[name] = all_lanes
    assert violations == {}


def test_lanes_of_a_module_are_read() -> None:
    """Lanes are read from a single mark and from a list of marks."""
    cases = [
        ("pytestmark = pytest.mark.fast", ["fast"]),
        ("pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.fast]", ["fast", "slow"]),
        ("pytestmark = [pytest.mark.slow, pytest.mark.slow]", ["slow", "slow"]),
        ("@pytest.mark.fast\ndef test(): pass", []),
    ]
    assert [lanes_of_module(ast.parse(text)) for text, _ in cases] == [expected for _, expected in cases]
    assert lanes_in(ast.parse(cases[3][0])) == ["fast"]
    assert undocumented_tests(ast.parse("def test_one(): 'Says.'\nclass T:\n    async def test_two(self): pass")) == [
        "test_two"
    ]


def test_modules_of_other_lanes_are_not_imported(tmp_path: Path) -> None:
    """`--lane fast` imports no modules of other lanes, except those that `--and-module` names."""
    for lane in (*LANES, "unknown"):
        (tmp_path / f"test_{lane}.py").write_text(f"pytestmark = [\n    pytest.mark.{lane},\n]\n")
    ignored = {}
    for lane_options, module_options in (
        (["fast"], []),
        (["fast"], ["test_sockets.py"]),
        (["fast", "sockets"], []),
        (["slow"], []),
        (None, []),
    ):
        options = {"--lane": lane_options, "--and-module": module_options}
        config = cast("pytest.Config", SimpleNamespace(getoption=options.__getitem__, rootpath=tmp_path))
        stems = [path.stem for path in tmp_path.iterdir() if pytest_ignore_collect(path, config)]
        ignored[f"{lane_options} {module_options}"] = {stem.removeprefix("test_") for stem in stems}
    assert ignored == {
        "['fast'] []": {"sockets", "slow"},
        "['fast'] ['test_sockets.py']": {"slow"},
        "['fast', 'sockets'] []": {"slow"},
        "['slow'] []": {"fast"},
        "None []": set(),
    }


def test_ids_are_the_same_in_every_process(request: pytest.FixtureRequest) -> None:
    """No test ID contains the address of an object: the workers of pytest-xdist need the same IDs."""
    ids = [item.nodeid for item in request.session.items]
    assert [node_id for node_id in ids if re.search(r" at 0x[0-9a-fA-F]+|object at ", node_id)] == []
