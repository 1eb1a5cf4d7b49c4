"""Times of a case in several engines, taken in turns, with what disturbs them kept away or shown."""

from __future__ import annotations

import contextlib
import gc
import io
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograd_core.kernels import peak

from .cases import REFUSALS, Case, Job, error, reference
from .engines import Engine

BELIEVED = 1e-3  # an engine whose function was found by name must agree this well, or it computes something else
DRIFT = 0.1  # of what the machine can do, between before and after a row


@dataclass(frozen=True)
class Settings:
    """How long to measure: ``repeats`` blocks of ``block`` seconds a contestant; no repeats: only check results."""

    repeats: int = 11
    block: float = 0.1
    attempts: int = 3
    threads: int = 1
    elements: int = 6  # of a gradient that are compared with differences where there is no other reference


def measure(case: Case, engines: dict[str, Engine], settings: Settings) -> dict[str, Any]:
    """The row of ``case``: times, errors, ratios, speed; everything a table or JSON shows."""
    row: dict[str, Any] = {"group": case.group, "name": case.name, "aim": case.aim, "contestants": {}}
    right = reference(case, engines, settings.elements)
    jobs: dict[str, Job] = {}
    for name in case.contestants:
        if name in engines:
            try:
                with quiet():
                    job = case.job(engines[name])
                    wrong = error(job.results(), right) if right else None
            except REFUSALS as reason:
                row["contestants"][name] = {"missing": _sentence(reason)}
                continue
            if case.by_name and wrong is not None and not wrong < BELIEVED and name not in ("ours", "torch"):
                row["contestants"][name] = {"missing": "computes something else"}
                continue
            row["contestants"][name] = {"error": wrong}
            jobs[name] = job
    if settings.repeats and jobs:
        _steady(case, jobs, settings, row)
    return row


def _steady(case: Case, jobs: dict[str, Job], settings: Settings, row: dict[str, Any]) -> None:
    """Take the times into ``row``, again if the machine was not the same before and after."""
    for attempt in range(1, settings.attempts + 1):
        before = _ability(case, settings.threads)
        times = alternate({name: job.run for name, job in jobs.items()}, settings)
        after = _ability(case, settings.threads)
        drift = max(abs(after[key] / before[key] - 1) for key in before)
        if "drift" not in row or drift < row["drift"]:
            row.update(drift=drift, attempts=attempt)
            able = {key: (before[key] + after[key]) / 2 for key in before}
            _fill(case, row, times, able)
        if drift <= DRIFT:
            return


def _ability(case: Case, threads: int) -> dict[str, float]:
    found = {"flops": peak.peak(threads)}
    if case.bytes:
        found["bytes"] = peak.bandwidth(threads, case.bytes)
    return found


def _fill(case: Case, row: dict[str, Any], times: dict[str, list[float]], able: dict[str, float]) -> None:
    for name, taken in times.items():
        low, median, high = _quartiles(taken)
        row["contestants"][name].update(seconds=median, low=low, high=high)
    first = next(iter(times))
    row["ratios"] = {
        name: dict(zip(("low", "median", "high"), _quartiles([p / o for p, o in zip(taken, times[first], strict=True)]),
                       strict=True))
        for name, taken in times.items() if name != first and first.startswith("ours")
    }  # fmt: skip
    row["able"] = able
    for key in ("flops", "bytes"):
        if getattr(case, key):
            speed = getattr(case, key) / row["contestants"][first]["seconds"]
            row[key] = {"a second": speed, "of what can be": speed / able[key]}


def _quartiles(values: list[float]) -> list[float]:
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]


def alternate(runs: dict[str, Callable[[], Any]], settings: Settings) -> dict[str, list[float]]:
    """Seconds a call of each: in every round a block of each contestant, the first a different one each time.

    Between blocks it is waited until the threads of the one before sleep, or they would take the next one's cores.
    """
    counts = {}
    with quiet():
        for name, run in runs.items():
            pause()
            run()
            start = time.perf_counter()
            run()
            run()
            counts[name] = max(1, int(settings.block / max((time.perf_counter() - start) / 2, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    gc.collect()
    gc.freeze()  # what other libraries have made is not looked through in everybody's time
    try:
        for number in range(settings.repeats):
            for name in names[number % len(names):] + names[: number % len(names)]:
                pause()
                run, count = runs[name], range(counts[name])
                run()
                start = time.perf_counter()
                for _ in count:
                    run()
                times[name].append((time.perf_counter() - start) / counts[name])
    finally:
        gc.unfreeze()
    return times


def pause(most: float = 0.5) -> None:
    """Wait until no thread of this process is busy any more."""
    end = time.perf_counter() + most
    while time.perf_counter() < end:
        used = time.process_time()
        time.sleep(0.004)
        if time.process_time() - used < 0.0004:
            return


@contextlib.contextmanager
def quiet():
    """Keep the warnings that libraries print while they compile out of the tables."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _sentence(reason: BaseException) -> str:
    text = str(reason).strip().splitlines()
    return f"{type(reason).__name__}: {text[0][:120]}" if text else type(reason).__name__


def geometric_mean(values: list[float]) -> float:
    """The mean of ratios."""
    return statistics.geometric_mean(values)
