"""Eigenvalues and eigenvectors of symmetric matrices of moderate size, which the second-level cache holds.

Reflections make the matrix tridiagonal: each takes one pass over what is left of the matrix, which applies the change
of the reflection before and multiplies by the next one's vector at once. Then implicit QL steps with Wilkinson's shift
make it diagonal; for values alone in the form without square roots. Each rotation turns two rows of the transposed
product of the reflections at once, while the processor waits for the root of the next. A unit of work is a matrix.

Golub and Van Loan, "Matrix Computations", 4th edition, 8.3; Parlett, "The Symmetric Eigenvalue Problem", 8.14-8.15.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.householder import BLOCK, form, joiner, reflector
from autograd_core.kernels.laying import dense, lay_call
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.triangular import CHUNK, served

STEPS = 30  # QL steps for each value on average, after which a matrix is given up
WIDE = 2  # vectors of rows that are turned at a time

W, N, LD, V, V_MATRIX, T, T_MATRIX, VALUES, EDGES, SPARE, BLOCKS = range(11)
Z, Z_LD, Z_MATRIX, INFO = range(4, 8)  # of `diagonalise`, whose first words are VALUES, EDGES, N, distance of edges


def _passer(S, X):
    """Device functions of one pass over rows of an upper triangle: four at a time or one.

    They take v w^T + w v^T off the rows, and add what they give times ``u`` to y, and what the columns give. Up to the
    end of its vector of columns on the diagonal, a row is there as a whole.
    """
    lanes = X.lanes

    @simd.device
    def four_rows(rows, ld, i, n, v, w, u, y):
        v0, v1, v2, v3 = simd.full(-v[i], X), simd.full(-v[i + 1], X), simd.full(-v[i + 2], X), simd.full(-v[i + 3], X)
        w0, w1, w2, w3 = simd.full(-w[i], X), simd.full(-w[i + 1], X), simd.full(-w[i + 2], X), simd.full(-w[i + 3], X)
        u0, u1, u2, u3 = simd.full(u[i], X), simd.full(u[i + 1], X), simd.full(u[i + 2], X), simd.full(u[i + 3], X)
        y0, y1, y2, y3 = simd.full(S(0), X), simd.full(S(0), X), simd.full(S(0), X), simd.full(S(0), X)
        diagonal = i // lanes * lanes
        for j in range(diagonal, n, lanes):
            vj, wj, uj = simd.load(v, j, X), simd.load(w, j, X), simd.load(u, j, X)
            x0 = simd.fma(w0, vj, simd.fma(v0, wj, simd.load(rows, j, X)))
            x1 = simd.fma(w1, vj, simd.fma(v1, wj, simd.load(rows, ld + j, X)))
            x2 = simd.fma(w2, vj, simd.fma(v2, wj, simd.load(rows, 2 * ld + j, X)))
            x3 = simd.fma(w3, vj, simd.fma(v3, wj, simd.load(rows, 3 * ld + j, X)))
            simd.store(rows, j, x0)
            simd.store(rows, ld + j, x1)
            simd.store(rows, 2 * ld + j, x2)
            simd.store(rows, 3 * ld + j, x3)
            y0, y1, y2, y3 = simd.fma(x0, uj, y0), simd.fma(x1, uj, y1), simd.fma(x2, uj, y2), simd.fma(x3, uj, y3)
            if j > diagonal:
                yj = simd.fma(x1, u1, simd.fma(x0, u0, simd.load(y, j, X)))
                simd.store(y, j, simd.fma(x3, u3, simd.fma(x2, u2, yj)))
        y[i] += simd.reduce_add(y0)
        y[i + 1] += simd.reduce_add(y1)
        y[i + 2] += simd.reduce_add(y2)
        y[i + 3] += simd.reduce_add(y3)

    @simd.device
    def one_row(row, i, n, v, w, u, y):
        vi, wi, ui, total = simd.full(-v[i], X), simd.full(-w[i], X), simd.full(u[i], X), simd.full(S(0), X)
        diagonal = i // lanes * lanes
        for j in range(diagonal, n, lanes):
            x = simd.fma(wi, simd.load(v, j, X), simd.fma(vi, simd.load(w, j, X), simd.load(row, j, X)))
            simd.store(row, j, x)
            total = simd.fma(x, simd.load(u, j, X), total)
            if j > diagonal:
                simd.store(y, j, simd.fma(x, ui, simd.load(y, j, X)))
        y[i] += simd.reduce_add(total)

    return four_rows, one_row


def _helpers(S, X):
    """Device functions that complete the vectors on the diagonal, clear memory, and make w of y = A v."""
    lanes = X.lanes

    @simd.device
    def mirror(a, n, ld):
        """Make whole what the vectors on the diagonal hold, with zeros beyond the matrix."""
        for i in range(n):
            for j in range(i // lanes * lanes, i):
                a[i * ld + j] = a[j * ld + i]
            for j in range(n, ld):
                a[i * ld + j] = S(0)

    @simd.device
    def clear(x, count):
        for i in range(count):
            x[i] = S(0)

    @simd.device
    def second(w, y, v, tau, begin, n):
        """w = tau y - tau^2 (y . v) v / 2."""
        total = simd.full(S(0), X)
        for j in range(begin, n, lanes):
            total = simd.fma(simd.load(y, j, X), simd.load(v, j, X), total)
        half = simd.full(S(-0.5) * tau * tau * simd.reduce_add(total), X)
        for j in range(begin, n, lanes):
            simd.store(w, j, simd.fma(half, simd.load(v, j, X), simd.load(y, j, X) * tau))

    return mirror, clear, second


@range_kernel
def tridiagonalise(dtype, lanes):
    """Make matrices, of which the upper triangle is given, tridiagonal; a unit is a matrix.

    Context: matrices, their size, distance of rows, memory for the reflections' vectors (by columns, as far apart),
    its size, for their triangles T, whose diagonals are filled, its size, the diagonal, what stands beside it (a row
    of that distance for each matrix), and two more rows, number of blocks of reflections.
    """
    S, X = simd.scalar(dtype), simd.vector(dtype, lanes)
    reflection, _ = reflector(dtype, lanes)
    four_rows, one_row = _passer(S, X)

    mirror, clear, second = _helpers(S, X)
    grouped = lanes % 4 == 0  # four rows share their vector on the diagonal

    def kernel(context, start, stop):
        words = simd.words(context)
        n, ld = words[N], words[LD]
        for matrix in range(start, stop):
            a = simd.advance(simd.pointer(words[W], S), matrix * n * ld)
            vectors = simd.advance(simd.pointer(words[V], S), matrix * words[V_MATRIX])
            t = simd.advance(simd.pointer(words[T], S), matrix * words[T_MATRIX])
            values = simd.advance(simd.pointer(words[VALUES], S), matrix * n)
            edges = simd.advance(simd.pointer(words[EDGES], S), matrix * ld)
            w = simd.advance(simd.pointer(words[SPARE], S), matrix * 2 * ld)
            y = simd.advance(w, ld)
            mirror(a, n, ld)
            clear(vectors, words[V_MATRIX])
            clear(t, words[T_MATRIX])
            clear(w, 2 * ld)
            v = vectors  # zeros still, as w: nothing is changed by the first pass
            for k in range(n - 1):
                begin, following = (k + 1) // lanes * lanes, simd.advance(vectors, k * ld)
                row = simd.advance(a, k * ld)
                first, other = simd.full(-v[k], X), simd.full(-w[k], X)
                for j in range(k // lanes * lanes, n, lanes):
                    x = simd.fma(other, simd.load(v, j, X), simd.fma(first, simd.load(w, j, X), simd.load(row, j, X)))
                    simd.store(row, j, x)
                values[k] = row[k]
                for j in range(k + 1, n, lanes):
                    simd.store(following, j, simd.load(row, j, X))
                beta, tau = reflection(following, k + 1, n)
                edges[k] = beta
                t[k // BLOCK * 2 * BLOCK * BLOCK + k % BLOCK * (BLOCK + 1)] = tau
                clear(simd.advance(y, k), n - k)
                whole = min((k + 4) // 4 * 4, n) if grouped else n
                edge = whole + (n - whole) // 4 * 4
                for i in range(k + 1, whole):
                    one_row(simd.advance(a, i * ld), i, n, v, w, following, y)
                for i in range(whole, edge, 4):
                    four_rows(simd.advance(a, i * ld), ld, i, n, v, w, following, y)
                for i in range(edge, n):
                    one_row(simd.advance(a, i * ld), i, n, v, w, following, y)
                second(w, y, following, tau, begin, n)
                w[k] = S(0)
                v = following
            last = (n - 1) * ld + n - 1
            values[n - 1] = a[last] if n > 1 else a[0]

    return kernel


@range_kernel
def join_reflections(dtype, lanes):
    """Fill the triangles T of blocks of reflections; a unit is (matrix, block). Context: that of `tridiagonalise`."""
    S = simd.scalar(dtype)
    triangle = joiner(simd.tile(simd.vector(dtype, lanes), 4, min(4, lanes)))

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            matrix = unit // w[BLOCKS]
            first = (unit - matrix * w[BLOCKS]) * BLOCK
            v = simd.advance(simd.pointer(w[V], S), matrix * w[V_MATRIX] + first * w[LD] + first)
            t = simd.advance(simd.pointer(w[T], S), matrix * w[T_MATRIX] + first * 2 * BLOCK)
            triangle(v, t, w[LD], BLOCK, w[N] - first)

    return kernel


def turner(dtype, lanes: int):
    """Device function that turns two rows by an angle, given its cosine and sine."""
    X = simd.vector(dtype, lanes)

    @simd.device
    def turn(place, other, ld, c, s):
        c, s = simd.full(c, X), simd.full(s, X)
        for j in range(0, ld, WIDE * lanes):
            x0, x1 = simd.load(place, j, X), simd.load(place, j + lanes, X)
            y0, y1 = simd.load(other, j, X), simd.load(other, j + lanes, X)
            simd.store(place, j, s * y0 + c * x0)
            simd.store(place, j + lanes, s * y1 + c * x1)
            simd.store(other, j, c * y0 - s * x0)
            simd.store(other, j + lanes, c * y1 - s * x1)

    return turn


def _with_vectors(dtype, lanes: int):
    """Device functions: how far values are coupled, and a QL step that turns vectors, too."""
    S, turn = simd.scalar(dtype), turner(dtype, lanes)
    small, least = float(np.finfo(dtype).eps) / 2, float(np.finfo(dtype).tiny / np.finfo(dtype).eps)

    @simd.device
    def coupled(values, edges, start, end, step, floor):
        """The last of the values from ``start`` towards ``end`` between which no edge is negligible."""
        m, beside = start, (step - 1) // 2
        while m != end and abs(edges[m + beside]) > max(S(small) * (abs(values[m]) + abs(values[m + step])), floor):
            m += step
        return m

    @simd.device
    def rotate(values, edges, start, m, step, z, ld):
        """One implicit QL step on the values from ``start`` to m, and on rows of Z."""
        beside, p, count = (step - 1) // 2, values[start], (m - start) * step
        edge = edges[start + beside]
        g = (values[start + step] - p) / (S(2) * edge)
        g = values[m] - p + edge / (g + simd.copysign(simd.sqrt(g * g + S(1)), g))
        s, c, p = S(1), S(1), S(0)
        for q in range(count):
            i = m - step * (q + 1)
            f, b = s * edges[i + beside], c * edges[i + beside]
            square, unit = f * f + g * g, S(1)
            if square < S(least):  # it lost digits, or all
                unit = max(abs(f), abs(g))
                unit = S(1) if unit == S(0) else unit
                f, g = f / unit, g / unit
                square = f * f + g * g
            r = simd.sqrt(square)
            if q > 0:
                edges[i + step + beside] = r * unit
            if square == S(0):
                s, c = S(0), S(1)
            else:
                inverse = S(1) / r
                s, c = f * inverse, g * inverse
            g = values[i + step] - p
            r = (values[i] - g) * s + S(2) * c * b
            p = s * r
            values[i + step] = g + p
            g = c * r - b
            turn(simd.advance(z, (i + step) * ld), simd.advance(z, i * ld), ld, c, s)
        values[start] -= p
        edges[start + beside] = g

    return coupled, rotate


def _values_alone(dtype):
    """As `_with_vectors` without vectors and without roots, from the squares of what stands beside the diagonal."""
    S, small = simd.scalar(dtype), float(np.finfo(dtype).eps) / 2

    @simd.device
    def squares(values, edges, start, m, step, z, ld):
        """The same for values alone, given the squares of the edges (Pal, Walker and Kahan)."""
        beside, p, count = (step - 1) // 2, values[start], (m - start) * step
        root = simd.sqrt(edges[start + beside])
        sigma = (values[start + step] - p) / (S(2) * root)
        sigma = p - root / (sigma + simd.copysign(simd.sqrt(sigma * sigma + S(1)), sigma))
        s, c, gamma = S(0), S(1), values[m] - sigma
        p = gamma * gamma
        for q in range(count):
            i = m - step * (q + 1)
            bb = edges[i + beside]
            r = p + bb
            if q > 0:
                edges[i + step + beside] = s * r
            before, old, alpha = c, gamma, values[i]
            inverse = S(1) / r
            c, s = p * inverse, bb * inverse
            gamma = c * (alpha - sigma) - s * old
            values[i + step] = old + (alpha - gamma)
            p = gamma * gamma / c if c != S(0) else before * bb
        edges[start + beside] = s * p
        values[start] = sigma + gamma

    @simd.device
    def coupled_squares(values, edges, start, end, step, floor):
        m, beside = start, (step - 1) // 2
        while m != end:
            limit = max(S(small) * (abs(values[m]) + abs(values[m + step])), floor)
            if not edges[m + beside] > limit * limit:
                break
            m += step
        return m

    return coupled_squares, squares


def scaler(dtype, squared: bool):
    """Device function that brings a matrix of two diagonals to where squares neither overflow nor vanish.

    It returns the factor that was divided by, and what is negligible. The second diagonal is ``squared`` on demand.
    """
    S = simd.scalar(dtype)
    low, high = float(np.finfo(dtype).tiny) ** 0.25, float(np.finfo(dtype).max) ** 0.25
    least = float(np.finfo(dtype).tiny / np.finfo(dtype).eps) ** 0.5  # an edge so small, next to the largest, is noise

    @simd.device
    def scale(values, edges, n):
        top = abs(values[0])
        for i in range(1, n):
            top = max(top, abs(values[i]), abs(edges[i - 1]))
        factor = S(1) if top == S(0) or (S(low) < top and top < S(high)) else top
        for i in range(n):
            values[i] /= factor
        for i in range(n - 1):
            edges[i] /= factor
            if squared:
                edges[i] *= edges[i]
        return factor, S(least) * (top / factor)

    return scale


def _sorter(S, X, vectors: bool):
    """Device function that sorts values, and with ``vectors`` the rows of Z with them."""
    lanes = X.lanes

    @simd.device
    def sort(values, n, z, ld):
        for i in range(n - 1):
            k = i
            for j in range(i + 1, n):
                k = j if values[j] < values[k] else k
            if k != i:
                values[i], values[k] = values[k], values[i]
                if vectors:
                    for j in range(0, ld, lanes):
                        x, y = simd.load(z, i * ld + j, X), simd.load(z, k * ld + j, X)
                        simd.store(z, i * ld + j, y)
                        simd.store(z, k * ld + j, x)

    return sort


@range_kernel
def diagonalise(dtype, lanes, vectors):
    """Values of tridiagonal matrices in ascending order, and with ``vectors`` the rows of Z turned; a unit is a matrix.

    Context: the diagonal, which becomes the values, what stands beside it, size, distance of that between matrices;
    rows of Z, their distance, that of matrices, for each matrix 0, or 1 if it did not converge.
    """
    S, X, index = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32)
    coupled, step_once = _with_vectors(dtype, lanes) if vectors else _values_alone(dtype)
    scale, sort = scaler(dtype, not vectors), _sorter(S, X, vectors)

    @simd.device
    def converge(values, edges, n, z, ld, floor):
        """1 if it takes too many steps."""
        first, left = 0, STEPS * n
        while first < n:
            last = coupled(values, edges, first, n - 1, 1, floor)
            step, start, end = 1, first, last
            if abs(values[last]) < abs(values[first]):
                step, start, end = -1, last, first
            while start != end:
                m = coupled(values, edges, start, end, step, floor)
                if m == start:
                    start += step
                elif left == 0:
                    return 1
                else:
                    left -= 1
                    step_once(values, edges, start, m, step, z, ld)
            first = last + 1
        return 0

    def kernel(context, start, stop):
        w = simd.words(context)
        n, ld = w[2], w[Z_LD]
        for matrix in range(start, stop):
            values = simd.advance(simd.pointer(w[0], S), matrix * n)
            edges = simd.advance(simd.pointer(w[1], S), matrix * w[3])
            z = simd.advance(simd.pointer(w[Z], S), matrix * w[Z_MATRIX])
            factor, floor = scale(values, edges, n)
            if vectors:
                for i in range(n):
                    for j in range(n, ld):
                        z[i * ld + j] = S(0)
            simd.pointer(w[INFO], index)[matrix] = converge(values, edges, n, z, ld, floor)
            sort(values, n, z, ld)
            for i in range(n):
                values[i] *= factor

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


def most(dtype: np.dtype) -> int:
    """Rows of the largest matrix that a core's second-level cache holds with room to spare."""
    return int(math.sqrt(host.caches()[1] / (2 * dtype.itemsize)))


def eigen(A: Array, *, upper: bool, vectors: bool) -> Plan | None:
    """Plan (values, vectors or None, for each matrix whether it did not converge), read from one triangle of ``A``."""
    n, dtype, batch = A.shape[-1], A.dtype, A.shape[:-2]
    if not served(A) or 0 in A.shape or n > most(dtype):
        return None
    lanes, matrices, size = host.lanes(dtype), math.prod(batch), dtype.itemsize
    ld, blocks = -(-n // lanes) * lanes + 3 * lanes, -(-n // BLOCK)
    v_size, t_size = (blocks * BLOCK + 1) * ld, blocks * 2 * BLOCK * BLOCK
    one = max(1, CHUNK // n**3)
    context: tuple[int | Ref, ...] = (scratch(0), n, ld, scratch(1), v_size, scratch(2), t_size, out(0), scratch(3),
                                      scratch(4), blocks)
    calls = [lay_call(A, inp(0), scratch(0), ld, turned=not upper),
             Call(tridiagonalise(dtype, lanes), context, matrices, one)]
    pieces = [n * ld, v_size, t_size, ld, 2 * ld]
    z_ld = -(-n // (WIDE * lanes)) * WIDE * lanes
    if vectors:
        rows, width = 8 if host.registers() >= 32 else 4, 2 * lanes
        panels, panel = -(-n // width), (n + 2 * BLOCK + rows) * width
        grain = max(1, CHUNK // (n * BLOCK * BLOCK))
        calls.append(Call(join_reflections(dtype, lanes), context, matrices * blocks, grain))
        context = (0, 0, n, 0, BLOCK, scratch(1), ld, BLOCK, v_size, BLOCK * ld + BLOCK, scratch(2), t_size, panels,
                   scratch(5), panel, scratch(0), n, blocks)
        grain = max(1, CHUNK // (2 * n * n * width))
        calls.append(Call(form(dtype, lanes, rows, 2), context, matrices * panels, grain))
        q = dense(batch, n, n, n, dtype)
        calls.append(lay_call(q, scratch(0), scratch(6), z_ld, turned=True))
        pieces += [panels * panel, n * z_ld]
    calls.append(Call(diagonalise(dtype, lanes, vectors), (
        out(0), scratch(3), n, ld, scratch(6) if vectors else 0, z_ld, n * z_ld, out(2)), matrices, one))
    if vectors:
        calls.append(lay_call(dense(batch, n, n, z_ld, dtype), scratch(6), out(1), n, turned=True))
    outputs = (Spec((*batch, n), dtype), Spec(A.shape, dtype) if vectors else None, Spec(batch, np.int32))
    return Plan(outputs, tuple(calls), tuple(p * matrices * size for p in pieces))
