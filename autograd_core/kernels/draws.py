"""Random draws, large ones and those of compiled programs: Philox4x32-10, to the bit as in `generator`, and what is
made of its words.

A tile of 16 counters gives 64 words of 32 bits; how they lie is written in :mod:`autograd_core.generator`.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, out, scratch
from autograd_core.kernels.runner import range_kernel

GRAIN = 64  # tiles of a chunk
FIRST, SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
FIRST_KEY, SECOND_KEY = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
MOST_OF_A_WORD = 1 << 16  # a span up to which integers are drawn from 32 bits
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def _philox():
    """Device function: the four 32-bit words of one counter."""
    U = np.uint64

    def words(seed, counter):
        a, b, c, d = counter & LOW, counter >> HALF, U(0), U(0)
        key, other = seed & LOW, seed >> HALF
        for _ in range(10):
            p, q = a * FIRST, c * SECOND
            a, b, c, d = (q >> HALF) ^ b ^ key, q & LOW, (p >> HALF) ^ d ^ other, p & LOW
            key, other = (key + FIRST_KEY) & LOW, (other + SECOND_KEY) & LOW
        return a, b, c, d

    return simd.device(words)


@range_kernel
def draw(kind, dtype, wide):
    """Tiles of 16 counters: 64 elements of 32 bits, or, if ``wide``, 32 of 64.

    Context: address of seed and offset, result, elements, limit or span, lowest, room for a partial tile. ``kind``:
    "coins" (1 where a word is below the limit), "uniform01" (the upper bits of a word, times a power of two), "words"
    as they are, "integers" (lowest + the high part of word * span).
    """
    S, U, I = simd.scalar(dtype), np.uint64, simd.scalar(np.int64)  # noqa: E741
    rows, drop = (2, U(11)) if wide else (4, U(8))
    scale, philox, coins, uniform, words = 2.0 ** (-53 if wide else -24), _philox(), *(
        kind == k for k in ("coins", "uniform01", "words"))  # fmt: skip

    @simd.device
    def value(word, limit, low):
        if coins:
            return S(1) if word < limit else S(0)
        if uniform:
            return S(I(word >> drop)) * S(scale)
        if words:
            return S(word)
        if not wide:
            return S(low + I(word * limit >> HALF))
        above, below, factor, rest = word >> HALF, word & LOW, limit >> HALF, limit & LOW
        first = above * rest + (below * rest >> HALF)
        return S(low + I(above * factor + (first >> HALF) + (below * factor + (first & LOW) >> HALF)))

    def kernel(context, start, stop):
        w = simd.words(context)
        source, target, size, room = simd.words(w[0]), simd.pointer(w[1], S), w[2], simd.pointer(w[5], S)
        seed, offset, limit, low = U(source[0]), U(source[1]), U(w[3]), w[4]
        for tile in range(start, stop):
            result = simd.advance(target, 16 * rows * tile)
            left = size - 16 * rows * tile
            place = result if left >= 16 * rows else room
            for lane in range(16):
                a, b, c, d = philox(seed, offset + U(16 * tile + lane))
                if wide:
                    place[lane] = value(a << HALF | b, limit, low)
                    place[16 + lane] = value(c << HALF | d, limit, low)
                else:
                    place[lane], place[16 + lane] = value(a, limit, low), value(b, limit, low)
                    place[32 + lane], place[48 + lane] = value(c, limit, low), value(d, limit, low)
            if left < 16 * rows:
                for i in range(left):
                    result[i] = room[i]

    return kernel


@range_kernel
def draw_transformed(kind, dtype, lanes):
    """Tiles of 16 counters: 64 elements of 32 bits or 32 of 64. Context: as of `draw`.

    ``kind``: "exponential01" (-log of a word), "normal01" (Box and Muller: radius from one word, angle from the next).
    """
    V, S, U, I = simd.vector(dtype, lanes), simd.scalar(dtype), np.uint64, simd.scalar(np.int64)  # noqa: E741
    wide = np.dtype(dtype).itemsize == 8
    rows, width = (2, 64) if wide else (4, 32)
    normal = kind == "normal01"
    unit, turn, tiny = 2.0**-width, math.pi * 2.0 ** (1 - width), float(np.finfo(dtype).tiny)
    words, log, sin, cos, negative = _philox(), vmath.log, vmath.sin, vmath.cos, U(1 << 31)

    @simd.device
    def number(word, row):
        if normal and row % 2 == 1:  # signed: angles from -pi to pi, finest around 0
            return S(I(word) if wide else I(word ^ negative) - I(negative)) * S(turn)
        return (S(word) + S(1)) * S(unit)

    @simd.device
    def transformed(place):
        for i in range(0, 16 * rows, 32 if normal else 16):
            for lane in range(i, i + 16, lanes):
                if normal:
                    radius = simd.sqrt(-log(simd.load(place, lane, V)) * 2)
                    angle = simd.load(place, lane + 16, V)
                    simd.store(place, lane, radius * cos(angle))
                    simd.store(place, lane + 16, radius * sin(angle))
                else:
                    simd.store(place, lane, simd.maximum(-log(simd.load(place, lane, V)), tiny))

    def kernel(context, start, stop):
        w = simd.words(context)
        source, target, room, size = simd.words(w[0]), simd.pointer(w[1], S), simd.pointer(w[5], S), w[2]
        seed, offset = U(source[0]), U(source[1])
        for tile in range(start, stop):
            result = simd.advance(target, 16 * rows * tile)
            left = size - 16 * rows * tile
            place = result if left >= 16 * rows else room
            for lane in range(16):
                a, b, c, d = words(seed, offset + U(16 * tile + lane))
                if wide:
                    place[lane], place[16 + lane] = number(a << HALF | b, 0), number(c << HALF | d, 1)
                else:
                    place[lane], place[16 + lane] = number(a, 0), number(b, 1)
                    place[32 + lane], place[48 + lane] = number(c, 0), number(d, 1)
            transformed(place)
            if left < 16 * rows:
                for i in range(left):
                    result[i] = room[i]

    return kernel


FLOATS, INTEGERS = ("float32", "float64"), ("int8", "int16", "int32", "int64", "uint8")
SERVED = {"coins": (*FLOATS, "bool"), "uniform01": FLOATS, "exponential01": FLOATS, "normal01": FLOATS,
          "words": ("uint32", "uint64"), "integers": (*FLOATS, *INTEGERS)}  # fmt: skip


def plan_draw(source: Array, *, name: str, shape: tuple[int, ...], dtype: np.dtype, probability: float = 1.0,
              low: int = 0, high: int = 0) -> Plan | None:
    """Plan a draw from two words, seed and offset.

    ``name``: the operation ``coins`` (bool or float), ``uniform01``, ``exponential01``, ``normal01`` (float) or
    ``integers`` (from ``low`` to ``high - 1``), or ``words``: the bits themselves (uint32 or uint64).
    """
    size, dtype = math.prod(shape), np.dtype(dtype)
    if not size or dtype.name not in SERVED.get(name, ()):
        return None
    wide, limit = dtype.itemsize == 8, 0
    if name == "coins":
        limit, wide = math.ceil(probability * 2.0**32), False
    elif name == "integers":
        limit, wide = high - low, high - low > MOST_OF_A_WORD
        if low < -(1 << 63) or high > 1 << 63 or limit >= 1 << 63:
            return None
    if name in ("normal01", "exponential01"):
        kernel = draw_transformed(name, dtype, min(host.lanes(dtype), 16))
    else:
        kernel = draw(name, np.uint8 if dtype == np.bool_ else dtype, wide)
    call = Call(kernel, (inp(0), out(0), size, limit, low, scratch(0)), -(-size // (32 if wide else 64)), GRAIN)
    return Plan((Spec(shape, dtype),), (call,), (64 * dtype.itemsize,))
