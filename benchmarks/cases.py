"""Rows of the tables: what is computed, told once for all engines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from autograd_core.ops.samples import Sample, Values, build


class Job(NamedTuple):
    """A case made ready in one engine.

    ``results`` is called once, before the first ``run``: gradients by name, or outputs where there is no backward.
    ``run`` does the work that is timed and returns when it is done.
    """

    run: Callable[[], Any]
    results: Callable[[], dict[str, np.ndarray]]


class Unserved(Exception):
    """Raised where an engine cannot do a case; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A row: floating-point operations and bytes are those that the work needs at least, 0 where nobody counts them."""

    group: str
    name: str
    contestants: tuple[str, ...] = ("ours", "torch")
    aim: float | None = None
    flops: float = 0
    bytes: float = 0
    by_name: ClassVar[bool] = False
    """Whether engines find the function by its name alone, so that another one may be meant."""

    def job(self, engine, dtype=np.float32) -> Job:
        """The case made ready in ``engine``; raises `Unserved`."""
        raise NotImplementedError

    def shrunk(self) -> Case:
        """The same row so small that a test can run it."""
        return self

    def leaves(self) -> dict[str, np.ndarray]:
        """What gradients are taken with respect to, in float64 and by name; empty where only values are computed."""
        raise NotImplementedError

    def value(self, engine, leaves: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs at other values of the leaves, in float64: what differences are taken of."""
        raise NotImplementedError

    def above(self, shape: tuple[int, ...]) -> np.ndarray:
        """The gradient that an output of this shape gets from above, in float64."""
        return cotangent(shape, np.float64)


def mapped(function: Callable, value: Any) -> Any:
    """``value`` with ``function`` applied to the arrays in it, however deep in lists, tuples and dicts."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, dict):
        return {k: mapped(function, v) for k, v in value.items()}
    return type(value)(mapped(function, v) for v in value) if type(value) in (list, tuple) else value


def arrays_in(value: Any) -> list[np.ndarray]:
    """The arrays in ``value``, in order."""
    found: list[np.ndarray] = []
    mapped(found.append, value)
    return found


def cotangent(shape: tuple[int, ...], dtype) -> np.ndarray:
    """The gradient that comes from above: the same numbers for every engine."""
    return np.random.default_rng(1).uniform(0.5, 1.5, shape).astype(dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionCase(Case):
    """One function of arrays: forward, or forward and the gradients of all its floating-point inputs.

    ``function(lib, *tensors)`` is written for PyTorch's names: ``lib`` is ``torch`` or ``autograd_core``.
    """

    function: Callable[..., Any]
    inputs: Sample
    backward: bool = False

    def job(self, engine, dtype=np.float32) -> Job:
        """See `Case`."""
        return self._made(engine, *self.arguments(dtype), self.backward)

    def arguments(self, dtype) -> tuple[tuple, dict[str, Any]]:
        """Positional and keyword arguments, drawn with a fixed seed."""
        return build(self.inputs, dtype=dtype)

    def _made(self, engine, args, kwargs, backward):
        return engine.function_job(lambda *a, **k: self.function(engine.lib, *a, **k), args, kwargs, backward)

    def shrunk(self) -> FunctionCase:
        """See `Case`."""
        def small(value):
            if isinstance(value, Values):
                high = min(value.high, 8) if value.kind == "integer" else value.high  # still an index of what is left
                return value._replace(shape=tuple(min(n, 8) for n in value.shape), high=high)
            return type(value)(small(v) for v in value) if type(value) in (list, tuple) else value

        kwargs = {k: min(v, 8) if isinstance(v, int) else v for k, v in self.inputs.kwargs.items()}
        return replace(self, inputs=Sample(small(self.inputs.args), kwargs))

    def leaves(self) -> dict[str, np.ndarray]:
        """See `Case`."""
        found = [a for a in arrays_in(self.arguments(np.float64)) if a.dtype.kind == "f"]
        return {f"input {i}": a for i, a in enumerate(found)} if self.backward else {}

    def value(self, engine, leaves: dict[str, np.ndarray]) -> list[np.ndarray]:
        """See `Case`."""
        waiting = iter(leaves.values())
        args, kwargs = mapped(lambda a: next(waiting) if a.dtype.kind == "f" else a, self.arguments(np.float64))
        return list(self._made(engine, args, kwargs, False).results().values())


@dataclass(frozen=True, kw_only=True, eq=False)
class StepCase(Case):
    """A training step: gradients to zero, forward, loss, backward, update.

    ``model(lib)`` and ``loss(lib, model, *batch)`` are written for PyTorch's names; ``functional(F, p, *batch)`` is the
    same loss as a function of the parameters ``p`` for engines without modules. ``data(rng, batch)`` draws the batch.
    """

    model: Callable[[Any], Any]
    data: Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]
    loss: Callable[..., Any]
    batch: int
    optimizer: tuple[str, dict[str, Any]] = ("Adam", {"lr": 1e-5})  # so slow that numbers stay ordinary for long
    functional: Callable[..., Any] | None = None

    def job(self, engine, dtype=np.float32) -> Job:
        """See `Case`."""
        return engine.step_job(self, dtype)

    def arrays(self, dtype) -> tuple[np.ndarray, ...]:
        """The batch, drawn with a fixed seed."""
        batch = self.data(np.random.default_rng(0), self.batch)
        return tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in batch)

    def state(self) -> dict[str, np.ndarray]:
        """What the model starts from in every engine: parameters and buffers by name."""
        return initial_state(self.model)

    def shrunk(self) -> StepCase:
        """See `Case`."""
        return replace(self, batch=min(self.batch, 2))

    def leaves(self) -> dict[str, np.ndarray]:
        """See `Case`."""
        return {k: v.astype(np.float64) for k, v in self.state().items() if v.dtype.kind == "f" and "running" not in k}

    def value(self, engine, leaves: dict[str, np.ndarray]) -> list[np.ndarray]:
        """See `Case`."""
        return [engine.loss(self, leaves)]

    def above(self, shape: tuple[int, ...]) -> np.ndarray:
        """See `Case`: backward starts at the loss."""
        return np.ones(shape)


@cache
def initial_state(model: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """The state of a fresh model, made by this engine with a fixed seed."""
    import autograd_core as ag

    ag.manual_seed(0)
    return {name: value.numpy().copy() for name, value in model(ag).state_dict().items()}


def error(found: dict[str, np.ndarray], reference: dict[str, tuple[Any, np.ndarray]]) -> float:
    """The largest difference from the reference, in units of the largest element of the array it is in.

    Arrays whose elements are all small beside those of the others (gradients that are zero but for rounding) are
    measured in a thousandth of the largest element of all.
    """
    sizes = {name: np.abs(v[np.isfinite(v)]).max(initial=0) for name, (_, v) in reference.items()}
    least = max(1e-3 * max(sizes.values(), default=0), 1e-30)
    worst = 0.0
    for name, (positions, values) in reference.items():
        got = np.asarray(found[name], np.float64)[positions] if name in found else np.full(np.shape(values), np.nan)
        if np.shape(got) != np.shape(values):
            return math.inf
        same = (got == values) | (np.isnan(got) & np.isnan(values))  # infinities have no difference
        with np.errstate(invalid="ignore"):
            distance = np.where(same, 0, np.abs(got - values)).max(initial=0) / max(sizes[name], least)
        worst = max(worst, math.inf if np.isnan(distance) else float(distance))
    return worst


def reference(case: Case, engines: dict[str, Any], elements: int = 6) -> dict[str, tuple[Any, np.ndarray]]:
    """What is right, in float64: another engine's results, or central differences at a few elements of each leaf.

    By name: (the positions compared, the values there).
    """
    for name in ("torch", "ours"):
        if name == "ours" and case.leaves():
            return differences(case, engines["ours"], elements)
        if name in engines:
            try:
                job = case.job(engines[name], np.float64)
                found = {k: (..., np.array(v, np.float64)) for k, v in job.results().items()}
                return found if not case.by_name or error(job.results(), found) == 0 else {}  # draws differ each time
            except REFUSALS:
                continue
    return {}


def differences(case: Case, engine, elements: int, step: float = 1e-6) -> dict[str, tuple[Any, np.ndarray]]:
    """Central differences at up to ``elements`` randomly chosen elements of up to four times as many leaves."""
    rng, found = np.random.default_rng(2), {}
    leaves = case.leaves()
    for name in rng.permutation(list(leaves))[: 4 * elements].tolist():
        array = leaves[name]
        chosen = rng.choice(array.size, min(elements, array.size), replace=False)
        values = []
        for place in chosen:
            moved = [array.copy(), array.copy()]
            for sign, copy in zip((1, -1), moved, strict=True):
                copy.reshape(-1)[place] += sign * step
            up, down = (case.value(engine, {**leaves, name: copy}) for copy in moved)
            change = [(case.above(u.shape) * (u - d)).sum() for u, d in zip(up, down, strict=True)]
            values.append(float(sum(change)) / (2 * step))
        found[name] = (np.unravel_index(chosen, array.shape), np.array(values))
    return found


REFUSALS = (Unserved, TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, AssertionError,
            ArithmeticError, ImportError)  # fmt: skip
"""What libraries raise for calls that they do not take."""
