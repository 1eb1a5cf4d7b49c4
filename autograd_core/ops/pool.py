"""Pooling over windows of any number of dimensions: maxima with their indices, averages, power means, and unpooling.

Every kind of maximum names the winners by their flat index in the plane; its gradient places values there
(`place_at`), whose gradient takes values from there (`take_at`): two adjoints that serve max, adaptive, fractional
and unpooling alike.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from .. import ops
from ..registry import Kernel, composite, network, op
from ..shapes import get_default_dtype, numpy_dtype
from .conv import inner, output_size, per_dim, with_batch
from .samples import distinct, integer, real, sample
from .weighted import window_means

# ---------------------------------------------------------------------------------------------------- planes


def _planes(array, size):
    """(N, C, ...) as rows of flat planes, one a sample and channel."""
    return array.reshape(prod(array.shape[: array.ndim - len(size)]), prod(size))


@op(network, namespace="internal", vjp=[
    lambda g, indices, input_shape, rank: ops.place_at(g, indices, size=input_shape[len(input_shape) - rank:])],
    samples=[sample(real(2, 3, 4), integer(2, 3, 2, high=4), rank=1)])  # fmt: skip
def take_at(input, indices, *, rank):
    """Elements of the planes (the last ``rank`` dims) of ``input`` at flat ``indices`` (N, C, ...)."""
    size = indices.shape[indices.ndim - rank :]
    found = np.take_along_axis(_planes(input, input.shape[input.ndim - rank :]), _planes(indices, size), 1)
    return found.reshape(indices.shape)


@op(network, namespace="internal", kernel=Kernel("pool:plan_place_at", 2048),
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


def _pool_size(size, kernel, stride, padding, dilation, ceil_mode):
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
    kernel=Kernel("pool:plan_max_pool"),
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
    out = _pool_size(input.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    starts = [np.arange(o) * s - p for o, s, p in zip(out, stride, padding, strict=True)]
    found = None
    if prod(kernel_size) <= SMALL:
        found = _small_winners(input, starts, kernel_size, stride, padding, dilation, out)
    return found or _winners(input, starts, [np.full(o, k) for o, k in zip(out, kernel_size, strict=True)], dilation)


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
    kernel=Kernel("adaptive_pool:adaptive_max_pool"),
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
    kernel=Kernel("adaptive_pool:fractional_max_pool"),
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


@op(network, namespace="internal", vjp=[lambda g, indices, size: ops.take_at(g, indices, rank=len(size))],
    samples=[sample(real(1, 2, 2), np.array([[[0, 3], [1, 2]]]), size=(4,))])  # fmt: skip
def unpool(input, indices, *, size):
    """Planes of ``size``, zero but for the elements of ``input`` at flat ``indices``.

    The last of several at one place stays.
    """
    rank = len(size)
    lead = input.shape[: input.ndim - rank]
    if indices.size and not 0 <= indices.min() <= indices.max() < prod(size):
        raise IndexError(f"indices must lie in a plane of size {list(size)}, got {indices.min()} to {indices.max()}")
    out = np.zeros((prod(lead), prod(size)), input.dtype)
    np.put_along_axis(out, _planes(indices, input.shape[input.ndim - rank :]),
                      _planes(input, input.shape[input.ndim - rank :]), 1)  # fmt: skip
    return out.reshape(*lead, *size)


@op(
    network,
    namespace="internal",
    kernel=Kernel("pool:plan_window_sum"),
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
    out = _pool_size(input.shape[2:], kernel_size, stride, padding, ones, ceil_mode)
    framed = _framed(input, out, kernel_size, stride, padding, ones, 0)
    total = np.zeros(input.shape[:2] + out, np.float32 if input.dtype == np.float16 else input.dtype)
    for offset in product(*map(range, kernel_size)):
        total += _seen(framed, offset, out, stride, ones)
    return total.astype(input.dtype, copy=False)


@op(network, namespace="internal", kernel=Kernel("pool:plan_window_spread", 2048),
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


# ---------------------------------------------------------------------------------------------------- arguments


def _settings(function, input, rank, kernel_size, stride, padding, dilation=1):
    kernel = per_dim(kernel_size, rank, "kernel_size", function, 1)
    none = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    stride = kernel if none else per_dim(stride, rank, "stride", function, 1)
    padding = per_dim(padding, rank, "padding", function)
    dilation = per_dim(dilation, rank, "dilation", function, 1)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(f"{function}: padding must be at most half of kernel_size, got padding={padding}, "
                           f"kernel_size={kernel}")  # fmt: skip
    if 0 in input.shape[1:]:
        raise RuntimeError(
            f"{function}: input must have no empty dimension but the batch, got shape {list(input.shape)}"
        )
    return kernel, stride, padding, dilation


def _check_size(function, input, out):
    if min(out) < 1:
        raise RuntimeError(f"{function}: the output would have size {out}, from input of shape {list(input.shape)}")


def _max_pool(rank, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    function = f"max_pool{rank}d"
    input, alone = with_batch(input, rank, function)
    kernel, stride, padding, dilation = _settings(function, input, rank, kernel_size, stride, padding, dilation)
    _check_size(function, input, _pool_size(input.shape[2:], kernel, stride, padding, dilation, ceil_mode))
    found = ops.max_pool(input, kernel_size=kernel, stride=stride, padding=padding, dilation=dilation,
                         ceil_mode=bool(ceil_mode))  # fmt: skip
    return _pair(found, alone, return_indices)


def _pair(found, alone, return_indices):
    """The values, or the values and indices, without the batch dimension if it was added."""
    if not return_indices:
        return ops.squeeze(found[0], 0) if alone else found[0]
    return (ops.squeeze(found[0], 0), ops.squeeze(found[1], 0)) if alone else (found[0], found[1])


def _avg_pool(rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=None):
    function = f"avg_pool{rank}d"
    input, alone = with_batch(input, rank, function)
    kernel, stride, padding, ones = _settings(function, input, rank, kernel_size, stride, padding)
    size = _pool_size(input.shape[2:], kernel, stride, padding, ones, ceil_mode)
    _check_size(function, input, size)
    if divisor_override == 0:
        raise RuntimeError(f"{function}: divisor_override must not be zero")
    found = ops.window_sum(input, kernel_size=kernel, stride=stride, padding=padding, ceil_mode=bool(ceil_mode))
    divisor = divisor_override
    if divisor is None and not ceil_mode and (count_include_pad or not any(padding)):
        divisor = prod(kernel)
    kind = numpy_dtype(input.dtype)
    if divisor is None:
        divisor = _counts(input.shape[2:], kernel, stride, padding, size, count_include_pad).astype(kind)
    found = found / divisor if kind.kind == "f" else ops.div(found, divisor, rounding_mode="trunc")
    return ops.squeeze(found, 0) if alone else found


def _counts(size, kernel, stride, padding, out, count_include_pad):
    """How many elements each window holds, of the image or of the padded image."""
    counts = np.ones((), np.int64)
    for n, k, s, p, o in zip(size, kernel, stride, padding, out, strict=True):
        start = np.arange(o) * s - p
        low, high = (start, n + p) if count_include_pad else (np.maximum(start, 0), n)
        counts = counts[..., None] * (np.minimum(start + k, high) - low)
    return counts


def _output_size(function, input, rank, output_size):
    """``output_size`` of an adaptive pool as a tuple; None keeps the input's size."""
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,)
    given = given * rank if len(given) == 1 else given
    if len(given) != rank or any(o is not None and o < 0 for o in given):
        raise RuntimeError(f"{function}: output_size must be {rank} non-negative ints or None, got {output_size!r}")
    if 0 in input.shape[input.ndim - rank - 1 :]:
        raise RuntimeError(
            f"{function}: input must have no empty dimension but the batch, got shape {list(input.shape)}"
        )
    return tuple([n if o is None else int(o) for n, o in zip(input.shape[input.ndim - rank :], given, strict=True)])


def _adaptive_max(rank, input, output_size, return_indices):
    function = f"adaptive_max_pool{rank}d"
    input, alone = with_batch(input, rank, function)
    size = _output_size(function, input, rank, output_size)
    plane = tuple(input.shape[2:])
    if all(o and n % o == 0 for n, o in zip(plane, size, strict=True)):
        each = tuple([n // o for n, o in zip(plane, size, strict=True)])
        none = (0,) * rank
        found = ops.max_pool(input, kernel_size=each, stride=each, padding=none, dilation=(1,) * rank, ceil_mode=False)
        return _pair(found, alone, return_indices)
    return _pair(ops.adaptive_max_pool(input, output_size=size), alone, return_indices)


def _adaptive_avg(rank, input, output_size):
    function = f"adaptive_avg_pool{rank}d"
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{function}: input must have {rank + 1} or {rank + 2} dims, got shape {list(input.shape)}")
    out = _output_size(function, input, rank, output_size)
    if numpy_dtype(input.dtype).kind != "f":
        input = ops.to(input, get_default_dtype())
    if out == (1,) * rank:
        return ops.mean(input, tuple(range(-rank, 0)), True)
    size = input.shape[input.ndim - rank :]
    return ops.weighted_sum(input, tables=tuple([None if n == o else window_means(n, o) for n, o in zip(size, out, strict=True)]))


def _lp_pool(rank, input, norm_type, kernel_size, stride, ceil_mode):
    function = f"lp_pool{rank}d"
    kernel = per_dim(kernel_size, rank, "kernel_size", function, 1)
    out = _avg_pool(rank, input**norm_type, kernel, stride, 0, ceil_mode, True)
    return (ops.sign(out) * ops.relu(ops.abs(out)) * prod(kernel)) ** (1.0 / norm_type)


def _fractional(rank, input, kernel_size, output_size, output_ratio, return_indices, samples):
    function = f"fractional_max_pool{rank}d"
    input, alone = with_batch(input, rank, function)
    size = tuple(input.shape[2:])
    kernel = per_dim(kernel_size, rank, "kernel_size", function, 1)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            f"{function}: give one of output_size and output_ratio, got {output_size!r} and {output_ratio!r}"
        )
    if output_size is None:
        ratio = tuple(output_ratio) if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
        if not all(0 < r < 1 for r in ratio):
            raise ValueError(f"{function}: output_ratio must lie between 0 and 1, got {output_ratio!r}")
        output_size = tuple([int(n * r) for n, r in zip(size, ratio, strict=True)])
    out = per_dim(output_size, rank, "output_size", function, 1)
    if 0 in input.shape[1:] or any(o + k - 1 > n for o, k, n in zip(out, kernel, size, strict=True)):
        raise RuntimeError(
            f"{function}: kernel_size {kernel} and output_size {out} do not fit input {list(input.shape)}"
        )
    if samples is None:
        samples = ops.rand(input.shape[0], input.shape[1], rank, dtype=input.dtype)
    if samples.shape[0] > input.shape[0] == 1:
        samples = samples[:1]  # the module draws for the channels of an image without a batch, too
    if tuple(samples.shape) != (*input.shape[:2], rank):
        raise RuntimeError(
            f"{function}: _random_samples must have shape {[*input.shape[:2], rank]}, got {list(samples.shape)}"
        )
    if rank == 2:  # PyTorch keeps the draw for the width first in two dimensions, and last in three
        samples = ops.flip(samples, (2,))
    return _pair(ops.fractional_max_pool(input, samples, kernel_size=kernel, output_size=out), alone, return_indices)


def _unpool(rank, input, indices, kernel_size, stride, padding, output_size):
    function = f"max_unpool{rank}d"
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{function}: input must have {rank + 1} or {rank + 2} dims, got shape {list(input.shape)}")
    if tuple(input.shape) != tuple(indices.shape):
        raise RuntimeError(
            f"{function}: indices must have the shape of input, {list(input.shape)}, got {list(indices.shape)}"
        )
    if numpy_dtype(indices.dtype) != np.int64:
        raise RuntimeError(f"{function}: indices must be int64, got {indices.dtype}")
    kernel, stride, padding, _ = _settings(function, input, rank, kernel_size, stride, padding)
    lead = input.ndim - rank
    usual = tuple([(n - 1) * s + k - 2 * p
                   for n, s, k, p in zip(input.shape[lead:], stride, kernel, padding, strict=True)])  # fmt: skip
    size = usual if output_size is None else tuple(output_size)[-rank:]
    if len(size) != rank:
        raise ValueError(f"{function}: output_size must have {rank} sizes, got {list(size)}")
    if any(not u - s < o < u + s for o, u, s in zip(size, usual, stride, strict=True)):
        raise ValueError(f"{function}: output_size must lie within a stride of {list(usual)}, got {list(output_size)}")
    if min(size) < 1:
        raise RuntimeError(f"{function}: the output would have size {size}, from input of shape {list(input.shape)}")
    return ops.unpool(input, indices, size=size)


# ---------------------------------------------------------------------------------------------------- public functions

INPUTS = [distinct(2, 3, 8), distinct(2, 2, 6, 5), distinct(1, 2, 4, 4, 4)]
"""An input for each number of dimensions."""


def _for_each_rank(name, doc, *samples):
    """Register ``make(rank)`` as ``name1d``, ``name2d`` and ``name3d``, which differ in nothing else."""

    def register(make):
        for rank, example in enumerate(INPUTS, 1):
            function = make(rank)
            if function is None:
                continue
            function.__name__ = function.__qualname__ = f"{name}{rank}d"
            function.__doc__ = doc.replace("SHAPE", f"(N, C, {('L', 'H, W', 'D, H, W')[rank - 1]})")
            own = {
                INPUT: example,
                INDICES: np.broadcast_to(np.arange(prod(example.shape[2:])).reshape(example.shape[2:]), example.shape),
            }
            made = [sample(*[own.get(a, a) for a in s.args], **s.kwargs) for s in samples]
            op(composite, namespace="nn.functional", samples=made)(function)

    return register


INPUT, INDICES = object(), object()
"""Stand for the input, and for an index of each of its elements, in samples that serve every number of dimensions."""


@_for_each_rank("max_pool", """The largest element of each window of SHAPE; a batch dimension may be absent.

    ``stride`` defaults to ``kernel_size``. Padding never wins. ``ceil_mode`` lets the last window reach past the end.
    With ``return_indices`` also the flat index of each winner in its plane, as `max_unpool` wants them.
    """, sample(INPUT, 2), sample(INPUT, 3, 2, 1, 1, True))  # fmt: skip
def _max_pools(rank):
    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return _max_pool(rank, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)

    return pool


AVERAGE = """The mean of each window of SHAPE; a batch dimension may be absent.

    ``stride`` defaults to ``kernel_size``. ``ceil_mode`` lets the last window reach past the end.
    ``count_include_pad`` counts the zeros of the padding as elements; ``divisor_override`` (not in one dimension)
    replaces the count.
    """


@_for_each_rank("avg_pool", AVERAGE, sample(INPUT, 2), sample(INPUT, 3, 2, 1, True, False))
def _avg_pools(rank):
    def pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)

    def pool(
        input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        return _avg_pool(rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    return pool1d if rank == 1 else pool


@_for_each_rank("adaptive_max_pool", """The largest element of each of ``output_size`` windows that share SHAPE out.

    Window i of o over n elements: from floor(i n / o) up to ceil((i + 1) n / o). None keeps a size.
    """, sample(INPUT, 3), sample(INPUT, 2, True))  # fmt: skip
def _adaptive_max_pools(rank):
    def pool(input, output_size, return_indices=False):
        return _adaptive_max(rank, input, output_size, return_indices)

    return pool


@_for_each_rank("adaptive_avg_pool", """The mean of each of ``output_size`` windows that share SHAPE out.

    Window i of o over n elements: from floor(i n / o) up to ceil((i + 1) n / o). None keeps a size.
    """, sample(INPUT, 3), sample(INPUT, 1))  # fmt: skip
def _adaptive_avg_pools(rank):
    def pool(input, output_size):
        return _adaptive_avg(rank, input, output_size)

    return pool


@_for_each_rank(
    "lp_pool",
    "The norm of each window of SHAPE: (sum of x ** norm_type) ** (1 / norm_type).",
    sample(INPUT, 2, 2),
    sample(INPUT, 2, 3, 1),
)
def _lp_pools(rank):
    def pool(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        return _lp_pool(rank, input, norm_type, kernel_size, stride, ceil_mode)

    return pool


@_for_each_rank("max_unpool", """The inverse of max pooling over SHAPE: each value back at its index, zero elsewhere.

    ``output_size`` chooses among the sizes that pooling would map to the same size.
    Default: (size - 1) * stride + kernel_size - 2 * padding.
    """, sample(INPUT, INDICES, 2))  # fmt: skip
def _max_unpools(rank):
    def unpool(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        return _unpool(rank, input, indices, kernel_size, stride, padding, output_size)

    return unpool


FRACTIONAL = """The largest element of each window of SHAPE, the windows at pseudo-random steps.

    Give ``output_size`` or ``output_ratio`` (between 0 and 1). ``_random_samples`` (N, C, rank), uniform in [0, 1),
    determines the steps. Source: B. Graham, Fractional Max-Pooling, 2014.
    """


@_for_each_rank("fractional_max_pool", FRACTIONAL, sample(INPUT, 2, 3))
def _fractional_max_pools(rank):
    def pool(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        return _fractional(rank, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)

    return pool if rank > 1 else None
