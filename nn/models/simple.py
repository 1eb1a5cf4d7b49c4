"""The networks before convolutions: perceptron, logistic regression, one that learns XOR, a multilayer perceptron."""

from collections.abc import Callable
from itertools import pairwise

import autograd_core as ag
import nn


class Perceptron(nn.Module):
    """Rosenblatt's perceptron: a weighted sum, of which only the sign counts; both weights and bias start at zero.

    It has a learning rule of its own, `learn`; its score can be trained by gradient descent as well.

    Source: F. Rosenblatt, "The perceptron", Psychological Review 65 (6), 1958.
    """

    def __init__(self, inputs: int = 2):
        super().__init__()
        self.weight = nn.Parameter(ag.zeros(inputs))
        self.bias = nn.Parameter(ag.zeros(()))

    def forward(self, x):
        """Scores (N,) of points (N, inputs): above 0 for the class 1."""
        return x @ self.weight + self.bias

    @ag.no_grad()
    def learn(self, x, y) -> int:
        """Show each point once, y being 0 or 1; a misjudged one is added or taken away. Returns how many were.

        With t = 2y - 1 and a mistake where t (w x + b) <= 0: w += t x, b += t.
        """
        mistakes = 0
        for point, side in zip(x, 2 * y - 1, strict=True):
            if (side * (point @ self.weight + self.bias)).item() <= 0:
                self.weight += side * point
                self.bias += side
                mistakes += 1
        return mistakes


class Logistic(nn.Module):
    """Logistic (softmax) regression: one linear layer on the flattened input."""

    def __init__(self, inputs: int = 784, classes: int = 10):
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        """Scores of the classes."""
        return self.linear(x.flatten(1))


class MLP(nn.Module):
    """Linear layers with ``activation`` in between (ReLU by default); ``sizes`` are the widths from input to output."""

    def __init__(self, sizes=(784, 256, 256, 10), activation: Callable[[], nn.Module] = nn.ReLU):
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(before, after)] + [activation()] * (number < len(sizes) - 2)
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        """Scores of the classes."""
        return self.layers(x.flatten(1))


class XorNet(nn.Module):
    """Two inputs, four sigmoid units, one score: enough for exclusive or, which no single line can separate."""

    def __init__(self, hidden: int = 4):
        super().__init__()
        self.hidden = nn.Linear(2, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        """The score: above 0 for true."""
        return self.out(nn.functional.sigmoid(self.hidden(x)))
