"""Convolution and its gradients against the slow twins: sizes, settings, layouts, lanes, threads."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import conv, host
from autograd_core.kernels.plan import Array, execute

CASES = {  # batch, channels, outputs, size, kernel, stride, padding, dilation, groups
    "lenet 1": (3, 1, 6, (12, 12), (5, 5), (1, 1), (2, 2), (1, 1), 1),
    "lenet 2": (3, 6, 16, (9, 9), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    "square 3x3": (2, 16, 16, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "odd channels": (2, 19, 37, (7, 5), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stride 2": (2, 3, 20, (13, 14), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "stem": (1, 3, 9, (17, 20), (7, 7), (2, 2), (3, 3), (1, 1), 1),
    "one tap": (2, 20, 35, (7, 9), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "one tap, stride": (2, 4, 6, (9, 9), (1, 1), (3, 2), (0, 0), (1, 1), 1),
    "depthwise": (2, 6, 6, (9, 7), (3, 3), (1, 1), (1, 1), (1, 1), 6),
    "depthwise, stride": (2, 5, 10, (9, 8), (3, 3), (2, 2), (1, 1), (1, 1), 5),
    "wide planes": (2, 5, 5, (11, 37), (3, 5), (1, 1), (1, 2), (1, 1), 5),
    "groups": (2, 12, 20, (6, 7), (3, 2), (1, 1), (1, 0), (1, 1), 2),
    "dilation": (2, 4, 6, (11, 12), (3, 2), (1, 1), (2, 0), (2, 3), 1),
    "stride and dilation": (2, 4, 6, (13, 15), (3, 3), (3, 2), (2, 1), (2, 2), 1),
    "padding beyond the kernel": (1, 2, 5, (5, 6), (2, 2), (1, 1), (3, 2), (1, 1), 1),
    "stride beyond the kernel": (1, 2, 5, (11, 10), (2, 1), (4, 3), (1, 0), (1, 1), 1),
    "one pixel": (1, 3, 5, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "wide kernel": (1, 2, 5, (4, 30), (2, 11), (1, 1), (0, 5), (1, 1), 1),
    "1-d": (2, 4, 6, (40,), (4,), (3,), (2,), (2,), 2),
    "3-d": (2, 4, 6, (5, 7, 6), (3, 2, 3), (2, 1, 2), (1, 0, 1), (1, 2, 2), 2),
}


WIDE = {"lenet 1", "odd channels"}  # tested with 4, 8 and 16 lanes, each machine code of its own
DOUBLE = ("odd channels", "depthwise")  # tested in double precision, too


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def settings(case):
    return dict(zip(("stride", "padding", "dilation", "groups"), CASES[case][5:], strict=True))


def operands(case, dtype):
    n, c, o, size, kernel, *_ = CASES[case]
    x, w = normal(n, c, *size, dtype=dtype), normal(o, c // CASES[case][8], *kernel, dtype=dtype, seed=1)
    bias = normal(o, dtype=dtype)
    y = naive.convolution(x, w, bias, **settings(case))
    return x, w, bias, y, normal(*y.shape, dtype=dtype, seed=2)


def close(got, expected, dtype, terms):
    assert got.dtype == dtype
    assert got.shape == expected.shape
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * max(1, terms) ** 0.5)


@pytest.mark.parametrize(("case", "dtype"), [*((c, np.float32) for c in CASES), *((c, np.float64) for c in DOUBLE)])
def test_forward_and_both_gradients(case, dtype):
    x, w, bias, y, g = operands(case, dtype)
    lanes = (4, 8, 16) if dtype == np.float32 and case in WIDE else (8,)
    static = settings(case)
    for _, got in run_everywhere(conv.plan_convolution, (x, w, bias), lanes=lanes, **static):
        close(got, y, dtype, w[0].size)
    expected = naive.convolution_input(g, w, x.shape[2:], **static)
    for _, got in run_everywhere(conv.plan_convolution_input, (g, w), lanes=lanes, size=x.shape[2:], **static):
        close(got, expected, dtype, w[:, 0].size)
    expected = naive.convolution_weight(g, x, w.shape[2:], **static)
    for _, got in run_everywhere(conv.plan_convolution_weight, (g, x), lanes=lanes, kernel_size=w.shape[2:], **static):
        close(got, expected, dtype, g[:, 0].size)


@pytest.mark.parametrize("case", ["lenet 2", "odd channels", "wide planes", "1-d"])
def test_relu_is_part_of_the_convolution(case):
    x, w, bias, *_ = operands(case, np.float32)
    x[0, 0, ..., 4] = np.nan
    with host.using_lanes(8):
        plain, limited = (execute(conv.plan_convolution, (x, w, bias), ending=ending, **settings(case))
                          for ending in ("", "relu"))
    assert np.isnan(plain).any()
    np.testing.assert_array_equal(limited, np.where(plain < 0, 0, plain))


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def test_images_and_gradients_may_have_any_strides():
    x, w, bias, y, g = operands("square 3x3", np.float32)
    static = settings("square 3x3")
    dx = naive.convolution_input(g, w, x.shape[2:], **static)
    dw = naive.convolution_weight(g, x, w.shape[2:], **static)
    wide = np.repeat(np.repeat(x, 2, axis=1), 3, axis=-1)[:, ::2, :, ::3]
    for image in (channels_last(x), np.asfortranarray(x), wide, x[::-1, :, ::-1][::-1, :, ::-1]):
        close(execute(conv.plan_convolution, (image, w, bias), **static), y, np.float32, 144)
        close(execute(conv.plan_convolution_weight, (g, image), kernel_size=(3, 3), **static), dw, np.float32, 128)
    for grad in (channels_last(g), np.repeat(g, 2, axis=-1)[..., ::2]):
        close(execute(conv.plan_convolution_input, (grad, w), size=x.shape[2:], **static), dx, np.float32, 144)
        close(execute(conv.plan_convolution_weight, (grad, x), kernel_size=(3, 3), **static), dw, np.float32, 128)
    spread = np.broadcast_to(g[:, :, :1, :1], g.shape)
    close(execute(conv.plan_convolution_weight, (spread, x), kernel_size=(3, 3), **static),
          naive.convolution_weight(spread, x, (3, 3), **static), np.float32, 128)


@pytest.mark.parametrize("case", ["square 3x3", "stride 2", "groups"])
def test_work_is_cut_in_other_ways_for_large_weights_and_few_images(case, monkeypatch):
    x, w, bias, y, g = operands(case, np.float32)
    static = settings(case)
    expected = (y, naive.convolution_input(g, w, x.shape[2:], **static),
                naive.convolution_weight(g, x, w.shape[2:], **static))

    def check():
        for planner, arrays, more, wanted in (
                (conv.plan_convolution, (x, w, bias), {}, expected[0]),
                (conv.plan_convolution_input, (g, w), {"size": x.shape[2:]}, expected[1]),
                (conv.plan_convolution_weight, (g, x), {"kernel_size": w.shape[2:]}, expected[2])):
            for _, got in run_everywhere(planner, arrays, lanes=(8,), **static, **more):
                close(got, wanted, np.float32, 300)

    monkeypatch.setattr(conv, "CHUNK", 1000)  # many chunks: rows of an image, partial sums an image
    check()
    monkeypatch.setattr(host, "caches", lambda: (1 << 10, 1 << 10, 1 << 12))  # panels of weights, rows at a time
    check()


def test_no_images_give_no_outputs_and_a_weight_gradient_of_zeros():
    static = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    x, w, g = normal(0, 3, 8, 8), normal(5, 3, 3, 3), normal(0, 5, 8, 8)
    assert execute(conv.plan_convolution, (x, w, None), **static).shape == (0, 5, 8, 8)
    assert execute(conv.plan_convolution_input, (g, w), size=(8, 8), **static).shape == (0, 3, 8, 8)
    np.testing.assert_array_equal(execute(conv.plan_convolution_weight, (g, x), kernel_size=(3, 3), **static),
                                  np.zeros_like(w))


def test_nan_and_infinity_reach_the_outputs_whose_windows_hold_them():
    x, w = np.ones((1, 2, 9, 9), np.float32), np.ones((3, 2, 3, 3), np.float32)
    x[0, 0, 4, 4], x[0, 1, 0, 0] = np.nan, np.inf
    got = execute(conv.plan_convolution, (x, w, None), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    assert np.isnan(got).sum() == 3 * 9
    assert np.isposinf(got).sum() == 3 * 4


def test_pixels_that_no_window_holds_do_not_reach_the_gradient_of_a_plane():
    x, g = np.ones((1, 4, 8, 20), np.float32), np.ones((1, 4, 4, 17), np.float32)
    x[..., 19] = np.nan
    got = execute(conv.plan_convolution_weight, (g, x), kernel_size=(5, 4), stride=(1, 1), padding=(0, 0),
                  dilation=(1, 1), groups=4)
    assert np.isnan(got[..., 3]).all()
    assert (got[..., :3] == 4 * 17).all()


def test_other_dtypes_are_not_served():
    static = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}
    for x, w in ((np.float16, np.float16), (np.float32, np.float64), (">f4", ">f4")):
        described = [Array((1, 1, n), (n * kind.itemsize, n * kind.itemsize, kind.itemsize), kind)
                     for n, kind in ((9, np.dtype(x)), (3, np.dtype(w)))]
        assert conv.plan_convolution(*described, None, **static) is None


WINOGRAD = {  # batch, channels, outputs, size, padding
    "even": (2, 40, 33, (12, 12), (1, 1)),
    "odd, no padding": (1, 33, 48, (11, 9), (0, 0)),
    "uneven padding": (1, 48, 40, (9, 14), (0, 2)),
}


@pytest.mark.parametrize(("case", "fits"), [*((case, True) for case in WINOGRAD), ("odd, no padding", False)])
def test_winograd(case, fits, monkeypatch):
    monkeypatch.setattr(conv, "winograd_fits", lambda c, lanes: fits)
    estimate = conv.winograd_cycles
    monkeypatch.setattr(conv, "winograd_cycles", lambda c, lanes: 0 if estimate(c, lanes) < np.inf else np.inf)
    n, c, o, size, padding = WINOGRAD[case]
    static = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    x, w, bias = normal(n, c, *size), normal(o, c, 3, 3, seed=1), normal(o, seed=2)
    y = naive.convolution(x, w, bias, **static)
    g = normal(*y.shape, seed=3)
    dx = naive.convolution_input(g, w, size, **static)
    for planner, arrays, more, expected in ((conv.plan_convolution, (x, w, bias), {}, y),
                                            (conv.plan_convolution_input, (g, w), {"size": size}, dx)):
        for lanes, got in run_everywhere(planner, arrays, lanes=(8, 16), **static, **more):
            with host.using_lanes(lanes):
                described = [Array(a.shape, a.strides, a.dtype) for a in arrays]
                names = [call.kernel.name for call in planner(*described, **static, **more).calls]
            assert any("winograd" in name for name in names)
            # transforms add up to 16 terms of either sign: a few times the error of a direct sum
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=4e-6 * (c * 9) ** 0.5)
