"""The gradient of a convolution's weight: tiles of taps by output channels, summed over pixels and images.

Sums go over the images of a chunk first, then over chunks in their order.
"""
from __future__ import annotations

import functools

from autograd_core.kernels.conv_prepare import FRAME, framer
from autograd_core.kernels.lazy import conv_tiles, simd, tiles
from autograd_core.kernels.runner import range_kernel

(SOURCE, GRADIENT, PARTIAL, WORK, WORK_SIZE, GRAIN,  # addresses, elements of a chunk's memory, units of a chunk
 IMAGE, START, CHANNEL, DEPTH_STEP, ROW_STEP, SLOW_STEP,  # source: an image, the first pixel, a channel, steps
 DEPTH, HEIGHT, WIDTH, BLOCK_ROWS,  # pixels of the gradient, rows that are laid out at a time
 GRADIENT_IMAGE, GRADIENT_CHANNEL, PREPARED,
 BATCH, GROUP_PANELS, ALL_PANELS, OUTPUTS, CHANNELS, UNIT_CHANNELS, CHANNEL_BLOCKS, TILES,  # tiles a channel
 PARTIAL_SIZE, STEPS, FRAMES) = range(30)
FRAME_AT = 30
TABLE = FRAME_AT + FRAME  # source offset and first tap of each tile of a channel


@range_kernel
def turn_gradients(dtype, lanes, width):
    """Lay gradients out with channels last, [image, panel, pixel, width]; a unit is (image, panel).

    Context: gradient, target, stride of an image, of a channel, pixels, panels a group, panels, outputs a group.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            image = unit // w[6]
            panel = unit - image * w[6]
            group = panel // w[5]
            channel = (panel - group * w[5]) * width
            source = simd.advance(simd.pointer(w[0], S), image * w[2] + (group * w[7] + channel) * w[3])
            target = simd.advance(simd.pointer(w[1], S), unit * w[4] * width)
            for p in range(0, w[4], lanes):
                for v in range(0, width, lanes):
                    rows = max(min(w[7] - channel - v, lanes), 1)
                    first = min(v, w[7] - channel - rows)
                    conv_tiles.turn_rows(simd.advance(source, first * w[3] + p), w[3], rows, min(w[4] - p, lanes),
                                         simd.advance(target, p * width + v), width, lanes, V)

    return kernel


@functools.cache
def gradient_turner(dtype, lanes, width):
    """Device function that lays pixels of a panel's gradients out with channels last."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def lay_out(w, gradient, panel, first, count, target):
        group = panel // w[GROUP_PANELS]
        channel = (panel - group * w[GROUP_PANELS]) * width
        source = simd.advance(gradient, (group * w[OUTPUTS] + channel) * w[GRADIENT_CHANNEL] + first)
        for p in range(0, count, lanes):
            for v in range(0, width, lanes):
                rows_left = max(min(w[OUTPUTS] - channel - v, lanes), 1)
                row = min(v, w[OUTPUTS] - channel - rows_left)
                place = simd.advance(source, row * w[GRADIENT_CHANNEL] + p)
                conv_tiles.turn_rows(place, w[GRADIENT_CHANNEL], rows_left, min(count - p, lanes),
                                     simd.advance(target, p * width + v), width, lanes, V)

    return lay_out


@functools.cache
def tile_adder(dtype, lanes, rows, vectors, fast, step, fast_step):
    """Device function that adds lines of pixels to the tiles of a channel."""
    T, width = simd.tile(simd.vector(dtype, lanes), rows, vectors), vectors * lanes

    @simd.device
    def add(w, table, source, gradient, sums, lines, fresh):
        for i in range(w[TILES]):
            place = simd.advance(sums, table[2 * i + 1] * width)
            t = tiles.zeros(T)
            if not fresh:
                t = tiles.load(place, width, T)
            t = conv_tiles.add_pixels(t, lines, w[ROW_STEP], w[WIDTH], step, simd.advance(source, table[2 * i]), fast,
                                      w[SLOW_STEP], fast_step, gradient)
            tiles.store(t, place, width)

    return add


@range_kernel
def weight_sums(dtype, lanes, rows, vectors, fast, step, fast_step):
    """Partial sums [chunk, panel, step, width]; a unit is an image, or with ``prepared`` operands (panel, channels)."""
    S, width, frame = simd.scalar(dtype), vectors * lanes, framer(dtype, lanes)
    lay_out = gradient_turner(dtype, lanes, width)
    add = tile_adder(dtype, lanes, rows, vectors, fast, step, fast_step)

    def kernel(context, start, stop):
        w = simd.words(context)
        table = simd.words(context + 8 * TABLE)
        x, g, sums = simd.pointer(w[SOURCE], S), simd.pointer(w[GRADIENT], S), simd.pointer(w[PARTIAL], S)
        pixels, plane = w[DEPTH] * w[HEIGHT] * w[WIDTH], w[HEIGHT] * w[WIDTH]
        if w[PREPARED] != 0:
            for unit in range(start, stop):
                panel = unit // w[CHANNEL_BLOCKS]
                first = (unit - panel * w[CHANNEL_BLOCKS]) * w[UNIT_CHANNELS]
                group = panel // w[GROUP_PANELS]
                for image in range(w[BATCH]):
                    for d in range(w[DEPTH]):
                        gradient = simd.advance(g, ((image * w[ALL_PANELS] + panel) * pixels + d * plane) * width)
                        for c in range(first, min(first + w[UNIT_CHANNELS], w[CHANNELS])):
                            source = simd.advance(x, image * w[IMAGE] + w[START] + d * w[DEPTH_STEP]
                                                  + (group * w[CHANNELS] + c) * w[CHANNEL])
                            to = simd.advance(sums, (panel * w[CHANNELS] + c) * w[STEPS] * width)
                            add(w, table, source, gradient, to, w[HEIGHT], image == 0 and d == 0)
        else:
            chunk = start // w[GRAIN]
            turned = simd.advance(simd.pointer(w[WORK], S), chunk * w[WORK_SIZE])
            framed = simd.advance(turned, w[BLOCK_ROWS] * w[WIDTH] * width)
            sums = simd.advance(sums, chunk * w[PARTIAL_SIZE])
            for image in range(start, stop):
                source = simd.advance(x, image * w[IMAGE])
                if w[FRAMES] != 0:
                    frame(source, framed, 0, w[FRAME_AT], 0, w[FRAME_AT + 2], w, FRAME_AT)
                    source = framed
                source = simd.advance(source, w[START])
                gradient = simd.advance(g, image * w[GRADIENT_IMAGE])
                for panel in range(w[ALL_PANELS]):
                    group = panel // w[GROUP_PANELS]
                    for d in range(w[DEPTH]):
                        h = 0
                        while h < w[HEIGHT]:
                            lines = min(w[BLOCK_ROWS], w[HEIGHT] - h)
                            lay_out(w, gradient, panel, d * plane + h * w[WIDTH], lines * w[WIDTH], turned)
                            for c in range(w[CHANNELS]):
                                place = simd.advance(source, d * w[DEPTH_STEP] + h * w[ROW_STEP]
                                                     + (group * w[CHANNELS] + c) * w[CHANNEL])
                                to = simd.advance(sums, (panel * w[CHANNELS] + c) * w[STEPS] * width)
                                add(w, table, place, turned, to, lines, image == start and d == 0 and h == 0)
                            h += lines

    return kernel


@range_kernel
def combine(dtype, lanes, width):
    """Add up partial sums and write them as the weight's gradient [output, step]; a unit is (panel, ``lanes`` steps).

    Context: sums, gradient, chunks, elements of a chunk, panels a group, outputs a group, steps, blocks of steps.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            panel = unit // w[7]
            first = (unit - panel * w[7]) * lanes
            group = panel // w[4]
            channel = (panel - group * w[4]) * width
            count = min(w[6] - first, lanes)
            partial = simd.advance(simd.pointer(w[0], S), (panel * w[6] + first) * width)
            for row in range(count if w[2] > 1 else 0):
                for v in range(0, width, lanes):
                    total = simd.load(partial, row * width + v, V)
                    for chunk in range(1, w[2]):
                        total += simd.load(partial, chunk * w[3] + row * width + v, V)
                    simd.store(partial, row * width + v, total)
            target = simd.advance(simd.pointer(w[1], S), (group * w[5] + channel) * w[6] + first)
            for v in range(0, min(w[5] - channel, width), lanes):
                conv_tiles.turn_rows(simd.advance(partial, v), width, count, min(w[5] - channel - v, lanes),
                                     simd.advance(target, v * w[6]), w[6], count, V)

    return kernel


@range_kernel
def weight_dots(dtype, lanes, rows, taps):
    """Partial sums [chunk, output, step] for few channels: tiles of ``rows`` outputs by ``taps`` taps, vectors of
    pixels; a unit is an image. The context is that of :func:`weight_sums`, a table of offsets of all taps behind it.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T, line = simd.tile(V, rows, taps), simd.tile(V, rows, 1)
    frame = framer(dtype, lanes)

    @simd.device
    def add(w, table, source, gradient, sums, fresh):
        step = w[CHANNELS] * w[STEPS]
        for tap in range(0, w[STEPS], taps):
            t = tiles.zeros(T)
            for d in range(w[DEPTH]):
                t = conv_tiles.add_dots_at(
                    t, w[HEIGHT], w[WIDTH], simd.advance(gradient, d * w[HEIGHT] * w[WIDTH]), w[GRADIENT_CHANNEL],
                    w[WIDTH], simd.advance(source, d * w[DEPTH_STEP]), w[ROW_STEP], simd.advance(table, tap))
            total, place = tiles.sums(t), simd.advance(sums, tap)
            if not fresh:
                total = tiles.add(total, tiles.load_part(place, step, taps, line))
            tiles.store_part(total, place, step, rows, taps)

    def kernel(context, start, stop):
        w = simd.words(context)
        table = simd.words(context + 8 * TABLE)
        chunk = start // w[GRAIN]
        framed = simd.advance(simd.pointer(w[WORK], S), chunk * w[WORK_SIZE])
        sums = simd.advance(simd.pointer(w[PARTIAL], S), chunk * w[PARTIAL_SIZE])
        for image in range(start, stop):
            source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE])
            if w[FRAMES] != 0:
                frame(source, framed, 0, w[FRAME_AT], 0, w[FRAME_AT + 2], w, FRAME_AT)
                source = framed
            source = simd.advance(source, w[START])
            gradient = simd.advance(simd.pointer(w[GRADIENT], S), image * w[GRADIENT_IMAGE])
            for output in range(0, w[ALL_PANELS], rows):
                group = output // w[OUTPUTS]
                for c in range(w[CHANNELS]):
                    add(w, table, simd.advance(source, (group * w[CHANNELS] + c) * w[CHANNEL]),
                        simd.advance(gradient, output * w[GRADIENT_CHANNEL]),
                        simd.advance(sums, (output * w[CHANNELS] + c) * w[STEPS]), image == start)

    return kernel


@range_kernel
def add_chunks(dtype, lanes):
    """Add up partial sums; a unit is an element. Context: partial sums, target, chunks, elements of a chunk."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        source, target = simd.pointer(w[0], S), simd.pointer(w[1], S)
        for i in range(start, stop, lanes):
            total = simd.load_part(source, i, stop - i, V)
            for chunk in range(1, w[2]):
                total += simd.load_part(source, chunk * w[3] + i, stop - i, V)
            simd.store_part(target, i, total, stop - i)

    return kernel
