"""Every notebook of the gallery runs with small budgets; its site is written; what the notebooks share works."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # notebooks are not installed

from notebooks import run as runner
from notebooks.gallery import build, helpers, pages

NOTEBOOKS = build.notebooks()
NEEDS = {"ensembles_and_search": "optuna"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(path):
    needs = NEEDS.get(path.stem)
    if needs and importlib.util.find_spec(needs) is None:
        pytest.skip(f"the package {needs} is not installed (extra gallery)")
    runner.run(path, fast=True)


def test_reading_order_names_every_notebook():
    assert {path.stem for path in NOTEBOOKS} <= set(build.ORDER)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_begins_with_title_and_summary(path):
    heading, summary = pages.title(path)
    assert heading
    assert 40 < len(summary) < 400
    assert "helpers import" in "".join(text for kind, text in runner.cells(path) if kind == "code")


# The site -----------------------------------------------------------------------------------------------------------

SMALL = [
    ("markdown", "# Small\n\nA notebook of two cells, which shows a formula, a table and a picture."),
    ("markdown", "The loss is $L = \\frac{1}{n} \\sum_i x_i^2$, in code `a$b$c`:\n\n$$ a_1 = \\sigma(b) $$"),
    ("markdown", "Read on in [lenet5](lenet5.ipynb)."),
    ("code", "from notebooks.gallery.helpers import result\nresult('one', 1, '== 1', '== 1', True)\nprint('<b>')"),
    ("code", "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots(figsize=(1, 1))\naxis.plot([1, 2]);"),
]


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """Builds one notebook of the given cells into a site of its own."""

    def made(cells):
        runner.write(tmp_path / "small.ipynb", cells)
        monkeypatch.setattr(pages, "__file__", str(tmp_path / "pages.py"))
        about = build.build(tmp_path / "small.ipynb", tmp_path / "site", fast=True)
        pages.index(tmp_path / "site", ["small", "never_run"])
        return about, tmp_path / "site"

    return made


@pytest.mark.skipif(importlib.util.find_spec("latex2mathml") is None, reason="latex2mathml (extra gallery) is missing")
def test_site_shows_formulas_output_and_pictures(gallery):
    about, site = gallery(SMALL)
    assert not about["failed"]
    assert about["results"] == [{"name": "one", "value": "1", "claim": "== 1", "headline": True}]
    page = (site / "small" / "index.html").read_text("utf-8")
    assert page.count("<math") == 2
    assert "<code>a$b$c</code>" in page
    assert 'href="../lenet5/index.html"' in page
    assert "&lt;b&gt;" in page
    assert (site / "small" / "figure-01.png").read_bytes()[:4] == b"\x89PNG"
    index = (site / "index.html").read_text("utf-8")
    assert "small/figure-01.png" in index
    assert "== 1" in index
    assert "<b>one: 1</b>" in index
    assert about["machine"] in index
    assert "never_run" not in index
    assert "http" not in index.replace("http://www.w3.org", "")  # nothing is loaded from elsewhere


@pytest.mark.skipif(importlib.util.find_spec("latex2mathml") is None, reason="latex2mathml (extra gallery) is missing")
def test_site_shows_what_failed(gallery):
    about, site = gallery([SMALL[0], ("code", "1 / 0"), ("code", "print('never')")])
    assert about["failed"]
    page = (site / "small" / "index.html").read_text("utf-8")
    assert "ZeroDivisionError" in page
    assert "never" not in page
    assert "failed" in (site / "index.html").read_text("utf-8")


# Helpers ------------------------------------------------------------------------------------------------------------


def test_result_asserts_prints_and_notes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(helpers, "FAST", False)
    monkeypatch.setattr(helpers, "PAGE", str(tmp_path))
    helpers.result("accuracy", 0.9941, ">= 0.993, < 1")
    assert "accuracy: 0.9941   (>= 0.993, < 1)" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.jsonl").read_text())["value"] == "0.9941"
    with pytest.raises(AssertionError, match=r"accuracy is 0.5, which is not >= 0.993"):
        helpers.result("accuracy", 0.5, ">= 0.993")
    monkeypatch.setattr(helpers, "FAST", True)
    helpers.result("accuracy", 0.5, ">= 0.993", fast="> 0.4")
    assert helpers.budget(10, fast=1) == 1
