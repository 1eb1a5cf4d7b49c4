"""Numbers that a recorded program looks up at each run: learning rates, coefficients, step counts, random offsets.

While a call is recorded, an optimizer's update gets a `Number` for each of its settings. Arithmetic with it is written
down; a comparison becomes a guard, whose outcome must be the same for the program to be used again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any


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
        self.states: list[dict] = []
        self.static = {k: v for k, v in settings.items() if k != "params" and not _is_numeric(v)}
        self.known = list(self.static.values())
        self.stateful = False
        self.undone: list = []

    def add(self, parameter, kept: dict) -> None:
        """One more parameter, with its state before the step."""
        self.parameters.append(parameter)
        self.states.append(dict(kept))
        self.stateful |= bool(kept)

    def __call__(self) -> dict | None:
        """Count the step; the settings, or None."""
        optimizer = self.optimizer
        self.undone = []
        if len(optimizer.param_groups) <= self.group or not (
            (not self.stateful and not optimizer.state) or self._same_state()
        ):
            return None
        group = optimizer.param_groups[self.group]
        settings = self._count(group) if optimizer.scalars else optimizer._with_numbers({}, group)
        if settings is None:
            return None
        now = [settings.get(k) for k in self.static]
        return settings if now == self.known else None

    def _same_state(self):
        known = self.optimizer.state
        for parameter, recorded in zip(self.parameters, self.states, strict=True):
            now = known.get(parameter) or {}
            if len(now) != len(recorded):
                return False
            for name, tensor in recorded.items():
                if now[name] is not tensor:
                    return False
        return True

    def _count(self, group):
        """The settings at one step more, written into the counts of all parameters."""
        scalars = self.optimizer.scalars
        arrays = [[state[name].array for name in scalars] for state in self.states]
        key = tuple([a.item() for a in arrays[0]])
        for others in arrays:
            if tuple([a.item() for a in others]) != key:
                return None
        settings, counts = self.optimizer._settings_after(key, group)
        self.undone = [(a, k) for kept in arrays for a, k in zip(kept, key, strict=True)]
        for kept in arrays:
            for name, array in zip(scalars, kept, strict=True):
                array[...] = counts[name]
        return settings

    def undo(self) -> None:
        """Take the counting back."""
        for array, value in self.undone:
            array[...] = value
        self.undone = []

    def holds(self, parameters) -> bool:
        """Whether the group still has just these parameters."""
        now = self.optimizer.param_groups[self.group]["params"]
        return len(now) == len(parameters) and all(map(operator.is_, now, parameters))


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
