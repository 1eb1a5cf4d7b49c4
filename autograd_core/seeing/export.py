"""A graph as a file: JSON with the schema below, and the choice of the form by a file's ending.

The JSON of a graph, version 1 (what is not known is null, never a guess; NaN and infinities are the strings "nan",
"inf" and "-inf"):

    format, version   "autograd-core graph", 1
    title, passes     texts; ``passes`` is "forward", "forward and backward", ...
    error             why the graph ends early, or null
    modules           one entry a call of a module, in order: id, path, name, type, parent (id or null), parameters
                      (elements), call (1 for the first of this module), seconds, backward_seconds, and fold: null, or
                      {"group", "count", "first", "names"} for a block that repeats: ``first`` (an id) is shown for all
                      of a group; names are those of the first and the last
    nodes             in order of execution: id, kind ("op", "input", "parameter", "buffer", "constant", "output",
                      "backward", "gradient"), label, op, family, name (the user's), module (id), settings (texts by
                      name), shapes, dtype, forward (of backward and gradient: the node they belong to), source
                      ({"file", "line", "function", "text"}), started, seconds, flops, bytes (read and written),
                      saved_bytes (kept for backward), value and gradient (statistics), lost (where the value was
                      overwritten), error, shown (of what lies in a folded block that is not shown: the id of its
                      counterpart in the one that is; else null)
    edges             [from, to] pairs of node ids
    totals            parameters, flops, bytes, saved_bytes, seconds
    statistics        count, nan, inf, zeros, min, max, mean, std, norm, absolute (mean of |x|), and histogram with
                      ``edges`` (one more than counts) and ``counts``

A new version number means that something here has changed its meaning; new entries may come without one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from .folding import stand_ins
from .graphs import Graph, Module, Vertex
from .statistics import Kept

FORMAT, VERSION = "autograd-core graph", 1


def as_json(graph: Graph) -> dict[str, Any]:
    """A graph as data that JSON can hold."""
    graph = graph.folded()
    hidden = stand_ins(graph)
    totals = {"parameters": graph.parameters, "flops": graph.total("flops"), "bytes": graph.total("bytes"),
              "saved_bytes": graph.saved_bytes, "seconds": graph.seconds}  # fmt: skip
    return {"format": FORMAT, "version": VERSION, "title": graph.title, "passes": graph.passes, "error": graph.error,
            "modules": [_module(m) for m in graph.modules.values()],
            "nodes": [_node(v, hidden.get(v.key)) for v in graph.vertices.values()],
            "edges": [list(edge) for edge in graph.edges], "totals": totals}  # fmt: skip


def as_text(graph: Graph) -> str:
    """A graph as JSON text."""
    return json.dumps(as_json(graph), separators=(",", ":"), allow_nan=False)


def _module(module: Module):
    return {"id": module.key, "path": module.path, "name": module.name, "type": module.type, "parent": module.parent,
            "parameters": module.parameters, "call": module.call, "fold": module.fold, "seconds": module.seconds,
            "backward_seconds": module.backward_seconds}  # fmt: skip


def _node(vertex: Vertex, shown: str | None):
    return {"id": vertex.key, "kind": vertex.kind, "label": vertex.label, "op": vertex.op,
            "family": vertex.family or None, "name": vertex.name, "module": vertex.module, "settings": vertex.settings,
            "shapes": [list(shape) for shape in vertex.shapes], "dtype": vertex.dtype, "forward": vertex.forward,
            "source": vertex.source(), "started": vertex.started, "seconds": vertex.seconds, "flops": vertex.flops,
            "bytes": vertex.bytes, "saved_bytes": vertex.saved_bytes, "value": _statistics(vertex.value),
            "gradient": _statistics(vertex.gradient), "error": vertex.error, "shown": shown,
            "lost": (vertex.value.lost or None) if vertex.value is not None else None}  # fmt: skip


def _statistics(kept: Kept | None):
    found = kept.statistics() if kept is not None else None
    return None if found is None else {name: _finite(value) for name, value in found.items()}


def _finite(value):
    """A measure as JSON can hold it; the edges of a histogram are finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


# ---------------------------------------------------------------------------------------------------- reading


class _Recalled(Kept):
    """Statistics that were read from a file: the values themselves are not there."""

    __slots__ = ()

    def __init__(self, found):
        self._statistics = found

    array = None
    lost = ""

    def keep(self):
        """There is nothing to copy."""


def load_graph(path) -> Graph:
    """Read a graph that ``g.save("x.json")`` wrote: all of it but the values, whose statistics are there."""
    with open(Path(path), encoding="utf-8") as file:
        return from_json(json.load(file), Path(path).name)


def from_json(data: dict[str, Any], name: str = "the file") -> Graph:
    """The graph that `as_json` has written down."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"load_graph: {name} is not a graph: its format is not {FORMAT!r}")
    if data.get("version") != VERSION:
        raise ValueError(f"load_graph: {name} has version {data.get('version')!r}, this program reads {VERSION}")
    graph = Graph(data["title"], error=data.get("error"))
    for m in data["modules"]:
        graph.modules[m["id"]] = Module(m["id"], m["path"], m["name"], m["type"], m["parent"], m["parameters"],
                                        m["call"], m["fold"], seconds=m.get("seconds"),
                                        backward_seconds=m.get("backward_seconds"))  # fmt: skip
    for n in data["nodes"]:
        graph.add(_vertex_of(n))
    graph.edges = [(start, end) for start, end in data["edges"]]
    totals = data["totals"]
    graph.parameters, graph.saved_bytes = totals["parameters"], totals["saved_bytes"]
    graph.seconds = totals["seconds"]
    return graph


def _vertex_of(n):
    from ..registry import FAMILIES

    colour = FAMILIES[n["family"]].colour if n["family"] in FAMILIES else "#ffffff"
    made = Vertex(n["id"], n["kind"], n["label"], tuple([tuple(s) for s in n["shapes"]]), n["dtype"], n["op"],
                  n["family"] or "", colour, n["name"], n["module"], n["settings"], n["forward"],
                  error=n.get("error"))  # fmt: skip
    made.written = n["source"]
    for measure in ("started", "seconds", "flops", "bytes", "saved_bytes"):
        setattr(made, measure, n.get(measure))
    for what in ("value", "gradient"):
        if n[what] is not None:
            setattr(made, what, _Recalled(_numbers(n[what])))
    return made


def _numbers(value):
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return float(value) if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------- endings


def saved_form(graph: Graph, ending: str, name: str, depth: int | None) -> str | bytes:
    """What a file with this ending holds."""
    if ending in ("svg", "png", "pdf"):
        from .pictures import rendered

        return rendered(graph, ending, depth)
    if ending in ("dot", "gv"):
        return graph.dot(depth)
    if ending in ("mmd", "mermaid"):
        return graph.mermaid(depth)
    if ending == "html":
        from .page import page

        return page(graph)
    if ending == "json":
        return as_text(graph)
    if ending == "txt":
        from .text import tree

        return tree(graph, depth) + "\n"
    raise ValueError(f"cannot save {name}: the endings are .svg, .png, .pdf, .dot, .mmd, .html, .json and .txt")
