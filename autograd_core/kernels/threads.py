"""The thread budget, and the threads that share the chunks of a call.

Daemon threads of Python sit in machine code without the GIL. They wait for work by spinning for a bounded time, then
sleep in the operating system. Chunks are claimed one by one by whoever is free, the launching thread among them, so a
launch never waits for a thread that does not wake; it waits only for chunks already begun. What a chunk is depends on
the call alone, so results have the same bits for any number of threads.

A launch that finds the threads busy (another Python thread is launching) runs its chunks itself. A forked child makes
threads of its own when it first needs them.
"""
from __future__ import annotations

import atexit
import ctypes
import functools
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import atomics, simd
from autograd_core.kernels.runner import range_kernel

# Words of the shared state. Those that different threads write stand 128 bytes apart, away from each other's lines.
TICKET, DONE, SLEEPERS, LOCK, STOP, JOB, FIXED = 0, 16, 32, 48, 64, 80, 96
KERNEL, CONTEXT, SIZE, GRAIN, CHUNKS = JOB, JOB + 1, JOB + 2, JOB + 3, JOB + 4
SPINS, SLEEP, SLEEP_ARGS, SLEPT, WAKE, WAKE_ARGS, WAKE_COUNT, YIELD = (FIXED + i for i in (0, 1, 2, 5, 6, 7, 10, 11))
STATE_WORDS = 128
SPIN_SECONDS = 100e-6  # how long an idle thread spins: about the pause between two kernels of an eager step
ROW = 4  # words of a row of a call table: kernel, context, size, grain


# --------------------------------------------------------------------------------------------------------- native code
# The ticket holds the job's number in its upper half and how many chunks nobody has claimed in its lower half. A claim
# is one compare-and-swap of the whole word, so it fails if the job that the thread has read is over.


@functools.cache
def _claim():
    """The loop that claims and runs chunks until none is left; returns how often it got one."""

    @simd.device
    def claim(state):
        while True:
            ticket = atomics.read(state, TICKET)
            left = ticket & 0xFFFFFFFF
            if left == 0:
                return
            kernel, context = atomics.read(state, KERNEL), atomics.read(state, CONTEXT)
            size, grain = atomics.read(state, SIZE), atomics.read(state, GRAIN)
            chunks = atomics.read(state, CHUNKS)
            if atomics.swap(state, TICKET, ticket, ticket - 1):
                start = (chunks - left) * grain
                atomics.call_kernel(kernel, context, start, min(start + grain, size))
                atomics.add(state, DONE, 1)

    return claim


@range_kernel
def worker_loop():
    """Life of a worker thread: context is the shared state."""
    claim = _claim()

    def kernel(context, start, stop):
        state = simd.words(context)
        spins = state[SPINS]
        while True:
            waited = 0
            while waited < spins and atomics.read(state, TICKET) & 0xFFFFFFFF == 0:
                atomics.pause()
                waited += 1
            if waited == spins:
                atomics.add(state, SLEEPERS, 1)
                awake = False
                # Work or the end that came while falling asleep: take the name off the list, unless a waker just did.
                while not awake and (atomics.read(state, TICKET) & 0xFFFFFFFF or atomics.read(state, STOP)):
                    sleepers = atomics.read(state, SLEEPERS)
                    if sleepers == 0:
                        break
                    awake = atomics.swap(state, SLEEPERS, sleepers, sleepers - 1)
                while not awake:
                    answer = atomics.call_system(
                        state[SLEEP], state[SLEEP_ARGS], state[SLEEP_ARGS + 1], state[SLEEP_ARGS + 2])
                    awake = answer & 0xFFFFFFFF == state[SLEPT]  # another answer: a signal interrupted the sleep
            if atomics.read(state, STOP):
                return
            claim(state)

    return kernel


@range_kernel
def walk():
    """Run a table of calls: context is its address, start the number of rows, stop the threads' state or 0."""
    claim = _claim()

    @simd.device
    def wake(state, wanted):
        while True:
            sleepers = atomics.read(state, SLEEPERS)
            count = min(sleepers, wanted)
            if count <= 0:
                return
            if atomics.swap(state, SLEEPERS, sleepers, sleepers - count):
                first, second, third = state[WAKE_ARGS], state[WAKE_ARGS + 1], state[WAKE_ARGS + 2]
                if state[WAKE_COUNT] == 1:
                    second = count
                else:
                    third = count
                atomics.call_system(state[WAKE], first, second, third)
                return

    @simd.device
    def share(state, kernel, context, size, grain, chunks):
        atomics.write(state, KERNEL, kernel)
        atomics.write(state, CONTEXT, context)
        atomics.write(state, SIZE, size)
        atomics.write(state, GRAIN, grain)
        atomics.write(state, CHUNKS, chunks)
        atomics.write(state, DONE, 0)
        job = (atomics.read(state, TICKET) >> 32) + 1
        atomics.write(state, TICKET, (job << 32) | chunks)
        wake(state, chunks - 1)
        claim(state)
        waited = 0
        while atomics.read(state, DONE) != chunks:
            waited += 1
            if waited < 2000:
                atomics.pause()
            else:
                atomics.call_system(state[YIELD], 0, 0, 0)

    def kernel(table, rows, state_address):
        row, state = simd.words(table), simd.words(state_address)
        for i in range(rows):
            kernel, context, size, grain = row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]
            chunks = (size + grain - 1) // grain
            if chunks > 1 and state_address != 0 and atomics.swap(state, LOCK, 0, 1):
                share(state, kernel, context, size, grain, chunks)
                atomics.write(state, LOCK, 0)
            else:
                for chunk in range(chunks):
                    start = chunk * grain
                    atomics.call_kernel(kernel, context, start, min(start + grain, size))

    return kernel


# ------------------------------------------------------------------------------------------------------------- the pool


def _symbol(library: ctypes.CDLL, *names: str) -> int:
    """Address of the first function of these names that the library has."""
    for name in names:
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    raise OSError(f"threads: the C library has none of {names}")


class _Pool:
    """``workers`` threads and the state they share. POSIX threads sleep reading a pipe, Windows' on a semaphore."""

    def __init__(self, workers: int) -> None:
        self._memory = np.zeros(STATE_WORDS + 16, np.int64)
        start = -self._memory.ctypes.data % 128 // 8
        self._state = self._memory[start:start + STATE_WORDS]
        self.address = self._state.ctypes.data
        self._state[SPINS] = _spins()
        (self._sleep_on_semaphore if sys.platform == "win32" else self._sleep_on_pipe)(workers)
        loop = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(worker_loop().address)
        self._threads = [threading.Thread(target=loop, args=(self.address, 0, 0), name=f"kernels-{i}", daemon=True)
                         for i in range(workers)]
        for thread in self._threads:
            thread.start()

    def _sleep_on_pipe(self, workers: int) -> None:
        """A byte in the pipe wakes one thread."""
        libc = ctypes.CDLL(None)
        ends = os.pipe()
        self._bytes = np.zeros(workers, np.int8)
        place = self._bytes.ctypes.data
        self._state[SLEEP:SLEPT + 1] = _symbol(libc, "read"), ends[0], place, 1, 1
        self._state[WAKE:YIELD + 1] = _symbol(libc, "write"), ends[1], place, 0, 2, _symbol(libc, "sched_yield")
        self._wake_all = functools.partial(os.write, ends[1], bytes(workers))

    def _sleep_on_semaphore(self, workers: int) -> None:
        kernel32 = ctypes.CDLL("kernel32")
        kernel32.CreateSemaphoreW.restype = ctypes.c_void_p
        handle = kernel32.CreateSemaphoreW(None, 0, 2 * workers, None)
        forever, succeeded = 0xFFFFFFFF, 0
        self._state[SLEEP:SLEPT + 1] = _symbol(kernel32, "WaitForSingleObject"), handle, forever, 0, succeeded
        self._state[WAKE:YIELD + 1] = (
            _symbol(kernel32, "ReleaseSemaphore"), handle, 0, 0, 1, _symbol(kernel32, "SwitchToThread"))
        self._wake_all = functools.partial(kernel32.ReleaseSemaphore, ctypes.c_void_p(handle), workers, None)

    def stop(self) -> None:
        """End the threads; a launch under way in another Python thread finishes alone."""
        self._state[STOP] = 1
        self._wake_all()
        for thread in self._threads:
            thread.join()


@range_kernel
def pauses():
    """Wait in a loop as an idle thread does, from start to stop."""

    def kernel(context, start, stop):
        state = simd.words(context)
        waited = start
        while waited < stop and atomics.read(state, 0) & 0xFFFFFFFF == 0:
            atomics.pause()
            waited += 1

    return kernel


@functools.cache
def _spins() -> int:
    """How many rounds of waiting make SPIN_SECONDS: a pause takes from 1 to 140 cycles, by processor."""
    wait = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(pauses().address)
    zero, rounds = np.zeros(1, np.int64), 500
    best = SPIN_SECONDS
    for _ in range(3):
        start = time.perf_counter()
        wait(zero.ctypes.data, 0, rounds)
        best = min(best, time.perf_counter() - start)
    return max(int(rounds * SPIN_SECONDS / best), rounds)


# ----------------------------------------------------------------------------------------------------------- the budget

_lock = threading.RLock()
_pool: _Pool | None = None
_retired: list[_Pool] = []  # their state may still be in use by a launch that began before they were stopped
_ended = False
_budget = 0


def get_num_threads() -> int:
    """Return how many threads kernels may use: ``set_num_threads``, else ``AG_NUM_THREADS``, else the cores."""
    global _budget
    if not _budget:
        wanted = os.environ.get("AG_NUM_THREADS", "").strip()
        if wanted and (not wanted.isdigit() or int(wanted) < 1):
            raise ValueError(f"get_num_threads: AG_NUM_THREADS is {wanted!r}; it needs a whole number of at least 1")
        _budget = int(wanted) if wanted else host.cores()
    return _budget


def set_num_threads(n: int) -> None:
    """Let kernels use ``n`` threads, the calling one included. Results do not depend on it, to the bit."""
    global _budget
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"set_num_threads: n is {n!r}; it needs a whole number of at least 1")
    with _lock:
        if n != _budget:
            _end_pool()
            _budget = int(n)


def state_address() -> int:
    """Return the address of the threads' shared state, started if need be; 0 where calls are to run serially."""
    if _pool is not None:
        return _pool.address
    return _start_pool()


def _start_pool() -> int:
    global _pool
    workers = get_num_threads() - 1
    if workers == 0 or _ended:
        return 0
    with _lock:
        if _pool is None:
            _pool = _Pool(workers)
        return _pool.address


def _end_pool() -> None:
    global _pool
    with _lock:
        if _pool is not None:
            _pool.stop()
            _retired.append(_pool)
            _pool = None


def _at_exit() -> None:
    global _ended
    _ended = True
    _end_pool()


def _after_fork() -> None:
    """The parent's threads do not exist in the child; neither can a lock that one of them held be trusted."""
    global _pool, _lock
    _pool, _lock = None, threading.RLock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# --------------------------------------------------------------------------------------------------------- NumPy's BLAS

_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
            "openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads")


@functools.cache
def blas_one_thread() -> bool:
    """Keep NumPy's BLAS on one thread from now on; return whether a library was found that takes the order.

    Two thread pools would fight for the cores, and OpenBLAS's bits differ between 1 and 2 threads. Only the first call
    does something. Apple's Accelerate, which has no such function, is asked through its own.
    """
    from numpy._core import _multiarray_umath

    # A symbol is looked for in the libraries that a library was linked with, too; not so on Windows.
    libraries = [_multiarray_umath.__file__]
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
