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

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import atomics, simd
from autograd_core.kernels.runner import range_kernel

# Words of the shared state. Those that different threads write stand 128 bytes apart, away from each other's lines.
LINE = 16
JOB, DONE, SLEEPERS, LOCK, STOP, CALL, FIXED, SHARES = (LINE * i for i in range(8))
KERNEL, CONTEXT, SIZE, GRAIN, BACK = range(CALL, CALL + 5)
THREADS, SPINS, SEMAPHORE, SLEEP, SLEEP_ARG, WAKE, WAKE_ARG, YIELD = range(FIXED, FIXED + 8)
SPIN_SECONDS = 100e-6  # how long an idle thread spins: about the pause between two kernels of an eager step
MOST_CHUNKS = 0xFFFF


# --------------------------------------------------------------------------------------------------------- native code
# Each thread has a share of the chunks, [first, last), in one word under the number of the job: job << 32 | first << 16
# | last. It takes its own from the front, then those of others from the back; in every second call the other way round.
# So a thread meets much the same part of the arrays in call after call, and begins with what the last call ended with
# and left in its cache. A claim is one compare-and-swap of the word: it fails if the job that the thread has read of is
# over.


@functools.cache
def _claim():
    """Device function that runs chunks until none is left, a thread's own first; returns how many it ran."""

    @simd.device
    def claim(state, own):
        threads, ran = state[THREADS], 0
        for other in range(threads):
            owner = own + other if own + other < threads else own + other - threads
            place = SHARES + LINE * owner
            while True:
                share = atomics.read(state, place)
                first, last = (share >> 16) & 0xFFFF, share & 0xFFFF
                if first >= last:
                    break
                kernel, context = atomics.read(state, KERNEL), atomics.read(state, CONTEXT)
                size, grain = atomics.read(state, SIZE), atomics.read(state, GRAIN)
                in_front = (other == 0) != (atomics.read(state, BACK) != 0)
                chunk, left = (first, share + 0x10000) if in_front else (last - 1, share - 1)
                if atomics.swap(state, place, share, left):
                    start = chunk * grain
                    atomics.call_kernel(kernel, context, start, min(start + grain, size))
                    atomics.add(state, DONE, 1)
                    ran += 1
        return ran

    return claim


@range_kernel
def worker_loop():
    """Life of a worker thread: context is the shared state, start the thread's number."""
    claim = _claim()

    @simd.device
    def sleep(state, job):
        atomics.add(state, SLEEPERS, 1)
        # Work or the end that came while falling asleep: take the name off the list, unless a waker just did.
        while atomics.read(state, JOB) != job or atomics.read(state, STOP) != 0:
            sleepers = atomics.read(state, SLEEPERS)
            if sleepers == 0:
                break
            if atomics.swap(state, SLEEPERS, sleepers, sleepers - 1):
                return
        while atomics.call_system(state[SLEEP], state[SEMAPHORE], state[SLEEP_ARG], 0) & 0xFFFFFFFF != 0:
            pass  # a signal interrupted the sleep

    def kernel(context, start, stop):
        state = simd.words(context)
        patience, job = state[SPINS], -1
        while atomics.read(state, STOP) == 0:
            waited = 0
            while waited < patience and atomics.read(state, JOB) == job:
                atomics.pause()
                waited += 1
            if waited == patience:
                sleep(state, job)
            job = atomics.read(state, JOB)
            # Too late for any work: the cores are busy, and the one it has is better used by others.
            patience = state[SPINS] if claim(state, start) > 0 else max(patience // 2, 16)

    return kernel


@range_kernel
def walk():
    """Run a table of calls: context is its address, start the number of rows, stop the threads' state or 0.

    Chunks are worked off in turns from the first to the last and back; a negative number begins with the way back.
    """
    claim = _claim()

    @simd.device
    def wake(state, wanted):
        while True:
            sleepers = atomics.read(state, SLEEPERS)
            count = min(sleepers, wanted)
            if count <= 0:
                return
            if atomics.swap(state, SLEEPERS, sleepers, sleepers - count):
                for _ in range(count):
                    atomics.call_system(state[WAKE], state[SEMAPHORE], state[WAKE_ARG], 0)
                return

    @simd.device
    def share_out(state, kernel, context, size, grain, chunks, back):
        atomics.write(state, KERNEL, kernel)
        atomics.write(state, CONTEXT, context)
        atomics.write(state, SIZE, size)
        atomics.write(state, GRAIN, grain)
        atomics.write(state, BACK, back)
        atomics.write(state, DONE, 0)
        job = (atomics.read(state, JOB) + 1) & 0x7FFFFFFF
        threads = state[THREADS]
        shares = min(threads, chunks)
        for i in range(shares):
            first, last = i * chunks // shares, (i + 1) * chunks // shares
            atomics.write(state, SHARES + LINE * i, (job << 32) | (first << 16) | last)
        atomics.write(state, JOB, job)
        wake(state, chunks - 1)
        claim(state, 0)
        # To yield at once would give a slice of milliseconds to whoever else is on this core; never to, would keep a
        # worker that was woken on this core from its chunk.
        waited, patience = 0, state[SPINS] // 4
        while atomics.read(state, DONE) != chunks:
            waited += 1
            if waited < patience:
                atomics.pause()
            else:
                atomics.call_system(state[YIELD], 0, 0, 0)

    def kernel(table, rows, state_address):
        row, state = simd.words(table), simd.words(state_address)
        back = 1 if rows < 0 else 0
        for i in range(abs(rows)):
            kernel, context, size, grain = row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]
            chunks = (size + grain - 1) // grain
            if 1 < chunks <= MOST_CHUNKS and state_address != 0 and atomics.swap(state, LOCK, 0, 1):
                share_out(state, kernel, context, size, grain, chunks, back)
                atomics.write(state, LOCK, 0)
            else:
                for chunk in range(chunks):
                    start = (chunks - 1 - chunk if back else chunk) * grain
                    atomics.call_kernel(kernel, context, start, min(start + grain, size))
            if chunks > 1:
                back = 1 - back

    return kernel


# ------------------------------------------------------------------------------------------------------------- the pool


def _semaphore() -> tuple[int, int, int, int, int, int, object]:
    """A semaphore: its handle, address and second argument of wait and of post, address of yield, what keeps it alive.

    Not a pipe: Linux wakes a pipe's reader on the writer's own core, where it waits for the work it is to share.
    """
    libc = ctypes.CDLL("kernel32" if sys.platform == "win32" else None)
    if sys.platform == "win32":
        libc.CreateSemaphoreW.restype = ctypes.c_void_p
        handle, wait, post, pause = (libc.CreateSemaphoreW(None, 0, 1 << 20, None), "WaitForSingleObject",
                                     "ReleaseSemaphore", "SwitchToThread")
        return handle, _symbol(libc, wait), 0xFFFFFFFF, _symbol(libc, post), 1, _symbol(libc, pause), None
    if sys.platform == "darwin":
        libc.dispatch_semaphore_create.restype = ctypes.c_void_p
        handle, wait, post = (libc.dispatch_semaphore_create(ctypes.c_long(0)), "dispatch_semaphore_wait",
                              "dispatch_semaphore_signal")
        return handle, _symbol(libc, wait), -1, _symbol(libc, post), 0, _symbol(libc, "sched_yield"), None
    memory = np.zeros(16, np.int64)  # twice what any C library's sem_t takes
    if libc.sem_init(ctypes.c_void_p(memory.ctypes.data), 0, 0) != 0:
        raise OSError("threads: sem_init failed")
    return (memory.ctypes.data, _symbol(libc, "sem_wait"), 0, _symbol(libc, "sem_post"), 0,
            _symbol(libc, "sched_yield"), memory)


def _symbol(library: ctypes.CDLL, name: str) -> int:
    """Address of a function of the library."""
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


class _Pool:
    """``workers`` threads and the state they share."""

    def __init__(self, workers: int) -> None:
        words = SHARES + LINE * (workers + 1)
        self._memory = np.zeros(words + LINE, np.int64)
        start = -self._memory.ctypes.data % (8 * LINE) // 8
        self._state = self._memory[start:start + words]
        self.address = self._state.ctypes.data
        *facts, self._kept = _semaphore()
        self._state[THREADS:YIELD + 1] = workers + 1, _spins(), *facts
        loop = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(worker_loop().address)
        self._threads = [threading.Thread(target=loop, args=(self.address, i, 0), name=f"kernels-{i}", daemon=True)
                         for i in range(1, workers + 1)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; a launch under way in another Python thread finishes alone."""
        self._state[STOP] = 1
        post = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(int(self._state[WAKE]))
        for _ in self._threads:
            post(self._state[SEMAPHORE], self._state[WAKE_ARG], 0)
        for thread in self._threads:
            thread.join()


@range_kernel
def pauses():
    """Wait in a loop as an idle thread does, from start to stop."""

    def kernel(context, start, stop):
        state = simd.words(context)
        waited = start
        while waited < stop and atomics.read(state, JOB) == 0:
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
