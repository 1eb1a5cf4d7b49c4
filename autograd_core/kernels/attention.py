"""Scaled dot product attention, forward and backward, by blocks: the matrix of scores is never held whole.

A block of some rows of query meets a block of keys at a time; the running largest score and sum of exponentials of each
row rescale what was gathered before. Backward computes the scores anew and needs but their logarithm of the sum of
exponentials a row. Operands are first copied so that every product is a register tile over contiguous, zero-padded
memory: as rows, or turned into panels ``[depth][keys of a panel]``.

Dao, Fu, Ermon, Rudra and Ré, "FlashAttention: Fast and memory-efficient exact attention with IO-awareness", 2022.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.lazy import simd, tiles, vmath
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, bits, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel

ROWS = 32  # rows of query of a block
KEYS = 128  # keys of a block
STEP = 4  # rows of a tile
CHUNKS = 256  # at most, since each has memory of its own


# ------------------------------------------------------------------------------------------------------------ copies


@range_kernel
def pack_rows(dtype, lanes):
    """Copy rows, times a factor, into zero-padded ones [matrix][padded rows][padded width]; a unit is a padded row.

    Context: x, copy, rows, width, padded rows, padded width, factor, stride of a row, heads, strides of batch and head.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        width, wide = w[3], w[5]
        for unit in range(start, stop):
            matrix = unit // w[4]
            row, batch = unit - matrix * w[4], matrix // w[8]
            place = batch * w[9] + (matrix - batch * w[8]) * w[10] + row * w[7]
            x = simd.advance(simd.pointer(w[0], S), place)
            target = simd.advance(simd.pointer(w[1], S), unit * wide)
            for i in range(0, wide, lanes):
                count = width - i if row < w[2] else 0
                simd.store(target, i, simd.load_part(x, i, count, V) * S(simd.real(w[6])))

    return kernel


@range_kernel
def pack_panels(dtype, lanes, width):
    """Copy rows into zero-padded panels [matrix][panel][depth][width]; a unit is a panel.

    Context: x, copy, rows, depth, panels, stride of a row, heads, strides of batch and head.
    """
    S, square = simd.scalar(dtype), simd.tile(simd.vector(dtype, lanes), lanes, 1)

    def kernel(context, start, stop):
        w = simd.words(context)
        depth, row = w[3], w[5]
        for unit in range(start, stop):
            matrix = unit // w[4]
            first, batch = (unit - matrix * w[4]) * width, matrix // w[6]
            x = simd.advance(simd.pointer(w[0], S), batch * w[7] + (matrix - batch * w[6]) * w[8] + first * row)
            target = simd.advance(simd.pointer(w[1], S), unit * depth * width)
            for j in range(0, width, lanes):
                k = 0
                if first + j + lanes <= w[2]:
                    while k + lanes <= depth:
                        block = tiles.load(simd.advance(x, j * row + k), row, square)
                        tiles.store(tiles.transpose(block), simd.advance(target, k * width + j), width)
                        k += lanes
                while k < depth:
                    for i in range(j, j + lanes):
                        value = S(0)
                        if first + i < w[2]:
                            value = x[i * row + k]
                        target[k * width + i] = value
                    k += 1

    return kernel


# ---------------------------------------------------------------------------------------------------------- the kernels


def _products(T, width: int):
    """Device function: [rows of tiles] c = a @ panels of ``width`` columns, added to c or not; all padded to tiles."""

    def multiply(a, a_row, a_step, depth, b, b_step, panel_step, panels, c, c_row, rows, add):
        for panel in range(panels):
            right = simd.advance(b, panel * panel_step)
            for i in range(0, rows, STEP):
                place = simd.advance(c, i * c_row + panel * width)
                t = tiles.zeros(T)
                if add:
                    t = tiles.load(place, c_row, T)
                t = tiles.add_products(t, depth, simd.advance(a, i * a_row), a_row, a_step, right, b_step)
                tiles.store(t, place, c_row)

    return simd.device(multiply)


def _scores(dtype, lanes: int, mask: str, causal: bool):
    """Device function: scores of one row and the keys from ``key`` on, masked: -inf where not to be looked at."""
    V, W, B = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.vector(np.uint8, lanes)
    S, U = simd.scalar(dtype), simd.scalar(np.uint8)

    def scores(v, address, row, key, keys):
        if mask == "add":
            v += simd.load_part(simd.pointer(address, S), key, keys - key, V)
        elif mask == "bool":
            v = simd.where(simd.load_part(simd.pointer(address, U), key, keys - key, B) != 0, v, -np.inf)
        limit = keys - key
        if causal:
            limit = min(limit, row + 1 - key)
        return simd.where(simd.iota(W) < limit, v, -np.inf)

    return simd.device(scores)


def _softmax_rows(dtype, lanes: int, mask: str, causal: bool):
    """Device functions for the scores of a row and block of keys: mask them and find the largest; take exponentials."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    scores, exp = _scores(dtype, lanes, mask, causal), vmath.exp
    as_they_are = not mask and not causal

    def largest(line, length, address, row, key, keys):
        most = simd.full(S(-np.inf), V)
        for i in range(0, length, lanes):
            v = simd.load(line, i, V)
            if not as_they_are or key + i + lanes > keys:
                v = scores(v, address, row, key + i, keys)
                simd.store(line, i, v)
            most = simd.where(v > most, v, most)
        return simd.reduce_max(most)

    def exponentiate(line, length, base):
        total = simd.full(S(0), V)
        for i in range(0, length, lanes):
            v = exp(simd.load(line, i, V) - base)
            simd.store(line, i, v)
            total += v
        return simd.reduce_add(total)

    return simd.device(largest), simd.device(exponentiate)


@range_kernel
def forward(dtype, lanes, vectors, value_vectors, mask, causal):
    """Blocks of rows; a unit is (matrix, block). Context: query, key panels, value, mask, out, logs; rows, keys, padded
    depth, padded value width, value width, padded rows, key panels, units of a chunk, memory of the chunks, elements of
    one, heads, strides in bytes of the mask (batch, head, row), depth, strides of out (batch, head, row).
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    T, U = simd.tile(V, STEP, vectors), simd.tile(V, STEP, value_vectors)
    width, value_width = vectors * lanes, value_vectors * lanes
    multiply, gather = _products(T, width), _products(U, value_width)
    (largest, exponentiate), exp, log = _softmax_rows(dtype, lanes, mask, causal), vmath.exp, vmath.log

    def kernel(context, start, stop):
        w = simd.words(context)
        L, N, E, P, padded, panels = w[6], w[7], w[8], w[9], w[11], w[12]
        room = simd.advance(simd.pointer(w[14], S), start // w[13] * w[15])
        held = simd.advance(room, ROWS * KEYS)  # what was gathered of the values
        tops = simd.advance(held, ROWS * P)
        totals, bases = simd.advance(tops, ROWS), simd.advance(tops, 2 * ROWS)
        shrinks = simd.advance(tops, 3 * ROWS)
        blocks = padded // ROWS
        for unit in range(start, stop):
            matrix = unit // blocks
            first, batch = (unit - matrix * blocks) * ROWS, matrix // w[16]
            count = min(ROWS, L - first)
            tall = (count + STEP - 1) // STEP * STEP
            query = simd.advance(simd.pointer(w[0], S), (matrix * padded + first) * E)
            mask_at = w[3] + batch * w[17] + (matrix - batch * w[16]) * w[18]
            for i in range(ROWS * P):
                held[i] = S(0)
            for i in range(ROWS):
                tops[i], totals[i], bases[i] = S(-np.inf), S(0), S(0)
            end = min(N, first + count) if causal else N
            for key in range(0, end, KEYS):
                size = min(KEYS, N - key)
                there = (size + width - 1) // width
                k = simd.advance(simd.pointer(w[1], S), (matrix * panels + key // width) * w[20] * width)
                multiply(query, E, 1, w[20], k, width, w[20] * width, there, room, KEYS, tall, False)
                for row in range(count):
                    bases[row] = largest(simd.advance(room, row * KEYS), there * width, mask_at + (first + row) * w[19],
                                         first + row, key, N)  # fmt: skip
                for i in range(0, ROWS, lanes):
                    top, new = simd.load(tops, i, V), simd.load(bases, i, V)
                    new = simd.where(top > new, top, new)
                    base = simd.where(new == -np.inf, 0, new)
                    simd.store(tops, i, new)
                    simd.store(bases, i, base)
                    simd.store(shrinks, i, exp(top - base))
                for row in range(count):
                    total = exponentiate(simd.advance(room, row * KEYS), there * width, bases[row])
                    totals[row] = totals[row] * shrinks[row] + total
                    if key > 0:
                        own = simd.advance(held, row * P)
                        for i in range(0, P, lanes):
                            simd.store(own, i, simd.load(own, i, V) * shrinks[row])
                value = simd.advance(simd.pointer(w[2], S), (matrix * N + key) * P)
                gather(room, KEYS, 1, size, value, P, value_width, P // value_width, held, P, tall, True)
            for row in range(count):
                total, lse = totals[row], S(0)
                scale = S(0)
                if total != S(0):
                    scale, lse = S(1) / total, tops[row] + log(total)
                simd.pointer(w[5], S)[matrix * L + first + row] = lse
                own = simd.advance(held, row * P)
                place = batch * w[21] + (matrix - batch * w[16]) * w[22] + (first + row) * w[23]
                target = simd.advance(simd.pointer(w[4], S), place)
                for i in range(0, w[10], lanes):
                    simd.store_part(target, i, simd.load(own, i, V) * scale, w[10] - i)

    return kernel


@range_kernel
def backward(dtype, lanes, vectors, depth_vectors, value_vectors, mask, causal):
    """Whole matrices; a unit is one. Context: query, key panels, value panels, key, gradient (padded rows), mask, logs,
    sums of gradient * out; gradients of query (padded, zeros), key and value; rows, keys, depth, padded depth, value
    width, padded value width, padded rows, key panels, memory, its elements a matrix, heads, strides in bytes of the
    mask (batch, head, row), strides of the gradients of key and of value (batch, head, row).
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    T = simd.tile(V, STEP, vectors)
    D, U = simd.tile(V, STEP, depth_vectors), simd.tile(V, STEP, value_vectors)
    width, depth_width, value_width = vectors * lanes, depth_vectors * lanes, value_vectors * lanes
    multiply, gather_depth, gather_value = _products(T, width), _products(D, depth_width), _products(U, value_width)
    scores, exp, as_they_are = _scores(dtype, lanes, mask, causal), vmath.exp, not mask and not causal

    def kernel(context, start, stop):
        w = simd.words(context)
        L, N, E, EP, X, XP, padded, panels = w[11], w[12], w[13], w[14], w[15], w[16], w[17], w[18]
        for matrix in range(start, stop):
            weights = simd.advance(simd.pointer(w[19], S), matrix * w[20])
            slopes = simd.advance(weights, ROWS * KEYS)
            of_key = simd.advance(slopes, ROWS * KEYS)
            of_value = simd.advance(of_key, KEYS * EP)
            query = simd.advance(simd.pointer(w[0], S), matrix * padded * EP)
            sent = simd.advance(simd.pointer(w[4], S), matrix * padded * XP)
            of_query = simd.advance(simd.pointer(w[8], S), matrix * padded * EP)
            batch = matrix // w[21]
            mask_at = w[5] + batch * w[22] + (matrix - batch * w[21]) * w[23]
            for i in range(padded * EP):
                of_query[i] = S(0)
            for key in range(0, N, KEYS):
                size = min(KEYS, N - key)
                there = (size + width - 1) // width
                tall_keys = (size + STEP - 1) // STEP * STEP
                for i in range(KEYS * (EP + XP)):
                    of_key[i] = S(0)
                panel = matrix * panels + key // width
                k = simd.advance(simd.pointer(w[1], S), panel * E * width)
                v = simd.advance(simd.pointer(w[2], S), panel * X * width)
                for first in range(0, L, ROWS):
                    count = min(ROWS, L - first)
                    if not causal or first + count > key:
                        tall = (count + STEP - 1) // STEP * STEP
                        q, g = simd.advance(query, first * EP), simd.advance(sent, first * XP)
                        multiply(q, EP, 1, E, k, width, E * width, there, weights, KEYS, tall, False)
                        multiply(g, XP, 1, X, v, width, X * width, there, slopes, KEYS, tall, False)
                        for row in range(count):
                            line, slope = simd.advance(weights, row * KEYS), simd.advance(slopes, row * KEYS)
                            at = matrix * L + first + row
                            lse, total = simd.pointer(w[6], S)[at], simd.pointer(w[7], S)[at]
                            address = mask_at + (first + row) * w[24]
                            for i in range(0, there * width, lanes):
                                u = simd.load(line, i, V)
                                if not as_they_are or key + i + lanes > N:
                                    u = scores(u, address, first + row, key + i, N)
                                p = exp(u - lse)
                                simd.store(line, i, p)
                                simd.store(slope, i, p * (simd.load(slope, i, V) - total))
                        for i in range(count * KEYS, tall * KEYS):
                            weights[i], slopes[i] = S(0), S(0)
                        gather_value(weights, 1, KEYS, count, g, XP, value_width, XP // value_width, of_value, XP,
                                     tall_keys, True)
                        gather_depth(slopes, 1, KEYS, count, q, EP, depth_width, EP // depth_width, of_key, EP,
                                     tall_keys, True)
                        gather_depth(slopes, KEYS, 1, size,
                                     simd.advance(simd.pointer(w[3], S), (matrix * N + key) * EP), EP, depth_width,
                                     EP // depth_width, simd.advance(of_query, first * EP), EP, tall, True)
                head = matrix - batch * w[21]
                to_key = simd.advance(simd.pointer(w[9], S), batch * w[25] + head * w[26] + key * w[27])
                to_value = simd.advance(simd.pointer(w[10], S), batch * w[28] + head * w[29] + key * w[30])
                for row in range(size):
                    for i in range(0, E, lanes):
                        simd.store_part(to_key, row * w[27] + i, simd.load(of_key, row * EP + i, V), E - i)
                    for i in range(0, X, lanes):
                        simd.store_part(to_value, row * w[30] + i, simd.load(of_value, row * XP + i, V), X - i)

    return kernel


@range_kernel
def row_dots(dtype, lanes):
    """Sums of g * out over rows; a unit is a row.

    Context: padded g, out, sums, rows, padded rows, width, padded width, heads, strides of out (batch, head, row).
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            matrix = unit // w[3]
            row, batch = unit - matrix * w[3], matrix // w[7]
            g = simd.advance(simd.pointer(w[0], S), (matrix * w[4] + row) * w[6])
            y = simd.advance(simd.pointer(w[1], S), batch * w[8] + (matrix - batch * w[7]) * w[9] + row * w[10])
            total = simd.full(S(0), V)
            for i in range(0, w[5], lanes):
                total += simd.load(g, i, V) * simd.load_part(y, i, w[5] - i, V)
            simd.pointer(w[2], S)[unit] = simd.reduce_add(total)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


class Problem(NamedTuple):
    """Sizes: two batch dims (batch, heads), rows, keys, depth, value width; padded ones; tiles' vectors."""

    dtype: np.dtype
    batch: int
    heads: int
    rows: int
    keys: int
    depth: int
    value: int
    vectors: int
    depth_vectors: int
    value_vectors: int

    @property
    def matrices(self) -> int:
        return self.batch * self.heads

    @property
    def padded(self) -> int:
        return -(-self.rows // ROWS) * ROWS

    @property
    def width(self) -> int:
        """Keys of a panel."""
        return self.vectors * host.lanes(self.dtype)

    @property
    def panels(self) -> int:
        return -(-self.keys // self.width)

    def wide(self, columns: int, vectors: int) -> int:
        """``columns`` padded to whole tiles."""
        width = vectors * host.lanes(self.dtype)
        return -(-columns // width) * width

    @property
    def wide_depth(self) -> int:
        return self.wide(self.depth, self.depth_vectors)

    @property
    def wide_value(self) -> int:
        return self.wide(self.value, self.value_vectors)


def _strides(x: Array) -> tuple[int, int, int, int]:
    """Strides in bytes of (batch, head, row, column), 0 where broadcast."""
    strides = [0 if n == 1 else s for n, s in zip(x.shape, x.strides, strict=True)]
    strides = [0] * (4 - len(strides)) + strides
    return strides[0], strides[1], strides[2], strides[3]


def _elements(x: Array) -> tuple[int, int, int]:
    """Strides in elements of (batch, head, row)."""
    batch, head, row, _ = (s // x.dtype.itemsize for s in _strides(x))
    return batch, head, row


def _like(x: Array, width: int) -> Array:
    """A new array for rows of ``width`` numbers that lie in memory in the order of x: views of heads stay views."""
    shape, step, strides = (*x.shape[:-1], width), width * x.dtype.itemsize, [0] * len(x.shape)
    strides[-1] = x.dtype.itemsize
    for d in sorted(range(len(x.shape) - 1), key=lambda d: (x.strides[d], -d)):
        strides[d] = step
        step *= shape[d]
    return Array(shape, tuple(strides), x.dtype)


def _problem(q: Array, k: Array, v: Array, *others: Array) -> Problem | None:
    """Describe the problem; None if it is not served."""
    every = (q, k, v, *others)
    size = q.dtype.itemsize
    if q.dtype.char not in "fd" or any(x.dtype != q.dtype or not x.dtype.isnative for x in every):
        return None
    if any(0 in x.shape or not 2 <= len(x.shape) <= 4 or any(s % size for s in x.strides) for x in every):
        return None
    if any(x.shape[-1] > 1 and x.strides[-1] != size for x in every):
        return None
    if len({x.shape[:-2] for x in every}) > 1:
        return None
    batch, heads = (1, 1, *q.shape[:-2])[-2:]
    lanes = host.lanes(q.dtype)
    most = 4 if host.registers() >= 32 else 2

    def fitting(columns: int) -> int:
        return next(n for n in (4, 2, 1) if n <= most and (n * lanes <= columns or n == 1))

    panel = next((n for n in (1, 2, 4) if n < most and n * lanes >= k.shape[-2]), most)
    return Problem(q.dtype, batch, heads, q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], panel,
                   fitting(q.shape[-1]), fitting(v.shape[-1]))


def _mask(p: Problem, mask: Array | None) -> tuple[str, tuple[int, ...]] | None:
    """(kind of the mask, its strides in bytes of batch, head, row); None if it is not served."""
    if mask is None:
        return "", (0, 0, 0)
    if mask.dtype not in (np.dtype(bool), p.dtype) or not mask.dtype.isnative or not 1 <= len(mask.shape) <= 4:
        return None
    sizes = (1,) * (4 - len(mask.shape)) + mask.shape
    wanted = (p.batch, p.heads, p.rows, p.keys)
    if sizes[3] != p.keys or any(n not in (1, have) for n, have in zip(sizes, wanted, strict=True)):
        return None
    strides = _strides(mask)
    if p.keys > 1 and strides[3] != mask.dtype.itemsize:
        return None
    return "bool" if mask.dtype == bool else "add", strides[:3]


def _pack_rows(work: Assembly, p: Problem, at: Ref, x: Array, rows: int, wide: int, factor: float = 1.0) -> Ref:
    """Add the call that copies rows of x, padded; returns where to."""
    size = p.dtype.itemsize
    batch, head, row = _elements(x)
    target = work.memory(p.matrices * rows * wide * size)
    context = (at, target, x.shape[-2], x.shape[-1], rows, wide, bits(factor), row, p.heads, batch, head)
    work.call(pack_rows(p.dtype, host.lanes(p.dtype)), context, p.matrices * rows, max(1, 16384 // wide))
    return target


def _pack_panels(work: Assembly, p: Problem, at: Ref, x: Array) -> Ref:
    """Add the call that copies x into panels; returns where to."""
    size, depth = p.dtype.itemsize, x.shape[-1]
    batch, head, row = _elements(x)
    target = work.memory(p.matrices * p.panels * depth * p.width * size)
    context = (at, target, x.shape[-2], depth, p.panels, row, p.heads, batch, head)
    work.call(pack_panels(p.dtype, host.lanes(p.dtype), p.width), context, p.matrices * p.panels,
              max(1, 16384 // (depth * p.width)))
    return target


def _spec(x: Array) -> Spec:
    """The output that x describes."""
    return Spec(x.shape, x.dtype, None if is_c_ordered(x) else x.strides)


def attention(query: Array, key: Array, value: Array, mask: Array | None, *, scale: float,
              causal: bool) -> Plan | None:
    """Plan softmax(scale * query key^T + mask) value, and the logarithm of each row's sum of exponentials.

    Up to two batch dims, equal in all but the mask; the last dim contiguous.
    """
    p = _problem(query, key, value)
    masked = p and _mask(p, mask)
    if p is None or masked is None:
        return None
    kind, strides = masked
    lanes, work = host.lanes(p.dtype), Assembly()
    q = _pack_rows(work, p, inp(0), query, p.padded, p.wide_depth, scale)
    k = _pack_panels(work, p, inp(1), key)
    v = _pack_rows(work, p, inp(2), value, p.keys, p.wide_value)
    units = p.matrices * p.padded // ROWS
    grain = max(1, -(-units // CHUNKS))
    elements = ROWS * (KEYS + p.wide_value + 4)
    room = work.memory(-(-units // grain) * elements * p.dtype.itemsize)
    result = _like(query, p.value)
    work.call(forward(p.dtype, lanes, p.vectors, p.value_vectors, kind, causal),
              (q, k, v, 0 if mask is None else inp(3), out(0), out(1), p.rows, p.keys, p.wide_depth, p.wide_value,
               p.value, p.padded, p.panels, grain, room, elements, p.heads, *strides, p.depth, *_elements(result)),
              units, grain)
    return work.plan((_spec(result), Spec((*query.shape[:-1], 1), p.dtype)))


def attention_backward(query: Array, key: Array, value: Array, mask: Array | None, result: Array, lse: Array,
                       g: Array, *, scale: float, causal: bool, needs: tuple[bool, ...]) -> Plan | None:
    """Plan the gradients of :func:`attention` in query, key and value; None where the mask's is wanted."""
    p = _problem(query, key, value, result, g)
    masked = p and _mask(p, mask)
    if p is None or masked is None or needs[3]:
        return None
    kind, strides = masked
    lanes, work, size = host.lanes(p.dtype), Assembly(), p.dtype.itemsize
    depth, wide = p.wide_depth, p.wide_value
    q = _pack_rows(work, p, inp(0), query, p.padded, depth, scale)
    k, v = _pack_panels(work, p, inp(1), key), _pack_panels(work, p, inp(2), value)
    key_rows = _pack_rows(work, p, inp(1), key, p.keys, depth)
    sent = _pack_rows(work, p, inp(6), g, p.padded, wide)
    sums = work.memory(p.matrices * p.rows * size)
    work.call(row_dots(p.dtype, lanes),
              (sent, inp(4), sums, p.rows, p.padded, p.value, wide, p.heads, *_elements(result)),
              p.matrices * p.rows, max(1, 16384 // p.value))
    of_query = work.memory(p.matrices * p.padded * depth * size)
    elements = 2 * ROWS * KEYS + KEYS * (depth + wide)
    room = work.memory(p.matrices * elements * size)
    of_key: Ref = out(1) if needs[1] else work.memory(p.matrices * p.keys * p.depth * size)
    of_value = out(2) if needs[2] else work.memory(p.matrices * p.keys * p.value * size)
    made = [_like(query, p.depth), _like(key, p.depth), _like(value, p.value)]
    work.call(backward(p.dtype, lanes, p.vectors, p.depth_vectors, p.value_vectors, kind, causal),
              (q, k, v, key_rows, sent, 0 if mask is None else inp(3), inp(5), sums, of_query, of_key, of_value, p.rows,
               p.keys, p.depth, depth, p.value, wide, p.padded, p.panels, room, elements, p.heads, *strides,
               *_elements(made[1]), *_elements(made[2])), p.matrices)
    if needs[0]:  # without the padding, times the scale
        unpadded = (of_query, out(0), p.rows, p.depth, p.padded, depth, bits(scale), p.heads, *_elements(made[0]))
        work.call(unpad(p.dtype, lanes), unpadded, p.matrices * p.rows, max(1, 16384 // depth))
    return work.plan([_spec(x) if need else None for x, need in zip(made, needs, strict=False)] + [None])


@range_kernel
def unpad(dtype, lanes):
    """Copy padded rows, times a factor, to rows without padding. Context: x, out, rows, width, padded rows, padded
    width, factor, heads, strides of out (batch, head, row).
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            matrix = unit // w[2]
            row, batch = unit - matrix * w[2], matrix // w[7]
            x = simd.advance(simd.pointer(w[0], S), (matrix * w[4] + row) * w[5])
            place = batch * w[8] + (matrix - batch * w[7]) * w[9] + row * w[10]
            target = simd.advance(simd.pointer(w[1], S), place)
            for i in range(0, w[3], lanes):
                simd.store_part(target, i, simd.load(x, i, V) * S(simd.real(w[6])), w[3] - i)

    return kernel
