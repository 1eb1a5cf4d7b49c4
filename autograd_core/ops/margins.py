"""Losses with a margin."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import Kernel, composite, elementwise, network, op
from ..shapes import broadcast_shapes
from .distances import inner_products
from .loss import logistic_nll, reduced, reduction_of
from .pointwise import steered, term, total
from .samples import boolean, integer, positive, real, sample
from .second_order import gradient_of

# ---------------------------------------------------------------------------------------------------- margins


def _ranking_slope(g, input1, input2, target, margin, factor):
    return g * ops.where(margin - target * (input1 - input2) >= 0, factor, 0)


@term(scalar="max(margin - target * (input1 - input2), 0)",
      vjp=[lambda g, input1, input2, target, margin: _ranking_slope(g, input1, input2, target, margin, -target),
           lambda g, input1, input2, target, margin: _ranking_slope(g, input1, input2, target, margin, target),
           lambda g, input1, input2, target, margin:
               _ranking_slope(g, input1, input2, target, margin, input2 - input1)],
      samples=[sample(real(3, 4), real(3, 4), real(3, 4), margin=0.5)])  # fmt: skip
def ranking_hinge(input1, input2, target, *, margin):
    """max(0, margin - target * (input1 - input2))."""
    return np.maximum(margin - target * (input1 - input2), 0)


@term(scalar="(max(margin - input, 0) if target != 1 else 0) + (input if target != -1 else 0)",
      vjp=[lambda g, input, target, margin: (
          ops.where(target != -1, g, 0) - ops.where(ops.logical_and(target != 1, input <= margin), g, 0)), None],
      samples=[sample(real(4), np.array([1, -1, 1, -1]), margin=0.5)])  # fmt: skip
def embedding_hinge(input, target, *, margin):
    """``input`` where target is 1, max(0, margin - input) where it is -1, both together elsewhere."""
    return np.where(target != 1, np.maximum(margin - input, 0), 0) + np.where(target != -1, input, 0)


@term(scalar="log1p(exp(-abs(target * input))) - min(target * input, 0)", family=elementwise,
      vjp=[lambda g, input, target: -g * target * ops.sigmoid(-target * input),
           lambda g, input, target: -g * input * ops.sigmoid(-target * input)],
      samples=[sample(real(3, 4), real(3, 4))])  # fmt: skip
def soft_margin(input, target):
    """log(1 + exp(-target * input)), without overflow."""
    x = target * input
    return np.log1p(np.exp(-np.abs(x))) - np.minimum(x, 0)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(4), real(4), np.array([1, -1, 1, -1])),
        sample(real(3, 4), real(3, 4), np.ones((3, 4), np.int64), 0.5, reduction="none"),
    ],
)
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, margin - target * (input1 - input2)): small where the order of two scores is as target (1 or -1) says."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(f"margin_ranking_loss: input1, input2 and target must have as many dims, got shapes "
                           f"{list(input1.shape)}, {list(input2.shape)}, {list(target.shape)}")  # fmt: skip
    reduction = reduction_of(size_average, reduce, reduction)
    return total(ranking_hinge, reduction, "margin_ranking_loss", input1, input2, target, margin=margin)


@op(
    composite,
    namespace="nn.functional",
    samples=[sample(real(4), np.array([1, -1, 1, -1])), sample(real(4), np.array([1, -1, 1, 1]), 0.5)],
)
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """The distance ``input`` where target is 1, max(0, margin - input) where it is -1."""
    reduction = reduction_of(size_average, reduce, reduction)
    return total(embedding_hinge, reduction, "hinge_embedding_loss", input, target, margin=margin)


@term(scalar="(1 - cosine if target == 1 else 0) + (max(cosine - margin, 0) if target == -1 else 0)",
      vjp=[lambda g, cosine, target, margin: (
          ops.where(ops.logical_and(target == -1, cosine >= margin), g, 0) - ops.where(target == 1, g, 0)), None],
      samples=[sample(real(4), np.array([1, -1, 1, -1]), margin=0.5)])  # fmt: skip
def cosine_hinge(cosine, target, *, margin):
    """1 - cosine where target is 1, max(0, cosine - margin) where it is -1, 0 elsewhere."""
    return np.where(target == 1, 1 - cosine, 0) + np.where(target == -1, np.maximum(cosine - margin, 0), 0)


@op(composite, namespace="nn.functional", samples=[
    sample(real(3, 4), real(3, 4), np.array([1, -1, 1])), sample(real(4), real(4), np.array(-1), 0.1)])  # fmt: skip
def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where it is -1."""
    if target.ndim > 1 or input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise RuntimeError(
            f"cosine_embedding_loss: a 0-d target needs 1-d inputs and a 1-d target 2-d inputs, got shapes "
            f"{list(input1.shape)}, {list(input2.shape)}, {list(target.shape)}"
        )
    reduction, tiny = reduction_of(size_average, reduce, reduction), 1e-12
    if input1.shape != input2.shape:
        shape = broadcast_shapes(input1.shape, input2.shape)
        input1, input2 = ops.expand(input1, shape), ops.expand(input2, shape)
    product, first, second = inner_products(input1, input2, -1)
    cosine = product / ops.sqrt((first + tiny) * (second + tiny))
    return total(cosine_hinge, reduction, "cosine_embedding_loss", cosine, target, margin=margin)


@op(
    composite, namespace="nn.functional", samples=[sample(real(3, 4), np.where(np.arange(12).reshape(3, 4) % 2, 1, -1))]
)
def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target * input)) for targets 1 and -1."""
    return total(soft_margin, reduction_of(size_average, reduce, reduction), "soft_margin_loss", input, target)


def _rows(name, input, target, of_class):
    """Input (N, C) and target with a batch dim; raises where the shapes do not match."""
    if not input.ndim:
        input, target = ops.reshape(input, (1,)), target if of_class else ops.reshape(target, (1,))
    if input.ndim > 2 or input.shape[-1] == 0:
        raise RuntimeError(f"{name}: input must have shape (N, C) or (C), classes not empty, got {list(input.shape)}")
    wanted = input.shape[:-1] if of_class else input.shape
    if of_class and input.ndim == 1 and tuple(target.shape) == (1,):
        return ops.unsqueeze(input, 0), target, False
    if tuple(target.shape) != tuple(wanted):
        raise RuntimeError(
            f"{name}: target must have shape {list(wanted)} for input {list(input.shape)}, got {list(target.shape)}"
        )
    return (ops.unsqueeze(input, 0), ops.unsqueeze(target, 0), True) if input.ndim == 1 else (input, target, False)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(4, 3), integer(4, high=3)),
        sample(real(4, 3), integer(4, high=3), 2, 0.5, positive(3), reduction="none"),
    ],
)
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Hinge loss over classes: the sum over j != y of weight[y] * max(0, margin - x[y] + x[j]) ** p, over C."""
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    input, target, alone = _rows("multi_margin_loss", input, target, True)
    if weight is not None and tuple(weight.shape) != (input.shape[1],):
        raise ValueError(f"multi_margin_loss: weight must have shape [{input.shape[1]}], got {list(weight.shape)}")
    places = ops.unsqueeze(target, 1)
    excess = ops.clamp_min(margin - ops.gather(input, 1, places) + input, 0)
    excess = excess if p == 1 else excess * excess
    if weight is not None:
        excess = excess * ops.unsqueeze(ops.index_select(weight, 0, target), 1)
    loss = ops.sum(ops.where(np.arange(input.shape[1]) == places, 0.0, excess), 1) / input.shape[1]
    return _without_batch(loss, alone, reduction_of(size_average, reduce, reduction), "multi_margin_loss")


def _without_batch(loss, alone, reduction, name):
    return reduced(ops.squeeze(loss, 0) if alone else loss, reduction, name)


LABELS = np.array([[3, 0, -1, 1], [1, -1, 0, 0]])


def _labels(input, target):
    """For each class of each sample, up to the first negative one: its row, itself, and the excess of all classes."""
    rows, places = np.nonzero(np.minimum.accumulate(target, 1) >= 0)
    own = target[rows, places]
    excess = 1 - input[rows, own][:, None] + input[rows]
    among = np.zeros(input.shape, bool)
    among[rows, own] = True
    return rows, own, np.where(among[rows] | (excess <= 0), 0, excess)


def _are_classes(input, target):
    return bool(np.maximum.reduce(target, None) < input.shape[1])


@op(network, namespace="internal", kernel=Kernel("multilabel:losses", above=256, when=_are_classes),
    vjp=[lambda g, input, target: ops.label_hinge_backward(g, input, target)],
    samples=[sample(real(2, 4), LABELS)])  # fmt: skip
def label_hinge(input, target):
    """The sums over classes y of a sample and all others j of max(0, 1 - x[y] + x[j]), over the number of classes."""
    rows, _, excess = _labels(input, target)
    found = np.zeros(input.shape[:1], input.dtype)
    np.add.at(found, rows, np.add.reduce(excess, 1))
    return found / input.shape[1]


@op(network, namespace="internal", vjp=(),
    kernel=Kernel("multilabel:gradient", above=256, by=1, when=lambda g, input, target: _are_classes(input, target)),
    composite=lambda g, input, target: gradient_of(lambda x: _label_formula(x, target), (g,), (input,), (True,))[0],
    samples=[sample(real(2), real(2, 4), LABELS)])  # fmt: skip
def label_hinge_backward(g, input, target):
    """The gradient of `label_hinge`."""
    rows, own, excess = _labels(input, target)
    shares = (excess != 0) * (g / input.shape[1])[rows][:, None]
    found = np.zeros(input.shape, input.dtype)
    np.add.at(found, rows, shares)
    np.subtract.at(found, (rows, own), np.add.reduce(shares, 1))
    return found


def _label_formula(input, target):
    """`label_hinge` in the op language."""
    classes = input.shape[1]
    listed = ops.cumprod(ops.to(target >= 0, np.int64), 1) > 0
    safe = ops.where(listed, target, 0)
    among = ops.any((ops.unsqueeze(safe, 2) == np.arange(classes)) & ops.unsqueeze(listed, 2), 1)
    excess = ops.clamp_min(1 - ops.unsqueeze(ops.gather(input, 1, safe), 2) + ops.unsqueeze(input, 1), 0)
    counted = ops.unsqueeze(listed, 2) & ~ops.unsqueeze(among, 1)
    return ops.sum(ops.where(counted, excess, 0.0), (1, 2)) / classes


@op(composite, namespace="nn.functional", samples=[sample(real(2, 4), LABELS)])
def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """Hinge loss between each target class and each other class, divided by the number of classes.

    ``target`` (N, C) lists the classes of each sample, up to the first -1.
    """
    input, target, alone = _rows("multilabel_margin_loss", input, target, False)
    loss = _label_formula(input, target) if steered() else ops.label_hinge(input, target)
    return _without_batch(loss, alone, reduction_of(size_average, reduce, reduction), "multilabel_margin_loss")


@op(
    composite,
    namespace="nn.functional",
    samples=[sample(real(3, 4), boolean(3, 4)), sample(real(3, 4), boolean(3, 4), positive(4))],
)
def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """The mean over classes of the cross-entropy of sigmoid(input) with targets 0 and 1."""
    reduction = reduction_of(size_average, reduce, reduction)
    target = ops.to(target, input.dtype)
    if weight is None and reduction in ("mean", "sum"):
        count = 1 if reduction == "sum" else math.prod(input.shape[:-1])
        return total(logistic_nll, "mean", "multilabel_soft_margin_loss", input, target, count=count * input.shape[-1])
    loss = logistic_nll(input, target)
    loss = loss if weight is None else loss * weight
    return reduced(ops.mean(loss, -1), reduction, "multilabel_soft_margin_loss")


# ---------------------------------------------------------------------------------------------------- triplets


@term(scalar="max(margin + near - far, 0)",
      vjp=[lambda g, near, far, margin: ops.where(margin + near - far >= 0, g, 0),
           lambda g, near, far, margin: ops.where(margin + near - far >= 0, -g, 0)],
      samples=[sample(positive(4), positive(4), margin=0.5)])  # fmt: skip
def triplet_hinge(near, far, *, margin):
    """max(0, margin + near - far)."""
    return np.maximum(margin + near - far, 0)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(3, 4), real(3, 4), real(3, 4)),
        sample(real(3, 4), real(3, 4), real(3, 4), 0.5, 1.0, swap=True, reduction="none"),
    ],
)
def triplet_margin_loss(
    anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"
):
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d the ``p``-norm distance.

    ``swap`` takes d(positive, negative) for the second distance where it is smaller.
    """
    return ops.triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=lambda a, b: ops.pairwise_distance(a, b, p, eps), margin=margin,
        swap=swap, reduction=reduction_of(size_average, reduce, reduction))  # fmt: skip


@op(composite, namespace="nn.functional", samples=[sample(real(3, 4), real(3, 4), real(3, 4), margin=0.5)])
def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False,
                                      reduction="mean"):  # fmt: skip
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) for any distance d (default: `pairwise_distance`)."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(
            f"triplet_margin_with_distance_loss: reduction must be 'none', 'mean' or 'sum', got {reduction!r}"
        )
    if margin <= 0:
        raise ValueError(f"triplet_margin_with_distance_loss: margin must be positive, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "triplet_margin_with_distance_loss: anchor, positive and negative must have as many dims, got shapes "
            f"{list(anchor.shape)}, {list(positive.shape)}, {list(negative.shape)}"
        )
    distance = distance_function or ops.pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = ops.minimum(far, distance(positive, negative))
    return total(triplet_hinge, reduction, "triplet_margin_with_distance_loss", near, far, margin=margin)
