"""The user's own operations (`Function`), and recomputing instead of keeping (`checkpoint`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from weakref import ref

import numpy as np

from . import generator, provenance, storage
from .backward import grad as grad_of
from .errors import OpError, placed, shape_text
from .inplace import take_history
from .modes import enable_grad, no_grad, state
from .registry import VjpPlan, network
from .tensor import Tensor, link_opaque, new_node, wrap


class Context:
    """What `Function.forward` hands to `Function.backward`: ``ctx`` in PyTorch's words."""

    def __init__(self):
        self.needs_input_grad: tuple[bool, ...] = ()
        self.materialize = True
        self._saved: list[tuple] = []
        self._to_save: tuple[Tensor | None, ...] = ()
        self._dirty = ()
        self._constant = ()
        self._node: Any = None  # a weak reference to the node, where one was made

    def save_for_backward(self, *tensors) -> None:
        """Keep tensors for backward: inputs and outputs stay connected, so that second derivatives work."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor) and tensor is not None:
                raise TypeError(f"save_for_backward takes Tensors and None, got {type(tensor).__name__}; "
                                "keep other values as attributes of ctx")  # fmt: skip
        self._to_save = tensors

    def mark_non_differentiable(self, *outputs) -> None:
        """Declare outputs that never carry a gradient."""
        self._constant = outputs

    def mark_dirty(self, *inputs) -> None:
        """Declare inputs that forward changed in place."""
        self._dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (default) or None for outputs without a gradient."""
        self.materialize = value

    @property
    def saved_tensors(self) -> tuple:
        """The tensors that forward saved."""
        if self._saved is None:
            raise placed(RuntimeError("the saved tensors have been freed by an earlier backward; pass "
                                      "retain_graph=True to it"))  # fmt: skip
        out = []
        for kind, value, edge, number in self._saved:
            if kind == "output":
                tensor = wrap(value)
                tensor.node, tensor.index, tensor.tracks = self._node(), edge, value.dtype.kind == "f"
                value = tensor
            if isinstance(value, Tensor):
                _check_unwritten(value.array, number, "a tensor saved for backward")
            out.append(value)
        return tuple(out)

    def _keep(self, outputs):
        """Turn what forward saved into entries that hold no cycle: an output is kept as its array and index."""
        entries: list[tuple] = []
        for tensor in self._to_save:
            position = next((i for i, out in enumerate(outputs) if out is tensor), None)
            number = self._node().number if self._node is not None else 0
            if tensor is None or position is None:
                entries.append(("other", tensor, None, number))
            else:
                entries.append(("output", tensor.array, position, number))
        self._saved = entries
        self._to_save = ()


def _check_unwritten(array, number, what):
    """Raise where ``array`` was written after ``number`` on the clock."""
    write = storage.write_since(array, number) if number < storage.latest else None
    if write is not None:
        raise placed(OpError(f"{what}, {shape_text(array)}, has been modified by an in-place operation at "
                             f"{provenance.describe(write.site) or 'an unknown place'}"))  # fmt: skip


class Function:
    """An operation of the user's: subclass it with static methods ``forward`` and ``backward``, call ``apply``.

        class Cube(ag.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x ** 3

            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return 3 * x ** 2 * grad

    ``forward(ctx, *args)``, or ``forward(*args)`` with ``setup_context(ctx, inputs, output)``. ``backward`` returns a
    gradient (or None) for each argument of forward; written with differentiable operations, it can be differentiated
    again.
    """

    @staticmethod
    def forward(*args, **kwargs):
        """Work out the result; defined by the subclass."""
        raise NotImplementedError("a Function must define a static method forward")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Save what backward needs, where ``forward`` has no ``ctx``."""
        raise NotImplementedError("setup_context is not defined")

    @staticmethod
    def backward(ctx, *grads):
        """Turn gradients of the outputs into gradients of the inputs; defined by the subclass."""
        raise NotImplementedError("a Function must define a static method backward to be differentiated")

    vjp = backward

    @classmethod
    def apply(cls, *args, **kwargs):
        """Run forward on ``args`` and record it."""
        if state.watch is not None:
            return state.watch.call_function(cls, args, kwargs)
        return cls._apply(args, kwargs)

    @classmethod
    def _apply(cls, args, kwargs):
        ctx = Context()
        tracked = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad] if state.grad else []
        ctx.needs_input_grad = tuple(i in tracked for i in range(len(args)))
        separate = cls.setup_context is not Function.setup_context
        with no_grad():
            outputs = cls.forward(*args, **kwargs) if separate else cls.forward(ctx, *args, **kwargs)
            if separate:
                cls.setup_context(ctx, args, outputs)
        listed = outputs if isinstance(outputs, tuple) else (outputs,)
        if tracked:
            listed = cls._connect(ctx, args, listed, tracked)
        elif not state.grad:  # an input that is handed back comes without its history
            listed = tuple([out.detach() if any(out is a for a in args) else out for out in listed])
        ctx._keep(listed)
        return listed if isinstance(outputs, tuple) else listed[0]

    @classmethod
    def _connect(cls, ctx, args, outputs, tracked):
        edges = tuple([(args[i].node or args[i], args[i].index) for i in tracked])
        meta = tuple([(o.array.shape, o.array.dtype) if isinstance(o, Tensor) else None for o in outputs])
        node = _node(cls.__name__, cls._rule, (ctx,), edges, tracked, meta)
        ctx._node = ref(node)  # the node holds the context: nothing may hold both in a circle
        constant, dirty = ({id(t) for t in marked} for marked in (ctx._constant, ctx._dirty))
        roots = {id(a.base if a.base is not None else a): a for a in args if isinstance(a, Tensor)}
        connected = []
        for index, out in enumerate(outputs):
            if isinstance(out, Tensor) and id(out) not in constant and out.array.dtype.kind == "f":
                made = wrap(out.array)
                made.node, made.index, made.tracks = node, index, True
                if id(out) in dirty:
                    out._check_writable(cls.__name__)
                    take_history(out, made)
                    made = out
                elif (source := roots.get(id(out.base if out.base is not None else out))) is not None:
                    link_opaque(made, source)
                connected.append(made)
            else:
                connected.append(out)
        ctx._to_save = tuple([next((new for old, new in zip(outputs, connected, strict=True) if old is t), t)
                              if not any(t is a for a in args) else t for t in ctx._to_save])  # fmt: skip
        ctx._dirty = ctx._constant = ()
        return tuple(connected)

    @classmethod
    def _rule(cls, gradients, ctx):
        grads = list(gradients) if isinstance(gradients, tuple) else [gradients]
        recorded = any(isinstance(g, Tensor) for g in grads)
        if ctx.materialize:
            grads = [wrap(np.zeros(*m)) if g is None and m else g for g, m in zip(grads, ctx._node().meta, strict=True)]
        grads = [wrap(g) if isinstance(g, np.ndarray) else g for g in grads]
        with enable_grad() if recorded else no_grad():
            found = cls.backward(ctx, *grads)
        found = found if isinstance(found, tuple) else (found,)
        given = len(ctx.needs_input_grad)
        if len(found) < given or any(f is not None for f in found[given:]):
            raise OpError(f"{cls.__name__}.backward returned {len(found)} gradients for {given} inputs")
        if recorded:
            return found
        return tuple([f.array if isinstance(f, Tensor) else f for f in found])


def _node(name, rule, saved, edges, positions, meta):
    """A Node whose gradient is worked out by ``rule(gradients, *saved)``, outside the registry."""
    title = name[:1].upper() + name[1:]
    op = SimpleNamespace(name=name, title=title, family=network, outputs=None, foreign=True, composite=None, vjp=rule)
    plan = VjpPlan([("value",)] * len(saved), None, None, [(None, lambda g, s, st: rule(g, *s))], positions)
    return new_node(op, {}, plan, edges, saved, meta, provenance.site(3), state.scope)


def checkpoint(function, *args, use_reentrant=False, preserve_rng_state=True, **kwargs):
    """Run ``function`` without keeping what its backward needs; backward runs it again.

    Costs one more forward and saves the memory in between. Random draws are the same both times
    (``preserve_rng_state``). Gradients also reach tensors that the function uses without being given them.
    """
    if not state.grad:
        return function(*args, **kwargs)
    drawn = generator.default_generator.get_state() if preserve_rng_state else None
    start = next(storage.clock)
    outputs = function(*args, **kwargs)
    listed = outputs if isinstance(outputs, tuple) else (outputs,)
    sources = _outside(listed, start)
    if not sources:
        return outputs
    made = [isinstance(out, Tensor) and _is_made_since(start, out) for out in listed]
    meta = tuple([(out.array.shape, out.array.dtype) if new else None for out, new in zip(listed, made, strict=True)])
    rerun = _Rerun(function, args, kwargs, drawn, sources)
    node = _node("checkpoint", lambda gradients, rerun: rerun(gradients), (rerun,), tuple(sources),
                 list(range(len(sources))), meta)  # fmt: skip
    rerun.number = node.number
    results = list(listed)
    for index, (out, new) in enumerate(zip(listed, made, strict=True)):
        if new:
            fresh = results[index] = wrap(out.array)
            fresh.node, fresh.index, fresh.tracks = node, index, True
    return tuple(results) if isinstance(outputs, tuple) else results[0]


def _is_made_since(start, tensor):
    """Whether the history of a tensor began after ``start``: not that of an argument, or of a view of one."""
    root = tensor.base if tensor.base is not None else tensor
    return root.node is not None and root.node.number >= start


def _outside(outputs, start):
    """The (parent, index) edges by which the graph made since ``start`` hangs on what was there before."""
    found: dict = {}
    stack = [(o.node, o.index) for o in outputs if isinstance(o, Tensor) and o.node is not None]
    seen = set()
    while stack:
        parent, index = stack.pop()
        if isinstance(parent, Tensor) or parent.number < start:
            found.setdefault((parent, index))
        elif parent not in seen:
            seen.add(parent)
            stack.extend(reversed(parent.edges))
    return list(found)


class _Rerun:
    """The gradient of a checkpointed function: run it again with recording on, then differentiate that."""

    number: int  # that of its node: what has been written since must not be read again

    def __init__(self, function, args, kwargs, drawn, sources):
        self.function, self.args, self.kwargs, self.drawn, self.sources = function, args, kwargs, drawn, sources

    def __call__(self, gradients):
        grads = gradients if isinstance(gradients, tuple) else (gradients,)
        recorded = any(isinstance(g, Tensor) for g in grads)
        for value in (*self.args, *self.kwargs.values(), *[parent for parent, _ in self.sources]):
            if isinstance(value, Tensor):
                _check_unwritten(value.array, self.number, "an input of a checkpointed function")
        now = generator.default_generator.get_state()
        if self.drawn is not None:
            generator.default_generator.set_state(self.drawn)
        try:
            with enable_grad():
                outputs = self.function(*self.args, **self.kwargs)
        finally:
            if self.drawn is not None:
                generator.default_generator.set_state(now)
        listed = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, g if isinstance(g, Tensor) else wrap(g))
                 for o, g in zip(listed, grads, strict=True) if g is not None and isinstance(o, Tensor)]  # fmt: skip
        targets = [_end(parent, index) for parent, index in self.sources]
        found = grad_of([o for o, _ in pairs], targets, [g for _, g in pairs], create_graph=recorded, allow_unused=True)
        return found if recorded else tuple([None if f is None else f.array for f in found])


def _end(parent, index):
    """A tensor that stands for one output of a node (its values do not matter), or the leaf itself."""
    if isinstance(parent, Tensor):
        return parent
    shape, dtype = parent.meta[index]
    stand_in = wrap(np.broadcast_to(np.zeros((), dtype), shape))
    stand_in.node, stand_in.index, stand_in.tracks = parent, index, True
    return stand_in
