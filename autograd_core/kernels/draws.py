"""Random draws of compiled programs: the words of Philox4x32-10 and what is made of them, to the bit as in `generator`.

A tile of 16 counters gives 64 words of 32 bits; how they lie is written in :mod:`autograd_core.generator`.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, bits, inp, out
from autograd_core.kernels.runner import range_kernel

GRAIN = 64  # tiles of a chunk
FIRST, SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
FIRST_KEY, SECOND_KEY = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@range_kernel
def draw(kind, dtype):
    """Tiles of 64 elements. Context: address of seed and offset, result, elements, limit of coins (or bits of a float).

    ``kind``: "coins" (1 where a word is below the limit) or "uniform" (the upper 24 bits of a word, times 2**-24).
    """
    S, U, I = simd.scalar(dtype), np.uint64, simd.scalar(np.int64)  # noqa: E741
    coins = kind == "coins"

    @simd.device
    def words(seed, counter):
        a, b, c, d = counter & LOW, counter >> HALF, U(0), U(0)
        key, other = seed & LOW, seed >> HALF
        for _ in range(10):
            p, q = a * FIRST, c * SECOND
            a, b, c, d = (q >> HALF) ^ b ^ key, q & LOW, (p >> HALF) ^ d ^ other, p & LOW
            key, other = (key + FIRST_KEY) & LOW, (other + SECOND_KEY) & LOW
        return a, b, c, d

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


def plan_draw(source: Array, *, name: str, shape: tuple[int, ...], dtype: np.dtype, probability: float = 1.0,
              ) -> Plan | None:
    """Plan the operation ``coins`` (bool or float) or ``uniform01`` (float32) from two words, seed and offset."""
    size, dtype = math.prod(shape), np.dtype(dtype)
    served = dtype.name in ("bool", "float32", "float64") if name == "coins" else dtype.name == "float32"
    if not size or not served:
        return None
    limit = math.ceil(probability * 2.0**32) if name == "coins" else bits(0.0)
    kernel = draw("coins" if name == "coins" else "uniform", np.uint8 if dtype == np.bool_ else dtype)
    return Plan((Spec(shape, dtype),), (Call(kernel, (inp(0), out(0), size, limit), -(-size // 64), GRAIN),))
