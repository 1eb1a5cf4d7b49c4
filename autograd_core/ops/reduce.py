"""Reductions over dimensions: sum, mean, prod, max and min, all and any, var and std, logsumexp."""

from __future__ import annotations

import builtins
from collections import namedtuple
from math import inf, nan
from math import prod as product

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import Kernel, composite, op, reduction
from ..shapes import default_dtype, normalize_dim, normalize_dims, numpy_dtype
from ..tensor import Tensor
from .pointwise import one_loop
from .samples import boolean, distinct, integer, real, sample

INT64 = np.dtype(np.int64)
LARGE = 8192  # elements from which a kernel beats NumPy's one pass
SOME = 2048  # the same where NumPy takes several passes, or a slow one
ALL = [tuple(range(ndim)) for ndim in range(65)]  # the dims of an array, by their number
DIMS = [real(3, 4), sample(real(3, 4), 1), sample(real(2, 3, 4), (0, -1), True), sample(real(), 0)]

# ---------------------------------------------------------------------------------------------------- shared


def dims_setting(arrays, settings):
    """Normalise ``dim`` to a tuple of dims; None and () mean all."""
    dim, ndim = settings["dim"], arrays[0].ndim
    return {**settings, "dim": ALL[ndim] if dim is None else all_dims(dim, ndim)}


def all_dims(dim, ndim):
    """``dim`` as a tuple of dims; None and () mean all, and a 0-d input has none to reduce."""
    dims = normalize_dims(dim, ndim)
    return dims if ndim else ()


def one_dim_setting(arrays, settings):
    """Normalise ``dim``, one int."""
    return {**settings, "dim": normalize_dim(settings["dim"], arrays[0].ndim)}


def restore(g, dim, keepdim, ndim):
    """The gradient of a reduction's result with the reduced dims back as size 1, ready to be broadcast."""
    if keepdim or not g.ndim:
        return g
    shape = list(g.shape)
    for d in sorted(dim):
        shape.insert(d, 1)
    return ops.reshape(g, tuple(shape)) if ndim else g


def count_of(shape, dim):
    """How many elements a reduction of ``shape`` over the dims ``dim`` (None: all) takes together."""
    return product(shape if dim is None else [shape[d] for d in dim])


def nonempty(name, input, dim):
    """Raise where a reduction without a neutral element would run over nothing."""
    if input.size == 0 and (builtins.len(dim) in (0, input.ndim) or 0 in [input.shape[d] for d in dim]):
        raise IndexError(f"{name}: expected the reduced dims {dim} of shape {list(input.shape)} to have non-zero sizes")


def need_float(name, kind):
    """Raise unless ``kind`` is a floating-point type."""
    if kind.kind != "f":
        raise RuntimeError(f"{name}: the input dtype must be a floating-point type, got {kind.name}")


def sum_dtype(input, dtype):
    """The type in which to sum: int64 for integers and booleans unless ``dtype`` says otherwise."""
    return numpy_dtype(dtype) if dtype is not None else INT64 if input.dtype.kind in "biu" else input.dtype


def add_reduce(input, dim, keepdim, kind):
    """Sum in ``kind``; half precision is summed in single."""
    if kind.itemsize == 2 and kind.kind == "f":
        return np.add.reduce(input, axis=dim, keepdims=keepdim, dtype=np.float32).astype(kind)
    return np.add.reduce(input, axis=dim, keepdims=keepdim, dtype=kind)


# ---------------------------------------------------------------------------------------------------- sums


@op(reduction, kernel=Kernel("reduce:sum", above=LARGE), prepare=dims_setting,
    signature="input, dim=None, keepdim=False, *, dtype=None", samples=DIMS,
    vjp=[lambda g, dim, keepdim, input_shape: restore(g, dim, keepdim, len(input_shape))],
    onnx="ReduceSum")  # fmt: skip
def sum(input, *, dim, keepdim, dtype):
    """Sum over ``dim`` (an int or several; all by default). Integers and booleans are summed as int64."""
    if dtype is None and input.dtype.char in "fd":
        return np.add.reduce(input, dim, None, None, keepdim)
    return add_reduce(input, dim, keepdim, sum_dtype(input, dtype))


@op(reduction, kernel=Kernel("reduce:mean", above=LARGE), prepare=dims_setting,
    signature="input, dim=None, keepdim=False, *, dtype=None",
    samples=DIMS,
    vjp=[lambda g, dim, keepdim, input_shape: restore(g, dim, keepdim, len(input_shape))
         / builtins.max(1, count_of(input_shape, dim))], onnx="ReduceMean")  # fmt: skip
def mean(input, *, dim, keepdim, dtype):
    """Mean over ``dim`` (an int or several; all by default); NaN over nothing."""
    kind = input.dtype if dtype is None else numpy_dtype(dtype)
    need_float("mean", kind)
    return add_reduce(input, dim, keepdim, kind) / kind.type(count_of(input.shape, dim))


@one_loop
def _where_present(input, g):
    return ops.where(ops.isnan(input), 0, g)


@op(reduction, kernel=Kernel("reduce:nansum", above=SOME), prepare=dims_setting,
    signature="input, dim=None, keepdim=False, *, dtype=None", samples=DIMS,
    vjp=[lambda g, input, dim, keepdim: _where_present(input, restore(g, dim, keepdim, input.ndim))])  # fmt: skip
def nansum(input, *, dim, keepdim, dtype):
    """Sum over ``dim`` with NaN taken as 0."""
    kind = sum_dtype(input, dtype)
    return add_reduce(np.where(input != input, input.dtype.type(0), input), dim, keepdim, kind)


@op(reduction, kernel=Kernel("reduce:count_present", above=SOME), namespace="internal", prepare=dims_setting,
    samples=[sample(real(3, 4), 1, False)])  # fmt: skip
def count_present(input, *, dim, keepdim):
    """The number of elements over ``dim`` that are not NaN."""
    return np.add.reduce(input == input, dim, INT64, None, keepdim)


@op(composite, out=True, samples=DIMS)
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """Mean over ``dim`` of what is not NaN."""
    need_float("nanmean", np.dtype(input.dtype if not isinstance(input, Tensor) else input.array.dtype))
    return nansum(input, dim, keepdim, dtype=dtype) / count_present(input, dim=dim, keepdim=keepdim)


@op(reduction, signature="input, dim=None", kernel=Kernel("reduce:count_nonzero", above=SOME), prepare=dims_setting,
    samples=[integer(3, 4), sample(integer(3, 4), 1)])  # fmt: skip
def count_nonzero(input, *, dim):
    """The number of elements other than zero."""
    if input.dtype.char in "ilq" and input.size >= SOME:
        from ..kernels.plan import execute
        from ..kernels.reduce import count_nonzero as plan

        found = execute(plan, (input,), dim=dim)
        if found is not NotImplemented:
            return found
    if builtins.len(dim) == input.ndim:
        return np.asarray(np.count_nonzero(input))
    return np.add.reduce(input if input.dtype == bool else input != 0, dim, INT64)


@op(reduction, signature="input", vjp=[lambda g, input_shape: along_diagonal(g, shape=tuple(input_shape))],
    samples=[real(3, 4)])  # fmt: skip
def trace(input):
    """Sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, got shape {list(input.shape)}")
    return add_reduce(input.diagonal(), 0, False, sum_dtype(input, None))


@op(reduction, namespace="internal", vjp=[lambda g: trace(g)], samples=[sample(real(), shape=(3, 2))])
def along_diagonal(input, *, shape):
    """A matrix of this shape with a number all along the diagonal and zeros elsewhere: the adjoint of `trace`."""
    out, columns = np.zeros(shape, input.dtype), shape[1]
    out.reshape(-1)[: columns * columns : columns + 1] = input
    return out


# ---------------------------------------------------------------------------------------------------- products


def _prod_settings(arrays, settings):
    dim = settings["dim"]
    return {**settings, "dim": None if dim is None else normalize_dim(dim, arrays[0].ndim)}


def _prod_gradient(g, input, dim, keepdim):
    if input.ndim == 0:
        return g
    if dim is None:
        return g * ops.reshape(ops.products_of_others(ops.reshape(input, (-1,)), dim=0), tuple(input.shape))
    return restore(g, (dim,), keepdim, input.ndim) * ops.products_of_others(input, dim=dim)


@op(reduction, signature="input, dim=None, keepdim=False, *, dtype=None", prepare=_prod_settings, vjp=[_prod_gradient],
    kernel=Kernel("reduce:prod", above=SOME),
    samples=[real(3, 4), sample(real(3, 4), 1), sample(real(2, 3, 4), -2, True),
             sample(integer(3, 4, low=0, high=2), 1)])  # fmt: skip
def prod(input, *, dim, keepdim, dtype):
    """Product over ``dim`` (all by default). Integers and booleans are multiplied as int64."""
    axis = None if dim is None or input.ndim == 0 else dim
    return np.multiply.reduce(input, axis=axis, keepdims=keepdim, dtype=sum_dtype(input, dtype))


# ---------------------------------------------------------------------------------------------------- extremes


@one_loop
def _shared(equal, share):
    """The share where elements are equal to the extreme, and 0 elsewhere; NaN everywhere if none is."""
    return ops.where(equal, share, share * 0)


@one_loop
def _same(input, out):
    """Whether elements are equal to a number, NaN to NaN."""
    return ops.logical_or(input == out, ops.logical_and(input != input, out != out))


def _even_split(g, input, out, dim, keepdim):
    """The gradient shared among all elements equal to the extreme."""
    equal = input == restore(out, dim, keepdim, input.ndim)
    count = ops.to(restore(count_nonzero(equal, dim), dim, False, input.ndim), dtype=g.dtype)
    return _shared(equal, restore(g, dim, keepdim, input.ndim) / count)


def split_evenly(g, input, out):
    """The gradient of one value picked from all elements, shared among those equal to it; NaN equals NaN here."""
    equal = _same(input, out)
    return _shared(equal, g / ops.to(count_nonzero(equal), dtype=g.dtype))


EXTREMES = [distinct(3, 4), sample(distinct(3, 4), 1), sample(distinct(2, 3, 4), (0, -1), True), sample(real(), 0)]


@op(reduction, kernel=Kernel("reduce:amax", above=SOME), signature="input, dim=(), keepdim=False",
    prepare=dims_setting, vjp=[_even_split], samples=EXTREMES, onnx="ReduceMax")  # fmt: skip
def amax(input, *, dim, keepdim):
    """Largest value over ``dim`` (an int or several; all by default); the gradient is shared evenly among ties."""
    nonempty("amax", input, dim)
    return np.maximum.reduce(input, axis=dim, keepdims=keepdim)


@op(reduction, kernel=Kernel("reduce:amin", above=SOME), signature="input, dim=(), keepdim=False",
    prepare=dims_setting, vjp=[_even_split], samples=EXTREMES, onnx="ReduceMin")  # fmt: skip
def amin(input, *, dim, keepdim):
    """Smallest value over ``dim`` (an int or several; all by default); the gradient is shared evenly among ties."""
    nonempty("amin", input, dim)
    return np.minimum.reduce(input, axis=dim, keepdims=keepdim)


MinMax = namedtuple("MinMax", "min max")


@op(composite, out=True, samples=[distinct(3, 4), sample(distinct(3, 4), dim=1)])
def aminmax(input, *, dim=None, keepdim=False):
    """Smallest and largest value over ``dim``, as (min, max)."""
    dims = () if dim is None else normalize_dim(dim, input.ndim)
    return MinMax(amin(input, dims, keepdim), amax(input, dims, keepdim))


def selection_gradient(g, indices, dim, keepdim, shape):
    """The gradient of values picked along ``dim``, put where they came from; zeros elsewhere."""
    if not shape:
        return g
    if not keepdim:
        line = (*shape[:dim], 1, *shape[dim + 1 :])
        g, indices = ops.reshape(g, line), ops.reshape(indices, line)
    return ops.scatter_in_zeros(g, indices, shape=tuple(shape), dim=dim)


def _along(name, pick, extreme):
    """The record of the extreme along one dimension together with its index, for max and min."""

    @op(reduction, name=f"{name}_along", namespace="internal", outputs="values indices", prepare=one_dim_setting,
        kernel=Kernel(f"reduce:{name}_along", above=SOME),
        vjp=[lambda gs, indices, dim, keepdim, input_shape: selection_gradient(
            gs[0], indices, dim, keepdim, input_shape)],
        samples=[sample(distinct(3, 4), 1, False), sample(distinct(3, 4), 0, True)])  # fmt: skip
    def along(input, *, dim, keepdim):
        """The extreme along one dimension and the index of its first place."""
        if input.ndim == 0:
            return input.copy(), np.zeros((), np.int64)
        nonempty(name, input, (dim,))
        indices = pick(input, axis=dim, keepdims=keepdim)
        return extreme.reduce(input, axis=dim, keepdims=keepdim), indices

    return along


def _of_all(name, extreme):
    """The record of the extreme of all elements, for max and min."""

    @op(reduction, name=f"{name}_of_all", namespace="internal", vjp=[split_evenly],
        kernel=Kernel(f"reduce:a{name}", above=SOME), samples=[distinct(3, 4)])  # fmt: skip
    def of_all(input):
        """The extreme of all elements."""
        nonempty(name, input, ())
        return extreme.reduce(input, axis=None)

    return of_all


max_of_all, min_of_all = _of_all("max", np.maximum), _of_all("min", np.minimum)
max_along, min_along = _along("max", np.ndarray.argmax, np.maximum), _along("min", np.ndarray.argmin, np.minimum)
THREE_FORMS = [distinct(3, 4), sample(distinct(3, 4), 1), sample(distinct(3, 4), dim=0, keepdim=True),
               sample(real(3, 4), real(4))]  # fmt: skip


def _three_forms(input, dim, keepdim, other, out, total, along, pairwise):
    if other is None and not hasattr(dim, "__index__") and dim is not None:
        dim, other = None, dim
    if isinstance(dim, (Tensor, np.ndarray)):
        dim, other = None, dim
    if other is not None:
        result = pairwise(input, other)
    else:
        result = total(input) if dim is None else along(input, dim, keepdim)
    return result if out is None else write_out(out, result)


@op(composite, samples=THREE_FORMS)
def max(input, dim=None, keepdim=False, *, other=None, out=None):
    """Largest value of all; or values and indices along ``dim``; or, of two tensors, the larger elements."""
    return _three_forms(input, dim, keepdim, other, out, max_of_all, max_along, ops.maximum)


@op(composite, samples=THREE_FORMS)
def min(input, dim=None, keepdim=False, *, other=None, out=None):
    """Smallest value of all; or values and indices along ``dim``; or, of two tensors, the smaller elements."""
    return _three_forms(input, dim, keepdim, other, out, min_of_all, min_along, ops.minimum)


WHERE = {"signature": "input, dim=None, keepdim=False", "prepare": _prod_settings,
         "samples": [distinct(3, 4), sample(distinct(3, 4), 1), sample(distinct(3, 4), -2, True)]}  # fmt: skip


def _place(name, pick, input, dim, keepdim):
    if input.dtype == bool:
        raise RuntimeError(f"{name}: bool input is not supported")
    if input.ndim == 0:
        return np.zeros((), np.int64)
    nonempty(name, input, tuple(range(input.ndim)) if dim is None else (dim,))
    return pick(input, axis=dim, keepdims=keepdim)


@op(reduction, kernel=Kernel("reduce:argmax", above=8 * LARGE), **WHERE)
def argmax(input, *, dim, keepdim):
    """Index of the largest element along ``dim`` (in the flattened input by default); the first among equals."""
    return _place("argmax", np.ndarray.argmax, input, dim, keepdim)


@op(reduction, kernel=Kernel("reduce:argmin", above=8 * LARGE), **WHERE)
def argmin(input, *, dim, keepdim):
    """Index of the smallest element along ``dim`` (in the flattened input by default); the first among equals."""
    return _place("argmin", np.ndarray.argmin, input, dim, keepdim)


# ---------------------------------------------------------------------------------------------------- all, any


def _truth_dims(arrays, settings):
    dim = settings["dim"]
    dim = () if isinstance(dim, (tuple, list)) and builtins.len(dim) == 0 else all_dims(dim, arrays[0].ndim)
    return {**settings, "dim": dim}


def _truth(input, dim, keepdim, reduce):
    found = reduce(input, axis=dim if input.ndim else (), keepdims=keepdim)
    return found.astype(np.uint8 if input.dtype == np.uint8 else bool)


@op(reduction, signature="input, dim=None, keepdim=False", prepare=_truth_dims,
    samples=[boolean(3, 4), sample(boolean(3, 4), 1)])  # fmt: skip
def all(input, *, dim, keepdim):
    """Whether all elements over ``dim`` are true (not zero); bool, or uint8 for uint8."""
    return _truth(input, dim, keepdim, np.logical_and.reduce)


@op(reduction, signature="input, dim=None, keepdim=False", prepare=_truth_dims,
    samples=[boolean(3, 4), sample(boolean(3, 4), 1)])  # fmt: skip
def any(input, *, dim, keepdim):
    """Whether any element over ``dim`` is true (not zero); bool, or uint8 for uint8."""
    return _truth(input, dim, keepdim, np.logical_or.reduce)


# ---------------------------------------------------------------------------------------------------- spread


def _spread_settings(arrays, settings):
    """What PyTorch's three call forms (``var(x, False)`` among them) say, as dims and a number."""
    dim, unbiased, correction = settings["dim"], settings["unbiased"], settings["correction"]
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    return {**settings, "dim": all_dims(dim, arrays[0].ndim), "unbiased": None,
            "correction": 1 if correction is None else correction}  # fmt: skip


def _var(input, dim, correction, keepdim):
    need_float("var, std", input.dtype)
    count = count_of(input.shape, dim)
    x = input.astype(np.float32) if input.dtype.itemsize == 2 else input
    centred = x - np.add.reduce(x, dim, None, None, True) / count
    squares = np.add.reduce(centred * centred, dim, None, None, keepdim) / builtins.max(0, count - correction)
    return squares if x is input else squares.astype(input.dtype)


@one_loop
def _centred(input, mean, share):
    return (input - mean) * share


def _var_gradient(g, input, dim, correction, keepdim):
    """2 (x - mean) / (count - correction); where that divides by 0, NaN at the mean and infinite elsewhere."""
    left = count_of(input.shape, dim) - correction
    g = restore(g, dim, keepdim, input.ndim)
    if left <= 0:
        return g * ops.where(input == mean(input, dim, True), nan, inf)
    return _centred(input, mean(input, dim, True), g * (2 / left))


def _std_gradient(g, input, out, dim, correction, keepdim):
    return _var_gradient(ops.where(out == 0, 0, g / (out * 2)), input, dim, correction, keepdim)


SPREAD = {"signature": "input, dim=None, unbiased=None, keepdim=False, *, correction=None", "prepare": _spread_settings,
          "samples": [real(3, 4), sample(real(3, 4), 1), sample(real(3, 4), False), sample(real(3, 4), 0, correction=2),
                      sample(real(2, 3, 4), (0, 2), keepdim=True)]}  # fmt: skip


@op(reduction, kernel=Kernel("variance:var", above=SOME), vjp=[_var_gradient], **SPREAD)
def var(input, *, dim, unbiased, keepdim, correction):
    """Variance over ``dim``: sum (x - mean)² / (count - correction), with ``correction`` 1 unless said otherwise."""
    return _var(input, dim, correction, keepdim)


@op(reduction, kernel=Kernel("variance:std", above=SOME), vjp=[_std_gradient], **SPREAD)
def std(input, *, dim, unbiased, keepdim, correction):
    """Standard deviation: the root of `var`; its gradient is 0 where the deviation is."""
    return np.sqrt(_var(input, dim, correction, keepdim))


@op(composite, samples=SPREAD["samples"])
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Variance and mean over ``dim``, as (var, mean)."""
    value = var(input, dim, unbiased, keepdim, correction=correction)
    return value, mean(input, None if isinstance(dim, bool) else dim, keepdim)


@op(composite, samples=SPREAD["samples"])
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Standard deviation and mean over ``dim``, as (std, mean)."""
    value = std(input, dim, unbiased, keepdim, correction=correction)
    return value, mean(input, None if isinstance(dim, bool) else dim, keepdim)


# ---------------------------------------------------------------------------------------------------- logsumexp


def _as_float(values):
    return [v.astype(default_dtype()) if v.dtype.kind != "f" else v for v in values]


@one_loop
def _softmax_times(input, out, g):
    return ops.exp(input - out) * g


@op(reduction, signature="input, dim, keepdim=False", prepare=dims_setting, promote=_as_float, onnx="ReduceLogSumExp",
    kernel=Kernel("reduce:logsumexp", above=SOME),
    vjp=[lambda g, input, out, dim, keepdim: _softmax_times(
        input, restore(out, dim, keepdim, input.ndim), restore(g, dim, keepdim, input.ndim))],
    aliases=["special.logsumexp"], samples=[sample(real(3, 4), 1), sample(real(2, 3, 4), (0, -1), True)])  # fmt: skip
def logsumexp(input, *, dim, keepdim):
    """log(sum(exp(x))) over ``dim``, without overflow; errors stay below an ulp of the larger of it and 1."""
    if input.size == 0:
        return np.log(np.add.reduce(np.exp(input), axis=dim, keepdims=keepdim))
    top = np.maximum.reduce(input, axis=dim, keepdims=True)
    top = np.where(np.isinf(top), 0, top)
    total = np.log(np.add.reduce(np.exp(input - top), axis=dim, keepdims=keepdim))
    return total + (top if keepdim else top.reshape(total.shape))
