"""Views and rearrangements: reshape, transpose, expand, cat, flip, pad; and changes of type."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import op, view
from ..shapes import as_shape, infer_size, normalize_dim, normalize_dims, numpy_dtype, reduced_dims
from ..tensor import replay
from .samples import real, sample


@op(view, vjp=[lambda g: g], view=True, samples=[real(3, 4)], namespace="internal")
def alias(input):
    """The same values as a tensor of its own."""
    return input.view()


@op(view, vjp=[lambda g: g], samples=[sample(real(3, 4), dtype="float32")], namespace="internal", name="to")
def to(input, *, dtype):
    """The values in another type."""
    return input.astype(numpy_dtype(dtype))


def _shape_setting(arrays, settings):
    return {"shape": infer_size(as_shape(settings["shape"]), arrays[0].size)}


@op(view, signature="input, *shape", prepare=_shape_setting, vjp=[lambda g, input_shape: ops.reshape(g, input_shape)],
    view=True, samples=[sample(real(3, 4), (2, -1)), sample(real(3, 4), (12,))], onnx="Reshape")  # fmt: skip
def reshape(input, *, shape):
    """The same elements, in order, in another shape; one size may be -1."""
    return input.reshape(shape)


def _expand_setting(arrays, settings):
    shape = as_shape(settings["size"])
    own = (1,) * (len(shape) - arrays[0].ndim) + arrays[0].shape
    return {"size": tuple(have if want == -1 else want for want, have in zip(shape, own, strict=True))}


@op(view, signature="input, *size", prepare=_expand_setting, vjp=[lambda g: g], view=True,
    samples=[sample(real(3, 1), (2, 3, 4)), sample(real(3, 1), (-1, 4))], onnx="Expand")  # fmt: skip
def expand(input, *, size):
    """A view with dimensions of size 1 (and new ones in front) repeated, without copying; -1 keeps a size."""
    return np.broadcast_to(input, size)


def _permutation(arrays, settings):
    return {"dims": normalize_dims(as_shape(settings["dims"]), arrays[0].ndim)}


@op(view, signature="input, *dims", prepare=_permutation, vjp=[lambda g, dims: ops.permute(g, tuple(np.argsort(dims).tolist()))],
    view=True, samples=[sample(real(2, 3, 4), (2, 0, 1))], onnx="Transpose")  # fmt: skip
def permute(input, *, dims):
    """The dimensions in another order."""
    return input.transpose(dims)


@op(view, vjp=[lambda g, dim0, dim1: ops.transpose(g, dim0, dim1)], view=True, samples=[sample(real(2, 3, 4), 0, -1)],
    aliases=["swapaxes", "swapdims"])  # fmt: skip
def transpose(input, *, dim0, dim1):
    """Two dimensions exchanged."""
    if input.ndim == 0:
        normalize_dim(dim0, 0), normalize_dim(dim1, 0)
        return input.view()
    return input.swapaxes(normalize_dim(dim0, input.ndim), normalize_dim(dim1, input.ndim))


def unbroadcast(g, shape):
    """Sum ``g`` over the dimensions in which ``shape`` was broadcast."""
    dims = reduced_dims(g.shape, shape)
    return g if not dims else ops.reshape(ops.sum(g, dims, True), shape)


@op(view, vjp=[lambda g, recipe, view_shape: ops.scatter_view(g, np.zeros(view_shape, g.dtype), recipe=recipe),
               lambda g, recipe: replay(g, recipe)], namespace="internal",
    samples=[])  # fmt: skip
def scatter_view(base, view, *, recipe):
    """``base`` with the part that ``recipe`` looks at replaced: the history of a base whose view was changed in place."""
    out = base.copy()
    np.copyto(replay(out, recipe), view)
    return out
