"""What needs a process of its own: importing, the first step, the memory of a step.

As a program (``python -m benchmarks.processes TASK ENGINE THREADS [ROW]``) it does one task and prints one number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median
from typing import Any

from .engines import ENGINES, ready

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = {"ours": "import autograd_core, nn, optim", "torch": "import torch", "jax": "import jax",
           "autograd": "import autograd.numpy"}  # fmt: skip
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # sources are compiled once, whatever the environment says


def child(*command: str, **environment: str) -> str:
    """The last line that a new Python process prints."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=False,
                          env={**os.environ, **environment})  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout.strip().splitlines()[-1]


def _task(task: str, engine: str, threads: int, row: str = "", **environment: str) -> float:
    return float(child("-m", "benchmarks.processes", task, engine, str(threads), row, **environment))


_Values = dict[str, Callable[[], float]]


def _row(group: str, name: str, unit: str, values: _Values, repeats: int) -> dict[str, Any]:
    """A row of numbers that are the smaller the better, each measured ``repeats`` times (the median counts)."""
    row: dict[str, Any] = {"group": group, "name": name, "aim": None, "unit": unit, "contestants": {}, "ratios": {}}
    taken: dict[str, list[float]] = {engine: [] for engine in values}
    for _ in range(repeats):
        for engine, value in values.items():
            if "missing" not in row["contestants"].get(engine, {}):
                try:
                    taken[engine].append(value())
                except RuntimeError as reason:
                    row["contestants"][engine] = {"missing": str(reason)[:120]}
    for engine, numbers in taken.items():
        if numbers and engine not in row["contestants"]:
            row["contestants"][engine] = {"seconds": median(numbers), "low": min(numbers), "high": max(numbers)}
    shown = {k: v for k, v in row["contestants"].items() if "seconds" in v}
    first = next(iter(shown), "")
    if first.startswith("ours"):
        own = shown.pop(first)
        row["ratios"] = {
            k: {"low": v["low"] / own["high"], "median": v["seconds"] / own["seconds"], "high": v["high"] / own["low"]}
            for k, v in shown.items()
        }
    return row


def startup(threads: int, repeats: int, only: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Import, install size, and LeNet-5's first step, each in fresh processes."""
    installed = [name for name in IMPORTS if ENGINES[name].installed()]
    both = [name for name in ("ours", "torch") if name in installed]
    repeats = max(repeats, 1)
    rows = []
    if only("import"):
        code = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
        values: _Values = {n: lambda n=n: float(child("-c", code.format(IMPORTS[n]), **COMPILED)) for n in installed}
        rows.append(_row("startup", "import", "s", values, repeats))
    if only("install size"):
        values = {n: lambda n=n: install_size(ENGINES[n].package) / 1e6 for n in installed}
        rows.append(_row("startup", "install size, with what it needs", "MB", values, 1))
    if only("first LeNet-5 step, cold"):
        values = {n: lambda n=n: _cold(n, threads) for n in both}
        rows.append(_row("startup", "first LeNet-5 step, nothing cached, after the import", "s", values, 1))
    if only("first LeNet-5 step, warm"):
        for name in both:  # fills the cache
            _task("first_step", name, threads)
        values = {n: lambda n=n: _task("first_step", n, threads) for n in both}
        rows.append(_row("startup", "first LeNet-5 step in a new process, after the import", "s", values, repeats))
    return rows


def _cold(engine: str, threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _task("first_step", engine, threads, AG_CACHE=folder)


def memory(threads: int, cases: list, only: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Peak of resident memory of a training step above what the process holds before the model is made."""
    rows = []
    for case in cases:
        if only(case.name):
            values = {engine: lambda engine=engine, case=case: _task("memory", engine, threads, case.name) / 1e6
                      for engine in ("ours", "ours-compiled", "torch") if ENGINES[engine].installed()}  # fmt: skip
            rows.append(_row("memory", f"peak of a step: {case.name}", "MB", values, 1))
    return rows


def install_size(package: str) -> int:
    """Bytes of an installed package and of all that it needs; of a checkout, its own packages."""
    total, waiting, seen = 0, [package.replace("_", "-")], set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            if name == "autograd-core":  # on the path, not installed
                waiting += ["numpy", "numba", "graphviz", "rich", "safetensors"]
                total += _checkout_size()
            continue
        files = [Path(str(f.locate())) for f in found.files or ()]
        own = sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
        total += max(own, _checkout_size()) if name == "autograd-core" else own
        for need in found.requires or ():
            if "extra ==" not in need.replace("extra==", "extra =="):
                waiting.append(re.split(r"[^\w.-]", need, maxsplit=1)[0])
    return total


def _checkout_size() -> int:
    folders = [ROOT / name for name in ("autograd_core", "nn", "optim")]
    return sum(f.stat().st_size for d in folders for f in d.rglob("*") if f.is_file() and f.suffix != ".pyc")


# ----------------------------------------------------------------------------------------------- inside the new process


def resident(peak: bool) -> int:
    """Bytes of memory that this process holds now, or held at most; only the peak is known outside Linux."""
    if sys.platform == "linux":
        key = "VmHWM" if peak else "VmRSS"
        text = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(key))) * 1024
    if sys.platform == "win32":
        return _windows_peak()
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _windows_peak() -> int:
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = [("size", ctypes.c_uint32), ("faults", ctypes.c_uint32), ("peak", ctypes.c_size_t),
                    *[(f"other{i}", ctypes.c_size_t) for i in range(7)]]  # fmt: skip

    counters = Counters()
    counters.size = ctypes.sizeof(counters)
    kernel = ctypes.CDLL("kernel32")
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo(ctypes.c_void_p(kernel.GetCurrentProcess()), ctypes.byref(counters), counters.size)
    return counters.peak


def main(task: str, engine: str, threads: str, row: str = "") -> None:
    """Do one task and print its number."""
    from . import steps

    made = ready([engine], int(threads))
    if task == "first_step":
        _ = made[engine].lib.nn, made[engine].lib.optim  # the import is a row of its own
        start = time.perf_counter()
        steps.LENET5.job(made[engine]).run()
        print(time.perf_counter() - start)
    elif task == "memory":
        case = next(c for c in steps.eager() if c.name == row)
        case.arrays(float)
        case.state()  # this engine draws the weights for all
        _ = made[engine].lib.nn, made[engine].lib.optim
        before = resident(peak=False)
        if sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        run = case.job(made[engine]).run
        for _ in range(3):
            run()
        print(resident(peak=True) - before)
    else:
        raise ValueError(f"there is no task {task!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
