"""The page on what every function supports is fresh, and every cell of it is proved by running the record's samples."""

import pytest

from autograd_core import support
from autograd_core.registry import ops_by_public_name

PUBLIC = ops_by_public_name()


def rows_of(text):
    return {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}


@pytest.fixture(scope="module")
def written():
    return rows_of(support.README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_cell_is_true(name, written):
    """Run `python -m autograd_core.support` if this fails for an op that has changed."""
    assert written.get(name) == support.row(PUBLIC[name])


def test_the_page_is_fresh(written):
    assert set(written) == set(PUBLIC)
    assert support.README.read_text(encoding="utf-8") == support.page(written)


def test_what_must_be_supported():
    """The columns are not empty by accident."""
    columns = {name: [cell.strip() for cell in row.strip("|").split(" | ")][1:] for name, row in rows_of(
        support.README.read_text(encoding="utf-8")).items()}  # fmt: skip
    for known in ("add", "tanh", "matmul", "cumsum", "conv2d", "linalg.inv", "layer_norm"):
        assert columns[known][:5] == ["✓"] * 5, known
    assert columns["add"][5:7] == ["all", "✓"]
    for number, least in enumerate((0.75, 0.75, 0.75, 0.85, 0.85)):
        assert sum(cells[number] == "✓" for cells in columns.values()) > least * len(columns)
