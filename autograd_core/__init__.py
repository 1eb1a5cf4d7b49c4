"""Reverse-mode automatic differentiation on NumPy arrays, with PyTorch's names: ``import autograd_core as ag``.

Functions come from the records in `ops`; what is not needed by every program is loaded at first use.
"""

from __future__ import annotations

import sys as _sys
from importlib import import_module as _import_module
from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi
from types import ModuleType as _ModuleType

from . import ops as ops
from .backward import backward as backward
from .backward import grad as grad
from .errors import OpError as OpError
from .generator import Generator as Generator
from .generator import default_generator as default_generator
from .generator import fork_rng as fork_rng
from .generator import get_rng_state as get_rng_state
from .generator import initial_seed as initial_seed
from .generator import manual_seed as manual_seed
from .generator import seed as seed
from .generator import set_rng_state as set_rng_state
from .info import LAYOUTS as _LAYOUTS
from .info import cuda as cuda
from .info import device as device
from .info import finfo as finfo
from .info import iinfo as iinfo
from .interop import watch as _watch_imports
from .modes import enable_grad as enable_grad
from .modes import inference_mode as inference_mode
from .modes import is_grad_enabled as is_grad_enabled
from .modes import no_grad as no_grad
from .modes import scope as scope
from .modes import set_grad_enabled as set_grad_enabled
from .ops.create import as_tensor as as_tensor
from .ops.create import asarray as asarray
from .ops.create import from_dlpack as from_dlpack
from .ops.create import from_numpy as from_numpy
from .ops.create import tensor as tensor
from .ops.methods import is_floating_point as is_floating_point
from .ops.methods import is_nonzero as is_nonzero
from .ops.methods import is_tensor as is_tensor
from .ops.methods import numel as numel
from .ops.methods import result_type as result_type
from .registry import namespace as _namespace
from .shapes import DTYPES as _DTYPES
from .shapes import DType
from .shapes import Size as Size
from .shapes import broadcast_shapes as broadcast_shapes
from .shapes import can_cast as can_cast
from .shapes import get_default_dtype as get_default_dtype
from .shapes import promote_types as promote_types
from .shapes import set_default_dtype as set_default_dtype
from .tensor import Tensor as Tensor

dtype = DType
newaxis = None

__version__ = "0.1.0"

_watch_imports()
globals().update(_namespace(""))
globals().update(_DTYPES)
globals().update(_LAYOUTS)

_AT_FIRST_USE = {
    "Function": "function", "checkpoint": "function",
    "vjp": "transforms", "jvp": "transforms", "jacobian": "transforms", "hessian": "transforms", "hvp": "transforms",
    "vhp": "transforms", "value_and_grad": "func", "vmap": "batching",
    "gradcheck": "gradient_check", "gradgradcheck": "gradient_check",
    "debug": "seeing.debugging", "NonFiniteError": "seeing.debugging", "find_nan": "seeing.searching",
    "record_step": "seeing.flight", "replay": "seeing.flight", "gradient_report": "seeing.gradient_reports",
    "leaks": "seeing.leaks",
    "graph": "seeing.making", "record": "seeing.making", "draw": "seeing.making", "summary": "seeing.tables",
    "load_graph": "seeing.export", "Graph": "seeing.graphs", "Drawing": "seeing.pictures", "profile": "seeing.profiler",
    "compile": "compiler", "CompileError": "tracing",
    "set_printoptions": "printing",
    "set_num_threads": "kernels.threads", "get_num_threads": "kernels.threads",
}  # fmt: skip
"""Which file defines what is not loaded by ``import autograd_core``."""

_SUBMODULES = {"nn": "nn", "optim": "optim", "array_api": "autograd_core.array_api", "testing": "autograd_core.testing"}
"""``ag.nn`` and ``ag.optim``, so that scripts written for one package run unchanged, and ``ag.array_api``."""


def __getattr__(name):
    if name in _AT_FIRST_USE:
        found = getattr(_import_module(f"{__name__}.{_AT_FIRST_USE[name]}"), name)
    elif name in _SUBMODULES:
        found = _import_module(_SUBMODULES[name])
    elif name in ("save", "load"):
        found = getattr(_import_module("nn.serialize"), name)
    elif not name.startswith("_") and name in (more := _import_module(f"{__name__}.namespaces").NAMESPACES):
        found = more[name]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__():
    more = _import_module(f"{__name__}.namespaces").NAMESPACES
    return sorted({*globals(), *_AT_FIRST_USE, *_SUBMODULES, *more, "load", "save"})


def _namespace_module(name):
    module = _ModuleType(f"autograd_core.{name}", f"The functions of ``ag.{name}``.")
    module.__dict__.update(_namespace(name))
    _sys.modules[module.__name__] = module
    return module


linalg, special, fft = _namespace_module("linalg"), _namespace_module("special"), _namespace_module("fft")
signal = _namespace_module("signal")
signal.windows = _namespace_module("signal.windows")  # type: ignore[attr-defined]
