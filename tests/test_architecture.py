"""The shape of the house: who may import whom, what importing costs, and that what is generated is fresh."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = [f for package in ("autograd_core", "nn", "optim") for f in sorted((ROOT / package).rglob("*.py"))]

LAYERS = [
    ["provenance", "shapes", "storage", "files", "info"],
    ["modes", "errors", "explaining", "convert", "hooks"],
    ["tensor", "bodies"],
    ["inplace"],
    ["backward", "doors", "generator"],
    ["registry"],
    ["ops", "numpy_protocol", "numpy_functions", "array_api", "printing", "interop"],
    ["transforms", "function", "batching", "gradient_check", "fusion", "program", "runtime", "tracing",
     "clusters", "epilogues", "tables", "recomputing", "planning", "segments", "passes", "lowering", "guards", "entry",
     "replaying", "costs", "compiler", "symbolic", "profiler", "writes", "func", "namespaces", "stubs", "support",
     "portability", "testing", "layouts", "normalizations"],
]  # fmt: skip
"""Files of autograd_core from the ground up: a file imports from its own layer and those below, at its head."""

LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
ROOFS = {"__init__"}


def imports_at_the_head(file):
    """(module, level, names) of the import statements that run when the file is imported."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level, [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, []


ENGINE = [f for f in LIBRARY if f.parts[-2] == "autograd_core" and f.stem not in ROOFS]


@pytest.mark.parametrize("file", ENGINE, ids=lambda f: f.stem)
def test_nothing_imports_upwards(file):
    own = LAYER_OF[file.stem]
    for module, level, names in imports_at_the_head(file):
        assert module.split(".")[0] not in ("nn", "optim"), "the engine does not know the layers above it"
        if level == 1:
            for name in [module.split(".")[0]] if module else names:
                if name in LAYER_OF:
                    assert LAYER_OF[name] <= own, f"{file.stem} imports {name}, which stands above it"


@pytest.mark.parametrize("file", [f for f in LIBRARY if "optim" in f.parts], ids=lambda f: f.stem)
def test_optim_does_not_import_nn(file):
    assert all(module.split(".")[0] != "nn" for module, _, _ in imports_at_the_head(file))


def test_numba_is_named_in_kernels_and_the_compiler_alone():
    for file in LIBRARY:
        if "kernels" in file.parts or file.stem in ("fusion", "compiler"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                assert not any(name.split(".")[0] in ("numba", "llvmlite") for name in names), file


def test_importing_loads_nothing_heavy():
    heavy = ["numba", "llvmlite", "scipy", "matplotlib", "graphviz", "rich", "safetensors", "torch"]
    code = f"import sys, autograd_core, nn, optim; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stubs_are_fresh():
    from autograd_core.stubs import stubs

    for path, text in stubs().items():
        assert path.read_text() == text, f"{path.name} is stale: run python -m autograd_core.stubs"


def test_no_file_is_named_like_a_public_function():
    import autograd_core as ag

    files = {f.stem for f in (ROOT / "autograd_core").glob("*.py")} - {"__init__", "tensor", "backward"}
    assert not {name for name in files if callable(vars(ag).get(name))}


CORE = ("registry", "tensor", "backward", "transforms")
AROUND = ("provenance", "storage", "modes", "errors", "convert", "inplace")


def lines_of_code(name):
    """Lines of a file without docstrings, comments and blanks."""
    text = (ROOT / "autograd_core" / f"{name}.py").read_text()
    skipped = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for n, line in lines if n not in skipped and line.strip() and not line.strip().startswith("#"))


def test_the_engine_stays_small():
    """The door, the records and backward; and with all that stands around them: places, writes, modes, errors."""
    assert sum(map(lines_of_code, CORE)) <= 1300
    assert sum(map(lines_of_code, (*CORE, *AROUND))) <= 1850
    assert lines_of_code("doors") <= 155  # the door once more, as the text that is filled in for each record
