"""Autoencoders: networks that squeeze a picture into a few numbers and draw it again from them."""

from __future__ import annotations

from itertools import pairwise

import autograd_core as ag
import nn
from nn import functional as F


def _layers(sizes):
    """Linear layers with ReLU in between."""
    made: list[nn.Module] = []
    for before, after in pairwise(sizes):
        made += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*made[:-1])


class Autoencoder(nn.Module):
    """An encoder to a few numbers (the code) and a decoder back; ``sizes`` are the widths from picture to code.

    The decoder mirrors the encoder and gives scores: `F.sigmoid` of them are the pixels' brightnesses, 0 to 1.

    Source: Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006.
    """

    def __init__(self, sizes=(784, 256, 64, 16)):
        super().__init__()
        self.encoder = _layers(sizes)
        self.decoder = _layers(sizes[::-1])

    def encode(self, pictures):
        """The codes (N, sizes[-1]) of pictures (N, ...)."""
        return self.encoder(pictures.flatten(1))

    def decode(self, codes):
        """The pictures (N, sizes[0]) that codes stand for, 0 to 1."""
        return F.sigmoid(self.decoder(codes))

    def forward(self, pictures):
        """Scores (N, sizes[0]) of the pixels, after the passage through the code."""
        return self.decoder(self.encode(pictures))


class VariationalAutoencoder(nn.Module):
    """An autoencoder whose codes are drawn at random, near a mean that the encoder gives, so that codes fill a ball.

    The encoder gives a mean m and a log-variance l for each code number; the code is m + exp(l / 2) · noise, so that
    gradients reach m and l (the reparameterisation trick). New pictures are decoded from standard normal numbers.

    Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014.
    """

    def __init__(self, sizes=(784, 256, 128, 8)):
        super().__init__()
        self.code = sizes[-1]
        self.encoder = _layers((*sizes[:-1], 2 * self.code))
        self.decoder = _layers(sizes[::-1])

    def encode(self, pictures):
        """Mean and log-variance of the codes, each (N, sizes[-1])."""
        return self.encoder(pictures.flatten(1)).split(self.code, 1)

    def decode(self, codes):
        """The pictures (N, sizes[0]) that codes stand for, 0 to 1."""
        return F.sigmoid(self.decoder(codes))

    def forward(self, pictures):
        """Scores of the pixels, mean and log-variance; the code is drawn in training, and the mean in use."""
        mean, log_variance = self.encode(pictures)
        code = mean
        if self.training:
            code = mean + (log_variance / 2).exp() * ag.randn_like(mean)
        return self.decoder(code), mean, log_variance

    def sample(self, count: int, generator=None):
        """Draw ``count`` new pictures (count, sizes[0])."""
        with ag.no_grad():
            return self.decode(ag.randn(count, self.code, generator=generator))


def reconstruction_loss(scores, pictures):
    """Binary cross-entropy of pixels (0 to 1), summed over a picture, mean over pictures: in nats a picture."""
    target = pictures.flatten(1)
    return F.binary_cross_entropy_with_logits(scores, target, reduction="sum") / len(target)


def negative_elbo(output, pictures):
    """What a variational autoencoder minimises: cross-entropy of the pixels + KL(codes' distribution ‖ N(0, 1)).

    KL = ½ Σ (m² + exp(l) − l − 1). The sum is at least −log p(picture), in nats a picture.
    """
    scores, mean, log_variance = output
    divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum() / len(mean)
    return reconstruction_loss(scores, pictures) + divergence
