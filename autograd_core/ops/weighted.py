"""Sums of weighted elements along dimensions: one primitive for resizing, for averages of windows, and for padding.

All of them are linear in the input and the same for every image: along one dimension, each element of the result is the
sum of a few weighted elements of the input. A `Table` says which; the gradient is the same primitive with the tables
turned round.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..registry import Kernel, network, op
from .samples import real, sample

KEPT = 1024
"""Tables of a kind that are remembered."""


@dataclass(eq=False)
class Table:
    """Element i is the sum of weights[k] * source[positions[k]] over starts[i] <= k < starts[i + 1].

    Without ``weights`` they are 1. ``size`` is that of the source. Tables are made once and compared by identity.
    """

    size: int
    starts: np.ndarray
    positions: np.ndarray
    weights: np.ndarray | None = None

    @property
    def out(self) -> int:
        """Elements of the result."""
        return len(self.starts) - 1

    def ones_or_weights(self) -> np.ndarray:
        """The weights, also where they are 1."""
        return np.ones(len(self.positions)) if self.weights is None else self.weights

    @functools.cached_property
    def single(self) -> bool:
        """Whether each element of the result is made of one."""
        return bool((np.diff(self.starts) == 1).all())

    @functools.cached_property
    def filled(self) -> np.ndarray:
        """The elements of the result that are made of any."""
        return np.flatnonzero(np.diff(self.starts))

    @functools.cached_property
    def turned(self) -> Table:
        """The table of the adjoint; weights of the same pair are added up."""
        rows = np.repeat(np.arange(self.out), np.diff(self.starts))
        pairs, inverse = np.unique(self.positions * self.out + rows, return_inverse=True)
        weights = np.bincount(inverse, self.ones_or_weights(), len(pairs))
        starts = np.searchsorted(pairs, np.arange(self.size + 1) * self.out)
        made = Table(self.out, starts, pairs % max(self.out, 1), None if (weights == 1).all() else weights)
        made.turned = self
        return made

    def along(self, x: np.ndarray, dim: int) -> np.ndarray:
        """The sums along one dimension of an array."""
        x = x.take(self.positions, dim)
        if self.weights is not None:
            x *= self.weights.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - dim))
        if self.single:
            return x
        if len(self.filled) == self.out:
            return np.add.reduceat(x, self.starts[:-1], dim)
        out = np.zeros((*x.shape[:dim], self.out, *x.shape[dim + 1 :]), x.dtype)
        if len(self.filled):
            out[(slice(None),) * dim + (self.filled,)] = np.add.reduceat(x, self.starts[self.filled], dim)
        return out

    def __repr__(self):
        return f"<table from {self.size} to {self.out} elements>"


def even_table(size: int, positions: np.ndarray, weights: np.ndarray | None = None) -> Table:
    """The table whose ``positions`` and ``weights`` have the same number of elements in each row (out, k)."""
    out, each = positions.shape
    return Table(size, np.arange(out + 1) * each, positions.ravel(), weights if weights is None else weights.ravel())


@functools.lru_cache(KEPT)
def window_means(size: int, out: int) -> Table:
    """Averages over ``out`` windows that share ``size`` elements out: from floor(i n / o) up to ceil((i + 1) n / o)."""
    i = np.arange(out)
    first, last = i * size // max(out, 1), -(-(i + 1) * size // max(out, 1))
    counts = last - first
    starts = np.concatenate([[0], np.cumsum(counts)])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, counts)
    return Table(size, starts, positions, np.repeat(1 / counts, counts))


TRIANGLE = even_table(2, np.array([[0, 0], [0, 1], [1, 1]]), np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]))
"""For samples."""


@op(
    network,
    namespace="internal",
    kernel=Kernel("resample:weighted_sum", above=128),
    vjp=[lambda g, tables: ops.weighted_sum(g, tables=tuple([None if t is None else t.turned for t in tables]))],
    samples=[
        sample(real(2, 3, 2), tables=(TRIANGLE,)),
        sample(real(1, 2, 5), tables=(TRIANGLE, window_means(5, 3))),
        sample(real(2, 2, 3), tables=(TRIANGLE, None, window_means(3, 2))),
    ],
)
def weighted_sum(input, *, tables):
    """The sums that ``tables`` name along the last dims of ``input``, one after the other; None leaves a dim alone."""
    out = input.astype(np.float32) if input.dtype == np.float16 else input
    for dim, table in enumerate(tables, input.ndim - len(tables)):
        if table is not None:
            out = table.along(out, dim)
    return out.astype(input.dtype, copy=False)
