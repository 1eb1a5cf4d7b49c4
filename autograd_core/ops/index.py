"""Picking, placing and ordering elements: indexing, gather and scatter, sort and search."""

from __future__ import annotations

import numpy as np

from .. import ops, storage
from ..registry import index, op
from ..tensor import Tensor, state
from .samples import real, sample


def _without_tensors(item):
    """An index with NumPy arrays in place of Tensors; lists become arrays, as in PyTorch."""
    if isinstance(item, Tensor):
        return item.array
    if isinstance(item, tuple):
        return tuple([_without_tensors(i) for i in item])
    if isinstance(item, list):
        return np.asarray([_without_tensors(i) for i in item]) if item else np.zeros(0, np.int64)
    return item


def _is_basic(item):
    items = item if isinstance(item, tuple) else (item,)
    return all([i is None or i is Ellipsis or (isinstance(i, (int, slice, np.integer)) and not isinstance(i, bool)) for i in items])


@op(index, vjp=[lambda g, input_shape, index: ops.put_into_zeros(g, index=index, shape=input_shape)], view=True,
    samples=[sample(real(3, 4), index=(slice(None), 1))], namespace="internal")  # fmt: skip
def slice_view(input, *, index):
    """Basic indexing: ints, slices, None and ... give a view."""
    return input[index]


@op(index, vjp=[lambda g, index: ops.pick(g, index=index)], samples=[sample(real(3), index=(slice(None), 1), shape=(3, 4))],
    namespace="internal")  # fmt: skip
def put_into_zeros(input, *, index, shape):
    """Zeros of ``shape`` with ``input`` added at ``index``; places named twice get the sum."""
    out = np.zeros(shape, input.dtype)
    if _is_basic(index):
        out[index] = input
    else:
        np.add.at(out, index, input)
    return out


@op(index, vjp=[lambda g, input_shape, index: ops.put_into_zeros(g, index=index, shape=input_shape)],
    samples=[sample(real(3, 4), index=np.array([0, 2, 2]))], namespace="internal")  # fmt: skip
def pick(input, *, index):
    """Indexing by integer or boolean arrays (and anything else that NumPy takes)."""
    return input[index]


def get_item(self, item):
    """``tensor[item]``: a view for ints, slices, None and ...; a copy for integer or boolean tensors."""
    if type(item) in (int, slice) or _is_basic(item):
        return ops.slice_view(self, index=item)
    return ops.pick(self, index=_without_tensors(item))


def set_item(self, item, value):
    """``tensor[item] = value``, with PyTorch's history: the old values lose their gradient, ``value`` gets it."""
    item = _without_tensors(item)
    self._check_writable("setitem")
    if not state.grad or not (self.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        values = value.array if isinstance(value, Tensor) else value
        self.array[item] = values
        storage.log_write(self.array[item] if _is_basic(item) and isinstance(self.array[item], np.ndarray) else self.array)
        return
    self._become(ops.put_at(self, value, index=item), "setitem")


@op(index, vjp=[lambda g, index, value_shape: ops.put_at(g, np.zeros((), g.dtype), index=index),
                lambda g, index, value_shape: ops.shape.unbroadcast(ops.pick(g, index=index), value_shape)],
    namespace="internal", samples=[sample(real(3, 4), real(4), index=1)])  # fmt: skip
def put_at(input, value, *, index):
    """A copy of ``input`` with ``value`` at ``index``."""
    out = input.copy()
    out[index] = value
    return out


Tensor.__getitem__ = get_item
