"""Tensors put together, repeated and turned: cat and stack, repeat and tile, roll and flip."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import Kernel, composite, index, op
from ..registry import view as views
from ..shapes import as_shape, normalize_dim, normalize_dims, promote
from ..tensor import Tensor
from .index import FULL, write
from .samples import real, sample
from .shape import listed, ravel

BACKWARDS = slice(None, None, -1)
ONE = [real(3, 4)]
CUBE = real(2, 3, 4)


def _cat_vjp(g, dim, tensors_shapes):
    before, start, parts = (FULL,) * dim, 0, []
    for shape in tensors_shapes:
        if len(shape) != g.ndim:  # an empty one that was left out
            parts.append(np.zeros(shape, g.dtype))
            continue
        parts.append(g[(*before, slice(start, start + shape[dim]))])
        start += shape[dim]
    return tuple(parts)


def _stack_vjp(g, dim):
    return tuple([g[(*(FULL,) * dim, i, ...)] for i in range(g.shape[dim])])


@op(
    views,
    vjp=_cat_vjp,
    kernel=Kernel("moves:join", above=1 << 18),
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
        if type(entry) is not Tensor and not isinstance(entry, (Tensor, np.ndarray)):
            raise TypeError(f"{name}: element {number} must be a Tensor, got {type(entry).__name__}")
    return tensors


@op(
    composite,
    samples=[sample([real(2, 3), real(4, 3)]), sample([real(2, 3), real(2, 1)], -1)],
    aliases=["concat", "concatenate"],
)
def cat(tensors, dim=0, *, out=None):
    """Tensors one after the other along ``dim``; their other sizes must agree (empty 1-d ones are left out)."""
    return _joined(_checked_list("cat", tensors), dim, out)


def _joined(tensors, dim, out):
    ndims = [t.ndim for t in tensors]
    if 0 in ndims:
        raise RuntimeError("cat: 0-d tensors cannot be concatenated; use stack")
    found = ops.join(*tensors, dim=normalize_dim(dim, max(ndims)))
    return found if out is None else write_out(out, found)


@op(views, vjp=_stack_vjp, promote=promote, kernel=Kernel("moves:pile", above=1 << 18), namespace="internal",
    samples=[sample(real(2, 3), real(2, 3), dim=1)])  # fmt: skip
def pile(*tensors, dim):
    """See `stack`."""
    return np.concatenate([t[(*(FULL,) * dim, None)] for t in tensors], dim)


@op(composite, samples=[sample([real(3), real(3)]), sample([real(2, 3), real(2, 3)], -1)])
def stack(tensors, dim=0, *, out=None):
    """Tensors of one shape side by side along a new dimension ``dim``."""
    tensors = _checked_list("stack", tensors)
    first = tensors[0].shape
    if any([t.shape != first for t in tensors]):
        raise RuntimeError(f"stack: expects each tensor to be of equal size, got {[list(t.shape) for t in tensors]}")
    found = ops.pile(*tensors, dim=normalize_dim(dim, len(first) + 1))
    return found if out is None else write_out(out, found)


def _one_dim(t):
    return ops.reshape(t, (1,)) if t.ndim == 0 else t


def _two_dims(t):
    return ops.reshape(t, (1, prod(t.shape))) if t.ndim < 2 else t


def _three_dims(t):
    if t.ndim > 2:
        return t
    return ops.reshape(t, (*t.shape, 1) if t.ndim == 2 else (1, *t.shape, 1) if t.ndim else (1, 1, 1))


def _grown(grow, tensors):
    """One tensor, or a tuple of those that were listed, each with as many dimensions as ``grow`` gives it."""
    if len(tensors) == 1 and not isinstance(tensors[0], (list, tuple)):
        return grow(tensors[0])
    return tuple([grow(t) for t in listed(tensors)])


@op(composite, samples=[real(), sample(real(3), real(2, 2))])
def atleast_1d(*tensors):
    """Each 0-d tensor as one of shape (1,)."""
    return _grown(_one_dim, tensors)


@op(composite, samples=[real(), sample(real(3), real(2, 2))])
def atleast_2d(*tensors):
    """Each tensor with dimensions of size 1 in front until there are two."""
    return _grown(_two_dims, tensors)


@op(composite, samples=[real(), sample(real(3), real(2, 2))])
def atleast_3d(*tensors):
    """Each tensor with three dimensions or more: (n) becomes (1, n, 1) and (m, n) becomes (m, n, 1)."""
    return _grown(_three_dims, tensors)


@op(composite, samples=[sample([real(3), real(2)]), sample([real(2, 3), real(2, 1)])])
def hstack(tensors, *, out=None):
    """Tensors side by side: along the second dimension, or the first where they are 1-d."""
    tensors = [_one_dim(t) for t in _checked_list("hstack", tensors)]
    return _joined(tensors, 0 if tensors[0].ndim == 1 else 1, out)


@op(composite, samples=[sample([real(3), real(3)]), sample([real(2, 3), real(1, 3)])], aliases=["row_stack"])
def vstack(tensors, *, out=None):
    """Tensors one below the other, 1-d ones as rows."""
    if all([t.ndim == 1 for t in _checked_list("vstack", tensors)]):
        return stack(tensors, 0, out=out)
    return _joined([_two_dims(t) for t in tensors], 0, out)


@op(composite, samples=[sample([real(3), real(3)]), sample([real(2, 3), real(2, 3)])])
def dstack(tensors, *, out=None):
    """Tensors one behind the other, along the third dimension."""
    return _joined([_three_dims(t) for t in _checked_list("dstack", tensors)], 2, out)


@op(composite, samples=[sample([real(3), real(3, 2)])])
def column_stack(tensors, *, out=None):
    """Tensors side by side, 1-d ones as columns."""
    columns = [ops.reshape(t, (prod(t.shape), 1)) if t.ndim < 2 else t for t in _checked_list("column_stack", tensors)]
    return _joined(columns, 1, out)


def _corners(shapes):
    """(first row, first column, rows, columns) of each block; vectors and numbers are rows."""
    row = column = 0
    for shape in shapes:
        rows, columns = shape if len(shape) == 2 else (1, prod(shape))
        yield row, column, rows, columns
        row, column = row + rows, column + columns


def _blocks_vjp(g, tensors_shapes):
    corners = zip(_corners(tensors_shapes), tensors_shapes, strict=True)
    parts = [(g[r : r + m, c : c + n], shape) for (r, c, m, n), shape in corners]
    return tuple([part if len(shape) == 2 else ops.reshape(part, shape) for part, shape in parts])


@op(index, vjp=_blocks_vjp, promote=promote, samples=[sample(real(2, 3), real(1, 2)), sample(real(2), real())],
    namespace="internal", out=False)  # fmt: skip
def blocks(*tensors):
    """See `block_diag`."""
    corners = [*_corners([t.shape for t in tensors])]
    out = np.zeros((corners[-1][0] + corners[-1][2], corners[-1][1] + corners[-1][3]), tensors[0].dtype)
    for tensor, (r, c, m, n) in zip(tensors, corners, strict=True):
        out[r : r + m, c : c + n] = tensor
    return out


@op(composite, samples=[sample(real(2, 3), real(1, 2)), sample(real(2), real())])
def block_diag(*tensors):
    """A matrix with the given ones along its diagonal and zeros elsewhere; vectors count as rows."""
    for number, t in enumerate(tensors):
        if t.ndim > 2:
            raise RuntimeError(f"block_diag: expected tensors with 2 or fewer dimensions, tensor {number} has {t.ndim}")
    return ops.blocks(*tensors) if tensors else ops.zeros((1, 0))


# ---------------------------------------------------------------------------------------------------- repeated, turned


def _repeat_setting(arrays, settings):
    counts, ndim = as_shape(settings["repeats"]), arrays[0].ndim
    if len(counts) < ndim:
        raise RuntimeError(f"the number of counts ({len(counts)}) must be at least that of dimensions ({ndim})")
    if any([n < 0 for n in counts]):
        raise RuntimeError(f"counts must not be negative, got {counts}")
    return {"repeats": counts}


def _spread(shape, repeats):
    """The shape of repetitions with a dimension of their own before each dimension that is repeated."""
    shape = (1,) * (len(repeats) - len(shape)) + tuple(shape)
    return [n for pair in zip(repeats, shape, strict=True) for n in pair]


def _repeat_vjp(g, input_shape, repeats):
    wide = ops.reshape(g, _spread(input_shape, repeats))
    return ops.reshape(ops.sum(wide, tuple(range(0, 2 * len(repeats), 2))), input_shape)


@op(views, vjp=[_repeat_vjp], signature="input, *repeats", prepare=_repeat_setting, out=False, onnx="Tile",
    samples=[sample(real(2, 3), 2, 1), sample(real(3), (2, 2))])  # fmt: skip
def repeat(input, *, repeats):
    """The whole tensor repeated along each dimension; more counts than dimensions add dimensions in front."""
    wide = _spread(input.shape, repeats)
    out = np.empty([c * n for c, n in zip(wide[::2], wide[1::2], strict=True)], input.dtype)
    one = [m for n in wide[1::2] for m in (1, n)]
    out.reshape(wide)[...] = input.reshape(one)
    return out


@op(composite, samples=[sample(real(2, 3), 2), sample(real(2, 3), (2, 1, 2))])
def tile(input, *dims):
    """As `repeat`; fewer counts than dimensions leave the first ones alone."""
    counts = as_shape(dims)
    return ops.repeat(input, (1,) * (input.ndim - len(counts)) + counts)


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
    repeats = repeats.numpy() if isinstance(repeats, Tensor) else np.asarray(repeats)
    if repeats.dtype.kind not in "iu" or repeats.ndim > 1:
        raise RuntimeError(
            f"repeat_interleave: repeats must be 0-d or 1-d integers, got {repeats.dtype}{list(repeats.shape)}"
        )
    if repeats.size and repeats.min() < 0:
        raise RuntimeError("repeat_interleave: repeats can not be negative")
    if dim is None:
        input, dim = ravel(input), 0
    input, dim = input if input.ndim else ops.reshape(input, (1,)), normalize_dim(dim, input.ndim)
    if repeats.size == 1:
        return ops.repeat_each(input, count=int(repeats.reshape(())), dim=dim)
    size = input.shape[dim]
    if repeats.size != size:
        raise RuntimeError(f"repeat_interleave: repeats must have one count for each of {size}, got {repeats.size}")
    return ops.take_slices(input, np.repeat(np.arange(size), repeats), dim=dim)


def _each_vjp(g, input_shape, count, dim):
    wide = ops.reshape(g, (*input_shape[: dim + 1], count, *input_shape[dim + 1 :]))
    if not 0 < count <= 8:
        return ops.sum(wide, dim + 1)
    first, *others = ops.unbind(wide, dim + 1)  # a few long sums are quicker than many short ones
    for other in others:
        first = first + other
    return first


@op(views, vjp=[_each_vjp], out=False, namespace="internal", samples=[sample(real(2, 3), count=2, dim=1)])
def repeat_each(input, *, count, dim):
    """Each slice along ``dim`` repeated ``count`` times, next to one another."""
    shape = input.shape
    out = np.empty((*shape[: dim + 1], count, *shape[dim + 1 :]), input.dtype)
    write(out, np.expand_dims(input, dim + 1))
    return out.reshape((*shape[:dim], shape[dim] * count, *shape[dim + 1 :]))


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
    if not input.size:
        return input.copy()
    if not dims:
        return roll(input.reshape(-1), shifts=shifts, dims=(0,)).reshape(input.shape)
    if len(dims) > 1:
        return np.roll(input, shifts, dims)
    before, cut, out = (slice(None),) * dims[0], shifts[0] % input.shape[dims[0]], np.empty(input.shape, input.dtype)
    out[(*before, slice(cut, None))] = input[(*before, slice(None, input.shape[dims[0]] - cut))]
    out[(*before, slice(None, cut))] = input[(*before, slice(input.shape[dims[0]] - cut, None))]
    return out


def _flip_setting(arrays, settings):
    dims = as_shape(settings["dims"])
    return {"dims": normalize_dims(dims, arrays[0].ndim) if dims else ()}


@op(views, signature="input, *dims", prepare=_flip_setting, vjp=[lambda g, dims: ops.flip(g, dims)],
    kernel=Kernel("moves:flip", above=16384),
    samples=[sample(real(3, 4), (0, -1)), sample(real(3, 4), 1)], out=False)  # fmt: skip
def flip(input, *, dims):
    """Elements in reverse order along ``dims``, as a copy."""
    return input[tuple([BACKWARDS if d in dims else FULL for d in range(input.ndim)])].copy("K")


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
    turns = k % 4
    if turns == 0:
        return ops.clone(input)
    if turns == 2:
        return ops.flip(input, (first, second))
    return ops.transpose(ops.flip(input, second if turns == 1 else first), first, second)
