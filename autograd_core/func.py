"""``ag.func``: transformations that take a function and return one, with the names of ``torch.func``.

Arguments may be nested in tuples, lists and dicts. What is returned is connected to the caller's graph where the
function depends on tensors that require grad, and has no history otherwise.
"""

from __future__ import annotations

from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np

from . import ops
from .batching import vmap  # noqa: F401 (part of this namespace)
from .modes import enable_grad, state
from .tensor import Tensor, wrap
from .transforms import jacobian_of, pulled, pushed, scalar, zeros_for_none


def tensors_of(tree):
    """The Tensors in nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [t for value in values for t in tensors_of(value)]


def with_tensors(tree, tensors):
    """The same nesting with the next Tensors of the iterator ``tensors`` in place of its own."""
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, dict):
        return {key: with_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [with_tensors(value, tensors) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _detached(tree):
    return with_tensors(tree, iter([t.detach() for t in tensors_of(tree)]))


class _Run:
    """One call of a function on leaves of a graph of its own, connected to the caller's graph where it has one."""

    def __init__(self, func, args, kwargs, picked, has_aux=False):
        given = list(args)
        self.chosen = [args[p] for p in picked]
        self.leaves = [ops.alias(t) if t.requires_grad else t.detach().requires_grad_()
                       for t in tensors_of(self.chosen)]  # fmt: skip
        for position, tree in zip(picked, with_tensors(self.chosen, iter(self.leaves)), strict=True):
            given[position] = tree
        self.result = func(*given, **kwargs)
        if has_aux and not (isinstance(self.result, tuple) and len(self.result) == 2):
            raise RuntimeError("with has_aux=True the function must return a tuple (output, aux)")
        self.output: Any
        self.aux: Any
        self.output, self.aux = self.result if has_aux else (self.result, None)
        self.outputs = tensors_of(self.output)
        self.connected = self._depends_on_others()

    def _depends_on_others(self):
        """Whether the outputs have a history beyond the leaves: then the derivatives have one too."""
        own = {id(leaf) for leaf in self.leaves if leaf.node is None}
        seen, stack = set(), [out.node or out for out in self.outputs if out.requires_grad]
        while stack:
            parent = stack.pop()
            if isinstance(parent, Tensor):
                if id(parent) not in own:
                    return True
            elif parent not in seen:
                seen.add(parent)
                stack.extend([p for p, _ in parent.edges])
        return False

    def like_inputs(self, tensors, alone):
        """``tensors`` (one for each leaf, None for zeros), nested like the arguments; one argument comes ``alone``."""
        trees = with_tensors(self.chosen, iter(zeros_for_none(tensors, self.leaves)))
        return trees[0] if alone else tuple(trees)

    def shown(self, tree):
        """What the function returned, without the graph that nobody outside has a part in."""
        return tree if self.connected else _detached(tree)


def _picked(argnums):
    return argnums if isinstance(argnums, tuple) else (argnums,)


def value_and_grad(func, argnums=0, has_aux=False):
    """A function that returns ``(func(*args), gradient with respect to args[argnums])``.

    ``argnums`` may be a tuple; arguments may be nested tuples, lists and dicts of Tensors. With ``has_aux``, ``func``
    returns ``(loss, aux)`` and the result is ``((loss, aux), gradient)``.
    """

    @wraps(func)
    def wrapped(*args, **kwargs):
        outer = state.grad
        with enable_grad():
            run = _Run(func, args, kwargs, _picked(argnums), has_aux)
            loss = scalar((run.output,), "value_and_grad")
            run.connected = run.connected and outer
            found = pulled((loss,), run.leaves, [wrap(np.ones_like(loss.array))], run.connected)
            return run.shown(run.result), run.like_inputs(found, not isinstance(argnums, tuple))

    return wrapped


def grad_and_value(func, argnums=0, has_aux=False):
    """As `value_and_grad`, with the gradient first."""
    inner = value_and_grad(func, argnums, has_aux)

    @wraps(func)
    def wrapped(*args, **kwargs):
        result, found = inner(*args, **kwargs)
        return found, result

    return wrapped


def grad(func, argnums=0, has_aux=False):
    """A function that returns the gradient of ``func`` with respect to ``args[argnums]``; with ``has_aux``, and aux."""
    inner = value_and_grad(func, argnums, has_aux)

    @wraps(func)
    def wrapped(*args, **kwargs):
        result, found = inner(*args, **kwargs)
        return (found, result[1]) if has_aux else found

    return wrapped


def jacrev(func, argnums=0, has_aux=False, *, chunk_size=None):
    """A function that returns the Jacobian of ``func`` with respect to ``args[argnums]`` (``chunk_size`` is ignored).

    It is nested like the output, and in that like the argument: tensors of the output's shape + the input's.
    """

    @wraps(func)
    def wrapped(*args, **kwargs):
        outer = state.grad
        with enable_grad():
            run = _Run(func, args, kwargs, _picked(argnums), has_aux)
            run.connected = run.connected and outer
            alone = not isinstance(argnums, tuple)
            rows = [run.like_inputs(jacobian_of(out, run.leaves, run.connected), alone) for out in run.outputs]
        found = with_tensors(run.output, iter(rows))
        return (found, run.shown(run.aux)) if has_aux else found

    return wrapped


def jacfwd(func, argnums=0, has_aux=False, randomness="error", *, chunk_size=None):
    """The same Jacobian as `jacrev`, which works it out: there is no separate forward mode."""
    return jacrev(func, argnums, has_aux)


def hessian(func, argnums=0):
    """A function that returns the Hessian of ``func`` with respect to ``args[argnums]``."""
    return jacrev(jacrev(func, argnums), argnums)


def vjp(func, *primals, has_aux=False):
    """(func(*primals), a function of cotangents that returns the gradients of the primals), and aux, if there is one.

    The function may be called many times. It returns a tuple, also for one primal.
    """
    outer = state.grad
    with enable_grad():
        run = _Run(func, primals, {}, range(len(primals)), has_aux)
        run.connected = run.connected and outer

    def pull(*cotangents):
        weights = tensors_of(cotangents)
        with enable_grad():
            connects = run.connected or any(w.requires_grad for w in weights)
            return run.like_inputs(pulled(run.outputs, run.leaves, weights, connects), False)

    output = run.shown(run.output)
    return (output, pull, run.shown(run.aux)) if has_aux else (output, pull)


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """(func(*primals), its derivative along ``tangents``), and aux, if there is one."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp: primals and tangents must be tuples")
    outer, along = state.grad, tensors_of(tangents)
    with enable_grad():
        run = _Run(func, primals, {}, range(len(primals)), has_aux)
        run.connected = outer and (run.connected or any(t.requires_grad for t in along))
        found = zeros_for_none(pushed(run.outputs, run.leaves, along, run.connected), run.outputs, strict, "output")
    result = run.shown(run.output), with_tensors(run.output, iter(found))
    return (*result, run.shown(run.aux)) if has_aux else result


def linearize(func, *primals):
    """(func(*primals), the function that maps tangents to the derivative along them)."""
    return func(*primals), lambda *tangents: jvp(func, primals, tangents)[1]


def functional_call(module, parameter_and_buffer_dicts, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """Call ``module`` with other parameters and buffers, given by name (a dict, or several)."""
    call = import_module("nn.utils.stateless").functional_call
    return call(module, parameter_and_buffer_dicts, args, kwargs, tie_weights=tie_weights, strict=strict)
