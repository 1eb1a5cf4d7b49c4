"""Kernels of correlation: register tiles whose columns are channels, and, where these are few, pixels.

Both read a framed image where it lies, element by element or vector by vector, and packed weights. Context, for both:
"""
from __future__ import annotations

import functools

from autograd_core.kernels.conv_prepare import FRAME, framer
from autograd_core.kernels.lazy import conv_tiles, simd, tiles
from autograd_core.kernels.runner import range_kernel

(SOURCE, PANELS, TARGET, WORK, WORK_SIZE, GRAIN,  # addresses, elements of a chunk's memory, units of a chunk
 IMAGE, START, GROUP, DEPTH_STEP, ROW_STEP, FRAME_ROWS,  # source: an image, the first pixel, a group, steps of places
 DEPTH, HEIGHT, WIDTH,  # places
 TARGET_IMAGE, TARGET_CHANNEL, TARGET_DEPTH, TARGET_ROW, TARGET_COLUMN, TARGET_START,  # strides of the target
 BATCH, UNIT_IMAGES, BLOCK_PANELS, GROUP_PANELS, ALL_PANELS, OUTPUTS, PANEL_SIZE,
 ROW_BLOCKS, BLOCK_ROWS, ENTRIES, DEEP, FRAMES, HELD, HELD_STEP,  # FRAMES: step of rows, 0 for none
 LIMITED, LINE_STEP, LINES, ACROSS) = range(39)  # results are at least 0; by_pixels: between lines of a tile, how many
FRAME_AT = 39
TABLE = FRAME_AT + FRAME


def row_framer(dtype, lanes):
    """Device function that frames what rows of tiles from ``first_row`` on read, and returns where the frame begins."""
    frame = framer(dtype, lanes)

    @simd.device
    def frame_rows(source, framed, first_row, w, lines):
        top = 0
        if w[ROW_BLOCKS] > 1:
            top = min(first_row * lines, w[HEIGHT] - lines) * w[FRAMES]
        frame(source, framed, 0, w[FRAME_AT], top, w[FRAME_ROWS], w, FRAME_AT)
        return simd.advance(framed, -(top * w[FRAME_AT + 3]))

    return frame_rows


@functools.cache
def channel_tiles(dtype, lanes, rows, vectors, fast, step, taps, tap_step):
    """Device function that works off a block of taps for all tiles of an image's rows, and writes them when done."""
    T, width, lines = simd.tile(simd.vector(dtype, lanes), rows, vectors), vectors * lanes, rows // fast

    @simd.device
    def spread(tile, target, w, columns):
        for column in range(columns):
            for line in range(lines):
                for i in range(fast):
                    place = column * w[TARGET_CHANNEL] + line * w[TARGET_ROW] + i * w[TARGET_COLUMN]
                    target[place] = tile[(line * fast + i) * width + column]

    @simd.device
    def image_tiles(w, source, target, held, weights, table, count, first_row, last_row, columns, fresh, done):
        across, down = (w[WIDTH] + fast - 1) // fast, (w[HEIGHT] + lines - 1) // lines
        for row in range(first_row, last_row):
            d = row // down
            h = min((row - d * down) * lines, w[HEIGHT] - lines)
            line = simd.advance(source, d * w[DEPTH_STEP] + h * w[ROW_STEP])
            goal = simd.advance(target, d * w[TARGET_DEPTH] + h * w[TARGET_ROW])
            for i in range(across):
                x = min(i * fast, w[WIDTH] - fast)
                t = tiles.load(held, width, T)
                if fresh:
                    t = tiles.load(simd.advance(weights, -width), 0, T)
                t = conv_tiles.add_taps(t, count, simd.advance(line, x * step), table, fast, w[ROW_STEP], step, taps,
                                        tap_step, weights)
                if done and w[LIMITED] != 0:
                    t = tiles.at_least(t, 0)
                tiles.store(t, held, width)
                if done and w[TARGET_COLUMN] == 1:
                    conv_tiles.turn(held, T, simd.advance(goal, x), w[TARGET_CHANNEL], columns)
                elif done:
                    spread(held, simd.advance(goal, x * w[TARGET_COLUMN]), w, columns)
                held = simd.advance(held, w[HELD_STEP])
        return held

    return image_tiles


@range_kernel
def by_channels(dtype, lanes, rows, vectors, fast, step, taps, tap_step):
    """Tiles of ``rows // fast`` x ``fast`` pixels by ``vectors * lanes`` channels; a unit is (panels, images, rows).

    Taps are worked off in blocks whose weights stay in the first-level cache, tiles are kept in between. A tile is
    turned when it is done, so that pixels are contiguous again (where their stride is 1).
    """
    S, width, lines = simd.scalar(dtype), vectors * lanes, rows // fast
    frame_rows = row_framer(dtype, lanes)
    image_tiles = channel_tiles(dtype, lanes, rows, vectors, fast, step, taps, tap_step)

    @simd.device
    def panel_tiles(w, panel, source, target, work, table, first, last, first_row, last_row):
        group = panel // w[GROUP_PANELS]
        channel = (panel - group * w[GROUP_PANELS]) * width
        columns = min(w[OUTPUTS] - channel, width)
        source = simd.advance(source, group * w[GROUP])
        target = simd.advance(target, (channel + group * w[OUTPUTS]) * w[TARGET_CHANNEL])
        weights = simd.advance(simd.pointer(w[PANELS], S), panel * w[PANEL_SIZE] + width)
        entry = 0
        while entry < w[ENTRIES]:
            count, held = min(w[DEEP], w[ENTRIES] - entry), work
            for image in range(first, last):
                held = image_tiles(w, simd.advance(source, (image - first) * w[IMAGE]),
                                   simd.advance(target, image * w[TARGET_IMAGE]), held,
                                   simd.advance(weights, entry * taps * width), simd.advance(table, entry), count,
                                   first_row, last_row, columns, entry == 0, entry + count == w[ENTRIES])
            entry += count

    def kernel(context, start, stop):
        w = simd.words(context)
        table = simd.words(context + 8 * TABLE)
        work = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        framed, blocks = simd.advance(work, w[HELD]), (w[BATCH] + w[UNIT_IMAGES] - 1) // w[UNIT_IMAGES]
        down = (w[HEIGHT] + lines - 1) // lines
        for unit in range(start, stop):
            rest = unit // w[ROW_BLOCKS]
            first_row = (unit - rest * w[ROW_BLOCKS]) * w[BLOCK_ROWS]
            last_row = min(first_row + w[BLOCK_ROWS], w[DEPTH] * down)
            block = rest // blocks
            first = (rest - block * blocks) * w[UNIT_IMAGES]
            last = min(first + w[UNIT_IMAGES], w[BATCH])
            source = simd.advance(simd.pointer(w[SOURCE], S), first * w[IMAGE])
            target = simd.advance(simd.pointer(w[TARGET], S), w[TARGET_START])
            if w[FRAMES] != 0:
                source = frame_rows(source, framed, first_row, w, lines)
            source = simd.advance(source, w[START])
            for panel in range(block * w[BLOCK_PANELS], min((block + 1) * w[BLOCK_PANELS], w[ALL_PANELS])):
                panel_tiles(w, panel, source, target, work, table, first, last, first_row, last_row)

    return kernel


@functools.cache
def pixel_writer(dtype, lanes, vectors):
    """Device function that writes a tile of channels by lines of pixels from memory to planes."""
    V = simd.vector(dtype, lanes)

    @simd.device
    def write(held, goal, w, count, left):
        step, width = w[TARGET_COLUMN], w[ACROSS] * lanes
        for r in range(count):
            for line in range(w[LINES]):
                source = simd.advance(held, r * vectors * lanes + line * width)
                target = simd.advance(goal, r * w[TARGET_CHANNEL] + line * w[TARGET_ROW])
                if step == 1:
                    for v in range(0, width, lanes):
                        simd.store_part(target, v, simd.load(source, v, V), left - v)
                else:
                    for p in range(min(left, width)):
                        target[p * step] = source[p]

    return write


@range_kernel
def by_pixels(dtype, lanes, rows, vectors, beside, taps, tap_step):
    """Tiles of ``rows`` channels by vectors of pixels, some across and some lines; a unit is (panels, image, rows).

    In the code ``beside`` vectors follow one another; these groups are at any distance: lines, or the vectors of one.
    The source is framed, with room for a vector behind it.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T = simd.tile(V, rows, vectors)
    write = pixel_writer(dtype, lanes, vectors)
    frame_rows = row_framer(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        table, lines, width = simd.words(context + 8 * TABLE), w[LINES], w[ACROSS] * lanes
        held = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        framed = simd.advance(held, w[HELD])
        columns, down = (w[WIDTH] + width - 1) // width, (w[HEIGHT] + lines - 1) // lines
        direct = lines == 1 and w[TARGET_COLUMN] == 1
        for unit in range(start, stop):
            rest = unit // w[ROW_BLOCKS]
            first_row = (unit - rest * w[ROW_BLOCKS]) * w[BLOCK_ROWS]
            last_row = min(first_row + w[BLOCK_ROWS], w[DEPTH] * down)
            block = rest // w[BATCH]
            image = rest - block * w[BATCH]
            source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE])
            if w[FRAMES] != 0:
                source = frame_rows(source, framed, first_row, w, lines)
            source = simd.advance(source, w[START])
            target = simd.advance(simd.pointer(w[TARGET], S), image * w[TARGET_IMAGE] + w[TARGET_START])
            for panel in range(block * w[BLOCK_PANELS], min((block + 1) * w[BLOCK_PANELS], w[ALL_PANELS])):
                group = panel // w[GROUP_PANELS]
                channel = (panel - group * w[GROUP_PANELS]) * rows
                count = min(w[OUTPUTS] - channel, rows)
                channel += group * w[OUTPUTS]
                weights = simd.advance(simd.pointer(w[PANELS], S), panel * w[PANEL_SIZE])
                for row in range(first_row, last_row):
                    d = row // down
                    h = min((row - d * down) * lines, w[HEIGHT] - lines)
                    line = simd.advance(source, group * w[GROUP] + d * w[DEPTH_STEP] + h * w[ROW_STEP])
                    goal = simd.advance(target, channel * w[TARGET_CHANNEL] + d * w[TARGET_DEPTH] + h * w[TARGET_ROW])
                    for i in range(columns):
                        x = max(min(i * width, w[WIDTH] - width), 0)
                        t = tiles.add_rows(tiles.zeros(T), weights, 1)
                        t = conv_tiles.add_image(t, w[ENTRIES], simd.advance(weights, rows), simd.advance(line, x),
                                                 table, beside, w[LINE_STEP], taps, tap_step)
                        if w[LIMITED] != 0:
                            t = tiles.at_least(t, 0)
                        if direct:
                            tiles.store_part(t, simd.advance(goal, x), w[TARGET_CHANNEL], count, w[WIDTH] - x)
                        else:
                            tiles.store(t, held, vectors * lanes)
                            write(held, simd.advance(goal, x * w[TARGET_COLUMN]), w, count, w[WIDTH] - x)

    return kernel
