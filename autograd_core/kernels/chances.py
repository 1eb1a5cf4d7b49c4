"""Draws whose chances are given: Poisson counts and picks by weight, from the same counters as in `ops.drawing`."""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.draws import FIRST, FIRST_KEY, HALF, LOW, SECOND, SECOND_KEY
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import range_kernel

RATES = 256  # of a chunk
SUMMED = 64  # weights whose sum is kept


def _two_uniforms(lanes):
    """Device function: two floats in [0, 1) from each counter of a vector, in try number ``stream``."""
    U, V, I = np.uint64, simd.vector(np.uint64, lanes), simd.scalar(np.int64)  # noqa: E741
    D, drop = simd.scalar(np.float64), np.uint64(11)

    @simd.device
    def uniform(high, low):
        return simd.convert(simd.bitcast((high << HALF | low) >> drop, I), D) * 2.0**-53

    def pair(seed, counter, stream):
        a, b, c, d = counter & LOW, counter >> HALF, simd.full(U(stream), V), simd.full(U(0), V)
        key, other = seed & LOW, seed >> HALF
        for _ in range(10):
            p, q = a * FIRST, c * SECOND
            a, b, c, d = (q >> HALF) ^ b ^ key, q & LOW, (p >> HALF) ^ d ^ other, p & LOW
            key, other = (key + FIRST_KEY) & LOW, (other + SECOND_KEY) & LOW
        return uniform(a, b), uniform(c, d)

    return simd.device(pair)


@range_kernel
def poisson(dtype, lanes):
    """Counts for rates [start, stop). Context: address of seed and offset, rates, counts.

    Rates below 10 by inversion of the sum of chances, others by transformed rejection: the formulas stand in
    `ops.drawing`.
    """
    S, VS, V = simd.scalar(dtype), simd.vector(dtype, lanes), simd.vector(np.float64, lanes)
    U, VU, D = np.uint64, simd.vector(np.uint64, lanes), simd.scalar(np.float64)
    uniforms, log, exp, any_lane = _two_uniforms(lanes), vmath.log, vmath.exp, simd.any_lane
    half_of_log = 0.5 * math.log(2 * math.pi)

    @simd.device
    def inverted(rate, uniform):
        count, term = simd.full(0.0, V), exp(-rate)
        total, k = term, 1.0
        above = uniform >= total
        while any_lane(above) and k < 100:
            count = simd.where(above, count + 1.0, count)
            term = term * (rate / k)
            total, k = total + term, k + 1.0
            above = uniform >= total
        return count

    @simd.device
    def log_factorial(n):
        x = n + 8.0
        product = (n + 1.0) * (n + 2.0) * (n + 3.0) * (n + 4.0) * (n + 5.0) * (n + 6.0) * (n + 7.0)
        square = 1.0 / (x * x)
        series = (1 / 12 - (1 / 360 - (1 / 1260 - square * (1 / 1680)) * square) * square) / x
        return (x - 0.5) * log(x) - x + half_of_log + series - log(product)

    @simd.device
    def tried(rate, first, second):
        b = simd.sqrt(rate) * 2.53 + 0.931
        a = b * 0.02483 - 0.059
        centred = first - 0.5
        edge = 0.5 - simd.absolute(centred)
        count = simd.floor((2.0 * a / edge + b) * centred + rate + 0.43)
        accepted = (edge >= 0.07) & (second <= 0.9277 - 3.6224 / (b - 2.0))
        if any_lane(~accepted):
            possible = (count >= 0.0) & ((edge >= 0.013) | (second <= edge))
            chance = log(second * (1.1328 / (b - 3.4) + 1.1239) / (a / (edge * edge) + b))
            kept = simd.maximum(count, 0.0)
            accepted |= possible & (chance <= kept * log(rate) - rate - log_factorial(kept))
        return accepted, count

    def kernel(context, start, stop):
        w = simd.words(context)
        source, rates, counts = simd.words(w[0]), simd.pointer(w[1], S), simd.pointer(w[2], S)
        seed, offset = U(source[0]), U(source[1])
        for i in range(start, stop, lanes):
            rate = simd.convert(simd.load_part(rates, i, stop - i, VS), D)
            counter, count = simd.iota(VU) + (offset + U(i)), simd.full(0.0, V)
            if any_lane(rate < 10.0):
                uniform, _ = uniforms(seed, counter, 0)
                count = inverted(simd.where(rate < 10.0, rate, 0.0), simd.where(rate < 10.0, uniform, 0.0))
            pending, stream = (rate >= 10.0) & (rate < math.inf), 1
            while any_lane(pending):
                first, second = uniforms(seed, counter, stream)
                accepted, found = tried(rate, first, second)
                count = simd.where(pending & accepted, found, count)
                pending, stream = pending & ~accepted, stream + 1
            count = simd.where(rate < math.inf, count, math.nan)
            simd.store_part(counts, i, simd.convert(count, S), stop - i)

    return kernel


def plan_poisson(source: Array, rates: Array) -> Plan | None:
    """Plan a Poisson count for each rate (C-ordered float32 or float64) from two words, seed and offset."""
    size = math.prod(rates.shape)
    if rates.dtype.char not in "fd" or not is_c_ordered(rates):
        return None
    kernel = poisson(rates.dtype, host.lanes(np.float64))
    return Plan((Spec(rates.shape, rates.dtype),), (Call(kernel, (inp(0), inp(1), out()), size, RATES),))


@range_kernel
def choose(dtype, lanes):
    """Picks for rows [start, stop). Context: weights, marks, picks, weights and picks of a row, scratch, rows a chunk.

    A mark in [0, 1) picks the first place at which the sum of the weights so far exceeds its share of the whole, the
    last weight above zero at most. Sums of `SUMMED` weights are kept: the place is looked for in one of them.
    """
    S, VS, D = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.float64)
    V, I = simd.vector(np.float64, lanes), simd.scalar(np.int64)  # noqa: E741

    @simd.device
    def add_up(weights, width, sums):
        """Sums of the weights before each block, and of all; returns the last place above zero."""
        total, block = 0.0, 0
        for begin in range(0, width, SUMMED):
            sums[block], block, end = total, block + 1, min(begin + SUMMED, width)
            part = simd.full(0.0, V)
            for i in range(begin, end, lanes):
                part = part + simd.convert(simd.load_part(weights, i, end - i, VS), D)
            total += simd.reduce_add(part)
        sums[block] = total
        last = width - 1
        while last > 0 and not weights[last] > 0:
            last -= 1
        return last

    @simd.device
    def place(weights, last, sums, blocks, target):
        low, high = 0, blocks
        while high - low > 1:  # the last block whose sum before it is not above the target
            middle = (low + high) // 2
            if sums[middle] <= target:
                low = middle
            else:
                high = middle
        total, i = sums[low], low * SUMMED
        while i < last:
            total += D(weights[i])
            if total > target:
                break
            i += 1
        return min(i, last)

    def kernel(context, start, stop):
        w = simd.words(context)
        weights, marks, picks = simd.pointer(w[0], S), simd.pointer(w[1], D), simd.pointer(w[2], I)
        width, count, blocks = w[3], w[4], (w[3] + SUMMED - 1) // SUMMED
        sums = simd.advance(simd.pointer(w[5], D), start // w[6] * (blocks + 1))
        for row in range(start, stop):
            line = simd.advance(weights, row * width)
            last = add_up(line, width, sums)
            for j in range(row * count, row * count + count):
                picks[j] = place(line, last, sums, blocks, marks[j] * sums[blocks])

    return kernel


def plan_choose(weights: Array, marks: Array) -> Plan | None:
    """Plan the picks of each row of ``weights`` (C-ordered, float32 or float64) that ``marks`` (float64) ask for."""
    (rows, width), count = weights.shape, marks.shape[1]
    if weights.dtype.char not in "fd" or not is_c_ordered(weights) or not is_c_ordered(marks):
        return None
    grain = max(1, 8192 // width)
    kernel = choose(weights.dtype, host.lanes(np.float64))
    call = Call(kernel, (inp(0), inp(1), out(), width, count, scratch(), grain), rows, grain)
    return Plan((Spec((rows, count), np.int64),), (call,), (8 * -(-rows // grain) * (-(-width // SUMMED) + 1),))
