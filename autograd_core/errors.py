"""Errors that say which operation failed, what it was given, and where that comes from."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import provenance
from .modes import state
from .shapes import broadcast_text, ndarray


class OpError(RuntimeError, ValueError):
    """An operation was given what it cannot work with; the message says which, what, and where."""


class LinAlgError(OpError, np.linalg.LinAlgError):
    """A matrix factorisation failed (a singular or indefinite matrix)."""


EXPLAINED = (TypeError, ValueError, IndexError, RuntimeError, ArithmeticError, AttributeError, np.linalg.LinAlgError)
"""What NumPy and our own code raise for bad input; `explain` adds the operation and the places."""


def shape_text(value) -> str:
    """A short description of an argument, for error messages."""
    value = getattr(value, "array", value)
    if isinstance(value, ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def _sentence(error, op, args):
    """What went wrong, with NumPy's own phrases put in terms of the arguments."""
    text = str(error).rstrip(". \n").removeprefix(f"{op.name}: ").removeprefix(f"{op.qualified}: ")
    shapes = [tuple(np.shape(a)) for a in args if hasattr(a, "shape")]
    if "could not be broadcast" in text and shapes:
        return broadcast_text(shapes)
    if "gufunc signature" in text and len(shapes) > 1:
        if op.name == "linear":
            return (f"input must end in the {shapes[1][-1]} features that weight of shape {list(shapes[1])} takes, "
                    f"got shape {list(shapes[0])}")  # fmt: skip
        return "the sizes that are summed over differ, got shapes " + " and ".join(str(list(s)) for s in shapes)
    return text


def explain(error, op, args, static):
    """The error of a failed operation with its name, its arguments and the places where they come from."""
    if getattr(error, "explained", False):
        return error
    if isinstance(error, AttributeError):
        odd = [a for a in args if not (a is None or isinstance(a, (int, float, np.generic)) or hasattr(a, "shape"))]
        if not odd:
            return error
        error = TypeError(f"arguments must be Tensors, got a {type(odd[0]).__name__}")
    given = ", ".join(shape_text(a) for a in args)
    entrance, text = provenance.entrance(), _sentence(error, op, args)
    inside = entrance is not None and text.startswith(f"{entrance}: ")  # a composite whose own check has failed
    name = entrance if inside or getattr(op, "namespace", "") == "internal" else None
    text = text.removeprefix(f"{entrance}: ") if inside else text
    lines = [f"{name or op.qualified.removeprefix('nn.functional.')}: {text}", f"  arguments: {given}"]
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
