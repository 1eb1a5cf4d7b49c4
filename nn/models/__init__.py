"""Ready models, and a recipe for each: its data, its loss and settings with which it trains well.

A model is a class in a file of this folder; a `Recipe` makes it a command: ``agrad train NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import autograd_core as ag
import nn

from ..train import accuracy
from .lenet5 import LeNet5
from .resnet import ResNet, resnet18, resnet20
from .simple import MLP, Logistic, XorNet


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


def mnist_splits(seed: int = 0, held_out: int = 5000) -> Splits:
    """MNIST with ``held_out`` of the training pictures set aside for validation (a tenth of a smaller set)."""
    train, test = nn.data.mnist()
    held_out = min(held_out, len(train) // 10)
    parts = nn.data.random_split(train, [len(train) - held_out, held_out], generator=ag.Generator().manual_seed(seed))
    return Splits(parts[0], parts[1], test, train.source)


def xor_splits(seed: int = 0) -> Splits:
    """The four points of exclusive or; there is nothing else to hold out."""
    points = ag.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    table = nn.data.TensorDataset(points, ag.tensor([[0.0], [1.0], [1.0], [0.0]]))
    return Splits(table, table, table, "the truth table")


RECIPES = {
    "lenet5": Recipe("LeNet-5 on MNIST", LeNet5, mnist_splits, nn.CrossEntropyLoss(), (1, 28, 28), pictures=True),
    "mlp": Recipe(
        "multilayer perceptron 784-256-256-10 on MNIST",
        MLP,
        mnist_splits,
        nn.CrossEntropyLoss(),
        (1, 28, 28),
        lr=0.002,
        batch_size=128,
        pictures=True,
    ),
    "logistic": Recipe(
        "logistic regression on MNIST",
        Logistic,
        mnist_splits,
        nn.CrossEntropyLoss(),
        (1, 28, 28),
        lr=0.01,
        batch_size=128,
        pictures=True,
    ),
    "xor": Recipe(
        "exclusive or by a 2-4-1 network",
        XorNet,
        xor_splits,
        nn.BCEWithLogitsLoss(),
        (2,),
        epochs=500,
        batch_size=4,
        lr=0.1,
        patience=500,
    ),
}
"""What ``agrad train`` knows, by name."""

__all__ = ["MLP", "RECIPES", "LeNet5", "Logistic", "Recipe", "ResNet", "Splits", "XorNet", "mnist_splits", "resnet18",
           "resnet20", "xor_splits"]  # fmt: skip
