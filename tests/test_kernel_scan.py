"""Running reductions against a slow twin: rows and columns, both directions, ties, NaN, infinities, lanes, threads."""
import math

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import scan
from autograd_core.kernels.plan import execute

CASES = [((5, 37), 1, np.float32), ((2, 40, 37), 1, np.float32), ((4, 21), 1, np.float64)]
LANES = {np.float32: (4,), np.float64: (16,)}
PAIRED = np.frompyfunc(lambda a, b: (a, b), 2, 1)


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(got, expected, ulps=4):
    bound = ulps * np.finfo(got.dtype).eps
    np.testing.assert_allclose(got, expected.astype(np.float64), rtol=bound, atol=bound * 10)


@pytest.mark.parametrize(("shape", "dim", "dtype"), CASES)
def test_sums_and_products(shape, dim, dtype):
    x = normal(*shape, dtype=dtype)
    add, times = (lambda v, e: v + float(e)), (lambda v, e: v * float(e))
    for _, got in run_everywhere(scan.cumsum, (x,), lanes=LANES[dtype], dim=dim):
        close(got, naive.running(add, x, dim, 0.0))
    for _, got in run_everywhere(scan.cumsum_from_end, (x,), lanes=(16,), dim=dim):
        close(got, naive.running(add, x, dim, 0.0, from_end=True))
    close(execute(scan.cumprod, (x,), dim=dim), naive.running(times, x, dim, 1.0), 60)
    x.flat[1:4] = 0
    others = [math.prod(line[:k] + line[k + 1:]) for line in np.moveaxis(x, dim, -1).reshape(-1, shape[dim]).tolist()
              for k in range(shape[dim])]
    expected = np.moveaxis(np.reshape(others, np.moveaxis(x, dim, -1).shape), -1, dim)
    for _, got in run_everywhere(scan.products_of_others, (x,), lanes=(16,), dim=dim):
        close(got, expected, 60)


@pytest.mark.parametrize(("shape", "dim", "dtype"), CASES[:2])
def test_log_sums_of_exponentials(shape, dim, dtype):
    x = 100 * normal(*shape, dtype=dtype)
    x.flat[:3], x.flat[-1] = -np.inf, np.inf
    for _, got in run_everywhere(scan.logcumsumexp, (x,), lanes=(16,), dim=dim):
        with np.errstate(invalid="ignore"):
            close(got, naive.running(lambda v, e: np.logaddexp(v, float(e)), x, dim, -math.inf))


@pytest.mark.parametrize(("shape", "dim", "dtype"), CASES[:2])
def test_recurrences(shape, dim, dtype):
    a, b = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    pairs = PAIRED(a, b)
    expected = naive.running(lambda v, pair: pair[1] + pair[0] * v, pairs, dim, 0.0, from_end=True)
    for _, got in run_everywhere(scan.backward_recurrence, (a, b), lanes=(16,), dim=dim):
        close(got, expected, 60)


@pytest.mark.parametrize(("shape", "dim", "dtype"), CASES)
@pytest.mark.parametrize("largest", [True, False])
def test_extremes_and_their_last_places(shape, dim, dtype, largest):
    def step(best, element):
        value = element[0]
        ahead = value >= best[0] if largest else value <= best[0]
        return element if math.isnan(value) or (not math.isnan(best[0]) and ahead) else best

    x = np.round(2 * normal(*shape, dtype=dtype))
    x.flat[0], x.flat[-2:-1] = -np.inf if largest else np.inf, np.nan
    places = np.broadcast_to(np.arange(shape[dim]).reshape([-1 if d == dim else 1 for d in range(x.ndim)]), shape)
    expected = naive.running(step, PAIRED(x, places), dim, (-math.inf if largest else math.inf, 0))
    planner = scan.cummax if largest else scan.cummin
    for _, (values, indices) in run_everywhere(planner, (x,), lanes=LANES[dtype], dim=dim):
        np.testing.assert_array_equal(values.ravel(), [value for value, _ in expected.flat])
        np.testing.assert_array_equal(indices.ravel(), [place for _, place in expected.flat])
        g = normal(*shape, dtype=dtype, seed=1)
        found = naive.put(g, naive.along(indices, dim), shape)
        for _, got in run_everywhere(scan.collect, (g, indices), lanes=LANES[dtype], dim=dim):
            close(got, found, 60)


def test_long_sums_are_as_exact_as_float32_can_hold():
    x = np.random.default_rng(0).random((2, 300_000), np.float32)
    close(execute(scan.cumsum, (x,), dim=1), np.cumsum(x, 1, np.float64), 1)
