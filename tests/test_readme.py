"""What the README shows works as it stands there."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import autograd_core as ag
import nn
from autograd_core.registry import OPS

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_example_trains(tmp_path, monkeypatch, capsys):
    try:
        embedded = nn.data.mnist(embedded=True)
    except nn.data.FetchError as missing:
        pytest.skip(f"the example needs digits: {missing}")
    monkeypatch.setattr(nn.data, "mnist", lambda: embedded)  # 5,000 digits instead of 70,000
    monkeypatch.chdir(tmp_path)
    ag.manual_seed(0)
    exec(BLOCKS[0], {})  # noqa: S102 (our own README)
    assert float(capsys.readouterr().out.split()[-1]) > 0.75
    assert (tmp_path / "model.svg").exists()


def test_the_new_operation_is_an_operation():
    space: dict = {}
    try:
        exec(BLOCKS[1], space)  # noqa: S102 (our own README)
        x = ag.tensor(np.array([-1.0, 0.5, 2.0]), requires_grad=True)
        squareplus = space["squareplus"]
        assert ag.gradcheck(squareplus, (x,))
        assert ag.gradgradcheck(squareplus, (x,))
        plain = x.detach().clone()
        assert np.array_equal(plain.squareplus_().numpy(), squareplus(x.detach()).numpy())
        assert np.allclose(ag.vmap(squareplus)(x.detach()).numpy(), x.detach().squareplus().numpy())
    finally:
        OPS.pop("squareplus", None)
        for name in ("squareplus", "squareplus_"):
            if hasattr(ag.Tensor, name):
                delattr(ag.Tensor, name)


def code_lines(path):
    """Lines of a file without docstrings, comments, blanks and the samples of records."""
    text, skipped = path.read_text(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        elif isinstance(node, ast.keyword) and node.arg == "samples":
            skipped |= set(range(node.value.lineno + 1, node.value.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for n, line in lines if n not in skipped and line.strip() and not line.strip().startswith("#"))


def test_the_size_is_the_one_stated():
    root, text = README.parent, " ".join(README.read_text().split())
    said = re.search(r"Size: (\S+) lines.*?operations (\S+), kernels (\S+), .*?`seeing` (\S+)\)", text)
    folders = [("autograd_core", "nn", "optim"), ("autograd_core/ops",), ("autograd_core/kernels",),
               ("autograd_core/seeing",)]  # fmt: skip
    for number, places in zip(said.groups(), folders, strict=True):
        counted = sum(code_lines(f) for place in places for f in (root / place).rglob("*.py"))
        assert int(number.replace(",", "")) == pytest.approx(counted, rel=0.03), f"{places}: {counted} lines now"


def test_the_readme_fits_three_screens():
    assert len(README.read_text().splitlines()) <= 150
