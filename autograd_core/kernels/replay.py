"""The native entry of a compiled program: bind the addresses of arrays, check indices, run the table of calls.

Python hands over array objects; where their data lies is read here, which takes nanoseconds.
"""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import numpy as np

from autograd_core.kernels import threads
from autograd_core.kernels.lazy import atomics, simd
from autograd_core.kernels.plan import _DATA, walker
from autograd_core.kernels.runner import range_kernel

TABLE, ROWS, BINDINGS, PLACES, CHECKS, LIMITS, FAILED, WALK, OBJECTS = range(9)
CHECK = 6  # words of a check


@range_kernel
def replay(data_offset, head):
    """Bind, check, run; ``start``: state of the threads.

    Context: table, its rows, bindings and where they stand, checks and where they stand, the number of the check that
    failed, the runner's address; then array objects. A binding is (number of the object, address of the word, offset),
    a check (address, count, step, lowest, limit, number that may occur all the same): int64 numbers must lie from the
    lowest to below the limit. If one does not, nothing is run.
    """

    def kernel(context, start, stop):
        w = simd.words(context)
        places, limits = simd.words(w[3]), simd.words(w[5])
        for i in range(w[2]):
            data = simd.words(w[head + places[3 * i]] + data_offset)[0]
            simd.words(places[3 * i + 1])[0] = data + places[3 * i + 2]
        w[6] = 0
        for i in range(w[4]):
            at = CHECK * i
            values, count, step, wrong = simd.words(limits[at]), limits[at + 1], limits[at + 2], 0
            lowest, limit, other = limits[at + 3], limits[at + 4], limits[at + 5]
            for k in range(count):
                value = values[k * step]
                if (value < lowest or value >= limit) and value != other:
                    wrong = 1
            if wrong != 0:
                w[6] = i + 1
                return
        atomics.call_kernel(w[7], w[0], w[1], start)
        w[1] = -w[1]  # the next time begins with the last chunks: they are in the caches

    return kernel


@functools.cache
def entries() -> tuple[Callable, Callable]:
    """The entry that keeps the GIL, and the one that releases it; called with (header's address, threads' state, 0)."""
    address = replay(_DATA, OBJECTS).address
    arguments = [ctypes.c_void_p] * 3  # the cheapest to convert
    return ctypes.PYFUNCTYPE(None, *arguments)(address), ctypes.CFUNCTYPE(None, *arguments)(address)


class Header:
    """The context of one native call, and how it is called: ``enter(address, state, 0)``."""

    def __init__(self, table: int, rows: int, shared: bool, objects: int, bindings: Sequence[tuple[int, int, int]],
                 checks: np.ndarray) -> None:
        self.places = np.array(bindings, np.int64).ravel()
        self.checks = checks
        self.memory = np.zeros(OBJECTS + objects, np.int64)
        self.memory[:OBJECTS] = (table, rows, len(bindings), self.places.ctypes.data, len(checks) // CHECK,
                                 checks.ctypes.data, 0, walker())  # fmt: skip
        self.address = self.memory.ctypes.data
        self.words = self.memory.data
        self.shared = shared
        self.enter = entries()[shared]

    def run(self) -> None:
        """Call it."""
        self.enter(self.address, threads.state_address() if self.shared else 0, 0)
