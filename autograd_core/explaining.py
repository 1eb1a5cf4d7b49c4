"""The sentences of errors: which operation failed, what it was given, in which module and line, made from what.

Loaded when something has gone wrong.
"""

from __future__ import annotations

import os
import re
from itertools import zip_longest
from typing import Any

import numpy as np

from . import provenance
from .errors import LinAlgError, OpError, shape_text
from .modes import BackwardScope, state
from .shapes import broadcast_text

LONGEST = 200
"""Characters of the settings that are shown."""


def _shapes_in(text):
    """The shapes that one of NumPy's messages speaks of."""
    return [tuple([int(n) for n in found.split(",") if n]) for found in re.findall(r"\(([\d,]*)\)", text)]


def sentence(error, name, qualified, args) -> str:
    """What went wrong, with NumPy's own phrases put in terms of the arguments."""
    text = str(error).rstrip(". \n").removeprefix(f"{name}: ").removeprefix(f"{qualified}: ")
    shapes = [tuple(np.shape(a)) for a in args if hasattr(a, "shape")]
    listed = " and ".join(str(list(s)) for s in shapes)
    if "same number of dimensions" in text and shapes:
        return f"the tensors must have equally many dimensions, got shapes {listed}"
    odd = r"along dimension (\d+), the array at index (\d+) has size (\d+) and .* (\d+) has .* (\d+)"
    if joined := re.search(odd, text):
        dim, first, size, second, other = joined.groups()
        return (f"the sizes must be equal in every dimension but the one that is joined: at dim {dim}, tensor {first} "
                f"has {size} and tensor {second} has {other}")  # fmt: skip
    if "could not be broadcast" in text:
        named = _shapes_in(text)
        shapes = shapes if len(shapes) > 1 else named
        return broadcast_text(shapes) if shapes else text
    if ("gufunc signature" in text or text.startswith("gemm: inner")) and len(shapes) > 1:
        if name == "linear":
            return (f"input must end in the {shapes[1][-1]} features that weight of shape {list(shapes[1])} takes, "
                    f"got shape {list(shapes[0])}")  # fmt: skip
        return f"the sizes that are summed over differ, got shapes {listed}"
    if "gufunc signature" in text and (sizes := re.search(r"size (\d+) is different from (\d+)", text)):
        return f"the sizes that are summed over differ: {sizes[1]} and {sizes[2]}"
    return text


def given_text(op, args, static) -> str:
    """Arguments by name with their types and shapes, then the settings."""
    names = [*getattr(op, "parameters", ()), getattr(op, "variadic", None), *[None] * len(args)]
    shown = [f"{name} {shape_text(a)}" if name else shape_text(a) for name, a in zip(names, args, strict=False)]
    settings = ", ".join(f"{k}={shape_text(v) if hasattr(v, 'array') else v!r}" for k, v in static.items())
    return ", ".join(shown) + (f"; {settings[:LONGEST]}" if settings else "")


def place_lines(depth) -> list[str]:
    """The module and the user's line where things stand, as the lines of a message."""
    lines = [f"  in module: {state.scope}"] if state.scope else []
    place = provenance.describe(provenance.site(depth + 1))
    return [*lines, f"  at {place}"] if place else lines


def kind_of(error) -> Any:
    """The class that an error of NumPy or of a body becomes."""
    if isinstance(error, NotImplementedError):
        return NotImplementedError
    if isinstance(error, np.linalg.LinAlgError):
        return LinAlgError
    return IndexError if isinstance(error, IndexError) else TypeError if isinstance(error, TypeError) else OpError


def explained(error, op, args, static):
    """The error of a failed operation with its name, its arguments and the places where they come from."""
    if getattr(error, "explained", False):
        return error
    if isinstance(error, AttributeError):
        odd = [a for a in args if not (a is None or isinstance(a, (int, float, np.generic)) or hasattr(a, "shape"))]
        if not odd:
            return error
        error = TypeError(f"arguments must be Tensors, got a {type(odd[0]).__name__}")
    entrance, text = provenance.entrance(3), sentence(error, op.name, getattr(op, "qualified", op.name), args)
    inside = re.match(r"([\w.]*?(\w+)): ", text)
    if inside is not None and inside[2] == entrance:  # a composite whose own check has failed
        name, text = inside[1], text[inside.end() :]
    else:
        name = entrance if getattr(op, "namespace", "") == "internal" else None
    lines = [f"{name or op.qualified.removeprefix('nn.functional.')}: {text}"]
    lines += [f"  arguments: {given_text(op, args, static)}", *place_lines(4)]
    if isinstance(state.scope, BackwardScope) and (node := state.scope.forward()) is not None:
        lines.append(f"  in the gradient of {node.where()}")
    for number, arg in enumerate(args):
        if getattr(arg, "node", None) is not None:
            lines.append(f"  argument {number} comes from {arg.node.where()}")
    return _marked(kind_of(error)("\n".join(lines)), error)


_NUMPY = os.path.dirname(np.__file__)


def placed(error, given, settings, function=None):
    """The error of a function that is made of operations, with what it was given and its place; in place.

    Wrong calls (the signature says what is missing) and errors of the user's own code stay as they are.
    """
    trace = error.__traceback__
    if getattr(error, "explained", False) or type(error) is AttributeError:
        return error
    if trace is not None and (trace.tb_next is None or _in_users_code(trace)):
        return error
    lines = [str(error.args[0]) if error.args else type(error).__name__]
    if shown := _given(given, settings, function):
        lines.append(f"  arguments: {shown[:LONGEST]}")
    error.args = ("\n".join([*lines, *place_lines(4)]),)
    return _marked(error)


def _in_users_code(trace):
    """Whether an error began in the user's code (and not in NumPy's)."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    return provenance.written_by_user(file) and not file.startswith(_NUMPY)


def _given(given, settings, function):
    """Arguments by name, without those that are what they are by default."""
    code = getattr(function, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    defaults = dict(zip(reversed(names), reversed(getattr(function, "__defaults__", None) or ()), strict=False))
    pairs = [*zip_longest(names[: len(given)], given), *settings.items()]
    return ", ".join([f"{name} {_shown(value)}" if name else _shown(value) for name, value in pairs
                      if not (name in defaults and defaults[name] is value)])  # fmt: skip


def _shown(value):
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_shown(v) for v in value)})"
    return shape_text(value)


def of_a_rule(error, node, slots):
    """An error in a gradient rule, with the place where the operation was made; that of a user's code stays itself."""
    where = f"in the gradient of {node.where()}"
    if isinstance(error, OpError) and getattr(error, "explained", False):
        if "in the gradient of" not in str(error) and not hasattr(error, "finding"):
            error.args = (f"{error}\n  {where}",)
        return error
    if getattr(error, "explained", False) or node.op.foreign:
        error.add_note(where)
        return error
    if isinstance(error, AttributeError):
        return error
    name = getattr(node.op, "qualified", node.op.name).removeprefix("nn.functional.")
    gradients = ", ".join(shape_text(g) for g in slots)
    inputs = ", ".join(f"{np.dtype(d).name}{list(s)}" for s, d in map(_kind_of_end, node.edges))
    lines = [f"gradient of {name}: {sentence(error, node.op.name, name, ())}",
             f"  arguments: gradient {gradients}; inputs that want one: {inputs}"]  # fmt: skip
    place = provenance.describe(provenance.site(3))
    lines += [f"  at {place}"] if place else []
    lines.append(f"  in the gradient of {node.where()}")
    return _marked(kind_of(error)("\n".join(lines)), error)


def _kind_of_end(edge):
    parent, index = edge
    return parent.meta[index] if hasattr(parent, "meta") else (parent.array.shape, parent.array.dtype)


def stale(what, node, write) -> OpError:
    """A value that a node saved was changed in place: which, where it was saved, where it was changed."""
    changed = provenance.describe(write.site) or "a place that is not known (a compiled program, an initialiser)"
    text = ("one of the values needed for gradient computation has been modified by an in-place operation: "
            f"{what} of {node.where()}\n  changed at {changed}")  # fmt: skip
    place = provenance.describe(provenance.site(3))
    return _marked(OpError(f"{text}\n  noticed at {place}" if place else text))


def _marked(error, cause=None):
    """The finished error; ``cause`` is shown before it where it began in the user's code, as in a record of theirs."""
    error.explained = True
    if cause is not None:
        shown = cause.__traceback__ is not None and _in_users_code(cause.__traceback__)
        error.__cause__ = cause if shown else None  # which hides what NumPy says
    return error
