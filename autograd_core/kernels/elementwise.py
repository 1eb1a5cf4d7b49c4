"""Fused elementwise loops: planned over any shapes, compiled from generated files (`loop_text`), kept on disk.

Results with a reduction are combined from partial ones, pair by pair and sums in float64, in an order that depends on
the shape alone.
"""
from __future__ import annotations

import hashlib
import linecache
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autograd_core.kernels import cache
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.loop_text import FLAT_HEAD, IMPORT, Loop, flat_source, partial_dtype, rows_source
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, numbers, out, scratch
from autograd_core.kernels.runner import RangeKernel, once, range_kernel

FLAT_BLOCK = 4096  # elements of one unit of work: some microseconds
ROW_BLOCK = 1024  # of a reduction: at most 64 to 256 additions one after the other in a lane, then pairs
GRAIN = 32768  # elements that a chunk holds at least: what is less does not pay for its way to another core

# ------------------------------------------------------------------------------------------------------------- kernels


@once
def generated(source: str) -> RangeKernel:
    """The kernel of a generated file; its name in the caches is the hash of the text and of the modules it imports."""
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    modules = source.partition(IMPORT)[2].partition("\n")[0].split(", ")
    digests = [cache.sources(str(Path(__file__).with_name(f"{module}.py"))) for module in modules]
    kernel = RangeKernel(f"loop.{name}@{','.join(digests)}", lambda: _load(source, f"loop-{name}.py"))
    kernel.source = source
    return kernel


def _load(source: str, name: str) -> Any:
    """The function ``kernel`` of a generated file, which is written to the cache's folder for people to read."""
    path = _write(source, name) or f"<{name}>"
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    space: dict[str, Any] = {"__name__": name.removesuffix(".py").replace("-", "_")}
    exec(compile(source, path, "exec"), space)  # noqa: S102 (the text was written above)
    return space["kernel"]


def _write(source: str, name: str) -> str | None:
    """Write a file to the cache's folder and return its path, None where that cannot be."""
    folder = cache.folder()
    if folder is None:
        return None
    try:
        handle, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(source)
        os.replace(temporary, folder / name)
    except OSError:  # a full disk or a read-only folder: the code is compiled from memory
        return None
    return str(folder / name)


@range_kernel
def combine(reduce, partial, dtype):
    """Combine partial results pair by pair. Context: them, how many an output, outputs, bits of a mean's divisor."""
    P, S = simd.scalar(np.dtype(partial)), simd.scalar(np.dtype(dtype))
    mean, largest, smallest = reduce == "mean", reduce == "max", reduce == "min"

    @simd.device
    def pair(a, b):
        if largest:
            return simd.maximum(a, b)
        if smallest:
            return simd.minimum(a, b)
        return a + b

    def kernel(context, start, stop):
        w = simd.words(context)
        target = simd.pointer(w[2], S)
        for row in range(start, stop):
            part = simd.advance(simd.pointer(w[0], P), row * w[1])
            count = w[1]
            while count > 1:
                half = count >> 1
                for i in range(half):
                    part[i] = pair(part[2 * i], part[2 * i + 1])
                if count > 2 * half:
                    part[half] = part[count - 1]
                count -= half
            value = part[0]
            if mean:
                value = value / simd.real(w[3])
            target[row] = S(value)

    return kernel


# ------------------------------------------------------------------------------------------------------------- planning


def plan_loop(*arrays: Array, loop: Loop, axes: int | None = 0, gather: bool = True,
              ordered: bool = False) -> Plan | None:  # fmt: skip
    """Plan a loop over broadcast arrays, in the order of ``loop.inputs``; then the numbers (float64), if it has any.

    Without an array of numbers they come with the launch (`plan.numbers`).

    Outputs have the broadcast shape, those with a reduction are reduced over the last ``axes`` dimensions (at least 1;
    None: all). ``gather=False`` refuses inputs that are strided along the rows. ``ordered`` asks for outputs in C
    order; else they may have the order of the inputs.
    """
    given = arrays[: len(loop.inputs)]
    settings = 0 if not loop.numbers else inp(len(given)) if len(arrays) > len(given) else numbers()
    if any(a.dtype.name != d or not a.dtype.isnative for a, d in zip(given, loop.inputs, strict=True)) or not given:
        return None
    shape = np.broadcast_shapes(*[a.shape for a in given])
    reduced = any(output.reduce for output in loop.outputs)
    axes = len(shape) if axes is None else axes
    if reduced and (0 in shape or not axes):
        return None
    if not reduced and all(a.shape == shape for a in given):
        strides = _common_dense_strides(shape, given)
        if strides is not None and not (ordered and _is_permuted(shape, strides)):
            return _plan_flat(loop, shape, strides, settings)
    return _plan_rows(loop, shape, given, axes if reduced else 0, gather, settings)


def _common_dense_strides(shape: tuple[int, ...], given: Sequence[Array]) -> tuple[int, ...] | None:
    """Strides in elements that all arrays share, if the elements lie without gaps; None else."""
    found = None
    for a in given:
        strides = tuple(s // a.dtype.itemsize if n != 1 else 0 for s, n in zip(a.strides, shape, strict=True))
        if (found is not None and strides != found) or any(s % a.dtype.itemsize for s in a.strides):
            return None
        found = strides
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(found or (), shape, strict=True) if n != 1):
        if stride != expected:
            return None
        expected *= n
    return found


def _plan_flat(loop: Loop, shape: tuple[int, ...], strides: tuple[int, ...], settings: int | Ref) -> Plan:
    size = math.prod(shape)
    specs = []
    for output in loop.outputs:
        dtype = np.dtype(loop.dtypes[output.value])
        steps = tuple(max(s, 1) * dtype.itemsize for s in strides)
        specs.append(Spec(shape, dtype, steps if _is_permuted(shape, strides) else None))
    addresses = [*map(inp, range(len(loop.inputs))), *map(out, range(len(loop.outputs)))]
    kernel = generated(flat_source(loop, loop.lanes, (None,) * len(loop.outputs)))
    _FLAT[kernel] = 2 + len(addresses)
    context = (settings, 1, FLAT_BLOCK, 0, size, *addresses)
    return Plan(tuple(specs), (Call(kernel, context, -(-size // FLAT_BLOCK), GRAIN // FLAT_BLOCK),))


def one_launch(first: Plan, second: Plan, inputs: int) -> Plan | None:
    """Two plans of the same loop over contiguous memory, with the same run-time numbers, as one call; None for others.

    Arrays of the second follow those of the first, which has so many ``inputs``. Neither may read what the other one
    writes.
    """
    if len(first.calls) != 1 or len(second.calls) != 1 or first.calls[0].kernel is not second.calls[0].kernel:
        return None
    (one,), (other,) = first.calls, second.calls
    if one.kernel not in _FLAT:
        return None
    width, shift = _FLAT[one.kernel], {"input": inputs, "output": len(first.outputs)}
    words: list[int | Ref] = list(one.context)
    for k, word in enumerate(other.context[FLAT_HEAD:]):
        moved = replace(word, index=word.index + shift[word.kind]) if isinstance(word, Ref) else word
        words.append(moved + one.size if k % width == 0 else moved)  # type: ignore[operator]
    words[1] = one.context[1] + other.context[1]  # type: ignore[operator]
    call = Call(one.kernel, tuple(words), one.size + other.size, one.grain)
    return Plan((*first.outputs, *second.outputs), (call,))


_FLAT: dict[RangeKernel, int] = {}  # kernels of loops over contiguous memory: words of a segment


def _is_permuted(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    real = [s for s, n in zip(strides, shape, strict=True) if n != 1]
    return real != sorted(real, reverse=True)


def plan_update(*arrays: Array, loop: Loop, targets: tuple[int, ...]) -> Plan | None:
    """Plan a loop over many groups of C-ordered arrays in one launch, written in place: the step of an optimizer.

    ``arrays``: the numbers, then for each group the inputs in order. Output i is written over input ``targets[i]``.
    """
    count, units = len(loop.inputs), 0
    words: list[int | Ref] = []
    for first in range(1, len(arrays), count):
        group = arrays[first : first + count]
        size = math.prod(group[0].shape)
        if any(a.shape != group[0].shape or a.strides != group[0].strides or a.dtype.name != d
               for a, d in zip(group, loop.inputs, strict=True)) or not size:  # fmt: skip
            return None
        if _common_dense_strides(group[0].shape, group) is None:
            return None
        words += [units, size, *[inp(first + i) for i in range(count)]]
        units += -(-size // FLAT_BLOCK)
    kernel = generated(flat_source(loop, loop.lanes, targets))
    context = (inp(0), len(words) // (count + 2), FLAT_BLOCK, *words)
    return Plan((), (Call(kernel, context, units, GRAIN // FLAT_BLOCK),))


def collapsed(sizes: Sequence[int], strides: Sequence[Sequence[int]],
               border: int) -> tuple[list[int], list[list[int]]]:  # fmt: skip
    """Merge neighbouring dimensions that are one for every array, none across ``border``; those of size 1 go."""
    kept: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    after_border = False
    for d, n in enumerate(sizes):
        after_border |= d == border
        if n == 1:
            continue
        if kept and not after_border and all(k[-1] == s[d] * n for k, s in zip(steps, strides, strict=True)):
            kept[-1] *= n
            for k, s in zip(steps, strides, strict=True):
                k[-1] = s[d]
            continue
        kept.append(n)
        for k, s in zip(steps, strides, strict=True):
            k.append(s[d])
        after_border = False
    return kept, steps


def _plan_rows(loop: Loop, shape: tuple[int, ...], given: Sequence[Array], axes: int, gather: bool,
               settings: int | Ref) -> Plan | None:  # fmt: skip
    border = len(shape) - axes
    strides = []
    for a in given:
        missing = len(shape) - len(a.shape)
        padded = [*[0] * missing, *[0 if n == 1 else s for n, s in zip(a.shape, a.strides, strict=True)]]
        if any(s % a.dtype.itemsize for s in padded):
            return None
        strides.append(padded)
    reduced = axes > 0 and any(output.reduce for output in loop.outputs)
    sizes, steps = collapsed(shape, strides, border if reduced else -1)
    inner = math.prod(shape[border:]) if reduced else 0
    if not sizes or (reduced and inner == 1):  # nothing along a row: a row of one element
        sizes, steps = [*sizes, 1], [[*s, 0] for s in steps]
    length, sizes = sizes[-1], sizes[:-1]
    along = [s[-1] // a.dtype.itemsize for s, a in zip(steps, given, strict=True)]
    modes = "".join("s" if s == 0 else "c" if s == 1 else "g" for s in along)
    if not gather and "g" in modes:
        return None
    return _rows_plan(loop, shape, axes, sizes, length, along, [s[:-1] for s in steps], modes, settings)


def _rows_plan(loop: Loop, shape: tuple[int, ...], axes: int, sizes: list[int], length: int, along: list[int],
               steps: list[list[int]], modes: str, settings: int | Ref) -> Plan:  # fmt: skip
    reduced = any(output.reduce for output in loop.outputs)
    block = min(ROW_BLOCK if reduced else FLAT_BLOCK, max(length, 1))
    blocks = -(-length // block)
    units = math.prod(sizes) * blocks
    border = len(shape) - axes
    inner, rows = math.prod(shape[border:]), math.prod(shape[:border])
    each = units // rows if rows and reduced else 0  # partial results of one output
    specs, refs, after = [], [], []
    pieces: list[int] = []
    for i, output in enumerate(loop.outputs):
        dtype = loop.dtypes[output.value]
        specs.append(Spec(shape[:border] if output.reduce else shape, np.dtype(dtype)))
        if not output.reduce:
            refs.append(out(i))
            continue
        partial = partial_dtype(output.reduce, dtype)
        refs.append(scratch(len(pieces)))
        facts = (scratch(len(pieces)), each, out(i), bits(inner))
        after.append(Call(combine(output.reduce, partial, dtype), facts, rows, max(1, GRAIN // max(each, 1))))
        pieces.append(units * np.dtype(partial).itemsize)
    context: list[int | Ref] = [settings, length, block, max(blocks, 1), *sizes]
    for i, (stride, outer) in enumerate(zip(along, steps, strict=True)):
        context += [inp(i), stride, *outer]
    kernel = generated(rows_source(loop, loop.lanes, len(sizes), modes))
    calls = [Call(kernel, (*context, *refs), units, max(1, GRAIN // block)), *after]
    return Plan(tuple(specs), tuple(calls), tuple(pieces))
