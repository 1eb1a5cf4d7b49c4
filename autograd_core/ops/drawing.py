"""What a draw is: internal operations that are pure functions of a seed and an offset.

A compiled program makes the two run-time inputs; checkpoint runs the operations again as they are. How an element
follows from seed and offset stands in `autograd_core.generator`.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..generator import LANES, LARGEST, fill, from_block, philox, tile_count, words
from ..registry import op, random
from ..shapes import ndarray
from .samples import positive, real, sample

FLOAT_BITS = {"float16": 11, "float32": 24, "float64": 53}
"""Bits of a uniform float: as many as its mantissa holds, so that rounding never gives 1."""

DRAW = {"seed": 1, "offset": 0}

INT64, UINT64 = np.dtype(np.int64), np.dtype(np.uint64)

LARGE_CHANCES = 1 << 14
"""Rates or weights from which a kernel is worth loading: one of them takes longer than an element of other draws."""

LARGE_DRAW = 256
"""Tiles from which a draw is worth loading a kernel: forty times the speed."""

LONG_RUN = 1 << 14
"""Tiles (a million numbers of 32 bits) after which smaller draws of a kind have paid for a kernel, too."""

SMALL_DRAW = 32
"""Tiles up to which a draw is taken from a block that was made ahead."""


def bits_of(dtype):
    """Bits of the words that a draw of ``dtype`` takes."""
    return 64 if dtype.itemsize == 8 and dtype.kind != "u" else 32


def _elements(kind, shape, dtype, bits, seed, offset, *given):
    """``shape`` elements of a kind of draw, which ``WRITERS[kind](words, out, *given)`` makes.

    Many are made by the kernel. It gives the same numbers, but for the last bits of a logarithm, a sine or a cosine:
    those are the kernel's or NumPy's according to the size of the draw alone.
    """
    size = math.prod(shape)
    if size * bits <= SMALL_DRAW * 2048:
        return from_block((kind, dtype, *given), shape, size, bits, seed, offset, _made)
    found = None
    if kind not in EXACT and tile_count(size, bits) >= LARGE_DRAW:
        found = _native(kind, shape, dtype, seed, offset, *given)
    return _made(size, bits, seed, offset, kind, dtype, *given).reshape(shape) if found is None else found


def _made(size, bits, seed, offset, kind, dtype, *given):
    """``size`` elements: nothing in them depends on how many they are."""
    if kind in EXACT and _pays(kind, dtype, tile_count(size, bits)):
        found = _native(kind, (size,), dtype, seed, offset, *given)
        if found is not None:
            return found
    return fill(size, dtype, bits, seed, offset, WRITERS[kind], given, _words)


_drawn: dict[tuple[str, np.dtype], int] = {}


def _pays(kind, dtype, tiles):
    """Whether a kernel that gives NumPy's numbers is worth loading: for a large draw, or when many came together."""
    total = _drawn[kind, dtype] = _drawn.get((kind, dtype), 0) + tiles
    return tiles >= LARGE_DRAW or total >= LONG_RUN


EXACT = frozenset(("uniform01", "coins", "integers"))
"""Kinds of draws whose kernel gives NumPy's numbers to the last bit."""


def _native(kind, shape, dtype, seed, offset, *given):
    """A draw by the kernel of compiled programs; None where it does not serve."""
    from ..kernels.draws import plan_draw
    from ..kernels.plan import execute

    settings = {"coins": ("probability",), "integers": ("low", "high")}.get(kind, ())
    found = execute(plan_draw, (_source(seed, offset),), name=kind, shape=tuple(shape), dtype=dtype,
                    **dict(zip(settings, given, strict=False)))  # fmt: skip
    return None if found is NotImplemented else found


def _source(seed, offset):
    """Seed and offset as a kernel reads them."""
    return np.array([seed, offset & LARGEST], np.uint64).view(np.int64)


def _words(seed, offset, tiles, bits):
    kind = np.dtype(np.uint32 if bits == 32 else np.uint64)
    if not _pays("words", kind, tiles):
        return words(seed, offset, tiles, bits)
    return _native("words", (tiles, 128 // bits, LANES), kind, seed, offset)


def _floats(kind, shape, dtype, seed, offset):
    dtype = np.dtype(dtype)
    if dtype.itemsize == 2:
        return _elements(kind, shape, np.dtype(np.float32), 32, seed, offset).astype(dtype)
    return _elements(kind, shape, dtype, bits_of(dtype), seed, offset)


@op(random, namespace="internal", samples=[sample(shape=(3, 4), dtype=np.dtype(np.float32), **DRAW)])
def uniform01(*, shape, dtype, seed, offset):
    """Floats spread evenly over [0, 1): the first bits of each word."""
    dtype = np.dtype(dtype)
    return _elements("uniform01", shape, dtype, bits_of(dtype), seed, offset)


def _uniform(words, out):
    digits = FLOAT_BITS[out.dtype.name]
    np.right_shift(words, 8 * words.itemsize - digits, out=words)
    out[...] = words
    out *= 2.0**-digits


@op(random, namespace="internal", samples=[sample(shape=(3, 4), dtype=np.dtype(np.float32), **DRAW)])
def exponential01(*, shape, dtype, seed, offset):
    """Floats from the exponential distribution of mean 1, never 0: -log((word + 1) / 2**bits)."""
    return _floats("exponential01", shape, dtype, seed, offset)


def _exponential(words, out):
    out[...] = words
    _negative_log(out)
    np.maximum(out, np.finfo(out.dtype).tiny, out=out)


def _negative_log(words):
    words += 1.0
    words *= 2.0 ** (-8 * words.itemsize)
    np.log(words, out=words)
    np.negative(words, out=words)


@op(random, namespace="internal", samples=[sample(shape=(3, 4), dtype=np.dtype(np.float32), **DRAW)])
def normal01(*, shape, dtype, seed, offset):
    """Floats from the normal distribution of mean 0 and deviation 1, by the transform of Box and Muller."""
    return _floats("normal01", shape, dtype, seed, offset)


def _normal(words, out):
    bits = 8 * words.itemsize
    radius = words[:, ::2].astype(out.dtype)
    _negative_log(radius)
    radius *= 2.0
    np.sqrt(radius, out=radius)
    angle = words[:, 1::2].view(f"i{words.itemsize}").astype(out.dtype)  # signed: from -pi to pi, finest around 0
    angle *= math.pi * 2.0 ** (1 - bits)
    np.multiply(radius, np.cos(angle), out=out[:, ::2])
    np.multiply(radius, np.sin(angle), out=out[:, 1::2])


@op(random, namespace="internal", samples=[sample(shape=(3, 4), low=-2, high=5, dtype=INT64, **DRAW)])
def integers(*, shape, low, high, dtype, seed, offset):
    """Integers in [low, high): low + the high part of word * (high - low)."""
    return _elements("integers", shape, dtype, bits_of_span(high - low), seed, offset, low, high)


def bits_of_span(span):
    """The odds of two numbers differ by a factor of at most 1 + span / 2**bits."""
    return 32 if span <= 1 << 16 else 64


def _integers_of(words, out, low, high):
    span = high - low
    if words.itemsize == 8:
        found = _high_part(words, span)
    else:
        found = words.astype(np.uint64) * np.uint64(span) >> np.uint64(32)
    found += np.uint64(low & LARGEST)
    out[...] = found.view(np.int64) if low < 0 or high <= 1 << 63 else found


def _high_part(words, span):
    """The upper 64 bits of words * span, from products of halves."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    if span > LARGEST:
        return words
    upper, lower = words >> half, words & low
    first = upper * np.uint64(span & 0xFFFFFFFF) + ((lower * np.uint64(span & 0xFFFFFFFF)) >> half)
    second = lower * np.uint64(span >> 32) + (first & low)
    return upper * np.uint64(span >> 32) + (first >> half) + (second >> half)


@op(random, namespace="internal",
    samples=[sample(positive(4, high=1), shape=(3, 4), dtype=np.dtype(np.float32), **DRAW)])  # fmt: skip
def coins(probability, *, shape, dtype, seed, offset):
    """1 with ``probability`` (a number, or an array that broadcasts to ``shape``), else 0: word < 2**32 probability."""
    dtype = np.dtype(dtype)
    if isinstance(probability, ndarray):
        drawn = _elements("words", shape, np.dtype(np.uint32), 32, seed, offset)
        return (drawn < probability.astype(np.float64) * 2.0**32).astype(dtype, copy=False)
    return _elements("coins", shape, dtype, 32, seed, offset, float(probability))


def _coins(words, out, probability):
    out[...] = words < math.ceil(probability * 2.0**32)


def _as_they_are(words, out):
    out[...] = words


WRITERS = {"uniform01": _uniform, "exponential01": _exponential, "normal01": _normal, "integers": _integers_of,
           "coins": _coins, "words": _as_they_are}  # fmt: skip
"""By kind of draw: ``write(words, out, ...)`` turns words into elements."""


@op(random, namespace="internal", samples=[sample(shape=(3, 4), p=0.3, dtype=np.dtype(np.float32), **DRAW)])
def geometric_counts(*, shape, p, dtype, seed, offset):
    """How many throws until the first success of chance ``p``: ceil(exponential / -log(1 - p))."""
    wide = np.dtype(np.float32) if bits_of(dtype) == 32 else np.dtype(np.float64)
    throws = exponential01.record.function(shape=shape, dtype=wide, seed=seed, offset=offset)
    return np.ceil(throws / -math.log1p(-p)).astype(dtype)


@op(random, namespace="internal", samples=[sample(size=5, dtype=INT64, **DRAW)])
def permutation(*, size, dtype, seed, offset):
    """The integers 0 to size - 1 in random order: random 64-bit keys that carry their index in the low bits, sorted."""
    return in_order(_elements("words", (size,), UINT64, 64, seed, offset), size).astype(dtype, copy=False)


def in_order(keys, size):
    """The numbers of random keys in the order of the keys, which it changes."""
    index_bits = max(size - 1, 0).bit_length()
    keys >>= index_bits
    if size <= 64:  # the same order
        return keys.argsort(kind="stable")
    keys <<= index_bits
    keys |= np.arange(size, dtype=np.uint64)
    keys.sort()
    keys &= (1 << index_bits) - 1
    return keys.view(np.int64)


@op(random, namespace="internal", samples=[sample(positive(5, high=30), **DRAW)])
def poisson_counts(rate, *, seed, offset):
    """Counts from the Poisson distribution; element i takes counter ``offset + i``, each try a stream."""
    if rate.size >= LARGE_CHANCES and type(rate) is ndarray:
        found = _by_kernel("plan_poisson", _source(seed, offset), rate)
        if found is not NotImplemented:
            return found
    rates = rate.astype(np.float64).reshape(-1)
    counter = np.arange(rates.size, dtype=np.uint64) + np.uint64(offset)
    counts = np.zeros(rates.size)
    small = rates < 10
    counts[small] = _poisson_by_inversion(rates[small], _two_uniforms(seed, counter[small], 0)[0])
    pending, stream = np.flatnonzero(~small & np.isfinite(rates)), 1
    while pending.size:
        accepted, found = _poisson_try(rates[pending], *_two_uniforms(seed, counter[pending], stream))
        counts[pending[accepted]] = found[accepted]
        pending, stream = pending[~accepted], stream + 1
    counts[~np.isfinite(rates)] = np.nan
    return counts.reshape(rate.shape).astype(rate.dtype)


def _by_kernel(planner, *arrays):
    from ..kernels import chances
    from ..kernels.plan import execute

    return execute(getattr(chances, planner), arrays)


def _two_uniforms(seed, counter, stream):
    w = philox(seed, counter, stream)
    return [((w[j] << np.uint64(32) | w[j + 1]) >> np.uint64(11)) * 2.0**-53 for j in (0, 2)]


def _poisson_by_inversion(rates, uniform):
    counts = np.zeros(rates.size)
    term = np.exp(-rates)
    total = term.copy()
    for k in range(1, 100):  # beyond, a rate below 10 leaves less than 2**-53
        above = uniform >= total
        if not above.any():
            break
        counts += above
        term *= rates / k
        total += term
    return counts


def _poisson_try(rates, first, second):
    """One try of transformed rejection for rates of 10 and more: (accepted, count).

    Source: W. Hörmann, "The transformed rejection method for generating Poisson random variables", 1993 (PTRS).
    """
    b = 0.931 + 2.53 * np.sqrt(rates)
    a = -0.059 + 0.02483 * b
    centred = first - 0.5
    edge = 0.5 - np.abs(centred)
    count = np.floor((2 * a / edge + b) * centred + rates + 0.43)
    quick = (edge >= 0.07) & (second <= 0.9277 - 3.6224 / (b - 2))
    possible = (count >= 0) & ((edge >= 0.013) | (second <= edge))
    chance = np.log(second * (1.1239 + 1.1328 / (b - 3.4)) / (a / (edge * edge) + b))
    kept = np.maximum(count, 0)
    return quick | (possible & (chance <= kept * np.log(rates) - rates - _log_factorial(kept))), count


def _log_factorial(n):
    """log(n!) by Stirling's series at n + 8, brought back down: to 1e-13."""
    x = n + 8.0
    product = (n + 1) * (n + 2) * (n + 3) * (n + 4) * (n + 5) * (n + 6) * (n + 7)
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * x * x)) / (x * x)) / (x * x)) / x
    return (x - 0.5) * np.log(x) - x + 0.5 * math.log(2 * math.pi) + series - np.log(product)


@op(random, namespace="internal", samples=[sample(positive(2, 4), count=3, replacement=True, **DRAW)])
def categories(probabilities, *, count, replacement, seed, offset):
    """Indices into the last dimension, drawn with chances in proportion to ``probabilities``.

    With replacement by the inverse of the cumulative sum; without, the ``count`` smallest of exponential / probability.
    """
    weights = probabilities.reshape(-1, probabilities.shape[-1])
    rows, width = weights.shape
    float64 = np.dtype(np.float64)
    if replacement and weights.size >= LARGE_CHANCES:
        marks = uniform01.record.function(shape=(rows, count), dtype=float64, seed=seed, offset=offset)
        found = _by_kernel("plan_choose", weights, marks)
        if found is not NotImplemented:
            return found.reshape(*probabilities.shape[:-1], count)
    weights = weights.astype(float64)
    if not replacement:
        races = exponential01.record.function(shape=(rows, width), dtype=float64, seed=seed, offset=offset) / weights
        found = np.argsort(races, axis=-1, kind="stable")[:, :count]
    else:
        sums = np.cumsum(weights, axis=-1)
        last = width - 1 - np.argmax(weights[:, ::-1] > 0, axis=-1)
        marks = uniform01.record.function(shape=(rows, count), dtype=float64, seed=seed, offset=offset) * sums[:, -1:]
        if marks.size * width <= 1 << 14:
            found = (sums[:, None] <= marks[..., None]).sum(-1)
        else:
            found = np.array([s.searchsorted(m, side="right") for s, m in zip(sums, marks, strict=True)])
        found = np.minimum(found, last[:, None])
    return found.reshape(*probabilities.shape[:-1], count).astype(np.int64)


@op(random, namespace="internal", vjp=lambda g, needs: (g, *[ops.zeros_like(g) for _ in needs[1:]]),
    samples=[sample(real(3, 4), real(3, 4), real(4))])  # fmt: skip
def drawn_with(drawn, *parameters):
    """``drawn`` itself; ``parameters`` of the distribution get a gradient of zero."""
    return drawn
