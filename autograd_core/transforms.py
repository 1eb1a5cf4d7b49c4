"""Transformations of functions: gradients, products with Jacobians, Jacobians, Hessians.

Names and signatures are those of ``torch.autograd.functional``; the forms that return functions are in ``ag.func``.
Everything is built from `grad`: a Jacobian-vector product is two vector-Jacobian products.
"""

from __future__ import annotations

import numpy as np

from . import ops
from .backward import grad as grad_of
from .errors import shape_text
from .modes import enable_grad
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


def zeros_for_none(found, like, strict=False, what="input"):
    """Zeros in place of missing derivatives, which ``strict`` does not allow."""
    if strict and any(f is None for f in found):
        missing = [f is None for f in found].index(True)
        raise RuntimeError(f"the output is independent of {what} {missing}, which strict=True does not allow")
    return tuple([wrap(np.zeros_like(x.array)) if f is None else f for f, x in zip(found, like, strict=True)])


def pulled(outputs, inputs, weights, create_graph):
    """The product of ``weights`` with the Jacobian of recorded ``outputs``; None for inputs without influence."""
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
        found = pulled(outputs, inputs, _weights(v, outputs, "output"), create_graph)
    found = zeros_for_none(found, inputs, strict)
    return _result(outputs, out_tuple, create_graph), _result(found, is_tuple, create_graph)


def _result(values, is_tuple, create_graph):
    return _same_form(values if create_graph else [t.detach() for t in values], is_tuple)


def pushed(outputs, inputs, v, create_graph):
    """The product of the Jacobian of recorded ``outputs`` with ``v``: the derivative of u^T J v by u."""
    dummies = [wrap(np.zeros_like(o.array)).requires_grad_() for o in outputs]
    rows = pulled(outputs, inputs, dummies, True)
    live = [(row, w) for row, w in zip(rows, v, strict=True) if row is not None and row.requires_grad]
    if not live:
        return (None,) * len(outputs)
    return grad_of([row for row, _ in live], dummies, [w for _, w in live], True, create_graph, allow_unused=True)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, J v): the Jacobian-vector product of ``func`` at ``inputs``, as the derivative of u^T J by u."""
    inputs, _ = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        outputs, out_tuple = _call(func, inputs)
        v = _weights(v, inputs, "input")
        found = pushed(outputs, inputs, v, create_graph)
    found = zeros_for_none(found, outputs, strict, "output")
    return _result(outputs, out_tuple, create_graph), _result(found, out_tuple, create_graph)


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The Jacobian of ``func``: for an output of shape S and an input of shape T a tensor of shape S + T.

    A tuple of inputs gives a tuple; a tuple of outputs a tuple of those. ``vectorize`` and ``strategy`` change nothing.
    """
    inputs, is_tuple = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        outputs, out_tuple = _call(func, inputs)
        rows = [_same_form(jacobian_of(out, inputs, create_graph, strict), is_tuple) for out in outputs]
    return _same_form(rows, out_tuple)


def jacobian_of(out, inputs, create_graph, strict=False):
    """The Jacobian of one recorded output with respect to each input."""
    rows = []
    for position in range(out.array.size):
        weight = np.zeros(out.array.shape, out.array.dtype)
        weight.reshape(-1)[position] = 1
        found = pulled((out,), inputs, [wrap(weight)], create_graph)
        rows.append(zeros_for_none(found, inputs, strict))
    if not rows:
        return [wrap(np.zeros(out.array.shape + x.array.shape, x.array.dtype)) for x in inputs]
    return [ops.reshape(ops.stack(column), out.array.shape + x.array.shape)
            for column, x in zip(zip(*rows, strict=True), inputs, strict=True)]  # fmt: skip


def scalar(outputs, what):
    """The only one of ``outputs``, which must have one element."""
    if len(outputs) != 1 or outputs[0].array.size != 1:
        raise RuntimeError(f"{what}: the function must return one tensor of one element, got {shape_text(outputs[0])}")
    return outputs[0]


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The Hessian of a function with one output of one element: shape T + T for an input of shape T."""
    inputs, is_tuple = _tuple(inputs)

    def gradient(*xs):
        out = scalar(_call(func, xs)[0], "hessian")
        return zeros_for_none(pulled((out,), xs, [wrap(np.ones_like(out.array))], True), xs, strict)

    found = jacobian(gradient, inputs, create_graph, strict)
    return found if is_tuple else found[0][0]


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, v^T H) of a function with one output of one element."""
    inputs, is_tuple = _tuple(inputs)
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        out = scalar(_call(func, inputs)[0], "vhp")
        first = zeros_for_none(pulled((out,), inputs, [wrap(np.ones_like(out.array))], True), inputs, strict)
        found = pulled(first, inputs, _weights(v, inputs, "input"), create_graph)
    found = zeros_for_none(found, inputs, strict)
    return _result((out,), False, create_graph), _result(found, is_tuple, create_graph)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, H v) of a function with one output of one element; H is symmetric, so it is `vhp`."""
    return vhp(func, inputs, v, create_graph, strict)
