"""Order along one dim: sorting with indices, the k largest or smallest, the most frequent value.

Every element becomes an integer *key* whose order is the elements' (NaN last, zeros of both signs equal), inverted for
a descending order. Lines are sorted by keys with their places: in a short one each key goes to where as many are
smaller; longer ones are sorted digit by digit of 8 bits from the lowest (radix sort), which keeps equal elements in
their order and skips digits that all elements share. Keys of 32 bits share a word with their place. A unit of work is a
line; each chunk has scratch memory of its own, so there are few chunks.
"""
from __future__ import annotations

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.softmax import as_rows

GRAIN = 4096  # elements of a chunk at least
CHUNKS = 64  # at most
SHORT = 100  # elements of a line that are sorted as fast by comparing each with each
FEW = 16  # largest elements that are found by insertion into a short list
COUNTS = 2048  # words

(X, VALUES, INDICES, N, INNER, KEPT, FLIP, SCRATCH, SCRATCH_WORDS, LINES) = range(10)
"""Words of a context: arrays (0 for values that are not wanted), the length of a line, the step along it, how many
elements go out, what keys are xored with (0, or -1 to invert their order), scratch memory and how many words of it a
chunk has, lines of a chunk."""


def _key(dtype):
    """Device function: signed keys of a vector of elements, xored with ``flip``."""
    dtype = np.dtype(dtype)
    real, bits = dtype.kind == "f", 8 * dtype.itemsize - 1
    K = simd.scalar(np.int32 if dtype.itemsize == 4 else np.int64)
    most = (1 << bits) - 1

    def key(v, flip):
        if not real:
            return v ^ K(flip)
        b = simd.where(v != v, most, simd.where(v == 0, 0, simd.bitcast(v, K)))
        return b ^ ((b >> bits) & most) ^ K(flip)

    return simd.device(key)


def _keys_of_line(dtype, lanes: int):
    """Device function: write the keys of n elements; in the upper half of a word, their places below, if they fit."""
    V, W, L = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(np.int64)
    key, narrow = _key(dtype), np.dtype(dtype).itemsize == 4

    def write(line, n, flip, keys, places):
        for i in range(0, n, lanes):
            found, place = simd.convert(key(simd.load_part(line, i, n - i, V), flip), L), simd.iota(W) + i
            if narrow:
                simd.store_part(keys, i, (found << 32) | place, n - i)
            else:
                simd.store_part(keys, i, found, n - i)
                simd.store_part(places, i, place, n - i)

    return simd.device(write)


def _ranking(narrow: bool, lanes: int):
    """Device function: sort n keys and places from one pair of arrays to another, each to where as many are smaller.

    Keys that share their words with their places all differ; others are in the order of their places. ``ranks`` has n
    words.
    """
    W = simd.vector(np.int64, lanes)

    def sort(keys, places, other_keys, other_places, n, ranks):
        for i in range(0, n, lanes):
            own, place, rank = simd.load_part(keys, i, n - i, W), simd.iota(W) + i, simd.full(0, W)
            for j in range(n):
                smaller = own > keys[j]
                if not narrow:
                    smaller |= (own == keys[j]) & (place > j)
                rank = simd.where(smaller, rank + 1, rank)
            simd.store_part(ranks, i, rank, n - i)
        for i in range(n):
            other_keys[ranks[i]] = keys[i]
            if not narrow:
                other_places[ranks[i]] = places[i]
        return other_keys, other_places

    return simd.device(sort)


def _radix(narrow: bool):
    """Device function: sort n keys and places by turns from one pair of arrays to another; returns where they are.

    Digits are those of the distance from the smallest key, so that numbers near each other have few that differ.
    ``counts`` has 256 words for each of the digits.
    """
    digits, lowest = (4, 32) if narrow else (8, 0)

    def sort(keys, places, other_keys, other_places, n, counts):
        base = keys[0]
        for i in range(n):
            base = min(base, keys[i])
        if narrow:
            base = base >> 32 << 32
        for i in range(256 * digits):
            counts[i] = 0
        for i in range(n):
            k = (keys[i] - base) >> lowest
            for d in range(digits):
                counts[256 * d + (k & 255)] += 1
                k >>= 8
        for d in range(digits):
            count, shift, total = simd.advance(counts, 256 * d), lowest + 8 * d, 0
            if count[((keys[0] - base) >> shift) & 255] == n:
                continue
            for digit in range(256):
                size = count[digit]
                count[digit] = total
                total += size
            for i in range(n):
                k = keys[i]
                digit = ((k - base) >> shift) & 255
                at = count[digit]
                count[digit] = at + 1
                other_keys[at] = k
                if not narrow:
                    other_places[at] = places[i]
            keys, places, other_keys, other_places = other_keys, other_places, keys, places
        return keys, places

    return simd.device(sort)


def _cut(narrow: bool):
    """Device function: drop keys that are not among the smallest ``kept`` by their first 16 bits; how many stay."""

    def cut(keys, places, n, kept, counts):
        left, first = kept, 0
        for level in range(2):
            for i in range(256):
                counts[i] = 0
            for i in range(n):
                k = (keys[i] >> 48) + 32768
                if level == 0:
                    counts[k >> 8] += 1
                elif k >> 8 == first:
                    counts[k & 255] += 1
            digit = 0
            while counts[digit] < left:
                left -= counts[digit]
                digit += 1
            first = (first << 8) | digit
        size = 0
        for i in range(n):
            k = keys[i]
            keys[size] = k
            if not narrow:
                places[size] = places[i]
            if (k >> 48) + 32768 <= first:
                size += 1
        return size

    return simd.device(cut)


def _sorter(dtype, lanes: int):
    """Device function: the smallest ``kept`` keys of a line and their places in order, somewhere in ``room``."""
    narrow = np.dtype(dtype).itemsize == 4
    write, rank = _keys_of_line(dtype, lanes), _ranking(narrow, lanes)
    radix, cut = _radix(narrow), _cut(narrow)

    def sort(line, n, flip, kept, room):
        counts, keys, others = room, simd.advance(room, COUNTS), simd.advance(room, COUNTS + n)
        places, other_places = keys, others
        if not narrow:
            places, other_places = simd.advance(room, COUNTS + 2 * n), simd.advance(room, COUNTS + 3 * n)
        write(line, n, flip, keys, places)
        size = n
        if kept < n // 4:
            size = cut(keys, places, n, kept, counts)
        if size <= SHORT:
            keys, places = rank(keys, places, others, other_places, size, counts)
        else:
            keys, places = radix(keys, places, others, other_places, size, counts)
        return keys, places

    return simd.device(sort)


def _room(dtype, n: int) -> int:
    """Words of scratch memory for sorting a line."""
    return COUNTS + (2 if dtype.itemsize == 4 else 4) * n


def _lines(dtype):
    """Device functions: the line of a unit (a copy in ``room`` if it has a step), and where its first element is."""
    S = simd.scalar(dtype)

    @simd.device
    def begin(w, unit, kept):
        if w[INNER] == 1:  # a division takes as long as a short line
            return unit * kept
        outer = unit // w[INNER]
        return outer * kept * w[INNER] + unit - outer * w[INNER]

    def line(w, unit, room):
        n, inner = w[N], w[INNER]
        x = simd.advance(simd.pointer(w[X], S), begin(w, unit, n))
        if inner == 1:
            return x
        copy = simd.pointer(room, S)
        for k in range(n):
            copy[k] = x[k * inner]
        return copy

    return simd.device(line), begin


@range_kernel
def sort_lines(dtype, lanes):
    """The first elements of lines in order, and their places; equal elements keep their order."""
    S, sort, narrow = simd.scalar(dtype), _sorter(dtype, lanes), np.dtype(dtype).itemsize == 4
    get_line, begin = _lines(dtype)
    words = 2 if narrow else 4

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner, kept = w[N], w[INNER], w[KEPT]
        scratch = w[SCRATCH] + 8 * w[SCRATCH_WORDS] * (start // w[LINES])
        room = simd.words(scratch)
        for unit in range(start, stop):
            line = get_line(w, unit, scratch + 8 * (COUNTS + words * n))
            keys, places = sort(line, n, w[FLIP], kept, room)
            first = begin(w, unit, kept)
            values = simd.advance(simd.pointer(w[VALUES], S), first)
            indices = simd.advance(simd.words(w[INDICES]), first)
            for i in range(kept):
                place = keys[i] & 0xFFFFFFFF if narrow else places[i]
                indices[i * inner] = place
                if w[VALUES] != 0:
                    values[i * inner] = line[place]

    return kernel


@range_kernel
def top_lines(dtype, lanes):
    """As :func:`sort_lines` for few elements: a list of the best ones so far, and a look at a vector whether it has
    better ones.
    """
    S, V, K = simd.scalar(dtype), simd.vector(dtype, lanes), np.int32 if np.dtype(dtype).itemsize == 4 else np.int64
    key, (get_line, begin) = _key(dtype), _lines(dtype)
    worst = int(np.iinfo(K).max)
    P, W, L = simd.scalar(K), simd.vector(np.int64, lanes), simd.scalar(np.int64)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner, kept = w[N], w[INNER], w[KEPT]
        scratch = w[SCRATCH] + 8 * w[SCRATCH_WORDS] * (start // w[LINES])
        best, places, fresh = simd.words(scratch), simd.words(scratch + 8 * FEW), simd.words(scratch + 16 * FEW)
        for unit in range(start, stop):
            line = get_line(w, unit, scratch + 8 * (2 * FEW + lanes))
            found, limit = 0, worst
            for i in range(0, n, lanes):
                keys = simd.where(simd.iota(W) < n - i, key(simd.load_part(line, i, n - i, V), w[FLIP]), P(worst))
                if found == kept and not simd.any_lane(keys < P(limit)):
                    continue
                simd.store(fresh, 0, simd.convert(keys, L))
                for k in range(min(lanes, n - i)):
                    if found == kept and fresh[k] >= limit:
                        continue
                    j = min(found, kept - 1)
                    while j > 0 and best[j - 1] > fresh[k]:
                        best[j], places[j] = best[j - 1], places[j - 1]
                        j -= 1
                    best[j], places[j] = fresh[k], i + k
                    found = min(found + 1, kept)
                    limit = best[kept - 1] if found == kept else worst
            first = begin(w, unit, kept)
            values = simd.advance(simd.pointer(w[VALUES], S), first)
            indices = simd.advance(simd.words(w[INDICES]), first)
            for k in range(kept):
                indices[k * inner], values[k * inner] = places[k], line[places[k]]

    return kernel


@range_kernel
def mode_lines(dtype, lanes):
    """The most frequent element of lines, the smallest of equally frequent ones, and its last place."""
    S, sort, narrow = simd.scalar(dtype), _sorter(dtype, lanes), np.dtype(dtype).itemsize == 4
    get_line, _ = _lines(dtype)
    words = 2 if narrow else 4

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[N]
        scratch = w[SCRATCH] + 8 * w[SCRATCH_WORDS] * (start // w[LINES])
        for unit in range(start, stop):
            line = get_line(w, unit, scratch + 8 * (COUNTS + words * n))
            keys, places = sort(line, n, 0, n, simd.words(scratch))
            run, longest, winner = 0, 0, 0
            before = S(0)
            for i in range(n):
                place = keys[i] & 0xFFFFFFFF if narrow else places[i]
                run = run + 1 if i > 0 and line[place] == before else 1
                before = line[place]
                if run > longest:
                    longest, winner = run, place
            simd.pointer(w[VALUES], S)[unit] = line[winner]
            simd.words(w[INDICES])[unit] = winner

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


def _served(x: Array) -> bool:
    """Whether the elements are floats or integers of 32 or 64 bits, in C order."""
    return x.dtype.char in "fdilq" and is_c_ordered(x) and 0 not in x.shape and bool(x.shape)


def _launch(kernel, x: Array, dim: int, kept: int, flip: int, arrays: tuple[Ref | int, ...], specs: tuple,
            room: int) -> Plan:  # fmt: skip
    """The plan of a kernel that needs ``room`` words of scratch memory, and where a line has a step, its copy."""
    outer, n, inner = as_rows(x.shape, dim)
    room += n if inner > 1 else 0
    units, work = outer * inner, Assembly()
    lines = max(-(-units // CHUNKS), GRAIN // n, 1)
    scratch = work.memory(8 * room * -(-units // lines))
    work.call(kernel, (inp(0), *arrays, n, inner, kept, flip, scratch, room, lines), units, lines)
    return work.plan(specs)


def _ordered(x: Array, dim: int, kept: int, descending: bool, values: bool) -> Plan | None:
    if not _served(x) or x.shape[dim] >= 1 << 32:
        return None
    shape = (*x.shape[:dim], kept, *x.shape[dim + 1:])
    specs = (Spec(shape, x.dtype),) * values + (Spec(shape, np.int64),)
    lanes = host.lanes(x.dtype)
    if values and kept <= FEW and kept * 4 <= x.shape[dim]:
        kernel, room = top_lines(x.dtype, lanes), 2 * FEW + lanes
    else:
        kernel, room = sort_lines(x.dtype, lanes), _room(x.dtype, x.shape[dim])
    return _launch(kernel, x, dim, kept, -int(descending), (out(0) if values else 0, out(int(values))), specs, room)


def sort(x: Array, *, dim: int, descending: bool, stable: bool) -> Plan | None:
    """Plan the elements along ``dim`` of a C-ordered array in order, and their indices."""
    return _ordered(x, dim, x.shape[dim] if x.shape else 0, descending, True)


def argsort(x: Array, *, dim: int, descending: bool, stable: bool) -> Plan | None:
    """Plan the indices that sort along ``dim``, as :func:`sort`."""
    return _ordered(x, dim, x.shape[dim] if x.shape else 0, descending, False)


def topk(x: Array, *, k: int, dim: int, largest: bool, sorted: bool) -> Plan | None:
    """Plan the ``k`` largest or smallest along ``dim`` in order and their indices; the first of equals come first."""
    return _ordered(x, dim, k, largest, True) if k else None


def mode(x: Array, *, dim: int, keepdim: bool) -> Plan | None:
    """Plan the most frequent value along ``dim`` (the smallest of equally frequent ones) and its last place."""
    if not _served(x) or x.shape[dim] >= 1 << 32:
        return None
    shape = tuple(1 if d == dim else n for d, n in enumerate(x.shape) if keepdim or d != dim)
    kernel = mode_lines(x.dtype, host.lanes(x.dtype))
    specs = (Spec(shape, x.dtype), Spec(shape, np.int64))
    return _launch(kernel, x, dim, x.shape[dim], 0, (out(0), out(1)), specs, _room(x.dtype, x.shape[dim]))
