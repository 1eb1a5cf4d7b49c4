"""Modules that are imported when they are first used, so that kernels loaded from the disk cache never import Numba.

A kernel's body names ``simd`` and ``vmath`` only while it is being compiled.
"""
from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # bodies of kernels are typed by Numba, not by annotations
    atomics: Any
    conv_tiles: Any
    pipeline: Any
    simd: Any
    tiles: Any
    vmath: Any
    vmath_arithmetic: Any
    vmath_bessel: Any
    vmath_error: Any
    vmath_gamma: Any
    vmath_inverse: Any
    vmath_incomplete: Any
else:

    def module(name: str) -> ModuleType:
        """Return the module ``name``, which is executed at the first use of one of its attributes."""
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"lazy.module: no module named {name!r}", name=name)
        spec.loader = importlib.util.LazyLoader(spec.loader)
        lazy = importlib.util.module_from_spec(spec)
        sys.modules[name] = lazy
        spec.loader.exec_module(lazy)
        return lazy

    atomics = module("autograd_core.kernels.atomics")
    conv_tiles = module("autograd_core.kernels.conv_tiles")
    pipeline = module("autograd_core.kernels.pipeline")
    simd = module("autograd_core.kernels.simd")
    tiles = module("autograd_core.kernels.tiles")
    vmath = module("autograd_core.kernels.vmath")
    vmath_arithmetic = module("autograd_core.kernels.vmath_arithmetic")
    vmath_bessel = module("autograd_core.kernels.vmath_bessel")
    vmath_error = module("autograd_core.kernels.vmath_error")
    vmath_gamma = module("autograd_core.kernels.vmath_gamma")
    vmath_inverse = module("autograd_core.kernels.vmath_inverse")
    vmath_incomplete = module("autograd_core.kernels.vmath_incomplete")

__all__ = [
    "atomics", "conv_tiles", "pipeline", "simd", "tiles", "vmath", "vmath_arithmetic", "vmath_bessel", "vmath_error",
    "vmath_gamma", "vmath_incomplete", "vmath_inverse",
]  # fmt: skip


def load() -> None:
    """Import them all: before a kernel is compiled, since Numba does not see what is imported while it infers types."""
    for name in __all__:
        _ = globals()[name].__doc__
