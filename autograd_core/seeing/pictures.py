"""Pictures of graphs: DOT text, and what renders it (Graphviz' ``dot`` where it is installed, else graphviz-pure)."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from inspect import signature
from pathlib import Path
from textwrap import wrap

import graphviz

from ..registry import OPS
from .graphs import Graph, Vertex
from .scene import Box, Frame, Scene
from .texts import count_text, module_title, number_text, size_text, time_text

SHAPES = {"parameter": "cylinder", "buffer": "cylinder", "gradient": "cylinder", "input": "ellipse",
          "output": "ellipse", "constant": "plaintext"}  # fmt: skip
FILLS = {"parameter": "#fff3b0", "buffer": "#f1ead0", "gradient": "#ffd9c7", "input": "#e8e8e8", "output": "#e8e8e8",
         "constant": "#ffffff"}  # fmt: skip
CHANGES = {"added": "#1a8f3c", "removed": "#c62828", "changed": "#c77700", "moved": "#1565c0"}
"""Colours of the borders in the picture of a difference."""


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


def render(source: str, kind: str) -> bytes:
    """A picture of DOT text, as bytes in the form ``kind`` ("svg", "png", "pdf")."""
    command = renderer()
    if command is None:
        raise RuntimeError("drawing needs Graphviz' dot on the PATH, or: pip install 'autograd-core[draw]'")
    if kind == "pdf" and "pure" in Path(command[0]).name:
        from .pdf import pdf_of

        return pdf_of(render(source, "svg"))
    done = subprocess.run([*command, f"-T{kind}"], input=source.encode(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} could not draw {kind}: {done.stderr.decode().strip()}")
    return _NODE.sub(_centred, done.stdout.decode()).encode() if kind == "svg" else done.stdout


_NODE = re.compile(r'<g id="[^"]*" class="node">.*?</g>\n(?=<)', re.DOTALL)


def _centred(node: re.Match) -> str:
    """A node of an SVG with its lines set from the middle: where fonts are wider than was reckoned they stay inside."""
    places = [float(x) for given in re.findall(r'(?:\bd|points)="([^"]*)"', node[0])
              for x in re.findall(r"(-?[\d.]+),", given)]  # fmt: skip
    if ellipse := re.search(r' cx="(-?[\d.]+)"', node[0]):
        places = [float(ellipse[1])]
    if not places:
        return node[0]
    middle = f'text-anchor="middle" x="{(min(places) + max(places)) / 2:.2f}"'
    return re.sub(r'text-anchor="start" x="[^"]*"', middle, node[0])


def rendered(graph: Graph, kind: str, depth: int | None = None) -> bytes:
    """The picture of a graph in the form ``kind``."""
    return render(dot(graph, depth), kind)


class Drawing(graphviz.Source):
    """A graph as a picture that shows itself in a notebook; ``save("x.svg")`` writes any form by its ending.

    It is a ``graphviz.Source`` (``source``, ``pipe``, ``render``) that does not need an installed ``dot``.
    """

    def __init__(self, graph: Graph, depth: int | None = None):
        super().__init__(dot(graph, depth))
        self.graph = graph
        self.depth = depth

    def pipe(
        self, format=None, renderer=None, formatter=None, neato_no_op=None, quiet=False, *, engine=None, encoding=None
    ):
        """The picture in ``format`` ("svg", "png", ...), as bytes, or as text with ``encoding``; ignores the rest."""
        data = render(self.source, format or "svg")
        return data.decode(encoding) if encoding else data

    def save(self, filename=None, directory=None, *, skip_existing=None):
        """Write the graph in the form that the ending names, as `Graph.save` does; returns the path."""
        path = Path(directory or ".", filename or "graph.dot")
        return self.graph.save(path if path.suffix else path.with_suffix(".dot"), depth=self.depth)

    def render(self, filename=None, directory=None, view=False, cleanup=False, format=None, **rest):
        """Write ``filename.format`` and return its path; ``view``, ``cleanup`` and what follows change nothing."""
        return self.save(f"{filename or 'graph'}.{format or 'svg'}", directory)

    def _repr_mimebundle_(self, include=None, exclude=None, **rest):
        return {"image/svg+xml": self.pipe("svg", encoding="utf-8")}

    def __str__(self):
        return self.source


# ---------------------------------------------------------------------------------------------------- DOT


def dot(graph: Graph, depth: int | None = None, marks: dict[str, tuple[str, str]] | None = None) -> str:
    """The graph as DOT text. ``marks``: (kind of change, remark) by key, for the picture of a difference."""
    scene = Scene(graph, depth)
    shown = _on_what_is_shown(scene, marks or {})
    look = 'rankdir=TB, fontname="Helvetica,Arial,sans-serif", fontsize=12, nodesep=0.25, ranksep=0.3, labelloc=t'
    lines = [
        "digraph {",
        f'  graph [{look}, bgcolor="#ffffff", label={quoted(_title(scene))}];',
        '  node [fontname="Helvetica,Arial,sans-serif", fontsize=10, height=0.3, margin="0.16,0.05"];',
        '  edge [color="#555555", arrowsize=0.6];',
    ]
    for name, frame in (("forward", scene.forward), ("backward", scene.backward)):
        if frame.items:
            lines += _frame_lines(frame, name, shown, 1)
    for start, end, again in scene.edges:
        looks = ["style=dashed", "constraint=false"] if again else []
        if scene.boxes[end].is_backward:
            # drawn upwards, so that an operation and its backward stand at the same height
            start, end, looks = end, start, [*looks, "dir=back", 'color="#c0562b"']
        elif scene.boxes[start].is_backward and not again:
            looks.append("constraint=false")  # an update, which stands in the forward, above its gradients
        lines.append(f"  {start} -> {end} [{', '.join(looks)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _title(scene):
    graph = scene.graph
    facts = [graph.title] if graph.title else []
    if graph.parameters:
        facts.append(f"{graph.parameters:,} parameters")
    if graph.total("flops"):
        facts.append(f"{count_text(graph.total('flops'))}FLOP")
    if graph.saved_bytes:
        facts.append(f"{size_text(graph.saved_bytes)} kept for backward")
    if graph.seconds:
        facts.append(time_text(graph.seconds))
    if scene.is_closed:
        facts.append(f"modules below depth {scene.depth} are closed")
    lines = ["   ·   ".join(facts[i : i + 3]) for i in range(0, len(facts), 3)]  # a title does not widen a picture
    return "\n".join(lines + (wrap(f"ends early: {graph.error.splitlines()[0]}", 60) if graph.error else []))


def _frame_lines(frame: Frame, title: str, marks, indent: int):
    pad = "  " * indent
    folds = frame.module is not None and frame.module.fold is not None
    look = f'style="rounded", color="{"#dddddd" if frame.module is None else "#bbbbbb"}", penwidth=1'
    if folds:
        look = 'style="rounded,filled", fillcolor="#f4f6fb", color="#7a8bb8", penwidth=1.5'
    label = quoted(_roomy(title))
    yield f'{pad}subgraph {frame.key} {{ graph [label={label}, {look}, fontcolor="#444444", fontsize=11];'
    for item in frame.items:
        if isinstance(item, Box):
            yield f"{pad}  {_box(item, '', marks)}"
        elif item.module is not None:
            inside = item.items[0]
            if len(item.items) == 1 and isinstance(inside, Box) and not item.module.fold:
                yield f"{pad}  {_box(inside, item.module.name, marks)}"  # a frame around one box adds nothing
            else:
                yield from _frame_lines(item, module_title(item.module), marks, indent + 1)
    yield pad + "}"


def _box(box: Box, module: str, marks):
    ops = [v for v in box.held if v.kind in ("op", "backward")]
    if box.module is not None and len(ops) != 1:
        title, small, look = _closed(box, ops)
    else:
        title, small, look = _open(box.vertex or ops[0], box.module.name if box.module else module)
    for leaf in box.leaves:
        small.append(_leaf_line(leaf))
    mark = _mark(box, marks)
    border = '"#888888"'
    if any([_is_bad(v) for v in box.held]):
        border = '"#d00000", penwidth=2.5'
    if mark is not None:
        border = f'"{CHANGES[mark[0]]}", penwidth=2.5'
        small += [*([mark[0]] if mark[0] != "moved" else []), *mark[1].split("; ")]
    below = "".join([_small(text) for text in small if text])
    return f"{box.key} [label=<{html.escape(_roomy(title))}{below}>, {look}, color={border}];"


def _mark(box: Box, marks):
    """The weightiest mark of what a box stands for."""
    found = [marks[v.key] for v in (*box.held, *box.leaves) if v.key in marks]
    return min(found, key=_weight, default=None)


def _weight(mark) -> int:
    return list(CHANGES).index(mark[0])


def _on_what_is_shown(scene: Scene, marks):
    """Marks of hidden blocks go to the block that is shown for them; the weightier one counts."""
    found: dict[str, tuple[str, str]] = {}
    for key, mark in marks.items():
        shown = scene.hidden.get(key, key)
        if shown not in found or _weight(mark) < _weight(found[shown]):
            found[shown] = mark
    return found


def _small(text: str) -> str:
    return f'<br/><font point-size="8" color="#555555">{html.escape(_roomy(text))}</font>'


def _roomy(text: str) -> str:
    """The text with blanks around it: renderers that do not know the fonts' measures make boxes too narrow."""
    room = "\u00a0" * (len(text) // 14)
    return room + text + room


def _open(vertex: Vertex, module: str):
    usual = _defaults(vertex.op)
    settings = [f"{k}={v}" for k, v in vertex.settings.items() if usual.get(k) != v and len(k) + len(v) < 28][:4]
    lines = [", ".join(settings[:2]), ", ".join(settings[2:])] if not vertex.is_backward else []
    small = [_type(vertex), *lines, _measures(vertex)]
    title = f"{vertex.title} ({module})" if module and module not in vertex.title else vertex.title
    if vertex.error:
        small += wrap(vertex.error.splitlines()[0], 60)
    shape = SHAPES.get(vertex.kind, "box")
    style = "rounded,filled" if shape == "box" else "filled"
    return title, small, f'shape={shape}, style="{style}", fillcolor="{FILLS.get(vertex.kind, vertex.colour)}"'


@cache
def _defaults(op: str | None) -> dict[str, str]:
    """The settings of an operation that it has by default, as texts: they go without saying."""
    record = OPS.get(op or "")
    return {} if record is None else {p.name: repr(p.default) for p in signature(record.public).parameters.values()}


def _closed(box: Box, ops: list[Vertex]):
    module = box.module
    assert module is not None
    seconds = module.backward_seconds if box.is_backward else module.seconds
    small = [_type(box.result or ops[-1]) if ops and not box.is_backward else "",
             f"{len(ops)} operations" + (f", {module.parameters:,} parameters" if not box.is_backward else ""),
             time_text(seconds)]  # fmt: skip
    title = module_title(module) + (" backward" if box.is_backward else "")
    return title, small, 'shape=box, style="rounded,filled,bold", fillcolor="#e3e9f6"'


def _type(vertex: Vertex) -> str:
    shapes = "  ".join(dict.fromkeys(["×".join(map(str, s)) or "scalar" for s in vertex.shapes]))
    return f"{shapes} {vertex.dtype}".strip()


def _measures(vertex: Vertex) -> str:
    facts = []
    if vertex.seconds is not None:
        facts.append(time_text(vertex.seconds))
    if vertex.saved_bytes:
        facts.append(f"keeps {size_text(vertex.saved_bytes)} for backward")
    if vertex.is_backward and vertex.value is not None and (norm := vertex.value.norm()) is not None:
        facts.append(f"‖g‖ {number_text(norm)}")
    return "  ·  ".join(facts)


def _leaf_line(leaf: Vertex) -> str:
    name = (leaf.name or leaf.label).rpartition(".")[2]
    shape = "×".join(map(str, leaf.shapes[0])) if leaf.shapes and leaf.shapes[0] else "scalar"
    if leaf.kind == "gradient" and leaf.value is not None and (norm := leaf.value.norm()) is not None:
        return f"{name.removeprefix('grad of ')}: ‖g‖ {number_text(norm)}"
    return f"{name} {shape}"


def _is_bad(vertex: Vertex) -> bool:
    """Whether its value is known to hold a NaN."""
    return vertex.value is not None and vertex.value.has_nan()


# ---------------------------------------------------------------------------------------------------- small texts


def quoted(text: str) -> str:
    """A DOT string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
