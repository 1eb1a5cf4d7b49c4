"""Sums of weighted elements along up to three dimensions: resizing, averages of windows, padding by own elements.

A unit is a row of the result. First the rows of the image that it is made of are added up, vectors along the row; then
each of its elements is a sum of a few elements of that one line. What is added to what stands in tables, one a
dimension, which lie behind the arguments in the context itself. The adjoint is the same with other tables.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, bits, inp, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import copier, eraser, served

GRAIN = 16384  # elements of a chunk, of the image or of the result

(SOURCE, TARGET, LINES, DEPTH, HEIGHT, WIDTH, OUT_DEPTH, OUT_HEIGHT, OUT_WIDTH, GROUP, PLANES, ROWS, KIND, COLUMNS,
 FROM, TO, SHIFTED) = range(17)  # fmt: skip
HEAD = 17
"""Words before the tables. GROUP: rows of a chunk. PLANES, ROWS, COLUMNS: bytes to the tables of depth, height, width.
KIND: how elements of a row come from the line, but for those from FROM to TO: they are a run of it that
begins at SHIFTED."""

COPIED, PICKED, PAIRED, SUMMED = range(4)
"""The line itself; one element of it each, or none; two; any number."""


# ---------------------------------------------------------------------------------------------------------- kernels


@functools.cache
def adder(dtype, lanes):
    """Device function: the weighted sum of rows of a volume, by the taps [a, b) of depth and [c, d) of height.

    ``roomy``: there is room for whole vectors, which may be read element by element at once, unlike parts of them.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def add_up(volume, target, roomy, width, height, z, wz, a, b, y, wy, c, d):
        four = width // (4 * lanes) * (4 * lanes)
        for i in range(0, four, 4 * lanes):
            p = simd.full(S(0), V)
            q, r, s = p, p, p
            for k in range(a, b):
                for j in range(c, d):
                    row = simd.advance(volume, (z[k] * height + y[j]) * width + i)
                    weight = S(simd.real(wz[k]) * simd.real(wy[j]))
                    p, q = p + simd.load(row, 0, V) * weight, q + simd.load(row, lanes, V) * weight
                    r, s = r + simd.load(row, 2 * lanes, V) * weight, s + simd.load(row, 3 * lanes, V) * weight
            simd.store(target, i, p)
            simd.store(target, i + lanes, q)
            simd.store(target, i + 2 * lanes, r)
            simd.store(target, i + 3 * lanes, s)
        for i in range(four, width, lanes):
            total = simd.full(S(0), V)
            for k in range(a, b):
                for j in range(c, d):
                    row = simd.advance(volume, (z[k] * height + y[j]) * width)
                    total += simd.load_part(row, i, width - i, V) * S(simd.real(wz[k]) * simd.real(wy[j]))
            if roomy:
                simd.store(target, i, total)
            else:
                simd.store_part(target, i, total, width - i)

    return simd.device(add_up)


@functools.cache
def picker(dtype):
    """Device function that writes the elements of columns [first, last) at the positions of a table, 0 where -1."""
    S = simd.scalar(dtype)

    def pick(line, target, table, first, last):
        positions = simd.words(table)
        for x in range(first, last):
            at = positions[x]
            target[x] = line[at] if at >= 0 else S(0)

    return simd.device(pick)


@functools.cache
def pairer(dtype):
    """Device function that writes sums of two weighted elements; the table: positions [2][n], weights [2][n]."""
    S = simd.scalar(dtype)

    def pair(line, target, table, n):
        positions, weights = simd.words(table), simd.pointer(table + 16 * n, S)
        for x in range(n):
            target[x] = line[positions[x]] * weights[x] + line[positions[n + x]] * weights[n + x]

    return simd.device(pair)


@functools.cache
def summer(dtype):
    """Device function that writes runs of equal elements, each a weighted sum.

    The table: number of runs, whether positions follow one another, begins and ends of the runs, their starts,
    positions, weights.
    """
    S = simd.scalar(dtype)

    def add(line, target, table):
        words = simd.words(table)
        runs, banded = words[0], words[1]
        begins, ends, starts = simd.advance(words, 2), simd.advance(words, 2 + runs), simd.advance(words, 2 + 2 * runs)
        positions, weights = simd.advance(starts, runs + 1), simd.pointer(table + 8 * (3 + 3 * runs + starts[runs]), S)
        for run in range(runs):
            total, first, last = S(0), starts[run], starts[run + 1]
            if banded:
                if first < last:
                    band, share = simd.advance(line, positions[first]), simd.advance(weights, first)
                    for k in range(last - first):
                        total += band[k] * share[k]
            else:
                for k in range(first, last):
                    total += line[positions[k]] * weights[k]
            for x in range(begins[run], ends[run]):
                target[x] = total

    return simd.device(add)


@range_kernel
def weighted_rows(dtype, lanes):
    """Rows of the result; the words of the context are named above."""
    S, one = simd.scalar(dtype), bits(1.0)
    add_up, pick, pair, add = adder(dtype, lanes), picker(dtype), pairer(dtype), summer(dtype)
    copy, erase = copier(dtype, lanes), eraser(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        height, width, out_height, out_width = w[HEIGHT], w[WIDTH], w[OUT_HEIGHT], w[OUT_WIDTH]
        own = simd.advance(simd.pointer(w[LINES], S), start // w[GROUP] * (-(-width // lanes) * lanes))
        zs, ys = simd.words(context + w[PLANES]), simd.words(context + w[ROWS])
        same = simd.advance(ys, out_height + 1)
        z, y = simd.advance(zs, 2 * w[OUT_DEPTH] + 1), simd.advance(ys, 2 * out_height + 1)
        wz, wy = simd.advance(z, zs[w[OUT_DEPTH]]), simd.advance(y, ys[out_height])
        kind, begin, end, shifted, columns = w[KIND], w[FROM], w[TO], w[SHIFTED], context + w[COLUMNS]
        size, out_depth = w[DEPTH] * height * width, w[OUT_DEPTH]
        volume = start // out_height
        i, plane = start - volume * out_height, volume // out_depth
        k = volume - plane * out_depth
        image = simd.advance(simd.pointer(w[SOURCE], S), plane * size)
        target = simd.advance(simd.pointer(w[TARGET], S), (start - 1) * out_width)
        i -= 1
        for unit in range(start, stop):
            i += 1
            if i == out_height:
                i, k = 0, k + 1
                if k == out_depth:
                    k, image = 0, simd.advance(image, size)
            above, target = target, simd.advance(target, out_width)
            if unit > start and same[i] != 0:
                copy(target, above, out_width)
                continue
            a, b, c, d = zs[k], zs[k + 1], ys[i], ys[i + 1]
            if a == b or c == d:
                erase(target, out_width)
                continue
            line = own
            if b - a == 1 and d - c == 1 and wz[a] == one and wy[c] == one:
                line = simd.advance(image, (z[a] * height + y[c]) * width)
            elif kind == COPIED:
                add_up(image, target, False, width, height, z, wz, a, b, y, wy, c, d)
                continue
            else:
                add_up(image, own, True, width, height, z, wz, a, b, y, wy, c, d)
            if kind == PICKED:
                pick(line, target, columns, 0, begin)
                pick(line, target, columns, end, out_width)
            elif kind == PAIRED:
                pair(line, target, columns, out_width)
            elif kind == SUMMED:
                add(line, target, columns)
            if begin < end:
                copy(simd.advance(target, begin), simd.advance(line, shifted), end - begin)

    return kernel


# ------------------------------------------------------------------------------------------------------------ plans


def _words(*parts: Any) -> list[int]:
    """Arrays of integers and of floats (as their bytes, filled up to whole words) one after the other."""
    found: list[int] = []
    for part in parts:
        array = np.asarray(part)
        raw = array.astype(np.int64 if array.dtype.kind in "ib" else array.dtype).tobytes()
        found += np.frombuffer(raw + bytes(-len(raw) % 8), np.int64).tolist()
    return found


def _as_before(starts: np.ndarray, positions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether each element is made as the one before."""
    ends = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    made = [(positions[a:b].tobytes(), weights[a:b].tobytes()) for a, b in ends]
    return np.array([False] + [x == y for x, y in itertools.pairwise(made)])


def _row_words(table: Any, size: int) -> list[int]:
    """The table of rows: starts, whether each is made as the one before, positions, weights as float64."""
    if table is None:
        starts, positions, weights = np.arange(size + 1), np.arange(size), np.ones(size)
    else:
        starts, positions, weights = table.starts, table.positions, table.ones_or_weights()
    return _words(starts, _as_before(starts, positions, weights), positions, weights)


def _column_words(table: Any, size: int, dtype: np.dtype) -> tuple[int, list[int], tuple[int, int, int]]:
    """(kind, words, FROM, TO and SHIFTED) of a table of columns."""
    if table is None:
        return COPIED, [], (0, size, 0)
    starts, positions, weights = table.starts, table.positions, table.ones_or_weights()
    n, counts = len(starts) - 1, np.diff(starts)
    only = np.where(counts == 1, positions[np.minimum(starts[:-1], len(positions) - 1)], -1)
    if table.weights is not None:
        only = np.where(weights[np.minimum(starts[:-1], len(positions) - 1)] == 1, only, -1)
    edges = np.concatenate([[0], np.flatnonzero((np.diff(only) != 1) | (only[1:] <= 0)) + 1, [n]])
    longest = int(np.argmax(np.diff(edges)))
    begin, end = int(edges[longest]), int(edges[longest + 1])
    run = (begin, end, int(only[begin])) if end - begin > 1 and only[begin] >= 0 else (0, 0, 0)
    before = _as_before(starts, positions, weights)
    if before.sum() <= 0.8 * n:  # long runs of equal elements are written as such
        if table.weights is None and (counts <= 1).all():
            return PICKED, _words(only), run
        if (counts == 2).all():
            return PAIRED, _words(positions.reshape(n, 2).T, weights.reshape(n, 2).T.astype(dtype)), run
    before[[run[0], *([run[1]] if run[1] < n else [])]] = False
    begins = np.flatnonzero(~before)
    ends = np.append(begins[1:], n)
    begins, ends = (at[(begins < run[0]) | (begins >= run[1])] for at in (begins, ends))
    keep = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in begins])
    banded = all((np.diff(positions[starts[i] : starts[i + 1]]) == 1).all() for i in begins)
    own = np.concatenate([[0], np.cumsum(counts[begins])])
    return SUMMED, _words([len(begins), banded], begins, ends, own, positions[keep], weights[keep].astype(dtype)), run


def weighted_sum(x: Array, *, tables: tuple[Any, ...]) -> Plan | None:
    """Plan ``ops.weighted_sum``: the sums of ``tables`` (None: as it is) along the last dimensions of a C-ordered x."""
    if not served(x) or 0 in x.shape or len(tables) > min(len(x.shape), 3):
        return None
    if not all(len(t.positions) and t.out for t in tables if t is not None):
        return None
    shape, tables = (1, 1, *x.shape), (None,) * (3 - len(tables)) + tables
    lead, size, made = math.prod(shape[:-3]), list(shape[-3:]), [None if t is None else t.out for t in tables]
    for d in (0, 1):  # what is left as it is in front only multiplies the images
        if made[: d + 1] == [None] * (d + 1):
            lead, size[d] = lead * size[d], 1
    sizes = [n if m is None else m for n, m in zip(size, made, strict=True)]
    kind, columns, run = _column_words(tables[2], size[2], x.dtype)
    planes, rows = _row_words(tables[0], size[0]), _row_words(tables[1], size[1])
    places = [8 * n for n in (HEAD, HEAD + len(planes), HEAD + len(planes) + len(rows))]
    looks = sizes[2] if kind in (PICKED, PAIRED) and tables[:2] == (None, None) else max(size[2], sizes[2])
    count, grain = lead * sizes[0] * sizes[1], max(1, GRAIN // looks)
    context = (inp(0), out(0), scratch(0), *size, *sizes, grain, places[0], places[1], kind, places[2], *run,
               *planes, *rows, *columns)  # fmt: skip
    ends = tuple(n if m is None else m for n, m in zip(shape[-3:], made, strict=True))
    lanes = host.lanes(x.dtype)
    call = Call(weighted_rows(x.dtype, lanes), context, count, grain)
    result = Spec((*shape[:-3], *ends)[2:], x.dtype)
    return Plan((result,), (call,), (-(-count // grain) * -(-size[2] // lanes) * lanes * x.dtype.itemsize,))
