"""Shapes: copies and casts, then views in another shape or with their dimensions in another order.

A view looks at the memory of its input. In-place changes are traced through the primitive views: `alias`, `reshape`,
`expand`, `permute`, `transpose`; `slice_view` of basic indexing; `split_at`, `unbind`, `diagonal`, `windows`.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops
from ..info import LAYOUTS
from ..registry import Kernel, composite, op
from ..registry import view as views
from ..shapes import (
    DType,
    as_shape,
    broadcast_view,
    infer_size,
    normalize_dim,
    normalize_dims,
    numpy_dtype,
    reduced_dims,
)
from ..tensor import Tensor
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


def _keeps_order(input, memory_format):
    return memory_format is LAYOUTS["preserve_format"] or input.flags.c_contiguous


@op(views, signature="input, *, memory_format=None", prepare=_memory_format, vjp=[lambda g: g], samples=ONE, out=False,
    onnx="Identity", kernel=Kernel("moves:clone", above=1 << 17, when=_keeps_order))  # fmt: skip
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
    shape, size = settings["shape"], arrays[0].size
    if len(shape) == 1 and shape[0].__class__ is tuple:
        shape = shape[0]
    if prod(shape) == size and shape.__class__ is tuple and shape and min(shape) > 0:  # sizes as they should be
        return {"shape": shape}
    return {"shape": infer_size(as_shape(shape), size)}


@op(views, signature="input, *shape", prepare=_shape_setting, vjp=[lambda g, input_shape: ops.reshape(g, input_shape)],
    view=True, samples=[sample(real(3, 4), (2, -1)), sample(real(3, 4), (12,)), sample(real(3, 4), 4, 3)], out=False,
    onnx="Reshape")  # fmt: skip
def reshape(input, *, shape):
    """The same elements, in order, in another shape; one size may be -1. A view where the memory allows it."""
    return input.reshape(shape)


def same_memory(first, second):
    """Whether two tensors or arrays look at the same memory."""
    if isinstance(first, Tensor):
        first = first.array
    if isinstance(second, Tensor):
        second = second.array
    return first.base is second or not first.size or np.may_share_memory(first, second)


@op(composite, samples=[sample(real(3, 4), 2, 6), sample(real(3, 4), (12,))])
def view(input, *shape, size=None, dtype=None):
    """The same memory in another shape (an error where that needs a copy), or read as another ``dtype``."""
    if dtype is None and len(shape) == 1 and isinstance(shape[0], (DType, np.dtype, type)):
        dtype = shape[0]
    if dtype is not None:
        same = numpy_dtype(dtype) == input.dtype
        return ops.alias(input) if same else ops.view_as_dtype(input, dtype=numpy_dtype(dtype))
    found = ops.reshape(input, shape=shape if size is None else size)
    if not same_memory(found, input):
        raise RuntimeError(f"view: shape {list(found.shape)} does not fit the input's size {list(input.shape)} and "
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
    return ops.reshape(input, (prod(input.shape),))


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
    shape = input.shape
    if dim is None:
        return ops.reshape(input, tuple([n for n in shape if n != 1]))
    dims = (normalize_dim(dim, len(shape)),) if hasattr(dim, "__index__") else (
        normalize_dims(dim, len(shape)) if len(dim) else ())  # fmt: skip
    return ops.reshape(input, tuple([n for i, n in enumerate(shape) if n != 1 or i not in dims]))


@op(composite, samples=[sample(real(3, 4), 0), sample(real(3, 4), -1)], onnx="Unsqueeze")
def unsqueeze(input, dim):
    """A new dimension of size 1 at ``dim``."""
    shape = list(input.shape)
    shape.insert(normalize_dim(dim, len(shape) + 1), 1)
    return ops.reshape(input, tuple(shape))


def _expand_setting(arrays, settings):
    shape, own = settings["size"], arrays[0].shape
    if len(shape) == 1 and shape[0].__class__ is tuple:
        shape = shape[0]
    elif shape.__class__ is not tuple or len(shape) == 1:
        shape = as_shape(shape)
    if len(shape) < len(own):
        raise RuntimeError(f"the number of sizes ({len(shape)}) must be at least the number of dimensions ({len(own)})")
    new = len(shape) - len(own)
    found = list(shape)
    for i, want in enumerate(shape):
        have = own[i - new] if i >= new else None
        if want == have:
            continue
        if want < -1 or (want == -1 and have is None) or (want != -1 and have not in (1, None)):
            raise RuntimeError(
                f"sizes {list(shape)} do not fit a tensor of shape {list(own)}: size {want} at dimension {i}"
            )
        if want == -1:
            found[i] = have
    return {"size": tuple(found)}


@op(views, signature="input, *size", prepare=_expand_setting, vjp=[lambda g: g], view=True,
    samples=[sample(real(3, 1), (2, 3, 4)), sample(real(3, 1), -1, 4)], out=False, onnx="Expand")  # fmt: skip
def expand(input, *, size):
    """A view with dimensions of size 1 (and new ones in front) repeated, without copying; -1 keeps a size."""
    return broadcast_view(input, size)  # a part without repetition may be written; `has_overlap` refuses others


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
    tensors = listed(tensors)
    try:
        shape = np.broadcast_shapes(*[tuple(t.shape) for t in tensors])
    except ValueError:
        raise RuntimeError(f"broadcast_tensors: shapes {[list(t.shape) for t in tensors]} do not broadcast") from None
    return tuple([ops.expand(t, shape) for t in tensors])


def listed(tensors):
    """The tensors of ``f(a, b)`` and of ``f([a, b])`` alike."""
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
    dims, ndim = settings["dims"], arrays[0].ndim
    if len(dims) == 1 and dims[0].__class__ is tuple:
        dims = dims[0]
    if dims.__class__ is not tuple or len(dims) != ndim or ndim < 2:
        dims = as_shape(dims)
    if len(dims) != ndim:
        raise RuntimeError(f"dims must name all {ndim} dimensions of the input, got {dims}")
    return {"dims": normalize_dims(dims, ndim)}


@op(
    views,
    signature="input, *dims",
    prepare=_permutation,
    view=True,
    samples=[sample(CUBE, (2, 0, 1)), sample(CUBE, 1, -1, 0)],
    vjp=[lambda g, dims: ops.permute(g, tuple(np.argsort(dims).tolist()))],
    out=False,
    onnx="Transpose",
)
def permute(input, *, dims):
    """The dimensions in another order."""
    return input.transpose(dims)


def _two_dims(arrays, settings):
    ndim = arrays[0].ndim
    return {k: normalize_dim(v, ndim, k) for k, v in settings.items()}


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
    if type(source) is int and type(destination) is int and input.ndim:
        order = list(range(input.ndim))
        start, end = normalize_dim(source, input.ndim, "source"), normalize_dim(destination, input.ndim, "destination")
        order.insert(end, order.pop(start))
        return ops.permute(input, tuple(order))
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
