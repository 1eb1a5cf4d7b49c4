"""Convolution: the forward pass and the gradients of input and weight, in one to three dimensions.

Forward and input gradient are correlations: y[p] = sum over channels and taps of w[tap] * x[step * p + tap_step * tap -
before]. The input gradient at stride s is s correlations a dimension of the gradient with every s-th tap of the turned
filter, one for each remainder of the position modulo s. Images are framed with zeros, one at a time in a chunk's own
memory, and read where they lie: nothing is unfolded. Weights are copied into panels.
"""
from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from autograd_core.kernels import conv_correlate, conv_depthwise, conv_weight, conv_winograd, host
from autograd_core.kernels.conv_choice import (
    POSITIONS,
    channel_tile,
    dots_tile,
    most_rows,
    pixel_tile,
    weight_tile,
    winograd_cycles,
    winograd_fits,
)
from autograd_core.kernels.conv_layout import (
    Axis,
    Correlation,
    add_piece,
    dense,
    element_strides,
    flatten,
    frames,
    in_frame,
    offsets,
    packing,
    three,
)
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import RangeKernel

CHUNK = 4_000_000  # floating-point operations of a chunk at least
MOST_CHUNKS = 32


# --------------------------------------------------------------------------------------------------------- correlations


@dataclass(frozen=True)
class Work:
    """How a correlation is cut into units and chunks."""

    framed: str  # "" (read where it lies), "unit" (each unit frames what it reads), "before" (a call of its own)
    panel_blocks: int
    unit_images: int
    row_blocks: int
    grain: int


def divide(c: Correlation, panels: int, rows: int, weight_bytes: int, inside: bool, by_channel: bool) -> Work:
    """Units are panels where the weights do not fit the cache, else images, or blocks of rows that fit it."""
    chunks, cache = max(1, min(MOST_CHUNKS, c.operations // CHUNK)), host.caches()[1]
    if by_channel and weight_bytes > cache // 2 and panels > 1:
        return Work("" if inside else "before", panels, c.batch, 1, 1)
    image = c.groups * c.channels * math.prod(a.extent for a in c.axes) * c.dtype.itemsize
    blocks = 1 if c.batch >= min(chunks, 8) else -(-chunks // c.batch)
    flat = c.axes[0].extent == 1
    if flat:
        blocks = max(blocks, -(-image // (cache // 4)))
    blocks = min(rows, blocks)
    framed = "" if inside and image <= cache // 4 else "unit" if flat or blocks == 1 else "before"
    units = c.batch * -(-rows // -(-rows // blocks))
    return Work(framed, 1, 1, blocks, -(-units // chunks))


def filters_of(c: Correlation, weight: Ref) -> tuple[Ref, bool]:
    """Where filters of 3 x 3 begin, and whether they are read backwards."""
    flipped = c.axes[2].weight_step < 0
    start = sum(a.weight_start * s for a, s in zip(c.axes, c.weight_strides[3:], strict=True)) if flipped else 0
    return Ref(weight.kind, weight.index, weight.offset + (start - 8 * flipped) * c.dtype.itemsize), flipped


def winograd(c: Correlation, weight: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a correlation by tiles of 2 x 2 outputs."""
    if not winograd_fits(c, host.lanes(c.dtype)):
        return winograd_panels(c, weight, pieces)
    lanes, itemsize, (_, height, width) = host.lanes(c.dtype), c.dtype.itemsize, c.axes
    vectors = 2 if c.outputs > lanes else 1
    panel, across, down = vectors * lanes, -(-width.places // 2), -(-height.places // 2)
    panels, rows = -(-c.outputs // panel), min(8, most_rows(vectors))
    chunks = max(1, min(MOST_CHUNKS, c.operations // CHUNK))
    most = max(host.caches()[1] // 8 // (POSITIONS * across * c.channels * itemsize), -(-8 // across))
    block_rows = min(down, most, max(-(-down * c.batch // chunks), -(-8 // across)))
    blocks = -(-down // block_rows)
    block_rows = -(-down // blocks)
    tiles, units = block_rows * across, c.batch * blocks
    laid = max((2 * block_rows + 2) * (2 * across + 2) * c.channels, 4 * tiles * panel)
    size = -(-(POSITIONS * (max(tiles, rows) * (panel + c.channels) + 2 * lanes) + laid + lanes) // 16) * 16
    grain, transformed = -(-units // chunks), -(-panels * c.channels // 8)
    held, weights, bias, work = (add_piece(pieces, n * itemsize) for n in (
        -(-panels * c.channels // transformed) * 9 * lanes, panels * POSITIONS * c.channels * panel, panels * panel,
        -(-units // grain) * size))
    first, flipped = filters_of(c, weight)
    return [
        Call(conv_winograd.transform_weights(c.dtype, lanes, vectors, flipped), (
            first, 0 if c.bias is None else c.bias, weights, held, transformed, c.channels, c.outputs,
            *c.weight_strides[1:3], bias), panels * c.channels, transformed),
        Call(conv_winograd.correlate_tiles(c.dtype, lanes, rows, vectors), (
            c.source, weights, bias, out(0), work, size, grain, c.source_strides[0], c.source_strides[1],
            c.source_strides[3], c.channels, height.size, width.size, height.before, width.before,
            *c.target_strides[:2], c.outputs, panels, height.places, width.places, blocks, block_rows, int(c.limited)),
             units, grain)]


def winograd_panels(c: Correlation, weight: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a correlation by tiles of 2 x 2 outputs where all filters together are too large for the cache."""
    lanes, itemsize, (_, height, width) = host.lanes(c.dtype), c.dtype.itemsize, c.axes
    vectors = 2 if c.outputs > lanes else 1
    panel, across, down = vectors * lanes, -(-width.places // 2), -(-height.places // 2)
    panels, tiles, rows = -(-c.outputs // panel), down * across, min(8, most_rows(vectors))
    laid, image = (2 * down + 2) * (2 * across + 2) * c.channels, POSITIONS * (tiles * c.channels + lanes)
    size = POSITIONS * ((c.channels + tiles) * panel + 2 * lanes) + 9 * lanes + panel + 4 * tiles * panel
    grain = max(1, panels // 8)
    first, flipped = filters_of(c, weight)
    frame, transformed, work = (add_piece(pieces, n * itemsize) for n in (
        c.batch * laid, c.batch * image, -(-panels // grain) * size))
    context = (
        c.source, first, 0 if c.bias is None else c.bias, out(0), work, size, grain, *c.source_strides[:2],
        c.source_strides[3], c.channels, height.size, width.size, height.before, width.before, *c.target_strides[:2],
        c.outputs, panels, height.places, width.places, 1, down, int(c.limited), c.batch, frame, transformed, image,
        *c.weight_strides[1:3])
    return [Call(conv_winograd.transform_images(c.dtype, lanes), context, c.batch, 1),
            Call(conv_winograd.correlate_panels(c.dtype, lanes, rows, vectors, flipped), context, panels, grain)]


class Feed(NamedTuple):
    """A way of correlating: its kernel, the tile, and how it wants its operands."""

    kernel: RangeKernel
    by_channels: bool
    elements: int  # of a tile
    panel: int  # outputs of a panel of weights
    lines: int  # rows of places of a tile
    columns: int  # pixels, or vectors of pixels, of such a row
    across: int  # tiles along a row
    taps: int  # that are side by side in the code
    phases: int  # of the columns of a frame
    spare: int  # elements behind a frame that may be read


def feed(c: Correlation) -> Feed:
    """The cheapest way to correlate but for Winograd's."""
    lanes, width = host.lanes(c.dtype), c.axes[2]
    by_channel, by_pixel = channel_tile(c, lanes), pixel_tile(c, lanes)
    if by_channel[0] <= by_pixel[0]:
        _, rows, vectors, fast = by_channel
        taps, panel = width.taps if width.taps <= 8 else 1, vectors * lanes
        kernel = conv_correlate.by_channels(
            c.dtype, lanes, rows, vectors, fast, width.step, taps, width.tap_step)
        return Feed(kernel, True, rows * panel, panel, rows // fast, fast, -(-width.places // fast), taps, 1, 0)
    _, rows, vectors, across = by_pixel
    taps = width.taps if width.taps <= 8 and width.step == 1 else 1
    beside = 1 if across == vectors <= 4 else across  # one machine code for lines and for the vectors of one
    kernel = conv_correlate.by_pixels(c.dtype, lanes, rows, vectors, beside, taps, width.tap_step if taps > 1 else 1)
    return Feed(kernel, False, rows * vectors * lanes, rows, vectors // across, across,
                -(-width.places // (across * lanes)), taps, width.step, across * lanes + 64 // c.dtype.itemsize)


def blocks_of_taps(entries: int, entry_bytes: int) -> int:
    """Entries of the table of taps to work off at a time: their weights take half of the first-level cache."""
    cache = host.caches()[0]
    blocks = 1 if entries * entry_bytes <= cache else -(-entries * entry_bytes // (cache // 2))
    return -(-entries // blocks)


def correlate(c: Correlation, weight: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a correlation; scratch memory is added to ``pieces``."""
    planes = conv_depthwise.plan_planes(c, weight)
    if planes:
        return [planes]
    c = flatten(c)
    lanes, itemsize, (depth, height, width) = host.lanes(c.dtype), c.dtype.itemsize, c.axes
    if winograd_cycles(c, lanes) < min(channel_tile(c, lanes)[0], pixel_tile(c, lanes)[0]):
        return winograd(c, weight, pieces)
    way, packed = feed(c), scratch(len(pieces))
    call, panel_size, group_panels = packing(c, weight, packed, way.panel)
    calls, panels = [call], c.groups * group_panels
    add_piece(pieces, panels * panel_size * itemsize)
    row_tiles = depth.places * -(-height.places // way.lines)
    inside = way.by_channels and all(a.inside for a in c.axes) and c.source_strides[4] == 1
    work = divide(c, panels, row_tiles, pieces[-1], inside, way.by_channels)
    block_rows = -(-row_tiles // work.row_blocks)
    row_blocks, frame_rows = -(-row_tiles // block_rows), height.extent
    if work.framed == "unit" and row_blocks > 1:
        places = min(block_rows * way.lines, height.places)
        frame_rows = (places - 1) * height.step + (height.taps - 1) * height.tap_step + 1
    frame, frame_size, strides = in_frame(c, way.phases, way.spare, frame_rows)
    source, start = c.source, 0
    if work.framed == "before":
        source = add_piece(pieces, (c.batch * frame[-1] + way.spare) * itemsize)
        calls.append(frames(c, c.source, source, way.phases))
    elif not work.framed:
        strides = c.source_strides
        start = -sum(a.before * s for a, s in zip(c.axes, strides[2:], strict=True))
    table = offsets(c, strides, way.taps, way.phases)
    deep = blocks_of_taps(len(table), way.taps * way.panel * itemsize)
    held_step = way.elements if way.by_channels and deep < len(table) else 0
    held = work.unit_images * block_rows * way.across * held_step or way.elements
    chunk_size = -(-(held + (frame_size if work.framed == "unit" else 0)) // 16) * 16
    units = work.panel_blocks * -(-c.batch // work.unit_images) * row_blocks
    memory = add_piece(pieces, -(-units // work.grain) * chunk_size * itemsize)
    context: tuple[int | Ref, ...] = (
        source, packed, out(0), memory, chunk_size, work.grain,
        c.source_strides[0] if work.framed == "unit" else strides[0], start, c.channels * strides[1],
        depth.step * strides[2], height.step * strides[3], frame_rows, depth.places, height.places, width.places,
        *c.target_strides[:2], *(a.target_step * s for a, s in zip(c.axes, c.target_strides[2:], strict=True)),
        sum(a.target_start * s for a, s in zip(c.axes, c.target_strides[2:], strict=True)),
        c.batch, work.unit_images, -(-panels // work.panel_blocks), group_panels, panels, c.outputs, panel_size,
        row_blocks, block_rows, len(table), deep, height.step if work.framed == "unit" else 0, held, held_step,
        int(c.limited), lanes if way.lines == 1 else height.step * strides[3], way.lines, way.columns,
        *frame, *table)
    return [*calls, Call(way.kernel, context, units, work.grain)]


def served(*arrays: Array | None) -> bool:
    """Whether the kernels take these arrays: one native dtype of float32 and float64, up to three dimensions."""
    present = [x for x in arrays if x is not None]
    return all(x.dtype == present[0].dtype and x.dtype.isnative and x.dtype.char in "fd" for x in present) \
        and all(len(x.shape) <= 5 for x in present)


def plan_convolution(input: Array, weight: Array, bias: Array | None, *, stride: tuple[int, ...],
                     padding: tuple[int, ...], dilation: tuple[int, ...], groups: int, ending: str = "") -> Plan | None:
    """Plan ``ops.convolution``: y[n, o, p] = bias[o] + sum of weight[o, c, k] * input[n, c, s p - padding + d k].

    ``ending``: "relu" limits the results to 0 and above before they are written.
    """
    strides = element_strides(input)
    if not served(input, weight, bias) or strides is None or not is_c_ordered(weight):
        return None
    if bias is not None and not is_c_ordered(bias):
        return None
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(
        input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True))
    shape = (input.shape[0], weight.shape[0], *size)
    output = Spec(shape, input.dtype)
    if 0 in shape or 0 in weight.shape:
        return Plan((output,), ()) if 0 in shape else None
    every = zip(*map(three, (input.shape[2:], padding, weight.shape[2:], dilation, size, stride), (1, 0, 1, 1, 1, 1)),
                strict=True)
    (depth, height, width), outs = (Axis(*facts) for facts in every), weight.shape[0] // groups
    kernel = dense(weight.shape)
    target = dense(shape)
    pieces: list[int] = []
    calls = correlate(Correlation(
        input.dtype, input.shape[0], groups, weight.shape[1], outs, (depth, height, width), inp(0), strides,
        (outs * kernel[0], kernel[0], kernel[1], *three(kernel[2:], 0)), None if bias is None else inp(2),
        target[:2] + three(target[2:], 0), ending == "relu"), inp(1), pieces)
    return Plan((output,), tuple(calls), tuple(pieces))


# ------------------------------------------------------------------------------------------------------- input gradient


def remainders(size: int, kernel: int, stride: int, padding: int, dilation: int, places: int) -> list[Axis]:
    """The correlations of the gradient along one dimension, one for each remainder of the position modulo the stride.

    Position i = stride * m + r - padding is reached from output m - e by tap k where dilation * k = stride * e + r.
    """
    found = []
    common = math.gcd(stride, dilation)
    for r in range(stride):
        first = -(-(padding - r) // stride)
        count = (size - 1 + padding - r) // stride - first + 1
        taps = [k for k in range(kernel) if (dilation * k - r) % stride == 0]
        if count <= 0:
            continue
        between, start = dilation // common, stride * first + r - padding
        if not taps:  # no output reaches these positions
            found.append(Axis(places, 0, 0, 1, count, 1, start, stride))
            continue
        last = (dilation * taps[-1] - r) // stride
        found.append(Axis(places, last - first, len(taps), between, count, 1, start, stride,
                          taps[-1], -(stride // common)))
    return found


def plan_convolution_input(grad: Array, weight: Array, *, size: tuple[int, ...], stride: tuple[int, ...],
                           padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Plan | None:
    """Plan ``ops.convolution_input``: the gradient spread over an image of ``size`` by the weight."""
    strides = element_strides(grad)
    if not served(grad, weight) or strides is None or not is_c_ordered(weight):
        return None
    shape = (grad.shape[0], weight.shape[1] * groups, *size)
    output = Spec(shape, grad.dtype)
    if 0 in shape or 0 in weight.shape or 0 in grad.shape:
        return Plan((output,), (), zero=(0,))
    outs, kernel, target = weight.shape[0] // groups, dense(weight.shape), dense(shape)
    every = zip(*map(three, (size, weight.shape[2:], stride, padding, dilation, grad.shape[2:]), (1, 1, 1, 0, 1, 1)),
                strict=True)
    pieces: list[int] = []
    calls: list[Call] = []
    empty = False
    for depth, height, width in itertools.product(*(remainders(*facts) for facts in every)):
        if 0 in (depth.taps, height.taps, width.taps):
            empty = True
            continue
        calls += correlate(Correlation(
            grad.dtype, grad.shape[0], groups, outs, weight.shape[1], (depth, height, width), inp(0), strides,
            (outs * kernel[0], kernel[1], kernel[0], *three(kernel[2:], 0)), None,
            target[:2] + three(target[2:], 0)), inp(1), pieces)
    return Plan((output,), tuple(calls), tuple(pieces), (0,) if empty else ())


# ------------------------------------------------------------------------------------------------------ weight gradient


def plan_convolution_weight(grad: Array, input: Array, *, kernel_size: tuple[int, ...], stride: tuple[int, ...],
                            padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Plan | None:
    """Plan ``ops.convolution_weight``: the gradient against the windows of the input, summed over images and pixels."""
    strides = element_strides(input)
    grad_strides = element_strides(grad)
    if not served(grad, input) or strides is None or grad_strides is None:
        return None
    dtype, itemsize = grad.dtype, grad.dtype.itemsize
    channels, outs = input.shape[1] // groups, grad.shape[1] // groups
    shape = (grad.shape[1], channels, *kernel_size)
    output = Spec(shape, dtype)
    if 0 in shape or 0 in grad.shape or 0 in input.shape:
        return Plan((output,), (), zero=(0,))
    every = zip(*map(three, (input.shape[2:], padding, kernel_size, dilation, grad.shape[2:], stride),
                     (1, 0, 1, 1, 1, 1)), strict=True)
    depth, height, width = (Axis(*facts) for facts in every)
    planes = dense(grad.shape)
    c = flatten(Correlation(dtype, grad.shape[0], groups, channels, outs, (depth, height, width), inp(1), strides,
                            (0,) * 6, None, planes[:2] + three(planes[2:], 0)))
    calls: list[Call] = []
    pieces: list[int] = []
    gradient = inp(0)
    if any(s != d and n > 1 for s, d, n in zip(grad_strides[2:], three(planes[2:], 0), three(grad.shape[2:], 1),
                                               strict=True)):
        gradient = scratch(0)
        high, low, inner = (Axis(n, 0, 1, 1, n, 1) for n in three(grad.shape[2:], 1))
        copied = replace(c, channels=outs, source_strides=grad_strides, axes=(high, low, inner))
        calls, pieces = [frames(copied, inp(0), gradient)], [math.prod(grad.shape) * itemsize]
        grad_strides = planes
    calls += sum_weights(replace(c, target_strides=(*grad_strides[:2], *c.target_strides[2:])), gradient, pieces)
    return Plan((output,), tuple(calls), tuple(pieces))


def chunks_of_images(c: Correlation) -> int:
    """Into how many partial sums a weight gradient is cut."""
    return max(1, min(16, c.operations // CHUNK, c.batch))


def sum_dots(c: Correlation, rows: int, taps: int, grad: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a weight gradient of few channels, as dot products along pixels."""
    lanes, itemsize, (depth, height, width) = host.lanes(c.dtype), c.dtype.itemsize, c.axes
    grain = -(-c.batch // chunks_of_images(c))
    inside = all(a.inside for a in c.axes) and c.source_strides[4] == 1 and width.step == 1
    frame, size, strides = in_frame(c, width.step)
    start = 0
    if inside:
        size, strides = 0, c.source_strides
        start = -sum(a.before * s for a, s in zip(c.axes, strides[2:], strict=True))
    chunks, elements = -(-c.batch // grain), c.groups * c.outputs * c.channels * c.taps
    sums, work = (add_piece(pieces, chunks * n * itemsize) for n in (elements, size))
    context: tuple[int | Ref, ...] = (
        c.source, grad, sums, work, size, grain, c.source_strides[0], start, strides[1], depth.step * strides[2],
        height.step * strides[3], 0, depth.places, height.places, width.places, 0, *c.target_strides[:2], 0, c.batch,
        0, c.groups * c.outputs, c.outputs, c.channels, 0, 0, 0, elements, c.taps, int(not inside),
        *frame, *offsets(replace(c, channels=1), strides, 1, 1 if inside else width.step))
    return [Call(conv_weight.weight_dots(c.dtype, lanes, rows, taps), context, c.batch, grain),
            Call(conv_weight.add_chunks(c.dtype, lanes), (sums, out(0), chunks, elements), elements, 4096)]


class Sums(NamedTuple):
    """How a weight gradient is summed: from what, in which units."""

    source: Ref
    gradient: Ref
    work: int | Ref
    chunk_size: int
    units: int
    grain: int
    chunks: int
    block_rows: int
    unit_channels: int
    channel_blocks: int


def sum_over_images(c: Correlation, grad: Ref, panel: int, framed_size: int, pieces: list[int]) -> Sums:
    """Units are images, each chunk with operands and sums of its own."""
    grain, itemsize = -(-c.batch // chunks_of_images(c)), c.dtype.itemsize
    line, lines = c.axes[2].places * panel, c.axes[1].places
    rows = max(1, min(lines, host.caches()[0] // 2 // (line * itemsize)))
    chunks, size = -(-c.batch // grain), -(-(rows * line + framed_size) // 16) * 16
    work = add_piece(pieces, chunks * size * itemsize)
    return Sums(c.source, grad, work, size, c.batch, grain, chunks, rows, 0, 1)


def sum_over_panels(c: Correlation, grad: Ref, panel: int, frame_size: int, tile_channels: int, calls: list[Call],
                    pieces: list[int]) -> Sums:
    """Units are parts of the weight, for which all images are laid out before."""
    lanes, itemsize, group_panels = host.lanes(c.dtype), c.dtype.itemsize, -(-c.outputs // panel)
    panels, source = c.groups * group_panels, c.source
    gradient = add_piece(pieces, c.batch * panels * c.places * panel * itemsize)
    calls.append(Call(conv_weight.turn_gradients(c.dtype, lanes, panel), (
        grad, gradient, *c.target_strides[:2], c.places, group_panels, panels, c.outputs), c.batch * panels,
        max(1, 16384 // (c.places * panel))))
    if frame_size:
        source = add_piece(pieces, c.batch * frame_size * itemsize)
        calls.append(frames(c, c.source, source))
    channels = c.channels // tile_channels
    each = -(-channels // max(1, min(channels, -(-MOST_CHUNKS // panels))))
    blocks = -(-channels // each)
    return Sums(source, gradient, 0, 0, panels * blocks, 1, 1, c.axes[1].places, each, blocks)


def sum_weights(c: Correlation, grad: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a weight gradient; ``c.source`` is the input, the target the gradient's pixels at ``grad``."""
    lanes, itemsize, (depth, height, width) = host.lanes(c.dtype), c.dtype.itemsize, c.axes
    planes = conv_depthwise.plan_sums(c, grad)
    if planes:
        return [planes]
    cost, rows, vectors, fast = weight_tile(c, lanes)
    dots = dots_tile(c, lanes)
    if dots[0] < cost:
        return sum_dots(c, *dots[1:], grad, pieces)
    panel, lines, group_panels = vectors * lanes, rows // fast, -(-c.outputs // (vectors * lanes))
    panels, steps = c.groups * group_panels, c.channels * c.taps
    tile_channels = lines if c.taps == 1 else 1
    partial_size = panels * steps * panel
    inside = all(a.inside for a in c.axes) and c.source_strides[4] == 1
    frame, frame_size, strides = in_frame(c)
    calls: list[Call] = []
    start = 0
    if inside:
        frame_size, strides = 0, c.source_strides
        start = -sum(a.before * s for a, s in zip(c.axes, strides[2:], strict=True))
    prepared = partial_size * itemsize > host.caches()[1] // 2 or c.batch < min(4, c.operations // CHUNK)
    how = (sum_over_panels(c, grad, panel, frame_size, tile_channels, calls, pieces) if prepared
           else sum_over_images(c, grad, panel, frame_size, pieces))
    sums = add_piece(pieces, how.chunks * partial_size * itemsize)
    table = weight_tiles(c, strides, lines, fast)
    context: tuple[int | Ref, ...] = (
        how.source, how.gradient, sums, how.work, how.chunk_size, how.grain,
        strides[0] if prepared else c.source_strides[0], start, strides[1] * tile_channels,
        depth.step * strides[2], height.step * strides[3],
        strides[1] if c.taps == 1 else height.tap_step * strides[3],
        depth.places, height.places, width.places, how.block_rows, *c.target_strides[:2], int(prepared),
        c.batch, group_panels, panels, c.outputs, c.channels // tile_channels,
        how.unit_channels, how.channel_blocks, len(table) // 2, partial_size, c.taps * tile_channels,
        int(not prepared and not inside), *frame, *table)
    kernel = conv_weight.weight_sums(c.dtype, lanes, rows, vectors, fast, width.step, width.tap_step)
    blocks = -(-steps // lanes)
    return [*calls, Call(kernel, context, how.units, how.grain), Call(conv_weight.combine(c.dtype, lanes, panel), (
        sums, out(0), how.chunks, partial_size, group_panels, c.outputs, steps, blocks), panels * blocks,
        max(1, 4096 // (lanes * panel * how.chunks)))]


def weight_tiles(c: Correlation, strides: tuple[int, ...], lines: int, fast: int) -> list[int]:
    """(offset in the source, first tap) of each tile of a channel's taps."""
    depth, height, width = c.axes
    if c.taps == 1:
        return [0, 0]
    table = []
    for d, h, i in itertools.product(range(depth.taps), range(0, height.taps, lines), range(0, width.taps, fast)):
        table += [d * depth.tap_step * strides[2] + h * height.tap_step * strides[3] + i * width.tap_step * strides[4],
                  (d * height.taps + h) * width.taps + i]
    return table
