"""A backward on arrays that tells who looks on where it is, and how long each node takes."""

from __future__ import annotations

from time import perf_counter_ns as clock
from typing import Any

from ..backward import _Pass


class Observer:
    """Is told about a backward; times are readings of `perf_counter_ns`."""

    holds_back = False
    """Whether gradients are kept from the ``grad`` of leaves."""

    def arrive(self, node, slots, since: int, until: int) -> None:
        """The rules of ``node`` are about to run on the gradients ``slots`` of its outputs.

        Those of the node before ran from ``since`` to ``until``; at the first node both say when backward began.
        """

    def hand_out(self, pending: dict, since: int, until: int) -> None:
        """Leaves are about to get their gradients: {leaf: [gradient]}; times as in `arrive`."""

    def finished(self, since: int, until: int) -> None:
        """They have got them, from ``since`` to ``until``."""


class ObservedPass(_Pass):
    """The walk of an ordinary backward, with the clock read whenever it comes to another node."""

    def __init__(self, walk: _Pass) -> None:
        super().__init__(walk.retain, walk.create, walk.wanted, walk.accumulate)
        self.observers: list[Observer] = []
        self.since = clock()

    def _enter(self, node, slots):
        until = clock()
        if not _Pass._enter(self, node, slots):
            return False
        since = self.since
        for observer in self.observers:
            observer.arrive(node, slots, since, until)
        self.since = clock()
        return True

    def _finish(self):
        until = clock()
        for observer in self.observers:
            observer.hand_out(self.pending, self.since, until)
        self.since = clock()
        found: Any = super()._finish()
        until = clock()
        for observer in self.observers:
            observer.finished(self.since, until)
        return found

    def _hand_out(self):
        held = self.accumulate and any([observer.holds_back for observer in self.observers])
        return None if held else super()._hand_out()


def observed(walk: _Pass, observer: Observer) -> ObservedPass:
    """``walk`` with one more that looks on."""
    made = walk if isinstance(walk, ObservedPass) else ObservedPass(walk)
    made.observers.append(observer)
    return made
