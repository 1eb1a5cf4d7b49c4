"""Bags of rows of a table: kernels against a slow twin, gradients against the plain operations."""

from itertools import pairwise

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

import autograd_core as ag
import nn.functional as F
from autograd_core.kernels import bags

STARTS = np.array([0, 40, 40, 41, 90])


def table(width, dtype=np.float32, rows=7):
    rng = np.random.default_rng(width)
    return rng.standard_normal((rows, width)).astype(dtype), rng.integers(0, rows, STARTS[-1])


@pytest.mark.parametrize(("width", "dtype", "lanes"), [
    (1, np.float32, (16,)), (77, np.float32, (4, 16)), (128, np.float64, (16,))])  # fmt: skip
@pytest.mark.parametrize("mean", [False, True])
def test_sums_and_their_gradients(width, dtype, lanes, mean):
    x, indices = table(width, dtype)
    weights = None if mean else np.linspace(-1, 1, len(indices), dtype=dtype)
    expected = naive.bag_sums(x, indices, STARTS, weights, mean, 3)
    settings = {"mean": mean, "padding_idx": 3, "scale_grad_by_freq": False}
    bound = 2e-6 if dtype == np.float32 else 1e-14
    for _, found in run_everywhere(bags.plan_sums, (x, indices, STARTS, weights), lanes=lanes, **settings):
        np.testing.assert_allclose(found, expected, rtol=bound, atol=bound)
    g = np.cos(np.arange(expected.size)).reshape(expected.shape).astype(dtype)
    numbers = np.repeat(np.arange(4), np.diff(STARTS))
    shares = np.ones(len(indices), dtype) if weights is None else weights
    one = np.eye(7)[indices] * (indices != 3)[:, None]
    given = (g, indices, numbers, shares)
    for _, found in run_everywhere(bags.plan_spread, given, lanes=lanes, rows=7, padding_idx=3):
        np.testing.assert_allclose(found, one.T @ (g[numbers] * shares[:, None]), rtol=bound, atol=20 * bound)
    for _, found in run_everywhere(bags.plan_dots, (g, x, indices, numbers), lanes=lanes, padding_idx=3):
        np.testing.assert_allclose(found, (one @ x * g[numbers]).sum(1), rtol=bound, atol=40 * bound)


def test_maxima():
    x, indices = table(33)
    x[2, 5] = x[4, 5] = 9  # the first of equals counts
    for _, (values, rows) in run_everywhere(bags.plan_maxima, (x, indices, STARTS), lanes=(16,), padding_idx=3):
        for bag in range(4):
            own = [i for i in indices[STARTS[bag] : STARTS[bag + 1]] if i != 3]
            best = [own[k] for k in x[own].argmax(0)] if own else [-1] * 33
            assert rows[bag].tolist() == best
            np.testing.assert_array_equal(values[bag], x[best, range(33)] if own else 0)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("width", [2, 40])
def test_small_and_large_bags_agree_with_a_loop(mode, width):
    """Few columns take the body, many the kernel; both with the gradients of plain operations, second ones too."""
    x, indices = table(width, np.float64)

    def plain(table, weights):
        parts = []
        for first, last in pairwise(STARTS):
            rows = table[indices[first:last]] * (1 if weights is None else weights[first:last, None])
            empty = ag.zeros(1, width, dtype=ag.float64)
            parts.append((rows if last > first else empty).amax(0) if mode == "max" else getattr(rows, mode)(0)
                         if last > first else empty[0])  # fmt: skip
        return ag.stack(parts)

    def bagged(table, weights):
        return F.embedding_bag(ag.tensor(indices), table, ag.tensor(STARTS[:-1]), mode=mode, per_sample_weights=weights)

    found = []
    for function in (plain, bagged):
        leaves = [ag.tensor(x, requires_grad=True)]
        leaves += [ag.linspace(-1, 1, len(indices), dtype=ag.float64).requires_grad_()] if mode == "sum" else []
        out = function(leaves[0], leaves[1] if mode == "sum" else None)
        first = ag.grad([(out**3).sum()], leaves, create_graph=True)
        second = ag.grad([sum((g**2).sum() for g in first)], leaves)
        found.append([t.detach().numpy() for t in (out, *first, *second)])
    for expected, given in zip(*found, strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-10, atol=1e-10)


def test_compiled_programs_read_bags_at_each_run():
    x, indices = table(40)
    run = ag.compile(lambda i, w, o: F.embedding_bag(i, w, o, mode="mean"))
    for offsets in ([0, 40, 40, 41], [0, 1, 2, 80]):
        args = ag.tensor(indices), ag.tensor(x), ag.tensor(offsets)
        np.testing.assert_allclose(run(*args).numpy(), F.embedding_bag(*args, mode="mean").numpy(), rtol=1e-6)
    with pytest.raises((IndexError, RuntimeError)):
        run(ag.tensor(indices + 1), *args[1:])
    with pytest.raises((IndexError, RuntimeError)):
        run(*args[:2], ag.tensor([0, 5, 3, 9]))


def test_what_does_not_fit():
    x, indices = table(40)
    for offsets in ([1, 2], [0, 5, 3], [0, 200]):
        with pytest.raises(RuntimeError, match="offsets must begin with 0"):
            F.embedding_bag(ag.tensor(indices), ag.tensor(x), ag.tensor(offsets))
    with pytest.raises(IndexError, match="rows from 0 to 6"):
        F.embedding_bag(ag.tensor(indices + 1), ag.tensor(x), ag.tensor([0]))
