"""Convolution of images whose channels lie last, [image, row, column, channel], by Winograd's F(2x2, 3x3).

What the layout pass of the compiler chooses where convolutions of 3 x 3 follow one another: nothing is turned between
them. Weights stay as they are everywhere, [output, channel, 3, 3].
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import conv_last_tiles, conv_winograd, host
from autograd_core.kernels.conv_choice import most_rows
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, is_c_ordered, out, scratch

TILES = 8  # of a unit of the forward pass: what they are transformed to stays in the first-level cache
WEIGHT_TILES = 16  # of a unit of the gradient of the weight at least: each sum is loaded and stored once for them
CHUNKS = 32
WEIGHT_CHUNKS = 16  # partial sums of a gradient of the weight at most


def served(shape: tuple[int, ...], outputs: int, kernel: tuple[int, ...], padding: tuple[int, ...],
           dtype: np.dtype) -> bool:
    """Whether these kernels take a convolution of images of ``shape`` (N, C, H, W) that steps by one."""
    if len(shape) != 4 or kernel != (3, 3) or dtype.char != "f" or not all(0 <= p <= 2 for p in padding):
        return False
    lanes, (height, width) = host.lanes(dtype), shape[2:]
    high, wide = height + 2 * padding[0] - 2, width + 2 * padding[1] - 2
    if min(shape[0], high - 1, wide - 1) < 1 or shape[1] % lanes or outputs % lanes:
        return False
    across, panel, cache = -(-wide // 2), _vectors(outputs, lanes) * lanes, host.caches()[1] // 2
    return max(16 * across * (shape[1] + panel), 16 * shape[1] * outputs) * 4 <= cache


def _vectors(outputs: int, lanes: int) -> int:
    return 1 if outputs % (2 * lanes) else 2


def _rows_of_tiles(across: int, lines: int, wanted: int) -> int:
    """How many rows of tiles make a unit of about so many tiles."""
    return max(1, min(lines, wanted // across))


def _correlate(x: Array, weight: Array, bias: Ref | int, size: tuple[int, ...], before: tuple[int, ...],
               turned: bool) -> Plan:
    """The correlation of images with ``weight``; ``turned``: with its channels exchanged and its taps reversed."""
    lanes, (batch, height, width, channels), itemsize = host.lanes(x.dtype), x.shape, x.dtype.itemsize
    outputs = weight.shape[1] if turned else weight.shape[0]
    steps = (9, weight.shape[1] * 9) if turned else (weight.shape[1] * 9, 9)
    vectors = _vectors(outputs, lanes)
    panel, rows = vectors * lanes, min(TILES, most_rows(vectors))
    high, wide = size
    across, lines = -(-wide // 2), batch * -(-high // 2)
    piece = max(n for n in range(1, min(across, TILES) + 1) if across % n == 0)
    piece = across if 2 * piece < TILES else piece
    strips, each = lines * (across // piece), _rows_of_tiles(across, lines, TILES) if piece == across else 1
    tiles, units, panels = each * piece, -(-strips // each), outputs // panel
    work = -(-16 * (max(tiles, rows) * (panel + channels) + 2 * lanes) // 16) * 16
    grain, transformed = -(-units // CHUNKS), -(-panels * channels // 8)
    pieces = (-(-panels * channels // transformed) * 9 * lanes * itemsize, 16 * channels * outputs * itemsize,
              outputs * itemsize, -(-units // grain) * work * itemsize)
    return Plan((Spec((batch, high, wide, outputs), x.dtype),), (
        Call(conv_winograd.transform_weights(x.dtype, lanes, vectors, turned), (
            inp(1), bias, scratch(1), scratch(0), transformed, channels, outputs, *steps, scratch(2)),
            panels * channels, transformed),
        Call(conv_last_tiles.correlate_tiles(x.dtype, lanes, rows, vectors), (
            inp(0), scratch(1), scratch(2), out(0), scratch(3), work, grain, channels, outputs, height, width, *before,
            high, wide, strips, each, across // piece, piece), units, grain)), pieces)


def _ordered(*arrays: Array | None) -> bool:
    return all(a is None or (is_c_ordered(a) and a.dtype.char == "f") for a in arrays)


def plan_convolution(input: Array, weight: Array, bias: Array | None, *, padding: tuple[int, ...]) -> Plan | None:
    """Plan a convolution of [image, row, column, channel] by 3 x 3 that steps by one."""
    batch, height, width, channels = input.shape
    if not _ordered(input, weight, bias) or not served(
            (batch, channels, height, width), weight.shape[0], weight.shape[2:], padding, input.dtype):
        return None
    size = (height + 2 * padding[0] - 2, width + 2 * padding[1] - 2)
    return _correlate(input, weight, 0 if bias is None else inp(2), size, padding, False)


def plan_convolution_input(grad: Array, weight: Array, *, size: tuple[int, ...],
                           padding: tuple[int, ...]) -> Plan | None:
    """Plan the gradient of an image of ``size`` from that of the result."""
    channels = weight.shape[1]
    if not _ordered(grad, weight) or not served((grad.shape[0], grad.shape[3], *grad.shape[1:3]), channels,
                                                weight.shape[2:], (2 - padding[0], 2 - padding[1]), grad.dtype):
        return None
    return _correlate(grad, weight, 0, size, (2 - padding[0], 2 - padding[1]), True)


def plan_convolution_weight(grad: Array, input: Array, *, padding: tuple[int, ...]) -> Plan | None:
    """Plan the gradient of the weight, [output, channel, 3, 3]."""
    lanes, (batch, height, width, channels), (_, high, wide, outputs) = host.lanes(input.dtype), input.shape, grad.shape
    if not _ordered(grad, input) or not served((batch, channels, height, width), outputs, (3, 3), padding, input.dtype):
        return None
    vectors, itemsize = _vectors(outputs, lanes), input.dtype.itemsize
    rows = max(n for n in range(1, min(16 if vectors == 1 else 8, most_rows(vectors)) + 1) if channels % n == 0)
    across, lines = -(-wide // 2), batch * -(-high // 2)
    each = _rows_of_tiles(across, lines, max(WEIGHT_TILES, channels // 2))
    units = -(-lines // each)
    work = -(-4 * (each * across * (channels + outputs) + 2 * lanes) // 16) * 16
    most = max(4, min(WEIGHT_CHUNKS, host.caches()[1] // 2 // (16 * channels * outputs * itemsize)))
    grain, columns = -(-units // min(most, units)), channels * (outputs // lanes)
    chunks, combined = -(-units // grain), -(-columns // 8)
    pieces = (chunks * 16 * channels * outputs * itemsize, chunks * work * itemsize,
              -(-columns // combined) * 9 * lanes * itemsize)
    return Plan((Spec((outputs, channels, 3, 3), grad.dtype),), (
        Call(conv_last_tiles.weight_tiles(grad.dtype, lanes, rows, vectors), (
            inp(1), inp(0), scratch(0), scratch(1), work, grain, channels, outputs, height, width, *padding, high, wide,
            lines, each), units, grain),
        Call(conv_last_tiles.combine_tiles(grad.dtype, lanes), (
            scratch(0), out(0), scratch(2), combined, chunks, channels, outputs), columns, combined)), pieces)


def turn(x: Array, *, last: bool) -> Plan | None:
    """Plan a copy of [N, C, H, W] as [N, H, W, C], or with ``last=False`` the way back."""
    if x.dtype.char not in "fd" or not is_c_ordered(x) or 0 in x.shape:
        return None
    batch, pixels = x.shape[0], math.prod(x.shape[2:] if last else x.shape[1:-1])
    channels = x.shape[1] if last else x.shape[-1]
    rows, columns = (channels, pixels) if last else (pixels, channels)
    shape = (batch, *x.shape[2:], channels) if last else (batch, channels, *x.shape[1:-1])
    call = Call(conv_last_tiles.turn_images(x.dtype, host.lanes(x.dtype)), (inp(0), out(0), rows, columns), batch,
                max(1, 16384 // (rows * columns)))
    return Plan((Spec(shape, x.dtype),), (call,))
