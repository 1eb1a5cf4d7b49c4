"""Norms of vectors, and of the differences of two, over the last dimensions of C-ordered arrays.

Sums run in many lanes over segments of a fixed length, whose results are added in float64, always in the same order.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.distances import kind_of, metric
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Spec, bits, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import served

SEGMENT = 4096  # elements that one sum goes over, in four vectors
GRAIN = 1 << 16  # elements of a chunk


@range_kernel
def segments(dtype, lanes, kind, two):
    """What segments of rows add to their norms, of x or of x - y + eps; a unit is (row, segment).

    Context: x, y, results (float64), length of a row, segments of a row, p, eps.
    """
    V, W, S, D = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype), simd.scalar(np.float64)
    add, join, _, neutral = metric(kind)
    fold = {"inf": simd.reduce_max, "-inf": simd.reduce_min}.get(kind, simd.reduce_add)

    @simd.device
    def get(x, y, i, eps):
        return simd.load(x, i, V) - simd.load(y, i, V) + eps if two else simd.load(x, i, V)

    @simd.device
    def get_part(x, y, i, count, eps):
        if two:
            return simd.load_part(x, i, count, V) - simd.load_part(y, i, count, V) + eps
        return simd.load_part(x, i, count, V)

    def kernel(context, start, stop):
        w = simd.words(context)
        found, p, eps = simd.pointer(w[2], D), S(simd.real(w[5])), S(simd.real(w[6]))
        for unit in range(start, stop):
            row = unit // w[4]
            first = (unit - row * w[4]) * SEGMENT
            n = min(SEGMENT, w[3] - first)
            x = simd.advance(simd.pointer(w[0], S), row * w[3] + first)
            y = simd.advance(simd.pointer(w[1], S), row * w[3] + first)
            a = simd.full(S(neutral), V)
            b, c, d = a, a, a
            four = n // (4 * lanes) * (4 * lanes)
            for i in range(0, four, 4 * lanes):
                a = add(a, get(x, y, i, eps), p)
                b = add(b, get(x, y, i + lanes, eps), p)
                c = add(c, get(x, y, i + 2 * lanes, eps), p)
                d = add(d, get(x, y, i + 3 * lanes, eps), p)
            for i in range(four, n, lanes):
                a = simd.where(simd.iota(W) < n - i, add(a, get_part(x, y, i, n - i, eps), p), a)
            found[unit] = D(fold(join(join(a, b), join(c, d))))

    return kernel


@range_kernel
def roots(dtype, kind):
    """Norms of rows from the results of their segments; context: results, norms, segments of a row, 1 / p."""
    S, D = simd.scalar(dtype), simd.scalar(np.float64)
    join, pow = metric(kind)[1], vmath.pow

    def kernel(context, start, stop):
        w = simd.words(context)
        norms = simd.pointer(w[1], S)
        for row in range(start, stop):
            found = simd.advance(simd.pointer(w[0], D), row * w[2])
            value = found[0]
            for i in range(1, w[2]):
                value = join(value, found[i])
            if kind == "2":
                value = simd.sqrt(value)
            if kind == "p":
                value = pow(value, simd.real(w[3]))
            norms[row] = S(value)

    return kernel


def _plan(x: Array, y: Array | None, p: float, eps: float, axes: int, keepdim: bool) -> Plan:
    dtype, lanes, kind = x.dtype, host.lanes(x.dtype), kind_of(p)
    outer = x.shape[: len(x.shape) - axes]
    rows, n = math.prod(outer), math.prod(x.shape[len(x.shape) - axes :])
    parts = -(-n // SEGMENT)
    context = (inp(0), 0 if y is None else inp(1), scratch(0), n, parts, bits(p), bits(eps))
    work = Call(segments(dtype, lanes, kind, y is not None), context, rows * parts, max(1, GRAIN // min(n, SEGMENT)))
    last = Call(roots(dtype, kind), (scratch(0), out(0), parts, bits(1 / p if p else 1)), rows, max(1, GRAIN // parts))
    return Plan((Spec((*outer, *[1] * (axes * keepdim)), dtype),), (work, last), (8 * rows * parts,))


def vector_norm(x: Array, *, ord: float, dim: Sequence[int], keepdim: bool, dtype: Any = None) -> Plan | None:
    """Plan the norms of order ``ord`` of a C-ordered array over its last dimensions ``dim``."""
    axes, ndim = len(dim), len(x.shape)
    if not served(x) or dtype is not None or not axes or sorted(dim) != list(range(ndim - axes, ndim)) or 0 in x.shape:
        return None
    return _plan(x, None, ord, 0.0, axes, keepdim)


def distance(x1: Array, x2: Array, *, p: float, eps: float, axes: int, keepdim: bool) -> Plan | None:
    """Plan the norms of order ``p`` of x1 - x2 + eps over the last ``axes`` dimensions; C-ordered, of one shape."""
    if not served(x1, x2) or x1.shape != x2.shape or not axes or 0 in x1.shape:
        return None
    return _plan(x1, x2, p, eps, axes, keepdim)


@range_kernel
def products(dtype, lanes):
    """x . y, x . x and y . y of rows; a unit is a row. Context: x, y, the three results, length of a row."""
    V, S, D = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.float64)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, zero = w[5], simd.full(S(0), V)
        for row in range(start, stop):
            x, y = simd.advance(simd.pointer(w[0], S), row * n), simd.advance(simd.pointer(w[1], S), row * n)
            product, first, second = D(0), D(0), D(0)
            for part in range(0, n, SEGMENT):
                a0, b0, c0, a1, b1, c1 = zero, zero, zero, zero, zero, zero
                end = min(part + SEGMENT, n)
                for i in range(part, end, 2 * lanes):
                    u, v = simd.load_part(x, i, end - i, V), simd.load_part(y, i, end - i, V)
                    a0, b0, c0 = a0 + u * v, b0 + u * u, c0 + v * v
                    u = simd.load_part(x, i + lanes, end - i - lanes, V)
                    v = simd.load_part(y, i + lanes, end - i - lanes, V)
                    a1, b1, c1 = a1 + u * v, b1 + u * u, c1 + v * v
                product += D(simd.reduce_add(a0 + a1))
                first += D(simd.reduce_add(b0 + b1))
                second += D(simd.reduce_add(c0 + c1))
            simd.pointer(w[2], S)[row] = S(product)
            simd.pointer(w[3], S)[row] = S(first)
            simd.pointer(w[4], S)[row] = S(second)

    return kernel


def inner_products(x1: Array, x2: Array) -> Plan | None:
    """Plan x1 . x2, x1 . x1 and x2 . x2 along the last dimension of C-ordered arrays of one shape."""
    if not served(x1, x2) or x1.shape != x2.shape or not x1.shape or 0 in x1.shape:
        return None
    outer, n = x1.shape[:-1], x1.shape[-1]
    context = (inp(0), inp(1), out(0), out(1), out(2), n)
    call = Call(products(x1.dtype, host.lanes(x1.dtype)), context, math.prod(outer), max(1, GRAIN // n))
    return Plan(tuple([Spec(outer, x1.dtype)] * 3), (call,))
