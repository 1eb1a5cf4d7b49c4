"""The engine: walks the graph from the newest node to the oldest and sends each gradient to where it is needed.

Un-broadcasting, casting, adding up, hooks and freeing stand here, once, so that a gradient rule is one formula.
"""

from __future__ import annotations

import os
from heapq import heappop, heappush
from math import prod
from operator import attrgetter
from sys import getrefcount
from threading import RLock
from typing import Any
from weakref import ref

import numpy as np

from . import provenance, storage
from .errors import EXPLAINED, OpError, placing, shape_text
from .modes import QUIET, BackwardScope, enable_grad, no_grad, quiet_off, quiet_on, state
from .shapes import ndarray, reduced_dims
from .tensor import Node, Tensor, wrap

accumulating = RLock()
"""Threads that share leaves add to their ``grad`` one after the other; hooks may run a backward of their own."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=accumulating.acquire, after_in_parent=accumulating.release,
                        after_in_child=accumulating.release)  # fmt: skip


@placing
def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """Accumulate gradients of ``tensors`` into the ``grad`` of the leaves (or of ``inputs``). See `Tensor.backward`."""
    tensors = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
    if inputs is not None:
        inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        if not inputs:
            raise RuntimeError("backward: inputs must not be empty")
        _check_inputs("backward", inputs)
    roots = _roots(tensors, _listed(grad_tensors, len(tensors)), create_graph)
    _Pass(retain_graph, create_graph, inputs, accumulate=True).run(roots)


def backward_of_one(self, gradient=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """Accumulate d(self)/d(leaf), weighted with ``gradient``, into the ``grad`` of every leaf of the graph.

    ``gradient`` defaults to 1 for a tensor of one element. ``retain_graph`` (default: ``create_graph``) keeps what
    was saved for another pass; ``create_graph`` records the pass itself. ``inputs`` limits it to some tensors.
    """
    backward((self,), None if gradient is None else (gradient,), retain_graph, create_graph, inputs)


backward_of_one.__name__ = "backward"
Tensor.backward = backward_of_one


@placing
def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):  # fmt: skip
    """The gradients of ``outputs`` with respect to ``inputs``, as a tuple; ``grad`` attributes are left alone.

    ``grad_outputs`` weigh the outputs (1 for those of one element). An input that the outputs do not depend on is an
    error, or None with ``allow_unused``, or zeros with ``materialize_grads``. ``only_inputs`` is always true. As in
    PyTorch a gradient may be a view, expanded, or share memory with another or with ``grad_outputs``: clone() one that
    you want to change in place.
    """
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads=True needs allow_unused to be True or left out, got False")
    if is_grads_batched:
        return _batched_grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    _check_inputs("grad", inputs)
    roots = _roots(outputs, _listed(grad_outputs, len(outputs)), create_graph)
    found = _Pass(retain_graph, create_graph, inputs, accumulate=False).run(roots)
    if materialize_grads:
        return tuple([wrap(np.zeros_like(t.array)) if g is None else g for g, t in zip(found, inputs, strict=True)])
    if not allow_unused and any(g is None for g in found):
        unused = [i for i, g in enumerate(found) if g is None]
        raise RuntimeError(f"grad: inputs {unused} were not used in the graph of the outputs; "
                           "set allow_unused=True if that is intended")  # fmt: skip
    return tuple(found)


def _check_inputs(name, inputs):
    for number, tensor in enumerate(inputs):
        if not (tensor.tracks if tensor.base is None else tensor.requires_grad):
            raise RuntimeError(f"{name}: input {number} ({shape_text(tensor)}) does not require grad")


def _batched_grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize):
    from . import ops

    weights = _listed(grad_outputs, len(outputs))
    rows, keep = len(weights[0]), create_graph if retain_graph is None else retain_graph
    each = [grad(outputs, inputs, [w[i] for w in weights], keep or i < rows - 1, create_graph, allow_unused,
                 materialize_grads=materialize) for i in range(rows)]  # fmt: skip
    return tuple([None if column[0] is None else ops.stack(column) for column in zip(*each, strict=True)])


def _listed(values, count):
    if values is None:
        return (None,) * count
    values = (values,) if isinstance(values, Tensor) else tuple(values)
    if len(values) != count:
        raise RuntimeError(f"got {count} tensors and {len(values)} gradients")
    return values


def _roots(tensors, gradients, create_graph):
    roots = []
    for tensor, gradient in zip(tensors, gradients, strict=True):
        if not (tensor.tracks if tensor.base is None else tensor.requires_grad):
            raise RuntimeError(f"backward: {shape_text(tensor)} does not require grad and does not have a grad_fn")
        if gradient is None:
            if tensor.array.size != 1:
                raise RuntimeError(f"grad can be implicitly created only for scalar outputs, got {shape_text(tensor)}; "
                                   "pass the gradient to start from")  # fmt: skip
            gradient = np.empty(tensor.array.shape, tensor.array.dtype)
            gradient.fill(1)
            gradient = wrap(gradient) if create_graph else gradient
        else:
            if not isinstance(gradient, Tensor):
                raise TypeError(f"gradients must be Tensors or None, got {type(gradient).__name__}")
            if gradient.array.shape != tensor.array.shape:
                raise RuntimeError(
                    f"mismatch in shape: the gradient has {list(gradient.shape)}, the output {list(tensor.shape)}"
                )
            if gradient.array.dtype != tensor.array.dtype:
                gradient = gradient.to(tensor.array.dtype)
            gradient = gradient if create_graph else gradient.array
        roots.append((tensor.node if tensor.node is not None else tensor, tensor.index, gradient))
    return roots


_NUMBER = attrgetter("number")
_NOTHING = (None,)
_sum: Any = np.add.reduce


class _Pass:
    """One walk over the graph. Nodes are taken newest first, so all that a node waits for has passed before it."""

    __slots__ = ("accumulate", "captured", "create", "heap", "leads", "needed", "pending", "retain", "targets",
                 "wanted")  # fmt: skip

    def __init__(self, retain_graph, create_graph, wanted, accumulate):
        self.create = create_graph
        self.retain = create_graph if retain_graph is None else retain_graph
        self.wanted = wanted
        self.accumulate = accumulate
        self.pending: dict = {}  # node or leaf -> gradients of its outputs so far
        self.heap: list = []
        self.captured: dict = {}
        self.needed = None

    def run(self, roots):
        if self.wanted is not None:
            self._find_needed(roots)
        if state.watch is not None and not self.create:
            if not state.watch.steers:
                return state.watch.backward(self, roots)
            self.create = True  # rules get Tensors and pass the door, where the watcher sees them; nothing is recorded
            with no_grad():
                self._walk_tensors([(parent, index, wrap(g)) for parent, index, g in roots])
                return self._finish()
        if self.create:
            with enable_grad():
                self._walk_tensors(roots)
        else:
            token = quiet_on(QUIET)
            try:
                self._walk_arrays(roots)
            finally:
                quiet_off(token)
        return self._finish()

    def _find_needed(self, roots):
        """Mark the nodes that lead to the wanted tensors, unless these are all the leaves that there are."""
        wanted, seen = set(self.wanted), set()
        some = len(wanted) < len(self.wanted)
        for tensor in wanted:
            if tensor.node is not None:
                some = True
        stack = [root[0] for root in roots]
        while stack:
            node = stack.pop()
            if type(node) is not Node:
                some = some or node not in wanted
            elif node not in seen:
                seen.add(node)
                for parent, _ in node.edges:
                    stack.append(parent)
        if not some:
            return
        self.targets: dict[tuple, list[int]] = {}
        for position, tensor in enumerate(self.wanted):
            self.targets.setdefault((tensor.node or tensor, tensor.index), []).append(position)
        homes = {key[0] for key in self.targets}
        leads: set = set()
        for node in sorted(seen, key=_NUMBER):  # parents have smaller numbers than children
            for parent, _ in node.edges:
                if parent in homes or parent in leads:
                    leads.add(node)
                    break
        self.leads = leads
        self.needed = homes | self.leads

    def _deliver(self, parent, index, gradient):
        """Add ``gradient`` to what output ``index`` of ``parent`` has got so far."""
        if self.needed is not None and parent not in self.needed:
            return
        slots = self.pending.get(parent)
        if slots is None:
            if type(parent) is Node:
                heappush(self.heap, (-parent.number, parent))
                slots = self.pending[parent] = [None] * len(parent.meta)
                slots[index] = gradient
            else:
                self.pending[parent] = [gradient]
            return
        before, slots[index] = slots[index], None
        if before is None:
            slots[index] = gradient
        elif not self.create and before.base is None and getrefcount(before) == ALONE:
            before += gradient
            slots[index] = before
        else:
            slots[index] = before + gradient if self.create else np.asarray(before + gradient)  # 0-d sums are scalars

    def _walk_arrays(self, roots):
        """Ordinary backward: rules run on plain arrays."""
        deliver, pending, heap, needed, free = self._deliver, self.pending, self.heap, self.needed, not self.retain
        looked_at = needed is not None or type(self) is not _Pass
        for root in roots:
            deliver(*root)
        while heap:
            node = heappop(heap)[1]
            slots, saved, plan = pending.pop(node), node.saved, node.plan
            if (looked_at or saved is None or node.hooks is not None or node.retained is not None
                    or node.number < storage.latest) and not self._enter(node, slots):  # fmt: skip
                continue
            edges, static = node.edges, node.static
            g = slots[0] if len(slots) == 1 and node.op.outputs is None else tuple(slots)
            try:
                for slot, rule in plan.rules:
                    if slot is None:
                        self._send_all(node, rule(g, saved, static))
                        break
                    parent, index = edges[slot]
                    if needed is not None and parent not in needed:
                        continue
                    gradient = rule(g, saved, static)
                    if gradient is None:
                        continue
                    if type(parent) is Node:
                        meta = parent.meta
                        shape, dtype = meta[index]
                        if type(gradient) is not ndarray or gradient.shape != shape or gradient.dtype is not dtype:
                            gradient = _fit(gradient, shape, dtype, node)
                        if looked_at or parent in pending or len(meta) > 1:
                            deliver(parent, index, gradient)
                        else:  # the same, for the first gradient of the only output
                            pending[parent] = [gradient]
                            heappush(heap, (-parent.number, parent))
                    else:
                        shape, dtype = parent.array.shape, parent.array.dtype
                        if type(gradient) is not ndarray or gradient.shape != shape or gradient.dtype is not dtype:
                            gradient = _fit(gradient, shape, dtype, node)
                        if looked_at or parent in pending:
                            deliver(parent, index, gradient)
                        else:
                            pending[parent] = [gradient]
            except EXPLAINED as error:
                raise _explained(error, node, slots)  # noqa: B904 (its cause is set)
            if free and plan.holds:
                node.saved = None

    def _send_all(self, node, gradients):
        """Deliver what a joint rule returned for all inputs."""
        for (parent, index), position in zip(node.edges, node.plan.positions, strict=True):
            gradient = gradients[position] if position < len(gradients) else None
            if gradient is not None:
                shape, dtype = parent.meta[index] if type(parent) is Node else (parent.array.shape, parent.array.dtype)
                self._deliver(parent, index, _fit(gradient, shape, dtype, node))

    def _walk_tensors(self, roots):
        """Backward that is itself recorded or watched: the same rules run on Tensors and pass the door."""
        for root in roots:
            self._deliver(*root)
        before = state.scope
        try:
            while self.heap:
                node = heappop(self.heap)[1]
                slots = self.pending.pop(node)
                if not self._enter(node, slots):
                    continue
                state.scope = BackwardScope(node.scope or "")
                state.scope.forward = ref(node)
                self._rules_on_tensors(node, slots)
                if not self.retain and node.plan.holds:
                    node.saved = None
        finally:
            state.scope = before

    def _rules_on_tensors(self, node, slots):
        g = slots[0] if len(slots) == 1 and node.op.outputs is None else tuple(slots)
        saved, plan = _lifted(node), node.plan
        try:
            if plan.rules[0][0] is None:
                together = plan.rules[0][1](g, saved, node.static)
                found = [(slot, together[i]) for slot, i in enumerate(plan.positions) if i < len(together)]
            else:
                found = [(slot, rule(g, saved, node.static)) for slot, rule in plan.rules]
            if state.watch is not None:
                state.watch.differentiated(node, slots, found)
            for slot, gradient in found:
                if gradient is not None:
                    parent, index = node.edges[slot]
                    shape, dtype = (
                        parent.meta[index] if type(parent) is Node else (parent.array.shape, parent.array.dtype)
                    )
                    self._deliver(parent, index, _fit_tensor(gradient, shape, dtype, node))
        except EXPLAINED as error:
            raise _explained(error, node, slots)  # noqa: B904 (its cause is set)

    def _enter(self, node, slots):
        """Hooks, captures and checks before the rules of ``node`` run; False where they need not run."""
        if node.hooks is not None or node.retained is not None:
            self._visit_hooks(node, slots)
        if self.needed is not None:
            for index, gradient in enumerate(slots):
                for position in self.targets.get((node, index), ()):
                    self.captured[position] = gradient
            if node not in self.leads:
                return False
        if node.saved is None:
            raise RuntimeError(_FREED.format(node.where()))
        if node.number < storage.latest:
            _check_unchanged(node)
        return True

    def _visit_hooks(self, node, slots):
        for index, hooks in (node.hooks or {}).items():
            if slots[index] is not None:
                slots[index] = _run_hooks(hooks.values(), slots[index], self.create)
        for index, reference in node.retained or ():
            tensor = reference()
            if tensor is not None and slots[index] is not None:
                value = slots[index] if self.create else wrap(slots[index].copy())
                tensor._grad = value if tensor._grad is None else tensor._grad + value

    def _finish(self):
        """Hand the gradients of the leaves out: into ``grad``, or as the list that was asked for."""
        if self.accumulate:
            with accumulating:
                return self._hand_out()
        return self._hand_out()

    def _hand_out(self):
        plain = state.watch is None and not self.create
        for leaf, slots in self.pending.items():
            if leaf.leaf_hooks:
                slots[0] = _run_hooks(list(leaf.leaf_hooks.values()), slots[0], self.create)
            if self.needed is not None:
                for position in self.targets.get((leaf, 0), ()):
                    self.captured[position] = slots[0]
            if not self.accumulate:
                continue
            if plain and leaf._grad is None and leaf.after_hooks is None:
                leaf._grad = _owned(slots)
            else:
                self._accumulate(leaf, slots)
        if not self.accumulate:  # as they came: they may share memory with one another and with what backward was given
            if self.needed is None:
                found = [self.pending.get(leaf, _NOTHING)[0] for leaf in self.wanted]
            else:
                found = [self.captured.get(i) for i in range(len(self.wanted))]
            return [wrap(g) if type(g) is ndarray else g for g in found]
        if self.needed is not None:
            for position, tensor in enumerate(self.wanted):
                if tensor.node is not None and not tensor.kept and self.captured.get(position) is not None:
                    self._accumulate(tensor, [self.captured[position]])
        return None

    def _accumulate(self, leaf, slots):
        before = leaf._grad
        if state.watch is not None and state.watch.accumulate(leaf, slots[0]):
            return
        if before is None:
            tracked = isinstance(slots[0], Tensor) and not slots[0].tracks
            leaf._grad = wrap(slots[0].array.copy()) if tracked else _owned(slots)
        elif self.create:
            leaf._grad = before + slots[0]
        elif before.tracks:
            leaf._grad = wrap(before.array + slots[0])
        else:
            array = before.array
            np.add(array, slots[0], out=array)
            if getrefcount(array) > ALONE + 1:  # somebody holds it but ``before`` and this line: maybe a graph
                storage.log_write(array, provenance.site())
        if leaf.after_hooks:
            for hook in list(leaf.after_hooks.values()):
                hook(leaf)


def _count():
    array = np.empty(0)
    return getrefcount(array)


ALONE = _count()
"""What `getrefcount` says of an array that one local variable holds, and nobody else: it may be added into and kept."""


def _owned(slots):
    """The gradient in ``slots`` as a Tensor of its own memory: a copy where somebody else may hold that."""
    gradient = slots.pop() if slots else None
    if type(gradient) is not ndarray:
        return gradient
    if getrefcount(gradient) == ALONE:
        base = gradient.base
        if base is None or (type(base) is ndarray and getrefcount(base) == ALONE + 1 and base.size == gradient.size
                            and base.flags.owndata and gradient.flags.c_contiguous):  # fmt: skip
            return wrap(gradient)
    return wrap(gradient.copy())


def _explained(error, node, slots):
    from .explaining import of_a_rule

    return of_a_rule(error, node, slots)


_FREED = ("backward: the values that the graph saved have been freed by an earlier backward; pass retain_graph=True to "
          "the first one if you need to go through the graph twice\n  the first to miss them: {}")  # fmt: skip


def _run_hooks(hooks, gradient, create):
    """What becomes of ``gradient`` when each hook may replace it. Hooks get an array of their own, to write into."""
    value = gradient if create else wrap(gradient.copy())
    for hook in list(hooks):
        returned = hook(value)
        if returned is None:
            continue
        if not isinstance(returned, Tensor):
            raise TypeError(f"a hook must return a Tensor or None, got {type(returned).__name__}")
        if returned.array.shape != value.array.shape or returned.array.dtype != value.array.dtype:
            raise RuntimeError(f"a hook must return a gradient of the kind that it gets, {shape_text(value)}, "
                               f"got {shape_text(returned)}")  # fmt: skip
        value = returned
    return value if create else value.array


SMALL = 4096
"""Constant gradients of up to so many elements are written out: a view costs more than filling them."""


def _fit(gradient, shape, dtype, node):
    """Bring a rule's gradient to the shape and dtype of the input: sum what was broadcast, widen constants."""
    if type(gradient) is not ndarray:
        gradient = np.asarray(gradient)
    if gradient.shape != shape:
        dims = reduced_dims(gradient.shape, shape) if gradient.ndim >= len(shape) else ()
        if not dims:
            return _widen(gradient, shape, dtype, node)
        kept = not shape or len(dims) != gradient.ndim - len(shape)  # without, 0-d sums would be no arrays
        gradient = _sum(gradient, dims, None, None, kept)
        if gradient.shape != shape:
            gradient = gradient.reshape(shape)
    return gradient if gradient.dtype == dtype else gradient.astype(dtype)


def _widen(gradient, shape, dtype, node):
    try:
        if prod(shape) > SMALL:
            return np.broadcast_to(gradient.astype(dtype, copy=False), shape)
        wide = np.empty(shape, dtype)
        wide[...] = gradient
        return wide
    except ValueError:
        raise _wrong_shape(gradient, shape, node) from None


def _wrong_shape(gradient, shape, node):
    return OpError(
        f"the gradient rule of {node.where()} gave shape {list(gradient.shape)} for an input of {list(shape)}"
    )


def _fit_tensor(gradient, shape, dtype, node):
    """`_fit` on Tensors."""
    from . import ops

    if not isinstance(gradient, Tensor):
        gradient = wrap(np.asarray(gradient, dtype))
    found = gradient.array.shape
    if found != shape:
        dims = reduced_dims(found, shape) if len(found) >= len(shape) else ()
        if dims:
            gradient = ops.reshape(ops.sum(gradient, dims, True), shape)
        else:
            try:
                gradient = ops.expand(gradient, shape)
            except (ValueError, RuntimeError):
                raise _wrong_shape(gradient, shape, node) from None
    return gradient if gradient.array.dtype == dtype else ops.to(gradient, dtype)


def _lifted(node):
    """What ``node`` saved, as Tensors that know their history, so that the gradient can itself be differentiated."""
    edge_of = dict(zip(node.plan.positions, node.edges, strict=True))
    lifted: list = []
    for keep, value in zip(node.plan.keep, node.saved, strict=True):
        kind, first = keep[0], keep[1] if len(keep) > 1 else 0
        if kind in ("inputs", "outputs"):
            lifted.append(tuple([_lift(node, edge_of, kind, v, first + i) for i, v in enumerate(value)]))
        else:
            lifted.append(_lift(node, edge_of, kind, value, first))
    return lifted


def _lift(node, edge_of, kind, value, index):
    if not isinstance(value, (ndarray, np.generic)):
        return value
    out = wrap(np.asarray(value))
    if kind.startswith("input") and index in edge_of:
        parent, place = edge_of[index]
        if isinstance(parent, Tensor):
            return parent if parent.array is value else _as_it_was(parent, value)
        out.node, out.index, out.tracks = parent, place, True
    elif kind.startswith("output") and out.array.dtype.kind == "f":
        out.node, out.index, out.tracks = node, index, True
    return out


def _as_it_was(leaf, value):
    """A leaf whose array was cast for the operation, or replaced since: the values then, the edge to the leaf."""
    from . import ops

    out = ops.alias(leaf)
    out.array = value
    return out


def _check_unchanged(node):
    """Raise when a value that ``node`` saved was changed in place since."""
    for keep, value in zip(node.plan.keep, node.saved, strict=True):
        for array in value if isinstance(value, tuple) else (value,):
            if isinstance(array, ndarray):
                write = storage.write_since(array, node.number)
                if write is not None:
                    from .explaining import stale

                    raise stale(f"{keep[0]} {shape_text(array)}", node, write)
