"""What this machine can do: the peak of the multiply-add units, and the speed of memory from cache to main memory.

Measured once for a processor and a number of threads, and kept in the cache folder (:func:`roof`); never at import.
"""
from __future__ import annotations

import functools
import json
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from autograd_core.kernels import cache, gemm, host
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Array, Call, Plan, Spec, execute, inp, out
from autograd_core.kernels.runner import range_kernel

DEPTH = 256  # steps of the inner dimension: both panels stay in the first-level cache


@range_kernel
def register_tile(dtype, lanes, rows, vectors, depth):
    """The micro-kernel of matmul on panels that stay in the cache, over and over; context: A, B, C."""
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T, width = simd.tile(V, rows, vectors), vectors * lanes

    def kernel(context, start, stop):
        w = simd.words(context)
        a, b, c = simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S)
        t = tiles.zeros(T)
        for _ in range(start, stop):
            t = tiles.add_products(t, depth, a, 1, rows, b, width)
        tiles.store(t, simd.advance(c, start * rows * width), width)

    return kernel


def _peak_plan(a: Array, b: Array, *, repeats: int, chunks: int) -> Plan:
    lanes, (rows, vectors) = host.lanes(a.dtype), _tile(a.dtype)
    call = Call(register_tile(a.dtype, lanes, rows, vectors, DEPTH), (inp(0), inp(1), out()), repeats * chunks, repeats)
    return Plan((Spec((repeats * chunks, rows * vectors * lanes), a.dtype),), (call,))


def _tile(dtype) -> tuple[int, int]:
    return gemm.tile_shape(10**6, 10**6, host.lanes(dtype), host.registers())


def peak(threads: int, repeats: int = 400) -> float:
    """Floating-point operations a second (float32) of the matmul micro-kernel on all threads; the best of a few tries.

    The number of threads is that of ``ag.set_num_threads``.
    """
    rows, vectors = _tile(np.float32)
    width = vectors * host.lanes(np.float32)
    a, b = np.ones((DEPTH, rows), np.float32) * 1e-3, np.ones((DEPTH, width), np.float32)
    chunks = 4 * threads
    seconds = _best(lambda: execute(_peak_plan, (a, b), repeats=repeats, chunks=chunks), 5)
    return 2.0 * DEPTH * rows * width * repeats * chunks / seconds


def bandwidth(threads: int, moved: float) -> float:
    """Bytes a second, read and written, of copying on all threads where a pass moves ``moved`` bytes in all."""
    size = int(min(max(moved, 1 << 20), 1 << 27)) // 8 // threads
    parts = [(np.ones(size, np.float32), np.empty(size, np.float32)) for _ in range(threads)]
    times = max(3, (1 << 26) // (8 * size * threads))
    gate = threading.Barrier(threads)
    spans: list[list[tuple[float, float]]] = [[] for _ in range(3)]  # of the workers in each try

    def work(source, target):
        np.copyto(target, source)
        for span in spans:
            gate.wait()
            start = time.perf_counter()
            for _ in range(times):
                np.copyto(target, source)
            span.append((start, time.perf_counter()))

    workers = [threading.Thread(target=work, args=part) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    best = min(max(end for _, end in span) - min(start for start, _ in span) for span in spans)
    return 8.0 * size * threads * times / best


def _best(function: Callable[[], object], tries: int) -> float:
    best = math.inf
    for _ in range(tries):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


# ------------------------------------------------------------------------------------------------------------ the roof


PASSES = tuple([1 << k for k in (20, 22, 24, 27)])  # bytes that are moved: from a core's own cache to main memory


class Roof(NamedTuple):
    """The best that this machine does: operations a second, and (bytes moved in a pass, bytes a second) by size.

    The picture behind it is the roofline: Williams, Waterman and Patterson, "Roofline", 2009.
    """

    flops: float
    speeds: tuple[tuple[int, float], ...]

    def bandwidth(self, moved: float) -> float:
        """Bytes a second where ``moved`` bytes are read and written: straight lines between what was measured."""
        sizes, speeds = zip(*self.speeds, strict=True)
        return float(np.interp(math.log2(max(moved, 1)), np.log2(sizes), speeds))

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for ``flops`` operations on ``moved`` bytes."""
        return max(flops / self.flops, moved / self.bandwidth(moved))

    def __str__(self):
        (small, fast), (large, slow) = self.speeds[0], self.speeds[-1]
        return (f"{self.flops / 1e9:.0f} GFLOP/s (float32), {fast / 1e9:.0f} to {slow / 1e9:.0f} GB/s "
                f"(moving {small / 1e6:.0f} to {large / 1e6:.0f} MB)")


@functools.cache
def roof(threads: int) -> Roof:
    """The roof of this machine with so many threads: from the cache folder, or measured."""
    return _kept(threads) or measure(threads)


def measure(threads: int) -> Roof:
    """Measure the roof (about half a second) and keep the better of it and what was kept: a busy machine lowers it."""
    before = _kept(threads)
    flops, speeds = peak(threads), tuple([(size, bandwidth(threads, size)) for size in PASSES])
    if before is not None:
        flops = max(flops, before.flops)
        speeds = tuple(map(max, speeds, before.speeds))
    cache.store(_name(threads), json.dumps([flops, speeds]).encode())
    roof.cache_clear()
    return Roof(flops, speeds)


def _kept(threads: int) -> Roof | None:
    held = cache.load(_name(threads))
    if held is None:
        return None
    flops, speeds = json.loads(held)
    return Roof(flops, tuple([(int(size), speed) for size, speed in speeds]))


def _name(threads: int) -> str:
    return f"roof of {threads} threads of {host.lanes()} lanes"
