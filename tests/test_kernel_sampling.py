"""Images resized, padded, rearranged and sampled at points, against the slow twins: lanes, threads, NaN."""

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

import autograd_core as ag
from autograd_core.kernels import rearrange, resample, sampling
from autograd_core.kernels.plan import execute
from autograd_core.ops.weighted import Table, even_table, window_means

RNG = np.random.default_rng(0)
TABLES = {
    "nearest": even_table(6, np.arange(20)[:, None] * 3 // 10),
    "linear": even_table(9, np.array([[0, 1], [2, 3], [4, 4], [7, 8]]), RNG.random((4, 2))),
    "means": window_means(40, 3),
    "wide": window_means(5, 70),
    "mirrored": even_table(30, np.array([2, 1, *range(30), 28, 27])[:, None]),
    "gaps": Table(33, np.array([0, 0, 2, 2, 5]), np.array([3, 30, 7, 8, 9]), RNG.random(5)),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_sums_by_a_table_along_each_dimension(name, turned):
    table = TABLES[name].turned if turned else TABLES[name]
    for dim in range(3):
        tables = tuple([table if d == dim else None for d in range(3)])
        x = RNG.standard_normal([2, *[t.size if t else n for t, n in zip(tables, (2, 3, 37), strict=True)]])
        expected = naive.weighted_sum(x, tables)
        for _, got in run_everywhere(resample.weighted_sum, (x.astype(np.float32),), lanes=(4, 16), tables=tables):
            np.testing.assert_allclose(got, expected, 1e-5, 1e-5)
        np.testing.assert_allclose(ag.ops.weighted_sum.record.function(x, tables=tables), expected, 1e-12, 1e-12)


def test_sums_by_tables_along_all_dimensions():
    tables = TABLES["linear"], window_means(7, 3).turned, TABLES["means"]
    x = RNG.standard_normal((3, 9, 3, 40))
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-13)):
        got = execute(resample.weighted_sum, (x.astype(dtype),), tables=tables)
        np.testing.assert_allclose(got, naive.weighted_sum(x, tables), tolerance, tolerance)
        assert got.dtype == dtype


def test_nothing_but_what_a_table_names_is_looked_at():
    x = np.full((1, 4, 33), np.nan, np.float32)
    x[..., [3, 30, 7, 8, 9]] = 1
    got = execute(resample.weighted_sum, (x,), tables=(TABLES["gaps"],))
    np.testing.assert_allclose(got, naive.weighted_sum(np.nan_to_num(x), (TABLES["gaps"],)), 1e-6)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_images_at_points_and_gradients(mode, padding_mode):
    x, grid = RNG.standard_normal((2, 3, 5, 7)), RNG.uniform(-2.3, 2.3, (2, 9, 17, 2))
    check_points(x, grid, mode, padding_mode, align_corners=padding_mode == "border")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_volumes_at_points_and_gradients(mode, align_corners):
    x, grid = RNG.standard_normal((1, 2, 3, 5, 4)), RNG.uniform(-1.6, 1.6, (1, 2, 9, 11, 3))
    check_points(x, grid, mode, "reflection", align_corners)


def check_points(x, grid, mode, padding_mode, align_corners):
    settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    expected = naive.grid_sample(x, grid, **settings)
    single, points = x.astype(np.float32), grid.astype(np.float32)
    near = naive.grid_sample(single, points, **settings)
    if mode != "nearest" and padding_mode == "zeros":
        for _, got in run_everywhere(sampling.grid_sample, (single, points), lanes=(4, 16), **settings):
            np.testing.assert_allclose(got, near, 1e-4, 1e-4)
    np.testing.assert_allclose(execute(sampling.grid_sample, (x, grid), **settings), expected, 1e-11, 1e-11)
    g, along, step = RNG.standard_normal(expected.shape), RNG.standard_normal(grid.shape), 1e-7
    dx, dgrid = execute(sampling.grid_sample_backward, (g, x, grid), needs=(True, True), **settings)
    direction = RNG.standard_normal(x.shape)
    np.testing.assert_allclose((dx * direction).sum(), (g * naive.grid_sample(direction, grid, **settings)).sum(), 1e-9)
    moved = [naive.grid_sample(x, grid + sign * step * along, **settings) for sign in (1, -1)]
    slope = (g * (moved[0] - moved[1])).sum() / (2 * step)
    np.testing.assert_allclose((dgrid * along).sum(), slope if mode != "nearest" else 0, 1e-5, 1e-5)


def test_points_that_are_no_numbers_and_pixels_outside_give_nothing():
    x, grid = np.full((1, 1, 2, 2), np.inf, np.float32), np.array([[[[np.nan, 0], [9, 9], [1e30, 0]]]], np.float32)
    found = execute(sampling.grid_sample, (x, grid), mode="bilinear", padding_mode="zeros", align_corners=False)
    assert (found == 0).all()


def test_half_precision_and_other_layouts_are_sampled():
    x, grid = RNG.standard_normal((1, 2, 4, 5)), RNG.uniform(-1, 1, (1, 3, 3, 2))
    expected = ag.nn.functional.grid_sample(ag.tensor(x), ag.tensor(grid), align_corners=False).numpy()
    half = ag.nn.functional.grid_sample(
        ag.tensor(x, dtype="float16"), ag.tensor(grid, dtype="float16"), align_corners=False
    )
    np.testing.assert_allclose(half.numpy(), expected, 0.05, 0.05)
    turned = ag.tensor(np.asfortranarray(x))
    np.testing.assert_allclose(
        ag.nn.functional.grid_sample(turned, ag.tensor(grid), align_corners=False).numpy(), expected
    )


PADS = [
    ((3, 40), ((1, 2), (3, 20))),
    ((2, 3, 4, 5), ((0, 0), (0, 0), (1, -1), (-2, 3))),
    ((4, 3, 6), ((2, 1), (0, 0), (0, 0))),
    ((2, 9, 17), ((1, 0), (0, 2), (-3, -4))),
]


@pytest.mark.parametrize(("shape", "widths"), PADS)
def test_a_value_around_arrays(shape, widths):
    x = RNG.standard_normal(shape).astype(np.float32)
    for _, got in run_everywhere(rearrange.pad_constant, (x,), lanes=(4, 16), widths=widths, value=1.5):
        np.testing.assert_array_equal(got, naive.framed(x, widths, 1.5))


ORDERS = [
    ((3, 4, 2, 3, 5), (0, 3, 1, 4, 2)),
    ((5, 70), (1, 0)),
    ((4, 6, 100), (1, 0, 2)),
    ((2, 3, 2, 2), (3, 2, 1, 0)),
    ((7, 9), (0, 1)),
]


@pytest.mark.parametrize(("split", "order"), ORDERS)
def test_dimensions_in_another_order(split, order):
    x = RNG.standard_normal(np.prod(split)).astype(np.float32)
    settings = {"split": split, "order": order, "shape": (x.size,)}
    for _, got in run_everywhere(rearrange.rearrange, (x,), lanes=(4, 16), **settings):
        np.testing.assert_array_equal(got, naive.rearranged(x, **settings))
