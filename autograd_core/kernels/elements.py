"""Single elements picked along a dimension by an array of indices (gather), and put back there (scatter).

The dimension, its indices and what lies beside them are walked line by line: a line runs along the last dimension, or
the longest one where that is short.
Indices are not negative; that they lie in range is looked at before.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels.elementwise import collapsed
from autograd_core.kernels.indexing import GRAIN, combiner, element
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.moves import SHORT, copying, dense
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out
from autograd_core.kernels.runner import range_kernel

HEAD = 13  # words before those of the outer dimensions: length, strides of (whole, index, part)


def _line():
    """Device function: where unit number ``outer`` begins in the whole, the index and the part."""

    def line(w, outer):
        whole = index = part = 0
        for d in range(w[12] - 1, -1, -1):
            at = HEAD + 4 * d
            following = outer // w[at]
            i = outer - following * w[at]
            outer = following
            whole += i * w[at + 1]
            index += i * w[at + 2]
            part += i * w[at + 3]
        return whole, index, part

    return simd.device(line)


@range_kernel
def take_each(itemsize):
    """Copy elements of the whole to the part; a unit is a line.

    Context: whole, index, part, lines of a unit, elements of a line, elements of a run, stride of the dimension in the
    whole, strides of a line's elements (whole, index, part), strides of lines (index, part), outer dimensions.
    """
    S, line = simd.scalar(np.dtype(f"u{itemsize}")), _line()

    def kernel(context, start, stop):
        w = simd.words(context)
        count, step, x_step, i_step, o_step = w[4], w[6], w[7], w[8], w[9]
        for unit in range(start, stop):
            whole, index, part = line(w, unit)
            x, target = simd.advance(simd.pointer(w[0], S), whole), simd.advance(simd.pointer(w[2], S), part)
            rows = simd.words(w[1] + 8 * index)
            for i in range(count):
                target[i * o_step] = x[rows[i * i_step] * step + i * x_step]

    return kernel


@range_kernel
def put_each(dtype, how):
    """Put elements of the part into the whole; a unit is (outer, run of all its lines). Context: as of `take_each`.

    No two units meet, and each goes through its lines in order.
    """
    S, line, combine = simd.scalar(dtype), _line(), combiner(how)

    def kernel(context, start, stop):
        w = simd.words(context)
        count, run, step, x_step, i_step, o_step = w[4], w[5], w[6], w[7], w[8], w[9]
        runs = (count + run - 1) // run
        for unit in range(start, stop):
            outer = unit // runs
            first = (unit - outer * runs) * run
            last = min(first + run, count)
            whole, index, part = line(w, outer)
            x, source = simd.advance(simd.pointer(w[0], S), whole), simd.advance(simd.pointer(w[2], S), part)
            rows = simd.words(w[1] + 8 * index)
            for _ in range(w[3]):
                for i in range(first, last):
                    at = rows[i * i_step] * step + i * x_step
                    x[at] = combine(x[at], source[i * o_step])
                rows, source = simd.advance(rows, w[10]), simd.advance(source, w[11])

    return kernel


# ------------------------------------------------------------------------------------------------------------- planning


def _steps(a: Array) -> list[int] | None:
    """Strides in elements; None where they are none."""
    size = a.dtype.itemsize
    return None if any([s % size for s in a.strides]) else [s // size for s in a.strides]


def _walk(whole: list[int], index: Array, part: list[int], dim: int, lines: bool) -> tuple[int, tuple] | None:
    """(outers, words of a context behind its addresses); None where that is not served.

    ``whole`` and ``part``: their strides. With ``lines`` a unit is all lines of an outer, else one line is.
    """
    given, last = _steps(index), len(whole) - 1
    if given is None or index.dtype != np.int64 or len(index.shape) != len(whole) or not whole or 0 in index.shape:
        return None
    dim %= len(whole)
    step, whole = whole[dim], [0 if d == dim else s for d, s in enumerate(whole)]
    if index.shape[last] < SHORT:
        last = max(range(len(whole)), key=lambda d: index.shape[d])
    inside = {last, dim} if lines else {last}
    outer = [d for d in range(len(whole)) if d not in inside]
    sizes, steps = collapsed([index.shape[d] for d in outer], [[s[d] for d in outer] for s in (whole, given, part)], -1)
    rows = (index.shape[dim], given[dim], part[dim]) if lines and dim != last else (1, 0, 0)
    count = index.shape[last]
    run = count if dim == last else min(count, max(64, GRAIN // rows[0]))
    words = (rows[0], count, run, step, whole[last], given[last], part[last], *rows[1:], len(sizes))
    return math.prod(sizes), (*words, *[x for each in zip(sizes, *steps, strict=True) for x in each])


def gather(x: Array, index: Array, *, dim: int, sparse_grad: bool = False) -> Plan | None:
    """Plan ``ops.gather`` by int64 indices."""
    kind, whole = element("set", x.dtype), _steps(x)
    walk = None if kind is None or whole is None else _walk(whole, index, list(dense(index.shape, 1)), dim, False)
    if kind is None or walk is None:
        return None
    outers, words = walk
    call = Call(take_each(kind.itemsize), (inp(0), inp(1), out(0), *words), outers, max(1, GRAIN // words[1]))
    return Plan((Spec(index.shape, x.dtype),), (call,))


def _putting(shape: tuple[int, ...], index: Array, source: Array, refs: tuple[Ref, Ref], dim: int,
             how: str) -> Call | None:  # fmt: skip
    """The call that puts ``source`` into the output; ``refs`` of the indices and of the source."""
    kind, part = element(how, source.dtype), _steps(source)
    if source.shape == ():
        part = [0] * len(index.shape)
    elif source.shape != index.shape:
        return None
    walk = None if kind is None or part is None else _walk(list(dense(shape, 1)), index, part, dim, True)
    if kind is None or walk is None:
        return None
    outers, words = walk
    runs, work = -(-words[1] // words[2]), words[0] * words[2]
    return Call(put_each(kind, how), (out(0), *refs, *words), outers * runs, max(1, GRAIN // work))


def scatter_in_zeros(g: Array, index: Array, *, shape: tuple[int, ...], dim: int) -> Plan | None:
    """Plan ``ops.scatter_in_zeros``: zeros with elements added where :func:`gather` would take them from."""
    call = None if 0 in shape else _putting(tuple(shape), index, g, (inp(1), inp(0)), dim, "add")
    return None if call is None else Plan((Spec(tuple(shape), g.dtype),), (call,), (), (0,))


def _scatter(how: str, x: Array, index: Array, source: Array, dim: int) -> Plan | None:
    if source.dtype != x.dtype or 0 in x.shape:
        return None
    calls = (copying(inp(0), x, out(0), dense(x.shape, x.dtype.itemsize)),
             _putting(x.shape, index, source, (inp(1), inp(2)), dim, how))  # fmt: skip
    return None if None in calls else Plan((Spec(x.shape, x.dtype),), calls)  # type: ignore[arg-type]


def scatter_set(x: Array, index: Array, source: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.scatter_set``: a copy of ``x`` with elements put where :func:`gather` would take them from."""
    return _scatter("set", x, index, source, dim)


def scatter_sum(x: Array, index: Array, source: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.scatter_sum``; see :func:`scatter_set`."""
    return _scatter("add", x, index, source, dim)


def scatter_prod(x: Array, index: Array, source: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.scatter_prod``; see :func:`scatter_set`."""
    return _scatter("multiply", x, index, source, dim)


def scatter_max(x: Array, index: Array, source: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.scatter_max``; see :func:`scatter_set`."""
    return _scatter("maximum", x, index, source, dim)


def scatter_min(x: Array, index: Array, source: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.scatter_min``; see :func:`scatter_set`."""
    return _scatter("minimum", x, index, source, dim)
