"""Kernels of normalisation where each sample has one element of what is normalised together, as in columns.

Every call streams over blocks of rows; the blocks' partial sums are combined by a call of their own.
"""
from __future__ import annotations

import functools

import numpy as np

from autograd_core.kernels.lazy import simd
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import access


@range_kernel
def add_parts(dtype, lanes):
    """out[i] = sum over parts of x[part * step + i * stride].

    Context: x, out or 0, another x, its out or 0, parts, step, stride.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        whole = start + (stop - start) // lanes * lanes if w[6] == 1 else start
        for k in range(2):
            if w[2 * k + 1] != 0:
                source, target = simd.pointer(w[2 * k], S), simd.pointer(w[2 * k + 1], S)
                for i in range(start, whole, lanes):
                    total = simd.full(S(0), V)
                    for part in range(w[4]):
                        total += simd.load(source, part * w[5] + i, V)
                    simd.store(target, i, total)
                for i in range(whole, stop):
                    one = S(0)
                    for part in range(w[4]):
                        one += source[part * w[5] + i * w[6]]
                    target[i] = one

    return kernel


@range_kernel
def column_parts(dtype, lanes, centred, partial):
    """Mean and sum of squares around it of the columns of a block of rows [block][2][n]; a unit is a block.

    Context: x, parts, n, rows of a block, rows.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    get, put = access(dtype, lanes, partial)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[2]
        for block in range(start, stop):
            first, last = block * w[3], min(block * w[3] + w[3], w[4])
            parts = simd.advance(simd.pointer(w[1], S), block * 2 * n)
            for j0 in range(0, n, lanes):
                j = j0 if partial else min(j0, n - lanes)
                x = simd.advance(simd.pointer(w[0], S), j)
                mean, zero, four = simd.full(S(0), V), simd.full(S(0), V), last - (last - first) % 4
                if centred:
                    a, b, c, d = zero, zero, zero, zero  # one sum would wait for itself
                    for row in range(first, four, 4):
                        a += get(x, row * n, n - j)
                        b += get(x, row * n + n, n - j)
                        c += get(x, row * n + 2 * n, n - j)
                        d += get(x, row * n + 3 * n, n - j)
                    mean = (a + b) + (c + d)
                    for row in range(four, last):
                        mean += get(x, row * n, n - j)
                    mean = mean / S(last - first)
                a, b, c, d = zero, zero, zero, zero
                for row in range(first, four, 4):
                    v, w0 = get(x, row * n, n - j) - mean, get(x, row * n + n, n - j) - mean
                    w1, w2 = get(x, row * n + 2 * n, n - j) - mean, get(x, row * n + 3 * n, n - j) - mean
                    a, b = a + v * v + w1 * w1, b + w0 * w0 + w2 * w2
                    c, d = c + (v + w1), d + (w0 + w2)
                total, drift = a + b, c + d
                for row in range(four, last):
                    v = get(x, row * n, n - j) - mean
                    total, drift = total + v * v, drift + v
                if centred:  # what rounding left out of the mean
                    drift = drift / S(last - first)
                    mean, total = mean + drift, total - drift * drift * S(last - first)
                put(parts, j, mean, n - j)
                put(parts, n + j, total, n - j)

    return kernel


@range_kernel
def column_moments(dtype, lanes, centred):
    """Combine the parts of :func:`column_parts` in float64; a unit is a vector of columns. Context: parts, mean,
    variance, mean again, rstd, n, blocks, rows of a block, rows, eps.
    """
    V, S, D = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.float64)
    W = simd.vector(np.float64, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        parts, n = simd.pointer(w[0], S), w[5]
        for j in range(start * lanes, min(stop * lanes, n), lanes):
            mean, squares, count, left = simd.full(D(0), W), simd.full(D(0), W), 0, n - j
            for block in range(w[6]):
                size = min(w[7], w[8] - block * w[7])
                part = simd.advance(parts, block * 2 * n + j)
                apart = simd.convert(simd.load_part(part, 0, left, V), D) - mean
                share = D(size) / D(count + size)
                mean += apart * share
                squares += simd.convert(simd.load_part(part, n, left, V), D) + apart * apart * (share * D(count))
                count += size
            variance = simd.convert(squares / D(count), S)
            if centred:
                simd.store_part(simd.pointer(w[1], S), j, simd.convert(mean, S), left)
                simd.store_part(simd.pointer(w[3], S), j, simd.convert(mean, S), left)
            simd.store_part(simd.pointer(w[2], S), j, variance, left)
            simd.store_part(simd.pointer(w[4], S), j, 1 / simd.sqrt(variance + S(simd.real(w[9]))), left)

    return kernel


@range_kernel
def columns(dtype, lanes, centred, partial, adds, relu):
    """Rows of columns normalised. Context: x, weight or 0, bias or 0, out, mean, rstd, n, what is added.

    ``adds``: whether another array is added to the result, ``relu``: whether that is then limited to 0 and above.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    get, put = access(dtype, lanes, partial)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[6]
        for j0 in range(0, n, lanes):
            j = j0 if partial else min(j0, n - lanes)
            x, target = simd.advance(simd.pointer(w[0], S), j), simd.advance(simd.pointer(w[3], S), j)
            scale = get(simd.pointer(w[5], S), j, n - j)
            mean, shift = simd.full(S(0), V), simd.full(S(0), V)
            if centred:
                mean = get(simd.pointer(w[4], S), j, n - j)
            if w[1] != 0:
                scale = scale * get(simd.pointer(w[1], S), j, n - j)
            if w[2] != 0:
                shift = get(simd.pointer(w[2], S), j, n - j)
            for row in range(start, stop):
                v = (get(x, row * n, n - j) - mean) * scale + shift
                if adds:
                    v = v + get(simd.pointer(w[7], S), row * n + j, n - j)
                if relu:
                    v = simd.where(v < 0, 0, v)
                put(target, row * n, v, n - j)

    return kernel


@functools.cache
def sender(dtype, lanes, partial, flat, gated):
    """Device function: the gradient of a vector of columns; with ``gated`` 0 where the result, limited to 0 and above,
    is 0. The result is worked out again from x, as `columns` does it.
    """
    V = simd.vector(dtype, lanes)
    get, _ = access(dtype, lanes, partial)

    @simd.device
    def send(g, at, count, centred, scale, shift):
        v = simd.full(g[0], V) if flat else get(g, at, count)
        if gated:
            return simd.where(centred * scale + shift <= 0, 0, v)
        return v

    return send


@range_kernel
def column_products(dtype, lanes, centred, partial, flat, gated):
    """Sums of g * normal and of g over a block of rows [block][2][n]; a unit is a block.

    Context: g, x, mean or 0, rstd, parts, n, rows of a block, rows, weight or 0, bias or 0 (read if ``gated``, see
    `sender`).
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    get, put = access(dtype, lanes, partial)
    send = sender(dtype, lanes, partial, flat, gated)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[5]
        for block in range(start, stop):
            first, last = block * w[6], min(block * w[6] + w[6], w[7])
            parts = simd.advance(simd.pointer(w[4], S), block * 2 * n)
            for j0 in range(0, n, lanes):
                j = j0 if partial else min(j0, n - lanes)
                x, g = simd.advance(simd.pointer(w[1], S), j), simd.pointer(w[0], S)
                mean, a, b = simd.full(S(0), V), simd.full(S(0), V), simd.full(S(0), V)
                if centred:
                    mean = get(simd.pointer(w[2], S), j, n - j)
                scale, shift = get(simd.pointer(w[3], S), j, n - j), simd.full(S(0), V)
                if gated and w[8] != 0:
                    scale = scale * get(simd.pointer(w[8], S), j, n - j)
                if gated and w[9] != 0:
                    shift = get(simd.pointer(w[9], S), j, n - j)
                c, d, two = a, b, last - (last - first) % 2
                for row in range(first, two, 2):
                    y, z = get(x, row * n, n - j) - mean, get(x, row * n + n, n - j) - mean
                    v = send(g, row * n + j, n - j, y, scale, shift)
                    u = send(g, row * n + n + j, n - j, z, scale, shift)
                    a, b, c, d = a + v, b + v * y, c + u, d + u * z
                for row in range(two, last):
                    y = get(x, row * n, n - j) - mean
                    v = send(g, row * n + j, n - j, y, scale, shift)
                    a, b = a + v, b + v * y
                a, b = a + c, b + d
                put(parts, j, b * get(simd.pointer(w[3], S), j, n - j), n - j)
                put(parts, n + j, a, n - j)

    return kernel


@range_kernel
def columns_backward(dtype, lanes, centred, partial, flat, gated):
    """Gradients of rows of columns. Context: g, x, weight or 0, mean or 0, rstd, sums of g * normal and of g, dx, n,
    rows, bias or 0 (read if ``gated``, see `sender`).
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    get, put = access(dtype, lanes, partial)
    send = sender(dtype, lanes, partial, flat, gated)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[8]
        for j0 in range(0, n, lanes):
            j = j0 if partial else min(j0, n - lanes)
            x, target = simd.advance(simd.pointer(w[1], S), j), simd.advance(simd.pointer(w[7], S), j)
            g, mean, rstd = simd.pointer(w[0], S), simd.full(S(0), V), get(simd.pointer(w[4], S), j, n - j)
            scale, shift = rstd, simd.full(S(0), V)
            if w[2] != 0:
                scale = rstd * get(simd.pointer(w[2], S), j, n - j)
            slope = scale * rstd * (get(simd.pointer(w[5], S), j, n - j) / S(w[9]))
            if centred:
                mean = get(simd.pointer(w[3], S), j, n - j)
                shift = scale * (get(simd.pointer(w[6], S), j, n - j) / S(w[9]))
            bias = simd.full(S(0), V)
            if gated and w[10] != 0:
                bias = get(simd.pointer(w[10], S), j, n - j)
            for row in range(start, stop):
                y = get(x, row * n, n - j) - mean
                v = send(g, row * n + j, n - j, y, scale, bias)
                put(target, row * n, v * scale - y * slope - shift, n - j)

    return kernel
