"""What ``agrad train`` knows: every model of this folder with data, loss and settings with which it trains well."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np

import nn

from .autoencoder import Autoencoder, VariationalAutoencoder, negative_elbo, reconstruction_loss
from .boltzmann import DeepBeliefNetwork, pretrain
from .dates import INPUTS, LONGEST, OUTPUTS, Dates
from .lenet5 import LeNet5
from .recipe import Recipe
from .recommender import MatrixFactorisation, NeuralRecommender
from .recurrent import CharLSTM, SequenceClassifier, SequenceLoss
from .resnet import resnet20
from .simple import MLP, Logistic, Perceptron, XorNet
from .splits import (
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
    zero_or_one_splits,
)
from .transformer import GPT, Seq2Seq

# ---------------------------------------------------------------------------------------------------------- metrics


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


# ------------------------------------------------------------------------------------------- samples, drawn at random


def _points(rng, count):
    return rng.random((count, 2)), (rng.random(count) < 0.5).astype(float)


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


# ------------------------------------------------------------------------------------------ recipes that share a task


def _classifier(title: str, model: Callable[[], nn.Module], data=mnist_splits, **settings) -> Recipe:
    """Of pictures 28 x 28 in ten classes."""
    return Recipe(title, model, data, nn.CrossEntropyLoss(), (1, 28, 28), pictures=True, **settings)


def _writer(title: str, model: Callable[[], nn.Module], lr: float) -> Recipe:
    """Of Shakespeare, character by character; the text has 84 kinds of them."""
    title = f"{title} that writes Shakespeare, character by character"
    return Recipe(title, model, text_splits, SequenceLoss(), (128,), lr=lr, metrics={"bits": bits}, draw=_windows)


def _redrawer(title: str, model: Callable[[], nn.Module], loss: Callable, metrics: dict[str, Callable]) -> Recipe:
    """Of digits, which are their own targets."""
    return Recipe(f"{title} on MNIST", model, mirrored_splits, loss, (1, 28, 28), batch_size=128, metrics=metrics,
                  draw=_pictures)  # fmt: skip


def _rater(title: str, model: Callable[..., nn.Module], epochs: int) -> Recipe:
    """Of films by people, in stars, whose mean is 3.53."""
    return Recipe(f"{title} on MovieLens 100K", lambda: model(943, 1682, mean=3.53), rating_splits, nn.MSELoss(), (2,),
                  epochs=epochs, batch_size=256, metrics={"rmse": root_mean_square}, draw=_ratings)  # fmt: skip


RECIPES = {
    "perceptron": Recipe("perceptron on zeros and ones, by gradient descent", Perceptron, zero_or_one_splits,
                         nn.BCEWithLogitsLoss(), (2,), epochs=40, batch_size=16, lr=0.3, patience=40, draw=_points),
    "logistic": _classifier("logistic regression on MNIST", Logistic, lr=0.01, batch_size=128),
    "tumours": Recipe("logistic regression on breast cancer", lambda: Logistic(30, 1), tumour_splits,
                      nn.BCEWithLogitsLoss(), (30,), epochs=40, lr=0.01),
    "xor": Recipe("exclusive or by a 2-4-1 network", XorNet, xor_splits, nn.BCEWithLogitsLoss(), (2,), epochs=500,
                  batch_size=4, lr=0.1, patience=500),
    "mlp": _classifier("multilayer perceptron 784-256-256-10 on MNIST", MLP, lr=0.002, batch_size=128),
    "diamonds": Recipe("perceptron of nine hidden layers on prices of diamonds", lambda: MLP((9, *[64] * 9, 1)),
                       diamond_splits, nn.MSELoss(), (9,), epochs=12, batch_size=256,
                       metrics={"rmse": root_mean_square}),
    "lenet5": _classifier("LeNet-5 on MNIST", LeNet5),
    "resnet20": _classifier("ResNet-20 on Fashion-MNIST", lambda: resnet20(channels=1), fashion_splits, lr=0.01,
                            batch_size=128),
    "lstm": _writer("LSTM", lambda: CharLSTM(84), lr=0.005),
    "gpt": _writer("small GPT", lambda: GPT(84), lr=0.003),
    "dates": Recipe("Transformer that rewrites dates", lambda: Seq2Seq(len(INPUTS), len(OUTPUTS), LONGEST), date_splits,
                    SequenceLoss(), (LONGEST,), metrics={"places": places}, draw=_rewriting),
    "vowels": Recipe("bidirectional packed LSTM on Japanese vowels",
                     lambda: SequenceClassifier(12, 64, 9, bidirectional=True), vowel_splits, nn.CrossEntropyLoss(),
                     (7, 12), epochs=30, batch_size=27, lr=0.01, patience=10, draw=_vowels, compiled=False),
    "autoencoder": _redrawer("autoencoder 784-256-64-16", Autoencoder, reconstruction_loss,
                             {"squared error": squared_error}),
    "vae": _redrawer("variational autoencoder 784-256-128-8", VariationalAutoencoder, negative_elbo, {}),
    "dbn": _classifier("deep belief network 784-400-200-10 on MNIST, RBMs first", DeepBeliefNetwork, brightness_splits,
                       batch_size=128, prepare=lambda model, splits: pretrain(
                           model, splits.train[range(len(splits.train))][0], epochs=3)),
    "factorisation": _rater("matrix factorisation", MatrixFactorisation, epochs=15),
    "recommender": _rater("neural recommender with embeddings", NeuralRecommender, epochs=10),
}  # fmt: skip
"""By name, in the order in which the gallery introduces them."""
