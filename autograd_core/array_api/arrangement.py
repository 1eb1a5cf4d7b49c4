"""The standard's functions that move, join, pick, search and sort elements."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .. import ops
from ..shapes import broadcast_shapes, normalize_dim
from ..tensor import Tensor, wrap
from .promotion import reduced, unified


def broadcast_arrays(*arrays):
    """All arrays in the shape that they broadcast to, as a list."""
    shape = broadcast_shapes(*[tuple(x.shape) for x in arrays])
    return [ops.broadcast_to(x, shape) for x in arrays]


def broadcast_to(x, /, shape):
    """``x`` in a larger shape, its elements repeated without a copy."""
    return ops.broadcast_to(x, shape)


def concat(arrays, /, *, axis=0):
    """Arrays joined along an existing axis; flattened first for ``axis=None``."""
    arrays = unified("concat", *arrays)
    return ops.cat([ops.ravel(x) for x in arrays] if axis is None else arrays, axis or 0)


def expand_dims(x, /, *, axis=0):
    """``x`` with a new axis of size one."""
    return ops.unsqueeze(x, axis)


def flip(x, /, *, axis=None):
    """Elements in reverse order along the axes (all of them by default)."""
    axes = tuple(range(x.ndim)) if axis is None else axis
    return ops.flip(x, (axes,) if isinstance(axes, int) else axes)


def moveaxis(x, source, destination, /):
    """Axes moved to new places, the others in their order."""
    return ops.movedim(x, source, destination)


def permute_dims(x, /, axes):
    """The axes in another order."""
    return ops.permute(x, tuple(axes))


def repeat(x, repeats, /, *, axis=None):
    """Every element (or slice along ``axis``) ``repeats`` times in a row."""
    return ops.repeat_interleave(ops.ravel(x) if axis is None else x, repeats, 0 if axis is None else axis)


def reshape(x, /, shape, *, copy=None):
    """The elements in another shape; ``copy=False`` raises where that needs a copy."""
    if copy is False:
        return ops.view(x, shape)
    return ops.reshape(ops.clone(x) if copy else x, shape)


def roll(x, /, shift, *, axis=None):
    """Elements moved along the axes, those that fall off coming back at the other end."""
    return ops.roll(x, shift, axis)


def squeeze(x, /, axis):
    """``x`` without the given axes, all of which must have size one."""
    axes = tuple(normalize_dim(d, x.ndim) for d in (axis if isinstance(axis, tuple) else (axis,)))
    if any(d >= x.ndim or x.shape[d] != 1 for d in axes):
        raise ValueError(f"squeeze: axis {axis} must have size 1, got shape {list(x.shape)}")
    return ops.squeeze(x, axes) if axes else x


def stack(arrays, /, *, axis=0):
    """Arrays of one shape joined along a new axis."""
    return ops.stack(unified("stack", *arrays), axis)


def tile(x, repetitions, /):
    """The whole array repeated along each axis."""
    return ops.tile(x, tuple(repetitions))


def unstack(x, /, *, axis=0):
    """The slices along an axis, as a tuple."""
    return tuple(ops.unbind(x, axis))


# ---------------------------------------------------------------------------------------------------- picking


def take(x, indices, /, *, axis=None):
    """The slices along ``axis`` at the places ``indices``; the axis may be left out for one dimension alone."""
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"take: axis must be given for an array of {x.ndim} dimensions")
        axis = 0
    return x[(slice(None),) * normalize_dim(axis, x.ndim) + (indices,)]


def take_along_axis(x, indices, /, *, axis=-1):
    """Along the axis, the elements at the places ``indices``, which broadcast with ``x`` in the other axes."""
    return ops.take_along_dim(x, ops.to(indices, dtype=np.int64), normalize_dim(axis, x.ndim))


def where(condition, x1, x2, /):
    """Elements of ``x1`` where the condition holds, of ``x2`` elsewhere."""
    return ops.where(condition, *unified("where", x1, x2))


# ---------------------------------------------------------------------------------------------------- searching


def _extreme(known):
    find = getattr(ops, known)

    def function(x, /, *, axis=None, keepdims=False):
        if axis is None and keepdims:
            return ops.reshape(find(x), (1,) * x.ndim)
        return find(x, axis, keepdims)

    function.__name__ = function.__qualname__ = known
    function.__doc__ = find.__doc__
    return function


argmax, argmin = _extreme("argmax"), _extreme("argmin")


def count_nonzero(x, /, *, axis=None, keepdims=False):
    """How many elements are not zero."""
    return reduced(lambda t, dim, keep: ops.sum(ops.ne(t, 0), dim, keep), x, axis, keepdims)


def nonzero(x, /):
    """The places of the elements that are not zero, an array of indices for each axis."""
    if not x.ndim:
        raise ValueError("nonzero: needs at least one dimension, got a 0-d array")
    return tuple(ops.nonzero(x, as_tuple=True))


def searchsorted(x1, x2, /, *, side="left", sorter=None):
    """Where the elements of ``x2`` would go into the sorted ``x1``."""
    first, second = unified("searchsorted", x1, x2)
    return ops.searchsorted(first, second, side=side, sorter=sorter)


# ---------------------------------------------------------------------------------------------------- sorting, sets


def argsort(x, /, *, axis=-1, descending=False, stable=True):
    """The places of the elements in sorted order."""
    return ops.argsort(x, axis, descending, stable)


def sort(x, /, *, axis=-1, descending=False, stable=True):
    """The elements in sorted order."""
    return ops.sort(x, axis, descending, stable).values


UniqueAll = namedtuple("UniqueAll", "values indices inverse_indices counts")
UniqueCounts = namedtuple("UniqueCounts", "values counts")
UniqueInverse = namedtuple("UniqueInverse", "values inverse_indices")


def unique_all(x, /):
    """The distinct values, where each occurs first, how to rebuild ``x`` of them, and how often each occurs.

    Every NaN counts as a value of its own. The values are picked from ``x``: gradients pass.
    """
    plain = x.detach().numpy()
    _, first, inverse, counts = np.unique(plain, True, True, True, equal_nan=False)
    order = [wrap(np.asarray(v, np.int64)) for v in (first, inverse.reshape(plain.shape), counts)]
    return UniqueAll(ops.reshape(x, (-1,))[order[0]], *order)


def unique_counts(x, /):
    """The distinct values, and how often each occurs."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x, /):
    """The distinct values, and how to rebuild ``x`` of them."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x, /) -> Tensor:
    """The distinct values."""
    return unique_all(x).values
