"""Dropout in its forms, and samples from the Gumbel-softmax distribution."""

from __future__ import annotations

import warnings
from math import prod

import numpy as np

from .. import ops
from ..registry import composite, op
from ..shapes import numpy_dtype
from .random import draw_coins, draw_floats, keep_mask
from .samples import real, sample


def _finished(result, input, inplace):
    """The result, or the input with the result written into it."""
    return input._become(result, "dropout") if inplace else result


def _check_p(name, p):
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: the probability p must be between 0 and 1, got {p}")


def _dropped(name, input, p, training, inplace, shape):
    """Zeros with probability ``p``, by draws of ``shape``; what remains is scaled by 1 / (1 - p)."""
    _check_p(name, p)
    if not training or p == 0:
        return input
    if inplace:
        input._check_writable(f"{name}_")
    if p == 1:
        return _finished(input * 0.0, input, inplace)
    return _finished(input * (_kept(input, shape, 1 - p) * (1 / (1 - p))), input, inplace)


def _kept(input, shape, chance):
    """1 where an element (or, by ``shape``, a channel) is kept, else 0, in the dtype of ``input``."""
    dtype = numpy_dtype(input.dtype)
    if prod(shape) < prod(input.shape):
        return draw_coins(chance, shape, dtype, None)
    return ops.to(keep_mask(shape, chance), dtype)  # large masks are bytes: a compiled step keeps them so


@op(composite, namespace="nn.functional", samples=[sample(real(3, 4), 0.3), sample(real(3, 4), training=False)])
def dropout(input, p=0.5, training=True, inplace=False):
    """Zero each element with probability ``p`` and scale the others by 1 / (1 - p); in training alone."""
    return _dropped("dropout", input, p, training, inplace, tuple(input.shape))


def _by_feature(input):
    """The shape of one draw for each sample and channel."""
    return (*input.shape[:2], *[1] * (input.ndim - 2))


@op(composite, namespace="nn.functional", samples=[sample(real(2, 3, 4), 0.3)])
def dropout1d(input, p=0.5, training=True, inplace=False):
    """Zero whole channels of sequences (N, C, L) or (C, L) with probability ``p``. See `dropout`."""
    _check_p("dropout1d", p)
    if input.ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: input must have 2 or 3 dims, got shape {list(input.shape)}")
    shape = _by_feature(input) if input.ndim == 3 else (input.shape[0], 1)
    return _dropped("dropout1d", input, p, training, inplace, shape)


@op(composite, namespace="nn.functional", samples=[sample(real(2, 3, 4, 2), 0.3)])
def dropout2d(input, p=0.5, training=True, inplace=False):
    """Zero whole channels of images (N, C, H, W) with probability ``p``. See `dropout`."""
    _check_p("dropout2d", p)
    if input.ndim not in (3, 4):
        warnings.warn(f"dropout2d: expected 3 or 4 dims, got shape {list(input.shape)}", stacklevel=2)
    return _dropped("dropout2d", input, p, training, inplace, _by_feature(input))


@op(composite, namespace="nn.functional", samples=[sample(real(2, 3, 2, 2, 2), 0.3), sample(real(2, 2, 2, 2), 0.3)])
def dropout3d(input, p=0.5, training=True, inplace=False):
    """Zero whole channels of volumes (N, C, D, H, W) or (C, D, H, W) with probability ``p``. See `dropout`."""
    _check_p("dropout3d", p)
    if input.ndim not in (4, 5):
        warnings.warn(f"dropout3d: expected 4 or 5 dims, got shape {list(input.shape)}", stacklevel=2)
    shape = _by_feature(input) if input.ndim != 4 else (input.shape[0], 1, 1, 1)
    return _dropped("dropout3d", input, p, training, inplace, shape)


SELU_FLOOR = -1.7580993408473766
"""-scale * alpha of `selu`: the value that it takes far below zero."""


def _alpha_dropped(name, input, p, training, inplace, shape):
    """Dropped elements get the floor of `selu`; an affine map then restores mean 0 and variance 1."""
    _check_p(name, p)
    if not training or p == 0:
        return input
    if inplace:
        input._check_writable(f"{name}_")
    if p == 1:
        return _finished(input * 0.0, input, inplace)
    scale = ((1 - p) * (1 + p * SELU_FLOOR**2)) ** -0.5
    kept = _kept(input, shape, 1 - p)
    return _finished(ops.addcmul((1 - p - kept) * (SELU_FLOOR * scale), input, kept * scale), input, inplace)


@op(composite, namespace="nn.functional", samples=[sample(real(3, 4), 0.3, True)])
def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout for networks of `selu`, which keeps mean and variance: a (x or -scale * alpha) + b.

    Source: Klambauer et al., Self-Normalizing Neural Networks, 2017.
    """
    return _alpha_dropped("alpha_dropout", input, p, training, inplace, tuple(input.shape))


@op(composite, namespace="nn.functional", samples=[sample(real(2, 3, 4), 0.3, True)])
def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    _check_p("feature_alpha_dropout", p)
    if training and input.ndim < 2:
        raise RuntimeError(f"feature_alpha_dropout: input must have at least 2 dims, got shape {list(input.shape)}")
    return _alpha_dropped("feature_alpha_dropout", input, p, training, inplace, _by_feature(input))


@op(composite, namespace="nn.functional", samples=[real(3, 4), sample(real(3, 4), 0.5, dim=0)])
def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A sample of softmax((logits + Gumbel noise) / tau).

    ``hard`` gives one-hot values with the gradient of the soft ones.
    Source: Jang et al., Categorical Reparameterization with Gumbel-Softmax, 2017.
    """
    if eps != 1e-10:
        warnings.warn("gumbel_softmax: eps is deprecated and has no effect", stacklevel=2)
    noise = -ops.log(draw_floats(ops.exponential01, tuple(logits.shape), numpy_dtype(logits.dtype), None))
    soft = ops.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    largest = ops.argmax(soft, dim, True)
    places = np.arange(logits.shape[dim]).reshape(-1, *[1] * (logits.ndim - 1 - dim % logits.ndim))
    return ops.to(largest == places, numpy_dtype(logits.dtype)) - soft.detach() + soft
