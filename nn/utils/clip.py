"""Limits for gradients, and their norm."""

from __future__ import annotations

import functools
import warnings

import autograd_core as ag
from autograd_core import Tensor
from autograd_core.modes import no_grad


def _listed(tensors):
    """The tensors of one tensor, an iterator or a list."""
    if isinstance(tensors, Tensor):
        return [tensors]
    found = list(tensors)
    for one in found:
        if not isinstance(one, Tensor):
            raise TypeError(f"clipping gradients: parameters must be Tensors, got a {type(one).__name__}")
    if not found:
        warnings.warn("there are no parameters, so no gradient is clipped", stacklevel=3)
    return found


def _gradients(parameters):
    return [p.grad for p in _listed(parameters) if p.grad is not None]


@no_grad()
def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None) -> Tensor:
    """The ``norm_type``-norm of all ``tensors`` as if they were one vector."""
    norm_type = float(norm_type)
    tensors = _listed(tensors)
    if not tensors:
        return ag.tensor(0.0)
    norms = ag.stack([ag.linalg.vector_norm(t, norm_type) for t in tensors])
    total = norms[0] if len(tensors) == 1 else ag.linalg.vector_norm(norms, norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"the norm of order {norm_type} of all gradients is {total.item()}, a non-finite number; "
                           "with error_if_nonfinite=False they are scaled all the same")  # fmt: skip
    return total


@no_grad()
def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None) -> None:
    """Multiply all gradients by max_norm / total_norm, where that is below 1."""
    gradients = _gradients(parameters)
    if gradients:
        factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)


@no_grad()
def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None) -> Tensor:
    """Scale the gradients of ``parameters`` so that their common norm is at most ``max_norm``; returns the norm before.

    ``norm_type``: the order of the norm (``float("inf")`` for the largest element).
    """
    parameters = _listed(parameters)
    total = get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type,
                           error_if_nonfinite) if parameters else ag.tensor(0.0)  # fmt: skip
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


@no_grad()
def clip_grad_value_(parameters, clip_value, foreach=None) -> None:
    """Cut every element of the gradients off at ±``clip_value``."""
    limit = float(clip_value)
    for gradient in _gradients(parameters):
        gradient.clamp_(-limit, limit)


@functools.wraps(clip_grad_norm_)
def clip_grad_norm(*args, **kwargs):
    """The older name of `clip_grad_norm_`."""
    warnings.warn("clip_grad_norm is the older name of clip_grad_norm_", FutureWarning, stacklevel=2)
    return clip_grad_norm_(*args, **kwargs)
