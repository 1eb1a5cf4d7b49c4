"""Cholesky factorisation of symmetric positive-definite matrices, in blocks of rows of the upper factor.

A block on the diagonal is factored by rows; panels of columns, units of work of their own, are solved with it and then
take their products off the part of the upper triangle that is left. A lower factor is made as the upper one of the
matrix read transposed, so only the triangle that was asked for is looked at.

Golub and Van Loan, "Matrix Computations", 4th edition, 4.2.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.factors import blocks
from autograd_core.kernels.laying import dense, lay_call
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.triangular import CHUNK, served, sweeper

W, N, FIRST, DEPTH, CORNER, LD, INFO, PANELS, HELD, MINUS = range(10)


@range_kernel
def factor_corner(dtype, lanes):
    """Factor the block on the diagonal; a unit is a matrix.

    Context: matrices in C order, their size, first row and size of the block, memory for a block a matrix, distance of
    its rows, for each matrix 0 or the order of its first minor that is not positive.
    """
    V, S, index = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.int32)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, first, depth, ld = w[N], w[FIRST], w[DEPTH], w[LD]
        for matrix in range(start, stop):
            corner = simd.advance(simd.pointer(w[W], S), (matrix * n + first) * n + first)
            block = simd.advance(simd.pointer(w[CORNER], S), matrix * depth * ld)
            info = simd.advance(simd.pointer(w[INFO], index), matrix)
            for i in range(depth):
                for j in range(0, depth, lanes):
                    simd.store(block, i * ld + j, simd.load_part(corner, i * n + j, depth - j, V))
            for i in range(depth):
                pivot = block[i * ld + i]
                if not pivot > S(0) and info[0] == 0:
                    info[0] = first + i + 1
                root = simd.sqrt(pivot)
                factor = simd.full(S(1) / root, V)
                for j in range(i // lanes * lanes, depth, lanes):
                    simd.store(block, i * ld + j, simd.load(block, i * ld + j, V) * factor)
                block[i * ld + i] = root
                for r in range(i + 1, depth):
                    amount = simd.full(-block[i * ld + r], V)
                    for j in range(r // lanes * lanes, depth, lanes):
                        value = simd.fma(amount, simd.load(block, i * ld + j, V), simd.load(block, r * ld + j, V))
                        simd.store(block, r * ld + j, value)
            for i in range(depth):
                for j in range(0, depth, lanes):
                    simd.store_part(corner, i * n + j, simd.load(block, i * ld + j, V), depth - j)

    return kernel


@range_kernel
def extend_rows(dtype, lanes, rows, vectors):
    """The rows of the factor to the right of a block; a unit is (matrix, panel of columns), the last fastest.

    Context: that of `factor_corner`, panels, memory for those rows side by side, and for what they are with the other
    sign.
    """
    V, S, width = simd.vector(dtype, lanes), simd.scalar(dtype), vectors * lanes
    sweep = sweeper(S, simd.tile(V, rows, vectors), simd.tile(V, 1, vectors), width)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, first, depth = w[N], w[FIRST], w[DEPTH]
        for unit in range(start, stop):
            matrix = unit // w[PANELS]
            j = first + depth + (unit - matrix * w[PANELS]) * width
            block = simd.advance(simd.pointer(w[CORNER], S), matrix * depth * w[LD])
            place = simd.advance(simd.pointer(w[W], S), (matrix * n + first) * n + j)
            held = simd.advance(simd.pointer(w[HELD], S), unit * depth * width)
            minus = simd.advance(simd.pointer(w[MINUS], S), unit * depth * width)
            for i in range(depth):
                for v in range(0, width, lanes):
                    simd.store(held, i * width + v, simd.load_part(place, i * n + v, n - j - v, V))
            sweep(held, block, 1, w[LD], depth, 0, 0, 0)
            for i in range(depth):
                for v in range(0, width, lanes):
                    value = simd.load(held, i * width + v, V)
                    simd.store_part(place, i * n + v, value, n - j - v)
                    simd.store(minus, i * width + v, -value)

    return kernel


@range_kernel
def take_off(dtype, lanes, rows, vectors):
    """Take the products of a block's rows off the upper triangle below them; units and context as `extend_rows`."""
    V, S, width = simd.vector(dtype, lanes), simd.scalar(dtype), vectors * lanes
    T, single = simd.tile(V, rows, vectors), simd.tile(V, 1, vectors)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, first, depth = w[N], w[FIRST], w[DEPTH]
        begin = first + depth
        for unit in range(start, stop):
            matrix = unit // w[PANELS]
            panel = unit - matrix * w[PANELS]
            j = begin + panel * width
            corner, count = simd.advance(simd.pointer(w[W], S), matrix * n * n + j), n - j
            minus = simd.advance(simd.pointer(w[MINUS], S), unit * depth * width)
            for above in range(panel + 1):
                left = simd.advance(simd.pointer(w[HELD], S), (unit - panel + above) * depth * width)
                i, end = begin + above * width, min(begin + (above + 1) * width, n)
                at = 0
                while i + at + rows <= end:
                    place, factors = simd.advance(corner, (i + at) * n), simd.advance(left, at)
                    if count >= width:
                        t = tiles.add_products(tiles.load(place, n, T), depth, factors, 1, width, minus, width)
                        tiles.store(t, place, n)
                    else:
                        t = tiles.load_part(place, n, count, T)
                        t = tiles.add_products(t, depth, factors, 1, width, minus, width)
                        tiles.store_part(t, place, n, rows, count)
                    at += rows
                while i + at < end:
                    place, factors = simd.advance(corner, (i + at) * n), simd.advance(left, at)
                    t = tiles.load_part(place, n, count, single)
                    t = tiles.add_products(t, depth, factors, 1, width, minus, width)
                    tiles.store_part(t, place, n, 1, count)
                    at += 1

    return kernel


def factor_definite(A: Array, *, upper: bool) -> Plan | None:
    """Plan the factor, and for each matrix 0 or the order of its first minor that is not positive."""
    if not served(A):
        return None
    dtype, n, matrices, lanes = A.dtype, A.shape[-1], math.prod(A.shape[:-2]), host.lanes(A.dtype)
    outputs = Spec(A.shape, dtype), Spec(A.shape[:-2], np.int32)
    if 0 in A.shape:
        return Plan(outputs, (), zero=(1,))
    vectors = 2
    width = vectors * lanes
    rows = min(8 if host.registers() >= 32 else 4, width)
    work = dense(A.shape[:-2], n, n, n, dtype)
    calls, corner, held = [lay_call(A, inp(0), scratch(0), n, turned=not upper)], 0, 0
    for first, depth in blocks(n, width):
        ld, panels = -(-depth // lanes) * lanes + lanes, -(-(n - first - depth) // width)
        corner, held = max(corner, depth * ld), max(held, panels * depth * width)
        context: tuple[int | Ref, ...] = (scratch(0), n, first, depth, scratch(1), ld, out(1), panels, scratch(2),
                                          scratch(3))
        calls.append(Call(factor_corner(dtype, lanes), context, matrices, max(1, CHUNK // (depth + 16) ** 3)))
        calls.append(Call(extend_rows(dtype, lanes, rows, vectors), context, matrices * panels,
                          max(1, CHUNK // (depth * depth * width))))  # fmt: skip
        calls.append(Call(take_off(dtype, lanes, rows, vectors), context, matrices * panels,
                          max(1, CHUNK // ((panels + 1) * depth * width * width))))  # fmt: skip
    calls.append(lay_call(work, scratch(0), out(0), n, turned=not upper, keep=2 if upper else 1))
    size = matrices * dtype.itemsize
    return Plan(outputs, tuple(calls), (n * n * size, corner * size, held * size, held * size), zero=(1,))
