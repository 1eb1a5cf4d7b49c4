"""Who wrote into which memory, and when: what lets backward refuse a saved value that was changed in place.

Nodes of the graph and writes are numbered by one clock. A saved array is stale when its memory was written, where it
lies, after its node was made. Only in-place operations pay for this; the log of a piece of memory dies with it.
"""

from __future__ import annotations

import itertools
import weakref
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

clock = itertools.count(1)
"""Numbers nodes and writes in the order in which they happen."""

MOST_WRITES = 256
"""Distinct regions remembered for one piece of memory; beyond that the whole of it counts as written."""


class Write(NamedTuple):
    """One region of one piece of memory, when it was last written, and the place in the user's code."""

    number: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    site: tuple | None

    @property
    def region(self):
        return self[1:5]

    def touches(self, owner: np.ndarray, array: np.ndarray) -> bool:
        """Whether this region and ``array`` share an element (not only a range of addresses)."""
        base = np.ndarray((1,), self.dtype, buffer=_bytes(owner), offset=self.offset) if owner.size else owner
        written = as_strided(base, self.shape, self.strides)
        try:
            return np.shares_memory(written, array, max_work=100_000)  # type: ignore[arg-type]  # NumPy's stub knows -1 and 0 alone
        except np.exceptions.TooHardError:
            return np.may_share_memory(written, array)


class Renewal:
    """When a compiled program last wrote all the memory that it writes, and how often it did."""

    __slots__ = ("count", "number")

    def __init__(self) -> None:
        self.count = self.number = 0


class _Log:
    __slots__ = ("count", "owner", "renewals", "writes")

    def __init__(self, owner, forget):
        self.owner = weakref.ref(owner, forget)
        self.writes: list[Write] = []
        self.count = 0
        self.renewals: list[Renewal] = []


_logs: dict[int, _Log] = {}
new = tuple.__new__
latest = 0
"""The number of the newest write anywhere: nodes that are younger need no look at the log."""


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory that ``array`` looks at (as far as NumPy knows)."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _bytes(owner):
    flat = owner if owner.flags.forc else as_strided(owner, (owner.size,), (owner.itemsize,))
    return flat.reshape(-1, order="A").view(np.uint8).data


def _log(owner):
    """The log of the memory that ``owner`` owns."""
    key = id(owner)
    log = _logs.get(key)
    if log is None or log.owner() is not owner:
        log = _logs[key] = _Log(owner, lambda _, key=key: _logs.pop(key, None))
    return log


def log_write(array: np.ndarray, site=None) -> None:
    """Remember that ``array`` was written just now."""
    global latest
    owner = array if array.base is None else owner_of(array)
    log = _logs.get(id(owner))
    if log is None or log.owner() is not owner:
        log = _log(owner)
    latest = next(clock)
    log.count += 1
    if array is owner:
        log.writes = [new(Write, (latest, 0, array.shape, array.strides, array.dtype, site))]
        return
    offset = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    write = Write(latest, offset, array.shape, array.strides, array.dtype, site)
    if array.size == owner.size:
        log.writes = [write]
    else:
        log.writes = [w for w in log.writes if w.region != write.region] + [write]
        if len(log.writes) > MOST_WRITES:
            log.writes = [Write(latest, 0, owner.shape, owner.strides, owner.dtype, site)]


def write_since(array: np.ndarray, number: int) -> Write | None:
    """The first write into the elements of ``array`` that happened after ``number`` on the clock."""
    owner = owner_of(array)
    log = _logs.get(id(owner))
    if log is None or log.owner() is not owner:
        return None
    for write in log.writes:
        if write.number > number and write.touches(owner, array):
            return write
    for renewal in log.renewals:
        if renewal.number > number:
            return Write(renewal.number, 0, owner.shape, owner.strides, owner.dtype, None)
    return None


def renewed(array: np.ndarray, renewal: Renewal) -> None:
    """From now on, whenever a program counts ``renewal`` up, the memory of ``array`` has been written."""
    log = _log(owner_of(array))
    if renewal not in log.renewals:
        log.renewals.append(renewal)
        log.count -= renewal.count


def version(array: np.ndarray) -> int:
    """How many in-place writes the memory of ``array`` has seen."""
    log = _logs.get(id(owner_of(array)))
    return log.count + sum([r.count for r in log.renewals]) if log is not None else 0
