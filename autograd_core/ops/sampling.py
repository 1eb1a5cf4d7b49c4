"""Images padded, resized, sampled at points and rearranged: pad, interpolate, grid_sample, pixel_shuffle, fold."""

from __future__ import annotations

import functools
import math

import numpy as np

from .. import ops
from ..registry import Kernel, composite, op, view
from ..shapes import get_default_dtype, numpy_dtype
from .conv import add_windows, pad_spatial, per_dim, windows
from .conv import output_size as positions_of
from .samples import real, sample
from .weighted import KEPT, Table, even_table, window_means

# ---------------------------------------------------------------------------------------------------- padding


@op(view, namespace="internal", onnx="Pad", kernel=Kernel("rearrange:pad_constant", above=1024),
    samples=[sample(real(3, 4), widths=((0, 1), (2, -1)), value=1.5)],
    vjp=[lambda g, widths: ops.pad_constant(g, widths=tuple([(-a, -b) for a, b in widths]), value=0)])  # fmt: skip
def pad_constant(input, *, widths, value):
    """``value`` around the array: ``widths`` (before, after) for each dim; negative widths cut."""
    shape = tuple([n + a + b for n, (a, b) in zip(input.shape, widths, strict=True)])
    if any(n + min(a, 0) + min(b, 0) < 0 or m < 0 for n, m, (a, b) in zip(input.shape, shape, widths, strict=True)):
        raise RuntimeError(
            f"pad: the result would have shape {list(shape)}, from input {list(input.shape)} and widths {widths}"
        )
    out = np.zeros(shape, input.dtype) if value == 0 else np.full(shape, value, input.dtype)
    every = list(zip(input.shape, shape, widths, strict=True))
    target = tuple([slice(max(a, 0), m - max(b, 0)) for _, m, (a, b) in every])
    source = tuple([slice(max(-a, 0), n - max(-b, 0)) for n, _, (a, b) in every])
    out[target] = input[source]
    return out


@functools.lru_cache(KEPT)
def _padded(size, before, after, mode):
    """The table of one dim with its own elements before and after it; negative widths cut."""
    if not before and not after:
        return None
    inside = np.arange(size)
    if mode == "circular" and min(before, after) < 0:
        inside = inside[max(-before, 0) : size - max(-after, 0)]
        before, after = max(before, 0), max(after, 0)
    n = len(inside)
    most = {"reflect": n - 1, "circular": n, "replicate": max(before, after)}[mode]
    if max(before, after) > most or before + n + after < 0:
        raise RuntimeError(f"pad: mode {mode!r} can add at most {most} elements to a dim of size {n}, "
                           f"got {before} and {after}")  # fmt: skip
    at = np.arange(-before, n + after)
    if mode == "reflect":
        at = np.abs(at)
        at = np.where(at > n - 1, 2 * (n - 1) - at, at)
    else:
        at = inside[at % n] if mode == "circular" else np.clip(at, 0, n - 1)
    return even_table(size, at[:, None])


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(2, 3, 4), (1, 2)),
        sample(real(2, 3, 4), (1, -1, 0, 2), value=1.5),
        sample(real(2, 3, 4), (2, 1), "reflect"),
        sample(real(2, 3, 4, 5), (1, 2, 2, 0), "replicate"),
        sample(real(2, 3, 4), (3, -1), "circular"),
    ],
)
def pad(input, pad, mode="constant", value=None):
    """Elements added before and after the last dims (or cut, where negative): ``pad`` lists pairs, the last dim first.

    ``mode``: 'constant' (``value``, 0 by default), 'reflect' (without the edge), 'replicate' (the edge) or
    'circular'; the latter three pad the spatial dims of (N, C, ...) or (C, ...).
    """
    pad, ndim = [int(p) for p in pad], input.ndim
    if len(pad) % 2 or len(pad) > 2 * ndim:
        raise RuntimeError(f"pad: pad must list pairs for at most {ndim} dims, got {pad}")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        widths = ((0, 0),) * (ndim - len(pairs)) + tuple(reversed(pairs))
        return ops.pad_constant(input, widths=widths, value=0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    if value is not None and value != 0:
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value}")
    if ndim not in (len(pairs) + 1, len(pairs) + 2) or not 1 <= len(pairs) <= 3:
        raise NotImplementedError(
            f"pad: mode {mode!r} pads the last 1, 2 or 3 dims of an input with one or two dims more, "
            f"got {len(pairs)} pairs for shape {list(input.shape)}"
        )
    if 0 in input.shape[ndim - len(pairs) - 1 :]:
        raise RuntimeError(f"pad: input must have no empty dimension but the batch, got shape {list(input.shape)}")
    tables = [_padded(n, *pair, mode) for n, pair in zip(reversed(input.shape), pairs, strict=False)]
    return ops.weighted_sum(input, tables=tuple(reversed(tables)))


# ---------------------------------------------------------------------------------------------------- resizing


def _triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x, a):
    """Keys' cubic kernel: 1 at 0, 0 at the other integers, support 2."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


KERNELS = {"linear": (_triangle, 1), "cubic": (lambda x: _cubic(x, -0.75), 2)}
"""Interpolating kernels and their support."""

SMOOTH = {"linear": (_triangle, 1), "cubic": (lambda x: _cubic(x, -0.5), 2), "lanczos": (_lanczos, 3)}
"""The kernels of anti-aliased resizing."""

MODES = {
    "nearest": "nearest",
    "nearest-exact": "nearest-exact",
    "area": "area",
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
    "bicubic": "cubic",
    "lanczos": "lanczos",
}
RANKS = {"linear": (1,), "bilinear": (2,), "trilinear": (3,), "bicubic": (2,), "lanczos": (2,)}


def _ratio(size, out, scale, align_corners):
    """Input elements an output element."""
    if align_corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1 / scale if scale else size / out


@functools.lru_cache(KEPT)
def _resized(kind, size, out, scale, align_corners, antialias):
    """The table of one dim: the input elements that make each output element, and their weights."""
    ratio, i = _ratio(size, out, scale, align_corners), np.arange(out)
    if kind in ("nearest", "nearest-exact"):
        # single precision, as the framework that these positions must agree with
        shift = 0.0 if kind == "nearest" else 0.5
        at = np.floor(((i + shift) * np.float32(ratio)).astype(np.float32)).astype(np.int64)
        return even_table(size, np.minimum(at, size - 1)[:, None])
    if antialias:
        return _smoothed(kind, size, ratio, i)
    at = i * ratio if align_corners else (i + 0.5) * ratio - 0.5
    kernel, support = KERNELS[kind]
    if kind == "linear":
        at = np.maximum(at, 0)
    first = np.floor(at).astype(np.int64)
    if kind == "linear":
        first = np.minimum(first, size - 1)
    steps = np.arange(1 - support, support + 1)
    fraction = np.clip(at - first, 0, 1) if kind == "linear" else at - first
    return even_table(size, np.clip(first[:, None] + steps, 0, size - 1), kernel(fraction[:, None] - steps))


def _smoothed(kind, size, ratio, i):
    """As `_resized`, with the kernel stretched over all input elements that an output element covers."""
    kernel, support = SMOOTH[kind]
    reach, stretch = support * max(ratio, 1.0), max(ratio, 1.0)
    centre = ratio * (i + 0.5)
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), size)
    steps = np.arange(max(int((last - first).max(initial=1)), 1))
    at = first[:, None] + steps
    covered = at < last[:, None]
    weights = np.where(covered, kernel((at - centre[:, None] + 0.5) / stretch), 0)
    weights /= weights.sum(1, keepdims=True)
    return Table(size, np.concatenate([[0], np.cumsum(covered.sum(1))]), at[covered], weights[covered])


def _target_size(shape, size, scale_factor, mode, recompute):
    """(output sizes, scale factors or None for each dim) for images (C, ...) of ``shape``."""
    rank = len(shape) - 1
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: give one of size and scale_factor, got {size!r} and {scale_factor!r}")
    given = size if size is not None else scale_factor
    given = given if isinstance(given, tuple) else (given,) * rank
    if len(given) != rank:
        raise ValueError(
            f"interpolate: size or scale_factor must have {rank} entries for images of shape {list(shape)}, got {given}"
        )
    if size is not None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor is not meaningful with an explicit size")
        return tuple(map(int, given)), (None,) * rank
    sizes = tuple([math.floor(n * float(s)) for n, s in zip(shape[1:], given, strict=True)])
    return sizes, (None,) * rank if recompute or mode == "area" else tuple(map(float, given))


@functools.lru_cache(KEPT)
def _resizing(shape, size, scale_factor, mode, align_corners, recompute, antialias):
    """The tables of `interpolate` for images (C, ...) of ``shape``; None where nothing changes."""
    rank = len(shape) - 1
    if mode not in MODES or rank not in RANKS.get(mode, (1, 2, 3)):
        raise NotImplementedError(f"interpolate: mode {mode!r} does not go with images of shape {list(shape)}; "
                                  f"modes are {', '.join(MODES)}")  # fmt: skip
    kind = MODES[mode]
    if align_corners is not None and kind in ("nearest", "nearest-exact", "area"):
        raise ValueError(f"interpolate: align_corners goes with interpolating modes alone, not with {mode!r}")
    if antialias and (kind not in SMOOTH or rank != 2):
        raise ValueError("interpolate: antialias needs a 4-d input and mode 'bilinear', 'bicubic' or 'lanczos'")
    if kind == "lanczos" and (align_corners or not antialias):
        raise ValueError("interpolate: mode 'lanczos' needs antialias=True and align_corners=False")
    sizes, scales = _target_size(shape, size, scale_factor, mode, recompute)
    if min(sizes) < 1 or 0 in shape:
        raise RuntimeError(f"interpolate: input and output sizes must be positive, got {list(shape)} and {sizes}")
    tables = []
    for n, out, scale in zip(shape[1:], sizes, scales, strict=True):
        if n == out and scale is None:
            tables.append(None)
        elif kind == "area":
            tables.append(window_means(n, out))
        else:
            tables.append(_resized(kind, n, out, scale, bool(align_corners), antialias))
    return None if tables == [None] * rank else tuple(tables)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(1, 2, 4), 7),
        sample(real(1, 2, 3, 4), (5, 2), mode="bilinear"),
        sample(real(1, 2, 4, 4), None, 1.7, "bicubic"),
        sample(real(1, 2, 5, 4), (3, 2), mode="bilinear", antialias=True),
        sample(real(1, 2, 5), 3, mode="area"),
        sample(real(1, 1, 3, 2, 3), None, 2, "trilinear", True),
        sample(real(1, 2, 4), 7, mode="nearest-exact"),
    ],
)
def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
                antialias=False):  # fmt: skip
    """Resize the spatial dims of (N, C, ...) to ``size`` or by ``scale_factor``.

    ``mode``: 'nearest', 'nearest-exact', 'area' (means), 'linear' (3 dims), 'bilinear', 'bicubic', 'lanczos' (4),
    'trilinear' (5). ``align_corners`` lets the centres of the outermost elements coincide, rather than their outer
    edges. ``antialias`` widens the kernel when shrinking. ``recompute_scale_factor`` uses the ratio of the rounded
    sizes.
    """
    size, scale_factor = [tuple(v) if isinstance(v, list) else v for v in (size, scale_factor)]
    if size is not None and not all(hasattr(n, "__index__") for n in (size if isinstance(size, tuple) else (size,))):
        raise TypeError(f"interpolate: size must be ints, got {size}")
    tables = _resizing(input.shape[1:], size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    if mode == "area" and numpy_dtype(input.dtype).kind != "f":
        input = ops.to(input, get_default_dtype())
    return input if tables is None else ops.weighted_sum(input, tables=tables)


@op(composite, namespace="nn.functional", samples=[sample(real(1, 2, 4), 7)])
def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """`interpolate` by its old name."""
    return ops.interpolate(input, size, scale_factor, mode, align_corners)


@op(composite, namespace="nn.functional", samples=[sample(real(1, 2, 3, 4), 7)])
def upsample_nearest(input, size=None, scale_factor=None):
    """`interpolate` with mode 'nearest'."""
    return ops.interpolate(input, size, scale_factor, mode="nearest")


@op(composite, namespace="nn.functional", samples=[sample(real(1, 2, 3, 4), 7)])
def upsample_bilinear(input, size=None, scale_factor=None):
    """`interpolate` with mode 'bilinear' and aligned corners."""
    return ops.interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


# ---------------------------------------------------------------------------------------------------- rearranging


def _exchanged(split, order):
    return tuple([split[d] for d in order])


@functools.lru_cache(KEPT)
def _inverse(order):
    return tuple([order.index(d) for d in range(len(order))])


@op(
    view,
    namespace="internal",
    kernel=Kernel("rearrange:rearrange", above=1024),
    vjp=[
        lambda g, input_shape, split, order: ops.rearrange(
            g, split=_exchanged(split, order), order=_inverse(order), shape=input_shape
        )
    ],
    samples=[sample(real(2, 6), split=(2, 2, 3), order=(2, 0, 1), shape=(3, 4))],
)
def rearrange(input, *, split, order, shape):
    """The dims of ``input``, seen as ``split``, in another ``order``; the result in ``shape``."""
    return input.reshape(split).transpose(order).reshape(shape)


def _image(name, shape):
    if len(shape) < 3:
        raise RuntimeError(f"{name}: input must have at least 3 dims, got shape {list(shape)}")
    return shape[:-3], shape[-3:]


@functools.lru_cache(KEPT)
def _shuffled(shape, r):
    """The settings of `rearrange` that make `pixel_shuffle`."""
    lead, (channels, height, width) = _image("pixel_shuffle", shape)
    if r < 1 or channels % (r * r):
        raise RuntimeError(f"pixel_shuffle: channels must be a multiple of upscale_factor ** 2, got {channels} and {r}")
    k, kept = len(lead), channels // (r * r)
    return {"split": (*lead, kept, r, r, height, width), "order": (*range(k + 1), k + 3, k + 1, k + 4, k + 2),
            "shape": (*lead, kept, height * r, width * r)}  # fmt: skip


@op(composite, method=False, aliases=["nn.functional.pixel_shuffle"], samples=[sample(real(2, 8, 2, 3), 2)])
def pixel_shuffle(input, upscale_factor):
    """Channels spread over pixels: (..., C r r, H, W) to (..., C, H r, W r)."""
    return ops.rearrange(input, **_shuffled(tuple(input.shape), upscale_factor))


@functools.lru_cache(KEPT)
def _unshuffled(shape, r):
    """The settings of `rearrange` that make `pixel_unshuffle`."""
    lead, (channels, height, width) = _image("pixel_unshuffle", shape)
    if r < 1 or height % r or width % r:
        raise RuntimeError(
            f"pixel_unshuffle: height and width must be multiples of downscale_factor={r}, got {height}, {width}"
        )
    k = len(lead)
    order = (*range(k + 1), k + 2, k + 4, k + 1, k + 3)
    return {"split": (*lead, channels, height // r, r, width // r, r), "order": order,
            "shape": (*lead, channels * r * r, height // r, width // r)}  # fmt: skip


@op(composite, method=False, aliases=["nn.functional.pixel_unshuffle"], samples=[sample(real(2, 2, 4, 6), 2)])
def pixel_unshuffle(input, downscale_factor):
    """Pixels gathered into channels: (..., C, H r, W r) to (..., C r r, H, W); the inverse of `pixel_shuffle`."""
    return ops.rearrange(input, **_unshuffled(tuple(input.shape), downscale_factor))


@op(composite, method=False, aliases=["nn.functional.channel_shuffle"], samples=[sample(real(2, 6, 2, 3), 3)])
def channel_shuffle(input, groups):
    """The channels of (N, C, ...) dealt out: those of ``groups`` groups, one of each in turn."""
    shape = tuple(input.shape)
    _image("channel_shuffle", shape)
    channels = shape[1]
    if groups < 1 or channels % groups:
        raise RuntimeError(
            f"channel_shuffle: the number of channels must be a multiple of groups={groups}, got {channels}"
        )
    split = (shape[0], groups, channels // groups, math.prod(shape[2:]))
    return ops.rearrange(input, split=split, order=(0, 2, 1, 3), shape=shape)


COLUMNS = {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}


@op(view, namespace="internal", samples=[sample(real(2, 3, 4, 6), **COLUMNS)],
    vjp=[lambda g, input_shape, kernel, stride, padding, dilation: ops.col2im(
        g, size=input_shape[2:], kernel=kernel, stride=stride, padding=padding, dilation=dilation)])  # fmt: skip
def im2col(input, *, kernel, stride, padding, dilation):
    """The windows of (N, C, ...) as columns (N, C * kernel, positions)."""
    seen = windows(pad_spatial(input, padding), kernel, stride, dilation)
    return seen.reshape(len(input), input.shape[1] * math.prod(kernel), math.prod(seen.shape[2 + len(kernel) :]))


@op(view, namespace="internal", kernel=Kernel("pool:plan_fold"),
    samples=[sample(real(2, 18, 6), size=(4, 6), **COLUMNS)],
    vjp=[lambda g, kernel, stride, padding, dilation: ops.im2col(
        g, kernel=kernel, stride=stride, padding=padding, dilation=dilation)])  # fmt: skip
def col2im(input, *, size, kernel, stride, padding, dilation):
    """Columns added back where `im2col` took them from: its adjoint."""
    positions = positions_of(size, kernel, stride, padding, dilation)
    columns = input.reshape(len(input), input.shape[1] // math.prod(kernel), *kernel, *positions)
    return np.ascontiguousarray(add_windows(columns, size, kernel, stride, padding, dilation))


def _window_settings(name, kernel_size, dilation, padding, stride):
    return {
        "kernel": per_dim(kernel_size, 2, "kernel_size", name, 1),
        "dilation": per_dim(dilation, 2, "dilation", name, 1),
        "padding": per_dim(padding, 2, "padding", name),
        "stride": per_dim(stride, 2, "stride", name, 1),
    }


@op(
    composite,
    namespace="nn.functional",
    samples=[sample(real(2, 3, 4, 5), (2, 3), 1, 1, (2, 1)), sample(real(3, 4, 5), 2)],
)
def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of images (N, C, H, W) as columns (N, C * kernel, positions)."""
    settings = _window_settings("unfold", kernel_size, dilation, padding, stride)
    if input.ndim not in (3, 4) or 0 in input.shape[input.ndim - 3 :]:
        raise RuntimeError(f"unfold: input must have shape (N, C, H, W) or (C, H, W), none of C, H, W empty, "
                           f"got {list(input.shape)}")  # fmt: skip
    if min(positions_of(input.shape[-2:], **settings)) < 1:
        raise RuntimeError(f"unfold: the windows {settings} do not fit input of shape {list(input.shape)}")
    if input.ndim == 4:
        return ops.im2col(input, **settings)
    return ops.squeeze(ops.im2col(ops.unsqueeze(input, 0), **settings), 0)


@op(
    composite,
    namespace="nn.functional",
    samples=[sample(real(2, 18, 15), (4, 5), (2, 3), 1, 1, (2, 1)), sample(real(8, 6), (3, 4), 2)],
)
def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns (N, C * kernel, positions) added up into images (N, C, *output_size): the adjoint of `unfold`."""
    settings = _window_settings("fold", kernel_size, dilation, padding, stride)
    size = per_dim(output_size, 2, "output_size", "fold", 1)
    if input.ndim not in (2, 3) or input.shape[-2] % math.prod(settings["kernel"]) or 0 in input.shape[-2:]:
        raise RuntimeError(f"fold: input must have shape (N, C * {math.prod(settings['kernel'])}, positions), "
                           f"got {list(input.shape)}")  # fmt: skip
    positions = positions_of(size, **settings)
    if min(positions) < 1 or input.shape[-1] != math.prod(positions):
        raise RuntimeError(
            f"fold: output_size {size} has {positions} window positions, got input of shape {list(input.shape)}"
        )
    if input.ndim == 3:
        return ops.col2im(input, size=size, **settings)
    return ops.squeeze(ops.col2im(ops.unsqueeze(input, 0), size=size, **settings), 0)
