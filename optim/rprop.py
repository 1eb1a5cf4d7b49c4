"""Resilient backpropagation: the signs of gradients alone."""

from __future__ import annotations

from autograd_core import ops

from .optimizer import Optimizer, arguments, check_nonnegative


class Rprop(Optimizer):
    """Resilient backpropagation: p <- p - sign(g) * s, with a step size s for each element.

    s grows by ``etas[1]`` while the sign of g stays, shrinks by ``etas[0]`` where it changes (and that step is left
    out), within ``step_sizes``; it starts at ``lr``. ``maximize`` goes uphill. ``differentiable`` records the step.
    ``foreach`` and ``capturable``: see `Optimizer`.

    Source: M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning", 1993.
    """

    scalars = ("step",)

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *, capturable=False, foreach=None,
                 maximize=False, differentiable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]} (Rprop needs 0 < etas[0] < 1 < etas[1])")
        super().__init__(params, defaults)

    def init(self, parameter, group):
        size = ops.full_like(parameter, float(group["lr"]))
        return {"step": 0.0, "prev": ops.zeros_like(parameter), "step_size": size}

    def numbers(self, counts, group):
        return dict(zip(("shrink", "grow", "least", "most"), (*group["etas"], *group["step_sizes"]), strict=True))

    def update(self, parameter, gradient, state, group):
        agreement = gradient * state["prev"]
        factor = ops.where(agreement > 0, group["grow"], ops.where(agreement < 0, group["shrink"], agreement * 0 + 1))
        size = ops.clamp(state["step_size"] * factor, group["least"], group["most"])
        gradient = ops.where(agreement < 0, 0, gradient)
        return parameter - ops.sign(gradient) * size, {"prev": gradient, "step_size": size}
