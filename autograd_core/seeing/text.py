"""Graphs as text: a tree for terminals, and Mermaid."""

from __future__ import annotations

from collections.abc import Iterator

from .folding import Tree
from .graphs import LEAVES, Graph, Module, Vertex
from .scene import Box, Frame, Scene
from .texts import count_text, module_title, number_text, size_text, time_text


def tree(graph: Graph, depth: int | None = None) -> str:
    """The modules and operations as an indented tree, one line each, with what was measured.

    A repeated block stands once, with its count. ``depth``: modules below it are one line each.
    """
    graph = graph.folded()
    rows = [*_Branches(graph, depth).rows()]
    width = min(max([len(left) for left, _, _ in rows], default=0), 60)
    middle = min(max([len(m) for _, m, _ in rows], default=0), 44)
    lines = [f"{left:<{width}}  {shape:<{middle}}  {facts}".rstrip() for left, shape, facts in rows]
    return "\n".join([*_head(graph), *lines])


def _head(graph: Graph) -> list[str]:
    ins = [f"{v.name or v.label} {v.type}" for v in graph.forward if v.kind == "input"]
    outs = [v.type for v in graph.forward if v.kind == "output"]
    facts = [f"{graph.parameters:,} parameters"] if graph.parameters else []
    if flops := graph.total("flops"):
        facts.append(f"{count_text(flops)}FLOP")
    if graph.saved_bytes:
        facts.append(f"{size_text(graph.saved_bytes)} kept for backward")
    if graph.seconds:
        facts.append(time_text(graph.seconds))
    first = (
        (graph.title or "graph") + (f": {', '.join(ins)}" if ins else "") + (f" -> {', '.join(outs)}" if outs else "")
    )
    return [first, "  " + ", ".join([graph.passes, *facts]), *([f"  ends early: {graph.error}"] if graph.error else [])]


class _Branches:
    def __init__(self, graph: Graph, depth: int | None):
        self.graph, self.depth = graph, depth
        self.tree = Tree(graph)
        self.leaves = {k: [n for n in ends if graph.vertices[n].kind in LEAVES]
                       for k, ends in graph.inputs_of().items()}  # fmt: skip
        self.backs: dict[str, list[Vertex]] = {}
        for vertex in graph.vertices.values():
            if vertex.kind == "backward" and vertex.forward is not None:
                self.backs.setdefault(vertex.forward, []).append(vertex)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(tree with the name, type, facts) of each line."""
        yield from self._rows(None, "", 0)
        alone = [v for v in self.graph.backward if v.kind == "backward" and v.forward is None]
        for vertex in alone:  # of a compiled program, whose rows have lost their counterparts
            yield f"{'└' if vertex is alone[-1] else '├'}─ {vertex.label}", vertex.type, time_text(vertex.seconds)

    def _rows(self, key, indent, level):
        items = [i for i in self.tree.inside.get(key, []) if isinstance(i, Vertex) or not _is_hidden(i)]
        for number, item in enumerate(items):
            last = number == len(items) - 1
            lead = indent + ("└─ " if last else "├─ ")
            if isinstance(item, Vertex):
                yield lead + item.title, item.type, self._facts(item)
                continue
            ops = [*self.tree.operations(item)]
            closed = self.depth is not None and level >= self.depth
            if closed or (len(ops) == 1 and item.fold is None):
                shown = f"{lead}{module_title(item)}" + ("" if len(ops) > 1 else f"  {ops[0].title}")
                yield shown, ops[-1].type if ops else "", self._module(item, ops)
            else:
                yield lead + module_title(item), "", self._module(item, ops)
                yield from self._rows(item.key, indent + ("   " if last else "│  "), level + 1)

    def _module(self, module, ops):
        facts = [f"{module.parameters:,} parameters"] if module.parameters else []
        if len(ops) == 1:
            return ", ".join([*facts, self._facts(ops[0])])
        if module.seconds is not None:
            both = f", {time_text(module.backward_seconds)} backward" if module.backward_seconds is not None else ""
            facts.append(time_text(module.seconds) + both)
        return ", ".join(facts)

    def _facts(self, vertex):
        facts = [time_text(vertex.seconds)] if vertex.seconds is not None else []
        backs = [b.seconds for b in self.backs.get(vertex.key, ()) if b.seconds is not None]
        if backs:
            facts.append(f"{time_text(sum(backs))} backward")
        if vertex.gradient is not None and (norm := vertex.gradient.norm()) is not None:
            facts.append(f"‖g‖ {number_text(norm)}")
        leaves = [self.graph.vertices[k] for k in self.leaves[vertex.key]]
        if names := [v.name or v.label for v in leaves if v.module is None or v.kind != "parameter"]:
            facts.append(f"of {', '.join(names)}")
        if vertex.error:
            facts.append(vertex.error.splitlines()[0])
        place = vertex.source()
        where = f"  # {place['file'].rpartition('/')[2]}:{place['line']}" if place else ""
        return ", ".join(facts) + where


def _is_hidden(module: Module) -> bool:
    return module.fold is not None and module.fold["first"] != module.key


# ---------------------------------------------------------------------------------------------------- Mermaid


def mermaid(graph: Graph, depth: int | None = None) -> str:
    """The picture as Mermaid text: boxes in subgraphs, dotted edges to the next round of a repeated block."""
    scene = Scene(graph, depth)
    lines = ["flowchart TB"]
    for name, frame in (("forward", scene.forward), ("backward", scene.backward)):
        if frame.items:
            lines += _mermaid_frame(frame, name, 1)
    lines += [f"  {start} {'-.->' if again else '-->'} {end}" for start, end, again in scene.edges]
    colours: dict[str, list[str]] = {}
    for box in scene.boxes.values():
        if box.vertex is not None and box.vertex.colour != "#ffffff":
            colours.setdefault(box.vertex.colour, []).append(box.key)
    for number, (colour, keys) in enumerate(colours.items()):
        lines += [f"  classDef family{number} fill:{colour},color:#222222", f"  class {','.join(keys)} family{number}"]
    return "\n".join(lines) + "\n"


def _mermaid_frame(frame: Frame, title: str, indent: int) -> Iterator[str]:
    pad = "  " * indent
    yield f"{pad}subgraph {frame.key} [{_mermaid_text(title)}]"
    for item in frame.items:
        if isinstance(item, Box):
            yield f"{pad}  {_mermaid_box(item)}"
        elif item.module is not None:
            yield from _mermaid_frame(item, module_title(item.module), indent + 1)
    yield f"{pad}end"


def _mermaid_box(box: Box) -> str:
    if box.vertex is None:
        assert box.module is not None
        return f"{box.key}[[{_mermaid_text(module_title(box.module))}]]"
    text = _mermaid_text(f"{box.vertex.title}\n{box.vertex.type}")
    if box.vertex.kind in ("parameter", "buffer", "gradient"):
        return f"{box.key}[({text})]"
    return f"{box.key}([{text}])" if box.vertex.kind in ("input", "output") else f"{box.key}[{text}]"


def _mermaid_text(text: str) -> str:
    safe = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return '"' + safe.replace("\n", "<br>") + '"'
