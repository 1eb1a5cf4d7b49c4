"""``ag.testing``: comparison of tensors in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .tensor import Tensor

TOLERANCES = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}
"""Relative and absolute tolerance by dtype; integers and booleans must be equal."""


def assert_close(actual, expected, *, allow_subclasses=True, rtol=None, atol=None, equal_nan=False, check_device=True,
                 check_dtype=True, check_layout=True, check_stride=False, msg=None) -> None:  # fmt: skip
    """Raise an AssertionError unless ``|actual - expected| <= atol + rtol * |expected|`` everywhere.

    Tensors, arrays, numbers, and sequences and mappings of these; shapes and (unless ``check_dtype=False``) dtypes must
    agree, too. ``rtol`` and ``atol`` are given together or not at all; by default they depend on the dtype.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"assert_close: rtol and atol must be given together, got rtol={rtol!r}, atol={atol!r}")
    for place, one, other in _pairs(actual, expected, ""):
        problem = _difference(one, other, rtol, atol, equal_nan, check_dtype, check_stride)
        if problem:
            text = f"assert_close{place and f', at {place}'}: {problem}"
            raise AssertionError(msg(text) if callable(msg) else msg or text)


def _pairs(actual, expected, place):
    """(place, one, other) of the leaves of equally nested containers."""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            raise AssertionError(f"assert_close: keys differ: {sorted(map(str, set(actual) ^ set(expected)))}")
        for key in actual:
            yield from _pairs(actual[key], expected[key], f"{place}[{key!r}]")
    elif _is_list(actual) and _is_list(expected):
        if len(actual) != len(expected):
            raise AssertionError(f"assert_close: lengths differ: {len(actual)} and {len(expected)}")
        for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
            yield from _pairs(one, other, f"{place}[{number}]")
    else:
        yield place, actual, expected


def _is_list(value):
    return isinstance(value, Sequence) and not isinstance(value, str)


def _difference(actual, expected, rtol, atol, equal_nan, check_dtype, check_stride):
    """What is wrong, in a sentence; None where the two are close."""
    if (actual is None) != (expected is None):
        return f"one is None: {actual!r} and {expected!r}"
    if actual is None:
        return None
    numbers = not (hasattr(actual, "dtype") and hasattr(expected, "dtype"))
    a, b = (np.asarray(v.detach().numpy() if isinstance(v, Tensor) else v) for v in (actual, expected))
    if a.shape != b.shape:
        return f"shapes differ: {list(a.shape)} and {list(b.shape)}"
    if check_dtype and not numbers and a.dtype != b.dtype:
        return f"dtypes differ: {a.dtype} and {b.dtype}"
    if check_stride and isinstance(actual, Tensor) and actual.stride() != expected.stride():
        return f"strides differ: {actual.stride()} and {expected.stride()}"
    defaults = [TOLERANCES.get(x.dtype.name, (0.0, 0.0)) for x in (a, b)]
    relative, absolute = (max(p) for p in zip(*defaults, strict=True)) if rtol is None else (rtol, atol)
    a, b = (x if x.dtype.kind in "biu" and not relative and not absolute else x.astype(np.float64) for x in (a, b))
    bad = ~np.isclose(a, b, relative, absolute, equal_nan) if a.dtype.kind == "f" else a != b
    if not bad.any():
        return None
    gap = np.where(bad, np.abs(a.astype(np.float64) - b.astype(np.float64)), -1.0)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    where = f" at {tuple(int(i) for i in worst)}" if a.ndim else ""
    return (f"{int(bad.sum())} of {a.size} elements differ; the greatest difference is {gap[worst]:.6g}{where}: got "
            f"{a[worst]}, expected {b[worst]} (allowed: rtol={relative:g}, atol={absolute:g})")  # fmt: skip
