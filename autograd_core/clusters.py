"""Elementwise fusion: runs of elementwise instructions, and a reduction that closes them, become one loop each.

Instructions are taken in order. One joins the open cluster that makes its operands if it works on the same shape; a
cluster is closed as soon as anything else reads one of its results. The loop itself is made by `fusion`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .fusion import REFUSED, WITHOUT_SCALAR, lower
from .kernels.elementwise import plan_loop
from .kernels.loop_text import Loop
from .kernels.plan import Array, Plan, execute
from .program import CAST, COPY, Instruction, Program, Value
from .registry import Op, elementwise
from .runtime import Number
from .symbolic import SERVED, NotFusable, Trace

REDUCTIONS = {"sum": "sum", "mean": "mean", "amax": "max", "amin": "min"}
"""Operations that may close a cluster, with the name that loops have for them."""

MOST_INPUTS = 16
"""Arrays that one loop reads: each takes an address register."""


@dataclass(eq=False)
class Fused:
    """One loop over arrays and run-time numbers, with what it takes the place of.

    ``order``: the dimensions of the common shape in the order in which the loop sees them, reduced ones last;
    ``axes``: how many are reduced; ``shapes``: of the results.
    """

    loop: Loop
    members: list[Instruction]
    inputs: list[Value]
    outputs: list[Value]
    shape: tuple[int, ...]
    order: tuple[int, ...]
    axes: int

    def plan(self, arrays: Sequence[Array], numbers: Array | None) -> Plan | None:
        """The plan for inputs of these descriptions; its outputs are C-ordered results, their shapes apart."""
        given = [_turned(a, self.shape, self.order) for a in arrays]
        return plan_loop(*given, *([numbers] if numbers is not None else []), loop=self.loop, axes=self.axes)

    def __call__(self, *operands):
        """Run on arrays and numbers; one by one where no loop serves them."""
        count = len(self.inputs)
        arrays = [_turned_array(a, self.shape, self.order) for a in operands[:count]]
        if self.loop.numbers:
            arrays.append(np.array(operands[count:], np.float64))
        found = execute(self._planner, arrays)
        if found is NotImplemented:
            return self._one_by_one(operands)
        found = found if type(found) is tuple else (found,)
        results = tuple([f.reshape(v.shape) for f, v in zip(found, self.outputs, strict=True)])
        return results if len(results) > 1 else results[0]

    @functools.cached_property
    def _planner(self):
        return functools.partial(plan_loop, loop=self.loop, axes=self.axes)

    def _one_by_one(self, operands):
        known = dict(zip(self.inputs, operands, strict=False))
        numbers = iter(operands[len(self.inputs) :])
        by_number: dict[int, float] = {}
        for number in self.numbers:
            by_number[id(number)] = next(numbers)
        for row in self.members:
            given = [_operand(a, known, by_number) for a in row.args]
            settings = {k: _operand(row.runtime.get(k, v), known, by_number) for k, v in row.static.items()}
            known[row.out] = np.asarray(row.op.run(*given, **settings))
        results = tuple([known[v] for v in self.outputs])
        return results if len(results) > 1 else results[0]

    numbers: list[Number] = field(default_factory=list)


def _operand(value, known, numbers):
    if type(value) is Number:
        return numbers[id(value)]
    if type(value) is not Value:
        return value
    return value.array if value.kind == "constant" and value not in known else known[value]


def _turned(a: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """The description with all dimensions of ``shape``, in ``order``; those that are broadcast keep size 1."""
    missing = len(shape) - len(a.shape)
    sizes, strides = (1,) * missing + a.shape, (0,) * missing + a.strides
    return Array(tuple([sizes[d] for d in order]), tuple([strides[d] for d in order]), a.dtype)


def _turned_array(array, shape, order):
    wide = array.reshape((1,) * (len(shape) - array.ndim) + array.shape) if array.ndim < len(shape) else array
    return wide if order == tuple(range(len(order))) else wide.transpose(order)


# ---------------------------------------------------------------------------------------------------- clustering


class _Cluster:
    """Elementwise instructions of one shape that will be one loop."""

    def __init__(self, shape):
        self.shape = shape
        self.rows: list[Instruction] = []
        self.closed = False
        self.reduction: Instruction | None = None


def fuse(program: Program) -> None:
    """Make one loop of every run of elementwise instructions and the reduction that closes it."""
    owner: dict[Value, _Cluster] = {}
    place: dict[Instruction, _Cluster] = {}
    for row in program.instructions:
        joined = _join(row, owner)
        if joined is not None:
            place[row] = joined
        for value in row.operands:
            found = owner.get(value)
            if found is not None and found is not joined:
                found.closed = True
        if joined is not None and joined.reduction is None:
            owner[row.out] = joined
    _emit(program, _side_by_side(program, [c for c in dict.fromkeys(place.values()) if c.rows]))


def _join(row, owner):
    """The cluster that an instruction belongs to; None where it is no part of any."""
    if row.op.name in REDUCTIONS and _closes(row, owner):
        cluster = owner.get(row.args[0]) or _Cluster(row.args[0].shape)
        cluster.rows.append(row)
        cluster.reduction, cluster.closed = row, True
        return cluster
    if not is_elementwise(row):
        return None
    shape = row.out.shape
    found = []
    for value in row.operands:
        cluster = owner.get(value)
        if cluster is not None and not cluster.closed and cluster.shape == shape and cluster not in found:
            found.append(cluster)
    if not found:
        found = [_Cluster(shape)]
    first, *others = found
    for other in others:
        owner.update({r.out: first for r in other.rows})
        first.rows += other.rows
        other.rows, other.closed = [], True
    first.rows.append(row)
    return first


def _closes(row, owner):
    """Whether a reduction can be part of a loop, and its operand is not needed by others in another order."""
    value = row.args[0]
    if type(value) is not Value or value.dtype.char not in "fd" or row.static.get("dtype") is not None or row.runtime:
        return False
    if not row.static["dim"] or 0 in value.shape:
        return False
    cluster = owner.get(value)
    return cluster is None or not cluster.closed


def is_elementwise(row: Instruction) -> bool:
    """Whether a loop can do the instruction, as far as names and dtypes tell."""
    if len(row.outs) != 1 or row.alias is not None or 0 in row.out.shape:
        return False
    if not row.operands or any([v.dtype.name not in SERVED for v in (*row.operands, *row.results)]):
        return False
    known = _is_copy(row) or row.op.scalar is not None or row.op.name in WITHOUT_SCALAR
    return known and np.broadcast_shapes(*[v.shape for v in row.operands]) == row.out.shape


def _side_by_side(program, clusters):
    """The clusters; a sum of all elements, as a loss is, is now one loop with what else is made of the same arrays."""
    order = {row: at for at, row in enumerate(program.instructions)}
    readers: dict[Value, list[int]] = {}
    for row, at in order.items():
        for value in row.operands:
            readers.setdefault(value, []).append(at)
    for total in clusters:
        if total.reduction is None or len(total.reduction.static["dim"]) < len(total.shape) or len(total.shape) == 4:
            continue  # loops with a sum have C order, pictures perhaps another
        for other in clusters:
            if other.shape == total.shape and other.reduction is None and _may_be_one(total, other, order, readers):
                total.rows += other.rows
                other.rows = []
    return [cluster for cluster in clusters if cluster.rows]


def _may_be_one(total, other, order, readers):
    """Whether two clusters read the same, or one what the other makes, and what others read of both can wait."""
    rows = {order[row]: row for c in (total, other) for row in c.rows}
    inputs = [{v for row in c.rows for v in row.operands} for c in (total, other)]
    made = {row.out for row in rows.values()}
    if total.reduction.out in inputs[1] or not inputs[0] & inputs[1]:
        return False
    outside = [at for value in made for at in readers.get(value, ()) if at not in rows]
    return min(outside, default=max(rows) + 1) > max(rows) and len((inputs[0] | inputs[1]) - made) <= MOST_INPUTS


def _is_copy(row):
    """Whether an instruction makes the same elements, perhaps of another dtype."""
    return row.op in (CAST, COPY) or row.op.name in ("to", "clone")


def _emit(program, clusters):
    """Put each cluster where its last instruction stood."""
    order = {row: at for at, row in enumerate(program.instructions)}
    home = {row: cluster for cluster in clusters for row in cluster.rows}
    for cluster in clusters:
        cluster.rows.sort(key=order.__getitem__)
    readers = _readers(program)
    kept = []
    for row in program.instructions:
        cluster = home.get(row)
        if cluster is None:
            kept.append(row)
        elif cluster.rows[-1] is row:
            kept += _fused_rows(cluster, readers)
    program.instructions = kept


def _readers(program):
    """How many instructions read each value; finals count as one more."""
    count: dict[Value, int] = {}
    for row in program.instructions:
        for value in set(row.operands):
            count[value] = count.get(value, 0) + 1
    for value in program.finals:
        count[value] = count.get(value, 0) + 1
    return count


def _fused_rows(cluster, readers):
    """The instruction of a cluster's loop; what no loop can do is left as it is."""
    rows = cluster.rows
    inside = {row.out for row in rows}
    reads: dict[Value, int] = {}
    for row in rows:
        for value in set(row.operands) & inside:
            reads[value] = reads.get(value, 0) + 1
    outputs = [row.out for row in rows if readers.get(row.out, 0) > reads.get(row.out, 0)]
    reduction = cluster.reduction
    if reduction is not None and not _is_trailing(reduction):
        cluster.rows = [r for r in rows if r is not reduction]
        cluster.reduction = None  # a loop would have to jump from row to row; the kernel of sums does not
        return [*(_fused_rows(cluster, readers) if cluster.rows else ()), reduction]
    try:
        return [fused_instruction(rows, outputs, cluster.shape, reduction)]
    except REFUSED:
        return rows


def _is_trailing(row):
    ndim, dims = len(row.args[0].shape), row.static["dim"]
    return sorted(dims) == list(range(ndim - len(dims), ndim))


def fused_instruction(rows: list[Instruction], outputs: list[Value], shape: tuple[int, ...],
                      reduction: Instruction | None = None) -> Instruction:  # fmt: skip
    """One instruction for the loop of ``rows``; raises NotFusable."""
    trace, known, inputs = Trace(), {}, []
    numbers: list[Number] = []
    lifted: dict[int, Any] = {}
    inside = {row.out for row in rows}
    for row in rows:
        for value in row.operands:
            if value in inside or value in known:
                continue
            if value.kind == "constant" and _is_one_number(value, shape, rows):
                known[value] = value.held.flat[0].item()
            else:
                known[value] = trace.input(value.dtype.name)
                inputs.append(value)
    if not inputs or len(inputs) > MOST_INPUTS:
        raise NotFusable("no arrays, or too many")
    for row in rows:
        if row is not reduction:
            for item in (*row.args, *row.runtime.values()):
                if type(item) is Number and id(item) not in lifted:
                    lifted[id(item)] = trace.number(item.value)
                    numbers.append(item)
            known[row.out] = _lowered(row, trace, known, lifted)
    dims = () if reduction is None else tuple(sorted(reduction.static["dim"]))
    order = (*[d for d in range(len(shape)) if d not in dims], *dims)
    results, reduce = [], []
    for value in outputs:
        closes = reduction is not None and value is reduction.out
        results.append(known[reduction.args[0]] if reduction is not None and closes else known[value])
        reduce.append(REDUCTIONS[reduction.op.name] if reduction is not None and closes else "")
    names = list(dict.fromkeys([row.op.name for row in rows]))
    if trace.guards:
        raise NotFusable("what is done depends on a run-time number")
    loop = trace.loop(" ".join(names), [f"x{i}" for i in range(len(inputs))], results, reduce)
    fused = Fused(loop, rows, inputs, outputs, shape, order, len(dims), numbers)
    title = "+".join(names) if len(names) <= 4 else "+".join([*names[:3], "..."])
    op = Op(title, fused, elementwise, run=fused)
    last = rows[-1]
    return Instruction(op, (*inputs, *numbers), {}, tuple(outputs), scope=last.scope, site=last.site)


def _is_one_number(value, shape, rows):
    """Whether a loop may have a constant in its text: a number, or an array of one number that gives it no shape."""
    if not value.shape:
        return value.dtype.kind in "fi"
    first = value.held.flat[0]
    if value.dtype.kind != "f" or not np.isfinite(first) or (value.held != first).any():
        return False
    readers = [row for row in rows if value in row.operands]
    if any([row.out.dtype != value.dtype or all([v.kind == "constant" for v in row.operands]) for row in readers]):
        return False
    return any([v.shape == shape and v.kind != "constant" for row in rows for v in row.operands])


def _lowered(row, trace, known, lifted):
    """The value of one member."""

    def operand(value):
        if type(value) is Number:
            return lifted[id(value)]
        return known[value] if type(value) is Value else value

    given = [operand(a) for a in row.args]
    dtype = row.out.dtype.name
    if _is_copy(row):
        if not hasattr(given[0], "to"):
            raise NotFusable("a number is cast")
        found = given[0].to(dtype)
    else:
        found = lower(row.op, trace, given, {k: operand(row.runtime.get(k, v)) for k, v in row.static.items()})
    if found.dtype != dtype:
        raise NotFusable(f"{row.op.name} gives {found.dtype} in a loop, {dtype} else")
    return found
