"""Pooling over windows of any number of dimensions: maxima with their indices, sums of windows, and unpooling.

Every kind of maximum names the winners by their flat index in the plane; its gradient places values there
(`place_at`), whose gradient takes values from there (`take_at`): two adjoints that serve max, adaptive, fractional
and unpooling alike.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from .. import ops
from ..registry import Kernel, network, op
from .conv import inner, output_size
from .samples import distinct, integer, real, sample

LEAST = 256
"""Elements from which kernels are used: the bodies take many small steps."""


# ---------------------------------------------------------------------------------------------------- planes


def _planes(array, size):
    """(N, C, ...) as rows of flat planes, one a sample and channel."""
    return array.reshape(prod(array.shape[: array.ndim - len(size)]), prod(size))


@op(network, namespace="internal", kernel=Kernel("pool:plan_take_at", LEAST), vjp=[
    lambda g, indices, input_shape, rank: ops.place_at(g, indices, size=input_shape[len(input_shape) - rank:])],
    samples=[sample(real(2, 3, 4), integer(2, 3, 2, high=4), rank=1)])  # fmt: skip
def take_at(input, indices, *, rank):
    """Elements of the planes (the last ``rank`` dims) of ``input`` at flat ``indices`` (N, C, ...)."""
    size = indices.shape[indices.ndim - rank :]
    found = np.take_along_axis(_planes(input, input.shape[input.ndim - rank :]), _planes(indices, size), 1)
    return found.reshape(indices.shape)


@op(network, namespace="internal", kernel=Kernel("pool:plan_place_at", LEAST),
    vjp=[lambda g, indices, size: ops.take_at(g, indices, rank=len(size))],
    samples=[sample(real(2, 3, 2), integer(2, 3, 2, high=4), size=(4,))])  # fmt: skip
def place_at(input, indices, *, size):
    """Planes of ``size`` with the elements of ``input`` added at flat ``indices``: the adjoint of `take_at`."""
    rank, plane = len(size), prod(size)
    lead = input.shape[: input.ndim - rank]
    rows = (
        indices.reshape(prod(lead), prod(indices.shape[input.ndim - rank :])) + np.arange(prod(lead))[:, None] * plane
    )
    out = np.bincount(rows.ravel(), input.ravel(), prod(lead) * plane)  # sums in double precision, then rounds once
    return out.reshape(*lead, *size).astype(input.dtype, copy=False)


# ---------------------------------------------------------------------------------------------------- windows


def pool_size(size, kernel, stride, padding, dilation, ceil_mode):
    """Output sizes; with ``ceil_mode`` a last partial window counts if it begins in the image or its left padding."""
    if not ceil_mode:
        return output_size(size, kernel, stride, padding, dilation)
    found = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        count = -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1
        found.append(count - 1 if (count - 1) * s >= n + p else count)
    return tuple(found)


def _overhang(size, out, kernel, stride, padding, dilation):
    """How far the windows reach past the image on the right of each dim (at least the padding)."""
    every = zip(size, out, kernel, stride, padding, dilation, strict=True)
    return [max((o - 1) * s + d * (k - 1) + 1 - p - n, p) for n, o, k, s, p, d in every]


def _framed(input, out, kernel, stride, padding, dilation, value):
    """``input`` padded with ``value`` so that all windows lie inside."""
    size = input.shape[2:]
    over = _overhang(size, out, kernel, stride, padding, dilation)
    if not any(padding) and not any(over):
        return input
    total = tuple([n + p + e for n, p, e in zip(size, padding, over, strict=True)])
    framed = np.full(input.shape[:2] + total, value, input.dtype)
    framed[inner(size, padding)] = input
    return framed


def _seen(framed, offset, out, stride, dilation):
    """The element at ``offset`` of every window, as a view (N, C, *out)."""
    every = zip(offset, out, stride, dilation, strict=True)
    return framed[(..., *[slice(k * d, k * d + (n - 1) * s + 1, s) for k, n, s, d in every])]


SQUARE = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 1)}


def _as_slice(at):
    """Evenly spaced positions as a slice, which NumPy serves many times faster than an index array."""
    step = int(at[1] - at[0]) if len(at) > 1 else 1
    if len(at) == 0 or step < 1 or (len(at) > 2 and np.any(np.diff(at) != step)):
        return at
    return slice(int(at[0]), int(at[-1]) + 1, step)


def _winners_along(best, flat, dim, starts, lengths, dilation, inner_size):
    """Reduce one dim to its windows' largest elements; ``flat`` follows with their indices in the plane."""
    n = best.shape[dim]
    lead = (slice(None),) * dim
    first = np.where(starts < 0, starts % dilation, starts)  # padding never wins: begin inside the image
    out = best[(*lead, first)]
    where = first.reshape(-1, *[1] * (best.ndim - dim - 1)) * inner_size
    winner = where + (0 if flat is None else flat[(*lead, first)])
    winner = np.broadcast_to(winner, out.shape).copy()
    for offset in range(int(lengths.max(initial=0))):
        at = starts + offset * dilation
        to = np.flatnonzero((at >= 0) & (at < n) & (offset < lengths))
        if len(to) == 0:
            continue
        source, target = (*lead, _as_slice(at[to])), (*lead, _as_slice(to))
        value, held = best[source], out[target]
        wins = value > held
        if value.dtype.kind == "f":
            wins |= np.isnan(value)
        index = at[to].reshape(-1, *[1] * (best.ndim - dim - 1)) * inner_size
        index = index if flat is None else index + flat[source]
        place, named = (held, winner[target]) if isinstance(target[-1], slice) else (held, winner[target].copy())
        np.copyto(place, value, where=wins)
        np.copyto(named, index, where=wins)
        if not isinstance(target[-1], slice):
            out[target], winner[target] = place, named
    return out, winner


def _winners(input, starts, lengths, dilation):
    """The largest element of each window and its flat index, one dim after the other, the last first.

    Windows are boxes, so their maximum is the maximum along the other dims of the maxima along the last. The first of
    equals wins, in the order of memory; the last NaN wins over all.
    """
    best, flat, inner_size = input, None, 1
    for d in reversed(range(len(starts))):
        best, flat = _winners_along(best, flat, d + 2, starts[d], lengths[d], dilation[d], inner_size)
        inner_size *= input.shape[d + 2]
    return best, flat


@op(
    network,
    namespace="internal",
    outputs="out indices",
    kernel=Kernel("pool:plan_max_pool", LEAST),
    onnx="MaxPool",
    vjp=lambda gs, indices, input_shape: (ops.place_at(gs[0], indices, size=input_shape[2:]),),
    samples=[
        sample(distinct(2, 2, 5, 4), **SQUARE, dilation=(1, 1), ceil_mode=False),
        sample(distinct(2, 2, 6), kernel_size=(2,), stride=(3,), padding=(0,), dilation=(2,), ceil_mode=True),
    ],
)
def max_pool(input, *, kernel_size, stride, padding, dilation, ceil_mode):
    """The largest element of each window of (N, C, ...), and its flat index in its plane.

    The first of equals wins; NaN is above all.
    """
    out = pool_size(input.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    starts = [np.arange(o) * s - p for o, s, p in zip(out, stride, padding, strict=True)]
    found = None
    if prod(kernel_size) <= SMALL:
        found = _small_winners(input, starts, kernel_size, stride, padding, dilation, out)
    return found or _winners(input, starts, [np.full(o, k) for o, k in zip(out, kernel_size, strict=True)], dilation)


@op(
    network,
    namespace="internal",
    kernel=Kernel("pool:plan_largest", LEAST),
    vjp=[
        lambda g, input, kernel_size, stride, padding, dilation, ceil_mode: ops.place_at(
            g,
            ops.max_pool(
                input, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )[1],
            size=tuple(input.shape[2:]),
        )
    ],
    samples=[sample(distinct(2, 2, 5, 4), **SQUARE, dilation=(1, 1), ceil_mode=False)],
)
def largest_of_windows(input, *, kernel_size, stride, padding, dilation, ceil_mode):
    """The values of `max_pool` alone: where no gradient is wanted, nobody asks which elements they are."""
    out = pool_size(input.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    lowest = -np.inf if input.dtype.kind == "f" else np.iinfo(input.dtype).min
    framed = _framed(input, out, kernel_size, stride, padding, dilation, lowest)
    seen = [_seen(framed, offset, out, stride, dilation) for offset in product(*map(range, kernel_size))]
    best = seen[0].copy()
    for value in seen[1:]:
        np.maximum(best, value, out=best)
    return best


SMALL = 32
"""Elements of a window up to which its maximum is found by comparing each with the largest."""


def _small_winners(input, starts, kernel, stride, padding, dilation, out):
    """As `_winners` for small windows of ordinary numbers; None where a window holds nothing finite, or a NaN."""
    lowest = -np.inf if input.dtype.kind == "f" else np.iinfo(input.dtype).min
    framed = _framed(input, out, kernel, stride, padding, dilation, lowest)
    seen = [_seen(framed, offset, out, stride, dilation) for offset in product(*map(range, kernel))]
    best = seen[0].copy()
    for value in seen[1:]:
        np.maximum(best, value, out=best)
    if not (np.isfinite(best) if input.dtype.kind == "f" else best > lowest).all():
        return None
    code = np.full(best.shape, SMALL, np.int8)  # which element of the window it is: the first of equals
    for number, value in enumerate(seen):
        np.minimum(code, (value != best).view(np.int8) * np.int8(SMALL) + np.int8(number), out=code)
    size = input.shape[2:]
    steps = [_flat([np.array([k * d]) for k, d in zip(offset, dilation, strict=True)], size).item()
             for offset in product(*map(range, kernel))]  # fmt: skip
    return best, np.array(steps).take(code) + _flat(starts, size)


def _flat(rows, size):
    """Flat indices in a plane of ``size`` from one vector of positions for each dim."""
    flat = np.zeros((), np.int64)
    for d, (positions, n) in enumerate(zip(rows, size, strict=True)):
        flat = flat * n + positions.reshape(-1, *[1] * (len(size) - 1 - d))
    return flat


def _adaptive_windows(size, output_size):
    """Starts and lengths of windows that share ``size`` elements out: from floor(i n / o) up to ceil((i + 1) n / o)."""
    every = [(n, o, np.arange(o)) for n, o in zip(size, output_size, strict=True)]
    starts = [i * n // o for n, o, i in every]
    return starts, [-(-(i + 1) * n // o) - s for (n, o, i), s in zip(every, starts, strict=True)]


@op(
    network,
    namespace="internal",
    outputs="out indices",
    kernel=Kernel("adaptive_pool:adaptive_max_pool", LEAST),
    vjp=lambda gs, indices, input_shape: (ops.place_at(gs[0], indices, size=input_shape[2:]),),
    samples=[sample(distinct(2, 2, 5, 4), output_size=(3, 2)), sample(distinct(1, 2, 4), output_size=(1,))],
)
def adaptive_max_pool(input, *, output_size):
    """The largest element of each of ``output_size`` windows that share the plane out, and its flat index."""
    starts, lengths = _adaptive_windows(input.shape[2:], output_size)
    return _winners(input, starts, lengths, (1,) * len(output_size))


@op(
    network,
    namespace="internal",
    outputs="out indices",
    kernel=Kernel("adaptive_pool:fractional_max_pool", LEAST),
    vjp=lambda gs, indices, input_shape: (ops.place_at(gs[0], indices, size=input_shape[2:]),),
    samples=[sample(distinct(1, 2, 5, 5), np.full((1, 2, 2), 0.4), kernel_size=(2, 2), output_size=(3, 3))],
)
def fractional_max_pool(input, samples, *, kernel_size, output_size):
    """The largest elements of windows at pseudo-random steps, by ``samples`` (N, C, rank), and their flat indices."""
    size = input.shape[2:]
    rows = _planes(input, size)
    draws = samples.reshape(len(rows), len(size)).astype(np.float64)
    starts = [_fractional_starts(draws[:, d], n, o, k)
              for d, n, o, k in zip(range(len(size)), size, output_size, kernel_size, strict=True)]  # fmt: skip
    best = winner = None
    for offset in product(*map(range, kernel_size)):
        flat = np.zeros((len(rows), *[1] * len(size)), np.int64)
        for d, (start, k) in enumerate(zip(starts, offset, strict=True)):
            flat = flat * size[d] + (start + k).reshape(len(rows), *[1] * d, output_size[d], *[1] * (len(size) - 1 - d))
        flat = flat.reshape(len(rows), prod(output_size))
        value = np.take_along_axis(rows, flat, 1)
        wins = np.isnan(value) if best is None else (value > best) | np.isnan(value)
        best = value if best is None else np.where(wins, value, best)
        winner = flat if winner is None else np.where(wins, flat, winner)
    shape = input.shape[:2] + output_size
    return best.reshape(shape), winner.reshape(shape)


def _fractional_starts(draws, size, out, kernel):
    """Window starts (rows, out) of Graham's pseudo-random sequence: floor((i + u) a) - floor(u a), then the end."""
    alpha = (size - kernel) / (out - 1) if out > 1 else 0.0
    steps = np.arange(out)
    starts = ((steps + draws[:, None]) * alpha).astype(np.int64) - (draws[:, None] * alpha).astype(np.int64)
    starts[:, -1] = size - kernel
    return starts


def _are_inside(indices, size):
    """Whether flat indices lie in a plane of ``size``; negative ones are large, too, when their signs are ignored."""
    return not indices.size or bool(np.maximum.reduce(indices.view(np.uint64), None) < prod(size))


@op(
    network,
    namespace="internal",
    kernel=Kernel(
        "pool:plan_unpool",
        LEAST,
        when=lambda input, indices, size: _are_inside(indices, size),
        indices=lambda input, indices, size: (1, prod(size), 0),
    ),
    vjp=[lambda g, indices, size: ops.take_at(g, indices, rank=len(size))],
    samples=[sample(real(1, 2, 2), np.array([[[0, 3], [1, 2]]]), size=(4,))],
)
def unpool(input, indices, *, size):
    """Planes of ``size``, zero but for the elements of ``input`` at flat ``indices``.

    The last of several at one place stays.
    """
    lead, plane = input.shape[: input.ndim - len(size)], prod(size)
    if not _are_inside(indices, size):
        raise IndexError(f"indices must lie in a plane of size {list(size)}, got {indices.min()} to {indices.max()}")
    rows, count = prod(lead), prod(input.shape[len(lead) :])
    out = np.zeros(rows * plane, input.dtype)
    out[indices.reshape(rows, count) + np.arange(0, rows * plane, plane).reshape(rows, 1)] = input.reshape(rows, count)
    return out.reshape(*lead, *size)


@op(
    network,
    namespace="internal",
    kernel=Kernel("pool:plan_window_sum", LEAST),
    vjp=[
        lambda g, input_shape, kernel_size, stride, padding, ceil_mode: ops.window_spread(
            g, size=input_shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode
        )
    ],
    samples=[sample(real(2, 2, 5, 4), **SQUARE, ceil_mode=True)],
)
def window_sum(input, *, kernel_size, stride, padding, ceil_mode):
    """The sum of each window of (N, C, ...)."""
    ones = (1,) * len(kernel_size)
    out = pool_size(input.shape[2:], kernel_size, stride, padding, ones, ceil_mode)
    framed = _framed(input, out, kernel_size, stride, padding, ones, 0)
    total = np.zeros(input.shape[:2] + out, np.float32 if input.dtype == np.float16 else input.dtype)
    for offset in product(*map(range, kernel_size)):
        total += _seen(framed, offset, out, stride, ones)
    return total.astype(input.dtype, copy=False)


@op(network, namespace="internal", kernel=Kernel("pool:plan_window_spread", LEAST),
    vjp=[lambda g, kernel_size, stride, padding, ceil_mode: ops.window_sum(
    g, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)],
    samples=[sample(real(2, 2, 3, 4), size=(5, 4), **SQUARE, ceil_mode=True)])  # fmt: skip
def window_spread(input, *, size, kernel_size, stride, padding, ceil_mode):
    """Each element added to all places of its window in a plane of ``size``: the adjoint of `window_sum`."""
    ones = (1,) * len(kernel_size)
    out = input.shape[2:]
    over = _overhang(size, out, kernel_size, stride, padding, ones)
    total = np.zeros(
        input.shape[:2] + tuple([n + p + e for n, p, e in zip(size, padding, over, strict=True)]), input.dtype
    )
    for offset in product(*map(range, kernel_size)):
        _seen(total, offset, out, stride, ones)[...] += input
    return total[inner(size, padding)]
