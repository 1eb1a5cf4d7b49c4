"""Plans: what a kernel launch needs, worked out once from shapes, strides and dtypes, then bound to addresses.

A *planner* is a function of descriptions of the inputs that returns a :class:`Plan`. The eager call binds the plan to
arrays and runs it (:func:`execute`); the compiler puts the plans of many ops into one table over an arena of its own
(:class:`Program`).
"""
from __future__ import annotations

import ctypes
import functools
import math
import struct
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from autograd_core.kernels import memory, threads
from autograd_core.kernels.lazy import atomics, simd
from autograd_core.kernels.runner import RangeKernel, once, range_kernel


class Array(NamedTuple):
    """Description of an input: strides in bytes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


def is_c_ordered(x: Array) -> bool:
    """Whether the elements lie one after the other in C order, native and aligned to any size."""
    step = x.dtype.itemsize
    for length, stride in zip(reversed(x.shape), reversed(x.strides), strict=True):
        if length != 1 and stride != step:
            return 0 in x.shape
        step *= length
    return x.dtype.isnative


class Spec(NamedTuple):
    """Description of an output to be allocated; strides in bytes, C order if None, and dense in any case."""

    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """The address ``offset`` bytes into an input, an output or a piece of scratch memory."""

    kind: str
    index: int
    offset: int = 0


def inp(index: int, offset: int = 0) -> Ref:
    """Address in input ``index``."""
    return Ref("input", index, offset)


def out(index: int = 0, offset: int = 0) -> Ref:
    """Address in output ``index``."""
    return Ref("output", index, offset)


def scratch(index: int = 0, offset: int = 0) -> Ref:
    """Address in piece ``index`` of scratch memory."""
    return Ref("scratch", index, offset)


def numbers() -> Ref:
    """Address of the run-time numbers (float64) of a launch, see `Bound.launch`."""
    return Ref("numbers", 0)


def bits(value: float) -> int:
    """The float64 ``value`` as an int64, to hand a constant to a kernel, which reads it with ``simd.real``."""
    return int(np.float64(value).view(np.int64))


@dataclass(frozen=True)
class Call:
    """One call of a range kernel: ``size`` units of work in chunks of ``grain``.

    Chunk i is ``[i * grain, min((i + 1) * grain, size))``, one kernel call each, always, so that results cannot depend
    on the number of threads; more than 65,535 chunks are run by one thread. ``context`` fills the kernel's int64 block
    with ints and :class:`Ref`\\ s.
    """

    kernel: RangeKernel
    context: tuple[int | Ref, ...]
    size: int
    grain: int

    def __post_init__(self) -> None:
        if self.size < 0 or self.grain < 1:
            raise ValueError(f"Call: size is {self.size} and grain {self.grain}; they need to be at least 0 and 1")


@dataclass(frozen=True)
class Plan:
    """Calls to be run in order, with the outputs and the scratch memory (pieces of so many bytes) that they need.

    Outputs in ``zero`` are zeroed before. An output that is not wanted is None, and stays None in the result. A kernel
    that works in place refers to its inputs and has no outputs.
    """

    outputs: tuple[Spec | None, ...]
    calls: tuple[Call, ...]
    scratch: tuple[int, ...] = ()
    zero: tuple[int, ...] = ()


Planner = Callable[..., Plan | None]
ALIGN = 64  # bytes; a cache line, and the widest vector


def lay_out(pieces: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return aligned offsets of pieces of so many bytes, one after the other, and their total."""
    offsets, total = [], 0
    for size in pieces:
        offsets.append(total)
        total += -(-size // ALIGN) * ALIGN
    return tuple(offsets), total


# ------------------------------------------------------------------------------------------------------ native binding

# Where an array object keeps the address of its data: NumPy's public C struct, right after the object's head.
_DATA = object.__basicsize__
_BYTES = bytes.__basicsize__ - 1  # and where a bytes object keeps its bytes, of which it counts the zero behind them


@range_kernel
def bind_and_run(data_offset):
    """Fill a copy of a plan's block with addresses and run its calls: context is the header that `launch` packs.

    Header: address of the plan's facts, arena, state of the threads, then the array objects and the run-time numbers.
    Facts: template, its words, patches, their number, word of the call table, rows, address of the runner, of the word
    that says in which direction to begin, 1 if that changes. A patch is (word, object or -1 for the arena or -2 for the
    header, offset).
    """

    def kernel(context, start, stop):
        header = simd.words(context)
        facts, arena, state = simd.words(header[0]), header[1], header[2]
        template, block, patches = simd.words(facts[0]), simd.words(arena), simd.words(facts[2])
        for i in range(facts[1]):
            block[i] = template[i]
        for i in range(facts[3]):
            word, source, offset = patches[3 * i], patches[3 * i + 1], patches[3 * i + 2]
            base = arena if source == -1 else context
            if source >= 0:
                base = simd.words(header[3 + source] + data_offset)[0]
            block[word] = base + offset
        back = simd.words(facts[7])
        rows = facts[5] if back[0] == 0 else -facts[5]
        back[0] ^= facts[8]
        atomics.call_kernel(facts[6], arena + 8 * facts[4], rows, state)

    return kernel


BACK = np.zeros(1, np.int64)
"""Whether the next launch begins with the last chunk: in the caches lies what the last one ended with."""

_INT64S = [ctypes.c_int64] * 3
_scratch = threading.local()
KEPT = 64 << 20  # bytes of scratch memory that a thread keeps for its next call


def _arena(size: int) -> tuple[int, np.ndarray]:
    """Address of ``size`` bytes of scratch memory, and the array that owns them."""
    memory = np.empty(size + ALIGN, np.uint8)
    address = memory.ctypes.data
    address += -address % ALIGN
    if size <= KEPT:
        _scratch.address, _scratch.size, _scratch.memory = address, size, memory
    return address, memory


@once
def _entries() -> tuple[Any, Any, int]:
    """The native entry that keeps the GIL, the one that releases it, and the address of the runner."""
    address = bind_and_run(_DATA).address
    arguments = [ctypes.c_void_p] * 3  # the cheapest to convert
    return ctypes.PYFUNCTYPE(None, *arguments)(address), ctypes.CFUNCTYPE(None, *arguments)(address), walker()


@once
def walker() -> int:
    """Return the address of the runner: ``walk(table, rows, state of the threads)``."""
    return threads.walk().address


def _block(calls: Sequence[Call]) -> tuple[list[int], list[tuple[int, Ref]], list[tuple[int, int]], int]:
    """Lay contexts and the call table in one block: its words, the refs in them, the (word, target word), the table."""
    words: list[int] = []
    refs: list[tuple[int, Ref]] = []
    places = []
    for call in calls:
        places.append(len(words))
        for value in call.context:
            if isinstance(value, Ref):
                refs.append((len(words), value))
            words.append(0 if isinstance(value, Ref) else int(value))
    table, inner = len(words), []
    for call, place in zip(calls, places, strict=True):
        inner.append((len(words) + 1, place))
        words += [call.kernel.address, 0, call.size, call.grain]
    return words, refs, inner, table


class Bound:
    """A plan made ready: everything about a launch but its arrays and run-time numbers."""

    def __init__(self, plan: Plan, inputs: int, count: int = 0) -> None:
        self.plan = plan
        calls = [call for call in plan.calls if call.size > 0]
        words, refs, inner, table = _block(calls)
        offsets, total = lay_out((8 * len(words), *plan.scratch))
        objects = inputs + len(plan.outputs)
        patches = [(word, -1, 8 * target) for word, target in inner]
        for word, ref in refs:
            if ref.kind == "scratch":
                patches.append((word, -1, offsets[1 + ref.index] + ref.offset))
            elif ref.kind == "numbers":
                patches.append((word, -2, 8 * (HEADER + objects)))
            else:
                patches.append((word, ref.index + (inputs if ref.kind == "output" else 0), ref.offset))
        self._arrays = np.array(words, np.int64), np.array(patches, np.int64).ravel()
        template, changes, back = (array.ctypes.data for array in (*self._arrays, BACK))
        keep, release, walk = _entries()
        divided = sum(call.size > call.grain for call in calls)
        self._facts = np.array([template, len(words), changes, len(patches), table, len(calls), walk, back,
                                divided % 2], np.int64)  # fmt: skip
        self.facts = self._facts.ctypes.data
        self.size = total
        self.shared = divided > 0
        self.run = release if self.shared else keep
        self.pack = struct.Struct(f"{HEADER + objects}q{count}d").pack
        self.empty = [_maker(spec, i in plan.zero) for i, spec in enumerate(plan.outputs)]

    def launch(self, arrays: Sequence[np.ndarray | None], numbers: Sequence[float] = (),
               outputs: Sequence[np.ndarray | None] | None = None) -> Any:  # fmt: skip
        """Run the plan on arrays like those that it was made for; returns the output, or a tuple if there is not one.

        ``numbers``: the run-time numbers. ``outputs``: arrays to write to, with the strides that the plan asks for.
        """
        if outputs is None:
            outputs = [make() for make in self.empty]
        owner = None
        if getattr(_scratch, "size", -1) >= self.size:
            arena = _scratch.address
        else:
            arena, owner = _arena(self.size)
        state = threads.state_address() if self.shared else 0
        header = self.pack(self.facts, arena, state, *map(id, arrays), *map(id, outputs), *numbers)
        self.run(id(header) + _BYTES, 0, 0)
        del owner, header  # they were needed until here
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


HEADER = 3  # words before the array objects, see `bind_and_run`


def _maker(spec: Spec | None, zero: bool) -> Callable[[], np.ndarray | None]:
    """A function that makes the output (None if it is not wanted)."""
    if spec is None:
        return lambda: None
    make = functools.partial(np.zeros if zero else np.empty, spec.shape, spec.dtype)
    if spec.strides is not None:
        make = functools.partial(_strided, spec, zero)
    if math.prod(spec.shape) * np.dtype(spec.dtype).itemsize >= memory.LEAST:
        return functools.partial(memory.pooled, make)
    return make


def _strided(spec: Spec, zero: bool) -> np.ndarray:
    """An array with the strides of a transposed one."""
    array = np.ndarray(spec.shape, spec.dtype, strides=spec.strides)
    if zero:
        array.fill(0)
    return array


PLANS: dict[Hashable, Any] = {}
"""What is known of launches, by what they depend on: `Bound` plans of `execute`, and what others keep beside them."""

_MOST_PLANS = 4096  # then all are forgotten: a program whose shapes never repeat must not grow


def forget() -> None:
    """Forget all plans, as when the host's facts are overridden."""
    PLANS.clear()


def keep(key: Hashable, value: Any) -> Any:
    """Keep ``value`` in `PLANS`; returns it."""
    if len(PLANS) >= _MOST_PLANS:
        forget()
    PLANS[key] = value
    return value


def prepare(planner: Planner, arrays: Sequence[np.ndarray | None], static: dict, count: int = 0) -> Bound | None:
    """The plan for arrays like these and ``count`` run-time numbers, bound; None where it does not serve them."""
    plan = planner(*[a if a is None else Array(a.shape, a.strides, a.dtype) for a in arrays], **static)
    return None if plan is None else Bound(plan, len(arrays), count)


def execute(planner: Planner, arrays: Sequence[np.ndarray | None], **static: Hashable) -> Any:
    """Plan (once for each set of shapes, strides, dtypes and ``static``), bind to ``arrays``, run.

    ``planner(*descriptions, **static)`` is given an :class:`Array` for each array, None for None. Returns the output,
    or a tuple of them if the plan has not exactly one, or NotImplemented if the planner returned None: it does not
    serve the case.
    """
    key = (planner, *[a if a is None else (a.shape, a.strides, a.dtype) for a in arrays], *static.items())
    try:
        bound = PLANS[key]
    except KeyError:
        bound = keep(key, prepare(planner, arrays, static))
    return NotImplemented if bound is None else bound.launch(arrays)


class Program:
    """Calls of many plans in one table, at fixed addresses: a compiled step.

    ``steps`` are (plan, resolve) pairs; ``resolve(ref)`` returns the address that the plan's ref stands for, in an
    arena or in arrays that the caller keeps alive. Zeroing outputs is the caller's, too.
    """

    def __init__(self, steps: Sequence[tuple[Plan, Callable[[Ref], int]]]) -> None:
        calls, self._resolvers = [], []
        for plan, resolve in steps:
            for call in plan.calls:
                if call.size > 0:
                    calls.append(call)
                    self._resolvers += [resolve] * sum(isinstance(value, Ref) for value in call.context)
        words, self._refs, inner, table = _block(calls)
        self._block = np.array(words, np.int64)
        for word, target in inner:
            self._block[word] = self._block.ctypes.data + 8 * target
        self._table, self._rows = self._block.ctypes.data + 8 * table, len(calls)
        self._shared = any(call.size > call.grain for call in calls)
        self._walk = ctypes.CFUNCTYPE(None, *_INT64S)(walker())
        self.rebind()

    def rebind(self) -> None:
        """Resolve all addresses anew, after arrays were replaced."""
        for (word, ref), resolve in zip(self._refs, self._resolvers, strict=True):
            self._block[word] = resolve(ref)

    def run(self) -> None:
        """Run all calls in order; not for two Python threads at once, since its arena is one."""
        self._walk(self._table, self._rows, threads.state_address() if self._shared else 0)
