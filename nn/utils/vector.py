"""All parameters of a model as one vector, and back; making modules without initial values."""

from __future__ import annotations

import autograd_core as ag
from autograd_core import Tensor


def parameters_to_vector(parameters) -> Tensor:
    """All parameters, flattened, one after the other."""
    return ag.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters) -> None:
    """Set the parameters to the parts of a vector, in the order of `parameters_to_vector`."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a Tensor, but got: {type(vec).__name__}")
    parameters, start = list(parameters), 0
    needed = sum(p.numel() for p in parameters)
    if vec.numel() < needed:
        raise RuntimeError(f"vector_to_parameters: vec has {vec.numel()} elements, the parameters need {needed}")
    for parameter in parameters:
        size = parameter.numel()
        parameter.data = vec[start : start + size].reshape(parameter.shape).detach()
        start += size


def skip_init(module_cls, *args, **kwargs):
    """``module_cls(*args, **kwargs)`` without drawing initial values: for parameters that are about to be loaded."""
    made = type(module_cls.__name__, (module_cls,), {"reset_parameters": lambda self: None})(*args, **kwargs)
    made.__class__ = module_cls
    return made
