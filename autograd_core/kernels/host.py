"""Facts about the processor, asked of the host: vector width, registers, cache sizes, cores."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

_forced_lanes: int | None = int(os.environ["AG_LANES"]) if os.environ.get("AG_LANES") else None


@functools.cache
def cpu() -> tuple[str, str]:
    """Return the processor's name and features as LLVM calls them."""
    from llvmlite import binding

    return binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


@functools.cache
def _own_lanes() -> int:
    features = cpu()[1].split(",")
    return 16 if "+avx512f" in features else 8 if "+avx2" in features else 4


def lanes(dtype: DTypeLike = np.float32) -> int:
    """Return how many elements of ``dtype`` one vector holds (float32: 16 AVX-512, 8 AVX2, 4 NEON and SSE).

    The environment variable ``AG_LANES`` and :func:`using_lanes` replace the host's float32 lanes.
    """
    return 4 * (_forced_lanes or _own_lanes()) // np.dtype(dtype).itemsize


def multiplies_and_adds() -> bool:
    """Return whether the host multiplies and adds with one rounding, in one instruction."""
    return platform.machine().lower() in ("arm64", "aarch64") or "+fma" in cpu()[1].split(",")


def registers() -> int:
    """Return how many vector registers the host has at the width in use."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return 32
    return 32 if lanes() == 16 else 16


@contextlib.contextmanager
def using_lanes(float32_lanes: int) -> Iterator[None]:
    """Plan with this many float32 lanes inside the ``with`` block: for tests of 4, 8 and 16 lanes on any host."""
    from autograd_core.kernels import plan

    global _forced_lanes
    before, _forced_lanes = _forced_lanes, float32_lanes
    plan.forget()
    try:
        yield
    finally:
        _forced_lanes = before
        plan.forget()


@functools.cache
def caches() -> tuple[int, int, int]:
    """Return the sizes in bytes of the first-level data, second-level and last-level cache a core can use."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    if sys.platform == "darwin":
        libc = ctypes.CDLL(None)
        for level, name in ((1, b"hw.perflevel0.l1dcachesize"), (2, b"hw.perflevel0.l2cachesize")):
            value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
            if libc.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0:
                sizes[level] = value.value
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (index / "type").read_text().strip() != "Instruction":
                kibibytes = int((index / "size").read_text().strip().rstrip("K"))
                sizes[int((index / "level").read_text())] = kibibytes << 10
        except (OSError, ValueError):  # a container may hide them: the defaults serve
            continue
    return sizes[1], sizes[2], max(sizes[2], sizes[3])


@functools.cache
def cores() -> int:
    """Return how many physical cores this process may use (affinity, siblings and the container's quota counted)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    topology = Path("/sys/devices/system/cpu")
    try:
        count = len({(topology / f"cpu{i}/topology/thread_siblings_list").read_text() for i in allowed})
    except OSError:
        count = len(allowed)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, no quota
    return max(count, 1)
