"""Views and rearrangements: reshape, transpose, expand, split, cat, flip, triangles; and changes of type.

A view looks at the memory of its input. The few primitives here (alias, reshape, expand, permute, split, unbind, diagonal,
unfold, and `slice_view` of basic indexing) are what in-place changes are traced through; the rest is written with them.
"""

from __future__ import annotations

from itertools import accumulate
from math import ceil, prod

import numpy as np

from .. import ops
from ..info import LAYOUTS
from ..registry import composite, op, write_out
from ..registry import view as views
from ..shapes import DType, as_shape, infer_size, normalize_dim, normalize_dims, numpy_dtype, promote, reduced_dims
from ..tensor import Tensor, replay
from .samples import real, sample

ONE = [real(3, 4)]
CUBE = real(2, 3, 4)


@op(views, vjp=[lambda g: g], view=True, samples=ONE, namespace="internal")
def alias(input):
    """The same values as a tensor of its own."""
    return input.view()


@op(views, vjp=[lambda g: g], samples=[sample(real(3, 4), dtype="float32")], namespace="internal")
def to(input, *, dtype):
    """The values in another type."""
    return input.astype(numpy_dtype(dtype))


@op(views, view=True, samples=[sample(real(3, 4), dtype="int64")], namespace="internal")
def view_as_dtype(input, *, dtype):
    """The same bytes read as another type; the last size changes with the size of an element."""
    return input.view(numpy_dtype(dtype))


def _memory_format(arrays, settings):
    return {"memory_format": settings["memory_format"] or LAYOUTS["preserve_format"]}


@op(views, signature="input, *, memory_format=None", prepare=_memory_format, vjp=[lambda g: g], samples=ONE, out=False,
    onnx="Identity")  # fmt: skip
def clone(input, *, memory_format):
    """A copy that gradients pass through."""
    return input.copy("K" if memory_format is LAYOUTS["preserve_format"] else "C")


@op(composite, samples=ONE, method=True)
def contiguous(input, memory_format=LAYOUTS["contiguous_format"]):
    """The tensor itself if its elements lie in row-major order, else a copy that does."""
    array = input.array if isinstance(input, Tensor) else input
    return input if array.flags.c_contiguous else clone(input, memory_format=LAYOUTS["contiguous_format"])


# ---------------------------------------------------------------------------------------------------- shape alone


def _shape_setting(arrays, settings):
    return {"shape": infer_size(as_shape(settings["shape"]), arrays[0].size)}


@op(views, signature="input, *shape", prepare=_shape_setting, vjp=[lambda g, input_shape: ops.reshape(g, input_shape)],
    view=True, samples=[sample(real(3, 4), (2, -1)), sample(real(3, 4), (12,)), sample(real(3, 4), 4, 3)], out=False,
    onnx="Reshape")  # fmt: skip
def reshape(input, *, shape):
    """The same elements, in order, in another shape; one size may be -1. A view where the memory allows it."""
    return input.reshape(shape)


def _same_memory(first, second):
    first, second = (t.array if isinstance(t, Tensor) else t for t in (first, second))
    return not first.size or np.may_share_memory(first, second)


@op(composite, samples=[sample(real(3, 4), 2, 6), sample(real(3, 4), (12,))])
def view(input, *shape, size=None, dtype=None):
    """The same memory in another shape (an error where that needs a copy; see `reshape`), or read as another ``dtype``."""
    if dtype is None and len(shape) == 1 and isinstance(shape[0], (DType, np.dtype, type)):
        dtype = shape[0]
    if dtype is not None:
        same = numpy_dtype(dtype) == input.dtype
        return ops.alias(input) if same else ops.view_as_dtype(input, dtype=numpy_dtype(dtype))
    found = ops.reshape(input, shape=shape if size is None else size)
    if not _same_memory(found, input):
        raise RuntimeError(f"view: shape {list(found.shape)} is not compatible with the input's size {list(input.shape)} and "
                           "strides (at least one dimension spans across two); use reshape")  # fmt: skip
    return found


@op(composite, samples=[sample(real(3, 4), real(2, 6))])
def view_as(input, other):
    """The input viewed in the shape of ``other``."""
    return ops.view(input, tuple(other.shape))


@op(composite, samples=[sample(real(3, 4), real(2, 6))])
def reshape_as(input, other):
    """The input in the shape of ``other``."""
    return ops.reshape(input, tuple(other.shape))


@op(composite, samples=[CUBE, sample(CUBE, 1), sample(CUBE, 0, 1)], onnx="Flatten")
def flatten(input, start_dim=0, end_dim=-1):
    """Dimensions ``start_dim`` to ``end_dim`` run together into one."""
    first, last = normalize_dim(start_dim, input.ndim), normalize_dim(end_dim, input.ndim)
    if first > last:
        raise RuntimeError(f"flatten: start_dim must not come after end_dim, got {start_dim} and {end_dim}")
    shape = tuple(input.shape)
    if input.ndim and first == last:
        return input
    return ops.reshape(input, (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]))


@op(composite, samples=ONE)
def ravel(input):
    """All elements in one dimension."""
    return ops.reshape(input, (-1,) if prod(input.shape) else (0,))


@op(composite, samples=[sample(real(3, 4), 1, (2, 2)), sample(real(3, 4), 0, (-1, 1))])
def unflatten(input, dim, sizes):
    """Dimension ``dim`` divided into ``sizes``, one of which may be -1."""
    dim, shape = normalize_dim(dim, input.ndim), tuple(input.shape)
    if not len(sizes):
        raise RuntimeError("unflatten: sizes must not be empty")
    if not shape:
        raise IndexError("unflatten: a 0-d tensor has no dimension to divide")
    return ops.reshape(input, (*shape[:dim], *infer_size(as_shape((sizes,)), shape[dim]), *shape[dim + 1 :]))


@op(composite, samples=[real(1, 3, 1), sample(real(1, 3, 1), 0), sample(real(1, 3, 1), (0, 1))], onnx="Squeeze")
def squeeze(input, dim=None):
    """Without its dimensions of size 1, or only without those named in ``dim`` (an int or several)."""
    dims = (normalize_dim(dim, input.ndim),) if hasattr(dim, "__index__") else (
        range(input.ndim) if dim is None else normalize_dims(dim, input.ndim) if len(dim) else ())  # fmt: skip
    return ops.reshape(input, tuple([n for i, n in enumerate(input.shape) if n != 1 or i not in dims]))


@op(composite, samples=[sample(real(3, 4), 0), sample(real(3, 4), -1)], onnx="Unsqueeze")
def unsqueeze(input, dim):
    """A new dimension of size 1 at ``dim``."""
    dim, shape = normalize_dim(dim, input.ndim + 1), tuple(input.shape)
    return ops.reshape(input, (*shape[:dim], 1, *shape[dim:]))


def _expand_setting(arrays, settings):
    shape, own = as_shape(settings["size"]), np.shape(arrays[0])
    if len(shape) < len(own):
        raise RuntimeError(f"the number of sizes ({len(shape)}) must be at least the number of dimensions ({len(own)})")
    new = len(shape) - len(own)
    for i, want in enumerate(shape):
        have = own[i - new] if i >= new else None
        if want < -1 or (want == -1 and have is None) or (want not in (-1, have) and have not in (1, None)):
            raise RuntimeError(
                f"sizes {list(shape)} do not fit a tensor of shape {list(own)}: size {want} at dimension {i}"
            )
    return {"size": tuple([own[i - new] if want == -1 else want for i, want in enumerate(shape)])}


@op(views, signature="input, *size", prepare=_expand_setting, vjp=[lambda g: g], view=True,
    samples=[sample(real(3, 1), (2, 3, 4)), sample(real(3, 1), -1, 4)], out=False, onnx="Expand")  # fmt: skip
def expand(input, *, size):
    """A view with dimensions of size 1 (and new ones in front) repeated, without copying; -1 keeps a size."""
    if prod(size) == input.size:
        return input.reshape(size)
    found = np.broadcast_to(input, size)
    found.flags.writeable = (
        input.flags.writeable
    )  # a part without repetition may be written; `has_overlap` refuses others
    return found


@op(composite, samples=[sample(real(3, 1), real(2, 3, 4))])
def expand_as(input, other):
    """The input expanded to the shape of ``other``."""
    return ops.expand(input, tuple(other.shape))


@op(composite, samples=[sample(real(3, 1), (2, 3, 4))])
def broadcast_to(input, size):
    """The input expanded to ``size``."""
    return ops.expand(input, as_shape((size,)))


@op(composite, samples=[sample(real(3, 1), real(4))])
def broadcast_tensors(*tensors):
    """All tensors expanded to the shape that they broadcast to."""
    tensors = _listed(tensors)
    try:
        shape = np.broadcast_shapes(*[tuple(t.shape) for t in tensors])
    except ValueError:
        raise RuntimeError(f"broadcast_tensors: shapes {[list(t.shape) for t in tensors]} do not broadcast") from None
    return tuple([ops.expand(t, shape) for t in tensors])


def _listed(tensors):
    return tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors


@op(composite, samples=[sample(real(3, 4), (1, 4)), sample(real(3, 4), 4)])
def sum_to_size(input, *size):
    """Summed over the dimensions in which ``size`` was broadcast to the input's shape."""
    size, shape = as_shape(size), tuple(input.shape)
    if len(size) > len(shape) or any(n not in (1, have) for n, have in zip(size[::-1], shape[::-1], strict=False)):
        raise RuntimeError(f"sum_to_size: size {list(size)} is not expandable to size {list(shape)}")
    return unbroadcast(input, size)


def unbroadcast(g, shape):
    """Sum ``g`` over the dimensions in which ``shape`` was broadcast."""
    dims = reduced_dims(g.shape, shape)
    return g if not dims else ops.reshape(ops.sum(g, dims, True), shape)


# ---------------------------------------------------------------------------------------------------- order of dims


def _permutation(arrays, settings):
    dims, ndim = as_shape(settings["dims"]), arrays[0].ndim
    if len(dims) != ndim:
        raise RuntimeError(f"dims must name all {ndim} dimensions of the input, got {dims}")
    return {"dims": normalize_dims(dims, ndim)}


@op(views, signature="input, *dims", prepare=_permutation, view=True, samples=[sample(CUBE, (2, 0, 1)), sample(CUBE, 1, -1, 0)],
    vjp=[lambda g, dims: ops.permute(g, tuple(np.argsort(dims).tolist()))], out=False, onnx="Transpose")  # fmt: skip
def permute(input, *, dims):
    """The dimensions in another order."""
    return input.transpose(dims)


def _two_dims(arrays, settings):
    return {k: normalize_dim(v, arrays[0].ndim, k) for k, v in settings.items()}


@op(views, vjp=[lambda g, dim0, dim1: ops.transpose(g, dim0, dim1)], view=True, prepare=_two_dims, out=False,
    samples=[sample(CUBE, 0, -1)], aliases=["swapaxes", "swapdims"])  # fmt: skip
def transpose(input, *, dim0, dim1):
    """Two dimensions exchanged."""
    return input.swapaxes(dim0, dim1) if input.ndim else input.view()


@op(composite, samples=ONE)
def t(input):
    """A matrix transposed; vectors and 0-d tensors as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t: expects a tensor with at most 2 dimensions, got {input.ndim}")
    return ops.transpose(input, 0, -1)


@op(composite, samples=[CUBE])
def adjoint(input):
    """The last two dimensions exchanged (the conjugate transpose of real matrices)."""
    if input.ndim < 2:
        raise RuntimeError(f"adjoint: expects at least 2 dimensions, got {input.ndim}")
    return ops.transpose(input, -2, -1)


@op(composite, samples=[sample(CUBE, 0, 2), sample(CUBE, (0, 1), (-1, 0))], aliases=["moveaxis"])
def movedim(input, source, destination):
    """Dimensions moved from ``source`` to ``destination`` (ints or sequences); the others keep their order."""
    source, destination = ((d,) if hasattr(d, "__index__") else tuple(d) for d in (source, destination))
    if len(source) != len(destination):
        raise RuntimeError(f"movedim: source {source} and destination {destination} differ in length")
    if not input.ndim:
        return ops.alias(input)
    starts = normalize_dims(source, input.ndim, "source") if source else ()
    ends = normalize_dims(destination, input.ndim, "destination") if destination else ()
    order = [d for d in range(input.ndim) if d not in starts]
    for end, start in sorted(zip(ends, starts, strict=True)):
        order.insert(end, start)
    return ops.permute(input, tuple(order))


# ---------------------------------------------------------------------------------------------------- parts


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
    if getattr(start, "ndim", 0) or not hasattr(start, "__index__") or getattr(start, "dtype", int) == bool:
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
    before = (slice(None),) * dim
    return tuple([input[(*before, slice(end - n, end))] for n, end in zip(sizes, accumulate(sizes), strict=True)])


def _stacked(gs, dim):
    given = next(g for g in gs if g is not None)
    return ops.stack([np.zeros(tuple(given.shape), given.dtype) if g is None else g for g in gs], dim)


def _one_dim(arrays, settings):
    if not arrays[0].ndim:
        raise RuntimeError("needs at least one dimension, got a 0-d tensor")
    return {**settings, "dim": normalize_dim(settings["dim"], arrays[0].ndim)}


@op(views, vjp=[lambda gs, dim: _stacked(gs if isinstance(gs, tuple) else (gs,), dim)], view=True, prepare=_one_dim, out=False,
    samples=[real(3, 4), sample(CUBE, -1)])  # fmt: skip
def unbind(input, *, dim=0):
    """A tuple of all slices along ``dim``."""
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
    if not tensor.ndim:
        raise RuntimeError("split: expects at least a 1-dimensional tensor")
    step, size = int(split_size_or_sections), tensor.shape[normalize_dim(dim, tensor.ndim)]
    if step < 0 or (step == 0 and size):
        raise RuntimeError(f"split: split_size must be positive, got {step}")
    count = max(1, ceil(size / step)) if step else 1
    return split_with_sizes(tensor, [step] * (count - 1) + [size - step * (count - 1)], dim)


@op(composite, samples=[sample(real(5, 2), 3), sample(real(5, 4), 2, 1)])
def chunk(input, chunks, dim=0):
    """At most ``chunks`` parts of equal size (the last may be smaller) along ``dim``."""
    if chunks <= 0:
        raise RuntimeError(f"chunk: expects chunks to be greater than 0, got {chunks}")
    if not input.ndim:
        raise RuntimeError("chunk: expects at least a 1-dimensional tensor")
    size = input.shape[normalize_dim(dim, input.ndim)]
    return split(input, ceil(size / chunks), dim) if size else split_with_sizes(input, [0] * chunks, dim)


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
    return tuple(
        [ops.slice_view(input, index=(*before, slice(a, b))) for a, b in zip(bounds, bounds[1:], strict=False)]
    )


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


# ---------------------------------------------------------------------------------------------------- windows, diagonals


def _window_setting(arrays, settings):
    dim, shape = normalize_dim(settings["dimension"], arrays[0].ndim), arrays[0].shape or (1,)
    if settings["step"] <= 0 or not 0 <= settings["size"] <= shape[dim]:
        raise RuntimeError(
            f"unfold: size must be in [0, {shape[dim]}] and step positive, got {settings['size']} and {settings['step']}"
        )
    return {**settings, "dimension": dim}


@op(views, vjp=[lambda g, input_shape, dimension, size, step: ops.unwindow(g, input_shape, dimension, size, step)], view=True,
    prepare=_window_setting, samples=[sample(real(7), 0, 3, 2), sample(real(2, 5), -1, 2, 1)], out=False, namespace="internal")  # fmt: skip
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


@op(views, vjp=[lambda g, dimension, size, step: ops.windows(g, dimension, size, step)], out=False, namespace="internal",
    samples=[sample(real(3, 3), (7,), 0, 3, 2)])  # fmt: skip
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
    """All windows of ``size`` elements along ``dimension``, ``step`` apart, as a view with the window as last dimension."""
    return ops.windows(input, dimension, size, step)


def _diagonal_setting(arrays, settings):
    ndim = len(settings["shape"]) if "shape" in settings else arrays[0].ndim
    dims = {k: normalize_dim(settings[k], ndim, k) for k in ("dim1", "dim2")}
    if dims["dim1"] == dims["dim2"]:
        raise RuntimeError(f"diagonal dimensions cannot be identical, got {settings['dim1']} and {settings['dim2']}")
    return {**settings, **dims}


def look_at_diagonal(array, offset, dim1, dim2):
    """A writable view of a diagonal, which `numpy.diagonal` does not give."""
    rows = np.moveaxis(array, (dim1, dim2), (-2, -1))[..., max(-offset, 0) :, max(offset, 0) :]
    size = min(rows.shape[-2:])
    return np.einsum("...ii->...i", rows[..., :size, :size])


@op(views, vjp=[lambda g, input_shape, offset, dim1, dim2: ops.diagonal_in_zeros(g, input_shape, offset, dim1, dim2)], view=True,
    prepare=_diagonal_setting, samples=[real(3, 4), sample(real(3, 4), 1), sample(CUBE, -1, 0, 2)], out=False)  # fmt: skip
def diagonal(input, *, offset=0, dim1=0, dim2=1):
    """The diagonal of the matrices that dimensions ``dim1`` and ``dim2`` span, as the last dimension of a view."""
    return look_at_diagonal(input, offset, dim1, dim2)


@op(views, vjp=[lambda g, offset, dim1, dim2: ops.diagonal(g, offset, dim1, dim2)], prepare=_diagonal_setting, out=False,
    samples=[sample(real(3), (3, 4), 0, 0, 1)], namespace="internal")  # fmt: skip
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


@op(composite, samples=[real(3), sample(real(3, 4), 1)])
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
    return diag_embed(ops.reshape(input, (-1,) if prod(input.shape) else (0,)), offset)


def _matrices(arrays, settings):
    if arrays[0].ndim < 2:
        raise RuntimeError(f"needs at least 2 dimensions, got {arrays[0].ndim}")
    return settings


@op(views, vjp=[lambda g, diagonal: ops.tril(g, diagonal)], prepare=_matrices, samples=[real(3, 4), sample(CUBE, -1)],
    inplace=True, onnx="Trilu")  # fmt: skip
def tril(input, *, diagonal=0):
    """The lower triangle of matrices, up to ``diagonal``; zeros above."""
    return np.tril(input, diagonal)


@op(views, vjp=[lambda g, diagonal: ops.triu(g, diagonal)], prepare=_matrices, samples=[real(3, 4), sample(CUBE, 1)],
    inplace=True, onnx="Trilu")  # fmt: skip
def triu(input, *, diagonal=0):
    """The upper triangle of matrices, from ``diagonal``; zeros below."""
    return np.triu(input, diagonal)


# ---------------------------------------------------------------------------------------------------- put together


def _cat_vjp(g, dim, tensors_shapes):
    sizes = [shape[dim] if len(shape) == g.ndim else 0 for shape in tensors_shapes]
    parts = ops.split_with_sizes(g, sizes, dim)
    return tuple([p if len(s) == g.ndim else ops.reshape(p, s) for p, s in zip(parts, tensors_shapes, strict=True)])


@op(
    views,
    vjp=_cat_vjp,
    promote=promote,
    samples=[sample(real(2, 3), real(4, 3), dim=0)],
    namespace="internal",
    onnx="Concat",
)
def join(*tensors, dim):
    """See `cat`."""
    return np.concatenate([t for t in tensors if t.shape != (0,)] or tensors, dim)


def _checked_list(name, tensors):
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}: tensors must be a tuple or list of Tensors, got {type(tensors).__name__}")
    if not tensors:
        raise RuntimeError(f"{name}: expected a non-empty list of Tensors")
    for number, entry in enumerate(tensors):
        if not isinstance(entry, (Tensor, np.ndarray)):
            raise TypeError(f"{name}: element {number} must be a Tensor, got {type(entry).__name__}")
    return tensors


def _finished(result, out):
    return result if out is None else write_out(out, result)


@op(
    composite,
    samples=[sample([real(2, 3), real(4, 3)]), sample([real(2, 3), real(2, 1)], -1)],
    aliases=["concat", "concatenate"],
)
def cat(tensors, dim=0, *, out=None):
    """Tensors one after the other along ``dim``; their other sizes must agree (empty 1-d ones are left out)."""
    tensors = _checked_list("cat", tensors)
    ndim = max([t.ndim for t in tensors])
    if any([t.ndim == 0 for t in tensors]):
        raise RuntimeError("cat: 0-d tensors cannot be concatenated; use stack")
    return _finished(ops.join(*tensors, dim=normalize_dim(dim, ndim)), out)


@op(views, vjp=lambda g, dim: ops.unbind(g, dim), promote=promote, samples=[sample(real(2, 3), real(2, 3), dim=1)],
    namespace="internal")  # fmt: skip
def pile(*tensors, dim):
    """See `stack`."""
    return np.stack(tensors, dim)


@op(composite, samples=[sample([real(3), real(3)]), sample([real(2, 3), real(2, 3)], -1)])
def stack(tensors, dim=0, *, out=None):
    """Tensors of one shape side by side along a new dimension ``dim``."""
    tensors = _checked_list("stack", tensors)
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise RuntimeError(f"stack: expects each tensor to be of equal size, got {[list(t.shape) for t in tensors]}")
    return _finished(ops.pile(*tensors, dim=normalize_dim(dim, tensors[0].ndim + 1)), out)


@op(composite, samples=[real(), sample(real(3), real(2, 2))])
def atleast_1d(*tensors):
    """Each 0-d tensor as one of shape (1,)."""
    found = [ops.reshape(t, (1,)) if t.ndim == 0 else t for t in _listed(tensors)]
    return found[0] if _is_one(tensors) else tuple(found)


@op(composite, samples=[real(), sample(real(3), real(2, 2))])
def atleast_2d(*tensors):
    """Each tensor with dimensions of size 1 in front until there are two."""
    found = [ops.reshape(t, (1, prod(t.shape))) if t.ndim < 2 else t for t in _listed(tensors)]
    return found[0] if _is_one(tensors) else tuple(found)


@op(composite, samples=[real(), sample(real(3), real(2, 2))])
def atleast_3d(*tensors):
    """Each tensor with three dimensions or more: (n) becomes (1, n, 1) and (m, n) becomes (m, n, 1)."""

    def grown(t):
        shape = (1, prod(t.shape), 1) if t.ndim < 2 else (*t.shape, 1)
        return t if t.ndim > 2 else ops.reshape(t, shape)

    found = [grown(t) for t in _listed(tensors)]
    return found[0] if _is_one(tensors) else tuple(found)


def _is_one(tensors):
    return len(tensors) == 1 and not isinstance(tensors[0], (list, tuple))


@op(composite, samples=[sample([real(3), real(2)]), sample([real(2, 3), real(2, 1)])])
def hstack(tensors, *, out=None):
    """Tensors side by side: along the second dimension, or the first where they are 1-d."""
    tensors = atleast_1d(_checked_list("hstack", tensors))
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1, out=out)


@op(composite, samples=[sample([real(3), real(3)]), sample([real(2, 3), real(1, 3)])], aliases=["row_stack"])
def vstack(tensors, *, out=None):
    """Tensors one below the other, 1-d ones as rows."""
    return cat(atleast_2d(_checked_list("vstack", tensors)), 0, out=out)


@op(composite, samples=[sample([real(3), real(3)]), sample([real(2, 3), real(2, 3)])])
def dstack(tensors, *, out=None):
    """Tensors one behind the other, along the third dimension."""
    return cat(atleast_3d(_checked_list("dstack", tensors)), 2, out=out)


@op(composite, samples=[sample([real(3), real(3, 2)])])
def column_stack(tensors, *, out=None):
    """Tensors side by side, 1-d ones as columns."""
    columns = [ops.reshape(t, (prod(t.shape), 1)) if t.ndim < 2 else t for t in _checked_list("column_stack", tensors)]
    return cat(columns, 1, out=out)


@op(composite, samples=[sample(real(2, 3), real(1, 2)), sample(real(2), real())])
def block_diag(*tensors):
    """A matrix with the given ones along its diagonal and zeros elsewhere; vectors count as rows."""
    for number, t in enumerate(tensors):
        if t.ndim > 2:
            raise RuntimeError(f"block_diag: expected tensors with 2 or fewer dimensions, tensor {number} has {t.ndim}")
    blocks = [ops.reshape(t, (1, prod(t.shape))) if t.ndim < 2 else t for t in tensors]
    if not blocks:
        return ops.zeros((1, 0))
    widths = [b.shape[1] for b in blocks]
    rows = []
    for number, block in enumerate(blocks):
        sides = [np.zeros((block.shape[0], n), block.dtype) for n in (sum(widths[:number]), sum(widths[number + 1 :]))]
        rows.append(cat([sides[0], block, sides[1]], 1))
    return cat(rows, 0)


# ---------------------------------------------------------------------------------------------------- repeated, turned


@op(composite, samples=[sample(real(2, 3), 2, 1), sample(real(3), (2, 2))], onnx="Tile")
def repeat(input, *repeats):
    """The whole tensor repeated along each dimension; more counts than dimensions add dimensions in front."""
    counts, shape = as_shape(repeats), tuple(input.shape)
    if len(counts) < len(shape):
        raise RuntimeError(
            f"repeat: the number of counts ({len(counts)}) must be at least that of dimensions ({len(shape)})"
        )
    if any(n < 0 for n in counts):
        raise RuntimeError(f"repeat: counts must not be negative, got {counts}")
    shape = (1,) * (len(counts) - len(shape)) + shape
    pairs = tuple([n for s in shape for n in (1, s)])
    wide = tuple([n for c, s in zip(counts, shape, strict=True) for n in (c, s)])
    spread = ops.expand(ops.reshape(input, pairs), wide)
    found = ops.reshape(spread, tuple([c * s for c, s in zip(counts, shape, strict=True)]))
    return ops.clone(found) if _same_memory(found, input) else found


@op(composite, samples=[sample(real(2, 3), 2), sample(real(2, 3), (2, 1, 2))])
def tile(input, *dims):
    """As `repeat`; fewer counts than dimensions leave the first ones alone."""
    counts = as_shape(dims)
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


@op(composite, samples=[sample(real(2, 3), 2), sample(real(2, 3), 2, 1)])
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each element (or slice along ``dim``) repeated ``repeats`` times (a number, or one for each).

    Called with counts alone, it gives each position as often as its count says.
    """
    if repeats is None:
        input, repeats = (
            np.arange(input.shape[0]) if not isinstance(input, Tensor) else ops.arange(input.shape[0]),
            input,
        )
    if isinstance(repeats, Tensor):
        repeats = repeats.numpy()
    repeats = np.asarray(repeats)
    if repeats.dtype.kind not in "iu" or repeats.ndim > 1:
        raise RuntimeError(
            f"repeat_interleave: repeats must be 0-d or 1-d integers, got {repeats.dtype}{list(repeats.shape)}"
        )
    if (repeats < 0).any():
        raise RuntimeError("repeat_interleave: repeats can not be negative")
    if dim is None:
        input, dim = ravel(input), 0
    input = input if input.ndim else ops.reshape(input, (1,))
    size = input.shape[normalize_dim(dim, input.ndim)]
    if repeats.ndim and repeats.size not in (1, size):
        raise RuntimeError(f"repeat_interleave: repeats must have one count for each of {size}, got {repeats.size}")
    return ops.index_select(input, dim, np.repeat(np.arange(size), repeats))


def _roll_setting(arrays, settings):
    shifts, dims = ((v,) if hasattr(v, "__index__") else tuple(v or ()) for v in (settings["shifts"], settings["dims"]))
    if (dims and len(dims) != len(shifts)) or (not dims and len(shifts) != 1):
        raise RuntimeError(f"shifts and dims must align, got shifts {shifts} and dims {dims}")
    if dims and not arrays[0].ndim:
        raise IndexError(f"dims {dims} name dimensions of a 0-d tensor")
    return {"shifts": shifts, "dims": tuple([normalize_dim(d, arrays[0].ndim) for d in dims])}


@op(views, signature="input, shifts, dims=None", prepare=_roll_setting, out=False,
    vjp=[lambda g, shifts, dims: ops.roll(g, tuple([-s for s in shifts]), dims)],
    samples=[sample(real(3, 4), 1), sample(real(3, 4), (1, -2), (0, 1))])  # fmt: skip
def roll(input, *, shifts, dims):
    """Elements moved along ``dims`` (in flat order without) by ``shifts``; what falls off comes in at the other end."""
    return input.copy() if not input.ndim else np.roll(input, shifts, dims) if dims else np.roll(input, shifts[0])


def _flip_setting(arrays, settings):
    dims = as_shape(settings["dims"])
    return {"dims": normalize_dims(dims, arrays[0].ndim) if dims else ()}


@op(views, signature="input, *dims", prepare=_flip_setting, vjp=[lambda g, dims: ops.flip(g, dims)],
    samples=[sample(real(3, 4), (0, -1)), sample(real(3, 4), 1)], out=False)  # fmt: skip
def flip(input, *, dims):
    """Elements in reverse order along ``dims``, as a copy."""
    return np.flip(input, dims).copy()


@op(composite, samples=ONE)
def fliplr(input):
    """Columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError(f"fliplr: input must have at least 2 dimensions, got {input.ndim}")
    return ops.flip(input, 1)


@op(composite, samples=ONE)
def flipud(input):
    """Rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("flipud: input must have at least 1 dimension, got a 0-d tensor")
    return ops.flip(input, 0)


@op(composite, samples=[real(3, 4), sample(CUBE, 3, (1, 2)), sample(real(3, 4), 2)])
def rot90(input, k=1, dims=(0, 1)):
    """Turned ``k`` times by 90 degrees, from the first towards the second of ``dims``."""
    if len(dims) != 2:
        raise RuntimeError(f"rot90: expects two dimensions, got dims {tuple(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"rot90: expects at least 2 dimensions in the input, got {input.ndim}")
    first, second = normalize_dims(tuple(dims), input.ndim)
    turned = {0: lambda: ops.clone(input), 1: lambda: ops.transpose(ops.flip(input, second), first, second),
              2: lambda: ops.flip(input, (first, second)), 3: lambda: ops.transpose(ops.flip(input, first), first, second)}  # fmt: skip
    return turned[k % 4]()


# ---------------------------------------------------------------------------------------------------- history of bases


@op(views, vjp=[lambda g, recipe, view_shape: ops.scatter_view(g, np.zeros(view_shape, g.dtype), recipe=recipe),
                lambda g, recipe: replay(g, recipe)], namespace="internal", out=False,
    samples=[sample(real(3, 4), real(3), recipe=((diagonal.record, (), {"offset": 1, "dim1": 0, "dim2": 1}, None),))])  # fmt: skip
def scatter_view(base, view, *, recipe):
    """``base`` with the part that ``recipe`` looks at replaced: the history of a base whose view was changed in place."""
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
