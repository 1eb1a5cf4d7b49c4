"""Recording: one eager call, written down as a `Program` while it runs.

The call runs as it always does; a `Watcher` sees every operation. What goes in and out is known by the identity of the
arrays, not of the Tensors around them: so detached tensors, values that backward rules get back from the graph and the
arrays that an optimizer updates are recognised without further ado.

Memory is a `Cell`: an array that owns it, and the views of it. A write in place gives the cell a new value; views made
before are looked up again, on the new value, when they are next read.
"""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from types import FrameType
from typing import Any

import numpy as np

from . import generator, provenance, storage
from .modes import BackwardScope, Watcher, state
from .program import CAST, CHECK_NAN, COPY, WRITE_PART, GradientOf, Instruction, Program, Value
from .runtime import Draw, Number, Settings, numbers_of
from .shapes import ndarray
from .tensor import Tensor, apply, wrap


class CompileError(RuntimeError):
    """A function does something that cannot be recorded; the message says what, and where."""

    explained = True


class Cell:
    """One piece of memory: its value now, how often it was written, and (by id) the array that owns it.

    Memory from outside is kept alive by ``array``; what the call makes may go when the call is done with it.
    """

    __slots__ = ("array", "first", "owner", "value", "version")

    def __init__(self, array: ndarray, value: Value, owner: ndarray):
        self.array = None if value.kind == "result" else array
        self.first = self.value = value
        self.owner = id(owner)
        self.version = 0


class Look:
    """An array as a look at a cell: the views that lead from the cell to it, and the value that this gives."""

    __slots__ = ("cell", "path", "reference", "value", "version")

    def __init__(self, reference, cell, value, path=()):
        self.reference = reference  # weak: the look is forgotten with its array, before another one gets its id
        self.cell = cell
        self.path = path
        self.value = value
        self.version = cell.version


class _Frame:
    """One call on its way through the door: run-time numbers by position and by setting, the arrays so far."""

    __slots__ = ("arrays", "numbers", "settings")

    def __init__(self, numbers, settings):
        self.numbers = numbers
        self.settings = settings


VARYING = frozenset(
    ["nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "unique_values", "bincount"]
)
"""Operations whose result's shape depends on values."""


class Tracer(Watcher):
    """Writes down what happens to Tensors in this thread. ``lenient``: what cannot be recorded ends the recording, not
    the call; it is kept in ``error``."""  # noqa: D209

    def __init__(self, name: str, lenient: bool = False, check_nan: bool = False):
        self.name = name
        self.lenient = lenient
        self.check_nan = check_nan
        self.error: CompileError | None = None
        self.instructions: list[Instruction] = []
        self.looks: dict[int, Look] = {}
        self.cells: dict[int, list[Cell]] = {}  # by the id of the array that owns the memory
        self._owners: dict[int, weakref.ref] = {}
        self.captured: list[Value] = []
        self.guards: list = []  # comparisons of run-time numbers
        self.settings_rows: dict = {}
        self.modules: dict[int, tuple[Any, bool]] = {}
        self.touched: dict[Tensor, tuple[bool, Tensor | None]] = {}  # leaf -> (whether its first use replaced it, grad)
        self.frames: list[_Frame] = []
        self.wrapped: dict[int, Any] = {}
        self.generators: list[tuple[Any, int, int]] = []
        self.modes: list[tuple[Any, bool]] = []  # modules that are set to training or to use inside
        self.groups: list[tuple[Any, dict]] = []
        self._existing: list[Tensor] = []
        self._before: dict[int, Any] = {}
        self._writes: int | None = 0

    # -------------------------------------------------- begin and end

    def __enter__(self):
        self._existing = [o for o in gc.get_objects()
                          if issubclass(type(o), Tensor) and isinstance(o.__dict__.get("array"), ndarray)]  # fmt: skip
        for tensor in self._existing:
            if tensor.tracks or id(tensor.array) not in self._before:
                self._before[id(tensor.array)] = tensor
        for tensor in self._existing:
            if tensor._grad is not None:
                self._before[id(tensor._grad.array)] = GradientOf(tensor)
        self._writes = storage.latest
        self.reserve(generator.default_generator)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.frames.clear()

    def argument(self, array: ndarray, position: int, name: str = "") -> Value:
        """Declare an array that is given anew at each run."""
        value = Value("argument", array.shape, array.dtype, position, name=name, strides=array.strides)
        self._cell(array, value)
        return value

    def refuse(self, what: str) -> None:
        """What happens now cannot be recorded."""
        if self.error is None:
            place = provenance.describe(provenance.site(2))
            self.error = CompileError(f"{self.name} cannot be compiled: {what}" + (f"\n  at {place}" if place else ""))
        if not self.lenient:
            raise self.error

    # -------------------------------------------------- memory

    def _cell(self, array, value, owner=None):
        owner = storage.owner_of(array) if owner is None else owner
        cell = Cell(array, value, owner)
        key = id(owner)
        if key not in self.cells:
            self._owners[key] = weakref.ref(owner, lambda _: self.cells.pop(key, None))
        self.cells.setdefault(key, []).append(cell)
        self._look(array, cell, value)
        return cell

    def _look(self, array, cell, value, path=()):
        key = id(array)
        self.looks[key] = Look(weakref.ref(array, lambda _: self.looks.pop(key, None)), cell, value, path)

    def value_of(self, array: ndarray) -> Value:
        """What an array holds now; one that nobody knows is captured if it existed before, else a constant."""
        look = self.looks.get(id(array))
        if look is None:
            self._meet(array)
            look = self.looks[id(array)]
        if look.version != look.cell.version:
            look.value, look.version = self._look_again(look), look.cell.version
        return look.value

    def _meet(self, array):
        origin = self._before.get(id(array))
        if origin is None:
            self._cell(array, Value("constant", array.shape, array.dtype, array=array))
        else:
            self.capture(array, origin)

    def capture(self, array: ndarray, origin: Any) -> None:
        """Declare an array outside that is read where it lies at each run."""
        value = Value(
            "captured",
            array.shape,
            array.dtype,
            origin,
            name=getattr(origin, "name", None) or "",
            strides=array.strides,
        )
        owner = storage.owner_of(array)
        for other in self.cells.get(id(owner), ()):
            if other.version and other.array is not None and np.may_share_memory(other.array, array):
                self.refuse("a tensor is read that shares memory with one that was written")
        self.captured.append(value)
        self._cell(array, value, owner)

    def _look_again(self, look):
        value = look.cell.value
        for op, position, rest, static, number, count, shape, dtype in look.path:
            given = list(rest)
            given[position] = value
            value = Value("result", shape, dtype)
            outs = tuple([value if i == number else None for i in range(count)])
            self.instructions.append(self._row(op, tuple(given), static, outs, {}, position))
        return value

    def _row(self, op, operands, static, outs, runtime, alias=None):
        where = state.scope
        forward = where.forward() if isinstance(where, BackwardScope) else None
        site = forward.site if forward is not None else provenance.site(3)
        scope = f"{where} backward".strip() if forward is not None else where or ""
        return Instruction(op, operands, static, outs, runtime, alias, scope, site)

    # -------------------------------------------------- operations

    def call(self, op, args, static):
        """An operation passes the door: run it through a copy of its record that writes down what the body gets."""
        if self.error is not None:
            return super().call(op, args, static)
        self._check_writes()
        numbers, settings = {}, {}
        for position, arg in enumerate(args):
            kind = type(arg)
            if kind is Number:
                numbers[position] = arg
            elif kind is ndarray and id(arg) not in self.looks and self._is_users(arg):
                self.refuse(f"{op.name} gets a NumPy array ({arg.dtype}{list(arg.shape)}) from outside; make it a "
                            "Tensor outside of the function, or an argument of it")  # fmt: skip
            elif isinstance(arg, (Tensor, ndarray)):
                self._known(arg)
        if numbers:
            args = tuple([a.value if type(a) is Number else a for a in args])
        settings = {key: value for key, value in static.items() if type(value) is Number}
        if settings:
            static = {k: v.value if type(v) is Number else v for k, v in static.items()}
        if "seed" in static and "offset" in static:
            settings |= self._draws(static)
        self.frames.append(_Frame(numbers, settings))
        try:
            return apply(self._through(op), args, static, watched=False)
        finally:
            self.frames.pop()

    def _known(self, arg):
        array = arg.array if isinstance(arg, Tensor) else arg
        if id(array) not in self.looks:
            self._meet(array)

    def _is_users(self, array):
        """Whether an array was handed to the library by the user's code."""
        frame: FrameType | None = sys._getframe(2)
        owner = storage.owner_of(array)
        given: list = []
        while frame is not None and not provenance.written_by_user(frame.f_code.co_filename):
            code = frame.f_code
            count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)
            given = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
            frame = frame.f_back
        flat = [v for g in given for v in (g if isinstance(g, (tuple, list)) else (g,))]
        return any([isinstance(v, ndarray) and storage.owner_of(v) is owner for v in flat])

    def _draws(self, static):
        for number, (_, seed, offset) in enumerate(self.generators):
            if static["seed"] == seed:
                ahead = (static["offset"] - offset) & generator.LARGEST
                return {"seed": Draw(number, "seed", 0), "offset": Draw(number, "offset", ahead)}
        return {}

    def _through(self, op):
        """A copy of the record whose casts and body are written down."""
        made = self.wrapped.get(id(op))
        if made is None:
            made = self.wrapped[id(op)] = copy.copy(op)
            made.plans = op.plans
            if op.prepare is not None:
                made.prepare = lambda arrays, static: self._prepared(op, arrays, static)
            if op.promote is not None:
                made.promote = lambda arrays: self._cast(list(arrays), op.promote(arrays))
            made.run = lambda *arrays, **static: self._run(op, arrays, static)
        return made

    def _prepared(self, op, arrays, static):
        before = list(arrays)
        made = op.prepare(arrays, static)
        self._cast(before, arrays)
        return made

    def _cast(self, before, after):
        """Note where promotion made another array of a known one."""
        if self.error is not None:
            return after
        frame = self.frames[-1]
        for position, (old, new) in enumerate(zip(before, after, strict=True)):
            if new is old or not isinstance(new, ndarray):
                continue
            number = frame.numbers.pop(position, None)
            if isinstance(old, ndarray) or number is not None:
                operand = number if number is not None else self.value_of(old)
                out = Value("result", new.shape, new.dtype)
                self.instructions.append(self._row(CAST, (operand,), {"dtype": new.dtype}, (out,), {}))
                self._cell(new, out)
        return after

    def _run(self, op, arrays, static):
        frame = self.frames[-1]
        numbers, settings = frame.numbers, frame.settings
        result = op.run(*arrays, **static)
        several = type(result) is tuple
        results = tuple([None if r is None else np.asarray(r) for r in result]) if several else (np.asarray(result),)
        if self.error is None:
            if op.name in VARYING or (op.name == "pick" and any([a.dtype.kind == "b" for a in arrays[1:]])):
                self.refuse(f"the shape of the result of {op.name} depends on values")
            operands = tuple([numbers[i] if i in numbers else self.value_of(a) if isinstance(a, ndarray) else a
                              for i, a in enumerate(arrays)])  # fmt: skip
            self._note(op, operands, arrays, static, results, settings)
            if self.check_nan and self.instructions and self.instructions[-1].op is op:
                for array in results:
                    if array is not None and array.dtype.kind == "f":
                        CHECK_NAN.run(array, row=self.instructions[-1])
        return results if several else results[0]

    def _note(self, op, operands, arrays, static, results, settings):
        """Write an instruction down, with a cell or a look for each result."""
        outs: list = []
        fresh: dict[int, Value] = {}
        alias = None
        steps = []
        for number, array in enumerate(results):
            if array is None or (id(array) in self.looks and id(array) not in fresh):
                outs.append(None)  # an input that is handed on needs no instruction
                continue
            if id(array) in fresh:
                outs.append(None)
                continue
            out = fresh[id(array)] = Value("result", array.shape, array.dtype)
            outs.append(out)
            source = self._source(array, arrays)
            if source is None:
                self._cell(array, out)
            else:
                alias = source
                steps.append((array, out, number))
        if not fresh:
            return
        self.instructions.append(self._row(op, operands, static, tuple(outs), settings, alias))
        for array, out, number in steps:
            look = self.looks[id(arrays[alias])]
            rest = tuple([None if i == alias else a for i, a in enumerate(operands)])
            step = (op, alias, rest, static, number, len(outs), out.shape, out.dtype)
            self._look(array, look.cell, out, (*look.path, step))

    def _source(self, array, arrays):
        """The position of the operand whose memory a result looks at."""
        if array.base is None:
            return None
        owner = storage.owner_of(array)
        for position, operand in enumerate(arrays):
            if isinstance(operand, ndarray) and storage.owner_of(operand) is owner:
                return position
        return None

    # -------------------------------------------------- effects

    def _check_writes(self):
        before, self._writes = self._writes, storage.latest
        if before is not None and before != storage.latest:
            self.refuse("memory was written past the engine (by an initialiser, or a raw write); do it outside")

    def write(self, target, result):
        """``result`` goes into the memory of ``target``: its cell gets a new value."""
        super().write(target, result)
        if self.error is not None:
            return
        self._check_writes()
        array = target.array
        source = result.array if isinstance(result, Tensor) else np.asarray(result)
        value = self.value_of(source)
        self.value_of(array)
        look = self.looks[id(array)]
        self._keep_constants(look.cell)
        self._check_neighbours(look, array)
        if value.dtype != array.dtype:
            out = Value("result", array.shape, array.dtype)
            self.instructions.append(self._row(CAST, (value,), {"dtype": array.dtype}, (out,), {}))
            value = out
        if look.path:
            if any([isinstance(r, Value) for step in look.path for r in step[2]]):
                self.refuse("a view that depends on other tensors is written in place")
            order = "C" if storage.owner_of(array).flags.c_contiguous else "K"
            path = tuple([step[:5] for step in look.path])
            whole = Value("result", look.cell.value.shape, look.cell.value.dtype)
            given = (look.cell.value, value)
            self.instructions.append(self._row(WRITE_PART, given, {"path": path, "order": order}, (whole,), {}))
            look.cell.value = whole
        else:
            look.cell.value = value
        look.cell.version += 1
        look.value, look.version = value, look.cell.version
        self._writes = None  # the engine logs this write when it has happened

    def _keep_constants(self, cell):
        for other in self.cells[cell.owner]:
            if other.first.kind == "constant" and not other.version:
                other.first.array = other.first.held.copy()

    def _check_neighbours(self, look, array):
        """Other cells on the memory that is written must be disjoint from it."""
        for other in self.looks.values():
            if (
                other.cell is not look.cell
                and other.cell.owner == look.cell.owner
                and np.shares_memory(other.reference(), array)
            ):
                self.refuse("a tensor is written that shares memory with another one in a way that is not known")

    def copied(self, source, made):
        """The engine made a copy of an array."""
        if self.error is None and id(source) in self.looks:
            self._cell(made, self.value_of(source))

    def convert(self, data, made):
        """A tensor is made of ``data``: numbers are constants, an array must be known."""
        if self.error is not None or id(made) in self.looks:
            return
        source = data.array if isinstance(data, Tensor) else data
        if isinstance(source, ndarray) and (isinstance(data, Tensor) or id(source) in self.looks):
            value = self.value_of(source)
            out = Value("result", made.shape, made.dtype)
            row = (CAST, (value,), {"dtype": made.dtype}) if made.dtype != value.dtype else (COPY, (value,), {})
            self.instructions.append(self._row(*row, (out,), {}))
            self._cell(made, out)
        elif isinstance(source, (ndarray, np.generic)) and source.ndim and self._is_users(source):
            self.refuse(
                "a tensor is made of a NumPy array from outside; make it outside of the function, or an argument"
            )
        elif isinstance(source, (list, tuple)) and _holds_tensors(source):
            self.refuse("a tensor is made of a list of tensors; use ag.stack")

    def read(self, tensor):
        """The values of a tensor leave the engine."""
        super().read(tensor)
        if self.error is not None:
            return
        look = self.looks.get(id(tensor.array))
        known = look is not None or id(tensor.array) in self._before
        if known and (look is None or self.value_of(tensor.array).kind != "constant"):
            kind = f"{tensor.array.dtype}{list(tensor.array.shape)}"
            self.refuse(f"the values of a tensor ({kind}) are read: turned into a number, a bool or a NumPy array. "
                        "Keep them tensors (ag.where for a choice), or do it outside")  # fmt: skip

    def replace(self, tensor, array):
        """``tensor.data = array``: for a tensor from outside, a write of its values."""
        if self.error is None and array is not tensor.array and id(tensor.array) in self._before:
            if array.shape != tensor.array.shape or array.dtype != tensor.array.dtype:
                self.refuse("the data of a tensor from outside is replaced by another shape or type")
            with np.errstate(all="ignore"):
                tensor._become(wrap(array), "data")
            return True
        return super().replace(tensor, array)

    def call_function(self, function, args, kwargs):
        """A user's Function: its operations are recorded one by one."""
        return function._apply(args, kwargs)

    # -------------------------------------------------- gradients

    def accumulate(self, leaf, gradient):
        """Backward adds to the ``grad`` of a leaf."""
        if self.error is not None:
            return super().accumulate(leaf, gradient)
        self.use_grad(leaf, False)
        before = leaf._grad
        if before is not None:
            leaf._grad = before + gradient
        elif gradient.tracks:
            leaf._grad = gradient
        else:
            made = gradient.array.copy()
            self._cell(made, self.value_of(gradient.array))
            leaf._grad = wrap(made)
        for hook in list((leaf.after_hooks or {}).values()):
            hook(leaf)
        return True

    def use_grad(self, leaf, replaced):
        """The ``grad`` of a leaf is about to be read, or replaced: only the first use depends on what it is."""
        if self.error is not None or leaf in self.touched:
            return
        self.touched[leaf] = replaced, leaf._grad
        if not replaced and leaf._grad is not None and id(leaf._grad.array) not in self.looks:
            self.capture(leaf._grad.array, GradientOf(leaf))

    # -------------------------------------------------- the world around

    def reserve(self, source):
        """A generator is about to hand out counters."""
        if self.error is None and all(known is not source for known, _, _ in self.generators):
            self.generators.append((source, source._seed, source._offset))

    def reseed(self, source):
        """Seeding is not repeated at each run."""
        if self.error is None:
            self.refuse("a generator is seeded inside; do it outside of the function")

    def enter(self, module):
        """A module is called."""
        if self.error is None:
            self.modules.setdefault(id(module), (module, module.training))

    def set_attribute(self, module, name, value):
        """Only its mode may be set on a module inside; that is repeated at each run."""
        if self.error is not None:
            return
        before = module.__dict__.get(name)
        if name == "training":
            self.modules.setdefault(id(module), (module, before))
            self.modes.append((module, value))
        elif value is not before and not (isinstance(value, (int, float, str)) and value == before):
            self.refuse(f"the attribute {name!r} of a module is set; a run does not repeat that (write into a buffer "
                        "with copy_, or return the value)")  # fmt: skip

    def settings(self, optimizer, group, parameter, kept, settings):
        """An optimizer is about to update a parameter: its numbers are looked up at each run."""
        if self.error is not None or state.grad:
            return settings
        number = next(i for i, g in enumerate(optimizer.param_groups) if g is group)
        for tensor in kept.values():
            if isinstance(tensor, Tensor) and id(tensor.array) not in self.looks:
                self.capture(tensor.array, tensor)
        key = id(optimizer), number, id(settings)
        if key not in self.settings_rows:
            row = Settings(optimizer, number, settings)
            self.settings_rows[key] = row, numbers_of(settings, row, self.guards), settings
            self.groups.append((group, {k: v for k, v in group.items() if isinstance(v, (int, float, tuple))}))
        row, lifted, _ = self.settings_rows[key]
        row.add(parameter, kept)
        return lifted

    # -------------------------------------------------- the result

    def advances(self) -> list[tuple[Any, int]]:
        """Each generator with the number of counters that a run takes."""
        for source, seed, _ in self.generators:
            if source._seed != seed:
                self.refuse("the state of a generator is set inside; do it outside of the function")
        return [(source, (source._offset - offset) & generator.LARGEST) for source, _, offset in self.generators]

    def effects(self) -> list[tuple[Value, Value]]:
        """What was written into memory from outside, with its value at the end."""
        cells = [cell for cells in self.cells.values() for cell in cells if cell.version]
        outside = ("captured", "argument")
        return [(c.first, c.value) for c in cells if c.first.kind in outside and c.value is not c.first]

    def leaf_gradients(self) -> list[tuple[Any, Value | None]]:
        """The leaves whose ``grad`` is another one at the end, with its value."""
        found: list = []
        for leaf, (replaced, before) in self.touched.items():
            now = leaf._grad
            if now is None:
                if replaced or before is not None:
                    found.append((leaf, None))
            elif now is not before or replaced:
                found.append((leaf, self.value_of(now.array)))
        return found

    def program(self, arguments: list[Value], outputs: list[Value]) -> Program:
        """What was recorded, once the call has returned."""
        self._check_writes()
        for group, before in self.groups:
            for key, value in before.items():
                if group.get(key) != value:
                    self.refuse(f"the setting {key!r} of an optimizer is changed inside; step schedules outside of the "
                                "function")  # fmt: skip
        return Program(
            self.name, arguments, self.captured, self.instructions, outputs, self.effects(), self.leaf_gradients()
        )


def _holds_tensors(items):
    return any(isinstance(i, Tensor) or (isinstance(i, (list, tuple)) and _holds_tensors(i)) for i in items)
