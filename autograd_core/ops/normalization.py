"""Softmax and its kin, and normalisation by moments: batch, layer, group, instance and root-mean-square norm."""

from __future__ import annotations

import functools
import warnings
from math import prod

import numpy as np

from .. import ops
from ..inplace import write_out
from ..modes import no_grad, state
from ..registry import Kernel, composite, network, op
from ..shapes import normalize_dim, numpy_dtype
from ..tensor import Tensor, wrap
from .samples import distinct, positive, real, sample
from .second_order import gradient_of
from .weighted import KEPT

# ---------------------------------------------------------------------------------------------------- softmax


def _softmax_setting(arrays, settings):
    """``dim`` from the front; None stands for 0 or 1 by the number of dims, as old programs expect."""
    dim, ndim = settings["dim"], arrays[0].ndim
    if dim is None:
        warnings.warn("implicit dimension choice for softmax is deprecated; pass dim=", stacklevel=6)
        dim = 0 if ndim in (0, 1, 3) else 1
    dtype = settings["dtype"]
    return {"dim": normalize_dim(dim, ndim), "dtype": None if dtype is None else numpy_dtype(dtype)}


def _in_type(name, input, dtype):
    """The input in ``dtype``; softmax is for floats alone."""
    input = input if dtype is None else input.astype(dtype, copy=False)
    if input.dtype.kind != "f":
        raise RuntimeError(f"{name}: input must be floating-point, got {input.dtype}; pass dtype=")
    return input if input.ndim else input.reshape(1)


SOFTMAX = [sample(real(3, 4), 1), sample(real(2, 3, 4), -2), sample(real(), 0), sample(real(3, 4), 0, dtype="float64")]


@op(network, signature="input, dim=None, _stacklevel=3, dtype=None", prepare=_softmax_setting, samples=SOFTMAX,
    kernel=Kernel("softmax:softmax", above=512), onnx="Softmax",
    vjp=[lambda g, out, dim: ops.softmax_backward(g, out, dim=dim)],
    aliases=["nn.functional.softmax", "special.softmax"])  # fmt: skip
def softmax(input, *, dim, dtype, _stacklevel=3):
    """Exponentials scaled to sum 1 along ``dim``: exp(x) / sum(exp(x)). ``dtype``: what to cast the input to first."""
    values = _in_type("softmax", input, dtype)
    out = values - np.max(values, dim, keepdims=True, initial=-np.inf)
    np.exp(out, out=out)
    out /= np.sum(out, dim, keepdims=True)
    return out.reshape(input.shape)


@op(network, namespace="internal", samples=[sample(real(3, 4), real(3, 4), dim=1)], vjp=(),
    kernel=Kernel("softmax:softmax_backward", above=512),
    composite=lambda g, out, *, dim: out * (g - ops.sum(g * out, dim, True)))  # fmt: skip
def softmax_backward(g, out, *, dim):
    """The gradient of softmax from its output: out * (g - sum(g * out))."""
    if not out.ndim:
        return np.zeros_like(out)
    found = g * out
    found -= out * np.sum(found, dim, keepdims=True)
    return found


@op(network, signature="input, dim=None, _stacklevel=3, dtype=None", prepare=_softmax_setting, samples=SOFTMAX,
    kernel=Kernel("softmax:log_softmax", above=512), onnx="LogSoftmax",
    vjp=[lambda g, out, dim: ops.log_softmax_backward(g, out, dim=dim)],
    aliases=["nn.functional.log_softmax", "special.log_softmax"])  # fmt: skip
def log_softmax(input, *, dim, dtype, _stacklevel=3):
    """Logarithm of softmax along ``dim``: x - log(sum(exp(x))), without overflow or loss of small probabilities."""
    values = _in_type("log_softmax", input, dtype)
    out = values - np.max(values, dim, keepdims=True, initial=-np.inf)
    out -= np.log(np.sum(np.exp(out), dim, keepdims=True))
    return out.reshape(input.shape)


@op(network, namespace="internal", samples=[sample(real(3, 4), real(3, 4), dim=1)], vjp=(),
    kernel=Kernel("softmax:log_softmax_backward", above=512),
    composite=lambda g, out, *, dim: g - ops.exp(out) * ops.sum(g, dim, True))  # fmt: skip
def log_softmax_backward(g, out, *, dim):
    """The gradient of log_softmax from its output: g - exp(out) * sum(g)."""
    if not out.ndim:
        return np.zeros_like(out)
    return g - np.exp(out) * np.sum(g, dim, keepdims=True)


@op(composite, namespace="nn.functional", samples=[sample(real(3, 4), 1)])
def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """Softmax of the negated input along ``dim``."""
    return ops.softmax(-input, dim, dtype=dtype)


# ---------------------------------------------------------------------------------------------------- moments


def _sum_to(array, shape):
    """``array`` summed over the dims in which ``shape`` is smaller."""
    extra = array.ndim - len(shape)
    dims = (*range(extra), *[i + extra for i, n in enumerate(shape) if n == 1 and array.shape[i + extra] != 1])
    return np.add.reduce(array, dims).reshape(shape) if dims else array


def _standardized(input, weight, bias, dims, eps, centred, seen):
    """What `standardize` computes, in the op language."""
    if seen is not None:
        image, own = seen
        parts = [v if v is None else ops.reshape(v, own) for v in (weight, bias)]
        return ops.reshape(_standardized(ops.reshape(input, image), *parts, dims, eps, centred, None), input.shape)
    out = input - ops.mean(input, dims, True) if centred else input
    out = out / ops.sqrt(ops.mean(out * out, dims, True) + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _standardize_rule(gs, input, weight, bias_shape, centre, rstd, dims, eps, centred, seen, needs):
    return ops.standardize_backward(gs[0], input, weight, centre, rstd, dims=dims, eps=eps, centred=centred,
                                    bias_shape=bias_shape, needs=needs, seen=seen)  # fmt: skip


@op(network, namespace="internal", outputs="out mean var", constant_outputs=(1, 2), hidden=("centre", "rstd"),
    kernel=Kernel("normalize:standardize", above=512), vjp=_standardize_rule, samples=[
        sample(real(3, 4), real(4), real(4), dims=(1,), eps=1e-5, centred=True),
        sample(real(2, 4, 2), real(4), None, dims=(2, 3), eps=1e-5, centred=True, seen=((2, 2, 2, 2), (2, 2, 1))),
        sample(real(3, 2, 4), real(2, 1), None, dims=(0, 2), eps=1e-5, centred=False)])  # fmt: skip
def standardize(input, weight, bias, *, dims, eps, centred, seen=None):
    """(x - mean) / sqrt(var + eps) * weight + bias, the moments taken over ``dims``: what all normalising layers share.

    ``weight`` and ``bias`` broadcast to the input. With ``centred=False`` the mean is taken as 0 (root-mean-square
    norm). ``seen``: the shapes in which the input, and weight and bias, are looked at. Also returns the mean and the
    (biased) variance, with the reduced dims as size 1.
    """
    if input.dtype.kind != "f":
        raise RuntimeError(f"standardize: input must be floating-point, got {input.dtype}")
    wide, x = np.float32 if input.dtype == np.float16 else input.dtype, input
    if seen is not None:
        x = input.reshape(seen[0])
        weight, bias = [v if v is None else v.reshape(seen[1]) for v in (weight, bias)]
    count, mean = prod([x.shape[d] for d in dims]), None
    if centred:
        mean = np.add.reduce(x, dims, wide, None, True) / count
        out = x - mean
    else:
        out = x.astype(wide)
    var = np.add.reduce(out * out, dims, None, None, True) / count
    rstd = 1 / np.sqrt(var + eps)
    if weight is not None and _is_even(weight.shape, dims, x.ndim):
        out *= rstd * weight
    else:
        out *= rstd
        out = out if weight is None else np.multiply(out, weight, out=out)
    if bias is not None:
        out += bias
    if input.dtype is not wide:
        out = out.astype(input.dtype, copy=False)
    return out if seen is None else out.reshape(input.shape), mean, var, mean, rstd


@functools.lru_cache(KEPT)
def _is_even(shape, dims, ndim):
    """Whether a parameter of this shape is the same for all elements that are normalised together."""
    return all([d < ndim - len(shape) or shape[d - ndim] == 1 for d in dims])


def _standardize_backward_formula(g, input, weight, centre, rstd, *, dims, eps, centred, bias_shape, needs, seen):
    def formula(x, w, b):
        return _standardized(x, w, b, dims, eps, centred, seen)

    bias = np.zeros(bias_shape, input.array.dtype) if needs[2] else None
    return gradient_of(formula, (g,), (input, weight, bias), needs)


@op(
    network,
    namespace="internal",
    vjp=(),
    kernel=Kernel("normalize:standardize_backward", above=512),
    composite=_standardize_backward_formula,
    samples=[
        sample(
            real(3, 4),
            real(3, 4),
            real(4),
            real(3, 1),
            positive(3, 1),
            dims=(1,),
            eps=1e-5,
            centred=True,
            bias_shape=(4,),
            needs=(True, True, True),
        )
    ],
)
def standardize_backward(g, input, weight, centre, rstd, *, dims, eps, centred, bias_shape, needs, seen=None):
    """The gradients of `standardize` in input, weight and bias (None where not needed).

    With h = g * weight and n the normalised input: dx = rstd * (h - mean(h) - n * mean(h * n)), dw = sum(g * n), db =
    sum(g).
    """
    if seen is not None:
        parts = g.reshape(seen[0]), input.reshape(seen[0]), weight if weight is None else weight.reshape(seen[1])
        found = standardize_backward.record.function(*parts, centre, rstd, dims=dims, eps=eps, centred=centred,
                                                     bias_shape=seen[1], needs=needs)  # fmt: skip
        whole = zip(found, (input.shape, weight if weight is None else weight.shape, bias_shape), strict=True)
        return tuple([part if part is None else part.reshape(shape) for part, shape in whole])
    normal = (input - centre if centred else input) * rstd
    product = g * normal
    shapes = [None if weight is None else weight.shape, bias_shape if needs[2] else None]
    if all(s is None or _is_even(s, dims, input.ndim) for s in shapes):
        # the sums that dx needs are the gradients of weight and bias
        sums = np.add.reduce(product, dims, None, None, True), np.add.reduce(g, dims, None, None, True)
        dx = None
        if needs[0]:
            dx = _centred_gradient(g, normal, *sums, dims, centred, rstd if weight is None else rstd * weight)
    else:
        sums, dx = (product, g), None
        if needs[0]:
            sent, along = (g, product) if weight is None else (g * weight, product * weight)
            within = np.add.reduce(along, dims, None, None, True), np.add.reduce(sent, dims, None, None, True)
            dx = _centred_gradient(sent, normal, *within, dims, centred, rstd)
    return (
        dx if dx is None else dx.astype(input.dtype, copy=False),
        _sum_to(sums[0], weight.shape).astype(weight.dtype, copy=False) if needs[1] else None,
        _sum_to(sums[1], bias_shape) if needs[2] else None,
    )


def _centred_gradient(sent, normal, along, total, dims, centred, scale):
    """scale * (sent - mean(sent) - normal * mean(sent * normal)); overwrites ``normal``."""
    count = max(prod([normal.shape[d] for d in dims]), 1)
    normal *= along / count
    if centred:
        normal += total / count
    np.subtract(sent, normal, out=normal)
    normal *= scale
    return normal


def assign(target, value):
    """Write ``value`` into the tensor ``target`` without recording it: how running statistics are kept."""
    with no_grad():
        target._become(value)


def _update_running(running, value, momentum, factor=1.0):
    """running <- (1 - momentum) * running + momentum * factor * value."""
    if running is None:
        return
    if state.watch is None and isinstance(running, Tensor) and isinstance(value, Tensor):  # not through the door
        before, array = running.array, value.array.reshape(running.array.shape)
        value = wrap(before * (1 - momentum) + (array * factor if factor != 1 else array) * momentum)
    else:
        value = value * factor if factor != 1 else value
        with no_grad():
            value = running * (1 - momentum) + ops.reshape(value, running.shape) * momentum
    assign(running, value)


def _by_channel(values, ndim):
    """One value a channel, shaped to broadcast against (N, C, ...)."""
    return values if values is None or ndim == 2 else ops.reshape(values, (-1, *[1] * (ndim - 2)))


def _channel_vectors(function, channels, **vectors):
    for name, vector in vectors.items():
        if vector is not None and tuple(vector.shape) != (channels,):
            raise RuntimeError(f"{function}: {name} must have shape [{channels}], got {list(vector.shape)}")


def _by_statistics(input, running_mean, running_var, weight, bias, *, eps):
    """Normalise by given statistics: one scale and one shift a channel, in the op language."""
    scale = 1 / ops.sqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    return ops.addcmul(_by_channel(shift, input.ndim), input, _by_channel(scale, input.ndim))


@op(
    network,
    namespace="internal",
    vjp=(),
    composite=_by_statistics,
    kernel=Kernel("normalize:by_statistics", above=512),
    samples=[sample(real(2, 3, 4), real(3), positive(3), real(3), None, eps=1e-5)],
)
def by_statistics(input, running_mean, running_var, weight, bias, *, eps):
    """(x - mean) / sqrt(var + eps) * weight + bias of each channel of (N, C, ...), by given statistics."""
    return _by_statistics(input, running_mean, running_var, weight, bias, eps=eps)


def _by_running(input, *vectors, eps):
    """`by_statistics`; where it is recorded as what it is made of, which may be fused with what follows."""
    run = ops.by_statistics if state.watch is None else _by_statistics
    return run(input, *vectors, eps=eps)


BATCH = [
    sample(real(4, 3), None, None, positive(3), real(3), True),
    sample(real(2, 3, 4), real(3), positive(3), real(3)),
    sample(real(2, 3, 2, 2), None, None, None, None, True),
]


@op(composite, namespace="nn.functional", samples=BATCH)
def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel of (N, C, ...) by its mean and variance over the batch and the other dims.

    y = (x - mean) / sqrt(var + eps) * weight + bias. In ``training`` the statistics are the batch's, and the running
    ones (if given) move towards them by ``momentum``, with the unbiased variance; otherwise the running ones are
    used.
    """
    if tuple(input.shape) == (0,):
        return ops.clone(input)  # nothing to normalise
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: input must have at least 2 dims (N, C, ...), got shape {list(input.shape)}")
    channels = input.shape[1]
    _channel_vectors(
        "batch_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm: running_mean and running_var are needed when training=False, got None")
        return _by_running(input, running_mean, running_var, weight, bias, eps=eps)
    if eps <= 0:
        raise ValueError(f"batch_norm: eps must be positive during training, got {eps}")
    count = input.shape[0] * prod(input.shape[2:])
    if count == 1:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel when training, got shape {list(input.shape)}"
        )
    out, mean, var = ops.standardize(input, _by_channel(weight, input.ndim),
                                     _by_channel(bias, input.ndim),
                                     dims=(0, *range(2, input.ndim)), eps=eps, centred=True)  # fmt: skip
    if count:  # an empty batch says nothing
        _update_running(running_mean, mean, momentum)
        _update_running(running_var, var, momentum, count / (count - 1))
    return out


@op(composite, namespace="nn.functional", samples=[
    sample(real(2, 3, 4)), sample(real(2, 3, 2, 2), real(3), positive(3), positive(3), real(3), False)])  # fmt: skip
def instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    """Normalise each channel of each sample of (N, C, ...) by its own mean and variance, then scale and shift.

    Running statistics, if given, follow the mean over the batch; with ``use_input_stats=False`` they are used instead.
    """
    if input.ndim < 2:
        raise RuntimeError(f"instance_norm: input must have at least 2 dims (N, C, ...), got shape {list(input.shape)}")
    channels = input.shape[1]
    _channel_vectors(
        "instance_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "instance_norm: running_mean and running_var are needed when use_input_stats=False, got None"
            )
        return _by_running(input, running_mean, running_var, weight, bias, eps=eps)
    count = prod(input.shape[2:])
    if count == 1:
        raise ValueError(f"instance_norm: expected more than 1 spatial element, got input of shape {list(input.shape)}")
    out, mean, var = ops.standardize(input, _by_channel(weight, input.ndim), _by_channel(bias, input.ndim),
                                     dims=tuple(range(2, input.ndim)), eps=eps, centred=True)  # fmt: skip
    if running_mean is not None:
        _update_running(running_mean, ops.mean(mean, 0), momentum)
    if running_var is not None:
        _update_running(running_var, ops.mean(var, 0), momentum, count / (count - 1))
    return out


@op(composite, method=False, aliases=["nn.functional.group_norm"], samples=[
    sample(real(2, 4, 3), 2, real(4), real(4)), sample(real(2, 6, 2, 2), 3), sample(real(3, 4), 2)])  # fmt: skip
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise groups of channels of (N, C, ...) by their own mean and variance, then scale and shift by channel."""
    own = [v if v is None else tuple(v.shape) for v in (weight, bias)]
    dims, seen = _groups(tuple(input.shape), num_groups, *own)
    return ops.standardize(input, weight, bias, dims=dims, eps=eps, centred=True, seen=seen)[0]


@functools.lru_cache(KEPT)
def _groups(shape, num_groups, weight, bias):
    """(dims, seen) of `standardize` for groups of channels; raises where shapes do not fit."""
    if len(shape) < 2:
        raise RuntimeError(f"group_norm: input must have at least 2 dims (N, C, ...), got shape {list(shape)}")
    channels = shape[1]
    if num_groups < 1 or channels % num_groups:
        raise RuntimeError(
            f"group_norm: the number of channels must be a multiple of num_groups={num_groups}, got {channels}"
        )
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector not in (None, (channels,)):
            raise RuntimeError(f"group_norm: {name} must have shape [{channels}], got {list(vector)}")
    if channels and shape[0] * prod(shape[2:]) * (channels // num_groups) == 1:
        raise ValueError(f"group_norm: expected more than 1 value per channel when training, got shape {list(shape)}")
    each = channels // num_groups
    parameters = (num_groups, each, *[1] * (len(shape) - 2))
    return tuple(range(2, len(shape) + 1)), ((shape[0], num_groups, each, *shape[2:]), parameters)


@functools.lru_cache(KEPT)
def _trailing_dims(function, shape, wanted, weight=None, bias=None):
    """The last dims of ``shape`` that ``wanted`` names; raises where they or the parameters do not match."""
    if not wanted:
        raise RuntimeError(f"{function}: normalized_shape must have at least one dim, got {wanted!r}")
    if shape[-len(wanted) :] != wanted:
        raise RuntimeError(f"{function}: input must end in normalized_shape {list(wanted)}, got {list(shape)}")
    for name, own in (("weight", weight), ("bias", bias)):
        if own not in (None, wanted):
            raise RuntimeError(f"{function}: {name} must have shape {list(wanted)}, got {list(own)}")
    return tuple(range(len(shape) - len(wanted), len(shape)))


def _wanted(normalized_shape):
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


@op(composite, method=False, aliases=["nn.functional.layer_norm"], samples=[
    sample(real(3, 4), (4,), real(4), real(4)), sample(real(2, 3, 4), (3, 4))])  # fmt: skip
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last dims, those of ``normalized_shape``: (x - mean) / sqrt(var + eps) * weight + bias."""
    own = [v if v is None else v.shape for v in (weight, bias)]
    dims = _trailing_dims("layer_norm", input.shape, _wanted(normalized_shape), *own)
    return ops.standardize(input, weight, bias, dims=dims, eps=eps, centred=True)[0]


@op(
    composite,
    method=False,
    aliases=["nn.functional.rms_norm"],
    samples=[sample(real(3, 4), (4,), real(4)), sample(real(2, 3, 4), (3, 4), eps=0.1)],
)
def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divide by the root mean square over the last dims: x / sqrt(mean(x * x) + eps) * weight; eps: the type's."""
    own = None if weight is None else weight.shape
    dims = _trailing_dims("rms_norm", input.shape, _wanted(normalized_shape), own)
    eps = float(np.finfo(numpy_dtype(input.dtype)).eps) if eps is None else eps
    return ops.standardize(input, weight, None, dims=dims, eps=eps, centred=False)[0]


@op(composite, namespace="nn.functional", samples=[sample(real(2, 5, 3), 3, 0.5), sample(real(2, 4, 2, 2), 2)])
def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Divide by (k + alpha * mean of squares over ``size`` neighbouring channels) ** beta."""
    if input.ndim < 3:
        raise ValueError(f"local_response_norm: input must have at least 3 dims, got shape {list(input.shape)}")
    if 0 in input.shape:
        return input
    squares = ops.reshape(input * input, (input.shape[0], 1, input.shape[1], prod(input.shape[2:])))
    squares = ops.avg_pool2d(ops.pad(squares, (0, 0, size // 2, (size - 1) // 2)), (size, 1), 1)
    return input / (ops.reshape(squares, input.shape) * alpha + k) ** beta


@op(composite, namespace="nn.functional", samples=[distinct(3, 4), sample(distinct(2, 3), 1.5, -1)])
def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """Divide by the ``p``-norm along ``dim``, or by ``eps`` where the norm is smaller."""
    found = input / ops.clamp_min(ops.norm(input, p, dim, True), eps)
    return found if out is None else write_out(out, found)
