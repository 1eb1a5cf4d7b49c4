"""Computations that every way of looking at one is tried on: small, and run without machine code."""

import numpy as np
import pytest

import autograd_core as ag
import nn
import optim
from autograd_core.registry import OPS
from nn.models import LeNet5, ResNet

F = nn.functional


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch):
    """`run_bodies` for all tests of the files that import it."""
    run_bodies(monkeypatch)


def run_bodies(monkeypatch):
    """Operations run their NumPy bodies: what looks at them is the same, and no machine code is made for it."""
    for record in OPS.values():
        if record.run is not record.function:  # a kernel, or a fused loop for large arrays
            monkeypatch.setattr(record, "run", record.function)


class Cube(ag.autograd.Function):
    """A function of a user's own, with its gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class Exp(ag.autograd.Function):
    """A user's own function that saves its output."""

    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


class Unrolled(nn.Module):
    """An LSTM cell over many steps, and a linear layer on its last state."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        state = None
        for step in range(x.shape[0]):
            state = self.cell(x[step], state)
        return self.fc(state[0])


class Branching(nn.Module):
    """A plain function with control flow: how often the loop runs depends on values."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(ag.tensor([0.5, 1.5, 0.8]))

    def forward(self, x):
        y = x * self.scale
        while y.square().sum() < 40:
            y = y * 1.5 + y.sin()
        return y if y.sum() > 0 else -y


def lenet5():
    return LeNet5(), F.cross_entropy, ag.randn(2, 1, 28, 28), ag.tensor([3, 7])


def resnet():
    model = ResNet((1, 1), (4, 8), classes=5, small=True)
    return model, F.cross_entropy, ag.randn(2, 3, 8, 8), ag.tensor([1, 4])


def lstm():
    return Unrolled(), F.mse_loss, ag.randn(40, 2, 3), ag.randn(2, 1)


def transformer():
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    return model, F.mse_loss, ag.randn(2, 5, 8), ag.randn(2, 5, 8)


def branching():
    return Branching(), F.mse_loss, ag.tensor([0.3, -0.4, 0.5]), ag.ones(3)


SUBJECTS = {"lenet5": lenet5, "resnet": resnet, "lstm": lstm, "transformer": transformer, "branching": branching}


def training_step(model, loss_fn):
    """A function of (x, y) that takes a step with Adam, and its optimizer."""
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, optimizer


def arrays_of(model):
    return {name: np.array(tensor.array) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
