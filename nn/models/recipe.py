"""What it takes to train a model: its data, its loss and settings with which it trains well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import autograd_core as ag
import nn

from ..train import accuracy


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, and where it comes from."""

    train: Any
    validation: Any
    test: Any
    source: str


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: data, loss, and settings of the optimizer (Adam with a one-cycle schedule)."""

    title: str
    model: Callable[[], nn.Module]
    data: Callable[..., Splits]
    loss: Callable
    example: tuple[int, ...]
    epochs: int = 5
    batch_size: int = 64
    lr: float = 0.003
    patience: int = 3
    metrics: dict[str, Callable] = field(default_factory=lambda: {"accuracy": accuracy})
    pictures: bool = False
    compiled: bool = True
    """Whether steps run through `ag.compile`, which pays where batches are of one shape."""
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, ...]] | None = None
    """Arrays of inputs and of targets, where they are not pictures and classes."""
    prepare: Callable[[Any, Splits], None] | None = None
    """What is done with the model before it is trained."""

    def sample(self, count: int, dtype=None) -> tuple[ag.Tensor, ...]:
        """Inputs of the right shape and targets, drawn at random: for graphs and gradient checks."""
        rng = np.random.default_rng(0)
        if self.draw is not None:
            return tuple([ag.tensor(a, dtype=None if a.dtype.kind == "i" else dtype or ag.float32)
                          for a in self.draw(rng, count)])  # fmt: skip
        inputs = ag.tensor(rng.standard_normal((count, *self.example)), dtype=dtype or ag.float32)
        if isinstance(self.loss, nn.CrossEntropyLoss):
            return inputs, ag.tensor(rng.integers(0, 10, count))
        return inputs, ag.tensor(rng.integers(0, 2, (count, 1)).astype(np.float64), dtype=inputs.dtype)
