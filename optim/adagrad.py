"""Adagrad: the gradient over the root of the sum of its squares."""

from __future__ import annotations

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_nonnegative, in_force


class Adagrad(Optimizer):
    """Adagrad: p <- p - lr(t) * g / (sqrt(s) + eps), s being the sum of g * g, lr(t) = lr / (1 + (t - 1) * lr_decay).

    ``initial_accumulator_value``: where s starts. ``weight_decay`` adds weight_decay * p to g. ``maximize`` goes
    uphill. ``differentiable`` records the step. ``foreach`` and ``fused``: see `Optimizer`. State is made at once.

    Source: J. Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """

    scalars = ("step",)

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10,
                 foreach=None, *, maximize=False, differentiable=False, fused=None):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                          initial_accumulator_value=initial_accumulator_value, eps=eps)  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self._start(p, group)

    def init(self, parameter, group):
        return {"step": 0.0, "sum": ops.full_like(parameter, self.defaults["initial_accumulator_value"])}

    def numbers(self, counts, group):
        return {"step_size": group["lr"] / (1 + (counts["step"] - 1) * group["lr_decay"])}

    def update(self, parameter, gradient, state, group):
        if in_force(group["weight_decay"]):
            gradient = gradient + parameter * group["weight_decay"]
        total = state["sum"] + gradient * gradient
        return parameter - gradient / (ops.sqrt(total) + group["eps"]) * group["step_size"], {"sum": total}
