"""Losses of classes: nll_loss, and cross_entropy, which never stores the probabilities."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import Kernel, composite, network, op
from ..shapes import numpy_dtype
from ..tensor import Tensor
from .loss import reduced, reduction_of, shape_of
from .pointwise import steered
from .samples import integer, positive, real, sample
from .second_order import gradient_of

# ---------------------------------------------------------------------------------------------------- log-probabilities


def _class_dim(name, input, target, weight):
    """Where the classes lie; raises unless target has the shape of input without that dim."""
    shape, given = shape_of(name, "input", input), shape_of(name, "target", target)
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


# ---------------------------------------------------------------------------------------------------- cross-entropy

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
