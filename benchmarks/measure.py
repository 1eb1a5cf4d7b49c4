"""Times of a case in several engines, taken in turns, with what disturbs them kept away or shown."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autograd_core.kernels import peak

from .cases import REFUSALS, Case, Job, error, reference
from .engines import Engine

BELIEVED = 1e-3  # an engine whose function was found by name must agree this well, or it computes something else
DRIFT = 0.1  # of what the machine can do, between before and after a row


@dataclass(frozen=True)
class Settings:
    """How long to measure: ``repeats`` blocks of ``block`` seconds a contestant; no repeats: only check results.

    A row may take ``seconds`` in all, what is made ready included: then there are fewer blocks, one at the least.
    """

    repeats: int = 11
    block: float = 0.1
    seconds: float = math.inf
    attempts: int = 3
    threads: int = 1
    elements: int = 6  # of a gradient that are compared with differences where there is no other reference


def measure(case: Case, engines: dict[str, Engine], settings: Settings) -> dict[str, Any]:
    """The row of ``case``: times, errors, ratios, speed; everything a table or JSON shows."""
    end = time.perf_counter() + settings.seconds
    row: dict[str, Any] = {"group": case.group, "name": case.name, "aim": case.aim, "contestants": {}}
    right = reference(case, engines, settings.elements)
    jobs: dict[str, Job] = {}
    for name in case.contestants:
        if name in engines:
            try:
                with quiet():
                    job = case.job(engines[name])
                    found = job.results()
                    wrong = error(found, right) if right else None
            except REFUSALS as reason:
                row["contestants"][name] = {"missing": _sentence(reason)}
                continue
            if case.by_name and name not in ("ours", "torch") and not (wrong is not None and wrong < BELIEVED):
                row["contestants"][name] = {"missing": "computes something else" if right else "draws are not compared"}
                continue
            row["contestants"][name] = {"error": wrong}
            jobs[name] = job
    if settings.repeats and jobs:
        _steady(case, jobs, settings, row, end)
    return row


def _steady(case: Case, jobs: dict[str, Job], settings: Settings, row: dict[str, Any], end: float) -> None:
    """Take the times into ``row``, again if the machine was not the same before and after and there is time left."""
    for attempt in range(1, settings.attempts + 1):
        start = time.perf_counter()
        before = _ability(case, settings.threads)
        times = alternate({name: job.run for name, job in jobs.items()}, replace(settings, seconds=end - start))
        after = _ability(case, settings.threads)
        drift = max(abs(after[key] / before[key] - 1) for key in before)
        if "drift" not in row or drift < row["drift"]:
            row.update(drift=drift, attempts=attempt)
            able = {key: (before[key] + after[key]) / 2 for key in before}
            _fill(case, row, times, able)
        if drift <= DRIFT or time.perf_counter() + (time.perf_counter() - start) > end:
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
        name: dict(zip(("low", "median", "high"), _ratios(taken, times[first]), strict=True))
        for name, taken in times.items() if name != first and first.startswith("ours")
    }  # fmt: skip
    row["able"] = able
    for key in ("flops", "bytes"):
        if getattr(case, key):
            speed = getattr(case, key) / row["contestants"][first]["seconds"]
            row[key] = {"a second": speed, "of what can be": speed / able[key]}


def _ratios(theirs: list[float], ours: list[float]) -> list[float]:
    """Quartiles over the rounds that both took part in."""
    return _quartiles([their / our for their, our in zip(theirs, ours, strict=False)])


def _quartiles(values: list[float]) -> list[float]:
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]


def alternate(runs: dict[str, Callable[[], Any]], settings: Settings) -> dict[str, list[float]]:
    """Seconds a call of each: in every round a block of each contestant, the first a different one each time.

    Between blocks it is waited until the threads of the one before sleep, or they would take the next one's cores.
    Where ``settings.seconds`` are few, who has used an equal share of them sits out the rounds that are left.
    """
    share = settings.seconds / max(len(runs), 1)
    times: dict[str, list[float]] = {name: [] for name in runs}
    spent, once, resting = dict.fromkeys(runs, 0.0), {}, set()
    with quiet():
        for name, run in runs.items():
            pause()
            run()
            once[name] = _seconds(run, 1)
            if once[name] > share:
                times[name].append(once[name])
                resting.add(name)
            elif once[name] < settings.block:
                once[name] = _seconds(run, 2)
    names = list(runs)
    gc.collect(1)  # a whole collection would take longer than the blocks of a small row
    gc.freeze()  # what other libraries have made is not looked through in everybody's time
    try:
        for number in range(settings.repeats):
            for name in names[number % len(names):] + names[: number % len(names)]:
                if name not in resting:
                    pause()
                    start = time.perf_counter()
                    if once[name] < settings.block:
                        runs[name]()
                    times[name].append(_seconds(runs[name], max(1, int(settings.block / max(once[name], 1e-7)))))
                    spent[name] += time.perf_counter() - start
                    if spent[name] > share:
                        resting.add(name)
    finally:
        gc.unfreeze()
    return times


def _seconds(run: Callable[[], Any], count: int) -> float:
    """Seconds a call of ``count`` calls."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


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
