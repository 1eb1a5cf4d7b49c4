"""Which way of convolution, and which tile, costs the least: estimated cycles, by constants that were measured."""
from __future__ import annotations

import itertools
import math

from autograd_core.kernels import host
from autograd_core.kernels.conv_layout import Correlation

POSITIONS = 16  # products of a tile of Winograd's


def most_rows(vectors: int) -> int:
    """How many rows of so many vectors a tile may have: the compiler loads ahead and needs registers for that, too."""
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
    ranges = range(1, 9), range(1, min(height, 4) + 1), range(1, min(c.outputs, 8) + 1)
    for across, lines, rows in itertools.product(*ranges):
        vectors = across * lines
        if vectors > 8 or rows > most_rows(vectors) or (across > 1 and (across - 1) * lanes >= width):
            continue
        count = -(-height // lines) * -(-width // (across * lanes)) * -(-c.outputs // rows) * c.axes[0].places
        step = cycles(rows, vectors, rows + 2 * vectors)  # a vector of pixels lies across two lines of the cache
        cost = count * c.groups * (c.channels * c.taps * step + rows * vectors * (3 if lines == 1 else 6) + 20)
        best = min(best, (cost, rows, vectors, across))
    return best


def winograd_fits(c: Correlation, lanes: int, panels: int = 0) -> bool:
    """Whether the transformed filters of so many panels of a vector (0: of all) leave half the cache to the images."""
    panels = panels or -(-c.outputs // lanes)
    return c.channels * panels * lanes * POSITIONS * c.dtype.itemsize <= host.caches()[1] // 2


def winograd_cycles(c: Correlation, lanes: int) -> float:
    """Estimated cycles of an image by tiles of 2 x 2 outputs; infinite where these do not serve."""
    depth, height, width = c.axes
    size = (height.places, width.places)
    square = all(a.taps == 3 and a.tap_step == a.step == a.target_step == 1 and a.before >= 0 for a in c.axes[1:])
    plain = c.source_strides[4] == 1 and c.target_strides[3:] == (size[1], 1) and depth.taps == depth.places == 1
    order = {(3 * a.weight_step, b.weight_step) for a, b in [c.axes[1:]]} & {(3, 1), (-3, -1)}
    tiles = -(-size[0] // 2) * -(-size[1] // 2)
    panels = -(-c.outputs // lanes)
    serves = square and plain and order and c.groups == 1 and c.dtype.char == "f" and tiles >= 8
    if not (serves and winograd_fits(c, lanes, min(panels, 2))):
        return math.inf
    filters = 0 if winograd_fits(c, lanes) else 100 * c.channels * panels / c.batch
    return filters + tiles * (panels * (9 * c.channels + 150) + 150 * -(-c.channels // lanes))


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
