"""Losses: what training minimises. Most are the sum or the mean of terms, one for each element (see `pointwise`)."""

from __future__ import annotations

import math
import warnings

import numpy as np

from .. import ops
from ..modes import state
from ..registry import arithmetic, composite, elementwise, op
from ..shapes import broadcast_shapes
from ..tensor import Tensor
from .arithmetic import xlogy
from .pointwise import term, total
from .samples import positive, real, sample

# ---------------------------------------------------------------------------------------------------- shared


def reduced(loss, reduction, name):
    """The mean, the sum or, with 'none', every element of ``loss``."""
    if reduction == "mean":
        return ops.mean(loss)
    if reduction == "sum":
        return ops.sum(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def reduction_of(size_average, reduce, reduction):
    """The reduction that the old arguments ``size_average`` and ``reduce`` ask for, if they are given."""
    if size_average is None and reduce is None:
        return reduction
    found = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(f"size_average and reduce are deprecated, please use reduction={found!r} instead", stacklevel=3)
    return found


def shape_of(name, known, value):
    """The shape of an argument; raises where it has none."""
    if isinstance(value, Tensor):
        return value.array.shape
    if not hasattr(value, "shape"):
        raise TypeError(f"{name}: {known} must be a Tensor, got {type(value).__name__}")
    return tuple(value.shape)


def _same_size(name, input, target):
    have, want = shape_of(name, "target", target), shape_of(name, "input", input)
    if have != want:
        warnings.warn(
            f"{name}: target has shape {list(have)}, input {list(want)}: they are broadcast, which is seldom meant",
            stacklevel=3,
        )
        broadcast_shapes(want, have)


def _weighted(terms, reduction, name, weight, *arrays, by_weight=True, **settings):
    """Reduce with a weight for each element; the mean divides by the weights' sum, or by their number."""
    if weight is None:
        return total(terms, reduction, name, *arrays, **settings)
    wanted = tuple(arrays[0].shape)
    if tuple(weight.shape) != wanted:
        raise ValueError(f"{name}: weight must have the shape of input, {list(wanted)}, got {list(weight.shape)}")
    loss = terms(*arrays, **settings) * weight
    return ops.sum(loss) / ops.sum(weight) if reduction == "mean" and by_weight else reduced(loss, reduction, name)


@op(arithmetic, namespace="internal", out=False, scalar="max(input, least)", vjp=[lambda g: g],
    samples=[sample(positive(3, 4), least=0.1)])  # fmt: skip
def raised_to(input, *, least):
    """``input`` or ``least`` where that is more; the gradient passes everywhere."""
    return np.maximum(input, least)


PAIR = [
    sample(real(3, 4), real(3, 4)),
    sample(real(3, 4), real(3, 4), reduction="none"),
    sample(real(4), real(4), reduction="sum"),
]

# ---------------------------------------------------------------------------------------------------- regression


@term(
    scalar="(input - target) * (input - target)",
    samples=PAIR[:1],
    vjp=[lambda g, input, target: 2 * g * (input - target), lambda g, input, target: 2 * g * (target - input)],
)
def squared_error(input, target):
    """(input - target) ** 2."""
    difference = input - target
    return difference * difference


@term(
    scalar="abs(input - target)",
    samples=PAIR[:1],
    vjp=[lambda g, input, target: g * ops.sign(input - target), lambda g, input, target: g * ops.sign(target - input)],
)
def absolute_error(input, target):
    """|input - target|."""
    return np.abs(input - target)


@term(scalar="curvature * (min(abs(input - target), delta) * (abs(input - target)"
             " - 0.5 * min(abs(input - target), delta)))",
      vjp=[lambda g, input, target, delta, curvature: g * curvature * ops.clamp(input - target, -delta, delta),
           lambda g, input, target, delta, curvature: g * curvature * ops.clamp(target - input, -delta, delta)],
      samples=[sample(real(3, 4), real(3, 4), delta=1.0, curvature=0.5)])  # fmt: skip
def huber_error(input, target, *, delta, curvature):
    """With d = |input - target|: d * d / 2 up to ``delta``, delta * (d - delta / 2) above; times ``curvature``."""
    size = np.abs(input - target)
    curved = np.minimum(size, delta)
    return curvature * (curved * (size - 0.5 * curved))


@op(composite, namespace="nn.functional", samples=[*PAIR, sample(real(3), real(3), weight=positive(3))])
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Squared error: (input - target) ** 2, weighted if ``weight`` is given (the mean then divides by its sum)."""
    _same_size("mse_loss", input, target)
    return _weighted(squared_error, reduction_of(size_average, reduce, reduction), "mse_loss", weight, input, target)


@op(composite, namespace="nn.functional", samples=[*PAIR, sample(real(3), real(3), weight=positive(3))])
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Absolute error: |input - target|, weighted if ``weight`` is given (the mean then divides by its sum)."""
    _same_size("l1_loss", input, target)
    return _weighted(absolute_error, reduction_of(size_average, reduce, reduction), "l1_loss", weight, input, target)


@op(composite, namespace="nn.functional", samples=[*PAIR, sample(real(4), real(4), beta=0.5)])
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared error below ``beta``, absolute error above: d * d / (2 beta) where |d| < beta, else |d| - beta / 2."""
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    _same_size("smooth_l1_loss", input, target)
    reduction = reduction_of(size_average, reduce, reduction)
    if beta == 0:
        return total(absolute_error, reduction, "smooth_l1_loss", input, target)
    return total(huber_error, reduction, "smooth_l1_loss", input, target, delta=beta, curvature=1 / beta)


@op(composite, namespace="nn.functional", samples=[*PAIR, sample(real(4), real(4), delta=0.5)])
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared error up to ``delta``, linear above: d * d / 2 where |d| <= delta, else delta * (|d| - delta / 2)."""
    if delta <= 0:
        raise RuntimeError(f"huber_loss: delta must be positive, got {delta}")
    _same_size("huber_loss", input, target)
    return _weighted(huber_error, reduction, "huber_loss", weight, input, target, by_weight=False, delta=delta,
                     curvature=1.0)  # fmt: skip


@term(scalar="exp(input) - target * input", family=elementwise, samples=[sample(real(3, 4), positive(3, 4))],
      vjp=[lambda g, input, target: g * (ops.exp(input) - target), lambda g, input: -g * input])  # fmt: skip
def poisson_nll_of_log(input, target):
    """exp(input) - target * input."""
    return np.exp(input) - target * input


@term(scalar="input - target * log(input + eps)", family=elementwise,
      vjp=[lambda g, input, target, eps: g * (1 - target / (input + eps)),
           lambda g, input, eps: -g * ops.log(input + eps)],
      samples=[sample(positive(3, 4), positive(3, 4), eps=1e-8)])  # fmt: skip
def poisson_nll(input, target, *, eps):
    """input - target * log(input + eps)."""
    return input - target * np.log(input + eps)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(3, 4), positive(3, 4)),
        sample(positive(4), positive(4), False, True),
        sample(real(4), positive(4), reduction="none"),
    ],
)
def poisson_nll_loss(
    input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"
):
    """Negative log-likelihood of Poisson counts: exp(input) - target * input.

    With ``log_input=False``: input - target * log(input + eps).
    ``full`` adds Stirling's approximation of log(target!) where target > 1.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    terms, settings = (poisson_nll_of_log, {}) if log_input else (poisson_nll, {"eps": eps})
    if not full:
        return total(terms, reduction, "poisson_nll_loss", input, target, **settings)
    stirling = target * ops.log(target) - target + 0.5 * ops.log(2 * math.pi * target)
    loss = terms(input, target, **settings) + ops.where(target <= 1, 0.0, stirling)
    return reduced(loss, reduction, "poisson_nll_loss")


@term(scalar="0.5 * (log(max(var, eps)) + (input - target) * (input - target) / max(var, eps))",
      vjp=[lambda g, input, target, var, eps: g * (input - target) / ops.raised_to(var, least=eps),
           lambda g, input, target, var, eps: g * (target - input) / ops.raised_to(var, least=eps),
           lambda g, input, target, var, eps: _gaussian_slope(g, input - target, ops.raised_to(var, least=eps))],
      family=elementwise, samples=[sample(real(3, 4), real(3, 4), positive(3, 4), eps=1e-6)])  # fmt: skip
def gaussian_nll(input, target, var, *, eps):
    """(log(v) + (input - target) ** 2 / v) / 2, where v is var, and at least ``eps``."""
    var, difference = np.maximum(var, eps), input - target
    return 0.5 * (np.log(var) + difference * difference / var)


def _gaussian_slope(g, difference, var):
    return 0.5 * g * (1 - difference * difference / var) / var


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(3, 4), real(3, 4), positive(3, 4)),
        sample(real(3, 4), real(3, 4), positive(3, 1), True, reduction="none"),
    ],
)
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """Negative log-likelihood of normal values: (log(var) + (input - target) ** 2 / var) / 2, var at least ``eps``.

    ``var``: a number, or variances of the shape of input, or that shape with one dim missing or of size 1. ``full``
    adds log(2 pi) / 2.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"gaussian_nll_loss: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if isinstance(var, float):
        var = ops.full_like(input, var)
    if (var.array < 0).any() if isinstance(var, Tensor) and state.watch is None else bool(ops.any(var < 0)):
        raise ValueError("gaussian_nll_loss: var must not be negative")
    have, want = tuple(var.shape), tuple(input.shape)
    if have != want:
        if have == want[:-1]:
            var = ops.unsqueeze(var, -1)
        elif len(have) != len(want) or sum(v for i, v in zip(want, have, strict=True) if i != v) != 1:
            raise ValueError(
                f"gaussian_nll_loss: var must have the shape of input, {list(want)}, or one dim of size 1 or "
                f"missing, got {list(have)}"
            )
    if not full:
        return total(gaussian_nll, reduction, "gaussian_nll_loss", input, target, var, eps=eps)
    loss = ops.gaussian_nll(input, target, var, eps=eps) + 0.5 * math.log(2 * math.pi)
    return reduced(loss, reduction, "gaussian_nll_loss")


# ---------------------------------------------------------------------------------------------------- probabilities


@term(scalar="(target if target != target else 0 if target == 0 else target * log(target)) - target * input",
      vjp=[lambda g, target: -g * target,
           lambda g, input, target: g * (ops.where(target == 0, 0, ops.log(target)) + target / target - input)],
      family=elementwise, samples=[sample(real(3, 4), positive(3, 4))])  # fmt: skip
def relative_entropy(input, target):
    """target * (log(target) - input), 0 where target is 0."""
    return xlogy.record.function(target, target) - target * input


@term(scalar="exp(target) * (target - input)", family=elementwise, samples=[sample(real(3, 4), real(3, 4))],
      vjp=[lambda g, target: -g * ops.exp(target),
           lambda g, input, target: g * ops.exp(target) * (target - input + 1)])  # fmt: skip
def relative_entropy_of_logs(input, target):
    """exp(target) * (target - input)."""
    return np.exp(target) * (target - input)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(3, 4), positive(3, 4), reduction="batchmean"),
        sample(real(3, 4), real(3, 4), log_target=True, reduction="sum"),
    ],
)
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """Kullback-Leibler divergence of probabilities from log-probabilities ``input``: target * (log(target) - input).

    'batchmean' divides the sum by the first size, as the mathematical definition does; 'mean' divides by all elements.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if reduction == "mean" and size_average is None and reduce is None:
        warnings.warn(
            "kl_div: reduction 'mean' divides by batch and support size; 'batchmean' is the definition", stacklevel=2
        )
    terms = relative_entropy_of_logs if log_target else relative_entropy
    if reduction == "batchmean":
        return total(terms, "mean", "kl_div", input, target, count=input.shape[0] if input.ndim else 1)
    return total(terms, reduction, "kl_div", input, target)


@term(family=elementwise, vjp=[
    lambda g, input, target: g * (input - target) / ops.clamp_min((1 - input) * input, 1e-12),
    lambda g, input: g * (_log_at_least(1 - input) - _log_at_least(input))],
    samples=[sample(positive(3, 4, high=0.9), positive(3, 4, high=1))])  # fmt: skip
def bernoulli_nll(input, target):
    """-(target log(input) + (1 - target) log(1 - input)): logarithms at least -100, gradient finite at 0 and 1."""
    if input.size and not (np.min(input) >= 0 and np.max(input) <= 1):
        raise RuntimeError("binary_cross_entropy: all elements of input should be between 0 and 1")
    return (target - 1) * np.maximum(np.log1p(-input), -100) - target * np.maximum(np.log(input), -100)


def _log_at_least(x):
    return ops.clamp_min(ops.log(x), -100)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(positive(3, 4, high=0.9), positive(3, 4, high=1)),
        sample(positive(3, 4, high=0.9), positive(3, 4, high=1), real(4)),
    ],
)
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Cross-entropy of probabilities: -(target log(input) + (1 - target) log(1 - input)), logarithms at least -100."""
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(f"binary_cross_entropy: target must have the shape of input, {list(input.shape)}, "
                         f"got {list(target.shape)}")  # fmt: skip
    reduction = reduction_of(size_average, reduce, reduction)
    if weight is None:
        return total(bernoulli_nll, reduction, "binary_cross_entropy", input, target)
    return reduced(bernoulli_nll(input, target) * weight, reduction, "binary_cross_entropy")


@term(scalar="max(input, 0) - input * target + log1p(exp(-abs(input)))",
      vjp=[lambda g, input, target: g * (ops.sigmoid(input) - target), lambda g, input: -g * input],
      samples=[sample(real(3, 4), positive(3, 4, high=1))])  # fmt: skip
def logistic_nll(input, target):
    """Cross-entropy of sigmoid(input) and target: log(1 + exp(x)) - x * target, without overflow."""
    return np.maximum(input, 0) - input * target + np.log1p(np.exp(-np.abs(input)))


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(3, 4), positive(3, 4, high=1)),
        sample(real(3, 4), positive(3, 4, high=1), real(4), pos_weight=positive(4)),
    ],
)
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None):  # fmt: skip
    """Cross-entropy of sigmoid(input): -(pos_weight * target log(sigmoid(x)) + (1 - target) log(1 - sigmoid(x))).

    Works on the logits, so that large ones lose no precision. ``weight`` scales each element.
    """
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(f"binary_cross_entropy_with_logits: target must have the shape of input, {list(input.shape)}, "
                         f"got {list(target.shape)}")  # fmt: skip
    reduction = reduction_of(size_average, reduce, reduction)
    if pos_weight is None:
        if weight is None:
            return total(logistic_nll, reduction, "binary_cross_entropy_with_logits", input, target)
        loss = logistic_nll(input, target)
    else:
        loss = (1 - target) * input - ((pos_weight - 1) * target + 1) * ops.logsigmoid(input)
    loss = loss if weight is None else loss * weight
    return reduced(loss, reduction, "binary_cross_entropy_with_logits")
