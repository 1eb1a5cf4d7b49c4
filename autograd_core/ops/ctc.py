"""Connectionist temporal classification: the loss of a sequence whose labels are not aligned with its steps."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import Kernel, composite, network, op
from ..shapes import numpy_dtype
from ..tensor import Tensor
from .index import within
from .loss import reduced
from .samples import real, sample
from .second_order import gradient_of

KERNEL_FROM = 1024
"""Log-probabilities from which a kernel works; below, NumPy goes through the steps."""


def _array(value):
    return value.array if isinstance(value, Tensor) else value


# -------------------------------------------------------------------------------------------------- in the op language


def _with_blanks(targets, target_lengths, blank):
    """Targets between blanks: (labels (N, 2 S + 1), whether a step may skip the blank before)."""
    longest = targets.shape[1]
    labels = np.full((len(target_lengths), 2 * longest + 1), blank, np.int64)
    labels[:, 1::2] = np.where(np.arange(longest) < target_lengths[:, None], targets, blank)
    skips = np.zeros(labels.shape, bool)
    skips[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skips


def _shifted(scores, by, fill):
    """Scores moved ``by`` places along the last dim, ``fill`` where nothing comes from."""
    return ops.cat([ops.expand(fill, (scores.shape[0], by)), scores[:, :-by]], 1)


def _ctc_formula(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity):
    """What `ctc` computes, in the op language: the forward recursion over steps."""
    targets, steps, lengths = [_array(t) for t in (targets, input_lengths, target_lengths)]
    labels, skips = _with_blanks(targets, lengths, blank)
    states, ends, dtype = labels.shape[1], 2 * lengths[:, None], numpy_dtype(log_probs.dtype)
    lowest = np.full((1, 1), np.finfo(dtype).min / 4, dtype)  # finite, or the gradient would be NaN where no path leads
    scores = ops.where(np.arange(states) < 2, ops.gather(log_probs[0], 1, labels), lowest)
    for t in range(1, int(steps.max(initial=0))):
        ways = [scores, _shifted(scores, 1, lowest)]
        if states > 2:
            ways.append(ops.where(skips, _shifted(scores, 2, lowest), lowest))
        reached = ops.logsumexp(ops.stack(ways), 0)
        scores = ops.where((t < steps)[:, None], reached + ops.gather(log_probs[t], 1, labels), scores)
    last = ops.gather(scores, 1, ends)
    before = ops.where(ends > 0, ops.gather(scores, 1, np.maximum(ends - 1, 0)), lowest)
    loss = -ops.logsumexp(ops.cat([last, before], 1), 1)
    impossible = _array(loss) > -lowest[0] / 2
    loss = ops.where(steps > 0, ops.where(impossible, 0.0 if zero_infinity else math.inf, loss), 0.0)
    if reduction == "mean":
        loss = loss / np.maximum(lengths, 1).astype(dtype)
    return reduced(loss, reduction, "ctc_loss")


# ---------------------------------------------------------------------------------------------------- on arrays


def _fit(log_probs, targets, input_lengths, target_lengths, *_, blank, **__):
    """Whether all lengths fit and all labels are classes; places behind a target's end may hold anything."""
    time, _, classes = log_probs.shape
    if not within(input_lengths, 0, time + 1) or not within(target_lengths, 0, targets.shape[1] + 1):
        return False
    return within(targets, 0, classes) or within(_with_blanks(targets, target_lengths, blank)[0], 0, classes)


def _check(log_probs, targets, input_lengths, target_lengths, blank):
    """Raise unless lengths and labels `_fit`."""
    time, _, classes = log_probs.shape
    for name, found, most in (
        ("input_lengths", input_lengths, time), ("target_lengths", target_lengths, targets.shape[1])
    ):  # fmt: skip
        if not within(found, 0, most + 1):
            raise RuntimeError(f"{name} must lie between 0 and {most}, got {found.min()} to {found.max()}")
    if not _fit(log_probs, targets, input_lengths, target_lengths, blank=blank):
        raise IndexError(f"labels must be classes from 0 to {classes - 1}, got {targets.min()} to {targets.max()}")


def _log_sum(*terms):
    """log of the sum of exponentials of arrays; minus infinity adds nothing."""
    top = np.maximum.reduce(terms)
    base = np.where(np.isneginf(top), top.dtype.type(0), top)
    return np.log(sum(np.exp(term - base) for term in terms)) + base


def _emitted(log_probs, labels):
    """The log-probability of each state at each step: (T, N, states)."""
    return np.take_along_axis(log_probs, np.broadcast_to(labels, (len(log_probs), *labels.shape)), 2)


def _skip_scores(skips, dtype):
    """What is added to the paths that skip the blank before a state: minus infinity where they may not."""
    return np.where(skips, dtype.type(0), dtype.type(-np.inf))


@op(
    network,
    namespace="internal",
    hidden=("paths", "losses"),
    kernel=Kernel("ctc:plan_ctc", above=KERNEL_FROM, when=_fit),
    vjp=[
        lambda g, input, targets, input_lengths, target_lengths, paths, losses, blank, reduction, zero_infinity: (
            ops.ctc_backward(g, input, targets, input_lengths, target_lengths, paths, losses, blank=blank,
                             reduction=reduction, zero_infinity=zero_infinity)
        )
    ],
    samples=[sample(real(5, 2, 4), np.array([[1, 2], [3, 3]]), np.array([5, 4]), np.array([2, 2]), blank=0,
                    reduction=reduction, zero_infinity=False) for reduction in ("none", "mean")],
)  # fmt: skip
def ctc(input, targets, input_lengths, target_lengths, *, blank, reduction, zero_infinity):
    """Connectionist temporal classification: -log of the probability of all alignments of a target with its sequence.

    ``input`` (T, N, C): log-probabilities; ``targets`` (N, S). The sum runs over paths through the target with blanks
    between its labels. Hidden: the log-probability of all paths to each state, as `kernels.ctc` lays them out, and the
    loss of each sample. Source: Graves et al., Connectionist Temporal Classification, 2006.
    """
    from ..kernels.ctc import FRONT, path_width

    _check(input, targets, input_lengths, target_lengths, blank)
    dtype, (time, batch, _) = input.dtype, input.shape
    labels, skips = _with_blanks(targets, target_lengths, blank)
    emitted, scores = _emitted(input, labels), _skip_scores(skips, dtype)
    states, rows = labels.shape[1], np.arange(batch)
    paths = np.full((batch, time, path_width(targets.shape[1])), -np.inf, dtype)
    known = paths[:, :, FRONT : FRONT + states]
    known[:, 0, :2] = emitted[0, :, :2]
    for t in range(1, int(input_lengths.max(initial=0))):
        stay, move, skip = [paths[:, t - 1, at : at + states] for at in (FRONT, FRONT - 1, FRONT - 2)]
        known[:, t] = _log_sum(stay, move, skip + scores) + emitted[t]
    last = paths[rows, np.maximum(input_lengths - 1, 0)]
    losses = -_log_sum(last[rows, FRONT + 2 * target_lengths], last[rows, FRONT + 2 * target_lengths - 1])
    losses = np.where(input_lengths > 0, losses, np.where(target_lengths > 0, math.inf, 0)).astype(dtype)
    loss = np.where(losses == math.inf, dtype.type(0), losses) if zero_infinity else losses
    if reduction == "mean":
        loss = (loss / np.maximum(target_lengths, 1)).mean(dtype=dtype)
    elif reduction == "sum":
        loss = loss.sum()
    return np.asarray(loss), paths, losses


@op(
    network,
    namespace="internal",
    kernel=Kernel("ctc:plan_ctc_backward", above=KERNEL_FROM, by=1,
                  when=lambda g, *given, **rest: _fit(*given, **rest)),
    vjp=(),
    composite=lambda g, input, targets, input_lengths, target_lengths, paths, losses, **settings: gradient_of(
        lambda x: _ctc_formula(x, targets, input_lengths, target_lengths, **settings), (g,), (input,), (True,)
    )[0],
    samples=[
        sample(real(2), real(5, 2, 4), np.array([[1, 2], [3, 3]]), np.array([5, 4]), np.array([2, 2]),
               real(2, 5, 18), real(2), blank=0, reduction="none", zero_infinity=False)
    ],
)  # fmt: skip
def ctc_backward(g, input, targets, input_lengths, target_lengths, paths, losses, *, blank, reduction, zero_infinity):
    """The gradient of `ctc`: minus the probability of being at each label, by the recursion backwards in time."""
    from ..kernels.ctc import FRONT

    dtype, length, batch = input.dtype, len(input), input.shape[1]
    labels, skips = _with_blanks(targets, target_lengths, blank)
    emitted, scores = _emitted(input, labels), _skip_scores(skips, dtype)
    states = labels.shape[1]
    place, ends, low = np.arange(states), 2 * target_lengths[:, None], dtype.type(-np.inf)
    finish = np.where((place == ends) | ((place == ends - 1) & (ends > 0)), dtype.type(0), low)
    scale = g / (np.maximum(target_lengths, 1) * batch).astype(dtype) if reduction == "mean" else g
    scale = np.broadcast_to(scale, (batch,))[:, None]
    counts = ~(zero_infinity & (losses == math.inf))
    onward = np.full((batch, states + 2), low, dtype)  # log-probability of all paths from each state on to the end
    found = np.zeros(input.shape, dtype)
    rows = np.arange(batch)[:, None]
    for t in reversed(range(length)):
        further = _log_sum(onward[:, :-2], onward[:, 1:-1], onward[:, 2:] + np.roll(scores, -2, 1))
        here = np.where((t == input_lengths - 1)[:, None], finish, further)
        share = np.exp(paths[:, t, FRONT : FRONT + states] + here + losses[:, None]) * scale
        reached = (t < input_lengths)[:, None]
        np.subtract.at(found[t], (rows, labels), np.where(counts[:, None] & reached, share, dtype.type(0)))
        onward[:, :-2] = np.where(reached, here + emitted[t], low)
    return found


# -------------------------------------------------------------------------------------------------- the public function


def _lengths(name, given, batch):
    """Lengths as an int64 array of one a sample."""
    found = np.asarray(_array(given))
    if found.dtype.kind not in "iu":
        raise RuntimeError(f"ctc_loss: {name} must be integers, got {found.dtype}")
    if found.dtype != np.int64 or found.ndim != 1:
        found = found.astype(np.int64).reshape(-1)
    if len(found) != batch:
        raise RuntimeError(f"ctc_loss: {name} must have one length for each of {batch} samples, got {len(found)}")
    return found


def _rows_of(targets, lengths, blank):
    """Targets that stand in one row, one after the other, as one row each."""
    if not within(lengths, 0, targets.size + 1) or lengths.sum() > targets.size:
        raise RuntimeError(f"ctc_loss: target_lengths {lengths.tolist()} do not fit {targets.size} targets in one row")
    rows = np.full((len(lengths), int(lengths.max(initial=0))), blank, np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = targets[: lengths.sum()]
    return rows


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
    alone, rows = log_probs.ndim == 2, np.asarray(_array(targets))
    if log_probs.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: log_probs must have shape (T, N, C) or (T, C), got {list(log_probs.shape)}")
    log_probs = ops.unsqueeze(log_probs, 1) if alone else log_probs
    length, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss: blank must be one of {classes} classes, got {blank}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"ctc_loss: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if rows.dtype.kind not in "iu" or rows.ndim not in (1, 2) or not length:
        raise RuntimeError(
            f"ctc_loss: targets must be integers of 1 or 2 dims and log_probs not empty, got {rows.dtype}"
            f"{list(rows.shape)} and {list(log_probs.shape)}"
        )
    inputs = _lengths("input_lengths", input_lengths, batch)
    outputs = _lengths("target_lengths", target_lengths, batch)
    longest = max(int(inputs.max(initial=1)), -(-KERNEL_FROM // (batch * classes or 1)))
    if 2 * longest < length:  # the rest of the steps is in no sequence
        log_probs = log_probs[:longest]
    if rows.ndim == 2 and len(rows) != batch:
        raise RuntimeError(f"ctc_loss: targets must have one row for each of {batch} samples, got {list(rows.shape)}")
    rows = _rows_of(rows, outputs, blank) if rows.ndim == 1 else rows
    rows = rows if rows.dtype == np.int64 else rows.astype(np.int64)
    loss = ops.ctc(log_probs, rows, inputs, outputs, blank=blank, reduction=reduction,
                   zero_infinity=bool(zero_infinity))  # fmt: skip
    return ops.squeeze(loss, 0) if alone and reduction == "none" else loss
