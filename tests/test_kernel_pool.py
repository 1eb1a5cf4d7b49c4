"""Pooling against the slow twins: windows, ties, NaN, lanes, threads."""

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import adaptive_pool, pool
from autograd_core.kernels.plan import execute

CASES = {  # shape, kernel, stride, padding, dilation, ceil_mode
    "2x2": ((3, 2, 8, 10), (2, 2), (2, 2), (0, 0), (1, 1), False),
    "3x3, stride 2": ((2, 3, 9, 35), (3, 3), (2, 2), (1, 1), (1, 1), False),
    "ceil": ((2, 2, 9, 12), (3, 3), (2, 2), (1, 1), (1, 1), True),
    "overlapping": ((2, 2, 7, 21), (3, 4), (1, 1), (1, 2), (1, 1), False),
    "dilation": ((1, 2, 11, 23), (2, 5), (3, 1), (1, 2), (2, 1), True),
    "stride 5": ((1, 2, 6, 90), (2, 2), (1, 5), (0, 1), (1, 1), False),
    "whole plane": ((2, 3, 6, 20), (6, 20), (6, 20), (0, 0), (1, 1), False),
    "1-d": ((2, 3, 40), (3,), (3,), (1,), (2,), True),
    "3-d": ((2, 2, 5, 7, 12), (2, 3, 2), (3, 1, 2), (1, 0, 1), (1, 1, 1), True),
}


def values(shape, kind, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    if kind == "ties":
        return rng.integers(-2, 3, shape).astype(dtype)
    if kind == "special":
        x[rng.random(shape) < 0.1], x[rng.random(shape) < 0.3] = np.nan, -np.inf
    return x


@pytest.mark.parametrize("kind", ["normal", "ties", "special"])
@pytest.mark.parametrize("case", CASES)
def test_maxima_and_their_indices(case, kind):
    shape, kernel, stride, padding, dilation, ceil_mode = CASES[case]
    x = values(shape, kind)
    static = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    expected = naive.max_pool(x, **static)
    for _, got in run_everywhere(pool.plan_max_pool, (x,), **static):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, (4, 8, 16)), (np.float64, (16,))])
@pytest.mark.parametrize("case", CASES)
def test_sums_of_windows_and_their_adjoint(case, dtype, lanes):
    shape, kernel, stride, padding, _, ceil_mode = CASES[case]
    x, tolerance = values(shape, "normal", dtype), 50 * np.finfo(dtype).eps
    static = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    expected = naive.window_sum(x, **static)
    for _, got in run_everywhere(pool.plan_window_sum, (x,), lanes=lanes, **static):
        np.testing.assert_allclose(got, expected, tolerance, tolerance)
        assert got.dtype == dtype
    g = values(expected.shape, "normal", dtype)
    expected = naive.window_spread(g, shape[2:], **static)
    for _, got in run_everywhere(pool.plan_window_spread, (g,), lanes=lanes, size=shape[2:], **static):
        np.testing.assert_allclose(got, expected, tolerance, tolerance)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), [
    ((9, 40), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((7, 23), (2, 4), (2, 3), (1, 2), (2, 1)),
    ((4, 5), (2, 3), (1, 2), (0, 2), (1, 2)),
])  # fmt: skip
def test_columns_are_added_up(size, kernel, stride, padding, dilation):
    static = {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    positions = np.prod(naive.window_count(size, kernel, stride, padding, dilation))
    x = values((2, 3 * np.prod(kernel), positions), "normal")
    for _, got in run_everywhere(pool.plan_fold, (x,), **static):
        np.testing.assert_allclose(got, naive.fold(x, **static), 1e-5, 1e-5)


def test_elements_are_added_at_their_indices():
    x = values((2, 3, 9, 5), "normal")
    indices = np.random.default_rng(1).integers(0, 20, x.shape)
    expected = naive.place_at(x, indices, (4, 5))
    for _, got in run_everywhere(pool.plan_place_at, (x, indices), size=(4, 5)):
        np.testing.assert_allclose(got, expected, 1e-5, 1e-5)


def test_elements_are_put_at_their_indices_and_taken_from_there():
    x = values((2, 3, 3, 5), "normal")
    indices = np.random.default_rng(1).permutation(20)[:15].reshape(3, 5) + np.zeros((2, 3, 1, 1), np.int64)
    for _, got in run_everywhere(pool.plan_unpool, (x, indices), size=(4, 5)):
        np.testing.assert_array_equal(got, naive.place_at(x, indices, (4, 5)))
        np.testing.assert_array_equal(execute(pool.plan_take_at, (got, indices), rank=2), x)


@pytest.mark.parametrize("kind", ["normal", "ties", "special"])
@pytest.mark.parametrize(("shape", "out"), [((2, 3, 7, 40), (3, 2)), ((2, 2, 45), (4,)), ((1, 2, 4, 5, 6), (2, 7, 3))])
def test_maxima_of_windows_that_share_a_plane_out(shape, out, kind):
    x = values(shape, kind)
    edges = [([i * n // o for i in range(o)], [-(-(i + 1) * n // o) for i in range(o)])
             for n, o in zip(shape[2:], out, strict=True)]  # fmt: skip
    for _, (best, winner) in run_everywhere(adaptive_pool.adaptive_max_pool, (x,), output_size=out):
        for place in np.ndindex(shape[:2]):
            for a, b in zip((best[place], winner[place]), naive.largest_of_boxes(x[place], edges), strict=True):
                np.testing.assert_array_equal(a, b)


def test_maxima_of_windows_at_steps_that_are_drawn():
    x, draws = values((3, 2, 9, 20), "ties"), np.random.default_rng(1).random((3, 2, 2)).astype(np.float32)
    static = {"kernel_size": (2, 3), "output_size": (4, 7)}
    for _, (best, winner) in run_everywhere(adaptive_pool.fractional_max_pool, (x, draws), lanes=(8,), **static):
        for place in np.ndindex(3, 2):
            edges = []
            for n, k, o, u in zip((9, 20), (2, 3), (4, 7), draws[place].astype(float), strict=True):
                step = (n - k) / (o - 1)
                first = [int((i + u) * step) - int(u * step) for i in range(o - 1)] + [n - k]
                edges.append((first, [f + k for f in first]))
            for a, b in zip((best[place], winner[place]), naive.largest_of_boxes(x[place], edges), strict=True):
                np.testing.assert_array_equal(a, b)


def test_maxima_without_their_indices():
    x = values((2, 3, 9, 35), "special")
    static = {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "ceil_mode": False}
    for _, got in run_everywhere(pool.plan_largest, (x,), lanes=(8,), **static):
        np.testing.assert_array_equal(got, naive.max_pool(x, **static)[0])


def test_no_planes():
    static = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil_mode": False}
    out, indices = execute(pool.plan_max_pool, (values((0, 3, 4, 4), "normal"),), dilation=(1, 1), **static)
    assert out.shape == indices.shape == (0, 3, 2, 2)
    assert execute(pool.plan_window_sum, (values((0, 3, 4, 4), "normal"),), **static).shape == (0, 3, 2, 2)


def test_what_is_not_served_is_left_to_others():
    static = {"kernel_size": (2, 9), "stride": (2, 9), "padding": (0, 0), "ceil_mode": False}
    for x in (
        values((1, 1, 4, 40), "normal"),
        values((1, 1, 4, 40), "normal", np.float16),
        np.asfortranarray(values((2, 3, 4, 40), "normal")),
    ):
        assert execute(pool.plan_window_sum, (x,), **static) is NotImplemented
