"""The data of the recipes, in three parts each: for training, validation and testing."""

from __future__ import annotations

import numpy as np

import autograd_core as ag
import nn

from .dates import date_parts
from .recipe import Splits


def mnist_splits(seed: int = 0, held_out: int = 5000) -> Splits:
    """MNIST with ``held_out`` of the training pictures set aside for validation (a tenth of a smaller set)."""
    return apart(*nn.data.mnist(), seed, held_out)


def xor_splits(seed: int = 0) -> Splits:
    """The four points of exclusive or; there is nothing else to hold out."""
    points = ag.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    table = nn.data.TensorDataset(points, ag.tensor([[0.0], [1.0], [1.0], [0.0]]))
    return Splits(table, table, table, "the truth table")


def zeros_and_ones(digits) -> nn.data.TensorDataset:
    """The zeros and ones of 8x8 digits as points: how dark the centre is, and how much ink there is; 1 for a one.

    Sample i is `(point, side)`, float32 tensors (2,) and ().
    """
    chosen = np.isin(digits.labels, [0, 1])
    images = digits.images[chosen] / digits.scale
    points = np.stack([images[:, 2:6, 3:5].mean((1, 2)), images.mean((1, 2))], 1)
    return nn.data.TensorDataset(ag.tensor(points, dtype=ag.float32), ag.tensor(digits.labels[chosen]).float())


def zero_or_one_splits(seed: int = 0) -> Splits:
    """The zeros and ones of the 8x8 digits, as points."""
    train, test = nn.data.digits()
    return apart(zeros_and_ones(train), zeros_and_ones(test), seed, source=train.source)


def apart(train, test, seed: int = 0, held_out: int = 5000, source: str = "") -> Splits:
    """A data set with ``held_out`` of its training samples set aside for validation (a tenth of a smaller set)."""
    held_out = min(held_out, len(train) // 10)
    parts = nn.data.random_split(train, [len(train) - held_out, held_out], generator=ag.Generator().manual_seed(seed))
    return Splits(parts[0], parts[1], test, source or train.source)


class Mirrored(nn.data.Dataset):
    """Pictures whose target is the picture itself, as autoencoders want them."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.source = pictures.source

    def __getitem__(self, index):
        """Return a picture, twice."""
        picture = self.pictures[index][0]
        return picture, picture

    def get_batch(self, indices):
        """Return the pictures at these indices, twice."""
        pictures = self.pictures.get_batch(indices)[0]
        return [pictures, pictures]

    def __len__(self):
        """Count the pictures."""
        return len(self.pictures)


class Padded(nn.data.Dataset):
    """Sequences of unequal length in batches of (padded sequences (N, T, features), lengths (N,), labels (N,))."""

    def __init__(self, sequences):
        self.sequences = sequences
        self.source = sequences.source

    def __getitem__(self, index):
        """Return a sequence, its length and its label."""
        sequence, label = self.sequences[index]
        return sequence, len(sequence), label

    def get_batch(self, indices):
        """Return the sequences at these indices, filled up with zeros to the longest."""
        rows = [self[i] for i in indices]
        padded = nn.utils.rnn.pad_sequence([row[0] for row in rows], batch_first=True)
        return [padded, *[ag.tensor(np.array(column)) for column in list(zip(*rows, strict=True))[1:]]]

    def __len__(self):
        """Count the sequences."""
        return len(self.sequences)


def brightness_splits(seed: int = 0) -> Splits:
    """MNIST with pixels from 0 to 1, as they are read as probabilities."""
    return apart(*nn.data.mnist(normalize=False), seed)


def mirrored_splits(seed: int = 0) -> Splits:
    """MNIST with pixels from 0 to 1, each picture being its own target."""
    train, test = nn.data.mnist(normalize=False)
    return apart(Mirrored(train), Mirrored(test), seed)


def tumour_splits(seed: int = 0) -> Splits:
    """Breast cancer."""
    return apart(*nn.data.breast_cancer(), seed)


def diamond_splits(seed: int = 0) -> Splits:
    """Prices of diamonds."""
    return apart(*nn.data.diamonds(), seed)


def fashion_splits(seed: int = 0) -> Splits:
    """Fashion-MNIST."""
    return apart(*nn.data.fashion_mnist(), seed)


def text_splits(seed: int = 0) -> Splits:
    """Shakespeare in windows of 128 characters; the plays held out serve for validation and testing, half each."""
    train, held = nn.data.shakespeare(length=128)
    half = len(held) // 2
    return Splits(train, nn.data.Subset(held, range(half)), nn.data.Subset(held, range(half, len(held))), train.source)


def vowel_splits(seed: int = 0) -> Splits:
    """Japanese vowels, padded, with their lengths."""
    train, test = nn.data.japanese_vowels()
    return apart(Padded(train), Padded(test), seed)


def rating_splits(seed: int = 0) -> Splits:
    """MovieLens 100K."""
    return apart(*nn.data.movielens(), seed)


def date_splits(seed: int = 0) -> Splits:
    """Dates in many spellings, and in one; every part has days of its own."""
    train, validation, test = date_parts([20000, 1000, 1000], seed)
    return Splits(train, validation, test, train.source)
