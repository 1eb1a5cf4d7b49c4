"""Maxima over windows whose edges stand in tables: adaptive pooling, and fractional pooling, which draws them.

A unit is a plane, one sample's channel. The tables: for each of three dimensions the first elements of its windows,
then the ends.
"""

from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, is_c_ordered, out, scratch
from autograd_core.kernels.pool import grain, served, three
from autograd_core.kernels.runner import range_kernel

(SOURCE, TARGET, INDICES, TABLES, TABLE_STEP, HEIGHT, WIDTH, SIZE, OUT_DEPTH, OUT_HEIGHT, OUT_WIDTH) = range(11)
HEAD = 11
"""Words before the tables that all planes share; TABLES is 0 then."""


@range_kernel
def window_maxima(dtype, lanes):
    """The largest element of each window and its index in the plane: the first of equals, the last NaN above all."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    H, W, L = simd.scalar(np.int32), simd.vector(np.int32, lanes), simd.scalar(np.int64)

    def kernel(context, start, stop):
        w = simd.words(context)
        height, width, depths, heights, widths = w[HEIGHT], w[WIDTH], w[OUT_DEPTH], w[OUT_HEIGHT], w[OUT_WIDTH]
        windows, lowest = depths * heights * widths, S(-np.inf)
        for plane in range(start, stop):
            source = simd.advance(simd.pointer(w[SOURCE], S), plane * w[SIZE])
            target = simd.advance(simd.pointer(w[TARGET], S), plane * windows)
            indices = simd.advance(simd.pointer(w[INDICES], L), plane * windows)
            z = simd.words(context + 8 * HEAD)
            if w[TABLES] != 0:
                z = simd.advance(simd.words(w[TABLES]), plane * w[TABLE_STEP])
            y = simd.advance(z, 2 * depths)
            x = simd.advance(y, 2 * heights)
            place = 0
            for i in range(depths):
                for j in range(heights):
                    for k in range(widths):
                        first, last = x[k], x[widths + k]
                        begin = (z[i] * height + y[j]) * width + first
                        best, winner = simd.full(lowest, V), simd.full(H(begin), W)
                        for d in range(z[i], z[depths + i]):
                            for h in range(y[j], y[heights + j]):
                                row = (d * height + h) * width
                                for at in range(first, last, lanes):
                                    v = simd.load_part(source, row + at, last - at, V)
                                    inside = simd.iota(W) < H(last - at)
                                    wins = ((v > best) | (v != v)) & inside
                                    best = simd.where(wins, v, best)
                                    winner = simd.where(wins, simd.iota(W) + H(row + at), winner)
                        most = simd.reduce_max(best)
                        target[place] = most
                        if most == most:
                            found = simd.reduce_min(simd.where(best == most, winner, H(2147483647)))
                        else:
                            found = simd.reduce_max(simd.where(best != best, winner, H(-1)))
                        indices[place] = L(found)
                        place += 1

    return kernel


@range_kernel
def draw_windows(dtype):
    """The tables of planes whose windows are drawn. Context: draws, tables, words of a plane's table, draws of a plane,
    size of the windows; for each dimension: which draw, elements before the last window, windows, their step.
    """
    S, D, L = simd.scalar(dtype), simd.scalar(np.float64), simd.scalar(np.int64)

    def kernel(context, start, stop):
        w = simd.words(context)
        for plane in range(start, stop):
            draws = simd.advance(simd.pointer(w[0], S), plane * w[3])
            table = simd.advance(simd.words(w[1]), plane * w[2])
            for d in range(3):
                facts = simd.advance(w, 4 + 5 * d)
                count, step = facts[2], simd.real(facts[3])
                draw = D(0)
                if facts[0] >= 0:
                    draw = D(draws[facts[0]])
                for i in range(count):
                    first = L((D(i) + draw) * step) - L(draw * step)
                    if i == count - 1:
                        first = facts[1]
                    table[i], table[count + i] = first, first + facts[4]
                table = simd.advance(table, 2 * count)

    return kernel


# ------------------------------------------------------------------------------------------------------------ plans


def _maxima(
    x: Array, windows: tuple[int, ...], each: int, tables: tuple[int | Ref, ...], shared: tuple[int, ...]
) -> Call:
    """The call that finds the maxima of the planes (the dims behind the second), ``each`` of so many elements."""
    size, planes = three(x.shape[2:], 1), math.prod(x.shape[:2])
    context = (inp(0), out(0), out(1), *tables, *size[1:], math.prod(size), *three(windows, 1), *shared)
    return Call(window_maxima(x.dtype, host.lanes(x.dtype)), context, planes, grain(each))


def _outputs(x: Array, windows: tuple[int, ...]) -> tuple[Spec, Spec]:
    shape = (*x.shape[:2], *windows)
    return Spec(shape, x.dtype), Spec(shape, np.dtype(np.int64))


def adaptive_max_pool(x: Array, *, output_size: tuple[int, ...]) -> Plan | None:
    """Plan ``ops.adaptive_max_pool``: windows from floor(i n / o) up to ceil((i + 1) n / o)."""
    if not served(x, len(output_size)) or 0 in output_size or 0 in x.shape:
        return None
    shared: list[int] = []
    for n, o in zip(three(x.shape[2:], 1), three(output_size, 1), strict=True):
        shared += [i * n // o for i in range(o)] + [-(-(i + 1) * n // o) for i in range(o)]
    return Plan(_outputs(x, output_size), (_maxima(x, output_size, math.prod(x.shape[2:]), (0, 0), tuple(shared)),))


def fractional_max_pool(x: Array, samples: Array, *, kernel_size: tuple[int, ...],
                        output_size: tuple[int, ...]) -> Plan | None:  # fmt: skip
    """Plan ``ops.fractional_max_pool``: the windows of each plane at the steps that its ``samples`` say."""
    rank, planes = len(output_size), math.prod(x.shape[:2])
    if not served(x, rank) or samples.dtype.char not in "fd" or not is_c_ordered(samples) or 0 in x.shape:
        return None
    facts: list[int] = []
    for d in range(3):
        own = d - (3 - rank)
        n, k, o = (x.shape[2 + own], kernel_size[own], output_size[own]) if own >= 0 else (1, 1, 1)
        facts += [max(own, -1), n - k, o, bits((n - k) / (o - 1) if o > 1 else 0.0), k]
    words = 2 * sum(three(output_size, 1))
    draw = Call(draw_windows(samples.dtype), (inp(1), scratch(0), words, rank, *facts), planes, max(1, 4096 // words))
    each = math.prod(output_size) * max(math.prod(kernel_size), host.lanes(x.dtype))
    found = _maxima(x, output_size, each, (scratch(0), words), ())
    return Plan(_outputs(x, output_size), (draw, found), (planes * words * 8,))
