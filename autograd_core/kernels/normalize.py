"""Normalisation by moments, forward and backward: batch, layer, group, instance and root-mean-square norm.

The array is seen in one of three ways. *Rows* (layer and group norm): what is normalised together is contiguous.
*Channels* (batch norm of images): it is one run of ``inner`` elements a sample. *Columns* (batch norm of vectors): one
element a sample; then every call streams over blocks of rows, whose partial sums a second call combines.

Mean and variance come from blocks that fit the first-level cache, twice looked at (mean, then squares around it), and
are combined as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
1979: one visit of the memory, no cancellation.
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.normalize_channels import channels, channels_backward, channels_scaled
from autograd_core.kernels.normalize_columns import (
    add_parts,
    column_moments,
    column_parts,
    column_products,
    columns,
    columns_backward,
)
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import (
    BLOCK,
    is_flat,
    moments_of,
    product_loop,
    reader,
    served,
    write_gradient,
    write_normal,
)

GRAIN = 16384  # elements of a chunk
PARTS = 64  # partial sums of the gradients of weights at most
MOMENTS = 1024  # blocks of columns of which the moments are taken at most


# ---------------------------------------------------------------------------------------------------------- rows


@range_kernel
def rows(dtype, lanes, centred, mode, shifted):
    """Rows normalised. Context: x, weight or 0, bias or 0, out, mean, variance, mean again, rstd, n, eps, period of the
    parameters, runs of a row, length of a run.

    ``mode``: "each" element of a row has its parameters, or each of its "runs". ``shifted``: there is a bias.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    moments, write, each = moments_of(dtype, lanes, centred), write_normal(dtype, lanes), mode == "each"

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, bias, n, runs, length = simd.pointer(w[1], S), simd.pointer(w[2], S), w[8], w[11], w[12]
        for row in range(start, stop):
            x = simd.advance(simd.pointer(w[0], S), row * n)
            target = simd.advance(simd.pointer(w[3], S), row * n)
            mean, variance = moments(x, 1, n, 0)
            rstd = S(1) / simd.sqrt(variance + S(simd.real(w[9])))
            if centred:
                simd.pointer(w[4], S)[row] = mean
                simd.pointer(w[6], S)[row] = mean
            simd.pointer(w[5], S)[row] = variance
            simd.pointer(w[7], S)[row] = rstd
            if each:
                for i in range(0, n // lanes * lanes, lanes):
                    v = (simd.load(x, i, V) - mean) * rstd * simd.load(weight, i, V)
                    if shifted:
                        v += simd.load(bias, i, V)
                    simd.store(target, i, v)
                i = n // lanes * lanes
                v = (simd.load_part(x, i, n - i, V) - mean) * rstd * simd.load_part(weight, i, n - i, V)
                if shifted:
                    v += simd.load_part(bias, i, n - i, V)
                simd.store_part(target, i, v, n - i)
            else:
                first = row % w[10] * runs
                for run in range(runs):
                    scale, shift = rstd, S(0)
                    if w[1] != 0:
                        scale = rstd * weight[first + run]
                    if shifted:
                        shift = bias[first + run]
                    at = run * length
                    write(simd.advance(x, at), simd.advance(target, at), length, mean, scale, shift)

    return kernel


@range_kernel
def rows_backward_each(dtype, lanes, centred, flat, wants):
    """Gradients of rows whose elements have a weight each. Context: g, x, weight, mean or 0, rstd, dx or 0, sums of a
    chunk [2][n], n, rows of a chunk.

    ``wants``: whether the chunk's sums over rows of g * normal and of g are wanted.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    get = reader(dtype, lanes, flat)[1]
    full = reader(dtype, lanes, flat)[0]
    W = simd.vector(np.int64, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, n = simd.pointer(w[2], S), w[7]
        products = simd.advance(simd.pointer(w[6], S), start // w[8] * 2 * n)
        sums = simd.advance(products, n)
        whole = n // lanes * lanes
        if wants:
            for i in range(2 * n):
                products[i] = S(0)
        for row in range(start, stop):
            g = simd.advance(simd.pointer(w[0], S), 0 if flat else row * n)
            x = simd.advance(simd.pointer(w[1], S), row * n)
            mean, rstd = S(0), simd.pointer(w[4], S)[row]
            if centred:
                mean = simd.pointer(w[3], S)[row]
            a, b = simd.full(S(0), V), simd.full(S(0), V)
            for i in range(0, whole, lanes):
                v = full(g, i)
                normal = (simd.load(x, i, V) - mean) * rstd
                along = v * normal
                if wants:
                    simd.store(products, i, simd.load(products, i, V) + along)
                    simd.store(sums, i, simd.load(sums, i, V) + v)
                scale = simd.load(weight, i, V)
                a, b = a + v * scale, b + along * scale
            if whole < n:
                i, left = whole, n - whole
                v = simd.where(simd.iota(W) < left, get(g, i, left), 0)
                along = v * ((simd.load_part(x, i, left, V) - mean) * rstd)
                if wants:
                    simd.store_part(products, i, simd.load_part(products, i, left, V) + along, left)
                    simd.store_part(sums, i, simd.load_part(sums, i, left, V) + v, left)
                scale = simd.load_part(weight, i, left, V)
                a, b = a + v * scale, b + along * scale
            if w[5] != 0:
                target = simd.advance(simd.pointer(w[5], S), row * n)
                shift, slope = S(0), rstd * (rstd * (simd.reduce_add(b) / S(n)))
                if centred:
                    shift = rstd * (simd.reduce_add(a) / S(n))
                for i in range(0, whole, lanes):
                    sent = full(g, i) * simd.load(weight, i, V) * rstd
                    simd.store(target, i, sent - (simd.load(x, i, V) - mean) * slope - shift)
                if whole < n:
                    i, left = whole, n - whole
                    sent = get(g, i, left) * simd.load_part(weight, i, left, V) * rstd
                    simd.store_part(target, i, sent - (simd.load_part(x, i, left, V) - mean) * slope - shift, left)

    return kernel


@range_kernel
def rows_backward_runs(dtype, lanes, centred, flat):
    """Gradients of rows whose runs have a weight each. Context: g, x, weight or 0, mean or 0, rstd, dx or 0, sums of
    every run (g * normal, g), n, period of the weights, runs of a row, length of a run.
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    add_products, write = product_loop(dtype, lanes, flat), write_gradient(dtype, lanes, flat)

    def kernel(context, start, stop):
        w = simd.words(context)
        weight, n, runs, length = simd.pointer(w[2], S), w[7], w[9], w[10]
        for row in range(start, stop):
            mean, rstd = S(0), simd.pointer(w[4], S)[row]
            if centred:
                mean = simd.pointer(w[3], S)[row]
            found = simd.advance(simd.pointer(w[6], S), row * runs * 2)
            first, total, along = row % w[8] * runs, S(0), S(0)
            for run in range(runs):
                at = row * n + run * length
                g = simd.advance(simd.pointer(w[0], S), 0 if flat else at)
                nothing = simd.full(S(0), V)
                a, b = add_products(nothing, nothing, g, simd.advance(simd.pointer(w[1], S), at), length, mean)
                scale = S(1)
                if w[2] != 0:
                    scale = weight[first + run]
                found[2 * run], found[2 * run + 1] = simd.reduce_add(b) * rstd, simd.reduce_add(a)
                along += found[2 * run] * scale
                total += found[2 * run + 1] * scale
            if w[5] != 0:
                slope, shift = rstd * (rstd * (along / S(n))), S(0)
                if centred:
                    shift = rstd * (total / S(n))
                for run in range(runs):
                    at, scale = row * n + run * length, rstd
                    if w[2] != 0:
                        scale = rstd * weight[first + run]
                    g = simd.advance(simd.pointer(w[0], S), 0 if flat else at)
                    write(g, simd.advance(simd.pointer(w[1], S), at), simd.advance(simd.pointer(w[5], S), at), length,
                          mean, scale, slope, shift)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


class View(NamedTuple):
    """How the array is seen: (outer, kept, inner), of which outer and inner are normalised over.

    ``period``, ``runs``, ``length``: row r's run k (of ``runs``, each of ``length`` elements) has the parameter
    (r % period) * runs + k.
    """

    outer: int
    kept: int
    inner: int
    period: int
    runs: int
    length: int


def _view(shape: tuple[int, ...], dims: tuple[int, ...], parameters: tuple[int, ...] | None) -> View | None:
    """The view of a shape; None where kept and reduced dims alternate otherwise, or parameters do not fit."""
    live = [i for i, size in enumerate(shape) if size != 1]
    kinds = [i in dims for i in live]
    if not any(kinds):
        return None
    kept = [i for i in live if i not in dims]
    if kept and kept != [i for i in live if kept[0] <= i <= kept[-1]]:
        return None
    before = [i for i in live if kept and i < kept[0]]
    after = [i for i in live if i in dims and i not in before]
    outer, count, inner = (math.prod(shape[i] for i in group) for group in (before, kept, after))
    view = View(outer, count, inner, 1, 1, inner)
    if parameters is None:
        return view
    sizes = (1,) * (len(shape) - len(parameters)) + parameters
    if len(parameters) > len(shape) or any(sizes[i] not in (1, shape[i]) for i in range(len(shape))):
        return None
    full = [i for i in live if sizes[i] == shape[i]]
    if outer > 1:  # batch norm: one parameter a channel
        return view if full == kept else None
    order = kept + after
    if full != [i for i in order if full and full[0] <= i <= full[-1]]:
        return None
    if full and full[0] in after and full[0] != after[0]:
        return None
    if full and full[-1] in kept and full[-1] != kept[-1]:
        return None
    period = math.prod(shape[i] for i in full if i in kept)
    runs = math.prod(shape[i] for i in full if i in after)
    return View(1, count, inner, period, runs, inner // runs)


def _seen(x: Array, shape: tuple[int, ...]) -> Array:
    """A C-ordered array, or one number repeated, in another shape."""
    steps = [x.dtype.itemsize * math.prod(shape[d + 1 :]) for d in range(len(shape))]
    return Array(shape, (0,) * len(shape) if is_flat(x) else tuple(steps), x.dtype)


def standardize(x: Array, weight: Array | None, bias: Array | None, added: Array | None = None, *,
                dims: tuple[int, ...], eps: float, centred: bool, seen: tuple | None = None,
                relu: bool = False) -> Plan | None:
    """Plan (x - mean) / sqrt(variance + eps) * weight + bias, the moments over ``dims``, of C-ordered arrays.

    Outputs: the result, mean, variance, the mean again, 1 / sqrt(variance + eps); means are None unless ``centred``.
    ``seen``: the shapes in which x, and weight and bias, are looked at. Batch norm may add another array to its result
    (``added``), and limit that to 0 and above (``relu``).
    """
    given = [p for p in (weight, bias) if p is not None]
    if not served(x, *given) or 0 in x.shape or len({p.shape for p in given}) > 1:
        return None
    if seen is not None:
        found = standardize(_seen(x, seen[0]), *[p and _seen(p, seen[1]) for p in (weight, bias)], dims=dims, eps=eps,
                            centred=centred)
        return found and replace(found, outputs=(Spec(x.shape, x.dtype), *found.outputs[1:]))
    if added is not None and (not served(x, added) or added.shape != x.shape):
        return None
    view = _view(x.shape, dims, given[0].shape if given else None)
    if view is None:
        return None
    lanes = host.lanes(x.dtype)
    kept = Spec(tuple(1 if i in dims else n for i, n in enumerate(x.shape)), x.dtype)
    mean = kept if centred else None
    outputs = (Spec(x.shape, x.dtype), mean, kept, mean, kept)
    w, b = 0 if weight is None else inp(1), 0 if bias is None else inp(2)
    arrays: tuple[int | Ref, ...] = (inp(0), w, b, out(0), out(1), out(2), out(3), out(4))
    other = 0 if added is None else inp(3)
    if view.outer > 1 and view.inner > 1:
        context = (*arrays, view.outer, view.kept, view.inner, bits(eps), other)
        return Plan(outputs, (Call(channels(x.dtype, lanes, centred, added is not None, relu), context, view.kept,
                                   max(1, GRAIN // (view.outer * view.inner))),))
    if view.outer > 1:
        return Plan(outputs, *_columns(x, lanes, view, (*arrays, other), eps, centred, relu))
    if added is not None or relu:
        return None
    each = view.length == 1 and view.runs > 1 and view.period == 1 and weight is not None
    kernel = rows(x.dtype, lanes, centred, "each" if each else "runs", bias is not None)
    context = (*arrays, view.inner, bits(eps), view.period, view.runs, view.length)
    return Plan(outputs, (Call(kernel, context, view.kept, max(1, GRAIN // view.inner)),))


def _columns(x: Array, lanes: int, view: View, arrays: tuple[int | Ref, ...], eps: float,
             centred: bool, relu: bool) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """Calls and scratch memory of the forward of columns."""
    n, samples, partial, added = view.kept, view.outer, view.kept < lanes, arrays[-1]
    block = max(-(-samples // MOMENTS), BLOCK // n, 8)  # looked at twice: it stays in the first-level cache
    blocks, grain = -(-samples // block), max(1, GRAIN // (block * n))
    calls = (
        Call(column_parts(x.dtype, lanes, centred, partial), (inp(0), scratch(0), n, block, samples), blocks, grain),
        Call(column_moments(x.dtype, lanes, centred),
             (scratch(0), out(1), out(2), out(3), out(4), n, blocks, block, samples, bits(eps)), -(-n // lanes), 64),
        Call(columns(x.dtype, lanes, centred, partial, added != 0, relu), (*arrays[:4], out(1), out(4), n, added),
             samples, max(1, GRAIN // n)),
    )
    return calls, (blocks * 2 * n * x.dtype.itemsize,)


def by_statistics(x: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None, *,
                  eps: float) -> Plan | None:
    """Plan ``ops.by_statistics``: (x - mean) / sqrt(variance + eps) * weight + bias of the channels of (N, C, ...)."""
    given = [p for p in (mean, variance, weight, bias) if p is not None]
    inner = math.prod(x.shape[2:])
    if not served(x, *given) or 0 in x.shape or inner == 1:
        return None
    w, b = 0 if weight is None else inp(3), 0 if bias is None else inp(4)
    context = (inp(0), inp(1), inp(2), w, b, out(0), x.shape[1], inner, bits(eps))
    call = Call(channels_scaled(x.dtype, host.lanes(x.dtype)), context, x.shape[0] * x.shape[1], max(1, GRAIN // inner))
    return Plan((Spec(x.shape, x.dtype),), (call,))


def blocks_of(samples: int, n: int) -> tuple[int, int]:
    """Rows of a block and number of blocks of ``samples`` rows of n elements."""
    block = max(-(-samples // PARTS), GRAIN // n, 8)
    return block, -(-samples // block)


def standardize_backward(g: Array, x: Array, weight: Array | None, centre: Array | None, rstd: Array,
                         bias: Array | None = None, *, dims: tuple[int, ...], eps: float, centred: bool,
                         bias_shape: tuple[int, ...] | None, needs: tuple[bool, ...], seen: tuple | None = None,
                         relu: bool = False) -> Plan | None:
    """Plan the gradients of :func:`standardize` in x, weight and bias; g is C-ordered or one number, repeated.

    With ``relu`` the result was limited to 0 and above; that needs the bias, and columns.
    """
    shapes = {s for s, given in ((weight and weight.shape, weight), (bias_shape, needs[2])) if given}
    given = [p for p in (weight, centre, rstd) if p is not None]
    if seen is not None:
        if not is_c_ordered(g) and not is_flat(g):
            return None
        found = standardize_backward(
            _seen(g, seen[0]), _seen(x, seen[0]), weight and _seen(weight, seen[1]), centre, rstd, dims=dims, eps=eps,
            centred=centred, bias_shape=bias_shape and seen[1], needs=needs)
        own = x.shape, weight and weight.shape, bias_shape
        return found and replace(found, outputs=tuple([
            spec and Spec(shape or (), spec.dtype) for spec, shape in zip(found.outputs, own, strict=True)]))
    flat = is_flat(g) and g.dtype == x.dtype
    if not served(x, *given) or not (flat or served(g, x)) or 0 in x.shape or len(shapes) > 1:
        return None
    shape = next(iter(shapes)) if shapes else None
    view = _view(x.shape, dims, shape)
    if view is None or (centre is None) == centred:
        return None
    outputs = tuple(Spec(s, x.dtype) if need and s is not None else None
                    for s, need in zip((x.shape, shape, shape), needs, strict=True))  # None has the shape () here
    dx, dw, db = (0 if s is None else out(i) for i, s in enumerate(outputs))
    lanes = host.lanes(x.dtype)
    arrays: tuple[int | Ref, ...] = (inp(0), inp(1), 0 if weight is None else inp(2), inp(3) if centred else 0, inp(4))
    if relu:
        if view.outer == 1 or view.inner > 1 or (bias is not None and not served(x, bias)):
            return None
        arrays = (*arrays, 0 if bias is None else inp(5))
        return Plan(outputs, *_columns_backward(x, lanes, view, arrays, (dx, dw, db), centred, flat))
    if view.outer > 1 and view.inner > 1:
        context = (*arrays, dx, dw, db, view.outer, view.kept, view.inner)
        return Plan(outputs, (Call(channels_backward(x.dtype, lanes, centred, flat), context, view.kept,
                                   max(1, GRAIN // (view.outer * view.inner))),))
    make = _columns_backward if view.outer > 1 else _rows_backward
    return Plan(outputs, *make(x, lanes, view, arrays, (dx, dw, db), centred, flat))


def _columns_backward(x: Array, lanes: int, view: View, arrays: tuple[int | Ref, ...], found: tuple[int | Ref, ...],
                      centred: bool, flat: bool) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """Calls and scratch memory of the backward of columns; a bias behind the arrays stands for ``relu``."""
    n, samples, partial, size = view.kept, view.outer, view.kept < lanes, x.dtype.itemsize
    block, blocks = blocks_of(samples, n)
    dx, dw, db = found
    gated, bias, arrays = len(arrays) > 5, (*arrays, 0)[5], arrays[:5]
    along, total = dw or scratch(1), db or scratch(1, n * size)
    calls = [
        Call(column_products(x.dtype, lanes, centred, partial, flat, gated),
             (inp(0), inp(1), *arrays[3:], scratch(0), n, block, samples, arrays[2], bias), blocks, 1),
        Call(add_parts(x.dtype, lanes), (scratch(0), along, scratch(0, n * size), total, blocks, 2 * n, 1), n, 4096)]
    if dx:
        calls.append(Call(columns_backward(x.dtype, lanes, centred, partial, flat, gated),
                          (*arrays, along, total, dx, n, samples, bias), samples, max(1, GRAIN // n)))
    return tuple(calls), (blocks * 2 * n * size, 2 * n * size)


def _rows_backward(x: Array, lanes: int, view: View, arrays: tuple[int | Ref, ...], found: tuple[int | Ref, ...],
                   centred: bool, flat: bool) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """Calls and scratch memory of the backward of rows."""
    n, size = view.inner, x.dtype.itemsize
    dx, dw, db = found
    if view.length == 1 and view.runs > 1 and view.period == 1 and arrays[2]:
        grain = max(-(-view.kept // PARTS), GRAIN // n, 1)
        chunks, wants = -(-view.kept // grain), bool(dw or db)
        calls = [Call(rows_backward_each(x.dtype, lanes, centred, flat, wants),
                      (*arrays, dx, scratch(0), n, grain), view.kept, grain)]
        parts = (scratch(0), dw, scratch(0, n * size), db, chunks, 2 * n, 1)
        pieces = chunks * 2 * n * size if wants else 0
    else:
        calls = [Call(rows_backward_runs(x.dtype, lanes, centred, flat),
                      (*arrays, dx, scratch(0), n, view.period, view.runs, view.length), view.kept,
                      max(1, GRAIN // n))]
        repeats, every = view.kept // view.period, view.period * view.runs
        parts = (scratch(0), dw, scratch(0, size), db, repeats, 2 * every, 2)
        pieces = view.kept * view.runs * 2 * size
    if dw or db:
        calls.append(Call(add_parts(x.dtype, lanes), parts, view.period * view.runs, 4096))
    return tuple(calls), (pieces,)
