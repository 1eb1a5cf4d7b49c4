"""Losses that are a sum or a mean of terms, one for each element: the terms are declared, `total` adds them up.

    @term(scalar="(input - target) * (input - target)", vjp=[...], samples=[...])
    def squared_error(input, target): ...

    total(squared_error, "mean", "mse_loss", input, target)

A term is an elementwise record. Beside it stands a second one, ``<term>_total``, made of the same text: the sum of the
terms over ``count``, as one node; large arrays pass one loop forward and one for each gradient, and nothing of their
size is stored in between. Where every operation is to be seen by itself (compiling, vmap), the same loss is the term
and `ops.mean` or `ops.sum`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any

import numpy as np

from .. import ops
from ..bodies import LARGE, fused
from ..doors import compiled
from ..modes import state
from ..registry import Family, arithmetic, op, reduction
from ..shapes import broadcast_shapes, ndarray
from ..tensor import Tensor
from .samples import Sample


def steered() -> bool:
    """Whether every operation is to be seen by itself: then what is fused by hand is better said in small ones."""
    return state.watch is not None and state.watch.steers


def total(term: Callable, reduce: str, name: str, *arrays, count: int | None = None, **settings):
    """The terms ('none'), their sum, or their 'mean': the sum over ``count``, by default their number."""
    if reduce == "none":
        return term(*arrays, **settings)
    if reduce not in ("mean", "sum"):
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduce!r}")
    known = [a.array if isinstance(a, Tensor) else a for a in arrays]
    first = known[0]
    if steered() or type(first) is not ndarray or first.dtype.char not in "fd":
        terms = term(*arrays, **settings)
        if count is not None:
            return ops.sum(terms) / count
        return ops.mean(terms) if reduce == "mean" else ops.sum(terms)
    if reduce == "sum":
        count = 1
    elif count is None:
        shapes = {a.shape for a in known if type(a) is ndarray}
        count = first.size if len(shapes) == 1 else prod(broadcast_shapes(*shapes))
    if state.watch is None:  # integers are cast here, which is quicker than to look for the common type of all
        arrays = tuple([k.astype(first.dtype) if type(k) is ndarray and k.dtype.kind in "iu" else a
                        for a, k in zip(arrays, known, strict=True)])  # fmt: skip
    return TOTALS[term].door({"count": count, **settings}, *arrays)


def term(*, scalar: str | None = None, vjp: list, samples: list, family: Family = arithmetic) -> Callable:
    """Register the decorated function of elements as an internal record, and its total beside it."""

    def register(function):
        public = op(family, namespace="internal", out=False, scalar=scalar, vjp=vjp, samples=samples)(function)
        TOTALS[public] = _total_of(public.record)
        return public

    return register


TOTALS: dict[Callable, Any] = {}
"""The record of the total of a term, by the term's public function."""


def _total_of(record):
    """The record of the sum of the terms of ``record``, divided by the setting ``count``."""
    body, settings = record.function, tuple(record.settings)
    loop = fused(lambda fusion: fusion.fused_op(record, "sum"), lambda *_: NotImplemented)

    def run(count, settings, *arrays):
        if arrays[0].nbytes >= LARGE:
            found = loop(*arrays, *settings.values())
            if found is not NotImplemented:
                return found / count
        return np.add.reduce(body(*arrays, **settings), None) / count

    given = ", ".join(record.parameters)
    packed = "{" + ", ".join([f"{k!r}: {k}" for k in settings]) + "}"
    text = f"lambda {given}, *, {''.join([f'{k}, ' for k in settings])}count: run(count, {packed}, {given})"
    function = compiled(text, run=run)
    function.__doc__ = f"The sum of the terms of `{record.name}`, over ``count``."
    samples = [_with(s, count=3) for s in record.samples]
    rules = [rule and _spread(record, rule) for rule in record.vjp]
    return op(reduction, namespace="internal", name=f"{record.name}_total", out=False, promote=record.promote,
              vjp=rules, samples=samples)(function).record  # fmt: skip


def one_loop(function: Callable) -> Callable:
    """``function`` of arrays and numbers in the op language, as one loop where its first argument is a large array."""
    title = f"{function.__module__}.{function.__name__}"
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    loop = fused(lambda fusion: fusion.Fused(function, title, names), function)

    @wraps(function)
    def run(first, *others):
        return (loop if type(first) is ndarray and first.nbytes >= LARGE else function)(first, *others)

    return run


def _with(entry, **more):
    """A sample with more settings."""
    return entry._replace(kwargs={**entry.kwargs, **more}) if isinstance(entry, Sample) else Sample((entry,), more)


def _spread(record, rule):
    """The rule of a term as that of the total, which gives every term the same gradient."""
    loop = fused(lambda fusion: fusion.fused_rule(record, rule), rule)

    def run(g, *known):
        if isinstance(g, Tensor) or max([a.nbytes for a in known if type(a) is ndarray], default=0) < LARGE:
            return rule(g, *known)
        return loop(np.asarray(g), *known)

    names = rule.__code__.co_varnames[1 : rule.__code__.co_argcount]
    given = "".join([f", {name}" for name in names])
    return compiled(f"lambda g{given}, count: run(g / count{given})", run=run)
