"""Reductions: sum, mean, max, var, norms and their kin."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import op, reduction
from ..shapes import normalize_dims, numpy_dtype
from .samples import real, sample


def dims_setting(arrays, settings):
    """Normalise ``dim`` to a tuple of dims; None and () mean all."""
    return {**settings, "dim": normalize_dims(settings["dim"], arrays[0].ndim)}


def restore(g, dim, keepdim, ndim):
    """The gradient of a reduction's result with the reduced dims back as size 1, ready to be broadcast."""
    if keepdim or not dim:
        return g
    shape = list(g.shape)
    for d in sorted(dim):
        shape.insert(d, 1)
    return ops.reshape(g, tuple(shape)) if ndim else g


@op(reduction, signature="input, dim=None, keepdim=False, *, dtype=None", prepare=dims_setting,
    vjp=[lambda g, dim, keepdim, input_shape: restore(g, dim, keepdim, len(input_shape))],
    samples=[real(3, 4), sample(real(3, 4), 1), sample(real(2, 3, 4), (0, -1), True)], onnx="ReduceSum")  # fmt: skip
def sum(input, *, dim, keepdim, dtype):
    """Sum over ``dim`` (an int or several; all by default). Integers and booleans are summed as int64."""
    kind = numpy_dtype(dtype) if dtype is not None else np.dtype(np.int64) if input.dtype.kind in "biu" else input.dtype
    return np.add.reduce(input, axis=dim, keepdims=keepdim, dtype=kind)
