"""Matrix products against the slow twin: sizes, strides, batches, endings, lanes, threads."""
import itertools
from dataclasses import replace

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere, strided_like

from autograd_core.kernels import host
from autograd_core.kernels.gemm import gemm, linear, matmul, tile_shape
from autograd_core.kernels.plan import Array, execute

SIZES = [(1, 1, 1), (3, 5, 7), (2, 9, 1), (1, 40, 30), (30, 40, 1), (17, 33, 19), (13, 64, 70), (40, 20, 100)]
LAYOUTS = ["C", "F", "gaps", "reversed", "offset"]


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(a, b, bias=None, residual=None, lanes=(8,), **static):
    expected = naive.gemm(a, b, bias, residual, **static)
    tolerance = 40 * np.finfo(a.dtype).eps
    for _, got in run_everywhere(gemm, (a, b, bias, residual), lanes=lanes, **static):
        assert got.dtype == a.dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * max(1, a.shape[-1]) ** 0.5)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size):
    m, k, n = size
    check(normal(m, k), normal(k, n, seed=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(3, 5, 7), (17, 33, 19)])  # each number of lanes is machine code of its own
def test_lanes_and_precisions(size, dtype):
    m, k, n = size
    check(normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1), lanes=(4, 8, 16))


@pytest.mark.parametrize(("left", "right"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_strides(left, right):
    for m, k, n in ((7, 21, 50), (33, 18, 40)):
        check(strided_like(normal(m, k), left), strided_like(normal(k, n, seed=1), right), lanes=(8,))


@pytest.mark.parametrize("shapes", [
    ((2, 3, 5, 6), (2, 3, 6, 20)), ((2, 3, 5, 6), (6, 20)), ((5, 6), (2, 3, 6, 20)), ((2, 1, 30, 6), (1, 3, 6, 20)),
    ((3, 1, 9), (9, 20)), ((6,), (6,)), ((6,), (6, 20)), ((5, 6), (6,)), ((2, 5, 6), (6,)), ((6,), (2, 6, 20)),
    ((4, 30, 8), (4, 8, 1)), ((2, 3, 40, 50), (2, 1, 50, 17)),
])
def test_batches_and_vectors_have_the_shapes_of_matmul(shapes):
    a, b = normal(*shapes[0]), normal(*shapes[1], seed=1)
    check(a, b)
    if min(a.ndim, b.ndim) > 1:
        check(np.swapaxes(np.swapaxes(a, -1, -2).copy(), -1, -2), np.swapaxes(np.swapaxes(b, -1, -2).copy(), -1, -2))
    assert execute(gemm, (a, b)).shape == (a @ b).shape


@pytest.mark.parametrize("size", [(1, 30, 40), (40, 30, 1), (50, 30, 70), (4, 30, 3)])
def test_endings(size):
    m, k, n = size
    a, b = normal(2, m, k), normal(k, n, seed=1)
    for shape in ((n,), (m, 1), (1, 1), (m, n)):
        check(a, b, bias=normal(*shape, seed=2))
    check(a, np.asfortranarray(b), bias=normal(n, seed=2))


def test_endings_of_all_kinds_together():
    m, k, n = 5, 30, 40
    a, b = normal(2, m, k), normal(k, n, seed=1)
    more = {"residual": normal(2, m, n, seed=3), "alpha": -0.5, "activation": "relu"}
    check(a, b, bias=normal(n, seed=2), **more, lanes=(8, 16))
    check(a, b, residual=np.swapaxes(normal(2, n, m, seed=3), 1, 2)[:, :, :1], alpha=2.0)


def test_long_inner_dimensions_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(host, "caches", lambda: (1 << 15, 1 << 15, 1 << 20))
    for m, n, layout in ((20, 70, "C"), (40, 300, "F")):
        a, b = normal(m, 700), normal(700, n, seed=1)
        check(strided_like(a, layout), b, bias=normal(n, seed=2), activation="relu")


@pytest.mark.parametrize("shapes", [((200, 150), (150, 300)), ((3, 100, 60), (3, 60, 200)), ((90, 90), (90, 33))])
def test_first_tiles_copy_what_those_below_them_read(shapes):
    a, b = normal(*shapes[0]), normal(*shapes[1], seed=1)
    call = gemm(*[Array(x.shape, x.strides, x.dtype) for x in (a, b)]).calls
    assert len(call) == 1, "B was copied beforehand"
    check(a, b, bias=normal(b.shape[-1], seed=2), residual=normal(*np.matmul(a, b).shape, seed=3), activation="relu")


def test_first_tiles_copy_block_by_block(monkeypatch):
    monkeypatch.setattr(host, "caches", lambda: (1 << 15, 1 << 18, 1 << 20))
    check(normal(150, 300), normal(300, 70, seed=1))
    check(normal(150, 300).T.copy().T, normal(300, 70, seed=1))


def test_columns_far_apart_are_packed_in_batches(monkeypatch):
    monkeypatch.setattr(host, "caches", lambda: (1 << 15, 1 << 16, 1 << 20))
    a, b = normal(3, 300, 40), normal(300, 70, seed=1)
    check(a.swapaxes(1, 2), b)
    check(np.broadcast_to(a[0].T, (2, 40, 300)), normal(2, 300, 70, seed=1))


def test_rows_keep_the_order_that_they_have_in_memory():
    x, weight, bias = normal(20, 30, 4, 64), normal(48, 64, seed=1), normal(48, seed=2)
    for turned in (x.transpose(1, 0, 2, 3), x.transpose(2, 0, 1, 3), x[:, ::2].transpose(1, 0, 2, 3)):
        expected = naive.gemm(turned, weight.T)
        for got, wanted in ((execute(linear, (turned, weight, bias)), expected + bias),
                            (execute(matmul, (turned, weight.T)), expected)):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
            assert np.argsort(got.strides).tolist() == np.argsort(turned.strides).tolist()


def test_no_terms_give_the_bias_and_no_rows_nothing():
    bias = normal(5)
    np.testing.assert_array_equal(execute(gemm, (normal(3, 0), normal(0, 5), bias, None)), np.tile(bias, (3, 1)))
    for a, b in (((0, 4), (4, 5)), ((3, 4), (4, 0)), ((0, 3, 4), (4, 5)), ((0,), (0,))):
        got = execute(gemm, (normal(*a), normal(*b)))
        np.testing.assert_array_equal(got, np.zeros(np.matmul(normal(*a), normal(*b)).shape))


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("m", [3, 40])
def test_nan_and_infinity_pass_through(m, layout):
    a, b = normal(m, 20), normal(20, 50, seed=1)
    a[1, 3], b[5, 7], b[6, 8] = np.nan, np.inf, -np.inf
    b = strided_like(b, layout)
    with np.errstate(invalid="ignore"):
        expected = a @ b
    got = execute(gemm, (a, b), activation="")
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    assert np.isnan(execute(gemm, (a, b), activation="relu")[1]).all()


def test_inputs_are_only_read():
    a, b = normal(40, 30), normal(30, 50, seed=1)
    before = a.copy(), b.copy()
    a.flags.writeable = b.flags.writeable = False  # kernels, which get addresses, could write all the same
    execute(gemm, (a, b))
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


def test_what_is_not_served():
    a = normal(4, 4)
    big_endian = a.astype(">f4")
    for x, y in ((a, a.astype(np.float64)), (a.astype(np.int32),) * 2, (a.astype(np.float16),) * 2, (big_endian,) * 2):
        assert execute(gemm, (x, y)) is NotImplemented
    records = np.zeros((4, 4), [("x", "f4"), ("y", "i2")])["x"]  # strides of 6 bytes
    assert execute(gemm, (records, a)) is NotImplemented
    with pytest.raises(ValueError, match="inner dimensions"):
        execute(gemm, (a, normal(5, 4)))


@pytest.mark.parametrize("registers", [16, 32])
@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_tiles_fit_registers_and_matrix(lanes, registers):
    for m, n in itertools.product((1, 2, 5, 8, 31, 128), (1, 3, 16, 40, 256)):
        rows, vectors = tile_shape(m, n, lanes, registers)
        assert 1 <= rows <= m
        assert vectors == 1 or vectors * lanes <= n
        assert rows * vectors + vectors + (registers < 32) <= registers


def test_split_does_not_depend_on_the_number_of_threads():
    x = Array((512, 512), (2048, 4), np.dtype(np.float32))
    calls = gemm(x, x).calls
    assert [(c.size, c.grain) for c in calls] == [(c.size, c.grain) for c in gemm(x, x).calls]
    assert all(c.size // c.grain >= 4 for c in calls)


def test_a_chunk_writes_no_columns_of_the_next():
    """Several chunks of narrow tiles; the first runs again at the end, and must not undo what others wrote."""
    a, b = normal(10, 512), normal(784, 512, seed=1).T

    def again(*arrays):
        plan = gemm(*arrays)
        last = plan.calls[-1]
        assert last.size > last.grain
        return replace(plan, calls=(*plan.calls, replace(last, size=last.grain)))

    np.testing.assert_allclose(execute(again, (a, b)), a @ b, rtol=1e-3, atol=1e-3)
