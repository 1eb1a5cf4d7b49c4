"""Running reductions along one dimension: cumsum, cumprod, cummax, logcumsumexp, cumulative_trapezoid."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import Kernel, composite, op, reduction
from ..shapes import normalize_dim, numpy_dtype, promote_to_float
from .reduce import SOME, one_dim_setting, sum_dtype
from .samples import distinct, integer, real, sample

LINES = [sample(real(3, 4), 1), sample(real(2, 3, 2), -2), sample(real(), 0)]


def _part(dim, start, stop):
    """The index that takes ``start:stop`` along ``dim``."""
    return (*[slice(None)] * dim, slice(start, stop))


def _by_kernel(record, *arrays, **settings):
    """What the kernel makes of large arrays that had to be brought into C order first, else NotImplemented."""
    first = arrays[0]
    if first.size < SOME or first.dtype.char not in "fd" or all([a.flags.c_contiguous for a in arrays]):
        return NotImplemented
    return record.run(*[np.ascontiguousarray(a) for a in arrays], **settings)


def _accumulate(function, input, dim, dtype):
    x = input if input.ndim else input[None]
    return function.accumulate(x, axis=dim, dtype=numpy_dtype(dtype, sum_dtype(input, None))).reshape(input.shape)


@op(reduction, signature="input, dim, *, dtype=None", prepare=one_dim_setting, inplace=True,
    kernel=Kernel("scan:cumsum", above=SOME), samples=LINES, onnx="CumSum",
    vjp=[lambda g, dim: cumsum_from_end(g, dim=dim)])  # fmt: skip
def cumsum(input, *, dim, dtype):
    """Running sums along ``dim``. Integers and booleans are summed as int64; large arrays of float32 in float64."""
    found = _by_kernel(cumsum.record, input, dim=dim, dtype=dtype)
    return _accumulate(np.add, input, dim, dtype) if found is NotImplemented else found


@op(reduction, namespace="internal", kernel=Kernel("scan:cumsum_from_end", above=SOME), prepare=one_dim_setting,
    samples=LINES, vjp=[lambda g, dim: cumsum(g, dim)])  # fmt: skip
def cumsum_from_end(input, *, dim):
    """Sums of each element and those behind it along ``dim``: the adjoint of `cumsum`."""
    if input.ndim == 0:
        return input.copy()
    found = _by_kernel(cumsum_from_end.record, input, dim=dim)
    return np.flip(_accumulate(np.add, np.flip(input, dim), dim, None), dim) if found is NotImplemented else found


@op(reduction, signature="input, dim, *, dtype=None", prepare=one_dim_setting, inplace=True,
    kernel=Kernel("scan:cumprod", above=SOME), samples=[*LINES, sample(integer(3, 4, low=0, high=3), 1)],
    vjp=[lambda g, input, out, dim: g if input.ndim == 0 else
         _earlier(out, dim) * ops.backward_recurrence(_next(input, dim), g, dim=dim)])  # fmt: skip
def cumprod(input, *, dim, dtype):
    """Running products along ``dim``. Integers and booleans are multiplied as int64.

    With prefix products P, x_k has the gradient P_{k-1} S_k, where S_k = g_k + x_{k+1} S_{k+1}: no division, so zeros
    need no care.
    """
    found = _by_kernel(cumprod.record, input, dim=dim, dtype=dtype)
    return _accumulate(np.multiply, input, dim, dtype) if found is NotImplemented else found


@op(reduction, namespace="internal", kernel=Kernel("scan:backward_recurrence", above=SOME), vjp=[
    lambda g, out, coefficients, dim: forward_recurrence(coefficients, g, dim) * _next(out, dim),
    lambda g, coefficients, dim: forward_recurrence(coefficients, g, dim)],
    samples=[sample(real(3, 4), real(3, 4), dim=1)])  # fmt: skip
def backward_recurrence(coefficients, input, *, dim):
    """S with S_k = input_k + coefficients_k S_{k+1} along ``dim``, from the last to the first, in log(n) passes.

    Each pass joins twice as many steps: two steps after one another are again of the form b + a S.
    """
    found = _by_kernel(backward_recurrence.record, coefficients, input, dim=dim)
    if found is not NotImplemented:
        return found
    a, b = coefficients.copy(), input.copy()
    step, size = 1, input.shape[dim]
    while step < size:
        here, there = _part(dim, 0, size - step), _part(dim, step, None)
        b[here] = b[here] + a[here] * b[there]
        a[here] = a[here] * a[there]
        step *= 2
    return b


def _next(x, dim):
    """``x`` moved by one place towards the front, with 0 behind."""
    return ops.cat([x[_part(dim, 1, None)], ops.zeros_like(x[_part(dim, 0, 1)])], dim)


def _earlier(x, dim):
    """``x`` moved by one place towards the end, with 1 in front."""
    return ops.cat([ops.ones_like(x[_part(dim, 0, 1)]), x[_part(dim, 0, -1)]], dim)


def forward_recurrence(coefficients, g, dim):
    """T with T_k = g_k + coefficients_{k-1} T_{k-1}: the adjoint of `backward_recurrence` in its input."""
    turned = ops.flip(coefficients, (dim,))
    return ops.flip(ops.backward_recurrence(_next(turned, dim), ops.flip(g, (dim,)), dim=dim), (dim,))


def _logcumsumexp_gradient(g, input, out, dim):
    """exp(x_k - out_k) R_k with R_k = g_k + exp(out_k - out_{k+1}) R_{k+1}: both exponents are at most 0."""
    if input.ndim == 0:
        return g
    following = ops.cat([out[_part(dim, 1, None)], out[_part(dim, -1, None)]], dim)
    ratio = ops.exp(ops.where(out == following, 0, out - following))
    share = ops.exp(ops.where(input == out, 0, input - out))
    return share * ops.backward_recurrence(ratio, g, dim=dim)


def _cumprod_from_end(x, dim):
    return ops.flip(ops.cumprod(ops.flip(x, (dim,)), dim), (dim,))


def _products_around(input, dim):
    behind = _cumprod_from_end(input, dim)
    last = ops.ones_like(input[_part(dim, 0, 1)])
    return _earlier(ops.cumprod(input, dim), dim) * ops.cat([behind[_part(dim, 1, None)], last], dim)


@op(reduction, namespace="internal", kernel=Kernel("scan:products_of_others", above=SOME), vjp=(),
    composite=_products_around, samples=[sample(real(3, 4), dim=1), sample(real(2, 3, 2), dim=0)])  # fmt: skip
def products_of_others(input, *, dim):
    """For each element the product of the others along ``dim``, without a division, so that zeros need no care."""
    before, behind = np.ones_like(input), np.ones_like(input)
    first, rest, back = _part(dim, 0, -1), _part(dim, 1, None), (*[slice(None)] * dim, slice(None, None, -1))
    np.multiply.accumulate(input[first], dim, out=before[rest])
    np.multiply.accumulate(input[rest][back], dim, out=behind[first][back])
    return before * behind


@op(reduction, signature="input, dim", prepare=one_dim_setting, kernel=Kernel("scan:logcumsumexp", above=SOME),
    samples=LINES, vjp=[_logcumsumexp_gradient])  # fmt: skip
def logcumsumexp(input, *, dim):
    """log(cumsum(exp(x))) along ``dim``, without overflow.

    Large arrays: float32 is worked out in float64 and rounded once; float64 within 2.5 ulp of the larger of it and 1.
    """
    if input.dtype.kind != "f":
        raise RuntimeError(f"logcumsumexp: input must be floating-point, got {input.dtype}")
    found = _by_kernel(logcumsumexp.record, input, dim=dim)
    return _accumulate(np.logaddexp, input, dim, None) if found is NotImplemented else found


@op(reduction, namespace="internal", kernel=Kernel("scan:collect", above=SOME), promote=False,
    vjp=[lambda g, indices, dim: ops.gather(g, dim, indices), None],
    samples=[sample(real(2, 3), np.array([[0, 0, 2], [0, 1, 1]]), dim=1)])  # fmt: skip
def collect(input, indices, *, dim):
    """Zeros to which each element is added at its index along ``dim``; indices do not go back, nor ahead of places."""
    return ops.scatter_in_zeros.record.run(input, indices, shape=input.shape, dim=dim)


RUNNING = {"signature": "input, dim", "prepare": one_dim_setting, "outputs": "values indices",
           "vjp": [lambda gs, indices, dim, input_shape: collect(gs[0], indices, dim=dim) if input_shape else gs[0]],
           "samples": [sample(distinct(3, 4), 1), sample(distinct(2, 3, 2), -2), sample(real(), 0)]}  # fmt: skip


def _running_extreme(record, extreme, input, dim):
    if input.ndim == 0:
        return input.copy(), np.zeros((), np.int64)
    found = _by_kernel(record, input, dim=dim)
    if found is not NotImplemented:
        return found
    values = extreme.accumulate(input, axis=dim)
    places = np.arange(input.shape[dim]).reshape((-1,) + (1,) * (input.ndim - 1 - dim))
    reached = input == values
    reached |= input != input
    return values, np.maximum.accumulate(reached * places, dim)


@op(reduction, kernel=Kernel("scan:cummax", above=SOME), **RUNNING)
def cummax(input, *, dim):
    """Running maxima along ``dim``, and the last places where they were reached."""
    return _running_extreme(cummax.record, np.maximum, input, dim)


@op(reduction, kernel=Kernel("scan:cummin", above=SOME), **RUNNING)
def cummin(input, *, dim):
    """Running minima along ``dim``, and the last places where they were reached."""
    return _running_extreme(cummin.record, np.minimum, input, dim)


def spacing(y, x, dx, dim):
    """The steps of the trapezoid rule: ``dx``, or the differences of ``x`` (a vector goes along ``dim``)."""
    if x is None:
        return dx
    if x.ndim == 1:
        if x.shape[0] != y.shape[dim]:
            raise RuntimeError(f"trapezoid: x has {x.shape[0]} points, y has {y.shape[dim]} along dim {dim}")
        return ops.reshape(ops.diff(x), (-1, *[1] * (y.ndim - 1 - dim)))
    return ops.diff(x, dim=dim - y.ndim)


def _line_dim(y, dim):
    """``dim`` of an integral, counted from the front."""
    dim = normalize_dim(dim, y.ndim)
    if y.ndim == 0:
        raise RuntimeError("trapezoid: y must have at least 1 dimension, got a 0-d tensor")
    return dim


def _trapezoids(y, x, dx, dim):
    """The areas between neighbouring points along ``dim``."""
    return (y[_part(dim, 1, None)] + y[_part(dim, 0, -1)]) * (spacing(y, x, dx, dim) * 0.5)


def _spread_of_even(g, dim, input_shape):
    """The gradient handed to all points, half of it to the first and the last."""
    size, g = input_shape[dim], ops.unsqueeze(g, dim)
    if size < 2:
        return ops.zeros_like(ops.expand(g, input_shape))
    inner = ops.expand(g, (*input_shape[:dim], size - 2, *input_shape[dim + 1 :]))
    return ops.cat([g * 0.5, inner, g * 0.5], dim)


@op(reduction, namespace="internal", promote=promote_to_float, vjp=[_spread_of_even],
    samples=[sample(real(3, 4), dim=1)])  # fmt: skip
def even_trapezoid(input, *, dim):
    """The trapezoid rule with steps of 1: the sum less half of the first and the last element."""
    total = ops.sum.record.run(input, dim=(dim,), keepdim=False, dtype=None)
    if input.shape[dim] == 0:
        return total
    every = (slice(None),) * dim
    return total - (input[(*every, 0)] + input[(*every, -1)]) * 0.5


@op(composite, method=False, aliases=["trapz"],
    samples=[sample(real(3, 4)), sample(real(3, 4), real(4), dim=1), sample(real(3, 4), dx=2)])  # fmt: skip
def trapezoid(y, x=None, *, dx=1.0, dim=-1):
    """Integral of ``y`` along ``dim`` by the trapezoid rule, over points ``x`` or with constant spacing ``dx``."""
    dim = _line_dim(y, dim)
    if x is not None:
        return ops.sum(_trapezoids(y, x, dx, dim), dim)
    area = even_trapezoid(y, dim=dim)
    return area if type(dx) is float and dx == 1 else area * dx


@op(composite, method=False, samples=[sample(real(3, 4)), sample(real(3, 4), real(4), dim=1)])
def cumulative_trapezoid(y, x=None, *, dx=1.0, dim=-1):
    """Running integrals of ``y`` along ``dim`` by the trapezoid rule: one value fewer than points."""
    dim = _line_dim(y, dim)
    return ops.cumsum(_trapezoids(y, x, dx, dim), dim)
