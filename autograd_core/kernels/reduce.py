"""Reductions over dims, in any order in memory: sums, products, counts, extremes and their places, log-sum-exp.

The array is seen as (before, n, after), reduced over n; two separate groups of reduced dims take two rounds. Long n is
cut into segments of a fixed size, whose results are reduced in another round: the sums of a segment run in many lanes,
so rounding errors grow as slowly as with pairwise summation, and the order is always the same.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, bits, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import row_max, row_sum_exp, served

GRAIN = 16384  # elements of a chunk
ROW = 16384  # elements of a segment of a row
COLUMN = 256  # elements of a segment of a column
FEW = 8  # elements of a row that is short: vectors run across such rows
SHORT = 64  # NumPy finds places in rows shorter than this as fast
WIDE = 4  # vectors of columns of a unit


def _combine(kind: str, dtype, lanes: int):
    """(device function of what a vector of elements adds, that joins two, that joins the lanes of one, what to begin
    with). Of a "count" each element that is not 0 adds 1, of "present" each that is not NaN; products are float64, in
    which denormal numbers, which are slow, come late.
    """
    V, S, D = simd.vector(dtype, lanes), simd.scalar(dtype), simd.scalar(np.float64)
    same, add = simd.device(lambda v: v), simd.device(lambda a, b: a + b)
    if kind == "prod":
        return simd.device(lambda v: simd.convert(v, D)), simd.device(lambda a, b: a * b), simd.reduce_mul, 1.0
    if kind == "max":
        return same, simd.maximum, simd.reduce_max, -np.inf
    if kind == "min":
        return same, simd.minimum, simd.reduce_min, np.inf
    if kind == "nansum":
        return simd.device(lambda v: simd.where(v == v, v, S(0))), add, simd.reduce_add, 0.0
    if kind == "count":
        return simd.device(lambda v: simd.where(v != 0, simd.full(S(1), V), S(0))), add, simd.reduce_add, 0.0
    if kind == "present":
        return simd.device(lambda v: simd.where(v == v, simd.full(S(1), V), S(0))), add, simd.reduce_add, 0.0
    return same, add, simd.reduce_add, 0.0


def _partial_dtype(kind: str, dtype) -> np.dtype:
    """The type of the results of segments; they are so short that floats count exactly."""
    return np.dtype({"count": np.int64, "present": np.int64, "prod": np.float64}.get(kind, dtype))


def _running_dtype(kind: str, dtype) -> np.dtype:
    """The type in which the elements of a segment are joined."""
    return np.dtype(np.float64 if kind == "prod" else dtype)


def row_extreme(kind: str, dtype, lanes: int):
    """Device function: the largest (smallest) of n elements, NaN if one is; that is looked for beside the chain of
    comparisons, not in it.
    """
    V, W, S, where = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype), simd.where
    _, _, close, neutral = _combine(kind, dtype, lanes)
    better = simd.device((lambda a, b: where(b > a, b, a)) if kind == "max" else (lambda a, b: where(b < a, b, a)))

    def extreme(x, n):
        a, absent = simd.full(S(neutral), V), simd.full(S(0), V)
        b, c, d = a, a, a
        four, whole = n // (4 * lanes) * (4 * lanes), n // lanes * lanes
        for i in range(0, four, 4 * lanes):
            v, u = simd.load(x, i, V), simd.load(x, i + lanes, V)
            y, z = simd.load(x, i + 2 * lanes, V), simd.load(x, i + 3 * lanes, V)
            a, b, c, d = better(a, v), better(b, u), better(c, y), better(d, z)
            absent = where(v != v, v, where(u != u, u, where(y != y, y, where(z != z, z, absent))))
        for i in range(four, whole, lanes):
            v = simd.load(x, i, V)
            a, absent = better(a, v), where(v != v, v, absent)
        if whole < n:
            v = where(simd.iota(W) < n - whole, simd.load_part(x, whole, n - whole, V), S(neutral))
            b, absent = better(b, v), where(v != v, v, absent)
        nan = simd.reduce_add(absent)
        return where(nan == nan, close(better(better(a, b), better(c, d))), nan)

    return simd.device(extreme)


@range_kernel
def reduce_rows(kind, dtype, result, lanes):
    """Reduce contiguous segments; a unit is (row, segment). Context: x, out, n, length of a segment, segments of a row,
    divisor of a mean.
    """
    V, W, S, R = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype), simd.scalar(result)
    A, T = simd.vector(_running_dtype(kind, dtype), lanes), simd.scalar(_running_dtype(kind, dtype))
    lift, join, close, neutral = _combine(kind, dtype, lanes)
    mean, extreme = kind == "mean", kind in ("max", "min")
    best = row_extreme(kind, dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            row, first = unit, 0
            if w[4] > 1:
                row = unit // w[4]
                first = (unit - row * w[4]) * w[3]
            n = min(w[3], w[2] - first)
            x = simd.advance(simd.pointer(w[0], S), row * w[2] + first)
            if extreme:
                found = best(x, n)
            else:
                a = simd.full(T(neutral), A)
                b, c, d = a, a, a
                four, whole = n // (4 * lanes) * (4 * lanes), n // lanes * lanes
                for i in range(0, four, 4 * lanes):
                    a = join(a, lift(simd.load(x, i, V)))
                    b = join(b, lift(simd.load(x, i + lanes, V)))
                    c = join(c, lift(simd.load(x, i + 2 * lanes, V)))
                    d = join(d, lift(simd.load(x, i + 3 * lanes, V)))
                for i in range(four, whole, lanes):
                    a = join(a, lift(simd.load(x, i, V)))
                if whole < n:
                    last = lift(simd.load_part(x, whole, n - whole, V))
                    b = join(b, simd.where(simd.iota(W) < n - whole, last, T(neutral)))
                found = close(join(join(a, b), join(c, d)))
            if mean:
                found /= S(simd.real(w[5]))
            simd.pointer(w[1], R)[unit] = R(found)

    return kernel


def column_reader(dtype, lanes: int, turned: bool):
    """Device functions: where the first element of column j stands, and ``count`` elements in row k from there on.

    The array is (n, after), or the transpose of one of short rows if ``turned``.
    """
    V, W = simd.vector(dtype, lanes), simd.vector(np.int64, lanes)

    def get(x, k, i, n, after, count):
        if turned:
            return simd.gather(x, simd.minimum(simd.iota(W) + i, i + count - 1) * n + k, V)
        return simd.load_part(x, k * after + i, count, V)

    return simd.device(lambda j, n: j * n if turned else j), simd.device(get)


@range_kernel
def reduce_columns(kind, dtype, result, lanes, turned):
    """Reduce down columns; a unit is (before, segment, block of columns).

    Context: x, out, n, after, length of a segment, segments, blocks, divisor of a mean.
    """
    S, R = simd.scalar(dtype), simd.scalar(result)
    A, T = simd.vector(_running_dtype(kind, dtype), lanes), simd.scalar(_running_dtype(kind, dtype))
    lift, join, _, neutral = _combine(kind, dtype, lanes)
    begin, get = column_reader(dtype, lanes, turned)
    width, mean = WIDE * lanes, kind == "mean"
    finish = simd.device(lambda v, divisor: simd.convert(v / divisor if mean else v, R))

    def kernel(context, start, stop):
        w = simd.words(context)
        n, after, divisor = w[2], w[3], S(simd.real(w[7]))
        for unit in range(start, stop):
            rest = unit // w[6]
            j = (unit - rest * w[6]) * width
            before = rest // w[5]
            first = (rest - before * w[5]) * w[4]
            last = min(first + w[4], n)
            x = simd.advance(simd.pointer(w[0], S), before * n * after + begin(j, n))
            target = simd.advance(simd.pointer(w[1], R), rest * after + j)
            a = simd.full(T(neutral), A)
            b, c, d = a, a, a
            if j + width <= after:
                for k in range(first, last):
                    a = join(a, lift(get(x, k, 0, n, after, lanes)))
                    b = join(b, lift(get(x, k, lanes, n, after, lanes)))
                    c = join(c, lift(get(x, k, 2 * lanes, n, after, lanes)))
                    d = join(d, lift(get(x, k, 3 * lanes, n, after, lanes)))
                simd.store(target, 0, finish(a, divisor))
                simd.store(target, lanes, finish(b, divisor))
                simd.store(target, 2 * lanes, finish(c, divisor))
                simd.store(target, 3 * lanes, finish(d, divisor))
            else:
                for i in range(0, after - j, lanes):
                    count = after - j - i
                    a = simd.full(T(neutral), A)
                    for k in range(first, last):
                        a = join(a, lift(get(x, k, i, n, after, min(count, lanes))))
                    simd.store_part(target, i, finish(a, divisor), count)

    return kernel


@range_kernel
def place_rows(kind, dtype, lanes):
    """Extreme of rows and its first place, NaN before all. Context: x, values or 0, indices, n."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    extreme = row_extreme(kind, dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[3]
        for row in range(start, stop):
            x = simd.advance(simd.pointer(w[0], S), row * n)
            best, place = extreme(x, n), 0
            if best == best:
                while place < n - 4 * lanes:  # vectors that do not hold it
                    near = (simd.load(x, place, V) == best) | (simd.load(x, place + lanes, V) == best)
                    far = (simd.load(x, place + 2 * lanes, V) == best) | (simd.load(x, place + 3 * lanes, V) == best)
                    if simd.any_lane(near | far):
                        break
                    place += 4 * lanes
                while place < n - lanes and not simd.any_lane(simd.load(x, place, V) == best):
                    place += lanes
            while place < n - 1 and x[place] != best and (best == best or x[place] == x[place]):
                place += 1
            if w[1] != 0:
                simd.pointer(w[1], S)[row] = best
            simd.words(w[2])[row] = place

    return kernel


@range_kernel
def place_columns(kind, dtype, lanes, turned):
    """As :func:`place_rows`, down columns; a unit is (before, vector of columns). Context: as there, after, blocks."""
    W, S = simd.vector(np.int64, lanes), simd.scalar(dtype)
    largest, (begin, get) = kind == "max", column_reader(dtype, lanes, turned)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, after = w[3], w[4]
        for unit in range(start, stop):
            before = unit // w[5]
            j = (unit - before * w[5]) * lanes
            count = min(after - j, lanes)
            x = simd.advance(simd.pointer(w[0], S), before * n * after + begin(j, n))
            best, place = get(x, 0, 0, n, after, count), simd.full(0, W)
            for k in range(1, n):
                v = get(x, k, 0, n, after, count)
                better = v > best if largest else v < best
                better = (better | (v != v)) & (best == best)
                best, place = simd.where(better, v, best), simd.where(better, k, place)
            if w[1] != 0:
                simd.store_part(simd.pointer(w[1], S), before * after + j, best, count)
            simd.store_part(simd.words(w[2]), before * after + j, place, count)

    return kernel


@range_kernel
def log_sum_rows(dtype, lanes):
    """log(sum(exp(x))) of rows; context: x, out, n."""
    S = simd.scalar(dtype)
    largest, sum_exp = row_max(dtype, lanes), row_sum_exp(dtype, lanes, False)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[2]
        for row in range(start, stop):
            x = simd.advance(simd.pointer(w[0], S), row * n)
            top = largest(x, n)
            shift = simd.where(simd.absolute(top) == S(np.inf), S(0), top)
            simd.pointer(w[1], S)[row] = vmath.log(sum_exp(x, x, n, shift)) + shift

    return kernel


@range_kernel
def log_sum_columns(dtype, lanes, turned):
    """As :func:`log_sum_rows`, down columns; a unit is (before, vector). Context: x, out, n, after, blocks."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    begin, get = column_reader(dtype, lanes, turned)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, after = w[2], w[3]
        for unit in range(start, stop):
            before = unit // w[4]
            j = (unit - before * w[4]) * lanes
            count = min(after - j, lanes)
            x = simd.advance(simd.pointer(w[0], S), before * n * after + begin(j, n))
            top = simd.full(S(-np.inf), V)
            for k in range(n):
                v = get(x, k, 0, n, after, count)
                top = simd.where(v > top, v, top)
            shift = simd.where(simd.absolute(top) == S(np.inf), S(0), top)
            total = simd.full(S(0), V)
            for k in range(n):
                total += vmath.exp(get(x, k, 0, n, after, count) - shift)
            simd.store_part(simd.pointer(w[1], S), before * after + j, vmath.log(total) + shift, count)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


def groups_of(shape: tuple[int, ...], dims: tuple[int, ...]) -> list[tuple[int, bool]]:
    """(size, whether reduced) of groups of neighbouring dims."""
    groups: list[tuple[int, bool]] = []
    for i, size in enumerate(shape):
        if size == 1:
            continue
        if groups and groups[-1][1] == (i in dims):
            groups[-1] = (groups[-1][0] * size, groups[-1][1])
        else:
            groups.append((size, i in dims))
    return groups


def upright(view: tuple[int, int, int], lanes: int) -> tuple[int, int, int, bool]:
    """A view (before, n, after), with many short rows as columns of their transpose: whether they were is the last."""
    before, n, after = view
    return (1, n, before, True) if after == 1 and n <= FEW and before >= lanes else (before, n, after, False)


def result_shape(shape: tuple[int, ...], dims: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """The shape of what is left of ``shape``."""
    return tuple(1 if i in dims else n for i, n in enumerate(shape) if keepdim or i not in dims)


def in_any_order(planner: Callable[..., Plan | None], x: Array, dims: tuple[int, ...], keepdim: bool) -> Plan | None:
    """The plan ``planner(x, dims)``; where dims lie in memory in another order, that of the array with dims exchanged.

    The result's dims then lie in the input's order.
    """
    if is_c_ordered(x):
        return planner(x, dims)
    order = sorted(range(len(x.shape)), key=lambda i: -x.strides[i])
    laid = Array(tuple(x.shape[i] for i in order), tuple(x.strides[i] for i in order), x.dtype)
    plan = planner(laid, tuple(order.index(d) for d in dims)) if is_c_ordered(laid) else None
    if plan is None or plan.outputs[0] is None:
        return None
    shape, dtype = result_shape(x.shape, dims, keepdim), plan.outputs[0].dtype
    kept = [i for i in range(len(x.shape)) if keepdim or i not in dims]
    strides, step = [0] * len(shape), np.dtype(dtype).itemsize
    for i in reversed(order):
        if i in kept:
            strides[kept.index(i)] = step
            step *= shape[kept.index(i)]
    return replace(plan, outputs=(Spec(shape, dtype, tuple(strides)),))


def _reduce(x: Array, dim: tuple[int, ...] | None, keepdim: bool, kind: str) -> Plan | None:
    dims = tuple(range(len(x.shape))) if dim is None else dim
    return in_any_order(lambda x, dims: _reduce_ordered(x, dims, keepdim, kind), x, dims, keepdim)


def _reduce_ordered(x: Array, dims: tuple[int, ...], keepdim: bool, kind: str) -> Plan | None:
    groups = groups_of(x.shape, dims)
    known = "fdilq" if kind == "count" else "fd"
    if x.dtype.char not in known or 0 in x.shape or not any(reduced for _, reduced in groups):
        return None
    count = math.prod(n for n, reduced in groups if reduced)
    work, source, dtype, partial = Assembly(), inp(0), x.dtype, _partial_dtype(kind, x.dtype)
    result = x.dtype if kind == "prod" else partial
    while any(reduced for _, reduced in groups):
        last = max(i for i, (_, reduced) in enumerate(groups) if reduced)
        before, after = (math.prod(n for n, _ in part) for part in (groups[:last], groups[last + 1:]))
        n = groups[last][0]
        length = min(n, ROW if after == 1 else COLUMN)
        segments = -(-n // length)
        groups = [*groups[:last], *([(segments, True)] if segments > 1 else []), *groups[last + 1:]]
        done = not any(reduced for _, reduced in groups)
        target = out(0) if done else work.memory(before * segments * after * partial.itemsize)
        step = "sum" if kind == "mean" and not done else kind
        types = dtype, result if done else partial
        _add_round(work, types, step, source, target, (before, n, after), length, segments, bits(count))
        source, dtype, kind = target, partial, "sum" if kind in ("count", "present", "nansum") else kind
    return work.plan((Spec(result_shape(x.shape, dims, keepdim), result),))


def _add_round(work: Assembly, types: tuple[np.dtype, np.dtype], kind: str, source: Ref, target: Ref,
               view: tuple[int, int, int], length: int, segments: int, divisor: int) -> None:
    """The call that reduces segments of a view."""
    lanes = host.lanes(types[0])
    before, n, after, turned = upright(view, lanes)
    if after == 1:
        work.call(reduce_rows(kind, *types, lanes), (source, target, n, length, segments, divisor), before * segments,
                  max(1, GRAIN // length))
        return
    blocks = -(-after // (WIDE * lanes))
    context = (source, target, n, after, length, segments, blocks, divisor)
    work.call(reduce_columns(kind, *types, lanes, turned), context, before * segments * blocks,
              max(1, GRAIN // (length * WIDE * lanes)))


def sum(x: Array, *, dim: tuple[int, ...], keepdim: bool, dtype: np.dtype | None) -> Plan | None:
    """Plan the sum over ``dim``."""
    return _reduce(x, dim, keepdim, "sum") if dtype is None or dtype == x.dtype else None


def mean(x: Array, *, dim: tuple[int, ...], keepdim: bool, dtype: np.dtype | None) -> Plan | None:
    """Plan the mean over ``dim``."""
    return _reduce(x, dim, keepdim, "mean") if dtype is None or dtype == x.dtype else None


def nansum(x: Array, *, dim: tuple[int, ...], keepdim: bool, dtype: np.dtype | None) -> Plan | None:
    """Plan the sum over ``dim`` of what is not NaN in a C-ordered array."""
    return _reduce(x, dim, keepdim, "nansum") if dtype is None or dtype == x.dtype else None


def prod(x: Array, *, dim: int | None, keepdim: bool, dtype: np.dtype | None) -> Plan | None:
    """Plan the product over ``dim`` (None: of all)."""
    return _reduce(x, None if dim is None else (dim,), keepdim, "prod") if dtype is None or dtype == x.dtype else None


def count_nonzero(x: Array, *, dim: tuple[int, ...]) -> Plan | None:
    """Plan the number of elements other than 0 over ``dim``."""
    return _reduce(x, dim, False, "count")


def count_present(x: Array, *, dim: tuple[int, ...], keepdim: bool) -> Plan | None:
    """Plan the number of elements other than NaN over ``dim``."""
    return _reduce(x, dim, keepdim, "present")


def amax(x: Array, *, dim: tuple[int, ...] | None = None, keepdim: bool = False) -> Plan | None:
    """Plan the largest over ``dim``; NaN if one is."""
    return _reduce(x, dim, keepdim, "max")


def amin(x: Array, *, dim: tuple[int, ...] | None = None, keepdim: bool = False) -> Plan | None:
    """Plan the smallest over ``dim``; NaN if one is."""
    return _reduce(x, dim, keepdim, "min")


def logsumexp(x: Array, *, dim: tuple[int, ...], keepdim: bool) -> Plan | None:
    """Plan log(sum(exp(x))) over ``dim``, neighbours of one another."""
    return in_any_order(lambda x, dims: _log_sum(x, dims, keepdim), x, dim, keepdim)


def _log_sum(x: Array, dim: tuple[int, ...], keepdim: bool) -> Plan | None:
    groups = groups_of(x.shape, dim)
    if not served(x) or 0 in x.shape or [reduced for _, reduced in groups].count(True) != 1:
        return None
    at, lanes = [reduced for _, reduced in groups].index(True), host.lanes(x.dtype)
    sizes = math.prod(n for n, _ in groups[:at]), groups[at][0], math.prod(n for n, _ in groups[at + 1:])
    before, n, after, turned = upright(sizes, lanes)
    work, blocks = Assembly(), -(-after // lanes)
    if after == 1:
        work.call(log_sum_rows(x.dtype, lanes), (inp(0), out(0), n), before, max(1, GRAIN // n))
    else:
        work.call(log_sum_columns(x.dtype, lanes, turned), (inp(0), out(0), n, after, blocks), before * blocks,
                  max(1, GRAIN // (n * lanes)))
    return work.plan((Spec(result_shape(x.shape, dim, keepdim), x.dtype),))


def _place(x: Array, dim: int | tuple[int, ...] | None, keepdim: bool, kind: str, values: bool) -> Plan | None:
    if not served(x) or 0 in x.shape or not x.shape:
        return None
    dims = tuple(range(len(x.shape))) if dim is None else (dim,) if isinstance(dim, int) else dim
    first, last = dims[0], dims[-1] + 1
    sizes = math.prod(x.shape[:first]), math.prod(x.shape[first:last]), math.prod(x.shape[last:])
    shape, lanes = result_shape(x.shape, dims, keepdim), host.lanes(x.dtype)
    before, n, after, turned = upright(sizes, lanes)
    outputs = [Spec(shape, x.dtype)] * values + [Spec(shape, np.int64)]
    work, arrays = Assembly(), (inp(0), out(0) if values else 0, out(int(values)), n)
    if after == 1 and n < SHORT and not values:
        return None
    if after == 1:
        work.call(place_rows(kind, x.dtype, lanes), arrays, before, max(1, GRAIN // n))
    else:
        blocks = -(-after // lanes)
        work.call(place_columns(kind, x.dtype, lanes, turned), (*arrays, after, blocks), before * blocks,
                  max(1, GRAIN // (n * lanes)))
    return work.plan(outputs)


def argmax(x: Array, *, dim: int | None, keepdim: bool) -> Plan | None:
    """Plan the first place of the largest along ``dim`` (None: of all)."""
    return _place(x, dim, keepdim, "max", values=False)


def argmin(x: Array, *, dim: int | None, keepdim: bool) -> Plan | None:
    """Plan the first place of the smallest along ``dim`` (None: of all)."""
    return _place(x, dim, keepdim, "min", values=False)


def max_along(x: Array, *, dim: int, keepdim: bool) -> Plan | None:
    """Plan the largest along ``dim`` and its first place."""
    return _place(x, dim, keepdim, "max", values=True)


def min_along(x: Array, *, dim: int, keepdim: bool) -> Plan | None:
    """Plan the smallest along ``dim`` and its first place."""
    return _place(x, dim, keepdim, "min", values=True)
