"""A program as Python: straight-line source text in which each instruction is one line, compiled once.

What runs is the body of each record, on arrays: no Tensors, no graph, no dispatch. Names of values are those of the
printed program, so that an error's traceback and `Program` can be read side by side.
"""

from __future__ import annotations

import functools
import linecache
import struct
import threading
from collections.abc import Callable
from itertools import count
from sys import getrefcount
from typing import Any

import numpy as np

from .program import Instruction, Program, Value
from .provenance import GENERATED
from .runtime import Draw, Number, Settings

LARGE = 1 << 16
"""Bytes from which a value's memory is given back after its last use rather than at the end."""

_numbers = count(1)


class Source:
    """Source text being written: lines, and the names that they use."""

    def __init__(self, name: str, arguments: str):
        self.file = f"{GENERATED}{name} {next(_numbers)}>"
        self.lines = [f"def {name}({arguments}):"]
        self.names: dict[str, Any] = {}
        self.known: dict[int, str] = {}
        self.rows: dict[int, Instruction] = {}  # by line

    def add(self, text: str, row: Instruction | None = None) -> None:
        """One more line; ``row``: the instruction that it carries out."""
        self.lines.append("    " + text)
        if row is not None:
            self.rows[len(self.lines)] = row

    def name(self, thing: Any, prefix: str) -> str:
        """A name for an object that the text uses."""
        if id(thing) not in self.known:
            self.known[id(thing)] = f"{prefix if prefix.isidentifier() else 'fused_'}{len(self.names)}"
            self.names[self.known[id(thing)]] = thing
        return self.known[id(thing)]

    def function(self) -> Callable:
        """The function."""
        text = "\n".join(self.lines) + "\n"
        linecache.cache[self.file] = (len(text), None, text.splitlines(True), self.file)  # for tracebacks
        exec(compile(text, self.file, "exec"), self.names)  # noqa: S102 (the text holds names made here alone)
        return self.names[self.lines[0][4:].partition("(")[0]]


def literal(value: Any, source: Source) -> str:
    """The text of a plain setting: itself where it is short and safe, else a name."""
    if value is None or type(value) in (bool, int, str) or (type(value) is float and np.isfinite(value)):
        return repr(value)
    if type(value) is tuple and all(type(v) in (bool, int, type(None)) for v in value):
        return repr(value)
    return source.name(value, "k")


class Lowered:
    """A program ready to run: ``run(arguments, captured, numbers, draws)`` returns the arrays of outputs and gradients.

    Effects are done at its end. ``source`` is its text.
    """

    def __init__(self, program: Program):
        self.program = program
        self.wanted: list[Number] = []  # run-time numbers, in the order in which `run` takes them
        self._places: dict[int, int] = {}
        self.source = Source("run", "arguments, captured, n, draws")
        self.source.names |= {"asarray": np.asarray, "copyto": np.copyto, "array": np.array}
        self.lock = threading.Lock()
        self.python = True  # whether some instructions are lines of Python
        self._text: dict[Value, str] = {}
        self._looks = {out for row in program.instructions if row.alias is not None for out in row.results}
        self._write()
        self.run = self.source.function()

    @property
    def text(self) -> str:
        """The source text."""
        return "\n".join(self.source.lines)

    # -------------------------------------------------- operands

    def _place(self, number: Number) -> str:
        place = self._places.setdefault(id(number), len(self.wanted))
        if place == len(self.wanted):
            self.wanted.append(number)
        return f"n[{place}]"

    def _operand(self, value) -> str:
        if type(value) is Number:
            return self._place(value)
        if type(value) is not Value:
            return literal(value, self.source)
        if value.kind == "constant":
            return self.source.name(value.array, "c")
        return self._text[value]

    def _setting(self, value) -> str:
        if type(value) is Number:
            return self._place(value)
        if type(value) is Draw:
            at = f"draws[{value.generator}]"
            return f"{at}[0]" if value.key == "seed" else f"({at}[1] + {value.ahead} & 0xffffffffffffffff)"
        return literal(value, self.source)

    # -------------------------------------------------- lines

    def _write(self):
        program, source = self.program, self.source
        for kind, values in (("arguments", program.arguments), ("captured", program.captured)):
            used = [f"{kind[0]}_{i}" for i in range(len(values))]
            self._text.update(zip(values, used, strict=True))
            if used:
                source.add(f"{', '.join(used)}, = {kind}")
        last = program.last_uses()
        for at, row in enumerate(program.instructions):
            self._instruction(row)
            spent = [self._text[v] for v in dict.fromkeys(row.operands)
                     if v.kind == "result" and last[v] == at and v.nbytes >= LARGE]  # fmt: skip
            if spent:
                source.add(f"del {', '.join(spent)}")
        for target, value in program.effects:
            source.add(f"copyto({self._text[target]}, {self._operand(value)})")
        owned: set[Value] = set()
        outputs = [self._final(v, owned) for v in program.outputs]
        gradients = ["None" if v is None else self._final(v, owned) for _, v in program.gradients]
        source.add(f"return [{', '.join(outputs)}], [{', '.join(gradients)}]")

    def _instruction(self, row):
        """``v3, _ = f(v1, v2, dim=1)``; 0-d results are made arrays, which NumPy's functions do not always return."""
        for out in row.results:
            self._text[out] = f"v{len(self._text)}"
        given = [self._operand(a) for a in row.args]
        given += [f"{k}={self._setting(row.runtime.get(k, v))}" for k, v in row.static.items()]
        call = f"{self.source.name(row.op.run, row.op.name + '_')}({', '.join(given)})"
        names = ["_" if out is None else self._text[out] for out in row.outs]
        if len(row.outs) == 1:
            call = call if row.results[0].shape else f"asarray({call})"
            self.source.add(f"{names[0]} = {call}", row)
            return
        self.source.add(f"{', '.join(names)} = {call}", row)
        for out in row.results:
            if not out.shape:
                self.source.add(f"{self._text[out]} = asarray({self._text[out]})")

    def _final(self, value, owned):
        """An output owns its memory: copied where somebody else may hold it."""
        text = self._operand(value)
        if value.kind == "result" and value not in owned and value not in self._looks:
            owned.add(value)
            return text
        return f"array({text})"


class NativeLowered(Lowered):
    """A program whose instructions run in native segments where kernels serve them, and as Python lines between.

    With ``tick``, every row is a segment by itself, and ``tick()`` is called before the first and after each.
    """

    def __init__(self, program: Program, tick: Callable | None = None):
        self.tick = tick
        self.timed: list[tuple[Instruction | None, bool]] = []  # what runs between two ticks, and whether natively
        super().__init__(program)

    def _write(self):
        from .segments import Layout

        self.layout = layout = Layout(self.program)
        self.segments: list = []
        source, program = self.source, self.program
        source.names |= {"begin": self._begin, "pack": None, "f": layout.fresh}
        for kind, values in (("arguments", program.arguments), ("captured", program.captured)):
            used = [f"{kind[0]}_{i}" for i in range(len(values))]
            self._text.update(zip(values, used, strict=True))
            if used:
                source.add(f"{', '.join(used)}, = {kind}")
        source.add("begin(arguments, captured)")
        for position, value in layout.small_arguments.items():
            source.add(f"copyto({source.name(layout.view(value), 'w')}, a_{position})")
        if layout.numbers:
            source.names["pack"] = struct.Struct(f"{len(layout.numbers)}d").pack_into
            memory = source.name(layout.number_memory.data.cast("B"), "numbers")
            source.add(f"pack({memory}, 0, {', '.join([self._place(n) for n in layout.numbers])})")
        self._rows(layout)
        for target, value in layout.copies:
            source.add(f"copyto({self._text[target]}, {self._operand(value)})")
        owned: set[Value] = set()
        finals = [*program.outputs, *[v for _, v in program.gradients]]
        texts = [f"f[{layout.finals[i].root.number}].array" if i in layout.finals
                 else "None" if v is None else self._final(v, owned) for i, v in enumerate(finals)]  # fmt: skip
        count = len(program.outputs)
        source.add(f"return [{', '.join(texts[:count])}], [{', '.join(texts[count:])}]")
        self._inputs()

    def _rows(self, layout):
        waiting: list = []

        def close():
            if waiting:
                self._segment(list(waiting))
                waiting.clear()

        self._ticks(None)
        for row in layout.rows:
            if isinstance(row, Instruction):
                close()
                self._instruction(row)
                for out in row.results:
                    if out in layout.needed:
                        self.source.add(f"copyto({self.source.name(layout.view(out), 'w')}, {self._text[out]})")
            elif row.guard is not None:
                close()
                self._guarded(row)
            else:
                waiting.append(row)
                if self.tick is not None:
                    close()
            self._ticks(row)
        close()

    def _ticks(self, row):
        if self.tick is None:
            return
        self.source.add(f"{self.source.name(self.tick, 'tick')}()")
        if row is not None:
            native = not isinstance(row, Instruction)
            self.timed.append((row.row if native else row, native))

    def _segment(self, rows):
        from .segments import Segment

        segment = Segment(rows)
        self.segments.append(segment)
        names = ", ".join(dict.fromkeys([r.row.op.name for r in rows if r.row is not None]))
        self.source.add(f"{self.source.name(segment.run, 'native_')}()  # {names}")

    def _guarded(self, native):
        """A kernel that may run on some values alone; the body of its record does the rest."""
        row = native.row
        given = ", ".join(
            [*[self._operand(a) for a in row.args], *[f"{k}={self._setting(v)}" for k, v in row.static.items()]]
        )
        self.source.add(f"if {self.source.name(native.guard, 'may_')}({given}):")
        mark = len(self.source.lines)
        self._segment([native])
        self.source.add("else:")
        names = ["_" if out is None else f"t{i}" for i, out in enumerate(row.outs)]
        self.source.add(
            f"    {', '.join(names)} = {self.source.name(row.op.function, row.op.name + '_')}({given})", row
        )
        for name, out in zip(names, row.outs, strict=True):
            if out is not None:
                self.source.add(f"    copyto({self._operand(out)}, {name})")
        self.source.lines[mark] = "    " + self.source.lines[mark]

    def _operand(self, value) -> str:
        if type(value) is Value and value.kind == "result" and value not in self._text:
            if self.layout.places[value].root.kind == "arena":
                return self.source.name(self._kept(self.layout.view(value)), "w")
            self._instruction(self._makers[value])  # a look at memory that may be another one at each run
        return super()._operand(value)

    @functools.cached_property
    def _makers(self) -> dict[Value, Instruction]:
        return {out: row for row in self.program.instructions if row.alias is not None for out in row.results}

    def _kept(self, array):
        self._views.append(array)
        return array

    @functools.cached_property
    def _views(self) -> list:
        return []

    def _final(self, value, owned):
        return super()._final(value, owned) if value in self.layout.python else f"array({self._operand(value)})"

    def _inputs(self):
        """The roots whose memory may be another one at each run."""
        places = self.layout.places
        roots = {places[v].root: v for v in (*self.program.arguments, *self.program.captured) if v in places}
        self._moving = [(r, r.number) for r in roots if r.kind == "argument" and r.words]
        self._captured = [(r, r.number) for r in roots if r.kind == "captured" and r.words]
        self._seen: list | None = None
        self._fresh = self.layout.fresh
        self.python = any([isinstance(row, Instruction) or row.guard is not None for row in self.layout.rows])
        finals = [*self.program.outputs, *[v for _, v in self.program.gradients]]
        count = len(self.program.outputs)
        self._made: list[tuple] = []
        for root in self._fresh:
            position = next(i for i, p in self.layout.finals.items() if p.root is root)
            leaf = self.program.gradients[position - count][0] if position >= count else None
            self._made.append((root, finals[position], self.layout.finals[position].strides, leaf))

    def _begin(self, arguments, captured):
        """Let the tables point at this run's memory; outputs that nobody holds any more are used again."""
        from .segments import address_of, move

        for root, number in self._moving:
            address = address_of(arguments[number])
            if address != root.address:
                root.address = address
                for block, word, offset in root.words:
                    block[word] = address + offset
        if captured is not self._seen:
            self._seen = captured
            for root, number in self._captured:
                if captured[number] is not root.array:
                    move(root, captured[number])
        for root, value, strides, leaf in self._made:
            if root.array is None or getrefcount(root.array) > 2:
                if leaf is not None and _holds_alone(leaf, root):
                    continue
                root.array, root.spare = root.spare, root.array
                if root.array is None or getrefcount(root.array) > 2:
                    root.array = np.ndarray(value.shape, value.dtype, strides=strides)
                move(root, root.array)


def _holds_alone(leaf, root):
    """Whether the ``grad`` of a leaf is the one that holds an output's memory, and only the leaf holds that."""
    return (leaf._grad is not None and leaf._grad.array is root.array and getrefcount(leaf._grad) == 2
            and getrefcount(root.array) == 3)  # fmt: skip


def numbers_function(rows: list[Settings], wanted: list[Number], guards: list[tuple]) -> Callable:
    """A function that asks all ``rows`` in order and works the run-time numbers out, as a list.

    It returns None where what the program relies on, or the outcome of a comparison, has changed.
    """
    source, text = Source("numbers", ""), {}
    for number, row in enumerate(rows):
        text[id(row)] = f"s{number}"
        source.add(f"s{number} = {source.name(row, 'settings_')}()")
        source.add(f"if s{number} is None: return None")

    def written(item):
        if type(item) is not Number:
            return literal(item, source)
        if id(item) in text:
            return text[id(item)]
        if type(item.inputs[0]) is Settings:
            row, *path = item.inputs
            line = text[id(row)] + "".join([f"[{step!r}]" for step in path])
        else:
            line = f"{source.name(item.function, 'f')}({', '.join([written(i) for i in item.inputs])})"
        text[id(item)] = f"n{len(text)}"
        source.add(f"{text[id(item)]} = {line}")
        return text[id(item)]

    checked = set()
    for function, first, second, outcome in guards:
        test = f"{source.name(function, 'f')}({written(first)}, {written(second)}) is not {outcome}"
        if test not in checked:
            checked.add(test)
            source.add(f"if {test}: return None")
    source.add(f"return [{', '.join([written(n) for n in wanted])}]")
    return source.function()
