"""Functions of two numbers on explicit vectors: remainders and whole quotients, hypotenuse, neighbours, divisors.

Remainders are exact, as IEEE 754 defines them; the hypotenuse is within 1 ulp. Both arguments are vectors of one type.
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, overload

from autograd_core.kernels import simd
from autograd_core.kernels.simd import Vector, absolute, bitcast, convert, copysign, floor, sqrt, trunc, where
from autograd_core.kernels.vmath import _INLINE, BITS, _per_lane

libm_fmod = _per_lane("fmod", 2)


def published_pair(build):
    """Publish what ``build(precision name)`` returns, a function of two vectors by name."""
    made = {name: build(name) for name in ("float32", "float64")}

    def publish(stub):
        def choose(x, y):
            if not isinstance(x, Vector) or x != y or not isinstance(x.dtype, types.Float):
                return None
            body = made[x.dtype.name][stub.__name__]
            return lambda x, y: body(x, y)  # noqa: PLW0108 (Numba asks for this signature)

        overload(stub, jit_options=_INLINE)(choose)
        return stub

    return publish


def _remainders(name):
    """fmod, remainder and floor_divide of one precision."""
    limit = 2.0 ** (BITS[name][1] + 1)  # quotients below are whole numbers, and at most one too large

    @simd.device
    def of_few(x, y, a, b, quotient):
        left = simd.fma(-quotient, b, a)  # exact: the remainder, or what misses it by b
        left = where(left < 0, left + b, left)
        return copysign(where((b == np.inf) & (a < np.inf), a, left), x)

    @simd.device
    def fmod(x, y):
        a, b = absolute(x), absolute(y)
        quotient = trunc(a / b)
        if simd.all_lanes(~(quotient >= limit)):
            return of_few(x, y, a, b, quotient)
        return libm_fmod(x, y)

    @simd.device
    def remainder(x, y):
        left = fmod(x, y)
        left = where((left != 0) & ((left < 0) ^ (y < 0)), left + y, left)
        return where(left == 0, copysign(0.0, y), left)

    @simd.device
    def floor_divide(x, y):
        left, quotient = fmod(x, y), x / y
        found = (x - left) / y
        found = where((left != 0) & ((left < 0) ^ (y < 0)), found - 1, found)
        whole = floor(found)
        whole = where(found - whole > 0.5, whole + 1, whole)
        return where(y == 0, quotient, where(found == 0, copysign(0.0, quotient), whole))

    return {"fmod": fmod, "remainder": remainder, "floor_divide": floor_divide}


_publish = published_pair(_remainders)


@_publish
def fmod(x, y):
    """Remainder of a division rounded towards zero, with the sign of ``x``: exact."""


@_publish
def remainder(x, y):
    """Remainder of a division rounded down, with the sign of ``y``: `fmod`, plus y where the signs differ."""


@_publish
def floor_divide(x, y):
    """Quotient rounded down, from the exact remainder."""


def _neighbours(name):
    """nextafter and hypot of one precision."""
    integer = BITS[name][0]
    to_bits, to_real, wide = simd.scalar(integer), simd.scalar(name), simd.scalar(np.float64)
    tiny = float(np.finfo(name).smallest_subnormal)

    @simd.device
    def nextafter(x, y):
        bits = bitcast(x, to_bits)
        moved = bitcast(where((x > 0) ^ (y > x), bits - 1, bits + 1), to_real)
        moved = where(x == 0, copysign(tiny, y), moved)
        return where((x != x) | (y != y), x + y, where(x == y, y, moved))

    @simd.device
    def with_infinity(x, y, found):
        return where((absolute(x) == np.inf) | (absolute(y) == np.inf), np.inf, found)

    @simd.device
    def single(x, y):
        a, b = convert(x, wide), convert(y, wide)  # where no square overflows
        return with_infinity(x, y, convert(sqrt(a * a + b * b), to_real))

    @simd.device
    def double(x, y):
        a, b = absolute(x), absolute(y)
        larger = where(a > b, a, b)
        huge, small = larger > 2.0**500, larger < 2.0**-450
        a = where(huge, a * 2.0**-600, where(small, a * 2.0**600, a))
        b = where(huge, b * 2.0**-600, where(small, b * 2.0**600, b))
        found = sqrt(a * a + b * b)
        return with_infinity(x, y, where(huge, found * 2.0**600, where(small, found * 2.0**-600, found)))

    return {"nextafter": nextafter, "hypot": single if name == "float32" else double}


_publish = published_pair(_neighbours)


@_publish
def nextafter(x, y):
    """The number next to ``x`` in the direction of ``y``."""


@_publish
def hypot(x, y):
    """sqrt(x**2 + y**2) without overflow on the way. Error: 1 ulp."""


# ---------------------------------------------------------------------------------------------------- whole numbers


@intrinsic
def trailing_zeros(typingctx, x):
    """How many zero bits a whole number ends with; all of them for 0."""

    def codegen(context, builder, sig, args):
        return simd._call(builder, "cttz", args[0].type, [args[0], ir.Constant(simd.I1, 0)], [args[0].type])

    return signature(x, x), codegen


@intrinsic
def width(typingctx, x):
    """The bits of an element less one, as a number that shifts are masked with."""

    def codegen(context, builder, sig, args):
        return ir.Constant(simd.I64, x.dtype.bitwidth - 1)

    return signature(types.int64, x), codegen


@simd.device
def gcd(x, y):
    """Greatest common divisor, never negative (Stein 1967: shifts and differences)."""
    a, b, mask = absolute(x), absolute(y), width(x)
    zeros_a, zeros_b = trailing_zeros(a), trailing_zeros(b)
    common = where(zeros_a < zeros_b, zeros_a, zeros_b) & mask
    a, b = where(a == 0, b, a), where(a == 0, 0, b)
    a = a >> (trailing_zeros(a) & mask)
    while not simd.all_lanes(b == 0):
        b = b >> (trailing_zeros(b) & mask)
        smaller, larger = where(a < b, a, b), where(a < b, b, a)
        a, b = where(b == 0, a, smaller), where(b == 0, 0, larger - smaller)
    return a << common


@simd.device
def lcm(x, y):
    """Least common multiple, never negative; 0 where either is 0."""
    divisor = gcd(x, y)
    return absolute(x / where(divisor == 0, 1, divisor) * y)
