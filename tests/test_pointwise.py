"""Losses that are a sum of terms: large ones, which run in one loop, give what small ones add up to."""

from __future__ import annotations

import numpy as np
import pytest

import autograd_core as ag
import nn.functional as F
from autograd_core import fusion
from autograd_core.ops import pointwise

ROWS, COLUMNS = 96, 512


def draw(seed, low=-2.0, high=2.0):
    return np.random.default_rng(seed).uniform(low, high, (ROWS, COLUMNS)).astype(np.float32)


def signs(seed):
    return np.where(draw(seed) > 0, 1, -1)


LOSSES = {
    "huber_loss": ((draw(0), draw(1)), {"delta": 0.7}),
    "smooth_l1_loss": ((draw(0), draw(1)), {"beta": 0.3}),
    "gaussian_nll_loss": ((draw(0), draw(1), draw(2, 0.2, 2)), {}),
    "margin_ranking_loss": ((draw(0), draw(1), signs(2)), {"margin": 0.3}),
    "hinge_embedding_loss": ((draw(0), signs(1)), {"margin": 0.3}),
    "poisson_nll_loss": ((draw(0), draw(1, 0.1, 2)), {}),
}


def results(name, arrays, settings, parts):
    """The sum and its gradients, of as many parts of the arrays as are asked for."""
    leaves = [ag.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    wanted = [t for t in leaves if t.requires_grad]
    loss = getattr(F, name)
    step = ROWS // parts
    total = sum([loss(*[t[i : i + step] for t in leaves], **settings, reduction="sum")
                 for i in range(0, ROWS, step)])  # fmt: skip
    return total.item(), [g.numpy() for g in ag.autograd.grad(total, wanted, allow_unused=True) if g is not None]


@pytest.mark.parametrize("name", LOSSES)
def test_large_losses_are_the_sum_of_small_ones(name):
    arrays, settings = LOSSES[name]
    whole, slopes = results(name, arrays, settings, 1)
    total, parts = results(name, arrays, settings, 32)
    assert whole == pytest.approx(total, rel=1e-5)
    for found, expected in zip(slopes, parts, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    mean = getattr(F, name)(*map(ag.tensor, arrays), **settings)
    assert mean.item() == pytest.approx(total / (ROWS * COLUMNS), rel=1e-5)


@pytest.mark.parametrize("name", ["squared_error", "huber_error", "gaussian_nll", "relative_entropy", "ranking_hinge"])
def test_terms_and_their_gradients_are_loops(name):
    (record,) = [t.record for t in pointwise.TOTALS if t.record.name == name]
    arrays = [draw(i, 0.2, 2) for i in range(len(record.parameters))]
    settings = [0.5] * len(record.settings)
    assert fusion.fused_op(record, "sum").trace([*arrays, *settings]) is not None
    for rule in record.vjp:
        names = rule.__code__.co_varnames[1 : rule.__code__.co_argcount]
        known = dict(zip((*record.parameters, *record.settings), [*arrays, *settings], strict=True))
        given = [np.ones((), np.float32), *[known[n] for n in names]]
        assert fusion.fused_rule(record, rule).trace(given) is not None


def test_a_loss_is_one_node():
    x, y = ag.randn(3, 4, requires_grad=True), ag.randn(3, 4)
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.soft_margin_loss):
        assert loss(x, y).grad_fn.next_functions[0][0].variable is x
    first = ag.autograd.grad(F.mse_loss(x, y), [x], create_graph=True)[0]
    np.testing.assert_allclose(ag.autograd.grad(first.sum(), [x])[0].numpy(), np.full((3, 4), 2 / 12, np.float32))


def test_terms_broadcast():
    x, y = ag.randn(3, 1, requires_grad=True), ag.randn(1, 4)
    with pytest.warns(UserWarning, match="they are broadcast"):
        loss = F.mse_loss(x, y)
    expected = ((x - y) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item())
    found, slope = (ag.autograd.grad(v, [x])[0].numpy() for v in (loss, expected))
    np.testing.assert_allclose(found, slope, rtol=1e-6)
