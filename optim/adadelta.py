"""Adadelta: steps in the units of the parameters."""

from __future__ import annotations

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_nonnegative, in_force


class Adadelta(Optimizer):
    """Adadelta: p <- p - lr * d, d = g * sqrt(u + eps) / sqrt(v + eps), v and u averages of g * g and d * d.

    ``rho``: how much of the averages is kept. ``weight_decay`` adds weight_decay * p to g. ``maximize`` goes uphill.
    ``differentiable`` records the step. ``foreach`` and ``capturable``: see `Optimizer`.

    Source: M. D. Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """

    scalars = ("step",)

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *, capturable=False,
                 maximize=False, differentiable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, eps=eps, weight_decay=weight_decay)
        if not 0 <= rho <= 1:
            raise ValueError(f"Invalid rho value: {rho} (Adadelta needs 0 <= rho <= 1)")
        super().__init__(params, defaults)

    def init(self, parameter, group):
        return {"step": 0.0, "square_avg": ops.zeros_like(parameter), "acc_delta": ops.zeros_like(parameter)}

    def numbers(self, counts, group):
        return {"fresh": 1 - group["rho"]}

    def update(self, parameter, gradient, state, group):
        if in_force(group["weight_decay"]):
            gradient = gradient + parameter * group["weight_decay"]
        square = state["square_avg"] * group["rho"] + gradient * gradient * group["fresh"]
        step = ops.sqrt(state["acc_delta"] + group["eps"]) / ops.sqrt(square + group["eps"]) * gradient
        steps = state["acc_delta"] * group["rho"] + step * step * group["fresh"]
        return parameter - step * group["lr"], {"square_avg": square, "acc_delta": steps}
