"""Hooks of the graph: the handle that takes one away again, and those that are called when backward passes a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .tensor import Node, Tensor


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away; also a context manager."""

    _next = 0

    def __init__(self, hooks: dict, hook):
        self.id = RemovableHandle._next
        RemovableHandle._next += 1
        self.hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; calling it again does nothing."""
        self.hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.remove()


class AccumulateGrad(NamedTuple):
    """The end of a graph: where a gradient is added to the ``grad`` of the leaf ``variable``."""

    variable: Tensor
    next_functions: tuple = ()

    def name(self) -> str:
        """The name of its kind."""
        return "AccumulateGrad"

    def register_prehook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook((gradient,))`` before a gradient is added; a tuple that it returns replaces it."""

        def replaced(gradient):
            found = hook((gradient,))
            return found if found is None else _checked(found, (gradient,), "register_prehook")[0]

        return self.variable.register_hook(replaced)

    def register_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook((), (grad,))`` after a gradient was added to ``grad``."""

        def call(leaf):
            hook((), (leaf.grad,))

        return self.variable.register_post_accumulate_grad_hook(call)


# ---------------------------------------------------------------------------------------------------- nodes


class HookedPlan:
    """What backward has to do at one node with hooks: its rules become one, with the hooks before and after it."""

    def __init__(self, node: Node) -> None:
        inner = node.plan
        self.keep, self.save, self.edges, self.positions, self.holds = (
            inner.keep, inner.save, inner.edges, inner.positions, inner.holds)  # fmt: skip
        self.before: dict[int, Callable] = {}
        self.after: dict[int, Callable] = {}
        ends, several = node.edges, node.op.outputs is not None or len(node.meta) != 1
        self.rules = [(None, lambda g, saved, static: self._run(inner.rules, ends, several, g, saved, static))]

    def _run(self, rules, ends, several, g, saved, static):
        given = tuple(g) if several else (g,)
        for hook in self.before.values():
            given = _after_hook(given, hook(_shown(given)), "register_prehook")
        g = given if several else given[0]
        found: list[Any] = [None] * len(self.positions)
        if rules[0][0] is None:
            together = rules[0][1](g, saved, static)
            found = [together[p] if p < len(together) else None for p in self.positions]
        else:
            for slot, rule in rules:
                found[slot] = rule(g, saved, static)
        if self.after:
            sent: Any = tuple([_fitted(v, *end) for v, end in zip(found, ends, strict=True)])
            for hook in self.after.values():
                sent = _after_hook(sent, hook(_shown(sent), _shown(given)), "register_hook")
            found = sent
        by_position = dict(zip(self.positions, found, strict=True))
        return tuple([by_position.get(p) for p in range(max(self.positions, default=-1) + 1)])


def hook_node(node: Node, hook: Callable, before: bool) -> RemovableHandle:
    """Have ``hook`` called when backward passes ``node``, before its rules or after them."""
    plan: Any = node.plan
    if not isinstance(plan, HookedPlan):
        node.plan = plan = HookedPlan(node)
    return RemovableHandle(plan.before if before else plan.after, hook)


def _fitted(gradient, parent, index):
    """A rule's gradient in the shape and type of the input, which what hooks return must have, too."""
    from .backward import _fit, _fit_tensor
    from .tensor import Node, Tensor

    if gradient is None:
        return None
    shape, dtype = parent.meta[index] if type(parent) is Node else (parent.array.shape, parent.array.dtype)
    return (_fit_tensor if isinstance(gradient, Tensor) else _fit)(gradient, shape, dtype, parent)


def _shown(values):
    """Gradients as Tensors, which a hook may write into."""
    from .tensor import Tensor, wrap

    return tuple([v if v is None or isinstance(v, Tensor) else wrap(np.array(v)) for v in values])


def _after_hook(before, returned, name):
    """The gradients after a hook: what it returned instead, as what they were (arrays or Tensors)."""
    if returned is None:
        return before
    replaced = _checked(returned, before, name)
    arrays = any([isinstance(v, np.ndarray) for v in before])
    return tuple([v.array if arrays and v is not None else v for v in replaced])


def _checked(returned, before, name):
    from .errors import shape_text
    from .tensor import Tensor

    returned = (returned,) if isinstance(returned, Tensor) else returned
    if not isinstance(returned, (tuple, list)) or len(returned) != len(before):
        got = len(returned) if isinstance(returned, (tuple, list)) else type(returned).__name__
        raise TypeError(f"{name}: the hook must return None or a tuple of {len(before)} gradients, got {got}")
    for value, old in zip(returned, before, strict=True):
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: the hook must return Tensors, got {type(value).__name__}")
        array = getattr(old, "array", old)
        if old is not None and (value.array.shape, value.array.dtype) != (array.shape, array.dtype):
            raise RuntimeError(f"{name}: the hook must return a gradient of the kind that it gets, {shape_text(old)}, "
                               f"got {shape_text(value)}")  # fmt: skip
    return tuple(returned)
