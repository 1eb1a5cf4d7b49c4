"""Products summed over dimensions: matmul, einsum and their kin."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import contraction, op
from .samples import real, sample


@op(contraction, vjp=[lambda g, mat2: g @ ops.transpose(mat2, 0, 1), lambda g, input: ops.transpose(input, 0, 1) @ g],
    samples=[sample(real(3, 4), real(4, 2))], onnx="MatMul")  # fmt: skip
def mm(input, mat2):
    """Product of two matrices."""
    return input @ mat2
