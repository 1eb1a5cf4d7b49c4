"""What the engine raises. The sentences are made when something has gone wrong, in `explaining`."""

from __future__ import annotations

from functools import wraps

import numpy as np

from .shapes import ndarray


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


def explain(error, op, args, static):
    """The error of a failed operation with its name, its arguments and the places where they come from."""
    from . import explaining

    return explaining.explained(error, op, args, static)


def placed(error, given=(), settings=None, function=None):
    """``error`` with what was given (to ``function``), the module and the user's line added to its message."""
    from . import explaining

    return explaining.placed(error, given, settings or {}, function)


def placing(function):
    """``function``, whose own errors say what it was given and where it was called."""

    @wraps(function)
    def public(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except EXPLAINED as error:
            raise placed(error, args, kwargs, function)  # noqa: B904 (it is the same error)

    return public
