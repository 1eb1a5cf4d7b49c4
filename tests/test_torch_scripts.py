"""Scripts written for PyTorch (those in ``torch_scripts``) run after changing the imports."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = sorted(Path(__file__).with_name("torch_scripts").glob("*.py"))

IMPORTS = [
    (r"^import torch$", "import autograd_core as torch"),
    (r"^import torch\.nn\.functional as F$", "import nn.functional as F"),
    (r"^import torch\.(nn|optim)\b", r"import \1"),
    (r"^from torch\.(nn|optim)\b", r"from \1"),
    (r"^from torch\.utils\.data import", "from nn.data import"),
    (r"^from torch import", "from autograd_core import"),
    (r"^import torch\.(.+) as", r"import autograd_core.\1 as"),
    (r"^import torch\.(.+)$", r"import autograd_core.\1"),
    (r"^from torch\.", "from autograd_core."),
]
"""How the imports change: patterns and what they become, line by line."""


def with_changed_imports(text):
    """The script with `autograd_core`, `nn` and `optim` in place of PyTorch."""
    for pattern, replacement in IMPORTS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text.replace("import nn as nn", "import nn").replace("import optim as optim", "import optim")


def with_another_name(text):
    """The script with the one word replaced everywhere."""
    return re.sub(r"\btorch\b", "autograd_core", text)


def run(text, name):
    exec(compile(text, name, "exec"), {"__name__": "__main__"})  # noqa: S102 (our own scripts)


@pytest.mark.parametrize("change", [with_changed_imports, with_another_name])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run_here(path, change):
    text = change(path.read_text())
    assert not re.search(r"^(from|import) torch", text, re.MULTILINE)
    run(text, path.name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run_in_pytorch(path):
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    run(path.read_text(), path.name)
