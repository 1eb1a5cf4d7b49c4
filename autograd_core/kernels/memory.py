"""Large outputs from memory that earlier ones gave back: the system zeroes fresh pages, slower than kernels write them.

NumPy lets the memory of an array come from a handler (NEP 49). Ours keeps blocks that arrays gave back for the next
ones of much the same size, never more than the program once had in use at a time, and never more than ``limit``. It
serves the outputs that kernels ask for, from ``LEAST`` bytes on, and no other arrays.
"""
from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from autograd_core.kernels.lazy import atomics, simd
from autograd_core.kernels.runner import once, range_kernel

LEAST = 256 << 10  # bytes; smaller pieces the C library keeps itself
MOST_KEPT = 1 << 30  # bytes
MOST_BLOCKS = 256
HEAD = 128  # bytes before an array's data, rounded: where its block begins and how long it is

LOCK, MALLOC, FREE, COPY, FILL, LIMIT, LIVE, KEPT, PEAK, COUNT, TABLE = range(11)  # words of the state


# --------------------------------------------------------------------------------------------------------- native code


@functools.cache
def _list():
    """Device functions on the list of blocks: enter (until the lock is written), take one off, release the oldest."""

    @simd.device
    def enter(state):
        while not atomics.swap(state, LOCK, 0, 1):
            atomics.pause()

    @simd.device
    def forget(state, index):
        """Take block ``index`` off the list, which is in the order of age; returns its address and length."""
        base, size = state[TABLE + 2 * index], state[TABLE + 2 * index + 1]
        state[COUNT] -= 1
        state[KEPT] -= size
        for word in range(TABLE + 2 * index, TABLE + 2 * state[COUNT]):
            state[word] = state[word + 2]
        return base, size

    @simd.device
    def release(state):
        """Give the oldest block back to the system."""
        base, _ = forget(state, 0)
        atomics.call_system(state[FREE], base, 0, 0)

    return enter, forget, release


@functools.cache
def _take():
    """Device function: the address of at least so many bytes; 0 where there are none."""
    enter, forget, release = _list()

    @simd.device
    def find(state, least, most):
        for index in range(state[COUNT] - 1, -1, -1):
            if least <= state[TABLE + 2 * index + 1] <= most:
                return index
        return -1

    @simd.device
    def take(state, wanted):
        step = 4096
        while step * 16 < wanted:  # lengths an eighth apart at the most, or few would ever fit again
            step *= 2
        size = (wanted + step - 1) // step * step
        enter(state)
        index, base = find(state, size, size), 0
        if index < 0:
            index = find(state, size, size + size // 4)
        if index >= 0:
            base, size = forget(state, index)
        while base == 0 and state[COUNT] > 0 and state[LIVE] + state[KEPT] + size > state[PEAK]:
            release(state)
        if base == 0:
            base = atomics.call_system(state[MALLOC], size + HEAD, 0, 0)
        while base == 0 and state[COUNT] > 0:
            release(state)
            base = atomics.call_system(state[MALLOC], size + HEAD, 0, 0)
        if base != 0:
            state[LIVE] += size
            state[PEAK] = max(state[PEAK], state[LIVE])
        atomics.write(state, LOCK, 0)
        if base == 0:
            return 0
        address = (base + HEAD) // 64 * 64
        head = simd.words(address - 16)
        head[0], head[1] = base, size
        return address

    return take


@functools.cache
def _give():
    """Device function that takes the memory at an address back."""
    enter, _, release = _list()

    @simd.device
    def give(state, address):
        if address == 0:
            return
        head = simd.words(address - 16)
        base, size = head[0], head[1]
        enter(state)
        state[LIVE] -= size
        while state[COUNT] > 0 and (state[COUNT] == MOST_BLOCKS or state[KEPT] + size > state[LIMIT]):
            release(state)
        if size <= state[LIMIT]:
            place = TABLE + 2 * state[COUNT]
            state[place], state[place + 1] = base, size
            state[COUNT] += 1
            state[KEPT] += size
        else:
            atomics.call_system(state[FREE], base, 0, 0)
        atomics.write(state, LOCK, 0)

    return give


c_function = functools.partial(range_kernel, returns=True)


@c_function
def allocate():
    """As C's malloc: context is the state, start the size."""
    take = _take()

    def kernel(context, start, stop):
        return take(simd.words(context), start)

    return kernel


@c_function
def allocate_zeros():
    """As C's calloc: start is the count, stop the size."""
    take = _take()

    def kernel(context, start, stop):
        state = simd.words(context)
        address = take(state, start * stop)
        if address != 0:
            atomics.call_system(state[FILL], address, 0, start * stop)
        return address

    return kernel


@c_function
def reallocate():
    """As C's realloc: start is the address, or 0, stop the size."""
    take, give = _take(), _give()

    def kernel(context, start, stop):
        state = simd.words(context)
        address = take(state, stop)
        if start != 0 and address != 0:
            atomics.call_system(state[COPY], address, start, min(stop, simd.words(start - 16)[1]))
            give(state, start)
        return address

    return kernel


@c_function
def free():
    """As C's free: start is the address, or 0."""
    give = _give()

    def kernel(context, start, stop):
        give(simd.words(context), start)
        return 0

    return kernel


@c_function
def empty_list():
    """Give all kept blocks back to the system; context is the state."""
    enter, _, release = _list()

    def kernel(context, start, stop):
        state = simd.words(context)
        enter(state)
        while state[COUNT] > 0:
            release(state)
        state[PEAK] = state[LIVE]
        atomics.write(state, LOCK, 0)
        return 0

    return kernel


# --------------------------------------------------------------------------------------------------------- the handler


class _Handler(ctypes.Structure):
    """``PyDataMem_Handler`` of NumPy's C interface."""

    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
                ("malloc", ctypes.c_void_p), ("calloc", ctypes.c_void_p), ("realloc", ctypes.c_void_p),
                ("free", ctypes.c_void_p))  # fmt: skip


_SET_HANDLER = 304  # its place in the table of NumPy's C interface, the same since NumPy 1.22


@once
def state() -> np.ndarray:
    """Return the words that native code works on (see the names on top)."""
    words = np.zeros(TABLE + 2 * MOST_BLOCKS, np.int64)
    libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    for word, name in ((MALLOC, "malloc"), (FREE, "free"), (COPY, "memcpy"), (FILL, "memset")):
        words[word] = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
    words[LIMIT] = _limit()
    return words


def _limit() -> int:
    """An eighth of the machine's memory, at most ``MOST_KEPT``."""
    try:
        return min(MOST_KEPT, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8)
    except (AttributeError, ValueError, OSError):  # Windows; a system that does not say
        return MOST_KEPT // 4


@once
def _entry() -> tuple[Callable[[object], object], object]:
    """NumPy's function that replaces the handler of this thread and returns the one before, and our handler."""
    functions = [kernel() for kernel in (allocate, allocate_zeros, reallocate, free)]
    handler = _Handler(b"autograd_core", 1, state().ctypes.data, *[function.address for function in functions])
    void, obj, python = ctypes.c_void_p, ctypes.py_object, ctypes.pythonapi
    new_capsule = ctypes.PYFUNCTYPE(obj, void, void, void)(("PyCapsule_New", python))
    pointer = ctypes.PYFUNCTYPE(void, obj, void)(("PyCapsule_GetPointer", python))
    hold = ctypes.PYFUNCTYPE(None, obj)(("Py_IncRef", python))
    interface = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    table = ctypes.cast(pointer(interface, None), ctypes.POINTER(void))
    name = ctypes.create_string_buffer(b"mem_handler")
    capsule = new_capsule(ctypes.addressof(handler), ctypes.addressof(name), None)
    from autograd_core.kernels import runner

    for kept in (handler, name, state(), functions, runner._jit):  # arrays may be given back when all of Python is gone
        hold(kept)
    return ctypes.PYFUNCTYPE(obj, obj)(table[_SET_HANDLER]), capsule


_made: Any = None  # what `_entry` returns, without its lock


def pooled(make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return ``make()``, a new array, in memory of the pool."""
    global _made
    set_handler, ours = _made = _made or _entry()
    before = set_handler(ours)
    try:
        return make()
    finally:
        set_handler(before)


def give_back() -> None:
    """Give the memory that is kept for further arrays back to the system, as before another use of as much."""
    if _made is None or state()[KEPT] == 0:
        return
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(empty_list().address)(state().ctypes.data, 0, 0)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # the GNU library keeps what was freed unless it is asked
        trim(0)
