"""Convolution of images whose channels lie last: the same numbers as with channels first, and the way between both."""
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import conv_last, host
from autograd_core.kernels.plan import Array, execute
from autograd_core.registry import OPS

FIRST = {name: OPS[f"internal.{name}"].function for name in ("convolution", "convolution_input", "convolution_weight")}
"""The bodies of the records in NumPy, for channels first."""

CASES = {  # batch, channels, outputs, size, padding
    "even": (3, 16, 32, (8, 8), (1, 1)),
    "odd": (2, 32, 16, (7, 9), (1, 0)),
    "wide padding": (1, 16, 16, (5, 4), (2, 2)),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def check(planner, arrays, wanted, *, lanes=(4,), atol=1e-4, **static):
    for _, found in run_everywhere(planner, arrays, lanes=lanes, **static):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_with_channels_first(case):
    batch, channels, outputs, size, padding = CASES[case]
    x, w, b = normal(batch, channels, *size), normal(outputs, channels, 3, 3, seed=1), normal(outputs, seed=2)
    rest = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    y = FIRST["convolution"](x, w, b, **rest)
    g = normal(*y.shape, seed=3)
    dx = FIRST["convolution_input"](g, w, size=size, **rest)
    dw = FIRST["convolution_weight"](g, x, kernel_size=(3, 3), **rest)
    lanes = (4, host.lanes(np.dtype(np.float32))) if case == "even" else (4,)
    check(conv_last.plan_convolution, (last(x), w, b), last(y), lanes=lanes, padding=padding)
    check(conv_last.plan_convolution_input, (last(g), w), last(dx), size=size, padding=padding)
    check(conv_last.plan_convolution_weight, (last(g), last(x)), dw, lanes=lanes, atol=2e-4, padding=padding)


def test_many_units_and_chunks():
    x, w = normal(40, 32, 8, 8), normal(32, 32, 3, 3, seed=1)
    rest = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    y = FIRST["convolution"](x, w, None, **rest)
    found = execute(conv_last.plan_convolution, (last(x), w, None), padding=(1, 1))
    np.testing.assert_allclose(found, last(y), rtol=1e-4, atol=1e-4)
    dw = FIRST["convolution_weight"](y, x, kernel_size=(3, 3), **rest)
    found = execute(conv_last.plan_convolution_weight, (last(y), last(x)), padding=(1, 1))
    np.testing.assert_allclose(found, dw, rtol=1e-4, atol=1e-3 * np.abs(dw).max())


def test_what_is_not_served():
    shape, f = (2, 32, 8, 8), np.dtype(np.float32)
    assert conv_last.served(shape, 32, (3, 3), (1, 1), f)
    assert not conv_last.served((2, host.lanes(f) + 1, 8, 8), 32, (3, 3), (1, 1), f)
    assert not conv_last.served(shape, 32, (5, 5), (1, 1), f)
    assert not conv_last.served(shape, 32, (3, 3), (1, 1), np.dtype(np.float64))
    assert not conv_last.served((2, 32, 1, 8), 32, (3, 3), (0, 1), f)
    x = Array(shape, (8192, 4, 1024, 128), f)
    assert conv_last.plan_convolution(x, Array((32, 32, 3, 3), (1152, 36, 12, 4), f), None, padding=(1, 1)) is None


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (3, 5, 7, 3), (1, 33, 1, 1)])
def test_images_are_turned_and_turned_back(shape):
    x = normal(*shape)
    check(conv_last.turn, (x,), last(x), atol=0, last=True)
    check(conv_last.turn, (last(x),), x, atol=0, last=False)
