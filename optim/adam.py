"""Adam and its family: averages of the gradient and of its square."""

from __future__ import annotations

from autograd_core import ops
from autograd_core.tensor import Tensor

from .optimizer import Optimizer, arguments, check_betas, check_nonnegative, in_force


def averages(state, gradient, group):
    """The two running averages after this gradient: of the gradient, and of its square."""
    first, second = state["exp_avg"], state["exp_avg_sq"]
    return (first + (gradient - first) * group["fresh1"],
            second * group["beta2"] + gradient * gradient * group["fresh2"])  # fmt: skip


def rates(group):
    """Decay rates by name, with 1 - rate worked out in double precision, and what decoupled weight decay leaves."""
    beta1, beta2 = group["betas"]
    return {"beta1": beta1, "beta2": beta2, "fresh1": 1 - beta1, "fresh2": 1 - beta2,
            "shrink": 1 - group["lr"] * group["weight_decay"]}  # fmt: skip


def decayed(parameter, gradient, group):
    """(parameter, gradient) after weight decay: of the parameter itself where it is decoupled, else by the gradient."""
    if not in_force(group["weight_decay"]):
        return parameter, gradient
    if group.get("decoupled_weight_decay"):
        return parameter * group["shrink"], gradient
    return parameter, gradient + parameter * group["weight_decay"]


class Adam(Optimizer):
    """Adam: p <- p - lr * m / (sqrt(v) + eps), m and v being bias-corrected averages of g and g * g.

    ``betas``: how much of the averages is kept. ``amsgrad`` uses the largest v so far. ``weight_decay`` adds
    weight_decay * p to g, or with ``decoupled_weight_decay`` shrinks p by lr * weight_decay, as `AdamW` does.
    ``maximize`` goes uphill. ``differentiable`` records the step. ``foreach``, ``fused`` and ``capturable``: see
    `Optimizer`.

    Source: D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.
    """

    scalars = ("step",)

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False, fused=None,
                 decoupled_weight_decay=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(self, betas)
        if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        if any(isinstance(b, Tensor) and b.numel() != 1 for b in betas):
            raise ValueError("Tensor betas must be 1-element")
        for name, value in (("lr", lr), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if foreach and not capturable and isinstance(value, Tensor):
                raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")
        defaults["betas"] = tuple(betas)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        names = ["exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * group["amsgrad"]]
        return {"step": 0.0, **{name: ops.zeros_like(parameter) for name in names}}

    def numbers(self, counts, group):
        found = rates(group)
        found["step_size"] = group["lr"] / (1 - found["beta1"] ** counts["step"])
        found["correction"] = (1 - found["beta2"] ** counts["step"]) ** 0.5
        return found

    def update(self, parameter, gradient, state, group):
        parameter, gradient = decayed(parameter, gradient, group)
        first, second = averages(state, gradient, group)
        new = {"exp_avg": first, "exp_avg_sq": second}
        if group["amsgrad"]:
            second = new["max_exp_avg_sq"] = ops.maximum(state["max_exp_avg_sq"], second)
        scale = ops.sqrt(second) / group["correction"] + group["eps"]
        return parameter - first / scale * group["step_size"], new


class AdamW(Adam):
    """Adam with decoupled weight decay: p <- (1 - lr * weight_decay) * p before Adam's step. Arguments: see `Adam`.

    Source: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *,
                 maximize=False, foreach=None, capturable=False, differentiable=False, fused=None):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused,
                         decoupled_weight_decay=True)  # fmt: skip

    def __setstate__(self, values):
        super().__setstate__(values)
        for group in self.param_groups:  # also where the loaded state comes from an Adam
            group["decoupled_weight_decay"] = True


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead: a mix of the gradient and the average to come, whose weights change with time.

    mu(t) = beta1 * (1 - 0.96 ** (t * momentum_decay) / 2). Arguments: see `Adam`.

    Source: T. Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """

    scalars = ("step", "mu_product")

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
                 decoupled_weight_decay=False, *, foreach=None, maximize=False, capturable=False,
                 differentiable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        check_betas(self, betas)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        return {"step": 0.0, "mu_product": 1.0, "exp_avg": ops.zeros_like(parameter),
                "exp_avg_sq": ops.zeros_like(parameter)}  # fmt: skip

    def numbers(self, counts, group):
        found, step, decay = rates(group), counts["step"], group["momentum_decay"]
        mu, mu_next = (found["beta1"] * (1 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
        counts["mu_product"] *= mu
        found["correction"] = (1 - found["beta2"] ** step) ** 0.5
        found["now"] = group["lr"] * (1 - mu) / (1 - counts["mu_product"])
        found["ahead"] = group["lr"] * mu_next / (1 - counts["mu_product"] * mu_next)
        return found

    def update(self, parameter, gradient, state, group):
        parameter, gradient = decayed(parameter, gradient, group)
        first, second = averages(state, gradient, group)
        scale = ops.sqrt(second) / group["correction"] + group["eps"]
        step = (gradient * group["now"] + first * group["ahead"]) / scale
        return parameter - step, {"exp_avg": first, "exp_avg_sq": second}


class RAdam(Optimizer):
    """Adam that rectifies the variance of its step size: plain momentum until enough gradients were seen.

    Arguments: see `Adam`. Source: L. Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.
    """

    scalars = ("step",)

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *,
                 foreach=None, maximize=False, capturable=False, differentiable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(self, betas)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        return {"step": 0.0, "exp_avg": ops.zeros_like(parameter), "exp_avg_sq": ops.zeros_like(parameter)}

    def numbers(self, counts, group):
        found, step = rates(group), counts["step"]
        remaining = found["beta2"] ** step
        longest = 2 / (1 - found["beta2"]) - 1
        length = longest - 2 * step * remaining / (1 - remaining)  # of the moving average, so far
        found["step_size"] = group["lr"] / (1 - found["beta1"] ** step)
        found["rectified"] = length > 5
        if found["rectified"]:
            ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            found["step_size"] *= (ratio * (1 - remaining)) ** 0.5
        return found

    def update(self, parameter, gradient, state, group):
        parameter, gradient = decayed(parameter, gradient, group)
        first, second = averages(state, gradient, group)
        direction = first / (ops.sqrt(second) + group["eps"]) if group["rectified"] else first
        return parameter - direction * group["step_size"], {"exp_avg": first, "exp_avg_sq": second}


class Adamax(Optimizer):
    """Adam with the infinity norm: p <- p - lr * m / u, u <- max(beta2 * u, |g| + eps). Arguments: see `Adam`.

    Source: D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.
    """

    scalars = ("step",)

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False,
                 differentiable=False, capturable=False):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(self, betas)
        super().__init__(params, defaults)

    def init(self, parameter, group):
        return {"step": 0.0, "exp_avg": ops.zeros_like(parameter), "exp_inf": ops.zeros_like(parameter)}

    def numbers(self, counts, group):
        found = rates(group)
        found["step_size"] = group["lr"] / (1 - found["beta1"] ** counts["step"])
        return found

    def update(self, parameter, gradient, state, group):
        parameter, gradient = decayed(parameter, gradient, group)
        first = state["exp_avg"] + (gradient - state["exp_avg"]) * group["fresh1"]
        largest = ops.maximum(state["exp_inf"] * group["beta2"], ops.abs(gradient) + group["eps"])
        return parameter - first / largest * group["step_size"], {"exp_avg": first, "exp_inf": largest}
