"""Losses of classes: their kernels against slow twins, and the functions where kernels take over."""
from __future__ import annotations

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

import autograd_core as ag
import nn.functional as F
from autograd_core.kernels import cross_entropy, multilabel


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(300, 7), (40, 5, 3, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_log_likelihood(shape, reduction):
    rng = np.random.default_rng(0)
    logs, target = draw(*shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[::7] = 2
    weight = rng.uniform(0.5, 2, shape[1]).astype(np.float32) if reduction != "sum" else None
    settings = {"ignore_index": 2, "reduction": reduction}
    losses, weights = naive.nll(logs, target, weight, 2)
    expected = losses if reduction == "none" else losses.sum() / (weights.sum() if reduction == "mean" else 1)
    for _, (found, total) in run_everywhere(cross_entropy.nll, (logs, target, weight), lanes=(16,), **settings):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(total, weights.sum(), rtol=1e-6)
    g = draw(*np.shape(expected), seed=1) if reduction == "none" else np.array(1.5, np.float32)
    slope = np.zeros(shape)
    for place in np.ndindex(target.shape):
        part = g[place] if reduction == "none" else g / (weights.sum() if reduction == "mean" else 1)
        slope[(place[0], target[place], *place[1:])] = -part * weights[place]
    given = (g, target, weight, np.array(weights.sum(), np.float32))
    for _, found in run_everywhere(cross_entropy.nll_backward, given, lanes=(16,), classes=shape[1], **settings):
        np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-7)


def test_classes_that_do_not_exist():
    logs, target = ag.tensor(draw(300, 7)), np.zeros(300, np.int64)
    for wrong in (7, -1):
        target[250] = wrong
        for loss in (F.nll_loss, F.cross_entropy):
            for reduction in ("mean", "none"):
                with pytest.raises(IndexError, match=f"{wrong} is out of bounds for 7 classes"):
                    loss(logs, ag.tensor(target), reduction=reduction)
    with pytest.raises(IndexError):
        F.multilabel_margin_loss(logs, ag.tensor(np.full((300, 7), 7)))


def test_hinges_of_labels():
    rng = np.random.default_rng(0)
    scores, target = draw(90, 6), rng.integers(-1, 6, (90, 6))
    losses, slopes = naive.label_hinges(scores, target)
    for _, found in run_everywhere(multilabel.losses, (scores, target), lanes=(16,)):
        np.testing.assert_allclose(found, losses, rtol=1e-5, atol=1e-6)
    g = draw(90, seed=1)
    for _, found in run_everywhere(multilabel.gradient, (g, scores, target), lanes=(16,)):
        np.testing.assert_allclose(found, g[:, None] * slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [F.multilabel_margin_loss, F.nll_loss])
def test_large_and_small_calls_agree(loss):
    scores = draw(130, 5).astype(np.float64)
    target = np.random.default_rng(0).integers(0, 5, (130, 5) if loss is F.multilabel_margin_loss else 130)
    found = []
    for size in (130, 10):
        x = ag.tensor(scores, requires_grad=True)
        total = sum([loss(x[i : i + size], ag.tensor(target[i : i + size]), reduction="sum")
                     for i in range(0, 130, size)])  # fmt: skip
        total.backward()
        found.append((total.item(), x.grad.numpy()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12)
