"""A second opinion on ratios: every contestant in a process of its own, which waits asleep while others are timed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from .cases import REFUSALS, Case
from .measure import Settings

PATIENCE = 600
"""Seconds that a row may take in a process of its own; a compiler may need most of them."""


class Apart:
    """The processes, begun when first asked for; used as ``with Apart(threads) as apart``."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.running: dict[str, tuple[Any, Connection]] = {}

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for name in list(self.running):
            self._end(name)

    def _end(self, name: str) -> None:
        process, line = self.running.pop(name)
        line.close()
        process.join(1)
        if process.is_alive():
            process.terminate()
            process.join()

    def seconds(self, case: Case, engine: str, settings: Settings) -> float | None:
        """Seconds a call of a row in the process of ``engine``; None where it fails there."""
        if engine not in self.running:
            context = multiprocessing.get_context("spawn")
            line, end = context.Pipe()
            process = context.Process(target=serve, args=(end, engine, self.threads), daemon=True)
            process.start()
            end.close()
            self.running[engine] = process, line
        line = self.running[engine][1]
        try:
            line.send((case.group, case.name, getattr(case, "inputs", None), settings))
            if not line.poll(PATIENCE):
                raise EOFError
            return line.recv()
        except (EOFError, OSError):  # the process has died, or hangs
            self._end(engine)
            return None

    def ratios(self, case: Case, engines: list[str], settings: Settings) -> dict[str, float]:
        """Each peer's time over that of ``engines[0]``; each has an equal share of the time that the row may take."""
        settings = replace(settings, seconds=settings.seconds / len(engines), repeats=min(settings.repeats, 7))
        found = {engine: self.seconds(case, engine, settings) for engine in engines}
        own = found.pop(engines[0])
        return {peer: taken / own for peer, taken in found.items() if taken and own}


def serve(line: Connection, engine: str, threads: int) -> None:
    """Time row after row, until the other end closes."""
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing  # what libraries print does not belong into the tables
        from . import engines

        made = engines.ready([engine], threads)[engine]
        while True:
            try:
                asked = line.recv()
            except EOFError:
                return
            line.send(_time(made, *asked))


def _time(engine: Any, group: str, name: str, inputs: Any, settings: Settings) -> float | None:
    from . import groups, measure

    case = next(iter(groups.cases(group, lambda known: known == name, inputs=inputs)))
    try:
        with measure.quiet():
            run = case.job(engine).run
        return median(measure.alternate({engine.name: run}, settings)[engine.name])
    except REFUSALS:
        return None
