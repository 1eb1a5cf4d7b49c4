"""QR factorisation by Householder's reflections, in blocks of columns.

A block is copied out by columns and eliminated there, reflection by reflection; their product is I - V T V^T with a
triangular T (compact WY form). Panels of the other columns, units of work of their own, are copied side by side, and
take it as three products. Q is the product of all blocks with the identity, a panel of columns after the other. Signs
are LAPACK's: no diagonal element of R has the sign of what it replaces, unless nothing below it is to be eliminated.

Schreiber and Van Loan, "A storage-efficient WY representation for products of Householder transformations", 1989.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.factors import carriers
from autograd_core.kernels.laying import lay_call
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.triangular import CHUNK, served

BLOCK = 32
GROUP = 8  # columns whose products with a reflection are worked out at a time

(W, ALONG, ROWS, FIRST, WIDTH, V, LD, DEPTH, V_MATRIX, V_BLOCK, T, T_MATRIX, PANELS, HELD, PANEL_SIZE, Q, COLUMNS,
 BLOCKS) = range(18)  # fmt: skip


def reflector(dtype, lanes: int):
    """Device functions of one reflection: (beta, tau) of a column, which becomes v; the rest of the block reflected."""
    S, X = simd.scalar(dtype), simd.vector(dtype, lanes)
    products = simd.tile(X, 1, min(GROUP, lanes))
    group = min(GROUP, lanes)

    @simd.device
    def reflection(column, begin, end):
        """LAPACK's larfg of ``column[begin:end]``, whose first element is set to 1."""
        alpha, top, below = column[begin], simd.full(S(0), X), simd.full(S(0), X)
        for i in range(begin + 1, end, lanes):
            top = simd.maximum(top, simd.absolute(simd.load(column, i, X)))
        largest = simd.reduce_max(top)
        column[begin] = S(1)
        if largest == S(0):
            return alpha, S(0)
        largest = simd.maximum(largest, abs(alpha))  # in units of it nothing overflows
        for i in range(begin + 1, end, lanes):
            x = simd.load(column, i, X) / largest
            simd.store(column, i, x)
            below = simd.fma(x, x, below)
        first = alpha / largest
        beta = -simd.copysign(simd.sqrt(simd.reduce_add(below) + first * first), first)
        factor = simd.full(S(1) / (first - beta), X)
        for i in range(begin + 1, end, lanes):
            simd.store(column, i, simd.load(column, i, X) * factor)
        return beta * largest, (beta - first) / beta

    @simd.device
    def reflect_columns(v, ld, begin, end, first, last, tau):
        """(I - tau v v^T) times the columns from ``first`` to ``last``, where v is column ``first - 1``."""
        column = simd.advance(v, (first - 1) * ld + begin)
        for j in range(first, last, group):
            others = simd.advance(v, j * ld + begin)
            t = tiles.sums(tiles.add_dots(tiles.zeros(products), end - begin, column, ld, others, ld))
            amounts = tiles.scale(t, -tau)
            place = simd.advance(v, (last + group) * ld)
            tiles.store(amounts, place, 0)
            for c in range(min(group, last - j)):
                amount, other = simd.full(place[c], X), simd.advance(others, c * ld)
                for i in range(0, end - begin, lanes):
                    value = simd.fma(amount, simd.load(column, i, X), simd.load(other, i, X))
                    simd.store(other, i, value)

    return reflection, reflect_columns


def joiner(dots):
    """Device function that fills T of I - V T V^T, given what stands on its diagonal, the factors tau."""
    side = dots.vectors

    @simd.device
    def triangle(v, t, ld, depth, rows):
        grams = simd.advance(t, depth * depth)
        for j in range(0, depth, 4):
            for i in range(0, j + 4, side):
                x = tiles.zeros(dots)
                x = tiles.sums(tiles.add_dots(x, rows, simd.advance(v, j * ld), ld, simd.advance(v, i * ld), ld))
                tiles.store_part(x, simd.advance(grams, j * depth + i), depth, 4, side)
        for c in range(depth):
            column, tau = simd.advance(t, c * depth), t[c * depth + c]
            for k in range(c):
                amount = -tau * grams[c * depth + k]
                for i in range(k + 1):
                    column[i] += amount * t[k * depth + i]

    return triangle


@range_kernel
def factor_columns(dtype, lanes):
    """Eliminate a block of columns; a unit is a matrix.

    Context: matrices, distance and number of their rows, first column and width of the block, memory for V by columns,
    distance of those, their number (the width and some zeros), distance between the V of matrices and of blocks, memory
    for T by columns, its distance between matrices.
    """
    S, X = simd.scalar(dtype), simd.vector(dtype, lanes)
    take, _ = carriers(S, simd.tile(X, lanes, 1))
    triangle = joiner(simd.tile(X, 4, min(4, lanes)))
    reflection, reflect_columns = reflector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        first, width, ld, depth, along = w[FIRST], w[WIDTH], w[LD], w[DEPTH], w[ALONG]
        rows = w[ROWS] - first
        for matrix in range(start, stop):
            corner = simd.advance(simd.pointer(w[W], S), (matrix * w[ROWS] + first) * along + first)
            v = simd.advance(simd.pointer(w[V], S), matrix * w[V_MATRIX] + first // BLOCK * w[V_BLOCK])
            t = simd.advance(simd.pointer(w[T], S), matrix * w[T_MATRIX] + first // BLOCK * 2 * BLOCK * BLOCK)
            take(corner, along, v, ld, rows, width)
            for i in range(width * ld, depth * ld):
                v[i] = S(0)
            for i in range(depth * depth):
                t[i] = S(0)
            for c in range(width):
                beta, tau = reflection(simd.advance(v, c * ld), c, rows)
                t[c * depth + c] = tau
                corner[c * along + c] = beta
                reflect_columns(v, ld, c, rows, c + 1, width, tau)
            for c in range(width):
                for i in range(c):
                    corner[i * along + c] = v[c * ld + i]
                    v[c * ld + i] = S(0)
            triangle(v, t, ld, depth, rows)

    return kernel


def reflecting(Tile, width: int):
    """Device function that takes (I - V T V^T) times a panel of rows side by side, or the same with T transposed."""
    step = Tile.rows

    @simd.device
    def reflect(panel, y, rows, v, ld, depth, t, t_row, t_step):
        z = simd.advance(y, depth * width)
        for r in range(0, depth, step):
            x = tiles.add_products(tiles.zeros(Tile), rows, simd.advance(v, r * ld), ld, 1, panel, width)
            tiles.store(x, simd.advance(y, r * width), width)
        for r in range(0, depth, step):
            x = tiles.add_products(tiles.zeros(Tile), depth, simd.advance(t, r * t_row), t_row, t_step, y, width)
            tiles.store(tiles.scale(x, -1.0), simd.advance(z, r * width), width)
        for i in range(0, rows, step):
            place = simd.advance(panel, i * width)
            tiles.store(tiles.add_products(tiles.load(place, width, Tile), depth, simd.advance(v, i), 1, ld, z, width),
                        place, width)

    return reflect


@range_kernel
def reflect_rest(dtype, lanes, rows, vectors):
    """Take a block's reflections to the columns on its right; a unit is (matrix, panel of columns), the last fastest.

    Context: that of `factor_columns`, panels, memory for panels, elements of one.
    """
    S, X, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes
    reflect = reflecting(simd.tile(X, rows, vectors), width)

    def kernel(context, start, stop):
        w = simd.words(context)
        first, ld, depth, along = w[FIRST], w[LD], w[DEPTH], w[ALONG]
        count = w[ROWS] - first
        for unit in range(start, stop):
            matrix = unit // w[PANELS]
            j = first + w[WIDTH] + (unit - matrix * w[PANELS]) * width
            place = simd.advance(simd.pointer(w[W], S), (matrix * w[ROWS] + first) * along + j)
            v = simd.advance(simd.pointer(w[V], S), matrix * w[V_MATRIX] + first // BLOCK * w[V_BLOCK])
            t = simd.advance(simd.pointer(w[T], S), matrix * w[T_MATRIX] + first // BLOCK * 2 * BLOCK * BLOCK)
            panel = simd.advance(simd.pointer(w[HELD], S), unit * w[PANEL_SIZE])
            for i in range(count):
                for x in range(0, width, lanes):
                    simd.store(panel, i * width + x, simd.load(place, i * along + x, X))
            y = simd.advance(panel, w[PANEL_SIZE] - 2 * BLOCK * width)
            reflect(panel, y, count, v, ld, depth, t, depth, 1)
            for i in range(count):
                for x in range(0, width, lanes):
                    simd.store(place, i * along + x, simd.load(panel, i * width + x, X))

    return kernel


@range_kernel
def form(dtype, lanes, rows, vectors):
    """Columns of Q; a unit is (matrix, panel of columns), the last fastest.

    Context: that of `reflect_rest`, of the last block, with the panels of Q; the address of Q, its columns, the number
    of blocks, all but the last as wide as `BLOCK`.
    """
    S, X, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes
    reflect = reflecting(simd.tile(X, rows, vectors), width)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, columns, ld = w[ROWS], w[COLUMNS], w[LD]
        for unit in range(start, stop):
            matrix = unit // w[PANELS]
            j = (unit - matrix * w[PANELS]) * width
            panel = simd.advance(simd.pointer(w[HELD], S), unit * w[PANEL_SIZE])
            for i in range(0, n * width, lanes):
                simd.store(panel, i, simd.full(S(0), X))
            for c in range(min(width, columns - j)):
                panel[(j + c) * width + c] = S(1)
            y = simd.advance(panel, w[PANEL_SIZE] - 2 * BLOCK * width)
            for block in range(min(w[BLOCKS] - 1, (j + width - 1) // BLOCK), -1, -1):
                first, depth = block * BLOCK, w[DEPTH] if block == w[BLOCKS] - 1 else BLOCK
                v = simd.advance(simd.pointer(w[V], S), matrix * w[V_MATRIX] + block * w[V_BLOCK])
                t = simd.advance(simd.pointer(w[T], S), matrix * w[T_MATRIX] + block * 2 * BLOCK * BLOCK)
                reflect(simd.advance(panel, first * width), y, n - first, v, ld, depth, t, 1, depth)
            q = simd.advance(simd.pointer(w[Q], S), matrix * n * columns + j)
            for i in range(n):
                for x in range(0, width, lanes):
                    simd.store_part(q, i * columns + x, simd.load(panel, i * width + x, X), columns - j - x)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


class _Elimination:
    """The calls that eliminate below the diagonal of the first ``count`` columns of a matrix of ``n`` in scratch 0."""

    def __init__(self, batch: tuple[int, ...], m: int, n: int, count: int, dtype: np.dtype) -> None:
        self.matrices, self.m, self.count, self.dtype = math.prod(batch), m, count, dtype
        lanes = host.lanes(dtype)
        self.rows, self.vectors = 8 if host.registers() >= 32 else 4, 2
        self.width = self.vectors * lanes
        self.along = -(-n // self.width) * self.width + self.width  # no panel is cut
        self.blocks, self.ld = -(-count // BLOCK), -(-m // lanes) * lanes + 3 * lanes
        self.panel = (m + 2 * BLOCK + self.rows) * self.width
        v_block, panels = (BLOCK + GROUP + 1) * self.ld, 1
        self.calls: list[Call] = []
        self.context: tuple[int | Ref, ...] = ()
        for first in range(0, count, BLOCK):
            block = min(BLOCK, count - first)
            right = -(-(n - first - block) // self.width)
            self.context = (scratch(0), self.along, m, first, block, scratch(1), self.ld, -(-block // 8) * 8,
                            self.blocks * v_block, v_block, scratch(2), self.blocks * 2 * BLOCK * BLOCK)
            self.calls.append(Call(factor_columns(dtype, lanes), self.context, self.matrices,
                                   max(1, CHUNK // ((m - first + BLOCK) * (block + BLOCK) ** 2))))
            self.calls.append(Call(reflect_rest(dtype, lanes, self.rows, self.vectors),
                                   (*self.context, right, scratch(3), self.panel), self.matrices * right,
                                   max(1, CHUNK // (4 * (m - first) * block * self.width))))
            panels = max(panels, right)
        self.sizes = [m * self.along, self.blocks * v_block, self.blocks * 2 * BLOCK * BLOCK, panels * self.panel]

    def work(self, batch: tuple[int, ...], rows: int, columns: int, first: int = 0) -> tuple[Array, Ref]:
        """Part of the matrix that is worked on: rows, and columns from ``first`` on."""
        size = self.dtype.itemsize
        strides = [size * self.m * self.along * math.prod(batch[d + 1:]) for d in range(len(batch))]
        return (Array((*batch, rows, columns), (*strides, size * self.along, size), self.dtype),
                scratch(0, first * size))  # fmt: skip

    def form(self, columns: int, target: Ref) -> None:
        """Add the call that writes so many columns of Q."""
        panels = -(-columns // self.width)
        context = (*self.context, panels, scratch(3), self.panel, target, columns, self.blocks)
        grain = max(1, CHUNK // (2 * (self.m + GROUP) * (self.count + GROUP) * self.width))
        self.calls.append(Call(form(self.dtype, host.lanes(self.dtype), self.rows, self.vectors), context,
                               self.matrices * panels, grain))
        self.sizes[3] = max(self.sizes[3], panels * self.panel)

    def scratch(self) -> tuple[int, ...]:
        """Bytes of the pieces."""
        return tuple(size * self.matrices * self.dtype.itemsize for size in self.sizes)


def factor_orthogonal(A: Array, *, mode: str) -> Plan | None:
    """Plan (Q, R) with ``mode`` "reduced", "complete" or "r" (no Q)."""
    if not served(A) or 0 in A.shape:
        return None
    batch, (m, n), dtype = A.shape[:-2], A.shape[-2:], A.dtype
    count = min(m, n)
    rows = m if mode == "complete" else count
    qr = _Elimination(batch, m, n, count, dtype)
    calls = [lay_call(A, inp(0), scratch(0), qr.along), *qr.calls]
    if mode != "r":
        qr.calls.clear()
        qr.form(rows, out(0))
        calls += qr.calls
    r, at = qr.work(batch, rows, n)
    calls.append(lay_call(r, at, out(1), n, keep=2))
    q = None if mode == "r" else Spec((*batch, m, rows), dtype)
    return Plan((q, Spec((*batch, rows, n), dtype)), tuple(calls), qr.scratch())


def eliminate_beside(A: Array, B: Array) -> Plan | None:
    """Plan (R, Q^T B) of matrices with no fewer rows than columns, and right sides of the same batch; R is square."""
    if not served(A, B) or 0 in A.shape or 0 in B.shape or A.shape[:-2] != B.shape[:-2]:
        return None
    batch, (m, n), k, dtype = A.shape[:-2], A.shape[-2:], B.shape[-1], A.dtype
    qr = _Elimination(batch, m, n + k, n, dtype)
    r, at = qr.work(batch, n, n)
    y, beside = qr.work(batch, m, k, n)
    calls = (lay_call(A, inp(0), scratch(0), qr.along, distance=m * qr.along),
             lay_call(B, inp(1), scratch(0, n * dtype.itemsize), qr.along, distance=m * qr.along), *qr.calls,
             lay_call(r, at, out(0), n, keep=2), lay_call(y, beside, out(1), k))  # fmt: skip
    return Plan((Spec((*batch, n, n), dtype), Spec((*batch, m, k), dtype)), calls, qr.scratch())
