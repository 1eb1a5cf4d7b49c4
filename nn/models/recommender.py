"""Recommenders: which rating a user would give an item, from ratings of other pairs."""

from __future__ import annotations

import autograd_core as ag
import nn
from nn import functional as F


class MatrixFactorisation(nn.Module):
    """A rating is the overall mean + the user's bias + the item's bias + the dot product of their vectors.

    Source: Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", Computer 42 (8), 2009.
    """

    def __init__(self, users: int, items: int, width: int = 16, mean: float = 0.0):
        super().__init__()
        self.user, self.item = nn.Embedding(users, width), nn.Embedding(items, width)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        self.register_buffer("mean", ag.tensor(float(mean)))
        for table, std in ((self.user, 0.1), (self.item, 0.1), (self.user_bias, 0.0), (self.item_bias, 0.0)):
            nn.init.normal_(table.weight, std=std)

    def forward(self, pairs):
        """The ratings (N,) that users would give to items, for pairs (N, 2) of their numbers."""
        users, items = pairs[:, 0], pairs[:, 1]
        bias = self.user_bias(users)[:, 0] + self.item_bias(items)[:, 0]
        return self.mean + bias + (self.user(users) * self.item(items)).sum(1)


class NeuralRecommender(nn.Module):
    """Biases as in `MatrixFactorisation`; in place of the dot product, a network that reads both vectors.

    The network gets the two vectors and their elementwise product, so that it can express the dot product and more.

    Source: He et al., "Neural collaborative filtering", 2017.
    """

    def __init__(self, users: int, items: int, width: int = 16, hidden: int = 64, dropout: float = 0.2,
                 mean: float = 0.0):  # fmt: skip
        super().__init__()
        self.user, self.item = nn.Embedding(users, width), nn.Embedding(items, width)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        self.hidden = nn.Linear(3 * width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 1)
        self.register_buffer("mean", ag.tensor(float(mean)))
        for table, std in ((self.user, 0.1), (self.item, 0.1), (self.user_bias, 0.0), (self.item_bias, 0.0)):
            nn.init.normal_(table.weight, std=std)

    def forward(self, pairs):
        """The ratings (N,) that users would give to items, for pairs (N, 2) of their numbers."""
        users, items = pairs[:, 0], pairs[:, 1]
        user, item = self.user(users), self.item(items)
        hidden = F.relu(self.hidden(self.dropout(ag.cat([user, item, user * item], 1))))
        bias = self.user_bias(users)[:, 0] + self.item_bias(items)[:, 0]
        return self.mean + bias + self.out(hidden)[:, 0]
