"""Convolution of each channel by a filter of its own, step by step of one pixel: stencils on planes as they lie.

A tile is some lines of one vector of pixels. Each line of the source is read once for all the lines of the tile that it
reaches, pixels around the plane are zeros by masks: nothing is framed, and nothing is packed.
"""
from __future__ import annotations

import functools

from autograd_core.kernels import host
from autograd_core.kernels.conv_layout import Correlation
from autograd_core.kernels.lazy import conv_tiles, simd, tiles
from autograd_core.kernels.plan import Call, Ref, out
from autograd_core.kernels.runner import range_kernel

LINES = 4  # of a tile
CHUNK = 1_000_000  # floating-point operations of a chunk at least
MOST_CHUNKS = 32
(SOURCE, WEIGHTS, BIAS, TARGET, CHANNELS, IMAGES, IMAGE, PLANE, ROW, HEIGHT, WIDTH, TOP, LEFT, WEIGHT, WEIGHT_STEP,
 TARGET_IMAGE, TARGET_PLANE, TARGET_ROW, DOWN, ACROSS, LIMITED) = range(21)


@functools.cache
def stencil(dtype, lanes, high, wide):
    """Device function: a tile plus the weighted pixels under its filters; (top, left) is the first pixel's place."""

    @simd.device
    def add(t, source, w, top, left, weights, inside):
        if inside and top >= 0 and top + LINES + high - 1 <= w[HEIGHT]:
            return conv_tiles.add_stencil(t, source, w[ROW], top, w[HEIGHT], left, w[WIDTH], weights, high, wide, 0, 0)
        if top >= 0 and top + LINES + high - 1 <= w[HEIGHT]:
            return conv_tiles.add_stencil(t, source, w[ROW], top, w[HEIGHT], left, w[WIDTH], weights, high, wide, 0, 1)
        return conv_tiles.add_stencil(t, source, w[ROW], top, w[HEIGHT], left, w[WIDTH], weights, high, wide, 1, 1)

    return add


@range_kernel
def correlate_planes(dtype, lanes, high, wide):
    """Planes correlated with filters of ``high`` x ``wide`` taps; a unit is a plane. Context: see the names on top."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T, filters = simd.tile(V, LINES, 1), simd.tile(V, high * wide, 1)
    add = stencil(dtype, lanes, high, wide)

    def kernel(context, start, stop):
        w = simd.words(context)
        down, across = w[DOWN], w[ACROSS]
        for unit in range(start, stop):
            image, channel = unit // w[CHANNELS], unit % w[CHANNELS]
            source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE] + channel * w[PLANE])
            target = simd.advance(simd.pointer(w[TARGET], S), image * w[TARGET_IMAGE] + channel * w[TARGET_PLANE])
            weights = simd.advance(simd.pointer(w[WEIGHTS], S), channel * w[WEIGHT])
            weights = tiles.add_rows(tiles.zeros(filters), weights, w[WEIGHT_STEP])
            first = tiles.zeros(T)
            if w[BIAS] != 0:
                first = tiles.add_rows(first, simd.advance(simd.pointer(w[BIAS], S), channel), 0)
            for block in range(0, across, lanes):
                x = max(min(block, across - lanes), 0)
                left = x - w[LEFT]
                inside = left >= 0 and left + lanes + wide - 1 <= w[WIDTH]
                for line in range(0, down, LINES):
                    y = max(min(line, down - LINES), 0)
                    t = add(first, source, w, y - w[TOP], left, weights, inside)
                    if w[LIMITED] != 0:
                        t = tiles.at_least(t, 0)
                    goal = simd.advance(target, y * w[TARGET_ROW] + x)
                    if across >= lanes and down >= LINES:
                        tiles.store(t, goal, w[TARGET_ROW])
                    else:
                        tiles.store_part(t, goal, w[TARGET_ROW], down, across)

    return kernel


@range_kernel
def sum_planes(dtype, lanes, high, wide):
    """Gradients of the filters; a unit is a channel. The target is the gradient that is read, the weights are written.

    Lanes are added up for each image, images in their order.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T = simd.tile(V, high * wide, 1)

    def kernel(context, start, stop):
        w = simd.words(context)
        for channel in range(start, stop):
            total = tiles.zeros(T)
            for image in range(w[IMAGES]):
                source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE] + channel * w[PLANE])
                gradient = simd.advance(simd.pointer(w[TARGET], S), image * w[TARGET_IMAGE] + channel * w[TARGET_PLANE])
                t = tiles.zeros(T)
                for x in range(0, w[ACROSS], lanes):
                    y = 0
                    while y < w[DOWN]:
                        g = simd.advance(gradient, y * w[TARGET_ROW] + x)
                        if y + LINES <= w[DOWN]:
                            t = conv_tiles.add_filter_gradient(
                                t, source, w[ROW], y - w[TOP], w[HEIGHT], x - w[LEFT], w[WIDTH], g, w[TARGET_ROW],
                                w[ACROSS] - x, LINES, wide)
                            y += LINES
                        else:
                            t = conv_tiles.add_filter_gradient(
                                t, source, w[ROW], y - w[TOP], w[HEIGHT], x - w[LEFT], w[WIDTH], g, w[TARGET_ROW],
                                w[ACROSS] - x, 1, wide)
                            y += 1
                total = tiles.add(total, tiles.sums(t))
            tiles.store_part(total, simd.advance(simd.pointer(w[WEIGHTS], S), channel * high * wide), 1, high * wide, 1)

    return kernel


def serves(c: Correlation) -> bool:
    """Whether these kernels do a correlation: a channel in, a channel out, steps of one, a filter in registers."""
    depth, height, width = c.axes
    lined = c.source_strides[4] == 1 and c.target_strides[4] == 1
    plane = depth.taps == depth.places == depth.size == 1
    return (c.channels == c.outputs == 1 and c.groups > 1 and lined and plane and c.taps + LINES + 2 <= host.registers()
            and all(a.step == a.tap_step == a.target_step == 1 and a.target_start == 0 for a in (height, width)))


def context(c: Correlation, weights: Ref, target: Ref, weight_step: int) -> tuple[int | Ref, ...]:
    """What both kernels are told."""
    _, height, width = c.axes
    return (c.source, weights, 0 if c.bias is None else c.bias, target, c.groups, c.batch, c.source_strides[0],
            c.source_strides[1], c.source_strides[3], height.size, width.size, height.before, width.before,
            c.weight_strides[0], weight_step, *c.target_strides[:2], c.target_strides[3], height.places, width.places,
            int(c.limited))


def plan_planes(c: Correlation, weight: Ref) -> Call | None:
    """The call of a correlation; None where the filters do not lie in order, or turned."""
    _, height, width = c.axes
    steps = {a.weight_step for a in (height, width) if a.taps > 1} or {1}
    if not serves(c) or len(steps) > 1 or abs(step := steps.pop()) != 1 or c.weight_strides[4:] != (width.taps, 1):
        return None
    start = height.weight_start * width.taps + width.weight_start
    words = context(c, Ref(weight.kind, weight.index, weight.offset + start * c.dtype.itemsize), out(0), step)
    planes, chunks = c.batch * c.groups, max(1, min(MOST_CHUNKS, c.operations // CHUNK))
    kernel = correlate_planes(c.dtype, host.lanes(c.dtype), height.taps, width.taps)
    return Call(kernel, words, planes, -(-planes // chunks))


def plan_sums(c: Correlation, grad: Ref) -> Call | None:
    """The call of a gradient of filters; None where it is not served, or where there are few channels to share out."""
    if not serves(c) or c.groups < 4:
        return None
    chunks = max(1, min(MOST_CHUNKS, c.operations // CHUNK))
    kernel = sum_planes(c.dtype, host.lanes(c.dtype), c.axes[1].taps, c.axes[2].taps)
    return Call(kernel, context(c, out(0), grad, 1), c.groups, -(-c.groups // chunks))
