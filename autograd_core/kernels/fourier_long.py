"""The Fourier transform of single long lines, real to real, as that of many short ones (Bailey's four steps).

``L1 * L2`` complex points are a matrix: columns are transformed, turned by ``exp(-2 pi i k1 j2 / L)``, then rows. The
points lie in planes of real and of imaginary parts. A convolution goes the same way back without laying the spectrum in
order: rows and columns are transformed again with real and imaginary parts exchanged.

Source: D. Bailey, "FFTs in external or hierarchical memory", 1990; see also `fourier_lines`.
"""
from __future__ import annotations

from autograd_core.kernels.fourier_lines import put_back, taken
from autograd_core.kernels.fourier_passes import transform_of
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.runner import range_kernel


@range_kernel
def begin(kind, dtype):
    """Complex points [start, stop) of all lines: of a real line, or of a half spectrum without imaginary parts.

    Context: input, real and imaginary plane, waves, chirp (0: none), points of the real line, complex points, points of
    a plane, points of an input line, bits of a factor.
    """
    S, to_real = simd.scalar(dtype), kind == "to real"

    def kernel(context, start, stop):
        w = simd.words(context)
        source, re, im = simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S)
        waves, chirp = simd.pointer(w[3], S), simd.pointer(w[4], S)
        points, half, length, scale = w[5], w[6], w[7], S(simd.real(w[9]))
        for place in range(start, stop):
            line, k = place // length, place % length
            x, a, b = simd.advance(source, line * w[8]), S(0), S(0)
            if k < half:
                if to_real and points % 2 == 0:
                    apart = (x[k] - x[half - k]) * scale
                    a = (x[k] + x[half - k]) * scale - apart * waves[2 * k + 1]
                    b = apart * waves[2 * k]
                elif to_real:
                    a = x[min(k, points - k)] * scale
                elif points % 2 == 0:
                    a, b = x[2 * k], x[2 * k + 1]
                else:
                    a = x[k]
                if w[4] != 0:
                    c, s = chirp[2 * k], chirp[2 * k + 1]
                    a, b = a * c - b * s, a * s + b * c
            re[place], im[place] = a, b

    return kernel


@range_kernel
def columns(dtype, lanes):
    """Columns of matrices, blocks [start, stop): transformed, then turned (or, on the way back, the other way round).

    Context: real and imaginary plane, scratch memory, floats in one half of it, blocks a chunk, the turns (a plane of
    cosines, one of sines), rows, columns, whether it is the way back, tables of the passes, the passes.
    """
    V, S, step = simd.vector(dtype, lanes), simd.scalar(dtype), 2 * lanes
    transform, take, put = transform_of(dtype, lanes), taken(dtype, lanes, False), put_back(dtype, lanes, False)

    @simd.device
    def turn(x, rows, wide, have, cos, sin):
        for k in range(rows):
            c, s = simd.load_part(cos, k * wide, have, V), simd.load_part(sin, k * wide, have, V)
            re, im = simd.load(x, k * step, V), simd.load(x, k * step + lanes, V)
            simd.store(x, k * step, re * c - im * s)
            simd.store(x, k * step + lanes, re * s + im * c)

    def kernel(context, start, stop):
        w = simd.words(context)
        re, im, room = simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S)
        room, cos, sin = simd.advance(room, start // w[4] * 2 * w[3]), simd.pointer(w[5], S), simd.pointer(w[6], S)
        rows, wide, table, stages = w[7], w[8], simd.pointer(w[10], S), simd.advance(w, 11)
        blocks = (wide + lanes - 1) // lanes
        for unit in range(start, stop):
            line = unit // blocks
            column = (unit - line * blocks) * lanes
            have, at, x = min(lanes, wide - column), line * rows * wide + column, room
            for part in range(2):
                take(simd.advance(re if part == 0 else im, at), wide, rows, have, simd.advance(x, part * lanes), 2)
            if w[9] != 0:
                turn(x, rows, wide, have, simd.advance(cos, column), simd.advance(sin, column))
            x, _ = transform(x, simd.advance(room, w[3]), rows, stages, table)
            if w[9] == 0:
                turn(x, rows, wide, have, simd.advance(cos, column), simd.advance(sin, column))
            for part in range(2):
                put(simd.advance(re if part == 0 else im, at), wide, rows, have, simd.advance(x, part * lanes), 2)

    return kernel


@range_kernel
def rows(dtype, lanes):
    """Rows of matrices, blocks [start, stop): transformed and laid in order as columns of other planes.

    In a convolution times a spectrum and transformed back, in place. Context: real and imaginary plane, the other
    planes, scratch memory, floats in one half of it, blocks a chunk, the spectrum (a plane of real parts, one of
    imaginary ones), rows, columns, how many transforms, tables of the passes, the passes.
    """
    V, S, step = simd.vector(dtype, lanes), simd.scalar(dtype), 2 * lanes
    transform, take, put = transform_of(dtype, lanes), taken(dtype, lanes, True), put_back(dtype, lanes, True)
    put_across = put_back(dtype, lanes, False)

    @simd.device
    def multiply(x, count, high, have, cos, sin):
        for k in range(count):
            c, s = simd.load_part(cos, k * high, have, V), simd.load_part(sin, k * high, have, V)
            re, im = simd.load(x, k * step, V), simd.load(x, k * step + lanes, V)
            simd.store(x, k * step + lanes, re * c - im * s)  # exchanged
            simd.store(x, k * step, re * s + im * c)

    def kernel(context, start, stop):
        w = simd.words(context)
        re, im, to_re, to_im = (simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S),
                                simd.pointer(w[3], S))  # fmt: skip
        room = simd.advance(simd.pointer(w[4], S), start // w[6] * 2 * w[5])
        cos, sin, high, wide = simd.pointer(w[7], S), simd.pointer(w[8], S), w[9], w[10]
        table, stages, blocks = simd.pointer(w[12], S), simd.advance(w, 13), (high + lanes - 1) // lanes
        for unit in range(start, stop):
            line = unit // blocks
            row = (unit - line * blocks) * lanes
            have, at, x = min(lanes, high - row), line * high * wide + row * wide, room
            for part in range(2):
                take(simd.advance(re if part == 0 else im, at), wide, wide, have, simd.advance(x, part * lanes), 2)
            y = simd.advance(room, w[5])
            for transforms in range(w[11]):
                if transforms > 0:
                    multiply(x, wide, high, have, simd.advance(cos, row), simd.advance(sin, row))
                x, y = transform(x, y, wide, stages, table)
            if w[11] > 1:
                for part in range(2):
                    put(simd.advance(re if part == 0 else im, at), wide, wide, have, simd.advance(x, part * lanes), 2)
            else:
                to = line * high * wide + row
                for part in range(2):
                    target = simd.advance(to_re if part == 0 else to_im, to)
                    put_across(target, high, wide, have, simd.advance(x, part * lanes), 2)

    return kernel


@range_kernel
def finish(kind, dtype):
    """Results [start, stop) of all lines: a real line (in pairs), or the real parts of a half spectrum.

    Context: real and imaginary plane, result, waves, chirp (0: none), points of the real line, complex points, points
    of a plane, results a line (or pairs), bits of the factors of the first and middle, and of the other frequencies.
    """
    S, to_real = simd.scalar(dtype), kind == "to real"

    def kernel(context, start, stop):
        w = simd.words(context)
        planes, others, target = simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S)
        waves, chirp, chirped = simd.pointer(w[3], S), simd.pointer(w[4], S), w[4] != 0
        half, length, count = w[6], w[7], w[8]
        edge, inside, even = S(simd.real(w[9])), S(simd.real(w[10])), w[5] % 2 == 0
        for place in range(start, stop):
            line, k = place // count, place % count
            re, im = simd.advance(planes, line * length), simd.advance(others, line * length)
            i, j = (k if k < half else 0), (half - k if k > 0 else 0)
            a, b, c, d = re[i], im[i], re[j], im[j]
            if chirped:
                p, q, r, s = chirp[2 * i], chirp[2 * i + 1], chirp[2 * j], chirp[2 * j + 1]
                a, b, c, d = a * p - b * q, a * q + b * p, c * r - d * s, c * s + d * r
            factor = inside if k > 0 and not (even and k == half) else edge
            if to_real and even:
                target[2 * place], target[2 * place + 1] = a, b
            elif to_real:
                target[place] = a
            elif even:
                apart = (b + d) * waves[2 * k] + (a - c) * waves[2 * k + 1]
                target[place] = (a + c + apart) * (factor * S(0.5))
            else:
                target[place] = a * factor

    return kernel


def divided(length: int, lanes: int) -> tuple[int, int] | None:
    """(rows, columns) of the matrix that a long line becomes: whole blocks where it can be; None if it is too short."""
    pairs = [(d, length // d) for d in range(lanes, length // lanes + 1) if length % d == 0]
    whole = [pair for pair in pairs if pair[0] % lanes == pair[1] % lanes == 0]
    return min(whole or pairs, key=lambda pair: abs(pair[0] - pair[1]), default=None)
