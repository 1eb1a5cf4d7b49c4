"""Kernels of correlation: register tiles whose columns are channels, and, where these are few, pixels.

Both read a framed image where it lies, element by element or vector by vector, and packed weights. Context, for both:
"""
from __future__ import annotations

from autograd_core.kernels.conv_prepare import FRAME, framer
from autograd_core.kernels.lazy import conv_tiles, simd, tiles
from autograd_core.kernels.runner import range_kernel

(SOURCE, PANELS, TARGET, WORK, WORK_SIZE, GRAIN,  # addresses, elements of a chunk's memory, units of a chunk
 IMAGE, START, GROUP, DEPTH_STEP, ROW_STEP, SLOW_STEP,  # source: an image, the first pixel, a group, steps of places
 DEPTH, HEIGHT, WIDTH,  # places
 TARGET_IMAGE, TARGET_CHANNEL, TARGET_DEPTH, TARGET_ROW, TARGET_COLUMN, TARGET_START,  # strides of the target
 BATCH, PANEL_BLOCKS, BLOCK_PANELS, GROUP_PANELS, ALL_PANELS, OUTPUTS, PANEL_SIZE,
 ROW_BLOCKS, BLOCK_ROWS, ENTRIES, FRAMES) = range(32)
FRAME_AT = 32
TABLE = FRAME_AT + FRAME


@range_kernel
def by_channels(dtype, lanes, rows, vectors, fast, step, taps, tap_step, column_step):
    """Tiles of ``rows // fast`` x ``fast`` pixels by ``vectors * lanes`` channels; a unit is (panels, image, rows).

    The tile is turned as it is stored, so that pixels are contiguous again (where ``column_step`` is 1).
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T, width, lines = simd.tile(V, rows, vectors), vectors * lanes, rows // fast
    frame, contiguous = framer(dtype, lanes), column_step == 1

    @simd.device
    def spread(buffer, target, w, columns):
        for column in range(columns):
            for line in range(lines):
                for i in range(fast):
                    place = column * w[TARGET_CHANNEL] + line * w[TARGET_ROW] + i * column_step
                    target[place] = buffer[(line * fast + i) * width + column]

    def kernel(context, start, stop):
        w = simd.words(context)
        table = simd.words(context + 8 * TABLE)
        buffer = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        framed, held = simd.advance(buffer, rows * width), -1
        across, down = (w[WIDTH] + fast - 1) // fast, (w[HEIGHT] + lines - 1) // lines
        for unit in range(start, stop):
            rest = unit // w[ROW_BLOCKS]
            first_row = (unit - rest * w[ROW_BLOCKS]) * w[BLOCK_ROWS]
            last_row = min(first_row + w[BLOCK_ROWS], w[DEPTH] * down)
            block = rest // w[BATCH]
            image = rest - block * w[BATCH]
            source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE])
            if w[FRAMES] != 0:
                if held != image:
                    frame(source, framed, 0, w[FRAME_AT], w, FRAME_AT)
                    held = image
                source = framed
            source = simd.advance(source, w[START])
            target = simd.advance(simd.pointer(w[TARGET], S), image * w[TARGET_IMAGE] + w[TARGET_START])
            for panel in range(block * w[BLOCK_PANELS], min((block + 1) * w[BLOCK_PANELS], w[ALL_PANELS])):
                group = panel // w[GROUP_PANELS]
                channel = (panel - group * w[GROUP_PANELS]) * width
                columns = min(w[OUTPUTS] - channel, width)
                channel += group * w[OUTPUTS]
                weights = simd.advance(simd.pointer(w[PANELS], S), panel * w[PANEL_SIZE])
                for row in range(first_row, last_row):
                    d = row // down
                    h = min((row - d * down) * lines, w[HEIGHT] - lines)
                    line = simd.advance(source, group * w[GROUP] + d * w[DEPTH_STEP] + h * w[ROW_STEP])
                    goal = simd.advance(target, channel * w[TARGET_CHANNEL] + d * w[TARGET_DEPTH] + h * w[TARGET_ROW])
                    for i in range(across):
                        x = min(i * fast, w[WIDTH] - fast)
                        t = tiles.load(weights, 0, T)
                        t = conv_tiles.add_taps(t, w[ENTRIES], simd.advance(line, x * step), table, fast, w[ROW_STEP],
                                                step, taps, tap_step, simd.advance(weights, width))
                        tiles.store(t, buffer, width)
                        if contiguous:
                            conv_tiles.turn(buffer, T, simd.advance(goal, x), w[TARGET_CHANNEL], columns)
                        else:
                            spread(buffer, simd.advance(goal, x * column_step), w, columns)

    return kernel


@range_kernel
def by_pixels(dtype, lanes, rows, vectors, taps, tap_step, column_step):
    """Tiles of ``rows`` channels by ``vectors * lanes`` pixels of a row; a unit is (panels, image, rows).

    The source is framed, with room for a vector behind it.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T, width, contiguous = simd.tile(V, rows, vectors), vectors * lanes, column_step == 1
    frame = framer(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        table = simd.words(context + 8 * TABLE)
        buffer = simd.advance(simd.pointer(w[WORK], S), start // w[GRAIN] * w[WORK_SIZE])
        framed, held = simd.advance(buffer, rows * width), -1
        across = (w[WIDTH] + width - 1) // width
        for unit in range(start, stop):
            rest = unit // w[ROW_BLOCKS]
            first_row = (unit - rest * w[ROW_BLOCKS]) * w[BLOCK_ROWS]
            last_row = min(first_row + w[BLOCK_ROWS], w[DEPTH] * w[HEIGHT])
            block = rest // w[BATCH]
            image = rest - block * w[BATCH]
            source = simd.advance(simd.pointer(w[SOURCE], S), image * w[IMAGE])
            if w[FRAMES] != 0:
                if held != image:
                    frame(source, framed, 0, w[FRAME_AT], w, FRAME_AT)
                    held = image
                source = framed
            source = simd.advance(source, w[START])
            target = simd.advance(simd.pointer(w[TARGET], S), image * w[TARGET_IMAGE] + w[TARGET_START])
            for panel in range(block * w[BLOCK_PANELS], min((block + 1) * w[BLOCK_PANELS], w[ALL_PANELS])):
                group = panel // w[GROUP_PANELS]
                channel = (panel - group * w[GROUP_PANELS]) * rows
                count = min(w[OUTPUTS] - channel, rows)
                channel += group * w[OUTPUTS]
                weights = simd.advance(simd.pointer(w[PANELS], S), panel * w[PANEL_SIZE])
                for row in range(first_row, last_row):
                    d = row // w[HEIGHT]
                    h = row - d * w[HEIGHT]
                    line = simd.advance(source, group * w[GROUP] + d * w[DEPTH_STEP] + h * w[ROW_STEP])
                    goal = simd.advance(target, channel * w[TARGET_CHANNEL] + d * w[TARGET_DEPTH] + h * w[TARGET_ROW])
                    for i in range(across):
                        x = max(min(i * width, w[WIDTH] - width), 0)
                        left = w[WIDTH] - x
                        t = tiles.add_rows(tiles.zeros(T), weights, 1)
                        t = conv_tiles.add_image(t, w[ENTRIES], simd.advance(weights, rows), simd.advance(line, x),
                                                 table, taps, tap_step)
                        if contiguous:
                            tiles.store_part(t, simd.advance(goal, x), w[TARGET_CHANNEL], count, left)
                        else:
                            tiles.store(t, buffer, width)
                            for r in range(count):
                                for p in range(min(left, width)):
                                    goal[r * w[TARGET_CHANNEL] + (x + p) * column_step] = buffer[r * width + p]

    return kernel
