"""The environment of the tests: programs that tests start import the same package as the tests."""

import os
from pathlib import Path

import pytest
from surroundings import normalise_environment, python_path

pytestmark = pytest.mark.fast


def test_started_programs_import_from_the_same_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``python_path`` keeps the folders of ``PYTHONPATH``, relative ones as absolute paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["src", str(tmp_path / "lib")]))
    normalise_environment()
    expected = [str(tmp_path / name) for name in ("tests", "src", "lib")]
    assert python_path(tmp_path / "tests").split(os.pathsep) == expected
    monkeypatch.delenv("PYTHONPATH")
    normalise_environment()
    assert python_path(tmp_path) == str(tmp_path)
