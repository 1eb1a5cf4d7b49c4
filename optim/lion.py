"""Lion: the sign of a momentum."""

from __future__ import annotations

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_betas, check_nonnegative, in_force


class Lion(Optimizer):
    """Lion: p <- (1 - lr * weight_decay) * p - lr * sign(beta1 * m + (1 - beta1) * g).

    The momentum follows with the other rate: m <- beta2 * m + (1 - beta2) * g.
    A learning rate of a tenth to a third of AdamW's, and a weight decay larger by as much, is the usual start.
    ``maximize`` goes uphill. ``differentiable`` records the step (the sign has a gradient of zero). ``foreach``: see
    `Optimizer`.

    Source: X. Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, maximize=False, foreach=None,
                 differentiable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, weight_decay=weight_decay)
        check_betas(self, betas)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        return {"exp_avg": ops.zeros_like(parameter)}

    def numbers(self, counts, group):
        beta1, beta2 = group["betas"]
        return {"fresh1": 1 - beta1, "fresh2": 1 - beta2, "shrink": 1 - group["lr"] * group["weight_decay"]}

    def update(self, parameter, gradient, state, group):
        if in_force(group["weight_decay"]):
            parameter = parameter * group["shrink"]
        mean = state["exp_avg"]
        change = gradient - mean
        direction = ops.sign(mean + change * group["fresh1"])
        return parameter - direction * group["lr"], {"exp_avg": mean + change * group["fresh2"]}
