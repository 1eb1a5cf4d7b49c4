"""Grids, combinations and tables of indices: choices of one element from each of several ranges."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import composite, op
from ..shapes import numpy_dtype
from .create import INT64, creator, remembered, size_of
from .samples import real, sample
from .shape import listed


def _triangle(arrays, settings):
    size_of((settings["row"], settings["col"]), "indices")
    return {**settings, "dtype": numpy_dtype(settings["dtype"], np.dtype(np.int64))}


def _indices_of(columns):
    """Where rows reach from columns[0] up to columns[1]: row and column numbers."""

    def indices(row, col, offset, dtype):
        first, last = columns(np.arange(row), col, offset)
        counts = np.maximum(last - first, 0)
        ends = np.cumsum(counts)
        found = np.empty((2, ends[-1] if row else 0), dtype)
        found[0] = np.repeat(np.arange(row), counts)
        found[1] = np.arange(found.shape[1]) + np.repeat(first + counts - ends, counts)
        return found

    return indices


def _few_indices(row, col, offset, dtype):
    return type(row) is type(col) is type(offset) is int and row >= 0 and col >= 0 and row * col <= 4096


_lower = _indices_of(lambda r, col, offset: (0 * r, np.clip(r + offset + 1, 0, col)))
_upper = _indices_of(lambda r, col, offset: (np.clip(r + offset, 0, col), 0 * r + col))


@creator("row, col, offset=0", samples=[sample(3, 4), sample(4, 3, -1)], prepare=_triangle,
         quick=remembered(_lower, _few_indices, INT64))  # fmt: skip
def tril_indices(*, row, col, offset, dtype):
    """The (2, n) row and column numbers of a lower triangle: a ``row`` by ``col`` matrix, up to diagonal ``offset``."""
    return _lower(row, col, offset, dtype)


@creator("row, col, offset=0", samples=[sample(3, 4), sample(4, 3, 1)], prepare=_triangle,
         quick=remembered(_upper, _few_indices, INT64))  # fmt: skip
def triu_indices(*, row, col, offset, dtype):
    """The (2, n) row and column numbers of an upper triangle: a ``row`` by ``col`` matrix, from diagonal ``offset``."""
    return _upper(row, col, offset, dtype)


@op(composite, samples=[sample(real(3), real(2)), sample(real(2), real(3), indexing="xy")])
def meshgrid(*tensors, indexing="ij"):
    """Coordinate grids: output i varies along dimension i as ``tensors[i]`` and is constant along the others.

    ``indexing="xy"`` exchanges the first two dimensions, as plots want it.
    """
    tensors = listed(tensors)
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    if not tensors:
        raise RuntimeError("meshgrid: expects at least one tensor")
    for t in tensors:
        if t.ndim > 1:
            raise RuntimeError(f"meshgrid: expected 0-d or 1-d tensors, got shape {list(t.shape)}")
    if len({t.dtype for t in tensors}) > 1:
        raise RuntimeError(f"meshgrid: expects all tensors to have the same dtype, got {[t.dtype for t in tensors]}")
    swap = indexing == "xy" and len(tensors) > 1
    given = (tensors[1], tensors[0], *tensors[2:]) if swap else tensors
    shape = tuple(t.shape[0] if t.ndim else 1 for t in given)
    grids = []
    for i, t in enumerate(given):
        column = ops.reshape(t, (shape[i], *[1] * (len(given) - 1 - i))) if i < len(given) - 1 else t
        grids.append(ops.expand(column, shape))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@op(composite, samples=[sample(real(3), real(2))])
def cartesian_prod(*tensors):
    """All combinations of one element from each 1-d tensor, as rows; a single tensor is returned as it is."""
    tensors = listed(tensors)
    for t in tensors:
        if t.ndim != 1:
            raise RuntimeError(f"cartesian_prod: expects 1-d tensors, got shape {list(t.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    return ops.stack([ops.flatten(grid) for grid in meshgrid(*tensors)], 1)


@op(composite, samples=[real(4), sample(real(3), 2, True)], method=True)
def combinations(input, r=2, with_replacement=False):
    """Rows of ``r`` elements of a 1-d tensor, in order; an element may be taken again with ``with_replacement``."""
    if input.ndim != 1:
        raise RuntimeError(f"combinations: expects a 1-d tensor, got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: expects a non-negative r, got {r}")
    if r == 0:
        return ops.reshape(ops.narrow(input, 0, 0, 0), (0,))
    picked = _combined(input.shape[0], r, with_replacement)
    return ops.reshape(ops.index_select(input, 0, picked.reshape(-1)), picked.shape)


def _combined(n, r, again):
    """Rows of ``r`` rising numbers below ``n`` (never falling ones, if ``again``), in order."""
    rows = np.arange(n)[:, None]
    for _ in range(r - 1):
        first = rows[:, -1] + (not again)
        counts = n - first
        ends = np.cumsum(counts)
        longer = np.empty((ends[-1] if len(ends) else 0, rows.shape[1] + 1), np.int64)
        longer[:, :-1] = np.repeat(rows, counts, axis=0)
        longer[:, -1] = np.arange(len(longer)) + np.repeat(first + counts - ends, counts)
        rows = longer
    return rows
