"""A computation as data: operations, tensors and modules, forward and backward, ready to be drawn or listed.

`graph_of` reads what a tensor's history holds; `record` watches a function run and sees all of its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from .modes import Watcher
from .provenance import site
from .tensor import Node, Tensor


@dataclass(eq=False)
class Vertex:
    """One thing in a graph: an operation, or a tensor that enters or leaves."""

    key: str
    kind: str  # "op", "input", "parameter", "constant", "output", "backward", "gradient"
    label: str
    shapes: tuple[tuple[int, ...], ...] = ()
    dtype: str = ""
    family: str = ""
    colour: str = "#ffffff"
    scope: str = ""
    settings: str = ""
    saved_bytes: int | None = None
    place: tuple | None = None
    forward: str | None = None  # for kind "backward": the key of the forward operation


@dataclass(eq=False)
class Graph:
    """Vertices by key in the order in which they were made, and edges (from, to)."""

    title: str = ""
    vertices: dict[str, Vertex] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, vertex: Vertex) -> str:
        """Put a vertex in; returns its key."""
        self.vertices[vertex.key] = vertex
        return vertex.key

    def __str__(self):
        lines = [self.title] if self.title else []
        sources: dict[str, list[str]] = {}
        for start, end in self.edges:
            sources.setdefault(end, []).append(start)
        for key, vertex in self.vertices.items():
            shape = ", ".join("x".join(map(str, s)) or "scalar" for s in vertex.shapes)
            given = f"({', '.join(sources[key])})" if key in sources else ""
            lines.append(f"{key:>6} = {vertex.label}{given}: {vertex.dtype}[{shape}]  {vertex.scope}".rstrip())
        return "\n".join(lines)


def _names_of(model) -> dict[int, str]:
    if model is None:
        return {}
    named = [*model.named_parameters(), *model.named_buffers()]
    return {id(tensor): name for name, tensor in named}


def _short_settings(static) -> str:
    shown = []
    for name, value in static.items():
        if value is None or isinstance(value, (Tensor, np.ndarray)) or name in ("recipe", "index", "spec"):
            continue
        text = f"{name}={value}"
        if len(text) <= 28:
            shown.append(text)
    return ", ".join(shown[:4])


def _bytes(saved) -> int | None:
    if saved is None:
        return None
    arrays = [a for v in saved for a in (v if isinstance(v, tuple) else (v,)) if isinstance(a, np.ndarray)]
    return sum(a.nbytes for a in arrays)


def _op_vertex(key, op, static, shapes, dtype, scope, place, saved=None):
    colour = getattr(op.family, "colour", "#ffffff")
    return Vertex(key, "op", op.name, tuple(shapes), dtype, op.family.name, colour, str(scope or ""),
                  _short_settings(static), _bytes(saved), place)  # fmt: skip


def graph_of(tensor: Tensor, model=None, title: str = "") -> Graph:
    """The recorded history of ``tensor``, oldest operation first. ``model`` lends its parameters' names."""
    names, graph, keys = _names_of(model), Graph(title), {}
    root = tensor.grad_fn
    if root is None:
        raise ValueError("the tensor has no history: it was made by the user, or recording was off")
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend([parent for parent, _ in node.edges if type(parent) is Node])
    for number, node in enumerate(sorted(seen, key=lambda n: n.number)):
        shapes = [meta[0] for meta in node.meta if meta is not None]
        key = keys[node] = graph.add(_op_vertex(f"n{number}", node.op, node.static, shapes, str(node.meta[0][1]),
                                                node.scope, node.site, node.saved))  # fmt: skip
        for parent, _ in node.edges:
            if parent not in keys:
                keys[parent] = graph.add(_leaf_vertex(f"t{len(keys)}", parent, names, node.scope))
            graph.edges.append((keys[parent], key))
    out = graph.add(Vertex("out", "output", tensor.name or "output", (tensor.array.shape,), str(tensor.array.dtype)))
    graph.edges.append((keys[root], out))
    return graph


def _leaf_vertex(key, tensor, names, scope=""):
    name = names.get(id(tensor)) or tensor.name
    kind = "parameter" if tensor.tracks else "constant"
    inside = name.rpartition(".")[0] if name and id(tensor) in names else ""
    return Vertex(key, kind, name or ("leaf" if tensor.tracks else "constant"), (tensor.array.shape,),
                  str(tensor.array.dtype), scope=_common(str(scope or ""), inside))  # fmt: skip


def _common(scope, inside):
    """The scope of a parameter as its operation's scope spells it (which may begin with the model's own name)."""
    return scope if inside and scope.endswith(inside) else ""


class _Recorder(Watcher):
    """Writes down every operation that passes the door, with the tensors that go in and come out."""

    def __init__(self, graph, names):
        self.graph, self.names = graph, names
        self.keys: dict[int, str] = {}
        self.kept: list = []  # tensors stay alive, so that their ids stay theirs
        self.count = 0

    def source(self, tensor, scope=""):
        """The key of the vertex that made ``tensor``, which becomes a leaf where nothing did."""
        if id(tensor) not in self.keys:
            self.kept.append(tensor)
            self.keys[id(tensor)] = self.graph.add(_leaf_vertex(f"t{len(self.kept)}", tensor, self.names, scope))
        return self.keys[id(tensor)]

    def call(self, op, args, static):
        """Let the operation run, then note it."""
        result = super().call(op, args, static)
        self._note(op, args, static, result)
        return result

    def call_function(self, function, args, kwargs):
        """A user's Function is one vertex."""
        from types import SimpleNamespace

        from .registry import network

        result = super().call_function(function, args, kwargs)
        self._note(SimpleNamespace(name=function.__name__, family=network), args, kwargs, result)
        return result

    def alias(self, out, source):
        """A detached tensor is the same vertex."""
        super().alias(out, source)
        self.kept.append(out)
        self.keys[id(out)] = self.source(source)

    def _note(self, op, args, static, result):
        from .modes import state

        outs = [t for t in (result if isinstance(result, tuple) else (result,)) if isinstance(t, Tensor)]
        if not outs:
            return
        node = outs[0].node
        key = f"n{self.count}"
        self.count += 1
        sources = [self.source(a, state.scope) for a in args if isinstance(a, Tensor)]
        self.graph.add(_op_vertex(key, op, static, [t.array.shape for t in outs], str(outs[0].array.dtype), state.scope,
                                  site(3), node.saved if node is not None else None))  # fmt: skip
        self.graph.edges += [(source, key) for source in sources]
        for out in outs:
            self.kept.append(out)
            self.keys[id(out)] = key


def record(function: Callable, inputs: Iterable, model=None, title: str = "") -> Graph:
    """Run ``function(*inputs)`` and return the graph of all operations that it performs, tracked or not."""
    graph = Graph(title)
    recorder = _Recorder(graph, _names_of(model))
    inputs = list(inputs)
    code = getattr(function, "__code__", None)  # a plain function names its arguments
    arguments = code.co_varnames[: code.co_argcount] if code is not None else ("input",) * (len(inputs) == 1)
    for number, tensor in enumerate(inputs):
        if isinstance(tensor, Tensor):
            recorder.kept.append(tensor)
            label = tensor.name or (arguments[number] if number < len(arguments) else "input")
            kind = "parameter" if tensor.requires_grad else "input"
            vertex = Vertex(f"x{number}", kind, label, (tensor.array.shape,), str(tensor.array.dtype))
            recorder.keys[id(tensor)] = graph.add(vertex)
    with recorder:
        result = function(*inputs)
    for number, tensor in enumerate(_tensors(result)):
        out = graph.add(Vertex(f"y{number}", "output", "output", (tensor.array.shape,), str(tensor.array.dtype)))
        graph.edges.append((recorder.source(tensor), out))
    return graph


def _tensors(result):
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    return [t for r in result for t in _tensors(r)] if isinstance(result, (list, tuple)) else []


def with_backward(graph: Graph) -> Graph:
    """The graph with its backward beside it: a vertex for each operation behind a parameter, edges turned round."""
    both = Graph(graph.title, dict(graph.vertices), list(graph.edges))
    leads = _leading_to_parameters(graph)
    for key, vertex in graph.vertices.items():
        if key not in leads:
            continue
        if vertex.kind == "op":
            label = f"{vertex.label} backward"
            both.add(replace(vertex, key=f"b_{key}", kind="backward", label=label, settings="", forward=key))
        elif vertex.kind in ("parameter", "output"):
            label = f"grad of {vertex.label}" if vertex.kind == "parameter" else "gradient"
            both.add(
                Vertex(f"b_{key}", "gradient", label, vertex.shapes, vertex.dtype, scope=vertex.scope, forward=key)
            )
    both.edges += [(f"b_{end}", f"b_{start}") for start, end in reversed(graph.edges)
                   if f"b_{end}" in both.vertices and f"b_{start}" in both.vertices]  # fmt: skip
    return both


def _leading_to_parameters(graph):
    """Keys of the parameters and of everything that depends on one."""
    leads = {key for key, vertex in graph.vertices.items() if vertex.kind == "parameter"}
    after: dict[str, list[str]] = {}
    for start, end in graph.edges:
        after.setdefault(start, []).append(end)
    stack = list(leads)
    while stack:
        for end in after.get(stack.pop(), ()):
            if end not in leads:
                leads.add(end)
                stack.append(end)
    return leads
