"""Derivatives of hand-written backward operations, by way of the plain formula that they are the gradient of."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor, wrap


def gradient_of(formula, gradients, inputs, needs):
    """The gradients of ``formula(*inputs)`` in the op language, differentiable again.

    One for each input that ``needs`` it, None for the others. It is what stands behind ``create_graph`` where the
    backward of an op is one fused operation without a rule of its own. ``gradients``: of the outputs of ``formula``,
    None where unused.
    """
    from ..backward import grad

    fresh = [_own_copy(x, need) for x, need in zip(inputs, needs, strict=True)]
    outputs = formula(*fresh)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    pairs = [(y, g) for y, g in zip(outputs, gradients, strict=True) if g is not None and y.requires_grad]
    wanted = [x for x, need in zip(fresh, needs, strict=True) if need]
    found = iter(grad([y for y, _ in pairs], wanted, [_as_tensor(g) for _, g in pairs], create_graph=True,
                      materialize_grads=True) if pairs else [ops.zeros_like(x) for x in wanted])  # fmt: skip
    return tuple([next(found) if need else None for need in needs])


def _own_copy(value, need):
    """The value as a tensor whose gradient can be asked for, connected to where it came from."""
    if value is None or not need:
        return value
    tensor = _as_tensor(value)
    return ops.alias(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


def _as_tensor(value):
    return value if isinstance(value, Tensor) else wrap(value)
