"""Softmax, log-softmax and cross-entropy against slow twins: rows and columns, lanes, threads, NaN, missing classes."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels.cross_entropy import softmax_nll, softmax_nll_backward
from autograd_core.kernels.plan import execute
from autograd_core.kernels.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

SHAPES = [((3000, 37), 1), ((5, 7), 1), ((2, 9, 37), 1)]  # rows in several chunks, short rows, columns


def normal(*shape, dtype=np.float32, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def close(got, expected, dtype, factor=20):
    bound = factor * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, (4, 8, 16)), (np.float64, (16,))])
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_softmax_and_its_logarithm(shape, dim, dtype, lanes):
    x, g = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    y = naive.softmax(x, dim)
    for _, got in run_everywhere(softmax, (x,), lanes=lanes, dim=dim):
        close(got, y, dtype)
    for _, got in run_everywhere(log_softmax, (x,), lanes=lanes, dim=dim):
        close(got, np.log(y), dtype)
    for sent in (g, np.broadcast_to(g.flat[0], g.shape)):
        expected = y * (sent - np.sum(y * sent, dim, keepdims=True))
        for _, got in run_everywhere(softmax_backward, (sent, y.astype(dtype)), lanes=lanes[-1:], dim=dim):
            close(got, expected, dtype, 100)
        expected = sent - y * np.sum(sent, dim, keepdims=True, dtype=np.float64)
        for _, got in run_everywhere(log_softmax_backward, (sent, np.log(y).astype(dtype)), lanes=lanes[-1:], dim=dim):
            close(got, expected, dtype, 1000)


def test_nan_and_infinity():
    x = normal(4, 40)
    x[1, 3], x[2, 3], x[3, 3:] = np.nan, np.inf, -np.inf
    got = execute(softmax, (x,), dim=1)
    assert np.isnan(got).any(1).tolist() == [False, True, True, False]
    close(got[3], naive.softmax(x[3:], 1)[0], np.float32)


def test_what_is_not_served():
    x = normal(4, 40)
    for other in (x.T, x.astype(">f4"), x.astype(np.float16)):
        assert execute(softmax, (other,), dim=1) is NotImplemented
    assert execute(softmax, (x[:0],), dim=1).shape == (0, 40)


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, (4, 16)), (np.float64, (16,))])
@pytest.mark.parametrize("shape", [(700, 37), (2, 5, 3, 21)])
@pytest.mark.parametrize(("weighted", "smoothing", "reduction"), [
    (False, 0.0, "mean"), (True, 0.1, "none"), (True, 0.1, "sum")])
def test_cross_entropy(shape, dtype, lanes, weighted, smoothing, reduction):
    draw = np.random.default_rng(3)
    x = normal(*shape, dtype=dtype)
    target = draw.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[::7] = -100
    weight = draw.random(shape[1]).astype(dtype) + 1 if weighted else None
    settings = {"ignore_index": -100, "label_smoothing": smoothing, "reduction": reduction}
    expected = naive.cross_entropy(x, target, weight, **settings)
    for _, got in run_everywhere(softmax_nll, (x, target, weight), lanes=lanes, **settings):
        close(got[0], expected, dtype, 100)
        close(got[1], np.log(np.sum(np.exp(x.astype(np.float64)), 1, keepdims=True)), dtype)
    g, direction = draw.standard_normal(np.shape(expected)).astype(dtype), normal(*shape, dtype=np.float64, seed=5)

    def loss_of(value):
        return np.sum(g * naive.cross_entropy(value, target, weight, **settings))

    slope = naive.slope(loss_of, x.astype(np.float64), direction, 1e-5)
    given = (np.asarray(g), x, target, weight, *got[1:])
    for _, got in run_everywhere(softmax_nll_backward, given, lanes=lanes[-1:], **settings):
        bound = 1e-6 if dtype == np.float64 else 2e-4
        np.testing.assert_allclose(np.sum(got * direction), slope, rtol=bound, atol=bound * np.sqrt(x.size))


def test_classes_that_do_not_exist_give_nan():
    for shape in ((5, 3), (5, 3, 2)):
        target = np.zeros((5, *shape[2:]), np.int64)
        target.flat[2] = 3
        settings = {"ignore_index": -100, "label_smoothing": 0.0, "reduction": "sum"}
        assert np.isnan(execute(softmax_nll, (normal(*shape), target, None), **settings)[0])
