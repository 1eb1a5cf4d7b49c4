"""Bags of rows of a table: their sums, means and maxima, and the gradients of the sums.

``starts[b]`` to ``starts[b + 1]`` are the indices of bag b. Sums and maxima go bag by bag; the gradient in the table is
cut by columns, so that no two threads meet and rows are added in the order of the indices.
"""
from __future__ import annotations

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import served

GRAIN = 16384  # elements of a chunk


@range_kernel
def sums(dtype, lanes, weighted):
    """Sums or means of bags; a unit is a bag.

    Context: table, indices, starts, weights of indices, out, width, index to leave out, whether the mean is wanted.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    scaled = simd.device((lambda v, weights, k: v * weights[k]) if weighted else (lambda v, weights, k: v))

    def kernel(context, start, stop):
        w = simd.words(context)
        table, weights = simd.pointer(w[0], S), simd.pointer(w[3], S)
        indices, width, left_out = simd.words(w[1]), w[5], w[6]
        many = width // (4 * lanes) * (4 * lanes)
        for bag in range(start, stop):
            first, last, count = simd.words(w[2])[bag], simd.words(w[2])[bag + 1], 0
            target = simd.advance(simd.pointer(w[4], S), bag * width)
            for k in range(first, last):
                count += 1 if indices[k] != left_out else 0
            share = S(max(count, 1)) if w[7] != 0 else S(1)
            for j in range(0, many, 4 * lanes):
                a = simd.full(S(0), V)
                b = c = d = a
                for k in range(first, last):
                    if indices[k] != left_out:
                        row = simd.advance(table, indices[k] * width + j)
                        a += scaled(simd.load(row, 0, V), weights, k)
                        b += scaled(simd.load(row, lanes, V), weights, k)
                        c += scaled(simd.load(row, 2 * lanes, V), weights, k)
                        d += scaled(simd.load(row, 3 * lanes, V), weights, k)
                simd.store(target, j, a / share)
                simd.store(target, j + lanes, b / share)
                simd.store(target, j + 2 * lanes, c / share)
                simd.store(target, j + 3 * lanes, d / share)
            for j in range(many, width, lanes):
                a = simd.full(S(0), V)
                for k in range(first, last):
                    if indices[k] != left_out:
                        a += scaled(simd.load_part(table, indices[k] * width + j, width - j, V), weights, k)
                simd.store_part(target, j, a / share, width - j)

    return kernel


@range_kernel
def maxima(dtype):
    """The largest of each column of each bag and its row, the first of equals; a unit is a bag.

    Empty bags give zeros and row -1. Context: table, indices, starts, out, rows, width, index to leave out.
    """
    S = simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        indices, width = simd.words(w[1]), w[5]
        for bag in range(start, stop):
            target = simd.advance(simd.pointer(w[3], S), bag * width)
            rows = simd.words(w[4] + 8 * bag * width)
            for j in range(width):
                target[j], rows[j] = S(0), -1
            for k in range(simd.words(w[2])[bag], simd.words(w[2])[bag + 1]):
                row = indices[k]
                if row != w[6]:
                    source = simd.advance(simd.pointer(w[0], S), row * width)
                    for j in range(width):
                        if rows[j] < 0 or source[j] > target[j]:
                            target[j], rows[j] = source[j], row

    return kernel


@range_kernel
def spread(dtype, lanes):
    """Rows of g, each times its share, added up where their indices say; a unit is a vector of columns.

    Context: g, indices, the bag and the share of each, out (zeros), number of indices, width, index to leave out.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        g, shares, target, width = simd.pointer(w[0], S), simd.pointer(w[3], S), simd.pointer(w[4], S), w[6]
        whole, last = min(stop * lanes, width // lanes * lanes), min(stop * lanes, width)
        for k in range(w[5]):
            row, bag, share = simd.words(w[1])[k], simd.words(w[2])[k], shares[k]
            if row != w[7]:
                source, place = simd.advance(g, bag * width), simd.advance(target, row * width)
                for j in range(start * lanes, whole, lanes):
                    simd.store(place, j, simd.load(place, j, V) + simd.load(source, j, V) * share)
                if whole < last:
                    sum_ = simd.load_part(place, whole, last - whole, V)
                    sum_ += simd.load_part(source, whole, last - whole, V) * share
                    simd.store_part(place, whole, sum_, last - whole)

    return kernel


@range_kernel
def dots(dtype, lanes):
    """The product of each index's row with that of g for its bag; a unit is an index. 0 for the index left out.

    Context: g, table, indices, the bag of each, out, width, index to leave out.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        width, target = w[5], simd.pointer(w[4], S)
        whole = width // lanes * lanes
        for k in range(start, stop):
            row = simd.words(w[2])[k]
            total = simd.full(S(0), V)
            if row != w[6]:
                a = simd.advance(simd.pointer(w[0], S), simd.words(w[3])[k] * width)
                b = simd.advance(simd.pointer(w[1], S), row * width)
                for j in range(0, whole, lanes):
                    total += simd.load(a, j, V) * simd.load(b, j, V)
                rest = width - whole
                total += simd.load_part(a, whole, rest, V) * simd.load_part(b, whole, rest, V)
            target[k] = simd.reduce_add(total)

    return kernel


# ------------------------------------------------------------------------------------------------------------- planning


def _whole_numbers(*arrays: Array) -> bool:
    """Whether all are C-ordered int64, and not empty."""
    return all(a.dtype == np.int64 and is_c_ordered(a) and 0 not in a.shape for a in arrays)


def _grain(table: Array, indices: Array, bags: int) -> int:
    """Bags of a chunk."""
    return max(1, GRAIN * bags // (indices.shape[0] * table.shape[1]))


def plan_sums(table: Array, indices: Array, starts: Array, weights: Array | None, *, mean: bool, padding_idx: int,
              scale_grad_by_freq: bool) -> Plan | None:  # fmt: skip
    """Plan ``ops.bag_sums``; ``scale_grad_by_freq`` concerns its gradient alone."""
    given = [table] if weights is None else [table, weights]
    if not served(*given) or 0 in table.shape or not _whole_numbers(indices, starts) or starts.shape[0] < 2:
        return None
    bags, width, dtype = starts.shape[0] - 1, table.shape[1], table.dtype
    words = (inp(0), inp(1), inp(2), 0 if weights is None else inp(3), out(0), width, padding_idx, int(mean))
    kernel = sums(dtype, host.lanes(dtype), weights is not None)
    return Plan((Spec((bags, width), dtype),), (Call(kernel, words, bags, _grain(table, indices, bags)),))


def plan_maxima(table: Array, indices: Array, starts: Array, *, padding_idx: int) -> Plan | None:
    """Plan ``ops.bag_maxima``: (values, rows)."""
    if not served(table) or 0 in table.shape or not _whole_numbers(indices, starts) or starts.shape[0] < 2:
        return None
    bags, width = starts.shape[0] - 1, table.shape[1]
    words = (inp(0), inp(1), inp(2), out(0), out(1), width, padding_idx)
    return Plan((Spec((bags, width), table.dtype), Spec((bags, width), np.dtype(np.int64))),
                (Call(maxima(table.dtype), words, bags, _grain(table, indices, bags)),))  # fmt: skip


def plan_spread(g: Array, indices: Array, bags: Array, shares: Array, *, rows: int, padding_idx: int) -> Plan | None:
    """Plan ``ops.bag_spread``: the gradient of sums in the table of so many rows."""
    if not served(g, shares) or 0 in g.shape or not _whole_numbers(indices, bags) or not rows:
        return None
    width, lanes = g.shape[1], host.lanes(g.dtype)
    vectors = -(-width // lanes)
    words = (inp(0), inp(1), inp(2), inp(3), out(0), indices.shape[0], width, padding_idx)
    call = Call(spread(g.dtype, lanes), words, vectors, max(-(-vectors // 8), 2))
    return Plan((Spec((rows, width), g.dtype),), (call,), (), (0,))


def plan_dots(g: Array, table: Array, indices: Array, bags: Array, *, padding_idx: int) -> Plan | None:
    """Plan ``ops.bag_dots``: the gradient of sums in the weights of indices."""
    if not served(g, table) or 0 in (*g.shape, *table.shape) or not _whole_numbers(indices, bags):
        return None
    words = (inp(0), inp(1), inp(2), inp(3), out(0), table.shape[1], padding_idx)
    call = Call(dots(g.dtype, host.lanes(g.dtype)), words, indices.shape[0], max(1, GRAIN // table.shape[1]))
    return Plan((Spec(indices.shape, g.dtype),), (call,))
