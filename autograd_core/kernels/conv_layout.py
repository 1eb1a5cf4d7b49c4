"""What convolution's plans are made of: dimensions, frames around images, panels of weights, offsets of taps."""
from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from autograd_core.kernels import conv_prepare, host
from autograd_core.kernels.plan import Array, Call, Ref, scratch


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
    limited: bool = False  # results are at least 0: a ReLU

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
    layout = conv_prepare.ANY
    if width % lanes == 0 and output == 1:
        layout = conv_prepare.ROWS
    elif width % lanes == 0 and contiguous[1]:
        layout = conv_prepare.TURNED
        if channel == c.taps:  # the channels follow one another, too
            each = next(n for n in range(min(c.channels, max(1, 256 // c.taps)), 0, -1) if c.channels % n == 0)
            runs, run = c.channels // each, c.taps * each
    elif width % lanes == 0 and contiguous[-1]:
        layout = conv_prepare.REVERSED
    blocks = -(-c.outputs // width)
    steps_ = 1 + c.channels * c.taps
    context = (weight, 0 if c.bias is None else c.bias, target, runs, blocks, c.outputs, run, group, output,
               channel * (run // c.taps), start, *taps, *strides, width, layout)
    kernel = conv_prepare.pack_weights(c.dtype, lanes)
    units = c.groups * blocks * runs
    grain = max(1, -(-units // max(1, units * run * width // 16384)))
    return Call(kernel, context, units, grain), steps_ * width, blocks


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
