"""Functions that pick, place and find: slices along a dimension, elements in flat order, places that are not zero."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from .. import ops
from ..registry import Kernel, composite, index, op
from ..shapes import can_cast, dtype_of, normalize_dim
from .index import (
    ARRAY,
    FULL,
    MANY,
    SOME,
    add_slices,
    check_bounds,
    check_integers,
    fill_slices,
    values_of,
    within,
    written,
)
from .samples import Values, integer, real, sample

# ---------------------------------------------------------------------------------------------------- along a dimension


def along(name, input, dim, rows, least=0):
    """``dim`` counted from the front, for the 1-d ``rows`` that name slices along it."""
    dim = normalize_dim(dim, input.ndim)
    if rows.ndim > 1:
        raise IndexError(f"{name}: index must be 1-d, got shape {list(rows.shape)}")
    check_integers(name, rows)
    check_bounds(values_of(rows), input.shape[dim] if input.ndim else 1, least)
    return dim


def check_source(name, input, dim, index, source):
    """Raise unless ``source`` has the slices that ``index`` names."""
    want = list(input.shape)
    if want:
        want[dim] = prod(index.shape)
    if values_of(source).dtype != values_of(input).dtype:
        raise RuntimeError(f"{name}: source has type {source.dtype}, the input {input.dtype}")
    if list(source.shape) != (want or [1]) and not (source.ndim == 0 and prod(want) == 1):
        raise RuntimeError(f"{name}: source must have shape {want or [1]}, got {list(source.shape)}")


def _setting(name, arrays, settings):
    """``dim`` from the front, where the arrays are such as can be picked and put, whatever the indices' values."""
    input, index, *source = arrays
    dim, shape = settings["dim"], input.shape
    if type(dim) is not int or not 0 <= dim < len(shape):
        dim = normalize_dim(dim, len(shape))
    if index.ndim > 1:
        raise IndexError(f"index must be 1-d, got shape {list(index.shape)}")
    if index.dtype.kind not in "iu":
        check_integers(name, index)
    if source and (source[0].dtype != input.dtype or source[0].shape != (*shape[:dim], index.size, *shape[dim + 1 :])):
        check_source(name, input, dim, index, source[0])
    return {**settings, "dim": dim}


def _lines(function, input, *given):
    """``function`` of an input with a dimension to pick along, and a 1-d index: 0-d ones for as long as it takes."""
    *others, index = given
    index = ops.reshape(index, (1,)) if index.ndim == 0 else index
    if input.ndim:
        return function(input, *others, index)
    return ops.reshape(function(ops.reshape(input, (1,)), *others, index), ())


def _taken(g, index, dim):
    if g.ndim and index.ndim:
        return ops.take_slices(g, index, dim=dim)
    return _lines(lambda x, i: ops.take_slices(x, i, dim=dim), g, index)


def _put(input, source, index, dim, how):
    return _lines(lambda x, s, i: ops.put_slices(x, s, i, dim=dim, how=how), input, source, index)


def _checked(input, index, dim):
    check_bounds(index, input.shape[dim] if input.ndim else 1, 0)


def _limits(input, *_, dim, **__):
    return 1, input.shape[dim], 0


def _in_zeros(g, index, input_shape, dim):
    if input_shape and index.ndim:
        return ops.slices_in_zeros(g, index, shape=input_shape, dim=dim)
    shape = input_shape or (1,)
    picked = (*shape[:dim], prod(index.shape), *shape[dim + 1 :])
    found = ops.slices_in_zeros(ops.reshape(g, picked), ops.reshape(index, (-1,)), shape=shape, dim=dim)
    return ops.reshape(found, input_shape)


def _selects(input, index, *, dim):
    size = input.shape[dim]
    return size > 0 and index.size * (input.size // size) >= MANY and within(index, 0, size)


@op(index, signature="input, dim, index", prepare=partial(_setting, "index_select"), vjp=[_in_zeros],
    kernel=Kernel("indexing:index_select", above=64, when=_selects, indices=_limits),
    samples=[sample(real(3, 4), 0, integer(5, high=3)), sample(real(3, 4), -1, integer(2, high=4))])  # fmt: skip
def index_select(input, index, *, dim):
    """The slices along ``dim`` that the 1-d ``index`` names."""
    _checked(input, index, dim)
    return input.take(index, dim) if input.ndim and index.ndim else _taken(input, index, dim)


def _puts(input, index, source, *, dim, alpha=1):
    size = input.shape[dim]
    return alpha == 1 and source.size >= SOME and within(index, 0, size)


PLACED = [sample(real(3, 4), 0, integer(2, high=3), real(2, 4)), sample(real(3, 4), 1, integer(1, high=4), real(3, 1))]
UNIQUE = [sample(real(3, 4), 0, np.array([2, 0]), real(2, 4)), sample(real(3, 4), 1, np.array([1]), real(3, 1))]


@op(index, signature="input, dim, index, source, *, alpha=1", prepare=partial(_setting, "index_add"), inplace=True,
    vjp=[lambda g: g, None, lambda g, index, dim, alpha: _taken(g if alpha == 1 else g * alpha, index, dim)],
    kernel=Kernel("indexing:index_add", above=64, when=_puts, indices=_limits), samples=PLACED)  # fmt: skip
def index_add(input, index, source, *, dim, alpha):
    """A copy of the input with ``alpha`` times the slices of ``source`` added to those that ``index`` names."""
    _checked(input, index, dim)
    source = source if alpha == 1 else source * input.dtype.type(alpha)
    if not input.ndim or not index.ndim:
        return _put(input, source, index, dim, "add")
    out = np.array(input, order="C")
    add_slices(out, dim, index, source)
    return out


@op(index, signature="input, dim, index, source", prepare=partial(_setting, "index_copy"), inplace=True,
    vjp=[lambda g, index, dim: _put(g, np.zeros((), g.dtype), index, dim, "set"), None, _taken],
    kernel=Kernel("indexing:index_copy", above=64, when=lambda *given, dim: given[2].size >= MANY and _puts(
        *given, dim=dim), indices=_limits), samples=UNIQUE)  # fmt: skip
def index_copy(input, index, source, *, dim):
    """A copy of the input with the slices that ``index`` names replaced by those of ``source``."""
    _checked(input, index, dim)
    if not input.ndim or not index.ndim:
        return _put(input, source, index, dim, "set")
    out = np.array(input, order="C")
    out[(*(FULL,) * dim, index) if dim else index] = source
    return out


def _fill_setting(arrays, settings):
    input, index, value = arrays
    if getattr(value, "ndim", 0):
        raise RuntimeError(f"value must be a number or a 0-d tensor, got shape {list(value.shape)}")
    if (type(value) is not float or input.dtype.kind != "f") and not can_cast(np.asarray(value).dtype, input.dtype):
        raise RuntimeError(f"value {value} cannot be converted to type {dtype_of(input.dtype)}")
    return _setting("index_fill", (input, index), settings)


def _filled(g, input_shape, index, dim):
    """The gradient where slices were filled: each place counts once, however often it is named."""
    return ops.where(_put(np.zeros(input_shape, bool), True, index, dim, "set"), g, 0.0)


@op(index, signature="input, dim, index, value", prepare=_fill_setting, inplace=True, out=False,
    vjp=[lambda g, index, dim: _put(g, np.zeros((), g.dtype), index, dim, "set"), None, _filled],
    samples=[sample(real(3, 4), 0, np.array([2, 0]), 1.5), sample(real(3, 4), 1, np.array([1]), real())])  # fmt: skip
def index_fill(input, index, value, *, dim):
    """A copy of the input with the slices that ``index`` names filled with ``value``, a number or a 0-d tensor."""
    check_bounds(index, input.shape[dim] if input.ndim else 1)
    if not input.ndim or not index.ndim:
        return _put(input, value, index, dim, "set")
    return fill_slices(input, value, index, dim)


@op(composite, samples=[sample(real(3, 4), (np.array([0, 2]), np.array([1, 1])), real(2))], inplace=True)
def index_put(input, indices, values, accumulate=False):
    """A copy of the input with ``values`` written (or added) at ``input[indices]``."""
    spec, arrays = tuple([None if i is None else ARRAY for i in indices]), [i for i in indices if i is not None]
    if values_of(values).dtype != values_of(input).dtype:
        raise RuntimeError(f"index_put: values have type {values.dtype}, the input {input.dtype}")
    return written(input, values, spec, arrays, "add" if accumulate else "set")


def _taken_from(g, index, input_shape):
    return ops.reshape(ops.slices_in_zeros(g, index, shape=(prod(input_shape),), dim=0), input_shape)


def _whole_numbers(arrays, settings):
    if arrays[1].dtype.kind not in "iu":
        raise RuntimeError(f"index must be integers, got {dtype_of(arrays[1].dtype)}")
    return settings


@op(index, vjp=[_taken_from], samples=[sample(real(3, 4), integer(2, 2, high=12))], prepare=_whole_numbers)
def take(input, index):
    """Elements by their number in flat order, in the shape of ``index``; negative numbers count from the end."""
    return input.take(index)


def _put_setting(arrays, settings):
    input, index, source = arrays
    _whole_numbers(arrays, settings)
    if source.dtype != input.dtype:
        raise RuntimeError(f"source has type {source.dtype}, the input {input.dtype}")
    if source.size != index.size:
        raise RuntimeError(f"source must have as many elements as index, got {source.shape} and {index.shape}")
    return settings


@op(index, prepare=_put_setting, inplace=True, out=False, signature="input, index, source, accumulate=False",
    vjp=[lambda g, index, source_shape, accumulate: (
             g if accumulate else ops.put(g, index, np.zeros(source_shape, g.dtype))),
         None, lambda g, index, source_shape: ops.reshape(ops.take(g, index), source_shape)],
    samples=[sample(real(3, 4), np.array([5, -1]), real(2)),
             sample(real(3, 4), np.array([5, 5]), real(2), True)])  # fmt: skip
def put(input, index, source, *, accumulate):
    """A copy of the input with ``source`` written (or added) at the places that ``index`` numbers in flat order."""
    check_bounds(index, input.size)
    out = np.array(input, order="C")
    flat, source = out.reshape(-1), source.reshape(index.shape)
    if accumulate:
        np.add.at(flat, index, source)
    else:
        flat[index] = source
    return out


def _checked_part(name, part, src):
    if tuple(part.shape) != tuple(src.shape):
        raise RuntimeError(f"{name}: expected src of shape {list(part.shape)}, got {list(src.shape)}")


@op(composite, samples=[sample(real(3, 4), real(3), 1, -1)])
def select_scatter(input, src, dim, index):
    """A copy of the input with the slice at ``index`` of ``dim`` replaced by ``src``."""
    _checked_part("select_scatter", ops.select(input, dim, index), src)
    return ops.write_slice(input, src, index=(*(FULL,) * normalize_dim(dim, input.ndim), int(index)))


@op(composite, out=True,
    samples=[sample(real(3, 4), real(3, 2), 1, 1, 3), sample(real(5, 2), real(2, 2), 0, None, 4, 2)])  # fmt: skip
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """A copy of the input with the slice ``start:end:step`` of ``dim`` replaced by ``src``."""
    place = (FULL,) * normalize_dim(dim, input.ndim) + (slice(start, end, step),)
    _checked_part("slice_scatter", ops.slice_view(input, place), src)
    return ops.write_slice(input, src, index=place)


# ---------------------------------------------------------------------------------------------------- places


@op(index, samples=[integer(3, 4, high=2), Values("integer", (), 0, 2)])
def argwhere(input):
    """The indices of all nonzero elements, one row each, in order."""
    if input.ndim > 0 and input.size <= SOME:
        return np.ascontiguousarray(np.array(input.nonzero()).T)
    rest = np.flatnonzero(input if input.dtype.kind == "b" else input != 0)
    places = np.empty((rest.size, input.ndim), np.int64)
    for d in range(input.ndim - 1, 0, -1):
        before = rest // input.shape[d]
        np.subtract(rest, before * input.shape[d], out=places[:, d])
        rest = before
    if input.ndim:
        places[:, 0] = rest
    return places


@op(composite, samples=[integer(3, 4, high=2), sample(integer(3, 4, high=2), as_tuple=True)])
def nonzero(input, *, as_tuple=False, out=None):
    """The indices of all nonzero elements: rows of one matrix, or with ``as_tuple`` one 1-d tensor a dimension."""
    if as_tuple:
        return ops.unbind(argwhere(input if input.ndim else ops.reshape(input, (1,))), 1)
    return argwhere(input, out=out)


@op(composite, samples=[sample(integer(2, 3, high=12), (3, 4)), sample(integer(5, high=4), 4)])
def unravel_index(indices, shape):
    """The coordinates of elements numbered in flat order in a tensor of ``shape``: one tensor of int64 a dimension."""
    check_integers("unravel_index", indices)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(size < 0 for size in sizes):
        raise ValueError(f"unravel_index: shape must not have negative sizes, got {sizes}")
    rest, places = ops.to(indices, np.int64), []
    for size in reversed(sizes):
        places.append(rest % size)
        rest = rest // size
    return tuple(reversed(places))
