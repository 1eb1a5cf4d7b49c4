"""Products summed over dimensions: matmul, linear, the add-and-multiply family, tensordot, kron, cross."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod

import numpy as np

from .. import ops
from ..kernels.blas import blas_one_thread
from ..registry import Kernel, composite, contraction, op
from ..shapes import ndarray, normalize_dim, numpy_dtype
from .reduce import LARGE
from .samples import real, sample

blas_one_thread()  # its pool would fight with ours, and its bits depend on the number of threads

# ---------------------------------------------------------------------------------------------------- matrix products


def _require(condition, message):
    """Raise with ``message`` (made only then) unless ``condition`` holds."""
    if not condition:
        raise RuntimeError(message())


BOOL, SINGLE, DOUBLE = np.dtype(bool), np.dtype(np.float32), np.dtype(np.float64)


def _one_dtype(name, *arrays):
    """Raise unless all arrays have one type (not bool): products do not promote."""
    first = arrays[0].dtype
    if first == BOOL:
        raise RuntimeError(f"{name}: products of bool tensors are not supported")
    for array in arrays:
        if array is not None and array.dtype != first:
            names = ", ".join(str(a.dtype) for a in arrays if a is not None)
            raise RuntimeError(f"{name}: expected all tensors to have the same dtype, got {names}")


SMALL = 700_000  # multiplications below which BLAS on one thread is done before our kernel has begun
IS_SMALL = f"{{1}}.ndim == 2 and {{0}}.size * {{1}}.shape[1] < {SMALL}"


def _product(a, b):
    """``a @ b`` of arrays of one dtype; `np.dot` has less around its call of BLAS, and copies what BLAS cannot read."""
    kind = a.dtype
    if (kind is SINGLE or kind is DOUBLE) and a.ndim == 2 == b.ndim:
        try:
            return a.dot(b)
        except ValueError:  # they do not fit: said below in other words
            pass
    return a @ b


def _times(a, b):
    """``a @ b`` inside a gradient rule: small matrices need no door."""
    if type(a) is ndarray and a.ndim == 2 == b.ndim and a.size * b.shape[1] < SMALL:
        return _product(a, b)
    return ops.matmul(a, b)


def _turned(x):
    """A matrix transposed, inside a gradient rule."""
    return x.T if type(x) is ndarray else ops.transpose(x, 0, 1)


def _rows(x):
    """All dims but the last as one, so that a stack of matrices times one matrix is a single product."""
    return ops.reshape(x, (prod(x.shape[:-1]), x.shape[-1])) if x.ndim != 2 else x


def left_gradient(g, other, ndim):
    """Gradient of ``input @ other`` for an ``input`` of ``ndim`` dims; broadcast dims are left for the engine."""
    if other.ndim == 1:
        return g * other if ndim == 1 else ops.reshape(g, (*g.shape, 1)) * other
    if other.ndim == 2:
        return _times(g if ndim > 1 else ops.reshape(g, (1, -1)), _turned(other))
    if ndim == 1:
        g = ops.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    return ops.matmul(g, ops.transpose(other, -2, -1))


def right_gradient(g, input, ndim):
    """Gradient of ``input @ other`` for an ``other`` of ``ndim`` dims, as `left_gradient`."""
    if ndim == 1:
        return g * input if input.ndim == 1 else ops.matmul(ops.reshape(g, (-1,)), _rows(input))
    if input.ndim == 1:
        return ops.reshape(input, (-1, 1)) * ops.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    if ndim == 2:
        return _times(_turned(_rows(input)), _rows(g))
    return ops.matmul(ops.transpose(input, -2, -1), g)


@op(contraction, promote=False, onnx="MatMul", aliases=["linalg.matmul"],
    kernel=Kernel("gemm:matmul", small=IS_SMALL),
    vjp=[lambda g, other, input_shape: left_gradient(g, other, len(input_shape)),
         lambda g, input, other_shape: right_gradient(g, input, len(other_shape))],
    samples=[sample(real(3, 4), real(4, 2)), sample(real(4), real(4)), sample(real(3, 4), real(4)),
             sample(real(4), real(4, 2)),
             sample(real(2, 3, 4), real(4, 2)), sample(real(3, 4), real(2, 4, 2)), sample(real(4), real(2, 4, 2)),
             sample(real(2, 3, 4), real(4)), sample(real(5, 1, 3, 4), real(2, 4, 2))])  # fmt: skip
def matmul(input, other):
    """Matrix product; vectors are rows on the left and columns on the right, dims before the last two broadcast."""
    if input.dtype is not other.dtype or input.dtype is BOOL:
        _one_dtype("matmul", input, other)
    if input.ndim == 2 == other.ndim:
        return _product(input, other)
    if input.ndim > 2 and other.ndim == 2 and input.shape[-1] == len(other) and input.size:
        return (input.reshape(-1, input.shape[-1]) @ other).reshape(*input.shape[:-1], other.shape[1])
    return input @ other


@op(contraction, promote=False, onnx="MatMul", samples=[sample(real(3, 4), real(4, 2))],
    kernel=Kernel("gemm:matmul", small=IS_SMALL, when=lambda input, mat2: input.ndim == 2 == mat2.ndim),
    vjp=[lambda g, mat2: _times(g, _turned(mat2)), lambda g, input: _times(_turned(input), g)])  # fmt: skip
def mm(input, mat2):
    """Product of two matrices."""
    if input.ndim != 2 or mat2.ndim != 2:
        raise RuntimeError(f"mm: input and mat2 must have 2 dimensions, got shapes {list(input.shape)} and "
                           f"{list(mat2.shape)}")  # fmt: skip
    if input.dtype is not mat2.dtype or input.dtype is BOOL:
        _one_dtype("mm", input, mat2)
    return _product(input, mat2)


@op(contraction, promote=False, onnx="MatMul", samples=[sample(real(2, 3, 4), real(2, 4, 2))],
    kernel=Kernel("gemm:matmul", when=lambda input, mat2: input.ndim == 3 == mat2.ndim and len(input) == len(mat2)),
    vjp=[lambda g, mat2: ops.matmul(g, ops.transpose(mat2, 1, 2)),
         lambda g, input: ops.matmul(ops.transpose(input, 1, 2), g)])  # fmt: skip
def bmm(input, mat2):
    """Products of the matrices of two stacks of equal length."""
    if input.ndim != 3 or mat2.ndim != 3 or len(input) != len(mat2):
        raise RuntimeError("bmm: input and mat2 must have 3 dimensions and equal batch sizes, "
                           f"got shapes {list(input.shape)} and {list(mat2.shape)}")  # fmt: skip
    _one_dtype("bmm", input, mat2)
    return input @ mat2


def _linear_input(g, weight):
    return _times(g, weight) if weight.ndim == 2 else ops.reshape(g, (*g.shape, 1)) * weight


def _linear_weight(g, input, weight_shape):
    if type(g) is ndarray and g.ndim == 2 == input.ndim:
        return _times(g.T, input)
    if len(weight_shape) == 1:
        return ops.matmul(ops.reshape(g, (-1,)), _rows(input)) if input.ndim > 1 else g * input
    if g.ndim == 1:
        return ops.reshape(g, (-1, 1)) * input
    if type(input) is ndarray:
        input, g = _in_order(input, g)
    return _times(_turned(_rows(g)), _rows(input))


def _linear_bias(g, bias_shape):
    """The gradient summed over rows where that is worth a kernel; else the engine sums what was broadcast."""
    if type(g) is ndarray and g.ndim > 1 and bias_shape == g.shape[-1:]:
        if g.size >= LARGE:
            return ops.sum(_rows(*_in_order(g)), 0)
        if g.ndim == 2:
            return np.add.reduce(g, 0)
    return g


def _in_order(*arrays):
    """Arrays with their leading dims in the order that the first has in memory, for sums over rows in any order."""
    first = arrays[0]
    if first.ndim < 3 or first.flags.c_contiguous:
        return arrays
    order = *sorted(range(first.ndim - 1), key=lambda d: -first.strides[d]), first.ndim - 1
    return tuple([a.transpose(order) for a in arrays])


@op(contraction, namespace="nn.functional", promote=False, out=False, signature="input, weight, bias=None", onnx="Gemm",
    kernel=Kernel("gemm:linear"),
    vjp=[lambda g, weight: _linear_input(g, weight),
         lambda g, input, weight_shape: _linear_weight(g, input, weight_shape), _linear_bias],
    samples=[sample(real(3, 4), real(2, 4), real(2)), sample(real(5, 3, 4), real(2, 4)),
             sample(real(4), real(2, 4), real(2)),
             sample(real(3, 4), real(4))])  # fmt: skip
def linear(input, weight, bias):
    """Affine map of the last dimension: input @ weight.T + bias, with ``weight`` (out, in) and ``bias`` (out)."""
    if input.dtype is not weight.dtype or (bias is not None and bias.dtype is not weight.dtype):
        _one_dtype("linear", input, weight, bias)
    if input.ndim == 2 == weight.ndim:
        out = _product(input, weight.T)
    elif weight.ndim > 2 or input.ndim == 0:
        raise RuntimeError(f"linear: input must have 1 dimension or more and weight 1 or 2, "
                           f"got shapes {list(input.shape)} and {list(weight.shape)}")  # fmt: skip
    elif input.ndim > 2 and weight.ndim == 2 and input.size and input.shape[-1] == weight.shape[1]:
        out = (input.reshape(-1, input.shape[-1]) @ weight.T).reshape(*input.shape[:-1], len(weight))
    else:
        out = input @ weight.T
    if bias is None:
        return out
    if bias.ndim > 1 or weight.ndim == 1:
        return out + bias
    out += bias
    return out


@op(composite, namespace="nn.functional", samples=[sample(real(3, 4), real(3, 5), real(2, 4, 5), real(2))])
def bilinear(input1, input2, weight, bias=None):
    """Bilinear map of the last dims: y_o = sum_ij input1_i weight_oij input2_j + bias_o."""
    _require(weight.ndim == 3 and input1.shape[:-1] == input2.shape[:-1] and input1.shape[-1] == weight.shape[1]
             and input2.shape[-1] == weight.shape[2],
             lambda: f"bilinear: weight {list(weight.shape)} needs input1 (..., {weight.shape[1]}) and "
                     f"input2 (..., {weight.shape[2]}), got {list(input1.shape)} and {list(input2.shape)}")  # fmt: skip
    _require(bias is None or bias.shape[-1] == weight.shape[0],
             lambda: f"bilinear: bias must have size {weight.shape[0]}, got {list(bias.shape)}")  # fmt: skip
    rows = _rows(input1)
    middle = ops.reshape(ops.matmul(rows, ops.reshape(ops.permute(weight, (1, 0, 2)), (weight.shape[1], -1))),
                         (rows.shape[0], weight.shape[0], weight.shape[2]))  # fmt: skip
    out = ops.matmul(middle, ops.reshape(input2, (rows.shape[0], weight.shape[2], 1)))
    out = ops.reshape(out, (*input1.shape[:-1], weight.shape[0]))
    return out if bias is None else out + bias


# ---------------------------------------------------------------------------------------------------- vectors


def _vectors(name, input, other):
    _require(input.ndim == 1 and other.ndim == 1 and input.shape == other.shape and input.dtype == other.dtype,
             lambda: f"{name}: expected two vectors of one size and dtype, got {input.dtype} {list(input.shape)} "
                     f"and {other.dtype} {list(other.shape)}")  # fmt: skip


@op(composite, out=True, samples=[sample(real(4), real(4))])
def dot(input, tensor):
    """Inner product of two vectors."""
    _vectors("dot", input, tensor)
    return ops.matmul(input, tensor)


@op(composite, out=True, samples=[sample(real(4), real(4))])
def vdot(input, other):
    """Inner product of two vectors (with the first conjugated, were it complex)."""
    _vectors("vdot", input, other)
    return ops.matmul(input, other)


@op(composite, out=True, samples=[sample(real(3, 4), real(4))])
def mv(input, vec):
    """Product of a matrix and a vector."""
    _require(input.ndim == 2 and vec.ndim == 1 and input.shape[1] == vec.shape[0],
             lambda: f"mv: expected a matrix and a vector that fits, "
                     f"got {list(input.shape)} and {list(vec.shape)}")  # fmt: skip
    return ops.matmul(input, vec)


@op(composite, out=True,
    samples=[sample(real(3, 4), real(2, 4)), sample(real(4), real(4)), sample(real(2, 3, 4), real(5, 4))])  # fmt: skip
def inner(input, other):
    """Sums of products over the last dims: out[i.., j..] = sum_k input[i.., k] other[j.., k]; 0-d inputs multiply."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    _require(input.shape[-1] == other.shape[-1],
             lambda: f"inner: the last dims must agree, got shapes {list(input.shape)} and {list(other.shape)}")
    return ops.tensordot(input, other, ([-1], [-1]))


@op(composite, out=True, aliases=["ger"], samples=[sample(real(3), real(4))])
def outer(input, vec2):
    """All products of the elements of two vectors."""
    _require(input.ndim == 1 and vec2.ndim == 1,
             lambda: f"outer: expected two vectors, got shapes {list(input.shape)} and {list(vec2.shape)}")
    return ops.reshape(input, (-1, 1)) * vec2


@op(composite, out=True, namespace="linalg",
    samples=[sample(real(3, 4), real(3, 4)), sample(real(2, 3), real(3), dim=0)])  # fmt: skip
def vecdot(x, y, *, dim=-1):
    """Inner products along one dimension, the others broadcast."""
    _require(x.dtype == y.dtype, lambda: f"linalg.vecdot: expected one dtype, got {x.dtype} and {y.dtype}")
    return ops.sum(x * y, dim)


# ---------------------------------------------------------------------------------------------------- add and multiply


def _blend(name, input, product, beta, alpha, promote=False):
    """beta * input + alpha * product, where beta = 0 leaves ``input`` out, even if it holds NaN."""
    if not promote and input.dtype != product.dtype:
        raise RuntimeError(f"{name}: expected one dtype, got {input.dtype} and {product.dtype}")
    _fits(name, input, tuple(product.shape))
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product
    return product + (input if beta == 1 else input * beta)


def _fits(name, input, shape):
    """Raise unless ``input`` expands to the product's ``shape``."""
    own = tuple(input.shape)
    if own != shape[len(shape) - len(own):] and (len(own) > len(shape) or any(
            [m not in (1, n) for m, n in zip(own[::-1], shape[::-1], strict=False)])):  # fmt: skip
        raise RuntimeError(f"{name}: input {list(own)} does not expand to the product's {list(shape)}")


@op(contraction, namespace="internal", promote=False, kernel=Kernel("gemm:matmul_added", by=1),
    vjp=[lambda g: g, lambda g, right: ops.matmul(g, ops.transpose(right, -2, -1)),
         lambda g, left: ops.matmul(ops.transpose(left, -2, -1), g)],
    samples=[sample(real(3, 2), real(3, 4), real(4, 2)), sample(real(2), real(5, 3, 4), real(5, 4, 2))])  # fmt: skip
def matmul_added(input, left, right):
    """input + left @ right for stacks of matrices of one length, ``input`` being expanded."""
    return np.matmul(left, right) + input


def _products_added(name, input, left, right, beta, alpha, multiply, ndim):
    """beta * input + alpha * multiply(left, right): in one operation where nothing is scaled."""
    if beta == 1 == alpha and left.dtype == right.dtype == input.dtype and left.ndim == ndim == right.ndim:
        shape, other = tuple(left.shape), tuple(right.shape)
        if shape[-1] == other[-2] and shape[:-2] == other[:-2] and numpy_dtype(left.dtype).kind == "f":
            _fits(name, input, (*shape[:-1], other[-1]))
            return ops.matmul_added(input, left, right)
    return _blend(name, input, multiply(left, right), beta, alpha)


@op(composite, out=True, inplace=True,
    samples=[sample(real(3, 2), real(3, 4), real(4, 2)),
             sample(real(2), real(3, 4), real(4, 2), beta=0.5)])  # fmt: skip
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """beta * input + alpha * (mat1 @ mat2) for matrices."""
    return _products_added("addmm", input, mat1, mat2, beta, alpha, ops.mm, 2)


@op(composite, out=True, inplace=True, samples=[sample(real(3), real(3, 4), real(4), alpha=2)])
def addmv(input, mat, vec, *, beta=1, alpha=1):
    """beta * input + alpha * (mat @ vec) for a matrix and a vector."""
    return _blend("addmv", input, ops.mv(mat, vec), beta, alpha)


@op(composite, out=True, inplace=True, samples=[sample(real(3, 4), real(3), real(4), beta=0.5)])
def addr(input, vec1, vec2, *, beta=1, alpha=1):
    """beta * input + alpha * outer(vec1, vec2)."""
    vectors = vec1.ndim == 1 == vec2.ndim and input.dtype == vec1.dtype == vec2.dtype
    if vectors and beta == 1 and numpy_dtype(input.dtype).kind == "f":
        shape = (*vec1.shape, *vec2.shape)
        _fits("addr", input, shape)
        return ops.addcmul(input, ops.reshape(vec1, (shape[0], 1)), vec2, value=alpha)
    product = ops.outer(vec1, vec2)
    if str(product.dtype).endswith("bool"):
        beta, alpha = bool(beta), bool(alpha)
    return _blend("addr", input, product, beta, alpha, promote=True)


@op(composite, out=True, inplace=True, samples=[sample(real(2, 3, 2), real(2, 3, 4), real(2, 4, 2), beta=0.5, alpha=2)])
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * (batch1 @ batch2) for stacks of matrices."""
    return _products_added("baddbmm", input, batch1, batch2, beta, alpha, ops.bmm, 3)


@op(composite, out=True, inplace=True, samples=[sample(real(3, 2), real(2, 3, 4), real(2, 4, 2), beta=0.5)])
def addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * sum over the stack of (batch1 @ batch2)."""
    return _blend("addbmm", input, ops.sum(ops.bmm(batch1, batch2), 0), beta, alpha)


# ---------------------------------------------------------------------------------------------------- general products


@op(composite, out=True, method=False,
    samples=[sample(real(3, 4), real(4, 2), 1), sample(real(2, 3, 4), real(4, 5, 3), ([1, 2], [2, 0]))])  # fmt: skip
def tensordot(a, b, dims=2):
    """Sums of products over several dims: ``dims`` last of ``a`` with first of ``b``, or a pair of lists of dims."""
    if hasattr(dims, "__index__"):
        count = int(dims)
        _require(count >= 0, lambda: f"tensordot: expects dims >= 0, got {count}")
        _require(count <= min(a.ndim, b.ndim),
                 lambda: f"tensordot: {count} dims of shapes {list(a.shape)} and {list(b.shape)}")  # fmt: skip
        left, right = list(range(a.ndim - count, a.ndim)), list(range(count))
    else:
        pairs = dims.tolist() if hasattr(dims, "tolist") else dims
        left, right = ([d] if hasattr(d, "__index__") else list(d) for d in pairs)
        left, right = [normalize_dim(d, a.ndim) for d in left], [normalize_dim(d, b.ndim) for d in right]
    _require(len(left) == len(right), lambda: f"tensordot: the lists of dims must have one length, got {left}, {right}")
    for i, j in zip(left, right, strict=True):
        if a.shape[i] != b.shape[j]:  # a dim of size 1 is broadcast against the other's
            if 1 not in (a.shape[i], b.shape[j]):
                raise RuntimeError(f"tensordot: dim {i} of {list(a.shape)} does not match dim {j} of {list(b.shape)}")
            a, b = (a, ops.sum(b, j, True)) if a.shape[i] == 1 else (ops.sum(a, i, True), b)
    shape_a, shape_b = tuple(a.shape), tuple(b.shape)
    rest_a = [d for d in range(len(shape_a)) if d not in left]
    rest_b = [d for d in range(len(shape_b)) if d not in right]
    size = prod([shape_a[d] for d in left])
    rows, columns = [shape_a[d] for d in rest_a], [shape_b[d] for d in rest_b]
    flat_a = _laid(a, shape_a, [*rest_a, *left], (prod(rows), size))
    flat_b = _laid(b, shape_b, [*right, *rest_b], (size, prod(columns)))
    product = ops.mm(flat_a, flat_b)
    return product if len(rows) == 1 == len(columns) else ops.reshape(product, (*rows, *columns))


def _laid(x, shape, order, matrix):
    """``x`` of ``shape`` with its dims in another order, as a matrix."""
    if order != list(range(len(order))):
        x, shape = ops.permute(x, tuple(order)), tuple([shape[d] for d in order])
    return x if shape == matrix else ops.reshape(x, matrix)


@op(composite, out=True, samples=[sample(real(2, 3), real(4)), sample(real(2, 2), real(3, 2))])
def kron(input, other):
    """Kronecker product: every element of ``input`` times all of ``other``; missing leading dims count as 1."""
    ndim = max(input.ndim, other.ndim)
    a, b = (1,) * (ndim - input.ndim) + tuple(input.shape), (1,) * (ndim - other.ndim) + tuple(other.shape)
    left = ops.reshape(input, tuple(n for m in a for n in (m, 1)))
    right = ops.reshape(other, tuple(n for m in b for n in (1, m)))
    return ops.reshape(left * right, tuple(m * n for m, n in zip(a, b, strict=True)))


def _cross_settings(arrays, settings):
    for array in arrays:
        dim = normalize_dim(settings["dim"], array.ndim)
        if array.shape[dim] != 3 or array.ndim != arrays[0].ndim:
            raise RuntimeError(f"linalg.cross: dim {settings['dim']} must have size 3 in inputs of as many dims, "
                               f"got shapes {[list(a.shape) for a in arrays]}")  # fmt: skip
    return {"dim": normalize_dim(settings["dim"], arrays[0].ndim) - arrays[0].ndim}


@op(contraction, namespace="linalg", signature="input, other, *, dim=-1", prepare=_cross_settings, name="cross",
    vjp=[lambda g, other, dim: linalg_cross(other, g, dim=dim), lambda g, input, dim: linalg_cross(g, input, dim=dim)],
    samples=[sample(real(2, 3), real(2, 3)), sample(real(3, 2), real(3, 1), dim=0)])  # fmt: skip
def linalg_cross(input, other, *, dim):
    """Vector products of the 3-vectors along ``dim``."""
    return np.cross(input, other, axis=dim)


@op(composite, out=True, samples=[sample(real(2, 3), real(2, 3))])
def cross(input, other, dim=None):
    """Vector products of the 3-vectors along ``dim`` (by default the first dimension of size 3)."""
    if dim is None:
        dim = next((d for d, n in enumerate(input.shape) if n == 3), None)
        _require(dim is not None, lambda: f"cross: no dimension of size 3 in {list(input.shape)}")
    return linalg_cross(input, other, dim=dim)


@op(composite, out=True, namespace="linalg", samples=[sample([real(2, 3), real(3, 4), real(4)])])
def multi_dot(tensors):
    """Product of several matrices in the order that takes the fewest multiplications; the ends may be vectors."""
    _require(len(tensors) >= 2, lambda: f"linalg.multi_dot: expected at least 2 tensors, got {len(tensors)}")
    items, ends = list(tensors), (tensors[0].ndim, tensors[-1].ndim)
    items[0] = ops.reshape(items[0], (1, -1)) if ends[0] == 1 else items[0]
    items[-1] = ops.reshape(items[-1], (-1, 1)) if ends[1] == 1 else items[-1]
    shapes = [tuple(t.shape) for t in items]
    _require(all([len(shape) == 2 for shape in shapes]) and all([p[1] == q[0] for p, q in pairwise(shapes)]),
             lambda: "linalg.multi_dot: these shapes do not multiply in this order: "
                     f"{[list(t.shape) for t in tensors]}")  # fmt: skip
    split = _best_splits((shapes[0][0], *[columns for _, columns in shapes]))

    def product(i, j):
        return items[i] if i == j else ops.mm(product(i, split[i, j]), product(split[i, j] + 1, j))

    out = product(0, len(items) - 1)
    if ends == (2, 2):
        return out
    return ops.reshape(out, tuple([n for n, end in zip(out.shape, ends, strict=True) if end == 2]))


@lru_cache(256)
def _best_splits(sizes):
    """Where to split each run of matrices, by dynamic programming over the multiplications (Cormen et al., 15.2)."""
    count = len(sizes) - 1
    cost, split = {(i, i): 0 for i in range(count)}, {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], split[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))
    return split


@op(composite, out=True, method=False, samples=[sample(real(2, 3), real(3, 4), real(4, 2))])
def chain_matmul(*matrices):
    """Product of several matrices in the cheapest order; see `linalg.multi_dot`."""
    return multi_dot(matrices)
