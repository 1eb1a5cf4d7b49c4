"""Sorting, the largest, the most frequent, and search against slow twins: ties, NaN, both zeros, integers, columns."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

import autograd_core as ag
from autograd_core.kernels import order, searching
from autograd_core.kernels.plan import execute

CASES = [((3, 7), 1, np.float32), ((70, 3), 0, np.float32), ((2, 90, 2), 1, np.float64), ((2, 300), 1, np.int64)]


def drawn(shape, dtype):
    """Numbers with ties; of floats, some of them NaN, infinite, or zeros of both signs."""
    rng = np.random.default_rng(0)
    x = np.round(9 * rng.standard_normal(shape)).astype(dtype)
    if x.dtype.kind == "f":
        x.flat[:5] = [np.nan, np.inf, -np.inf, -0.0, 0.0]
        x.flat[-2:] = [0.0, np.nan]
    else:
        x.flat[:2] = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    return x


def places(x, dim, descending):
    return np.apply_along_axis(lambda line: naive.ordered(line.tolist(), descending), dim, x)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("shape", "dim", "dtype"), CASES)
def test_sort_and_topk(shape, dim, dtype, descending):
    x = drawn(shape, dtype)
    expected = places(x, dim, descending)
    lanes = (4,) if dtype == np.float32 else (16,)
    for _, (values, indices) in run_everywhere(order.sort, (x,), lanes=lanes, dim=dim, descending=descending,
                                               stable=True):  # fmt: skip
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(x, expected, dim))
    np.testing.assert_array_equal(execute(order.argsort, (x,), dim=dim, descending=descending, stable=True), expected)
    for k in (1, shape[dim] // 5, shape[dim] // 2):
        settings = {"k": k, "dim": dim, "largest": descending, "sorted": True}
        for _, (values, indices) in run_everywhere(order.topk, (x,), lanes=(16,), **settings):
            np.testing.assert_array_equal(indices, np.take(expected, range(k), dim))
            np.testing.assert_array_equal(values, np.take_along_axis(x, indices, dim))


@pytest.mark.parametrize(("shape", "dim", "dtype"), CASES[1::2])
def test_mode(shape, dim, dtype):
    x = drawn(shape, dtype)
    expected = np.apply_along_axis(lambda line: naive.most_frequent(line.tolist()), dim, x)
    for _, (values, indices) in run_everywhere(order.mode, (x,), lanes=(16,), dim=dim, keepdim=False):
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(x, np.expand_dims(expected, dim), dim).squeeze(dim))


def test_many_lines_share_few_chunks():
    x = np.random.default_rng(0).integers(0, 9, (1000, 50)).astype(np.float32)
    expected = np.argsort(x, 1, kind="stable")
    for _, (_, indices) in run_everywhere(order.sort, (x,), lanes=(16,), dim=1, descending=False, stable=True):
        np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_search(dtype, right):
    x = drawn((4, 9), dtype)
    for size in (1, 3, 8):
        line = np.unique(np.array([-np.inf, -5, -1, 0, 0, 1, 7, np.inf], dtype)[:size])
        expected = [[naive.insertion_point(line, v, right) for v in values] for values in x.tolist()]
        for _, got in run_everywhere(searching.bucketize, (x, line), lanes=(4, 16), out_int32=False, right=right):
            np.testing.assert_array_equal(got, expected)
    lines = np.sort(x[:, 4:7], 1)
    lines = np.where(np.isnan(lines), np.inf, lines).astype(dtype)
    expected = [[naive.insertion_point(line, v, right) for v in values]
                for line, values in zip(lines, x.tolist(), strict=True)]
    settings = {"out_int32": False, "right": right, "side": None}
    for _, got in run_everywhere(searching.searchsorted, (lines, x, None), lanes=(16,), **settings):
        np.testing.assert_array_equal(got, expected)


def test_large_arrays_of_other_kinds_take_the_kernels_too():
    x = np.random.default_rng(0).integers(-50, 50, (60, 40))
    for array in (x, x.T, x.astype(np.float32).T, x.astype(np.int8)):
        values, indices = ag.sort(ag.tensor(array), 0)
        np.testing.assert_array_equal(indices.numpy(), np.argsort(array, 0, kind="stable"))
        np.testing.assert_array_equal(values.numpy(), np.sort(array, 0))
        distinct, inverse, counts = ag.unique(ag.tensor(array), return_inverse=True, return_counts=True)
        np.testing.assert_array_equal(distinct.numpy()[inverse.numpy()], array)
        np.testing.assert_array_equal(counts.numpy(), np.unique(array, return_counts=True)[1])
