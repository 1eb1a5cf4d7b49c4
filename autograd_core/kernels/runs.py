"""Loops over contiguous runs and vectors of columns that softmax, normalisation, reductions and recurrent layers share.

Functions here make ``simd.device`` functions, which kernels inline, for one dtype and number of lanes.
"""
from __future__ import annotations

import numpy as np

from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, is_c_ordered

BLOCK = 4096  # elements of which the moments are taken at once


# ---------------------------------------------------------------------------------------------------- what planners ask


def served(*arrays: Array) -> bool:
    """Whether all are of one float dtype and C-ordered."""
    dtype = arrays[0].dtype
    return dtype.char in "fd" and all(x.dtype == dtype and is_c_ordered(x) for x in arrays)


def is_flat(x: Array) -> bool:
    """Whether an array is one number, repeated."""
    return all(s == 0 or n == 1 for n, s in zip(x.shape, x.strides, strict=True)) and x.dtype.isnative


# -------------------------------------------------------------------------------------------------- reading and writing


def reader(dtype, lanes: int, flat: bool):
    """Device functions (get, get first ``count`` lanes) of a vector; the same number everywhere if ``flat``."""
    V = simd.vector(dtype, lanes)
    if flat:
        return (simd.device(lambda x, i: simd.full(x[0], V)),
                simd.device(lambda x, i, count: simd.full(x[0], V)))
    return (simd.device(lambda x, i: simd.load(x, i, V)),
            simd.device(lambda x, i, count: simd.load_part(x, i, count, V)))


def access(dtype, lanes: int, partial: bool):
    """Device functions (get, put) of a vector of columns; only the first ``count`` if ``partial``."""
    V = simd.vector(dtype, lanes)
    if partial:
        return (simd.device(lambda x, i, count: simd.load_part(x, i, count, V)),
                simd.device(lambda x, i, value, count: simd.store_part(x, i, value, count)))  # noqa: PLW0108
    return (simd.device(lambda x, i, count: simd.load(x, i, V)),
            simd.device(lambda x, i, value, count: simd.store(x, i, value)))


def copier(dtype, lanes: int):
    """Device function that copies ``count`` elements."""
    V = simd.vector(dtype, lanes)

    def copy(target, source, count):
        whole = count // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, simd.load(source, i, V))
        simd.store_part(target, whole, simd.load_part(source, whole, count - whole, V), count - whole)

    return simd.device(copy)


def eraser(dtype, lanes: int):
    """Device function that writes ``count`` zeros."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def erase(target, count):
        nothing = simd.full(S(0), V)
        whole = count // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, nothing)
        simd.store_part(target, whole, nothing, count - whole)

    return simd.device(erase)


# --------------------------------------------------------------------------------------------------------- exponentials


def row_max(dtype, lanes: int):
    """Device function: the largest of n elements, NaN left out (the sum of exponentials finds it)."""
    V, W, S = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype)
    where = simd.where

    def largest(x, n):
        a = simd.full(S(-np.inf), V)
        b, c, d = a, a, a
        whole, four = n // lanes * lanes, n // (4 * lanes) * (4 * lanes)
        for i in range(0, four, 4 * lanes):
            v, w = simd.load(x, i, V), simd.load(x, i + lanes, V)
            y, z = simd.load(x, i + 2 * lanes, V), simd.load(x, i + 3 * lanes, V)
            a, b, c, d = where(v > a, v, a), where(w > b, w, b), where(y > c, y, c), where(z > d, z, d)
        for i in range(four, whole, lanes):
            v = simd.load(x, i, V)
            a = where(v > a, v, a)
        if whole < n:
            v = simd.load_part(x, whole, n - whole, V)
            b = where((simd.iota(W) < n - whole) & (v > b), v, b)
        a, c = where(b > a, b, a), where(d > c, d, c)
        return simd.reduce_max(where(c > a, c, a))

    return simd.device(largest)


def row_sum_exp(dtype, lanes: int, store: bool):
    """Device function: the sum of exp(x - top) over n elements; the terms are kept in ``out`` if ``store``."""
    V, W, S = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype)
    exp = vmath.exp

    def total(x, out, n, top):
        a = simd.full(S(0), V)
        b = a
        two = n // (2 * lanes) * (2 * lanes)
        for i in range(0, two, 2 * lanes):
            v, w = exp(simd.load(x, i, V) - top), exp(simd.load(x, i + lanes, V) - top)
            if store:
                simd.store(out, i, v)
                simd.store(out, i + lanes, w)
            a, b = a + v, b + w
        for i in range(two, n, lanes):
            v = exp(simd.load_part(x, i, n - i, V) - top)
            v = simd.where(simd.iota(W) < n - i, v, 0)
            if store:
                simd.store_part(out, i, v, n - i)
            a += v
        return simd.reduce_add(a + b)

    return simd.device(total)


def column_sum_exp(dtype, lanes: int, partial: bool, store: bool):
    """Device function: (largest, sum of exp(x - largest)) down each of a vector of columns of n rows."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    get, put = access(dtype, lanes, partial)
    exp = vmath.exp

    def moments(x, out, n, inner, count):
        top = simd.full(S(-np.inf), V)
        for k in range(n):
            v = get(x, k * inner, count)
            top = simd.where(v > top, v, top)
        total = simd.full(S(0), V)
        for k in range(n):
            v = exp(get(x, k * inner, count) - top)
            if store:
                put(out, k * inner, v, count)
            total += v
        return top, total

    return simd.device(moments)


def row_map(dtype, lanes: int, function):
    """Device function that writes ``function(a, b, p, q)`` of n elements of a and b and two numbers."""
    V = simd.vector(dtype, lanes)

    def write(a, b, target, n, p, q):
        whole = n // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, function(simd.load(a, i, V), simd.load(b, i, V), p, q))
        if whole < n:
            v, w = simd.load_part(a, whole, n - whole, V), simd.load_part(b, whole, n - whole, V)
            simd.store_part(target, whole, function(v, w, p, q), n - whole)

    return simd.device(write)


# -------------------------------------------------------------------------------------------------------------- moments


def sum_loop(dtype, lanes: int):
    """Device function: a vector of sums with n elements added."""
    V = simd.vector(dtype, lanes)

    def add(total, x, n):
        a, b, c = total, total - total, total - total
        whole, three = n // lanes * lanes, n // (3 * lanes) * (3 * lanes)
        for i in range(0, three, 3 * lanes):
            a += simd.load(x, i, V)
            b += simd.load(x, i + lanes, V)
            c += simd.load(x, i + 2 * lanes, V)
        for i in range(three, whole, lanes):
            a += simd.load(x, i, V)
        return a + (b + (c + simd.load_part(x, whole, n - whole, V)))

    return simd.device(add)


def square_loop(dtype, lanes: int):
    """Device function: a vector of sums with (x - mean)² of n elements added."""
    V, W, S = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype)

    def add(total, x, n, mean):
        a, b, c = total, simd.full(S(0), V), simd.full(S(0), V)
        whole, three = n // lanes * lanes, n // (3 * lanes) * (3 * lanes)
        for i in range(0, three, 3 * lanes):
            v, w = simd.load(x, i, V) - mean, simd.load(x, i + lanes, V) - mean
            y = simd.load(x, i + 2 * lanes, V) - mean
            a, b, c = a + v * v, b + w * w, c + y * y
        for i in range(three, whole, lanes):
            v = simd.load(x, i, V) - mean
            a += v * v
        if whole < n:
            v = simd.load_part(x, whole, n - whole, V) - mean
            b += simd.where(simd.iota(W) < n - whole, v * v, 0)
        return a + (b + c)

    return simd.device(add)


def product_loop(dtype, lanes: int, flat: bool):
    """Device function: vectors of sums of g and of g * (x - mean), with n elements added."""
    V, W = simd.vector(dtype, lanes), simd.vector(np.int64, lanes)
    get, get_part = reader(dtype, lanes, flat)

    def add(total, along, g, x, n, mean):
        a, b, c, d = total, along, total - total, total - total
        two = n // (2 * lanes) * (2 * lanes)
        for i in range(0, two, 2 * lanes):
            v, w = get(g, i), get(g, i + lanes)
            a, b = a + v, b + v * (simd.load(x, i, V) - mean)
            c, d = c + w, d + w * (simd.load(x, i + lanes, V) - mean)
        for i in range(two, n, lanes):
            inside = simd.iota(W) < n - i
            v = simd.where(inside, get_part(g, i, n - i), 0)
            a += v
            b += simd.where(inside, v * (simd.load_part(x, i, n - i, V) - mean), 0)
        return a + c, b + d

    return simd.device(add)


def write_normal(dtype, lanes: int):
    """Device function that writes (x - mean) * scale + shift of n elements."""
    V = simd.vector(dtype, lanes)

    def write(x, target, n, mean, scale, shift):
        whole = n // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, (simd.load(x, i, V) - mean) * scale + shift)
        if whole < n:
            v = (simd.load_part(x, whole, n - whole, V) - mean) * scale + shift
            simd.store_part(target, whole, v, n - whole)

    return simd.device(write)


def write_gradient(dtype, lanes: int, flat: bool):
    """Device function that writes g * scale - (x - mean) * slope - shift of n elements."""
    V = simd.vector(dtype, lanes)
    get, get_part = reader(dtype, lanes, flat)

    def write(g, x, target, n, mean, scale, slope, shift):
        whole = n // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, get(g, i) * scale - (simd.load(x, i, V) - mean) * slope - shift)
        if whole < n:
            v = (simd.load_part(x, whole, n - whole, V) - mean) * slope
            simd.store_part(target, whole, get_part(g, whole, n - whole) * scale - v - shift, n - whole)

    return simd.device(write)


def moments_of(dtype, lanes: int, centred: bool):
    """Device function: (mean, variance) of ``runs`` runs of n elements, ``step`` apart; mean 0 unless centred."""
    V, S, D = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.float64)
    add_up, add_squares = sum_loop(dtype, lanes), square_loop(dtype, lanes)

    def moments(x, runs, n, step):
        if runs == 1 and n <= BLOCK:
            own = S(0)
            if centred:
                own = simd.reduce_add(add_up(simd.full(S(0), V), x, n)) / S(n)
            return own, simd.reduce_add(add_squares(simd.full(S(0), V), x, n, own)) / S(n)
        mean, squares, count = D(0), D(0), 0
        together = max(BLOCK // n, 1)
        for first in range(0, runs, together):
            last = min(first + together, runs)
            for begin in range(0, n, BLOCK):
                length = min(BLOCK, n - begin)
                size = (last - first) * length
                own = S(0)
                if centred:
                    total = simd.full(S(0), V)
                    for run in range(first, last):
                        total = add_up(total, simd.advance(x, run * step + begin), length)
                    own = simd.reduce_add(total) / S(size)
                total = simd.full(S(0), V)
                for run in range(first, last):
                    total = add_squares(total, simd.advance(x, run * step + begin), length, own)
                apart = D(own) - mean
                share = D(size) / D(count + size)
                mean += apart * share
                squares += D(simd.reduce_add(total)) + apart * apart * share * D(count)
                count += size
        return S(mean), S(squares / D(count))

    return simd.device(moments)
