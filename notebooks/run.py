"""Runs notebooks without Jupyter, and turns them into plain text and back.

    python notebooks/run.py notebooks/01_first_steps.ipynb    # each in a process of its own; --fast sets AG_FAST=1
    python notebooks/run.py --text notebooks/01_first_steps.ipynb > /tmp/01.py    # cells as `# %%` blocks, to edit
    python notebooks/run.py --make /tmp/01.py notebooks/01_first_steps.ipynb      # and back
    python notebooks/run.py --strip notebooks/*.ipynb         # after Jupyter: outputs and counts go

The standard library does it, so that the tests need no Jupyter.
"""

from __future__ import annotations

import argparse
import ast
import json
import linecache
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("_repr_mimebundle_", "_repr_html_", "_repr_svg_", "_repr_png_", "_repr_markdown_")
"""What Jupyter asks a value for, to show it."""


# ---------------------------------------------------------------------------------------------------- the file


def cells(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """(kind, text) of every cell; the kinds are "markdown" and "code"."""
    held = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in held]


def write(path: str | os.PathLike[str], made: list[tuple[str, str]]) -> None:
    """Write a notebook without outputs, spelled as Jupyter spells it."""
    held: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(made):
        cell = {"cell_type": kind, "id": f"cell-{number:02d}", "metadata": {}, "source": text.splitlines(keepends=True)}
        held.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
             "language_info": {"name": "python"}}  # fmt: skip
    book = {"cells": held, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    text = json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    Path(path).write_text(text, encoding="utf-8", newline="\n")


def is_stripped(path: str | os.PathLike[str]) -> bool:
    """Whether the file is what `write` would write: no outputs, no counts, nothing that a run leaves behind."""
    with tempfile.TemporaryDirectory() as folder:
        write(again := Path(folder, "again.ipynb"), cells(path))
        return again.read_text(encoding="utf-8") == Path(path).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------- plain text


def to_text(made: list[tuple[str, str]]) -> str:
    """The cells as a Python file in the percent format: ``# %%`` before code, ``# %% [markdown]`` before prose."""
    blocks = []
    for kind, text in made:
        if kind == "code":
            blocks.append(f"# %%\n{text}")
        else:
            blocks.append("\n".join(["# %% [markdown]", *[f"# {line}".rstrip() for line in text.splitlines()]]))
    return "\n\n".join(blocks) + "\n"


def from_text(text: str) -> list[tuple[str, str]]:
    """The cells of a Python file in the percent format; what stands before the first mark is left out."""
    made: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("# %%"):
            made.append(("markdown" if "[markdown]" in line else "code", []))
        elif made:
            kind, lines = made[-1]
            lines.append(line.removeprefix("#").removeprefix(" ") if kind == "markdown" else line)
    return [(kind, "\n".join(lines).strip("\n")) for kind, lines in made]


# ---------------------------------------------------------------------------------------------------- running


def execute(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Run the code cells in this process, one after the other in one namespace, which is returned.

    As in Jupyter, a last line that is an expression is shown: the value is asked for its HTML or picture, so that an
    error in there is found. Errors carry the number of the cell; tracebacks show its lines.
    """
    name = Path(path).name
    space: dict[str, Any] = {"__name__": "__main__", "display": show}
    for number, (kind, text) in enumerate(cells(path)):
        if kind != "code":
            continue
        file = f"{name}[{number}]"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # type: ignore[assignment]
        try:
            _run_cell(text, file, space)
        except BaseException as error:
            error.add_note(f"in cell {number} of {name}")
            raise
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")  # as Jupyter does after it has shown them
    return space


def _run_cell(text, file, space):
    tree = ast.parse(text, file)
    last: Any = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, file, "exec"), space)  # noqa: S102 (running the cells is what this file is for)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), file, "eval"), space)  # noqa: S307 (as above)
        if not text.rstrip().endswith(";"):
            show(value)


def show(*values: Any) -> None:
    """Ask each value for what Jupyter would show, and print its text. Cells call it as ``display``."""
    for value in values:
        if value is None:
            continue
        for method in SHOWN:
            if hasattr(type(value), method):
                getattr(value, method)()
        sys.stdout.write(f"{value!r}\n")


def run(path: str | os.PathLike[str], fast: bool = True) -> str:
    """Run a notebook in a process of its own, in an empty folder; returns what it printed.

    ``fast`` sets ``AG_FAST=1``, by which notebooks take small data. Raises ``RuntimeError`` with the end of the output
    where a cell fails.
    """
    wanted = os.environ | {"MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"} | ({"AG_FAST": "1"} if fast else {})
    wanted["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--here", str(Path(path).resolve())]
        done = subprocess.run(command, cwd=folder, env=wanted, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              encoding="utf-8", check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{Path(path).name} failed:\n{done.stdout[-6000:]}")
    return done.stdout


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run notebooks, or turn them into text and back.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--fast", action="store_true", help="set AG_FAST=1: small data")
    parser.add_argument("--here", action="store_true", help="run in this process")
    parser.add_argument("--text", action="store_true", help="print the cells as a Python file with `# %%%%` marks")
    parser.add_argument("--make", action="store_true", help="write a notebook (second file) from such a file (first)")
    parser.add_argument("--strip", action="store_true", help="take outputs and counts out")
    given = parser.parse_args()
    if given.make:
        source, target = given.files
        write(target, from_text(Path(source).read_text(encoding="utf-8")))
        return
    for file in given.files:
        if given.strip:
            write(file, cells(file))
        elif given.text:
            sys.stdout.write(to_text(cells(file)))
        elif given.here:
            sys.excepthook = traceback.print_exception  # which, unlike the interpreter's own, knows the cells' lines
            execute(file)
        else:
            start = time.perf_counter()
            printed = run(file, given.fast)
            sys.stdout.write(f"{printed}{file}: ok, {time.perf_counter() - start:.1f} s\n")


if __name__ == "__main__":
    main()
