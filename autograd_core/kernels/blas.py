"""The BLAS of NumPy and of SciPy, told to keep to one thread. Needs no Numba and is cheap to import."""

from __future__ import annotations

import ctypes
import functools
from importlib import import_module
from pathlib import Path

_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
            "openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads")


_USERS = {"numpy": "numpy._core._multiarray_umath", "scipy": "scipy.linalg._fblas"}
"""A module of each package that is linked with its BLAS; the two packages bring a library each."""


@functools.cache
def blas_one_thread(package: str = "numpy") -> bool:
    """Keep the BLAS of a package on one thread from now on; return whether a library was found that takes the order.

    Two thread pools would fight for the cores, and OpenBLAS's bits differ between 1 and 2 threads. Only the first call
    does something. Apple's Accelerate, which has no such function, is asked through its own.
    """
    # A symbol is looked for in the libraries that a library was linked with, too; not so on Windows.
    file = Path(str(import_module(_USERS[package]).__file__))
    folder = Path(str(import_module(package).__file__)).parent.parent / f"{package}.libs"
    for path in (file, *folder.glob("*openblas*.dll")):
        library = ctypes.CDLL(str(path))
        for name in _SETTERS:
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(1))
                return True
        if hasattr(library, "BLASSetThreading"):
            return library.BLASSetThreading(ctypes.c_int(1)) == 0
    return False
