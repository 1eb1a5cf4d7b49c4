"""Kernels of linear algebra against their slow twins, backward errors, and the operations made of them."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere, strided_like

import autograd_core as ag
from autograd_core.errors import LinAlgError
from autograd_core.gradient_check import gradcheck, gradgradcheck
from autograd_core.kernels import definite, factors, host, householder, singular, symmetric, triangular
from autograd_core.kernels.plan import execute

SHAPES = [(1, 1), (3, 3), (4, 9), (9, 4), (33, 33), (40, 33), (33, 50)]
LANES = (host.lanes(),)


@pytest.fixture
def two_lanes():
    """Double precision is tested with two lanes, as NEON has: each other number of lanes is machine code of its own."""
    with host.using_lanes(4):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Single precision with the lanes of the host, double precision with two."""
    with host.using_lanes(4 if request.param == "float64" else host.lanes()):
        yield np.dtype(request.param).type


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def conditioned(*shape, dtype=np.float32, seed=0):
    """Triangles of it are well conditioned, too."""
    return (normal(*shape, dtype=np.float64, seed=seed) / shape[-1] + 2 * np.eye(shape[-1])).astype(dtype)


def positive(*shape, dtype=np.float32):
    root = normal(*shape, dtype=np.float64)
    return (root @ root.mT + np.eye(shape[-1])).astype(dtype)


def close(got, expected, factor=40):
    bound = factor * np.finfo(got.dtype).eps * max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def backward_error(residual, *norms, dtype, n):
    """The residual in units of eps times n times the norms of what was multiplied."""
    size = np.prod([np.linalg.norm(x.astype(np.float64), np.inf) for x in norms])
    return np.linalg.norm(residual, np.inf) / (np.finfo(dtype).eps * n * size)


# ---------------------------------------------------------------------------------------------------- triangles


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("left", [True, False])
def test_triangular_systems(upper, unit, left):
    for n, m in ((1, 1), (3, 2), (20, 40), (37, 5)):
        A, B = conditioned(n, n), normal(n, m)
        expected = naive.substituted(A if left else A.T, B, upper == left, unit)
        for _, X in run_everywhere(triangular.solve_triangle, (A, B if left else B.T), lanes=LANES, upper=upper,
                                   unit=unit, left=left):  # fmt: skip
            close(X if left else X.T, expected)


@pytest.mark.parametrize("layout", ["F", "gaps", "reversed", "offset"])
def test_triangular_systems_of_any_strides(layout):
    A, B = conditioned(2, 21, 21), normal(3, 1, 21, 40)
    for left in (True, False):
        right = B if left else B.mT
        X = execute(triangular.solve_triangle, (strided_like(A, layout), strided_like(right, layout)), upper=True,
                    unit=False, left=left)  # fmt: skip
        assert X.shape == (3, 2, *right.shape[-2:])
        for i, j in np.ndindex(3, 2):
            expected = naive.substituted(A[j] if left else A[j].T, B[i, 0], left)
            close(X[i, j] if left else X[i, j].T, expected)


def test_long_transposed_triangles_are_copied():
    A, B = conditioned(2, 530, 530), normal(530, 260)
    X = execute(triangular.solve_triangle, (A.mT, B), upper=True, unit=False)
    close(np.triu(A.mT) @ X, np.broadcast_to(B, X.shape), 400)
    np.testing.assert_array_equal(X, execute(triangular.solve_triangle, (A.mT.copy(), B), upper=True, unit=False))


@pytest.mark.usefixtures("two_lanes")
def test_what_a_triangle_leaves_out_is_not_read_and_zeros_on_its_diagonal_divide():
    A, B = conditioned(30, 30, dtype=np.float64), normal(30, 3, dtype=np.float64)
    spoiled = np.where(np.triu(np.ones_like(A), 1) > 0, np.nan, A)
    X = execute(triangular.solve_triangle, (spoiled, B), upper=False, unit=False)
    np.testing.assert_array_equal(X, execute(triangular.solve_triangle, (A, B), upper=False, unit=False))
    A[12, 12] = 0
    X = execute(triangular.solve_triangle, (A, B), upper=False, unit=False)
    assert np.isfinite(X[:12]).all()
    assert np.isinf(X[12]).all()
    assert execute(triangular.solve_triangle, (A[:0, :0], B[:0]), upper=False, unit=False).shape == (0, 3)


# ---------------------------------------------------------------------------------------------------- LU


@pytest.mark.parametrize("shape", SHAPES)
def test_elimination(shape):
    A = normal(*shape)
    LU, pivots = naive.eliminated(A)
    for _, got in run_everywhere(factors.factor, (A,), lanes=LANES):
        np.testing.assert_array_equal(got[1], pivots)
        close(got[0], LU, 400)
    L, U = execute(factors.unpack, (got[0],))
    order = execute(factors.order, (pivots,), rows=shape[0])
    close(L @ U, A[order])


@pytest.mark.usefixtures("two_lanes")
def test_pivots_are_the_first_of_the_largest():
    signs = np.array([[1, 2, 3], [-1, 5, 1], [1, 1, 1]], np.float64)
    assert execute(factors.factor, (signs,))[1].tolist() == naive.eliminated(signs)[1].tolist() == [1, 2, 3]
    holes = normal(40, 40, dtype=np.float64)
    holes[:, 3] = 0
    holes[5, 0] = np.nan
    np.testing.assert_array_equal(execute(factors.factor, (holes,))[1][:1], naive.eliminated(holes)[1][:1])
    holes[5, 0] = 0
    LU, pivots = execute(factors.factor, (holes,))
    np.testing.assert_array_equal(pivots, naive.eliminated(holes)[1])
    assert LU[3, 3] == 0


@pytest.mark.usefixtures("two_lanes")
@pytest.mark.parametrize("n", [5, 40])
def test_batches_of_matrices_are_factored_one_by_one(n):
    A = normal(3, 2, n, n, dtype=np.float64)
    LU, pivots = execute(factors.factor, (A.mT,))
    B = normal(2, n, 3, dtype=np.float64)
    X = execute(triangular.solve_factored, (LU, pivots, B), left=True, adjoint=True)
    for k in np.ndindex(3, 2):
        alone = execute(factors.factor, (A[k].T,))
        np.testing.assert_array_equal(LU[k], alone[0])
        np.testing.assert_array_equal(pivots[k], alone[1])
        close(A[k] @ X[k], B[k[1]], 4000)


# ---------------------------------------------------------------------------------------------------- Cholesky, QR


@pytest.mark.parametrize("n", [1, 3, 20, 45])
def test_cholesky(n):
    A = positive(n, n)
    L, wrong = naive.cholesky(A)
    for upper in (False, True):
        spoiled = np.where(np.tri(n, k=-1) > 0, np.nan, A) if upper else np.where(np.tri(n, k=-1).T > 0, np.nan, A)
        for _, got in run_everywhere(definite.factor_definite, (spoiled,), lanes=LANES, upper=upper):
            assert got[1] == wrong == 0
            close(got[0], L.T if upper else L, 400)
    bad = A.copy()
    bad[n // 2, n // 2] = -1
    assert execute(definite.factor_definite, (np.stack([A, bad]),), upper=False)[1].tolist() == [0, n // 2 + 1]
    assert naive.cholesky(bad)[1] == n // 2 + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_reflections(shape):
    A = normal(*shape)
    Q, R = naive.reflected(A)
    for _, got in run_everywhere(householder.factor_orthogonal, (A,), lanes=LANES, mode="complete"):
        close(got[0], Q, 400)
        close(got[1], R, 400)
    count = min(shape)
    reduced = execute(householder.factor_orthogonal, (A,), mode="reduced")
    close(reduced[0], Q[:, :count], 400)
    close(execute(householder.factor_orthogonal, (A,), mode="r")[1], R[:count], 400)
    if shape[0] >= shape[1]:
        B = normal(shape[0], 5, seed=1)
        triangle, beside = execute(householder.eliminate_beside, (A, B))
        close(triangle, R[:count], 400)
        close(beside[:count], (Q.T @ B)[:count], 400)


def test_columns_of_zeros_are_not_reflected():
    A = np.zeros((40, 40), np.float32)
    A[0] = 3
    Q, R = execute(householder.factor_orthogonal, (A,), mode="reduced")
    np.testing.assert_array_equal(Q, np.eye(40))
    np.testing.assert_array_equal(R, A)


# ---------------------------------------------------------------------------------------------------- eigenvalues


@pytest.mark.parametrize("n", [1, 2, 7, 18])
def test_eigenvalues_and_vectors(n):
    A = normal(n, n)
    A += A.T
    values, vectors = naive.eigen(A)
    for upper in (False, True):
        spoiled = np.where(np.tri(n, k=-1) > 0, np.nan, A) if upper else np.where(np.tri(n, k=-1).T > 0, np.nan, A)
        for _, (found, V, wrong) in run_everywhere(symmetric.eigen, (spoiled,), lanes=LANES, upper=upper, vectors=True):
            assert wrong == 0
            close(found, values)
            close(V * np.sign((V * vectors).sum(0)).astype(V.dtype), vectors, 4000)
        for _, got in run_everywhere(symmetric.eigen, (spoiled,), lanes=LANES, upper=upper, vectors=False):
            assert got[2] == 0
            close(got[0], values)


@pytest.mark.parametrize("kind", ["ones", "zeros", "identity", "graded", "huge", "tiny"])
def test_eigenvalues_of_difficult_matrices(kind, dtype):
    n, limits = 40, np.finfo(dtype)
    A = normal(2, n, n, dtype=np.float64)
    A += A.mT
    factors_of_kinds = {"zeros": 0, "huge": limits.max / 1e4, "tiny": limits.tiny * 1e4}
    A = (A / np.abs(A).max() * factors_of_kinds.get(kind, 1)).astype(dtype)
    if kind in ("ones", "identity"):
        A[:] = 1 if kind == "ones" else np.eye(n)
    if kind == "graded":
        scale = np.logspace(0, -18, n)
        A = (A * scale * scale[:, None]).astype(dtype)
    wide = A / dtype(max(np.abs(A).max(), limits.tiny))
    top = np.abs(A).max() if A.any() else 1
    for vectors in (True, False):
        values, V, wrong = execute(symmetric.eigen, (A,), upper=False, vectors=vectors)
        assert not wrong.any()
        bound = 4 * n * limits.eps
        np.testing.assert_allclose(values / top, np.linalg.eigvalsh(wide), rtol=0, atol=bound * n)
        if vectors:
            V = V.astype(np.float64)
            np.testing.assert_allclose(V.mT @ V, np.broadcast_to(np.eye(n), A.shape), rtol=0, atol=bound)
            np.testing.assert_allclose(wide @ V, V * (values / top)[:, None, :], rtol=0, atol=bound * n)


# ---------------------------------------------------------------------------------------------------- singular values


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (18, 18), (35, 9)])
def test_singular_values_and_vectors(shape):
    A = normal(*shape)
    U, S, Vh = naive.singular(A)
    for _, got in run_everywhere(singular.decompose, (A,), lanes=LANES, vectors=True, full=False):
        close(got[1], S)
        signs = np.sign((got[0] * U).sum(0)).astype(np.float32)
        close(got[0] * signs, U, 4000)
        close(got[2] * signs[:, None], Vh, 4000)
    for _, found in run_everywhere(singular.decompose, (A,), lanes=LANES, vectors=False, full=False):
        close(found[1], S)
    U, S, Vh, _ = execute(singular.decompose, (A.T,), vectors=True, full=False)
    close((U * S) @ Vh, A.T, 400)


@pytest.mark.parametrize("kind", ["ones", "zeros", "identity", "graded", "deficient", "huge", "tiny"])
def test_singular_values_of_difficult_matrices(kind, dtype):
    m, n, limits = 40, 30, np.finfo(dtype)
    A = normal(2, m, n, dtype=np.float64)
    factors_of_kinds = {"zeros": 0, "huge": limits.max / 1e4, "tiny": limits.tiny * 1e4}
    A = (A / np.abs(A).max() * factors_of_kinds.get(kind, 1)).astype(dtype)
    if kind in ("ones", "identity"):
        A[:] = 1 if kind == "ones" else np.eye(m, n)
    if kind == "graded":
        A = (A * np.logspace(0, -18, n)).astype(dtype)
    if kind == "deficient":
        A[..., 4:] = A[..., :4] @ normal(4, n - 4, dtype=dtype)
    top = np.abs(A).max() if A.any() else dtype(1)
    wide = A.astype(np.float64) / top
    bound = 4 * m * n * limits.eps
    for x, unit in ((A, wide), (A.mT, wide.mT)):
        U, S, Vh, wrong = execute(singular.decompose, (x,), vectors=True, full=True)
        assert not wrong.any()
        for Q in (U.astype(np.float64), Vh.astype(np.float64)):
            np.testing.assert_allclose(Q @ Q.mT, np.broadcast_to(np.eye(Q.shape[-1]), Q.shape), rtol=0, atol=bound / n)
        inner = U.mT.astype(np.float64) @ unit @ Vh.mT
        np.testing.assert_allclose(inner.diagonal(0, -2, -1), S / top, rtol=0, atol=bound)
        np.testing.assert_allclose(np.linalg.norm(inner, axis=(-2, -1)), np.linalg.norm(S / top, axis=-1), atol=bound)
        alone = execute(singular.decompose, (x,), vectors=False, full=False)[1]
        np.testing.assert_allclose(alone / top, S / top, rtol=0, atol=bound)


# ---------------------------------------------------------------------------------------------------- backward errors


@pytest.mark.parametrize("kind", ["random", "graded", "ill-conditioned"])
def test_backward_errors_are_those_of_lapack(kind, dtype):
    n = 150
    A, B = normal(n, n, dtype=dtype), normal(n, 70, dtype=dtype, seed=1)
    if kind == "graded":
        A *= np.logspace(0, -12, n).astype(dtype)
    if kind == "ill-conditioned":
        A = np.vander(np.linspace(0.1, 1, n), increasing=True).astype(dtype) + np.eye(n, dtype=dtype) * dtype(1e-3)
    wide = A.astype(np.float64)
    LU, pivots = execute(factors.factor, (A,))
    L, U = (x.astype(np.float64) for x in execute(factors.unpack, (LU,)))
    order = execute(factors.order, (pivots,), rows=n)
    assert backward_error(L @ U - wide[order], L, U, dtype=dtype, n=n) < 1
    X = execute(triangular.solve_factored, (LU, pivots, B), left=True, adjoint=False)
    assert backward_error(wide @ X - B, A, X, dtype=dtype, n=n) < 1
    T = execute(triangular.solve_triangle, (LU, B), upper=True, unit=False)
    assert backward_error(U @ T - B, U, T, dtype=dtype, n=n) < 1
    Q, R = (x.astype(np.float64) for x in execute(householder.factor_orthogonal, (A,), mode="reduced"))
    assert backward_error(Q @ R - wide, A, dtype=dtype, n=n) < 1
    assert backward_error(Q.T @ Q - np.eye(n), np.eye(n), dtype=dtype, n=n) < 1
    symmetric = (wide @ wide.T + np.eye(n)).astype(dtype)
    C = execute(definite.factor_definite, (symmetric,), upper=False)[0].astype(np.float64)
    assert backward_error(C @ C.T - symmetric, symmetric, dtype=dtype, n=n) < 1


# ---------------------------------------------------------------------------------------------------- operations

LARGE = 24  # rows from which the operations take kernels


@pytest.mark.usefixtures("two_lanes")
def test_singular_matrices_are_named():
    A = ag.tensor(np.ones((LARGE, LARGE)))
    for function, words in ((ag.linalg.inv, "linalg.inv"), (lambda x: ag.linalg.solve(x, A), "linalg.solve"),
                            (lambda x: ag.linalg.cholesky(x - 2), "linalg.cholesky")):  # fmt: skip
        with pytest.raises(LinAlgError, match=words):
            function(A)
    sign, logarithm = ag.linalg.slogdet(A)
    assert (sign.item(), logarithm.item(), ag.det(A).item()) == (0, -np.inf, 0)
    assert ag.logdet(A).item() == -np.inf


@pytest.mark.usefixtures("two_lanes")
def test_determinants_of_both_signs():
    A = normal(4, LARGE, LARGE, dtype=np.float64)
    A[1] = A[0][::-1]
    signs, logarithms = np.linalg.slogdet(A)
    x = ag.tensor(A)
    np.testing.assert_allclose(ag.det(x).numpy(), np.linalg.det(A), rtol=1e-11)
    np.testing.assert_array_equal(ag.linalg.slogdet(x).sign.numpy(), signs)
    np.testing.assert_allclose(ag.linalg.slogdet(x).logabsdet.numpy(), logarithms, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(ag.logdet(x).numpy()), signs < 0)


FUNCTIONS = {
    "solve": (ag.linalg.solve, 2), "solve_rows": (lambda A, B: ag.linalg.solve(A, B.mT, left=False), 2),
    "solve_vector": (lambda A, B: ag.linalg.solve(A, B[:, 0]), 2), "inv": (lambda A, B: ag.linalg.inv(A), 1),
    "det": (lambda A, B: ag.det(A * 0.5), 1), "slogdet": (lambda A, B: ag.linalg.slogdet(A).logabsdet, 1),
    "cholesky": (lambda A, B: ag.linalg.cholesky(A @ A.mT), 1), "qr": (lambda A, B: ag.linalg.qr(A[:, :22]), 1),
    "lu": (lambda A, B: ag.linalg.lu(A)[1:], 1), "lu_wide": (lambda A, B: ag.linalg.lu_factor(A[:22])[0], 1),
    "lu_solve": (lambda A, B: ag.linalg.lu_solve(*ag.linalg.lu_factor(A), B, adjoint=True), 2),
    "cholesky_solve": (lambda A, B: ag.cholesky_solve(B, A, True), 2), "cholesky_inverse": (
        lambda A, B: ag.cholesky_inverse(A), 1), "lstsq": (lambda A, B: ag.linalg.lstsq(A[:, :22], B).solution, 2),
    "eigh": (lambda A, B: ag.linalg.eigh(A + A.mT).eigenvalues ** 3, 1),
    "svd": (lambda A, B: ag.linalg.svd(A[:, :22], False).S ** 3, 1), "pinv": (lambda A, B: ag.linalg.pinv(A[:22]), 1),
    "solve_triangular": (lambda A, B: ag.linalg.solve_triangular(A, B.mT, upper=True, left=False), 2),
}  # fmt: skip


@pytest.mark.usefixtures("two_lanes")
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_gradients_above_the_threshold(name):
    function, count = FUNCTIONS[name]
    A = ag.tensor(conditioned(LARGE, LARGE, dtype=np.float64), requires_grad=True)
    B = ag.tensor(normal(LARGE, 2, dtype=np.float64), requires_grad=True)
    inputs = (A, B) if count == 2 else (A,)
    call = function if count == 2 else lambda A: function(A, None)
    assert gradcheck(call, inputs, fast_mode=True, atol=1e-4, rtol=1e-4)
    assert gradgradcheck(call, inputs, fast_mode=True, atol=1e-4, rtol=1e-4)
