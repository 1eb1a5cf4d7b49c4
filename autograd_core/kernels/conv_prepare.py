"""What convolution lays out before it computes: padded images, weights in panels, gradients with channels last."""
from __future__ import annotations

import functools

from autograd_core.kernels.lazy import conv_tiles, simd
from autograd_core.kernels.runner import range_kernel

FRAME = 16
"""Words of a frame: planes; depth, height, width of a framed plane; places before in each; sizes of the source in
each; strides of the source: plane, depth, height, width; step between pixels that lie side by side (phases of a row);
elements of a padded image."""


@functools.cache
def framer(dtype, lanes):
    """Device function that copies ``height`` rows from ``top`` on of planes [first, last) into a frame of zeros.

    A row is laid out by phases, pixels 0, s, 2s, ..., then 1, s + 1, ...: a filter of stride s reads contiguous ones.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    @simd.device
    def fill(target, count):
        for i in range(0, count, lanes):
            simd.store_part(target, i, simd.full(S(0), V), count - i)

    @simd.device
    def copy_row(source, target, width, before, size, step, phases):
        if phases == 1 and step == 1:
            for i in range(0, width, lanes):
                simd.store_part(target, i, conv_tiles.load_every(source, i - before, size, S(0), 1, V), width - i)
        else:
            each = width // phases
            for phase in range(phases):
                for i in range(each):
                    column = i * phases + phase - before
                    target[phase * each + i] = source[column * step] if 0 <= column < size else S(0)

    @simd.device
    def frame(source, target, first, last, top, height, w, at):
        depth, width = w[at + 1], w[at + 3]
        for plane in range(first, last):
            for d in range(depth):
                from_d = d - w[at + 4]
                for h in range(height):
                    from_h = top + h - w[at + 5]
                    row = simd.advance(target, (((plane - first) * depth + d) * height + h) * width)
                    if 0 <= from_d < w[at + 7] and 0 <= from_h < w[at + 8]:
                        line = simd.advance(source, plane * w[at + 10] + from_d * w[at + 11] + from_h * w[at + 12])
                        copy_row(line, row, width, w[at + 6], w[at + 9], w[at + 13], w[at + 14])
                    else:
                        fill(row, width)

    return frame


@range_kernel
def frame_images(dtype, lanes):
    """Copy images into frames; a unit is a plane. Context: source, target, stride of an image, then the frame."""
    frame, S = framer(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        planes = w[3]
        for unit in range(start, stop):
            image = unit // planes
            plane = unit - image * planes
            target = simd.advance(simd.pointer(w[1], S), unit * w[4] * w[5] * w[6])
            frame(simd.advance(simd.pointer(w[0], S), image * w[2]), target, plane, plane + 1, 0, w[5], w, 3)

    return kernel


@functools.cache
def weight_copiers(dtype, lanes):
    """Device functions that copy a run of steps of a panel: from any order, contiguous steps, contiguous runs."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    @simd.device
    def elements(source, target, w, columns, width):
        t = 0
        for d in range(w[11]):
            for h in range(w[12]):
                for i in range(w[13]):
                    place = d * w[14] + h * w[15] + i * w[16]
                    for column in range(width):
                        target[t * width + column] = source[place + column * w[8]] if column < columns else S(0)
                    t += 1

    @simd.device
    def by_rows(source, target, w, columns, width):
        for t in range(w[6]):
            place = (t // (w[12] * w[13])) * w[14] + (t // w[13]) % w[12] * w[15] + t % w[13] * w[16]
            for v in range(0, width, lanes):
                simd.store(target, t * width + v, simd.load_part(source, place + v, columns - v, V))

    @simd.device
    def turned(source, target, w, columns, width):
        count, step = w[6], width
        if w[18] == REVERSED:
            source, target, step = simd.advance(source, 1 - count), simd.advance(target, (count - 1) * width), -width
        for v in range(0, width, lanes):
            rows = columns - v
            for t in range(0, count, lanes):
                line = simd.advance(target, t * step + v)
                if rows > 0:
                    conv_tiles.turn_rows(simd.advance(source, v * w[8] + t), w[8], min(rows, lanes),
                                         min(count - t, lanes), line, step, lanes, V)
                for i in range(0 if rows > 0 else min(count - t, lanes)):
                    simd.store(line, i * step, simd.full(S(0), V))

    return elements, by_rows, turned


ANY, ROWS, TURNED, REVERSED = range(4)  # layouts of weights


@range_kernel
def pack_weights(dtype, lanes):
    """Copy weights into panels [group, block of outputs, 1 + steps, width], the first row the bias or zeros.

    A unit is (panel, run), the run some steps that the layout describes: TURNED (the elements of an output's run are
    contiguous), REVERSED (so, but backwards), ROWS (the elements of a step are contiguous) or ANY.
    Context: weights, bias or 0, panels, runs, panels a group, outputs a group, steps of a run, stride of a group, of an
    output, of a run, elements from the weights' start, then taps and their strides in depth, height and width, width of
    a panel, layout.
    """
    S = simd.scalar(dtype)
    elements, by_rows, turned = weight_copiers(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        width = w[17]
        for unit in range(start, stop):
            panel = unit // w[3]
            run = unit - panel * w[3]
            group = panel // w[4]
            first = (panel - group * w[4]) * width
            target = simd.advance(simd.pointer(w[2], S), panel * (1 + w[3] * w[6]) * width)
            columns = min(w[5] - first, width)
            if run == 0:
                bias = simd.pointer(w[1], S)
                for column in range(width):
                    value = S(0)
                    if w[1] != 0 and column < columns:
                        value = bias[group * w[5] + first + column]
                    target[column] = value
            target = simd.advance(target, (1 + run * w[6]) * width)
            source = simd.advance(simd.pointer(w[0], S), w[10] + group * w[7] + first * w[8] + run * w[9])
            if w[18] == ANY:
                elements(source, target, w, columns, width)
            elif w[18] == ROWS:
                by_rows(source, target, w, columns, width)
            else:
                turned(source, target, w, columns, width)

    return kernel
