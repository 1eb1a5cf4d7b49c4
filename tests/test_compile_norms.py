"""Batch norms that take in an addition and ReLU, forward and backward: which ones, and the same numbers."""

import numpy as np
import pytest
from test_compile_layouts import Block

import autograd_core as ag
import nn
import nn.functional as F
from autograd_core.kernels import normalize
from autograd_core.kernels.plan import Array, execute

SETTINGS = {"eps": 1e-5, "centred": True}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gradients(function, model, shape, **options):
    """(result, gradients of input and parameters, names of the instructions) of a compiled function."""
    x = ag.tensor(normal(*shape), requires_grad=True)
    leaves = [x, *model.parameters()]

    def step(x):
        return ag.grad((function(x) ** 2).sum(), leaves)

    run = ag.compile(step, **options)
    found = [g.numpy() for g in run(x)]
    found = [g.numpy() for g in run(x)]
    return found, [row.op.name for row in run.program().instructions]


def compare(function, model, shape):
    """The names with the pass; the gradients are checked against those without it."""
    model.train()
    found, names = gradients(function, model, shape)
    other, _ = gradients(function, model, shape, disable=["norms"])
    for a, b in zip(found, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * max(1, np.abs(b).max()))
    return names


def test_columns_end_both_ways():
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    names = compare(model, model, (64, 5))
    assert {"standardize+relu", "relu+standardize_backward"} <= set(names)


def test_images_with_channels_first_end_forward():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False), nn.ReLU())
    names = compare(model, model, (3, 2, 5, 7))
    assert {"standardize+relu", "standardize_backward"} <= set(names)


@pytest.mark.parametrize("channels", [3, 16])
def test_a_shortcut_is_added(channels):
    model = Block(channels)
    names = compare(model, model, (2, channels, 6, 6))
    assert {"standardize+relu", "standardize+add+relu"} <= set(names)
    assert ("relu+standardize_backward" in names) == (channels == 16)


def test_the_later_of_two_norms_adds_the_other():
    model = nn.ModuleList([nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(4, 6), nn.BatchNorm1d(6)])

    def function(x):
        return F.relu(model[1](model[0](x)) + model[3](model[2](x)))

    names = compare(function, model, (16, 4))
    assert names.count("standardize") == names.count("standardize+add+relu") == 1


def test_what_is_read_twice_stays():
    model = nn.Sequential(nn.BatchNorm1d(4))

    def function(x):
        y = model(x)
        return F.relu(y) + y

    assert "standardize+relu" not in compare(function, model, (16, 4))


def test_nan_passes_a_norm_that_ends_with_relu():
    x = normal(8, 4)
    x[3, 1] = np.nan
    out = execute(normalize.standardize, (x, None, None, None), dims=(0,), relu=True, **SETTINGS)[0]
    np.testing.assert_array_equal(np.isnan(out).all(0), [False, True, False, False])
    assert np.delete(out, 1, 1).min() == 0


def test_rows_have_no_ending():
    x = Array((8, 4), (16, 4), np.dtype(np.float32))
    assert normalize.standardize(x, None, None, dims=(1,), relu=True, **SETTINGS) is None
