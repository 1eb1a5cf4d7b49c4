"""Softmax, log-softmax and cross-entropy with class indices, forward and backward, in one visit of the memory.

The array is seen as (outer, n, inner), the softmax taken over n. With inner = 1 a unit of work is a row, its vectors
run along n; otherwise it is one vector of columns of inner. Either stays in the cache for the two or three looks that
it takes: the largest value, the sum of exponentials, the result. The last vector of columns overlaps the one before.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import access, column_sum_exp, is_flat, reader, row_map, row_max, row_sum_exp, served

GRAIN = 16384  # elements of a chunk


@range_kernel
def rows_forward(dtype, lanes, logarithm):
    """Softmax or log-softmax of rows; context: x, out, n."""
    S = simd.scalar(dtype)
    largest, sum_exp = row_max(dtype, lanes), row_sum_exp(dtype, lanes, not logarithm)
    if logarithm:
        finish = row_map(dtype, lanes, simd.device(lambda v, w, p, q: (v - p) - q))
    else:
        finish = row_map(dtype, lanes, simd.device(lambda v, w, p, q: v * p))

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[2]
        for row in range(start, stop):
            x = simd.advance(simd.pointer(w[0], S), row * n)
            target = simd.advance(simd.pointer(w[1], S), row * n)
            top = largest(x, n)
            total = sum_exp(x, target, n, top)
            if logarithm:
                finish(x, x, target, n, top, vmath.log(total))
            else:
                finish(target, target, target, n, S(1) / total, top)

    return kernel


@range_kernel
def rows_backward(dtype, lanes, logarithm, flat):
    """Gradient of softmax, out * (g - sum(g * out)), or of log-softmax, g - exp(out) * sum(g), of rows.

    Context: g, out, result, n. ``flat``: g is one number.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    get, get_part = reader(dtype, lanes, flat)
    if logarithm:
        term, finish = simd.device(lambda g, y: g), simd.device(lambda g, y, s: g - vmath.exp(y) * s)
    else:
        term, finish = simd.device(lambda g, y: g * y), simd.device(lambda g, y, s: y * (g - s))

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[3]
        whole, two = n // lanes * lanes, n // (2 * lanes) * (2 * lanes)
        for row in range(start, stop):
            g = simd.advance(simd.pointer(w[0], S), 0 if flat else row * n)
            y = simd.advance(simd.pointer(w[1], S), row * n)
            target = simd.advance(simd.pointer(w[2], S), row * n)
            a = simd.full(S(0), V)
            b = a
            for i in range(0, two, 2 * lanes):
                a += term(get(g, i), simd.load(y, i, V))
                b += term(get(g, i + lanes), simd.load(y, i + lanes, V))
            for i in range(two, whole, lanes):
                a += term(get(g, i), simd.load(y, i, V))
            if whole < n:
                last = term(get_part(g, whole, n - whole), simd.load_part(y, whole, n - whole, V))
                b += simd.where(simd.iota(W) < n - whole, last, 0)
            total = simd.reduce_add(a + b)
            for i in range(0, whole, lanes):
                simd.store(target, i, finish(get(g, i), simd.load(y, i, V), total))
            if whole < n:
                last = finish(get_part(g, whole, n - whole), simd.load_part(y, whole, n - whole, V), total)
                simd.store_part(target, whole, last, n - whole)

    W = simd.vector(np.int64, lanes)
    return kernel


@range_kernel
def columns_forward(dtype, lanes, logarithm, partial):
    """Softmax or log-softmax down columns; a unit is (outer, vector of columns). Context: x, out, n, inner, blocks."""
    S = simd.scalar(dtype)
    get, put = access(dtype, lanes, partial)
    moments = column_sum_exp(dtype, lanes, partial, not logarithm)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner = w[2], w[3]
        for unit in range(start, stop):
            outer = unit // w[4]
            j = (unit - outer * w[4]) * lanes
            if not partial:
                j = min(j, inner - lanes)
            x = simd.advance(simd.pointer(w[0], S), outer * n * inner + j)
            target = simd.advance(simd.pointer(w[1], S), outer * n * inner + j)
            top, total = moments(x, target, n, inner, inner)
            scale = vmath.log(total) if logarithm else 1 / total
            for k in range(n):
                if logarithm:
                    put(target, k * inner, (get(x, k * inner, inner) - top) - scale, inner)
                else:
                    put(target, k * inner, get(target, k * inner, inner) * scale, inner)

    return kernel


@range_kernel
def columns_backward(dtype, lanes, logarithm, partial, flat):
    """Gradient as :func:`rows_backward`, down columns. Context: g, out, result, n, inner, blocks."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    get, put = access(dtype, lanes, partial)
    get_g = simd.device(lambda x, i, count: simd.full(x[0], V)) if flat else get
    if logarithm:
        term, finish = simd.device(lambda g, y: g), simd.device(lambda g, y, s: g - vmath.exp(y) * s)
    else:
        term, finish = simd.device(lambda g, y: g * y), simd.device(lambda g, y, s: y * (g - s))

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner = w[3], w[4]
        for unit in range(start, stop):
            outer = unit // w[5]
            j = (unit - outer * w[5]) * lanes
            if not partial:
                j = min(j, inner - lanes)
            first = outer * n * inner + j
            g = simd.advance(simd.pointer(w[0], S), 0 if flat else first)
            y, target = simd.advance(simd.pointer(w[1], S), first), simd.advance(simd.pointer(w[2], S), first)
            total = simd.full(S(0), V)
            for k in range(n):
                total += term(get_g(g, k * inner, inner), get(y, k * inner, inner))
            for k in range(n):
                v = finish(get_g(g, k * inner, inner), get(y, k * inner, inner), total)
                put(target, k * inner, v, inner)

    return kernel


def as_rows(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """The shape as (outer, n, inner)."""
    if not shape:
        return 1, 1, 1
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1:])


def _forward(x: Array, dim: int, logarithm: bool) -> Plan | None:
    if not served(x):
        return None
    outer, n, inner = as_rows(x.shape, dim)
    spec, lanes = (Spec(x.shape, x.dtype),), host.lanes(x.dtype)
    if 0 in x.shape:
        return Plan(spec, ())
    if inner == 1:
        kernel = rows_forward(x.dtype, lanes, logarithm)
        return Plan(spec, (Call(kernel, (inp(0), out(0), n), outer, max(1, GRAIN // n)),))
    blocks = -(-inner // lanes)
    kernel = columns_forward(x.dtype, lanes, logarithm, inner < lanes)
    context = (inp(0), out(0), n, inner, blocks)
    return Plan(spec, (Call(kernel, context, outer * blocks, max(1, GRAIN // (n * lanes))),))


def softmax(x: Array, *, dim: int, dtype: np.dtype | None = None, _stacklevel: int = 3) -> Plan | None:
    """Plan exp(x) / sum(exp(x)) along ``dim`` of a C-ordered array."""
    return _forward(x, dim, False) if dtype is None or dtype == x.dtype else None


def log_softmax(x: Array, *, dim: int, dtype: np.dtype | None = None, _stacklevel: int = 3) -> Plan | None:
    """Plan x - log(sum(exp(x))) along ``dim`` of a C-ordered array."""
    return _forward(x, dim, True) if dtype is None or dtype == x.dtype else None


def _backward(g: Array, y: Array, dim: int, logarithm: bool) -> Plan | None:
    flat = is_flat(g) and g.dtype == y.dtype
    if not served(y) or not (flat or served(g, y)):
        return None
    outer, n, inner = as_rows(y.shape, dim)
    spec, lanes = (Spec(y.shape, y.dtype),), host.lanes(y.dtype)
    if 0 in y.shape:
        return Plan(spec, ())
    if inner == 1:
        kernel = rows_backward(y.dtype, lanes, logarithm, flat)
        return Plan(spec, (Call(kernel, (inp(0), inp(1), out(0), n), outer, max(1, GRAIN // n)),))
    blocks = -(-inner // lanes)
    kernel = columns_backward(y.dtype, lanes, logarithm, inner < lanes, flat)
    context = (inp(0), inp(1), out(0), n, inner, blocks)
    return Plan(spec, (Call(kernel, context, outer * blocks, max(1, GRAIN // (n * lanes))),))


def softmax_backward(g: Array, y: Array, *, dim: int) -> Plan | None:
    """Plan the gradient of softmax from its C-ordered output; g is C-ordered or one number, repeated."""
    return _backward(g, y, dim, False)


def log_softmax_backward(g: Array, y: Array, *, dim: int) -> Plan | None:
    """Plan the gradient of log-softmax from its output, as :func:`softmax_backward`."""
    return _backward(g, y, dim, True)
