"""Copies with the elements elsewhere: dimensions split and exchanged (pixel_shuffle and its kin); constant padding."""

from __future__ import annotations

import functools
import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.elementwise import collapsed
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import copier, served

GRAIN = 16384  # elements of a chunk
ROW = 64  # elements of which a copied run, or a row that is gathered, has at least
MOST = 4096  # elements of a row whose places stand in a table at most
LAST = (1 << 31) - 1  # the largest place

SOURCE, TARGET, LENGTH, DIMS, TABLE = range(5)
HEAD = 5
"""Words before (size, step in the source) of each outer dimension, and the places within a row; no TABLE: they follow
one another."""


@range_kernel
def exchange(dtype, lanes):
    """Rows of the result from where a table says; a unit is a row."""
    S, V, H, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.int32), simd.vector(np.int32, lanes)
    copy = copier(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        length, places = w[LENGTH], simd.pointer(context + w[TABLE], H)
        for unit in range(start, stop):
            source, target, rest = simd.pointer(w[SOURCE], S), simd.pointer(w[TARGET], S), unit
            target = simd.advance(target, unit * length)
            for d in range(w[DIMS] - 1, -1, -1):
                following = rest // w[HEAD + 2 * d]
                source = simd.advance(source, (rest - following * w[HEAD + 2 * d]) * w[HEAD + 2 * d + 1])
                rest = following
            if w[TABLE] == 0:
                copy(target, source, length)
            else:
                for i in range(0, length, lanes):
                    inside = simd.iota(W) < H(length - i)
                    at = simd.load_part(places, i, length - i, W)
                    simd.store_part(target, i, simd.gather_where(source, at, inside, V), length - i)

    return kernel


def rearrange(x: Array, *, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> Plan | None:
    """Plan ``ops.rearrange``: a C-ordered x seen as ``split``, its dims in another ``order``, in ``shape``."""
    if not served(x) or 0 in x.shape:
        return None
    steps = [math.prod(split[d + 1 :]) for d in range(len(split))]
    sizes, (along,) = collapsed([split[d] for d in order], [[steps[d] for d in order]], -1)
    inner, places = len(sizes), np.zeros(1, np.int64)
    if sizes and along[-1] == 1 and sizes[-1] >= ROW:
        inner, length, table = inner - 1, sizes[-1], []
    else:
        while inner and len(places) < ROW and len(places) * sizes[inner - 1] <= MOST:
            inner -= 1
            places = (np.arange(sizes[inner])[:, None] * along[inner] + places).ravel()
        raw, length = places.astype(np.int32).tobytes(), len(places)
        table = np.frombuffer(raw + bytes(-len(raw) % 8), np.int64).tolist()
    if places.max() > LAST or inner == len(sizes) > 0:
        return None
    outer = [word for d in range(inner) for word in (sizes[d], along[d])]
    context = (inp(0), out(0), length, inner, 8 * (HEAD + len(outer)) if table else 0, *outer, *table)
    units = math.prod(sizes[:inner])
    call = Call(exchange(x.dtype, host.lanes(x.dtype)), context, units, max(1, GRAIN // length))
    return Plan((Spec(shape, x.dtype),), (call,))


# ---------------------------------------------------------------------------------------------------------- padding


@functools.cache
def filler(dtype, lanes):
    """Device function that writes ``count`` times the same value."""
    V = simd.vector(dtype, lanes)

    def fill(target, value, count):
        v = simd.full(value, V)
        for i in range(0, count, lanes):
            simd.store_part(target, i, v, count - i)

    return simd.device(fill)


@range_kernel
def frame(dtype, lanes):
    """Rows with a value around them; a unit is a row. Context: source, target, value, depth, height, width, the same of
    the result, elements before in each dimension.
    """
    S = simd.scalar(dtype)
    copy, fill = copier(dtype, lanes), filler(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        value, depth, height, width, out_depth, out_height, out_width = (
            S(simd.real(w[2])),
            w[3],
            w[4],
            w[5],
            w[6],
            w[7],
            w[8],
        )
        above, before = w[10], w[11]
        first, last = max(before, 0), min(before + width, out_width)
        for unit in range(start, stop):
            volume = unit // out_height
            image = volume // out_depth
            d, h = volume - image * out_depth - w[9], unit - volume * out_height - above
            target = simd.advance(simd.pointer(w[1], S), unit * out_width)
            if 0 <= d < depth and 0 <= h < height:
                source = simd.advance(simd.pointer(w[0], S), ((image * depth + d) * height + h) * width)
                fill(target, value, first)
                copy(simd.advance(target, first), simd.advance(source, first - before), last - first)
                fill(simd.advance(target, last), value, out_width - last)
            else:
                fill(target, value, out_width)

    return kernel


def pad_constant(x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Plan | None:
    """Plan ``ops.pad_constant``: ``value`` around the last three dimensions, as they are counted without those left."""
    sizes: list[int] = []
    pads: list[tuple[int, int]] = []
    for n, pair in zip(x.shape, widths, strict=True):
        if sizes and pair == (0, 0) and pads[-1] == (0, 0):
            sizes[-1] *= n
        else:
            sizes.append(n)
            pads.append(pair)
    if len(pads) > 1 and pads[-1] == (0, 0):  # rows that are left as they are: more of each
        (a, b), n = pads[-2], sizes[-1]
        sizes[-2:], pads[-2:] = [sizes[-2] * n], [(a * n, b * n)]
    shape = tuple([n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)])
    if pads and pads[0] == (0, 0):
        lead, sizes, pads = sizes[0], sizes[1:], pads[1:]
    else:
        lead = 1
    if not served(x) or len(sizes) > 3 or not sizes or 0 in x.shape or min(shape) < 1:
        return None
    if any(n + min(a, 0) + min(b, 0) < 1 for n, (a, b) in zip(sizes, pads, strict=True)):
        return None
    sizes, pads = [1] * (3 - len(sizes)) + sizes, [(0, 0)] * (3 - len(pads)) + pads
    made = [n + a + b for n, (a, b) in zip(sizes, pads, strict=True)]
    before = [a for a, _ in pads]
    context: tuple[int | Ref, ...] = (inp(0), out(0), bits(float(value)), *sizes, *made, *before)
    call = Call(frame(x.dtype, host.lanes(x.dtype)), context, lead * made[0] * made[1], max(1, GRAIN // made[2]))
    return Plan((Spec(shape, x.dtype),), (call,))
