"""Where tensors live and what their types hold: devices (the CPU alone), memory layouts, ``finfo`` and ``iinfo``."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

from .shapes import default_dtype, dtype_of, numpy_dtype


class device:
    """The place of a tensor: ``ag.device("cpu")`` is the only one. A context manager, for scripts that enter one."""

    __slots__ = ("index", "type")

    def __init__(self, type: Any = "cpu", index: int | None = None):
        given, index = (type.type, type.index) if isinstance(type, device) else (type, index)
        if not isinstance(given, str):
            raise TypeError(f"device: expected a string such as 'cpu' or a device, got {given!r}")
        name, _, number = given.partition(":")
        if name != "cpu":
            raise RuntimeError(f"device: only 'cpu' is available, got {given!r}")
        self.type: str = name
        self.index: int | None = int(number) if number else index

    def __repr__(self):
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (self.type, self.index)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


CPU = device("cpu")


def check_device(place) -> None:
    """Raise unless ``place`` (None, a string or a `device`) is the CPU."""
    if place is not None and place is not CPU:
        device(place)


class Layout:
    """A named constant for the arguments ``layout=`` and ``memory_format=``."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self):
        return f"ag.{self.name}"

    def __reduce__(self):
        return LAYOUTS.__getitem__, (self.name,)


LAYOUTS = {name: Layout(name) for name in
           ("strided", "contiguous_format", "preserve_format", "channels_last", "channels_last_3d")}  # fmt: skip


def check_layout(layout) -> None:
    """Raise unless ``layout`` is None or ``ag.strided``: sparse tensors do not exist here."""
    if layout is not None and layout is not LAYOUTS["strided"]:
        raise RuntimeError(f"layout: only ag.strided is available, got {layout!r}")


def _no_cuda(*args, **kwargs):
    raise RuntimeError("no CUDA device: tensors live on the CPU")


def _cuda_module() -> ModuleType:
    """`ag.cuda`: says that there is none, so that scripts which ask fall back to the CPU."""
    cuda = ModuleType("autograd_core.cuda", _cuda_module.__doc__)
    answers: dict[str, Any] = {
        "is_available": lambda: False,
        "device_count": lambda: 0,
        "is_initialized": lambda: False,
        "synchronize": _no_cuda,
        "current_device": _no_cuda,
        "get_device_name": _no_cuda,
        "set_device": _no_cuda,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "empty_cache": lambda: None,
    }
    cuda.__dict__.update(answers)
    sys.modules[cuda.__name__] = cuda
    return cuda


cuda = _cuda_module()


class finfo:
    """The limits of a floating-point type (the default one if none is given): bits, eps, max, min, tiny, resolution."""

    def __init__(self, type=None):
        kind = default_dtype() if type is None else numpy_dtype(type)
        if kind.kind != "f":
            raise TypeError(f"finfo: needs a floating-point type, got {dtype_of(kind)}; use iinfo")
        found = np.finfo(kind)
        self.bits, self.dtype = found.bits, kind.name
        self.eps, self.max, self.min = float(found.eps), float(found.max), float(found.min)
        self.tiny = self.smallest_normal = float(found.smallest_normal)
        self.resolution = float(found.resolution)

    def __repr__(self):
        return (
            f"finfo(resolution={self.resolution}, min={self.min}, max={self.max}, eps={self.eps}, "
            f"smallest_normal={self.smallest_normal}, tiny={self.tiny}, dtype={self.dtype})"
        )


class iinfo:
    """The limits of an integer type: bits, max, min."""

    def __init__(self, type):
        kind = numpy_dtype(type)
        if kind.kind not in "iu":
            raise TypeError(f"iinfo: needs an integer type, got {dtype_of(kind)}; use finfo")
        found = np.iinfo(kind)
        self.bits, self.max, self.min, self.dtype = found.bits, int(found.max), int(found.min), kind.name

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
