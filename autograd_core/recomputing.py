"""Rematerialisation: values that a program keeps for long are worked out again where memory is short.

Only the values between instructions count, at their peak: what a step holds besides parameters, arguments and results.
Chen et al., "Training deep nets with sublinear memory cost", 2016.
"""

from __future__ import annotations

from dataclasses import replace

from .program import Instruction, Program, Value

MOST_REPEATED = 12
"""Instructions that are repeated for one value at most."""


class _Liveness:
    """From when to when each piece of memory is in use; views are looks at the piece that they come from."""

    def __init__(self, program: Program):
        self.rows = program.instructions
        self.root: dict[Value, Value] = {}
        self.made: dict[Value, int] = {}
        self.uses: dict[Value, list[int]] = {}
        self.looks: dict[Value, dict[Value, int]] = {}  # of each piece: the values that are read, and where last
        for at, row in enumerate(self.rows):
            for value in row.operands:
                root = self.root.get(value, value)
                self.uses.setdefault(root, []).append(at)
                self.looks.setdefault(root, {})[value] = at
            source = row.args[row.alias] if row.alias is not None else None
            for out in row.results:
                self.root[out] = out if source is None else self.root.get(source, source)
                self.made.setdefault(self.root[out], at)
        self.kept = {self.root.get(v, v) for v in program.finals}
        self.sizes = [0] * (len(self.rows) + 1)
        for root, first in self.made.items():
            if root.kind == "result" and root not in self.kept:
                for at in range(first, self.last(root) + 1):
                    self.sizes[at] += root.nbytes

    def last(self, root: Value) -> int:
        """The position of the last use."""
        return len(self.rows) if root in self.kept else max([self.made[root], *self.uses.get(root, ())])

    def is_there(self, value: Value, at: int) -> bool:
        """Whether a value can be read at a position."""
        root = self.root.get(value, value)
        return root.kind != "result" or (self.made[root] < at <= self.last(root))


def recompute(program: Program, budget: int) -> None:
    """Work values out again, large and cheap ones first, until the peak fits ``budget`` bytes or none is left.

    Nothing else changes: an instruction gives the same numbers twice, random draws included.
    """
    repeated: set[Value] = set()
    least, best = None, program.instructions
    while True:
        live = _Liveness(program)
        peak = max(live.sizes)
        if least is None or peak < least:
            least, best = peak, program.instructions
        found = _cheapest(program, live, live.sizes.index(peak), repeated) if peak > budget else None
        if found is None:
            program.instructions = best
            return
        root, at, again = found
        repeated.add(root)
        repeated |= set(_insert(program, at, again))  # once is enough


def _cheapest(program, live, peak, repeated):
    """(what to free, position, instructions to repeat) that saves the most for its work; None if nothing can."""
    makers, best, chosen = program.makers(), 0.0, None
    for root, first in live.made.items():
        uses = live.uses.get(root, [])
        later = [at for at in uses if at > peak]
        if root.kind != "result" or first >= peak or not later or peak in uses or root in live.kept or root in repeated:
            continue
        at = later[0]
        wanted = [value for value, last in live.looks[root].items() if last >= at]
        again: dict[Instruction, None] = {}
        if all([_collect(v, at, live, makers, again, root) for v in wanted]):
            gain = root.nbytes / (root.nbytes + sum([_work(row) for row in again]))
            if gain * root.nbytes > best:
                best, chosen = gain * root.nbytes, (root, at, list(again))
    return chosen


def _collect(value, at, live, makers, again, gone):
    """Add to ``again``, in order, the instructions that make a value at a position from what is there."""
    row = makers.get(value)
    if row is None:
        return value.kind != "result"
    if row in again:
        return True
    if len(again) > MOST_REPEATED:
        return False
    for operand in row.operands:
        there = live.root.get(operand, operand) is not gone and live.is_there(operand, at)
        if not there and not _collect(operand, at, live, makers, again, gone):
            return False
    again[row] = None
    return True


def _work(row):
    """What it costs to repeat an instruction, in bytes that could be moved meanwhile."""
    moved = 0 if row.alias is not None else sum([v.nbytes for v in (*row.operands, *row.results)])
    name = row.op.name.partition("+")[0]
    if name in ("linear", "matmul", "mm", "bmm"):
        return moved + row.out.nbytes * row.args[0].shape[-1]
    if name.startswith("convolution"):
        return moved + row.out.nbytes * row.args[1].size // max(row.args[1].shape[0], 1)
    return moved


def _insert(program, at, again):
    """Repeat instructions before a position; what follows reads the new results, which are returned."""
    renamed: dict[Value, Value] = {}
    clones = []
    for row in again:
        row = _with(row, renamed)
        outs = tuple([None if v is None else Value("result", v.shape, v.dtype, name=v.name) for v in row.outs])
        renamed |= {old: new for old, new in zip(row.outs, outs, strict=True) if old is not None and new is not None}
        clones.append(replace(row, outs=outs))
    rows = program.instructions
    program.instructions = [*rows[:at], *clones, *[_with(row, renamed) for row in rows[at:]]]
    return renamed.values()


def _with(row, renamed):
    if not any([v in renamed for v in row.operands]):
        return row
    return replace(row, args=tuple([renamed.get(a, a) if type(a) is Value else a for a in row.args]))
