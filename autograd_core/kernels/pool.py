"""Pooling: maxima with their indices, sums of windows, their adjoints, in one to three dimensions.

A unit is a plane, one sample's channel. Vectors run along the positions of a row of windows; elements outside of the
image are -infinity (maxima) or 0 (sums) and never read.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import conv_tiles, simd
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import eraser

CHUNK = 16384  # elements of a chunk at least
MANY = 1 << 40  # more elements than a row has: loads need no masks where all windows lie inside, and so does what is
# read behind the last of them (of the array, not of the row: those lanes are not looked at)
MOST_STRIDE = 8  # vectors that are loaded for one vector of windows

(SOURCE, TARGET, INDICES, DEPTH, HEIGHT, WIDTH, OUT_DEPTH, OUT_HEIGHT, OUT_WIDTH, TAPS_D, TAPS_H, TAPS_W,
 STRIDE_D, STRIDE_H, BEFORE_D, BEFORE_H, BEFORE_W, STEP_D, STEP_H, STEP_W, PLANES) = range(21)


# ---------------------------------------------------------------------------------------------------------- kernels


@range_kernel
def maxima(dtype, lanes, stride, indexed):
    """The largest element of each window and, if ``indexed``, its index in the plane: the first of equals, the last NaN
    above all.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    H, W, L = simd.scalar(np.int32), simd.vector(np.int32, lanes), simd.scalar(np.int64)

    def kernel(context, start, stop):
        w = simd.words(context)
        lowest = S(-np.inf)
        depth, height, width, out_height, out_width = w[DEPTH], w[HEIGHT], w[WIDTH], w[OUT_HEIGHT], w[OUT_WIDTH]
        taps_d, taps_h, taps_w, rows = w[TAPS_D], w[TAPS_H], w[TAPS_W], w[OUT_DEPTH] * w[OUT_HEIGHT]
        before, step_w, size, windows = w[BEFORE_W], w[STEP_W], depth * height * width, rows * out_width
        for plane in range(start, stop):
            source = simd.advance(simd.pointer(w[SOURCE], S), plane * size)
            target = simd.advance(simd.pointer(w[TARGET], S), plane * windows)
            room = (w[PLANES] - plane) * size
            indices = simd.advance(simd.pointer(w[INDICES], L), plane * windows)
            for row in range(rows):
                od = row // out_height
                from_d, from_h = od * w[STRIDE_D] - w[BEFORE_D], (row - od * out_height) * w[STRIDE_H] - w[BEFORE_H]
                for column in range(0, out_width, lanes):
                    best, winner = simd.full(lowest, V), simd.full(H(-1), W)
                    first = column * stride - before
                    last = first + (taps_w - 1) * step_w
                    inner = first >= 0 and last + (min(lanes, out_width - column) - 1) * stride < width
                    for kd in range(taps_d):
                        d = from_d + kd * w[STEP_D]
                        for kh in range(taps_h):
                            h = from_h + kh * w[STEP_H]
                            if 0 <= d < depth and 0 <= h < height:
                                offset = (d * height + h) * width
                                line = simd.advance(source, offset)
                                whole = inner and offset + last + stride * lanes <= room
                                for kw in range(taps_w):
                                    x = first + kw * step_w
                                    if whole:
                                        v = conv_tiles.load_every(simd.advance(line, x), 0, MANY, lowest, stride, V)
                                    else:
                                        v = conv_tiles.load_every(line, x, width, lowest, stride, V)
                                    wins = (v > best) | (v != v)
                                    if indexed:
                                        at = simd.iota(W) * H(stride) + H(x)
                                        inside = (at >= H(0)) & (at < H(width))
                                        wins |= (winner < H(0)) & inside
                                        winner = simd.where(wins, at + H(offset), winner)
                                    best = simd.where(wins, v, best)
                    place, left = row * out_width + column, out_width - column
                    simd.store_part(target, place, best, left)
                    if indexed:
                        simd.store_part(indices, place, simd.convert(winner, L), left)

    return kernel


@range_kernel
def sums(dtype, lanes, stride):
    """The sum of each window."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        zero = S(0)
        depth, height, width, out_height, out_width = w[DEPTH], w[HEIGHT], w[WIDTH], w[OUT_HEIGHT], w[OUT_WIDTH]
        taps_d, taps_h, taps_w, rows = w[TAPS_D], w[TAPS_H], w[TAPS_W], w[OUT_DEPTH] * w[OUT_HEIGHT]
        before, size, windows = w[BEFORE_W], depth * height * width, rows * out_width
        for plane in range(start, stop):
            source = simd.advance(simd.pointer(w[SOURCE], S), plane * size)
            target = simd.advance(simd.pointer(w[TARGET], S), plane * windows)
            room = (w[PLANES] - plane) * size
            for row in range(rows):
                od = row // out_height
                from_d, from_h = od * w[STRIDE_D] - w[BEFORE_D], (row - od * out_height) * w[STRIDE_H] - w[BEFORE_H]
                for column in range(0, out_width, lanes):
                    total = simd.full(zero, V)
                    first = column * stride - before
                    last = first + taps_w - 1
                    inner = first >= 0 and last + (min(lanes, out_width - column) - 1) * stride < width
                    for d in range(max(from_d, 0), min(from_d + taps_d, depth)):
                        for h in range(max(from_h, 0), min(from_h + taps_h, height)):
                            offset = (d * height + h) * width
                            line = simd.advance(source, offset)
                            whole = inner and offset + last + stride * lanes <= room
                            for kw in range(taps_w):
                                if whole:
                                    place = simd.advance(line, first + kw)
                                    total += conv_tiles.load_every(place, 0, MANY, zero, stride, V)
                                else:
                                    total += conv_tiles.load_every(line, first + kw, width, zero, stride, V)
                    simd.store_part(target, row * out_width + column, total, out_width - column)

    return kernel


@range_kernel
def spread(dtype, lanes, stride):
    """Each element added to all places of its window, the adjoint of sums: source and target change places."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        size, windows = w[DEPTH] * w[HEIGHT] * w[WIDTH], w[OUT_DEPTH] * w[OUT_HEIGHT] * w[OUT_WIDTH]
        for plane in range(start, stop):
            source = simd.advance(simd.pointer(w[SOURCE], S), plane * windows)
            target = simd.advance(simd.pointer(w[TARGET], S), plane * size)
            for i in range(0, size, lanes):
                simd.store_part(target, i, simd.full(S(0), V), size - i)
            for row in range(w[OUT_DEPTH] * w[OUT_HEIGHT]):
                od = row // w[OUT_HEIGHT]
                from_d, from_h = od * w[STRIDE_D] - w[BEFORE_D], (row - od * w[OUT_HEIGHT]) * w[STRIDE_H] - w[BEFORE_H]
                given = simd.advance(source, row * w[OUT_WIDTH])
                for d in range(max(from_d, 0), min(from_d + w[TAPS_D], w[DEPTH])):
                    for h in range(max(from_h, 0), min(from_h + w[TAPS_H], w[HEIGHT])):
                        line = simd.advance(target, (d * w[HEIGHT] + h) * w[WIDTH])
                        for kw in range(w[TAPS_W]):
                            x = kw - w[BEFORE_W]
                            for column in range(w[OUT_WIDTH]):
                                if 0 <= x < w[WIDTH]:
                                    line[x] += given[column]
                                x += stride

    return kernel


@range_kernel
def fold(dtype, lanes):
    """Columns (every tap of the window at every position) added back into planes.

    Context: columns, planes, size of a plane (2), positions (2), taps (2), stride (2), padding (2), dilation (2).
    """
    S = simd.scalar(dtype)
    erase = eraser(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        height, width, rows, columns = w[2], w[3], w[4], w[5]
        stride = w[9]
        for plane in range(start, stop):
            target = simd.advance(simd.pointer(w[1], S), plane * height * width)
            erase(target, height * width)
            for tap in range(w[6] * w[7]):
                kh = tap // w[7]
                source = simd.advance(simd.pointer(w[0], S), (plane * w[6] * w[7] + tap) * rows * columns)
                across = (tap - kh * w[7]) * w[13] - w[11]
                first = max(0, -(across // stride))
                last = min(columns, (width - 1 - across) // stride + 1)
                for i in range(rows):
                    h = i * w[8] + kh * w[12] - w[10]
                    if 0 <= h < height:
                        line, given = simd.advance(target, h * width + across), simd.advance(source, i * columns)
                        if stride == 1:
                            for j in range(first, last):
                                line[j] += given[j]
                        else:
                            for j in range(first, last):
                                line[j * stride] += given[j]

    return kernel


@range_kernel
def place(dtype, lanes, adds):
    """Planes of zeros with elements added at flat indices, or (not ``adds``) put there, the last of several staying.

    Context: elements, indices, target, their count, size.
    """
    S, V, L = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int64)

    def kernel(context, start, stop):
        w = simd.words(context)
        count, size = w[3], w[4]
        for plane in range(start, stop):
            source = simd.advance(simd.pointer(w[0], S), plane * count)
            indices = simd.advance(simd.pointer(w[1], L), plane * count)
            target = simd.advance(simd.pointer(w[2], S), plane * size)
            for i in range(0, size, lanes):
                simd.store_part(target, i, simd.full(S(0), V), size - i)
            for i in range(count):
                at = indices[i]
                if 0 <= at < size:
                    target[at] = target[at] + source[i] if adds else source[i]

    return kernel


@range_kernel
def take(dtype):
    """Elements of planes at flat indices. Context: planes, indices, target, elements taken of each, size of a plane."""
    S, L = simd.scalar(dtype), simd.scalar(np.int64)

    def kernel(context, start, stop):
        w = simd.words(context)
        count, size = w[3], w[4]
        for plane in range(start, stop):
            source = simd.advance(simd.pointer(w[0], S), plane * size)
            indices = simd.advance(simd.pointer(w[1], L), plane * count)
            target = simd.advance(simd.pointer(w[2], S), plane * count)
            for i in range(count):
                at = indices[i]
                target[i] = source[at] if 0 <= at < size else S(0)

    return kernel


# ------------------------------------------------------------------------------------------------------------ plans


def three(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Settings of up to three dimensions as three, ``fill`` in front."""
    return (fill,) * (3 - len(values)) + tuple(values)


def grain(each: int) -> int:
    """Planes of a chunk."""
    return max(1, CHUNK // max(each, 1))


def served(x: Array, rank: int) -> bool:
    """Whether kernels take this array: planes of up to three dimensions whose indices fit 32 bits."""
    return x.dtype.char in "fd" and is_c_ordered(x) and rank <= 3 and math.prod(x.shape[2:]) < 1 << 31


def facts(size: tuple[int, ...], windows: tuple[int, ...], kernel_size: tuple[int, ...], stride: tuple[int, ...],
          padding: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The words of a context after its addresses, and the step between windows of a row."""
    stride = three(stride, 1)
    words = (*three(size, 1), *three(windows, 1), *three(kernel_size, 1), *stride[:2], *three(padding, 0),
             *three(dilation, 1))
    return words, stride[2] if windows[-1] > 1 else 1


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Windows along a dimension; with ``ceil_mode`` a partial one counts if it begins inside image or left padding."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def plan_max_pool(input: Array, *, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
                  dilation: tuple[int, ...], ceil_mode: bool, indexed: bool = True) -> Plan | None:
    """Plan ``ops.max_pool``: the largest element of each window, and (if ``indexed``) its flat index in the plane."""
    size = input.shape[2:]
    windows = tuple(window_count(*every, ceil_mode) for every in zip(
        size, kernel_size, stride, padding, dilation, strict=True))
    words, step = facts(size, windows, kernel_size, stride, padding, dilation)
    if not served(input, len(size)) or step > MOST_STRIDE:
        return None
    shape = (*input.shape[:2], *windows)
    kernel = maxima(input.dtype, host.lanes(input.dtype), step, indexed)
    context = (inp(0), out(0), out(1) if indexed else 0, *words, math.prod(shape[:2]))
    outputs = (Spec(shape, input.dtype), Spec(shape, np.dtype(np.int64)))
    return Plan(outputs if indexed else outputs[:1],
                (Call(kernel, context, math.prod(shape[:2]), grain(math.prod(size))),))


def plan_largest(input: Array, **settings: Any) -> Plan | None:
    """Plan ``ops.largest_of_windows``: the largest element of each window."""
    return plan_max_pool(input, indexed=False, **settings)


def plan_window_sum(input: Array, *, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
                    ceil_mode: bool) -> Plan | None:
    """Plan ``ops.window_sum``: the sum of each window."""
    size, ones = input.shape[2:], (1,) * len(kernel_size)
    windows = tuple(window_count(*every, ceil_mode) for every in zip(
        size, kernel_size, stride, padding, ones, strict=True))
    words, step = facts(size, windows, kernel_size, stride, padding, ones)
    if not served(input, len(size)) or step > MOST_STRIDE:
        return None
    shape = (*input.shape[:2], *windows)
    kernel, planes = sums(input.dtype, host.lanes(input.dtype), step), math.prod(shape[:2])
    call = Call(kernel, (inp(0), out(0), 0, *words, planes), planes, grain(math.prod(size)))
    return Plan((Spec(shape, input.dtype),), (call,))


def plan_window_spread(input: Array, *, size: tuple[int, ...], kernel_size: tuple[int, ...], stride: tuple[int, ...],
                       padding: tuple[int, ...], ceil_mode: bool) -> Plan | None:
    """Plan ``ops.window_spread``: each element added to all places of its window in a plane of ``size``."""
    windows = input.shape[2:]
    words, step = facts(size, windows, kernel_size, stride, padding, (1,) * len(size))
    if not served(input, len(size)):
        return None
    shape = (*input.shape[:2], *size)
    kernel = spread(input.dtype, host.lanes(input.dtype), step)
    call = Call(kernel, (inp(0), out(0), 0, *words), math.prod(shape[:2]), grain(math.prod(size)))
    return Plan((Spec(shape, input.dtype),), (call,))


def plan_fold(input: Array, *, size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
              padding: tuple[int, ...], dilation: tuple[int, ...]) -> Plan | None:
    """Plan ``ops.col2im`` of two dimensions: columns (N, C * taps, positions) added back into images."""
    taps = math.prod(kernel)
    if not served(input, 1) or len(size) != 2 or 0 in input.shape:
        return None
    every = zip(size, kernel, stride, padding, dilation, strict=True)
    positions = tuple(window_count(*each, False) for each in every)
    shape = (input.shape[0], input.shape[1] // taps, *size)
    context: tuple[int | Ref, ...] = (inp(0), out(0), *size, *positions, *kernel, *stride, *padding, *dilation)
    call = Call(fold(input.dtype, host.lanes(input.dtype)), context, math.prod(shape[:2]),
                grain(taps * math.prod(positions)))
    return Plan((Spec(shape, input.dtype),), (call,))


def plan_take_at(input: Array, indices: Array, *, rank: int) -> Plan | None:
    """Plan ``ops.take_at``: elements of the planes, the last ``rank`` dims of ``input``, at flat ``indices``."""
    if not (served(input, min(rank, 3)) and indices.dtype == np.int64 and is_c_ordered(indices)):
        return None
    lead = len(input.shape) - rank
    plane, count = math.prod(input.shape[lead:]), math.prod(indices.shape[lead:])
    call = Call(take(input.dtype), (inp(0), inp(1), out(0), count, plane), math.prod(indices.shape[:lead]),
                grain(max(plane, count)))
    return Plan((Spec(indices.shape, input.dtype),), (call,))


def plan_unpool(input: Array, indices: Array, *, size: tuple[int, ...]) -> Plan | None:
    """Plan ``ops.unpool``: planes of zeros but for the elements of ``input`` at flat ``indices``."""
    return plan_place_at(input, indices, size=size, adds=False)


def plan_place_at(input: Array, indices: Array, *, size: tuple[int, ...], adds: bool = True) -> Plan | None:
    """Plan ``ops.place_at``: planes of ``size`` with the elements of ``input`` added at flat ``indices``."""
    rank = len(size)
    if not (served(input, min(rank, 3)) and indices.dtype == np.int64 and is_c_ordered(indices)):
        return None
    lead, plane = input.shape[:len(input.shape) - rank], math.prod(size)
    count = math.prod(input.shape[len(lead):])
    kernel = place(input.dtype, host.lanes(input.dtype), adds)
    call = Call(kernel, (inp(0), inp(1), out(0), count, plane), math.prod(lead), grain(max(plane, count)))
    return Plan((Spec((*lead, *size), input.dtype),), (call,))
