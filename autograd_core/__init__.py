"""Reverse-mode automatic differentiation on NumPy arrays, with PyTorch's names. Use it as ``import autograd_core as ag``."""

from __future__ import annotations

import sys as _sys
from types import ModuleType as _ModuleType

from . import generator as random
from . import ops
from .backward import backward, grad
from .generator import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from .info import LAYOUTS as _LAYOUTS
from .info import cuda, device, finfo, iinfo
from .ops.create import as_tensor, asarray, from_dlpack, from_numpy, tensor
from .registry import namespace as _namespace
from .shapes import (
    DTYPES as _DTYPES,
)
from .shapes import (
    DType as dtype,
)
from .shapes import Size, broadcast_shapes, can_cast, get_default_dtype, promote_types, set_default_dtype
from .tensor import (
    OpError,
    Tensor,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    scope,
    set_grad_enabled,
)
globals().update(_namespace(""))
globals().update(_DTYPES)
globals().update(_LAYOUTS)


def _namespace_module(name):
    module = _ModuleType(f"autograd_core.{name}", f"The functions of ``ag.{name}``.")
    module.__dict__.update(_namespace(name))
    _sys.modules[module.__name__] = module
    return module


linalg, special, fft = _namespace_module("linalg"), _namespace_module("special"), _namespace_module("fft")
signal = _namespace_module("signal")
signal.windows = _namespace_module("signal.windows")


def __getattr__(name):
    if name == "set_printoptions":
        from .printing import set_printoptions

        return set_printoptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
