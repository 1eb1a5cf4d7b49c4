"""Picking and placing elements: indexing, gather and scatter, masks.

An index is a tuple of basic parts (ints, slices, None, ...) with `ARRAY` where an array stands; the arrays themselves are
arguments of the operation, so that a recorder sees them as inputs. Two operations carry everything: `pick` and `place`.
"""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from .. import ops, provenance, storage
from ..registry import arithmetic, composite, index, op, write_out
from ..shapes import can_cast, dtype_of, normalize_dim
from ..tensor import EXPLAINED, Tensor, explain, state
from .samples import Values, boolean, distinct, integer, real, sample

ARRAY = "array"
FULL = slice(None)

# ---------------------------------------------------------------------------------------------------- what an index means


def _is_basic(items):
    return all([i is None or i is Ellipsis or type(i) in (int, slice) for i in items])


def parse(item):
    """An index as (spec, arrays): basic parts with `ARRAY` where the arrays (Tensors, NumPy's, masks) belong."""
    items = item if type(item) is tuple else (item,)
    if _is_basic(items):
        return items, ()
    spec, arrays = [], []
    for part in items:
        found = _part(part)
        if isinstance(found, (Tensor, np.ndarray)):
            arrays.append(found)
            found = ARRAY
        spec.append(found)
    return tuple(spec), tuple(arrays)


def _part(part):
    """One entry of an index: a basic part as it is, everything else as an array of integers or booleans."""
    if part is None or part is Ellipsis or type(part) is int:
        return part
    if isinstance(part, slice):
        return slice(*[v if v is None or type(v) is int else int(v) for v in (part.start, part.stop, part.step)])
    if isinstance(part, (bool, np.bool_)):
        return np.asarray(part)
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
        raise IndexError(
            f"tensors used as indices must be integers or booleans, got {array.dtype.name}{list(array.shape)}"
        )
    if array.ndim == 0 and array.dtype.kind != "b" and state.watch is None:
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
    return axis if all([part == FULL for k, part in enumerate(spec) if k != axis]) else None


# ---------------------------------------------------------------------------------------------------- the operations


def _always_a_view(arrays, settings):
    given = settings["index"]
    return settings if ... in given else {"index": (*given, ...)}  # with ... NumPy gives a 0-d view, not a number


@op(index, vjp=[lambda g, input_shape, index: ops.in_zeros(g, shape=input_shape, spec=index)], view=True, out=False,
    prepare=_always_a_view, samples=[sample(real(3, 4), index=(FULL, 1))], namespace="internal", onnx="Slice")  # fmt: skip
def slice_view(input, *, index):
    """Basic indexing: ints, slices, None and ... give a view."""
    return input[index]


@op(index, vjp=[lambda g, input_shape, indices, spec: ops.in_zeros(g, *indices, shape=input_shape, spec=spec)], out=False,
    samples=[sample(real(3, 4), integer(5, high=3), spec=(ARRAY,)), sample(real(3, 4), integer(2, high=4), spec=(FULL, ARRAY))],
    namespace="internal", onnx="Gather")  # fmt: skip
def pick(input, *indices, spec):
    """Indexing by arrays of integers or booleans, mixed with basic parts; a copy."""
    axis = _axis(spec, indices)
    return input[_located(spec, indices)] if axis is None else input.take(indices[0], axis)


@op(index, vjp=[lambda g, indices, spec: ops.pick(g, *indices, spec=spec)], out=False, namespace="internal",
    samples=[sample(real(3), shape=(3, 4), spec=(FULL, 1)), sample(real(5), integer(5, high=3), shape=(3,), spec=(ARRAY,))])  # fmt: skip
def in_zeros(input, *indices, shape, spec):
    """Zeros of ``shape`` with the input added at an index; places named twice get the sum."""
    out = np.zeros(shape, input.dtype)
    axis = _axis(spec, indices) if indices else None
    if axis is not None:
        _add_slices(out, axis, indices[0], input)
    elif any([a.dtype.kind != "b" for a in indices]):
        np.add.at(out, _located(spec, indices), input)
    else:
        out[_located(spec, indices)] = input
    return out


def _add_slices(out, axis, rows, values):
    """Add slices of ``values`` to the slices of ``out`` that ``rows`` names: flat, for which `numpy.add.at` is quick."""
    values = np.broadcast_to(values, (*out.shape[:axis], *rows.shape, *out.shape[axis + 1 :]))
    size, inner = out.shape[axis], prod(out.shape[axis + 1 :])
    _check_bounds(rows, size)
    rows = np.where(rows < 0, rows + size, rows).reshape(-1)
    outer = np.arange(prod(out.shape[:axis]), dtype=np.int64)[:, None, None] * (size * inner)
    flat = outer + rows[:, None] * inner + np.arange(inner)
    np.add.at(out.reshape(-1), flat.reshape(-1), values.reshape(-1))


def _check_bounds(rows, size, least=None):
    """Raise where an index does not name one of ``size`` places; ``least`` is 0 where negative ones are not allowed."""
    if rows.size and not ((-size if least is None else least) <= rows.min() and rows.max() < size):
        wrong = rows.max() if rows.max() >= size else rows.min()
        raise IndexError(f"index {wrong} is out of bounds for dimension with size {size}")


def _placed_vjp(g, indices, spec, accumulate):
    return g if accumulate else ops.place(g, np.zeros((), g.dtype), *indices, spec=spec, accumulate=False)


@op(index, vjp=[_placed_vjp, lambda g, indices, spec: ops.pick(g, *indices, spec=spec)], out=False, namespace="internal",
    samples=[sample(real(3, 4), real(4), spec=(1,), accumulate=False),
             sample(real(3, 4), real(2, 4), integer(2, high=3), spec=(ARRAY,), accumulate=True)])  # fmt: skip
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
    spec, arrays = parse(item)
    return ops.pick(self, *arrays, spec=spec) if arrays else ops.slice_view(self, spec)


def set_item(self, item, value):
    """``tensor[item] = value``, with PyTorch's history: the old values lose their gradient, ``value`` gets it."""
    spec, arrays = parse(item)
    self._check_writable("setitem")
    tracked = state.grad and (self.requires_grad or (isinstance(value, Tensor) and value.requires_grad))
    if tracked or state.watch is not None:
        if arrays:
            self._become(ops.place(self, value, *arrays, spec=spec, accumulate=False), "setitem")
        else:
            _write_part(ops.slice_view(self, spec), value)
        return
    located = _located(spec, [a.array if isinstance(a, Tensor) else a for a in arrays])
    try:
        self.array[located] = value.array if isinstance(value, Tensor) else value
    except EXPLAINED as error:
        raise explain(error, ops.place.record, (self, value, *arrays), {"spec": spec}) from None
    storage.log_write(
        self.array if arrays else self.array[(*spec, ...) if ... not in spec else spec], provenance.site()
    )


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


def _along(name, input, dim, rows):
    """(dim, spec) of picking whole slices of ``input`` along ``dim`` by the 1-d ``rows``."""
    dim = normalize_dim(dim, input.ndim)
    if rows.ndim > 1:
        raise IndexError(f"{name}: index must be 1-d, got shape {list(rows.shape)}")
    _check_integers(name, rows)
    _check_bounds(_values(rows), input.shape[dim] if input.ndim else 1, 0)
    return dim, (FULL,) * dim + (ARRAY,)


def _values(tensor):
    return tensor.array if isinstance(tensor, Tensor) else tensor


def _check_integers(name, rows):
    if _values(rows).dtype.kind not in "iu":
        raise RuntimeError(f"{name}: index must be integers, got {dtype_of(_values(rows).dtype)}")


def _flat_rows(rows):
    return ops.reshape(rows, (1,)) if rows.ndim == 0 else rows


SLICES = [sample(real(3, 4), 0, integer(5, high=3)), sample(real(3, 4), -1, integer(2, high=4))]


@op(composite, samples=SLICES)
def index_select(input, dim, index):
    """The slices along ``dim`` that the 1-d ``index`` names."""
    dim, spec = _along("index_select", input, dim, index)
    if not input.ndim:
        return ops.reshape(ops.pick(ops.reshape(input, (1,)), _flat_rows(index), spec=spec), ())
    return ops.pick(input, _flat_rows(index), spec=spec)


def _replace_slices(name, input, dim, index, source, accumulate):
    dim, spec = _along(name, input, dim, index)
    if isinstance(source, (Tensor, np.ndarray)) and source.ndim:
        _check_source(name, input, dim, index, source)
    if input.ndim:
        return ops.place(input, source, _flat_rows(index), spec=spec, accumulate=accumulate)
    return ops.reshape(
        ops.place(ops.reshape(input, (1,)), source, _flat_rows(index), spec=spec, accumulate=accumulate), ()
    )


def _check_source(name, input, dim, index, source):
    want = list(input.shape)
    if want:
        want[dim] = prod(index.shape)
    if _values(source).dtype != _values(input).dtype:
        raise RuntimeError(f"{name}: source has type {source.dtype}, the input {input.dtype}")
    if list(source.shape) != (want or [1]) and not (source.ndim == 0 and prod(want) == 1):
        raise RuntimeError(f"{name}: source must have shape {want or [1]}, got {list(source.shape)}")


PLACED = [sample(real(3, 4), 0, integer(2, high=3), real(2, 4)), sample(real(3, 4), 1, integer(1, high=4), real(3, 1))]
UNIQUE = [sample(real(3, 4), 0, np.array([2, 0]), real(2, 4)), sample(real(3, 4), 1, np.array([1]), real(3, 1))]


@op(composite, samples=PLACED, inplace=True)
def index_add(input, dim, index, source, *, alpha=1):
    """A copy of the input with ``alpha`` times the slices of ``source`` added to those that ``index`` names."""
    return _replace_slices("index_add", input, dim, index, source if alpha == 1 else source * alpha, True)


@op(composite, samples=UNIQUE, inplace=True)
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
    dim, spec = _along("index_fill", input, dim, index)
    mask = np.zeros(tuple(input.shape) or (1,), bool)
    mask = ops.reshape(ops.place(mask, True, _flat_rows(index), spec=spec, accumulate=False), tuple(input.shape))
    return ops.masked_fill(input, mask, value)


@op(composite, samples=[sample(real(3, 4), (np.array([0, 2]), np.array([1, 1])), real(2))], inplace=True)
def index_put(input, indices, values, accumulate=False):
    """A copy of the input with ``values`` written (or added) at ``input[indices]``."""
    spec, arrays = parse(tuple(FULL if i is None else i for i in indices))
    if _values(values).dtype != _values(input).dtype:
        raise RuntimeError(f"index_put: values have type {values.dtype}, the input {input.dtype}")
    return ops.place(input, values, *arrays, spec=spec, accumulate=accumulate)


@op(composite, samples=[sample(real(3, 4), integer(2, 2, high=12))])
def take(input, index):
    """Elements by their number in flat order, in the shape of ``index``; negative numbers count from the end."""
    _check_integers("take", index)
    return ops.pick(ops.reshape(input, (prod(input.shape),)), index, spec=(ARRAY,))


@op(composite, samples=[sample(real(3, 4), np.array([5, -1]), real(2)), sample(real(3, 4), np.array([5, 5]), real(2), True)],
    inplace=True)  # fmt: skip
def put(input, index, source, accumulate=False):
    """A copy of the input with ``source`` written (or added) at the places that ``index`` numbers in flat order."""
    _check_integers("put", index)
    if _values(source).dtype != _values(input).dtype:
        raise RuntimeError(f"put: source has type {source.dtype}, the input {input.dtype}")
    if prod(source.shape) != prod(index.shape):
        raise RuntimeError(
            f"put: source must have as many elements as index, got {list(source.shape)} and {list(index.shape)}"
        )
    _check_bounds(_values(index), prod(input.shape))
    flat = ops.place(ops.reshape(input, (prod(input.shape),)), ops.reshape(source, tuple(index.shape)), index, spec=(ARRAY,),
                     accumulate=accumulate)  # fmt: skip
    return ops.reshape(flat, tuple(input.shape))


def _checked_part(name, part, src):
    if tuple(part.shape) != tuple(src.shape):
        raise RuntimeError(f"{name}: expected src of shape {list(part.shape)}, got {list(src.shape)}")


@op(composite, samples=[sample(real(3, 4), real(3), 1, -1)])
def select_scatter(input, src, dim, index):
    """A copy of the input with the slice at ``index`` of ``dim`` replaced by ``src``."""
    _checked_part("select_scatter", ops.select(input, dim, index), src)
    return ops.place(input, src, spec=(FULL,) * normalize_dim(dim, input.ndim) + (int(index),), accumulate=False)


@op(composite, samples=[sample(real(3, 4), real(3, 2), 1, 1, 3), sample(real(5, 2), real(2, 2), 0, None, 4, 2)])
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """A copy of the input with the slice ``start:end:step`` of ``dim`` replaced by ``src``."""
    place = (FULL,) * normalize_dim(dim, input.ndim) + (slice(start, end, step),)
    _checked_part("slice_scatter", ops.slice_view(input, place), src)
    return ops.place(input, src, spec=place, accumulate=False)


# ---------------------------------------------------------------------------------------------------- gather and scatter


def _gather_setting(name, arrays, settings, within_dim=True):
    """Check that ``index`` names elements of the input: as many dimensions, no larger sizes but along ``dim``."""
    input, rows = arrays[0], arrays[1]
    dim = normalize_dim(settings["dim"], input.ndim)
    _check_integers(name, rows)
    if not rows.size:
        return {**settings, "dim": dim}
    own, shape = input.shape or (1,), rows.shape or (1,)
    if "shape" in settings:
        own = settings["shape"] or (1,)
    if len(own) != len(shape):
        raise RuntimeError(f"{name}: index must have as many dimensions as the input, got {len(shape)} and {len(own)}")
    if any(n > own[d] for d, n in enumerate(shape) if d != dim):
        raise RuntimeError(
            f"{name}: index of shape {list(shape)} does not fit the input of {list(own)} apart from dimension {dim}"
        )
    _check_bounds(rows, own[dim], 0)
    return {**settings, "dim": dim}


def _flat_places(rows, dim, shape):
    """The numbers, in flat order, of the elements of an array of ``shape`` that ``rows`` names along ``dim``."""
    total, stride = 0, 1
    for d in reversed(range(len(shape))):
        part = rows if d == dim else np.arange(rows.shape[d]).reshape((-1,) + (1,) * (rows.ndim - 1 - d))
        total = total + part * stride
        stride *= shape[d]
    return np.asarray(total, np.int64)


def _gathered(input, rows, dim):
    if not rows.size:
        return np.empty(rows.shape, input.dtype)
    places = _flat_places(rows if rows.ndim else rows.reshape(1), dim, input.shape or (1,))
    return input.reshape(-1).take(places).reshape(rows.shape)


@op(index, signature="input, dim, index, *, sparse_grad=False", prepare=partial(_gather_setting, "gather"),
    vjp=[lambda g, index, input_shape, dim: ops.scatter_in_zeros(g, index, shape=input_shape, dim=dim)],
    samples=[sample(real(3, 4), 0, integer(2, 4, high=3)), sample(real(3, 4), -1, integer(3, 5, high=4))],
    onnx="GatherElements")  # fmt: skip
def gather(input, index, *, dim, sparse_grad=False):
    """out[i, j] = input[index[i, j], j] for ``dim=0``, input[i, index[i, j]] for ``dim=1``, and so on."""
    return _gathered(input, index, dim)


@op(index, vjp=[lambda g, index, dim: ops.gather(g, dim, index)], namespace="internal", out=False,
    prepare=partial(_gather_setting, "scatter"), samples=[sample(real(2, 4), integer(2, 4, high=3), shape=(3, 4), dim=0)])  # fmt: skip
def scatter_in_zeros(input, index, *, shape, dim):
    """Zeros of ``shape`` with the input added where `gather` would take it from."""
    out = np.zeros(shape, input.dtype)
    _scatter_into(out, index, input, dim, np.add)
    return out


def _scatter_into(out, rows, values, dim, ufunc=None):
    """Write (or combine by ``ufunc``) values into the places of ``out`` that ``rows`` names along ``dim``."""
    if not rows.size:
        return
    places = _flat_places(rows if rows.ndim else rows.reshape(1), dim, out.shape or (1,)).reshape(-1)
    values = np.broadcast_to(values, rows.shape).reshape(-1)
    if ufunc is None:
        out.reshape(-1)[places] = values
    else:
        ufunc.at(out.reshape(-1), places, values)


def _scatter_setting(arrays, settings):
    settings = _gather_setting("scatter", arrays, settings)
    if isinstance(arrays[2], np.ndarray) and arrays[2].dtype != arrays[0].dtype and arrays[2].ndim:
        raise RuntimeError(f"src has type {arrays[2].dtype}, the input {arrays[0].dtype}")
    return settings


SCATTERED = [sample(real(3, 4), integer(2, 4, high=3), real(2, 4), dim=0)]


@op(index, vjp=[lambda g, index, dim: ops.scatter_set(g, index, np.zeros((), g.dtype), dim=dim),
                None, lambda g, index, dim: ops.gather(g, dim, index)],
    prepare=_scatter_setting, namespace="internal", samples=[sample(real(3, 4), np.array([[2, 0, 1, 1]]), real(1, 4), dim=0)],
    out=False, onnx="ScatterElements")  # fmt: skip
def scatter_set(input, index, src, *, dim):
    """A copy of the input with ``src`` written where `gather` would read."""
    out = np.array(input, order="C")
    _scatter_into(out, index, src, dim)
    return out


@op(index, vjp=[lambda g: g, None, lambda g, index, dim: ops.gather(g, dim, index)], prepare=_scatter_setting,
    namespace="internal", samples=SCATTERED, out=False)  # fmt: skip
def scatter_sum(input, index, src, *, dim):
    """A copy of the input with ``src`` added where `gather` would read."""
    out = np.array(input, order="C")
    _scatter_into(out, index, src, dim, np.logical_or if out.dtype == bool else np.add)
    return out


def _scatter_prod_vjp(g, input, index, src, out, dim):
    """Products without one factor: out / factor, but for a factor that is the only zero of its product."""
    safe = ops.where(input == 0, 1, input)
    to_input = g * ops.scatter_prod(safe, index, src, dim=dim) / safe
    is_zero = src == 0
    zeros = ops.gather(
        ops.scatter_sum(np.zeros(input.shape, np.int64), index, ops.to(is_zero, np.int64), dim=dim), dim, index
    )
    alone = ops.logical_and(is_zero, zeros == 1)
    without = ops.scatter_prod(input, index, ops.where(alone, 1, src), dim=dim)
    others = ops.gather(g * out, dim, index) / ops.where(is_zero, 1, src)
    return to_input, None, ops.where(alone, ops.gather(g * without, dim, index), others)


@op(index, vjp=_scatter_prod_vjp, prepare=_scatter_setting, namespace="internal", samples=SCATTERED, out=False)
def scatter_prod(input, index, src, *, dim):
    """A copy of the input multiplied by ``src`` where `gather` would read."""
    out = np.array(input, order="C")
    _scatter_into(out, index, src, dim, np.multiply)
    return out


def _scatter_extreme_vjp(g, input, index, src, out, dim):
    """The gradient in equal parts to all that reach the extreme."""
    mine, theirs = ops.to(input == out, g.dtype), ops.to(src == ops.gather(out, dim, index), g.dtype)
    share = g / ops.scatter_sum(mine, index, theirs, dim=dim)
    return mine * share, None, theirs * ops.gather(share, dim, index)


def _extreme(name, ufunc, words):
    def body(input, index, src, *, dim):
        out = np.array(input, order="C")
        _scatter_into(out, index, src, dim, ufunc)
        return out

    body.__name__ = name
    body.__doc__ = f"A copy of the input with the {words} of itself and ``src`` where `gather` would read."
    record = op(index, vjp=_scatter_extreme_vjp, prepare=_scatter_setting, namespace="internal", out=False,
                samples=[sample(distinct(3, 4), integer(2, 4, high=3), distinct(2, 4, low=3, high=4), dim=0)])  # fmt: skip
    return record(body)


scatter_max, scatter_min = _extreme("scatter_max", np.maximum, "larger"), _extreme("scatter_min", np.minimum, "smaller")


def _cut(src, index):
    """The part of ``src`` that lies under ``index``."""
    if tuple(src.shape) == tuple(index.shape) or not prod(index.shape):
        return src
    if src.ndim != index.ndim or any(n > have for n, have in zip(index.shape, src.shape, strict=True)):
        raise RuntimeError(f"scatter: index of shape {list(index.shape)} does not fit src of {list(src.shape)}")
    return ops.slice_view(src, tuple([slice(n) for n in index.shape]))


SCATTERS = {"add": "scatter_sum", "sum": "scatter_sum", "multiply": "scatter_prod", "prod": "scatter_prod"}


@op(composite, samples=[sample(real(3, 4), 0, np.array([[2, 0, 1, 1]]), real(1, 4)), sample(real(3, 4), 1, np.array([[0], [3]]), 2.5)],
    inplace=True)  # fmt: skip
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """A copy of the input with ``src`` (a tensor, or the number ``value``) written where `gather` would read.

    ``reduce="add"`` or ``"multiply"`` combines with what is there.
    """
    if value is None and src is None:
        raise TypeError("scatter: needs src or value")
    src = value if src is None else src
    if isinstance(src, (Tensor, np.ndarray)):
        src = _cut(src, index)
    elif not can_cast(np.asarray(src).dtype, _values(input).dtype):
        raise RuntimeError(f"scatter: value {src!r} cannot be converted to type {input.dtype}")
    if reduce is None:
        return ops.scatter_set(input, index, src, dim=dim)
    if reduce not in SCATTERS:
        raise RuntimeError(f"scatter: reduce must be 'add' or 'multiply', got {reduce!r}")
    if not isinstance(src, (Tensor, np.ndarray)):
        src = ops.full_like(index, src, dtype=input.dtype)
    return getattr(ops, SCATTERS[reduce])(input, index, src, dim=dim)


@op(composite, samples=[sample(real(3, 4), 0, integer(2, 4, high=3), real(2, 4))], inplace=True)
def scatter_add(input, dim, index, src):
    """A copy of the input with ``src`` added where `gather` would read."""
    return ops.scatter_sum(input, index, _cut(src, index), dim=dim)


REDUCES = {
    "sum": "scatter_sum",
    "mean": "scatter_sum",
    "prod": "scatter_prod",
    "amax": "scatter_max",
    "amin": "scatter_min",
}
TO_REDUCE = [sample(real(3, 4), 0, integer(2, 4, high=3), real(2, 4, low=3, high=4), reduce=r) for r in REDUCES]


def _neutral(reduce, dtype):
    """What leaves the result of a reduction as it is."""
    if reduce in ("amax", "amin"):
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind in "iu" else None
        lowest, highest = (
            (-np.inf, np.inf) if dtype.kind == "f" else (limits.min, limits.max) if limits else (False, True)
        )
        return lowest if reduce == "amax" else highest
    return 1 if reduce == "prod" else 0


@op(composite, samples=TO_REDUCE, inplace=True)
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """A copy of the input in which each place named by ``index`` holds the sum, prod, mean, amax or amin of ``src`` there.

    The old value counts as one of them with ``include_self``. Gradients of equal extremes share.
    """
    if reduce not in REDUCES:
        raise RuntimeError(f"scatter_reduce: reduce must be one of {list(REDUCES)}, got {reduce!r}")
    src = _cut(src, index)
    start = input
    if not include_self:
        start = ops.scatter_set(input, index, _neutral(reduce, _values(input).dtype), dim=dim)
    found = getattr(ops, REDUCES[reduce])(start, index, src, dim=dim)
    if reduce != "mean":
        return found
    ones = np.ones(tuple(index.shape), _values(input).dtype)
    own = np.ones(tuple(input.shape), ones.dtype)
    count = ops.scatter_sum(own if include_self else ops.scatter_set(own, index, 0, dim=dim), index, ones, dim=dim)
    count = ops.where(count == 0, 1, count)
    return found / count if ones.dtype.kind == "f" else ops.floor_divide(found, count)


@op(
    composite,
    samples=[sample(real(3, 4), 0, integer(2, high=3), real(2, 4), r) for r in ("prod", "mean", "amax")],
    inplace=True,
)
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """As `scatter_reduce` with whole slices: the 1-d ``index`` names a slice of the input for each slice of ``source``."""
    if reduce not in REDUCES or reduce == "sum":
        raise RuntimeError(f"index_reduce: reduce must be one of prod, mean, amax, amin, got {reduce!r}")
    dim = _along("index_reduce", input, dim, index)[0]
    _check_source("index_reduce", input, dim, index, source)
    if source.ndim > 1:
        index = ops.expand(ops.reshape(index, (-1,) + (1,) * (source.ndim - 1 - dim)), tuple(source.shape))
    return scatter_reduce(input, dim, index, ops.reshape(source, tuple(index.shape)), reduce, include_self=include_self)


@op(composite, samples=[sample(real(3, 4), integer(3, 1, high=4), 1), sample(real(3, 4), integer(5, high=12))])
def take_along_dim(input, indices, dim=None, *, out=None):
    """As `gather`, with input and indices broadcast against each other; in flat order without ``dim``."""
    _check_integers("take_along_dim", indices)
    if dim is None:
        return ops.gather(
            ops.reshape(input, (prod(input.shape),)), 0, ops.reshape(indices, (prod(indices.shape),)), out=out
        )
    if input.ndim != indices.ndim:
        raise RuntimeError(
            f"take_along_dim: input and indices must have the same number of dimensions, got {input.ndim} and {indices.ndim}"
        )
    dim = normalize_dim(dim, input.ndim)
    common = list(np.broadcast_shapes(tuple(1 if d == dim else n for d, n in enumerate(input.shape)),
                                      tuple(1 if d == dim else n for d, n in enumerate(indices.shape))))  # fmt: skip
    shapes = [tuple([*common[:dim], t.shape[dim], *common[dim + 1 :]]) for t in (input, indices)]
    indices = ops.where(indices < 0, indices + input.shape[dim], indices)
    return ops.gather(ops.expand(input, shapes[0]), dim, ops.expand(indices, shapes[1]), out=out)


# ---------------------------------------------------------------------------------------------------- masks


def _check_mask(name, mask):
    kind = mask.dtype
    if kind != np.bool_:
        raise RuntimeError(f"{name}: mask must be booleans, got {kind}")


def _fill_setting(arrays, settings):
    input, mask, value = arrays
    _check_mask("masked_fill", mask)
    if np.ndim(value):
        raise RuntimeError(f"value must be a number or a 0-d tensor, got shape {list(value.shape)}")
    if not can_cast(np.asarray(value).dtype, input.dtype):
        raise RuntimeError(f"value {value} cannot be converted to type {input.dtype}")
    return settings


@op(arithmetic, vjp=[lambda g, mask: ops.masked_fill(g, mask, 0), None, lambda g, mask: ops.where(mask, g, 0)], promote=False,
    prepare=_fill_setting, scalar="value if mask else input",
    samples=[sample(real(3, 4), boolean(3, 4), 1.5), sample(real(3, 4), boolean(4), real())])  # fmt: skip
def masked_fill(input, mask, value):
    """The input with ``value`` (a number or a 0-d tensor) where ``mask`` holds."""
    return np.where(mask, np.asarray(value).astype(input.dtype), input)


@op(composite, samples=[sample(real(3, 4), boolean(3, 4)), sample(real(3, 1), boolean(4))])
def masked_select(input, mask, *, out=None):
    """The elements of the input where ``mask`` holds, as a 1-d tensor; both are broadcast against each other."""
    _check_mask("masked_select", mask)
    input, mask = ops.broadcast_tensors(input, mask)
    found = ops.pick(ops.reshape(input, (1,)) if not input.ndim else input, ops.reshape(mask, (1,)) if not input.ndim else mask,
                     spec=(ARRAY,))  # fmt: skip
    return found if out is None else write_out(out, found)


@op(index, vjp=[lambda g, mask: ops.masked_fill(g, mask, 0), None,
                lambda g, mask, source_shape: ops.masked_take(g, mask, shape=source_shape)], inplace=True, out=False,
    samples=[sample(real(3, 4), boolean(3, 4), real(12)), sample(real(3, 4), boolean(4), real(4, 3))])  # fmt: skip
def masked_scatter(input, mask, source):
    """The input with elements of ``source``, in order, where ``mask`` holds."""
    _check_mask("masked_scatter", mask)
    if source.dtype != input.dtype:
        raise RuntimeError(f"source has type {source.dtype}, the input {input.dtype}")
    shape = np.broadcast_shapes(input.shape, mask.shape)
    out, mask = np.array(np.broadcast_to(input, shape)), np.broadcast_to(mask, shape)
    count = int(np.count_nonzero(mask))
    if count > source.size:
        raise RuntimeError(f"source must have at least {count} elements, one for each True in mask, got {source.size}")
    out[mask] = source.reshape(-1)[:count]
    return out


@op(index, vjp=[lambda g, mask, input_shape: ops.masked_scatter(np.zeros(input_shape, g.dtype), mask, g)], namespace="internal",
    samples=[sample(real(3, 4), boolean(3, 4), shape=(12,))], out=False)  # fmt: skip
def masked_take(input, mask, *, shape):
    """The elements where ``mask`` holds, in order, followed by zeros: the gradient of the source of `masked_scatter`."""
    found = np.zeros(prod(shape), input.dtype)
    picked = input[np.broadcast_to(mask, input.shape)]
    found[: picked.size] = picked
    return found.reshape(shape)


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
