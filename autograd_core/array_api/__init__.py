"""The Python Array API standard 2024.12 on Tensors: ``from autograd_core import array_api as xp``.

The same records under the standard's names, signatures and type promotion, so that libraries written for the standard
take Tensors (``Tensor.__array_namespace__`` returns this module) and gradients pass through them. The operators of a
Tensor keep PyTorch's promotion, where a 0-d tensor does not widen one with dimensions. There are no complex
numbers: no complex dtypes, and ``fft`` holds what does not need them.

Source: https://data-apis.org/array-api/2024.12
"""

from __future__ import annotations

from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi

from ..info import device as _device
from ..shapes import DTYPES as _DTYPES
from ..shapes import default_dtype as _default_dtype
from ..shapes import dtype_of as _dtype_of
from . import arrangement as _arrangement
from . import creation as _creation
from . import elementwise as _elementwise
from . import fft as fft
from . import linalg as linalg
from . import statistics as _statistics

__array_api_version__ = "2024.12"
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
"""The versions that `Tensor.__array_namespace__` accepts; each holds the names of those before."""

newaxis = None


def _functions(module):
    """The public functions that a module defines, by name."""
    return {name: member for name, member in vars(module).items()
            if callable(member) and not name.startswith("_") and getattr(member, "__module__", "") == module.__name__
            and not isinstance(member, type)}  # fmt: skip


_dtypes = {t.name: t for t in _DTYPES.values()}
_dtypes.pop("float16")  # not among the standard's

globals().update(_dtypes)
for _module in (_arrangement, _creation, _elementwise, _statistics):
    globals().update(_functions(_module))
matmul, matrix_transpose, tensordot, vecdot = linalg.matmul, linalg.matrix_transpose, linalg.tensordot, linalg.vecdot


def __dir__():
    shown = [name for name in globals() if not name.startswith("_") and name not in _HIDDEN]
    return [*shown, "__array_api_version__", "__array_namespace_info__"]


_HIDDEN = {"annotations", "VERSIONS", "arrangement", "creation", "elementwise", "promotion", "statistics"}


class __array_namespace_info__:
    """What this namespace can do: capabilities, devices and dtypes."""

    def capabilities(self) -> dict:
        """Which optional behaviours there are."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self):
        """Where new arrays live."""
        return _device("cpu")

    def devices(self) -> list:
        """All devices: the CPU."""
        return [_device("cpu")]

    def default_dtypes(self, *, device=None) -> dict:
        """The types of arrays made without naming one."""
        del device
        integral = _DTYPES["int64"]
        real = _dtype_of(_default_dtype())
        return {"real floating": real, "integral": integral, "indexing": integral}

    def dtypes(self, *, device=None, kind=None) -> dict:
        """The dtypes of a kind ("bool", "integral", ...; a tuple of such words; all of them by default), by name."""
        del device
        return {name: dtype for name, dtype in _dtypes.items() if kind is None or _creation.isdtype(dtype, kind)}
