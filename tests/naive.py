"""Slow, obvious twins of the kernels: what the fast ones are tested against. Plain loops or one NumPy line a phase."""
from __future__ import annotations

import numpy as np


def gemm(a, b, bias=None, residual=None, alpha=1.0, activation=""):
    """activation(alpha * a @ b + bias + residual), each product computed in float64 row by column."""
    vector_a, vector_b = a.ndim == 1, b.ndim == 1
    a, b = np.atleast_2d(a), b[:, None] if vector_b else b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, batch + a.shape[-2:]).astype(np.float64)
    b = np.broadcast_to(b, batch + b.shape[-2:]).astype(np.float64)
    c = np.zeros((*batch, a.shape[-2], b.shape[-1]))
    for index in np.ndindex(c.shape):
        c[index] = np.sum(a[index[:-1]] * b[(*index[:-2], slice(None), index[-1])])
    c = c[..., 0] if vector_b else c
    c = (c[..., 0, :] if not vector_b else c[..., 0]) if vector_a else c
    c = alpha * c
    for x in (bias, residual):
        if x is not None:
            c = c + x
    return np.where(c < 0, 0, c) if activation == "relu" else c


def erf(x):
    """Error function in x's own precision, by its series of positive terms, which loses no digits and takes many."""
    x = np.clip(x, -6.5, 6.5)
    term = total = 2 * np.exp(-x * x) * x / np.sqrt(np.arccos(x.dtype.type(-1)))
    for n in range(1, 200):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return total
