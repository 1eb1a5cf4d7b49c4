"""Triangular systems with many right sides, alone or two after the other, as the factors of a matrix want them.

A unit of work is a panel of right sides, as wide as a register tile, that is copied side by side, solved in place and
written back. Rows are worked off a tile at a time: the product of what lies left of the diagonal with the rows known by
then, and the small triangle on the diagonal in registers. Upper triangles are walked from the last row with negative
strides, transposed ones with strides exchanged, so one loop serves all. Every matrix of a batch has units of its own.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.laying import dense, elements, lay_call
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel

LONG, MANY = 512, 256  # rows and right sides from which a transposed triangle is copied: it is read a page at a time
CHUNK = 1_000_000  # multiplications of a chunk at least: some 20 us of one core
IN_ORDER, ROWS_IN, ROWS_OUT, COLUMNS_OUT = range(4)  # what the exchanges of rows (LAPACK's pivots) are applied to

(N, M, PANELS, B, B_ROW, B_COLUMN, X, X_ROW, X_COLUMN, HELD, PIVOTS, ORDER, MODE, SWEEPS, T1, T1_ROW, T1_STEP,
 T1_UPPER, T1_UNIT, T2, T2_ROW, T2_STEP, T2_UPPER, T2_UNIT, DIMENSIONS, BATCH) = range(26)  # fmt: skip


def sweeper(S, T, single, width: int):
    """Device function that solves a triangle for a panel, whose rows before ``begin`` are known to be zeros."""
    rows = T.rows

    @simd.device
    def sweep(panel, t, row, step, n, begin, upper, unit):
        along = width
        if upper != 0:
            t, panel = simd.advance(t, (n - 1) * (row + step)), simd.advance(panel, (n - 1) * width)
            row, step, along = -row, -step, -width
        left, edge = simd.advance(panel, begin * along), begin + (n - begin) % rows
        for i in range(begin, edge):
            here, source = simd.advance(panel, i * along), simd.advance(t, i * row + begin * step)
            x = tiles.scale(tiles.load(here, along, single), -1.0)
            x = tiles.add_products(x, i - begin, source, row, step, left, along)
            tiles.store(tiles.substitute(x, simd.advance(t, i * (row + step)), row, step, unit), here, along)
        for i in range(edge, n, rows):
            here, source = simd.advance(panel, i * along), simd.advance(t, i * row + begin * step)
            x = tiles.scale(tiles.load(here, along, T), -1.0)
            x = tiles.add_products(x, i - begin, source, row, step, left, along)
            tiles.store(tiles.substitute(x, simd.advance(t, i * (row + step)), row, step, unit), here, along)

    return sweep


def _taker(V, S, square, width: int):
    """Device function that copies right sides into a panel: ``count`` columns, zeros in the others.

    Row i is row ``order[i]`` of the right sides where ``ordered``.
    """
    lanes = V.lanes

    @simd.device
    def into(b, panel, n, count, row, column, order, ordered):
        if column == 1:
            for i in range(n):
                source = simd.advance(b, (order[i] if ordered else i) * row)
                for v in range(0, width, lanes):
                    simd.store(panel, i * width + v, simd.load_part(source, v, count - v, V))
        elif row == 1 and count == width and not ordered:
            for i in range(0, n, lanes):
                for v in range(0, width, lanes):
                    source, place = simd.advance(b, i + v * column), simd.advance(panel, i * width + v)
                    t = tiles.transpose(tiles.load_part(source, column, n - i, square))
                    tiles.store_part(t, place, width, n - i, lanes)
        else:
            for i in range(n):
                source = simd.advance(b, (order[i] if ordered else i) * row)
                for v in range(width):
                    panel[i * width + v] = source[v * column] if v < count else S(0)

    return into


def _giver(V, square, width: int):
    """Device function that copies ``count`` columns of a panel to where results belong, the reverse of `_taker`."""
    lanes = V.lanes

    @simd.device
    def out_of(panel, x, n, count, row, column, order, ordered):
        if column == 1:
            for i in range(n):
                target = simd.advance(x, (order[i] if ordered else i) * row)
                for v in range(0, width, lanes):
                    simd.store_part(target, v, simd.load(panel, i * width + v, V), count - v)
        elif row == 1 and count == width and not ordered:
            for i in range(0, n, lanes):
                for v in range(0, width, lanes):
                    source, place = simd.advance(panel, i * width + v), simd.advance(x, i + v * column)
                    if n - i >= lanes:
                        tiles.store(tiles.transpose(tiles.load(source, width, square)), place, column)
                    else:
                        for r in range(n - i):
                            for c in range(lanes):
                                place[c * column + r] = source[r * width + c]
        else:
            for i in range(n):
                target = simd.advance(x, (order[i] if ordered else i) * row)
                for v in range(count):
                    target[v * column] = panel[i * width + v]

    return out_of


def follower():
    """Device function that follows LAPACK's exchanges of rows (counted from 1), and writes the order they lead to."""
    wide = simd.scalar(np.int64)

    @simd.device
    def follow(pivots, order, count, rows):
        for i in range(rows):
            order[i] = i
        for i in range(count):
            other = min(max(wide(pivots[i]) - 1, 0), rows - 1)
            order[i], order[other] = order[other], order[i]

    return follow


@range_kernel
def substitute(dtype, lanes, rows, vectors):
    """Solve one or two triangular systems for panels of right sides; a unit is (matrix, panel), the last fastest.

    Context: rows and number of the right sides, panels of a matrix; address (0: those of the identity), row and column
    stride of the right sides and of the results; memory for panels; pivots (int32, counted from 1), memory for an order
    of rows, what it is for; number of triangles, and for two of them address, row and column stride, whether upper,
    whether with ones on the diagonal; batch dimensions, and of each the length, the strides of right sides, results,
    both triangles and pivots.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    width, index, follow = vectors * lanes, simd.scalar(np.int32), follower()
    square = simd.tile(V, lanes, 1)
    into, out_of = _taker(V, S, square, width), _giver(V, square, width)
    sweep = sweeper(S, simd.tile(V, rows, vectors), simd.tile(V, 1, vectors), width)

    @simd.device
    def identity(panel, n, first, count):
        for i in range(n):
            for v in range(0, width, lanes):
                simd.store(panel, i * width + v, simd.full(S(0), V))
        for v in range(count):
            panel[(first + v) * width + v] = S(1)

    @simd.device
    def exchanged(panel, x, n, count, row, column, order):
        for i in range(n):
            for v in range(count):
                x[i * row + order[v] * column] = panel[i * width + v]

    def kernel(context, start, stop):
        w = simd.words(context)
        n, m, mode = w[N], w[M], w[MODE]
        for unit in range(start, stop):
            matrix = unit // w[PANELS]
            j = (unit - matrix * w[PANELS]) * width
            b, x, first, second, pivots = j * w[B_COLUMN], 0, 0, 0, 0
            for d in range(w[DIMENSIONS] - 1, -1, -1):
                at = BATCH + 6 * d
                i, matrix = matrix % w[at], matrix // w[at]
                b, x, pivots = b + i * w[at + 1], x + i * w[at + 2], pivots + i * w[at + 5]
                first, second = first + i * w[at + 3], second + i * w[at + 4]
            panel = simd.advance(simd.pointer(w[HELD], S), unit * n * width)
            order = simd.advance(simd.words(w[ORDER]), unit * n)
            if mode != IN_ORDER:
                follow(simd.advance(simd.pointer(w[PIVOTS], index), pivots), order, n, n)
            count, begin = min(width, m - j), 0
            if w[B] == 0:
                identity(panel, n, j, count)
                begin = j
            else:
                source = simd.advance(simd.pointer(w[B], S), b)
                into(source, panel, n, count, w[B_ROW], w[B_COLUMN], order, mode == ROWS_IN)
            for k in range(w[SWEEPS]):
                at = T1 + (T2 - T1) * k
                t = simd.advance(simd.pointer(w[at], S), second if k == 1 else first)
                sweep(panel, t, w[at + 1], w[at + 2], n, begin, w[at + 3], w[at + 4])
                begin = 0
            target = simd.advance(simd.pointer(w[X], S), x)
            if mode == COLUMNS_OUT:
                exchanged(panel, target, n, count, w[X_ROW], w[X_COLUMN], simd.advance(order, j))
            else:
                target = simd.advance(target, j * w[X_COLUMN])
                out_of(panel, target, n, count, w[X_ROW], w[X_COLUMN], order, mode == ROWS_OUT)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


@dataclass(frozen=True)
class Triangle:
    """A triangle of a matrix, seen as given or transposed (``upper`` says where it lies in what is seen)."""

    matrix: Array
    at: Ref
    upper: bool
    unit: bool = False
    turned: bool = False


@dataclass(frozen=True)
class Exchanges:
    """LAPACK's exchanges of rows, and what they are applied to."""

    pivots: Array
    at: Ref
    mode: int


def _spread(strides: Sequence[int], shape: Sequence[int], dimensions: int) -> tuple[int, ...]:
    """Strides over a batch of so many dimensions, 0 where broadcast."""
    own = tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))
    return (0,) * (dimensions - len(own)) + own


def served(*arrays: Array) -> bool:
    """Whether all are float32 or all float64, native, with strides in whole elements."""
    kind = arrays[0].dtype
    return kind.char in "fd" and all(x.dtype == kind and x.dtype.isnative and elements(x) for x in arrays)


def _seen(t: Triangle) -> tuple[int, ...]:
    """Row and column stride of a triangle."""
    return (elements(t.matrix) or ())[-2:][:: -1 if t.turned else 1]


def _copied(triangles: Sequence[Triangle], memory: list[int]) -> tuple[list[Call], list[Triangle]]:
    """Calls that copy triangles with contiguous columns to rows, in further pieces of memory, and those copies."""
    calls, found = [], []
    for t in triangles:
        if _seen(t)[0] == 1:
            n, at = t.matrix.shape[-1], scratch(len(memory))
            calls.append(lay_call(t.matrix, t.at, at, n, turned=t.turned))
            memory.append(math.prod(t.matrix.shape) * t.matrix.dtype.itemsize)
            t = Triangle(dense(t.matrix.shape[:-2], n, n, n, t.matrix.dtype), at, t.upper, t.unit)
        found.append(t)
    return calls, found


def plan_substitution(triangles: Sequence[Triangle], right: Array | None, at: Ref, *, transposed: bool = False,
                      exchanges: Exchanges | None = None) -> Plan | None:
    """Plan the solution of one triangular system, or of two in a row, for the right sides ``right``.

    None stands for the identity, for which the first triangle must be lower. With ``transposed`` the right sides and
    the results are rows instead of columns.
    """
    dtype, given = triangles[0].matrix.dtype, [] if right is None else [right]
    if not served(*(t.matrix for t in triangles), *given):
        return None
    n = triangles[0].matrix.shape[-1]
    batch = np.broadcast_shapes(*(x.shape[:-2] for x in [*(t.matrix for t in triangles), *given]),
                                *((exchanges.pivots.shape[:-1],) if exchanges else ()))
    m = n if right is None else right.shape[-2 if transposed else -1]
    shape = (*batch, m, n) if transposed else (*batch, n, m)
    if 0 in shape:
        return Plan((Spec(shape, dtype),), ())
    lanes = host.lanes(dtype)
    rows, vectors = 8 if host.registers() >= 32 else 4, 1 if m <= lanes else 2
    width = vectors * lanes
    panels, matrices = -(-m // width), math.prod(batch)
    along = slice(None, None, -1) if transposed else slice(None)
    b_strides = (0,) * len(shape) if right is None else elements(right) or ()
    x_strides = [math.prod(shape[d + 1:]) for d in range(len(shape))]
    memory = [matrices * panels * n * width * dtype.itemsize, 8 * matrices * panels * n if exchanges else 0]
    calls, triangles = _copied(triangles, memory) if n >= LONG and m >= MANY else ([], list(triangles))
    sweeps: list[int | Ref] = []
    for t in triangles:
        row, step = _seen(t)
        sweeps += [t.at, row, step, int(t.upper), int(t.unit)]
    by_dimension = [_spread(b_strides[:-2], () if right is None else right.shape[:-2], len(batch)) if given
                    else (0,) * len(batch), x_strides[:-2],
                    *(_spread((elements(t.matrix) or ())[:-2], t.matrix.shape[:-2], len(batch)) for t in triangles),
                    *((0,) * len(batch) for _ in range(2 - len(triangles)))]  # fmt: skip
    by_dimension.append(_spread((elements(exchanges.pivots) or ())[:-1], exchanges.pivots.shape[:-1], len(batch))
                        if exchanges else (0,) * len(batch))  # fmt: skip
    units = matrices * panels
    context: tuple[int | Ref, ...] = (
        n, m, panels, 0 if right is None else at, *b_strides[-2:][along], out(0), *x_strides[-2:][along], scratch(0),
        exchanges.at if exchanges else 0, scratch(1), exchanges.mode if exchanges else IN_ORDER, len(triangles),
        *sweeps, *[0] * (10 - len(sweeps)), len(batch),
        *(word for d, length in enumerate(batch) for word in (length, *(s[d] for s in by_dimension))))
    grain = max(1, CHUNK // ((n + 8) ** 2 * width * len(triangles)))
    calls.append(Call(substitute(dtype, lanes, rows, vectors), context, units, grain))
    return Plan((Spec(shape, dtype),), tuple(calls), tuple(memory))


def solve_triangle(A: Array, B: Array, *, upper: bool, unit: bool, left: bool = True) -> Plan | None:
    """Plan X with ``T @ X = B`` (``X @ T = B`` without ``left``) for a triangle T of ``A``."""
    triangle = Triangle(A, inp(0), upper if left else not upper, unit, turned=not left)
    return plan_substitution([triangle], B, inp(1), transposed=not left)


def invert_triangle(A: Array) -> Plan | None:
    """Plan the inverse of the upper triangle of ``A``, as the transpose of that of a lower one."""
    return plan_substitution([Triangle(A, inp(0), False, turned=True)], None, inp(0), transposed=True)


def solve_cholesky(B: Array, L: Array, *, upper: bool) -> Plan | None:
    """Plan X with ``L @ L^T @ X = B`` (``L^T @ L @ X = B`` if ``upper``)."""
    return plan_substitution([Triangle(L, inp(1), False, turned=upper), Triangle(L, inp(1), True, turned=not upper)],
                             B, inp(0))  # fmt: skip


def invert_cholesky(L: Array, *, upper: bool) -> Plan | None:
    """Plan the inverse of ``L @ L^T`` (``L^T @ L`` if ``upper``)."""
    return plan_substitution([Triangle(L, inp(0), False, turned=upper), Triangle(L, inp(0), True, turned=not upper)],
                             None, inp(0))  # fmt: skip


def solve_factored(LU: Array, pivots: Array, B: Array, *, left: bool, adjoint: bool) -> Plan | None:
    """Plan X with ``A @ X = B`` (``X @ A = B`` without ``left``; A transposed if ``adjoint``) from A's factors."""
    lower, upper = Triangle(LU, inp(0), False, unit=True), Triangle(LU, inp(0), True)
    mode = ROWS_IN
    if adjoint == left:
        lower, upper = Triangle(LU, inp(0), False, turned=True), Triangle(LU, inp(0), True, unit=True, turned=True)
        mode = ROWS_OUT
    return plan_substitution([lower, upper], B, inp(2), transposed=not left, exchanges=Exchanges(pivots, inp(1), mode))


def invert_factored(LU: Array, pivots: Array, *, turned: bool = False) -> Plan | None:
    """Plan the inverse of a matrix, given its factors; transposed if ``turned``."""
    if turned:
        return plan_substitution([Triangle(LU, inp(0), False, turned=True),
                                  Triangle(LU, inp(0), True, unit=True, turned=True)],
                                 None, inp(0), exchanges=Exchanges(pivots, inp(1), ROWS_OUT))  # fmt: skip
    return plan_substitution([Triangle(LU, inp(0), False, unit=True), Triangle(LU, inp(0), True)], None, inp(0),
                             exchanges=Exchanges(pivots, inp(1), COLUMNS_OUT))  # fmt: skip
