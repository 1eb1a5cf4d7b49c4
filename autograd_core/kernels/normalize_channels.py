"""Kernels of normalisation where each sample has one run of elements of what is normalised together: a channel."""

from __future__ import annotations

import functools

import numpy as np

from autograd_core.kernels.lazy import simd
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import BLOCK, moments_of, product_loop, write_gradient, write_normal


@functools.cache
def write_ended(dtype, lanes, adds, relu):
    """Device function as `runs.write_normal`, which adds n elements of another array and limits to 0 and above."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def end(v, other):
        if adds:
            v = v + other
        if relu:
            v = simd.where(v < 0, 0, v)
        return v

    @simd.device
    def write(x, other, target, n, mean, scale, shift):
        whole = n // lanes * lanes
        for i in range(0, whole, lanes):
            v = (simd.load(x, i, V) - mean) * scale + shift
            simd.store(target, i, end(v, simd.load(other, i, V) if adds else v))
        if whole < n:
            v = (simd.load_part(x, whole, n - whole, V) - mean) * scale + shift
            last = simd.load_part(other, whole, n - whole, V) if adds else v
            simd.store_part(target, whole, end(v, last), n - whole)

    return write


@range_kernel
def channels(dtype, lanes, centred, adds, relu):
    """Channels normalised; a unit is a channel. Context: x, weight or 0, bias or 0, out, mean, variance, mean again,
    rstd, samples, channels, inner, eps, what is added (see `normalize_columns.columns`).
    """
    S = simd.scalar(dtype)
    moments, write = moments_of(dtype, lanes, centred), write_ended(dtype, lanes, adds, relu)

    def kernel(context, start, stop):
        w = simd.words(context)
        samples, inner = w[8], w[10]
        step = w[9] * inner
        for c in range(start, stop):
            x = simd.advance(simd.pointer(w[0], S), c * inner)
            target = simd.advance(simd.pointer(w[3], S), c * inner)
            mean, variance = moments(x, samples, inner, step)
            rstd = S(1) / simd.sqrt(variance + S(simd.real(w[11])))
            if centred:
                simd.pointer(w[4], S)[c] = mean
                simd.pointer(w[6], S)[c] = mean
            simd.pointer(w[5], S)[c] = variance
            simd.pointer(w[7], S)[c] = rstd
            scale, shift = rstd, S(0)
            if w[1] != 0:
                scale = rstd * simd.pointer(w[1], S)[c]
            if w[2] != 0:
                shift = simd.pointer(w[2], S)[c]
            other = simd.advance(simd.pointer(w[12], S), c * inner)
            for k in range(samples):
                write(
                    simd.advance(x, k * step),
                    simd.advance(other, k * step),
                    simd.advance(target, k * step),
                    inner,
                    mean,
                    scale,
                    shift,
                )

    return kernel


@range_kernel
def channels_scaled(dtype, lanes):
    """Channels normalised by given statistics; a unit is a channel of a sample.

    Context: x, mean, variance, weight or 0, bias or 0, out, channels, inner, eps.
    """
    S = simd.scalar(dtype)
    write = write_normal(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        inner = w[7]
        for unit in range(start, stop):
            c = unit % w[6]
            scale, shift = S(1) / simd.sqrt(simd.pointer(w[2], S)[c] + S(simd.real(w[8]))), S(0)
            if w[3] != 0:
                scale *= simd.pointer(w[3], S)[c]
            if w[4] != 0:
                shift = simd.pointer(w[4], S)[c]
            x, target = simd.pointer(w[0], S), simd.pointer(w[5], S)
            mean = simd.pointer(w[1], S)[c]
            write(simd.advance(x, unit * inner), simd.advance(target, unit * inner), inner, mean, scale, shift)

    return kernel


@range_kernel
def channels_backward(dtype, lanes, centred, flat):
    """Gradients of channels; a unit is a channel. Context: g, x, weight or 0, mean or 0, rstd, dx or 0, dw or 0, db or
    0, samples, channels, inner.
    """
    S, V, D = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.float64)
    add_products, write = product_loop(dtype, lanes, flat), write_gradient(dtype, lanes, flat)

    def kernel(context, start, stop):
        w = simd.words(context)
        samples, inner = w[8], w[10]
        step = w[9] * inner
        together = max(BLOCK // inner, 1)
        for c in range(start, stop):
            g = simd.advance(simd.pointer(w[0], S), 0 if flat else c * inner)
            x = simd.advance(simd.pointer(w[1], S), c * inner)
            mean, rstd = S(0), simd.pointer(w[4], S)[c]
            if centred:
                mean = simd.pointer(w[3], S)[c]
            total, along = D(0), D(0)
            for first in range(0, samples, together):
                a, b = simd.full(S(0), V), simd.full(S(0), V)
                for k in range(first, min(first + together, samples)):
                    sent = simd.advance(g, 0 if flat else k * step)
                    a, b = add_products(a, b, sent, simd.advance(x, k * step), inner, mean)
                total += D(simd.reduce_add(a))
                along += D(simd.reduce_add(b))
            along *= D(rstd)
            if w[6] != 0:
                simd.pointer(w[6], S)[c] = S(along)
            if w[7] != 0:
                simd.pointer(w[7], S)[c] = S(total)
            if w[5] != 0:
                scale = rstd
                if w[2] != 0:
                    scale = rstd * simd.pointer(w[2], S)[c]
                count = D(samples * inner)
                slope, shift = scale * rstd * S(along / count), S(0)
                if centred:
                    shift = scale * S(total / count)
                target = simd.advance(simd.pointer(w[5], S), c * inner)
                for k in range(samples):
                    sent = simd.advance(g, 0 if flat else k * step)
                    write(
                        sent,
                        simd.advance(x, k * step),
                        simd.advance(target, k * step),
                        inner,
                        mean,
                        scale,
                        slope,
                        shift,
                    )

    return kernel
