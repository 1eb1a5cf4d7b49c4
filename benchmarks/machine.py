"""What the tables of results name: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from autograd_core.kernels import host


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
