"""Averaged stochastic gradient descent."""

from __future__ import annotations

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_nonnegative, in_force


class ASGD(Optimizer):
    """Averaged stochastic gradient descent: p <- (1 - lambd * eta) * p - eta * g, and ``state["ax"]``, the mean of p.

    eta(t) = lr / (1 + lambd * lr * t) ** alpha; averaging starts after ``t0`` steps. ``weight_decay`` adds
    weight_decay * p to g. ``maximize`` goes uphill. ``differentiable`` records the step. ``foreach`` and
    ``capturable``: see `Optimizer`.

    Source: B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    scalars = ("step", "eta", "mu")

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, foreach=None, maximize=False,
                 differentiable=False, capturable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, weight_decay=weight_decay)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        return {"step": 0.0, "eta": float(group["lr"]), "mu": 1.0, "ax": ops.zeros_like(parameter)}

    def numbers(self, counts, group):
        found = {"rate": counts["eta"], "shrink": 1 - group["lambd"] * counts["eta"], "weight": counts["mu"]}
        counts["eta"] = float(group["lr"] / (1 + group["lambd"] * group["lr"] * counts["step"]) ** group["alpha"])
        counts["mu"] = 1 / max(1, counts["step"] - group["t0"])
        return found

    def update(self, parameter, gradient, state, group):
        if in_force(group["weight_decay"]):
            gradient = gradient + parameter * group["weight_decay"]
        parameter = parameter * group["shrink"] - gradient * group["rate"]
        return parameter, {"ax": state["ax"] + (parameter - state["ax"]) * group["weight"]}
