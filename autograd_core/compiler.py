"""``ag.compile``: a function of tensors becomes a recorded program that replays without Python's overhead.

The first call runs eagerly and is written down (`tracing`); passes make the program cheaper (`passes`); it is lowered to
straight-line code (`lowering`). Later calls check guards and run that. A call that the guards refuse records again.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Iterable

import numpy as np

from . import provenance, storage
from .lowering import Lowered, NativeLowered, numbers_function
from .modes import QUIET, quiet_off, quiet_on, state
from .passes import NATIVE, PASSES, run_passes
from .program import GradientOf, Program, Value
from .runtime import Settings
from .shapes import default_dtype, ndarray
from .tensor import Tensor, wrap
from .tracing import Tracer

MOST_PROGRAMS = 8
"""Programs kept for one function; the one that was used longest ago goes first."""


def compile(function=None, *, fallback: str | None = None, passes: Iterable[str] | None = None,
            disable: Iterable[str] = (), name: str | None = None):  # fmt: skip
    """Record a function (or a module) at its first call, and replay the recording at further calls.

    The function may do anything with tensors: a forward, a whole training step with ``backward`` and
    ``optimizer.step()``, gradients of gradients. It runs once in Python for each new signature: shapes, dtypes and
    ``requires_grad`` of its tensor arguments, values of its other arguments, training mode and attributes of the modules
    that it calls. Random draws, learning rates and step counts are looked up at each run; tensors that it reads without
    being given them (parameters, buffers) are read where they lie. Other effects in Python happen when it is recorded
    alone.

    What cannot be recorded (a tensor's value that decides in Python, NumPy arrays from outside) raises `CompileError`;
    with ``fallback="eager"`` such a function runs eagerly, with one warning. ``passes`` names the passes to run (all),
    ``disable`` those to leave out. Returns a `Compiled`; without ``function``, a decorator.
    """
    if fallback not in (None, "eager"):
        raise ValueError(f"compile: fallback must be None or 'eager', got {fallback!r}")
    chosen = [*PASSES, NATIVE] if passes is None else list(passes)
    for known in (*chosen, *disable):
        if known not in (*PASSES, NATIVE):
            raise ValueError(f"compile: there is no pass {known!r}; passes are {', '.join([*PASSES, NATIVE])}")
    chosen = [p for p in chosen if p not in set(disable)]
    if function is None:
        return lambda f: Compiled(f, fallback, chosen, name)
    return Compiled(function, fallback, chosen, name)


class Compiled:
    """A compiled function: called like the function. Other attributes are those of the function or module."""

    def __init__(self, function: Callable, fallback: str | None, passes: list[str], name: str | None):
        if not callable(function):
            raise TypeError(f"compile: needs a function or a module, got {type(function).__name__}")
        self.function = function
        self.fallback = fallback
        self.passes = passes
        self.recordings = 0
        self._name = name or getattr(function, "__name__", type(function).__name__)
        self._programs: list[Recording] = []
        self._eager: list = []  # keys of calls that fell back
        self._warned = False
        self._keys: list = []
        self._outside = Outside(function)
        if not hasattr(function, "named_parameters"):
            functools.update_wrapper(self, function, updated=())

    def __getattr__(self, name):
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __repr__(self):
        return f"<compiled {self._name}: {len(self._programs)} programs>"

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args, **kwargs):
        if state.watch is not None:
            return self.function(*args, **kwargs)
        leaves: list = []
        shape = _flatten((args, kwargs) if kwargs else args, leaves)
        key = (shape, state.grad, default_dtype())
        programs = self._programs
        for number, known in enumerate(programs):
            if known.key == key:
                found = known.run(leaves)
                if found is not NotImplemented:
                    if number:
                        programs.insert(0, programs.pop(number))
                    return found
        if key in self._eager:
            return self.function(*args, **kwargs)
        return self._record(args, kwargs, leaves, key)

    def _record(self, args, kwargs, leaves, key):
        self.recordings += 1
        self._note_key(key)
        tracer = Tracer(self._name, lenient=self.fallback == "eager")
        recording = Recording(key, self._outside)
        result = recording.record(tracer, self.function, args, kwargs, leaves)
        if tracer.error is not None:
            self._eager.append(key)
            warnings.warn(f"{tracer.error}\n  it runs eagerly instead", stacklevel=3)
            return result
        if recording.finish(self.passes):
            self._programs.insert(0, recording)
            del self._programs[MOST_PROGRAMS:]
        return result

    def _note_key(self, key):
        """Warn, once, when signatures keep changing; name the argument."""
        self._keys.append(key)
        if len(self._keys) < MOST_PROGRAMS or self._warned:
            return
        self._warned = True
        what = _changing([k[0] for k in self._keys])
        warnings.warn(f"{self._name} has been recorded {len(self._keys)} times: {what}; at most {MOST_PROGRAMS} programs "
                      "are kept", stacklevel=4)  # fmt: skip

    # -------------------------------------------------- to look at

    def program(self) -> Program:
        """The program that was used last: ``print(compiled.program())``."""
        if not self._programs:
            raise RuntimeError(f"{self._name} has no program yet: call it first")
        return self._programs[0].program

    def source(self) -> str:
        """The Python text that the last program was lowered to."""
        self.program()
        return self._programs[0].lowered.text


# ---------------------------------------------------------------------------------------------------- signatures


def _flatten(value, leaves):
    """The structure of arguments as a hashable key; their tensors and arrays are added to ``leaves``."""
    kind = type(value)
    if kind is tuple:
        return tuple([_flatten(v, leaves) for v in value])
    if isinstance(value, Tensor):
        array = value._current().array
        for number, other in enumerate(leaves):
            if other is value:
                return number
        leaves.append(value)
        return array.shape, array.dtype, array.strides, value.tracks
    if isinstance(value, ndarray):
        leaves.append(value)
        return "array", value.shape, value.dtype, value.strides
    if kind is list:
        return ("list", *[_flatten(v, leaves) for v in value])
    if kind is dict:
        return ("dict", *[(k, _flatten(v, leaves)) for k, v in value.items()])
    if isinstance(value, tuple):
        return (kind, *[_flatten(v, leaves) for v in value])
    try:
        hash(value)
    except TypeError:
        return kind, id(value)
    return (kind, repr(value)) if kind is float else (kind, value)


def _changing(shapes):
    """Which argument differs between signatures."""
    first = shapes[0]
    for shape in shapes[1:]:
        if type(shape) is not tuple or len(shape) != len(first):
            return "the number of its arguments changes"
    for number in range(len(first)):
        seen = list(dict.fromkeys([shape[number] for shape in shapes]))
        if len(seen) > 1:
            return f"argument {number} keeps changing ({', '.join(map(_short, seen[:3]))}, ...)"
    return "what it relies on (parameters, modes of modules, state of optimizers) keeps changing"


def _short(part):
    if len(part) == 4 and isinstance(part[1], np.dtype):
        return f"{part[1]}{list(part[0])}"
    return repr(part[-1])


class Outside:
    """What a function reads by name from around it: cells of its closure and globals; and what they held."""

    def __init__(self, function):
        code_of = getattr(function, "__func__", function)
        if hasattr(function, "named_parameters"):
            code_of = type(function).forward
        self.code = getattr(code_of, "__code__", None)
        self.cells = list(getattr(code_of, "__closure__", None) or ())
        self.globals = getattr(code_of, "__globals__", {})
        self.names = [n for n in self.code.co_names if n in self.globals] if self.code is not None else []

    def look(self) -> list:
        """What the names hold now."""
        held = [cell.cell_contents if _is_filled(cell) else None for cell in self.cells]
        return held + [self.globals.get(name) for name in self.names]

    def name_of(self, number: int) -> str:
        """The name behind an entry of `look`."""
        return [*(self.code.co_freevars if self.code else ()), *self.names][number]


def _is_filled(cell):
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


PLAIN = (int, float, str, bool, bytes)


def _same(now, before):
    """Whether names hold what they held: the same objects, or equal numbers and texts."""
    for a, b in zip(now, before, strict=True):
        if a is not b and not (type(a) is type(b) and isinstance(a, PLAIN) and a == b):
            return False
    return True


def _contents(held):
    """The entries of small lists and dicts, to see whether they change."""
    return [(list(v) if isinstance(v, list) else list(v.items())) if isinstance(v, (list, dict)) and len(v) <= 64 else None
            for v in held]  # fmt: skip


def _same_contents(now, before):
    for a, b in zip(now, before, strict=True):
        if a is b is None:
            continue
        if a is None or b is None or len(a) != len(b):
            return False
        for x, y in zip(a, b, strict=True):
            pairs = zip(x, y, strict=True) if type(x) is tuple and type(y) is tuple and len(x) == len(y) else ((x, y),)
            if not _same(*zip(*pairs, strict=True)):
                return False
    return True


# ---------------------------------------------------------------------------------------------------- recordings


class Recording:
    """One recorded call: its guards, its program, and how its results are put together."""

    def __init__(self, key, outside: Outside):
        self.key = key
        self.outside = outside

    # -------------------------------------------------- recording

    def record(self, tracer, function, args, kwargs, leaves):
        """Run the function once, eagerly, writing it down."""
        self.held = self.outside.look()
        self.contents = _contents(self.held)
        self.tracer = tracer
        self.tensors: list = []
        with tracer:
            names = _argument_names(function, args)
            arguments = []
            for position, leaf in enumerate(leaves):
                array = leaf.array if isinstance(leaf, Tensor) else leaf
                arguments.append(tracer.argument(array, position, names.get(id(leaf), "")))
            result = function(*args, **kwargs)
            if tracer.error is None:
                self._conclude(tracer, arguments, leaves, result)
        return result

    def _conclude(self, tracer, arguments, leaves, result):
        self.leaves = leaves
        outputs: list[Value] = []
        self.structure = self._structure(result, outputs)
        self.advances = tracer.advances()
        self.program = tracer.program(arguments, outputs)
        now = self.outside.look()
        if not _same(now, self.held) or not _same_contents(_contents(now), self.contents):
            number = next((i for i, (a, b) in enumerate(zip(now, self.held, strict=True)) if not _same([a], [b])), None)
            what = f"{self.outside.name_of(number)!r} is given another value" if number is not None else "a list or dict is changed"
            tracer.refuse(f"{what} inside, which a run does not repeat; return the value instead")

    def _structure(self, result, outputs):
        """The result as a pattern: entries are ``("value", number)``, a tensor that is handed on, or what is constant."""
        if isinstance(result, Tensor):
            for number, leaf in enumerate(self.leaves):
                if leaf is result:
                    return "argument", number
            value = self.tracer.value_of(result._current().array)
            if isinstance(value.origin, Tensor) and value.origin is result:
                return "same", result
            outputs.append(value)
            return "value", len(outputs) - 1
        if isinstance(result, dict):
            return "dict", {k: self._structure(v, outputs) for k, v in result.items()}
        if isinstance(result, (list, tuple)):
            return "sequence", type(result), [self._structure(v, outputs) for v in result]
        if isinstance(result, (float, ndarray, np.generic)) or (callable(result) and hasattr(result, "send")):
            self.tracer.refuse(f"it returns a {type(result).__name__}, which would be the same at every run; return tensors")
        return "same", result

    # -------------------------------------------------- finishing

    def finish(self, passes: list[str]) -> bool:
        """Optimise and lower the program; False where it can never run again, as the first step of an optimizer."""
        tracer = self.tracer
        self.rows: list[Settings] = [row for row, _, _ in tracer.settings_rows.values()]
        if not all([row._same_state() for row in self.rows]):
            return False
        run_passes(self.program, passes)
        native = NATIVE in passes
        _name_captured(self.program, tracer.modules.values())
        self.lowered = (NativeLowered if native else Lowered)(self.program)
        self.numbers = numbers_function(self.rows, self.lowered.wanted, tracer.guards)
        self.modes = tracer.modes
        self._guards(tracer)
        places = {v: i for i, v in enumerate(self.program.captured)}
        self.written = [(places.get(v), v.origin) for v, _ in self.program.effects]
        self.leaves = []
        del self.tracer
        return True

    def _guards(self, tracer):
        captured = self.program.captured
        self.tensors = [v.origin for v in captured if isinstance(v.origin, Tensor)]
        self.kinds = [(t.array.shape, t.array.dtype, t.array.strides, t.tracks) for t in self.tensors]
        self.live = [v.origin for v in captured]
        self.leaf_grads = [(leaf, before is None) for leaf, (replaced, before) in tracer.touched.items() if not replaced]
        self.targets = [leaf for leaf, _ in self.program.gradients]
        self.modules = [(module, mode, _facts(module)) for module, mode in tracer.modules.values()]
        self.changes = -1
        numbered = {id(leaf): i for i, leaf in enumerate(self.leaves)}
        self.own_leaves = [(numbered.get(id(leaf)), leaf) for leaf in self.targets]
        touched = [*tracer.touched, *[p for row in self.rows for p in row.parameters]]
        self.identities = [(numbered[id(t)], t) for t in touched if id(t) in numbered and t.tracks] if self.rows else []

    # -------------------------------------------------- running

    def _ready(self, leaves):
        """Whether everything that the recording relied on is as it was."""
        if not _same(self.outside.look(), self.held):
            return False
        for tensor, kind in zip(self.tensors, self.kinds, strict=True):
            array = tensor.array
            if (array.shape, array.dtype, array.strides, tensor.tracks) != kind:
                return False
        for leaf, was_none in self.leaf_grads:
            if (leaf._grad is None) is not was_none:
                return False
        for number, leaf in self.identities:
            if leaves[number] is not leaf:
                return False
        return self._same_modules()

    def _same_modules(self):
        if not self.modules:
            return True
        changes = type(self.modules[0][0])._changes
        if changes != self.changes:
            for module, mode, facts in self.modules:
                if module.training is not mode or not _same_facts(_facts(module), facts):
                    return False
            self.changes = changes
        return True

    def run(self, leaves):
        """Replay with new arguments; NotImplemented where a guard does not hold."""
        if not self._ready(leaves):
            return NotImplemented
        numbers = self.numbers()
        if numbers is None:
            for row in reversed(self.rows):
                row.undo()
            return NotImplemented
        for module, mode in self.modes:
            module.training = mode
        draws = [source.reserve(count) for source, count in self.advances]
        arguments = [leaf.array if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        captured = [o.array if isinstance(o, Tensor) else o.leaf._grad.array for o in self.live]
        token = quiet_on(QUIET)
        try:
            outputs, gradients = self.lowered.run(arguments, captured, numbers, draws)
        except Exception as error:
            self._explain(error)
            raise
        finally:
            quiet_off(token)
        for place, position in self.written:
            storage.log_write(arguments[position] if place is None else captured[place])
        for (number, leaf), gradient in zip(self.own_leaves, gradients, strict=True):
            leaf = leaf if number is None else leaves[number]
            leaf._grad = None if gradient is None else wrap(gradient)
        return self._result(self.structure, outputs, leaves)

    def _explain(self, error):
        """Add to an error which instruction it comes from."""
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.lowered.source.file:
                row = self.lowered.source.rows.get(trace.tb_lineno)
                if row is not None:
                    place = provenance.describe(row.site)
                    inside = f" in module {row.scope}" if row.scope else ""
                    error.add_note(f"in a compiled run of {row.op.name}{inside}" + (f", recorded at {place}" if place else ""))
            trace = trace.tb_next

    def _result(self, structure, outputs, leaves):
        kind = structure[0]
        if kind == "value":
            return wrap(outputs[structure[1]])
        if kind == "sequence":
            made = [self._result(s, outputs, leaves) for s in structure[2]]
            return structure[1](*made) if hasattr(structure[1], "_fields") else structure[1](made)
        if kind == "dict":
            return {k: self._result(s, outputs, leaves) for k, s in structure[1].items()}
        return leaves[structure[1]] if kind == "argument" else structure[1]


def _argument_names(function, args):
    """Names of positional arguments that are tensors, by their ids."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None:
        return {id(a): "input" for a in args[:1]}
    return {id(a): n for a, n in zip(args, code.co_varnames[: code.co_argcount], strict=False)}


def _facts(module):
    """What a module is, apart from its mode: its tensors, its parts, and attributes that are plain values."""
    held = module.__dict__
    own = [(k, v) for k, v in held.items() if k != "training" and isinstance(v, (*PLAIN, tuple, type(None)))]
    return own, list(held["_parameters"].values()), list(held["_buffers"].values()), list(held["_modules"].values())


def _same_facts(now, before):
    if len(now[0]) != len(before[0]) or now[0] != before[0]:
        return False
    return all([len(a) == len(b) and all(map(operator.is_, a, b)) for a, b in zip(now[1:], before[1:], strict=True)])


def _name_captured(program, modules):
    """Give captured values the names that their tensors have in the modules that were called."""
    names: dict[int, str] = {}
    for module, _ in modules:
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if len(names.get(id(tensor), "")) < len(name):
                names[id(tensor)] = name
    for value in program.captured:
        origin = value.origin
        if isinstance(origin, GradientOf):
            value.name = f"grad of {names.get(id(origin.leaf), 'a leaf')}"
        else:
            value.name = names.get(id(origin)) or value.name
