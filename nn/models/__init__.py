"""Ready models, and a recipe for each: its data, its loss and settings with which it trains well.

A model is a class in a file of this folder; a `Recipe` makes it a command: ``agrad train NAME``.
"""

from __future__ import annotations

from math import log

import numpy as np

import nn

from ..train import accuracy
from .autoencoder import Autoencoder, VariationalAutoencoder, negative_elbo, reconstruction_loss
from .boltzmann import RBM, DeepBeliefNetwork, pretrain
from .dates import INPUTS, LONGEST, OUTPUTS, Dates, date_parts
from .lenet5 import LeNet5
from .recipe import Recipe, Splits
from .recommender import MatrixFactorisation, NeuralRecommender
from .recurrent import CharLSTM, SequenceClassifier, SequenceLoss
from .resnet import ResNet, resnet18, resnet20
from .simple import MLP, Logistic, Perceptron, XorNet
from .splits import (
    Mirrored,
    Padded,
    brightness_splits,
    date_splits,
    diamond_splits,
    fashion_splits,
    mirrored_splits,
    mnist_splits,
    rating_splits,
    text_splits,
    tumour_splits,
    vowel_splits,
    xor_splits,
)
from .transformer import GPT, Seq2Seq


def bits(scores, targets):
    """Cross-entropy of the next character in bits: how many a perfect coder would need for it."""
    return SequenceLoss()(scores, targets) / log(2)


def places(scores, targets):
    """The share of places at which the likeliest character is right."""
    return (scores.argmax(-1) == targets).float().mean()


def squared_error(scores, pictures):
    """Mean squared difference of the pixels' brightness."""
    return nn.functional.mse_loss(nn.functional.sigmoid(scores), pictures.flatten(1))


def root_mean_square(found, wanted):
    """Root of the mean squared difference (of a batch)."""
    return nn.functional.mse_loss(found, wanted).sqrt()


def _windows(rng, count):
    text = rng.integers(0, 84, (count, 9))
    return text[:, :-1], text[:, 1:]


def _rewriting(rng, count):
    return tuple([a.numpy() for a in Dates(rng.integers(0, 36525, count), rng)[:]])


def _vowels(rng, count):
    return rng.standard_normal((count, 7, 12)), np.arange(7, 7 - count, -1), rng.integers(0, 9, count)


def _pictures(rng, count):
    pictures = rng.random((count, 1, 28, 28))
    return pictures, pictures


def _ratings(rng, count):
    return np.stack([rng.integers(0, 943, count), rng.integers(0, 1682, count)], 1), rng.random(count)


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
    "tumours": Recipe(
        "logistic regression on breast cancer",
        lambda: Logistic(30, 1),
        tumour_splits,
        nn.BCEWithLogitsLoss(),
        (30,),
        epochs=40,
        lr=0.01,
    ),
    "diamonds": Recipe(
        "perceptron of nine hidden layers on prices of diamonds",
        lambda: MLP((9, *[64] * 9, 1)),
        diamond_splits,
        nn.MSELoss(),
        (9,),
        epochs=12,
        batch_size=256,
        metrics={"rmse": root_mean_square},
    ),
    "resnet20": Recipe(
        "ResNet-20 on Fashion-MNIST",
        lambda: resnet20(channels=1),
        fashion_splits,
        nn.CrossEntropyLoss(),
        (1, 28, 28),
        lr=0.01,
        batch_size=128,
        pictures=True,
    ),
    "lstm": Recipe(
        "LSTM that writes Shakespeare, character by character",
        lambda: CharLSTM(84),
        text_splits,
        SequenceLoss(),
        (128,),
        lr=0.005,
        metrics={"bits": bits},
        draw=_windows,
    ),
    "gpt": Recipe(
        "small GPT that writes Shakespeare, character by character",
        lambda: GPT(84),
        text_splits,
        SequenceLoss(),
        (128,),
        lr=0.003,
        metrics={"bits": bits},
        draw=_windows,
    ),
    "dates": Recipe(
        "Transformer that rewrites dates",
        lambda: Seq2Seq(len(INPUTS), len(OUTPUTS), LONGEST),
        date_splits,
        SequenceLoss(),
        (LONGEST,),
        metrics={"places": places},
        draw=_rewriting,
    ),
    "vowels": Recipe(
        "bidirectional packed LSTM on Japanese vowels",
        lambda: SequenceClassifier(12, 64, 9, bidirectional=True),
        vowel_splits,
        nn.CrossEntropyLoss(),
        (7, 12),
        epochs=30,
        batch_size=27,
        lr=0.01,
        patience=10,
        draw=_vowels,
        compiled=False,
    ),
    "autoencoder": Recipe(
        "autoencoder 784-256-64-16 on MNIST",
        Autoencoder,
        mirrored_splits,
        reconstruction_loss,
        (1, 28, 28),
        batch_size=128,
        metrics={"squared error": squared_error},
        draw=_pictures,
    ),
    "vae": Recipe(
        "variational autoencoder 784-256-128-8 on MNIST",
        VariationalAutoencoder,
        mirrored_splits,
        negative_elbo,
        (1, 28, 28),
        batch_size=128,
        metrics={},
        draw=_pictures,
    ),
    "dbn": Recipe(
        "deep belief network 784-400-200-10 on MNIST, RBMs first",
        DeepBeliefNetwork,
        brightness_splits,
        nn.CrossEntropyLoss(),
        (1, 28, 28),
        batch_size=128,
        pictures=True,
        prepare=lambda model, splits: pretrain(model, splits.train[range(len(splits.train))][0], epochs=3),
    ),
    "factorisation": Recipe(
        "matrix factorisation on MovieLens 100K",
        lambda: MatrixFactorisation(943, 1682, mean=3.53),
        rating_splits,
        nn.MSELoss(),
        (2,),
        epochs=15,
        batch_size=256,
        metrics={"rmse": root_mean_square},
        draw=_ratings,
    ),
    "recommender": Recipe(
        "neural recommender with embeddings on MovieLens 100K",
        lambda: NeuralRecommender(943, 1682, mean=3.53),
        rating_splits,
        nn.MSELoss(),
        (2,),
        epochs=10,
        batch_size=256,
        metrics={"rmse": root_mean_square},
        draw=_ratings,
    ),
}
"""What ``agrad train`` knows, by name."""
