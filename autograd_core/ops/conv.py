"""Convolutions of any number of dimensions: one primitive, its two adjoints, and PyTorch's functions in terms of them.

A convolution is linear in the image and in the weight. Its gradients are the two adjoints, whose own gradients are
again convolutions, so that derivatives of any order need these three operations alone:

    y = convolution(x, w)      dx = convolution_input(dy, w)      dw = convolution_weight(dy, x)

A transposed convolution is `convolution_input` by another name.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import ops
from ..registry import Kernel, composite, contraction, op
from .samples import real, sample

CHUNK = 1 << 18
"""Elements of unfolded image that are held at a time: batches are worked off in parts that stay in the cache."""


# ---------------------------------------------------------------------------------------------------- arrays


def output_size(size, kernel, stride, padding, dilation):
    """The number of window positions: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1."""
    every = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple([(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in every])


def pad_spatial(x, padding, value=0):
    """``x`` (N, C, ...) with ``value`` around its spatial dimensions."""
    if not any(padding):
        return x
    out = np.full(x.shape[:2] + tuple([n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True)]), value, x.dtype)
    out[inner(x.shape[2:], padding)] = x
    return out


def inner(size, padding):
    """The index of the part of a padded image that holds the image."""
    return (slice(None), slice(None), *[slice(p, p + n) for n, p in zip(size, padding, strict=True)])


def windows(x, kernel, stride, dilation):
    """All windows of ``x`` as a view (N, C, *kernel, *positions)."""
    size = output_size(x.shape[2:], kernel, stride, (0,) * len(kernel), dilation)
    steps = x.strides[2:]
    return as_strided(x, x.shape[:2] + kernel + size, x.strides[:2]
                      + tuple([s * d for s, d in zip(steps, dilation, strict=True)])
                      + tuple([s * t for s, t in zip(steps, stride, strict=True)]), writeable=False)  # fmt: skip


def add_windows(columns, size, kernel, stride, padding, dilation):
    """The adjoint of `windows`: elements of ``columns`` (N, C, *kernel, *positions) added where they came from."""
    positions = columns.shape[2 + len(kernel) :]
    out = np.zeros(columns.shape[:2] + tuple([n + 2 * p for n, p in zip(size, padding, strict=True)]), columns.dtype)
    for offset in product(*map(range, kernel)):
        every = zip(offset, positions, stride, dilation, strict=True)
        place = tuple([slice(k * d, k * d + (n - 1) * s + 1, s) for k, n, s, d in every])
        out[(..., *place)] += columns[(slice(None), slice(None), *offset)]
    return out[inner(size, padding)]


def _columns(x, kernel, stride, dilation, groups):
    """The windows of a padded ``x`` as matrices (groups, channels a group * kernel, N * positions)."""
    seen = windows(x, kernel, stride, dilation)
    rank = len(kernel)
    channels_first = seen.transpose(1, *range(2, 2 + rank), 0, *range(2 + rank, 2 + 2 * rank))
    return channels_first.reshape(
        groups, x.shape[1] // groups * prod(kernel), x.shape[0] * prod(seen.shape[2 + rank :])
    )


def _rows(y, groups):
    """``y`` (N, C, ...) as matrices (groups, channels a group, N * positions)."""
    return y.swapaxes(0, 1).reshape(groups, y.shape[1] // groups, y.shape[0] * prod(y.shape[2:]))


def _parts(batch, each):
    step = max(1, CHUNK // max(each, 1))
    return [slice(i, min(i + step, batch)) for i in range(0, batch, step)]


def _wide(*arrays):
    """Half precision is summed in single precision."""
    return [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]


# ---------------------------------------------------------------------------------------------------- primitives

STRIDED = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}


@op(
    contraction,
    namespace="internal",
    kernel=Kernel("conv:plan_convolution", 1024),
    onnx="Conv",
    vjp=[
        lambda g, weight, input_shape, stride, padding, dilation, groups: ops.convolution_input(
            g, weight, size=input_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        lambda g, input, weight_shape, stride, padding, dilation, groups: ops.convolution_weight(
            g, input, kernel_size=weight_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        lambda g: ops.sum(g, (0, *range(2, g.ndim))),
    ],
    samples=[
        sample(real(2, 4, 6, 5), real(6, 2, 3, 2), real(6), **STRIDED),
        sample(real(2, 3, 6), real(4, 3, 3), None, stride=(1,), padding=(0,), dilation=(1,), groups=1),
    ],
)
def convolution(input, weight, bias, *, stride, padding, dilation, groups):
    """Cross-correlation of ``input`` (N, C, ...) with ``weight`` (O, C / groups, ...) over any number of dimensions.

    y[n, o, p] = bias[o] + sum over c, k of weight[o, c, k] * input[n, c, stride * p - padding + dilation * k]
    """
    kernel, batch, outs = weight.shape[2:], len(input), len(weight)
    size = output_size(input.shape[2:], kernel, stride, padding, dilation)
    image, matrix = _wide(input, weight.reshape(groups, outs // groups, prod(weight.shape[1:])))
    out = np.empty((batch, outs, *size), input.dtype)
    for part in _parts(batch, matrix.shape[2] * groups * prod(size)):
        columns = _columns(pad_spatial(image[part], padding), kernel, stride, dilation, groups)
        found = np.matmul(matrix, columns).reshape(outs, part.stop - part.start, *size)
        out[part] = found.swapaxes(0, 1)
    if bias is not None:
        out += bias.reshape(-1, *[1] * len(kernel))
    return out


@op(contraction, namespace="internal", kernel=Kernel("conv:plan_convolution_input", 1024), onnx="ConvTranspose", vjp=[
    lambda g, weight, stride, padding, dilation, groups: ops.convolution(
        g, weight, None, stride=stride, padding=padding, dilation=dilation, groups=groups),
    lambda g, grad, weight_shape, stride, padding, dilation, groups: ops.convolution_weight(
        grad, g, kernel_size=weight_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)],
    samples=[sample(real(2, 6, 3, 3), real(6, 2, 3, 2), size=(6, 5), **STRIDED)])  # fmt: skip
def convolution_input(grad, weight, *, size, stride, padding, dilation, groups):
    """The adjoint of `convolution` in its input: ``grad`` (N, O, ...) spread over an image of ``size``."""
    kernel, batch, channels = weight.shape[2:], len(grad), weight.shape[1] * groups
    sent, matrix = _wide(grad, weight.reshape(groups, len(weight) // groups, prod(weight.shape[1:])))
    out = np.empty((batch, channels, *size), grad.dtype)
    for part in _parts(batch, matrix.shape[2] * groups * prod(grad.shape[2:])):
        columns = np.matmul(matrix.swapaxes(1, 2), _rows(sent[part], groups))
        columns = columns.reshape(channels, *kernel, part.stop - part.start, *grad.shape[2:])
        out[part] = add_windows(np.moveaxis(columns, 1 + len(kernel), 0), size, kernel, stride, padding, dilation)
    return out


@op(contraction, namespace="internal", kernel=Kernel("conv:plan_convolution_weight", 1024), vjp=[
    lambda g, input, stride, padding, dilation, groups: ops.convolution(
        input, g, None, stride=stride, padding=padding, dilation=dilation, groups=groups),
    lambda g, grad, input_shape, stride, padding, dilation, groups: ops.convolution_input(
        grad, g, size=input_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)],
    samples=[sample(real(2, 6, 3, 3), real(2, 4, 6, 5), kernel_size=(3, 2), **STRIDED)])  # fmt: skip
def convolution_weight(grad, input, *, kernel_size, stride, padding, dilation, groups):
    """The adjoint of `convolution` in its weight: ``grad`` (N, O, ...) against the windows of ``input``."""
    depth = input.shape[1] // groups * prod(kernel_size)
    image, sent = _wide(input, grad)
    total = np.zeros((groups, grad.shape[1] // groups, depth), image.dtype)
    for part in _parts(len(input), depth * groups * prod(grad.shape[2:])):
        columns = _columns(pad_spatial(image[part], padding), kernel_size, stride, dilation, groups)
        total += np.matmul(_rows(sent[part], groups), columns.swapaxes(1, 2))
    return total.reshape(grad.shape[1], input.shape[1] // groups, *kernel_size).astype(input.dtype, copy=False)


# ---------------------------------------------------------------------------------------------------- arguments


def per_dim(value, rank, name, function, least=0):
    """An int, or a sequence of one or ``rank`` ints, as a tuple of ``rank``; none may be less than ``least``."""
    found = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),)
    found = found * rank if len(found) == 1 else found
    if len(found) != rank:
        raise RuntimeError(f"{function}: {name} must be an int or {rank} ints, got {value!r}")
    if any(v < least for v in found):
        raise RuntimeError(f"{function}: {name} must be at least {least}, got {value!r}")
    return found


def with_batch(input, rank, function):
    """(input with a batch dimension, whether one was added); raises unless it has ``rank`` dims and channels."""
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{function}: input must have {rank + 1} dims (unbatched) or {rank + 2} (batched), "
                           f"got shape {list(input.shape)}")  # fmt: skip
    return (ops.unsqueeze(input, 0), True) if input.ndim == rank + 1 else (input, False)


def _check(function, input, weight, bias, rank, groups, transposed):
    if weight.ndim != rank + 2:
        raise RuntimeError(f"{function}: weight must have {rank + 2} dims, got shape {list(weight.shape)}")
    if groups < 1:
        raise RuntimeError(f"{function}: groups must be positive, got {groups}")
    if 0 in weight.shape[2:]:
        raise RuntimeError(f"{function}: kernel sizes must be positive, got weight of shape {list(weight.shape)}")
    if weight.shape[0] % groups or weight.shape[0] < groups:
        raise RuntimeError(
            f"{function}: weight.shape[0] = {weight.shape[0]} must be a positive multiple of groups = {groups}"
        )
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    if input.shape[1] != channels:
        raise RuntimeError(
            f"{function}: weight of shape {list(weight.shape)} with groups={groups} needs {channels} input "
            f"channels, got input of shape {list(input.shape)}"
        )
    outs = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (outs,):
        raise RuntimeError(f"{function}: bias must have shape [{outs}], got {list(bias.shape)}")


def _padding(function, input, kernel, stride, padding, dilation):
    """(input, padding as a tuple) for ints, 'valid' and 'same'; an uneven 'same' pads the input itself at the end."""
    rank = len(kernel)
    if not isinstance(padding, str):
        return input, per_dim(padding, rank, "padding", function)
    if padding not in ("same", "valid"):
        raise RuntimeError(f"{function}: padding must be ints, 'same' or 'valid', got {padding!r}")
    if padding == "valid":
        return input, (0,) * rank
    if any(s != 1 for s in stride):
        raise RuntimeError(f"{function}: padding='same' needs stride 1, got {stride}")
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(t % 2 for t in total):
        input = ops.pad(input, [n for t in reversed(total) for n in (0, t % 2)])
    return input, tuple([t // 2 for t in total])


def _conv(rank, input, weight, bias, stride, padding, dilation, groups):
    function = f"conv{rank}d"
    input, alone = with_batch(input, rank, function)
    _check(function, input, weight, bias, rank, groups, False)
    kernel = tuple(weight.shape[2:])
    stride, dilation = per_dim(stride, rank, "stride", function, 1), per_dim(dilation, rank, "dilation", function, 1)
    input, padding = _padding(function, input, kernel, stride, padding, dilation)
    if min(output_size(input.shape[2:], kernel, stride, padding, dilation)) < 1:
        raise RuntimeError(f"{function}: the kernel {kernel} (dilation {dilation}) is larger than the padded input: "
                           f"shape {list(input.shape)}, padding {padding}")  # fmt: skip
    out = ops.convolution(input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return ops.squeeze(out, 0) if alone else out


def _conv_transpose(rank, input, weight, bias, stride, padding, output_padding, groups, dilation):
    function = f"conv_transpose{rank}d"
    input, alone = with_batch(input, rank, function)
    _check(function, input, weight, bias, rank, groups, True)
    stride, dilation = per_dim(stride, rank, "stride", function, 1), per_dim(dilation, rank, "dilation", function, 1)
    padding = per_dim(padding, rank, "padding", function)
    extra = per_dim(output_padding, rank, "output_padding", function)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise RuntimeError(
            f"{function}: output_padding must be smaller than stride or dilation, got output_padding={extra}, "
            f"stride={stride}, dilation={dilation}"
        )
    every = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation, extra, strict=True)
    size = tuple([(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in every])
    if min(size) < 1:
        raise RuntimeError(f"{function}: the output would have size {size}, from input of shape {list(input.shape)}")
    settings = {"stride": stride, "dilation": dilation, "groups": groups}
    if any(
        e >= s for e, s in zip(extra, stride, strict=True)
    ):  # a convolution of that size would have more positions than input
        full = tuple([n + 2 * p - e for n, p, e in zip(size, padding, extra, strict=True)])
        out = ops.convolution_input(input, weight, size=full, padding=(0,) * rank, **settings)
        out = ops.pad(out, [n for p, e in zip(reversed(padding), reversed(extra), strict=True) for n in (-p, e - p)])
    else:
        out = ops.convolution_input(input, weight, size=size, padding=padding, **settings)
    if bias is not None:
        out = out + ops.reshape(bias, (-1, *[1] * rank))
    return ops.squeeze(out, 0) if alone else out


# ---------------------------------------------------------------------------------------------------- public functions


@op(
    composite,
    method=False,
    aliases=["nn.functional.conv1d"],
    samples=[
        sample(real(2, 4, 9), real(6, 2, 3), real(6), 2, 1, 1, 2),
        sample(real(2, 9), real(3, 2, 4), padding="same"),
    ],
)
def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution of sequences (N, C, L) or (C, L) with ``weight`` (O, C / groups, K). See `conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


@op(
    composite,
    method=False,
    aliases=["nn.functional.conv2d"],
    samples=[
        sample(real(2, 3, 6, 5), real(4, 3, 3, 3), real(4)),
        sample(real(2, 4, 6, 5), real(4, 1, 2, 3), None, (2, 1), 1, 2, 4),
        sample(real(3, 5, 5), real(2, 3, 2, 3), padding="same"),
    ],
)
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution (cross-correlation) of images (N, C, H, W) or (C, H, W) with ``weight`` (O, C / groups, KH, KW).

    ``stride``, ``padding``, ``dilation``: ints or pairs. ``padding`` is a number of zeros on both sides, or 'valid'
    (none) or 'same' (as many as keep the size, with stride 1). ``groups`` splits the channels into groups of their
    own.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


@op(
    composite,
    method=False,
    aliases=["nn.functional.conv3d"],
    samples=[sample(real(2, 2, 4, 4, 3), real(3, 2, 2, 3, 2), real(3), padding=(0, 1, 1))],
)
def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution of volumes (N, C, D, H, W) with ``weight`` (O, C / groups, KD, KH, KW). See `conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


@op(
    composite,
    method=False,
    aliases=["nn.functional.conv_transpose1d"],
    samples=[sample(real(2, 4, 5), real(4, 3, 3), real(6), 2, 1, 1, 2)],
)
def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of sequences (N, C, L) with ``weight`` (C, O / groups, K). See `conv_transpose2d`."""
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(
    composite,
    method=False,
    aliases=["nn.functional.conv_transpose2d"],
    samples=[
        sample(real(2, 3, 4, 3), real(3, 2, 3, 2), real(2), 2, 1, 1),
        sample(real(4, 3, 3), real(4, 1, 2, 2), groups=2, dilation=2),
    ],
)
def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of images (N, C, H, W) with ``weight`` (C, O / groups, KH, KW): a convolution's adjoint.

    Size out: (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1. ``output_padding``
    chooses among the sizes that a convolution with that stride would map to the same size.
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(
    composite,
    method=False,
    aliases=["nn.functional.conv_transpose3d"],
    samples=[sample(real(1, 2, 2, 3, 2), real(2, 2, 2, 2, 3), real(2), (1, 2, 1))],
)
def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of volumes with ``weight`` (C, O / groups, KD, KH, KW). See `conv_transpose2d`."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
