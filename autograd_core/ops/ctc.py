"""Connectionist temporal classification: the loss of a sequence whose labels are not aligned with its steps."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import composite, network, op
from ..shapes import numpy_dtype
from ..tensor import Tensor
from .loss import reduced
from .samples import real, sample
from .second_order import gradient_of


def _with_blanks(targets, target_lengths, blank):
    """Targets between blanks: (labels (N, 2 S + 1), whether a step may skip the blank before)."""
    longest = int(target_lengths.max(initial=0))
    if targets.ndim == 1:  # all targets in one row, one after the other
        ends = np.cumsum(target_lengths)
        at = (ends - target_lengths)[:, None] + np.arange(longest)
        rows = targets[np.minimum(at, max(targets.size - 1, 0))] if targets.size else np.zeros(at.shape, np.int64)
    else:
        rows = targets[:, :longest]
    rows = np.where(np.arange(longest) < target_lengths[:, None], rows, blank)
    labels = np.full((len(target_lengths), 2 * longest + 1), blank, np.int64)
    labels[:, 1::2] = rows
    skips = np.zeros(labels.shape, bool)
    skips[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skips


def _shifted(scores, by, fill):
    """Scores moved ``by`` places along the last dim, ``fill`` where nothing comes from."""
    return ops.cat([ops.expand(fill, (scores.shape[0], by)), scores[:, :-by]], 1)


def _ctc_formula(log_probs, targets, input_lengths, target_lengths, blank):
    """What `ctc` computes, in the op language: the forward recursion over steps."""
    labels, skips = _with_blanks(*[_array(t) for t in (targets, target_lengths)], blank)
    states = labels.shape[1]
    lengths, ends = _array(input_lengths), 2 * _array(target_lengths)
    dtype = numpy_dtype(log_probs.dtype)
    lowest = np.full((1, 1), np.finfo(dtype).min / 4, dtype)  # finite, or the gradient would be NaN where no path leads
    scores = ops.where(np.arange(states) < 2, ops.gather(log_probs[0], 1, labels), lowest)
    for t in range(1, int(lengths.max(initial=0))):
        ways = [scores, _shifted(scores, 1, lowest)]
        if states > 2:
            ways.append(ops.where(skips, _shifted(scores, 2, lowest), lowest))
        reached = ops.logsumexp(ops.stack(ways), 0)
        scores = ops.where((t < lengths)[:, None], reached + ops.gather(log_probs[t], 1, labels), scores)
    last = ops.gather(scores, 1, ends[:, None])
    before = ops.where(ends[:, None] > 0, ops.gather(scores, 1, np.maximum(ends - 1, 0)[:, None]), lowest)
    return -ops.logsumexp(ops.cat([last, before], 1), 1)


def _array(value):
    return value.array if isinstance(value, Tensor) else value


def _log_sum(*terms):
    """log of the sum of exponentials of arrays; minus infinity adds nothing."""
    top = np.maximum.reduce(terms)
    base = np.where(np.isneginf(top), top.dtype.type(0), top)
    return np.log(sum(np.exp(term - base) for term in terms)) + base


def _ctc_scan(emitted, skips, lengths):
    """The log-probability of all paths to each state: (T, N, states); steps past a sequence's end repeat its last."""
    scores = np.full(emitted.shape, -np.inf, emitted.dtype)
    scores[0, :, :2] = emitted[0, :, :2]
    for t in range(1, len(emitted)):
        stay = scores[t - 1]
        move, skip = np.full_like(stay, -np.inf), np.full_like(stay, -np.inf)
        move[:, 1:] = stay[:, :-1]
        skip[:, 2:] = np.where(skips[:, 2:], stay[:, :-2], stay.dtype.type(-np.inf))
        scores[t] = np.where((t < lengths)[:, None], _log_sum(stay, move, skip) + emitted[t], stay)
    return scores


@op(
    network,
    namespace="internal",
    hidden=("paths",),
    vjp=[
        lambda g, input, targets, input_lengths, target_lengths, out, paths, blank: ops.ctc_backward(
            g, input, targets, input_lengths, target_lengths, out, paths, blank=blank
        )
    ],
    samples=[sample(real(5, 2, 4), np.array([[1, 2], [3, 3]]), np.array([5, 4]), np.array([2, 2]), blank=0)],
)
def ctc(input, targets, input_lengths, target_lengths, *, blank):
    """Connectionist temporal classification: -log of the probability of all alignments of a target with its sequence.

    ``input`` (T, N, C): log-probabilities. The sum runs over paths through the target with blanks between its labels.
    Source: Graves et al., Connectionist Temporal Classification, 2006.
    """
    labels, skips = _with_blanks(targets, target_lengths, blank)
    emitted = np.take_along_axis(input, np.broadcast_to(labels, (len(input), *labels.shape)), 2)
    paths = _ctc_scan(emitted, skips, input_lengths)
    final = paths[-1]
    last = np.take_along_axis(final, 2 * target_lengths[:, None], 1)[:, 0]
    before = np.take_along_axis(final, np.maximum(2 * target_lengths - 1, 0)[:, None], 1)[:, 0]
    return -_log_sum(last, np.where(target_lengths > 0, before, before.dtype.type(-np.inf))), paths


@op(
    network,
    namespace="internal",
    vjp=(),
    composite=lambda g, input, targets, input_lengths, target_lengths, out, paths, *, blank: gradient_of(
        lambda x: _ctc_formula(x, targets, input_lengths, target_lengths, blank), (g,), (input,), (True,)
    )[0],
    samples=[
        sample(
            real(2),
            real(5, 2, 4),
            np.array([[1, 2], [3, 3]]),
            np.array([5, 4]),
            np.array([2, 2]),
            real(2),
            real(5, 2, 5),
            blank=0,
        )
    ],
)
def ctc_backward(g, input, targets, input_lengths, target_lengths, out, paths, *, blank):
    """The gradient of `ctc`: minus the probability of being at each label, by the recursion backwards in time."""
    labels, skips = _with_blanks(targets, target_lengths, blank)
    length, (batch, states) = len(input), labels.shape
    emitted = np.take_along_axis(input, np.broadcast_to(labels, (length, batch, states)), 2)
    place = np.arange(states)
    ends = 2 * target_lengths[:, None]
    low = input.dtype.type(-np.inf)
    from_here = np.full((batch, states), low, input.dtype)  # log-probability of all paths from each state to the end
    found = np.zeros_like(input)
    rows = np.arange(batch)[:, None]
    for t in reversed(range(length)):
        onward = from_here + (emitted[t + 1] if t + 1 < length else 0)
        move, skip = np.full_like(onward, low), np.full_like(onward, low)
        move[:, :-1] = onward[:, 1:]
        skip[:, :-2] = np.where(skips[:, 2:], onward[:, 2:], low)
        last = (t == input_lengths - 1)[:, None]
        finish = np.where((place == ends) | ((place == ends - 1) & (ends > 0)), input.dtype.type(0), low)
        from_here = np.where(last, finish, np.where((t < input_lengths)[:, None], _log_sum(onward, move, skip), low))
        share = np.exp(paths[t] + from_here + out[:, None]) * g[:, None]
        counts = (t < input_lengths) & (g != 0)  # an infinite loss that was zeroed gives zeros, not NaN
        np.subtract.at(found[t], (rows, labels), np.where(counts[:, None], share, input.dtype.type(0)))
    return found


def _lengths(name, given, batch, most):
    """Lengths as an int64 array of one a sample; raises where one is out of range."""
    found = np.asarray(_array(given))
    if found.dtype.kind not in "iu":
        raise RuntimeError(f"ctc_loss: {name} must be integers, got {found.dtype}")
    found = found.astype(np.int64).reshape(-1)
    if len(found) != batch:
        raise RuntimeError(f"ctc_loss: {name} must have one length for each of {batch} samples, got {len(found)}")
    if len(found) and not 0 <= found.min() <= found.max() <= most:
        raise RuntimeError(f"ctc_loss: {name} must lie between 0 and {most}, got {found.min()} to {found.max()}")
    return found


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(6, 2, 4), np.array([[1, 2], [3, 3]]), (6, 5), (2, 1)),
        sample(real(6, 2, 4), np.array([1, 2, 3]), (6, 5), (2, 1), reduction="none"),
        sample(real(6, 4), np.array([1, 3]), (6,), (2,)),
    ],
)
def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """Connectionist temporal classification: -log of the probability of all alignments of targets with sequences.

    ``log_probs`` (T, N, C) or (T, C); ``targets`` (N, S), or all targets in one row; lengths: one a sample. The mean
    divides each loss by its target's length first. ``zero_infinity`` zeroes the losses of targets too long for their
    sequence.
    """
    alone = log_probs.ndim == 2
    if log_probs.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: log_probs must have shape (T, N, C) or (T, C), got {list(log_probs.shape)}")
    log_probs = ops.unsqueeze(log_probs, 1) if alone else log_probs
    length, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss: blank must be one of {classes} classes, got {blank}")
    rows = np.asarray(_array(targets))
    if rows.dtype.kind not in "iu" or rows.ndim not in (1, 2) or not length:
        raise RuntimeError(
            f"ctc_loss: targets must be integers of 1 or 2 dims and log_probs not empty, got {rows.dtype}"
            f"{list(rows.shape)} and {list(log_probs.shape)}"
        )
    inputs = _lengths("input_lengths", input_lengths, batch, length)
    outputs = _lengths("target_lengths", target_lengths, batch, rows.shape[-1])
    if rows.ndim == 1 and outputs.sum() > rows.size:
        raise RuntimeError(f"ctc_loss: target_lengths add up to {outputs.sum()}, targets have {rows.size} labels")
    if rows.ndim == 2 and len(rows) != batch:
        raise RuntimeError(f"ctc_loss: targets must have one row for each of {batch} samples, got {list(rows.shape)}")
    loss = ops.ctc(log_probs, rows, inputs, outputs, blank=blank)
    if zero_infinity:
        loss = ops.where(loss == math.inf, 0.0, loss)
    if reduction == "mean":
        return ops.mean(loss / np.maximum(outputs, 1).astype(numpy_dtype(log_probs.dtype)))
    loss = ops.squeeze(loss, 0) if alone and reduction == "none" else loss
    return reduced(loss, reduction, "ctc_loss")
