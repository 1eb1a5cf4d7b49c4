"""Picking and placing elements: indexing, gather and scatter, masks.

An index is a tuple of basic parts (ints, slices, None, ...), which give a view, and then a ``spec`` of that: `ARRAY`
where an array stands, None for a whole dimension. The arrays are arguments of operations, so that a recorder sees them.
`slice_view` and `write_slice` carry basic indices, `take_slices` and `put_slices` one array of integers along a
dimension, `pick` and `place` everything else.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops, provenance, storage
from ..errors import EXPLAINED, explain, placed
from ..modes import state
from ..registry import Kernel, index, op
from ..shapes import dtype_of, named
from ..tensor import Tensor, wrap
from .samples import integer, real, sample

ARRAY = "array"
FULL = slice(None)
MANY = 32768  # elements from which kernels move them faster than NumPy
SOME = 2048  # elements from which they combine them faster

# ---------------------------------------------------------------------------------------------------- parsing


BASIC = frozenset((int, slice, type(None), type(Ellipsis)))


def parse(item, ndim):
    """An index as (basic, spec, arrays): the view that ints, slices, None and ... give, then what arrays pick from it.

    (NumPy treats an int beside an array as an array, which may put other dimensions in front.)
    """
    items = item if type(item) is tuple else (item,)
    if BASIC.issuperset(map(type, items)):
        return items, (), ()
    parts = [_part(part) for part in items]
    used = [_dims_used(part) for part in parts]
    left = ndim - sum(used)
    if left < 0 or sum([part is Ellipsis for part in parts]) > 1:
        raise IndexError(f"too many indices, or several ..., for a tensor of {ndim} dimensions: {len(parts)}")
    basic, spec, arrays = [], [], []
    for part, dims in zip(parts, used, strict=True):
        if isinstance(part, (Tensor, np.ndarray)):
            basic += [FULL] * dims
            spec.append(ARRAY)
            if part.ndim == 0 and values_of(part).dtype.kind == "b":
                basic.append(None)
                part = np.zeros(int(bool(part)), np.int64)
            arrays.append(part)
        else:
            found = [FULL] * left if part is Ellipsis else [part]
            basic += found
            spec += [None for one in found if type(one) is not int]
    return tuple(basic) if any(part != FULL for part in basic) else None, tuple(spec), tuple(arrays)


def _dims_used(part):
    """How many dimensions one entry of an index stands for."""
    if isinstance(part, (Tensor, np.ndarray)):
        array = values_of(part)
        return array.ndim if array.dtype.kind == "b" else 1
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
    return tuple([FULL if part is None else next(rest) for part in spec])


def _axis(spec, arrays):
    """The dimension that a lone array of integers picks along; None for other indices."""
    if len(arrays) != 1 or values_of(arrays[0]).dtype.kind == "b":
        return None
    return spec.index(ARRAY)


# -------------------------------------------------------------------------------------------------- looking at indices

largest = np.maximum.reduce
FEW = 16  # numbers that Python looks at faster than NumPy


def within(rows, least, limit):
    """Whether all numbers of an integer array lie from ``least`` to below ``limit``."""
    if rows.size <= FEW:
        found = rows.reshape(-1).tolist()
        return not found or (least <= min(found) and max(found) < limit)
    if rows.dtype == np.int64 and largest(rows.view(np.uint64), None) < limit:  # negative ones are large: one look
        return least <= 0 or bool(least <= rows.min())
    return bool(least <= rows.min() and rows.max() < limit)


def check_bounds(rows, size, least=None):
    """Raise where an index does not name one of ``size`` places; ``least`` is 0 where negative ones are not allowed."""
    if not within(rows, -size if least is None else least, size):
        wrong = rows.max() if rows.max() >= size else rows.min()
        raise IndexError(named(f"index {wrong} is out of bounds for dimension with size {size}"))


def values_of(tensor):
    """The array of a Tensor; an array as it is."""
    return tensor.array if isinstance(tensor, Tensor) else tensor


def check_integers(name, rows):
    """Raise unless an index holds integers."""
    if values_of(rows).dtype.kind not in "iu":
        raise RuntimeError(f"{name}: index must be integers, got {dtype_of(values_of(rows).dtype)}")


# ---------------------------------------------------------------------------------------------------- basic indices


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


@op(index, vjp=[lambda g, spec: ops.slice_view(g, spec)], out=False, namespace="internal",
    samples=[sample(real(3), shape=(3, 4), spec=(FULL, 1))])  # fmt: skip
def in_zeros(input, *, shape, spec):
    """Zeros of ``shape`` with the input at a basic index."""
    out = np.zeros(shape, input.dtype)
    out[spec] = input
    return out


@op(index, out=False, namespace="internal", samples=[sample(real(3, 4), real(3), index=(FULL, 1))],
    vjp=[lambda g, index: ops.write_slice(g, np.zeros((), g.dtype), index=index),
         lambda g, index: ops.slice_view(g, index)])  # fmt: skip
def write_slice(input, value, *, index):
    """A copy of the input with ``value`` at a basic index."""
    out = np.array(input, order="C")
    write(out[index if ... in index else (*index, ...)], value)
    return out


def write(target, value):
    """``target[...] = value``, with a long inner loop where the last dimension, NumPy's choice, is short."""
    if target.size < SOME or target.shape[-1] > 8:
        target[...] = value
        return
    value = np.broadcast_to(value, target.shape)
    for k in range(target.shape[-1]):
        target[..., k] = value[..., k]


# ---------------------------------------------------------------------------------------------------- whole slices


def _takes(input, index, *, dim):
    size = input.shape[dim]
    return size > 0 and index.size * (input.size // size) >= MANY and within(index, -size, size)


@op(
    index,
    vjp=[lambda g, index, input_shape, dim: ops.slices_in_zeros(g, index, shape=input_shape, dim=dim)],
    kernel=Kernel("indexing:take_slices", above=64, when=_takes),
    out=False,
    samples=[sample(real(3, 4), integer(5, high=3), dim=0), sample(real(3, 4), integer(2, 2, high=4), dim=1)],
    namespace="internal",
    onnx="Gather",
)
def take_slices(input, index, *, dim):
    """The slices along ``dim`` that integers of any shape name; negative ones count from the end."""
    return input.take(index, dim)


@op(index, vjp=[lambda g, index, dim: ops.take_slices(g, index, dim=dim)], out=False, namespace="internal",
    kernel=Kernel("indexing:slices_in_zeros", above=SOME,
                  when=lambda g, index, *, shape, dim: within(index, -shape[dim], shape[dim])),
    samples=[sample(real(5, 4), integer(5, high=3), shape=(3, 4), dim=0)])  # fmt: skip
def slices_in_zeros(input, index, *, shape, dim):
    """The adjoint of `take_slices`: zeros of ``shape`` with slices added where it would take them from."""
    out = np.zeros(shape, input.dtype)
    add_slices(out, dim, index, input)
    return out


def _puts(input, source, index, *, dim, how):
    size = input.shape[dim]
    return source.size >= (MANY if how == "set" else SOME) and within(index, -size, size)


def _put_slices_vjp(g, index, dim, how):
    return g if how == "add" else ops.put_slices(g, np.zeros((), g.dtype), index, dim=dim, how="set")


@op(index, vjp=[_put_slices_vjp, lambda g, index, dim: ops.take_slices(g, index, dim=dim)], out=False,
    kernel=Kernel("indexing:put_slices", above=64, when=_puts), namespace="internal",
    samples=[sample(real(3, 4), real(2, 4), np.array([2, 0]), dim=0, how="set"),
             sample(real(3, 4), real(3, 3), np.array([2, 0, 2]), dim=1, how="add")])  # fmt: skip
def put_slices(input, source, index, *, dim, how):
    """A copy of the input with slices set (or added) where `take_slices` would take them from."""
    if how == "set" and not getattr(source, "ndim", 0):
        return fill_slices(input, source, index, dim)
    out = np.array(input, order="C")
    if how == "set":
        out[(*(FULL,) * dim, index)] = source
    else:
        add_slices(out, dim, index, source)
    return out


def fill_slices(input, value, index, dim):
    """A copy of the input with a number in the slices that ``index`` names."""
    if dim and dim == input.ndim - 1 and index.size >= FEW:  # one pass by a mask: elements far apart are slow to write
        filled = np.zeros(input.shape[dim], bool)
        filled[index] = True
        return np.where(filled, np.asarray(value).astype(input.dtype), input)
    out = np.array(input, order="C")
    out[(*(FULL,) * dim, index) if dim else index] = value
    return out


def add_slices(out, dim, rows, values):
    """Add slices of ``values`` to those of ``out`` that ``rows`` names; flat where many, which NumPy does faster."""
    place = (*(FULL,) * dim, rows)
    if rows.size <= FEW and len({row % out.shape[dim] for row in rows.reshape(-1).tolist()}) == rows.size:
        out[place] += values
        return
    if type(values) is not np.ndarray or values.size <= 256:
        np.add.at(out, place, values)
        return
    values = np.broadcast_to(values, (*out.shape[:dim], *rows.shape, *out.shape[dim + 1 :]))
    size, inner = out.shape[dim], prod(out.shape[dim + 1 :])
    check_bounds(rows, size)
    rows = np.where(rows < 0, rows + size, rows).reshape(-1)
    outer = np.arange(prod(out.shape[:dim]), dtype=np.int64)[:, None, None] * (size * inner)
    flat = outer + rows[:, None] * inner + np.arange(inner)
    np.add.at(out.reshape(-1), flat.reshape(-1), values.reshape(-1))


# ---------------------------------------------------------------------------------------------------- any arrays


def _sides(shape, spec, indices):
    """(index, size of its dimension) of each array of integers; None where masks are among them."""
    if any([a.dtype.kind == "b" for a in indices]):
        return None
    axes = [k for k, part in enumerate(spec) if part is not None]
    return [(a, shape[k]) for a, k in zip(indices, axes, strict=True)]


def _picks(input, *indices, spec):
    sides = _sides(input.shape, spec, indices)
    return sides is not None and indices[0].size >= SOME and all([within(a, -n, n) for a, n in sides])


def _covering(input, spec, indices):
    """The places in flat order that a mask of the input's own shape names; None for other indices."""
    mask = indices[0]
    if len(indices) > 1 or mask.dtype.kind != "b" or mask.shape != input.shape or not mask.ndim or spec != (ARRAY,):
        return None
    return np.flatnonzero(mask)


@op(
    index,
    vjp=[lambda g, input_shape, indices, spec: ops.picked_in_zeros(g, *indices, shape=input_shape, spec=spec)],
    kernel=Kernel("indexing:pick", when=_picks),
    out=False,
    samples=[sample(real(3, 4), integer(5, high=3), integer(5, high=4), spec=(ARRAY, ARRAY))],
    namespace="internal",
)
def pick(input, *indices, spec):
    """Indexing by arrays of integers or booleans, mixed with basic parts; a copy."""
    flat = _covering(input, spec, indices)
    return input[_located(spec, indices)] if flat is None else input.reshape(-1).take(flat)


@op(
    index,
    vjp=[lambda g, indices, spec: ops.pick(g, *indices, spec=spec)],
    kernel=Kernel("indexing:in_zeros", when=lambda g, *indices, shape, spec: (
        (sides := _sides(shape, spec, indices)) is not None and all([within(a, -n, n) for a, n in sides]))),
    out=False,
    namespace="internal",
    samples=[sample(real(5), integer(5, high=3), integer(5, high=4), shape=(3, 4), spec=(ARRAY, ARRAY))],
)  # fmt: skip
def picked_in_zeros(input, *indices, shape, spec):
    """The adjoint of `pick`: zeros of ``shape`` with the input added at an index; places named twice get the sum."""
    out = np.zeros(shape, input.dtype)
    flat = _covering(out, spec, indices)
    if flat is not None:
        out.reshape(-1)[flat] = input
    elif any(a.dtype.kind != "b" for a in indices):
        np.add.at(out, _located(spec, indices), input)
    else:
        out[_located(spec, indices)] = input
    return out


def _places(input, source, *indices, spec, how):
    return source.size >= (MANY if how == "set" else SOME) and _picks(input, *indices, spec=spec)


def _placed_vjp(g, indices, spec, how):
    return g if how == "add" else ops.place(g, np.zeros((), g.dtype), *indices, spec=spec, how="set")


@op(
    index,
    vjp=[_placed_vjp, lambda g, indices, spec: ops.pick(g, *indices, spec=spec)],
    kernel=Kernel("indexing:place", when=_places),
    out=False,
    namespace="internal",
    samples=[sample(real(3, 4), real(2), integer(2, high=3), np.array([1, 3]), spec=(ARRAY, ARRAY), how="add")],
)
def place(input, value, *indices, spec, how):
    """A copy of the input with ``value`` set (or added) where `pick` would read."""
    out = np.array(input, order="C")
    if how == "set":
        out[_located(spec, indices)] = value
    else:
        np.add.at(out, _located(spec, indices), value)
    return out


# ---------------------------------------------------------------------------------------------------- tensor[item]


def _picked(tensor, spec, arrays):
    """What arrays pick from a tensor."""
    axis = _axis(spec, arrays)
    return ops.pick(tensor, *arrays, spec=spec) if axis is None else ops.take_slices(tensor, arrays[0], dim=axis)


def written(tensor, value, spec, arrays, how):
    """A copy of a tensor with a value set or added where arrays say."""
    axis = _axis(spec, arrays)
    if axis is None:
        return ops.place(tensor, value, *arrays, spec=spec, how=how)
    return ops.put_slices(tensor, value, arrays[0], dim=axis, how=how)


def get_item(self, item):
    """``tensor[item]``: a view for ints, slices, None and ...; a copy for arrays of integers or booleans."""
    kind = type(item)
    if kind is int and not self.array.ndim:
        raise IndexError("invalid index of a 0-d tensor; use tensor.item() to get its number")
    if kind is int or kind is slice:
        return ops.slice_view(self, (item, ...))
    if kind is Tensor and item.array.dtype == np.int64 and item.array.ndim and self.array.ndim:
        return ops.take_slices(self, item, dim=0)
    basic, spec, arrays = parse(item, self.array.ndim)
    part = self if basic is None else ops.slice_view(self, basic)
    return _picked(part, spec, arrays) if arrays else part


def set_item(self, item, value):
    """``tensor[item] = value``, with PyTorch's history: the old values lose their gradient, ``value`` gets it."""
    basic, spec, arrays = parse(item, self.array.ndim)
    self._check_writable("setitem")
    steered = state.watch is not None and state.watch.steers
    if steered or (state.grad and (self.requires_grad or getattr(value, "requires_grad", False))):
        part = self if basic is None else ops.slice_view(self, basic)
        if arrays:
            part._become(written(part, value, spec, arrays, "set"), "setitem")
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
