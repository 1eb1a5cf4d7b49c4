"""Normalisation against the slow twin: rows, channels, columns, shapes of weights, lanes, threads, large means."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels.normalize import by_statistics, standardize, standardize_backward
from autograd_core.kernels.plan import execute

# (shape, dims, shape of weight and bias): layer, batch of images, batch of vectors, group, instance norm, no weights
CASES = [((900, 37), (1,), (37,)), ((40, 3, 5, 7), (0, 2, 3), (3, 1, 1)), ((900, 37), (0,), (37,)),
         ((3, 2, 4, 5, 7), (2, 3, 4), (2, 4, 1, 1)), ((9, 4, 50), (2,), (4, 1)), ((5, 3, 4), (0, 2), None)]


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, (8, 16)), (np.float64, (16,))])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("shape", "dims", "parameters"), CASES)
def test_forward_and_gradients(shape, dims, parameters, centred, dtype, lanes):
    x = normal(*shape, dtype=dtype) + dtype(2)
    weight, bias = (None, None) if parameters is None else [normal(*parameters, dtype=dtype, seed=k) for k in (1, 2)]
    settings = {"dims": dims, "eps": 1e-5, "centred": centred}
    expected = naive.standardize(x, weight, bias, **settings)
    bound = 60 * np.finfo(dtype).eps
    for _, got in run_everywhere(standardize, (x, weight, bias), lanes=lanes, **settings):
        np.testing.assert_allclose(got[0], expected, rtol=bound, atol=bound)
        if centred:
            np.testing.assert_allclose(got[1], np.mean(x, dims, np.float64, keepdims=True), rtol=bound)
            np.testing.assert_allclose(got[2], np.var(x, dims, np.float64, keepdims=True), rtol=bound)
    g, needs = normal(*shape, dtype=dtype, seed=3), (True, weight is not None, bias is not None)
    inputs = [x, weight, bias]
    found = run_everywhere(standardize_backward, (g, x, weight, got[3], got[4]), lanes=lanes[-1:], needs=needs,
                           bias_shape=parameters or (), **settings)
    for _, gradients in found:
        for k, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            if value is not None:
                direction = normal(*value.shape, dtype=np.float64, seed=4)

                def loss(changed, k=k):
                    return np.sum(g * naive.standardize(*inputs[:k], changed, *inputs[k + 1:], **settings))

                slope = naive.slope(loss, value.astype(np.float64), direction, 1e-5)
                near = 1e-6 if dtype == np.float64 else 1e-3
                np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=near, atol=near * np.sqrt(x.size))


def test_a_repeated_gradient_is_that_of_the_whole_array():
    for shape, dims, parameters in CASES:
        x, one = normal(*shape), np.ones((1,) * len(shape), np.float32)
        weight = None if parameters is None else normal(*parameters, seed=1)
        settings = {"dims": dims, "eps": 1e-5, "centred": True}
        got = execute(standardize, (x, weight, None), **settings)
        settings |= {"bias_shape": (), "needs": (True, weight is not None, False)}
        sent = np.broadcast_to(one, shape)
        for a, b in zip(execute(standardize_backward, (sent, x, weight, got[3], got[4]), **settings),
                        execute(standardize_backward, (sent.copy(), x, weight, got[3], got[4]), **settings),
                        strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "dims"), [((4, 9001), (1,)), ((9001, 40), (0,)), ((40, 3, 5, 7), (0, 2, 3))])
def test_a_large_mean_leaves_the_variance_exact(shape, dims):
    x = normal(*shape) + np.float32(3000)
    got = execute(standardize, (x, None, None), dims=dims, eps=0.0, centred=True)
    np.testing.assert_allclose(got[2], np.var(x, dims, np.float64, keepdims=True), rtol=1e-5)


def test_groups_are_seen_in_the_shape_of_channels():
    x, weight, bias, g = normal(3, 8, 5, 7), normal(8, seed=1), normal(8, seed=2), normal(3, 8, 5, 7, seed=3)
    image, own, settings = (3, 2, 4, 5, 7), (2, 4, 1, 1), {"dims": (2, 3, 4), "eps": 1e-5, "centred": True}
    got = execute(standardize, (x, weight, bias), seen=(image, own), **settings)
    whole = execute(standardize, (x.reshape(image), weight.reshape(own), bias.reshape(own)), **settings)
    np.testing.assert_array_equal(got[0], whole[0].reshape(x.shape))
    needs = (True, True, True)
    found = execute(standardize_backward, (g, x, weight, got[3], got[4]), bias_shape=(8,), needs=needs,
                    seen=(image, own), **settings)
    given = g.reshape(image), x.reshape(image), weight.reshape(own), got[3], got[4]
    expected = execute(standardize_backward, given, bias_shape=own, needs=needs, **settings)
    for a, b, shape in zip(found, expected, (x.shape, (8,), (8,)), strict=True):
        np.testing.assert_array_equal(a, b.reshape(shape))


def test_channels_by_given_statistics():
    x, mean, weight, bias = normal(4, 3, 5, 7), normal(3, seed=1), normal(3, seed=2), normal(3, seed=3)
    variance, each = np.exp(normal(3, seed=4)), (3, 1, 1)
    for w, b in ((weight, bias), (None, None)):
        expected = (x - mean.reshape(each)) / np.sqrt(variance.reshape(each) + 1e-5)
        expected = expected if w is None else expected * w.reshape(each) + b.reshape(each)
        for _, got in run_everywhere(by_statistics, (x, mean, variance, w, b), eps=1e-5):
            np.testing.assert_allclose(got, expected, 1e-5, 1e-5)


def test_what_is_not_served():
    x, settings = normal(4, 5, 6), {"eps": 1e-5, "centred": True}
    for array, weight, dims in ((x.T, None, (2,)), (x, normal(5, 1), (0, 2, 1)), (x, None, ()), (x[:0], None, (1,)),
                                (x, normal(6).astype(np.float64), (2,))):
        assert execute(standardize, (array, weight, None), dims=dims, **settings) is NotImplemented
