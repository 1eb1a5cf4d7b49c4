"""Reductions and embeddings against NumPy in float64 and slow twins: groups of dims, NaN, places, lanes, threads."""
import math

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import reduce, variance
from autograd_core.kernels.embedding import embedding_backward, lookup
from autograd_core.kernels.plan import execute

CASES = [((5, 37), (1,)), ((600, 70), (0,)), ((600, 7), (0,)), ((50001,), (0,)), ((3, 4, 5, 6), (0, 2)),
         ((3, 4, 5, 6), (1, 2)), ((2, 3, 20001), (0, 2)), ((150, 7), (1,))]


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, (4, 16)), (np.float64, (16,))])
@pytest.mark.parametrize(("shape", "dims"), CASES)
def test_sum(shape, dims, dtype, lanes):
    x = normal(*shape, dtype=dtype)
    total, bound = naive.reduced(math.fsum, x, dims), 30 * np.finfo(dtype).eps
    for _, got in run_everywhere(reduce.sum, (x,), lanes=lanes, dim=dims, keepdim=True, dtype=None):
        np.testing.assert_allclose(got, np.expand_dims(total, dims), rtol=bound, atol=bound * 100)


@pytest.mark.parametrize(("shape", "dims"), CASES)
def test_mean_product_and_extremes(shape, dims):
    x = normal(*shape)
    total, bound = naive.reduced(math.fsum, x, dims), 30 * np.finfo(np.float32).eps
    for _, got in run_everywhere(reduce.mean, (x,), lanes=(16,), dim=dims, keepdim=False, dtype=None):
        np.testing.assert_allclose(got, total * total.size / x.size, rtol=bound, atol=bound)
    y = 1 + x / 100
    for _, got in run_everywhere(reduce.prod, (y,), lanes=(16,), dim=dims[0], keepdim=False, dtype=None):
        np.testing.assert_allclose(got, naive.reduced(math.prod, y, dims[:1]), rtol=1e-6)
    x.flat[3] = np.nan
    for _, got in run_everywhere(reduce.amax, (x,), lanes=(8,), dim=dims, keepdim=False):
        np.testing.assert_array_equal(got, np.max(x, dims))
    np.testing.assert_array_equal(execute(reduce.amin, (x,), dim=dims, keepdim=False), np.min(x, dims))


@pytest.mark.parametrize(("shape", "dims", "dtype"), [(*CASES[2], np.float32), (*CASES[4], np.float64)])
def test_counts_and_sums_without_nan(shape, dims, dtype):
    x = np.round(normal(*shape, dtype=dtype))
    for _, got in run_everywhere(reduce.count_nonzero, (x,), lanes=(16,), dim=dims):
        np.testing.assert_array_equal(got, naive.reduced(lambda values: sum(v != 0 for v in values), x, dims))
    np.testing.assert_array_equal(execute(reduce.count_nonzero, (x.astype(np.int64),), dim=dims), got)
    x.flat[::3] = np.nan
    total = naive.reduced(lambda values: math.fsum(v for v in values if not math.isnan(v)), x, dims)
    for _, got in run_everywhere(reduce.nansum, (x,), lanes=(16,), dim=dims, keepdim=False, dtype=None):
        np.testing.assert_allclose(got, total)
    present = naive.reduced(lambda values: sum(not math.isnan(v) for v in values), x, dims)
    for _, got in run_everywhere(reduce.count_present, (x,), lanes=(16,), dim=dims, keepdim=False):
        np.testing.assert_array_equal(got, present)


@pytest.mark.parametrize(("shape", "dims", "dtype"), [
    ((6, 37), (1,), np.float32), ((37, 6), (1,), np.float32), ((60, 37), (0,), np.float32),
    ((3, 4, 5, 6), (1, 2), np.float64)])
def test_log_sums_of_exponentials(shape, dims, dtype):
    x = 50 * normal(*shape, dtype=dtype)
    x.flat[0] = np.inf
    x[1:2] = -np.inf
    x.flat[-1] = np.nan
    settings = {"dim": dims, "keepdim": True}
    with np.errstate(invalid="ignore"):
        expected = np.expand_dims(naive.reduced(lambda values: np.logaddexp.reduce(np.array(values)), x, dims), dims)
    for _, got in run_everywhere(reduce.logsumexp, (x,), lanes=(16,), **settings):
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps)


def test_long_sums_lose_no_more_than_pairwise_ones():
    x = np.random.default_rng(0).random(3_000_000, np.float32)
    exact = np.sum(x, dtype=np.float64)
    assert abs(float(execute(reduce.sum, (x,), dim=(0,), keepdim=False, dtype=None)) - exact) < 3e-7 * exact


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "dims"), [((5, 37), (1,)), ((600, 37), (0,)), ((40, 3, 5), (0, 2)),
                                            ((2, 40001), (1,))])
def test_variance(shape, dims, dtype):
    x = normal(*shape, dtype=dtype) + dtype(100)
    settings = {"dim": dims, "unbiased": None, "keepdim": False, "correction": 1}
    expected = naive.reduced(naive.variance, x, dims)
    for _, got in run_everywhere(variance.var, (x,), lanes=(16,), **settings):
        np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(execute(variance.std, (x,), **settings), np.sqrt(expected), rtol=1e-5)


@pytest.mark.parametrize(("shape", "dim"), [((5, 101), 1), ((50, 6), 1), ((7, 37), 0), ((3, 9, 5), 1), ((900,), None)])
def test_places_are_the_first_of_equals_and_nan_wins(shape, dim):
    x = np.round(2 * normal(*shape))
    for value in (None, np.nan):
        if value is not None:
            x.flat[[3, -1]] = value
        places = naive.reduced(naive.place_of_largest, x, range(x.ndim) if dim is None else (dim,))
        for _, got in run_everywhere(reduce.argmax, (x,), lanes=(4, 16), dim=dim, keepdim=False):
            np.testing.assert_array_equal(got, places)
        for _, got in run_everywhere(reduce.argmin, (x,), lanes=(16,), dim=dim, keepdim=False):
            np.testing.assert_array_equal(got, np.argmin(x, dim))
    if dim is not None:
        values, indices = execute(reduce.max_along, (x,), dim=dim, keepdim=True)
        np.testing.assert_array_equal(values, np.max(x, dim, keepdims=True))
        np.testing.assert_array_equal(indices, np.argmax(x, dim, keepdims=True))


def test_what_is_not_served():
    x = normal(4, 5)
    for array, dims in ((x[:, ::2], (0,)), (x[:0], (1,)), (x, ()), (x.astype(np.int32), (1,)), (x[::-1], (0,))):
        assert execute(reduce.sum, (array,), dim=dims, keepdim=False, dtype=None) is NotImplemented


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(0,), (2,), (1, 3), (0, 2, 3)])
def test_dims_in_another_order(dims, keepdim):
    x = normal(3, 5, 4, 7).transpose(0, 3, 1, 2)
    found = execute(reduce.sum, (x,), dim=dims, keepdim=keepdim, dtype=None)
    np.testing.assert_allclose(found, np.sum(x, dims, keepdims=keepdim), rtol=1e-5, atol=1e-5)
    assert found.strides == np.add.reduce(x, dims, keepdims=keepdim).strides or 1 in found.shape
    counts = execute(reduce.count_nonzero, (np.round(x),), dim=dims)
    np.testing.assert_array_equal(counts, np.count_nonzero(np.round(x), dims))
    settings = {"dim": dims, "unbiased": None, "keepdim": keepdim, "correction": 1}
    found = execute(variance.var, (x,), **settings)
    if found is not NotImplemented:
        np.testing.assert_allclose(found, np.var(x, dims, ddof=1, keepdims=keepdim), rtol=1e-4)


@pytest.mark.parametrize("width", [1, 21, 64])
def test_embedding_and_its_gradient(width):
    draw = np.random.default_rng(0)
    indices, table = draw.integers(0, 11, (40, 9)), normal(11, width)
    for _, got in run_everywhere(lookup, (indices, table), lanes=(4, 16), padding_idx=-1, scale_grad_by_freq=False):
        np.testing.assert_array_equal(got, naive.gather(indices, table))
    g = normal(40, 9, width, seed=1)
    settings = {"rows": 11, "padding_idx": 3, "scale_grad_by_freq": False}
    for _, got in run_everywhere(embedding_backward, (g, indices), lanes=(4, 16), **settings):
        np.testing.assert_allclose(got, naive.add_rows(g, indices, 11, 3), rtol=1e-5, atol=1e-5)
    turned = np.ascontiguousarray(g.swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_array_equal(execute(embedding_backward, (turned, indices), **settings),
                                  execute(embedding_backward, (g, indices), **settings))


def test_rows_that_do_not_exist_are_zeros():
    indices, table = np.array([0, -1, 5]), normal(5, 7)
    got = execute(lookup, (indices, table), padding_idx=-1, scale_grad_by_freq=False)
    np.testing.assert_array_equal(got, naive.gather(indices, table))
