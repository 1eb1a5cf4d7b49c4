"""What a compiled program costs, row by row (`Compiled.profile`), and the program as a graph (`ag.draw`)."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

from .graph import Graph, Vertex
from .lowering import NativeLowered, numbers_function
from .program import Instruction, Program, Value


@dataclass(frozen=True)
class Cost:
    """One row: its operation, the median of its times, the bytes that it reads and writes, its multiplications."""

    name: str
    seconds: float
    bytes: int
    flops: int
    native: bool
    type: str
    scope: str
    place: str


class Profile:
    """The costs of all rows of one program, dearest first when printed."""

    def __init__(self, name: str, rows: list[Cost]):
        self.name = name
        self.rows = rows

    @property
    def seconds(self) -> float:
        """The time of all rows; a run without measuring takes less."""
        return sum([row.seconds for row in self.rows])

    def __str__(self):
        whole = max(self.seconds, 1e-12)
        lines = [f"{self.name}: {self.seconds * 1e6:,.1f} us in {len(self.rows)} rows",
                 "      us  share      kB  GFLOP/s  row"]  # fmt: skip
        for row in sorted(self.rows, key=lambda r: -r.seconds):
            speed = f"{row.flops / max(row.seconds, 1e-9) / 1e9:8.1f}" if row.flops else " " * 8
            kind = "" if row.native else "  (Python)"
            where = "  ".join(part for part in (row.scope, row.place) if part)
            lines.append(f"{row.seconds * 1e6:8.1f} {row.seconds / whole:6.1%} {row.bytes / 1000:7.1f} {speed}  "
                         f"{row.name}: {row.type}{kind}  # {where}".rstrip(" #"))  # fmt: skip
        return "\n".join(lines)

    __repr__ = __str__


def measure(recording: Any, leaves: list, repeat: int) -> Profile:
    """Run a recording ``repeat`` times, each row by itself, with the clock read between rows."""
    clock: list[int] = []
    lowered = NativeLowered(recording.program, tick=lambda: clock.append(perf_counter_ns()))
    before = recording.lowered, recording.numbers
    recording.lowered = lowered
    recording.numbers = numbers_function(recording.guards.rows, lowered.wanted, recording.comparisons)
    times = []
    try:
        for _ in range(repeat):
            clock.clear()
            if recording.run(leaves) is NotImplemented:
                raise RuntimeError(f"profile: what {recording.program.name} relies on has changed; call it first")
            times.append(np.diff(clock))
    finally:
        recording.lowered, recording.numbers = before
    middle = np.median(np.array(times), axis=0) * 1e-9
    rows = [_cost(row, native, seconds) for (row, native), seconds in zip(lowered.timed, middle, strict=True)]
    return Profile(recording.program.name, rows)


def _cost(row: Instruction | None, native, seconds):
    if row is None:
        return Cost("copy", float(seconds), 0, 0, native, "", "", "")
    moved = sum([v.nbytes for v in (*dict.fromkeys(row.operands), *row.results)])
    kind = ", ".join([v.type for v in row.results])
    return Cost(row.op.name, float(seconds), moved, _flops(row), native, kind, str(row.scope or ""), row.place)


def _flops(row):
    """Multiplications and additions of products and convolutions; 0 for everything else."""
    shapes = [v.shape for v in row.operands]
    out = row.results[0].size if row.results else 0
    if row.op.name in ("matmul", "mm", "bmm"):
        return 2 * out * shapes[0][-1]
    if row.op.name in ("linear", "convolution"):
        return 2 * out * int(np.prod(shapes[1][1:]))
    return 0


# ---------------------------------------------------------------------------------------------------- the graph


def graph_of_program(program: Program) -> Graph:
    """The program as a graph: inputs, instructions, effects, outputs and gradients."""
    graph, keys = Graph(program.name), {}
    for number, value in enumerate((*program.arguments, *program.captured)):
        kind = "input" if value.kind == "argument" else "parameter"
        keys[value] = graph.add(Vertex(f"x{number}", kind, value.name or kind, (value.shape,), str(value.dtype)))
    for number, row in enumerate(program.instructions):
        scope, _, side = str(row.scope or "").partition(" backward")
        backward = str(row.scope or "").endswith("backward")
        shapes = tuple([v.shape for v in row.results])
        kind = str(row.results[0].dtype) if row.results else ""
        family, scope = row.op.family, scope if side == "" else ""
        key = graph.add(Vertex(f"i{number}", "backward" if backward else "op", row.op.name, shapes, kind, family.name,
                               family.colour, scope, place=row.site))  # fmt: skip
        graph.edges += [(keys[v], key) for v in row.operands if v in keys]
        keys |= dict.fromkeys(row.results, key)
    ends: list[tuple[str, str, Value]] = [("output", "output", v) for v in program.outputs]
    ends += [("output", f"new {target.name or 'value'}", value) for target, value in program.effects]
    for number, (kind, label, value) in enumerate(ends):
        if value in keys:
            end = graph.add(Vertex(f"y{number}", kind, label, (value.shape,), str(value.dtype)))
            graph.edges.append((keys[value], end))
    return graph
