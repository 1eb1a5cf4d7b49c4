"""NumPy's BLAS, told to keep to one thread. Needs no Numba and is cheap to import."""

from __future__ import annotations

import ctypes
import functools
from importlib import import_module
from pathlib import Path

import numpy as np

_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
            "openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads")


@functools.cache
def blas_one_thread() -> bool:
    """Keep NumPy's BLAS on one thread from now on; return whether a library was found that takes the order.

    Two thread pools would fight for the cores, and OpenBLAS's bits differ between 1 and 2 threads. Only the first call
    does something. Apple's Accelerate, which has no such function, is asked through its own.
    """
    # A symbol is looked for in the libraries that a library was linked with, too; not so on Windows.
    libraries = [str(import_module("numpy._core._multiarray_umath").__file__)]
    libraries += map(str, (Path(np.__file__).parent.parent / "numpy.libs").glob("*openblas*.dll"))
    for path in libraries:
        library = ctypes.CDLL(path)
        for name in _SETTERS:
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(1))
                return True
        if hasattr(library, "BLASSetThreading"):
            return library.BLASSetThreading(ctypes.c_int(1)) == 0
    return False
