"""Kernels of Winograd's F(2x2, 3x3) for images whose channels lie last in memory, [image, row, column, channel].

Pixels are then runs of channels: tiles are read and written where they lie, and nothing is turned. The transforms are
those of `conv_winograd`. The gradient of the weight is the transpose of the product, with 16 products for 36 as well:
with B, G, A of Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015,
dw = G' (sum over tiles of (A dy A') * (B' x B)) G.
"""
from __future__ import annotations

import functools

from autograd_core.kernels.lazy import conv_tiles, simd, tiles
from autograd_core.kernels.runner import range_kernel

LINE = 16  # elements of a line of the cache


@functools.cache
def fetcher():
    """Device function that asks for a sixteenth of so many elements, for what comes next to be there in time."""

    @simd.device
    def fetch(place, count, part):
        for i in range(part * count // 16, (part + 1) * count // 16, LINE):
            simd.prefetch(place, i)

    return fetch


def _row_of_tiles(lanes, column, put):
    """Device function that goes along a row of tiles: ``column`` transforms one of pixels, ``put`` four of them."""

    @simd.device
    def split(source, first, left, height, width, channels, across, target, step):
        """A row of tiles from pixel (first, -left) on, as [position, tile, channel], positions ``step`` apart."""
        row = width * channels
        for c in range(0, channels, lanes):
            place = simd.advance(source, first * row + c)
            r0 = column(place, row, -left, width, channels, first, height)
            r1 = column(place, row, 1 - left, width, channels, first, height)
            for x in range(across):
                r2 = column(place, row, 2 * x + 2 - left, width, channels, first, height)
                r3 = column(place, row, 2 * x + 3 - left, width, channels, first, height)
                put(simd.advance(target, x * channels + c), step, r0, r1, r2, r3)
                r0, r1 = r2, r3

    return split


@functools.cache
def splitter(dtype, lanes):
    """Device function that transforms a row of tiles of 4 x 4 pixels."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    @simd.device
    def four(a, b, c, d):
        return a - c, b + c, c - b, b - d

    @simd.device
    def column(place, row, x, width, step, first, height):
        at, zero = x * step, simd.full(S(0), V)
        a, b, c, d = zero, zero, zero, zero
        if 0 <= x < width:
            if 0 <= first < height:
                a = simd.load(place, at, V)
            if 0 <= first + 1 < height:
                b = simd.load(place, at + row, V)
            if 0 <= first + 2 < height:
                c = simd.load(place, at + 2 * row, V)
            if 0 <= first + 3 < height:
                d = simd.load(place, at + 3 * row, V)
        return four(a, b, c, d)

    @simd.device
    def store(target, step, r):
        simd.store(target, 0, r[0])
        simd.store(target, step, r[1])
        simd.store(target, 2 * step, r[2])
        simd.store(target, 3 * step, r[3])

    @simd.device
    def put(to, step, r0, r1, r2, r3):
        store(to, step, four(r0[0], r1[0], r2[0], r3[0]))
        store(simd.advance(to, 4 * step), step, four(r0[1], r1[1], r2[1], r3[1]))
        store(simd.advance(to, 8 * step), step, four(r0[2], r1[2], r2[2], r3[2]))
        store(simd.advance(to, 12 * step), step, four(r0[3], r1[3], r2[3], r3[3]))

    return _row_of_tiles(lanes, column, put)


@functools.cache
def multiplier(dtype, lanes, rows, vectors):
    """Device function of the products of all positions."""
    T, width, fetch = simd.tile(simd.vector(dtype, lanes), rows, vectors), vectors * lanes, fetcher()

    @simd.device
    def products(images, step, weights, target, target_step, count, channels, ahead, following, over, written):
        """[position, tile, width] = [position, tile, channel] @ [position, channel, width].

        ``ahead``, ``over``: what is read and written next, ``following`` and ``written`` elements, to be fetched.
        """
        for position in range(16):
            fetch(ahead, following, position)
            fetch(over, written, position)
            b = simd.advance(weights, position * channels * width)
            for i in range((count + rows - 1) // rows):
                tile = max(min(i * rows, count - rows), 0)
                a = simd.advance(images, position * step + tile * channels)
                t = tiles.add_products(tiles.zeros(T), channels, a, channels, 1, b, width)
                tiles.store(t, simd.advance(target, position * target_step + tile * width), width)

    return products


@functools.cache
def finisher(dtype, lanes, vectors):
    """Device function that transforms a row of products back and writes two rows of pixels."""
    V, width = simd.vector(dtype, lanes), vectors * lanes

    @simd.device
    def two(a, b, c, d):
        return a + b + c, b - c - d

    @simd.device
    def column(m, step):
        return two(simd.load(m, 0, V), simd.load(m, 4 * step, V), simd.load(m, 8 * step, V), simd.load(m, 12 * step, V))

    @simd.device
    def finish(sums, step, bias, target, line, pixel, across, wide, lower):
        """``line``, ``pixel``: elements of a row and a pixel of the target; ``lower``: whether it has a second row."""
        for v in range(0, width, lanes):
            added = simd.load(bias, v, V)
            for x in range(across):
                m = simd.advance(sums, x * width + v)
                c0, c1 = column(m, step), column(simd.advance(m, step), step)
                c2, c3 = column(simd.advance(m, 2 * step), step), column(simd.advance(m, 3 * step), step)
                goal, right = simd.advance(target, 2 * x * pixel + v), 2 * x + 1 < wide
                y = two(c0[0], c1[0], c2[0], c3[0])
                simd.store(goal, 0, y[0] + added)
                if right:
                    simd.store(goal, pixel, y[1] + added)
                if lower:
                    z = two(c0[1], c1[1], c2[1], c3[1])
                    simd.store(goal, line, z[0] + added)
                    if right:
                        simd.store(goal, line + pixel, z[1] + added)

    return finish


@range_kernel
def correlate_tiles(dtype, lanes, rows, vectors):
    """Correlation by tiles of 2 x 2 outputs; a unit is a number of strips of a row of tiles, of all images in order.

    Context: source, weights, bias, target, work, elements of a chunk's work, units of a chunk, channels, outputs,
    height, width, top, left, height and width of the target, strips of all images, of a unit, of a row (more than one
    only where a unit is one strip), tiles of a strip.
    """
    S, width = simd.scalar(dtype), vectors * lanes
    split, products = splitter(dtype, lanes), multiplier(dtype, lanes, rows, vectors)
    finish = finisher(dtype, lanes, vectors)

    def kernel(context, start, stop):
        w = simd.words(context)
        channels, outs, height, size, high, wide, parts, piece = w[7], w[8], w[9], w[10], w[13], w[14], w[17], w[18]
        lines, row, line = (high + 1) // 2, size * channels, wide * outs
        work = simd.advance(simd.pointer(w[4], S), start // w[6] * w[5])
        for unit in range(start, stop):
            first, last = unit * w[16], min(unit * w[16] + w[16], w[15])
            count = (last - first) * piece
            step, target_step = max(count, rows) * channels + lanes, max(count, rows) * width + lanes
            split_tiles = simd.advance(work, 16 * target_step)
            for k in range(first, last):
                image = k // (lines * parts)
                y, x = 2 * (k // parts - image * lines), 2 * piece * (k % parts)
                split(simd.advance(simd.pointer(w[0], S), image * height * row), y - w[11], w[12] - x, height, size,
                      channels, piece, simd.advance(split_tiles, (k - first) * piece * channels), step)
            upper, lower = (last // parts) * height // lines, (first // parts) * high // lines
            most = (w[15] // parts) * height // lines
            ahead = simd.advance(simd.pointer(w[0], S), upper * row)
            over = simd.advance(simd.pointer(w[3], S), lower * line)
            following = max(min((last - first + parts) // parts * height // lines, most - upper), 0) * row
            written = (last - first + parts - 1) // parts * high // lines * line
            for column in range(0, outs, width):
                products(split_tiles, step, simd.advance(simd.pointer(w[1], S), column * 16 * channels), work,
                         target_step, count, channels, ahead, following if column == 0 else 0, over,
                         written if column == 0 else 0)
                for k in range(first, last):
                    image = k // (lines * parts)
                    y, x = 2 * (k // parts - image * lines), 2 * piece * (k % parts)
                    finish(simd.advance(work, (k - first) * piece * width), target_step,
                           simd.advance(simd.pointer(w[2], S), column),
                           simd.advance(simd.pointer(w[3], S), ((image * high + y) * wide + x) * outs + column),
                           line, outs, piece, wide - x, y + 1 < high)

    return kernel


# ------------------------------------------------------------------------------------------------------ weight gradient


@functools.cache
def splitter_quarter(dtype, lanes, quarter):
    """As `splitter`, for the four positions of one row of transformed tiles."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    one, other = ((0, 2), (1, 2), (2, 1), (1, 3))[quarter]
    adds = quarter == 1

    @simd.device
    def column(place, row, x, width, step, first, height):
        zero = simd.full(S(0), V)
        a, b = zero, zero
        if 0 <= x < width:
            if 0 <= first + one < height:
                a = simd.load(place, x * step + one * row, V)
            if 0 <= first + other < height:
                b = simd.load(place, x * step + other * row, V)
        if adds:
            return a + b
        return a - b

    @simd.device
    def put(to, step, r0, r1, r2, r3):
        simd.store(to, 0, r0 - r2)
        simd.store(to, step, r1 + r2)
        simd.store(to, 2 * step, r2 - r1)
        simd.store(to, 3 * step, r1 - r3)

    return _row_of_tiles(lanes, column, put)


@functools.cache
def spreader(dtype, lanes, quarter):
    """Device function: a row of 2 x 2 gradients as four of 16 positions, the transpose of what `finisher` does."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    first, sign = quarter < 3, (0, 1, -1, -1)[quarter]

    @simd.device
    def down(a, b):
        if not first:
            return -b
        if sign == 0:
            return a
        return a + b if sign == 1 else a - b

    @simd.device
    def spread(source, line, pixel, across, wide, lower, target, step):
        """``lower``: whether the image has the second row of the tiles."""
        for c in range(0, pixel, lanes):
            for x in range(across):
                at, right, zero = 2 * x * pixel + c, 2 * x + 1 < wide, simd.full(S(0), V)
                a, b, d, e = simd.load(source, at, V), zero, zero, zero
                if right:
                    b = simd.load(source, at + pixel, V)
                if lower:
                    d = simd.load(source, at + line, V)
                    if right:
                        e = simd.load(source, at + line + pixel, V)
                r, s = down(a, d), down(b, e)
                to = simd.advance(target, x * pixel + c)
                simd.store(to, 0, r)
                simd.store(to, step, r + s)
                simd.store(to, 2 * step, r - s)
                simd.store(to, 3 * step, -s)

    return spread


@functools.cache
def quarter_adder(dtype, lanes, rows, vectors, quarter):
    """Device function that adds the products of a unit's tiles for four of the 16 positions."""
    S, width = simd.scalar(dtype), vectors * lanes
    T = simd.tile(simd.vector(dtype, lanes), rows, vectors)
    split, spread = splitter_quarter(dtype, lanes, quarter), spreader(dtype, lanes, quarter)

    @simd.device
    def add(w, first, last, images, sums, fresh):
        channels, outs, height, size, high, wide = w[6], w[7], w[8], w[9], w[12], w[13]
        across, lines = (wide + 1) // 2, (high + 1) // 2
        count = (last - first) * across
        step, gradient_step = count * channels + lanes, count * outs + lanes
        gradients = simd.advance(images, 4 * step)
        for k in range(first, last):
            image = k // lines
            y = 2 * (k - image * lines)
            split(simd.advance(simd.pointer(w[0], S), image * height * size * channels), y - w[10], w[11], height,
                  size, channels, across, simd.advance(images, (k - first) * across * channels), step)
            spread(simd.advance(simd.pointer(w[1], S), (image * high + y) * wide * outs), wide * outs, outs, across,
                   wide, y + 1 < high, simd.advance(gradients, (k - first) * across * outs), gradient_step)
        for position in range(4):
            for column in range(0, outs, width):
                b = simd.advance(gradients, position * gradient_step + column)
                for c in range(0, channels, rows):
                    place = simd.advance(sums, ((4 * quarter + position) * channels + c) * outs + column)
                    t = tiles.zeros(T)
                    if not fresh:
                        t = tiles.load(place, outs, T)
                    a = simd.advance(images, position * step + c)
                    tiles.store(tiles.add_products(t, count, a, 1, channels, b, outs), place, outs)

    return add


@range_kernel
def weight_tiles(dtype, lanes, rows, vectors):
    """Sums over tiles of the products of images and gradients, [chunk, position, channel, output].

    A unit is a number of rows of tiles, those of all images in order; it is worked off in quarters of the positions,
    whose operands and sums fit the first-level cache. ``rows`` divides the channels, the width of a tile the outputs.
    Context: source, gradient, sums, work, elements of a chunk's work, units of a chunk, channels, outputs, height,
    width, top, left, height and width of the gradient, rows of tiles of all images, of a unit.
    """
    S = simd.scalar(dtype)
    add0, add1, add2, add3 = [quarter_adder(dtype, lanes, rows, vectors, quarter) for quarter in range(4)]

    def kernel(context, start, stop):
        w = simd.words(context)
        chunk = start // w[5]
        work = simd.advance(simd.pointer(w[3], S), chunk * w[4])
        sums = simd.advance(simd.pointer(w[2], S), chunk * 16 * w[6] * w[7])
        for unit in range(start, stop):
            first, last = unit * w[15], min(unit * w[15] + w[15], w[14])
            add0(w, first, last, work, sums, unit == start)
            add1(w, first, last, work, sums, unit == start)
            add2(w, first, last, work, sums, unit == start)
            add3(w, first, last, work, sums, unit == start)

    return kernel


@range_kernel
def combine_tiles(dtype, lanes):
    """Add up the sums of chunks and transform them to the weight's gradient; a unit is (channel, vector of outputs).

    Context: sums, gradient [output, channel, 3, 3], memory (9 vectors a chunk), units of a chunk, chunks of the sums,
    channels, outputs.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    @simd.device
    def total(sums, step, chunks, size):
        found = simd.load(sums, step, V)
        for chunk in range(1, chunks):
            found += simd.load(sums, chunk * size + step, V)
        return found

    @simd.device
    def three(a, b, c, d):
        both = (b + c) * 0.5
        return a + both, (b - c) * 0.5, both + d

    def kernel(context, start, stop):
        w = simd.words(context)
        chunks, channels, outs = w[4], w[5], w[6]
        held = simd.advance(simd.pointer(w[2], S), start // w[3] * 9 * lanes)
        across, step, size = outs // lanes, channels * outs, 16 * channels * outs
        for unit in range(start, stop):
            channel = unit // across
            output = (unit - channel * across) * lanes
            sums = simd.advance(simd.pointer(w[0], S), channel * outs + output)
            for i in range(4):
                at = i * step
                r = three(total(sums, at, chunks, size), total(sums, at + 4 * step, chunks, size),
                          total(sums, at + 8 * step, chunks, size), total(sums, at + 12 * step, chunks, size))
                simd.store(sums, at, r[0])
                simd.store(sums, at + 4 * step, r[1])
                simd.store(sums, at + 8 * step, r[2])
            for j in range(3):
                at = 4 * j * step
                r = three(simd.load(sums, at, V), simd.load(sums, at + step, V), simd.load(sums, at + 2 * step, V),
                          simd.load(sums, at + 3 * step, V))
                simd.store(held, 3 * j * lanes, r[0])
                simd.store(held, (3 * j + 1) * lanes, r[1])
                simd.store(held, (3 * j + 2) * lanes, r[2])
            target = simd.advance(simd.pointer(w[1], S), (output * channels + channel) * 9)
            for t in range(0, 9, lanes):
                conv_tiles.turn_rows(simd.advance(held, t * lanes), lanes, min(9 - t, lanes), lanes,
                                     simd.advance(target, t), channels * 9, min(9 - t, lanes), V)

    return kernel


# ------------------------------------------------------------------------------------------------------------- layouts


@range_kernel
def turn_images(dtype, lanes):
    """Matrices [rows, columns] as [columns, rows]; a unit is one of them. Context: source, target, rows, columns."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T = simd.tile(V, lanes, 1)

    def kernel(context, start, stop):
        w = simd.words(context)
        rows, columns = w[2], w[3]
        for unit in range(start, stop):
            source = simd.advance(simd.pointer(w[0], S), unit * rows * columns)
            target = simd.advance(simd.pointer(w[1], S), unit * rows * columns)
            for r in range(0, rows, lanes):
                for c in range(0, columns, lanes):
                    block, goal = simd.advance(source, r * columns + c), simd.advance(target, c * rows + r)
                    if r + lanes <= rows and c + lanes <= columns:
                        tiles.store(tiles.transpose(tiles.load(block, columns, T)), goal, rows)
                    else:
                        conv_tiles.turn_rows(block, columns, min(rows - r, lanes), min(columns - c, lanes), goal, rows,
                                             min(rows - r, lanes), V)

    return kernel
