"""The Python function that a recording runs as: guards, the program, and its results in one straight text.

Nearly always nothing has changed since the run before but the arguments' values. So the text compares by identity what
the program relies on, and answers `MISS` where anything is another object; `Recording.renew` then looks closer. Arrays
that are handed out are made again only while somebody holds those of the run before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from sys import getrefcount
from typing import Any

import numpy as np

from . import provenance, shapes, storage
from .guards import PLAIN, flatten
from .lowering import Lowered, NativeLowered, Source, numbers_function
from .modes import QUIET, quiet_off, quiet_on, state
from .program import CHECK_NAN, GradientOf, Instruction, Program, Value
from .runtime import Settings
from .shapes import ndarray
from .tensor import Tensor, new, wrap

MISS = object()
"""What a run returns where something may not be as it was."""

HELD = eval("getrefcount(thing)", {"getrefcount": getrefcount, "thing": object()})  # noqa: S307
"""The count of references that a thing shows which a namespace alone holds."""


# ---------------------------------------------------------------------------------------------------- signatures


def pattern_of(args: tuple, kwargs: dict) -> list[tuple] | None:
    """What is to be asked of each argument: (kind, value or facts); None where arguments are nested, or named."""
    tensors = [id(a) for a in args if isinstance(a, Tensor)]
    if kwargs or len(set(tensors)) < len(tensors):
        return None
    found: list[tuple] = []
    for arg in args:
        if isinstance(arg, Tensor):
            array = arg._current().array
            found.append(("tensor", type(arg), array.shape, array.dtype, array.strides, arg.tracks))
        elif type(arg) is ndarray:
            found.append(("array", ndarray, arg.shape, arg.dtype, arg.strides, None))
        elif type(arg) in PLAIN and (type(arg) is not float or arg not in (0.0, arg + 1)) and arg == arg:
            found.append(("equal", arg))
        elif arg is None or [type(arg).__eq__, type(arg).__hash__] == [object.__eq__, object.__hash__]:
            found.append(("is", arg))
        else:
            return None
    return found


class Function:
    """A program as a Python function, which one thread runs at a time; its errors say which instruction they come from.

    ``run(arrays)`` takes those of the program's arguments and returns those of its outputs.
    """

    def __init__(self, program: Program, native: bool, head: str = "arrays", tick: Callable | None = None):
        self.program = program
        self.source = source = Source("run", head)
        self.names = source.names
        self.names |= {"getrefcount": getrefcount, "explain": self._explain, "trapped": self._trapped}
        texts = {v: f"a_{i}" for i, v in enumerate(program.arguments)} | self._captured_texts()
        self.lowered: Any = NativeLowered(program, source, texts, tick) if native else Lowered(program, source, texts)
        self.moving: list[_Memory] = []
        self.lock = threading.Lock()  # its memory is one
        self._globals: list[str] = []  # names that the text sets for the next run
        self._write()
        if self._globals:
            source.lines.insert(1, f"    global {', '.join(self._globals)}")
            source.rows = {line + 1: row for line, row in source.rows.items()}
        self.run = source.function()
        self.lowered.finish()
        for memory in self.moving:
            memory.renew()

    @property
    def text(self) -> str:
        """The source text."""
        return "\n".join(self.source.lines)

    def _captured_texts(self) -> dict[Value, str]:
        return {}

    def _write(self):
        count = len(self.program.arguments)
        if count:
            self.source.add(f"{', '.join([f'a_{i}' for i in range(count)])}, = arrays")
        with self._protected():
            self._run(None)
            self.source.add(f"return [{', '.join(self.lowered.finals())}]")

    @contextmanager
    def _protected(self):
        """Lines that run under the lock; errors in them are explained."""
        add, python, lock = self.source.add, self.lowered.python, self.lock
        self.names |= {"acquire": lock.acquire, "release": lock.release}
        if python:
            self.names |= {"quiet_on": quiet_on, "quiet_off": quiet_off, "QUIET": QUIET}
            add("token = quiet_on(QUIET)")
        add("acquire()")
        add("try:")
        self.source.depth += 1
        yield
        self.source.depth -= 1
        add("except Exception as error:")
        add("    explain(error)")
        add("    raise")
        add("finally:")
        add("    release()")
        if python:
            add("    quiet_off(token)")

    def _run(self, before):
        """The lines of the program; ``before`` adds what stands before the native calls."""
        if self.lowered.native:
            self._move_memory()
        if before is not None:
            before()
        self.lowered.write()

    def _move_memory(self):
        """Lines that hand over the memory that moves, and make outputs and gradients anew where they are held."""
        from .kernels.replay import OBJECTS

        layout, outputs = self.lowered.layout, len(self.program.outputs)
        owners = {place.root: i for i, place in sorted(layout.finals.items()) if place.root.kind == "fresh"}
        for root in layout.moving:
            if root.kind == "argument":
                self.source.add(f"h[{OBJECTS + root.number}] = id({self.lowered.text_of(root.value)})")
                continue
            position, number = owners[root], root.number
            gradient = position >= outputs
            strides = layout.finals[position].strides
            memory = _Memory(self.names, number, OBJECTS + number, root.value, strides, gradient)
            self.moving.append(memory)
            self.names[f"renew_{number}"] = memory.renew
            held = self._held_gradient(number, position - outputs) if gradient else f"getrefcount(o_{number}) != {HELD}"
            self.source.add(f"if {held}: renew_{number}()")

    def _held_gradient(self, number, position):
        raise NotImplementedError("only a recording has gradients")

    def _explain(self, error):
        """Say which instruction an error comes from; what was counted for the run is taken back."""
        self._undo()
        trace = error.__traceback__
        while trace is not None:
            inside = trace.tb_frame.f_code.co_filename == self.source.file
            row = self.source.rows.get(trace.tb_lineno) if inside else None
            if row is not None and row.op is not CHECK_NAN:
                error.add_note(note_of(row))
            trace = trace.tb_next

    def _trapped(self, number):
        """Indices are not what they must be: the operation's own body says so."""
        row, at, array = self.lowered.wrong_indices(number - 1)
        self._undo()
        given = [array if i == at else np.zeros(a.shape, a.dtype) if type(a) is Value else a
                 for i, a in enumerate(row.args)]  # fmt: skip
        try:
            row.op.function(*given, **row.static)
        except Exception as error:
            error.add_note(note_of(row))
            raise
        raise IndexError(f"{row.op.name}: an index is out of range\n{note_of(row)}")

    def _undo(self):
        """Take back what was counted before the native calls."""


class Entry(Function):
    """The function of one recording: ``run(args, kwargs, sure)``. ``sure``: what it relies on has been looked at."""

    def __init__(self, recording: Any, tick: Callable | None = None):
        self.recording = recording
        self.guards = recording.guards
        self.settings = _GroupsAsTheyWere(recording.guards.rows)
        self.renewal = storage.Renewal()
        super().__init__(recording.program, recording.native, "args, kwargs, sure", tick)
        self.remember()

    def _captured_texts(self):
        return {v: f"g_{i}" if isinstance(v.origin, GradientOf) else f"c_{i}" for i, v in self.guards.values}

    def _write(self):
        self.names |= {"MISS": MISS, "state": state, "shapes": shapes, "new": new, "Tensor": Tensor, "wrap": wrap}
        self._signature()
        self._around()
        self._body()

    # -------------------------------------------------- guards

    def _signature(self):
        """Arguments by position, each asked for its own; or `flatten`, where they are nested or named."""
        add, pattern = self.source.add, self.recording.pattern
        if pattern is None:
            self.names["match"] = self._match
            self.count = len(self.recording.leaf_kinds)
            add("leaves = match(args, kwargs)")
            add("if leaves is None: return MISS")
            if self.count:
                add(f"{', '.join([f'l_{i}' for i in range(self.count)])}, = leaves")
            kinds = self.recording.leaf_kinds
        else:
            add(f"if kwargs or len(args) != {len(pattern)}: return MISS" if pattern else
                "if args or kwargs: return MISS")  # fmt: skip
            given, kinds, others = [], [], []
            for number, (kind, *facts) in enumerate(pattern):
                if kind in ("tensor", "array"):
                    given.append(f"l_{len(kinds)}")
                    kinds.append(kind)
                    continue
                given.append(f"x_{number}")
                known = self.source.name(facts[0], "k")
                others.append(f"x_{number} is not {known}" if kind == "is" else
                              f"x_{number} != {known} or type(x_{number}) is not type({known})")  # fmt: skip
            self.count = len(kinds)
            if given:
                add(f"{', '.join(given)}, = args")
            if others:
                add(f"if {' or '.join(others)}: return MISS")
        facts_of = [p[1:] for p in pattern or () if p[0] in ("tensor", "array")]
        for i, kind in enumerate(kinds):
            if facts_of:
                self.names |= {f"type_{i}": facts_of[i][0]}
                add(f"if type(l_{i}) is not type_{i}: return MISS")
            add(f"a_{i} = l_{i}.array if l_{i}.base is None else l_{i}._current().array" if kind == "tensor"
                else f"a_{i} = l_{i}")  # fmt: skip
            if facts_of:
                self._facts(i, *facts_of[i][1:])
        for i in range(self.count):
            others = [f"l_{i} is l_{k}" for k in range(i)] if pattern is not None and kinds[i] == "tensor" else []
            if others:
                add(f"if {' or '.join(others)}: return MISS")

    def _facts(self, i, shape, dtype, strides, tracks):
        self.names |= {f"shape_{i}": shape, f"dtype_{i}": dtype, f"strides_{i}": strides}
        tests = [f"a_{i}.shape != shape_{i}", f"a_{i}.strides != strides_{i}",
                 f"(a_{i}.dtype is not dtype_{i} and a_{i}.dtype != dtype_{i})"]  # fmt: skip
        if tracks is not None:
            tests.append(f"l_{i}.tracks is not {tracks}")
        self.source.add(f"if {' or '.join(tests)}: return MISS")

    def _match(self, args, kwargs):
        leaves: list = []
        return leaves if flatten((args, kwargs) if kwargs else args, leaves) == self.recording.key[0] else None

    def _around(self):
        """What else it relies on: names, captured tensors, gradients, modules."""
        add, guards, key = self.source.add, self.guards, self.recording.key
        self.names |= {"grad_mode": key[1], "default": key[2]}
        add("if not sure:")
        self.source.depth += 1
        add("if state.watch is not None or state.grad is not grad_mode or shapes._default is not default: return MISS")
        tests = []
        for number, cell in enumerate(guards.outside.cells):
            tests.append(f"{self.source.name(cell, 'cell')}.cell_contents is not held_{number}")
        if guards.outside.names:
            self.names["around"] = guards.outside.globals.get
        for number, name in enumerate(guards.outside.names, len(guards.outside.cells)):
            tests.append(f"around({name!r}) is not held_{number}")
        for (number, tensor), tracks in zip(guards.captured, guards.tracks, strict=True):
            one = self.source.name(tensor, "t")
            tests.append(f"{one}.array is not c_{number} or {one}.tracks is not {tracks}")
            if tensor.base is not None:
                tests.append(f"{one}.edition != {one}.base.edition")
        tests += [f"{self.source.name(leaf, 'leaf')}._grad is not None" for leaf in guards.absent]
        tests += [f"l_{number} is not {self.source.name(leaf, 'leaf')}" for number, leaf in guards.identities]
        if guards.modules:
            self.names["Module"] = next(c for c in type(guards.modules[0][0]).__mro__ if "_changes" in vars(c))
            tests.append("Module._changes != changes")
        for start in range(0, len(tests), 8):
            add(f"if {' or '.join(tests[start : start + 8])}: return MISS")
        self.source.depth -= 1
        for number, value in guards.values:
            if isinstance(value.origin, GradientOf):
                self._captured_gradient(number, value)

    def _captured_gradient(self, number, value):
        leaf = self.source.name(value.origin.leaf, "leaf")
        facts = {"gshape": value.shape, "gdtype": value.dtype, "gstrides": value.strides}
        self.names |= {f"{name}_{number}": fact for name, fact in facts.items()}
        self.source.add(f"if {leaf}._grad is None: return MISS")
        self.source.add(f"g_{number} = {leaf}._grad.array")
        self.source.add(f"if g_{number}.shape != gshape_{number} or g_{number}.strides != gstrides_{number} or "
                        f"g_{number}.dtype != gdtype_{number}: return MISS")  # fmt: skip

    def remember(self) -> None:
        """Take what is there now for what was there at the run before; `Guards.hold` has looked at it."""
        with self.lock:
            self._remember()

    def _remember(self):
        guards, names = self.guards, self.names
        for number, held in enumerate(guards.held):
            names[f"held_{number}"] = held
        values = dict(guards.values)
        for (number, _), array in zip(guards.captured, guards.arrays, strict=True):
            if names.get(f"c_{number}") is not array:
                names[f"c_{number}"] = array
                self._move(values[number], array)
        if guards.modules:
            names["changes"] = guards.changes
        targets = [names[f"c_{number}"] for number in self.recording.written if type(number) is int]
        for array in targets:
            storage.renewed(array, self.renewal)

    def _move(self, value, array):
        if not self.lowered.native:
            return
        from .segments import move

        place = self.lowered.layout.places.get(value)
        if place is not None:
            move(place.root, array)

    # -------------------------------------------------- the run

    def _body(self):
        recording, lowered = self.recording, self.lowered
        with self._protected():
            mark = len(self.source.lines)
            for number, (module, mode) in enumerate(recording.modes):
                self.names[f"module_{number}"] = module
                self.source.add(f"module_{number}.training = {mode!r}")
            if recording.draws:
                given = [f"{self.source.name(one, 'generator')}.reserve({count})" for one, count in recording.draws]
                self.source.add(f"draws = [{', '.join(given)}]")
            self._run(None)
            self._log()
            self._results()
            self._numbers(mark, lowered)

    def _numbers(self, mark, lowered):
        """The run-time numbers, whose lines stand before the others: which of them are wanted is known now alone."""
        rows, lines = self.guards.rows, self.source.lines
        written = lines[mark:]
        del lines[mark:]
        if rows:
            pack = lowered.pack_numbers() if lowered.native else ""
            self.names |= {"numbers": numbers_function(rows, lowered.wanted, self.recording.comparisons),
                           "undo": self._undo}  # fmt: skip
            self._read_numbers(pack)
        added = len(lines) - mark
        lines += written
        self.source.rows = {line + (added if line > mark else 0): row for line, row in self.source.rows.items()}

    def _read_numbers(self, pack):
        add, simple = self.source.add, self.settings.simple()
        if simple:
            self.names |= self.settings.names()
            add(f"if {self.settings.test}:")
            self.source.depth += 1
        add("n = numbers()")
        add("if n is None:")
        add("    undo()")
        add("    return MISS")
        if pack:
            add(pack)
        if simple:
            self._globals += ["n", *self.settings.assigned]
            add(self.settings.assignment)
            self.source.depth -= 1

    def _undo(self):
        for row in reversed(self.guards.rows):
            row.undo()

    def _held_gradient(self, number, position):
        """Whether somebody but the leaf holds the gradient of the run before; where it is read, there must be two."""
        target, leaf = self.recording.targets[position]
        if any([isinstance(v.origin, GradientOf) and v.origin.leaf is leaf for v in self.program.captured]):
            return "True"
        own = f"l_{target}" if target is not None else self.source.name(leaf, "leaf")
        return (f"{own}._grad is not r_{number} or getrefcount(r_{number}) != {HELD + 1} or "
                f"getrefcount(o_{number}) != {HELD + 1}")  # fmt: skip

    def _log(self):
        """Note which memory was written, for graphs that hold on to its old values."""
        written, add = self.recording.written, self.source.add
        if any([type(w) is int for w in written]):
            self.names |= {"renewal": self.renewal, "storage": storage, "next_number": storage.clock.__next__}
            add("renewal.number = storage.latest = next_number()")
            add("renewal.count += 1")
        self.names["log_write"] = storage.log_write
        for one in written:
            if type(one) is not int:
                add(f"log_write({one})")

    def _results(self):
        add, recording = self.source.add, self.recording
        texts = self.lowered.finals()
        count = len(recording.program.outputs)
        for (number, leaf), text in zip(recording.targets, texts[count:], strict=True):
            own = f"l_{number}" if number is not None else self.source.name(leaf, "leaf")
            if text.startswith("o_"):
                text = f"r_{text[2:]}"
            elif text != "None":
                text = f"wrap({text})"
            add(f"{own}._grad = {text}")
        leaves = "[" + ", ".join([f"l_{i}" for i in range(self.count)]) + "]"
        if recording.backward is not None:
            self.names["connect"] = recording.backward.connect
            arrays = ", ".join([f"a_{i}" for i in range(self.count)])
            add(f"return connect([{', '.join(texts[:count])}], {leaves}, [{arrays}])")
            return
        for number, text in enumerate(texts[:count]):
            add(f"y_{number} = new(Tensor)")
            add(f"y_{number}.array = {text}")
        add(f"return {self._structure(recording.structure)}")

    def _structure(self, structure):
        """The text of a result."""
        kind, *rest = structure
        if kind in ("value", "argument"):
            return f"{'y' if kind == 'value' else 'l'}_{rest[0]}"
        if kind == "sequence":
            made, parts = rest[0], [self._structure(s) for s in rest[1]]
            if made is tuple or made is list:
                return f"({''.join([p + ', ' for p in parts])})" if made is tuple else f"[{', '.join(parts)}]"
            name = self.source.name(made, "kind")
            return f"{name}({', '.join(parts)})" if hasattr(made, "_fields") else f"{name}([{', '.join(parts)}])"
        if kind == "dict":
            parts = [f"{self.source.name(k, 'k')}: {self._structure(s)}" for k, s in rest[0].items()]
            return f"{{{', '.join(parts)}}}"
        return self.source.name(rest[0], "same")


def note_of(row: Instruction) -> str:
    """Which instruction it is, and where it was recorded."""
    return f"in a compiled run of {row.op.name}{provenance.at(row)}"


# ---------------------------------------------------------------------------------------------------- what moves


class _Memory:
    """The memory of a large output or of a gradient: handed out, and used again when nobody holds it any more.

    ``o_k`` in the namespace is the array; of a gradient, ``r_k`` is its Tensor. What was there before is kept as a
    spare: a result is often held until the next one is there.
    """

    def __init__(self, names: dict, number: int, slot: int, value: Value, strides: tuple, gradient: bool):
        self.names, self.slot, self.gradient = names, slot, gradient
        self.array, self.tensor = f"o_{number}", f"r_{number}"
        self.value, self.strides = value, strides

    def renew(self) -> None:
        """Put memory that nobody holds in the place of the one that was used."""
        names, array, tensor = self.names, self.array, self.tensor
        if self._is_held():
            for key in (array, tensor) if self.gradient else (array,):
                names[key], names["spare " + key] = names.get("spare " + key), names.get(key)
        if self._is_held():
            names[array] = np.ndarray(self.value.shape, self.value.dtype, strides=self.strides)
            if self.gradient:
                names[tensor] = wrap(names[array])
        names["h"][self.slot] = id(names[array])

    def _is_held(self):
        names, array = self.names, self.array
        return (names.get(array) is None or getrefcount(names[array]) != HELD + self.gradient
                or (self.gradient and getrefcount(names[self.tensor]) != HELD))  # fmt: skip


class _GroupsAsTheyWere:
    """Whether groups of optimizers without counts have changed since the run before: then numbers are as they were."""

    def __init__(self, rows: list[Settings]):
        self.rows = rows

    def simple(self) -> bool:
        """Whether this can be told by comparing the entries of the groups."""
        groups = [row.optimizer.param_groups[row.group] for row in self.rows]
        return all([not row.optimizer.scalars and plain_values(g) for row, g in zip(self.rows, groups, strict=True)])

    def names(self) -> dict[str, Any]:
        """What the text uses."""
        found: dict[str, Any] = {"plain_values": plain_values}
        for i, row in enumerate(self.rows):
            found |= {f"optimizer_{i}": row.optimizer, f"values_{i}": None, f"group_{i}": None,
                      f"same_state_{i}": row.same_state}  # fmt: skip
        return found

    @property
    def test(self) -> str:
        """The condition under which numbers must be worked out."""
        tests = []
        for i, row in enumerate(self.rows):
            tests += [f"optimizer_{i}.param_groups[{row.group}] is not group_{i}",
                      f"not same_state_{i}()" if row.stateful else f"optimizer_{i}.state",
                      f"[*group_{i}.values()] != values_{i}"]  # fmt: skip
        return " or ".join(tests)

    @property
    def assigned(self) -> list[str]:
        """Names that the assignment sets."""
        return [f"{name}_{i}" for i in range(len(self.rows)) for name in ("group", "values")]

    @property
    def assignment(self) -> str:
        """What is remembered once they are known."""
        return "; ".join([f"group_{i} = optimizer_{i}.param_groups[{row.group}]; values_{i} = plain_values(group_{i})"
                          for i, row in enumerate(self.rows)])  # fmt: skip


def plain_values(group: dict) -> list | None:
    """The entries of a group; None where some are Tensors, whose values may change while they stay the same object."""
    return None if any([isinstance(v, (Tensor, tuple)) for v in group.values()]) else [*group.values()]
