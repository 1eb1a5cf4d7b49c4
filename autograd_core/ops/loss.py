"""Losses: what training minimises. Most are the sum or the mean of terms, one for each element (see `pointwise`)."""

from __future__ import annotations

import math
import warnings

import numpy as np

from .. import ops
from ..modes import state
from ..registry import Kernel, arithmetic, composite, elementwise, network, op
from ..shapes import broadcast_shapes, numpy_dtype
from ..tensor import Tensor
from .arithmetic import xlogy
from .pointwise import steered, term, total
from .samples import integer, positive, real, sample
from .second_order import gradient_of

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


def _shape_of(name, known, value):
    if isinstance(value, Tensor):
        return value.array.shape
    if not hasattr(value, "shape"):
        raise TypeError(f"{name}: {known} must be a Tensor, got {type(value).__name__}")
    return tuple(value.shape)


def _same_size(name, input, target):
    have, want = _shape_of(name, "target", target), _shape_of(name, "input", input)
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


# ---------------------------------------------------------------------------------------------------- classes


def _class_dim(name, input, target, weight):
    """Where the classes lie; raises unless target has the shape of input without that dim."""
    shape, given = _shape_of(name, "input", input), _shape_of(name, "target", target)
    dim = 1 if len(shape) > 1 else 0
    if not shape:
        raise RuntimeError(f"{name}: input must have at least one dim, got a 0-d tensor")
    wanted = shape[:dim] + shape[dim + 1 :]
    if given != wanted:
        kind = ValueError if dim and given and given[0] != shape[0] else RuntimeError
        raise kind(f"{name}: target must have shape {list(wanted)} for input of {list(shape)}, got {list(given)}")
    if weight is not None and tuple(weight.shape) != (shape[dim],):
        raise RuntimeError(
            f"{name}: weight must have shape [{shape[dim]}], one for each class, got {list(weight.shape)}"
        )
    if weight is not None and weight.dtype != input.dtype:
        raise RuntimeError(f"{name}: weight must have the dtype of input, expected scalar type {input.dtype} but found "
                           f"{weight.dtype}")  # fmt: skip
    if (target.array.dtype if isinstance(target, Tensor) else target.dtype).kind not in "iu":
        raise RuntimeError(f"{name}: target must hold class indices (int64), got {target.dtype}")
    return dim


def _of_target(weight, safe, valid):
    """The weight of each target's class, 0 for those to be ignored."""
    found = ops.reshape(ops.index_select(weight, 0, ops.reshape(safe, (-1,))), tuple(safe.shape))
    return ops.where(valid, found, 0.0)


CLASSES = [sample(real(5, 3), integer(5, high=3)), sample(real(2, 3, 4), integer(2, 4, high=3), positive(3)),
           sample(real(3), np.int64(1)), sample(real(4, 3), np.array([0, -100, 2, 1]), reduction="none"),
           sample(real(4, 3), np.array([0, 1, 2, 1]), positive(3), ignore_index=1, reduction="sum")]  # fmt: skip


@op(composite, namespace="nn.functional", samples=CLASSES)
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """Negative log-likelihood of classes: -weight[target] * input[target].

    ``input`` (N, C, ...) or (C): log-probabilities; ``target``: class indices.
    Targets equal to ``ignore_index`` count nothing. The mean divides by the sum of the targets' weights.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    dim = _class_dim("nll_loss", input, target, weight)
    learned = isinstance(weight, Tensor) and weight.requires_grad  # the fused operation takes weights as constants
    if learned or steered():
        return _nll_formula(input, target, weight, dim, ignore_index, reduction)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"nll_loss: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if dim:
        return ops.nll(input, target, weight, ignore_index=ignore_index, reduction=reduction)
    found = ops.nll(ops.unsqueeze(input, 0), ops.unsqueeze(target, 0), weight, ignore_index=ignore_index,
                    reduction=reduction)  # fmt: skip
    return ops.squeeze(found, 0) if reduction == "none" else found


def _nll_formula(input, target, weight, dim, ignore_index, reduction):
    """`nll_loss` in the op language."""
    valid = target != ignore_index
    safe = ops.where(valid, target, 0)
    picked = ops.squeeze(ops.gather(input, dim, ops.unsqueeze(safe, dim)), dim)
    share = None if weight is None else _of_target(weight, safe, valid)
    loss = ops.where(valid, -picked, 0.0) if share is None else ops.where(valid, -picked * share, 0.0)
    if reduction == "mean":
        return ops.sum(loss) / ops.sum(valid if share is None else share)
    return reduced(loss, reduction, "nll_loss")


def _safe_classes(target, ignore_index, classes):
    """(targets with 0 in place of those to be ignored, which are not ignored); raises for a class that is none."""
    valid = target != ignore_index
    safe = np.where(valid, target, 0)
    if safe.size and not 0 <= safe.min() <= safe.max() < classes:
        wrong = safe.min() if safe.min() < 0 else safe.max()
        raise IndexError(f"target {wrong} is out of bounds for {classes} classes")
    return safe, valid


def _raising(record):
    """Let the body say which class does not exist where the kernel found one: the sum of weights is NaN then."""
    kernel, body = record.run, record.function

    def run(*arrays, **settings):
        found = kernel(*arrays, **settings)
        return found if found[-1] == found[-1] else body(*arrays, **settings)

    record.run = run


def _limits(input, target, weight, ignore_index, **_):
    return 1, input.shape[1], ignore_index


@op(network, namespace="internal", hidden=("total",), kernel=Kernel("cross_entropy:nll", above=512, indices=_limits),
    vjp=[lambda g, input_shape, target, weight, total, ignore_index, reduction: ops.nll_backward(
        g, target, weight, total, classes=input_shape[1], ignore_index=ignore_index, reduction=reduction)],
    samples=[sample(real(5, 3), integer(5, high=3), None, ignore_index=-100, reduction="mean"),
             sample(real(2, 3, 4), integer(2, 4, high=3), positive(3), ignore_index=1, reduction="none")])  # fmt: skip
def nll(input, target, weight, *, ignore_index, reduction):
    """-weight[y] * input[y] of log-probabilities (N, C, ...) and classes y (N, ...): mean, sum, or one a sample."""
    safe, valid = _safe_classes(target, ignore_index, input.shape[1])
    share = valid if weight is None else np.where(valid, weight[safe], 0)
    loss = np.where(valid, -np.take_along_axis(input, safe[:, None], 1)[:, 0] * share, 0)
    total = np.add.reduce(share, None, input.dtype)
    if reduction == "none":
        return loss, total
    loss = np.add.reduce(loss, None)
    return (loss / total if reduction == "mean" else loss), total


@op(network, namespace="internal",
    kernel=Kernel("cross_entropy:nll_backward", above=0, when=lambda g, target, *_, classes, **__:
                  target.size * classes >= 4096),
    vjp=[lambda g, target, weight, total, ignore_index, reduction: (
        ops.nll(g, target, weight, ignore_index=ignore_index, reduction="none" if reduction == "none" else "sum")
        / (total if reduction == "mean" else 1))],
    samples=[sample(real(), integer(5, high=3), None, positive(), classes=3, ignore_index=-100, reduction="mean"),
             sample(real(2, 4), integer(2, 4, high=3), positive(3), positive(), classes=3, ignore_index=1,
                    reduction="none")])  # fmt: skip
def nll_backward(g, target, weight, total, *, classes, ignore_index, reduction):
    """The gradient of `nll` in the log-probabilities: zero but at the targets."""
    safe, valid = _safe_classes(target, ignore_index, classes)
    share = np.where(valid, g / total if reduction == "mean" else g, 0)
    found = np.zeros((target.shape[0], classes, *target.shape[1:]), g.dtype)
    np.put_along_axis(found, safe[:, None], -(share if weight is None else share * weight[safe])[:, None], 1)
    return found


_raising(nll.record)


def _smoothed_formula(input, target, weight, *, ignore_index, label_smoothing, reduction):
    """Cross-entropy with class indices in the op language: what `softmax_nll` computes at once."""
    logs = ops.log_softmax(input, 1)
    loss = ops.nll_loss(logs, target, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return loss
    valid = target != ignore_index
    shared = logs if weight is None else logs * ops.reshape(weight, (-1, *[1] * (input.ndim - 2)))
    even = ops.where(valid, -ops.sum(shared, 1), 0.0)
    if reduction == "mean":
        share = valid if weight is None else _of_target(weight, ops.where(valid, target, 0), valid)
        even = ops.sum(even) / ops.sum(share)
    else:
        even = reduced(even, reduction, "cross_entropy")
    return (1 - label_smoothing) * loss + label_smoothing / input.shape[1] * even


FUSED = {"ignore_index": -100, "label_smoothing": 0.1, "reduction": "mean"}


@op(
    network,
    namespace="internal",
    hidden=("lse", "total"),
    kernel=Kernel("cross_entropy:softmax_nll", above=512, indices=_limits),
    vjp=[
        lambda g, input, target, weight, lse, total, ignore_index, label_smoothing, reduction: ops.softmax_nll_backward(
            g,
            input,
            target,
            weight,
            lse,
            total,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
    ],
    samples=[
        sample(real(5, 3), integer(5, high=3), None, **FUSED),
        sample(real(2, 3, 4), integer(2, 4, high=3), positive(3), **FUSED),
    ],
)
def softmax_nll(input, target, weight, *, ignore_index, label_smoothing, reduction):
    """Cross-entropy of softmax(input) (N, C, ...) with class indices (N, ...), without storing the probabilities.

    With l = logsumexp(x): weight[y] * (l - x[y]), mixed by ``label_smoothing`` with the mean of weight * (l - x) over
    classes.
    """
    safe, valid = _safe_classes(target, ignore_index, input.shape[1])
    safe = safe[:, None]
    top = np.max(input, 1, keepdims=True, initial=-np.inf)
    lse = np.log(np.sum(np.exp(input - top), 1, keepdims=True)) + top
    share = valid.astype(input.dtype) if weight is None else np.where(valid, weight[safe[:, 0]], input.dtype.type(0))
    loss = np.where(valid, (lse - np.take_along_axis(input, safe, 1))[:, 0] * share, input.dtype.type(0))
    if label_smoothing:
        spread = lse - input if weight is None else (lse - input) * weight.reshape(-1, *[1] * (input.ndim - 2))
        even = np.where(valid, np.sum(spread, 1), input.dtype.type(0))
        loss = loss * (1 - label_smoothing) + even * (label_smoothing / input.shape[1])
    total = np.sum(share)
    if reduction == "none":
        return loss, lse, total
    return (np.sum(loss) / total if reduction == "mean" else np.sum(loss)), lse, total


_raising(softmax_nll.record)


@op(
    network,
    namespace="internal",
    vjp=(),
    kernel=Kernel("cross_entropy:softmax_nll_backward", above=512, by=1),
    composite=lambda g, input, target, weight, lse, total, **settings: gradient_of(
        lambda x: _smoothed_formula(x, target, weight, **settings), (g,), (input,), (True,)
    )[0],
    samples=[sample(real(), real(5, 3), integer(5, high=3), None, real(5, 1), positive(), **FUSED)],
)
def softmax_nll_backward(g, input, target, weight, lse, total, *, ignore_index, label_smoothing, reduction):
    """The gradient of `softmax_nll`: g * weight[y] * (softmax(x) - onehot(y)), for the part that is not smoothed."""
    valid = target != ignore_index
    safe = np.where(valid, target, 0)[:, None]
    scale = np.where(valid, g / total if reduction == "mean" else g, input.dtype.type(0)).astype(input.dtype)[:, None]
    share = scale if weight is None else scale * weight[safe]
    probabilities = np.exp(input - lse)
    hard = share * (1 - label_smoothing) if label_smoothing else share
    if not label_smoothing:
        found = probabilities * hard
    elif weight is None:
        found = probabilities * (hard + scale * label_smoothing) - scale * (label_smoothing / input.shape[1])
    else:
        each = weight.reshape(-1, *[1] * (input.ndim - 2)) * (label_smoothing / input.shape[1])
        found = probabilities * (hard + scale * np.sum(each)) - scale * each
    np.put_along_axis(found, safe, np.take_along_axis(found, safe, 1) - hard, 1)
    return found


@op(composite, namespace="nn.functional", samples=[
    *CLASSES, sample(real(4, 3), positive(4, 3)), sample(real(4, 3), positive(4, 3), positive(3), label_smoothing=0.2),
    sample(real(2, 3, 4), integer(2, 4, high=3), positive(3), label_smoothing=0.2)])  # fmt: skip
def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0):  # fmt: skip
    """Cross-entropy of softmax(input) over the classes of (N, C, ...) or (C): -log(softmax(input)[target]).

    ``target``: class indices (N, ...), or probabilities of the shape of input. ``weight``: one for each class.
    ``ignore_index``: a class index that counts nothing. ``label_smoothing`` mixes targets with the uniform
    distribution. The mean over class indices divides by the sum of their weights, over probabilities by the number of
    samples.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"cross_entropy: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if tuple(target.shape) == tuple(input.shape) and numpy_dtype(target.dtype).kind == "f":
        if ignore_index >= 0:
            raise RuntimeError("cross_entropy: ignore_index is not supported for floating point target, "
                               f"got {ignore_index}")  # fmt: skip
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    alone = _class_dim("cross_entropy", input, target, weight) == 0
    if alone:
        input, target = ops.unsqueeze(input, 0), ops.unsqueeze(target, 0)
    learned = isinstance(weight, Tensor) and weight.requires_grad  # the fused operation takes weights as constants
    loss = (_smoothed_formula if learned else ops.softmax_nll)(
        input, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )
    return ops.squeeze(loss, 0) if alone and reduction == "none" else loss


def _soft_cross_entropy(input, target, weight, reduction, label_smoothing):
    """Cross-entropy with probabilities as targets."""
    dim = 1 if input.ndim > 1 else 0
    classes = input.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    logs = ops.log_softmax(input, dim) * target
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise RuntimeError(f"cross_entropy: weight must have shape [{classes}], got {list(weight.shape)}")
        logs = logs * ops.reshape(weight, (-1, *[1] * (input.ndim - dim - 1)))
    if reduction == "none":
        return -ops.sum(logs, dim)
    total = -ops.sum(logs)
    return total if reduction == "sum" else total / max(math.prod(input.shape) // max(classes, 1), 1)
