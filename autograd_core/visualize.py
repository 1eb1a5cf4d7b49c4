"""Pictures of computations: ``ag.draw``. Rendered by Graphviz' ``dot`` where it is installed, else by graphviz-pure."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import graphviz

from . import files
from .graph import Graph, Vertex, graph_of, record, with_backward
from .tensor import Tensor

_SHAPES = {"op": "box", "backward": "box", "parameter": "cylinder", "gradient": "cylinder", "input": "ellipse",
           "output": "ellipse", "constant": "plaintext"}  # fmt: skip
_FILLS = {"parameter": "#fff3b0", "gradient": "#ffd9c7", "input": "#e8e8e8", "output": "#e8e8e8", "constant": "#ffffff"}


def renderer() -> list[str] | None:
    """The command that turns DOT into pictures: an installed ``dot``, or graphviz-pure of this environment; or None."""
    found = shutil.which("dot")
    if found:
        return [found]
    for folder in (sysconfig.get_path("scripts"), os.path.dirname(sys.executable)):
        found = shutil.which("graphviz-pure", path=folder)
        if found:
            return [found]
    found = shutil.which("graphviz-pure")
    return [found] if found else None


class Drawing(graphviz.Source):
    """A picture as DOT text that shows itself in a notebook. ``save("x.svg")`` writes SVG, PNG or DOT by the ending.

    It is a ``graphviz.Source`` (``source``, ``pipe``, ``render``) that does not need an installed ``dot``.
    """

    def __init__(self, source: str, graph: Graph):
        super().__init__(source)
        self.graph = graph

    def pipe(
        self, format=None, renderer=None, formatter=None, neato_no_op=None, quiet=False, *, engine=None, encoding=None
    ):
        """The picture in ``format`` ("svg", "png", ...), as bytes, or as text with ``encoding``; ignores the rest."""
        data = _render(self.source, format or "svg")
        return data.decode(encoding) if encoding else data

    def save(self, filename=None, directory=None, *, skip_existing=None):
        """Write the picture in the form that the ending names (svg, png, dot, gv, txt); returns the path."""
        path = Path(directory or ".", filename or "graph.dot")
        kind = path.suffix.lstrip(".").lower()
        if kind in ("dot", "gv", ""):
            files.write(path, self.source)
        elif kind == "txt":
            files.write(path, str(self.graph) + "\n")
        elif kind in ("svg", "png", "jpg", "json", "pdf"):
            files.write(path, _render(self.source, kind))
        else:
            raise ValueError(f"draw: cannot write {path.name}: the endings are .svg, .png, .dot and .txt")
        return str(path)

    def render(self, filename=None, directory=None, view=False, cleanup=False, format=None, **rest):
        """Write ``filename.format`` and return its path; ``view``, ``cleanup`` and what follows change nothing."""
        return self.save(f"{filename or 'graph'}.{format or 'svg'}", directory)

    def _repr_mimebundle_(self, include=None, exclude=None, **rest):
        return {"image/svg+xml": self.pipe("svg", encoding="utf-8")}

    def __str__(self):
        return self.source


def _render(source: str, kind: str) -> bytes:
    command = renderer()
    if command is None:
        raise RuntimeError("drawing needs Graphviz' dot on the PATH, or: pip install 'autograd-core[draw]'")
    done = subprocess.run([*command, f"-T{kind}"], input=source.encode(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} could not draw {kind}: {done.stderr.decode().strip()}")
    return done.stdout


def draw(target, *inputs, model=None, title: str = "", backward: bool = True, depth: int | None = None) -> Drawing:
    """Draw a computation: its operations, parameters, shapes and dtypes, with modules as clusters.

    target: a tensor with a history; a module or function, which is run on ``inputs``; or a compiled function, whose
    last program is drawn.
    model: lends its parameters' names where ``target`` is a tensor or function (a module names its own).
    backward: draw the backward beside the forward. depth: deepest level of modules that gets a cluster of its own.
    """
    from .compiler import Compiled

    if isinstance(target, Drawing):
        return target
    if isinstance(target, Tensor):
        graph = graph_of(target, model, title)
    elif isinstance(target, Compiled):
        return Drawing(dot(target.graph(), depth), target.graph())
    elif callable(target):
        named = model if model is not None else target if hasattr(target, "named_parameters") else None
        graph = record(target, inputs, named, title or getattr(target, "__name__", type(target).__name__))
    else:
        raise TypeError(f"draw: needs a Tensor, a module or a function, got {type(target).__name__}")
    return Drawing(dot(with_backward(graph) if backward else graph, depth), graph)


def dot(graph: Graph, depth: int | None = None) -> str:
    """The graph as DOT text."""
    look = 'rankdir=TB, fontname="Helvetica,Arial,sans-serif", fontsize=11, nodesep=0.25, ranksep=0.3, labelloc=t'
    lines = [
        "digraph {",
        f"  graph [{look}, label={_quoted(graph.title)}];",
        '  node [fontname="Helvetica,Arial,sans-serif", fontsize=10, height=0.3, margin="0.16,0.05"];',
        '  edge [color="#555555", arrowsize=0.6];',
    ]
    for side in ("forward", "backward"):
        backward = side == "backward"
        chosen = [v for v in graph.vertices.values() if (v.kind in ("backward", "gradient")) == backward]
        if chosen:
            lines += _clusters(chosen, f"cluster_{side}", side, depth)
    for start, end in graph.edges:
        if graph.vertices[end].kind in ("backward", "gradient"):
            start, end = end, start  # drawn upwards, so that an operation and its backward stand at the same height
            lines.append(f'  {start} -> {end} [dir=back, color="#c0562b"];')
        else:
            lines.append(f"  {start} -> {end};")
    return "\n".join([*lines, "}"]) + "\n"


class _Cluster:
    """One call of a module: what it holds in order, vertices and inner clusters."""

    def __init__(self, name):
        self.name = name
        self.items: list[Vertex | _Cluster] = []

    def lines(self, key, indent=1):
        pad = "  " * indent
        look = 'style="rounded", color="#bbbbbb", fontcolor="#555555"'
        yield f"{pad}subgraph {key} {{ graph [label={_quoted(self.name)}, {look}];"
        for number, item in enumerate(self.items):
            if isinstance(item, Vertex):
                yield f"{pad}  {_vertex(item)}"
            elif len(item.items) == 1 and isinstance(item.items[0], Vertex):
                yield f"{pad}  {_vertex(item.items[0], item.name)}"  # a frame around a single box says no more
            else:
                yield from item.lines(f"{key}_{number}", indent + 1)
        yield pad + "}"


def _clusters(vertices, name, title, depth):
    """Vertices in nested clusters; a module that is called again later gets another cluster."""
    root = _Cluster(title)
    open_clusters = [root]
    for vertex in vertices:
        path = [part for part in vertex.scope.split(".") if part][:depth]
        same = 0
        while same < len(path) and same + 1 < len(open_clusters) and open_clusters[same + 1].name == path[same]:
            same += 1
        del open_clusters[same + 1 :]
        for part in path[same:]:
            made = _Cluster(part)
            open_clusters[-1].items.append(made)
            open_clusters.append(made)
        open_clusters[-1].items.append(vertex)
    return list(root.lines(name))


def _vertex(vertex: Vertex, module: str = "") -> str:
    shape = " ".join("×".join(map(str, s)) or "scalar" for s in vertex.shapes)
    small = [f"{shape} {vertex.dtype}".strip(), vertex.settings]
    if vertex.saved_bytes and vertex.kind == "op":
        small.append(f"keeps {_size(vertex.saved_bytes)} for backward")
    below = "".join(f'<br/><font point-size="8" color="#555555">{html.escape(text)}</font>' for text in small if text)
    fill = _FILLS.get(vertex.kind, vertex.colour)
    style = "rounded,filled" if _SHAPES[vertex.kind] == "box" else "filled"
    title = f"{vertex.label} ({module})" if module and module not in vertex.label else vertex.label
    look = f'shape={_SHAPES[vertex.kind]}, style="{style}", fillcolor="{fill}", color="#888888"'
    return f"{vertex.key} [label=<{html.escape(title)}{below}>, {look}];"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return ""
