"""Rows of a table picked by index, and their gradient: rows added up where they came from.

The gradient is cut by columns, not by rows: each unit adds its columns of all rows in the order of the indices, so no
two threads meet and the order is always the same.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import served

GRAIN = 16384  # elements of a chunk


@range_kernel
def gather(dtype, lanes):
    """Copy rows of a table; zeros for a row that does not exist. Context: indices, table, out, rows, width."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        width = w[4]
        for unit in range(start, stop):
            row = simd.words(w[0])[unit]
            source, target = simd.pointer(w[1], S), simd.advance(simd.pointer(w[2], S), unit * width)
            whole = width // lanes * lanes
            if row >= 0 and row < w[3]:
                source = simd.advance(source, row * width)
                for i in range(0, whole, lanes):
                    simd.store(target, i, simd.load(source, i, V))
                if whole == 0:
                    simd.store_part(target, 0, simd.load_part(source, 0, width, V), width)
                elif whole < width:  # the last vector overlaps the one before: quicker than a part of one
                    simd.store(target, width - lanes, simd.load(source, width - lanes, V))
            else:
                for i in range(width):
                    target[i] = S(0)

    return kernel


@range_kernel
def scatter(dtype, lanes):
    """Add rows up where their indices say; a unit is a vector of columns.

    Context: indices, g, out (zeros), rows, width, lines of indices, index to leave out, length of a line, strides
    of a line and of a row of g.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        indices, g, target, width = simd.words(w[0]), simd.pointer(w[1], S), simd.pointer(w[2], S), w[4]
        whole, last = min(stop * lanes, width // lanes * lanes), min(stop * lanes, width)
        for number in range(w[5]):
            line = simd.advance(g, number * w[8])
            for k in range(w[7]):
                row = indices[number * w[7] + k]
                if row >= 0 and row < w[3] and row != w[6]:
                    source, place = simd.advance(line, k * w[9]), simd.advance(target, row * width)
                    for j in range(start * lanes, whole, lanes):
                        simd.store(place, j, simd.load(place, j, V) + simd.load(source, j, V))
                    if whole < last:
                        sum_ = simd.load_part(place, whole, last - whole, V)
                        sum_ += simd.load_part(source, whole, last - whole, V)
                        simd.store_part(place, whole, sum_, last - whole)

    return kernel


def lookup(indices: Array, table: Array, *, padding_idx: int, scale_grad_by_freq: bool) -> Plan | None:
    """Plan table[indices] for int64 indices and a C-ordered table (rows, width)."""
    if indices.dtype != np.int64 or not is_c_ordered(indices) or not served(table) or 0 in (*indices.shape,
                                                                                           *table.shape):
        return None
    rows, width = table.shape
    context = (inp(0), inp(1), out(0), rows, width)
    return Plan((Spec((*indices.shape, width), table.dtype),),
                (Call(gather(table.dtype, host.lanes(table.dtype)), context, math.prod(indices.shape),
                      max(1, GRAIN // width)),))


def _rows(g: Array) -> tuple[int, int, int] | None:
    """(Rows of a line, strides of a line and of a row in elements); None where the rows lie in more dimensions."""
    if served(g):
        return math.prod(g.shape[:-1]), 0, g.shape[-1]
    size = g.dtype.itemsize
    if len(g.shape) != 3 or g.dtype.char not in "fd" or not g.dtype.isnative or any(s % size for s in g.strides):
        return None
    if g.strides[-1] != size and g.shape[-1] > 1:
        return None
    return g.shape[1], g.strides[0] // size, g.strides[1] // size


def embedding_backward(g: Array, indices: Array, *, rows: int, padding_idx: int,
                       scale_grad_by_freq: bool) -> Plan | None:
    """Plan the gradient of :func:`lookup` in the table, for g (..., width) and C-ordered int64 indices.

    Rows of g are contiguous and lie in any two dimensions, as where time and batch were exchanged.
    """
    if scale_grad_by_freq or indices.dtype != np.int64 or not is_c_ordered(indices) or 0 in g.shape or not rows:
        return None
    placed = _rows(g)
    if placed is None:
        return None
    width, lanes = g.shape[-1], host.lanes(g.dtype)
    vectors = -(-width // lanes)
    context = (inp(1), inp(0), out(0), rows, width, math.prod(indices.shape) // placed[0], padding_idx, *placed)
    call = Call(scatter(g.dtype, lanes), context, vectors, max(-(-vectors // 8), 2))
    return Plan((Spec((rows, width), g.dtype),), (call,), (), (0,))
