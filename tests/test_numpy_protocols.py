"""NumPy's functions on Tensors: they give NumPy's values, and gradients pass through them."""

import numpy as np
import pytest

import autograd_core as ag
from autograd_core.numpy_functions import FUNCTIONS
from autograd_core.numpy_protocol import COMPOSITES, UFUNCS

RNG = np.random.default_rng(0)
A, B, V = RNG.uniform(0.2, 0.9, (3, 3)), RNG.uniform(0.2, 0.9, (3, 3)), RNG.uniform(0.2, 0.9, 4)
SYMMETRIC = A @ A.T + np.eye(3)

INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift", "gcd", "lcm", "ldexp"}
ABOVE_ONE = {"arccosh"}
FLAT = {"floor", "ceil", "trunc", "rint", "sign", "heaviside", "floor_divide", "signbit", "nextafter"}
"""Functions whose gradient is zero or that have none: nothing to compare with differences."""


def same(found, expected):
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    array = found.detach().numpy() if isinstance(found, ag.Tensor) else found
    np.testing.assert_allclose(array, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [*UFUNCS, *COMPOSITES])
def test_elementwise(name):
    if not hasattr(np, name):
        pytest.skip("this NumPy does not have it")
    ufunc = getattr(np, name)
    integers = name in INTEGERS
    inputs = [A, B, V][: ufunc.nin]
    if name in ("matvec", "vecmat"):
        inputs = [A, V[:3]] if name == "matvec" else [V[:3], A]
    if integers:
        inputs = [np.arange(1, 5), np.array([1, 2, 2, 1])][: ufunc.nin]
    if name in ABOVE_ONE:
        inputs = [A + 1]
    expected = ufunc(*inputs)
    same(ufunc(*map(ag.tensor, inputs)), expected)
    if ufunc.nin == 2:
        same(ufunc(inputs[0], ag.tensor(inputs[1])), expected)  # an array and a Tensor, either way round
        same(ufunc(ag.tensor(inputs[0]), inputs[1]), expected)
    if not integers and np.asarray(expected).dtype.kind == "f" and name not in FLAT | {"divmod"}:
        leaves = [ag.tensor(x, requires_grad=True) for x in inputs]
        assert ag.gradcheck(lambda *t: [r for r in _listed(ufunc(*t)) if r.requires_grad], leaves)


def _listed(result):
    return list(result) if isinstance(result, tuple) else [result]


def test_methods_of_ufuncs():
    t = ag.tensor(A, requires_grad=True)
    for name in ("add", "multiply", "maximum", "minimum", "logaddexp"):
        ufunc = getattr(np, name)
        for axis in (0, 1, None):
            same(ufunc.reduce(t, axis=axis), ufunc.reduce(A, axis=axis))
        same(ufunc.reduce(t, axis=1, keepdims=True), ufunc.reduce(A, axis=1, keepdims=True))
        same(ufunc.accumulate(t, axis=1), ufunc.accumulate(A, axis=1))
        same(ufunc.outer(t, V), ufunc.outer(A, V))
        assert ag.gradcheck(lambda x, f=ufunc: f.accumulate(x, axis=1) * f.reduce(x, axis=0), (t,))
    with pytest.raises(TypeError, match=r"np\.hypot has no differentiable counterpart"):
        np.hypot.reduce(t)


def test_where_results_go():
    t = ag.tensor(A, requires_grad=True)
    out = ag.zeros(3, 3, dtype=ag.float64)
    assert np.multiply(A, t, out=out) is out
    assert out.requires_grad
    array = np.empty((3, 3))
    assert np.multiply(A, t.detach(), out=array) is array
    same(array, A * A)
    with pytest.raises(TypeError, match="a tensor that requires grad cannot be written into a NumPy array"):
        np.multiply(A, t, out=array)
    same(np.frexp(t.detach()), np.frexp(A))  # no counterpart, no history: NumPy's own answer
    with pytest.raises(TypeError, match=r"np\.frexp has no differentiable counterpart for Tensors that require grad"):
        np.frexp(t)


def test_operators_with_arrays():
    t = ag.tensor(A, requires_grad=True)
    for result, expected in ((B + t, B + A), (B @ t, B @ A), (B - t, B - A), (B / t, B / A), (np.float64(2) * t, 2 * A),
                             (B**t, B**A), (np.float32(1) - t, 1 - A)):  # fmt: skip
        assert isinstance(result, ag.Tensor)
        assert result.requires_grad
        same(result, expected)
    same(t < B, A < B)


# For every function: calls with f, the tensors (or arrays) x, y (3x3), v (4)
CALLS = {
    np.sum: lambda x, y, v: [np.sum(x), np.sum(x, axis=(0, 1)), np.sum(x, 1, keepdims=True)],
    np.mean: lambda x, y, v: [np.mean(x), np.mean(x, axis=0)],
    np.prod: lambda x, y, v: [np.prod(x), np.prod(x, axis=(0, 1)), np.prod(x, axis=1, keepdims=True)],
    np.nansum: lambda x, y, v: np.nansum(x, axis=1),
    np.nanmean: lambda x, y, v: np.nanmean(x, axis=1),
    np.max: lambda x, y, v: [np.max(x), np.max(x, axis=0)],
    np.min: lambda x, y, v: [np.min(x), np.min(x, axis=0, keepdims=True)],
    np.all: lambda x, y, v: np.all(x > 0.5, axis=0),
    np.any: lambda x, y, v: np.any(x > 0.5),
    np.var: lambda x, y, v: [np.var(x), np.var(x, axis=1, ddof=1)],
    np.std: lambda x, y, v: [np.std(x), np.std(x, axis=1, ddof=1, keepdims=True)],
    np.ptp: lambda x, y, v: [np.ptp(x), np.ptp(x, axis=0)],
    np.average: lambda x, y, v: [np.average(x), np.average(x, axis=1, weights=V[:3]), np.average(x, weights=y)],
    np.median: lambda x, y, v: [np.median(v), np.median(x, axis=0)],
    np.quantile: lambda x, y, v: [np.quantile(v, 0.3), np.quantile(x, [0.2, 0.7], axis=1)],
    np.percentile: lambda x, y, v: np.percentile(v, 40),
    np.cov: lambda x, y, v: [np.cov(x), np.cov(x, rowvar=False, ddof=0)],
    np.corrcoef: lambda x, y, v: np.corrcoef(x),
    np.cumsum: lambda x, y, v: [np.cumsum(x), np.cumsum(x, axis=1)],
    np.cumprod: lambda x, y, v: np.cumprod(x, axis=0),
    np.diff: lambda x, y, v: [np.diff(v), np.diff(x, 2, axis=0)],
    np.ediff1d: lambda x, y, v: np.ediff1d(x),
    np.gradient: lambda x, y, v: [np.gradient(v), np.gradient(v, 0.5), *np.gradient(x)],
    np.trapezoid: lambda x, y, v: [np.trapezoid(v), np.trapezoid(v, dx=2.0), np.trapezoid(x, y, axis=0)],
    np.sort: lambda x, y, v: [np.sort(x), np.sort(x, axis=None)],
    np.argsort: lambda x, y, v: np.argsort(x, axis=0),
    np.argmax: lambda x, y, v: [np.argmax(x), np.argmax(x, axis=1)],
    np.argmin: lambda x, y, v: np.argmin(x, axis=1),
    np.unique: lambda x, y, v: [np.unique(v), *np.unique(v, return_index=True, return_counts=True)],
    np.unique_values: lambda x, y, v: np.unique_values(v),
    np.clip: lambda x, y, v: [np.clip(x, 0.3, 0.6), np.clip(x, min=0.4)],
    np.round: lambda x, y, v: np.round(x, 1),
    np.fix: lambda x, y, v: np.fix(x * 5),
    np.sinc: lambda x, y, v: np.sinc(x),
    np.nan_to_num: lambda x, y, v: np.nan_to_num(x),
    np.isclose: lambda x, y, v: np.isclose(x, y),
    np.where: lambda x, y, v: [np.where(x > y, x, y), np.where(x > y, x, 0.0)],
    np.select: lambda x, y, v: np.select([x > 0.6, x > 0.3], [x, 2 * y], 1.0),
    np.take: lambda x, y, v: [np.take(x, [0, 2], axis=1), np.take(x, 4)],
    np.take_along_axis: lambda x, y, v: np.take_along_axis(x, np.array([[0], [2], [1]]), axis=1),
    np.delete: lambda x, y, v: [np.delete(v, 1), np.delete(x, [0, 2], axis=1)],
    np.append: lambda x, y, v: [np.append(v, 3.0), np.append(x, y, axis=0)],
    np.repeat: lambda x, y, v: [np.repeat(v, 2), np.repeat(x, [1, 0, 2], axis=0)],
    np.pad: lambda x, y, v: [np.pad(v, 2), np.pad(x, ((1, 0), (0, 2)), constant_values=3.0), np.pad(v, 3, "symmetric"),
                             np.pad(x, 2, mode="reflect"), np.pad(x, (1, 2), mode="edge"), np.pad(v, 3, "wrap")],
    np.concatenate: lambda x, y, v: [np.concatenate([x, y], axis=1), np.concatenate([x, y], axis=None)],
    np.block: lambda x, y, v: np.block([[x, y], [y, x]]),
    np.stack: lambda x, y, v: np.stack([x, y], axis=-1),
    np.vstack: lambda x, y, v: np.vstack([x, y]),
    np.hstack: lambda x, y, v: np.hstack([x, y]),
    np.dstack: lambda x, y, v: np.dstack([x, y]),
    np.column_stack: lambda x, y, v: np.column_stack([x, y]),
    np.split: lambda x, y, v: np.split(v, 2),
    np.array_split: lambda x, y, v: np.array_split(v, 3),
    np.atleast_1d: lambda x, y, v: [np.atleast_1d(v[0]), *np.atleast_1d(v, x)],
    np.atleast_2d: lambda x, y, v: np.atleast_2d(v),
    np.transpose: lambda x, y, v: [np.transpose(x), np.transpose(x, (1, 0))],
    np.matrix_transpose: lambda x, y, v: np.matrix_transpose(x),
    np.reshape: lambda x, y, v: np.reshape(v, (2, 2)),
    np.ravel: lambda x, y, v: np.ravel(x),
    np.squeeze: lambda x, y, v: [np.squeeze(x[None]), np.squeeze(x[None], axis=0)],
    np.expand_dims: lambda x, y, v: [np.expand_dims(x, 1), np.expand_dims(x, (0, -1))],
    np.swapaxes: lambda x, y, v: np.swapaxes(x, 0, 1),
    np.moveaxis: lambda x, y, v: np.moveaxis(x, 0, 1),
    np.rollaxis: lambda x, y, v: np.rollaxis(x[None], 2),
    np.broadcast_to: lambda x, y, v: np.broadcast_to(v, (2, 4)),
    np.broadcast_arrays: lambda x, y, v: np.broadcast_arrays(x, v[:3]),
    np.meshgrid: lambda x, y, v: [*np.meshgrid(v, v[:2]), *np.meshgrid(v, v[:2], indexing="ij")],
    np.tile: lambda x, y, v: [np.tile(v, 2), np.tile(x, (2, 1))],
    np.flip: lambda x, y, v: [np.flip(x), np.flip(x, 1)],
    np.fliplr: lambda x, y, v: np.fliplr(x),
    np.flipud: lambda x, y, v: np.flipud(x),
    np.rot90: lambda x, y, v: np.rot90(x, 3),
    np.roll: lambda x, y, v: [np.roll(x, 2), np.roll(x, 1, axis=0)],
    np.diag: lambda x, y, v: [np.diag(x, 1), np.diag(v)],
    np.diagonal: lambda x, y, v: np.diagonal(x, offset=-1),
    np.trace: lambda x, y, v: [np.trace(x), np.trace(x, offset=1)],
    np.tril: lambda x, y, v: np.tril(x, -1),
    np.triu: lambda x, y, v: np.triu(x),
    np.dot: lambda x, y, v: [np.dot(x, y), np.dot(v, v), np.dot(x, y[0]), np.dot(x, 2.0)],
    np.vdot: lambda x, y, v: np.vdot(x, y),
    np.inner: lambda x, y, v: np.inner(x, y),
    np.outer: lambda x, y, v: np.outer(x, v),
    np.kron: lambda x, y, v: np.kron(x, y),
    np.cross: lambda x, y, v: [np.cross(x, y), np.cross(x, y, axis=0)],
    np.tensordot: lambda x, y, v: np.tensordot(x, y, axes=([0], [1])),
    np.einsum: lambda x, y, v: np.einsum("ij,kj->ik", x, y),
    np.linalg.norm: lambda x, y, v: [np.linalg.norm(x), np.linalg.norm(v, 1), np.linalg.norm(x, axis=1)],
    np.linalg.svd: lambda x, y, v: np.linalg.svd(x, compute_uv=False),
    np.linalg.svdvals: lambda x, y, v: np.linalg.svdvals(x),
    np.linalg.eigh: lambda x, y, v: np.linalg.eigh(x @ x.T)[0],
    np.linalg.eigvalsh: lambda x, y, v: np.linalg.eigvalsh(x @ x.T),
    np.linalg.cholesky: lambda x, y, v: np.linalg.cholesky(x @ x.T + np.eye(3)),
    np.linalg.solve: lambda x, y, v: np.linalg.solve(x, y),
    np.linalg.slogdet: lambda x, y, v: np.linalg.slogdet(x),
    np.linalg.qr: lambda x, y, v: np.linalg.qr(x),
    np.linalg.matrix_power: lambda x, y, v: np.linalg.matrix_power(x, 3),
    np.linalg.pinv: lambda x, y, v: np.linalg.pinv(x),
    np.linalg.multi_dot: lambda x, y, v: np.linalg.multi_dot([x, y, x]),
    np.linalg.det: lambda x, y, v: np.linalg.det(x),
    np.linalg.inv: lambda x, y, v: np.linalg.inv(x),
    np.linalg.diagonal: lambda x, y, v: np.linalg.diagonal(x),
    np.linalg.trace: lambda x, y, v: np.linalg.trace(x),
    np.linalg.matrix_norm: lambda x, y, v: np.linalg.matrix_norm(x),
    np.linalg.matrix_transpose: lambda x, y, v: np.linalg.matrix_transpose(x),
    np.linalg.vector_norm: lambda x, y, v: np.linalg.vector_norm(x, axis=0),
    np.linalg.cross: lambda x, y, v: np.linalg.cross(x, y),
    np.linalg.matmul: lambda x, y, v: np.linalg.matmul(x, y),
    np.linalg.outer: lambda x, y, v: np.linalg.outer(v, v),
    np.linalg.tensordot: lambda x, y, v: np.linalg.tensordot(x, y, axes=1),
    np.linalg.vecdot: lambda x, y, v: np.linalg.vecdot(x, y),
    np.zeros_like: lambda x, y, v: np.zeros_like(x),
    np.ones_like: lambda x, y, v: np.ones_like(x),
    np.empty_like: lambda x, y, v: np.empty_like(x) * 0,
    np.full_like: lambda x, y, v: np.full_like(x, 3.0),
    np.copy: lambda x, y, v: np.copy(x),
    np.shape: lambda x, y, v: np.shape(x),
    np.ndim: lambda x, y, v: np.ndim(x),
    np.size: lambda x, y, v: [np.size(x), np.size(x, 1)],
    np.iscomplexobj: lambda x, y, v: np.iscomplexobj(x),
    np.isrealobj: lambda x, y, v: np.isrealobj(x),
}  # fmt: skip
if hasattr(np, "unstack"):  # since NumPy 2.1
    CALLS[np.unstack] = lambda x, y, v: np.unstack(x, axis=1)
    CALLS[np.cumulative_sum] = lambda x, y, v: np.cumulative_sum(x, axis=1, include_initial=True)
    CALLS[np.cumulative_prod] = lambda x, y, v: np.cumulative_prod(x, axis=1)


def _name(function):
    return f"{function.__module__.removeprefix('numpy')}.{function.__name__}".strip(".")


def test_every_function_is_called_here():
    assert set(FUNCTIONS) == set(CALLS)


@pytest.mark.parametrize("function", CALLS, ids=_name)
def test_functions(function):
    call = CALLS[function]
    leaves = [ag.tensor(x, requires_grad=True) for x in (A, B, V)]
    found = call(*leaves)
    same(found, call(A, B, V))

    def outputs(*tensors):
        result = call(*tensors)
        flat = result if isinstance(result, (list, tuple)) else [result]
        flat = [r for one in flat for r in (one if isinstance(one, (list, tuple)) else [one])]
        return tuple(r for r in flat if isinstance(r, ag.Tensor) and r.requires_grad)

    if outputs(*leaves) and function is not np.fix and function is not np.round:
        assert ag.gradcheck(outputs, leaves, atol=1e-4)


@pytest.mark.parametrize("function", [
    np.allclose, np.argwhere, np.array_equal, np.count_nonzero, np.flatnonzero, np.nonzero, np.linalg.matrix_rank],
    ids=lambda f: f.__name__)  # fmt: skip
def test_functions_without_gradients_take_tensors_with_history(function):
    arguments = (A, A) if function in (np.allclose, np.array_equal) else (A,)
    same(function(*[ag.tensor(a, requires_grad=True) for a in arguments]), function(*arguments))


def test_arguments_that_are_not_supported_are_named():
    t = ag.tensor(A, requires_grad=True)
    with pytest.raises(TypeError, match=r"np\.mean: got an unexpected keyword argument 'where'"):
        np.mean(t, where=A > 0.5)
    with pytest.raises(TypeError, match="out= is not supported for Tensors"):
        np.cumsum(t, out=np.empty(9))
    with pytest.raises(TypeError, match=r"np\.interp has no differentiable counterpart"):
        np.interp(t, [0.0, 1.0], [0.0, 1.0])


def test_arrays_of_tensors():
    t = ag.tensor(A)
    assert np.shares_memory(np.asarray(t), t.array)
    assert not np.shares_memory(np.array(t), t.array)
    assert np.asarray(t, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        np.asarray(t, np.float32, copy=False)
    with pytest.raises(RuntimeError, match=r"use tensor\.detach\(\)\.numpy\(\)"):
        np.asarray(ag.tensor(A, requires_grad=True))
    array = A.copy()
    array[ag.tensor([0, 1])] = 0  # as an index
    assert not array[:2].any()
    array[0] = ag.tensor(V[:3])
    same(array[0], V[:3])
