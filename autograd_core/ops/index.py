"""Picking and placing elements: indexing, gather and scatter, masks.

An index is a tuple of basic parts (ints, slices, None, ...) with `ARRAY` where an array stands. The arrays themselves
are arguments of the operation: a recorder sees them as inputs. Two operations carry everything, `pick` and `place`.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops, provenance, storage
from ..errors import EXPLAINED, explain, placed
from ..modes import state
from ..registry import composite, index, op
from ..shapes import dtype_of, named, normalize_dim
from ..tensor import Tensor, wrap
from .samples import Values, integer, real, sample

ARRAY = "array"
FULL = slice(None)

# ---------------------------------------------------------------------------------------------------- parsing


def _is_basic(items):
    return all(i is None or i is Ellipsis or type(i) in (int, slice) for i in items)


def parse(item, ndim):
    """An index as (basic, spec, arrays): the view that ints, slices, None and ... give, then what arrays pick from it.

    (NumPy treats an int beside an array as an array, which may put other dimensions in front.)
    """
    items = item if type(item) is tuple else (item,)
    if _is_basic(items):
        return items, (), ()
    parts = [_part(part) for part in items]
    left = ndim - sum([_dims_used(part) for part in parts])
    if left < 0 or sum([part is Ellipsis for part in parts]) > 1:
        raise IndexError(f"too many indices, or several ..., for a tensor of {ndim} dimensions: {len(parts)}")
    basic, spec, arrays = [], [], []
    for part in parts:
        if isinstance(part, (Tensor, np.ndarray)):
            basic += [FULL] * _dims_used(part)
            spec.append(ARRAY)
            if part.ndim == 0 and part.dtype == np.bool_:
                basic.append(None)
                part = np.zeros(int(bool(part)), np.int64)
            arrays.append(part)
        else:
            found = [FULL] * left if part is Ellipsis else [part]
            basic += found
            spec += [FULL for one in found if type(one) is not int]
    return tuple(basic) if any(part != FULL for part in basic) else None, tuple(spec), tuple(arrays)


def _dims_used(part):
    """How many dimensions one entry of an index stands for."""
    if isinstance(part, (Tensor, np.ndarray)):
        return part.ndim if part.dtype == np.bool_ else 1
    return 0 if part is None or part is Ellipsis else 1


def _part(part):
    """One entry of an index: a basic part as it is, everything else as an array of integers or booleans."""
    if part is None or part is Ellipsis or type(part) is int:
        return part
    if isinstance(part, slice):
        return slice(*[v if v is None or type(v) is int else int(v) for v in (part.start, part.stop, part.step)])
    if isinstance(part, (bool, np.bool_)):
        return np.asarray(part, bool)
    if hasattr(part, "__index__") and not isinstance(part, (Tensor, np.ndarray)):
        return int(part)
    if not isinstance(part, (Tensor, np.ndarray)):
        if not isinstance(part, (list, tuple, range)):
            raise TypeError(
                f"an index must be ints, slices, None, ..., sequences or tensors, got {type(part).__name__}"
            )
        part = _from_sequence(part)
    array = part.array if isinstance(part, Tensor) else part
    if array.dtype == np.uint8:
        return part.to(bool) if isinstance(part, Tensor) else part.astype(bool)
    if array.dtype.kind not in "iub":
        wrong = f"tensors used as indices must be integers or booleans, got {array.dtype.name}{list(array.shape)}"
        raise placed(IndexError(wrong))
    if array.ndim == 0 and array.dtype.kind != "b" and (state.watch is None or not state.watch.steers):
        return int(array)  # as an int it gives a view; a recorder keeps it as an input
    return part


def _from_sequence(items):
    if not len(items):
        return np.zeros(0, np.int64)
    return np.asarray([i.array if isinstance(i, Tensor) else i for i in items])


def _located(spec, arrays):
    """The index that NumPy understands."""
    rest = iter(arrays)
    return tuple([next(rest) if type(part) is str else part for part in spec])


def _axis(spec, arrays):
    """The dimension that a lone array of integers picks along, all others being whole; None for other indices."""
    if len(arrays) != 1 or arrays[0].dtype.kind == "b":
        return None
    axis = spec.index(ARRAY)
    return axis if all(part == FULL for k, part in enumerate(spec) if k != axis) else None


# ---------------------------------------------------------------------------------------------------- the operations


def _always_a_view(arrays, settings):
    given = settings["index"]
    return settings if ... in given else {"index": (*given, ...)}  # with ... NumPy gives a 0-d view, not a number


@op(
    index,
    vjp=[lambda g, input_shape, index: ops.in_zeros(g, shape=input_shape, spec=index)],
    view=True,
    out=False,
    prepare=_always_a_view,
    samples=[sample(real(3, 4), index=(FULL, 1))],
    namespace="internal",
    onnx="Slice",
)
def slice_view(input, *, index):
    """Basic indexing: ints, slices, None and ... give a view."""
    return input[index]


@op(
    index,
    vjp=[lambda g, input_shape, indices, spec: ops.in_zeros(g, *indices, shape=input_shape, spec=spec)],
    out=False,
    samples=[
        sample(real(3, 4), integer(5, high=3), spec=(ARRAY,)),
        sample(real(3, 4), integer(2, high=4), spec=(FULL, ARRAY)),
    ],
    namespace="internal",
    onnx="Gather",
)
def pick(input, *indices, spec):
    """Indexing by arrays of integers or booleans, mixed with basic parts; a copy."""
    axis = _axis(spec, indices)
    return input[_located(spec, indices)] if axis is None else input.take(indices[0], axis)


@op(
    index,
    vjp=[lambda g, indices, spec: ops.pick(g, *indices, spec=spec)],
    out=False,
    namespace="internal",
    samples=[
        sample(real(3), shape=(3, 4), spec=(FULL, 1)),
        sample(real(5), integer(5, high=3), shape=(3,), spec=(ARRAY,)),
    ],
)
def in_zeros(input, *indices, shape, spec):
    """Zeros of ``shape`` with the input added at an index; places named twice get the sum."""
    out = np.zeros(shape, input.dtype)
    axis = _axis(spec, indices) if indices else None
    if axis is not None:
        _add_slices(out, axis, indices[0], input)
    elif any(a.dtype.kind != "b" for a in indices):
        np.add.at(out, _located(spec, indices), input)
    else:
        out[_located(spec, indices)] = input
    return out


def _add_slices(out, axis, rows, values):
    """Add slices of ``values`` to those of ``out`` that ``rows`` names: flat, for which `numpy.add.at` is quick."""
    values = np.broadcast_to(values, (*out.shape[:axis], *rows.shape, *out.shape[axis + 1 :]))
    if not values.size:
        return
    size, inner = out.shape[axis], prod(out.shape[axis + 1 :])
    check_bounds(rows, size)
    rows = np.where(rows < 0, rows + size, rows).reshape(-1)
    outer = np.arange(prod(out.shape[:axis]), dtype=np.int64)[:, None, None] * (size * inner)
    flat = outer + rows[:, None] * inner + np.arange(inner)
    np.add.at(out.reshape(-1), flat.reshape(-1), values.reshape(-1))


FEW = 16  # numbers that Python looks at faster than NumPy


def within(rows, least, limit):
    """Whether all numbers of an integer array lie from ``least`` to below ``limit``."""
    if rows.size <= FEW:
        found = rows.reshape(-1).tolist()
        return not found or (least <= min(found) and max(found) < limit)
    if rows.dtype == np.int64 and rows.view(np.uint64).max() < limit:  # negative ones are large: one look for both ends
        return least <= 0 or least <= rows.min()
    return bool(least <= rows.min() and rows.max() < limit)


def check_bounds(rows, size, least=None):
    """Raise where an index does not name one of ``size`` places; ``least`` is 0 where negative ones are not allowed."""
    if not within(rows, -size if least is None else least, size):
        wrong = rows.max() if rows.max() >= size else rows.min()
        raise IndexError(named(f"index {wrong} is out of bounds for dimension with size {size}"))


def _placed_vjp(g, indices, spec, accumulate):
    return g if accumulate else ops.place(g, np.zeros((), g.dtype), *indices, spec=spec, accumulate=False)


@op(
    index,
    vjp=[_placed_vjp, lambda g, indices, spec: ops.pick(g, *indices, spec=spec)],
    out=False,
    namespace="internal",
    samples=[
        sample(real(3, 4), real(4), spec=(1,), accumulate=False),
        sample(real(3, 4), real(2, 4), integer(2, high=3), spec=(ARRAY,), accumulate=True),
    ],
)
def place(input, value, *indices, spec, accumulate):
    """A copy of the input with ``value`` written (or added) at an index."""
    out = np.array(input, order="C")
    if not accumulate:
        out[_located(spec, indices)] = value
    elif _axis(spec, indices) is not None and isinstance(value, np.ndarray):
        _add_slices(out, _axis(spec, indices), indices[0], value.astype(out.dtype, copy=False))
    else:
        np.add.at(out, _located(spec, indices), value)
    return out


def get_item(self, item):
    """``tensor[item]``: a view for ints, slices, None and ...; a copy for arrays of integers or booleans."""
    kind = type(item)
    if kind is int and not self.array.ndim:
        raise IndexError("invalid index of a 0-d tensor; use tensor.item() to get its number")
    if kind is int or kind is slice:
        return ops.slice_view(self, (item,))
    basic, spec, arrays = parse(item, self.array.ndim)
    part = self if basic is None else ops.slice_view(self, basic)
    return ops.pick(part, *arrays, spec=spec) if arrays else part


def set_item(self, item, value):
    """``tensor[item] = value``, with PyTorch's history: the old values lose their gradient, ``value`` gets it."""
    basic, spec, arrays = parse(item, self.array.ndim)
    self._check_writable("setitem")
    steered = state.watch is not None and state.watch.steers
    if steered or (state.grad and (self.requires_grad or getattr(value, "requires_grad", False))):
        part = self if basic is None else ops.slice_view(self, basic)
        if arrays:
            part._become(ops.place(part, value, *arrays, spec=spec, accumulate=False), "setitem")
        else:
            _write_part(part, value)
        return
    part = self.array if basic is None else self.array[basic if ... in basic else (*basic, ...)]
    if state.watch is not None:
        state.watch.write(wrap(part), value)
    try:
        part[_located(spec, map(values_of, arrays)) if arrays else ...] = values_of(value)
    except EXPLAINED as error:
        raise explain(error, ops.place.record, (self, value, *arrays), {"index": basic, "spec": spec}) from None
    storage.log_write(part, provenance.site())


def _write_part(part, value):
    """Write ``value`` into a view, whose base then remembers where its elements come from."""
    if isinstance(value, Tensor) and _is_same(part.array, value.array):
        return
    shape, dtype = part.array.shape, part.array.dtype
    value = value if isinstance(value, Tensor) else np.asarray(value)
    if value.dtype != dtype:
        value = ops.to(value, dtype)
    extra = value.ndim - len(shape)
    if extra > 0 and tuple(value.shape[:extra]) == (1,) * extra:
        value = ops.reshape(value, tuple(value.shape[extra:]))
    part._become(ops.expand(value, shape), "setitem")


def _is_same(first, second):
    """Whether two arrays are one look at one memory: ``x[i] += v`` ends with ``x[i] = x[i]``."""
    return (isinstance(first, np.ndarray) and first.shape == second.shape and first.strides == second.strides
            and first.__array_interface__["data"] == second.__array_interface__["data"])  # fmt: skip


Tensor.__getitem__ = get_item

# ---------------------------------------------------------------------------------------------------- along a dimension


def along(name, input, dim, rows):
    """(dim, spec) of picking whole slices of ``input`` along ``dim`` by the 1-d ``rows``."""
    dim = normalize_dim(dim, input.ndim)
    if rows.ndim > 1:
        raise IndexError(f"{name}: index must be 1-d, got shape {list(rows.shape)}")
    check_integers(name, rows)
    check_bounds(values_of(rows), input.shape[dim] if input.ndim else 1, 0)
    return dim, (FULL,) * dim + (ARRAY,)


def values_of(tensor):
    """The array of a Tensor; an array as it is."""
    return tensor.array if isinstance(tensor, Tensor) else tensor


def check_integers(name, rows):
    """Raise unless an index holds integers."""
    if values_of(rows).dtype.kind not in "iu":
        raise RuntimeError(f"{name}: index must be integers, got {dtype_of(values_of(rows).dtype)}")


def _flat_rows(rows):
    return ops.reshape(rows, (1,)) if rows.ndim == 0 else rows


SLICES = [sample(real(3, 4), 0, integer(5, high=3)), sample(real(3, 4), -1, integer(2, high=4))]


@op(composite, out=True, samples=SLICES)
def index_select(input, dim, index):
    """The slices along ``dim`` that the 1-d ``index`` names."""
    dim, spec = along("index_select", input, dim, index)
    if not input.ndim:
        return ops.reshape(ops.pick(ops.reshape(input, (1,)), _flat_rows(index), spec=spec), ())
    return ops.pick(input, _flat_rows(index), spec=spec)


def _replace_slices(name, input, dim, index, source, accumulate):
    dim, spec = along(name, input, dim, index)
    if isinstance(source, (Tensor, np.ndarray)) and source.ndim:
        check_source(name, input, dim, index, source)
    if input.ndim:
        return ops.place(input, source, _flat_rows(index), spec=spec, accumulate=accumulate)
    return ops.reshape(
        ops.place(ops.reshape(input, (1,)), source, _flat_rows(index), spec=spec, accumulate=accumulate), ()
    )


def check_source(name, input, dim, index, source):
    """Raise unless ``source`` has the slices that ``index`` names."""
    want = list(input.shape)
    if want:
        want[dim] = prod(index.shape)
    if values_of(source).dtype != values_of(input).dtype:
        raise RuntimeError(f"{name}: source has type {source.dtype}, the input {input.dtype}")
    if list(source.shape) != (want or [1]) and not (source.ndim == 0 and prod(want) == 1):
        raise RuntimeError(f"{name}: source must have shape {want or [1]}, got {list(source.shape)}")


PLACED = [sample(real(3, 4), 0, integer(2, high=3), real(2, 4)), sample(real(3, 4), 1, integer(1, high=4), real(3, 1))]
UNIQUE = [sample(real(3, 4), 0, np.array([2, 0]), real(2, 4)), sample(real(3, 4), 1, np.array([1]), real(3, 1))]


@op(composite, out=True, samples=PLACED, inplace=True)
def index_add(input, dim, index, source, *, alpha=1):
    """A copy of the input with ``alpha`` times the slices of ``source`` added to those that ``index`` names."""
    return _replace_slices("index_add", input, dim, index, source if alpha == 1 else source * alpha, True)


@op(composite, out=True, samples=UNIQUE, inplace=True)
def index_copy(input, dim, index, source):
    """A copy of the input with the slices that ``index`` names replaced by those of ``source``."""
    return _replace_slices("index_copy", input, dim, index, source, False)


@op(
    composite,
    samples=[sample(real(3, 4), 0, np.array([2, 0]), 1.5), sample(real(3, 4), 1, np.array([1]), real())],
    inplace=True,
)
def index_fill(input, dim, index, value):
    """A copy of the input with the slices that ``index`` names filled with ``value``, a number or a 0-d tensor."""
    if getattr(value, "ndim", 0):
        raise RuntimeError(f"index_fill: value must be a number or a 0-d tensor, got shape {list(value.shape)}")
    dim, spec = along("index_fill", input, dim, index)
    mask = np.zeros(tuple(input.shape) or (1,), bool)
    mask = ops.reshape(ops.place(mask, True, _flat_rows(index), spec=spec, accumulate=False), tuple(input.shape))
    return ops.masked_fill(input, mask, value)


@op(composite, samples=[sample(real(3, 4), (np.array([0, 2]), np.array([1, 1])), real(2))], inplace=True)
def index_put(input, indices, values, accumulate=False):
    """A copy of the input with ``values`` written (or added) at ``input[indices]``."""
    spec, arrays = tuple([FULL if i is None else ARRAY for i in indices]), [i for i in indices if i is not None]
    if values_of(values).dtype != values_of(input).dtype:
        raise RuntimeError(f"index_put: values have type {values.dtype}, the input {input.dtype}")
    return ops.place(input, values, *arrays, spec=spec, accumulate=accumulate)


@op(composite, out=True, samples=[sample(real(3, 4), integer(2, 2, high=12))])
def take(input, index):
    """Elements by their number in flat order, in the shape of ``index``; negative numbers count from the end."""
    check_integers("take", index)
    return ops.pick(ops.reshape(input, (prod(input.shape),)), index, spec=(ARRAY,))


@op(
    composite,
    samples=[sample(real(3, 4), np.array([5, -1]), real(2)), sample(real(3, 4), np.array([5, 5]), real(2), True)],
    inplace=True,
)
def put(input, index, source, accumulate=False):
    """A copy of the input with ``source`` written (or added) at the places that ``index`` numbers in flat order."""
    check_integers("put", index)
    if values_of(source).dtype != values_of(input).dtype:
        raise RuntimeError(f"put: source has type {source.dtype}, the input {input.dtype}")
    if prod(source.shape) != prod(index.shape):
        raise RuntimeError(
            f"put: source must have as many elements as index, got {list(source.shape)} and {list(index.shape)}"
        )
    check_bounds(values_of(index), prod(input.shape))
    flat = ops.place(
        ops.reshape(input, (prod(input.shape),)),
        ops.reshape(source, tuple(index.shape)),
        index,
        spec=(ARRAY,),
        accumulate=accumulate,
    )
    return ops.reshape(flat, tuple(input.shape))


def _checked_part(name, part, src):
    if tuple(part.shape) != tuple(src.shape):
        raise RuntimeError(f"{name}: expected src of shape {list(part.shape)}, got {list(src.shape)}")


@op(composite, samples=[sample(real(3, 4), real(3), 1, -1)])
def select_scatter(input, src, dim, index):
    """A copy of the input with the slice at ``index`` of ``dim`` replaced by ``src``."""
    _checked_part("select_scatter", ops.select(input, dim, index), src)
    return ops.place(input, src, spec=(FULL,) * normalize_dim(dim, input.ndim) + (int(index),), accumulate=False)


@op(composite, out=True,
    samples=[sample(real(3, 4), real(3, 2), 1, 1, 3), sample(real(5, 2), real(2, 2), 0, None, 4, 2)])  # fmt: skip
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """A copy of the input with the slice ``start:end:step`` of ``dim`` replaced by ``src``."""
    place = (FULL,) * normalize_dim(dim, input.ndim) + (slice(start, end, step),)
    _checked_part("slice_scatter", ops.slice_view(input, place), src)
    return ops.place(input, src, spec=place, accumulate=False)


# ---------------------------------------------------------------------------------------------------- places


@op(index, samples=[integer(3, 4, high=2), Values("integer", (), 0, 2)])
def argwhere(input):
    """The indices of all nonzero elements, one row each, in order."""
    return np.argwhere(input)


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
