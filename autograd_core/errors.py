"""Errors that say which operation failed, what it was given, and where that comes from."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import provenance
from .modes import state
from .shapes import ndarray


class OpError(RuntimeError, ValueError):
    """An operation was given what it cannot work with; the message says which, what, and where."""


class LinAlgError(OpError, np.linalg.LinAlgError):
    """A matrix factorisation failed (a singular or indefinite matrix)."""


EXPLAINED = (TypeError, ValueError, IndexError, RuntimeError, ArithmeticError, np.linalg.LinAlgError)
"""What NumPy and our own code raise for bad input; `explain` adds the operation and the places."""


def shape_text(value) -> str:
    """A short description of an argument, for error messages."""
    value = getattr(value, "array", value)
    if isinstance(value, ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def explain(error, op, args, static):
    """The error of a failed operation with its name, its arguments and the places where they come from."""
    if getattr(error, "explained", False):
        return error
    given = ", ".join(shape_text(a) for a in args)
    name = provenance.entrance() if getattr(op, "namespace", "") == "internal" else None
    text = str(error).rstrip(".").removeprefix(f"{op.name}: ")
    lines = [f"{name or op.name}: {text}", f"  arguments: {given}"]
    settings = ", ".join(f"{k}={shape_text(v) if hasattr(v, 'array') else v!r}" for k, v in static.items())
    if settings:
        lines[-1] += f"; {settings[:200]}"
    if state.scope:
        lines.append(f"  in module: {state.scope}")
    place = provenance.describe(provenance.site(3))
    if place:
        lines.append(f"  at {place}")
    for number, arg in enumerate(args):
        if getattr(arg, "node", None) is not None:
            lines.append(f"  argument {number} comes from {arg.node.where()}")
    kind: Any = IndexError if isinstance(error, IndexError) else TypeError if isinstance(error, TypeError) else OpError
    if isinstance(error, NotImplementedError):
        kind = NotImplementedError
    elif isinstance(error, np.linalg.LinAlgError):
        kind = LinAlgError
    found = kind("\n".join(lines))
    found.explained = True
    return found
