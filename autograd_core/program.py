"""A recorded computation as data: values with a type, instructions that make them, and effects on memory outside.

A `Program` is in single-assignment form: every value is made once, by one instruction. What was written in place when
it was recorded has become a new value; what was written into memory that outlives a call (parameters, the state of an
optimizer, running statistics) stands in ``effects``, done after all instructions. So an instruction may be moved,
merged or dropped by looking at its operands alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import provenance
from .registry import Op, creation, index
from .shapes import ndarray


@dataclass(eq=False, slots=True)
class Value:
    """One array, known by shape and dtype.

    ``kind``: "argument" (``origin``: its position), "captured" (``origin``: the Tensor, or a `GradientOf`), "number" (a
    float that is worked out at each run; ``origin``: its `Number`), "constant" (``array``) or "result".
    """

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype
    origin: Any = None
    array: ndarray | None = None
    name: str = ""
    strides: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def held(self) -> ndarray:
        """The array of a constant."""
        assert self.array is not None
        return self.array

    @property
    def type(self) -> str:
        """The type as text: ``f32[4, 2]``."""
        return f"{self.dtype.kind}{self.dtype.itemsize * 8}[{', '.join(map(str, self.shape))}]".replace("b8", "bool")


@dataclass(frozen=True, slots=True)
class GradientOf:
    """Stands for the ``grad`` that a leaf has when the program starts."""

    leaf: Any


@dataclass(eq=False, slots=True)
class Instruction:
    """``outs = op.run(*args, **static)``: an operand is a `Value`, or a plain number or None as it is.

    ``runtime``: settings that are filled at each run, from a `Number` or a `Draw`. ``outs`` holds all results, hidden
    ones too, None where there is none. ``alias``: the operand whose memory the results look at.
    """

    op: Op
    args: tuple[Any, ...]
    static: dict[str, Any]
    outs: tuple[Value | None, ...]
    runtime: dict[str, Any] = field(default_factory=dict)
    alias: int | None = None
    scope: str = ""
    site: Any = None

    @property
    def operands(self) -> list[Value]:
        """The operands that are values."""
        return [a for a in self.args if type(a) is Value]

    @property
    def out(self) -> Value:
        """The first result, of instructions that have one."""
        assert self.outs[0] is not None
        return self.outs[0]

    @property
    def results(self) -> list[Value]:
        """The results that there are."""
        return [out for out in self.outs if out is not None]

    @property
    def place(self) -> str:
        """File and line of the user's code, or an empty string."""
        return f"{self.site[0].co_filename.rpartition('/')[2]}:{provenance.line_of(self.site)}" if self.site else ""


def _own_op(name, function, family):
    """A record that exists in programs alone."""
    return Op(name, function, family, run=function)


CAST = _own_op("cast", lambda x, *, dtype: np.asarray(x).astype(dtype), creation)
COPY = _own_op("copy", np.array, creation)


def _write_part(base, part, *, path, order):
    out = np.array(base, order=order)
    looked = out
    for op, position, rest, static, number in path:
        given = list(rest)
        given[position] = looked
        found = op.run(*given, **static)
        looked = found[number] if type(found) is tuple else found
    if not np.may_share_memory(looked, out):
        raise RuntimeError("a view was written whose memory is not that of its base")
    np.copyto(looked, part, casting="unsafe")
    return out


WRITE_PART = _own_op("write_part", _write_part, index)
"""A copy of ``base`` with ``part`` written where the views of ``path`` look."""


def _check_nan(x, *, row):
    count = np.count_nonzero(np.isnan(x))
    if count:
        error = FloatingPointError(f"{row.op.name} gives NaN ({count} of {x.size} elements){provenance.at(row)}")
        error.explained = True  # type: ignore[attr-defined]  # it names all that there is to name
        raise error


CHECK_NAN = _own_op("check_nan", _check_nan, creation)
"""Raises where a value holds NaN; ``row`` is the instruction that makes it."""


@dataclass(eq=False)
class Program:
    """Inputs, instructions in order, effects, outputs and gradients of one recorded call."""

    name: str
    arguments: list[Value]
    captured: list[Value]
    instructions: list[Instruction]
    outputs: list[Value]
    effects: list[tuple[Value, Value]] = field(default_factory=list)  # (what is written, its new value)
    gradients: list[tuple[Any, Value | None]] = field(default_factory=list)  # (leaf, its new ``grad``)
    in_place: bool = True  # whether loops may write over what nobody reads again

    @property
    def finals(self) -> list[Value]:
        """What a run is for: outputs, gradients and the new values of effects."""
        return [*self.outputs, *[v for _, v in self.effects], *[v for _, v in self.gradients if v is not None]]

    def makers(self) -> dict[Value, Instruction]:
        """The instruction that makes each result."""
        return {out: row for row in self.instructions for out in row.results}

    def last_uses(self) -> dict[Value, int]:
        """The position of the last instruction that reads each value; the program's length for what is final."""
        last = {value: at for at, row in enumerate(self.instructions) for value in row.operands}
        return last | dict.fromkeys(self.finals, len(self.instructions))

    def check(self) -> None:
        """Raise unless every operand is made before it is read, every value once, and elementwise types fit."""
        known = {*self.arguments, *self.captured}
        for row in self.instructions:
            for value in row.operands:
                if value.kind == "result" and value not in known:
                    raise AssertionError(f"{row.op.name} reads a value that is not made yet")
            for out in row.results:
                if out in known:
                    raise AssertionError(f"{row.op.name} makes a value that was made before")
                known.add(out)
            if row.op.scalar is not None and len(row.results) == 1:
                shape = np.broadcast_shapes(*[v.shape for v in row.operands])
                if shape != row.results[0].shape:
                    raise AssertionError(
                        f"{row.op.name} makes {row.results[0].type} of shapes that broadcast to {shape}"
                    )
        for value in self.finals:
            if value.kind == "result" and value not in known:
                raise AssertionError("an output is not made by any instruction")
        for target, value in self.effects:
            if (target.shape, target.dtype) != (value.shape, value.dtype):
                raise AssertionError(f"{value.type} is to be written into {target.type}")

    # -------------------------------------------------- text

    def names(self) -> dict[Value, str]:
        """A name for every value: the given one, or a number."""
        found: dict[Value, str] = {}
        taken: set[str] = set()
        for value in self.values():
            name = value.name or str(len(found))
            while name in taken:
                name += "'"
            taken.add(name)
            found[value] = "%" + name
        return found

    def values(self) -> Iterator[Value]:
        """Every value, in the order in which it appears."""
        seen = set()
        rows = ([*row.operands, *row.results] for row in self.instructions)
        for values in (self.arguments, self.captured, *rows, self.finals):
            for value in values:
                if value not in seen:
                    seen.add(value)
                    yield value

    def __str__(self):
        names = self.names()
        counts = (f"{len(self.arguments)} arguments", f"{len(self.captured)} captured",
                  f"{len(self.instructions)} instructions", f"{len(self.effects)} effects")  # fmt: skip
        lines = [f"program {self.name}: {', '.join(counts)}"]
        lines += [f"  {names[v]}: {v.type} {v.kind}" for v in (*self.arguments, *self.captured)]
        body = [(_text_of(row, names), _remark(row)) for row in self.instructions]
        width = min(max([len(text) for text, _ in body], default=0), 84)
        lines += [f"  {text:<{width}}  # {remark}".rstrip(" #") for text, remark in body]
        lines += [f"  {names[target]} <- {names[made]}" for target, made in self.effects]
        for leaf, gradient in self.gradients:
            known = next((names[v] for v in (*self.arguments, *self.captured) if v.origin is leaf), "a leaf")
            lines.append(f"  grad of {known} = {names[gradient] if gradient is not None else None}")
        lines.append(f"  return {', '.join(names[v] for v in self.outputs)}".rstrip())
        return "\n".join(lines)


def _text_of(row, names):
    outs = ", ".join("_" if out is None else f"{names[out]}: {out.type}" for out in row.outs)
    given = [_operand_text(a, names) for a in row.args]
    given += [f"{k}={_setting_text(row.runtime.get(k, v))}" for k, v in row.static.items()
              if k in row.runtime or v is not None]  # fmt: skip
    return f"{outs} = {row.op.name}({', '.join(given)})"


def _operand_text(value, names):
    if type(value) is not Value:
        return repr(value)
    if value.kind == "constant" and value.array is not None and value.array.ndim == 0:
        return str(value.array)
    return f"constant {value.type}" if value.kind == "constant" else names[value]


def _setting_text(value):
    if isinstance(value, ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _remark(row):
    return "  ".join(part for part in (str(row.scope or ""), row.place) if part)
