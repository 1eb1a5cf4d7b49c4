"""Copies between strided memory: arrays joined, piled, and put into zeros, in compiled programs."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autograd_core.kernels.elementwise import collapsed
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, inp, out
from autograd_core.kernels.runner import range_kernel

GRAIN = 16384  # elements of a chunk


@range_kernel
def move(itemsize, step):
    """Copy rows; a unit is a row. ``step`` is 1 or -1 where rows are read so, and written forwards; 0 for any others.

    Context: source, target, length of a row, steps along it (source, target), dimensions, then length and strides
    (source, target) of each, all in elements.
    """
    S = simd.scalar(np.dtype(f"u{itemsize}"))

    def kernel(context, start, stop):
        w = simd.words(context)
        length, source_step, target_step = w[2], w[3], w[4]
        for unit in range(start, stop):
            source, target, rest = simd.pointer(w[0], S), simd.pointer(w[1], S), unit
            for d in range(w[5] - 1, -1, -1):
                at = 6 + 3 * d
                following = rest // w[at]
                i, rest = rest - following * w[at], following
                source, target = simd.advance(source, i * w[at + 1]), simd.advance(target, i * w[at + 2])
            if step != 0:
                for i in range(length):
                    target[i] = source[i * step]
            else:
                for i in range(length):
                    target[i * target_step] = source[i * source_step]

    return kernel


SHORT = 8  # rows shorter than this are not worth a unit where there are longer ones


def copying(source: Ref, a: Array, target: Ref, strides: Sequence[int]) -> Call | None:
    """The call that copies ``a`` to where ``strides`` (in bytes) look; None where strides are no whole elements.

    A row is the dimension with the smallest stride in the target, or the longest one where that is short.
    """
    size = a.dtype.itemsize
    if size not in (1, 2, 4, 8) or any([s % size for s in (*a.strides, *strides)]) or 0 in a.shape:
        return None
    order = sorted(range(len(strides)), key=lambda d: -abs(strides[d]))
    given = [[s[d] // size for d in order] for s in (a.strides, strides)]
    sizes, steps = collapsed([a.shape[d] for d in order], given, -1)
    if not sizes:
        sizes, steps = [1], [[1], [1]]
    row = len(sizes) - 1 if sizes[-1] >= SHORT else sizes.index(max(sizes))
    length, along = sizes.pop(row), [s.pop(row) for s in steps]
    pieces = next((n for n in (64, 32, 16, 8, 4, 3, 2) if length % n == 0 and length >= n * GRAIN), 1)
    if not sizes and pieces > 1:  # one long row is work for several threads, too
        sizes, length = [pieces], length // pieces
        steps = [[s * length] for s in along]
    outer = [x for d, n in enumerate(sizes) for x in (n, steps[0][d], steps[1][d])]
    context: tuple[int | Ref, ...] = (source, target, length, *along, len(sizes), *outer)
    step = along[0] if along[1] == 1 and along[0] in (1, -1) else 0
    return Call(move(size, step), context, math.prod(sizes), max(1, GRAIN // length))


def _plan(arrays: Sequence[Array | None], shape: tuple[int, ...], parts: Sequence[tuple[int, tuple[int, ...]]],
          zero: tuple[int, ...] = ()) -> Plan | None:  # fmt: skip
    """The plan that copies each array to its part, (offset, strides), of a C-ordered result."""
    calls = []
    for number, (a, (offset, strides)) in enumerate(zip(arrays, parts, strict=True)):
        if a is None or a.dtype != arrays[0].dtype:  # type: ignore[union-attr]
            return None
        call = copying(inp(number), a, out(0, offset), strides)
        if call is None:
            return None
        calls.append(call)
    return Plan((Spec(shape, arrays[0].dtype),), tuple(calls), (), zero)  # type: ignore[union-attr]


def dense(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides of C order."""
    return tuple([itemsize * math.prod(shape[d + 1 :]) for d in range(len(shape))])


def join(*arrays: Array | None, dim: int) -> Plan | None:
    """Plan ``ops.join``: arrays one after the other along ``dim``."""
    first = arrays[0]
    if first is None or any([a is None or len(a.shape) != len(first.shape) for a in arrays]):
        return None
    dim %= len(first.shape)
    lengths = [a.shape[dim] for a in arrays if a is not None]
    shape = (*first.shape[:dim], sum(lengths), *first.shape[dim + 1 :])
    strides = dense(shape, first.dtype.itemsize)
    return _plan(arrays, shape, [(sum(lengths[:i]) * strides[dim], strides) for i in range(len(arrays))])


def pile(*arrays: Array | None, dim: int) -> Plan | None:
    """Plan ``ops.pile``: arrays of one shape side by side along a new ``dim``."""
    first = arrays[0]
    if first is None:
        return None
    dim %= len(first.shape) + 1
    shape = (*first.shape[:dim], len(arrays), *first.shape[dim:])
    strides = dense(shape, first.dtype.itemsize)
    own = strides[:dim] + strides[dim + 1 :]
    return _plan(arrays, shape, [(i * strides[dim], own) for i in range(len(arrays))])


def _part(shape: Sequence[int], dtype: np.dtype, index: tuple) -> tuple[int, np.ndarray]:
    """Where a basic index begins in an array of ``shape``, in bytes, and an array that is never read: its strides."""
    whole = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, dense(shape, dtype.itemsize))
    part = whole[(*index, ...)] if ... not in index else whole[index]
    return part.__array_interface__["data"][0] - whole.__array_interface__["data"][0], part


def in_zeros(x: Array, *, shape: tuple[int, ...], spec: tuple) -> Plan | None:
    """Plan ``ops.in_zeros`` at a basic index: zeros but for the part that ``x`` fills."""
    if 0 in shape or x.dtype.char not in "fd":
        return None
    offset, part = _part(shape, x.dtype, spec)
    if part.shape != x.shape:
        return None
    return _plan([x], tuple(shape), [(offset, part.strides)], (0,))


def write_slice(x: Array, value: Array, *, index: tuple) -> Plan | None:
    """Plan ``ops.write_slice``: a copy of ``x`` with ``value`` at a basic index."""
    if 0 in x.shape or value.dtype != x.dtype:
        return None
    offset, part = _part(x.shape, x.dtype, index)
    if part.shape != value.shape:
        return None
    calls = (copying(inp(0), x, out(0), dense(x.shape, x.dtype.itemsize)),
             copying(inp(1), value, out(0, offset), part.strides))  # fmt: skip
    return None if None in calls else Plan((Spec(x.shape, x.dtype),), calls)  # type: ignore[arg-type]


def clone(x: Array, *, memory_format: object) -> Plan | None:
    """Plan ``ops.clone``: a copy, laid as ``x`` is where that has no gaps."""
    return flip(x, dims=())


def flip(x: Array, *, dims: tuple[int, ...]) -> Plan | None:
    """Plan ``ops.flip``: a copy in reverse order along ``dims``, laid as ``x`` is where that has no gaps."""
    if 0 in x.shape or not x.dtype.isnative:
        return None
    order = sorted(range(len(x.shape)), key=lambda d: -x.strides[d])
    packed = dense([x.shape[d] for d in order], x.dtype.itemsize)
    strides = tuple([packed[order.index(d)] for d in range(len(order))])
    if any([n > 1 and s != t for n, s, t in zip(x.shape, x.strides, strides, strict=True)]):
        strides = dense(x.shape, x.dtype.itemsize)
    turned = [-s if d in dims else s for d, s in enumerate(x.strides)]
    first = sum([(n - 1) * s for d, (n, s) in enumerate(zip(x.shape, x.strides, strict=True)) if d in dims])
    call = copying(inp(0, first), Array(x.shape, tuple(turned), x.dtype), out(0), strides)
    return None if call is None else Plan((Spec(x.shape, x.dtype, strides),), (call,))
