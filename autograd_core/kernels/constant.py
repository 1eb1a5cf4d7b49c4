"""Large arrays of one value, in memory that earlier arrays gave back, by as many threads as there are."""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, out
from autograd_core.kernels.runner import range_kernel

GRAIN = 1 << 16  # bytes of a chunk


@range_kernel
def repeat(dtype, lanes):
    """Elements [start, stop). Context: the value, the array; both as whole numbers of their size."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        value, target = simd.full(simd.pointer(w[0], S)[0], V), simd.pointer(w[1], S)
        whole = start + (stop - start) // lanes * lanes
        for i in range(start, whole, lanes):
            simd.store(target, i, value)
        simd.store_part(target, whole, value, stop - whole)

    return kernel


def plan_constant(value: Array, *, shape: tuple[int, ...]) -> Plan | None:
    """Plan an array of ``shape`` that holds the one element of ``value`` everywhere."""
    size = value.dtype.itemsize
    if size not in (1, 2, 4, 8) or not value.dtype.isnative:
        return None
    kernel = repeat(np.dtype(f"u{size}"), host.lanes(np.float32) * 4 // size)
    return Plan((Spec(shape, value.dtype),), (Call(kernel, (inp(0), out()), math.prod(shape), GRAIN // size),))
