"""Variance and standard deviation over dims, which lie in memory in any order.

Moments of rows, or of segments of long rows and of blocks of columns, which are joined in float64.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.normalize import blocks_of
from autograd_core.kernels.normalize_columns import column_moments, column_parts
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, bits, inp, out
from autograd_core.kernels.reduce import GRAIN, ROW, groups_of, in_any_order, result_shape
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import moments_of, served


@range_kernel
def variance_runs(dtype, lanes):
    """Variance times a factor, or its root; a unit is a row or channel.

    Context: x, out, runs, n, step from run to run, step from unit to unit, factor, whether to take the root.
    """
    S, moments = simd.scalar(dtype), moments_of(dtype, lanes, True)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            found = moments(simd.advance(simd.pointer(w[0], S), unit * w[5]), w[2], w[3], w[4])[1] * S(simd.real(w[6]))
            simd.pointer(w[1], S)[unit] = simd.sqrt(found) if w[7] != 0 else found

    return kernel


@range_kernel
def moment_parts(dtype, lanes):
    """Mean and squared distances from it of segments, as :func:`column_moments` joins them; a unit is (segment, row).

    Context: x, parts, n, length of a segment, rows.
    """
    S, moments = simd.scalar(dtype), moments_of(dtype, lanes, True)

    def kernel(context, start, stop):
        w = simd.words(context)
        for unit in range(start, stop):
            segment = unit // w[4]
            row, first = unit - segment * w[4], segment * w[3]
            count = min(w[3], w[2] - first)
            mean, variance = moments(simd.advance(simd.pointer(w[0], S), row * w[2] + first), 1, count, count)
            part = simd.advance(simd.pointer(w[1], S), segment * 2 * w[4] + row)
            part[0], part[w[4]] = mean, variance * S(count)

    return kernel


@range_kernel
def scale_variance(dtype):
    """x * factor, or its root; context: x, out, factor, whether to take the root."""
    S = simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        for i in range(start, stop):
            found = simd.pointer(w[0], S)[i] * S(simd.real(w[2]))
            simd.pointer(w[1], S)[i] = simd.sqrt(found) if w[3] != 0 else found

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


def _variance(x: Array, dim: tuple[int, ...], correction: float, keepdim: bool, root: bool) -> Plan | None:
    return in_any_order(lambda x, dims: _variance_ordered(x, dims, correction, keepdim, root), x, dim, keepdim)


def _variance_ordered(x: Array, dim: tuple[int, ...], correction: float, keepdim: bool, root: bool) -> Plan | None:
    groups = groups_of(x.shape, dim)
    kinds = [reduced for _, reduced in groups]
    count = math.prod(n for n, reduced in groups if reduced)
    if not served(x) or 0 in x.shape or count <= correction or kinds not in (
            [True], [False, True], [True, False], [True, False, True]):
        return None
    work, lanes = Assembly(), host.lanes(x.dtype)
    sizes, factor = [n for n, _ in groups], bits(count / (count - correction))
    n, runs = sizes[-1], (sizes[0] if len(sizes) == 3 else 1)
    units = math.prod(sizes[:-1]) // runs
    if not kinds[-1]:
        samples, n = sizes
        block, blocks = blocks_of(samples, n)
        parts = work.memory(blocks * 2 * n * x.dtype.itemsize)
        work.call(column_parts(x.dtype, lanes, True, n < lanes), (inp(0), parts, n, block, samples), blocks)
        _join_parts(work, x.dtype, parts, n, (blocks, block, samples), (factor, int(root)))
    elif runs == 1 and n >= 2 * ROW:
        segments = -(-n // ROW)
        parts = work.memory(segments * 2 * units * x.dtype.itemsize)
        work.call(moment_parts(x.dtype, lanes), (inp(0), parts, n, ROW, units), segments * units)
        _join_parts(work, x.dtype, parts, units, (segments, ROW, n), (factor, int(root)))
    else:
        work.call(variance_runs(x.dtype, lanes), (inp(0), out(0), runs, n, units * n, n, factor, int(root)), units,
                  max(1, GRAIN // (runs * n)))
    return work.plan((Spec(result_shape(x.shape, dim, keepdim), x.dtype),))


def _join_parts(work: Assembly, dtype: np.dtype, parts: Ref, n: int, blocks: tuple[int, int, int],
                finish: tuple[int, int]) -> None:
    """The calls that make ``n`` variances of the moments of blocks: how many, elements of a block, elements of all."""
    room = work.memory(4 * n * dtype.itemsize)
    held = [Ref(room.kind, room.index, i * n * dtype.itemsize) for i in range(4)]
    lanes, (number, block, samples) = host.lanes(dtype), blocks
    join = column_moments(dtype, lanes, True)
    work.call(join, (parts, *held, n, number, block, samples, bits(0)), -(-n // lanes), 64)
    work.call(scale_variance(dtype), (held[1], out(0), *finish), n, 4096)


def var(x: Array, *, dim: tuple[int, ...], unbiased: bool | None, keepdim: bool, correction: float) -> Plan | None:
    """Plan the variance over ``dim``."""
    return _variance(x, dim, correction, keepdim, False)


def std(x: Array, *, dim: tuple[int, ...], unbiased: bool | None, keepdim: bool, correction: float) -> Plan | None:
    """Plan the standard deviation over ``dim``."""
    return _variance(x, dim, correction, keepdim, True)
