"""Parts of a tensor as views: slices, splits, windows and diagonals; triangles; and parts written back."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import ceil

import numpy as np

from .. import ops
from ..registry import composite, op
from ..registry import view as views
from ..shapes import as_shape, normalize_dim
from ..tensor import Tensor, replay
from .samples import real, sample

CUBE = real(2, 3, 4)


@op(composite, samples=[sample(real(3, 4), 0, 1), sample(CUBE, -1, -2)])
def select(input, dim, index):
    """The slice at ``index`` of dimension ``dim``, which disappears."""
    if not input.ndim:
        raise IndexError("select: cannot be applied to a 0-d tensor")
    dim, index = normalize_dim(dim, input.ndim), index if isinstance(index, int) else int(index)
    if not -input.shape[dim] <= index < input.shape[dim]:
        raise IndexError(f"select: index {index} is out of range for dimension {dim} of shape {list(input.shape)}")
    return ops.slice_view(input, index=(slice(None),) * dim + (index,))


@op(composite, samples=[sample(real(3, 4), 1, 1, 2), sample(real(3, 4), 0, -2, 1)])
def narrow(input, dim, start, length):
    """``length`` elements from ``start`` on along ``dim``."""
    if not input.ndim:
        raise RuntimeError("narrow: cannot be applied to a 0-d tensor")
    if getattr(start, "ndim", 0) or not hasattr(start, "__index__") or getattr(start, "dtype", None) == np.bool_:
        raise RuntimeError(f"narrow: start must be an int or a 0-d tensor of integers, got {start!r}")
    dim, start = normalize_dim(dim, input.ndim), start if type(start) is int else start.__index__()
    size = input.shape[dim]
    if length < 0:
        raise RuntimeError(f"narrow: length must not be negative, got {length}")
    if not -size <= start <= size:
        raise IndexError(f"narrow: start must be in [{-size}, {size}], got {start}")
    start += size if start < 0 else 0
    if start + length > size:
        raise RuntimeError(f"narrow: start ({start}) + length ({length}) exceeds the size {size} of dimension {dim}")
    return ops.slice_view(input, index=(slice(None),) * dim + (slice(start, start + length),))


def _joined(gs, sizes, dim, shape):
    """The gradient of what was split: the parts' gradients side by side, zeros where there are none."""
    gs = gs if isinstance(gs, tuple) else (gs,)
    given = next(g for g in gs if g is not None)
    empty = [
        np.zeros((*shape[:dim], n, *shape[dim + 1 :]), given.dtype) if g is None else g
        for g, n in zip(gs, sizes, strict=True)
    ]
    return ops.cat(empty, dim)


@op(views, vjp=[lambda gs, sizes, dim, input_shape: _joined(gs, sizes, dim, input_shape)], view=True, out=False,
    samples=[sample(real(5, 2), (2, 3), 0)], namespace="internal", onnx="Split")  # fmt: skip
def split_at(input, *, sizes, dim):
    """Consecutive parts of ``sizes`` along ``dim``."""
    if dim == 0:
        return tuple([input[end - n : end] for n, end in zip(sizes, accumulate(sizes), strict=True)])
    before = (slice(None),) * dim
    return tuple([input[(*before, slice(end - n, end))] for n, end in zip(sizes, accumulate(sizes), strict=True)])


def _stacked(gs, dim):
    given = next(g for g in gs if g is not None)
    return ops.stack([np.zeros(tuple(given.shape), given.dtype) if g is None else g for g in gs], dim)


def _one_dim(arrays, settings):
    if not arrays[0].ndim:
        raise RuntimeError("needs at least one dimension, got a 0-d tensor")
    return {**settings, "dim": normalize_dim(settings["dim"], arrays[0].ndim)}


@op(
    views,
    vjp=[lambda gs, dim: _stacked(gs if isinstance(gs, tuple) else (gs,), dim)],
    view=True,
    prepare=_one_dim,
    out=False,
    samples=[real(3, 4), sample(CUBE, -1)],
)
def unbind(input, *, dim=0):
    """A tuple of all slices along ``dim``."""
    if dim == 0 and input.ndim > 1:
        return tuple(input)
    before = (slice(None),) * dim
    return tuple([input[(*before, i, ...)] for i in range(input.shape[dim])])


@op(composite, samples=[sample(real(5, 2), (2, 3)), sample(real(5, 2), (1, 1), 1)])
def split_with_sizes(input, split_sizes, dim=0):
    """Parts of the given sizes, which must add up to the size of ``dim``."""
    if not input.ndim:
        raise RuntimeError("split: expects at least a 1-dimensional tensor")
    dim, sizes = normalize_dim(dim, input.ndim), as_shape((split_sizes,))
    if any(n < 0 for n in sizes) or sum(sizes) != input.shape[dim]:
        raise RuntimeError(
            f"split: sizes {list(sizes)} do not add up to the size {input.shape[dim]} of dimension {dim}"
        )
    return ops.split_at(input, sizes, dim)


@op(composite, samples=[sample(real(5, 2), 2), sample(real(5, 2), [1, 4])], method=True)
def split(tensor, split_size_or_sections, dim=0):
    """Parts of one size (the last may be smaller), or of a list of sizes."""
    if not hasattr(split_size_or_sections, "__index__"):
        return split_with_sizes(tensor, split_size_or_sections, dim)
    shape = tensor.shape
    if not shape:
        raise RuntimeError("split: expects at least a 1-dimensional tensor")
    step, dim = int(split_size_or_sections), normalize_dim(dim, len(shape))
    if step < 0 or (step == 0 and shape[dim]):
        raise RuntimeError(f"split: split_size must be positive, got {step}")
    return ops.split_at(tensor, _equal(shape[dim], step), dim)


def _equal(size, step):
    """Sizes of parts of ``step`` elements, of which the last may be smaller."""
    count = max(1, ceil(size / step)) if step else 1
    return (step,) * (count - 1) + (size - step * (count - 1),)


@op(composite, samples=[sample(real(5, 2), 3), sample(real(5, 4), 2, 1)])
def chunk(input, chunks, dim=0):
    """At most ``chunks`` parts of equal size (the last may be smaller) along ``dim``."""
    if chunks <= 0:
        raise RuntimeError(f"chunk: expects chunks to be greater than 0, got {chunks}")
    shape = input.shape
    if not shape:
        raise RuntimeError("chunk: expects at least a 1-dimensional tensor")
    dim = normalize_dim(dim, len(shape))
    size = shape[dim]
    return ops.split_at(input, _equal(size, ceil(size / chunks)) if size else (0,) * chunks, dim)


@op(composite, samples=[sample(real(5, 2), 3), sample(real(5, 2), (1, 3)), sample(real(5, 4), 2, 1)])
def tensor_split(input, indices_or_sections, dim=0, *, indices=None, sections=None):
    """``sections`` parts whose sizes differ by at most one, or parts that begin at the given indices."""
    wanted = next(v for v in (indices, sections, indices_or_sections) if v is not None)
    if not input.ndim:
        raise RuntimeError("tensor_split: expected at least a 1-dimensional tensor, got a 0-d one")
    dim = normalize_dim(dim, input.ndim)
    if isinstance(wanted, (Tensor, np.ndarray)):
        wanted = wanted.tolist()
    size = input.shape[dim]
    if not isinstance(wanted, (list, tuple)):
        if wanted <= 0:
            raise RuntimeError(f"tensor_split: number of sections must be larger than 0, got {wanted}")
        each, more = divmod(size, wanted)
        return ops.split_at(input, (each + 1,) * more + (each,) * (wanted - more), dim)
    bounds = [0, *wanted, size]
    before = (slice(None),) * dim
    return tuple([ops.slice_view(input, index=(*before, slice(a, b))) for a, b in pairwise(bounds)])


def _checked_split(name, input, wanted, dim, least):
    if input.ndim < least:
        raise RuntimeError(f"{name}: expects a tensor with at least {least} dimension(s), got {input.ndim}")
    if hasattr(wanted, "__index__") and (wanted <= 0 or input.shape[dim] % wanted):
        raise RuntimeError(f"{name}: dimension {dim} of size {input.shape[dim]} is not divisible into {wanted} parts")
    return tensor_split(input, wanted, dim)


@op(composite, samples=[sample(real(4, 6), 3), sample(real(4), (1,))])
def hsplit(input, indices_or_sections):
    """Parts along the second dimension (the first of a 1-d tensor); see `tensor_split`."""
    return _checked_split("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


@op(composite, samples=[sample(real(4, 6), 2)])
def vsplit(input, indices_or_sections):
    """Parts along the first dimension; see `tensor_split`."""
    return _checked_split("vsplit", input, indices_or_sections, 0, 2)


@op(composite, samples=[sample(CUBE, 2)])
def dsplit(input, indices_or_sections):
    """Parts along the third dimension; see `tensor_split`."""
    return _checked_split("dsplit", input, indices_or_sections, 2, 3)


# ---------------------------------------------------------------------------------------------------- windows


def _window_setting(arrays, settings):
    dim, shape = normalize_dim(settings["dimension"], arrays[0].ndim), arrays[0].shape or (1,)
    if settings["step"] <= 0 or not 0 <= settings["size"] <= shape[dim]:
        raise RuntimeError(
            f"unfold: size must be in [0, {shape[dim]}], step positive; got {settings['size']} and {settings['step']}"
        )
    return {**settings, "dimension": dim}


@op(
    views,
    vjp=[lambda g, input_shape, dimension, size, step: ops.unwindow(g, input_shape, dimension, size, step)],
    view=True,
    prepare=_window_setting,
    samples=[sample(real(7), 0, 3, 2), sample(real(2, 5), -1, 2, 1)],
    out=False,
    namespace="internal",
)
def windows(input, *, dimension, size, step):
    """See `unfold`."""
    if not input.ndim:
        return input.reshape(1)[:size]
    count = (input.shape[dimension] - size) // step + 1
    shape = (*input.shape[:dimension], count, *input.shape[dimension + 1 :], size)
    strides = (
        *input.strides[:dimension],
        input.strides[dimension] * step,
        *input.strides[dimension + 1 :],
        input.strides[dimension],
    )
    return np.lib.stride_tricks.as_strided(input, shape, strides)


@op(
    views,
    vjp=[lambda g, dimension, size, step: ops.windows(g, dimension, size, step)],
    out=False,
    namespace="internal",
    samples=[sample(real(3, 3), (7,), 0, 3, 2)],
)
def unwindow(input, *, shape, dimension, size, step):
    """Windows added back to where `unfold` took them from."""
    if not shape:
        return input.sum()
    out = np.zeros(shape, input.dtype)
    count = input.shape[dimension]
    place = [slice(None)] * out.ndim
    for k in range(size):
        place[dimension] = slice(k, k + (count - 1) * step + 1, step)
        out[tuple(place)] += input[..., k]
    return out


@op(composite, samples=[sample(real(7), 0, 3, 2), sample(real(2, 5), -1, 2, 1)])
def unfold(input, dimension, size, step):
    """All windows of ``size`` elements along ``dimension``, ``step`` apart: a view with windows as last dimension."""
    return ops.windows(input, dimension, size, step)


def _diagonal_setting(arrays, settings):
    ndim = len(settings["shape"]) if "shape" in settings else arrays[0].ndim
    dims = {k: normalize_dim(settings[k], ndim, k) for k in ("dim1", "dim2")}
    if dims["dim1"] == dims["dim2"]:
        raise RuntimeError(f"diagonal dimensions cannot be identical, got {settings['dim1']} and {settings['dim2']}")
    return {**settings, **dims}


def look_at_diagonal(array, offset, dim1, dim2):
    """A view of a diagonal that may be written to, which NumPy's own may not."""
    found = array.diagonal(offset, dim1, dim2)
    if array.flags.writeable:
        found.flags.writeable = True
    return found


@op(
    views,
    vjp=[lambda g, input_shape, offset, dim1, dim2: ops.diagonal_in_zeros(g, input_shape, offset, dim1, dim2)],
    view=True,
    prepare=_diagonal_setting,
    samples=[real(3, 4), sample(real(3, 4), 1), sample(CUBE, -1, 0, 2)],
    out=False,
)
def diagonal(input, *, offset=0, dim1=0, dim2=1):
    """The diagonal of the matrices that dimensions ``dim1`` and ``dim2`` span, as the last dimension of a view."""
    return look_at_diagonal(input, offset, dim1, dim2)


@op(
    views,
    vjp=[lambda g, offset, dim1, dim2: ops.diagonal(g, offset, dim1, dim2)],
    prepare=_diagonal_setting,
    out=False,
    samples=[sample(real(3), (3, 4), 0, 0, 1)],
    namespace="internal",
)
def diagonal_in_zeros(input, *, shape, offset, dim1, dim2):
    """Zeros of ``shape`` but for one diagonal."""
    out = np.zeros(shape, input.dtype)
    look_at_diagonal(out, offset, dim1, dim2)[...] = input
    return out


@op(composite, samples=[real(3), sample(real(2, 3), 1, 0, 2)])
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Matrices in dimensions ``dim1`` and ``dim2`` with the input's last dimension on their diagonal."""
    if not input.ndim:
        raise RuntimeError("diag_embed: needs at least one dimension, got a 0-d tensor")
    first, second = (normalize_dim(d, input.ndim + 1) for d in (dim1, dim2))
    if first == second:
        raise RuntimeError(f"diag_embed: diagonal dimensions cannot be identical, got {dim1} and {dim2}")
    shape = list(input.shape[:-1])
    for d in sorted((first, second)):
        shape.insert(d, input.shape[-1] + abs(offset))
    return ops.diagonal_in_zeros(input, tuple(shape), offset, first, second)


@op(composite, out=True, samples=[real(3), sample(real(3, 4), 1)])
def diag(input, diagonal=0):
    """A matrix with the 1-d input on its diagonal, or the diagonal of a matrix."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise RuntimeError(f"diag: expects 1 or 2 dimensions, got {input.ndim}")
    return ops.clone(ops.diagonal(input, diagonal))


@op(composite, samples=[real(2, 2), sample(real(3), 1)])
def diagflat(input, offset=0):
    """A matrix with all elements of the input on its diagonal."""
    return diag_embed(ops.ravel(input), offset)


def _matrices(arrays, settings):
    if arrays[0].ndim < 2:
        raise RuntimeError(f"needs at least 2 dimensions, got {arrays[0].ndim}")
    return settings


def _kept_where(kept, matrices):
    """Matrices with zeros on all diagonals but those ``kept``, from the lowest left to the highest right."""
    out = np.zeros(matrices.shape, matrices.dtype)
    if out.size:
        rows, columns = out.shape[-2:]
        mask = np.ndarray((rows, columns), bool, kept, rows - 1, (-1, 1))  # each row begins one diagonal further left
        np.copyto(out, matrices, where=mask)
    return out


@op(views, vjp=[lambda g, diagonal: ops.tril(g, diagonal)], prepare=_matrices, samples=[real(3, 4), sample(CUBE, -1)],
    inplace=True, onnx="Trilu")  # fmt: skip
def tril(input, *, diagonal=0):
    """The lower triangle of matrices, up to ``diagonal``; zeros above."""
    rows, columns = input.shape[-2:]
    return _kept_where(np.arange(1 - rows, columns) <= diagonal, input)


@op(views, vjp=[lambda g, diagonal: ops.triu(g, diagonal)], prepare=_matrices, samples=[real(3, 4), sample(CUBE, 1)],
    inplace=True, onnx="Trilu")  # fmt: skip
def triu(input, *, diagonal=0):
    """The upper triangle of matrices, from ``diagonal``; zeros below."""
    rows, columns = input.shape[-2:]
    return _kept_where(np.arange(1 - rows, columns) >= diagonal, input)


# ---------------------------------------------------------------------------------------------------- history of bases


@op(
    views,
    vjp=[
        lambda g, recipe, view_shape: ops.scatter_view(g, np.zeros(view_shape, g.dtype), recipe=recipe),
        lambda g, recipe: replay(g, recipe),
    ],
    namespace="internal",
    out=False,
    samples=[sample(real(3, 4), real(3), recipe=((diagonal.record, (), {"offset": 1, "dim1": 0, "dim2": 1}, None),))],
)
def scatter_view(base, view, *, recipe):
    """``base`` with the part that ``recipe`` looks at replaced: the history of a base whose view was written."""
    out = base.copy()
    np.copyto(replay(out, recipe), view)
    return out


@op(composite, samples=[sample(real(3, 4), real(3)), sample(real(3, 4), real(2), -1)])
def diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    """A copy of the input with ``src`` on a diagonal."""
    place = {"offset": offset, "dim1": dim1, "dim2": dim2}
    part = ops.diagonal(input, **place)
    if tuple(part.shape) != tuple(src.shape):
        raise RuntimeError(f"diagonal_scatter: expected src of shape {list(part.shape)}, got {list(src.shape)}")
    return ops.scatter_view(input, src, recipe=((ops.diagonal.record, (), place, None),))
