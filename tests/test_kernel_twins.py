"""Every kernel has a slow twin in `naive` that a test compares it with; those that only move or draw are here."""
import ast
import functools
import math
import pkgutil
from pathlib import Path

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere, strided_like

from autograd_core import kernels
from autograd_core.kernels import chances, constant, draws, elements, indexing, moves
from autograd_core.kernels.plan import execute

TWINS = {
    "bags": ("sums maxima spread dots", "bag_sums"),
    "adaptive_pool": ("window_maxima draw_windows", "largest_of_boxes"),
    "attention": ("pack_rows pack_panels forward backward row_dots unpad", "attention"),
    "chances": ("poisson choose", "poisson"),
    "constant": ("repeat", "repeated"),
    "conv_correlate": ("by_channels by_pixels", "convolution"),
    "conv_depthwise": ("correlate_planes sum_planes", "convolution"),
    "conv_last_tiles": ("correlate_tiles weight_tiles combine_tiles turn_images", "convolution"),
    "conv_prepare": ("frame_images pack_weights", "convolution"),
    "conv_weight": ("turn_gradients weight_sums combine weight_dots add_chunks", "convolution_weight"),
    "conv_winograd": ("transform_weights transform_images correlate_tiles correlate_panels", "convolution"),
    "cross_entropy": (
        "rows columns finish rows_backward columns_backward picked picked_backward", "cross_entropy"),
    "ctc": ("forward reduce_losses backward", "ctc"),
    "distances": ("pack pairs shares slabs pulls", "norm"),
    "distances_product": ("centre move close", "norm"),
    "definite": ("factor_corner extend_rows take_off", "cholesky"),
    "draws": ("draw draw_transformed", "draw"),
    "elementwise": ("combine", "fused_loop"),
    "embedding": ("gather scatter", "gather"),
    "factors": ("order_rows factor_small factor_block apply_block", "eliminated"),
    "fourier_lines": ("lines", "signal"),
    "fourier_long": ("begin columns rows finish", "half_spectrum"),
    "gemm": ("multiply pack pack_columns", "gemm"),
    "elements": ("take_each put_each", "put"),
    "householder": ("factor_columns reflect_rest form", "reflected"),
    "indexing": ("take put", "put"),
    "laying": ("lay", "eliminated"),
    "moves": ("move", "join"),
    "normalize": ("rows rows_backward_each rows_backward_runs", "standardize"),
    "normalize_channels": ("channels channels_scaled channels_backward", "standardize"),
    "normalize_columns": (
        "add_parts column_parts column_moments columns column_products columns_backward", "standardize"),
    "order": ("sort_lines top_lines mode_lines", "ordered"),
    "multilabel": ("hinges", "label_hinges"),
    "norms": ("segments roots products", "norm"),
    "pool": ("maxima sums spread fold place take", "max_pool"),
    "recurrent_steps": ("pack scan scan_back begin sum_biases lay_rows lay_before", "recurrent"),
    "reduce": ("reduce_rows reduce_columns log_sum_rows log_sum_columns place_rows place_columns", "reduced"),
    "searching": ("search_lines", "insertion_point"),
    "scan": ("scan_rows scan_columns extreme_rows extreme_columns collect_rows collect_columns", "running"),
    "rearrange": ("exchange frame", "rearranged"),
    "resample": ("weighted_rows", "weighted_sum"),
    "sampling": ("values_at_points spread_from_points slopes_at_points", "grid_sample"),
    "singular": ("bidiagonalise diagonalise", "singular"),
    "softmax": ("rows_forward rows_backward columns_forward columns_backward", "softmax"),
    "symmetric": ("tridiagonalise join_reflections diagonalise", "eigen"),
    "triangular": ("substitute", "substituted"),
    "variance": ("variance_runs moment_parts scale_variance", "reduced"),
}  # fmt: skip
"""By file: its kernels, and the twin of what their planners compute."""

WITHOUT = {
    "peak": "it multiplies the same tile again and again to be timed",
    "plan": "it binds arrays to the contexts of other kernels",
    "replay": "it runs other kernels in order",
    "threads": "they hand chunks of other kernels out",
}
"""Files whose kernels compute nothing of their own; test_kernel_runner looks at what they do."""


def range_kernels():
    """The names of all range kernels, by file."""
    found = {}
    for module in pkgutil.iter_modules(kernels.__path__):
        tree = ast.parse(Path(kernels.__path__[0], f"{module.name}.py").read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)
                 and any("range_kernel" in ast.dump(d) for d in node.decorator_list)}  # fmt: skip
        if names:
            found[module.name] = names
    return found


def test_every_kernel_has_a_twin():
    found = range_kernels()
    listed = {file: set(names.split()) for file, (names, _) in TWINS.items()}
    assert {file: names for file, names in found.items() if file not in WITHOUT} == listed
    assert set(WITHOUT) <= set(found)


@pytest.mark.parametrize("twin", sorted({twin for _, twin in TWINS.values()}))
def test_every_twin_is_compared_with(twin):
    texts = [file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py")]
    assert callable(getattr(naive, twin))
    assert any(f"naive.{twin}(" in text or f"import {twin}" in text for text in texts)


SEED, OFFSET = 0x1234_5678_9ABC_DEF0, (1 << 32) - 40  # the counters cross the border of 32 bits


@pytest.mark.parametrize(("name", "dtype", "settings"), [
    ("uniform01", np.float32, {}), ("uniform01", np.float64, {}), ("coins", np.bool_, {"probability": 0.3}),
    ("coins", np.float64, {"probability": 1.0}), ("normal01", np.float32, {}), ("normal01", np.float64, {}),
    ("exponential01", np.float32, {}), ("words", np.uint64, {}), ("integers", np.float32, {"low": -2, "high": 5}),
    ("integers", np.int64, {"low": -(10**12), "high": 1 << 61})])  # fmt: skip
def test_draws(name, dtype, settings):
    source = np.array([SEED, OFFSET], np.uint64).view(np.int64)
    expected = naive.draw(name, SEED, OFFSET, 2100, dtype, **settings)  # its first elements do not depend on its size
    bound = 8 * np.finfo(dtype).eps if name in ("normal01", "exponential01") else 0
    for size in (1, 17, 63, 64, 65, 2100):
        for _, got in run_everywhere(draws.plan_draw, (source,), lanes=(4, 16), shape=(size,), name=name,
                                     dtype=np.dtype(dtype), **settings):  # fmt: skip
            np.testing.assert_allclose(got, expected[:size].astype(dtype), rtol=bound, atol=bound)


@pytest.mark.parametrize("value", [np.float32(math.nan), np.float64(1.5), np.int8(-3), np.float16(2), np.bool_(True)])
def test_constants(value):
    for shape in ((1,), (5, 13), (300, 257)):
        for _, got in run_everywhere(constant.plan_constant, (np.array(value),), lanes=(4, 16), shape=shape):
            assert got.dtype == value.dtype
            np.testing.assert_array_equal(got, naive.repeated(value, shape))


def test_counts_and_picks_by_chance():
    source, rng = np.array([SEED, OFFSET], np.uint64).view(np.int64), np.random.default_rng(0)
    rates = np.concatenate([20 * rng.random(300), 1e4 * rng.random(200), [0, 10, math.inf, math.nan]])
    for size in (1, 17, rates.size):
        for _, got in run_everywhere(chances.plan_poisson, (source, rates[-size:]), lanes=(4, 16)):
            np.testing.assert_array_equal(got, naive.poisson(SEED, OFFSET, rates[-size:]))
    for shape in ((70, 3), (2, 200), (5, 64)):
        weights = rng.random(shape, np.float32) * (rng.random(shape) < 0.5)
        weights[:, 0] += 0.1
        marks = rng.random((shape[0], 6))
        marks[:, 4:] = 0, 1 - 2**-53
        for _, got in run_everywhere(chances.plan_choose, (weights, marks), lanes=(4, 16)):
            np.testing.assert_array_equal(got, naive.choose(weights, marks))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.int64])
@pytest.mark.parametrize("kind", ["C", "F", "gaps", "reversed", "offset"])
def test_joins_and_piles(kind, dtype):
    rng = np.random.default_rng(0)
    for shape, other, dim in (((3, 5), (4, 5), 0), ((3, 5), (3, 1), 1), ((3, 37, 5), (3, 2, 5), -2)):
        parts = [strided_like(rng.integers(0, 100, s).astype(dtype), kind) for s in (shape, other, shape)]
        for _, got in run_everywhere(moves.join, tuple(parts), lanes=(16,), dim=dim):
            np.testing.assert_array_equal(got, naive.join(parts, dim))
        same = (parts[0], parts[2])
        for _, got in run_everywhere(moves.pile, same, lanes=(16,), dim=dim):
            at = dim % (len(shape) + 1)
            np.testing.assert_array_equal(got, naive.join([np.expand_dims(a, at) for a in same], at))


def test_joins_of_many_chunks():
    x, y = np.random.default_rng(0).random((2, 70, 1001), np.float32)
    for _, got in run_everywhere(moves.join, (x, y[:, ::2]), lanes=(16,), dim=1):
        np.testing.assert_array_equal(got, naive.join([x, y[:, ::2]], 1))
    planner = functools.partial(moves.in_zeros, spec=(slice(None, None, -2), slice(1, None, 2)))
    for _, got in run_everywhere(planner, (x[:35, :500],), lanes=(16,), shape=x.shape):
        expected = np.zeros_like(x)
        expected[::-2, 1::2] = x[:35, :500]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", ["C", "F", "gaps", "reversed"])
def test_flips(kind):
    x = strided_like(np.random.default_rng(0).random((3, 130, 7), np.float32), kind)
    for dims in ((2,), (0, 1), (0, 1, 2)):
        for _, got in run_everywhere(moves.flip, (x,), lanes=(16,), dims=dims):
            np.testing.assert_array_equal(got, np.flip(x, dims))
            assert got.strides == np.empty_like(x).strides or kind not in ("C", "F")


def test_slices_written():
    x, part = np.random.default_rng(0).random((2, 40, 6, 50), np.float32)
    for index in ((slice(None), slice(1, None, 3)), (slice(None, None, -2), 4), (..., 5, slice(7))):
        value = part[index].copy()
        expected = x.copy()
        expected[index] = value
        planner = functools.partial(moves.write_slice, index=index)
        for _, got in run_everywhere(planner, (x, value), lanes=(16,)):
            np.testing.assert_array_equal(got, expected)


UFUNCS = {"set": None, "add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}


@pytest.mark.parametrize("how", UFUNCS)
def test_slices_and_elements_combined(how):
    """As NumPy's ufuncs at indices, NaN included; places that are set twice keep the last."""
    rng = np.random.default_rng(0)
    x, source = rng.standard_normal((6, 300, 9), np.float32), rng.standard_normal((6, 40, 9), np.float32)
    x[0, 5, 1] = source[1, 7, 2] = np.nan
    index, each = rng.integers(-300, 300, 40), rng.integers(0, 300, (6, 40, 9))
    places = np.broadcast_to(np.arange(6)[:, None, None], each.shape), each, np.broadcast_to(np.arange(9), each.shape)
    kernels = ((functools.partial(indexing.put_slices, how=how), (x, source, index), (slice(None), index)),
               (SCATTERS[how], (x, each, source), places))  # fmt: skip
    for planner, given, at in kernels:
        expected = x.copy()
        if how == "set":
            expected[at] = source
        else:
            UFUNCS[how].at(expected, at, source)
        for _, got in run_everywhere(planner, given, lanes=(16,), dim=1):
            np.testing.assert_array_equal(got, expected)


SCATTERS = {"set": elements.scatter_set, "add": elements.scatter_sum, "multiply": elements.scatter_prod,
            "maximum": elements.scatter_max, "minimum": elements.scatter_min}  # fmt: skip


def test_elements_of_a_smaller_index_and_strided_arrays():
    rng = np.random.default_rng(0)
    x, index = strided_like(rng.random((7, 9, 11)), "gaps"), rng.integers(0, 9, (5, 20, 11))[:, :, ::2]
    pairs = list(naive.along(index, 1))
    for _, got in run_everywhere(elements.gather, (x, index), lanes=(16,), dim=1):
        np.testing.assert_array_equal(got, naive.take(x, pairs, index.shape))
    g = strided_like(rng.random(index.shape), "F")
    for _, got in run_everywhere(elements.scatter_in_zeros, (g, index), lanes=(16,), shape=x.shape, dim=1):
        np.testing.assert_allclose(got, naive.put(g, pairs, x.shape), rtol=1e-12)


def test_moves_that_are_not_served():
    x = np.zeros((4, 4), [("x", "f4"), ("y", "i2")])["x"]  # strides of 6 bytes
    assert execute(moves.join, (x, x), dim=0) is NotImplemented
    assert execute(moves.join, (x.copy(), np.zeros((4, 4))), dim=0) is NotImplemented


@pytest.mark.parametrize(("shape", "count", "first"), [((5, 7), 1, 0), ((3, 5, 4, 2), 2, 1), ((40, 9), 1, 1)])
def test_slices_picked_and_put_back(shape, count, first):
    rng = np.random.default_rng(0)
    indices = [rng.integers(-shape[first + i], shape[first + i], (3, 11)) for i in range(count)]
    spec = (*[None] * first, *"ab"[:count])
    x, pairs = rng.random(shape, np.float32), list(naive.picked(indices, first, shape))
    found = (*shape[:first], 3, 11, *shape[first + count:])
    for _, got in run_everywhere(functools.partial(indexing.pick, spec=spec), (x, *indices), lanes=(16,)):
        np.testing.assert_array_equal(got, naive.take(x, pairs, found))
    g = rng.random(found, np.float32)
    planner = functools.partial(indexing.in_zeros, spec=spec)
    for _, got in run_everywhere(planner, (g, *indices), lanes=(16,), shape=shape):
        np.testing.assert_allclose(got, naive.put(g, pairs, shape), rtol=1e-5)


@pytest.mark.parametrize(("shape", "length", "dim"), [((5, 7), 9, 0), ((3, 5, 4), 2, 1), ((600, 33), 40, 1)])
def test_elements_gathered_and_scattered(shape, length, dim):
    rng = np.random.default_rng(0)
    found = (*shape[:dim], length, *shape[dim + 1:])
    x, g, index = rng.random(shape), rng.random(found), rng.integers(0, shape[dim], found)
    pairs = list(naive.along(index, dim))
    for _, got in run_everywhere(elements.gather, (x, index), lanes=(16,), dim=dim):
        np.testing.assert_array_equal(got, naive.take(x, pairs, found))
    for _, got in run_everywhere(elements.scatter_in_zeros, (g, index), lanes=(16,), shape=shape, dim=dim):
        np.testing.assert_allclose(got, naive.put(g, pairs, shape), rtol=1e-12)
