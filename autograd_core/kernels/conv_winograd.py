"""Winograd's minimal filtering F(2x2, 3x3): a tile of 2 x 2 outputs of a 3 x 3 filter with 16 products instead of 36.

Tiles of 4 x 4 pixels and filters are transformed by additions; each of the 16 positions is then a product of matrices
[tiles, channels] @ [channels, outputs], whose result is transformed back. The rounding error stays within a small
factor of a direct sum's, and is less where channels are many: sums are shorter (512 channels: 9e-7 of the largest
result, 3e-6 directly). An infinity or NaN reaches all outputs of the tiles that hold it.

Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
"""
from __future__ import annotations

import functools
import math

from autograd_core.kernels.lazy import conv_tiles, simd, tiles
from autograd_core.kernels.runner import range_kernel


@functools.cache
def filter_transformer(dtype, lanes, vectors, flipped):
    """Device function that transforms the filters of a panel's outputs for one channel, ``step`` between positions."""
    S, V, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes

    @simd.device
    def four(a, b, c):
        return a, (a + c + b) * 0.5, (a + c - b) * 0.5, c

    @simd.device
    def store(target, step, r):
        simd.store(target, 0, r[0])
        simd.store(target, step, r[1])
        simd.store(target, 2 * step, r[2])
        simd.store(target, 3 * step, r[3])

    @simd.device
    def transform(source, apart, count, target, step, held):
        for v in range(0, width, lanes):
            rows, goal = min(count - v, lanes), simd.advance(target, v)
            if rows > 0:
                line = simd.advance(source, v * apart)
                conv_tiles.turn_rows(line, apart, rows, min(9, lanes), held, lanes, lanes, V)
                for i in range(lanes, 9, lanes):
                    conv_tiles.turn_rows(simd.advance(line, i), apart, rows, min(9 - i, lanes),
                                         simd.advance(held, i * lanes), lanes, lanes, V)
                at, by = 0, lanes
                if flipped:
                    at, by = 8 * lanes, -lanes
                a = four(simd.load(held, at, V), simd.load(held, at + 3 * by, V), simd.load(held, at + 6 * by, V))
                b = four(simd.load(held, at + by, V), simd.load(held, at + 4 * by, V), simd.load(held, at + 7 * by, V))
                c = four(simd.load(held, at + 2 * by, V), simd.load(held, at + 5 * by, V),
                         simd.load(held, at + 8 * by, V))
                store(goal, step, four(a[0], b[0], c[0]))
                store(simd.advance(goal, 4 * step), step, four(a[1], b[1], c[1]))
                store(simd.advance(goal, 8 * step), step, four(a[2], b[2], c[2]))
                store(simd.advance(goal, 12 * step), step, four(a[3], b[3], c[3]))
            else:
                for position in range(16):
                    simd.store(goal, position * step, simd.full(S(0), V))

    return transform


@range_kernel
def transform_weights(dtype, lanes, vectors, flipped):
    """Filters as [panel, position, channel, width]; a unit is (panel, channel). ``flipped`` reads them backwards.

    Context: weights, bias or 0, target, memory (9 vectors a chunk), units of a chunk, channels, outputs, strides of an
    output and of a channel, target of the bias [panels * width].
    """
    S, V, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes
    transform = filter_transformer(dtype, lanes, vectors, flipped)

    def kernel(context, start, stop):
        w = simd.words(context)
        channels, outputs = w[5], w[6]
        held = simd.advance(simd.pointer(w[3], S), start // w[4] * 9 * lanes)
        for unit in range(start, stop):
            panel = unit // channels
            channel, first, step = unit - panel * channels, panel * width, channels * width
            transform(simd.advance(simd.pointer(w[0], S), first * w[7] + channel * w[8]), w[7], outputs - first,
                      simd.advance(simd.pointer(w[2], S), panel * 16 * step + channel * width), step, held)
            if channel == 0:
                for v in range(first, first + width, lanes):
                    bias = simd.full(S(0), V)
                    if w[1] != 0:
                        bias = simd.load_part(simd.pointer(w[1], S), v, outputs - v, V)
                    simd.store(simd.pointer(w[9], S), v, bias)

    return kernel


(SOURCE, WEIGHTS, BIAS, TARGET, WORK, WORK_SIZE, GRAIN, IMAGE, CHANNEL, ROW, CHANNELS, HEIGHT, WIDTH, TOP, LEFT,
 TARGET_IMAGE, TARGET_CHANNEL, OUTPUTS, PANELS, OUT_HEIGHT, OUT_WIDTH, BLOCKS, BLOCK_ROWS, LIMITED,
 BATCH, LAID, TRANSFORMED, TRANSFORMED_SIZE, OUTPUT_STEP, CHANNEL_STEP) = range(30)  # what only panels need


@functools.cache
def layer(dtype, lanes):
    """Device function that lays rows of an image out with channels last."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    @simd.device
    def lay_out(w, source, target, top, count):
        """Rows of the image from ``top`` on with channels last and zeros around, [row, column, channel]."""
        channels, wide = w[CHANNELS], (w[OUT_WIDTH] + 1) // 2 * 2 + 2
        for h in range(count):
            line, from_h = simd.advance(target, h * wide * channels), top + h - w[TOP]
            inside, size = 0 <= from_h < w[HEIGHT], wide * channels
            if inside:
                size = w[LEFT] * channels
            for i in range(0, size, lanes):
                simd.store_part(line, i, simd.full(S(0), V), size - i)
            if inside:
                pixels = min(w[WIDTH], wide - w[LEFT])
                for p in range(0, pixels, lanes):
                    n = min(pixels - p, lanes)
                    for c in range(0, channels, lanes):
                        r = min(channels - c, lanes)
                        conv_tiles.turn_rows(
                            simd.advance(source, from_h * w[ROW] + c * w[CHANNEL] + p), w[CHANNEL], r, n,
                            simd.advance(line, (w[LEFT] + p) * channels + c), channels, r, V)
                end = (w[LEFT] + pixels) * channels
                for i in range(end, wide * channels, lanes):
                    simd.store_part(line, i, simd.full(S(0), V), wide * channels - i)

    return lay_out


@functools.cache
def transformer(dtype, lanes):
    """Device function that transforms tiles of 4 x 4 pixels."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def four(a, b, c, d):
        return a - c, b + c, c - b, b - d

    @simd.device
    def column(place, j, line, channels, count):
        at = j * channels
        return four(simd.load_part(place, at, count, V), simd.load_part(place, at + line, count, V),
                    simd.load_part(place, at + 2 * line, count, V), simd.load_part(place, at + 3 * line, count, V))

    @simd.device
    def store(target, step, r, count):
        simd.store_part(target, 0, r[0], count)
        simd.store_part(target, step, r[1], count)
        simd.store_part(target, 2 * step, r[2], count)
        simd.store_part(target, 3 * step, r[3], count)

    @simd.device
    def transform(image, target, down, across, channels):
        """The transformed tiles, [position, tile, channel]."""
        line = (2 * across + 2) * channels
        step = down * across * channels + lanes  # not a power of two: the 16 streams would share a few lines of cache
        for y in range(down):
            for x in range(across):
                place = simd.advance(image, 2 * y * line + 2 * x * channels)
                goal = simd.advance(target, (y * across + x) * channels)
                for c in range(0, channels, lanes):
                    count, at = channels - c, simd.advance(place, c)
                    r0, r1 = column(at, 0, line, channels, count), column(at, 1, line, channels, count)
                    r2, r3 = column(at, 2, line, channels, count), column(at, 3, line, channels, count)
                    to = simd.advance(goal, c)
                    store(to, step, four(r0[0], r1[0], r2[0], r3[0]), count)
                    store(simd.advance(to, 4 * step), step, four(r0[1], r1[1], r2[1], r3[1]), count)
                    store(simd.advance(to, 8 * step), step, four(r0[2], r1[2], r2[2], r3[2]), count)
                    store(simd.advance(to, 12 * step), step, four(r0[3], r1[3], r2[3], r3[3]), count)

    return transform


@functools.cache
def multiplier(dtype, lanes, rows, vectors):
    """Device function of the products of all positions."""
    T, width = simd.tile(simd.vector(dtype, lanes), rows, vectors), vectors * lanes

    @simd.device
    def products(images, weights, target, count, channels, step):
        """[position, tile, width] = [position, tile, channel] @ [position, channel, width], weights ``step`` apart."""
        image_step, target_step = count * channels + lanes, count * width + lanes
        for position in range(16):
            b = simd.advance(weights, position * step)
            for i in range((count + rows - 1) // rows):
                tile = max(min(i * rows, count - rows), 0)
                a = simd.advance(images, position * image_step + tile * channels)
                t = tiles.add_products(tiles.zeros(T), channels, a, channels, 1, b, width)
                tiles.store(t, simd.advance(target, position * target_step + tile * width), width)

    return products


@functools.cache
def finisher(dtype, lanes, width):
    """Device function that transforms products back, adds the bias, and lets nothing be less than ``least``."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def store(target, at, x, least):
        simd.store(target, at, simd.where(x < least, least, x))

    @simd.device
    def two(a, b, c, d):
        return a + b + c, b - c - d

    @simd.device
    def outputs(sums, bias, target, down, across, least):
        """Pixels with channels last, [row, column, width], from the transformed tiles."""
        step, line = down * across * width + lanes, 2 * across * width
        for y in range(down):
            for x in range(across):
                for v in range(0, width, lanes):
                    m = simd.advance(sums, (y * across + x) * width + v)
                    c0 = two(simd.load(m, 0, V), simd.load(m, 4 * step, V), simd.load(m, 8 * step, V),
                             simd.load(m, 12 * step, V))
                    c1 = two(simd.load(m, step, V), simd.load(m, 5 * step, V), simd.load(m, 9 * step, V),
                             simd.load(m, 13 * step, V))
                    c2 = two(simd.load(m, 2 * step, V), simd.load(m, 6 * step, V), simd.load(m, 10 * step, V),
                             simd.load(m, 14 * step, V))
                    c3 = two(simd.load(m, 3 * step, V), simd.load(m, 7 * step, V), simd.load(m, 11 * step, V),
                             simd.load(m, 15 * step, V))
                    added = simd.load(bias, v, V)
                    upper, lower = two(c0[0], c1[0], c2[0], c3[0]), two(c0[1], c1[1], c2[1], c3[1])
                    goal = simd.advance(target, 2 * y * line + 2 * x * width + v)
                    store(goal, 0, upper[0] + added, least)
                    store(goal, width, upper[1] + added, least)
                    store(goal, line, lower[0] + added, least)
                    store(goal, line + width, lower[1] + added, least)

    return outputs


@functools.cache
def writer(dtype, lanes, width):
    """Device function that turns pixels with channels last into rows of planes."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def write(w, pixels, target, top, count, columns):
        """Turn pixels into rows of the target's planes."""
        line = (w[OUT_WIDTH] + 1) // 2 * 2 * width
        for h in range(min(count, w[OUT_HEIGHT] - top)):
            for p in range(0, w[OUT_WIDTH], lanes):
                n = min(w[OUT_WIDTH] - p, lanes)
                for v in range(0, columns, lanes):
                    conv_tiles.turn_rows(
                        simd.advance(pixels, h * line + p * width + v), width, n, min(columns - v, lanes),
                        simd.advance(target, v * w[TARGET_CHANNEL] + (top + h) * w[OUT_WIDTH] + p), w[TARGET_CHANNEL],
                        n, V)

    return write


@range_kernel
def correlate_tiles(dtype, lanes, rows, vectors):
    """Correlation by tiles of 2 x 2 outputs; a unit is (image, block of rows of tiles)."""
    S, V, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes
    lay_out, transform = layer(dtype, lanes), transformer(dtype, lanes)
    products = multiplier(dtype, lanes, rows, vectors)
    outputs, write = finisher(dtype, lanes, width), writer(dtype, lanes, width)

    def kernel(context, start, stop):
        w = simd.words(context)
        channels, across, lines = w[CHANNELS], (w[OUT_WIDTH] + 1) // 2, (w[OUT_HEIGHT] + 1) // 2
        least = simd.full(S(0 if w[LIMITED] != 0 else -math.inf), V)
        work = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        for unit in range(start, stop):
            image = unit // w[BLOCKS]
            first = (unit - image * w[BLOCKS]) * w[BLOCK_ROWS]
            down = min(w[BLOCK_ROWS], lines - first)
            count = down * across
            spare = max(count, rows)
            transformed = simd.advance(work, 16 * (spare * width + lanes))
            laid = simd.advance(transformed, 16 * (spare * channels + lanes))
            lay_out(w, simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE]), laid, 2 * first, 2 * down + 2)
            transform(laid, transformed, down, across, channels)
            for panel in range(w[PANELS]):
                weights = simd.advance(simd.pointer(w[WEIGHTS], S), panel * 16 * channels * width)
                products(transformed, weights, work, count, channels, channels * width)
                outputs(work, simd.advance(simd.pointer(w[BIAS], S), panel * width), laid, down, across, least)
                target = simd.advance(simd.pointer(w[TARGET], S),
                                      image * w[TARGET_IMAGE] + panel * width * w[TARGET_CHANNEL])
                write(w, laid, target, 2 * first, 2 * down, min(w[OUTPUTS] - panel * width, width))

    return kernel


@range_kernel
def transform_images(dtype, lanes):
    """Transformed tiles of all images, for `correlate_panels`; a unit is an image, and has memory of its own."""
    S, lay_out, transform = simd.scalar(dtype), layer(dtype, lanes), transformer(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        across, down = (w[OUT_WIDTH] + 1) // 2, (w[OUT_HEIGHT] + 1) // 2
        for image in range(start, stop):
            size = (2 * down + 2) * (2 * across + 2) * w[CHANNELS]
            laid = simd.advance(simd.pointer(w[LAID], S), image * size)
            lay_out(w, simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE]), laid, 0, 2 * down + 2)
            transform(laid, simd.advance(simd.pointer(w[TRANSFORMED], S), image * w[TRANSFORMED_SIZE]), down, across,
                      w[CHANNELS])

    return kernel


@range_kernel
def correlate_panels(dtype, lanes, rows, vectors, flipped):
    """As `correlate_tiles`, for large filters; a unit is a panel: filters are transformed, then used for all images.

    They so stay in the second-level cache.
    """
    S, V, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes
    filters, products = filter_transformer(dtype, lanes, vectors, flipped), multiplier(dtype, lanes, rows, vectors)
    outputs, write = finisher(dtype, lanes, width), writer(dtype, lanes, width)

    def kernel(context, start, stop):
        w = simd.words(context)
        channels, across, down = w[CHANNELS], (w[OUT_WIDTH] + 1) // 2, (w[OUT_HEIGHT] + 1) // 2
        least = simd.full(S(0 if w[LIMITED] != 0 else -math.inf), V)
        weights = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        step = channels * width + lanes  # not a power of two, as in `transformer`
        held = simd.advance(weights, 16 * step)
        bias = simd.advance(held, 9 * lanes)
        pixels = simd.advance(bias, width)
        work = simd.advance(pixels, 4 * down * across * width)
        for panel in range(start, stop):
            first, columns = panel * width, min(w[OUTPUTS] - panel * width, width)
            source = simd.advance(simd.pointer(w[WEIGHTS], S), first * w[OUTPUT_STEP])
            for c in range(channels):
                filters(simd.advance(source, c * w[CHANNEL_STEP]), w[OUTPUT_STEP], columns,
                        simd.advance(weights, c * width), step, held)
            for v in range(0, width, lanes):
                added = simd.full(S(0), V)
                if w[BIAS] != 0:
                    added = simd.load_part(simd.pointer(w[BIAS], S), first + v, columns - v, V)
                simd.store(bias, v, added)
            for image in range(w[BATCH]):
                products(simd.advance(simd.pointer(w[TRANSFORMED], S), image * w[TRANSFORMED_SIZE]), weights, work,
                         down * across, channels, step)
                outputs(work, bias, pixels, down, across, least)
                target = simd.advance(simd.pointer(w[TARGET], S),
                                      image * w[TARGET_IMAGE] + first * w[TARGET_CHANNEL])
                write(w, pixels, target, 0, 2 * down, columns)

    return kernel
