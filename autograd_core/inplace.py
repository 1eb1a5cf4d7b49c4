"""Changing a tensor in place: whether it may be, the writing, and the history of the tensor and its base after it."""

from __future__ import annotations

import numpy as np

from . import provenance, storage
from .bodies import LARGE, run_into
from .errors import OpError, placed
from .modes import state
from .shapes import can_cast, dtype_of, ndarray
from .tensor import Node, Tensor, new_node, wrap


def check_writable(self, name):
    """Raise where a change in place would lose history: of a leaf that requires grad, or through a view without one."""
    if not state.grad:
        return
    root = self.base if self.base is not None else self
    if not (root.tracks or self._current().tracks):
        return
    if root.node is None and root.tracks:
        what = "a leaf tensor" if root is self else "a view of a leaf tensor"
        raise placed(OpError(f"{name}: {what} that requires grad is being changed in place; do it under ag.no_grad(), "
                             "or on a clone"), [self])  # fmt: skip
    if self.recipe is None:
        raise placed(OpError(f"{name}: the output of a Function that shares its input's memory is being changed in "
                             "place; clone() it first"), [self])  # fmt: skip
    if self.made_without_grad:
        raise placed(OpError(f"{name}: a view made under no_grad is being changed in place with grad enabled; make the "
                             "view with grad enabled"), [self])  # fmt: skip


def become(self, result, name="in-place operation") -> Tensor:
    """Write ``result`` into this tensor's memory and take over its history: in-place operations end here."""
    tracked = isinstance(result, Tensor) and result.tracks
    values = result.array if isinstance(result, Tensor) else np.asarray(result)
    if values.shape != self.array.shape:
        raise placed(OpError(f"{name}: the result has shape {list(values.shape)}, "
                             f"which does not fit in place of shape {list(self.array.shape)}"), [self])  # fmt: skip
    if values.dtype is not self.array.dtype and not can_cast(values.dtype, self.array.dtype):
        wrong = f"result type {dtype_of(values.dtype)} can't be cast to {self.dtype} in place"
        raise placed(OpError(f"{name}: {wrong}"), [self])
    if has_overlap(self.array):
        raise placed(OpError(f"{name}: several elements of the tensor share one memory location (an expanded tensor); "
                             "clone() it before changing it in place"), [self])  # fmt: skip
    if not self.array.flags.writeable:
        raise placed(OpError(f"{name}: the memory of the tensor is read-only (it belongs to an array that is, or to "
                             "another library); clone() it before changing it in place"), [self])  # fmt: skip
    if state.watch is not None:
        state.watch.write(self, result)
    if tracked and values.dtype != self.array.dtype:
        result = result.to(self.array.dtype)
    if values is not self.array:
        np.copyto(self.array, values, casting="unsafe")
    storage.log_write(self.array, provenance.site())
    if state.grad and (tracked or self.tracks or (self.base is not None and self.base.tracks)):
        take_history(self, result if tracked else None)
    return self


def take_history(self, result):
    """Let this tensor (and its base) be what ``result`` is in the graph; None: a value without history."""
    base = self.base
    kept = [t for t in (self, base) if t is not None and t.kept]
    for tensor in kept:
        tensor.node.retained = [entry for entry in tensor.node.retained if entry[1]() is not tensor]
        tensor.kept = False
    if result is None:
        self.node, self.index, self.tracks = None, 0, False
    else:
        self.node, self.index, self.tracks = result.node, result.index, True
    if base is None:
        self.edition += 1
    else:
        base.node, base.index, base.tracks = _joined(base, self), 0, True
        base.edition += 1
        self.edition = base.edition
    for tensor in kept:  # the gradient that is kept is that of the new value
        if tensor.node is not None:
            tensor.retain_grad()


def _joined(base, view):
    """The node of ``base`` after its part ``view`` was written: the values are there already."""
    from . import ops

    if state.watch is not None:
        parts = []
        for tensor in (base, view):
            parts.append(wrap(tensor.array))
            parts[-1].node, parts[-1].index, parts[-1].tracks = tensor.node, tensor.index, tensor.tracks
        return ops.scatter_view(*parts, recipe=view.recipe).node
    record = ops.scatter_view.record
    mask = base.tracks + 2 * view.tracks
    plan = record.plans.get((mask, 2)) or record.plan(mask, 2)
    saved = plan.save((base.array, view.array), (None,))
    return new_node(record, {"recipe": view.recipe}, plan, plan.edges((base, view)), saved,
                    ((base.array.shape, base.array.dtype),), provenance.site(), state.scope)  # fmt: skip


def has_overlap(array: ndarray) -> bool:
    """Whether elements of ``array`` share memory: an expanded tensor, or windows that overlap."""
    if array.flags.forc or not array.size:
        return False
    reach = 0  # how far the dimensions with smaller strides extend
    for stride, size in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def in_place(function, known):
    """The ``name_`` form of a function of a tensor: its result is written into the tensor, history included."""
    loops = getattr(getattr(function, "record", None), "scalar", None) is not None

    def method(self, *args, **kwargs):
        self._check_writable(known + "_")
        before, array = next(storage.clock), self.array
        large = loops and array.nbytes >= LARGE and array.flags.writeable and self.base is None
        tracked = state.grad and any([getattr(a, "tracks", False) for a in (self, *args, *kwargs.values())])
        if large and not tracked and state.watch is None:
            return self._become(run_into(array, function, self, *args, **kwargs), known + "_")
        return _overwrite(self, function(self, *args, **kwargs), known + "_", before)

    method.__name__ = method.__qualname__ = known + "_"
    method.__doc__ = f"In-place form of `{known}`: writes the result into this tensor and returns it."
    method.__module__ = "autograd_core"
    return method


def write_back(target, result, known):
    """What ``inplace=True`` asks of a function: its result written into its first argument, history included."""
    if not isinstance(target, Tensor):
        raise TypeError(f"{known}: inplace=True needs a Tensor, got {type(target).__name__}")
    target._check_writable(known)
    return _overwrite(target, result, known, result.node.number - 1 if result.tracks else 0)


def _overwrite(target, result, known, before):
    """``target`` becomes ``result``; nodes made since ``before`` get copies of what they saved of its old memory."""
    nodes, seen = [result.node] if isinstance(result, Tensor) and result.tracks else [], set()
    while nodes:
        node = nodes.pop()
        if type(node) is Node and node.number > before and node not in seen:
            seen.add(node)
            node.saved = tuple([_copied(v) if type(v) is ndarray and np.may_share_memory(v, target.array) else v
                                for v in node.saved])  # fmt: skip
            nodes += [parent for parent, _ in node.edges]
    return target._become(result, known)


def _copied(array):
    made = np.array(array)
    if state.watch is not None:
        state.watch.copied(array, made)
    return made


def write_out(out, result):
    """Write ``result`` into ``out`` (a Tensor or a tuple of them), whose type must hold it; returns ``out``."""
    if isinstance(out, (tuple, list)):
        for target, value in zip(out, result, strict=True):
            write_out(target, value)
        return out
    if not isinstance(out, Tensor):
        raise TypeError(f"out= must be a Tensor, got {type(out).__name__}")
    if state.grad and (out.requires_grad or (isinstance(result, Tensor) and result.requires_grad)):
        raise placed(RuntimeError("functions with out=... arguments don't support automatic differentiation, "
                                  "but one of the arguments requires grad"), [out, result])  # fmt: skip
    values = result.array if isinstance(result, Tensor) else np.asarray(result)
    if values.shape != out.array.shape:
        if out.base is not None and out.array.size:
            raise placed(RuntimeError(f"out= has shape {list(out.shape)}, the result {list(values.shape)}"), [out])
        out.array = np.empty(values.shape, out.array.dtype)
    out._become(wrap(values), "out=")
    return out


def clear_grad(tensor, set_to_none):
    """Forget the ``grad`` of a tensor, or fill it with zeros."""
    if state.watch is not None:
        state.watch.use_grad(tensor, set_to_none)
    if tensor._grad is not None:
        if set_to_none:
            tensor._grad = None
        else:
            tensor._grad = tensor._grad.detach()
            tensor._grad.zero_()


Tensor._check_writable, Tensor._become = check_writable, become
