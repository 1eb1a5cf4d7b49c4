"""A row for every operation of the registry, from its first sample, scaled up to the size where time goes."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

import autograd_core as ag
from autograd_core.ops.samples import Sample, Values, build
from autograd_core.registry import ops_by_public_name

from .cases import REFUSALS, Case, FunctionCase, Job, Unserved, arrays_in, mapped

CONTESTANTS = ("ours", "torch", "jax", "numpy", "autograd")
ELEMENTS = {"contraction": 1 << 16, "network": 1 << 18, "composite": 1 << 18}
"""How many elements the inputs may have in all, by family; a million where the family is not named."""

MOST_ELEMENTS = 1 << 20
BOUNDS = (4 * MOST_ELEMENTS, 1 << 28, 0.1)
"""Of one call: elements of its outputs, bytes at the peak, seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpCase(FunctionCase):
    """A record's function, found in each engine by its name."""

    qualified: str
    by_name = True

    def _made(self, engine, args, kwargs, backward) -> Job:
        function = engine.find(self.qualified)
        if function is None:
            raise Unserved("no function of this name")
        args, kwargs = engine.spelled(args, kwargs)
        return engine.function_job(function, args, kwargs, backward)

    def shrunk(self) -> OpCase:
        """See `Case`."""
        return replace(self, inputs=_sample(ops_by_public_name()[self.qualified]))


def _sample(record) -> Sample:
    """The first sample with a floating-point array, else the first."""
    samples = [s if isinstance(s, Sample) else Sample((s,), {}) for s in record.samples]
    return next((s for s in samples if any(a.dtype.kind == "f" for a in arrays_in(build(s)))), samples[0])


def scaled(entry: Sample, factor: int, first_only: bool) -> Sample:
    """The sample with every dimension (or the first alone) ``factor`` times as long; those of length 1 stay."""

    def grown(value):
        if isinstance(value, Values):
            longer = [n if n == 1 or (first_only and i) else n * factor for i, n in enumerate(value.shape)]
            return value._replace(shape=tuple(longer))
        return type(value)(grown(v) for v in value) if type(value) in (list, tuple) else value

    return Sample(grown(entry.args), {k: grown(v) for k, v in entry.kwargs.items()})


@cache
def largest(qualified: str) -> Sample:
    """The record's sample at twice the size over and over, for as long as the call is allowed and within bounds.

    With all dimensions growing, or with the first alone where that gets further (kernels of a convolution, settings
    that name a size).
    """
    record = ops_by_public_name()[qualified]
    first, limit = _sample(record), ELEMENTS.get(str(record.family), MOST_ELEMENTS)
    limit = ELEMENTS["contraction"] if "linalg" in qualified else limit
    every, leading = (_grow(record, first, limit, first_only) for first_only in (False, True))
    return leading if _size(leading) > 4 * _size(every) else every


def _grow(record, first: Sample, limit: int, first_only: bool) -> Sample:
    kept, factor, last, expected = first, 2, _cost(record, first), (0.0, 0.0, 0.0)
    while last is not None:
        grown = scaled(first, factor, first_only)
        if _size(grown) == _size(kept) or _size(grown) > limit:
            break
        if any(e > bound for e, bound in zip(expected, BOUNDS, strict=True)):
            break
        cost = _cost(record, grown)
        if cost is None:
            break
        # the next doubling costs more by what this one did, and by what the inputs grow at least; times are too noisy
        # for that, so 8 times, what products of matrices take
        growth = _size(grown) / _size(kept)
        elements, peak = (c * max(c / max(b, 1), growth) for c, b in zip(cost[:2], last[:2], strict=True))
        kept, factor, last, expected = grown, 2 * factor, cost, (elements, peak, 8 * cost[2])
    return kept


def _size(entry: Sample) -> int:
    """How many elements the arrays of a sample have."""

    def count(value):
        if isinstance(value, (Values, np.ndarray)):
            return math.prod(value.shape)
        return sum(map(count, value)) if isinstance(value, (list, tuple)) else 0

    return count(entry.args) + count(list(entry.kwargs.values()))


def _cost(record, entry: Sample) -> tuple[float, float, float] | None:
    """(elements of the outputs, bytes at the peak, seconds) of a call of this engine; None if it is refused."""
    tracemalloc.start()
    try:
        args, kwargs = mapped(ag.tensor, build(entry, dtype=np.float32))
        start = time.process_time()
        with np.errstate(all="ignore"):
            result = record.public(*args, **kwargs)
        seconds = time.process_time() - start
        return _elements(result), tracemalloc.get_traced_memory()[1], seconds
    except REFUSALS:
        return None
    finally:
        tracemalloc.stop()


def _elements(result: Any) -> int:
    if isinstance(result, (list, tuple)):
        return sum(map(_elements, result))
    return result.numel() if isinstance(result, ag.Tensor) else 0


def passes() -> list[tuple[str, str]]:
    """(operation, name of the row): two rows an operation, forward, and with backward where it has a gradient."""
    found = []
    for qualified, record in sorted(ops_by_public_name().items()):
        found.append((qualified, f"{qualified}, forward"))
        if record.differentiable or str(record.family) == "composite":
            found.append((qualified, f"{qualified}, forward + backward"))
    return found


def cases(only=lambda name: True, tiny: bool = False, inputs: Sample | None = None) -> Iterator[Case]:
    """The rows whose names ``only`` accepts; ``inputs`` where they are known already."""
    for qualified, name in passes():
        if only(name):
            record = ops_by_public_name()[qualified]
            yield OpCase(group="ops", name=name, qualified=qualified, contestants=CONTESTANTS, function=record.public,
                         inputs=inputs or (_sample(record) if tiny else largest(qualified)),
                         backward=name.endswith("backward"))  # fmt: skip


def family(case: OpCase) -> str:
    """What the operation is counted among: its namespace, or its family where that is PyTorch's own."""
    record = ops_by_public_name()[case.qualified]
    return str(record.namespace or record.family)


def shapes(case: OpCase) -> str:
    """The shapes of a row's arrays as text."""
    return ", ".join("x".join(map(str, a.shape)) or "scalar" for a in arrays_in(case.arguments(np.float32)))
