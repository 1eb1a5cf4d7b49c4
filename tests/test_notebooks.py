"""Every notebook runs, and stands in the repository without outputs."""

import sys
from pathlib import Path

import pytest

import nn

sys.path.insert(0, str(Path(__file__).parent.parent))  # notebooks are not installed

from notebooks import run as runner

FOLDER = Path(runner.__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def test_a_notebook_runs(path):
    if "mnist(" in path.read_text(encoding="utf-8"):
        try:
            nn.data.mnist(embedded=True)
        except nn.data.FetchError as missing:
            pytest.skip(f"the notebook needs digits: {missing}")
    runner.run(path, fast=True)


def test_all_are_there():
    assert [p.stem[:2] for p in NOTEBOOKS] == [f"{number:02}" for number in range(1, 9)]


def test_outputs_are_stripped():
    for path in FOLDER.rglob("*.ipynb"):
        assert runner.is_stripped(path), f"{path.name} holds outputs: python notebooks/run.py --strip {path}"


def test_text_and_back(tmp_path):
    made = [("markdown", "# Title\n\nA formula: $x^2$"), ("code", "x = 1\n\nx + 1"), ("code", "# a remark\nx")]
    assert runner.from_text(runner.to_text(made)) == made
    runner.write(tmp_path / "a.ipynb", made)
    assert runner.cells(tmp_path / "a.ipynb") == made
    assert runner.execute(tmp_path / "a.ipynb")["x"] == 1


def test_an_error_names_cell_and_line(tmp_path):
    runner.write(tmp_path / "bad.ipynb", [("code", "x = 1"), ("markdown", "so"), ("code", "y = x\nx / 0")])
    with pytest.raises(RuntimeError, match=r"(?s)bad\.ipynb failed.*x / 0.*in cell 2 of bad\.ipynb"):
        runner.run(tmp_path / "bad.ipynb")
