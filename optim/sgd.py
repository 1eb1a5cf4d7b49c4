"""Stochastic gradient descent."""

from __future__ import annotations

from .optimizer import Optimizer, arguments, check_nonnegative, in_force


class SGD(Optimizer):
    """Stochastic gradient descent: p <- p - lr * b, with b <- momentum * b + (1 - dampening) * g.

    ``nesterov`` looks ahead: p <- p - lr * (g + momentum * b). ``weight_decay`` adds weight_decay * p to g.
    ``maximize`` goes uphill. ``differentiable`` records the step. ``foreach`` and ``fused``: see `Optimizer`.

    Source: I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False,
                 foreach=None, differentiable=False, fused=None):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, defaults)

    def update(self, parameter, gradient, state, group):
        if in_force(group["weight_decay"]):
            gradient = gradient + parameter * group["weight_decay"]
        momentum = group["momentum"]
        if not in_force(momentum):
            return parameter - gradient * group["lr"], {}
        buffer = state.get("momentum_buffer")
        buffer = gradient if buffer is None else buffer * momentum + gradient * (1 - group["dampening"])
        direction = gradient + buffer * momentum if group["nesterov"] else buffer
        return parameter - direction * group["lr"], {"momentum_buffer": buffer}
