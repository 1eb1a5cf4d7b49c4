"""A recording: how one call was recorded, when it may be run again, and how its results are put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backward import grad as gradients_of
from .entry import Entry, Function, pattern_of
from .function import _node
from .guards import Guards, Outside, contents, same, same_contents
from .modes import enable_grad
from .passes import NATIVE, run_passes
from .program import GradientOf, Instruction, Program, Value
from .shapes import ndarray
from .tensor import Tensor, wrap


class Recording:
    """One recorded call of a function: its guards, its program, and that of its gradient where one may be wanted."""

    def __init__(self, key, outside: Outside, function: Callable):
        self.key = key
        self.outside = outside
        self.function = function
        self.backward: Backward | None = None
        self.costs: dict[Instruction, tuple[float, int | None]] = {}  # seconds and FLOPs, once measured

    # -------------------------------------------------- recording

    def record(self, tracer, args, kwargs, leaves):
        """Run the function once, eagerly, writing it down."""
        self.held = self.outside.look()
        before = contents(self.held)
        self.tracer, self.leaves, self.call = tracer, leaves, (args, kwargs)
        with tracer:
            names = _argument_names(self.function, args)
            arguments = []
            for position, leaf in enumerate(leaves):
                array = leaf.array if isinstance(leaf, Tensor) else leaf
                arguments.append(tracer.argument(array, position, names.get(id(leaf), "")))
            result = self.function(*args, **kwargs)
            if tracer.error is None:
                self._check_outside(before)
            if tracer.error is None:
                self._conclude(arguments, result)
        return result

    def _check_outside(self, before):
        now = self.outside.look()
        for number, (new, old, kept) in enumerate(zip(now, self.held, before, strict=True)):
            if same([new], [old]) and same_contents(contents([new]), [kept]):
                continue
            name, code = self.outside.name_of(number), self.outside.code
            what = f"{type(new).__name__} {name!r} is changed" if new is old else f"{name!r} is given another value"
            self.tracer.refuse(f"the {what} inside, which a run does not repeat; return the value instead"
                               f"{_begins(code)}")  # fmt: skip
            return

    def _conclude(self, arguments, result):
        self.outputs: list[Tensor] = []
        self.structure = self._structure(result)
        tracer = self.tracer
        values = [tracer.value_of(t._current().array) for t in self.outputs]
        self.advances = tracer.advances()
        self.program = tracer.program(arguments, values)
        live = [i for i, t in enumerate(self.outputs) if t.tracks and t.node is not None and not _freed(t.node)]
        if live:
            self.backward = Backward(self, tracer, live)

    def _structure(self, result):
        """The result as a pattern: ("value", number), ("argument", number), ("same", what is handed on as it is)."""
        if isinstance(result, Tensor):
            for number, leaf in enumerate(self.leaves):
                if leaf is result:
                    return "argument", number
            origin = self.tracer.value_of(result._current().array).origin
            if isinstance(origin, Tensor) and origin is result:
                return "same", result
            self.outputs.append(result)
            return "value", len(self.outputs) - 1
        if isinstance(result, dict):
            return "dict", {k: self._structure(v) for k, v in result.items()}
        if isinstance(result, (list, tuple)):
            return "sequence", type(result), [self._structure(v) for v in result]
        if isinstance(result, (float, ndarray, np.generic)) or hasattr(result, "send"):
            self.tracer.refuse(
                f"it returns a {type(result).__name__}, which would be the same at every run; return tensors"
                f"{_begins(self.outside.code)}"
            )
        return "same", result

    # -------------------------------------------------- finishing

    def finish(self, passes: list[str], memory_budget: int | None = None) -> bool:
        """Optimise and lower the program; False where it can never run again, as the first step of an optimizer."""
        tracer, program = self.tracer, self.program
        self.guards = Guards(tracer, program, self.outside, self.held, self.leaves)
        if not all([row.same_state() for row in self.guards.rows]):
            return False
        if self.backward is not None:
            self.backward.split(program)
        name_captured(program, tracer.modules.values())
        run_passes(program, passes, memory_budget)
        self.native = NATIVE in passes
        self.comparisons = tracer.guards
        self.modes = tracer.modes
        draws = any([row.runtime for row in program.instructions])
        self.draws = [(source, count) for source, count in self.advances if count or draws]
        numbers = {value: i for i, value in self.guards.values}
        self.written = [self._target(v, numbers) for v, _ in program.effects]
        numbered = {id(leaf): i for i, leaf in enumerate(self.leaves)}
        self.targets = [(numbered.get(id(leaf)), leaf) for leaf, _ in program.gradients]
        self.pattern = pattern_of(*self.call)
        self.leaf_kinds = ["tensor" if isinstance(leaf, Tensor) else "array" for leaf in self.leaves]
        if self.backward is not None:
            self.backward.finish(passes, tracer)
        self.use(Entry(self))
        if self.backward is None:
            del self.leaves, self.call
        del self.tracer, self.outputs
        return True

    def use(self, entry: Entry) -> None:
        """Run through this function from now on."""
        self.entry, self.run = entry, entry.run

    @staticmethod
    def _target(value, numbers):
        """What an effect writes: the number of a captured tensor, else the name of the array in the entry."""
        if value.kind == "argument":
            return f"a_{value.origin}"
        return f"g_{numbers[value]}" if isinstance(value.origin, GradientOf) else numbers[value]

    def renew(self, leaves) -> bool:
        """Look closer: whether what the program relies on is still as it was, if perhaps in other objects."""
        if not self.guards.hold(leaves):
            return False
        self.entry.remember()
        return True

    def again(self, leaves):
        """Run the function itself on other tensors."""

        def put(value):
            if isinstance(value, (Tensor, ndarray)):
                return next(new for old, new in pairs if old is value)
            if isinstance(value, dict):
                return {k: put(v) for k, v in value.items()}
            if isinstance(value, (list, tuple)):
                made = [put(v) for v in value]
                return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
            return value

        pairs = list(zip(self.leaves, leaves, strict=True))
        args, kwargs = self.call
        return self.function(*put(args), **put(kwargs))

def _begins(code):
    """Where a function begins, for errors that no line of it can be named for."""
    return f" (the function begins at {code.co_filename}:{code.co_firstlineno})" if code else ""


def _freed(node):
    """Whether a backward has passed through the graph behind a node."""
    seen, stack = set(), [node]
    while stack:
        node = stack.pop()
        if node.saved is None:
            return True
        for parent, _ in node.edges:
            if not isinstance(parent, Tensor) and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return False


def _argument_names(function, args):
    """Names of positional arguments that are tensors, by their ids."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None:
        return {id(a): "input" for a in args[:1]}
    return {id(a): n for a, n in zip(args, code.co_varnames[: code.co_argcount], strict=False)}


def name_captured(program: Program, modules) -> None:
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


# ---------------------------------------------------------------------------------------------------- gradients


class Backward:
    """The gradient of a compiled forward: a program of its own, which gets what the forward has kept for it."""

    def __init__(self, recording: Recording, tracer, live: list[int]):
        self.recording = recording
        self.live = live  # positions of the outputs that carry gradients
        outputs = [recording.outputs[i] for i in live]
        origins = [v.origin for v in tracer.captured if isinstance(v.origin, Tensor)]
        tracked: list[tuple[Any, int | None]] = [(tensor, None) for tensor in origins if tensor.tracks]
        tracked += [(leaf, i) for i, leaf in enumerate(recording.leaves) if isinstance(leaf, Tensor) and leaf.tracks]
        self.targets = tracked
        self.mark = len(tracer.instructions)
        self.seeds: list[Value] = []
        given = []
        for output in outputs:
            array = np.ones(output.array.shape, output.array.dtype)
            self.seeds.append(tracer.argument(array, len(self.seeds), "gradient"))
            given.append(wrap(array))
        ends = [tensor for tensor, _ in tracked]
        found = gradients_of(outputs, ends, given, retain_graph=True, allow_unused=True) if ends else []
        self.found = [None if g is None else tracer.value_of(g.array) for g in found]

    def split(self, program: Program) -> None:
        """Cut the recording in two; what the second part reads of the first becomes a further output of that."""
        rows = program.instructions
        forward, rest = rows[: self.mark], rows[self.mark :]
        made = {out: row for row in forward for out in row.results}
        program.instructions = forward
        self.program = Program(f"{program.name} backward", [], [], rest, [])
        wanted = [v for v in self.found if v is not None]
        rest[:], wanted_values = _needed(rest, wanted)
        prologue: list[Instruction] = []
        kept: list[Value] = []
        self._resolve(wanted_values, made, prologue, kept)
        renamed = {v: Value("argument", v.shape, v.dtype, len(self.seeds) + i, name=v.name, strides=v.strides)
                   for i, v in enumerate(kept)}  # fmt: skip
        self.program.arguments = [*self.seeds, *renamed.values()]
        self.program.instructions = [_renamed(row, renamed) for row in (*prologue, *rest)]
        self.program.outputs = [renamed.get(v, v) for v in wanted]
        self.kept: list[tuple[str, Any]] = []
        self.count = len(program.outputs)
        for value in kept:
            if value.kind in ("argument", "captured"):
                self.kept.append((value.kind, value.origin))
            else:
                self.kept.append(("output", len(program.outputs)))
                program.outputs.append(value)

    def _resolve(self, values, made, prologue, kept):
        """Values of the forward that backward needs: views are made again, the others are kept."""
        done: set[Value] = set()

        def visit(value):
            if value in done:
                return
            done.add(value)
            row = made.get(value)
            if row is not None and row.alias is not None:
                for operand in row.operands:
                    visit(operand)
                prologue.append(row)
                done.update(row.results)
            elif row is not None or value.kind in ("argument", "captured"):
                kept.append(value)

        for value in values:
            if value not in self.seeds:
                visit(value)

    def finish(self, passes, tracer):
        """Optimise and lower the backward program."""
        name_captured(self.program, tracer.modules.values())
        run_passes(self.program, passes)
        for position, value in enumerate(self.program.arguments):
            value.strides = value.strides or _dense(value)
            assert value.origin == position
        self.function = Function(self.program, NATIVE in passes)
        self.slots = [i for i, g in enumerate(self.found) if g is not None]
        self.shapes = [
            (self.program.arguments[i].shape, self.program.arguments[i].dtype) for i in range(len(self.seeds))
        ]
        program = self.recording.program
        self.pure = not program.effects and not any([row.runtime for row in program.instructions])
        del self.found

    # -------------------------------------------------- running

    def connect(self, outputs, leaves, arguments):
        """The results of a run as tensors whose history is one node."""
        kept = [arguments[i] if kind == "argument" else outputs[i] if kind == "output" else _array_of(i)
                for kind, i in self.kept]  # fmt: skip
        tensors = [wrap(array) for array in outputs[: self.count]]
        ends = [tensor if position is None else leaves[position] for tensor, position in self.targets]
        edges = tuple([(t.node or t, t.index) for t in ends])
        meta = tuple([(tensors[i].array.shape, tensors[i].array.dtype) for i in self.live])
        again = _Again(self, leaves)
        node = _node(self.recording.program.name, again, tuple(kept), edges, list(range(len(edges))), meta)
        for index, i in enumerate(self.live):
            tensors[i].node, tensors[i].index, tensors[i].tracks = node, index, True
        return self._result(self.recording.structure, tensors, leaves)

    def _result(self, structure, tensors, leaves):
        kind = structure[0]
        if kind == "value":
            return tensors[structure[1]]
        if kind == "sequence":
            made = [self._result(s, tensors, leaves) for s in structure[2]]
            return structure[1](*made) if hasattr(structure[1], "_fields") else structure[1](made)
        if kind == "dict":
            return {k: self._result(s, tensors, leaves) for k, s in structure[1].items()}
        return leaves[structure[1]] if kind == "argument" else structure[1]

    def gradients(self, given, saved):
        """Run the backward program: gradients of all targets."""
        seeds = [np.zeros(shape, dtype) if g is None else np.ascontiguousarray(g, dtype).reshape(shape)
                 for g, (shape, dtype) in zip(given, self.shapes, strict=True)]  # fmt: skip
        gradients: list = [None] * len(self.targets)
        for slot, array in zip(self.slots, self.function.run([*seeds, *saved]), strict=True):
            gradients[slot] = array
        return tuple(gradients)


def _array_of(origin):
    return origin.leaf._grad.array if isinstance(origin, GradientOf) else origin.array


class _Again:
    """The gradient rule of a compiled call; for derivatives of it, the function itself runs again, eagerly."""

    def __init__(self, backward, leaves):
        self.backward = backward
        self.leaves = leaves

    def __call__(self, given, *saved):
        given = given if isinstance(given, tuple) else (given,)
        if any([isinstance(g, Tensor) for g in given]):
            return self.eagerly(given)
        return self.backward.gradients(given, saved)

    def eagerly(self, given):
        """Gradients that have a history of their own."""
        backward = self.backward
        if not backward.pure:
            raise RuntimeError("second derivatives through a compiled function that draws random numbers, or writes "
                               "into tensors, are not recorded; compile the function that takes them")  # fmt: skip
        with enable_grad():
            outputs = _tensors_of(backward.recording.again(self.leaves))
        ends = [t if position is None else self.leaves[position] for t, position in backward.targets]
        pairs = [(outputs[i], g) for i, g in zip(backward.live, given, strict=True) if g is not None]
        return gradients_of([o for o, _ in pairs], ends, [g for _, g in pairs], create_graph=True, allow_unused=True)


def _tensors_of(result):
    """The tensors of a result, in order."""
    if isinstance(result, Tensor):
        return [result]
    entries = list(result.values()) if isinstance(result, dict) else result if isinstance(result, (list, tuple)) else []
    return [t for entry in entries for t in _tensors_of(entry)]


def _needed(rows, wanted):
    """The instructions that lead to ``wanted``, and what they read that none of them makes."""
    needed, kept = set(wanted), []
    for row in reversed(rows):
        if any([out in needed for out in row.results]):
            needed.update(row.operands)
            kept.append(row)
    made = {out for row in kept for out in row.results}
    outside = [v for row in reversed(kept) for v in row.operands if v not in made]
    outside += [v for v in wanted if v not in made]
    return kept[::-1], list(dict.fromkeys(outside))


def _renamed(row, renamed):
    from dataclasses import replace

    return replace(row, args=tuple([renamed.get(a, a) if type(a) is Value else a for a in row.args]))


def _dense(value):
    from .planning import dense

    return dense(value.shape, value.dtype.itemsize)
