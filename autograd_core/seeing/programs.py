"""A compiled program as a graph."""

from __future__ import annotations

from ..program import Instruction, Program, Value
from ..tensor import Tensor
from .graphs import Graph, Module, Vertex
from .recording import settings_of


def graph_of_program(program: Program, costs: dict[Instruction, tuple[float, int | None]] | None = None) -> Graph:
    """The program as a graph: inputs, instructions, effects and outputs; ``costs``: seconds and FLOPs of a row."""
    graph, keys = Graph(program.name), {}
    modules: dict[str, str] = {}
    for number, value in enumerate((*program.arguments, *program.captured)):
        kind = "input" if value.kind == "argument" else "parameter" if _is_parameter(value.origin) else "buffer"
        label = value.name or ("state" if kind == "buffer" else kind)
        keys[value] = graph.add(Vertex(f"t{number}", kind, label, (value.shape,), str(value.dtype),
                                       name=value.name or None))  # fmt: skip
        graph.parameters += value.size if kind == "parameter" else 0
    for number, row in enumerate(program.instructions):
        backward = str(row.scope or "").endswith("backward")
        scope = str(row.scope or "").removesuffix("backward").rstrip()
        shapes = tuple([v.shape for v in row.results])
        kind = str(row.results[0].dtype) if row.results else ""
        family = row.op.family
        moved = sum([v.nbytes for v in (*dict.fromkeys(row.operands), *row.results)])
        seconds, work = (costs or {}).get(row, (None, None))
        key = graph.add(Vertex(f"n{number}", "backward" if backward else "op", row.op.name, shapes, kind,
                               row.op.qualified, family.name, family.colour, module=_module(graph, modules, scope),
                               settings=settings_of(row.static), place=row.site, bytes=moved, seconds=seconds,
                               flops=work))  # fmt: skip
        graph.edges += [(keys[v], key) for v in row.operands if v in keys]
        keys |= dict.fromkeys(row.results, key)
    ends: list[tuple[str, Value]] = [("output", v) for v in program.outputs]
    ends += [(f"new {target.name or 'value'}", value) for target, value in program.effects]
    for number, (label, value) in enumerate(ends):
        if value in keys:
            end = graph.add(Vertex(f"y{number}", "output", label, (value.shape,), str(value.dtype)))
            graph.edges.append((keys[value], end))
    graph.seconds = graph.total("seconds")
    return graph


def _is_parameter(origin) -> bool:
    """Whether a captured value is a leaf that wants a gradient, and not the state of something."""
    return isinstance(origin, Tensor) and origin.requires_grad


def _module(graph, modules, scope):
    """The key of the module with a path: calls cannot be told apart in a program."""
    if not scope:
        return None
    if scope not in modules:
        stem, _, name = scope.rpartition(".")
        parent = _module(graph, modules, stem)
        made = Module(f"m{len(graph.modules)}", scope, name, "", parent)
        graph.modules[made.key] = made
        modules[scope] = made.key
    return modules[scope]
