"""Adafactor: mean squares of gradients kept as a row and a column instead of a matrix."""

from __future__ import annotations

import math

import numpy as np

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_nonnegative, in_force


def root_mean_square(x):
    """The square root of the mean of x * x."""
    return ops.sqrt(ops.mean(x * x))


class Adafactor(Optimizer):
    """Adafactor: p <- p - a * u / max(1, rms(u) / d), u = g / sqrt(v), a = max(eps[1], rms(p)) * min(lr, 1 / sqrt(t)).

    v is the mean square of g, kept with weight 1 - t ** beta2_decay; for two dimensions and more it is the outer
    product of its row and column means. ``eps``: least root of v (None: the machine epsilon), and least scale of p.
    ``weight_decay`` shrinks p by lr * weight_decay. ``maximize`` goes uphill. ``foreach``: see `Optimizer`.

    Source: N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.
    """

    scalars = ("step",)
    elementwise = False

    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, *, foreach=None,
                 maximize=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, weight_decay=weight_decay)
        if not beta2_decay <= 0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not eps[0] >= 0:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not eps[1] >= 0:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not d >= 1:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        super().__init__(params, defaults)

    def init(self, parameter, group):
        if parameter.ndim < 2:
            return {"step": 0.0, "variance": ops.zeros_like(parameter)}
        row, column = parameter[..., :1], parameter[..., :1, :]
        return {"step": 0.0, "row_var": ops.zeros_like(row), "col_var": ops.zeros_like(column)}

    def numbers(self, counts, group):
        step, lr = counts["step"], group["lr"]
        return {"fresh": step ** group["beta2_decay"], "rate": min(lr, 1 / math.sqrt(step)),
                "shrink": 1 - lr * group["weight_decay"]}  # fmt: skip

    def update(self, parameter, gradient, state, group):
        fresh, least = group["fresh"], group["eps"][0]
        if least is None:
            least = float(np.finfo(np.dtype(parameter.dtype)).eps)
        scale = ops.clamp(root_mean_square(parameter), min=group["eps"][1]) * group["rate"]
        if in_force(group["weight_decay"]):
            parameter = parameter * group["shrink"]
        square = gradient * gradient
        if len(gradient.shape) < 2:
            variance = state["variance"] + (square - state["variance"]) * fresh
            new = {"variance": variance}
        else:
            row = state["row_var"] + (ops.mean(square, -1, True) - state["row_var"]) * fresh
            column = state["col_var"] + (ops.mean(square, -2, True) - state["col_var"]) * fresh
            variance = row * column / ops.clamp(ops.mean(row, -2, True), min=least)
            new = {"row_var": row, "col_var": column}
        step = gradient / ops.sqrt(ops.clamp(variance, min=least * least))
        clipped = ops.clamp(root_mean_square(step) / group["d"], min=1.0)
        return parameter - step * (scale / clipped), new
