"""Restricted Boltzmann machines, and a deep belief network: a stack of them, fine-tuned as a classifier."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import autograd_core as ag
import nn
import optim
from nn import functional as F


class RBM(nn.Module):
    """Visible units and hidden units, 0 or 1 each, every one tied to all of the other kind; E = −vᵀa − hᵀb − hᵀWv.

    Given one kind, the units of the other are independent: P(hⱼ = 1 | v) = σ(bⱼ + Wⱼ·v), and so back. Brightnesses
    between 0 and 1 stand for probabilities of visible units.

    Source: Hinton, "Training products of experts by minimizing contrastive divergence", 2002.
    """

    def __init__(self, visible: int, hidden: int):
        super().__init__()
        self.weight = nn.Parameter(0.01 * ag.randn(hidden, visible))
        self.hidden_bias = nn.Parameter(ag.zeros(hidden))
        self.visible_bias = nn.Parameter(ag.zeros(visible))

    def forward(self, visible):
        """P(h = 1 | v): (N, visible) to (N, hidden)."""
        return F.sigmoid(F.linear(visible, self.weight, self.hidden_bias))

    def down(self, hidden):
        """P(v = 1 | h): (N, hidden) to (N, visible)."""
        return F.sigmoid(F.linear(hidden, self.weight.T, self.visible_bias))

    def free_energy(self, visible):
        """F(v) = −vᵀa − Σⱼ log(1 + exp(bⱼ + Wⱼ·v)), so that P(v) is proportional to exp(−F(v)); (N,)."""
        hidden = F.softplus(F.linear(visible, self.weight, self.hidden_bias)).sum(1)
        return -(visible @ self.visible_bias) - hidden

    def gibbs(self, visible, steps: int = 1):
        """Sample hidden from visible units and back, ``steps`` times; probabilities of the visible units at the end."""
        with ag.no_grad():
            for step in range(steps):
                if step:
                    visible = ag.bernoulli(visible)
                visible = self.down(ag.bernoulli(self(visible)))
        return visible

    def contrastive_divergence(self, visible, steps: int = 1):
        """A loss whose gradient is CD-k: free energy of the data minus that of what k Gibbs steps make of it.

        Its gradient for W is −⟨h vᵀ⟩ of the data + ⟨h vᵀ⟩ of the chain, for the sampled states held fixed. Its value
        measures nothing; watch `reconstruction_error`.
        """
        return (self.free_energy(visible) - self.free_energy(self.gibbs(visible, steps))).mean()

    def reconstruction_error(self, visible):
        """Mean squared difference between data and what comes back through the hidden probabilities."""
        with ag.no_grad():
            return F.mse_loss(self.down(self(visible)), visible)


class DeepBeliefNetwork(nn.Module):
    """RBMs on top of each other, and a linear layer: a generative model first, then a classifier of sigmoid layers.

    ``sizes``: widths from the picture to the top. First each RBM is fitted to what those below make of data without
    labels (`pretrain`); `forward` reads the same weights as a feed-forward network, to be trained by backpropagation.

    Source: Hinton, Osindero and Teh, "A fast learning algorithm for deep belief nets", Neural Computation 18, 2006.
    """

    def __init__(self, sizes=(784, 400, 200), classes: int = 10):
        super().__init__()
        self.machines = nn.ModuleList([RBM(below, above) for below, above in pairwise(sizes)])
        self.out = nn.Linear(sizes[-1], classes)

    def features(self, pictures, depth: int | None = None):
        """Probabilities of the hidden units of the RBM at ``depth`` (default: the top) for pictures (N, ...)."""
        x = pictures.flatten(1)
        for machine in self.machines[:depth]:
            x = machine(x)
        return x

    def forward(self, pictures):
        """Scores of the classes (N, classes)."""
        return self.out(self.features(pictures))

    def sample(self, pictures, steps: int = 100):
        """Run ``steps`` Gibbs steps in the top RBM, from what it makes of pictures, then go down: (N, visible)."""
        with ag.no_grad():
            top = len(self.machines) - 1
            x = self.machines[top].gibbs(self.features(pictures, top), steps)
            for machine in reversed(self.machines[:top]):
                x = machine.down(x)
        return x


def pretrain(network: DeepBeliefNetwork, pictures, *, epochs: int = 5, batch_size: int = 100, lr: float = 0.1,
             momentum: float = 0.8, weight_decay: float = 2e-4, steps: int = 1, seed: int = 0,
             watch: Callable[[int, int, float], None] | None = None) -> None:  # fmt: skip
    """Fit the RBMs of a network from the bottom up, by CD-``steps``, to pictures (N, ...) of values from 0 to 1.

    Each machine learns from the hidden probabilities of the one below. ``watch(depth, epoch, error)`` is called after
    each epoch with the mean reconstruction error of its batches.
    """
    data = pictures.flatten(1)
    order = ag.Generator().manual_seed(seed)
    with ag.no_grad():
        network.machines[0].visible_bias.copy_(ag.logit(data.mean(0).clamp(0.01, 0.99)))  # as if units were alone
    for depth, machine in enumerate(network.machines):
        rows = nn.data.TensorDataset(data)
        loader = nn.data.DataLoader(rows, batch_size, shuffle=True, generator=order, drop_last=True)
        optimizer = optim.SGD(machine.parameters(), lr, momentum, weight_decay=weight_decay)
        step = _divergence_step(machine, optimizer, steps)
        for epoch in range(1, epochs + 1):
            errors = [step(batch).item() for (batch,) in loader]
            if watch is not None:
                watch(depth, epoch, sum(errors) / len(errors))
        with ag.no_grad():
            data = machine(data)


def _divergence_step(machine, optimizer, steps):
    """One step of contrastive divergence, compiled; it returns the reconstruction error."""

    @ag.compile
    def step(batch):
        optimizer.zero_grad()
        machine.contrastive_divergence(batch, steps).backward()
        optimizer.step()
        return machine.reconstruction_error(batch)

    return step
