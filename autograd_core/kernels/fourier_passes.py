"""Passes of Stockham's algorithm over a block of lines that lie as `fourier_lines` says: radices 4, 2, 3 and 5.

A pass reads ``r`` points that are ``n / r`` apart, and writes them side by side, turned (multiplied by a power of the
root of unity), into another piece of memory. ``m`` blocks of ``s`` points each: a pass has done with ``s`` of them.
"""
from __future__ import annotations

import functools
import math

from autograd_core.kernels.lazy import simd


@functools.cache
def points_of(dtype, lanes):
    """Device functions: read a point, write it, write it turned."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def point(x, at):
        return simd.load(x, at, V), simd.load(x, at + lanes, V)

    @simd.device
    def put(x, at, re, im):
        simd.store(x, at, re)
        simd.store(x, at + lanes, im)

    @simd.device
    def put_turned(x, at, re, im, cos, sin):
        put(x, at, re * cos - im * sin, re * sin + im * cos)

    return point, put, put_turned


@functools.cache
def by_four_of(dtype, lanes):
    """Device function: a pass of radix 4."""
    (point, put, put_turned), step = points_of(dtype, lanes), 2 * lanes

    @simd.device
    def four(x, i, far):
        ar, ai = point(x, i)
        br, bi = point(x, i + far)
        cr, ci = point(x, i + 2 * far)
        dr, di = point(x, i + 3 * far)
        pr, pi, qr, qi = ar + cr, ai + ci, ar - cr, ai - ci
        sr, si, tr, ti = br + dr, bi + di, br - dr, bi - di
        return pr + sr, pi + si, qr + ti, qi - tr, pr - sr, pi - si, qr - ti, qi + tr

    @simd.device
    def by_four(x, y, m, s, t):
        far, near = s * m * step, s * step
        if m == 1:  # the last pass turns nothing
            for i in range(0, s * step, step):
                ar, ai, br, bi, cr, ci, dr, di = four(x, i, far)
                put(y, i, ar, ai)
                put(y, i + near, br, bi)
                put(y, i + 2 * near, cr, ci)
                put(y, i + 3 * near, dr, di)
            return
        for p in range(m):
            b, bs, c, cs, d, ds = t[6 * p], t[6 * p + 1], t[6 * p + 2], t[6 * p + 3], t[6 * p + 4], t[6 * p + 5]
            for q in range(s):
                at = (4 * s * p + q) * step
                ar, ai, br, bi, cr, ci, dr, di = four(x, (s * p + q) * step, far)
                put(y, at, ar, ai)
                put_turned(y, at + near, br, bi, b, bs)
                put_turned(y, at + 2 * near, cr, ci, c, cs)
                put_turned(y, at + 3 * near, dr, di, d, ds)

    return by_four


@functools.cache
def by_two_of(dtype, lanes):
    """Device function: a pass of radix 2."""
    (point, put, put_turned), step = points_of(dtype, lanes), 2 * lanes

    @simd.device
    def by_two(x, y, m, s, t):
        far, near = s * m * step, s * step
        for p in range(m):
            for q in range(s):
                i, at = (s * p + q) * step, (2 * s * p + q) * step
                ar, ai = point(x, i)
                br, bi = point(x, i + far)
                put(y, at, ar + br, ai + bi)
                put_turned(y, at + near, ar - br, ai - bi, t[2 * p], t[2 * p + 1])

    return by_two


@functools.cache
def by_three_of(dtype, lanes):
    """Device function: a pass of radix 3."""
    (point, put, put_turned), step = points_of(dtype, lanes), 2 * lanes
    sin60 = math.sqrt(0.75)

    @simd.device
    def by_three(x, y, m, s, t):
        far, near = s * m * step, s * step
        for p in range(m):
            for q in range(s):
                i, at = (s * p + q) * step, (3 * s * p + q) * step
                ar, ai = point(x, i)
                br, bi = point(x, i + far)
                cr, ci = point(x, i + 2 * far)
                sr, si, dr, di = br + cr, bi + ci, (br - cr) * sin60, (bi - ci) * sin60
                mr, mi = ar - sr * 0.5, ai - si * 0.5
                put(y, at, ar + sr, ai + si)
                put_turned(y, at + near, mr + di, mi - dr, t[4 * p], t[4 * p + 1])
                put_turned(y, at + 2 * near, mr - di, mi + dr, t[4 * p + 2], t[4 * p + 3])

    return by_three


@functools.cache
def by_five_of(dtype, lanes):
    """Device function: a pass of radix 5."""
    (point, put, put_turned), step = points_of(dtype, lanes), 2 * lanes
    cos72, cos144 = (math.sqrt(5) - 1) / 4, -(math.sqrt(5) + 1) / 4
    sin72, sin144 = math.sin(0.4 * math.pi), math.sin(0.8 * math.pi)

    @simd.device
    def by_five(x, y, m, s, t):
        far, near = s * m * step, s * step
        for p in range(m):
            for q in range(s):
                i, at = (s * p + q) * step, (5 * s * p + q) * step
                ar, ai = point(x, i)
                br, bi = point(x, i + far)
                cr, ci = point(x, i + 2 * far)
                dr, di = point(x, i + 3 * far)
                er, ei = point(x, i + 4 * far)
                pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
                fr, fi, gr, gi = br - er, bi - ei, cr - dr, ci - di
                mr, mi = ar + pr * cos72 + qr * cos144, ai + pi * cos72 + qi * cos144
                nr, ni = ar + pr * cos144 + qr * cos72, ai + pi * cos144 + qi * cos72
                ur, ui = fr * sin72 + gr * sin144, fi * sin72 + gi * sin144
                vr, vi = fr * sin144 - gr * sin72, fi * sin144 - gi * sin72
                put(y, at, ar + pr + qr, ai + pi + qi)
                put_turned(y, at + near, mr + ui, mi - ur, t[8 * p], t[8 * p + 1])
                put_turned(y, at + 2 * near, nr + vi, ni - vr, t[8 * p + 2], t[8 * p + 3])
                put_turned(y, at + 3 * near, nr - vi, ni + vr, t[8 * p + 4], t[8 * p + 5])
                put_turned(y, at + 4 * near, mr - ui, mi + ur, t[8 * p + 6], t[8 * p + 7])

    return by_five


@functools.cache
def transform_of(dtype, lanes):
    """Device function: the transform of a block of lines between two pieces of memory; returns both, its own first."""
    by_four, by_two = by_four_of(dtype, lanes), by_two_of(dtype, lanes)
    by_three, by_five = by_three_of(dtype, lanes), by_five_of(dtype, lanes)

    def transform(x, y, points, stages, t):
        """``stages``: how many passes, and their radices; ``t``: the turns of each, pass by pass."""
        m, s = points, 1
        for i in range(1, stages[0] + 1):
            r = stages[i]
            m //= r
            if r == 4:
                by_four(x, y, m, s, t)
            elif r == 2:
                by_two(x, y, m, s, t)
            elif r == 3:
                by_three(x, y, m, s, t)
            else:
                by_five(x, y, m, s, t)
            t = simd.advance(t, 2 * m * (r - 1))
            x, y = y, x
            s *= r
        return x, y

    return simd.device(transform)
