"""Euclidean distances between all pairs of rows by a matrix product: |x|² + |y|² - 2 x · y.

Both matrices are moved first, so that a mean of rows lies at the origin. Where the three terms all but cancel, the
difference is taken feature by feature after all, so that the relative error of a distance stays within 40 roundings,
and equal rows have the distance 0.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import gemm, host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, inp, out
from autograd_core.kernels.runner import range_kernel

FEATURES = 48  # from which a product is faster than differences
ROWS = 26  # of either matrix, as in PyTorch
MEAN = 16  # rows that the origin is the mean of
NEAR = 1 / 16  # squares of distances below this part of |x|² + |y|² are taken again
GRAIN = 16384  # elements of a chunk
STRIP = 8  # vectors that are looked at together


@range_kernel
def centre(dtype, lanes):
    """The mean of the first rows of each matrix; context: x, means, rows, features."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, count = w[3], min(w[2], MEAN)
        for matrix in range(start, stop):
            x, mean = simd.advance(simd.pointer(w[0], S), matrix * w[2] * n), simd.pointer(w[1], S)
            for k in range(0, n, lanes):
                total = simd.full(S(0), V)
                for row in range(count):
                    total += simd.load_part(x, row * n + k, n - k, V)
                simd.store_part(mean, matrix * n + k, total / S(count), n - k)

    return kernel


@range_kernel
def move(dtype, lanes):
    """Rows less their matrix's mean, and their squares; a unit is a row. Context: x, means, moved, squares, rows,
    features.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[5]
        for row in range(start, stop):
            x, mean = simd.pointer(w[0], S), simd.advance(simd.pointer(w[1], S), row // w[4] * n)
            a = simd.full(S(0), V)
            b = a
            for k in range(0, n, 2 * lanes):
                u = simd.load_part(x, row * n + k, n - k, V) - simd.load_part(mean, k, n - k, V)
                at = k + lanes
                v = simd.load_part(x, row * n + at, n - at, V) - simd.load_part(mean, at, n - at, V)
                a, b = a + u * u, b + v * v
                simd.store_part(simd.pointer(w[2], S), row * n + k, u, n - k)
                simd.store_part(simd.pointer(w[2], S), row * n + at, v, n - at)
            simd.pointer(w[3], S)[row] = simd.reduce_add(a + b)

    return kernel


@range_kernel
def close(dtype, lanes):
    """Distances from |y|² - 2 x · y, in place; a unit is a row of the first matrix. Context: x, y, squares of x, of y,
    result, rows, columns, features.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    @simd.device
    def exact(x, y, n):
        a = simd.full(S(0), V)
        for k in range(0, n, lanes):
            d = simd.load_part(x, k, n - k, V) - simd.load_part(y, k, n - k, V)
            a += d * d
        return simd.reduce_add(a)

    def kernel(context, start, stop):
        w = simd.words(context)
        columns, n = w[6], w[7]
        for row in range(start, stop):
            matrix = row // w[5]
            x, own = simd.advance(simd.pointer(w[0], S), row * n), simd.pointer(w[2], S)[row]
            y = simd.advance(simd.pointer(w[1], S), matrix * columns * n)
            others = simd.advance(simd.pointer(w[3], S), matrix * columns)
            target = simd.advance(simd.pointer(w[4], S), row * columns)
            for first in range(0, columns, STRIP * lanes):
                last, far = min(first + STRIP * lanes, columns), simd.full(S(1), V)
                for j in range(first, last, lanes):
                    sizes = simd.load_part(others, j, last - j, V) + own
                    square = simd.load_part(target, j, last - j, V) + own
                    far = simd.where(square >= sizes * S(NEAR), far, S(0))
                    simd.store_part(target, j, square, last - j)
                if simd.reduce_min(far) < 1:
                    for j in range(first, last):
                        if not target[j] >= (others[j] + own) * S(NEAR):
                            target[j] = exact(x, simd.advance(y, j * n), n)
                for j in range(first, last, lanes):
                    simd.store_part(target, j, simd.sqrt(simd.load_part(target, j, last - j, V)), last - j)

    return kernel


def serves(x: Array, y: Array) -> bool:
    """Whether the product is faster than the differences."""
    return x.shape[-1] >= FEATURES and max(x.shape[-2], y.shape[-2]) >= ROWS and min(x.shape[-2], y.shape[-2]) >= 8


def cdist(x: Array, y: Array) -> Plan | None:
    """Plan the Euclidean distances of C-ordered (..., P, M) and (..., R, M)."""
    dtype, lanes, size = x.dtype, host.lanes(x.dtype), x.dtype.itemsize
    batch, (rows, n), columns = x.shape[:-2], x.shape[-2:], y.shape[-2]
    matrices = math.prod(batch)
    work, grain = Assembly(), max(1, GRAIN // n)
    means = work.memory(matrices * n * size)
    work.call(centre(dtype, lanes), (inp(1), means, columns, n), matrices)
    moved: list[tuple[Ref, Ref]] = []
    for at, count in ((0, rows), (1, columns)):
        moved.append((work.memory(matrices * count * n * size), work.memory(matrices * count * size)))
        work.call(move(dtype, lanes), (inp(at), means, *moved[-1], count, n), matrices * count, grain)
    (first, own), (second, others) = moved
    product = gemm.gemm(_array((*batch, rows, n), dtype), _turned((*batch, columns, n), dtype),
                        _array((*batch, 1, columns), dtype), alpha=-2.0)  # fmt: skip
    if not work.include(product, (first, second, others), out(0)):
        return None
    work.call(close(dtype, lanes), (inp(0), inp(1), own, others, out(0), rows, columns, n), matrices * rows,
              max(1, GRAIN // columns))  # fmt: skip
    return work.plan([Spec((*batch, rows, columns), dtype)])


def _array(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    strides = [dtype.itemsize]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * n)
    return Array(shape, tuple(strides), dtype)


def _turned(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    *outer, down, along = _array(shape, dtype).strides
    return Array((*shape[:-2], shape[-1], shape[-2]), (*outer, along, down), dtype)
