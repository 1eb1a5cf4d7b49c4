"""What a recording relied on, and whether that still holds: signatures, names from around, modules, tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .program import Program
from .runtime import Settings
from .shapes import ndarray
from .tensor import Tensor

PLAIN = (int, float, str, bool, bytes)
"""Values that are the same when they are equal; others when they are one object."""

SMALL_CONTAINER = 64
"""Entries of a list or dict up to which its changes are looked for."""

# ---------------------------------------------------------------------------------------------------- signatures


def flatten(value: Any, leaves: list) -> Any:
    """The structure of arguments as a hashable key; their tensors and arrays are added to ``leaves``, each once."""
    kind = type(value)
    if kind is tuple:
        return tuple([flatten(v, leaves) for v in value])
    if isinstance(value, Tensor):
        array = value.array if value.base is None else value._current().array
        for number, other in enumerate(leaves):
            if other is value:
                return number
        leaves.append(value)
        return kind, array.shape, array.dtype, array.strides, value.tracks
    if isinstance(value, ndarray):
        leaves.append(value)
        return "array", value.shape, value.dtype, value.strides
    if kind is list:
        return ("list", *[flatten(v, leaves) for v in value])
    if kind is dict:
        return ("dict", *[(k, flatten(v, leaves)) for k, v in value.items()])
    if isinstance(value, tuple):
        return (kind, *[flatten(v, leaves) for v in value])
    try:
        hash(value)
    except TypeError:
        return kind, id(value)
    return (kind, repr(value)) if kind is float else (kind, value)


def changing(shapes: list) -> str:
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
    if type(part) is not tuple:
        return str(part)
    if len(part) > 3 and isinstance(part[2], np.dtype):
        return f"{part[2]}{list(part[1])}"
    return repr(part[-1])


# ---------------------------------------------------------------------------------------------------- around


class Outside:
    """What a function reads by name from around it: cells of its closure and globals."""

    def __init__(self, function: Callable):
        of_module = hasattr(function, "named_parameters")
        found: Any = getattr(type(function), "forward", None) if of_module else getattr(function, "__func__", function)
        self.code = getattr(found, "__code__", None)
        self.cells = list(getattr(found, "__closure__", None) or ())
        self.globals = getattr(found, "__globals__", {})
        self.names = [n for n in self.code.co_names if n in self.globals] if self.code is not None else []

    def look(self) -> list:
        """What the names hold now."""
        held = [_content(cell) for cell in self.cells]
        if self.names:
            get = self.globals.get
            held += [get(name) for name in self.names]
        return held

    def name_of(self, number: int) -> str:
        """The name behind an entry of `look`."""
        return [*(self.code.co_freevars if self.code else ()), *self.names][number]


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # nothing assigned yet
        return None


def same(now: list, before: list) -> bool:
    """Whether names hold what they held: the same objects, or equal numbers and texts."""
    for a, b in zip(now, before, strict=True):
        if a is not b and not (type(a) is type(b) and isinstance(a, PLAIN) and a == b):
            return False
    return True


def contents(held: list) -> list:
    """The entries of small lists and dicts, to see whether they change; None for everything else."""
    return [(list(v) if isinstance(v, list) else [x for pair in v.items() for x in pair])
            if isinstance(v, (list, dict)) and len(v) <= SMALL_CONTAINER else None for v in held]  # fmt: skip


def same_contents(now: list, before: list) -> bool:
    """Whether small lists and dicts hold what they held."""
    pairs = [(a, b) for a, b in zip(now, before, strict=True) if a is not None or b is not None]
    return all([a is not None and b is not None and len(a) == len(b) and same(a, b) for a, b in pairs])


# ---------------------------------------------------------------------------------------------------- modules


def facts(module: Any) -> tuple:
    """What a module is, apart from its mode: attributes that are plain values, its tensors, its parts."""
    held = module.__dict__
    own = [(k, v) for k, v in held.items() if k != "training" and isinstance(v, (*PLAIN, tuple, type(None)))]
    return own, list(held["_parameters"].values()), list(held["_buffers"].values()), list(held["_modules"].values())


def same_facts(now: tuple, before: tuple) -> bool:
    """Whether a module is what it was."""
    if len(now[0]) != len(before[0]) or now[0] != before[0]:
        return False
    return all([len(a) == len(b) and all(map(operator.is_, a, b)) for a, b in zip(now[1:], before[1:], strict=True)])


# ---------------------------------------------------------------------------------------------------- all together

array_of = operator.attrgetter("array")
tracks_of = operator.attrgetter("tracks")


class Guards:
    """What a program relies on; `hold` says whether it may run."""

    def __init__(self, tracer: Any, program: Program, outside: Outside, held: list, leaves: list):
        self.outside = outside
        self.held = held
        self.values = list(enumerate(program.captured))
        self.captured = [(i, v.origin) for i, v in self.values if isinstance(v.origin, Tensor)]
        self.tensors = [tensor for _, tensor in self.captured]
        self.arrays = list(map(array_of, self.tensors))
        self.kinds = list(map(_kind, self.arrays))
        self.tracks = list(map(tracks_of, self.tensors))
        self.absent = [leaf for leaf, (replaced, before) in tracer.touched.items() if not replaced and before is None]
        self.modules = [(module, mode, facts(module)) for module, mode in tracer.modules.values()]
        self.changes = type(self.modules[0][0])._changes if self.modules else 0
        self.rows: list[Settings] = [row for row, _, _ in tracer.settings_rows.values()]
        own = {id(leaf): i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        updated = [p for row in self.rows for p in row.parameters]
        self.identities = [(own[id(p)], p) for p in updated if id(p) in own]

    def hold(self, leaves: list) -> bool:
        """Whether everything is as it was when the program was recorded; what is another object now is remembered."""
        held = self.outside.look()
        if not same(held, self.held):
            return False
        for tensor in self.tensors:
            if tensor.base is not None:
                tensor._current()
        arrays = list(map(array_of, self.tensors))
        if not all(map(operator.is_, arrays, self.arrays)) and list(map(_kind, arrays)) != self.kinds:
            return False
        if list(map(tracks_of, self.tensors)) != self.tracks:
            return False
        for leaf in self.absent:
            if leaf._grad is not None:
                return False
        for number, leaf in self.identities:
            if leaves[number] is not leaf:
                return False
        for module, mode, known in self.modules:
            if module.training is not mode or not same_facts(facts(module), known):
                return False
        self.held, self.arrays = held, arrays
        self.changes = type(self.modules[0][0])._changes if self.modules else 0
        return True


def _kind(array):
    return array.shape, array.dtype, array.strides
