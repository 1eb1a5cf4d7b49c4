"""What this machine can do: its parts, the peak of the multiply-add units, the speed of memory."""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from autograd_core.kernels import gemm, host
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


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def describe(threads: int) -> dict[str, str]:
    """What the tables name: machine and versions."""
    first, second, last = host.caches()
    facts = {
        "processor": f"{processor()} ({host.cpu()[0]}, {host.lanes()} float32 lanes)",
        "cores": f"{host.cores()}, of which {threads} used",
        "caches": f"{first >> 10} KiB, {second >> 10} KiB, {last >> 20} MiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    for package in ("autograd-core", "numpy", "numba", "torch", "jax", "autograd"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if "autograd-core" not in facts:
        import autograd_core

        facts["autograd-core"] = autograd_core.__version__
    return facts
