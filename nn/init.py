"""Initial values of parameters. Every function fills its tensor in place, without a history, and returns it."""

from __future__ import annotations

import math
import warnings
from functools import wraps

import numpy as np

from autograd_core import Tensor, storage
from autograd_core.modes import no_grad
from autograd_core.tensor import wrap

_GAINS = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
_LINEAR = frozenset(
    ["linear", *[f"conv{n}d" for n in (1, 2, 3)], *[f"conv_transpose{n}d" for n in (1, 2, 3)]])


def calculate_gain(nonlinearity, param=None) -> float:
    """The factor by which a layer's weights should be larger for the nonlinearity behind it.

    ``param`` is the negative slope of a ``leaky_relu``, 0.01 by default.
    """
    if nonlinearity in _LINEAR:
        return 1
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}; supported are "
                         f"{', '.join(sorted({*_LINEAR, *_GAINS, 'leaky_relu'}))}")  # fmt: skip
    return _GAINS[nonlinearity]


def _put(tensor, values):
    """Write an array into ``tensor``."""
    np.copyto(tensor.array, values, casting="unsafe")
    storage.log_write(tensor.array)
    return tensor


def _drawn(shape, method, *args, generator=None):
    """Floats in double precision: ``method`` of a fresh tensor, such as ``normal_``."""
    return getattr(wrap(np.empty(shape)), method)(*args, generator=generator).array


@no_grad()
def uniform_(tensor: Tensor, a=0.0, b=1.0, generator=None) -> Tensor:
    """Fill with numbers drawn evenly from [a, b)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"uniform_: tensor must be a Tensor, got {type(tensor).__name__}")
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean=0.0, std=1.0, generator=None) -> Tensor:
    """Fill with numbers drawn from the normal distribution."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(tensor: Tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None) -> Tensor:
    """Fill with numbers drawn from the normal distribution, restricted to [a, b].

    ``a`` and ``b`` are values, not multiples of ``std``.
    """
    low, high = (a - mean) / std, (b - mean) / std
    values = np.empty(tensor.array.size)
    missing = np.arange(values.size)
    while missing.size:
        if low < 1.5 and high > -1.5 and high - low > 1:  # most normal draws fall inside
            drawn = _drawn(missing.size, "normal_", generator=generator)
            keep = (drawn >= low) & (drawn <= high)
        else:  # even draws, kept in proportion to the density
            drawn = _drawn(missing.size, "uniform_", low, high, generator=generator)
            peak = min(max(0.0, low), high)
            keep = _drawn(missing.size, "uniform_", generator=generator) < np.exp((peak * peak - drawn * drawn) / 2)
        values[missing[keep]] = drawn[keep]
        missing = missing[~keep]
    return _put(tensor, np.clip(values * std + mean, a, b).reshape(tensor.array.shape))


@no_grad()
def constant_(tensor: Tensor, val) -> Tensor:
    """Fill with ``val``."""
    return _put(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity (ones on the diagonal)."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: only tensors with 2 dimensions are supported, got {tensor.ndim}")
    return _put(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups=1) -> Tensor:
    """Fill a convolution's weights so that each of the ``groups`` passes its input channels on unchanged."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_: only tensors with 3, 4, or 5 dimensions are supported, got {tensor.ndim}")
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: dim 0 must be divisible by groups, got {tensor.shape[0]} and {groups}")
    values = np.zeros(tensor.shape)
    out_channels = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(out_channels, tensor.shape[1])):
            values[(group * out_channels + channel, channel, *centre)] = 1
    return _put(tensor, values)


def _calculate_fan_in_and_fan_out(tensor):
    if tensor.ndim < 2:
        raise ValueError("init: Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, got "
                         f"{tensor.ndim}")  # fmt: skip
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _calculate_correct_fan(tensor, mode):
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def xavier_uniform_(tensor: Tensor, gain=1.0, generator=None) -> Tensor:
    """Fill evenly from ±gain·√(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain=1.0, generator=None) -> Tensor:
    """Fill from a normal distribution of standard deviation gain·√(2 / (fan_in + fan_out)); see `xavier_uniform_`."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(tensor: Tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None) -> Tensor:
    """Fill evenly from ±gain·√(3 / fan) (He et al., 2015).

    ``a`` is the negative slope of a ``leaky_relu``; ``mode`` keeps the variance forward (fan_in) or backward (fan_out).
    """
    if 0 in tensor.shape:
        warnings.warn("the tensor has no elements, so nothing is drawn", stacklevel=2)
        return tensor
    bound = math.sqrt(3) * calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None) -> Tensor:
    """Fill from a normal distribution of standard deviation gain / √fan (He et al., 2015); see `kaiming_uniform_`."""
    if 0 in tensor.shape:
        warnings.warn("the tensor has no elements, so nothing is drawn", stacklevel=2)
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)


@no_grad()
def orthogonal_(tensor: Tensor, gain=1, generator=None) -> Tensor:
    """Fill with a random matrix whose rows or columns are orthonormal, times ``gain`` (Saxe et al., 2014).

    Dimensions after the first count as one.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: only tensors with 2 or more dimensions are supported, got {tensor.ndim}")
    if tensor.array.size == 0:
        return tensor
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    drawn = _drawn((rows, columns), "normal_", generator=generator)
    q, r = np.linalg.qr(drawn.T if rows < columns else drawn)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform
    return _put(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


@no_grad()
def sparse_(tensor: Tensor, sparsity, std=0.01, generator=None) -> Tensor:
    """Fill a matrix from a normal distribution, with a share ``sparsity`` of every column set to zero."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: only tensors with 2 dimensions are supported, got {tensor.ndim}")
    zeros = math.ceil(sparsity * tensor.shape[0])
    values = _drawn(tensor.shape, "normal_", 0, std, generator=generator)
    order = np.argsort(_drawn(tensor.shape, "uniform_", generator=generator), axis=0)
    np.put_along_axis(values, order[:zeros], 0, axis=0)
    return _put(tensor, values)


def _older(function):
    known = function.__name__[:-1]

    @wraps(function)
    def called(*args, **kwargs):
        warnings.warn(f"nn.init.{known} is the older name of nn.init.{known}_", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    called.__name__ = called.__qualname__ = known
    called.__doc__ = f"The older name of `{known}_`."
    return called


uniform, normal, constant, eye, dirac = map(_older, (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = map(_older, (xavier_uniform_, xavier_normal_))
kaiming_uniform, kaiming_normal = map(_older, (kaiming_uniform_, kaiming_normal_))
orthogonal, sparse = map(_older, (orthogonal_, sparse_))
