"""Copies of matrices as other kernels want them: rows side by side, transposed, one triangle with zeros elsewhere."""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Array, Call, Ref
from autograd_core.kernels.runner import range_kernel


def _placer(V, square):
    """Device function that copies up to ``lanes`` rows to rows ``along`` apart, from rows, columns or any order."""
    lanes = V.lanes

    @simd.device
    def copy(source, row, column, target, along, rows, columns):
        if column == 1:
            for i in range(rows):
                for j in range(0, columns, lanes):
                    value = simd.load_part(source, i * row + j, columns - j, V)
                    simd.store_part(target, i * along + j, value, columns - j)
        elif row == 1:
            for j in range(0, columns, lanes):
                place, here = simd.advance(target, j), simd.advance(source, j * column)
                if columns - j >= lanes:
                    t = tiles.transpose(tiles.load_part(here, column, rows, square))
                    tiles.store_part(t, place, along, rows, lanes)
                else:
                    for i in range(rows):
                        for r in range(columns - j):
                            place[i * along + r] = here[i + r * column]
        else:
            for i in range(rows):
                for j in range(columns):
                    target[i * along + j] = source[i * row + j * column]

    return copy


@range_kernel
def lay(dtype, lanes):
    """Copy matrices, or a triangle of each with zeros elsewhere; a unit is (matrix, ``lanes`` rows), the last fastest.

    Context: source, its row and column stride, target, its row stride and the distance of its matrices, rows, columns,
    what to keep (0 all, 1 the lower triangle, 2 the upper one), whether the diagonal becomes ones, batch dimensions,
    then length and stride of each.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    copy = _placer(V, simd.tile(V, lanes, 1))

    @simd.device
    def clear(target, begin, end):
        for j in range(begin, end, lanes):
            simd.store_part(target, j, simd.full(S(0), V), end - j)

    def kernel(context, start, stop):
        w = simd.words(context)
        row, column, along, rows, columns = w[1], w[2], w[4], w[6], w[7]
        parts = (rows + lanes - 1) // lanes
        for unit in range(start, stop):
            matrix = unit // parts
            first = (unit - matrix * parts) * lanes
            target = simd.advance(simd.pointer(w[3], S), matrix * w[5] + first * along)
            source = simd.advance(simd.pointer(w[0], S), first * row)
            for d in range(w[10] - 1, -1, -1):
                source = simd.advance(source, matrix % w[11 + 2 * d] * w[12 + 2 * d])
                matrix //= w[11 + 2 * d]
            count = min(lanes, rows - first)
            copy(source, row, column, target, along, count, columns)
            for i in range(count):
                here, diagonal = simd.advance(target, i * along), first + i
                if w[8] == 1:
                    clear(here, diagonal + 1, columns)
                elif w[8] == 2:
                    clear(here, 0, min(diagonal, columns))
                if w[9] != 0 and diagonal < columns:
                    here[diagonal] = S(1)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


def elements(x: Array) -> tuple[int, ...] | None:
    """The strides of ``x`` in elements; None where they are not whole."""
    size = x.dtype.itemsize
    return None if any(s % size for s in x.strides) else tuple(s // size for s in x.strides)


def lay_call(source: Array, at: Ref, target: Ref, along: int, *, turned: bool = False, keep: int = 0,
             ones: bool = False, distance: int = 0, columns: int = 0) -> Call:
    """The call of `lay` for a batch; ``turned`` reads the source transposed, ``columns`` only so many."""
    strides, lanes = elements(source) or (), host.lanes(source.dtype)
    order = slice(None, None, -1) if turned else slice(None)
    rows, width = source.shape[-2:][order]
    width = columns or width
    batch = [word for length, stride in zip(source.shape[:-2], strides, strict=False) for word in (length, stride)]
    units = math.prod(source.shape[:-2]) * -(-rows // lanes)
    context: tuple[int | Ref, ...] = (at, *strides[-2:][order], target, along, distance or rows * along, rows, width,
                                      keep, int(ones), len(batch) // 2, *batch)
    return Call(lay(source.dtype, lanes), context, units, max(1, 64 * 1024 // (lanes * max(width, 1))))


def dense(batch: tuple[int, ...], rows: int, columns: int, along: int, dtype: np.dtype) -> Array:
    """Matrices in memory of our own whose rows are ``along`` apart."""
    size = dtype.itemsize
    strides = [size * rows * along * math.prod(batch[d + 1:]) for d in range(len(batch))]
    return Array((*batch, rows, columns), (*strides, size * along, size), dtype)
