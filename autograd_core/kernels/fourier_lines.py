"""Fourier transforms of lines side by side: a vector holds the same point of as many lines as it has lanes.

A block of lines lies in scratch memory as rows of a vector: real part and imaginary part of point 0, of point 1, ... .
It is transformed there by Stockham's algorithm (radices 4, 2, 3, 5), whose passes go from one half of the memory to the
other. Lengths with other factors are chirps: a cyclic convolution of a length without (Bluestein). Real lines of
even length are complex ones of half the length, untangled before or after. All transforms have the sign
``exp(-2 pi i j k / n)`` and no factor.

Sources: C. Van Loan, "Computational frameworks for the fast Fourier transform", 1992; L. Bluestein, "A linear filtering
approach to the computation of discrete Fourier transform", 1970.
"""
from __future__ import annotations

import functools

from autograd_core.kernels.fourier_passes import transform_of
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.runner import range_kernel

(RE_IN, IM_IN, RE_OUT, IM_OUT, TABLES, SCRATCH, ROOM, GRAIN, BESIDE, IN, OUT, POINTS, COMPLEX, CHIRP, EDGE, INSIDE,
 WAVES, CHIRPS, SPECTRUM, STAGES) = range(20)  # fmt: skip
"""Words of a context. Addresses of the parts of input and output (0: none), tables and scratch memory; floats in one
half of it; units a chunk; lines that are side by side; length of a line in memory, before and after; points of the
transform, as complex points, of the chirp's convolution (0: none); bits of the factors of the first (and middle) and
of the other frequencies; floats before the tables of waves, chirp and its spectrum; passes, and their radices.
"""


@functools.cache
def taken(dtype, lanes, along):
    """Device function: take lines into rows of vectors; ``gap`` is how many rows on the next point is.

    ``along``: a line lies along memory, the next one ``stride`` further on; else its points are ``stride`` apart, and
    the next line is beside it.
    """
    V, T = simd.vector(dtype, lanes), simd.tile(simd.vector(dtype, lanes), lanes, 1)

    @simd.device
    def one_by_one(source, stride, count, have, x, gap):
        for j in range(count):
            for lane in range(lanes):
                at = lane * stride + j if along else lane + j * stride
                x[j * gap * lanes + lane] = source[at] if lane < have else 0

    def take(source, stride, count, have, x, gap):
        if have < lanes or (along and count < lanes):
            one_by_one(source, stride, count, have, x, gap)
        elif along:
            for start in range(0, count, lanes):  # the last tile overlaps the one before
                j = min(start, count - lanes)
                t = tiles.transpose(tiles.load(simd.advance(source, j), stride, T))
                tiles.store(t, simd.advance(x, j * gap * lanes), gap * lanes)
        else:
            for j in range(count):
                simd.store(x, j * gap * lanes, simd.load(source, j * stride, V))

    return simd.device(take)


@functools.cache
def put_back(dtype, lanes, along):
    """Device function: put rows of vectors back as lines; see `taken`."""
    V, T = simd.vector(dtype, lanes), simd.tile(simd.vector(dtype, lanes), lanes, 1)

    def put(target, stride, count, have, x, gap):
        if have < lanes or (along and count < lanes):
            for j in range(count):
                for lane in range(have):
                    target[lane * stride + j if along else lane + j * stride] = x[j * gap * lanes + lane]
        elif along:
            for start in range(0, count, lanes):
                j = min(start, count - lanes)
                t = tiles.transpose(tiles.load(simd.advance(x, j * gap * lanes), gap * lanes, T))
                tiles.store(t, simd.advance(target, j), stride)
        else:
            for j in range(count):
                simd.store(target, j * stride, simd.load(x, j * gap * lanes, V))

    return simd.device(put)


@functools.cache
def untangled(dtype, lanes):
    """Device functions: a half spectrum made ready for the transform to a real line, and what comes of one."""
    V, step = simd.vector(dtype, lanes), 2 * lanes
    load, store = simd.load, simd.store

    @simd.device
    def before_even(x, half, waves, scale):
        """Z[k] = E + iO, Z[half - k] = conj(E) + i conj(O), E = H[k] + conj(H[half - k]), O = w^k (H[k] - conj(..))."""
        for at in (lanes, half * step + lanes):  # the imaginary parts of the first and the middle one are left out
            store(x, at, simd.full(0.0, V))
        for k in range(half // 2 + 1):
            i, j = k * step, (half - k) * step
            ar, ai, br, bi = load(x, i, V), load(x, i + lanes, V), load(x, j, V), load(x, j + lanes, V)
            c, s = waves[2 * k] * scale, waves[2 * k + 1] * scale
            er, ei, dr, di = (ar + br) * scale, (ai - bi) * scale, ar - br, ai + bi
            orr, oi = dr * c - di * s, dr * s + di * c
            store(x, i, er - oi)
            store(x, i + lanes, ei + orr)
            if k > 0:
                store(x, j, er + oi)
                store(x, j + lanes, orr - ei)

    @simd.device
    def before_odd(x, points, scale):
        store(x, 0, load(x, 0, V) * scale)
        store(x, lanes, simd.full(0.0, V))
        for k in range(1, points // 2 + 1):
            re, im = load(x, k * step, V) * scale, load(x, k * step + lanes, V) * scale
            store(x, k * step, re)
            store(x, k * step + lanes, im)
            store(x, (points - k) * step, re)
            store(x, (points - k) * step + lanes, -im)

    @simd.device
    def after_even(x, half, waves, edge, inside):
        """2 X[k] = E + T, 2 X[half - k] = conj(E - T), E = Z[k] + conj(Z[half - k]), T = -i w^k (Z[k] - conj(..))."""
        re, im = load(x, 0, V), load(x, lanes, V)
        store(x, 0, (re + im) * edge)
        store(x, lanes, simd.full(0.0, V))
        store(x, half * step, (re - im) * edge)
        store(x, half * step + lanes, simd.full(0.0, V))
        factor = inside * 0.5
        for k in range(1, half // 2 + 1):
            i, j = k * step, (half - k) * step
            ar, ai, br, bi = load(x, i, V), load(x, i + lanes, V), load(x, j, V), load(x, j + lanes, V)
            c, s = waves[2 * k] * factor, waves[2 * k + 1] * factor
            er, ei, dr, di = (ar + br) * factor, (ai - bi) * factor, ar - br, ai + bi
            tr, ti = di * c + dr * s, di * s - dr * c
            store(x, j, er - tr)
            store(x, j + lanes, ti - ei)
            store(x, i, er + tr)
            store(x, i + lanes, ei + ti)

    @simd.device
    def after_odd(x, points, edge, inside):
        for k in range(points // 2 + 1):
            factor = inside if k > 0 else edge
            store(x, k * step, load(x, k * step, V) * factor)
            store(x, k * step + lanes, load(x, k * step + lanes, V) * factor)

    return before_even, before_odd, after_even, after_odd


@functools.cache
def spectrum_of(dtype, lanes):
    """Device function: the transform of a block in either half of its memory; by a convolution if there is a chirp.

    What is to be transformed back has its real and imaginary parts exchanged.
    """
    V, step, transform = simd.vector(dtype, lanes), 2 * lanes, transform_of(dtype, lanes)

    @simd.device
    def multiply(x, table, count, turned):
        for k in range(count):
            re, im = simd.load(x, k * step, V), simd.load(x, k * step + lanes, V)
            c, s = table[2 * k], table[2 * k + 1]
            first, second = re * c - im * s, re * s + im * c
            simd.store(x, k * step, second if turned else first)
            simd.store(x, k * step + lanes, first if turned else second)

    @simd.device
    def multiply_exchanged(x, table, count):
        for k in range(count):
            im, re = simd.load(x, k * step, V), simd.load(x, k * step + lanes, V)
            c, s = table[2 * k], table[2 * k + 1]
            simd.store(x, k * step, re * c - im * s)
            simd.store(x, k * step + lanes, re * s + im * c)

    def spectrum(w, tables, x, y):
        points, chirp = w[COMPLEX], w[CHIRP]
        stages, length, turns = simd.advance(w, STAGES), points, 1
        if chirp > 0:
            multiply(x, simd.advance(tables, w[CHIRPS]), points, False)
            for j in range(2 * points, 2 * chirp):
                simd.store(x, j * lanes, simd.full(0.0, V))
            length, turns = chirp, 2
        for turn in range(turns):
            x, y = transform(x, y, length, stages, tables)
            if chirp > 0 and turn == 0:
                multiply(x, simd.advance(tables, w[SPECTRUM]), chirp, True)
        if chirp > 0:
            multiply_exchanged(x, simd.advance(tables, w[CHIRPS]), points)
        return x

    return simd.device(spectrum)


@range_kernel
def lines(kind, along, dtype, lanes):
    """Blocks of lines [start, stop). ``kind``: "to real", "from real" or "complex"; ``along``: see `taken`."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    spectrum, take, put = spectrum_of(dtype, lanes), taken(dtype, lanes, along), put_back(dtype, lanes, along)
    before_even, before_odd, after_even, after_odd = untangled(dtype, lanes)
    to_real, from_real = kind == "to real", kind == "from real"

    @simd.device
    def clear(x, count):
        for j in range(count):
            simd.store(x, 2 * j * lanes, simd.full(0.0, V))

    @simd.device
    def taken_in(w, re, im, stride, have, x, waves, edge):
        points = w[POINTS]
        count, gap, parts = (points, 1 + points % 2, 1) if from_real else (w[IN], 2, 2 if w[IM_IN] != 0 else 1)
        for part in range(parts):
            take(re if part == 0 else im, stride, count, have, simd.advance(x, part * lanes), gap)
        if gap > parts:
            clear(simd.advance(x, lanes), count)
        if to_real and points % 2 == 0:
            before_even(x, points // 2, waves, edge)
        elif to_real:
            before_odd(x, points, edge)

    @simd.device
    def given_out(w, re, im, stride, have, x, waves, edge, inside):
        points = w[POINTS]
        if from_real and points % 2 == 0:
            after_even(x, points // 2, waves, edge, inside)
        elif from_real:
            after_odd(x, points, edge, inside)
        gap, parts = (1 + points % 2, 1) if to_real else (2, 2 if w[IM_OUT] != 0 else 1)
        for part in range(parts):
            put(re if part == 0 else im, stride, w[OUT], have, simd.advance(x, part * lanes), gap)

    def kernel(context, start, stop):
        w = simd.words(context)
        re, im, to_re, to_im = (simd.pointer(w[RE_IN], S), simd.pointer(w[IM_IN], S), simd.pointer(w[RE_OUT], S),
                                simd.pointer(w[IM_OUT], S))  # fmt: skip
        tables, waves = simd.pointer(w[TABLES], S), simd.advance(simd.pointer(w[TABLES], S), w[WAVES])
        room = simd.advance(simd.pointer(w[SCRATCH], S), start // w[GRAIN] * 2 * w[ROOM])
        beside, edge, inside = w[BESIDE], S(simd.real(w[EDGE])), S(simd.real(w[INSIDE]))
        blocks = (beside + lanes - 1) // lanes
        for unit in range(start, stop):
            outer = unit // blocks
            i = (unit - outer * blocks) * lanes
            have = min(lanes, beside - i)
            of = outer * beside * w[IN] + (i * w[IN] if along else i)
            to = outer * beside * w[OUT] + (i * w[OUT] if along else i)
            taken_in(w, simd.advance(re, of), simd.advance(im, of), w[IN] if along else beside, have, room, waves, edge)
            x = spectrum(w, tables, room, simd.advance(room, w[ROOM]))
            given_out(w, simd.advance(to_re, to), simd.advance(to_im, to), w[OUT] if along else beside, have, x, waves,
                      edge, inside)  # fmt: skip

    return kernel
