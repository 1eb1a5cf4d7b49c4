"""Running reductions along one dim: sums, products, extremes with their places, log-sum-exp, linear recurrences.

The array is seen as (outer, n, inner), scanned over n. What runs is a pair of numbers with an associative ``join``, so
that a vector of neighbours is scanned in as many steps as doubling its reach takes, and joined with what came before.
Pairs are float64 whatever the array is, and rounded once. With inner = 1 a unit of work is a row, otherwise a vector of
columns, of which each lane runs by itself.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import served
from autograd_core.kernels.softmax import as_rows

GRAIN = 8192  # elements of a chunk
FILL = {"sum": (0.0, 0.0), "prod": (1.0, 0.0), "logsumexp": (-math.inf, 0.0), "linear": (1.0, 0.0)}
"""The pair that changes nothing."""
FAR = 700.0  # exp(-FAR) is nothing beside 1, and no denormal number, which processors are slow with


def _monoid(kind: str):
    """Device functions: the pair of an element, that of two runs, what is written of one; ``p, q`` come before."""
    if kind == "sum":
        return lambda x, a: (x, x), lambda p, q, u, v: (p + u, v), lambda p, q: p
    if kind == "prod":
        return lambda x, a: (x, x), lambda p, q, u, v: (p * u, v), lambda p, q: p
    if kind == "linear":  # S -> q + p S, applied to what comes before
        return lambda x, a: (a, x), lambda p, q, u, v: (p * u, v + u * q), lambda p, q: q

    def join(p, q, u, v):
        top = simd.maximum(p, u)
        apart = simd.where(p == u, 0, simd.absolute(p - u))
        lower = vmath.exp(-simd.minimum(apart, FAR))
        return top, simd.where(p < u, q * lower + v, q + v * lower)

    return lambda x, a: (x, simd.where(x == x, 1.0, x)), join, lambda p, q: p + vmath.log(q)


def _scanner(kind: str, lanes: int, reverse: bool):
    """Device function: a vector of pairs, each joined with those before it (behind it, if ``reverse``)."""
    join = simd.device(_monoid(kind)[1])
    first, second = FILL[kind]
    sign = -1 if reverse else 1

    def step(reach: int):
        by = sign * reach
        return simd.device(lambda p, q: join(simd.shift(p, first, by), simd.shift(q, second, by), p, q))

    scan = step(1)
    for level in range(1, lanes.bit_length() - 1):
        scan = _after(scan, step(1 << level))
    return scan


def _after(scan, step):
    """One device function after another."""

    def both(p, q):
        p, q = scan(p, q)
        return step(p, q)

    return simd.device(both)


def _block(kind: str, dtype, lanes: int, reverse: bool, others: str, partial: bool):
    """Device function: scan a vector of neighbours, write it, return the pair that goes on."""
    V, D, W = simd.vector(dtype, lanes), simd.scalar(np.float64), simd.vector(np.float64, lanes)
    S, N = simd.scalar(dtype), simd.vector(np.int64, lanes)
    lift, join, finish = map(simd.device, _monoid(kind))
    scan, edge, masked = _scanner(kind, lanes, reverse), 0 if reverse else lanes - 1, partial and reverse
    first, second = FILL[kind]
    onward = -1 if reverse else 1
    short = kind != "logsumexp"  # joining twice makes the chain from vector to vector shorter
    if partial:
        get = simd.device(lambda x, i, count: simd.convert(simd.load_part(x, i, count, V), D))
        put = simd.device(lambda x, i, value, count: simd.store_part(x, i, simd.convert(value, S), count))
    else:
        get = simd.device(lambda x, i, count: simd.convert(simd.load(x, i, V), D))
        put = simd.device(lambda x, i, value, count: simd.store(x, i, simd.convert(value, S)))

    def block(x, a, target, i, count, p, q):
        u, v = lift(get(x, i, count), get(a, i, count))
        if masked:
            inside = simd.iota(N) < count
            u, v = simd.where(inside, u, first), simd.where(inside, v, second)
        u, v = scan(u, v)
        r, s = join(p, q, u, v)
        if others == "":
            put(target, i, finish(r, s), count)
        elif others == "write":
            put(target, i, simd.shift(r, simd.lane(p, 0), onward), count)
        else:
            put(target, i, get(target, i, count) * simd.shift(r, simd.lane(p, 0), onward), count)
        if short:
            return join(p, q, simd.full(simd.lane(u, edge), W), simd.full(simd.lane(v, edge), W))
        return simd.full(simd.lane(r, edge), W), simd.full(simd.lane(s, edge), W)

    return simd.device(block)


@range_kernel
def scan_rows(kind, dtype, lanes, reverse, others):
    """Scan rows; a unit is a row. Context: x, coefficients (of a recurrence, else x again), out, n.

    ``others``: what comes before each element, without it, is written ("write") or multiplied on ("times").
    """
    S, W = simd.scalar(dtype), simd.vector(np.float64, lanes)
    block, rest = (_block(kind, dtype, lanes, reverse, others, partial) for partial in (False, True))
    first, second = FILL[kind]

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[3]
        whole = n // lanes * lanes
        for row in range(start, stop):
            x, a = simd.advance(simd.pointer(w[0], S), row * n), simd.advance(simd.pointer(w[1], S), row * n)
            target = simd.advance(simd.pointer(w[2], S), row * n)
            p, q = simd.full(first, W), simd.full(second, W)
            if reverse and whole < n:
                p, q = rest(x, a, target, whole, n - whole, p, q)
            for i in range(0, whole, lanes):
                p, q = block(x, a, target, whole - lanes - i if reverse else i, lanes, p, q)
            if not reverse and whole < n:
                p, q = rest(x, a, target, whole, n - whole, p, q)

    return kernel


@range_kernel
def scan_columns(kind, dtype, lanes, reverse, others):
    """As :func:`scan_rows`, down columns; a unit is (outer, vector of columns). Context: as there, inner, blocks."""
    S, V, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.vector(np.float64, lanes)
    D = simd.scalar(np.float64)
    lift, join, finish = map(simd.device, _monoid(kind))
    first, second = FILL[kind]

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner = w[3], w[4]
        for unit in range(start, stop):
            outer = unit // w[5]
            j = (unit - outer * w[5]) * lanes
            begin, count = outer * n * inner + j, inner - j
            x, a = simd.advance(simd.pointer(w[0], S), begin), simd.advance(simd.pointer(w[1], S), begin)
            target = simd.advance(simd.pointer(w[2], S), begin)
            p, q = simd.full(first, W), simd.full(second, W)
            for k in range(n):
                at = (n - 1 - k if reverse else k) * inner
                u, v = lift(simd.convert(simd.load_part(x, at, count, V), D),
                            simd.convert(simd.load_part(a, at, count, V), D))
                if others == "write":
                    simd.store_part(target, at, simd.convert(p, S), count)
                if others == "times":
                    so_far = simd.convert(simd.load_part(target, at, count, V), D)
                    simd.store_part(target, at, simd.convert(p * so_far, S), count)
                p, q = join(p, q, u, v)
                if others == "":
                    simd.store_part(target, at, simd.convert(finish(p, q), S), count)

    return kernel


@range_kernel
def extreme_rows(kind, dtype, lanes):
    """Running extremes of rows and the last places where they were reached. Context: x, values, indices, n."""
    S, V, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.vector(np.int32, lanes)
    L = simd.scalar(np.int64)
    join, worst = (simd.maximum, -math.inf) if kind == "max" else (simd.minimum, math.inf)
    best, latest = _running(join, worst, lanes), _running(simd.maximum, -1, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[3]
        for row in range(start, stop):
            x, values = simd.advance(simd.pointer(w[0], S), row * n), simd.advance(simd.pointer(w[1], S), row * n)
            indices = simd.advance(simd.words(w[2]), row * n)
            top, last = simd.full(S(worst), V), simd.full(-1, W)
            for i in range(0, n, lanes):
                v = simd.load_part(x, i, n - i, V)
                found = join(top, best(v))
                place = simd.where((v == found) | (v != v), simd.iota(W) + i, -1)
                place = simd.maximum(last, latest(place))
                simd.store_part(values, i, found, n - i)
                simd.store_part(indices, i, simd.convert(place, L), n - i)
                top, last = simd.full(simd.lane(found, lanes - 1), V), simd.full(simd.lane(place, lanes - 1), W)

    return kernel


def _running(join, fill, lanes: int):
    """Device function: each lane joined with those before it."""
    scan = simd.device(lambda v: v)
    for level in range(lanes.bit_length() - 1):
        scan = _reaching(scan, join, fill, 1 << level)
    return scan


def _reaching(scan, join, fill, reach):
    def further(v):
        v = scan(v)
        return join(simd.shift(v, fill, reach), v)

    return simd.device(further)


@range_kernel
def extreme_columns(kind, dtype, lanes):
    """As :func:`extreme_rows`, down columns; a unit is (outer, vector of columns). Context: as there, inner, blocks."""
    S, V, W = simd.scalar(dtype), simd.vector(dtype, lanes), simd.vector(np.int64, lanes)
    join, worst = (simd.maximum, -math.inf) if kind == "max" else (simd.minimum, math.inf)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner = w[3], w[4]
        for unit in range(start, stop):
            outer = unit // w[5]
            j = (unit - outer * w[5]) * lanes
            begin, count = outer * n * inner + j, inner - j
            x, values = simd.advance(simd.pointer(w[0], S), begin), simd.advance(simd.pointer(w[1], S), begin)
            indices = simd.advance(simd.words(w[2]), begin)
            top, last = simd.full(S(worst), V), simd.full(0, W)
            for k in range(n):
                v = simd.load_part(x, k * inner, count, V)
                top = join(top, v)
                last = simd.where((v == top) | (v != v), k, last)
                simd.store_part(values, k * inner, top, count)
                simd.store_part(indices, k * inner, last, count)

    return kernel


@range_kernel
def collect_rows(dtype, lanes):
    """The adjoint of :func:`extreme_rows`: each element is added to the place of its index, which never goes back.

    Context: g, indices, out, n. Vectors whose elements all go where the last one went are added up as they are.
    """
    S, V, D = simd.scalar(dtype), simd.vector(dtype, lanes), simd.scalar(np.float64)

    def kernel(context, start, stop):
        w = simd.words(context)
        n = w[3]
        for row in range(start, stop):
            g, indices = simd.advance(simd.pointer(w[0], S), row * n), simd.advance(simd.words(w[1]), row * n)
            target = simd.advance(simd.pointer(w[2], S), row * n)
            for i in range(0, n, lanes):
                simd.store_part(target, i, simd.full(S(0), V), n - i)
            together, total, last = simd.full(S(0), V), D(0), indices[0]
            for i in range(0, n, lanes):
                if i + lanes <= n and indices[i + lanes - 1] == last:
                    together += simd.load(g, i, V)
                    continue
                total += D(simd.reduce_add(together))
                together = simd.full(S(0), V)
                for k in range(i, min(i + lanes, n)):
                    if indices[k] != last:
                        target[last], total, last = S(total), D(0), indices[k]
                    total += D(g[k])
            target[last] = S(total + D(simd.reduce_add(together)))

    return kernel


@range_kernel
def collect_columns(dtype, lanes):
    """As :func:`collect_rows`, down columns; a unit is (outer, vector of columns). Context: as there, inner, blocks."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, inner = w[3], w[4]
        for unit in range(start, stop):
            outer = unit // w[5]
            j = (unit - outer * w[5]) * lanes
            begin, count = outer * n * inner + j, min(inner - j, lanes)
            g, indices = simd.advance(simd.pointer(w[0], S), begin), simd.advance(simd.words(w[1]), begin)
            target = simd.advance(simd.pointer(w[2], S), begin)
            for k in range(n):
                simd.store_part(target, k * inner, simd.full(S(0), V), count)
                for column in range(count):
                    target[indices[k * inner + column] * inner + column] += g[k * inner + column]

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


def _launch(rows, columns, x: Array, dim: int, arrays: tuple, pairs: bool = True) -> Call:
    """The call of ``rows``, or of ``columns`` where ``dim`` is not the last; each is made for a number of lanes."""
    outer, n, inner = as_rows(x.shape, dim)
    if inner == 1:
        lanes = host.lanes(np.float64 if pairs else x.dtype)
        return Call(rows(lanes), (*arrays, n), outer, max(1, GRAIN // n))
    lanes = host.lanes(x.dtype)
    blocks = -(-inner // lanes)
    return Call(columns(lanes), (*arrays, n, inner, blocks), outer * blocks, max(1, GRAIN // (n * lanes)))


def _scan(kind: str, x: Array, dim: int, arrays: tuple = (inp(0), inp(0), out(0)), reverse: bool = False,
          others: str = "") -> Call:  # fmt: skip
    """The call that scans."""
    return _launch(lambda lanes: scan_rows(kind, x.dtype, lanes, reverse, others),
                   lambda lanes: scan_columns(kind, x.dtype, lanes, reverse, others), x, dim, arrays)  # fmt: skip


def _plan(x: Array, *calls: Call) -> Plan:
    return Plan((Spec(x.shape, x.dtype),), calls)


def cumsum(x: Array, *, dim: int, dtype: np.dtype | None = None) -> Plan | None:
    """Plan running sums along ``dim`` of a C-ordered array."""
    return _plan(x, _scan("sum", x, dim)) if served(x) and dtype in (None, x.dtype) else None


def cumprod(x: Array, *, dim: int, dtype: np.dtype | None = None) -> Plan | None:
    """Plan running products along ``dim`` of a C-ordered array."""
    return _plan(x, _scan("prod", x, dim)) if served(x) and dtype in (None, x.dtype) else None


def cumsum_from_end(x: Array, *, dim: int) -> Plan | None:
    """Plan sums of each element and those behind it."""
    return _plan(x, _scan("sum", x, dim, reverse=True)) if served(x) else None


def products_of_others(x: Array, *, dim: int) -> Plan | None:
    """Plan the product of those behind each element, then times the product of those before it."""
    if not served(x):
        return None
    return _plan(x, _scan("prod", x, dim, reverse=True, others="write"), _scan("prod", x, dim, others="times"))


def logcumsumexp(x: Array, *, dim: int) -> Plan | None:
    """Plan running log-sums of exponentials along ``dim`` of a C-ordered array."""
    return _plan(x, _scan("logsumexp", x, dim)) if served(x) else None


def backward_recurrence(coefficients: Array, x: Array, *, dim: int) -> Plan | None:
    """Plan S with S_k = x_k + coefficients_k S_{k+1} along ``dim``, of C-ordered arrays of one shape."""
    if x.shape != coefficients.shape or not served(x, coefficients):
        return None
    return _plan(x, _scan("linear", x, dim, (inp(1), inp(0), out(0)), reverse=True))


def _extreme(x: Array, dim: int, kind: str) -> Plan | None:
    if not served(x) or x.shape[dim] >= 1 << 31:
        return None
    call = _launch(lambda lanes: extreme_rows(kind, x.dtype, lanes),
                   lambda lanes: extreme_columns(kind, x.dtype, lanes), x, dim, (inp(0), out(0), out(1)), False)
    return Plan((Spec(x.shape, x.dtype), Spec(x.shape, np.int64)), (call,))


def cummax(x: Array, *, dim: int) -> Plan | None:
    """Plan running maxima along ``dim`` of a C-ordered array, and the last places where they were reached."""
    return _extreme(x, dim, "max")


def cummin(x: Array, *, dim: int) -> Plan | None:
    """Plan running minima along ``dim`` of a C-ordered array, and the last places where they were reached."""
    return _extreme(x, dim, "min")


def collect(g: Array, indices: Array, *, dim: int) -> Plan | None:
    """Plan the sums of elements with one index along ``dim``; indices do not go back, nor ahead of their places."""
    if not served(g) or indices.shape != g.shape or indices.dtype != np.int64 or not is_c_ordered(indices):
        return None
    call = _launch(lambda lanes: collect_rows(g.dtype, lanes), lambda lanes: collect_columns(g.dtype, lanes),
                   g, dim, (inp(0), inp(1), out(0)), False)  # fmt: skip
    return _plan(g, call)
