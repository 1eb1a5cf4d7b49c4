"""The standard's reductions and running totals."""

from __future__ import annotations

from .. import ops
from ..shapes import normalize_dim
from .promotion import accumulated, reduced


def sum(x, /, *, axis=None, dtype=None, keepdims=False):
    """The sum of the elements; integers are added up in the widest type of their kind."""
    dtype = accumulated(x, dtype)
    return reduced(lambda t, dim, keep: ops.sum(t, dim, keep, dtype=dtype), x, axis, keepdims)


def prod(x, /, *, axis=None, dtype=None, keepdims=False):
    """The product of the elements; integers are multiplied in the widest type of their kind."""
    dtype = accumulated(x, dtype)

    def one_by_one(t, dims, keep):
        for dim in sorted(dims, reverse=True):
            t = ops.prod(t, dim, keep, dtype=dtype)
        return t

    return reduced(one_by_one, x, axis, keepdims)


def mean(x, /, *, axis=None, keepdims=False):
    """The mean of the elements."""
    return reduced(ops.mean, x, axis, keepdims)


def var(x, /, *, axis=None, correction=0.0, keepdims=False):
    """The variance: the mean squared distance from the mean, over n - ``correction``."""
    return reduced(lambda t, dim, keep: ops.var(t, dim, correction=correction, keepdim=keep), x, axis, keepdims)


def std(x, /, *, axis=None, correction=0.0, keepdims=False):
    """The standard deviation: the root of `var`."""
    return reduced(lambda t, dim, keep: ops.std(t, dim, correction=correction, keepdim=keep), x, axis, keepdims)


def max(x, /, *, axis=None, keepdims=False):
    """The largest element."""
    return reduced(ops.amax, x, axis, keepdims)


def min(x, /, *, axis=None, keepdims=False):
    """The smallest element."""
    return reduced(ops.amin, x, axis, keepdims)


def all(x, /, *, axis=None, keepdims=False):
    """Whether all elements are true (not zero)."""
    return reduced(lambda t, dim, keep: ops.all(ops.ne(t, 0), dim, keep), x, axis, keepdims)


def any(x, /, *, axis=None, keepdims=False):
    """Whether any element is true (not zero)."""
    return reduced(lambda t, dim, keep: ops.any(ops.ne(t, 0), dim, keep), x, axis, keepdims)


def _running(known, accumulate, start):
    def function(x, /, *, axis=None, dtype=None, include_initial=False):
        if axis is None:
            if x.ndim != 1:
                raise ValueError(f"{known}: axis must be given for an array of {x.ndim} dimensions")
            axis = 0
        axis = normalize_dim(axis, x.ndim)
        found = accumulate(x, axis, dtype=accumulated(x, dtype))
        if not include_initial:
            return found
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return ops.cat([ops.full(shape, start, dtype=found.dtype), found], axis)

    function.__name__ = function.__qualname__ = known
    function.__doc__ = f"{accumulate.__doc__.splitlines()[0]} ``include_initial`` puts {start} in front."
    return function


cumulative_sum = _running("cumulative_sum", ops.cumsum, 0)
cumulative_prod = _running("cumulative_prod", ops.cumprod, 1)


def diff(x, /, *, axis=-1, n=1, prepend=None, append=None):
    """Differences of neighbours along an axis, taken ``n`` times."""
    return ops.diff(x, n, axis, prepend, append)
