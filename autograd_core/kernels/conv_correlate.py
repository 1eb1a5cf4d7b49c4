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
 ROW_BLOCKS, BLOCK_ROWS, ENTRIES, DEEP, FRAMES, HELD, HELD_STEP) = range(35)  # FRAMES: step of rows, 0 for none
FRAME_AT = 35
TABLE = FRAME_AT + FRAME


def row_framer(dtype, lanes, lines):
    """Device function that frames what rows of tiles from ``first_row`` on read, and returns where the frame begins."""
    frame = framer(dtype, lanes)

    @simd.device
    def frame_rows(source, framed, first_row, w):
        top = 0
        if w[ROW_BLOCKS] > 1:
            top = min(first_row * lines, w[HEIGHT] - lines) * w[FRAMES]
        frame(source, framed, 0, w[FRAME_AT], top, w[FRAME_ROWS], w, FRAME_AT)
        return simd.advance(framed, -(top * w[FRAME_AT + 3]))

    return frame_rows


@functools.cache
def ender():
    """Device function of the activation that results may end with."""
    return simd.device(lambda x: simd.where(x < 0, 0, x))


@functools.cache
def channel_tiles(dtype, lanes, rows, vectors, fast, step, taps, tap_step, column_step, ending):
    """Device function that works off a block of taps for all tiles of an image's rows, and writes them when done."""
    limit, ends = ender(), ending != ""
    T, width, lines = simd.tile(simd.vector(dtype, lanes), rows, vectors), vectors * lanes, rows // fast
    contiguous = column_step == 1

    @simd.device
    def spread(tile, target, w, columns):
        for column in range(columns):
            for line in range(lines):
                for i in range(fast):
                    place = column * w[TARGET_CHANNEL] + line * w[TARGET_ROW] + i * column_step
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
                if ends and done:
                    t = tiles.apply(limit, t)
                tiles.store(t, held, width)
                if done and contiguous:
                    conv_tiles.turn(held, T, simd.advance(goal, x), w[TARGET_CHANNEL], columns)
                elif done:
                    spread(held, simd.advance(goal, x * column_step), w, columns)
                held = simd.advance(held, w[HELD_STEP])
        return held

    return image_tiles


@range_kernel
def by_channels(dtype, lanes, rows, vectors, fast, step, taps, tap_step, column_step, ending):
    """Tiles of ``rows // fast`` x ``fast`` pixels by ``vectors * lanes`` channels; a unit is (panels, images, rows).

    Taps are worked off in blocks whose weights stay in the first-level cache, tiles are kept in between. A tile is
    turned when it is done, so that pixels are contiguous again (where ``column_step`` is 1).
    """
    S, width, lines = simd.scalar(dtype), vectors * lanes, rows // fast
    frame_rows = row_framer(dtype, lanes, lines)
    image_tiles = channel_tiles(dtype, lanes, rows, vectors, fast, step, taps, tap_step, column_step, ending)

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
                source = frame_rows(source, framed, first_row, w)
            source = simd.advance(source, w[START])
            for panel in range(block * w[BLOCK_PANELS], min((block + 1) * w[BLOCK_PANELS], w[ALL_PANELS])):
                panel_tiles(w, panel, source, target, work, table, first, last, first_row, last_row)

    return kernel


@functools.cache
def pixel_writer(dtype, lanes, vectors, across, column_step):
    """Device function that writes a tile of channels by lines of pixels from memory to planes."""
    V, width, lines = simd.vector(dtype, lanes), across * lanes, vectors // across
    contiguous = column_step == 1

    @simd.device
    def write(held, goal, w, count, left):
        for r in range(count):
            for line in range(lines):
                source = simd.advance(held, r * vectors * lanes + line * width)
                target = simd.advance(goal, r * w[TARGET_CHANNEL] + line * w[TARGET_ROW])
                if contiguous:
                    for v in range(0, width, lanes):
                        simd.store_part(target, v, simd.load(source, v, V), left - v)
                else:
                    for p in range(min(left, width)):
                        target[p * column_step] = source[p]

    return write


@range_kernel
def by_pixels(dtype, lanes, rows, vectors, across, taps, tap_step, column_step, ending):
    """Tiles of ``rows`` channels by ``across`` vectors of ``vectors // across`` lines; a unit is (panels, image, rows).

    The source is framed, with room for a vector behind it.
    """
    S, V, lines = simd.scalar(dtype), simd.vector(dtype, lanes), vectors // across
    T, width, contiguous = simd.tile(V, rows, vectors), across * lanes, column_step == 1
    frame_rows = row_framer(dtype, lanes, lines)
    write = pixel_writer(dtype, lanes, vectors, across, column_step)
    limit, ends = ender(), ending != ""

    def kernel(context, start, stop):
        w = simd.words(context)
        table = simd.words(context + 8 * TABLE)
        held = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        framed = simd.advance(held, w[HELD])
        columns, down = (w[WIDTH] + width - 1) // width, (w[HEIGHT] + lines - 1) // lines
        for unit in range(start, stop):
            rest = unit // w[ROW_BLOCKS]
            first_row = (unit - rest * w[ROW_BLOCKS]) * w[BLOCK_ROWS]
            last_row = min(first_row + w[BLOCK_ROWS], w[DEPTH] * down)
            block = rest // w[BATCH]
            image = rest - block * w[BATCH]
            source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE])
            if w[FRAMES] != 0:
                source = frame_rows(source, framed, first_row, w)
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
                                                 table, across, w[ROW_STEP], taps, tap_step)
                        if ends:
                            t = tiles.apply(limit, t)
                        if contiguous and lines == 1:
                            tiles.store_part(t, simd.advance(goal, x), w[TARGET_CHANNEL], count, w[WIDTH] - x)
                        else:
                            tiles.store(t, held, vectors * lanes)
                            write(held, simd.advance(goal, x * column_step), w, count, w[WIDTH] - x)

    return kernel
