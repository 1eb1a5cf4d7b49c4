"""PyTorch's functions and optimizers in JAX, as far as the training steps need them; pure functions of arrays."""

from __future__ import annotations

import jax
from jax import lax, nn
from jax import numpy as jnp

relu, sigmoid = nn.relu, nn.sigmoid


def linear(x, weight, bias):
    """x @ weight.T + bias."""
    return x @ weight.T + bias


def conv2d(x, weight, bias, padding=0):
    """Cross-correlation of (N, C, H, W), stride 1."""
    return lax.conv_general_dilated(x, weight, (1, 1), [(padding, padding)] * 2) + bias[:, None, None]


def max_pool2d(x, size):
    """Largest values of squares that do not overlap."""
    window = (1, 1, size, size)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def layer_norm(x, weight, bias, eps=1e-5):
    """Over the last dimension."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps) * weight + bias


def cross_entropy(scores, target):
    """Mean of -log softmax at the target classes."""
    return -jnp.take_along_axis(nn.log_softmax(scores, -1), target[..., None], -1).mean()


def mse_loss(x, target):
    """Mean of squared differences."""
    return ((x - target) ** 2).mean()


def binary_cross_entropy_with_logits(x, target):
    """Mean of log(1 + exp(x)) - x target."""
    return (jnp.logaddexp(0, x) - x * target).mean()


def lstm(x, w_ih, w_hh, b_ih, b_hh):
    """One layer over (N, T, I), starting from zeros; the outputs of all steps."""
    gates = jnp.swapaxes(x @ w_ih.T + b_ih + b_hh, 0, 1)
    zero = jnp.zeros((x.shape[0], w_hh.shape[1]), x.dtype)

    def step(state, gate):
        h, c = state
        i, f, g, o = jnp.split(gate + h @ w_hh.T, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return jnp.swapaxes(lax.scan(step, (zero, zero), gates)[1], 0, 1)


def self_attention(x, heads, w_in, b_in, w_out, b_out):
    """Multi-head self-attention over (N, T, E)."""
    n, t, e = x.shape
    q, k, v = jnp.moveaxis(linear(x, w_in, b_in).reshape(n, t, 3, heads, e // heads), (2, 3), (0, 2))
    weights = nn.softmax(q @ jnp.swapaxes(k, -1, -2) / (e // heads) ** 0.5, -1)
    return linear(jnp.swapaxes(weights @ v, 1, 2).reshape(n, t, e), w_out, b_out)


def sgd(lr, momentum=0.0):
    """(start, update) of gradient descent, with a moving sum of gradients if ``momentum``."""

    def start(parameters):
        return jax.tree.map(jnp.zeros_like, parameters) if momentum else {}

    def update(parameters, gradients, moments):
        if momentum:
            moments = gradients = jax.tree.map(lambda m, g: momentum * m + g, moments, gradients)
        return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), moments

    return start, update


def adam(lr, betas=(0.9, 0.999), eps=1e-8):
    """(start, update) of Adam."""

    def start(parameters):
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros(())

    def update(parameters, gradients, moments):
        m, v, t = moments
        t = t + 1
        m = jax.tree.map(lambda m, g: betas[0] * m + (1 - betas[0]) * g, m, gradients)
        v = jax.tree.map(lambda v, g: betas[1] * v + (1 - betas[1]) * g * g, v, gradients)
        size, root = lr / (1 - betas[0] ** t), jnp.sqrt(1 - betas[1] ** t)
        changed = jax.tree.map(lambda p, m, v: (p - size * m / (jnp.sqrt(v) / root + eps)).astype(p.dtype), parameters,
                               m, v)  # fmt: skip
        return changed, (m, v, t)

    return start, update
