"""Muon: momentum made orthogonal, for matrices."""

from __future__ import annotations

import math

import numpy as np

from autograd_core import ops
from autograd_core.ops.samples import real
from autograd_core.registry import elementwise, op

from .optimizer import Optimizer, arguments, check_nonnegative


@op(elementwise, vjp=[lambda g: g], namespace="internal", samples=[real(3, 4)])
def round_to_bfloat16(input):
    """The nearest numbers of 8 bits of mantissa (ties to even), in the same dtype; gradients pass unchanged."""
    bits = np.asarray(input, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(input), input, rounded.view(np.float32)).astype(input.dtype, copy=False)


def orthogonalized(matrix, coefficients, steps: int, eps: float):
    """About U V', given U S V' = ``matrix``: a quintic Newton-Schulz iteration that brings singular values near 1.

    Each product is rounded to bfloat16, in which the method was found and PyTorch runs it.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = round_to_bfloat16(ops.transpose(matrix, 0, 1) if tall else matrix)
    norm = round_to_bfloat16(ops.sqrt(ops.sum(x * x)))
    x = round_to_bfloat16(x / ops.clamp(norm, min=eps))
    for _ in range(steps):
        gram = round_to_bfloat16(x @ ops.transpose(x, 0, 1))
        polynomial = round_to_bfloat16(gram * b + (gram @ gram) * c)
        x = round_to_bfloat16(x * a + polynomial @ x)
    return ops.transpose(x, 0, 1) if tall else x


class Muon(Optimizer):
    """Muon: p <- (1 - lr * weight_decay) * p - lr * r * O, O being the orthogonalized momentum of the matrix p.

    For weight matrices alone (two dimensions); biases, embeddings and the like want another optimizer, such as `AdamW`.
    ``nesterov`` looks ahead. ``ns_coefficients``, ``ns_steps``, ``eps``: of the Newton-Schulz iteration.
    ``adjust_lr_fn``: r = sqrt(max(1, rows / columns)) for None or "original", 0.2 * sqrt(max(rows, columns)) for
    "match_rms_adamw".

    Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """

    elementwise = False

    def __init__(self, params, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True,
                 ns_coefficients=(3.4445, -4.7750, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn=None):  # fmt: skip
        defaults = arguments(locals())
        check_nonnegative(self, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        if len(ns_coefficients) != 3:
            raise ValueError(f"Muon: ns_coefficients must be three numbers, got {len(ns_coefficients)}")
        if ns_steps >= 100:
            raise ValueError(f"Muon: ns_steps must be less than 100, got {ns_steps}")
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon only supports 2D parameters, got a parameter with shape {list(p.shape)}")

    def init(self, parameter, group):
        return {"momentum_buffer": ops.zeros_like(parameter)}

    def numbers(self, counts, group):
        return {"fresh": 1 - group["momentum"], "shrink": 1 - group["lr"] * group["weight_decay"]}

    def update(self, parameter, gradient, state, group):
        buffer = state["momentum_buffer"]
        buffer = buffer + (gradient - buffer) * group["fresh"]
        direction = gradient + (buffer - gradient) * group["momentum"] if group["nesterov"] else buffer
        step = orthogonalized(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = parameter.shape
        matched = group["adjust_lr_fn"] == "match_rms_adamw"
        ratio = 0.2 * math.sqrt(max(rows, columns)) if matched else math.sqrt(max(1, rows / columns))
        return parameter * group["shrink"] - step * (group["lr"] * ratio), {"momentum_buffer": buffer}
