"""Triangular systems, and what a Cholesky factor solves."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import Kernel, composite, contraction, op
from ..shapes import ndarray
from .samples import definite, real, sample


def turned(x):
    """The matrices transposed, as a view."""
    return x.mT if type(x) is ndarray else ops.transpose(x, -2, -1)


def square(name, A):
    """Raise unless ``A`` is a square matrix or a stack of them; its shape as a plain tuple."""
    shape = tuple(A.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise RuntimeError(f"{name}: expected square matrices, got shape {list(shape)}")
    return shape


def need_right_sides(name, first, A, second, B, left=True):
    """Raise unless ``B`` holds right sides for the square matrices ``A``."""
    shape, sides = square(name, A), tuple(B.shape)
    if len(sides) < 2 or sides[-2 if left else -1] != shape[-1]:
        raise RuntimeError(f"{name}: shapes {first} {list(shape)} and {second} {list(sides)} do not fit together")


def matrices(name, A, squares=False):
    """Raise unless ``A`` has the dims of a matrix (a square one) and a type for which there is an algorithm."""
    if squares:
        square(name, A)
    if A.ndim < 2:
        raise RuntimeError(f"{name}: the input must have at least 2 dimensions, got shape {list(A.shape)}")
    if A.dtype.kind != "f" or A.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: expected float32 or float64, got {A.dtype}")


def one_kind(name, *tensors):
    """Raise unless all are of one floating-point type."""
    kind = tensors[0].dtype
    if any([t.dtype != kind for t in tensors]) or np.dtype(getattr(kind, "dtype", kind)).kind != "f":
        raise RuntimeError(f"{name}: expected floating-point tensors of one dtype, got "
                           f"{', '.join(str(t.dtype) for t in tensors)}")  # fmt: skip


@cache
def _planner(path):
    file, _, name = path.partition(":")
    return getattr(import_module(f"autograd_core.kernels.{file}"), name)


def by_kernel(path, *arrays, **static):
    """What the kernels of a planner, ``file:name``, make of arrays; those they cannot read as they lie are copied."""
    from ..kernels.plan import execute

    result = execute(_planner(path), arrays, **static)
    if result is NotImplemented:
        name = path.partition(":")[2]
        floats = [a for a in arrays if a.dtype != np.int32]  # exchanges of rows are int32
        one_kind(name, *floats)
        matrices(name, floats[0])
        plain = [np.array(a, a.dtype.newbyteorder("="), order="C") for a in arrays]
        result = execute(_planner(path), plain, **static)
    return result


# ---------------------------------------------------------------------------------------------------- systems


def _triangle(x, upper, unit):
    return ops.triu(x, int(unit)) if upper else ops.tril(x, -int(unit))


def _substitution_gradient(g, A, out, upper, unit, left, needs):
    """For T X = B: B's is Y = T^-T G, and A's is -Y X^T within the triangle."""
    gB = ops.solve_substitution(turned(A), g, upper=not upper, unit=unit, left=left)
    if not needs[0]:
        return None, gB
    gT = ops.matmul(gB, turned(out)) if left else ops.matmul(turned(out), gB)
    return -_triangle(gT, upper, unit), gB


@op(contraction, namespace="internal", vjp=_substitution_gradient, kernel=Kernel("triangular:solve_triangle", above=0),
    samples=[sample(definite(3, 3), real(3, 2), upper=True, unit=False),
             sample(definite(3, 3), real(3, 2), upper=False, unit=True),
             sample(definite(2, 3, 3), real(2, 3), upper=False, unit=False, left=False)])  # fmt: skip
def solve_substitution(A, B, *, upper, unit, left=True):
    """X with T @ X = B (X @ T = B), where T is a triangle of ``A`` (with ones on its diagonal if ``unit``)."""
    return by_kernel("triangular:solve_triangle", A, B, upper=upper, unit=unit, left=left)


@op(composite, namespace="linalg", samples=[sample(definite(3, 3), real(3, 2), upper=True),
                                            sample(definite(3, 3), real(2, 3), upper=False, left=False,
                                            unitriangular=True)])  # fmt: skip
def solve_triangular(A, B, *, upper, left=True, unitriangular=False, out=None):
    """X with A @ X = B (X @ A = B with ``left=False``), reading only the ``upper`` or lower triangle of ``A``."""
    need_right_sides("linalg.solve_triangular", "A", A, "B", B, left)
    result = ops.solve_substitution(A, B, upper=bool(upper), unit=bool(unitriangular), left=bool(left))
    return result if out is None else write_out(out, result)


# ---------------------------------------------------------------------------------------------------- Cholesky factors


def _factor_gradient(gA, L, upper):
    """The gradient of L from that of A = L L^T (or U^T U), which is symmetric; A is what was inverted."""
    T = _triangle(L, upper, False)
    return _triangle(ops.matmul(T, gA) if upper else ops.matmul(gA, T), upper, False)


def _both_ways(x):
    return x + turned(x)


def _cholesky_solve_gradient(g, L, out, upper, needs):
    """B's is Y = A^-1 G, and A's is -Y X^T, added to its transpose on the way to L."""
    gB = ops.solve_definite(g, L, upper=upper)
    if not needs[1]:
        return gB, None
    return gB, -_factor_gradient(_both_ways(ops.matmul(gB, turned(out))), L, upper)


@op(contraction, namespace="internal", vjp=_cholesky_solve_gradient,
    kernel=Kernel("triangular:solve_cholesky", above=0),
    samples=[sample(real(3, 2), definite(3, 3), upper=False),
             sample(real(3, 2), definite(2, 3, 3), upper=True)])  # fmt: skip
def solve_definite(B, L, *, upper):
    """X with A @ X = B, given the Cholesky factor ``L`` of A."""
    return by_kernel("triangular:solve_cholesky", B, L, upper=upper)


@op(composite, out=True, samples=[sample(real(3, 2), definite(3, 3)), sample(real(3, 2), definite(3, 3), True)])
def cholesky_solve(input, L, upper=False):
    """X with A @ X = input, given the Cholesky factor ``L`` of A."""
    need_right_sides("cholesky_solve", "L", L, "input", input)
    return ops.solve_definite(input, L, upper=bool(upper))


def _cholesky_inverse_gradient(g, input, out, upper):
    gA = ops.matmul(ops.matmul(out, _both_ways(g)), out)
    return (-_factor_gradient(gA, input, upper),)


@op(contraction, vjp=_cholesky_inverse_gradient, samples=[definite(3, 3), sample(definite(3, 3), True)])
def cholesky_inverse(input, *, upper=False):
    """The inverse of A, given its Cholesky factor."""
    square("cholesky_inverse", input)
    matrices("cholesky_inverse", input)
    return by_kernel("triangular:invert_cholesky", input, upper=bool(upper))
