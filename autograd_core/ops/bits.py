"""Integers and bits: and, or, exclusive or, shifts; greatest common divisors and least common multiples."""

from __future__ import annotations

import numpy as np

from ..registry import arithmetic, op
from ..shapes import promote
from .arithmetic import refuse_bool, tensors
from .samples import boolean, integer, sample

BITS = [sample(integer(3, 4, high=64), integer(4, high=64)), sample(integer(3, 4, high=64), 5),
        sample(boolean(3), boolean(3))]  # fmt: skip
SHIFTS = [sample(integer(3, 4, high=64), integer(4)), sample(integer(3, 4, high=64), 2)]
PAIRS = [sample(integer(3, 4, low=-30, high=30), integer(4, low=-30, high=30)), sample(integer(3), integer(3))]


def whole(arrays):
    """Promote integers and booleans; raise for floats, which have no bits to work on."""
    found = promote(arrays)
    for value in found:
        if getattr(value, "dtype", np.dtype(type(value))).kind == "f":
            raise RuntimeError("the tensors must be integers or booleans, got a floating-point one")
    return found


def _bitwise(ufunc, known, text, symbol, onnx):
    """One of the bitwise operations of two integers."""

    def body(input, other):
        return ufunc(input, other)

    body.__doc__ = f"Bitwise {text} of integers, logical {text} of booleans."
    return op(arithmetic, name=known, promote=whole, samples=BITS, scalar=f"input {symbol} other", onnx=onnx)(body)


bitwise_and = _bitwise(np.bitwise_and, "bitwise_and", "and", "&", "BitwiseAnd")
bitwise_or = _bitwise(np.bitwise_or, "bitwise_or", "or", "|", "BitwiseOr")
bitwise_xor = _bitwise(np.bitwise_xor, "bitwise_xor", "exclusive or", "^", "BitwiseXor")


@op(arithmetic, promote=whole, samples=[integer(3, 4), boolean(3)], scalar="~input", onnx="BitwiseNot")
def bitwise_not(input):
    """Bitwise not of integers, logical not of booleans."""
    return np.invert(input)


@op(arithmetic, promote=whole, samples=SHIFTS, scalar="input << other")
def bitwise_left_shift(input, other):
    """Shift to the left: input * 2**other, dropping what does not fit."""
    refuse_bool("bitwise_left_shift", (input, other), "convert them first")
    return np.left_shift(input, other)


@op(arithmetic, promote=whole, samples=SHIFTS, scalar="input >> other")
def bitwise_right_shift(input, other):
    """Shift to the right: input / 2**other, rounded down."""
    refuse_bool("bitwise_right_shift", (input, other), "convert them first")
    return np.right_shift(input, other)


@op(arithmetic, promote=tensors("gcd", 0, 1, then=whole), samples=PAIRS, scalar="gcd(input, other)")
def gcd(input, other):
    """Greatest common divisor, never negative."""
    return np.gcd(input, other)


@op(arithmetic, promote=tensors("lcm", 0, 1, then=whole), samples=PAIRS, scalar="lcm(input, other)")
def lcm(input, other):
    """Least common multiple, never negative."""
    return np.lcm(input, other)
