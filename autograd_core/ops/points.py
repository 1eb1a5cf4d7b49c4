"""Images sampled at points: grid_sample, and the regular grids of affine_grid."""

from __future__ import annotations

import functools
import math
import warnings
from itertools import product

import numpy as np

from .. import ops
from ..registry import Kernel, composite, network, op
from ..shapes import numpy_dtype
from .samples import real, sample
from .second_order import gradient_of
from .weighted import KEPT


def _to_pixels(at, size, align_corners):
    """Coordinates in [-1, 1] as positions in pixels."""
    return (at + 1) * ((size - 1) / 2) if align_corners else ((at + 1) * size - 1) * 0.5


def _clipped(at, size):
    """Positions held inside the image; those outside get no gradient."""
    inside = (at > 0) & (at < size - 1)
    return ops.where(inside, at, ops.clamp(at.detach(), 0, size - 1))


def _reflected(at, size, align_corners):
    """Positions mirrored at the centres of the outermost pixels, or at their outer edges, until they lie inside."""
    low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
    if span == 0:
        return at * 0
    distance = ops.abs(at - low)
    extra = ops.fmod(distance, span)
    odd = ops.fmod(ops.floor(distance.detach() / span), 2) != 0
    return ops.where(odd, span - extra, extra) + low


def _held(at, size, padding_mode, align_corners):
    """Positions by the rule for those outside the image."""
    if padding_mode == "zeros":
        return at
    return _clipped(at if padding_mode == "border" else _reflected(at, size, align_corners), size)


def _pixels(flat, places, size, weight=None):
    """Pixels (N, C, points) at whole positions ``places`` (a float tensor for each dim), zero outside the image."""
    index = inside = None
    for at, n in zip(places, size, strict=True):
        at = at.detach()
        ok = (at >= 0) & (at <= n - 1)
        inside = ok if inside is None else inside & ok
        at = ops.to(ops.where(ok, at, 0.0), np.int64)
        index = at if index is None else index * n + at
    shape = (*flat.shape[:2], index.shape[-1])
    found = ops.gather(flat, 2, ops.expand(ops.unsqueeze(index, 1), shape))
    share = ops.to(inside, numpy_dtype(flat.dtype)) if weight is None else ops.where(inside, weight, 0.0)
    return found * ops.unsqueeze(share, 1)


def _linear_sample(flat, at, size):
    floors = [ops.floor(a.detach()) for a in at]
    total = None
    for corner in product((0, 1), repeat=len(size)):
        weight = None
        for a, f, bit in zip(at, floors, corner, strict=True):
            part = a - f if bit else f + 1 - a
            weight = part if weight is None else weight * part
        found = _pixels(flat, [f + bit for f, bit in zip(floors, corner, strict=True)], size, weight)
        total = found if total is None else total + found
    return total


def _cubic_weights(t):
    """The four weights of Keys' kernel (a = -0.75) at distance ``t`` past the second pixel."""
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((x - 5) * x + 8) * x * a - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


def _cubic_sample(flat, at, size, padding_mode, align_corners):
    floors = [ops.floor(a.detach()) for a in at]
    weights = [_cubic_weights(a - f) for a, f in zip(at, floors, strict=True)]
    total = None
    for taps in product(range(4), repeat=len(size)):
        places = [
            _held(f + (k - 1), n, padding_mode, align_corners) for f, k, n in zip(floors, taps, size, strict=True)
        ]
        weight = None
        for w, k in zip(weights, taps, strict=True):
            weight = w[k] if weight is None else weight * w[k]
        found = _pixels(flat, places, size, weight)
        total = found if total is None else total + found
    return total


def _formula(input, grid, mode, padding_mode, align_corners):
    """What `sample_at` computes, in the op language."""
    batch, channels, *size = input.shape
    rank = len(size)
    flat = ops.reshape(input, (batch, channels, math.prod(size)))
    points = ops.reshape(grid, (batch, math.prod(grid.shape[1:-1]), rank))
    at = [_to_pixels(points[..., rank - 1 - d], n, align_corners) for d, n in enumerate(size)]
    if mode == "bicubic":
        out = _cubic_sample(flat, at, size, padding_mode, align_corners)
    else:
        at = [_held(a, n, padding_mode, align_corners) for a, n in zip(at, size, strict=True)]
        out = _linear_sample(flat, at, size) if mode == "bilinear" else _pixels(flat, [ops.round(a) for a in at], size)
    return ops.reshape(out, (batch, channels, *grid.shape[1:-1]))


SETTINGS = {"padding_mode": "zeros", "align_corners": False}


@op(
    network,
    namespace="internal",
    kernel=Kernel("sampling:grid_sample", above=0),
    vjp=lambda g, input, grid, mode, padding_mode, align_corners, needs: ops.sample_at_backward(
        g, input, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners, needs=needs
    ),
    samples=[sample(real(1, 2, 3, 4), real(1, 2, 3, 2), mode="bilinear", **SETTINGS)],
)
def sample_at(input, grid, *, mode, padding_mode, align_corners):
    """The image ``input`` at the points ``grid``, as `grid_sample` says."""
    settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    found = _in_order(_kernels().grid_sample, (input, grid), **settings)
    if found is NotImplemented:
        return np.zeros((*input.shape[:2], *grid.shape[1:-1]), input.dtype)
    return found if input.dtype.kind != "f" else found.astype(input.dtype, copy=False)


def _kernels():
    from ..kernels import sampling

    return sampling


def _in_order(planner, arrays, **settings):
    """What the kernel makes of copies in C order, of a dtype that it knows; NotImplemented where all is empty."""
    from ..kernels.plan import execute

    kind = np.float64 if any(a.dtype == np.float64 for a in arrays) else np.float32
    return execute(planner, [np.ascontiguousarray(a, kind) for a in arrays], **settings)


def _backward_formula(g, input, grid, *, mode, padding_mode, align_corners, needs):
    return gradient_of(lambda x, y: _formula(x, y, mode, padding_mode, align_corners), (g,), (input, grid), needs)


@op(
    network,
    namespace="internal",
    vjp=(),
    kernel=Kernel("sampling:grid_sample_backward", above=0),
    composite=_backward_formula,
    samples=[
        sample(real(1, 2, 2, 3), real(1, 2, 3, 4), real(1, 2, 3, 2), mode="bilinear", needs=(True, True), **SETTINGS)
    ],
)
def sample_at_backward(g, input, grid, *, mode, padding_mode, align_corners, needs):
    """The gradients of `sample_at` in input and grid (None where not needed)."""
    settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners, "needs": needs}
    found = _in_order(_kernels().grid_sample_backward, (g, input, grid), **settings)
    if found is NotImplemented:
        found = np.zeros(input.shape), np.zeros(grid.shape)
    every = zip(found, (input, grid), needs, strict=True)
    return tuple([part.astype(a.dtype, copy=False) if need else None for part, a, need in every])


@functools.lru_cache(KEPT)
def _check(image, grid, mode, padding_mode):
    """Raise where shapes and modes do not go together."""
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"grid_sample: mode must be 'bilinear', 'nearest' or 'bicubic', got {mode!r}")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"grid_sample: padding_mode must be 'zeros', 'border' or 'reflection', got {padding_mode!r}")
    rank = len(image) - 2
    if rank not in (2, 3) or len(grid) != len(image) or grid[0] != image[0] or grid[-1] != rank:
        raise RuntimeError(
            f"grid_sample: input (N, C, H, W) needs grid (N, h, w, 2), (N, C, D, H, W) needs (N, d, h, w, 3), "
            f"got shapes {list(image)} and {list(grid)}"
        )
    if mode == "bicubic" and rank != 2:
        raise RuntimeError("grid_sample: mode 'bicubic' needs a 4-d input")
    if 0 in image[1:]:
        raise RuntimeError(f"grid_sample: input must have no empty dimension but the batch, got shape {list(image)}")


@op(composite, namespace="nn.functional", samples=[
    sample(real(1, 2, 3, 4), real(1, 2, 3, 2, low=-1.2, high=1.2), align_corners=False),
    sample(real(1, 1, 2, 3, 3), real(1, 2, 2, 2, 3), align_corners=True),
    sample(real(1, 2, 3, 4), real(1, 2, 2, 2), "bicubic", "border", False),
    sample(real(1, 2, 3, 4), real(1, 2, 3, 2), padding_mode="reflection", align_corners=False)])  # fmt: skip
def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """The image (N, C, H, W) at the points ``grid`` (N, h, w, 2), or the volume (N, C, D, H, W) at (N, d, h, w, 3).

    A point is (x, y) or (x, y, z), each from -1 to 1: from edge to edge, or with ``align_corners`` from the centre of
    the first pixel to that of the last. ``mode``: 'bilinear', 'nearest', 'bicubic' (images). ``padding_mode``:
    'zeros', 'border', 'reflection'.
    """
    _check(input.shape, grid.shape, mode, padding_mode)
    if align_corners is None:
        warnings.warn("grid_sample: align_corners is False by default; pass it to silence this", stacklevel=2)
    return ops.sample_at(input, grid, mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners))


@functools.lru_cache(16)
def _regular(size, align_corners, dtype):
    """The points (..., x, 1) of a regular grid of ``size`` as rows."""
    axes = [np.linspace(-1, 1, n) * (1 if align_corners else (n - 1) / n) if n > 1 else np.zeros(1) for n in size]
    mesh = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*reversed(mesh), np.ones_like(mesh[0])], -1).reshape(-1, len(size) + 1).astype(dtype)
    points.flags.writeable = False
    return points


@op(
    composite,
    namespace="nn.functional",
    samples=[sample(real(2, 2, 3), (2, 1, 3, 4), False), sample(real(1, 3, 4), (1, 1, 2, 3, 2), align_corners=True)],
)
def affine_grid(theta, size, align_corners=None):
    """A regular grid of ``size`` under affine maps ``theta`` (N, 2, 3) or (N, 3, 4), for `grid_sample`."""
    rank, dtype = len(size) - 2, numpy_dtype(theta.dtype)
    if dtype.kind != "f":
        raise ValueError(f"affine_grid: theta must be floating-point, got {theta.dtype}")
    if rank not in (2, 3):
        raise NotImplementedError(f"affine_grid: size must have 4 or 5 entries, got {tuple(size)}")
    if theta.ndim != 3 or tuple(theta.shape[1:]) != (rank, rank + 1):
        raise ValueError(f"affine_grid: theta must have shape [N, {rank}, {rank + 1}], got {list(theta.shape)}")
    if min(size) <= 0:
        raise ValueError(f"affine_grid: sizes must be positive, got {tuple(size)}")
    if align_corners is None:
        warnings.warn("affine_grid: align_corners is False by default; pass it to silence this", stacklevel=2)
    points = _regular(tuple(size[2:]), bool(align_corners), dtype)
    found = ops.matmul(points, ops.transpose(theta, 1, 2))
    return ops.reshape(found, (theta.shape[0], *size[2:], rank))
