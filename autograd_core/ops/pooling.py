"""The public functions of pooling, in one, two and three dimensions: their arguments, and what they ask of `pool`.

What arguments come down to is worked out once for each shape and remembered.
"""

from __future__ import annotations

import functools
from math import prod

import numpy as np

from .. import ops
from ..modes import state
from ..registry import composite, op
from ..shapes import get_default_dtype, numpy_dtype
from .conv import per_dim
from .pool import pool_size
from .samples import distinct, sample
from .weighted import KEPT, Table, window_means

NARROW = 4
"""Windows of a row up to which averages are sums by tables, and elements of a window up to which maxima are found
window by window: kernels of `pool` have a vector of neighbouring windows at once."""


def _frozen(*values):
    """Lists as tuples, so that what they lead to can be remembered."""
    return [tuple(v) if isinstance(v, list) else v for v in values]


# ---------------------------------------------------------------------------------------------------- arguments


@functools.lru_cache(KEPT)
def _windows(function, shape, kernel_size, stride, padding, dilation=1):
    """(kernel, stride, padding, dilation), each a tuple with one int a dim, of windows over images of ``shape``."""
    rank = int(function[-2])
    if len(shape) not in (rank + 1, rank + 2):
        raise RuntimeError(f"{function}: input must have {rank + 1} dims (unbatched) or {rank + 2} (batched), "
                           f"got shape {list(shape)}")  # fmt: skip
    kernel = per_dim(kernel_size, rank, "kernel_size", function, 1)
    stride = kernel if stride is None or stride == () else per_dim(stride, rank, "stride", function, 1)
    padding = per_dim(padding, rank, "padding", function)
    dilation = per_dim(dilation, rank, "dilation", function, 1)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(f"{function}: padding must be at most half of kernel_size, got padding={padding}, "
                           f"kernel_size={kernel}")  # fmt: skip
    if 0 in shape[len(shape) - rank - 1 :]:
        raise RuntimeError(f"{function}: input must have no empty dimension but the batch, got shape {list(shape)}")
    return kernel, stride, padding, dilation


@functools.lru_cache(KEPT)
def _max_settings(function, shape, kernel_size, stride, padding, dilation, ceil_mode):
    """The settings of `max_pool`."""
    found = _windows(function, shape, kernel_size, stride, padding, dilation)
    _output(function, shape, *found, ceil_mode)
    return {
        **dict(zip(("kernel_size", "stride", "padding", "dilation"), found, strict=True)),
        "ceil_mode": bool(ceil_mode),
    }


def _output(function, shape, kernel, stride, padding, dilation, ceil_mode):
    out = pool_size(shape[len(shape) - len(kernel) :], kernel, stride, padding, dilation, ceil_mode)
    if min(out) < 1:
        raise RuntimeError(f"{function}: the output would have size {out}, from input of shape {list(shape)}")
    return out


def _max_pool(rank, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    settings = _max_settings(
        f"max_pool{rank}d", tuple(input.shape), *_frozen(kernel_size, stride, padding, dilation), ceil_mode
    )
    alone = input.ndim == rank + 1
    if alone:
        input = ops.unsqueeze(input, 0)
    if return_indices or (state.grad and getattr(input, "tracks", True)):
        return _pair(ops.max_pool(input, **settings), alone, return_indices)
    found = ops.largest_of_windows(input, **settings)
    return ops.squeeze(found, 0) if alone else found


def _pair(found, alone, return_indices):
    """The values, or the values and indices, without the batch dimension if it was added."""
    if not return_indices:
        return ops.squeeze(found[0], 0) if alone else found[0]
    return (ops.squeeze(found[0], 0), ops.squeeze(found[1], 0)) if alone else (found[0], found[1])


@functools.lru_cache(KEPT)
def _averages(function, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """(settings of `window_sum`, what to divide by, tables of `weighted_sum` instead or None)."""
    kernel, stride, padding, ones = _windows(function, shape, kernel_size, stride, padding)
    out = _output(function, shape, kernel, stride, padding, ones, ceil_mode)
    if divisor_override == 0:
        raise RuntimeError(f"{function}: divisor_override must not be zero")
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": bool(ceil_mode)}
    if divisor_override is not None:
        return settings, divisor_override, None
    every = list(zip(shape[len(shape) - len(out) :], kernel, stride, padding, out, strict=True))
    edges = [_edges(n, k, s, p, o, count_include_pad) for n, k, s, p, o in every]
    tables = None
    if out[-1] <= NARROW:
        tables = tuple([_means(n, *edge) for (n, *_), edge in zip(every, edges, strict=True)])
    divisor = prod(kernel)
    if ceil_mode or (not count_include_pad and any(padding)):
        divisor = functools.reduce(np.multiply.outer, [counts for _, _, counts in edges])
    return settings, divisor, tables


def _edges(size, kernel, stride, padding, out, count_include_pad):
    """First elements of windows along one dim, ends, and elements counted (of the image or of the padded image)."""
    start = np.arange(out) * stride - padding
    low, high = np.maximum(start, 0), np.minimum(start + kernel, size)
    return low, high, np.minimum(start + kernel, size + padding) - start if count_include_pad else high - low


def _means(size, low, high, counts):
    """The table of averages over windows along one dim."""
    lengths = high - low
    starts = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1] - low, lengths)
    return Table(size, starts, positions, np.repeat(1 / counts, lengths))


def _avg_pool(rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=None):
    windows = _frozen(kernel_size, stride, padding)
    settings, divisor, tables = _averages(
        f"avg_pool{rank}d", tuple(input.shape), *windows, ceil_mode, count_include_pad, divisor_override
    )
    kind = numpy_dtype(input.dtype)
    if tables is not None and kind.kind == "f":
        return ops.weighted_sum(input, tables=tables)
    alone = input.ndim == rank + 1
    found = ops.window_sum(ops.unsqueeze(input, 0) if alone else input, **settings)
    if kind.kind == "f":
        found = found / (divisor if type(divisor) is int else np.asarray(divisor, kind))
    else:
        found = ops.div(found, divisor, rounding_mode="trunc")
    return ops.squeeze(found, 0) if alone else found


@functools.lru_cache(KEPT)
def _output_size(function, shape, output_size):
    """``output_size`` of an adaptive pool as a tuple; None keeps the input's size."""
    rank = int(function[-2])
    if len(shape) not in (rank + 1, rank + 2):
        raise RuntimeError(f"{function}: input must have {rank + 1} or {rank + 2} dims, got shape {list(shape)}")
    given = output_size if isinstance(output_size, tuple) else (output_size,)
    given = given * rank if len(given) == 1 else given
    if len(given) != rank or any(o is not None and o < 0 for o in given):
        raise RuntimeError(f"{function}: output_size must be {rank} non-negative ints or None, got {output_size!r}")
    if 0 in shape[len(shape) - rank - 1 :]:
        raise RuntimeError(f"{function}: input must have no empty dimension but the batch, got shape {list(shape)}")
    return tuple([n if o is None else int(o) for n, o in zip(shape[len(shape) - rank :], given, strict=True)])


def _adaptive_max(rank, input, output_size, return_indices):
    out = _output_size(f"adaptive_max_pool{rank}d", tuple(input.shape), *_frozen(output_size))
    alone = input.ndim == rank + 1
    if alone:
        input = ops.unsqueeze(input, 0)
    plane = tuple(input.shape[2:])
    even = all([o and n % o == 0 for n, o in zip(plane, out, strict=True)])
    if even and plane[-1] <= NARROW * out[-1]:
        each, none = tuple([n // o for n, o in zip(plane, out, strict=True)]), (0,) * rank
        found = ops.max_pool(input, kernel_size=each, stride=each, padding=none, dilation=(1,) * rank, ceil_mode=False)
        return _pair(found, alone, return_indices)
    return _pair(ops.adaptive_max_pool(input, output_size=out), alone, return_indices)


def _adaptive_avg(rank, input, output_size):
    out = _output_size(f"adaptive_avg_pool{rank}d", tuple(input.shape), *_frozen(output_size))
    if numpy_dtype(input.dtype).kind != "f":
        input = ops.to(input, get_default_dtype())
    if out == (1,) * rank:
        return ops.mean(input, tuple(range(-rank, 0)), True)
    sizes = zip(input.shape[input.ndim - rank :], out, strict=True)
    return ops.weighted_sum(input, tables=tuple([None if n == o else window_means(n, o) for n, o in sizes]))


def _lp_pool(rank, input, norm_type, kernel_size, stride, ceil_mode):
    kernel = per_dim(kernel_size, rank, "kernel_size", f"lp_pool{rank}d", 1)
    out = _avg_pool(rank, input**norm_type, kernel, stride, 0, ceil_mode, True)
    return (ops.sign(out) * ops.relu(ops.abs(out)) * prod(kernel)) ** (1.0 / norm_type)


@functools.lru_cache(KEPT)
def _fractional_settings(function, shape, kernel_size, output_size, output_ratio):
    """The settings of `fractional_max_pool`."""
    rank = int(function[-2])
    if len(shape) not in (rank + 1, rank + 2):
        raise RuntimeError(f"{function}: input must have {rank + 1} or {rank + 2} dims, got shape {list(shape)}")
    size = shape[len(shape) - rank :]
    kernel = per_dim(kernel_size, rank, "kernel_size", function, 1)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            f"{function}: give one of output_size and output_ratio, got {output_size!r} and {output_ratio!r}"
        )
    if output_size is None:
        ratio = output_ratio if isinstance(output_ratio, tuple) else (output_ratio,) * rank
        if not all(0 < r < 1 for r in ratio):
            raise ValueError(f"{function}: output_ratio must lie between 0 and 1, got {output_ratio!r}")
        output_size = tuple([int(n * r) for n, r in zip(size, ratio, strict=True)])
    out = per_dim(output_size, rank, "output_size", function, 1)
    if 0 in shape[len(shape) - rank - 1 :] or any(o + k - 1 > n for o, k, n in zip(out, kernel, size, strict=True)):
        raise RuntimeError(f"{function}: kernel_size {kernel} and output_size {out} do not fit input {list(shape)}")
    return {"kernel_size": kernel, "output_size": out}


def _fractional(rank, input, kernel_size, output_size, output_ratio, return_indices, samples):
    function = f"fractional_max_pool{rank}d"
    given = _frozen(kernel_size, output_size, output_ratio)
    settings = _fractional_settings(function, tuple(input.shape), *given)
    alone = input.ndim == rank + 1
    if alone:
        input = ops.unsqueeze(input, 0)
    batch, channels = input.shape[:2]
    if samples is None:
        samples = ops.rand(batch, channels, rank, dtype=input.dtype)
    if samples.shape[0] > batch == 1:
        samples = samples[:1]  # the module draws for the channels of an image without a batch, too
    if samples.shape != (batch, channels, rank):
        raise RuntimeError(
            f"{function}: _random_samples must have shape {[batch, channels, rank]}, got {list(samples.shape)}"
        )
    if rank == 2:  # PyTorch keeps the draw for the width first in two dimensions, and last in three
        samples = ops.flip(samples, (2,))
    return _pair(ops.fractional_max_pool(input, samples, **settings), alone, return_indices)


@functools.lru_cache(KEPT)
def _unpooled_size(function, shape, kernel_size, stride, padding, output_size):
    """The size of the planes that `max_unpool` fills."""
    kernel, stride, padding, _ = _windows(function, shape, kernel_size, stride, padding)
    rank = len(kernel)
    given = zip(shape[len(shape) - rank :], stride, kernel, padding, strict=True)
    usual = tuple([(n - 1) * s + k - 2 * p for n, s, k, p in given])
    size = usual if output_size is None else output_size[-rank:]
    if len(size) != rank:
        raise ValueError(f"{function}: output_size must have {rank} sizes, got {list(size)}")
    if any(not u - s < o < u + s for o, u, s in zip(size, usual, stride, strict=True)):
        raise ValueError(f"{function}: output_size must lie within a stride of {list(usual)}, got {list(output_size)}")
    if min(size) < 1:
        raise RuntimeError(f"{function}: the output would have size {size}, from input of shape {list(shape)}")
    return size


def _unpool(rank, input, indices, kernel_size, stride, padding, output_size):
    function, shape = f"max_unpool{rank}d", tuple(input.shape)
    if shape != indices.shape:
        raise RuntimeError(
            f"{function}: indices must have the shape of input, {list(shape)}, got {list(indices.shape)}"
        )
    if numpy_dtype(indices.dtype) != np.int64:
        raise RuntimeError(f"{function}: indices must be int64, got {indices.dtype}")
    output_size = None if output_size is None else tuple(output_size)
    size = _unpooled_size(function, shape, *_frozen(kernel_size, stride, padding), output_size)
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
