"""Extremes, limits and choices: maximum, clamp, where, and what picks a value, a sign or a neighbour."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import arithmetic, elementwise, op
from ..shapes import common_dtype, promote, promote_to_float
from ..tensor import Tensor
from .arithmetic import BINARY, is_number, refuse_bool, tensors, zeros
from .samples import boolean, distinct, real, sample

PAIRS = [sample(distinct(3, 4), real(3, 4)), sample(distinct(3, 1), real(4))]

# ---------------------------------------------------------------------------------------------------- extremes


def _extreme(ufunc, known, text, symbol, wins, loses, onnx=None):
    """`maximum` and `minimum`: NaN wins; where both are equal, each gets half of the gradient."""

    def body(input, other):
        return ufunc(input, other)

    body.__doc__ = f"The {text} of two elements; NaN where either is NaN. Ties share the gradient evenly."
    return op(arithmetic, name=known, samples=PAIRS, onnx=onnx, inplace=False, promote=tensors(known, 0, 1), vjp=[
        lambda g, input, other: ops.where(input == other, g / 2, ops.where(loses(input, other), 0, g)),
        lambda g, input, other: ops.where(input == other, g / 2, ops.where(wins(input, other), 0, g)),
    ], scalar=f"input if input {symbol} other or input != input else other")(body)  # fmt: skip


maximum = _extreme(np.maximum, "maximum", "larger", ">=", lambda a, b: a > b, lambda a, b: a < b, "Max")
minimum = _extreme(np.minimum, "minimum", "smaller", "<=", lambda a, b: a < b, lambda a, b: a > b, "Min")


def _extreme_number(ufunc, known, text, symbol, wins):
    """`fmax` and `fmin`: a number wins over NaN; where both are equal, the first gets the gradient."""

    def chosen(input, other):
        return ops.logical_or(wins(input, other), ops.isnan(other))

    def body(input, other):
        return ufunc(input, other)

    body.__doc__ = f"The {text} of two elements; where one is NaN, the other."
    return op(arithmetic, name=known, samples=PAIRS, inplace=False, promote=tensors(known, 0, 1), vjp=[
        lambda g, input, other: ops.where(chosen(input, other), g, 0),
        lambda g, input, other: ops.where(chosen(input, other), 0, g),
    ], scalar=f"input if input {symbol} other or other != other else other")(body)  # fmt: skip


fmax = _extreme_number(np.fmax, "fmax", "larger", ">=", lambda a, b: a >= b)
fmin = _extreme_number(np.fmin, "fmin", "smaller", "<=", lambda a, b: a <= b)


def _limits(arrays, settings):
    if arrays[1] is None and arrays[2] is None:
        raise RuntimeError("at least one of min and max must not be None")
    refuse_bool("clamp", [a for a in arrays if a is not None], "convert it first")
    return _within_type(arrays, settings)


def _within_type(arrays, settings):
    """Refuse integer limits that the type cannot hold, rather than have them wrap around."""
    kind = getattr(arrays[0], "dtype", np.dtype(float))
    for limit in arrays[1:]:
        if type(limit) is int and kind.kind in "iu" and not np.iinfo(kind).min <= limit <= np.iinfo(kind).max:
            raise RuntimeError(f"the limit {limit} does not fit into {kind}")
    return settings


def _inside(g, input, min, max):
    above = None if min is None else input >= min
    below = None if max is None else input <= max
    held = below if above is None else above if below is None else ops.logical_and(above, below)
    return ops.where(held, g, 0)


def _to_min(g, input, min, max):
    held = input < min
    return ops.where(held if max is None else ops.logical_and(held, min < max), g, 0)


def _to_max(g, input, min, max):
    held = input > max
    return ops.where(held if min is None else ops.logical_or(held, max < min), g, 0)


@op(arithmetic, signature="input, min=None, max=None", vjp=[_inside, _to_min, _to_max], prepare=_limits, onnx="Clip",
    samples=[sample(real(3, 4), -0.5, 1), sample(real(3, 4), max=0.3), sample(real(3, 4), real(4), real(3, 1))],
    scalar="minimum(maximum(input, min), max)", aliases=["clip"])  # fmt: skip
def clamp(input, min, max):
    """Elements limited to [min, max]; either limit may be missing. Where min > max, the result is max."""
    if max is None:
        return np.maximum(input, min)
    return np.minimum(input, max) if min is None else np.clip(input, min, max)


@op(arithmetic, vjp=[lambda g, input, min: _inside(g, input, min, None),
                     lambda g, input, min: _to_min(g, input, min, None)],
    promote=tensors("clamp_min", 0), prepare=_within_type,
    scalar="input if input >= min or input != input else min",
    samples=[sample(real(3, 4), 0.2), sample(real(3, 4), real(4))])  # fmt: skip
def clamp_min(input, min):
    """Elements no smaller than ``min``."""
    return np.maximum(input, min)


@op(arithmetic, vjp=[lambda g, input, max: _inside(g, input, None, max),
                     lambda g, input, max: _to_max(g, input, None, max)],
    promote=tensors("clamp_max", 0), prepare=_within_type,
    scalar="input if input <= max or input != input else max",
    samples=[sample(real(3, 4), 0.2), sample(real(3, 4), real(4))])  # fmt: skip
def clamp_max(input, max):
    """Elements no larger than ``max``."""
    return np.minimum(input, max)


# ---------------------------------------------------------------------------------------------------- choices


def _by_bits(condition, input, other):
    bits = np.dtype(f"i{input.itemsize}")
    mask = np.negative(condition.view(np.int8), dtype=bits)
    if isinstance(other, np.ndarray):
        mask &= input.view(bits) ^ other.view(bits)
        mask ^= other.view(bits)
    else:
        mask &= input.view(bits)
    return mask.view(input.dtype)


def _fit_for_bits(condition, input, other):
    if type(input) is not np.ndarray or input.size < 4096 or input.itemsize not in (4, 8) or condition.dtype != bool:
        return False
    arrays = [condition, input]
    if isinstance(other, np.ndarray):
        if other.dtype != input.dtype:
            return False
        arrays.append(other)
    elif type(other) is not int or other != 0:
        return False
    return all(a.shape == input.shape and a.flags.c_contiguous for a in arrays)


def select(condition, input, other):
    """``np.where``, by bits where possible: mispredicted branches make it five times as slow on random conditions."""
    if _fit_for_bits(condition, input, other):
        return _by_bits(condition, input, other)
    if type(input) is int and input == 0 and _fit_for_bits(condition, other, 0):
        return _by_bits(np.logical_not(condition), other, 0)
    return np.where(condition, input, other)


def _promote_choices(values):
    condition, input, other = values
    if condition is not None and condition.dtype.kind not in "bu":
        raise RuntimeError(f"condition must be a bool tensor, got {condition.dtype}")
    if input is None and other is None:
        return values
    kind = common_dtype(values[1:])
    if is_number(input) and is_number(other):
        return [condition, np.array(input, kind), np.array(other, kind)]
    return [condition, *promote(values[1:])]


@op(arithmetic, signature="condition, input=None, other=None", promote=_promote_choices,
    vjp=[None, lambda g, condition: ops.where(condition, g, 0), lambda g, condition: ops.where(condition, 0, g)],
    scalar="input if condition else other", method=False, inplace=False, onnx="Where",
    samples=[sample(boolean(3, 4), real(3, 4), real(4)), sample(boolean(3, 4), real(4), 0.5),
             sample(boolean(3, 4))])  # fmt: skip
def where(condition, input, other):
    """Elements of ``input`` where ``condition`` holds, of ``other`` elsewhere.

    With ``condition`` alone: the indices of its true elements, one tensor a dimension.
    """
    if input is None or other is None:
        if input is not other:
            raise TypeError("where needs both input and other, or neither")
        return np.nonzero(np.atleast_1d(condition))
    return select(condition, input, other)


def _where_method(self, condition, other):
    """Elements of this tensor where ``condition`` holds, of ``other`` elsewhere; see `where`."""
    return where(condition, self, other)


Tensor.where = _where_method  # type: ignore[attr-defined]


@op(elementwise, vjp=[lambda g, input, out: ops.where(input == 0, 0, g * (out / input)), zeros],
    scalar="copysign(input, other)",
    promote=tensors("copysign", 0, then=promote_to_float), samples=[*BINARY, sample(real(2, 3), -1.5)])  # fmt: skip
def copysign(input, other):
    """The magnitude of ``input`` with the sign of ``other``."""
    return np.copysign(input, other)


def _one_dtype(arrays):
    kinds = [a.dtype for a in arrays]
    if kinds[0] != kinds[1]:
        raise RuntimeError(f"the tensors must have one dtype, got {kinds[0]} and {kinds[1]}")
    return arrays


@op(arithmetic, promote=tensors("heaviside", 0, 1, then=_one_dtype), samples=[sample(real(3, 4), real(4))],
    scalar="values if input == 0 else 1 if input > 0 else 0")  # fmt: skip
def heaviside(input, values):
    """Step function: 0 below zero, 1 above, ``values`` at zero."""
    return np.where(input == 0, values, (input > 0).astype(input.dtype))


@op(elementwise, vjp=[lambda g, input, other: ops.where(input == other, 0, g), zeros], samples=BINARY[:2],
    promote=tensors("nextafter", 0, 1), scalar="nextafter(input, other)")  # fmt: skip
def nextafter(input, other):
    """The next floating-point number after ``input`` in the direction of ``other``."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"the tensors must be floating-point, got {input.dtype}")
    return np.nextafter(input, other)
