"""Cross-entropy of softmax with class indices, forward and backward, without storing the probabilities; and what is
left of it where log-probabilities are given (nll).

The array is seen as (outer, classes, inner), as in :mod:`~autograd_core.kernels.softmax`, whose loops it shares.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import access, column_sum_exp, row_map, row_max, row_sum_exp, served
from autograd_core.kernels.softmax import GRAIN, as_rows


def _sample(dtype, weighted: bool, smoothed: bool):
    """Device function: (loss, weight) of one sample with class y and log of its sum of exponentials.

    Its scores lie ``inner`` apart from ``x`` on. A class that does not exist gives NaNs: nothing is read there.
    """
    S = simd.scalar(dtype)

    def sample(x, y, lse, weight, classes, inner, ignored, smoothing):
        if y == ignored:
            return S(0), S(0)
        if y < 0 or y >= classes:
            return S(np.nan), S(np.nan)
        share = S(1)
        if weighted:
            share = weight[y]
        loss = (lse - x[y * inner]) * share
        if smoothed:
            even = S(0)
            for c in range(classes):
                term = lse - x[c * inner]
                even += term * weight[c] if weighted else term
            loss = loss * (S(1) - smoothing) + even * (smoothing / S(classes))
        return loss, share

    return simd.device(sample)


@range_kernel
def rows(dtype, lanes, weighted, smoothed):
    """Losses of rows, their logs of sums of exponentials, and for each chunk the sums of losses and weights (float64).

    Context: x, target, weight, losses or 0, logs, sums, classes, rows of a chunk, ignored class, smoothing.
    """
    S, D = simd.scalar(dtype), simd.scalar(np.float64)
    largest, sum_exp = row_max(dtype, lanes), row_sum_exp(dtype, lanes, False)
    sample = _sample(dtype, weighted, smoothed)

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, losses, logs = simd.pointer(w[2], S), simd.pointer(w[3], S), simd.pointer(w[4], S)
        target, n = simd.words(w[1]), w[6]
        losses_sum, shares_sum = D(0), D(0)
        for row in range(start, stop):
            x = simd.advance(simd.pointer(w[0], S), row * n)
            top = largest(x, n)
            lse = top + vmath.log(sum_exp(x, x, n, top))
            logs[row] = lse
            loss, share = sample(x, target[row], lse, weight, n, 1, w[8], S(simd.real(w[9])))
            if w[3] != 0:
                losses[row] = loss
            losses_sum += D(loss)
            shares_sum += D(share)
        sums = simd.pointer(w[5], D)
        sums[start // w[7] * 2] = losses_sum
        sums[start // w[7] * 2 + 1] = shares_sum

    return kernel


@range_kernel
def columns(dtype, lanes, weighted, smoothed, partial):
    """As :func:`rows`, of vectors of columns; a unit is (outer, vector). Context: as there, then inner and blocks."""
    S, D = simd.scalar(dtype), simd.scalar(np.float64)
    moments, put = column_sum_exp(dtype, lanes, partial, False), access(dtype, lanes, partial)[1]
    sample = _sample(dtype, weighted, smoothed)

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, losses, logs = simd.pointer(w[2], S), simd.pointer(w[3], S), simd.pointer(w[4], S)
        target, n, inner = simd.words(w[1]), w[6], w[10]
        losses_sum, shares_sum = D(0), D(0)
        for unit in range(start, stop):
            outer = unit // w[11]
            wanted = (unit - outer * w[11]) * lanes
            j = wanted if partial else min(wanted, inner - lanes)
            x = simd.advance(simd.pointer(w[0], S), outer * n * inner + j)
            top, total = moments(x, x, n, inner, inner - j)
            put(logs, outer * inner + j, top + vmath.log(total), inner - j)
            for i in range(wanted, min(wanted + lanes, inner)):
                at = outer * inner + i
                loss, share = sample(simd.advance(x, i - j), target[at], logs[at], weight, n, inner, w[8],
                                     S(simd.real(w[9])))
                if w[3] != 0:
                    losses[at] = loss
                losses_sum += D(loss)
                shares_sum += D(share)
        sums = simd.pointer(w[5], D)
        sums[start // w[7] * 2] = losses_sum
        sums[start // w[7] * 2 + 1] = shares_sum

    return kernel


@range_kernel
def finish(dtype):
    """Add up the chunks' sums in order; context: sums, chunks, loss or 0, total weight, whether to divide."""
    S, D = simd.scalar(dtype), simd.scalar(np.float64)

    def kernel(context, start, stop):
        w = simd.words(context)
        sums = simd.pointer(w[0], D)
        loss, total = D(0), D(0)
        for i in range(w[1]):
            loss += sums[2 * i]
            total += sums[2 * i + 1]
        simd.pointer(w[3], S)[0] = S(total)
        if w[2] != 0:
            simd.pointer(w[2], S)[0] = S(loss / total if w[4] != 0 else loss)

    return kernel


@range_kernel
def picked(dtype, weighted):
    """Losses of log-probabilities; a unit is a sample. Context: x, target, weight, losses or 0, sums, classes, inner,
    samples of a chunk, ignored class.
    """
    S, D = simd.scalar(dtype), simd.scalar(np.float64)
    sample = _sample(dtype, weighted, False)

    def kernel(context, start, stop):
        w = simd.words(context)
        x, weight, losses = simd.pointer(w[0], S), simd.pointer(w[2], S), simd.pointer(w[3], S)
        target, n, inner = simd.words(w[1]), w[5], w[6]
        losses_sum, shares_sum = D(0), D(0)
        for unit in range(start, stop):
            outer = unit // inner
            scores = simd.advance(x, outer * (n - 1) * inner + unit)
            loss, share = sample(scores, target[unit], S(0), weight, n, inner, w[8], S(0))
            if w[3] != 0:
                losses[unit] = loss
            losses_sum += D(loss)
            shares_sum += D(share)
        sums = simd.pointer(w[4], D)
        sums[start // w[7] * 2] = losses_sum
        sums[start // w[7] * 2 + 1] = shares_sum

    return kernel


@range_kernel
def picked_backward(dtype, weighted):
    """Gradients of log-probabilities, which are zero but at the targets. Context: g, target, weight, total weight or 0
    (sum of losses), result, classes, inner, ignored class, whether g is one number.
    """
    S = simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        g, target, weight = simd.pointer(w[0], S), simd.words(w[1]), simd.pointer(w[2], S)
        n, inner, divisor = w[5], w[6], S(1)
        if w[3] != 0:
            divisor = simd.pointer(w[3], S)[0]
        for unit in range(start, stop):
            y, outer = target[unit], unit // inner
            if y == w[7] or y < 0 or y >= n:
                continue
            share = g[0 if w[8] != 0 else unit] / divisor
            if weighted:
                share = share * weight[y]
            simd.advance(simd.pointer(w[4], S), outer * (n - 1) * inner + unit)[y * inner] = -share

    return kernel


@range_kernel
def rows_backward(dtype, lanes, weighted, smoothed):
    """Gradients of rows: probability * a - b * weight, and less the target's share at the target.

    Context: g, x, target, weight, logs, total weight or 0 (sum of losses), result, classes, ignored class, smoothing,
    whether g is one number.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    exp = vmath.exp
    write = row_map(dtype, lanes, simd.device(lambda x, c, lse, a: exp(x - lse) * a))
    shares, total_weight = _shares(dtype, weighted, smoothed), _total_weight(dtype, weighted)

    def plain(x, weight, target, n, lse, a, b):
        write(x, x, target, n, lse, a)

    def spread(x, weight, target, n, lse, a, b):
        for i in range(0, n, lanes):
            v = exp(simd.load_part(x, i, n - i, V) - lse) * a
            if weighted:
                v -= simd.load_part(weight, i, n - i, V) * b
            else:
                v -= b
            simd.store_part(target, i, v, n - i)

    fill = simd.device(spread if smoothed else plain)

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, logs, n = simd.pointer(w[3], S), simd.pointer(w[4], S), w[7]
        smoothing, whole_weight = S(simd.real(w[9])), total_weight(weight, n)
        for row in range(start, stop):
            x = simd.advance(simd.pointer(w[1], S), row * n)
            target = simd.advance(simd.pointer(w[6], S), row * n)
            y = simd.words(w[2])[row]
            g = simd.pointer(w[0], S)[0 if w[10] != 0 else row]
            if w[5] != 0:
                g = g / simd.pointer(w[5], S)[0]
            hard, a, b = shares(g, y, weight, n, w[8], smoothing, whole_weight)
            fill(x, weight, target, n, logs[row], a, b)
            if y >= 0 and y < n:
                target[y] -= hard

    return kernel


def _shares(dtype, weighted: bool, smoothed: bool):
    """Device function: (share of the target, factor of the probability, share of every class) of one sample."""
    S = simd.scalar(dtype)

    def shares(g, y, weight, classes, ignored, smoothing, whole_weight):
        if y == ignored:
            return S(0), S(0), S(0)
        hard = g
        if weighted and y >= 0 and y < classes:
            hard = g * weight[y]
        if not smoothed:
            return hard, hard, S(0)
        hard = hard * (S(1) - smoothing)
        even = g * (smoothing / S(classes))
        return hard, hard + even * whole_weight, even

    return simd.device(shares)


def _total_weight(dtype, weighted: bool):
    """Device function: the sum of the classes' weights."""
    S = simd.scalar(dtype)

    def total(weight, classes):
        if not weighted:
            return S(classes)
        found = S(0)
        for c in range(classes):
            found += weight[c]
        return found

    return simd.device(total)


@range_kernel
def columns_backward(dtype, lanes, weighted, smoothed, partial):
    """As :func:`rows_backward`, of vectors of columns. Context: as there, then inner and blocks."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    get, put = access(dtype, lanes, partial)
    shares, total_weight = _shares(dtype, weighted, smoothed), _total_weight(dtype, weighted)
    exp = vmath.exp

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, n, inner = simd.pointer(w[3], S), w[7], w[11]
        smoothing, whole_weight = S(simd.real(w[9])), total_weight(weight, n)
        divisor = S(1)
        if w[5] != 0:
            divisor = simd.pointer(w[5], S)[0]
        places = simd.iota(W)
        for unit in range(start, stop):
            outer = unit // w[12]
            j = (unit - outer * w[12]) * lanes
            if not partial:
                j = min(j, inner - lanes)
            x = simd.advance(simd.pointer(w[1], S), outer * n * inner + j)
            target = simd.advance(simd.pointer(w[6], S), outer * n * inner + j)
            classes, g = simd.advance(simd.words(w[2]), outer * inner + j), simd.pointer(w[0], S)
            hard, a, b = simd.full(S(0), V), simd.full(S(0), V), simd.full(S(0), V)
            y = simd.full(-1, W)
            for i in range(min(lanes, inner - j)):
                own = g[0 if w[10] != 0 else outer * inner + j + i] / divisor
                h, p, q = shares(own, classes[i], weight, n, w[8], smoothing, whole_weight)
                here = places == i
                hard, a, b = simd.where(here, h, hard), simd.where(here, p, a), simd.where(here, q, b)
                y = simd.where(here, classes[i], y)
            lse = get(simd.pointer(w[4], S), outer * inner + j, inner - j)
            for c in range(n):
                v = exp(get(x, c * inner, inner - j) - lse) * a
                if smoothed:
                    v -= b * weight[c] if weighted else b
                put(target, c * inner, simd.where(y == c, v - hard, v), inner - j)

    W = simd.vector(np.int64, lanes)
    return kernel


def _as_served(x: Array, target: Array, weight: Array | None) -> bool:
    return (served(x) and len(x.shape) > 1 and 0 not in x.shape and target.dtype == np.int64 and is_c_ordered(target)
            and (weight is None or served(x, weight)))


def _chunks(x: Array, lanes: int) -> tuple[int, int, int, int, int, int]:
    """(outer, classes, inner, vectors of columns or 1, units, units of a chunk)."""
    outer, n, inner = as_rows(x.shape, 1)
    blocks = 1 if inner == 1 else -(-inner // lanes)
    return outer, n, inner, blocks, outer * blocks, max(1, GRAIN // (n * (1 if inner == 1 else lanes)))


def softmax_nll(x: Array, target: Array, weight: Array | None, *, ignore_index: int, label_smoothing: float,
                reduction: str) -> Plan | None:
    """Plan the cross-entropy of C-ordered scores (N, classes, ...) with int64 classes.

    Outputs: loss (the mean, the sum, or one a sample), logs of the sums of exponentials, sum of the samples' weights.
    A class that does not exist makes the loss NaN.
    """
    if not _as_served(x, target, weight):
        return None
    lanes = host.lanes(x.dtype)
    _, n, inner, blocks, units, grain = _chunks(x, lanes)
    none = reduction == "none"
    outputs = (Spec(target.shape if none else (), x.dtype), Spec((x.shape[0], 1, *x.shape[2:]), x.dtype),
               Spec((), x.dtype))
    context: tuple[int | Ref, ...] = (inp(0), inp(1), 0 if weight is None else inp(2), out(0) if none else 0, out(1),
                                      scratch(0), n, grain, ignore_index, bits(label_smoothing), inner, blocks)
    flags = weight is not None, label_smoothing != 0
    kernel = rows(x.dtype, lanes, *flags) if inner == 1 else columns(x.dtype, lanes, *flags, inner < lanes)
    chunks = -(-units // grain)
    last = (scratch(0), chunks, 0 if none else out(0), out(2), int(reduction == "mean"))
    return Plan(outputs, (Call(kernel, context, units, grain), Call(finish(x.dtype), last, 1, 1)), (16 * chunks,))


def softmax_nll_backward(g: Array, x: Array, target: Array, weight: Array | None, lse: Array, total: Array, *,
                         ignore_index: int, label_smoothing: float, reduction: str) -> Plan | None:
    """Plan the gradient of :func:`softmax_nll` in the scores."""
    flat = math.prod(g.shape) == 1
    if not _as_served(x, target, weight) or not served(x, lse, total) or g.dtype != x.dtype:
        return None
    if not flat and not is_c_ordered(g):
        return None
    lanes = host.lanes(x.dtype)
    _, n, inner, blocks, units, grain = _chunks(x, lanes)
    context: tuple[int | Ref, ...] = (
        inp(0), inp(1), inp(2), 0 if weight is None else inp(3), inp(4), inp(5) if reduction == "mean" else 0, out(0),
        n, ignore_index, bits(label_smoothing), int(flat), inner, blocks)
    flags = weight is not None, label_smoothing != 0
    kernel = (rows_backward(x.dtype, lanes, *flags) if inner == 1
              else columns_backward(x.dtype, lanes, *flags, inner < lanes))
    return Plan((Spec(x.shape, x.dtype),), (Call(kernel, context, units, grain),))


def nll(x: Array, target: Array, weight: Array | None, *, ignore_index: int, reduction: str) -> Plan | None:
    """Plan -weight[y] * x[y] of C-ordered log-probabilities (N, classes, ...) with int64 classes; mean, sum or none.

    The second output is the sum of the samples' weights; with a class that does not exist it is NaN.
    """
    if not _as_served(x, target, weight):
        return None
    _, n, inner = as_rows(x.shape, 1)
    units, none = math.prod(target.shape), reduction == "none"
    chunks = -(-units // GRAIN)
    context = (inp(0), inp(1), 0 if weight is None else inp(2), out(0) if none else 0, scratch(0), n, inner, GRAIN,
               ignore_index)
    last = (scratch(0), chunks, 0 if none else out(0), out(1), int(reduction == "mean"))
    calls = Call(picked(x.dtype, weight is not None), context, units, GRAIN), Call(finish(x.dtype), last, 1, 1)
    return Plan((Spec(target.shape if none else (), x.dtype), Spec((), x.dtype)), calls, (16 * chunks,))


def nll_backward(g: Array, target: Array, weight: Array | None, total: Array, *, classes: int, ignore_index: int,
                 reduction: str) -> Plan | None:
    """Plan the gradient of :func:`nll` in the log-probabilities."""
    shape, flat = (target.shape[0], classes, *target.shape[1:]), math.prod(g.shape) == 1
    if 0 in shape or not served(g, total) or target.dtype != np.int64 or not is_c_ordered(target):
        return None
    if weight is not None and not served(g, weight):
        return None
    _, n, inner = as_rows(shape, 1)
    context = (inp(0), inp(1), 0 if weight is None else inp(2), inp(3) if reduction == "mean" else 0, out(0), n, inner,
               ignore_index, int(flat))
    call = Call(picked_backward(g.dtype, weight is not None), context, math.prod(target.shape), GRAIN)
    return Plan((Spec(shape, g.dtype),), (call,), zero=(0,))
