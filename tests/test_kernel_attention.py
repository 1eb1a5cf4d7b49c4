"""Attention against the slow twin: sizes around blocks, masks, strides, lanes, threads; gradients by differences."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels.attention import attention, attention_backward
from autograd_core.kernels.plan import execute


def problem(batch, rows, keys, depth, width, mask, dtype, turned=False):
    draw = np.random.default_rng(0)
    arrays = [draw.standard_normal((*batch, n, k)).astype(dtype)
              for n, k in ((rows, depth), (keys, depth), (keys, width), (rows, width))]
    if turned:  # heads cut out of rows, as multi-head attention has them
        arrays = [np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -2, 0)), 0, -2) for a in arrays]
    if mask == "bool":
        mask = draw.random((rows, keys)) < 0.5
        mask[0] = False
    elif mask == "add":
        mask = draw.standard_normal((batch[0], *[1] * len(batch), keys)).astype(dtype)
    return *arrays[:3], mask, arrays[3]


@pytest.mark.parametrize(("sizes", "mask", "causal", "dtype", "lanes"), [
    (((2, 3), 5, 7, 4, 3), None, False, np.float32, (4, 8, 16)),
    (((2,), 40, 130, 33, 17), "bool", False, np.float32, (16,)),
    (((2, 2), 150, 150, 20, 20), None, True, np.float64, (16,)),
    (((3,), 33, 300, 20, 40), "add", False, np.float64, (16,))])
def test_forward_and_gradients(sizes, mask, causal, dtype, lanes):
    query, key, value, mask, g = problem(*sizes, mask, dtype, turned=causal)
    settings = {"scale": 0.3, "causal": causal}
    expected, bound = naive.attention(query, key, value, mask, **settings), 50 * np.finfo(dtype).eps
    for _, (got, _) in run_everywhere(attention, (query, key, value, mask), lanes=lanes, **settings):
        np.testing.assert_allclose(got, expected, rtol=bound, atol=bound)
    result, lse = execute(attention, (query, key, value, mask), **settings)
    inputs = [query, key, value]
    for x in (result, *execute(attention_backward, (*inputs, mask, result, lse, g), needs=(True, True, True, False),
                               **settings)[:3]):
        assert not causal or np.moveaxis(x, -2, 0).flags.c_contiguous, "heads are not where they were in memory"
    for _, gradients in run_everywhere(attention_backward, (*inputs, mask, result, lse, g), lanes=lanes[-1:],
                                       needs=(True, True, True, False), **settings):
        for k, x in enumerate(inputs):
            direction = np.random.default_rng(k).standard_normal(x.shape)

            def loss(changed, k=k):
                return np.sum(g * naive.attention(*inputs[:k], changed, *inputs[k + 1:], mask, **settings))

            near = 1e-6 if dtype == np.float64 else 1e-3
            np.testing.assert_allclose(np.sum(gradients[k] * direction),
                                       naive.slope(loss, x.astype(np.float64), direction), rtol=near, atol=10 * near)


def test_what_is_not_served():
    query, key, value, mask, _ = problem((2,), 5, 7, 4, 3, "bool", np.float32)
    settings = {"scale": 1.0, "causal": False}
    assert execute(attention, (query, key[:1], value, mask), **settings) is NotImplemented
    assert execute(attention, (query, key, value, mask[:, :1]), **settings) is NotImplemented
    assert execute(attention, (query[..., ::2], key[..., ::2], value, mask), **settings) is NotImplemented
