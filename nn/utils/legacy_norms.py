"""Weight norm and spectral norm by hooks: the older forms, whose names of parameters many checkpoints use."""

from __future__ import annotations

import autograd_core as ag
from autograd_core.modes import no_grad

from .. import functional as F
from ..parameter import Parameter
from .parametrizations import default_norm_dim, norm_except_dim


class _Recompute:
    """A forward pre-hook that computes the tensor ``name`` of a module anew before each call."""

    def __init__(self, name):
        self.name = name

    def __call__(self, module, args):
        setattr(module, self.name, self.compute(module))

    @classmethod
    def attach(cls, hook, module):
        """Register ``hook``, the only one of its kind for that tensor."""
        if hook.find(module, hook.name) is not None:
            raise RuntimeError(f"Cannot register two {cls.what} hooks on the same parameter {hook.name}")
        module.register_forward_pre_hook(hook)

    @classmethod
    def find(cls, module, name):
        """(number, hook) of the hook of this kind for tensor ``name``; None where there is none."""
        for number, hook in module._forward_pre_hooks.items():
            if isinstance(hook, cls) and hook.name == name:
                return number, hook
        return None

    @classmethod
    def detach(cls, module, name):
        """Take the hook away and return it."""
        found = cls.find(module, name)
        if found is None:
            raise ValueError(f"{cls.what} of '{name}' not found in {module}")
        del module._forward_pre_hooks[found[0]]
        return found[1]

    what = ""

    def compute(self, module):
        """The tensor."""
        raise NotImplementedError


class WeightNormHook(_Recompute):
    """g·v/‖v‖ from the parameters ``name_g`` and ``name_v``."""

    what = "weight_norm"

    def __init__(self, name, dim):
        super().__init__(name)
        self.dim = -1 if dim is None else dim

    def compute(self, module):
        """The weight."""
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        return v * (g / norm_except_dim(v, self.dim))


def weight_norm(module, name="weight", dim=0):
    """Split a parameter into length ``name_g`` and direction ``name_v``; see `parametrizations.weight_norm`."""
    hook = WeightNormHook(name, dim)
    WeightNormHook.attach(hook, module)
    weight = getattr(module, name)
    delattr(module, name)
    with no_grad():
        module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, hook.dim).detach()))
    module.register_parameter(name + "_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute(module))
    return module


def remove_weight_norm(module, name="weight"):
    """Undo `weight_norm`: the parameter keeps its present value."""
    hook = WeightNormHook.detach(module, name)
    with no_grad():
        weight = hook.compute(module).detach()
    for part in (name, name + "_g", name + "_v"):
        delattr(module, part)
    setattr(module, name, Parameter(weight))
    return module


class SpectralNormHook(_Recompute):
    """W/σ from the parameter ``name_orig`` and the buffers ``name_u`` and ``name_v``."""

    what = "spectral_norm"

    def __init__(self, name, n_power_iterations, dim, eps):
        super().__init__(name)
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")  # fmt: skip
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim, eps

    def __call__(self, module, args):
        setattr(module, self.name, self.compute(module, iterate=module.training))

    def matrix(self, weight):
        """The weight as a matrix whose rows belong to the outputs."""
        return weight.movedim(self.dim, 0).flatten(1)

    def compute(self, module, iterate=False):
        """The weight; ``iterate`` improves the estimate of σ first."""
        weight, u, v = (getattr(module, self.name + part) for part in ("_orig", "_u", "_v"))
        matrix = self.matrix(weight)
        if iterate:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(matrix.mT @ u, dim=0, eps=self.eps))
                    u.copy_(F.normalize(matrix @ v, dim=0, eps=self.eps))
            u, v = u.clone(), v.clone()
        return weight / ag.dot(u, ag.mv(matrix, v))


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a parameter by its largest singular value; see `parametrizations.spectral_norm`."""
    hook = SpectralNormHook(name, n_power_iterations, default_norm_dim(module) if dim is None else dim, eps)
    SpectralNormHook.attach(hook, module)
    weight = module._parameters[name]
    if weight is None:
        raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    with no_grad():
        matrix = hook.matrix(weight)
        u, v = (F.normalize(ag.randn(size, dtype=weight.dtype), dim=0, eps=eps) for size in matrix.shape)
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.detach())
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    return module


def remove_spectral_norm(module, name="weight"):
    """Undo `spectral_norm`: the parameter keeps its present value."""
    hook = SpectralNormHook.detach(module, name)
    with no_grad():
        weight = hook.compute(module).detach()
    for part in ("", "_u", "_v", "_orig"):
        delattr(module, name + part)
    module.register_parameter(name, Parameter(weight))
    return module
