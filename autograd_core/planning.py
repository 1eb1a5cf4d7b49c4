"""The plan of one instruction: which kernels do it, for operands of given shapes, strides and dtypes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from .clusters import Fused
from .epilogues import Ended
from .kernels import elements, gemm, indexing, moves
from .kernels.elementwise import plan_loop
from .kernels.loop_text import Loop, Output
from .kernels.plan import Array, Plan
from .program import Instruction, Value
from .shapes import ndarray
from .tables import Tabled

MOVES: dict[str, Callable] = {
    "join": moves.join, "pile": moves.pile, "write_slice": moves.write_slice,
    "pick": indexing.pick, "place": indexing.place,
    "in_zeros": moves.in_zeros, "picked_in_zeros": indexing.in_zeros, "combine_slices": indexing.put_slices,
    **{name: getattr(indexing, name) for name in ("take_slices", "put_slices", "slices_in_zeros")},
    **{name: getattr(elements, name) for name in (
        "gather", "scatter_in_zeros", "scatter_set", "scatter_sum", "scatter_prod", "scatter_max", "scatter_min")},
}  # fmt: skip
"""Operations that move elements and nothing else, with their planners."""

DRAWS = ("coins", "uniform01", "exponential01", "normal01")
"""Random operations that have a kernel."""


def dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides of C order."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def is_dense(value: Value, strides: tuple[int, ...]) -> bool:
    """Whether strides are those of C order, apart from dimensions of size 1."""
    own = dense(value.shape, value.dtype.itemsize)
    return all([a == b or n == 1 for a, b, n in zip(own, strides, value.shape, strict=True)])


def planned(row: Instruction, inputs: list[Array | None], numbers: int) -> Plan | None:
    """The plan of one instruction for inputs of these descriptions; None where no kernel serves it."""
    if isinstance(row.op.run, Fused):
        block = Array((numbers,), (8,), np.dtype(np.float64)) if numbers else None
        return row.op.run.plan([a for a in inputs if a is not None], block)
    if isinstance(row.op.run, (Ended, Tabled)):
        return row.op.run.plan(inputs)
    if row.runtime or any([v is not None and type(v) is not Value for v in row.args]):
        return None
    name = row.op.name
    if name in ("matmul", "mm", "bmm"):
        a, b = inputs
        return gemm.gemm_in_order(a, b) if a is not None and b is not None else None
    if name == "linear":
        x, weight, *bias = inputs
        if x is None or weight is None or len(weight.shape) != 2:
            return None
        return gemm.gemm_in_order(x, Array(weight.shape[::-1], weight.strides[::-1], weight.dtype), *bias)
    if name in MOVES:
        return MOVES[name](*inputs, **row.static) if len(inputs) == len(row.args) and None not in inputs else None
    kernel = row.op.kernel
    if kernel is None:
        return None
    first = inputs[kernel.by]
    if first is None or first.dtype.char not in "fd" or 0 in first.shape:
        return None
    return _planner(kernel.path)(*inputs, **row.static)


def indices_of(row: Instruction) -> list[tuple[int, int, int, int]]:
    """Which operands are indices: (position, lowest, the limit below which they lie, one that may occur all the same).

    The kernels of a row rely on that; empty where there is nothing to look at.
    """
    name, kernel = row.op.name, row.op.kernel
    if name in MOVES and len(row.args) > 1 and name not in ("join", "pile", "write_slice"):
        found = indexing.checked(name, [v.shape for v in row.operands], row.static)
        return [(*one, 0) for one in found]
    if kernel is None or kernel.indices is None:
        return []
    at, limit, other = kernel.indices(*row.args, **row.static)
    return [(at, 0, limit, other)]


def in_range(found: Sequence[tuple[int, int, int, int]], *given: ndarray, **settings: Any) -> bool:
    """True where indices among arguments are as a kernel needs them, else IndexError; ``found``: `indices_of`."""
    for at, low, limit, _ in found:
        wrong = next((v for v in (given[at].min(), given[at].max()) if not low <= v < limit), None)
        if wrong is not None:
            raise IndexError(f"index {wrong} is out of bounds for a dimension of size {limit}")
    return True


@functools.cache
def _planner(path):
    file, _, name = path.partition(":")
    return getattr(import_module(f"autograd_core.kernels.{file}"), name)


def fits(plan, row):
    """Whether a plan makes what an instruction makes."""
    if plan is None or len(plan.outputs) != len(row.outs):
        return False
    return all([spec is not None or out is None for spec, out in zip(plan.outputs, row.outs, strict=True)])


def copy_plan(source: Array, ordered: bool = False) -> Plan | None:
    """The plan that copies an array, into one of C order if ``ordered``, else into one without gaps."""
    loop = Loop("copy", ("x",), (source.dtype.name,), 0, (), (Output(0),))
    if source.dtype.name not in ("float32", "float64", "int64", "int32"):
        return None
    return plan_loop(source, loop=loop, ordered=ordered)


def strides_of(plan: Plan) -> tuple[int, ...] | None:
    """The strides of a plan's one output, where they are not those of C order."""
    (spec,) = plan.outputs
    return spec.strides if spec is not None else None


def zero_plan(shape: tuple[int, ...], dtype: np.dtype) -> Plan | None:
    """The plan that fills an array with zeros (its input is the array itself)."""
    loop = Loop("zero", ("x",), (dtype.name,), 0, (("full", ("0",), dtype.name),), (Output(1),))
    return plan_loop(Array(shape, dense(shape, dtype.itemsize), dtype), loop=loop)
