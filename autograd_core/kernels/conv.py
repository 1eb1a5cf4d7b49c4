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

import numpy as np

from autograd_core.kernels import conv_correlate, conv_prepare, conv_weight, conv_winograd, host
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, is_c_ordered, out, scratch

CHUNK = 4_000_000  # floating-point operations of a chunk at least
MOST_CHUNKS = 32
POSITIONS = conv_winograd.POSITIONS


@dataclass(frozen=True)
class Axis:
    """One dimension of a correlation: place p of the target reads pixel step * p + tap_step * t - before for tap t."""

    size: int
    before: int
    taps: int
    tap_step: int
    places: int
    step: int
    target_start: int = 0
    target_step: int = 1
    weight_start: int = 0
    weight_step: int = 1

    @property
    def extent(self) -> int:
        """How many pixels of the framed image are read."""
        return (self.places - 1) * self.step + (self.taps - 1) * self.tap_step + 1

    @property
    def inside(self) -> bool:
        """Whether only pixels of the image are read, none around it."""
        return self.before <= 0 and self.extent - self.before <= self.size


POINT = Axis(1, 0, 1, 1, 1, 1)


@dataclass(frozen=True)
class Correlation:
    """A correlation of ``batch`` images; strides in elements: (image, channel, three dimensions).

    ``weight_strides`` are (group, output, channel) and the three dimensions.
    """

    dtype: np.dtype
    batch: int
    groups: int
    channels: int
    outputs: int
    axes: tuple[Axis, Axis, Axis]
    source: Ref
    source_strides: tuple[int, ...]
    weight_strides: tuple[int, ...]
    bias: Ref | None
    target_strides: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return math.prod(a.taps for a in self.axes)

    @property
    def places(self) -> int:
        """Pixels of the target."""
        return math.prod(a.places for a in self.axes)

    @property
    def operations(self) -> int:
        """Floating-point operations of all images."""
        return 2 * self.batch * self.groups * self.channels * self.outputs * self.taps * self.places


def three(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Sizes, strides or settings of up to three dimensions as three, ``fill`` in front."""
    return (fill,) * (3 - len(values)) + tuple(values)


def element_strides(x: Array) -> tuple[int, ...] | None:
    """Strides of (N, C, D, H, W) in elements; None where they are not whole."""
    if any(s % x.dtype.itemsize for s in x.strides):
        return None
    strides = tuple(s // x.dtype.itemsize for s in x.strides)
    return strides[:2] + three(strides[2:], 0)


def dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a C-ordered array in elements."""
    return tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))


def flatten(c: Correlation) -> Correlation:
    """A filter of one tap that steps by one sees pixels in a row, whatever dimensions they come from."""
    one = all(a.taps == 1 and a.step == 1 and a.before == 0 and a.places == a.size and a.target_step == 1
              and a.target_start == 0 for a in c.axes)
    sizes, count = tuple(a.size for a in c.axes), c.places
    line = dense(sizes)
    if not one or any(s != d and n > 1 for strides in (c.source_strides, c.target_strides)
                      for s, d, n in zip(strides[2:], line, sizes, strict=True)):
        return c
    width = next((n for n in range(min(count, 256), 11, -1) if count % n == 0), count)
    axes = (POINT, Axis(count // width, 0, 1, 1, count // width, 1), Axis(width, 0, 1, 1, width, 1))
    return replace(c, axes=axes, source_strides=(*c.source_strides[:2], 0, width, 1),
                   target_strides=(*c.target_strides[:2], 0, width, 1))


# ------------------------------------------------------------------------------------------------------- laying out


def in_frame(c: Correlation, phases: int = 1, spare: int = 0, rows: int = 0) -> tuple[
        tuple[int, ...], int, tuple[int, ...]]:
    """A frame around an image, or around ``rows`` of it: its words (see conv_prepare), its elements, and the strides of
    source pixels in it.
    """
    depth, height, width = (a.extent for a in c.axes)
    width, height = -(-width // phases) * phases, rows or height
    planes = c.groups * c.channels
    size = planes * depth * height * width
    words = (planes, depth, height, width, *(a.before for a in c.axes), *(a.size for a in c.axes),
             *c.source_strides[1:], phases, size)
    return words, size + spare, (size, depth * height * width, height * width, width, 1)


def frames(c: Correlation, source: Ref, target: Ref, phases: int = 1) -> Call:
    """The call that frames all images of a correlation."""
    words, _, strides = in_frame(c, phases)
    kernel = conv_prepare.frame_images(c.dtype, host.lanes(c.dtype))
    return Call(kernel, (source, target, c.source_strides[0], *words), c.batch * words[0], max(1, 16384 // strides[1]))


def add_piece(pieces: list[int], size: int) -> Ref:
    """A further piece of scratch memory of so many bytes."""
    pieces.append(size)
    return scratch(len(pieces) - 1)


def packing(c: Correlation, weight: Ref, target: Ref, width: int) -> tuple[Call, int, int]:
    """The call that copies weights into panels at ``target``, the elements of a panel, and the panels of a group."""
    group, output, channel, *steps = c.weight_strides
    taps = tuple(a.taps for a in c.axes)
    strides = tuple(s * a.weight_step for s, a in zip(steps, c.axes, strict=True))
    start = sum(s * a.weight_start for s, a in zip(steps, c.axes, strict=True))
    lanes, runs, run = host.lanes(c.dtype), c.channels, c.taps
    packed = [(n, s) for n, s in zip(taps, strides, strict=True) if n > 1] or [(1, 1)]
    inner, contiguous = 1, {1: True, -1: True}
    for n, s in reversed(packed):
        contiguous = {sign: ok and s == sign * inner for sign, ok in contiguous.items()}
        inner *= n
    layout = "any"
    if width % lanes == 0 and output == 1:
        layout = "rows"
    elif width % lanes == 0 and contiguous[1]:
        layout = "turned"
        if channel == c.taps:  # the channels follow one another, too
            each = next(n for n in range(min(c.channels, max(1, 256 // c.taps)), 0, -1) if c.channels % n == 0)
            runs, run = c.channels // each, c.taps * each
    elif width % lanes == 0 and contiguous[-1]:
        layout = "reversed"
    blocks = -(-c.outputs // width)
    steps_ = 1 + c.channels * c.taps
    context = (weight, 0 if c.bias is None else c.bias, target, runs, blocks, c.outputs, run, group, output,
               channel * (run // c.taps), start, *taps, *strides)
    kernel = conv_prepare.pack_weights(c.dtype, lanes, width, layout)
    units = c.groups * blocks * runs
    grain = max(1, -(-units // max(1, units * run * width // 16384)))
    return Call(kernel, context, units, grain), steps_ * width, blocks


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


# ------------------------------------------------------------------------------------------------------------ tiles


def most_rows(vectors: int) -> int:
    """How many rows of so many vectors a tile may have before the compiler, which loads ahead, runs out of registers."""
    many = (16, 11, 7, 6, 4, 3, 3, 2) if host.registers() >= 32 else (10, 5, 3, 2, 1, 1, 1, 1)
    return many[vectors - 1]


def cycles(rows: int, vectors: int, loads: int) -> float:
    """Estimated cycles of a step: multiply-adds, loads, latency, for two units and two loads a cycle.

    Where four vectors share a broadcast element, few rows do not hide it (measured: 4 x 4 at three quarters of 5 x 4).
    """
    return max(rows * vectors / 2, loads / 2, 4 if vectors < 4 else 10.5) + 0.3


def channel_tile(c: Correlation, lanes: int) -> tuple[float, int, int, int]:
    """(estimated cycles of an image, rows, vectors, fast) of the best tile of pixels by channels."""
    height, width = c.axes[1].places, c.axes[2].places
    best = (math.inf, 1, 1, 1)
    for vectors in (1, 2, 3, 4):
        most = most_rows(vectors)
        fast = -(-width // -(-width // most))
        for lines in range(1, min(height, most // fast, 4) + 1 if fast == width else 2):
            rows = lines * fast
            count = -(-height // lines) * -(-width // fast) * -(-c.outputs // (vectors * lanes)) * c.axes[0].places
            step = cycles(rows, vectors, rows + vectors)
            cost = count * c.groups * (c.channels * c.taps * step + rows * vectors * 5 + 20)
            best = min(best, (cost, rows, vectors, fast))
    return best


def pixel_tile(c: Correlation, lanes: int) -> tuple[float, int, int, int]:
    """(estimated cycles of an image, rows, vectors, vectors across) of the best tile of channels by pixels."""
    height, width = c.axes[1].places, c.axes[2].places
    best = (math.inf, 1, 1, 1)
    for across, lines, rows in itertools.product(range(1, 9), range(1, min(height, 4) + 1), range(1, min(c.outputs, 8) + 1)):
        vectors = across * lines
        if vectors > 8 or rows > most_rows(vectors) or (across > 1 and (across - 1) * lanes >= width):
            continue
        count = -(-height // lines) * -(-width // (across * lanes)) * -(-c.outputs // rows) * c.axes[0].places
        step = cycles(rows, vectors, rows + 2 * vectors)  # a vector of pixels lies across two lines of the cache
        cost = count * c.groups * (c.channels * c.taps * step + rows * vectors * (3 if lines == 1 else 6) + 20)
        best = min(best, (cost, rows, vectors, across))
    return best


# ------------------------------------------------------------------------------------------------------ correlations


def winograd_cycles(c: Correlation, lanes: int) -> float:
    """Estimated cycles of an image by tiles of 2 x 2 outputs; infinite where these do not serve."""
    depth, height, width = c.axes
    size = (height.places, width.places)
    square = all(a.taps == 3 and a.tap_step == a.step == a.target_step == 1 and 0 <= a.before for a in c.axes[1:])
    plain = c.source_strides[4] == 1 and c.target_strides[3:] == (size[1], 1) and depth.taps == depth.places == 1
    order = {(3 * a.weight_step, b.weight_step) for a, b in [c.axes[1:]]} & {(3, 1), (-3, -1)}
    tiles = -(-size[0] // 2) * -(-size[1] // 2)
    panels = -(-c.outputs // lanes)
    fits = POSITIONS * c.channels * panels * lanes * c.dtype.itemsize <= host.caches()[1] // 2
    if not (square and plain and order and fits and c.groups == 1 and c.dtype.char == "f" and tiles >= 8):
        return math.inf
    return tiles * (panels * (9 * c.channels + 150) + 150 * -(-c.channels // lanes))


def winograd(c: Correlation, weight: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a correlation by tiles of 2 x 2 outputs."""
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
    flipped = width.weight_step < 0
    start = sum(a.weight_start * s for a, s in zip(c.axes, c.weight_strides[3:], strict=True)) if flipped else 0
    first = Ref(weight.kind, weight.index, (start - 8 * flipped) * itemsize)
    return [
        Call(conv_winograd.transform_weights(c.dtype, lanes, vectors, flipped), (
            first, 0 if c.bias is None else c.bias, weights, held, transformed, c.channels, c.outputs,
            *c.weight_strides[1:3], bias), panels * c.channels, transformed),
        Call(conv_winograd.correlate_tiles(c.dtype, lanes, rows, vectors), (
            c.source, weights, bias, out(0), work, size, grain, c.source_strides[0], c.source_strides[1],
            c.source_strides[3], c.channels, height.size, width.size, height.before, width.before,
            *c.target_strides[:2], c.outputs, panels, height.places, width.places, blocks, block_rows), units, grain)]


def correlate(c: Correlation, weight: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a correlation; scratch memory is added to ``pieces``."""
    c = flatten(c)
    lanes, itemsize = host.lanes(c.dtype), c.dtype.itemsize
    depth, height, width = c.axes
    by_channel, by_pixel = channel_tile(c, lanes), pixel_tile(c, lanes)
    if winograd_cycles(c, lanes) < min(by_channel[0], by_pixel[0]):
        return winograd(c, weight, pieces)
    calls, by_channels = [], by_channel[0] <= by_pixel[0]
    if by_channels:
        _, rows, vectors, fast = by_channel
        across, panel, phases, spare, lines = 0, vectors * lanes, 1, 0, rows // fast
        inside = all(a.inside for a in c.axes) and c.source_strides[4] == 1
        taps = width.taps if width.taps <= 8 else 1
        tap_step, column_step = width.tap_step, c.target_strides[4] * width.target_step
        kernel = conv_correlate.by_channels(c.dtype, lanes, rows, vectors, fast, width.step, taps, tap_step, column_step)
    else:
        _, rows, vectors, across = by_pixel
        panel, phases, spare, inside = rows, width.step, across * lanes + 64 // itemsize, False
        lines = vectors // across
        taps = width.taps if width.taps <= 8 and phases == 1 else 1
        tap_step, column_step = width.tap_step if taps > 1 else 1, c.target_strides[4] * width.target_step
        kernel = conv_correlate.by_pixels(c.dtype, lanes, rows, vectors, across, taps, tap_step, column_step)
    packed = scratch(len(pieces))
    call, panel_size, group_panels = packing(c, weight, packed, panel)
    panels = c.groups * group_panels
    add_piece(pieces, panels * panel_size * itemsize)
    calls.append(call)
    row_tiles = depth.places * -(-height.places // lines)
    work = divide(c, panels, row_tiles, pieces[-1], inside, by_channels)
    block_rows = -(-row_tiles // work.row_blocks)
    row_blocks, frame_rows = -(-row_tiles // block_rows), height.extent
    if work.framed == "unit" and row_blocks > 1:
        frame_rows = (min(block_rows * lines, height.places) - 1) * height.step + (height.taps - 1) * height.tap_step + 1
    frame, frame_size, strides = in_frame(c, phases, spare, frame_rows)
    source, start = c.source, 0
    if work.framed == "before":
        source = add_piece(pieces, (c.batch * frame[-1] + spare) * itemsize)
        calls.append(frames(c, c.source, source, phases))
    elif not work.framed:
        strides = c.source_strides
        start = -sum(a.before * s for a, s in zip(c.axes, strides[2:], strict=True))
    table = offsets(c, strides, taps, phases)
    units = work.panel_blocks * -(-c.batch // work.unit_images) * row_blocks
    entry_bytes, across = taps * panel * itemsize, -(-width.places // fast) if by_channels else 0
    first_level = host.caches()[0] // 2
    blocks = 1 if len(table) * entry_bytes <= 2 * first_level else -(-len(table) * entry_bytes // first_level)
    deep = -(-len(table) // blocks)
    held_step = rows * panel if by_channels and deep < len(table) else 0
    held = work.unit_images * block_rows * across * held_step or rows * vectors * lanes
    chunk_size = -(-(held + (frame_size if work.framed == "unit" else 0)) // 16) * 16
    memory = add_piece(pieces, -(-units // work.grain) * chunk_size * itemsize)
    target_start = sum(a.target_start * s for a, s in zip(c.axes, c.target_strides[2:], strict=True))
    target_steps = [a.target_step * s for a, s in zip(c.axes, c.target_strides[2:], strict=True)]
    context = (
        source, packed, out(0), memory, chunk_size, work.grain,
        c.source_strides[0] if work.framed == "unit" else strides[0], start, c.channels * strides[1],
        depth.step * strides[2], height.step * strides[3],
        frame_rows, depth.places, height.places, width.places, *c.target_strides[:2], *target_steps, target_start,
        c.batch, work.unit_images, -(-panels // work.panel_blocks), group_panels, panels, c.outputs, panel_size,
        row_blocks, block_rows, len(table), deep, height.step if work.framed == "unit" else 0, held, held_step,
        *frame, *table)
    calls.append(Call(kernel, context, units, work.grain))
    return calls


def offsets(c: Correlation, strides: tuple[int, ...], taps: int, phases: int) -> list[int]:
    """Offsets of the taps of the filter in the source, one for ``taps`` that lie in a row."""
    depth, height, width = c.axes
    table = []
    for channel, d, h, i in itertools.product(range(c.channels), range(depth.taps), range(height.taps),
                                              range(0, width.taps, taps)):
        column = i * width.tap_step
        row = -(-width.extent // phases)
        column = column if phases == 1 else column % phases * row + column // phases
        table.append(channel * strides[1] + d * depth.tap_step * strides[2] + h * height.tap_step * strides[3]
                     + column * strides[4])
    return table


def served(*arrays: Array | None) -> bool:
    """Whether the kernels take these arrays: one native dtype of float32 and float64, up to three dimensions."""
    present = [x for x in arrays if x is not None]
    return all(x.dtype == present[0].dtype and x.dtype.isnative and x.dtype.char in "fd" for x in present) \
        and all(len(x.shape) <= 5 for x in present)


def plan_convolution(input: Array, weight: Array, bias: Array | None, *, stride: tuple[int, ...],
                     padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Plan | None:
    """Plan ``ops.convolution``: y[n, o, p] = bias[o] + sum of weight[o, c, k] * input[n, c, s p - padding + d k]."""
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
        target[:2] + three(target[2:], 0)), inp(1), pieces)
    return Plan((output,), tuple(calls), tuple(pieces))


# ---------------------------------------------------------------------------------------------------- input gradient


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


# --------------------------------------------------------------------------------------------------- weight gradient


def weight_tile(c: Correlation, lanes: int) -> tuple[float, int, int, int]:
    """(estimated cycles of an image, rows, vectors, fast) of the best tile of taps by output channels.

    Rows are taps of one line, or whole lines of the filter, or channels where the filter has one tap.
    """
    height, width = c.axes[1].taps, c.axes[2].taps
    slow = c.channels if c.taps == 1 else height
    best = (math.inf, 1, 1, 1)
    for vectors, fast in itertools.product((1, 2, 3, 4), (n for n in range(1, width + 1) if width % n == 0)):
        for lines in (n for n in range(1, min(slow, 8) + 1) if slow % n == 0 and (n == 1 or fast == width)):
            rows = lines * fast
            if rows > max(most_rows(vectors), 25 if vectors == 1 and host.registers() >= 32 else 0):
                continue
            count = c.channels * c.taps // rows * -(-c.outputs // (vectors * lanes))
            cost = c.groups * count * (c.places * cycles(rows, vectors, rows + vectors) + 20)
            best = min(best, (cost, rows, vectors, fast))
    return best


def plan_convolution_weight(grad: Array, input: Array, *, kernel_size: tuple[int, ...], stride: tuple[int, ...],
                            padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Plan | None:
    """Plan ``ops.convolution_weight``: the gradient against the windows of the input, summed over images and pixels."""
    strides = element_strides(input)
    grad_strides = element_strides(grad)
    if not served(grad, input) or strides is None or grad_strides is None:
        return None
    dtype, lanes, itemsize = grad.dtype, host.lanes(grad.dtype), grad.dtype.itemsize
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
        copied = replace(c, channels=outs, source_strides=grad_strides, axes=tuple(
            Axis(n, 0, 1, 1, n, 1) for n in three(grad.shape[2:], 1)))
        calls, pieces = [frames(copied, inp(0), gradient)], [math.prod(grad.shape) * itemsize]
        grad_strides = planes
    calls += sum_weights(replace(c, target_strides=(*grad_strides[:2], *c.target_strides[2:])), gradient, pieces)
    return Plan((output,), tuple(calls), tuple(pieces))


def dots_tile(c: Correlation, lanes: int) -> tuple[float, int, int]:
    """(estimated cycles of an image, rows, taps) of the best tile of outputs by taps whose vectors run along pixels."""
    best, height, width = (math.inf, 1, 1), c.axes[1].places, c.axes[2].places
    for rows, taps in itertools.product((n for n in range(1, min(c.outputs, 8) + 1) if c.outputs % n == 0),
                                        (n for n in range(1, min(c.taps, lanes) + 1) if c.taps % n == 0)):
        if rows * taps <= most_rows(2) * 2:
            line = -(-width // lanes) * (max(rows * taps / 2, (rows + 2 * taps) / 2, 4) + 2)
            count = c.groups * c.channels * c.outputs // rows * (c.taps // taps)
            best = min(best, (count * c.axes[0].places * (height * line + rows * taps * 10), rows, taps))
    return best


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
    context = (
        c.source, grad, sums, work, size, grain, c.source_strides[0], start, strides[1], depth.step * strides[2],
        height.step * strides[3], 0, depth.places, height.places, width.places, 0, *c.target_strides[:2], 0, c.batch,
        0, c.groups * c.outputs, c.outputs, c.channels, 0, 0, 0, elements, c.taps, int(not inside),
        *frame, *offsets(replace(c, channels=1), strides, 1, 1 if inside else width.step))
    return [Call(conv_weight.weight_dots(c.dtype, lanes, rows, taps), context, c.batch, grain),
            Call(conv_weight.add_chunks(c.dtype, lanes), (sums, out(0), chunks, elements), elements, 4096)]


def sum_weights(c: Correlation, grad: Ref, pieces: list[int]) -> list[Call]:
    """The calls of a weight gradient; ``c.source`` is the input, the target the gradient's pixels at ``grad``."""
    lanes, itemsize = host.lanes(c.dtype), c.dtype.itemsize
    depth, height, width = c.axes
    cost, rows, vectors, fast = weight_tile(c, lanes)
    dots = dots_tile(c, lanes)
    if dots[0] < cost:
        return sum_dots(c, *dots[1:], grad, pieces)
    panel, lines = vectors * lanes, rows // fast
    group_panels = -(-c.outputs // panel)
    panels, steps = c.groups * group_panels, c.channels * c.taps
    by_channel = c.taps == 1 and lines > 1
    partial_size = panels * steps * panel
    chunks = chunks_of_images(c)
    prepared = partial_size * itemsize > host.caches()[1] // 2 or c.batch < min(4, c.operations // CHUNK)
    inside = all(a.inside for a in c.axes) and c.source_strides[4] == 1
    frame, frame_size, framed = in_frame(c)
    unit_channels, channel_blocks, calls, start = 0, 1, [], 0
    source, gradient, grain = c.source, grad, -(-c.batch // chunks)
    chunks = 1 if prepared else -(-c.batch // grain)
    sums = add_piece(pieces, chunks * partial_size * itemsize)
    work: int | Ref = 0
    strides = c.source_strides if inside else framed
    units, block_rows, chunk_size = c.batch, height.places, 0
    tile_channels = lines if by_channel else 1
    if inside:
        start = -sum(a.before * s for a, s in zip(c.axes, strides[2:], strict=True))
    if prepared:
        gradient = add_piece(pieces, c.batch * panels * c.places * panel * itemsize)
        calls.append(Call(conv_weight.turn_gradients(c.dtype, lanes, panel), (
            grad, gradient, *c.target_strides[:2], c.places, group_panels, panels, c.outputs), c.batch * panels,
            max(1, 16384 // (c.places * panel))))
        if not inside:
            source = add_piece(pieces, c.batch * frame_size * itemsize)
            calls.append(frames(c, c.source, source))
        blocks = max(1, min(c.channels // tile_channels, -(-MOST_CHUNKS // panels)))
        unit_channels = -(-c.channels // tile_channels // blocks) * tile_channels
        channel_blocks = -(-c.channels // unit_channels)
        units, grain = panels * channel_blocks, 1
    else:
        block_rows = max(1, min(height.places, host.caches()[0] // 2 // (width.places * panel * itemsize)))
        chunk_size = block_rows * width.places * panel + (0 if inside else frame_size)
        chunk_size = -(-chunk_size // 16) * 16
        work = add_piece(pieces, chunks * chunk_size * itemsize)
    table = weight_tiles(c, strides, lines, fast)
    slow_step = strides[1] if by_channel else height.tap_step * strides[3]
    context = (
        source, gradient, sums, work, chunk_size, grain,
        strides[0] if prepared else c.source_strides[0], start, strides[1] * tile_channels,
        depth.step * strides[2], height.step * strides[3], slow_step,
        depth.places, height.places, width.places, block_rows, *c.target_strides[:2], int(prepared),
        c.batch, group_panels, panels, c.outputs, c.channels // tile_channels,
        unit_channels // tile_channels, channel_blocks, len(table) // 2, partial_size, c.taps * tile_channels,
        int(not prepared and not inside), *frame, *table)
    kernel = conv_weight.weight_sums(c.dtype, lanes, rows, vectors, fast, width.step, width.tap_step)
    calls.append(Call(kernel, context, units, grain))
    blocks = -(-steps // lanes)
    calls.append(Call(conv_weight.combine(c.dtype, lanes, panel), (
        sums, out(0), chunks, partial_size, group_panels, c.outputs, steps, blocks), panels * blocks,
        max(1, 4096 // (lanes * panel * chunks))))
    return calls


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
