"""Native segments: instructions with a plan become rows of one table of kernel calls over an arena.

Every value gets a *place*: a root (a piece of the arena, an argument, a captured tensor, a constant, the memory of an
output), an offset and strides. A view is another look at its operand's root and costs nothing. Instructions without a
plan stay Python rows between segments; what they make is copied into the arena where a kernel reads it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .clusters import Fused
from .kernels import draws, memory
from .kernels.elementwise import collapsed, one_launch
from .kernels.plan import ALIGN, Array, Plan, Ref, Spec
from .kernels.plan import Program as Table
from .kernels.replay import CHECK
from .planning import (
    DRAWS,
    copy_plan,
    dense,
    fits,
    in_range,
    indices_of,
    is_dense,
    planned,
    strides_of,
    zero_plan,
)
from .program import GradientOf, Instruction, Program, Value
from .runtime import Draw, Number
from .shapes import ndarray

SMALL = 1 << 12
"""Bytes of an output up to which it is copied from the arena for the caller, rather than made in memory of its own."""

MUCH = 1 << 20
"""Bytes of an arena from which on what the recorded run has left is given back before."""


@dataclass(eq=False)
class Root:
    """A piece of memory: ``kind`` is "arena", "argument", "captured", "constant", "numbers" or "fresh" (an output).

    Where the memory of arguments and outputs lies is known at each run alone: ``number`` says which of the array
    objects it is that the run is handed.
    """

    kind: str
    size: int
    number: int = 0
    first: int = 0  # rows between which it is in use
    last: int = 0
    offset: int = 0  # in the arena
    address: int = 0
    array: ndarray | None = None  # of captured tensors and constants: kept alive
    value: Value | None = None  # of arguments and outputs
    words: list[tuple[Any, int, int]] = field(default_factory=list)  # (table, word, offset) that hold its address


@dataclass(frozen=True)
class Place:
    """Where a value lies."""

    root: Root
    offset: int
    strides: tuple[int, ...]


@dataclass(eq=False)
class Native:
    """One planned instruction: its plan, and the places of its inputs, outputs and scratch memory."""

    plan: Plan
    inputs: list[Place | None]
    outputs: list[Place | None]
    scratch: list[Root]
    row: Instruction | None = None
    guard: Callable | None = None  # whether the kernel may run on these values
    merged: list[Instruction] = field(default_factory=list)  # further instructions that it carries out

    def place(self, ref: Ref) -> Place | None:
        """What a plan's ref stands for; None for an array that is absent."""
        if ref.kind == "scratch":
            return Place(self.scratch[ref.index], ref.offset, ())
        found = self.inputs[ref.index] if ref.kind == "input" else self.outputs[ref.index]
        return None if found is None else Place(found.root, found.offset + ref.offset, ())

    def address(self, ref: Ref) -> int:
        """The address of a ref."""
        place = self.place(ref)
        return 0 if place is None else place.root.address + place.offset


class Segment(Table):
    """A table of kernel calls that knows which words hold the address of which root."""

    def __init__(self, rows: list[Native]) -> None:
        self.rows = rows
        super().__init__([(row.plan, row.address) for row in rows])
        for (word, ref), resolve in zip(self._refs, self._resolvers, strict=True):
            place = resolve.__self__.place(ref)  # type: ignore[attr-defined]
            if place is not None:
                place.root.words.append((self._block, word, place.offset))


def _roots(places: list[Place | None]) -> set[Root]:
    return {place.root for place in places if place is not None}


def move(root: Root, array: ndarray) -> None:
    """Let a root lie in the memory of ``array``."""
    root.array = array
    root.address = address_of(array)
    for block, word, offset in root.words:
        block[word] = root.address + offset


def address_of(array: ndarray) -> int:
    """The address of an array's first element."""
    return array.__array_interface__["data"][0]


# ---------------------------------------------------------------------------------------------------- the layout


class Layout:
    """Places and rows of a whole program: `Native` rows and plain instructions in order, and the arena."""

    def __init__(self, program: Program, merges: bool = True):
        self.program = program
        self.merges = merges  # whether one row may carry out many instructions
        self.rows: list[Native | Instruction] = []
        self.places: dict[Value, Place] = {}
        self.python: set[Value] = set()  # values that a Python row makes
        self.needed: set[Value] = set()  # of these, the ones that kernels read
        self.moving: list[Root] = []  # whose memory is another one at each run: arguments, outputs, gradients
        self.finals: dict[int, Place] = {}  # of outputs and gradients that kernels make, by position among them
        self.checks: list[tuple] = []  # of indices: (row, operand, place, count, step, *facts of `indices_of`)
        self.direct: set[Value] = set()  # targets of effects that a kernel writes itself
        self.copies: list[tuple[Value, Value]] = []  # effects that Python does
        self.numbers: list[Number] = []
        self.draws: list[tuple[Draw, Draw]] = []  # seed and offset of native draws
        self._blocks: dict[tuple, int] = {}
        self._ordered: dict[Value, Place] = {}  # copies in C order
        self._roots: list[Root] = []
        self._numbers, self._draws = Root("numbers", 0), Root("numbers", 0)
        self._readers = self._all_readers()
        self._last_target = self._target_reads()
        self._finals = {self._looks.get(v, v) for v in program.finals}
        self._shared: set[Root] = set()  # of several values
        self._wanted_direct = self._direct_effects()
        for self._at, row in enumerate(program.instructions):
            self._add(row)
        self._effects()
        self._finish()
        self._assign()

    # -------------------------------------------------- places

    def _root(self, kind, size, number=0):
        root = Root(kind, size, number, first=len(self.rows), last=len(self.rows))
        self._roots.append(root)
        return root

    def place(self, value: Value) -> Place:
        """Where a value lies; inputs get their place when they are first asked for."""
        found = self.places.get(value)
        if found is None:
            if value.kind == "constant":
                assert value.array is not None
                array = np.asarray(value.array, order="C")
                root = self._root("constant", value.nbytes)
                move(root, array)
                found = Place(root, 0, array.strides)
            else:
                assert value.strides is not None
                if value.kind == "argument" or isinstance(value.origin, GradientOf):
                    root = self._moving("argument", value)
                else:
                    root = self._root("captured", value.nbytes)
                found = Place(root, 0, value.strides)
            self.places[value] = found
        return found

    def _moving(self, kind, value):
        root = self._root(kind, value.nbytes, len(self.moving))
        root.value = value
        self.moving.append(root)
        return root

    def describe(self, value: Value) -> Array:
        """A value as planners see it."""
        return Array(value.shape, self.place(value).strides, value.dtype)

    def _use(self, place):
        place.root.last = max(place.root.last, len(self.rows))

    # -------------------------------------------------- rows

    def _add(self, row):
        if row.alias is not None and self._look(row):
            return
        if not self._plan(row):
            self._python_row(row)

    def _look(self, row):
        """The place of a view, worked out on memory of the same shape that nobody reads."""
        source = row.args[row.alias]
        if any([type(a) is Value and a is not source for a in row.args]) or 0 in source.shape:
            return False
        place = self.place(source)
        reach = (
            sum([(n - 1) * abs(s) for n, s in zip(source.shape, place.strides, strict=True)]) + source.dtype.itemsize
        )
        if any([s < 0 for s in place.strides]):
            return False
        memory = np.empty(reach, np.uint8)
        start = np.ndarray(source.shape, source.dtype, memory, 0, place.strides)
        given = [start if i == row.alias else a for i, a in enumerate(row.args)]
        found = row.op.run(*given, **row.static)
        found = found if type(found) is tuple else (found,)
        for out, array in zip(row.outs, found, strict=True):
            if out is not None and not np.may_share_memory(array, memory):
                return False
        for out, array in zip(row.outs, found, strict=True):
            if out is not None:
                offset = address_of(array) - address_of(memory)
                self.places[out] = Place(place.root, place.offset + offset, array.strides)
                if source in self.python:
                    self.needed.add(source)
        return True

    def _draw(self, row):
        """A draw whose numbers a kernel makes, from a seed and an offset that are known at each run."""
        probability = row.args[0] if row.args else 1.0
        if type(probability) not in (float, int) or row.runtime.keys() != {"seed", "offset"}:
            return False
        settings = {k: v for k, v in row.static.items() if k in ("shape", "dtype")}
        source = Array((2,), (8,), np.dtype(np.int64))
        plan = draws.plan_draw(source, name=row.op.name, probability=probability, **settings)
        if plan is None:
            return False
        place = Place(self._draws, 16 * len(self.draws), (8,))
        self.draws.append((row.runtime["seed"], row.runtime["offset"]))
        self._emit(row, plan, [place])
        return True

    def _plan(self, row):
        if row.op.name in DRAWS:
            return self._draw(row)
        if row.op.name == "reshape":
            return self._reshape(row)
        values = [a for a in row.args if type(a) is not Number]
        if any([type(a) is Value and a.dtype.kind == "O" for a in values]):
            return False
        inputs = [self.describe(a) if type(a) is Value else None for a in values]
        numbers = [a for a in row.args if type(a) is Number]
        plan, places = planned(row, inputs, len(numbers)), None
        if not fits(plan, row):
            plan, places = self._plan_in_order(row, values, inputs, len(numbers))
        if plan is None:
            return False
        for value in values:
            if type(value) is Value and value in self.python:
                self.needed.add(value)
        self._emit(row, plan, places or [self.place(v) if type(v) is Value else None for v in values], numbers)
        return True

    def _plan_in_order(self, row, values, inputs, numbers):
        """(plan, places) with copies in C order of the operands that are not, for kernels that need them so."""
        turned = [a if a is None or is_dense(v, a.strides) else a._replace(strides=dense(a.shape, a.dtype.itemsize))
                  for v, a in zip(values, inputs, strict=True)]  # fmt: skip
        copied = [a for a, b in zip(inputs, turned, strict=True) if a is not b]
        plan = planned(row, turned, numbers) if copied and all(map(copy_plan, copied)) else None
        if not fits(plan, row):
            return None, None
        return plan, [self._in_order(v) if a is not b else None if a is None else self.place(v)
                      for v, a, b in zip(values, inputs, turned, strict=True)]  # fmt: skip

    def _in_order(self, value):
        """The place of a value in C order: its own, or that of a copy."""
        if value not in self._ordered:
            place = self.place(value)
            if is_dense(value, place.strides) and place.root.kind == "arena":
                return place
            plan = copy_plan(self.describe(value), ordered=True)
            assert plan is not None
            made = Place(self._root("arena", value.nbytes), 0, dense(value.shape, value.dtype.itemsize))
            if value in self.python:
                self.needed.add(value)
            self._use(place)
            made.root.last = len(self.rows)
            self.rows.append(Native(plan, [place], [made], []))
            self._ordered[value] = made
        self._use(self._ordered[value])
        return self._ordered[value]

    def _reshape(self, row):
        """A reshape that was a copy when it was recorded; where its operand lies in order it is a look."""
        source = row.args[0]
        if copy_plan(self.describe(source), ordered=True) is None or 0 in source.shape or row.runtime:
            return False
        place = self._in_order(source)
        self._shared.add(place.root)
        self.places[row.out] = Place(place.root, place.offset, dense(row.out.shape, row.out.dtype.itemsize))
        if source in self.python:
            self.needed.add(source)
        return True

    def _guard(self, row, inputs):
        """What must be asked of the values before the kernel may run; None where that is settled before all rows."""
        kernel, found = row.op.kernel, indices_of(row)
        lines = [self._line(row.args[at]) for at, *_ in found]
        if found and None not in lines:
            self.checks += [(row, at, *line, *facts) for line, (at, *facts) in zip(lines, found, strict=True)]
            return None
        if found and (kernel is None or kernel.when is None):
            return functools.partial(in_range, found)
        return None if kernel is None or row.op.name in ("mm", "bmm") else kernel.when

    def _line(self, value):
        """(place, elements, step) of values that are there before all rows and lie on a line; None for others."""
        place = self.place(value)
        sizes, steps = collapsed(value.shape, [list(place.strides)], -1)
        if place.root.kind not in ("argument", "captured", "constant") or len(sizes) > 1:
            return None
        return place, value.size, steps[0][0] // 8 if sizes else 1

    def _emit(self, row, plan, inputs, numbers=()):
        guard = self._guard(row, inputs)
        if numbers:
            inputs = [*inputs, Place(self._numbers, self._block(numbers), (8,))]
        for place in inputs:
            if place is not None:
                self._use(place)
        outputs, dying = [], self._dying(row)
        for number, (out, spec) in enumerate(zip(row.outs, plan.outputs, strict=True)):
            outputs.append(self._out(out, spec, number in plan.zero, dying) if spec is not None else None)
        scratch = [self._root("arena", size) for size in plan.scratch]
        for root in (*[place.root for place in (*inputs, *outputs) if place is not None], *scratch):
            root.last = max(root.last, len(self.rows))  # a row of its own may have zeroed an output before
        native = Native(plan, inputs, outputs, scratch, row, guard)
        if guard is not None or not self.rows or not self._merge(self.rows[-1], native):
            self.rows.append(native)

    def _merge(self, before, native):
        """Whether a loop could be made one launch with the same loop before it, as the updates of many parameters."""
        if not self.merges or not isinstance(before, Native) or before.guard is not None or before.row is None:
            return False
        plan = one_launch(before.plan, native.plan, len(before.inputs))
        if plan is None:
            return False
        read, written = _roots(before.inputs), _roots(before.outputs)
        others = _roots(native.outputs)
        if others & (read | written) or written & _roots(native.inputs):
            return False
        runtime = [n.inputs[-1] for n in (before, native) if n.inputs[-1] and n.inputs[-1].root is self._numbers]
        if runtime and runtime.count(runtime[0]) != 2:
            return False
        for root in others:
            root.first = min(root.first, len(self.rows) - 1)
        inputs, outputs = [*before.inputs, *native.inputs], [*before.outputs, *native.outputs]
        self.rows[-1] = Native(plan, inputs, outputs, [], before.row, merged=[*before.merged, native.row])
        return True

    def _dying(self, row):
        """Operands of an elementwise loop that nobody reads afterwards: a result may take their place."""
        if not isinstance(row.op.run, Fused) or row.op.run.axes or not self.program.in_place:
            return []
        return [v for v in row.operands if v.kind == "result" and self._last_target.get(v, -1) <= self._at
                and v not in self._finals and v not in self.python]  # fmt: skip

    def _in_place(self, out, strides, dying):
        """The place of an operand that a result may be written over: of its shape, type and layout, owned by nobody."""
        for value in dying:
            place = self.places[value]
            if ((value.shape, value.dtype, place.strides) == (out.shape, out.dtype, strides) and place.offset == 0
                    and place.root.kind == "arena" and place.root.size == out.nbytes
                    and place.root not in self._shared and value not in self._looks):  # fmt: skip
                dying.remove(value)
                return place
        return None

    def _out(self, out, spec: Spec, zero, dying=()):
        size = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        strides = spec.strides if spec.strides is not None else dense(spec.shape, np.dtype(spec.dtype).itemsize)
        if out is not None and tuple(spec.shape) != out.shape:
            strides = dense(out.shape, out.dtype.itemsize)
        target = self._wanted_direct.get(out)
        if target is not None and not zero and is_dense(out, strides) and self._may_be_direct(target):
            place = self.place(target)
            self.direct.add(target)
            place = Place(place.root, place.offset, strides)
        else:
            found = self._in_place(out, strides, dying) if out is not None and dying and not zero else None
            place = found or Place(self._root("arena", size), 0, strides)
        if zero:
            plan = zero_plan(spec.shape, np.dtype(spec.dtype))
            assert plan is not None
            self.rows.append(Native(plan, [place], [place], []))
            place.root.last = len(self.rows)
        if out is not None:
            self.places[out] = place
        return place

    def _block(self, numbers):
        """The offset of a row's run-time numbers among all; rows with the same numbers share them."""
        key = tuple([id(n) for n in numbers])
        if key not in self._blocks:
            self._blocks[key] = 8 * len(self.numbers)
            self.numbers += numbers
        return self._blocks[key]

    def _python_row(self, row):
        for value in row.operands:
            if value.kind == "result" and value not in self.python:
                self._use(self.place(value))
        for out in row.results:
            self.python.add(out)
            root = self._root("arena", out.nbytes)
            self.places[out] = Place(root, 0, dense(out.shape, out.dtype.itemsize))
        self.rows.append(row)

    # -------------------------------------------------- effects and results

    def _all_readers(self):
        """The position of the last instruction that reads each value."""
        return {v: at for at, row in enumerate(self.program.instructions) for v in row.operands}

    def _target_reads(self):
        """For each captured value that is written: the position of the last instruction that reads it or a view."""
        looks: dict[Value, Value] = {}
        last: dict[Value, int] = {}
        self._looks = looks  # what each view comes from
        for at, row in enumerate(self.program.instructions):
            for value in row.operands:
                last[looks.get(value, value)] = at
            if row.alias is not None:
                source = row.args[row.alias]
                looks.update(dict.fromkeys(row.results, looks.get(source, source)))
        return last

    def _direct_effects(self):
        """Values that a loop may write over the memory that they replace: it is the last to read it."""
        made = {out: (at, row) for at, row in enumerate(self.program.instructions) for out in row.results}
        found: dict[Value | None, Value] = {}
        for target, value in self.program.effects if self.program.in_place else ():
            at, row = made.get(value, (None, None))
            if row is None or not isinstance(row.op.run, Fused) or target.kind != "captured" or value in found:
                continue
            if (
                self._last_target.get(target, -1) <= at
                and row.op.run.axes == 0
                and is_dense(target, target.strides or ())
            ):
                found[value] = target
        return found

    def _may_be_direct(self, target):
        return target not in self.direct

    def _effects(self):
        for target, value in self.program.effects:
            if target in self.direct:
                continue
            place = self.place(value)
            plan = copy_plan(self.describe(value)) if value.dtype.name in ("float32", "float64", "int64") else None
            written = target.kind == "captured" and is_dense(target, target.strides or ())
            if value in self.python or plan is None or strides_of(plan) is not None or not written:
                self._use(place)
                self.copies.append((target, value))
                continue
            self._use(place)
            goal = self.place(target)
            goal.root.last = len(self.rows)
            self.rows.append(Native(plan, [place], [goal], []))

    def _finish(self):
        """Gradients and large outputs are made in memory that the caller will own, or copied there in the end."""
        outputs = self.program.outputs
        finals = [*outputs, *[v for _, v in self.program.gradients]]
        seen = self._seen_by_python()
        for number in (*range(len(outputs), len(finals)), *range(len(outputs))):  # gradients first
            value = finals[number]
            if value is None or value in self.python or value.kind != "result":
                continue
            place = self.place(value)
            self._use(place)
            small = number < len(outputs) and value.nbytes <= SMALL
            if small and place.root.kind == "arena":
                self.finals[number] = place
                continue
            whole = place.offset == 0 and place.root.size == value.nbytes and is_dense(value, place.strides)
            if not small and whole and place.root.kind == "arena" and place.root not in seen:
                place.root.kind, place.root.number, place.root.value = "fresh", len(self.moving), value
                self.moving.append(place.root)  # made there at once
                self.finals[number] = place
                continue
            plan = copy_plan(self.describe(value))
            if plan is None:
                continue
            root = self._root("arena", value.nbytes) if small else self._moving("fresh", value)
            strides = strides_of(plan) or dense(value.shape, value.dtype.itemsize)
            self.finals[number] = made = Place(root, 0, strides)
            self.rows.append(Native(plan, [place], [made], []))
        for place in (*self.finals.values(), *[self.places[v] for _, v in self.copies if v in self.places]):
            place.root.last = len(self.rows)  # read when all rows are done

    def _seen_by_python(self):
        """Roots that lines of Python read or write."""
        rows = [row for row in self.rows if isinstance(row, Instruction)]
        rows += [row.row for row in self.rows if isinstance(row, Native) and row.guard and row.row]
        values = [*self.python, *[v for _, v in self.copies]]
        values += [v for row in rows for v in (*row.operands, *row.results)]
        return {self.places[v].root for v in values if v in self.places}

    # -------------------------------------------------- the arena

    def bindings(self) -> list[tuple[int, int, int]]:
        """(number of the object, address of the word, offset) of every word that holds an address of moving memory."""
        return [(root.number, block.ctypes.data + 8 * word, offset)
                for root in self.moving for block, word, offset in root.words]  # fmt: skip

    def check_block(self) -> ndarray:
        """What `kernels.replay` is to check: its facts on each array of indices."""
        block = np.zeros(CHECK * len(self.checks), np.int64)
        for number, (_, _, place, *facts) in enumerate(self.checks):
            block[CHECK * number : CHECK * (number + 1)] = place.root.address + place.offset, *facts
            place.root.words.append((block, CHECK * number, place.offset))
        return block

    def _assign(self):
        """Offsets in the arena: large pieces first, each as low as what lives at the same time allows."""
        unread = {self.places[v].root for v in self.python - self.needed}
        waiting = [r for r in self._roots if r.kind == "arena" and r.size and r not in unread]
        taken: list[Root] = []
        self.arena_size = 0
        for root in sorted(waiting, key=lambda r: (-r.size, r.first)):
            at = 0
            for other in sorted(
                [t for t in taken if t.first <= root.last and root.first <= t.last], key=lambda t: t.offset
            ):
                if at + root.size <= other.offset:
                    break
                at = max(at, -(-(other.offset + other.size) // ALIGN) * ALIGN)
            root.offset = at
            taken.append(root)
            self.arena_size = max(self.arena_size, at + root.size)
        if self.arena_size >= MUCH:
            memory.give_back()
        self.memory = np.empty(self.arena_size + ALIGN, np.uint8)
        start = -address_of(self.memory) % ALIGN
        self.arena = self.memory[start:]
        for root in waiting:
            root.address = address_of(self.memory) + start + root.offset
        self.number_memory = np.zeros(max(len(self.numbers), 1), np.float64)
        move(self._numbers, self.number_memory)
        self.draw_memory = np.zeros(2 * max(len(self.draws), 1), np.uint64)
        move(self._draws, self.draw_memory)

    def view(self, value: Value, place: Place | None = None) -> ndarray:
        """The array of a value that lies in the arena."""
        place = place or self.places[value]
        return np.ndarray(value.shape, value.dtype, self.arena.data, place.root.offset + place.offset, place.strides)
