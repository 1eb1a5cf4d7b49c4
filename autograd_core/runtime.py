"""Numbers that a recorded program looks up at each run: learning rates, coefficients, step counts, random offsets.

While a call is recorded, an optimizer's update gets a `Number` for each of its settings. Arithmetic with it is written
down; a comparison becomes a guard, whose outcome must be the same for the program to be used again.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np


class Number:
    """A number with the arithmetic that made it. ``source``: a function of ``inputs``, Numbers or plain numbers."""

    __slots__ = ("function", "guards", "inputs", "value")
    __hash__ = object.__hash__

    def __init__(self, value, function: Callable, inputs: tuple, guards: list):
        self.value = value
        self.function = function
        self.inputs = inputs
        self.guards = guards

    def __repr__(self):
        return f"run-time {self.value!r}"

    def _refuse(self, *_):
        from .tracing import CompileError

        raise CompileError("a number that changes from run to run (a learning rate, a step count) cannot be turned "
                           "into a plain one while it is being compiled")  # fmt: skip

    __float__ = __int__ = __index__ = __bool__ = _refuse

    def _then(self, function, *inputs):
        values = [i.value if type(i) is Number else i for i in inputs]
        if not all(isinstance(v, (int, float)) for v in values):
            return NotImplemented
        return Number(function(*values), function, inputs, self.guards)

    def __neg__(self):
        return self._then(operator.neg, self)

    def __abs__(self):
        return self._then(abs, self)


def _arithmetic(function):
    return (lambda self, other: self._then(function, self, other)), (
        lambda self, other: self._then(function, other, self)
    )


def _comparison(function):
    def compare(self, other):
        if not isinstance(other, (int, float, Number)):
            return NotImplemented
        outcome = function(self.value, other.value if type(other) is Number else other)
        self.guards.append((function, self, other, outcome))
        return outcome

    return compare


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _plain, _reflected = _arithmetic(getattr(operator, _name))
    setattr(Number, f"__{_name}__", _plain)
    setattr(Number, f"__r{_name}__", _reflected)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Number, f"__{_name}__", _comparison(getattr(operator, _name)))


class Draw:
    """A setting of a random operation: the seed of a generator, or its offset when the run begins plus ``ahead``."""

    __slots__ = ("ahead", "generator", "key")

    def __init__(self, generator: int, key: str, ahead: int):
        self.generator = generator
        self.key = key
        self.ahead = ahead

    def __repr__(self):
        return self.key if self.key == "seed" else f"offset + {self.ahead}"


class Settings:
    """One group's settings at each step, for the parameters that have taken equally many steps.

    Called at the start of a run, it counts the step and returns the settings, or None where what the program relies on
    has changed: which parameters, the tensors of their state, the settings that are not numbers.
    """

    def __init__(self, optimizer: Any, group: int, settings: dict):
        self.optimizer = optimizer
        self.group = group
        self.parameters: list = []
        self.states: list[dict] = []  # of the parameters, as the optimizer holds them
        self.entries: list[tuple[dict, str, Any]] = []  # what they held before the step
        self.lengths: list[int] = []
        self.static = {k: v for k, v in settings.items() if k != "params" and not _is_numeric(v)}
        self.known = list(self.static.values())
        self.counts: list[_Counts] | None = None
        self.undone: list = []
        self.plain: list | None = None  # the values of the group, if all of them are plain ones

    def add(self, parameter, kept: dict) -> None:
        """One more parameter, with its state before the step."""
        self.parameters.append(parameter)
        self.states.append(kept)
        self.lengths.append(len(kept))
        self.entries += [(kept, name, entry) for name, entry in kept.items()]

    @property
    def stateful(self) -> bool:
        """Whether parameters have a state."""
        return bool(self.entries)

    def __call__(self) -> dict | None:
        """Count the step; the settings, or None."""
        optimizer = self.optimizer
        self.undone = []
        if len(optimizer.param_groups) <= self.group or not self.same_state():
            return None
        group = optimizer.param_groups[self.group]
        now = [*group.values()]
        if now != self.plain:
            self.plain = now if all(map(_is_plain, now)) else None
        plain = self.plain is not None or None
        settings = self._count(group, plain) if optimizer.scalars else optimizer._with_numbers({}, group, plain)
        if settings is None:
            return None
        return settings if list(map(settings.get, self.static)) == self.known else None

    def same_state(self) -> bool:
        """Whether the parameters have the state that they had: the same tensors."""
        found = self.optimizer.state
        if not self.entries:
            return not found or not any([found.get(p) for p in self.parameters])
        if not all(map(operator.is_, map(found.get, self.parameters), self.states)):
            return False
        if list(map(len, self.states)) != self.lengths:
            return False
        holders, names, entries = self._columns
        return all(map(operator.is_, map(operator.getitem, holders, names), entries))

    @functools.cached_property
    def _columns(self):
        return tuple(zip(*self.entries, strict=True))

    def _count(self, group, plain):
        """The settings at one step more, written into the counts of all parameters."""
        names = self.optimizer.scalars
        if self.counts is None:
            self.counts = [_Counts([state[name] for state in self.states]) for name in names]
        key = tuple([counts.read() for counts in self.counts])
        if None in key:
            return None
        settings, after = self.optimizer._settings_after(key, group, plain)
        self.undone = list(zip(self.counts, key, strict=True))
        for name, counts in zip(names, self.counts, strict=True):
            counts.write(after[name])
        return settings

    def undo(self) -> None:
        """Take the counting back."""
        for counts, value in self.undone:
            counts.write(value)
        self.undone = []


class _Counts:
    """A count that many parameters keep, each in a 0-d tensor of its own, as one array: they get views of it."""

    def __init__(self, tensors: list):
        self.tensors = tensors
        self._adopt()

    def _adopt(self):
        arrays = [t.array for t in self.tensors]
        base = arrays[0].base
        whole = isinstance(base, np.ndarray) and len(base) == len(arrays) and all([a.base is base for a in arrays])
        self.memory = base if whole else np.array(arrays)
        self.views = arrays if whole else [self.memory[i : i + 1].reshape(()) for i in range(len(arrays))]
        for tensor, view in zip(self.tensors, self.views, strict=True):
            tensor.array = view
        self.seen, self.value = b"", None

    def read(self) -> float | None:
        """The count; None where it is not the same for all."""
        if not all(map(operator.is_, map(_array_of, self.tensors), self.views)):
            self._adopt()
        now = self.memory.tobytes()
        if now != self.seen:
            values = self.memory.tolist()
            self.seen, self.value = now, values[0] if values.count(values[0]) == len(values) else None
        return self.value

    def write(self, value: float) -> None:
        """Give all of them the count ``value``."""
        self.memory.fill(value)
        self.seen, self.value = self.memory.tobytes(), self.memory.item(0)


_array_of = operator.attrgetter("array")


def _is_plain(value):
    return type(value) in _PLAIN or (type(value) is tuple and all(map(_is_plain, value)))


_PLAIN = frozenset([float, int, bool, str, list, type(None)])


def _is_numeric(value):
    if type(value) is tuple:
        return bool(value) and all(map(_is_numeric, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numbers_of(settings: dict, row: Settings, guards: list) -> dict:
    """The settings with a `Number` in place of each number."""

    def lifted(value, *path):
        if type(value) is tuple and _is_numeric(value):
            return tuple([lifted(v, *path, i) for i, v in enumerate(value)])
        return Number(value, operator.itemgetter, (row, *path), guards) if _is_numeric(value) else value

    return {k: v if k == "params" else lifted(v, k) for k, v in settings.items()}
