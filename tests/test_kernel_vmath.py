"""The vectorised elementary functions against wider arithmetic: error in ulp over dense grids, and special values."""
from __future__ import annotations

import ctypes
import functools

import numpy as np
import pytest
from naive import erf

from autograd_core.kernels import host, lazy
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.loop_text import VMATH
from autograd_core.kernels.runner import range_kernel

REFERENCE = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "erf": erf, "rsqrt": lambda x: 1 / np.sqrt(x),
    "log2": np.log2, "log10": np.log10, "exp2": np.exp2, "tan": np.tan, "atan": np.arctan, "asin": np.arcsin,
    "acos": np.arccos,
}  # fmt: skip
BOUND = {"exp": 2, "expm1": 2, "log": 2, "log1p": 2, "sigmoid": 2, "tanh": 3, "erf": 4, "sin": 2.2, "cos": 2.2,
         "rsqrt": 2, "log2": 2, "log10": 2, "exp2": 2, "tan": 3.1, "atan": 2, "asin": 2, "acos": 2}  # fmt: skip
DTYPES = ("float32", "float64")
EXTENDED = np.finfo(np.longdouble).eps < 1e-18  # not on Windows and on some processors: float64 is the reference there


@range_kernel
def map_kernel(name, dtype, lanes):
    """out[i] = the function of that name of x[i]; context: x, out."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    function = getattr(getattr(lazy, VMATH.get(name, "vmath")), name)

    def kernel(context, start, stop):
        a = simd.words(context)
        x, out = simd.pointer(a[0], S), simd.pointer(a[1], S)
        for i in range(start, stop, lanes):
            simd.store(out, i, function(simd.load(x, i, V)))

    return kernel


@range_kernel
def power_kernel(dtype, lanes):
    """out[i] = x[i] ** y[i]; context: x, y, out."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        a = simd.words(context)
        x, y, out = simd.pointer(a[0], S), simd.pointer(a[1], S), simd.pointer(a[2], S)
        for i in range(start, stop, lanes):
            simd.store(out, i, vmath.pow(simd.load(x, i, V), simd.load(y, i, V)))

    return kernel


@range_kernel
def number_kernel(name, dtype):
    """out[0] = the function of that name of the number x[0]; context: x, out."""
    S = simd.scalar(dtype)
    function = getattr(vmath, name)

    def kernel(context, start, stop):
        a = simd.words(context)
        simd.pointer(a[1], S)[0] = function(simd.pointer(a[0], S)[0])

    return kernel


def run(kernel, *arrays):
    count = arrays[0].size
    padded = [np.concatenate([a, np.zeros(-count % 16, a.dtype)]) for a in arrays]
    out = np.empty_like(padded[0])
    context = np.array([a.ctypes.data for a in (*padded, out)], np.int64)
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(kernel.address)(context.ctypes.data, 0, out.size)
    return out[:count]


@functools.cache
def grid(dtype, name):
    facts = np.finfo(dtype)
    edge = float(np.log(facts.max)) + 20
    sizes = np.exp(np.linspace(np.log(float(facts.smallest_subnormal)), np.log(float(facts.max)) * 0.999, 100_000))
    if name in ("sin", "cos", "tan"):
        sizes = sizes[sizes < 1e9]
    if name == "erf":  # its reference takes long, and it is 1 from 6 on
        edge, sizes = 7.0, sizes[::10]
    near_one = 1 + np.linspace(-0.3, 0.3, 50_000) ** 3
    return np.concatenate([np.linspace(-edge, edge, 100_001), np.linspace(-3, 3, 100_001), sizes, -sizes,
                           near_one]).astype(dtype)  # fmt: skip


def wide(x):
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def ulps(found, exact, dtype):
    """The largest distance in units in the last place of the exact value, where that is finite in ``dtype``."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    distance = np.abs(found[finite].astype(exact.dtype) - exact[finite])
    return float(np.max(distance / np.spacing(np.abs(rounded[finite])).astype(exact.dtype), initial=0))


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("dtype", DTYPES)
def test_error_in_ulp(name, dtype):
    x = grid(dtype, name)
    found = run(map_kernel(name, np.dtype(dtype), host.lanes(dtype)), x)
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](wide(x))
        rounded = exact.astype(dtype)
    assert np.array_equal(np.isnan(found), np.isnan(rounded))
    infinite = np.isinf(rounded)
    assert np.array_equal(found[infinite], rounded[infinite])
    allowance = 0 if dtype == "float32" or EXTENDED else 2
    assert ulps(found, exact, dtype) <= BOUND[name] + allowance


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-7), ("float64", 1e-15)])
def test_slope_of_gelu(dtype, bound):
    x = np.append(np.linspace(-12, 12, 20_001), np.nan).astype(dtype)
    found, exact = run(map_kernel("gelu_slope", np.dtype(dtype), host.lanes(dtype)), x), wide(x)
    density = np.exp(-exact * exact / 2) / np.sqrt(wide(np.array(2 * np.pi, dtype)))
    expected = 0.5 * (1 + erf(exact / np.sqrt(wide(np.array(2.0, dtype))))) + exact * density
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(name, dtype):
    facts = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, facts.max, -facts.max, facts.tiny, -facts.tiny,
                  facts.smallest_subnormal, -facts.smallest_subnormal, 5 * facts.smallest_subnormal],
                 dtype)  # fmt: skip
    if name in ("sin", "cos", "tan"):
        x = x[np.abs(x) != facts.max]  # their reference in wider arithmetic is another function there
    found = run(map_kernel(name, np.dtype(dtype), host.lanes(dtype)), x)
    with np.errstate(all="ignore"):
        expected = REFERENCE[name](wide(x)).astype(dtype)
    np.testing.assert_allclose(found, expected, rtol=8 * facts.eps, atol=0)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("name", ["exp", "tanh", "log1p", "erf", "cos"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_and_numbers_agree(name, dtype):
    x = np.linspace(-0.9, 9, 1600).astype(dtype)
    widths = (2, 4, 8, 16) if name == "exp" else (2, host.lanes(dtype))
    results = [run(map_kernel(name, np.dtype(dtype), lanes), x) for lanes in widths]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    for i in (0, 700, 1599):
        np.testing.assert_allclose(run(number_kernel(name, np.dtype(dtype)), x[i:i + 1]), results[0][i:i + 1],
                                   rtol=4 * np.finfo(dtype).eps)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_power(dtype):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 20, 50_000).astype(dtype)
    y = rng.uniform(-20, 20, 50_000).astype(dtype)
    kernel = power_kernel(np.dtype(dtype), host.lanes(dtype))
    with np.errstate(over="ignore"):
        exact = np.power(wide(x), wide(y))
    assert ulps(run(kernel, x, y), exact, dtype) <= 1 + (dtype == "float64" and not EXTENDED)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_powers(dtype):
    values = np.array([0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, 2.5, -2.5, np.inf, -np.inf, np.nan], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    found = run(power_kernel(np.dtype(dtype), host.lanes(dtype)), x, y)
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))
