"""RMSprop: the gradient over the root of its mean square."""

from __future__ import annotations

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_nonnegative, in_force


class RMSprop(Optimizer):
    """RMSprop: p <- p - lr * g / (sqrt(v) + eps), v being a running average of g * g.

    ``alpha``: how much of the average is kept. ``centered`` subtracts the square of the mean gradient from v.
    ``momentum`` gathers the steps in a buffer. ``weight_decay`` adds weight_decay * p to g. ``maximize`` goes uphill.
    ``differentiable`` records the step. ``foreach`` and ``capturable``: see `Optimizer`.

    Source: T. Tieleman and G. Hinton, lecture 6.5 of "Neural networks for machine learning", 2012.
    """

    scalars = ("step",)

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False,
                 capturable=False, foreach=None, maximize=False, differentiable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        names = ["square_avg", *["momentum_buffer"] * (group["momentum"] > 0), *["grad_avg"] * group["centered"]]
        return {"step": 0.0, **{name: ops.zeros_like(parameter) for name in names}}

    def numbers(self, counts, group):
        return {"fresh": 1 - group["alpha"]}

    def update(self, parameter, gradient, state, group):
        if in_force(group["weight_decay"]):
            gradient = gradient + parameter * group["weight_decay"]
        square = state["square_avg"] * group["alpha"] + gradient * gradient * group["fresh"]
        new = {"square_avg": square}
        if group["centered"]:
            mean = new["grad_avg"] = state["grad_avg"] + (gradient - state["grad_avg"]) * group["fresh"]
            square = square - mean * mean
        direction = gradient / (ops.sqrt(square) + group["eps"])
        if in_force(group["momentum"]):
            direction = new["momentum_buffer"] = state["momentum_buffer"] * group["momentum"] + direction
        return parameter - direction * group["lr"], new
