"""Small descriptions of test inputs that stand in an op's record; arrays are made of them only when a test asks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Values(NamedTuple):
    """An array to be drawn: its kind, shape and range."""

    kind: str
    shape: tuple[int, ...]
    low: float
    high: float

    def build(self, rng: np.random.Generator, dtype) -> np.ndarray:
        """Draw the array; floats take ``dtype``, integers are int64."""
        if self.kind == "integer":
            return rng.integers(int(self.low), int(self.high), self.shape)
        if self.kind == "boolean":
            return rng.random(self.shape) < 0.5
        if self.kind == "distinct":
            size = int(np.prod(self.shape))
            steps = (rng.permutation(size) + rng.uniform(0.2, 0.8, size)) / max(size, 1)
            return (self.low + (self.high - self.low) * steps).reshape(self.shape).astype(dtype)
        if self.kind == "definite":
            root = rng.normal(size=self.shape)
            return (root @ np.swapaxes(root, -1, -2) + self.shape[-1] * np.eye(self.shape[-1])).astype(dtype)
        return rng.uniform(self.low, self.high, self.shape).astype(dtype)


def real(*shape, low=-2.0, high=2.0) -> Values:
    """Floats drawn evenly between ``low`` and ``high``."""
    return Values("real", shape, low, high)


def positive(*shape, low=0.2, high=3.0) -> Values:
    """Floats well above zero."""
    return Values("real", shape, low, high)


def distinct(*shape, low=-2.0, high=2.0) -> Values:
    """Floats no two of which are near each other: for max, sort, median, whose gradients jump at ties."""
    return Values("distinct", shape, low, high)


def integer(*shape, low=0, high=5) -> Values:
    """Integers from ``low`` up to ``high - 1``."""
    return Values("integer", shape, low, high)


def boolean(*shape) -> Values:
    """True and False."""
    return Values("boolean", shape, 0, 1)


def definite(*shape) -> Values:
    """Symmetric positive definite matrices, well conditioned."""
    return Values("definite", shape, 0, 1)


class Sample(NamedTuple):
    """The arguments of one call; `Values` among them stand for arrays."""

    args: tuple
    kwargs: dict[str, Any]


def sample(*args, **kwargs) -> Sample:
    """A call with these arguments, as in ``sample(real(3, 4), real(4), dim=1)``."""
    return Sample(args, kwargs)


def build(entry, seed: int = 0, dtype=np.float64) -> tuple[tuple, dict[str, Any]]:
    """The (args, kwargs) of a sample, or of a single `Values`, with arrays in place of descriptions."""
    rng = np.random.default_rng(seed)
    if isinstance(entry, Values):
        entry = Sample((entry,), {})

    def made(value):
        if isinstance(value, Values):
            return value.build(rng, dtype)
        if isinstance(value, (list, tuple)):
            return type(value)(made(v) for v in value)
        return value

    return tuple(made(v) for v in entry.args), {k: made(v) for k, v in entry.kwargs.items()}
