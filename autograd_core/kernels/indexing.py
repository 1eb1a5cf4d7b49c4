"""Elements and slices picked by arrays of integers, and their adjoints, in compiled programs.

Indices of slices count from the end where they are negative. That they lie in range is looked at before (`Checked`).
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel

GRAIN = 16384  # elements of a chunk
WHOLE = slice(None)
HEAD = 5  # words before those of the arrays of indices: address, length of the dimension, stride


def _place(arrays: int):
    """Device function: how far from the first element a position's slice begins."""

    def place(w, position):
        found = 0
        for a in range(arrays):
            at = HEAD + 3 * a
            index = simd.words(w[at])[position]
            if index < 0:
                index += w[at + 1]
            found += index * w[at + 2]
        return found

    return simd.device(place)


@range_kernel
def take(itemsize, arrays):
    """Copy slices; a unit is (outer, position). Context: x, out, positions, length of a slice, stride of outer in x."""
    S, place = simd.scalar(np.dtype(f"u{itemsize}")), _place(arrays)

    def kernel(context, start, stop):
        w = simd.words(context)
        positions, length = w[2], w[3]
        for unit in range(start, stop):
            outer = unit // positions
            source = simd.advance(simd.pointer(w[0], S), outer * w[4] + place(w, unit - outer * positions))
            target = simd.advance(simd.pointer(w[1], S), unit * length)
            for i in range(length):
                target[i] = source[i]

    return kernel


@range_kernel
def put(dtype, arrays):
    """Add slices of g where `take` would take them from; a unit is an outer. Context: as of `take`, g and out for x."""
    S, place = simd.scalar(dtype), _place(arrays)

    def kernel(context, start, stop):
        w = simd.words(context)
        positions, length = w[2], w[3]
        for outer in range(start, stop):
            for position in range(positions):
                source = simd.advance(simd.pointer(w[0], S), (outer * positions + position) * length)
                target = simd.advance(simd.pointer(w[1], S), outer * w[4] + place(w, position))
                for i in range(length):
                    target[i] += source[i]

    return kernel


@range_kernel
def take_each(itemsize):
    """Copy elements; a unit is an outer. Context: x, out, indices, their number, length of x's dimension, inner."""
    S = simd.scalar(np.dtype(f"u{itemsize}"))

    def kernel(context, start, stop):
        w = simd.words(context)
        count, size, inner = w[3], w[4], w[5]
        for outer in range(start, stop):
            source = simd.advance(simd.pointer(w[0], S), outer * size * inner)
            target = simd.advance(simd.pointer(w[1], S), outer * count * inner)
            indices = simd.words(w[2] + 8 * outer * count * inner)
            for k in range(count):
                for i in range(inner):
                    target[k * inner + i] = source[indices[k * inner + i] * inner + i]

    return kernel


@range_kernel
def put_each(dtype):
    """Add elements of g where `take_each` would take them from. Context: as of `take_each`, g and out for x."""
    S = simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        count, size, inner = w[3], w[4], w[5]
        for outer in range(start, stop):
            source = simd.advance(simd.pointer(w[0], S), outer * count * inner)
            target = simd.advance(simd.pointer(w[1], S), outer * size * inner)
            indices = simd.words(w[2] + 8 * outer * count * inner)
            for k in range(count):
                for i in range(inner):
                    target[indices[k * inner + i] * inner + i] += source[k * inner + i]

    return kernel


# ------------------------------------------------------------------------------------------------------------- planning


class Checked(NamedTuple):
    """Which argument holds indices, the lowest that they may be, and the limit below which they lie."""

    argument: int
    lowest: int
    limit: int


def _first(shape: Sequence[int], spec: tuple, indices: Sequence[Array | None]) -> int | None:
    """The dimension of the first array of an index; None unless arrays of one shape stand side by side, among `:`."""
    arrays = [k for k, part in enumerate(spec) if type(part) is str]
    if not arrays or arrays != list(range(arrays[0], arrays[-1] + 1)) or len(arrays) != len(indices):
        return None
    if any([part != WHOLE for part in spec if type(part) is not str]) or len(spec) > len(shape) or 0 in shape:
        return None
    for x in indices:
        if x is None or x.dtype != np.int64 or x.shape != indices[0].shape or 0 in x.shape:  # type: ignore[union-attr]
            return None
    return arrays[0]


def _in_order(*arrays: Array | None) -> bool:
    return all(x is not None and is_c_ordered(x) for x in arrays)


def _slices(shape: tuple[int, ...], first: int, indices: Sequence[Array | None],
            ) -> tuple[int, int, int, int, list[int], tuple[int, ...]]:
    """Outers, positions, length of a slice, stride of an outer, words of the indices, shape of what is picked."""
    count, steps = len(indices), [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    words = [x for a in range(count) for x in (0, shape[first + a], steps[first + a])]
    place = indices[0].shape  # type: ignore[union-attr]
    found = (*shape[:first], *place, *shape[first + count :])
    return (math.prod(shape[:first]), math.prod(place), steps[first + count - 1], math.prod(shape[first:]), words,
            found)


def pick(x: Array, *indices: Array | None, spec: tuple) -> Plan | None:
    """Plan ``ops.pick`` by arrays of int64 side by side, of a C-ordered array."""
    first = _first(x.shape, spec, indices)
    if first is None or not _in_order(x, *indices) or x.dtype.itemsize not in (1, 2, 4, 8):
        return None
    outers, positions, length, step, words, shape = _slices(x.shape, first, indices)
    given = [inp(1 + k // 3) if k % 3 == 0 else word for k, word in enumerate(words)]
    call = Call(take(x.dtype.itemsize, len(indices)), (inp(0), out(0), positions, length, step, *given),
                outers * positions, max(1, GRAIN // length))  # fmt: skip
    return Plan((Spec(shape, x.dtype),), (call,))


def in_zeros(g: Array, *indices: Array | None, shape: tuple[int, ...], spec: tuple) -> Plan | None:
    """Plan ``ops.in_zeros`` at an index as :func:`pick` serves it."""
    first = _first(shape, spec, indices)
    if first is None or not _in_order(g, *indices) or g.dtype.char not in "fd":
        return None
    outers, positions, length, step, words, picked = _slices(tuple(shape), first, indices)
    if g.shape != picked:
        return None
    given = [inp(1 + k // 3) if k % 3 == 0 else word for k, word in enumerate(words)]
    call = Call(put(g.dtype, len(indices)), (inp(0), out(0), positions, length, step, *given), outers,
                max(1, GRAIN // (positions * length)))  # fmt: skip
    return Plan((Spec(tuple(shape), g.dtype),), (call,), (), (0,))


def _each(shape: Sequence[int], index: Array, dim: int) -> tuple[int, int, int, int] | None:
    """Outers, indices of one, length of the dimension, inner; None where the other dimensions differ."""
    dim = dim % len(shape) if shape else 0
    rest = [(a, b) for d, (a, b) in enumerate(zip(shape, index.shape, strict=False)) if d != dim]
    if len(index.shape) != len(shape) or not shape or any([a != b for a, b in rest]) or 0 in (*shape, *index.shape):
        return None
    if index.dtype != np.int64 or not is_c_ordered(index):
        return None
    return math.prod(shape[:dim]), index.shape[dim], shape[dim], math.prod(shape[dim + 1 :])


def gather(x: Array, index: Array, *, dim: int, sparse_grad: bool = False) -> Plan | None:
    """Plan ``ops.gather`` of a C-ordered array by int64 indices of its shape but for ``dim``."""
    facts = _each(x.shape, index, dim)
    if facts is None or not is_c_ordered(x) or x.dtype.itemsize not in (1, 2, 4, 8):
        return None
    outers, *rest = facts
    call = Call(take_each(x.dtype.itemsize), (inp(0), out(0), inp(1), *rest), outers, _share(rest))
    return Plan((Spec(index.shape, x.dtype),), (call,))


def scatter_in_zeros(g: Array, index: Array, *, shape: tuple[int, ...], dim: int) -> Plan | None:
    """Plan ``ops.scatter_in_zeros`` as :func:`gather`."""
    facts = _each(shape, index, dim)
    if facts is None or g.shape != index.shape or not is_c_ordered(g) or g.dtype.char not in "fd":
        return None
    outers, *rest = facts
    call = Call(put_each(g.dtype), (inp(0), out(0), inp(1), *rest), outers, _share(rest))
    return Plan((Spec(tuple(shape), g.dtype),), (call,), (), (0,))


def _share(rest: Sequence[int]) -> int:
    return max(1, GRAIN // (rest[0] * rest[2]))


def checked(name: str, shapes: Sequence[tuple[int, ...] | None], static: dict) -> list[Checked]:
    """What must hold of the indices of an operation that has a plan here."""
    shape = shapes[0] if name in ("pick", "gather") else static["shape"]
    assert shape is not None
    if name in ("gather", "scatter_in_zeros"):
        return [Checked(1, 0, shape[static["dim"]])]
    first = next(k for k, part in enumerate(static["spec"]) if type(part) is str)
    return [Checked(1 + a, -shape[first + a], shape[first + a]) for a in range(len(shapes) - 1)]
