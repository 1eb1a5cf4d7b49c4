"""Binary search in sorted lines: a vector of values at once, without branches that depend on them."""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import served

GRAIN = 8192  # values of a chunk


@range_kernel
def search_lines(dtype, lanes, right):
    """How many elements of a line stand before each value (or are equal to it, if ``right``); NaN stands behind all.

    A unit is a value. Context: lines, values, out, elements of a line, values of a line.
    """
    S, V, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.vector(np.int64, lanes)
    behind = simd.device(lambda edge, v: edge > v) if right else simd.device(lambda edge, v: edge >= v)

    def kernel(context, start, stop):
        w = simd.words(context)
        size = w[3]
        values, found = simd.pointer(w[1], S), simd.words(w[2])
        at = start
        while at < stop:
            line_number = at // w[4]
            line = simd.advance(simd.pointer(w[0], S), line_number * size)
            end = min(stop, (line_number + 1) * w[4])
            for i in range(at, end, lanes):
                v = simd.load_part(values, i, end - i, V)
                first, left = simd.full(0, W), size
                while left > 1:
                    half = left // 2
                    edge = simd.gather(line, first + (half - 1), V)
                    first = simd.where(behind(edge, v), first, first + half)
                    left -= half
                first = simd.where(behind(simd.gather(line, first, V), v), first, first + 1)
                simd.store_part(found, i, first, end - i)
            at = end

    return kernel


def _plan(lines: Array, values: Array, swapped: bool, per_line: int, right: bool, out_int32: bool) -> Plan | None:
    if out_int32 or not served(lines, values) or 0 in lines.shape or 0 in values.shape or not values.shape:
        return None
    kernel = search_lines(lines.dtype, host.lanes(lines.dtype), right)
    context = (inp(int(swapped)), inp(int(not swapped)), out(0), lines.shape[-1], per_line)
    return Plan((Spec(values.shape, np.int64),), (Call(kernel, context, math.prod(values.shape), GRAIN),))


def bucketize(x: Array, boundaries: Array, *, out_int32: bool, right: bool) -> Plan | None:
    """Plan the number of sorted ``boundaries`` below each element (or equal to it, if ``right``)."""
    return _plan(boundaries, x, True, math.prod(x.shape), right, out_int32) if len(boundaries.shape) == 1 else None


def searchsorted(lines: Array, values: Array, sorter: Array | None, *, out_int32: bool, right: bool,
                 side: str | None) -> Plan | None:  # fmt: skip
    """Plan where each value belongs in sorted lines, of which there is one, or one for each line of values."""
    if sorter is not None or not (len(lines.shape) == 1 or lines.shape[:-1] == values.shape[:-1]):
        return None
    per_line = math.prod(values.shape) if len(lines.shape) == 1 else values.shape[-1]
    return _plan(lines, values, False, per_line, right, out_int32)
