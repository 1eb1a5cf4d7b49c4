"""Singular values and vectors of matrices of moderate size, which the second-level cache holds.

Reflections from the left and from the right by turns leave two diagonals: each pair takes two passes over what is left
of the matrix, the first of which applies the changes of the pair before. Then implicit QR steps with the shift of the
far corner, or with none for singular blocks, make the second diagonal vanish, in the direction in which a block grows
smaller. Rotations act on rows of the transposed products of the reflections. A unit of work is a matrix.

Golub and Van Loan, "Matrix Computations", 4th edition, 8.6; Demmel and Kahan, "Accurate singular values of bidiagonal
matrices", 1990.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.householder import BLOCK, form, reflector
from autograd_core.kernels.laying import dense, lay_call
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.symmetric import STEPS, WIDE, join_reflections, scaler, turner
from autograd_core.kernels.triangular import CHUNK, served

W, M, N, LD, U, U_LD, U_MATRIX, T, T_MATRIX, V, V_MATRIX, R, VALUES, EDGES, SPARE = range(15)
Z1, Z1_LD, Z1_MATRIX, Z2, Z2_LD, Z2_MATRIX, INFO = range(4, 11)  # of `diagonalise`; VALUES, EDGES, N, LD come first


def _passer(S, X):
    """Device functions of passes over rows from column ``begin`` on: one changes and adds them up, one multiplies."""
    lanes = X.lanes

    @simd.device
    def change(rows, ld, count, begin, n, u, y, x, v, new, total):
        """Take u y^T + x v^T off some rows, and add their sum, with the factors ``new``, to ``total``."""
        i = 0
        while i < count:
            u0, x0, n0 = simd.full(-u[i], X), simd.full(-x[i], X), simd.full(new[i], X)
            if i + 1 < count:
                u1, x1, n1 = simd.full(-u[i + 1], X), simd.full(-x[i + 1], X), simd.full(new[i + 1], X)
                for j in range(begin, n, lanes):
                    yj, vj = simd.load(y, j, X), simd.load(v, j, X)
                    a = simd.fma(x0, vj, simd.fma(u0, yj, simd.load(rows, i * ld + j, X)))
                    b = simd.fma(x1, vj, simd.fma(u1, yj, simd.load(rows, i * ld + ld + j, X)))
                    simd.store(rows, i * ld + j, a)
                    simd.store(rows, i * ld + ld + j, b)
                    simd.store(total, j, simd.fma(n1, b, simd.fma(n0, a, simd.load(total, j, X))))
            else:
                for j in range(begin, n, lanes):
                    a = simd.fma(u0, simd.load(y, j, X), simd.load(rows, i * ld + j, X))
                    a = simd.fma(x0, simd.load(v, j, X), a)
                    simd.store(rows, i * ld + j, a)
                    simd.store(total, j, simd.fma(n0, a, simd.load(total, j, X)))
            i += 2

    @simd.device
    def products(rows, ld, count, begin, n, v, x):
        """x_i = the product of row i with v."""
        whole = count // 4 * 4
        for i in range(0, whole, 4):
            s0, s1, s2, s3 = simd.full(S(0), X), simd.full(S(0), X), simd.full(S(0), X), simd.full(S(0), X)
            for j in range(begin, n, lanes):
                vj, at = simd.load(v, j, X), i * ld + j
                s0 = simd.fma(simd.load(rows, at, X), vj, s0)
                s1 = simd.fma(simd.load(rows, at + ld, X), vj, s1)
                s2 = simd.fma(simd.load(rows, at + 2 * ld, X), vj, s2)
                s3 = simd.fma(simd.load(rows, at + 3 * ld, X), vj, s3)
            x[i], x[i + 1], x[i + 2] = simd.reduce_add(s0), simd.reduce_add(s1), simd.reduce_add(s2)
            x[i + 3] = simd.reduce_add(s3)
        for i in range(whole, count):
            total = simd.full(S(0), X)
            for j in range(begin, n, lanes):
                total = simd.fma(simd.load(rows, i * ld + j, X), simd.load(v, j, X), total)
            x[i] = simd.reduce_add(total)

    return change, products


def _helpers(S, X):
    """Device functions that clear memory and complete what the passes give."""
    lanes = X.lanes

    @simd.device
    def clear(x, count):
        for i in range(count):
            x[i] = S(0)

    @simd.device
    def finish(y, following, row, tau, k, begin, n):
        """y times tau, without what lies before column k + 1, and row k without it."""
        for j in range(begin, n, lanes):
            simd.store(y, j, simd.load(y, j, X) * tau)
        for j in range(begin, k + 1):
            y[j] = S(0)
        for j in range(k + 1, n, lanes):
            simd.store(following, j, simd.load(row, j, X) - simd.load(y, j, X))

    @simd.device
    def kept(x, u, y, v, tau, begin, n, count):
        """x = tau (x - (y . v) u)."""
        total = simd.full(S(0), X)
        for j in range(begin, n, lanes):
            total = simd.fma(simd.load(y, j, X), simd.load(v, j, X), total)
        both = simd.reduce_add(total)
        for i in range(count):
            x[i] = tau * (x[i] - both * u[i])

    return clear, finish, kept


@range_kernel
def bidiagonalise(dtype, lanes):
    """Leave two diagonals of matrices with no fewer rows than columns; a unit is a matrix.

    Context: matrices, rows, columns, distance of rows; memory for the vectors of the reflections from the left by
    columns, distance of those, size; for triangles T, whose diagonals are filled, size; the same for reflections from
    the right, whose vectors are as far apart as rows; the diagonals (the second has room for a row), two rows and a
    column of memory.
    """
    S, X = simd.scalar(dtype), simd.vector(dtype, lanes)
    reflection, _ = reflector(dtype, lanes)
    change, products = _passer(S, X)
    clear, finish, kept = _helpers(S, X)

    def kernel(context, start, stop):
        w = simd.words(context)
        m, n, ld, u_ld, square = w[M], w[N], w[LD], w[U_LD], BLOCK * BLOCK
        for matrix in range(start, stop):
            a = simd.advance(simd.pointer(w[W], S), matrix * m * ld)
            lefts = simd.advance(simd.pointer(w[U], S), matrix * w[U_MATRIX])
            rights = simd.advance(simd.pointer(w[V], S), matrix * w[V_MATRIX])
            t = simd.advance(simd.pointer(w[T], S), matrix * w[T_MATRIX])
            r = simd.advance(simd.pointer(w[R], S), matrix * w[T_MATRIX])
            values = simd.advance(simd.pointer(w[VALUES], S), matrix * n)
            edges = simd.advance(simd.pointer(w[EDGES], S), matrix * ld)
            y = simd.advance(simd.pointer(w[SPARE], S), matrix * (2 * ld + u_ld))
            other, x = simd.advance(y, ld), simd.advance(y, 2 * ld)
            clear(lefts, w[U_MATRIX])
            clear(rights, w[V_MATRIX])
            clear(t, w[T_MATRIX])
            clear(r, w[T_MATRIX])
            clear(y, 2 * ld + u_ld)
            for i in range(m):
                clear(simd.advance(a, i * ld + n), ld - n)
            u, v = lefts, rights  # zeros still, as x and y: nothing is changed by the first pass
            for k in range(n):
                left, right = simd.advance(lefts, k * u_ld), simd.advance(rights, k * ld)
                for i in range(k, m):
                    left[i] = a[i * ld + k] - u[i] * y[k] - x[i] * v[k]
                beta, tau = reflection(left, k, m)
                values[k] = beta
                diagonal = k // BLOCK * 2 * square + k % BLOCK * (BLOCK + 1)
                t[diagonal] = tau
                begin, rows = (k + 1) // lanes * lanes, simd.advance(a, k * ld)
                clear(other, ld)
                change(rows, ld, m - k, begin, n, simd.advance(u, k), y, simd.advance(x, k), v, simd.advance(left, k),
                       other)
                if k + 1 < n:
                    finish(other, right, rows, tau, k, begin, n)
                    edges[k], tau = reflection(right, k + 1, n)
                    r[diagonal] = tau
                    below = simd.advance(x, k + 1)
                    products(simd.advance(rows, ld), ld, m - k - 1, begin, n, right, below)
                    kept(below, simd.advance(left, k + 1), other, right, tau, begin, n, m - k - 1)
                y, other, u, v = other, y, left, right

    return kernel


def _judges(dtype):
    """Device functions: which values are coupled with the last, the shift of a step, the largest element."""
    S, small = simd.scalar(dtype), float(np.finfo(dtype).eps) / 2

    @simd.device
    def smaller(f, g, h):
        """The smaller singular value of [[f, g], [0, h]] (LAPACK's las2)."""
        f, g, h = abs(f), abs(g), abs(h)
        low, high = min(f, h), max(f, h)
        if low == S(0):
            return S(0)
        above, below = S(1) + low / high, (high - low) / high
        if g < high:
            ratio = g / high
            ratio = ratio * ratio
            return low * (S(2) / (simd.sqrt(above * above + ratio) + simd.sqrt(below * below + ratio)))
        ratio = high / g
        above, below = above * ratio, below * ratio
        c = S(1) / (simd.sqrt(S(1) + above * above) + simd.sqrt(S(1) + below * below))
        return low * c * ratio * S(2)

    @simd.device
    def block(values, edges, end, floor):
        """The first of the values that are coupled with the last, and whether one of them is nothing."""
        first, nothing = end, abs(values[end]) <= floor
        while first > 0 and abs(edges[first - 1]) > floor:
            first -= 1
            nothing |= abs(values[first]) <= floor
        return first, nothing

    @simd.device
    def shift_of(values, edges, start, end):
        """The smaller singular value of the corner at ``end``; 0 where it changes nothing at ``start``."""
        step = 1 if start < end else -1
        shift = smaller(values[end - step], edges[end - step + (step - 1) // 2], values[end])
        ratio = shift / abs(values[start])
        return S(0) if ratio * ratio < S(small) else shift

    @simd.device
    def largest(values, edges, n):
        top = abs(values[n - 1])
        for i in range(n - 1):
            top = max(top, abs(values[i]), abs(edges[i]))
        return top

    return block, shift_of, largest


def _stepper(dtype, lanes: int, vectors: bool):
    """Device functions of implicit QR steps from ``start`` to ``end``: with a shift, and without one."""
    S, turn = simd.scalar(dtype), turner(dtype, lanes)
    least = float(np.finfo(dtype).tiny / np.finfo(dtype).eps)

    @simd.device
    def rotation(f, g):
        """(cosine, sine, length) of the rotation that takes (f, g) to (length, 0)."""
        square, unit = f * f + g * g, S(1)
        if square < S(least):  # it lost digits, or all
            unit = max(abs(f), abs(g))
            if unit == S(0):
                return S(1), S(0), S(0)
            f, g = f / unit, g / unit
            square = f * f + g * g
        r = simd.sqrt(square)
        inverse = S(1) / r
        return f * inverse, g * inverse, r * unit

    @simd.device
    def rows(z, ld, i, step, c, s):
        if vectors:
            turn(simd.advance(z, i * ld), simd.advance(z, (i + step) * ld), ld, c, s)

    @simd.device
    def shifted(values, edges, start, end, shift, first, first_ld, second, second_ld):
        step = 1 if start < end else -1
        beside, i = (step - 1) // 2, start
        f = (abs(values[i]) - shift) * (simd.copysign(S(1), values[i]) + shift / values[i])
        g = edges[i + beside]
        while i != end:
            c, s, r = rotation(f, g)
            if i != start:
                edges[i - step + beside] = r
            d, e, ahead = values[i], edges[i + beside], values[i + step]
            f, e, g, ahead = c * d + s * e, c * e - s * d, s * ahead, c * ahead
            rows(first, first_ld, i, step, c, s)
            c, s, values[i] = rotation(f, g)
            f, values[i + step] = c * e + s * ahead, c * ahead - s * e
            rows(second, second_ld, i, step, c, s)
            i += step
            if i != end:
                g, edges[i + beside] = s * edges[i + beside], c * edges[i + beside]
        edges[end - step + beside] = f

    @simd.device
    def plain(values, edges, start, end, first, first_ld, second, second_ld):
        step = 1 if start < end else -1
        beside, i, c, old, other = (step - 1) // 2, start, S(1), S(1), S(0)
        while i != end:
            c, s, r = rotation(values[i] * c, edges[i + beside])
            if i != start:
                edges[i - step + beside] = other * r
            rows(first, first_ld, i, step, c, s)
            old, other, values[i] = rotation(old * r, values[i + step] * s)
            rows(second, second_ld, i, step, old, other)
            i += step
        h = values[end] * c
        values[end], edges[end - step + beside] = h * old, h * other

    return shifted, plain


def _finisher(S, X, vectors: bool):
    """Device function that makes values positive and sorts them, largest first, and rows with them."""
    lanes = X.lanes

    @simd.device
    def negate(row, ld):
        for j in range(0, ld, lanes):
            simd.store(row, j, -simd.load(row, j, X))

    @simd.device
    def swap(z, ld, i, k):
        for j in range(0, ld, lanes):
            x, y = simd.load(z, i * ld + j, X), simd.load(z, k * ld + j, X)
            simd.store(z, i * ld + j, y)
            simd.store(z, k * ld + j, x)

    @simd.device
    def finish(values, n, first, first_ld, second, second_ld):
        for i in range(n):
            if simd.copysign(S(1), values[i]) < S(0):
                values[i] = -values[i]
                if vectors:
                    negate(simd.advance(first, i * first_ld), first_ld)
        for i in range(n - 1):
            k = i
            for j in range(i + 1, n):
                k = j if values[j] > values[k] else k
            if k != i:
                values[i], values[k] = values[k], values[i]
                if vectors:
                    swap(first, first_ld, i, k)
                    swap(second, second_ld, i, k)

    return finish


@range_kernel
def diagonalise(dtype, lanes, vectors):
    """Singular values of two diagonals, and with ``vectors`` the rows of U and V transposed; a unit is a matrix.

    Context: the diagonal, which becomes the values, the other one, their size, distance of the other between matrices;
    rows of V, their distance, that of matrices, the same of U, for each matrix 0, or 1 if it did not converge.
    """
    S, X, index = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32)
    shifted, plain = _stepper(dtype, lanes, vectors)
    scale, finish, (block, shift_of, largest) = scaler(dtype, False), _finisher(S, X, vectors), _judges(dtype)
    small = float(np.finfo(dtype).eps) / 2

    @simd.device
    def pad(z, ld, count, begin):
        for i in range(count):
            for j in range(begin, ld):
                z[i * ld + j] = S(0)

    @simd.device
    def converge(values, edges, n, v, v_ld, u, u_ld, floor):
        """1 if it takes too many steps."""
        last, left, lowest, highest, down = n - 1, STEPS * n, n, n, True
        while last > 0:
            first, nothing = block(values, edges, last, floor)
            if first == last:
                last -= 1
                continue
            if left == 0:
                return 1
            left -= 1
            if first > highest or last < lowest or highest == n:  # another block: it has a direction of its own
                down = abs(values[first]) >= abs(values[last])
            lowest, highest = first, last
            start, end = (first, last) if down else (last, first)
            z1, ld1, z2, ld2 = (v, v_ld, u, u_ld) if down else (u, u_ld, v, v_ld)
            shift = S(0) if nothing else shift_of(values, edges, start, end)
            if shift == S(0):
                plain(values, edges, start, end, z1, ld1, z2, ld2)
            else:
                shifted(values, edges, start, end, shift, z1, ld1, z2, ld2)
        return 0

    def kernel(context, start, stop):
        w = simd.words(context)
        n, v_ld, u_ld = w[2], w[Z1_LD], w[Z2_LD]
        for matrix in range(start, stop):
            values = simd.advance(simd.pointer(w[0], S), matrix * n)
            edges = simd.advance(simd.pointer(w[1], S), matrix * w[3])
            v = simd.advance(simd.pointer(w[Z1], S), matrix * w[Z1_MATRIX])
            u = simd.advance(simd.pointer(w[Z2], S), matrix * w[Z2_MATRIX])
            if vectors:
                pad(v, v_ld, n, n)
                pad(u, u_ld, n, w[INFO + 1])
            factor, floor = scale(values, edges, n)
            floor = max(floor, S(small) * largest(values, edges, n))
            simd.pointer(w[INFO], index)[matrix] = converge(values, edges, n, v, v_ld, u, u_ld, floor)
            finish(values, n, v, v_ld, u, u_ld)
            for i in range(n):
                values[i] *= factor

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


def fits(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether a core's second-level cache holds a matrix with room to spare."""
    return 2 * shape[-2] * shape[-1] * dtype.itemsize <= host.caches()[1]


class _Halves:
    """The calls that two diagonals, and the products of reflections, take; ``turned`` if there are more columns."""

    def __init__(self, A: Array, turned: bool) -> None:
        self.batch, self.dtype = A.shape[:-2], A.dtype
        self.m, self.n = A.shape[-2:][:: -1 if turned else 1]
        self.matrices, self.size, self.lanes = math.prod(self.batch), A.dtype.itemsize, host.lanes(A.dtype)
        self.blocks, self.t_size = -(-self.n // BLOCK), -(-self.n // BLOCK) * 2 * BLOCK * BLOCK
        ld, u_ld = (-(-x // self.lanes) * self.lanes + 3 * self.lanes for x in (self.n, self.m))
        self.ld, self.u_ld = ld, u_ld
        columns = self.blocks * BLOCK + 1
        self.pieces = [self.m * ld, columns * u_ld, self.t_size, columns * ld, self.t_size, ld, 2 * ld + u_ld]
        context = (scratch(0), self.m, self.n, ld, scratch(1), u_ld, columns * u_ld, scratch(2), self.t_size,
                   scratch(3), columns * ld, scratch(4), out(1), scratch(5), scratch(6))
        grain = self.grain(self.m * self.n**2)
        self.calls = [lay_call(A, inp(0), scratch(0), ld, turned=turned),
                      Call(bidiagonalise(self.dtype, self.lanes), context, self.matrices, grain)]

    def grain(self, work: int) -> int:
        """Units of a chunk."""
        return max(1, CHUNK // max(work, 1))

    def form(self, vectors: int, ld: int, triangles: int, rows: int, columns: int) -> tuple[Ref, int]:
        """Add the calls that form a product of reflections, transposed: where it lies, and the distance of its rows."""
        matrix, lanes = (self.blocks * BLOCK + 1) * ld, self.lanes
        v, t = scratch(vectors), scratch(triangles)
        self.calls.append(Call(join_reflections(self.dtype, lanes), (0, rows, ld, v, matrix, t, self.t_size, 0, 0, 0,
                               self.blocks), self.matrices * self.blocks, self.grain(rows * BLOCK**2)))  # fmt: skip
        tall, width = 8 if host.registers() >= 32 else 4, 2 * lanes
        panels, panel = -(-columns // width), (rows + 2 * BLOCK + tall) * width
        along = -(-rows // (WIDE * lanes)) * WIDE * lanes
        held, plain, turned = (scratch(len(self.pieces) + i) for i in range(3))
        self.pieces += [panels * panel, rows * columns, columns * along]
        context = (0, 0, rows, 0, BLOCK, v, ld, BLOCK, matrix, BLOCK * ld + BLOCK, t, self.t_size, panels, held, panel,
                   plain, columns, self.blocks)
        self.calls.append(Call(form(self.dtype, lanes, tall, 2), context, self.matrices * panels,
                               self.grain(2 * rows * self.n * width)))
        q = dense(self.batch, rows, columns, columns, self.dtype)
        self.calls.append(lay_call(q, plain, turned, along, turned=True))
        return turned, along


def decompose(A: Array, *, vectors: bool, full: bool) -> Plan | None:
    """Plan (U or None, values, V transposed or None, for each matrix whether it did not converge).

    With ``full`` U and V are square.
    """
    if not served(A) or 0 in A.shape or not fits(A.shape, A.dtype):
        return None
    turned = A.shape[-2] < A.shape[-1]
    h = _Halves(A, turned)
    n, m, dtype = h.n, h.m, A.dtype
    columns = m if full else n
    u, u_ld = h.form(1, h.u_ld, 2, m, columns) if vectors else (scratch(0), 0)
    v, v_ld = h.form(3, h.ld, 4, n, n) if vectors else (scratch(0), 0)
    context = (out(1), scratch(5), n, h.ld, v, v_ld, n * v_ld, u, u_ld, columns * u_ld, out(3), m)
    h.calls.append(Call(diagonalise(dtype, h.lanes, vectors), context, h.matrices, h.grain(n**3)))
    outputs: list[Spec | None] = [None, Spec((*h.batch, n), dtype), None, Spec(h.batch, np.int32)]
    if vectors:
        lefts, rights = dense(h.batch, columns, m, u_ld, dtype), dense(h.batch, n, n, v_ld, dtype)
        first, second = ((rights, v), (lefts, u)) if turned else ((lefts, u), (rights, v))
        rows, across = first[0].shape[-2:]
        outputs[0] = Spec((*h.batch, across, rows), dtype)
        h.calls.append(lay_call(*first, out(0), rows, turned=True))
        outputs[2] = Spec(second[0].shape, dtype)
        h.calls.append(lay_call(*second, out(2), second[0].shape[-1]))
    return Plan(tuple(outputs), tuple(h.calls), tuple(p * h.matrices * h.size for p in h.pieces))
