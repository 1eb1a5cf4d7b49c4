"""Images and volumes sampled at points, and the two gradients of that: ``grid_sample``.

Points are worked off in blocks. For a block, tables are filled first, vectors along the points: in each dimension the
pixels that a point touches with their weights (one, two or four by the mode), then their products, the taps: an offset
in the plane (-1 outside of it) and a weight. Then each channel is one loop over points and taps.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import eraser, served

BLOCK = 128  # points; a multiple of every number of lanes
WORK = 65536  # taps of a chunk

(INPUT, GRID, GRADIENT, TARGET, TABLES, CHANNELS, POINTS, BLOCKS, RANK, EACH, CLASP, ALIGN, GROUP, DEPTH, HEIGHT,
 WIDTH) = range(16)  # fmt: skip
"""EACH: pixels that a point touches in a dimension. CLASP: the padding mode. GROUP: units of a chunk."""

EACH_OF = {"nearest": 1, "bilinear": 2, "bicubic": 4}
ZEROS, BORDER, REFLECTION = range(3)
CLASPS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}


# ---------------------------------------------------------------------------------------------------------- tables


@functools.cache
def clasper(dtype, lanes):
    """Device function: (positions by the rule for those outside, their slope) along a dimension of n pixels."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def clasp(at, n, mode, align):
        slope, last = simd.full(S(1), V), S(n - 1)
        if mode == REFLECTION:
            low, span = S(-0.5), S(n)
            if align:
                low, span = S(0), S(n - 1)
            below, distance = at < low, simd.absolute(at - low)
            if span == S(0):
                at, slope = distance * S(0), slope * S(0)
            else:
                times = simd.floor(distance / span)
                rest = distance - times * span
                odd = times != simd.floor(times * S(0.5)) * S(2)
                at = simd.where(odd, span - rest, rest) + low
                slope = simd.where(below ^ odd, -slope, slope)
        if mode != ZEROS:
            slope = simd.where((at > 0) & (at < last), slope, 0)
            at = simd.where(at < 0, 0, simd.where(at > last, last, at))
        return at, slope

    return simd.device(clasp)


@functools.cache
def axis_taps(dtype, lanes):
    """Device function that writes, for a vector of coordinates of one dimension, the pixels that they touch (-1
    outside), their weights, the derivatives of these, and the slope of positions in pixels.
    """
    S, V, H = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32)
    clasp = clasper(dtype, lanes)

    @simd.device
    def keep(pixels, k, at, n):
        inside = (at >= 0) & (at <= S(n - 1))
        whole = simd.convert(simd.where(inside, at, 0), H)
        simd.store(pixels, k * BLOCK, simd.where(inside, whole, H(-1)))

    @simd.device
    def weigh(weights, slopes, k, weight, slope):
        simd.store(weights, k * BLOCK, weight)
        simd.store(slopes, k * BLOCK, slope)

    @simd.device
    def near(x):
        return ((S(1.25) * x - S(2.25)) * x) * x + S(1), (S(3.75) * x - S(4.5)) * x

    @simd.device
    def far(x):
        return ((S(-0.75) * x + S(3.75)) * x - S(6)) * x + S(3), (S(-2.25) * x + S(7.5)) * x - S(6)

    def fill(at, n, each, mode, align, pixels, weights, slopes, scales):
        scale = S(n) * S(0.5)
        if align:
            scale = S(n - 1) * S(0.5)
            at = (at + S(1)) * scale
        else:
            at = ((at + S(1)) * S(n) - S(1)) * S(0.5)
        one = simd.full(S(1), V)
        if each == 4:
            floor = simd.floor(at)
            t = at - floor
            a, da = far(t + S(1))
            b, db = near(t)
            c, dc = near(S(1) - t)
            d, dd = far(S(2) - t)
            weigh(weights, slopes, 0, a, da)
            weigh(weights, slopes, 1, b, db)
            weigh(weights, slopes, 2, c, -dc)
            weigh(weights, slopes, 3, d, -dd)
            for k in range(4):
                place, _ = clasp(floor + S(k - 1), n, mode, align)
                keep(pixels, k, place, n)
            simd.store(scales, 0, one * scale)
        else:
            at, slope = clasp(at, n, mode, align)
            if each == 1:
                keep(pixels, 0, simd.rint(at), n)
                weigh(weights, slopes, 0, one, one * S(0))
            else:
                floor = simd.floor(at)
                keep(pixels, 0, floor, n)
                keep(pixels, 1, floor + S(1), n)
                weigh(weights, slopes, 0, floor + S(1) - at, -one)
                weigh(weights, slopes, 1, at - floor, one)
            simd.store(scales, 0, slope * scale)

    return simd.device(fill)


TAPS = 16  # of a point at most: 4 x 4, or 2 x 2 x 2
AXES = 3 * 4 * BLOCK  # elements of a table with four pixels in each of three dimensions


def table_bytes(dtype) -> int:
    """Bytes of the tables of a block: see `filler`."""
    floats = BLOCK + 3 * BLOCK + 2 * AXES + 4 * TAPS * BLOCK
    return floats * dtype.itemsize + (AXES + TAPS * BLOCK) * 4


@functools.cache
def filler(dtype, lanes, sloped):
    """Device function that fills the tables of a block; returns (offsets, weights, slopes [3] of taps, scales [3]).

    ``sloped``: the derivatives of the weights in each dimension are wanted.
    """
    S, V, H, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32), simd.vector(np.int32, lanes)
    fill, size = axis_taps(dtype, lanes), np.dtype(dtype).itemsize

    def tables(context, memory, first, count, image):
        w = simd.words(context)
        rank, each, mode, align = w[RANK], w[EACH], w[CLASP], w[ALIGN]
        scales = simd.pointer(memory + BLOCK * size, S)
        factors = simd.advance(scales, 3 * BLOCK)
        slopes = simd.advance(factors, AXES)
        weights = simd.advance(slopes, AXES)
        steps = simd.advance(weights, TAPS * BLOCK)
        pixels = simd.pointer(memory + (4 * BLOCK + 2 * AXES + 4 * TAPS * BLOCK) * size, H)
        offsets = simd.advance(pixels, AXES)
        points = simd.advance(simd.pointer(w[GRID], S), (image * w[POINTS] + first) * rank)
        for i in range(0, count, lanes):
            inside = simd.iota(W) < H(count - i)
            for d in range(3 - rank, 3):
                own = d * 4 * BLOCK + i
                at = simd.gather_where(points, simd.iota(W) * H(rank) + H(i * rank + 2 - d), inside, V)
                fill(
                    at,
                    w[DEPTH + d],
                    each,
                    mode,
                    align != 0,
                    simd.advance(pixels, own),
                    simd.advance(factors, own),
                    simd.advance(slopes, own),
                    simd.advance(scales, d * BLOCK + i),
                )
            tap, plane, whole, falling = 0, simd.full(H(0), W), simd.full(S(1), V), simd.full(S(0), V)
            for a in range(1 if rank == 2 else each):
                if rank == 3:
                    own = a * BLOCK + i
                    plane = simd.load(pixels, own, W)
                    whole, falling = simd.load(factors, own, V), simd.load(slopes, own, V)
                for b in range(each):
                    own = (4 + b) * BLOCK + i
                    line, factor, slope = (
                        simd.load(pixels, own, W),
                        simd.load(factors, own, V),
                        simd.load(slopes, own, V),
                    )
                    row = (plane * H(w[HEIGHT]) + line) * H(w[WIDTH])
                    row = simd.where((plane < H(0)) | (line < H(0)), H(-1), row)
                    for c in range(each):
                        own = (8 + c) * BLOCK + i
                        pixel, last = simd.load(pixels, own, W), simd.load(factors, own, V)
                        place, outside = tap * BLOCK + i, (row < H(0)) | (pixel < H(0))
                        simd.store(offsets, place, simd.where(outside, H(-1), row + pixel))
                        simd.store(weights, place, simd.where(outside, 0, whole * factor * last))
                        if sloped:
                            steeper = whole * factor * simd.load(slopes, own, V)
                            simd.store(steps, place, simd.where(outside, 0, falling * factor * last))
                            simd.store(steps, TAPS * BLOCK + place, simd.where(outside, 0, whole * slope * last))
                            simd.store(steps, 2 * TAPS * BLOCK + place, simd.where(outside, 0, steeper))
                        tap += 1
        return offsets, weights, steps, scales

    return simd.device(tables)


# ---------------------------------------------------------------------------------------------------------- kernels


@range_kernel
def values_at_points(dtype, lanes):
    """The image at the points; a unit is a block of points with all channels."""
    S, V, H, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32), simd.vector(np.int32, lanes)
    tables, room = filler(dtype, lanes, False), table_bytes(np.dtype(dtype))

    def kernel(context, start, stop):
        w = simd.words(context)
        points, channels, size = w[POINTS], w[CHANNELS], w[DEPTH] * w[HEIGHT] * w[WIDTH]
        taps = w[EACH] * w[EACH] * (w[EACH] if w[RANK] == 3 else 1)
        for unit in range(start, stop):
            image = unit // w[BLOCKS]
            first = (unit - image * w[BLOCKS]) * BLOCK
            count = min(BLOCK, points - first)
            offsets, weights, _, _ = tables(context, w[TABLES] + start // w[GROUP] * room, first, count, image)
            for channel in range(image * channels, (image + 1) * channels):
                plane = simd.advance(simd.pointer(w[INPUT], S), channel * size)
                target = simd.advance(simd.pointer(w[TARGET], S), channel * points + first)
                for i in range(0, count, lanes):
                    total = simd.full(S(0), V)
                    for tap in range(taps):
                        at = simd.load(offsets, tap * BLOCK + i, W)
                        found = simd.gather_where(plane, at, at >= H(0), V)
                        total += found * simd.load(weights, tap * BLOCK + i, V)
                    simd.store_part(target, i, total, count - i)

    return kernel


@range_kernel
def spread_from_points(dtype, lanes):
    """The gradient in the image; a unit is a channel of an image."""
    S, H = simd.scalar(dtype), simd.scalar(np.int32)
    tables, room, erase = filler(dtype, lanes, False), table_bytes(np.dtype(dtype)), eraser(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        points, channels, size = w[POINTS], w[CHANNELS], w[DEPTH] * w[HEIGHT] * w[WIDTH]
        taps = w[EACH] * w[EACH] * (w[EACH] if w[RANK] == 3 else 1)
        target = simd.pointer(w[TARGET], S)
        unit = start
        while unit < stop:  # channels of one image share the tables
            image = unit // channels
            last = min(stop, (image + 1) * channels)
            erase(simd.advance(target, unit * size), (last - unit) * size)
            for first in range(0, points, BLOCK):
                count = min(BLOCK, points - first)
                offsets, weights, _, _ = tables(context, w[TABLES] + start // w[GROUP] * room, first, count, image)
                for channel in range(unit, last):
                    plane = simd.advance(target, channel * size)
                    g = simd.advance(simd.pointer(w[GRADIENT], S), channel * points + first)
                    for tap in range(taps):
                        for i in range(count):
                            at = offsets[tap * BLOCK + i]
                            share = g[i] * weights[tap * BLOCK + i]
                            plane[at if at >= 0 else H(0)] += share if at >= 0 else S(0)  # no branch to guess
            unit = last

    return kernel


@range_kernel
def slopes_at_points(dtype, lanes):
    """The gradient in the points; a unit is a block of points with all channels."""
    S, V, H, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32), simd.vector(np.int32, lanes)
    tables, room = filler(dtype, lanes, True), table_bytes(np.dtype(dtype))

    def kernel(context, start, stop):
        w = simd.words(context)
        points, channels, size, rank = w[POINTS], w[CHANNELS], w[DEPTH] * w[HEIGHT] * w[WIDTH], w[RANK]
        taps = w[EACH] * w[EACH] * (w[EACH] if rank == 3 else 1)
        for unit in range(start, stop):
            image = unit // w[BLOCKS]
            first = (unit - image * w[BLOCKS]) * BLOCK
            count = min(BLOCK, points - first)
            memory = w[TABLES] + start // w[GROUP] * room
            offsets, _, steps, scales = tables(context, memory, first, count, image)
            target = simd.advance(simd.pointer(w[TARGET], S), (image * points + first) * rank)
            one_at = simd.pointer(memory, S)
            for i in range(0, count, lanes):
                a, b, c = simd.full(S(0), V), simd.full(S(0), V), simd.full(S(0), V)
                for channel in range(image * channels, (image + 1) * channels):
                    plane = simd.advance(simd.pointer(w[INPUT], S), channel * size)
                    g = simd.advance(simd.pointer(w[GRADIENT], S), channel * points + first)
                    sent = simd.load_part(g, i, count - i, V)
                    for tap in range(taps):
                        at = simd.load(offsets, tap * BLOCK + i, W)
                        found = simd.gather_where(plane, at, at >= H(0), V)
                        found = found * sent
                        if rank == 3:
                            a += found * simd.load(steps, tap * BLOCK + i, V)
                        b += found * simd.load(steps, (TAPS + tap) * BLOCK + i, V)
                        c += found * simd.load(steps, (2 * TAPS + tap) * BLOCK + i, V)
                left = min(lanes, count - i)
                for d in range(3 - rank, 3):
                    total = simd.where(simd.full(S(d), V) == 0, a, simd.where(simd.full(S(d), V) == 1, b, c))
                    simd.store(one_at, 0, total * simd.load(scales, d * BLOCK + i, V))
                    for k in range(left):
                        target[(i + k) * rank + 2 - d] = one_at[k]

    return kernel


# ------------------------------------------------------------------------------------------------------------ plans


def _context(
    x: Array, grid: Array, refs: tuple, mode: str, padding_mode: str, align_corners: bool, group: int
) -> tuple:
    """The words of a call."""
    rank, points = len(x.shape) - 2, math.prod(grid.shape[1:-1])
    size = (1,) * (3 - rank) + x.shape[2:]
    return (*refs, scratch(0), x.shape[1], points, -(-points // BLOCK), rank, EACH_OF[mode], CLASPS[padding_mode],
            int(bool(align_corners)), group, *size)  # fmt: skip


def _fits(x: Array, *others: Array) -> bool:
    return served(x, *others) and math.prod(x.shape[2:]) < 1 << 31 and 0 not in x.shape


def grid_sample(x: Array, grid: Array, *, mode: str, padding_mode: str, align_corners: bool) -> Plan | None:
    """Plan ``ops.sample_at``: the image x at the points of the grid."""
    if not _fits(x, grid):
        return None
    points = math.prod(grid.shape[1:-1])
    units, each = x.shape[0] * -(-points // BLOCK), BLOCK * x.shape[1] * EACH_OF[mode] ** (len(x.shape) - 2)
    group = max(1, WORK // each)
    context = _context(x, grid, (inp(0), inp(1), 0, out(0)), mode, padding_mode, align_corners, group)
    call = Call(values_at_points(x.dtype, host.lanes(x.dtype)), context, units, group)
    return Plan((Spec((*x.shape[:2], *grid.shape[1:-1]), x.dtype),), (call,),
                (max(-(-units // group), 1) * table_bytes(x.dtype),))  # fmt: skip


def grid_sample_backward(g: Array, x: Array, grid: Array, *, mode: str, padding_mode: str, align_corners: bool,
                         needs: tuple[bool, bool]) -> Plan | None:  # fmt: skip
    """Plan ``ops.sample_at_backward``: the gradients in the image and in the grid, None where not needed."""
    if not _fits(x, grid, g):
        return None
    points, lanes, settings = math.prod(grid.shape[1:-1]), host.lanes(x.dtype), (mode, padding_mode, align_corners)
    outputs = tuple([Spec(a.shape, x.dtype) if need else None for a, need in zip((x, grid), needs, strict=True)])
    each, calls, chunks = max(points, 1) * EACH_OF[mode] ** (len(x.shape) - 2), [], 1
    if needs[0]:
        group, units = max(1, WORK // each), x.shape[0] * x.shape[1]
        context = _context(x, grid, (inp(1), inp(2), inp(0), out(0)), *settings, group)
        calls.append(Call(spread_from_points(x.dtype, lanes), context, units, group))
        chunks = max(chunks, -(-units // group))
    if needs[1]:
        units = x.shape[0] * -(-points // BLOCK)
        group = max(1, WORK // (BLOCK * x.shape[1] * EACH_OF[mode] ** (len(x.shape) - 2)))
        context = _context(x, grid, (inp(1), inp(2), inp(0), out(1)), *settings, group)
        calls.append(Call(slopes_at_points(x.dtype, lanes), context, units, group))
        chunks = max(chunks, -(-units // group))
    return Plan(outputs, tuple(calls), (chunks * table_bytes(x.dtype),))
