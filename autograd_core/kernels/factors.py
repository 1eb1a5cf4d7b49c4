"""LU factorisation with partial pivoting, in blocks of columns.

A block of columns is copied out transposed, so that the search for pivots and the elimination run along vectors, and
factored there, a few columns at a time. Then every panel of the other columns, a unit of work of its own, exchanges its
rows, solves the block's unit triangle and takes the product off the rows below. Pivots are LAPACK's: of the elements
of largest absolute value the first.

Golub and Van Loan, "Matrix Computations", 4th edition, 3.4; Dongarra et al., LAPACK's getrf.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.laying import lay_call
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.triangular import CHUNK, follower, served, sweeper

INNER = 8  # columns of a block that are eliminated one by one before the rest of the block is told
BLOCK = 32
SHORT = 8  # rows and columns up to which a matrix is worked on in one lane of vectors
FIXED = 32  # rows and columns that would cost about as much as what every matrix costs beside its own


@range_kernel
def order_rows():
    """The order of rows that exchanges lead to; a unit is a matrix.

    Context: pivots, orders (int64), number of pivots and rows of a matrix.
    """
    index, follow = simd.scalar(np.int32), follower()

    def kernel(context, start, stop):
        w = simd.words(context)
        for matrix in range(start, stop):
            pivots = simd.advance(simd.pointer(w[0], index), matrix * w[2])
            follow(pivots, simd.advance(simd.words(w[1]), matrix * w[3]), w[2], w[3])

    return kernel


(W, ROWS, COLUMNS, FIRST, WIDTH, P, LD, P_MATRIX, PIVOTS, COUNT, LEFT, RIGHT, HELD) = range(13)


def _eliminate(dtype, lanes: int):
    """Device functions of a block laid out by columns: where the pivot is, exchange, division by it, subtraction."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    places = simd.vector(np.int32, lanes)
    least, infinite = float(np.finfo(dtype).tiny), 1 << 30

    @simd.device
    def largest(column, begin, end):
        """The first place of the largest absolute value; ``begin`` where all are NaN."""
        best, at = simd.full(S(-1), V), simd.full(begin, places)
        here = simd.iota(places) + begin
        for i in range(begin, end, lanes):
            value = simd.absolute(simd.load_part(column, i, end - i, V))
            better = (value > best) & (here < end)
            best, at = simd.where(better, value, best), simd.where(better, here, at)
            here = here + lanes
        top = simd.full(simd.reduce_max(best), V)
        return simd.reduce_min(simd.where(best == top, at, infinite))

    @simd.device
    def exchange(p, ld, count, i, j):
        for c in range(count):
            column = simd.advance(p, c * ld)
            column[i], column[j] = column[j], column[i]

    @simd.device
    def scale(column, begin, end):
        """Divide what lies below the pivot by it."""
        pivot = column[begin - 1]
        if pivot != S(0):
            if abs(pivot) >= least:
                factor = simd.full(S(1) / pivot, V)
                for i in range(begin, end, lanes):
                    simd.store(column, i, simd.load(column, i, V) * factor)
            else:
                for i in range(begin, end, lanes):
                    simd.store(column, i, simd.load(column, i, V) / pivot)

    @simd.device
    def subtract(column, other, factor, begin, end):
        amount = simd.full(-factor, V)
        for i in range(begin, end, lanes):
            simd.store(column, i, simd.fma(amount, simd.load(other, i, V), simd.load(column, i, V)))

    return largest, exchange, scale, subtract


def carriers(S, square):
    """Device functions that copy a block out by columns, with zeros up to ``ld``, and back."""
    lanes = square.vector.lanes

    @simd.device
    def take(source, n, p, ld, rows, width):
        whole = rows // lanes * lanes
        for c in range(0, width, lanes):
            for i in range(0, whole, lanes):
                t = tiles.load_part(simd.advance(source, i * n + c), n, width - c, square)
                tiles.store(tiles.transpose(t), simd.advance(p, c * ld + i), ld)
        for c in range(width):
            for i in range(whole, rows):
                p[c * ld + i] = source[i * n + c]
            for i in range(rows, ld):
                p[c * ld + i] = S(0)

    @simd.device
    def give(p, ld, target, n, rows, width):
        whole = rows // lanes * lanes
        for c in range(0, width, lanes):
            for i in range(0, whole, lanes):
                t = tiles.transpose(tiles.load(simd.advance(p, c * ld + i), ld, square))
                tiles.store_part(t, simd.advance(target, i * n + c), n, lanes, width - c)
        for i in range(whole, rows):
            for c in range(width):
                target[i * n + c] = p[c * ld + i]

    return take, give


def _spreader(T, subtract):
    """Device function that tells the rest of a block what a few columns of it, factored by now, have to say."""
    lanes = T.vector.lanes

    @simd.device
    def spread(p, ld, negative, begin, end, rows, width):
        """Tell the columns from ``end`` on of the elimination of those from ``begin`` to ``end``."""
        for j in range(end, width):
            column, minus = simd.advance(p, j * ld), simd.advance(negative, (j - end) * INNER)
            for s in range(begin, end):
                for r in range(s + 1, end):
                    column[r] -= column[s] * p[s * ld + r]
                minus[s - begin] = -column[s]
        depth, whole = end - begin, end + (width - end) // INNER * INNER
        for i in range(end, rows, 2 * lanes):
            known = simd.advance(p, begin * ld + i)
            for j in range(end, whole, INNER):
                place, factors = simd.advance(p, j * ld + i), simd.advance(negative, (j - end) * INNER)
                t = tiles.add_products(tiles.load(place, ld, T), depth, factors, INNER, 1, known, ld)
                tiles.store(t, place, ld)
        for j in range(whole, width):
            minus = simd.advance(negative, (j - end) * INNER)
            for s in range(begin, end):
                subtract(simd.advance(p, j * ld), simd.advance(p, s * ld), -minus[s - begin], end, rows)

    return spread


def _in_lanes(V):
    """Device functions on matrices in lanes: where the pivots of a column are, exchange of rows in chosen lanes."""
    lanes, index = V.lanes, simd.scalar(np.int32)
    places = simd.vector(np.int32, lanes)

    @simd.device
    def pivot(held, n, c, m):
        """In each lane the first row from c on with the largest absolute value in column c."""
        best, at = simd.absolute(simd.load(held, (c * n + c) * lanes, V)), simd.full(index(c), places)
        best = simd.where(best == best, best, -1)
        for i in range(c + 1, m):
            value = simd.absolute(simd.load(held, (i * n + c) * lanes, V))
            better = value > best
            best, at = simd.where(better, value, best), simd.where(better, index(i), at)
        return at

    @simd.device
    def exchange(held, n, c, i, chosen):
        for j in range(n):
            upper, lower = (c * n + j) * lanes, (i * n + j) * lanes
            x, y = simd.load(held, upper, V), simd.load(held, lower, V)
            simd.store(held, upper, simd.where(chosen, y, x))
            simd.store(held, lower, simd.where(chosen, x, y))

    return pivot, exchange


@range_kernel
def factor_small(dtype, lanes):
    """Factor small matrices in place, each in a lane of its own; a unit is as many matrices as a vector has lanes.

    Context: matrices in C order, their rows, columns, number, pivots, memory for the elements of a unit.
    """
    V, S, index = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.int32)
    places, (pivot, exchange) = simd.vector(np.int32, lanes), _in_lanes(V)

    def kernel(context, start, stop):
        w = simd.words(context)
        m, n, size, count = w[1], w[2], w[1] * w[2], min(w[1], w[2])
        for unit in range(start, stop):
            first = unit * lanes
            live = min(lanes, w[3] - first)
            matrices = simd.advance(simd.pointer(w[0], S), first * size)
            pivots = simd.advance(simd.pointer(w[4], index), first * count)
            held = simd.advance(simd.pointer(w[5], S), unit * size * lanes)
            begins = simd.minimum(simd.iota(places), index(live - 1)) * index(size)
            for e in range(size):
                simd.store(held, e * lanes, simd.gather(simd.advance(matrices, e), begins, V))
            for c in range(count):
                at = pivot(held, n, c, m)
                for k in range(live):
                    pivots[k * count + c] = simd.lane(at, k) + index(1)
                for i in range(c + 1, m):
                    if simd.any_lane(at == index(i)):
                        exchange(held, n, c, i, at == index(i))
                top = simd.load(held, (c * n + c) * lanes, V)
                top = simd.where(top == 0, 1, top)
                for i in range(c + 1, m):
                    factor = simd.load(held, (i * n + c) * lanes, V) / top
                    simd.store(held, (i * n + c) * lanes, factor)
                    for j in range(c + 1, n):
                        known, place = simd.load(held, (c * n + j) * lanes, V), (i * n + j) * lanes
                        simd.store(held, place, simd.fma(-factor, known, simd.load(held, place, V)))
            for k in range(live):
                for e in range(size):
                    matrices[k * size + e] = held[e * lanes + k]

    return kernel


@range_kernel
def factor_block(dtype, lanes):
    """Factor a block of columns from its diagonal down; a unit is a matrix.

    Context: matrices in C order, their rows, columns, first column and width of the block, memory for the block by
    columns, distance of those, of matrices' blocks, pivots, their number.
    """
    V, S, index = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.int32)
    largest, exchange, scale, subtract = _eliminate(dtype, lanes)
    take, give = carriers(S, simd.tile(V, lanes, 1))
    spread = _spreader(simd.tile(V, INNER, 2), subtract)

    def kernel(context, start, stop):
        w = simd.words(context)
        m, n, first, width, ld = w[ROWS], w[COLUMNS], w[FIRST], w[WIDTH], w[LD]
        rows = m - first
        for matrix in range(start, stop):
            corner = simd.advance(simd.pointer(w[W], S), matrix * m * n + first * n + first)
            p = simd.advance(simd.pointer(w[P], S), matrix * w[P_MATRIX])
            negative = simd.advance(p, w[P_MATRIX] - width * INNER)
            pivots = simd.advance(simd.pointer(w[PIVOTS], index), matrix * w[COUNT] + first)
            take(corner, n, p, ld, rows, width)
            for begin in range(0, width, INNER):
                end = min(begin + INNER, width)
                for c in range(begin, end):
                    column = simd.advance(p, c * ld)
                    pivot = largest(column, c, rows)
                    pivots[c] = first + pivot + 1
                    if pivot != c:
                        exchange(p, ld, width, c, pivot)
                    scale(column, c + 1, rows)
                    for j in range(c + 1, end):
                        other = simd.advance(p, j * ld)
                        subtract(other, column, other[c], c + 1, rows)
                if end < width:
                    spread(p, ld, negative, begin, end, rows, width)
            give(p, ld, corner, n, rows, width)

    return kernel


def _exchanger(V, width: int):
    """Device function that exchanges the rows of ``count`` columns as the pivots of a block say."""
    lanes, wide = V.lanes, simd.scalar(np.int64)

    @simd.device
    def exchange(corner, n, pivots, first, depth, count):
        for c in range(depth):
            other = wide(pivots[c]) - 1 - first
            if other != c:
                for v in range(0, min(count, width), lanes):
                    x = simd.load_part(corner, c * n + v, count - v, V)
                    y = simd.load_part(corner, other * n + v, count - v, V)
                    simd.store_part(corner, c * n + v, y, count - v)
                    simd.store_part(corner, other * n + v, x, count - v)

    return exchange


def _remover(T, single, width: int):
    """Device function that takes the product of a block's rows from ``begin`` on with ``held`` off a panel's."""
    rows = T.rows

    @simd.device
    def take_off(corner, n, p, ld, held, begin, end, depth, count):
        edge = end - (end - begin) % rows
        for i in range(begin, edge, rows):
            place, left = simd.advance(corner, i * n), simd.advance(p, i)
            if count >= width:
                t = tiles.add_products(tiles.load(place, n, T), depth, left, 1, ld, held, width)
                tiles.store(t, place, n)
            else:
                t = tiles.add_products(tiles.load_part(place, n, count, T), depth, left, 1, ld, held, width)
                tiles.store_part(t, place, n, rows, count)
        for i in range(edge, end):
            place = simd.advance(corner, i * n)
            t, left = tiles.load_part(place, n, count, single), simd.advance(p, i)
            tiles.store_part(tiles.add_products(t, depth, left, 1, ld, held, width), place, n, 1, count)

    return take_off


@range_kernel
def apply_block(dtype, lanes, rows, vectors):
    """Tell the other columns of a factored block; a unit is (matrix, panel of columns), those on the left first.

    Context: that of `factor_block`, panels on the left (whose rows are exchanged and no more) and on the right, memory
    for the rows of the block of each panel.
    """
    V, S, index = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.int32)
    T, single, width = simd.tile(V, rows, vectors), simd.tile(V, 1, vectors), vectors * lanes
    sweep, exchange, take_off = sweeper(S, T, single, width), _exchanger(V, width), _remover(T, single, width)

    def kernel(context, start, stop):
        w = simd.words(context)
        m, n, first, depth, ld = w[ROWS], w[COLUMNS], w[FIRST], w[WIDTH], w[LD]
        panels = w[LEFT] + w[RIGHT]
        for unit in range(start, stop):
            matrix = unit // panels
            panel = unit - matrix * panels
            j = panel * width
            if panel >= w[LEFT]:
                j = first + depth + (panel - w[LEFT]) * width
            corner = simd.advance(simd.pointer(w[W], S), matrix * m * n + first * n + j)
            pivots = simd.advance(simd.pointer(w[PIVOTS], index), matrix * w[COUNT] + first)
            exchange(corner, n, pivots, first, depth, n - j)
            if panel >= w[LEFT]:
                p = simd.advance(simd.pointer(w[P], S), matrix * w[P_MATRIX])
                held = simd.advance(simd.pointer(w[HELD], S), (matrix * w[RIGHT] + panel - w[LEFT]) * depth * width)
                for i in range(depth):
                    for v in range(0, width, lanes):
                        simd.store(held, i * width + v, simd.load_part(corner, i * n + v, n - j - v, V))
                sweep(held, p, 1, ld, depth, 0, 0, 1)
                for i in range(depth):
                    for v in range(0, width, lanes):
                        value = simd.load(held, i * width + v, V)
                        simd.store_part(corner, i * n + v, value, n - j - v)
                        simd.store(held, i * width + v, -value)
                take_off(corner, n, p, ld, held, depth, m - first, depth, n - j)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


def blocks(count: int, width: int) -> list[tuple[int, int]]:
    """(first column, width) of the blocks; they are wider in large matrices, whose rest would be read too often."""
    block = BLOCK * (1 if count < 768 else 2 if count < 2048 else 4)
    block = -(-block // width) * width
    return [(k, min(block, count - k)) for k in range(0, count, block)]


def factor(A: Array) -> Plan | None:
    """Plan (LU, pivots) of matrices: both factors in one, and LAPACK's exchanges of rows, counted from 1."""
    if not served(A):
        return None
    dtype, (m, n), matrices, lanes = A.dtype, A.shape[-2:], math.prod(A.shape[:-2]), host.lanes(A.dtype)
    count = min(m, n)
    outputs = Spec(A.shape, dtype), Spec((*A.shape[:-2], count), np.int32)
    if 0 in A.shape:
        return Plan(outputs, ())
    if max(m, n) <= SHORT:
        units = -(-matrices // lanes)
        call = Call(factor_small(dtype, lanes), (out(0), m, n, matrices, out(1), scratch(0)), units, 16)
        return Plan(outputs, (lay_call(A, inp(0), out(0), n), call), (units * lanes * m * n * dtype.itemsize,))
    rows, vectors = 8 if host.registers() >= 32 else 4, 2
    width, calls, memory, panels = vectors * lanes, [lay_call(A, inp(0), out(0), n)], 0, 0
    for first, block in blocks(count, width):
        ld = -(-(m - first) // lanes) * lanes + (3 if block > INNER else 1) * lanes  # tiles are two vectors long
        size = -(-block // lanes) * lanes * ld + block * INNER
        left, right = -(-first // width), -(-(n - first - block) // width)
        context: tuple[int | Ref, ...] = (out(0), m, n, first, block, scratch(0), ld, size, out(1), count, left, right,
                                          scratch(1))
        memory, panels = max(memory, size), max(panels, right * block * width)
        grain = max(1, CHUNK // ((m - first + FIXED) * block * (block + FIXED)))
        calls.append(Call(factor_block(dtype, lanes), context, matrices, grain))
        grain = max(1, CHUNK // 4 // ((m - first) * block * width))
        calls.append(Call(apply_block(dtype, lanes, rows, vectors), context, matrices * (left + right), grain))
    size = matrices * dtype.itemsize
    return Plan(outputs, tuple(calls), (memory * size, panels * size))


def unpack(LU: Array) -> Plan | None:
    """Plan (L, U) of a packed factorisation: the lower triangle with ones on its diagonal, and the upper one."""
    if not served(LU):
        return None
    m, n = LU.shape[-2:]
    count = min(m, n)
    outputs = Spec((*LU.shape[:-1], count), LU.dtype), Spec((*LU.shape[:-2], count, n), LU.dtype)
    if 0 in LU.shape:
        return Plan(outputs, ())
    top = LU._replace(shape=outputs[1].shape)
    return Plan(outputs, (lay_call(LU, inp(0), out(0), count, keep=1, ones=True, columns=count),
                          lay_call(top, inp(0), out(1), n, keep=2)))  # fmt: skip


def order(pivots: Array, *, rows: int) -> Plan | None:
    """Plan the order of ``rows`` rows that LAPACK's exchanges (int32, counted from 1) lead to."""
    if pivots.dtype != np.int32 or not is_c_ordered(pivots):
        return None
    matrices, count = math.prod(pivots.shape[:-1]), pivots.shape[-1]
    call = Call(order_rows(), (inp(0), out(0), count, rows), matrices, max(1, CHUNK // (8 * max(rows, 1))))
    return Plan((Spec((*pivots.shape[:-1], rows), np.int64),), (call,))
