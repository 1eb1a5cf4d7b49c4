"""Connectionist temporal classification: a dynamic program over the states of each sample, in log space.

A target of L labels has 2 L + 1 states: the labels with blanks between and around them. ``paths[n, t, FRONT + s]`` is
the log-probability of all paths that are at state s at step t; minus infinity stands in front of the states, so that a
state reads the two before it without asking whether they exist. A unit of work is a sample, vectors run along states.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import range_kernel

FRONT, BEHIND = 2, 16  # places around the states of a row; no vector has more lanes than 16
GRAIN = 4096  # states of a chunk
REDUCTIONS = ("none", "mean", "sum")
(LOG_PROBS, TARGETS, STEPS, LENGTHS, LOSSES, PATHS, SCRATCH, RESULT, GRADIENT, TIME, BATCH, CLASSES, LONGEST, STEP,
 SAMPLE, CLASS, BLANK, REDUCTION, ZERO_INFINITY, SPREAD) = range(20)  # fmt: skip
"""The words of all contexts here: addresses, sizes (LONGEST: labels in a row of targets), strides of the
log-probabilities in elements, settings, stride of the loss's gradient."""


def path_width(longest: int) -> int:
    """The length of a row of ``paths`` for targets of up to ``longest`` labels: whole vectors on every machine."""
    return FRONT + -(-(2 * longest + 1) // BEHIND) * BEHIND


def _log_sum():
    """Device function: log of the sum of three exponentials; minus infinity adds nothing."""

    def log_sum(a, b, c):
        top = simd.maximum(simd.maximum(a, b), c)
        base = simd.where(top == -np.inf, 0, top)
        return vmath.log(vmath.exp(a - base) + vmath.exp(b - base) + vmath.exp(c - base)) + base

    return simd.device(log_sum)


def _states(dtype):
    """Device function: lay a sample's states out in scratch memory; gives four rows, the labels, and their number.

    For each state: where its class lies among log-probabilities; what a path that skips the state before it adds (0
    where it may, minus infinity where not); two rows of minus infinity.
    """
    S = simd.scalar(dtype)

    def states(w, sample, width):
        at, length = w[SCRATCH] + 8 * sample * 4 * width, simd.words(w[LENGTHS])[sample]
        places, skips = simd.words(at), simd.pointer(at + 8 * width, S)
        first, second = simd.pointer(at + 16 * width, S), simd.pointer(at + 24 * width, S)
        labels = simd.words(w[TARGETS] + 8 * sample * w[LONGEST])
        for s in range(width):
            places[s] = w[BLANK] * w[CLASS]
            skips[s] = first[s] = second[s] = S(-np.inf)
        for k in range(length):
            places[2 * k + 1] = labels[k] * w[CLASS]
            if k > 0 and labels[k] != labels[k - 1] and labels[k] != w[BLANK]:
                skips[2 * k + 1] = S(0)
        return places, skips, first, second, labels, length

    return simd.device(states)


@range_kernel
def forward(dtype, lanes):
    """Paths and loss of each sample."""
    V, S, W = simd.vector(dtype, lanes), simd.scalar(dtype), simd.vector(np.int64, lanes)
    states, log_sum, width_of = _states(dtype), _log_sum(), simd.device(path_width)

    def kernel(context, start, stop):
        w = simd.words(context)
        width = width_of(w[LONGEST])
        for sample in range(start, stop):
            places, skips, _, _, _, length = states(w, sample, width + BEHIND)
            steps, loss = simd.words(w[STEPS])[sample], simd.advance(simd.pointer(w[LOSSES], S), sample)
            row = simd.advance(simd.pointer(w[PATHS], S), sample * w[TIME] * width)
            x = simd.advance(simd.pointer(w[LOG_PROBS], S), sample * w[SAMPLE])
            if steps == 0:
                loss[0] = S(0) if length == 0 else S(np.inf)
                continue
            for s in range(width):
                row[s] = S(-np.inf)
            row[FRONT] = x[places[0]]
            if length > 0:
                row[FRONT + 1] = x[places[1]]
            for _ in range(1, steps):
                before, x = row, simd.advance(x, w[STEP])
                row = simd.advance(row, width)
                row[0] = row[1] = S(-np.inf)
                for s in range(0, 2 * length + 1, lanes):
                    skip = simd.load(before, s, V) + simd.load(skips, s, V)
                    reached = log_sum(simd.load(before, s + 2, V), simd.load(before, s + 1, V), skip)
                    simd.store(row, s + FRONT, reached + simd.gather(x, simd.load(places, s, W), V))
            none = simd.full(S(-np.inf), V)
            blank, label = simd.full(row[FRONT + 2 * length], V), simd.full(row[FRONT + 2 * length - 1], V)
            loss[0] = -simd.lane(log_sum(blank, label, none), 0)

    return kernel


@range_kernel
def reduce_losses(dtype):
    """The mean (each loss over its number of labels), the sum or all of the losses; one unit."""
    S, double = simd.scalar(dtype), simd.scalar(np.float64)

    def kernel(context, start, stop):
        w = simd.words(context)
        losses, result, total = simd.pointer(w[LOSSES], S), simd.pointer(w[RESULT], S), double(0)
        for sample in range(w[BATCH]):
            loss = losses[sample]
            if w[ZERO_INFINITY] != 0 and loss == np.inf:
                loss = S(0)
            if w[REDUCTION] == 0:
                result[sample] = loss
            elif w[REDUCTION] == 1:
                total += double(loss) / max(simd.words(w[LENGTHS])[sample], 1)
            else:
                total += loss
        if w[REDUCTION] == 1:
            result[0] = S(total / w[BATCH])
        elif w[REDUCTION] == 2:
            result[0] = S(total)

    return kernel


@range_kernel
def backward(dtype, lanes):
    """Take the probability of being at each label, times the loss's gradient, off zeros."""
    V, S, W = simd.vector(dtype, lanes), simd.scalar(dtype), simd.vector(np.int64, lanes)
    states, log_sum, width_of = _states(dtype), _log_sum(), simd.device(path_width)

    def kernel(context, start, stop):
        w = simd.words(context)
        width = width_of(w[LONGEST])
        for sample in range(start, stop):
            loss, steps = simd.pointer(w[LOSSES], S)[sample], simd.words(w[STEPS])[sample]
            if steps == 0 or (w[ZERO_INFINITY] != 0 and loss == np.inf):
                continue
            places, skips, onward, share, labels, length = states(w, sample, width + BEHIND)
            g = simd.pointer(w[GRADIENT], S)[sample * w[SPREAD]]
            if w[REDUCTION] == 1:
                g /= S(max(length, 1) * w[BATCH])
            path = simd.advance(simd.pointer(w[PATHS], S), (sample * w[TIME] + steps - 1) * width + FRONT)
            x = simd.advance(simd.pointer(w[LOG_PROBS], S), sample * w[SAMPLE] + (steps - 1) * w[STEP])
            for t in range(steps - 1, -1, -1):
                for s in range(0, 2 * length + 1, lanes):
                    if t == steps - 1:
                        state = simd.iota(W) + s
                        ends = simd.where(state == 2 * length, 0, simd.full(S(-np.inf), V))
                        here = simd.where(state == 2 * length - 1, 0, ends)
                    else:
                        skip = simd.load(onward, s + 2, V) + simd.load(skips, s + 2, V)
                        here = log_sum(simd.load(onward, s, V), simd.load(onward, s + 1, V), skip)
                    simd.store(share, s, vmath.exp(simd.load(path, s, V) + here + loss) * g)
                    simd.store(onward, s, here + simd.gather(x, simd.load(places, s, W), V))
                found = simd.advance(simd.pointer(w[RESULT], S), (t * w[BATCH] + sample) * w[CLASSES])
                blanks = share[0]
                for k in range(length):
                    found[labels[k]] -= share[2 * k + 1]
                    blanks += share[2 * k + 2]
                found[w[BLANK]] -= blanks
                path, x = simd.advance(path, -width), simd.advance(x, -w[STEP])

    return kernel


# ------------------------------------------------------------------------------------------------------------- planning


def _words(given: tuple[Array, ...], refs: tuple[int | Ref, ...], settings: dict, spread: int = 0,
           ) -> tuple[int | Ref, ...] | None:  # fmt: skip
    """The context, for ``given`` log-probabilities, targets, steps and lengths; None where they are not served."""
    log_probs, targets, *_ = given
    size = log_probs.dtype.itemsize
    if log_probs.dtype.char not in "fd" or not log_probs.dtype.isnative or any(s % size for s in log_probs.strides):
        return None
    if any(a.dtype != np.int64 or not is_c_ordered(a) for a in given[1:]) or 0 in log_probs.shape:
        return None
    return (*refs, *log_probs.shape, targets.shape[1], *[s // size for s in log_probs.strides], settings["blank"],
            REDUCTIONS.index(settings["reduction"]), int(settings["zero_infinity"]), spread)


def _work(log_probs: Array, targets: Array) -> tuple[int, int]:
    """Samples of a chunk, and bytes of scratch memory."""
    width = path_width(targets.shape[1])
    return max(1, GRAIN // (width * log_probs.shape[0])), 4 * 8 * (width + BEHIND) * log_probs.shape[1]


def plan_ctc(log_probs: Array, targets: Array, steps: Array, lengths: Array, **settings: Any) -> Plan | None:
    """Plan ``ops.ctc``: (loss, paths, losses)."""
    refs = (inp(0), inp(1), inp(2), inp(3), out(2), out(1), scratch(0), out(0), 0)
    words = _words((log_probs, targets, steps, lengths), refs, settings)
    if words is None:
        return None
    time, batch, _ = log_probs.shape
    dtype, (grain, memory) = log_probs.dtype, _work(log_probs, targets)
    paths = Spec((batch, time, path_width(targets.shape[1])), dtype)
    result = Spec((batch,) if settings["reduction"] == "none" else (), dtype)
    calls = Call(forward(dtype, host.lanes(dtype)), words, batch, grain), Call(reduce_losses(dtype), words, 1, 1)
    return Plan((result, paths, Spec((batch,), dtype)), calls, (memory,), (1,))


def plan_ctc_backward(g: Array, log_probs: Array, targets: Array, steps: Array, lengths: Array, paths: Array,
                      losses: Array, **settings: Any) -> Plan | None:
    """Plan ``ops.ctc_backward``: the gradient of the log-probabilities."""
    refs = (inp(1), inp(2), inp(3), inp(4), inp(6), inp(5), scratch(0), out(0), inp(0))
    spread = g.strides[0] // g.dtype.itemsize if g.shape else 0
    words = _words((log_probs, targets, steps, lengths), refs, settings, spread)
    if words is None or g.dtype != log_probs.dtype or not is_c_ordered(losses) or not is_c_ordered(paths):
        return None
    dtype, (grain, memory) = log_probs.dtype, _work(log_probs, targets)
    call = Call(backward(dtype, host.lanes(dtype)), words, log_probs.shape[1], grain)
    return Plan((Spec(log_probs.shape, dtype),), (call,), (memory,), (0,))
