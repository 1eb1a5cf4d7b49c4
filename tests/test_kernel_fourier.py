"""Fourier transforms of real lines and back: against sums that are written out, for every kind of length."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import fourier, host


def transformed(x, sizes, dims, scale, back, lanes):
    """The result, the same for any number of threads."""
    with host.using_lanes(lanes):
        table = fourier.tables(x.shape, sizes, dims, back, x.dtype)
    assert table is not None
    for _, got in run_everywhere(fourier.plan_fourier, (x, table), lanes=(lanes,), sizes=sizes, dims=dims, scale=scale,
                                 back=back):  # fmt: skip
        yield got


def close(got, expected):
    """To a few roundings of the largest value, which is what a transform can promise."""
    bound = 16 * np.finfo(got.dtype).eps * max(np.abs(expected).max(), 1)
    return got.shape == expected.shape and np.abs(got - expected).max() <= bound


LENGTHS = [1, 2, 3, 8, 14, 30, 45, 61, 64, 94, 134]
"""Powers of 2, products of 2, 3 and 5, odd ones, and those with other factors, whole (61) or halved (14, 94, 134)."""


@pytest.mark.parametrize("points", LENGTHS)
def test_lines(points):
    rng = np.random.default_rng(points)
    x, g = rng.standard_normal((37, points // 2 + 1)), rng.standard_normal((37, points))
    for got in transformed(x, (points,), (1,), 0.5, False, 4):
        assert close(got, 0.5 * naive.signal(x, points))
    for got in transformed(g, (points,), (1,), 0.5, True, 4):
        assert close(got, 0.5 * naive.half_spectrum(g))
    for got in transformed(x.T.astype(np.float32, order="C"), (points,), (0,), 1.0, False, 16):
        assert close(got, naive.signal(x, points).T)


@pytest.mark.parametrize(("shape", "dims"), [((12, 17), (0, 1)), ((3, 6, 5, 20), (1, 2, 3))])
def test_several_dimensions(shape, dims):
    rng = np.random.default_rng(0)
    for odd in (0, 1):
        sizes = (*[shape[d] for d in dims[:-1]], 2 * (shape[-1] - 1) + odd)
        x = rng.standard_normal(shape)
        expected = naive.signal(np.fft.fftn(x, axes=dims[:-1]).conj(), sizes[-1])
        for got in transformed(x, sizes, dims, 0.5, False, 4):
            assert close(got, 0.5 * expected)
        g = rng.standard_normal(expected.shape)
        for got in transformed(g, sizes, dims, 0.5, True, 4):  # <A x, g> = <x, B g>
            assert np.isclose(np.sum(got * x), np.sum(0.5 * expected * g), rtol=1e-12)


@pytest.mark.parametrize(("lines", "points"), [(1, 512), (2, 450), (1, 510), (1, 405), (1, 437)])
def test_long_lines(lines, points):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((lines, points // 2 + 1)), rng.standard_normal((lines, points))
    for got in transformed(x, (points,), (1,), 0.5, False, 8):
        assert close(got, 0.5 * naive.signal(x, points))
    for got in transformed(g, (points,), (1,), 0.5, True, 8):
        assert close(got, 0.5 * naive.half_spectrum(g))


def test_what_is_not_served():
    float64 = np.dtype(np.float64)
    assert fourier.tables((1, 30), (58,), (1,), False, float64) is None  # a single line that is short
    assert fourier.tables((3, 1 << 22), ((1 << 23) - 2,), (1,), False, float64) is None  # too large


@pytest.mark.parametrize("points", LENGTHS)
def test_tables_lie_where_they_are_looked_for(points):
    for kind in ("to real", "complex"):
        made = fourier.Line(kind, points)
        assert len(made.table()) == made.size
