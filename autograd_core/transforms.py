"""Transformations of functions: gradients, products with Jacobians, Jacobians, Hessians.

Names and signatures are those of ``torch.autograd.functional``; the forms that return functions are in ``ag.func``.
Everything is built from `grad`: a Jacobian-vector product is two vector-Jacobian products.
"""

from __future__ import annotations

from functools import wraps

import numpy as np

from . import ops
from .backward import grad as grad_of
from .errors import shape_text
from .modes import enable_grad, state
from .tensor import Tensor, wrap


def _tuple(value):
    return (
        (value, True)
        if isinstance(value, tuple)
        else ((tuple(value), True) if isinstance(value, list) else ((value,), False))
    )


def _same_form(values, is_tuple):
    return tuple(values) if is_tuple else values[0]


def _fresh(inputs, create_graph):
    """Inputs as leaves of a graph of their own; connected to the caller's graph when ``create_graph``."""
    made = []
    for tensor in inputs:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"the inputs must be Tensors, got {type(tensor).__name__}")
        made.append(ops.alias(tensor) if create_graph and tensor.requires_grad else tensor.detach().requires_grad_())
    return tuple(made)


def _call(function, inputs):
    outputs, is_tuple = _tuple(function(*inputs))
    for out in outputs:
        if not isinstance(out, Tensor):
            raise TypeError(f"the function must return Tensors, got {type(out).__name__}")
    return outputs, is_tuple


def _weights(v, like, what):
    if v is None:
        if len(like) != 1 or like[0].array.size != 1:
            raise RuntimeError(f"the vector v can only be left out when there is one {what} of one element")
        return [wrap(np.ones_like(like[0].array))]
    v = _tuple(v)[0]
    if len(v) != len(like):
        raise RuntimeError(f"v has {len(v)} tensors, the function {len(like)} {what}s")
    for given, wanted in zip(v, like, strict=True):
        if given.array.shape != wanted.array.shape:
            raise RuntimeError(f"v has shape {list(given.shape)} where the {what} has {list(wanted.shape)}")
    return list(v)


def _zeros_for_none(found, like, strict=False, what="input"):
    if strict and any(f is None for f in found):
        missing = [f is None for f in found].index(True)
        raise RuntimeError(f"the output is independent of {what} {missing}, which strict=True does not allow")
    return tuple([wrap(np.zeros_like(x.array)) if f is None else f for f, x in zip(found, like, strict=True)])


def _vjp(outputs, inputs, weights, create_graph):
    live = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    if not live:
        return (None,) * len(inputs)
    return grad_of([o for o, _ in live], inputs, [w for _, w in live], True, create_graph, allow_unused=True)


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, v^T J): the vector-Jacobian product of ``func`` at ``inputs``."""
    inputs, is_tuple = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        outputs, out_tuple = _call(func, inputs)
        found = _vjp(outputs, inputs, _weights(v, outputs, "output"), create_graph)
    found = _zeros_for_none(found, inputs, strict)
    return _result(outputs, out_tuple, create_graph), _result(found, is_tuple, create_graph)


def _result(values, is_tuple, create_graph):
    return _same_form(values if create_graph else [t.detach() for t in values], is_tuple)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, J v): the Jacobian-vector product of ``func`` at ``inputs``, as the derivative of u^T J by u."""
    inputs, _ = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        outputs, out_tuple = _call(func, inputs)
        v = _weights(v, inputs, "input")
        dummies = [wrap(np.zeros_like(o.array)).requires_grad_() for o in outputs]
        pulled = _vjp(outputs, inputs, dummies, True)
        live = [(p, w) for p, w in zip(pulled, v, strict=True) if p is not None and p.requires_grad]
        found = [None] * len(outputs)
        if live:
            found = grad_of([p for p, _ in live], dummies, [w for _, w in live], True, create_graph, allow_unused=True)
    found = _zeros_for_none(found, outputs, strict, "output")
    return _result(outputs, out_tuple, create_graph), _result(found, out_tuple, create_graph)


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The Jacobian of ``func``: for an output of shape S and an input of shape T a tensor of shape S + T.

    A tuple of inputs gives a tuple; a tuple of outputs a tuple of those. ``vectorize`` and ``strategy`` change nothing.
    """
    inputs, is_tuple = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        outputs, out_tuple = _call(func, inputs)
        rows = [_same_form(_jacobian_of(out, inputs, create_graph, strict), is_tuple) for out in outputs]
    return _same_form(rows, out_tuple)


def _jacobian_of(out, inputs, create_graph, strict):
    rows = []
    for position in range(out.array.size):
        weight = np.zeros(out.array.shape, out.array.dtype)
        weight.reshape(-1)[position] = 1
        found = _vjp((out,), inputs, [wrap(weight)], create_graph)
        rows.append(_zeros_for_none(found, inputs, strict))
    if not rows:
        return [wrap(np.zeros(out.array.shape + x.array.shape, x.array.dtype)) for x in inputs]
    return [ops.reshape(ops.stack(column), out.array.shape + x.array.shape)
            for column, x in zip(zip(*rows, strict=True), inputs, strict=True)]  # fmt: skip


def _scalar(outputs, what):
    if len(outputs) != 1 or outputs[0].array.size != 1:
        raise RuntimeError(f"{what}: the function must return one tensor of one element, got {shape_text(outputs[0])}")
    return outputs[0]


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The Hessian of a function with one output of one element: shape T + T for an input of shape T."""
    inputs, is_tuple = _tuple(inputs)

    def gradient(*xs):
        out = _scalar(_call(func, xs)[0], "hessian")
        return _zeros_for_none(_vjp((out,), xs, [wrap(np.ones_like(out.array))], True), xs, strict)

    found = jacobian(gradient, inputs, create_graph, strict)
    return found if is_tuple else found[0][0]


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, v^T H) of a function with one output of one element."""
    inputs, is_tuple = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        out = _scalar(_call(func, inputs)[0], "vhp")
        first = _zeros_for_none(_vjp((out,), inputs, [wrap(np.ones_like(out.array))], True), inputs, strict)
        found = _vjp(first, inputs, _weights(v, inputs, "input"), create_graph)
    found = _zeros_for_none(found, inputs, strict)
    return _result((out,), False, create_graph), _result(found, is_tuple, create_graph)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, H v) of a function with one output of one element; H is symmetric, so it is `vhp`."""
    return vhp(func, inputs, v, create_graph, strict)


def value_and_grad(func, argnums=0, has_aux=False):
    """A function that returns ``(func(*args), gradient with respect to args[argnums])``.

    ``argnums`` may be a tuple; arguments may be nested tuples, lists and dicts of Tensors. With ``has_aux``, ``func``
    returns ``(loss, aux)`` and the result is ``((loss, aux), gradient)``.
    """
    picked = argnums if isinstance(argnums, tuple) else (argnums,)

    @wraps(func)
    def wrapped(*args, **kwargs):
        leaves: list = []
        outer = state.grad

        def lift(value):
            if isinstance(value, Tensor):
                made = ops.alias(value) if value.requires_grad and outer else value.detach().requires_grad_()
                leaves.append(made)
                return made
            if isinstance(value, dict):
                return {k: lift(v) for k, v in value.items()}
            return type(value)(lift(v) for v in value) if isinstance(value, (list, tuple)) else value

        with enable_grad():
            given = list(args)
            for position in picked:
                given[position] = lift(given[position])
            result = func(*given, **kwargs)
            loss = _scalar((result[0] if has_aux else result,), "value_and_grad")
            found = iter(_zeros_for_none(_vjp((loss,), leaves, [wrap(np.ones_like(loss.array))], outer), leaves))

        def lower(value):
            if isinstance(value, Tensor):
                return next(found)
            if isinstance(value, dict):
                return {k: lower(v) for k, v in value.items()}
            return type(value)(lower(v) for v in value) if isinstance(value, (list, tuple)) else value

        grads = tuple([lower(given[position]) for position in picked])
        return result, grads if isinstance(argnums, tuple) else grads[0]

    return wrapped


def grad(func, argnums=0, has_aux=False):
    """A function that returns the gradient of ``func`` with respect to ``args[argnums]`` (``ag.func.grad``)."""
    inner = value_and_grad(func, argnums, has_aux)

    @wraps(func)
    def wrapped(*args, **kwargs):
        result, found = inner(*args, **kwargs)
        return (found, result[1]) if has_aux else found

    return wrapped


def grad_and_value(func, argnums=0, has_aux=False):
    """As `value_and_grad`, with the gradient first (``ag.func.grad_and_value``)."""
    inner = value_and_grad(func, argnums, has_aux)

    @wraps(func)
    def wrapped(*args, **kwargs):
        result, found = inner(*args, **kwargs)
        return found, result

    return wrapped


def jacrev(func, argnums=0):
    """A function that returns the Jacobian of ``func`` with respect to ``args[argnums]`` (``ag.func.jacrev``)."""
    picked = argnums if isinstance(argnums, tuple) else (argnums,)

    @wraps(func)
    def wrapped(*args, **kwargs):
        def partial(*chosen):
            filled = list(args)
            for position, value in zip(picked, chosen, strict=True):
                filled[position] = value
            return func(*filled, **kwargs)

        chosen = tuple([args[p] for p in picked])
        return jacobian(partial, chosen if isinstance(argnums, tuple) else chosen[0], create_graph=state.grad)

    return wrapped
