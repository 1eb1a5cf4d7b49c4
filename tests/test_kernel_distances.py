"""Norms and distances: kernels against their slow twins, and the functions where kernels take over."""
from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

import autograd_core as ag
from autograd_core.kernels import distances, norms

CASES = [(0, "float32", (16,)), (1, "float32", (4,)), (2, "float32", (4,)), (2, "float64", (8,)),
         (math.inf, "float32", (8,)), (3.5, "float32", (16,))]  # fmt: skip
"""Orders with the dtypes and the numbers of lanes that kernels are compiled for, which takes most of the time."""


def draw(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def close(found, expected, dtype, factor=32):
    tolerance = factor * np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(np.abs(expected).max(), 1))


def all_pairs(x, y, p):
    return np.array([[naive.norm(a - b, p) for b in y.astype(float)] for a in x.astype(float)])


def all_slopes(g, x, y, p):
    """The gradients of all distances' sum with weights ``g``, in both matrices."""
    first, second = np.zeros(x.shape), np.zeros(y.shape)
    for i, a in enumerate(x.astype(float)):
        for j, b in enumerate(y.astype(float)):
            slope = g[i, j] * np.array(naive.norm_slope(a - b, p))
            first[i] += slope
            second[j] -= slope
    return first, second


@pytest.mark.parametrize(("p", "dtype", "lanes"), CASES)
def test_all_pairs(p, dtype, lanes):
    rows, columns, features = 9, 37, 70
    x, y, g = draw(rows, features, dtype=dtype), draw(columns, features, dtype=dtype, seed=1), draw(rows, columns)
    y[3] = x[2]  # no distance, and no gradient
    expected = all_pairs(x, y, p)
    for _, found in run_everywhere(distances.cdist, (x, y), lanes=lanes, p=p):
        close(found, expected, dtype)
    if p:
        given, slopes = (g.astype(dtype), x, y, expected.astype(dtype)), all_slopes(g, x, y, p)
        for _, got in run_everywhere(distances.cdist_backward, given, lanes=lanes, p=p):
            for found, slope in zip(got, slopes, strict=True):
                close(found, slope, dtype, 256)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_pairs_by_a_product(dtype):
    x, y = draw(2, 30, 53, dtype=dtype), draw(2, 26, 53, dtype=dtype, seed=1)
    for shift in (0, 100):  # far from the origin, where a product alone would lose all digits
        x, y = x + np.dtype(dtype).type(shift), y + np.dtype(dtype).type(shift)
        y[:, 3], y[:, 5] = x[:, 2], x[:, 2] * np.dtype(dtype).type(1 + 1e-4)
        expected = np.stack([all_pairs(a, b, 2) for a, b in zip(x, y, strict=True)])
        for _, found in run_everywhere(distances.cdist, (x, y), lanes=(16,), p=2.0, product=True):
            np.testing.assert_allclose(found, expected, rtol=40 * np.finfo(dtype).eps)
    x[0, 0, 7], x[0, 1, 50] = np.nan, -np.inf
    for _, found in run_everywhere(distances.cdist, (x, y), lanes=(16,), p=2.0, product=True):
        np.testing.assert_array_equal(found[0, :2], np.array([[np.nan], [np.inf]]) + np.zeros(26))
        np.testing.assert_allclose(found[1], expected[1], rtol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("p", "lanes"), [(2, (4,)), (math.inf, (8,))])
def test_pairs_of_one_matrix(p, lanes):
    x = draw(19, 6, dtype="float32")
    first, second = np.triu_indices(len(x), 1)
    expected = all_pairs(x, x, p)[first, second]
    for _, found in run_everywhere(distances.pdist, (x,), lanes=lanes, p=p):
        close(found, expected, "float32")
    g, whole = draw(len(expected), dtype="float32", seed=1), np.zeros((len(x), len(x)))
    whole[first, second] = g
    slope = sum(all_slopes(whole, x, x, p))
    for _, found in run_everywhere(distances.pdist_backward, (g, x, expected.astype("f")), lanes=lanes, p=p):
        close(found, slope, "float32", 256)


def test_batches_of_matrices():
    x, y = draw(3, 5, 6), draw(3, 7, 6, seed=1)
    expected = np.stack([all_pairs(a, b, 2) for a, b in zip(x, y, strict=True)])
    for _, found in run_everywhere(distances.cdist, (x, y), lanes=(8,), p=2.0):
        close(found, expected, "float64")


@pytest.mark.parametrize(("p", "dtype", "lanes"), [*CASES, (-math.inf, "float32", (16,))])
def test_norms(p, dtype, lanes):
    for shape, axes in (((3, 77), 1), ((2, 3, 5), 2), ((2, 4100), 1)):
        x, y = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype, seed=1)
        rows = int(np.prod(shape[: len(shape) - axes]))
        dim = tuple(range(len(shape) - axes, len(shape)))
        outer = (*shape[:-axes], *[1] * axes)
        cases = [(x, norms.vector_norm, (x,), {"ord": p, "dim": dim, "keepdim": True, "dtype": None})]
        if p == 2:
            shifted = x - y + np.dtype(dtype).type(0.25)
            cases.append((shifted, norms.distance, (x, y), {"p": p, "eps": 0.25, "axes": axes, "keepdim": True}))
        for d, planner, arrays, settings in cases:
            expected = np.array([naive.norm(row, p) for row in d.reshape(rows, -1)]).reshape(outer)
            for _, found in run_everywhere(planner, arrays, lanes=lanes, **settings):
                close(found, expected, dtype)


def test_products_of_rows():
    x, y = draw(3, 4100, dtype="float32"), draw(3, 4100, dtype="float32", seed=1)
    expected = [np.sum(a.astype(float) * b, -1) for a, b in ((x, y), (x, x), (y, y))]
    for _, found in run_everywhere(norms.inner_products, (x, y), lanes=(4,)):
        for one, sums in zip(found, expected, strict=True):
            close(one, sums, "float32", 64)


@pytest.mark.parametrize(("p", "lanes"), [(1.0, 4), (2.0, 4), (math.inf, 8), (3.5, 16)])
def test_what_is_not_a_number_or_infinite(p, lanes):
    x = np.zeros((2, 40), np.float32)
    x[0, 7], x[1, 39] = np.nan, -np.inf
    settings = {"ord": p, "dim": (1,), "keepdim": False, "dtype": None}
    for _, found in run_everywhere(norms.vector_norm, (x,), lanes=(lanes,), **settings):
        np.testing.assert_array_equal(found, [np.nan, np.inf])
    for _, found in run_everywhere(distances.cdist, (x, np.ones_like(x)), lanes=(lanes,), p=p):
        np.testing.assert_array_equal(found, [[np.nan] * 2, [np.inf] * 2])


def test_large_and_small_calls_agree():
    p = 2.0
    x, y = ag.tensor(draw(40, 30), requires_grad=True), ag.tensor(draw(50, 30, seed=1), requires_grad=True)

    def pieces(function, x, y):
        found = function(x, y)
        first = ag.autograd.grad(found.sum(), [x, y], create_graph=True)
        return [found, *first, *ag.autograd.grad((first[0] ** 2).sum(), [x, y])]

    large = pieces(lambda a, b: ag.cdist(a, b, p), x, y)
    small = pieces(lambda a, b: ag.linalg.vector_norm(a.unsqueeze(1) - b, p, -1), x, y)
    for found, expected in zip(large, small, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    first, second = np.triu_indices(40, 1)
    (found,) = ag.autograd.grad(ag.pdist(x, p).sum(), [x])
    (expected,) = ag.autograd.grad(ag.linalg.vector_norm(x[first] - x[second], p, -1).sum(), [x])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-10, atol=1e-10)
