"""Bodies of operations, and what takes over from them where arrays are large: kernels and fused loops.

From which size on is told by fixed numbers, in bytes of the result that inputs broadcast to; nothing is measured while
a program runs, so that results depend on nothing else.
"""

from __future__ import annotations

import re
import threading
from importlib import import_module
from typing import Any

from .shapes import broadcast_nbytes, ndarray

LARGE = 1 << 16
"""Bytes from which an array is large: fused loops are thought of."""

ONE_PASS = 1 << 19
"""Bytes from which what NumPy does in one pass gains: by the use of all cores, and of memory that was in use before.

Measured on one thread, with float32: a launch costs 3 us more than NumPy's call. What NumPy does in one pass (neg, mul)
takes as long in a loop from 512 KiB on, exp from 64 KiB, what takes several passes (sigmoid) from 16 KiB.
"""

SIMPLE = re.compile(r"-?input|(abs|floor|ceil|trunc|rint|sqrt)\(input\)|input [-+*/&|^] (alpha \* )?other|"
                    r"other - alpha \* input|input \* input|input [<>=!]=? (other|0)")  # fmt: skip
"""``scalar`` expressions that NumPy works out in one pass."""

DEAR = 1 << 12
"""Bytes from which the loop of a special function is used: its body takes twenty passes or a microsecond an element."""

SPECIAL = re.compile(r"(erf|erfc|erfcx|erfinv|log_ndtr|ndtri?|lgamma|digamma|trigamma|zeta|igammac?|i[01]e?)\(")
"""How the ``scalar`` expressions of functions begin that NumPy lacks."""


def fused_from(record):
    """Bytes from which the fused loop of an operation is thought of."""
    return ONE_PASS if SIMPLE.fullmatch(record.scalar) else DEAR if SPECIAL.match(record.scalar) else LARGE


def kernel_runner(record, kernel):
    """The body, or its kernel for inputs that are large enough and of a kind that the kernel serves."""
    body = record.function
    planner: Any = None
    execute: Any = None

    def run(*arrays, **static):
        nonlocal planner, execute
        first = arrays[kernel.by]
        if type(first) is not ndarray or first.size < kernel.above or first.dtype.char not in "fd":
            return body(*arrays, **static)
        if [a for a in arrays if a is not None and type(a) is not ndarray]:  # numbers have no address
            return body(*arrays, **static)
        if kernel.when is not None and not kernel.when(*arrays, **static):
            return body(*arrays, **static)
        if planner is None:
            from .kernels.plan import execute

            file, _, name = kernel.path.partition(":")
            planner = getattr(import_module(f"autograd_core.kernels.{file}"), name)
        result = execute(planner, arrays, **static)
        return body(*arrays, **static) if result is NotImplemented else result

    return run


def fused(make, body):
    """``body`` on large arrays: the fused loop that ``make`` makes at first use, or the body where there is none."""
    loop = None

    def run(*arguments):
        nonlocal loop
        if loop is None:
            loop = make(import_module("autograd_core.fusion"))
        result = loop(*arguments)
        return body(*arguments) if result is NotImplemented else result

    return run


class _Target(threading.local):
    array: Any = None


TARGET = _Target()
"""The array that the next fused loop of this thread may write to; it forgets it."""


def run_into(array, function, *args, **kwargs):
    """Call an operation on ``array`` whose result takes its place: a fused loop may write to it at once."""
    TARGET.array = array
    try:
        return function(*args, **kwargs)
    finally:
        TARGET.array = None


def fused_runner(record):
    """The body of an elementwise op, or its fused loop where an argument is a large array."""
    body, count = record.function, len(record.parameters)

    def plain(*arguments):
        return body(*arguments[:count], **dict(zip(record.settings, arguments[count:], strict=True)))

    large, above = fused(lambda fusion: fusion.fused_op(record), plain), fused_from(record)

    def run(*arrays, **static):
        if broadcast_nbytes([a for a in arrays if type(a) is ndarray]) < above:
            return body(*arrays, **static)
        return large(*arrays, *[static[k] for k in record.settings])

    return run
