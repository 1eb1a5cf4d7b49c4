"""The networks before convolutions: logistic regression, one that learns XOR, and a multilayer perceptron."""

from itertools import pairwise

import nn


class Logistic(nn.Module):
    """Logistic (softmax) regression: one linear layer on the flattened input."""

    def __init__(self, inputs: int = 784, classes: int = 10):
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        """Scores of the classes."""
        return self.linear(x.flatten(1))


class MLP(nn.Module):
    """Linear layers with ReLU in between; ``sizes`` are the widths from input to output."""

    def __init__(self, sizes=(784, 256, 256, 10)):
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(before, after)] + [nn.ReLU()] * (number < len(sizes) - 2)
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
