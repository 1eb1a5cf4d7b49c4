"""Hinges between the classes that a sample has and those that it has not (multilabel_margin_loss), with gradient."""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import is_flat, served

GRAIN = 4096  # elements of a chunk


@range_kernel
def hinges(dtype, backward):
    """Losses of rows, or gradients of their scores. Context: scores, classes of rows, g, result, classes, whether g is
    one number. A row's classes end with the first negative one.
    """
    S, D = simd.scalar(dtype), simd.scalar(np.float64)

    def kernel(context, start, stop):
        w = simd.words(context)
        g, n = simd.pointer(w[2], S), w[4]
        for row in range(start, stop):
            x, own = simd.advance(simd.pointer(w[0], S), row * n), simd.advance(simd.words(w[1]), row * n)
            result = simd.advance(simd.pointer(w[3], S), row * (n if backward else 1))
            count, total, share = 0, D(0), S(0)
            while count < n and own[count] >= 0:
                count += 1
            if backward:
                share = g[0 if w[5] != 0 else row] / S(n)
                for j in range(n):
                    result[j] = S(0)
            for j in range(n):
                among = False
                for k in range(count):
                    among |= own[k] == j
                if among:
                    continue
                for k in range(count):
                    excess = S(1) - x[own[k]] + x[j]
                    if not excess <= 0:
                        total += D(excess)
                        if backward:
                            result[j] += share
                            result[own[k]] -= share
            if not backward:
                result[0] = S(total / n)

    return kernel


def losses(x: Array, target: Array) -> Plan | None:
    """Plan the losses of C-ordered scores (N, C) with int64 classes (N, C) below C."""
    if not served(x) or target.dtype != np.int64 or not is_c_ordered(target) or 0 in x.shape:
        return None
    call = Call(hinges(x.dtype, False), (inp(0), inp(1), 0, out(0), x.shape[1], 0), x.shape[0],
                max(1, GRAIN // x.shape[1]))  # fmt: skip
    return Plan((Spec(x.shape[:1], x.dtype),), (call,))


def gradient(g: Array, x: Array, target: Array) -> Plan | None:
    """Plan the gradient of :func:`losses` in the scores."""
    flat = is_flat(g) or math.prod(g.shape) == 1
    if losses(x, target) is None or g.dtype != x.dtype or not (flat or is_c_ordered(g)):
        return None
    call = Call(hinges(x.dtype, True), (inp(1), inp(2), inp(0), out(0), x.shape[1], int(flat)), x.shape[0],
                max(1, GRAIN // x.shape[1]))  # fmt: skip
    return Plan((Spec(x.shape, x.dtype),), (call,))
