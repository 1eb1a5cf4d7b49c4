"""PyTorch's smaller namespaces, put together from what stands elsewhere: ag.autograd, ag.func, ag.utils, ag.random."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from . import func, function, generator, gradient_check, portability, transforms, writes
from .backward import backward, grad
from .modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from .portability import module as _module


def _members(module, names):
    return {name: getattr(module, name) for name in names.split()}


_modes = {mode.__name__: mode for mode in (enable_grad, inference_mode, no_grad, set_grad_enabled)}

functional = _module("autograd.functional", **_members(transforms, "hessian hvp jacobian jvp vhp vjp"))
autograd = _module(
    "autograd",
    Function=function.Function,
    Variable=portability.Variable,
    backward=backward,
    **_members(portability, "detect_anomaly set_detect_anomaly"),
    detect_writes=writes.detect_writes,
    function=_module("autograd.function", Function=function.Function),
    functional=functional,
    grad=grad,
    grad_mode=_module("autograd.grad_mode", **_modes),
    **_members(gradient_check, "gradcheck gradgradcheck"),
    **_modes,
)
random = _module("random", **_members(generator, "fork_rng get_rng_state initial_seed manual_seed seed set_rng_state"))


class _Utils(ModuleType):
    """``ag.utils``: data (nn.data) and checkpoint."""

    def __getattr__(self, name):
        if name == "data":
            return import_module("nn.data")
        raise AttributeError(f"ag.utils has no attribute {name!r}")


utils = _Utils("autograd_core.utils")
utils.__path__ = []
utils.checkpoint = _module("utils.checkpoint", checkpoint=function.checkpoint)  # type: ignore[attr-defined]
sys.modules["autograd_core.utils"] = utils

NAMESPACES = {"autograd": autograd, "func": func, "random": random, "utils": utils, **portability.NAMES}
