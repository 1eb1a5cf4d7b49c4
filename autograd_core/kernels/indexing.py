"""Slices picked by arrays of integers, and slices put back where such arrays say.

Indices count from the end where they are negative. That they lie in range is looked at before: by the operations
themselves, in compiled programs by what `checked` says of them.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autograd_core.kernels.lazy import simd
from autograd_core.kernels.moves import copying, dense
from autograd_core.kernels.plan import Array, Call, Plan, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel

GRAIN = 16384  # elements of a chunk
HEAD = 6  # words before those of the arrays of indices: address, length of the dimension, stride


def combiner(how: str):
    """Device function: what becomes of an element and the one that is put there; NaN stays where it is."""
    if how == "add":
        return simd.device(lambda a, b: a + b)
    if how == "multiply":
        return simd.device(lambda a, b: a * b)
    if how == "maximum":
        return simd.device(lambda a, b: b if b > a or b != b else a)
    if how == "minimum":
        return simd.device(lambda a, b: b if b < a or b != b else a)
    return simd.device(lambda a, b: b)


def element(how: str, dtype: np.dtype) -> np.dtype | None:
    """The type as which elements are worked on: bytes where they are only moved; None where no kernel serves them."""
    if how == "set":
        return np.dtype(f"u{dtype.itemsize}") if dtype.itemsize in (1, 2, 4, 8) and dtype.isnative else None
    return dtype if dtype.char in "fd" and dtype.isnative else None


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
def take(itemsize, arrays, single):
    """Copy slices; a unit is (outer, position). ``single``: slices are elements.

    Context: x, out, positions, length of a slice, stride of outer in x, a free word, indices.
    """
    S, place = simd.scalar(np.dtype(f"u{itemsize}")), _place(arrays)

    def kernel(context, start, stop):
        w = simd.words(context)
        positions, length = w[2], w[3]
        outer = start // positions
        position = start - outer * positions
        x, target = simd.pointer(w[0], S), simd.advance(simd.pointer(w[1], S), start * length)
        unit = start
        while unit < stop:
            last = min(positions, position + stop - unit)
            source = simd.advance(x, outer * w[4])
            if single:
                for k in range(position, last):
                    target[k - position] = source[place(w, k)]
            else:
                for k in range(position, last):
                    slice_, there = simd.advance(source, place(w, k)), simd.advance(target, (k - position) * length)
                    for i in range(length):
                        there[i] = slice_[i]
            target = simd.advance(target, (last - position) * length)
            unit, position, outer = unit + last - position, 0, outer + 1

    return kernel


@range_kernel
def put(dtype, arrays, how, single):
    """Put slices where `take` would take them from; a unit is (outer, run of elements of a slice).

    No two units meet, and each goes through the positions in order. Context: slices, out, positions, length of a slice,
    stride of outer in out, length of a run, indices.
    """
    S, place, combine = simd.scalar(dtype), _place(arrays), combiner(how)

    def kernel(context, start, stop):
        w = simd.words(context)
        positions, length, run = w[2], w[3], w[5]
        runs = (length + run - 1) // run
        for unit in range(start, stop):
            outer = unit // runs
            first = (unit - outer * runs) * run
            count = min(run, length - first)
            source = simd.advance(simd.pointer(w[0], S), outer * positions * length + first)
            target = simd.advance(simd.pointer(w[1], S), outer * w[4] + first)
            if single:
                for position in range(positions):
                    at = place(w, position)
                    target[at] = combine(target[at], source[position])
            else:
                for position in range(positions):
                    there = simd.advance(target, place(w, position))
                    for i in range(count):
                        there[i] = combine(there[i], source[i])
                    source = simd.advance(source, length)

    return kernel


# ------------------------------------------------------------------------------------------------------------- planning


class Checked(NamedTuple):
    """Which argument holds indices, the lowest that they may be, and the limit below which they lie."""

    argument: int
    lowest: int
    limit: int


def _first(shape: Sequence[int], spec: tuple, indices: Sequence[Array | None]) -> int | None:
    """The dimension of the first array of an index (None is a whole one), if all stand side by side and are alike."""
    arrays = [k for k, part in enumerate(spec) if part is not None]
    if not arrays or arrays != list(range(arrays[0], arrays[-1] + 1)) or len(arrays) != len(indices):
        return None
    if len(spec) > len(shape) or 0 in shape:
        return None
    for x in indices:
        if x is None or x.dtype != np.int64 or x.shape != indices[0].shape or 0 in x.shape:  # type: ignore[union-attr]
            return None
        if not is_c_ordered(x):
            return None
    return arrays[0]


class Slices(NamedTuple):
    """What an index picks: outers, positions, length of a slice, stride of an outer, and the shape of all that."""

    outers: int
    positions: int
    length: int
    step: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], first: int, indices: Sequence[Array | None]) -> Slices:
        """What arrays pick from dimension ``first`` on."""
        count, place = len(indices), indices[0].shape  # type: ignore[union-attr]
        after = shape[first + count :]
        return cls(math.prod(shape[:first]), math.prod(place), math.prod(after), math.prod(shape[first:]),
                   (*shape[:first], *place, *after))  # fmt: skip


def _words(shape: tuple[int, ...], first: int, count: int, argument: int) -> list:
    """What a context says of the arrays of indices, of which the first is ``argument``."""
    return [x for a in range(count) for x in (inp(argument + a), shape[first + a], math.prod(shape[first + a + 1 :]))]


def pick(x: Array, *indices: Array | None, spec: tuple) -> Plan | None:
    """Plan ``ops.pick`` by arrays of int64 side by side, of a C-ordered array."""
    first, kind = _first(x.shape, spec, indices), element("set", x.dtype)
    if first is None or kind is None or not is_c_ordered(x):
        return None
    found, words = Slices.of(x.shape, first, indices), _words(x.shape, first, len(indices), 1)
    call = Call(take(kind.itemsize, len(indices), found.length == 1), (inp(0), out(0), *found[1:4], 0, *words),
                found.outers * found.positions, max(1, GRAIN // found.length))  # fmt: skip
    return Plan((Spec(found.shape, x.dtype),), (call,))


def _putting(shape: tuple[int, ...], source: Array, number: int, first: int, indices: Sequence[Array | None],
             rows: int, how: str) -> Call | None:  # fmt: skip
    """The call that puts argument ``number`` into the output; the arrays of indices are arguments ``rows`` and on."""
    found, kind = Slices.of(shape, first, indices), element(how, source.dtype)
    if kind is None or source.shape != found.shape or not is_c_ordered(source):
        return None
    run = min(found.length, max(64, GRAIN // found.positions))
    context = (inp(number), out(0), *found[1:4], run, *_words(shape, first, len(indices), rows))
    return Call(put(kind, len(indices), how, found.length == 1), context, found.outers * -(-found.length // run),
                max(1, GRAIN // (found.positions * run)))  # fmt: skip


def in_zeros(g: Array, *indices: Array | None, shape: tuple[int, ...], spec: tuple) -> Plan | None:
    """Plan ``ops.in_zeros`` at an index as :func:`pick` serves it."""
    first = _first(shape, spec, indices)
    call = None if first is None else _putting(tuple(shape), g, 0, first, indices, 1, "add")
    return None if call is None else Plan((Spec(tuple(shape), g.dtype),), (call,), (), (0,))


def place(x: Array, source: Array, *indices: Array | None, spec: tuple, how: str) -> Plan | None:
    """Plan ``ops.place`` at an index as :func:`pick` serves it: a copy of ``x`` with slices put into it."""
    return _placing(x, source, indices, spec, how, 1, 2)


def _placing(x: Array, source: Array, indices: Sequence[Array | None], spec: tuple, how: str, at: int,
             rows: int) -> Plan | None:  # fmt: skip
    """The plan of slices put into a copy of ``x``; ``at`` and ``rows``: arguments source and the first indices."""
    first = _first(x.shape, spec, indices)
    if first is None or source.dtype != x.dtype:
        return None
    calls = (copying(inp(0), x, out(0), dense(x.shape, x.dtype.itemsize)),
             _putting(x.shape, source, at, first, indices, rows, how))  # fmt: skip
    return None if None in calls else Plan((Spec(x.shape, x.dtype),), calls)  # type: ignore[arg-type]


def _index(x: Array, index: Array, source: Array, dim: int, how: str) -> Plan | None:
    return _placing(x, source, (index,), _along(dim), how, 2, 1) if len(index.shape) == 1 else None


def _along(dim: int) -> tuple:
    return (None,) * dim + ("array",)


def take_slices(x: Array, index: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.take_slices``."""
    return pick(x, index, spec=_along(dim))


def slices_in_zeros(g: Array, index: Array, *, shape: tuple[int, ...], dim: int) -> Plan | None:
    """Plan ``ops.slices_in_zeros``."""
    return in_zeros(g, index, shape=shape, spec=_along(dim))


def put_slices(x: Array, source: Array, index: Array, *, dim: int, how: str) -> Plan | None:
    """Plan ``ops.put_slices``."""
    return place(x, source, index, spec=_along(dim), how=how)


def index_select(x: Array, index: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.index_select``."""
    return take_slices(x, index, dim=dim) if len(index.shape) == 1 else None


def index_add(x: Array, index: Array, source: Array, *, dim: int, alpha: float) -> Plan | None:
    """Plan ``ops.index_add``."""
    return _index(x, index, source, dim, "add") if alpha == 1 else None


def index_copy(x: Array, index: Array, source: Array, *, dim: int) -> Plan | None:
    """Plan ``ops.index_copy``."""
    return _index(x, index, source, dim, "set")


def checked(name: str, shapes: Sequence[tuple[int, ...] | None], static: dict) -> list[Checked]:
    """What must hold of the indices of an operation that has a plan here or among `elements`."""
    shape, first = static.get("shape", shapes[0]), FIRST_INDEX.get(name, 1)
    assert shape is not None
    if "spec" not in static:
        limit = shape[static["dim"]]
        return [Checked(first, -limit if "slices" in name else 0, limit)]
    axes = [k for k, part in enumerate(static["spec"]) if part is not None]
    return [Checked(first + a, -shape[axis], shape[axis]) for a, axis in enumerate(axes)]


FIRST_INDEX = {"place": 2, "put_slices": 2, "combine_slices": 2}
"""Operations whose indices do not begin with the second argument."""
