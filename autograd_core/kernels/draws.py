"""Random draws of compiled programs: the words of Philox4x32-10, to the bit as in `generator`, and what is made of it.

A tile of 16 counters gives 64 words of 32 bits; how they lie is written in :mod:`autograd_core.generator`.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Spec, bits, inp, out, scratch
from autograd_core.kernels.runner import range_kernel

GRAIN = 64  # tiles of a chunk
FIRST, SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
FIRST_KEY, SECOND_KEY = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
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
def draw(kind, dtype):
    """Tiles of 64 elements. Context: address of seed and offset, result, elements, limit of coins (or bits of a float).

    ``kind``: "coins" (1 where a word is below the limit) or "uniform" (the upper 24 bits of a word, times 2**-24).
    """
    S, U, I = simd.scalar(dtype), np.uint64, simd.scalar(np.int64)  # noqa: E741
    coins, words = kind == "coins", _philox()

    @simd.device
    def value(word, limit, scale):
        if coins:
            return S(1) if word < limit else S(0)
        return S(I(word >> U(8))) * scale

    def kernel(context, start, stop):
        w = simd.words(context)
        source, target, size = simd.words(w[0]), simd.pointer(w[1], S), w[2]
        seed, offset, limit, scale = U(source[0]), U(source[1]), U(w[3]), S(2.0**-24)
        for tile in range(start, stop):
            place = simd.advance(target, 64 * tile)
            left = size - 64 * tile
            if left >= 64:
                for lane in range(16):
                    a, b, c, d = words(seed, offset + U(16 * tile + lane))
                    place[lane] = value(a, limit, scale)
                    place[16 + lane] = value(b, limit, scale)
                    place[32 + lane] = value(c, limit, scale)
                    place[48 + lane] = value(d, limit, scale)
            else:
                for lane in range(min(left, 16)):
                    a, b, c, d = words(seed, offset + U(16 * tile + lane))
                    place[lane] = value(a, limit, scale)
                    if 16 + lane < left:
                        place[16 + lane] = value(b, limit, scale)
                    if 32 + lane < left:
                        place[32 + lane] = value(c, limit, scale)
                    if 48 + lane < left:
                        place[48 + lane] = value(d, limit, scale)

    return kernel


@range_kernel
def draw_transformed(kind, dtype, lanes):
    """Tiles of 16 counters: 64 elements of 32 bits or 32 of 64. Context: as of `draw`, and room for a partial tile.

    ``kind``: "uniform01" (of 64 bits: the upper 53 of two words), "exponential01" (-log of a word) or "normal01" (Box
    and Muller: radius from one word, angle from the next).
    """
    V, S, U, I = simd.vector(dtype, lanes), simd.scalar(dtype), np.uint64, simd.scalar(np.int64)  # noqa: E741
    wide = np.dtype(dtype).itemsize == 8
    rows, width = (2, 64) if wide else (4, 32)
    uniform, normal = kind == "uniform01", kind == "normal01"
    unit, turn, tiny = 2.0**-width, math.pi * 2.0 ** (1 - width), float(np.finfo(dtype).tiny)
    words, log, sin, cos, negative = _philox(), vmath.log, vmath.sin, vmath.cos, U(1 << 31)

    @simd.device
    def number(word, row):
        if uniform:
            return S(I(word >> U(11))) * S(2.0**-53)
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
        source, target, room, size = simd.words(w[0]), simd.pointer(w[1], S), simd.pointer(w[4], S), w[2]
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
            if not uniform:
                transformed(place)
            if left < 16 * rows:
                for i in range(left):
                    result[i] = room[i]

    return kernel


def plan_draw(source: Array, *, name: str, shape: tuple[int, ...], dtype: np.dtype, probability: float = 1.0,
              ) -> Plan | None:
    """Plan the operation ``coins`` (bool or float) or ``uniform01``, ``exponential01``, ``normal01`` (float) from two
    words, seed and offset."""  # noqa: D209
    size, dtype = math.prod(shape), np.dtype(dtype)
    if not size or dtype.name not in ("float32", "float64", *["bool"] * (name == "coins")):
        return None
    if name == "coins" or (name == "uniform01" and dtype.itemsize == 4):
        limit = math.ceil(probability * 2.0**32) if name == "coins" else bits(0.0)
        kernel = draw("coins" if name == "coins" else "uniform", np.uint8 if dtype == np.bool_ else dtype)
        return Plan((Spec(shape, dtype),), (Call(kernel, (inp(0), out(0), size, limit), -(-size // 64), GRAIN),))
    kernel = draw_transformed(name, dtype, min(host.lanes(dtype), 16))
    tiles = -(-size * dtype.itemsize // 256)
    call = Call(kernel, (inp(0), out(0), size, 0, scratch(0)), tiles, GRAIN)
    return Plan((Spec(shape, dtype),), (call,), (256,))
