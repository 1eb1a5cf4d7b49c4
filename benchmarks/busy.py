"""Training steps on a busy machine: beside one process a core that only spins."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from autograd_core.kernels import host

from . import measure, steps
from .apart import Apart
from .cases import StepCase

CASES = (steps.MLP, steps.LENET5, steps.CHAR_LSTM)
CONTESTANTS = ("ours", "ours-compiled", "torch")
SPIN = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""  # its input closes when the process that measures ends, however that ends


@contextlib.contextmanager
def spinning(count: int) -> Iterator[list[subprocess.Popen]]:
    """``count`` processes that never rest, inside the ``with`` block."""
    with contextlib.ExitStack() as started:
        processes = []
        for _ in range(count):
            process = started.enter_context(subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE))
            started.callback(process.kill)
            processes.append(process)
        yield processes


def rows(engines: Iterable[str], settings: measure.Settings, only: Callable[[str], bool]) -> Iterator[dict]:
    """How many times longer a step takes, by contestant, each in a process of its own: idle threads of others spin."""
    with Apart(settings.threads) as apart:
        for case in CASES:
            if only(case.name):
                yield _row(case, [name for name in CONTESTANTS if name in engines], settings, apart)


def _row(case: StepCase, names: list[str], settings: measure.Settings, apart: Apart) -> dict[str, Any]:
    """Each round measures all of them alone and then not alone."""
    row: dict[str, Any] = {"group": "busy", "name": case.name, "aim": None, "unit": "×", "contestants": {}}
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    one = replace(settings, repeats=5)
    for _ in range(settings.repeats):
        alone = {name: apart.seconds(case, name, one) for name in names}
        with spinning(host.cores()):
            busy = {name: apart.seconds(case, name, one) for name in names}
        for name in names:
            before, now = alone[name], busy[name]
            if before and now:
                times[name].append([before, now])
    for name, taken in times.items():
        if taken:
            low, middle, high = (float(q) for q in np.quantile([b / a for a, b in taken], (0.25, 0.5, 0.75)))
            alone_, busy_ = np.median(taken, axis=0).tolist()
            row["contestants"][name] = {"seconds": middle, "low": low, "high": high, "alone": alone_, "busy": busy_}
        else:
            row["contestants"][name] = {"missing": "it failed in a process of its own"}
    return row
