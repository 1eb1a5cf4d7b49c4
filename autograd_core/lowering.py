"""A program as lines of Python: a native segment is one line, an instruction without a kernel another.

What such a line runs is the body of the record, on arrays: no Tensors, no graph, no dispatch. Names of values are those
of the printed program, so that an error's traceback and `Program` can be read side by side.
"""

from __future__ import annotations

import ctypes
import functools
import linecache
import struct
from collections.abc import Callable
from itertools import count
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
        self.depth = 1  # of indentation
        self.rows: dict[int, Instruction] = {}  # by line

    def add(self, text: str, row: Instruction | None = None) -> None:
        """One more line; ``row``: the instruction that it carries out."""
        self.lines.append("    " * self.depth + text)
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
    """The lines of a program: `write` adds them to a source, `finals` says what holds the results.

    ``texts``: names of arguments and captured values. Run-time numbers are read from the list ``n``, seeds and offsets
    of generators from ``draws``. Effects are the last lines.
    """

    native = False
    python = True  # whether instructions are lines of Python

    def __init__(self, program: Program, source: Source, texts: dict[Value, str]):
        self.program = program
        self.source = source
        self.wanted: list[Number] = []  # run-time numbers, by their position in ``n``
        self._places: dict[int, int] = {}
        self._text = dict(texts)
        self._looks = {out for row in program.instructions if row.alias is not None for out in row.results}
        source.names |= {"asarray": np.asarray, "copyto": np.copyto, "array": np.array}

    # -------------------------------------------------- operands

    def text_of(self, value: Value) -> str:
        """The name of an argument or a captured value."""
        return self._text[value]

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

    def write(self) -> None:
        """Add the lines."""
        last = self.program.last_uses()
        for at, row in enumerate(self.program.instructions):
            self._instruction(row)
            spent = [self._text[v] for v in dict.fromkeys(row.operands)
                     if v.kind == "result" and last[v] == at and v.nbytes >= LARGE]  # fmt: skip
            if spent:
                self.source.add(f"del {', '.join(spent)}")
        for target, value in self.program.effects:
            self.source.add(f"copyto({self._text[target]}, {self._operand(value)})")

    def finish(self) -> None:
        """Make what the lines call ready, once all of them are written."""

    def finals(self) -> list[str]:
        """What stands for each output, then for each gradient: an array that nobody else has, or None."""
        owned: set[Value] = set()
        values = [*self.program.outputs, *[v for _, v in self.program.gradients]]
        return ["None" if v is None else self._final(v, owned) for v in values]

    def _instruction(self, row):
        """``v3, _ = f(v1, v2, dim=1)``; 0-d results are made arrays, which NumPy's functions do not always return."""
        given = [self._operand(a) for a in row.args]
        given += [f"{k}={self._setting(row.runtime.get(k, v))}" for k, v in row.static.items()]
        for out in row.results:
            self._text[out] = f"v{len(self._text)}"
        call = f"{self.source.name(row.op.run, row.op.name + '_')}({', '.join(given)})"
        names = ["_" if out is None else self._text[out] for out in row.outs]
        if not row.outs:
            self.source.add(call, row)
            return
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
    """Lines of a program whose instructions run in native segments where kernels serve them.

    The memory that moves from run to run is handed over as array objects: ``h[k] = id(array)`` (`Layout.moving`). With
    ``tick``, every row is a segment by itself, and ``tick()`` is called before the first and after each.
    """

    native = True

    def __init__(self, program: Program, source: Source, texts: dict[Value, str], tick: Callable | None = None):
        from .segments import Layout

        super().__init__(program, source, texts)
        self.tick = tick
        self.timed: list[tuple[Instruction | None, bool]] = []  # what runs between two ticks, and whether natively
        self.layout = layout = Layout(program, merges=tick is None)
        self.segments: list = []
        self.headers: list = []
        self._views: list = []  # kept alive
        self.python = any([isinstance(row, Instruction) or row.guard is not None for row in layout.rows])

    # -------------------------------------------------- lines

    def write(self) -> None:
        """Add the lines."""
        layout, source = self.layout, self.source
        if layout.draws:
            source.names["pack_draws"] = struct.Struct(f"{2 * len(layout.draws)}Q").pack_into
            memory = source.name(layout.draw_memory.data.cast("B"), "draws_")
            given = [self._setting(one) for pair in layout.draws for one in pair]
            source.add(f"pack_draws({memory}, 0, {', '.join(given)})")
        self._first = None  # the header that binds addresses for all
        if self.tick is not None or not layout.rows or isinstance(layout.rows[0], Instruction) or layout.rows[0].guard:
            self._first = self._enter(None, "binds addresses")
        self._rows(layout)
        for target, value in layout.copies:
            source.add(f"copyto({self._text[target]}, {self._operand(value)})")

    def pack_numbers(self) -> str:
        """The line that hands the run-time numbers ``n`` to the kernels; empty where they need none."""
        layout = self.layout
        if not layout.numbers:
            return ""
        self.source.names["pack"] = struct.Struct(f"{len(layout.numbers)}d").pack_into
        memory = self.source.name(layout.number_memory.data.cast("B"), "numbers")
        return f"pack({memory}, 0, {', '.join([self._place(n) for n in layout.numbers])})"

    def wrong_indices(self, number: int) -> tuple[Instruction, int, np.ndarray]:
        """The instruction whose indices failed a check, which operand they are, and these."""
        from .kernels.replay import CHECK

        row, at, *_ = self.layout.checks[number]
        address, count, step = self._checks[CHECK * number : CHECK * number + 3].tolist()
        memory = (ctypes.c_int64 * ((count - 1) * step + 1)).from_address(address)
        return row, at, np.array(memory, np.int64)[::step].reshape(row.args[at].shape)

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
        header = self._enter(segment, names)
        if self._first is None:
            self._first = header

    def _enter(self, segment, remark):
        """The line that calls a segment; what binds the addresses is known when all segments are."""
        from .kernels.replay import FAILED

        number = len(self.headers)
        self.headers.append((segment, remark))
        state = "threads_state()" if segment is not None and segment._shared else "0"
        self.source.add(f"native_{number}(at_{number}, {state}, 0)  # {remark}")
        if number == 0 and self.layout.checks:
            self.source.add(f"if h[{FAILED}]: trapped(h[{FAILED}])")
        return number

    def finish(self) -> None:
        """See `Lowered`: what binds the addresses is known when all segments are."""
        from .kernels import replay, threads

        layout, names = self.layout, self.source.names
        self._checks = checks = layout.check_block()
        for number, (segment, _) in enumerate(self.headers):
            first = number == self._first
            table, rows = (segment._table, segment._rows) if segment is not None else (0, 0)
            shared = segment is not None and segment._shared
            header = replay.Header(table, rows, shared, len(layout.moving) if first else 0,
                                   layout.bindings() if first else [], checks if first else checks[:0])  # fmt: skip
            self._views.append(header)
            names |= {f"native_{number}": header.enter, f"at_{number}": header.address}
            if first:
                names |= {"h": header.words, "threads_state": threads.state_address}

    def _guarded(self, native):
        """A kernel that may run on some values alone; the body of its record does the rest."""
        row = native.row
        given = ", ".join(
            [*[self._operand(a) for a in row.args], *[f"{k}={self._setting(v)}" for k, v in row.static.items()]]
        )
        self.source.add(f"if {self.source.name(native.guard, 'may_')}({given}):", row)
        self.source.depth += 1
        self._segment([native])
        self.source.depth -= 1
        self.source.add("else:")
        self.source.depth += 1
        names = ["_" if out is None else f"t{i}" for i, out in enumerate(row.outs)]
        self.source.add(f"{', '.join(names)} = {self.source.name(row.op.function, row.op.name + '_')}({given})", row)
        for name, out in zip(names, row.outs, strict=True):
            if out is not None:
                self.source.add(f"copyto({self._operand(out)}, {name})")
        self.source.depth -= 1

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

    def _final(self, value, owned):
        if value in self.layout.python:
            return super()._final(value, owned)
        return f"array({self._operand(value)})"

    def finals(self) -> list[str]:
        """See `Lowered`. Small outputs are copied out of the arena, large ones and gradients are moving memory."""
        owned: set[Value] = set()
        texts = []
        for number, value in enumerate([*self.program.outputs, *[v for _, v in self.program.gradients]]):
            place = self.layout.finals.get(number)
            if place is None:
                texts.append("None" if value is None else self._final(value, owned))
            elif place.root.kind == "fresh" or value is None:
                texts.append(f"o_{place.root.number}")
            else:
                texts.append(f"{self.source.name(self._kept(self.layout.view(value, place)), 'w')}.copy()")
        return texts


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
