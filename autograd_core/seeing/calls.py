"""Every operation of a forward with what went in and out and its gradients; and whether its own rule is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import provenance, storage
from ..backward import grad as grad_of
from ..errors import EXPLAINED
from ..modes import BackwardScope, Watcher, enable_grad, no_grad, state, unwatched
from ..shapes import ndarray, reduced_dims
from ..tensor import Node, Tensor, apply, wrap

NO_DERIVATIVE = frozenset(["internal.round_to_bfloat16", "normal"])
"""Operations whose gradient is not the derivative on purpose."""

SYMMETRIC = frozenset(["linalg.cholesky", "linalg.eigh", "linalg.eigvalsh", "internal.pseudo_inverse"])
"""Operations that look at one triangle: their gradient is that of the symmetric part of the input."""


@dataclass(eq=False)
class Call:
    """One operation: arguments and results as arrays, which arguments want gradients, and what backward brought.

    ``gradients``: of the results; ``returned``: of the arguments, by position.
    """

    name: str
    op: Any
    run: Callable
    args: tuple
    static: dict[str, Any]
    outs: tuple[ndarray | None, ...]
    tracked: tuple[int, ...]
    place: tuple | None
    scope: str
    gradients: list[ndarray | None] = field(default_factory=list)
    returned: dict[int, ndarray] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """File, line and text of the user's code."""
        return provenance.describe(self.place)

    @property
    def type(self) -> str:
        """Type and shape of the first result."""
        return "" if self.out is None else f"{self.out.dtype.name}{list(self.out.shape)}"

    @property
    def out(self) -> ndarray | None:
        """The first result."""
        return self.outs[0]


class Calls(Watcher):
    """Keeps a `Call` of every operation of the forward that has a gradient, in order, in ``calls``."""

    def __init__(self):
        self.calls: list[Call] = []
        self.by_node: dict[Node, Call] = {}
        self.copies: dict[int, tuple[ndarray, int, ndarray]] = {}
        self.wrapped: dict[int, Any] = {}
        self.inputs: list[tuple] = []

    def call(self, op, args, static):
        """Run the operation, those that it is made of seen, and note it if it made a node of its own."""
        inside = isinstance(state.scope, BackwardScope)
        given = None if inside else tuple([self._kept(a) for a in args])
        place = provenance.site(3)
        result = apply(op, args, static, watched=False)
        if given is not None:
            self._note(op.qualified, op, lambda *a: apply(op, a, static), args, given, static, result, place)
        return result

    def call_function(self, function, args, kwargs):
        """A user's Function is one call."""
        given, place = tuple([self._kept(a) for a in args]), provenance.site(3)
        result = super().call_function(function, args, kwargs)
        if not isinstance(state.scope, BackwardScope):
            self._note(
                function.__name__, None, lambda *a: function.apply(*a, **kwargs), args, given, kwargs, result, place
            )
        return result

    def differentiated(self, node, given, found):
        """Keep the gradients of a node's results and arguments."""
        super().differentiated(node, given, found)
        call = self.by_node.get(node)
        if call is None:
            return
        call.gradients = [None if g is None else np.array(getattr(g, "array", g)) for g in given]
        for slot, gradient in found:
            if gradient is not None:
                position = node.plan.positions[slot]
                like = call.args[position]
                call.returned[position] = _summed(np.asarray(getattr(gradient, "array", gradient)), np.shape(like))

    def _note(self, name, op, run, args, given, static, result, place):
        outs = result if isinstance(result, tuple) else (result,)
        node = next((o.node for o in outs if isinstance(o, Tensor) and o.node is not None), None)
        if node is None or node in self.by_node or (op is not None and node.op is not op):
            return
        tracked = tuple([i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad])
        arrays = tuple([np.array(o.array) if isinstance(o, Tensor) else None for o in outs])
        call = Call(name, op, run, given, static, arrays, tracked, place, str(state.scope or ""))
        self.calls.append(call)
        self.by_node[node] = call

    def _kept(self, value):
        """A copy of an array, one for as long as it is not written."""
        array = value.array if isinstance(value, Tensor) else value
        if not isinstance(array, ndarray):
            return array
        known, version = self.copies.get(id(array)), storage.version(array)
        if known is None or known[0] is not array or known[1] != version:
            known = self.copies[id(array)] = array, version, copy.copy(array)
        return known[2]


def _summed(gradient, shape):
    """A gradient in the shape of its argument: what was broadcast is summed."""
    if gradient.shape != shape and gradient.ndim >= len(shape):
        dims = reduced_dims(gradient.shape, shape)
        gradient = np.add.reduce(gradient, axis=dims, keepdims=True).reshape(shape) if dims else gradient
    return np.array(np.broadcast_to(gradient, shape))


# ---------------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True)
class WrongRule:
    """An operation whose gradient rule disagrees with central differences along a random direction."""

    call: Call
    argument: int
    analytic: float
    numeric: float

    def __str__(self):
        names = getattr(self.call.op, "parameters", ())
        name = names[self.argument] if self.argument < len(names) else f"argument {self.argument}"
        where = f" in module {self.call.scope}" if self.call.scope else ""
        return (
            f"the rule of {self.call.name} for {name} is wrong{where}: along a random direction it gives "
            f"{self.analytic:.8g}, central differences {self.numeric:.8g}\n  at {self.call.line or 'an unknown place'}"
        )


def first_wrong(calls: list[Call], seed: int = 0) -> WrongRule | None:
    """The first of ``calls`` (in double precision) whose own rule is wrong."""
    for call in calls:
        found = wrong_rule(call, seed)
        if found is not None:
            return found
    return None


def wrong_rule(call: Call, seed: int = 0) -> WrongRule | None:
    """Check one operation by itself at the values that it got; moved a little where it has a kink just there."""
    if call.name in NO_DERIVATIVE or call.static.get("padding_idx", -1) not in (-1, None):
        return None
    rng = np.random.default_rng(seed)
    for position in call.tracked:
        array = call.args[position]
        if not isinstance(array, ndarray) or array.dtype != np.float64 or not array.size:
            continue
        found = _compare(call, position, call.args, rng)
        if found is None or _agrees(*found):
            continue
        moved = [a + 1e-2 * rng.standard_normal(a.shape) * (np.abs(a).mean() + 0.1)
                 if i in call.tracked and isinstance(a, ndarray) and a.dtype == np.float64 else a
                 for i, a in enumerate(call.args)]  # fmt: skip
        again = _compare(call, position, moved, rng)
        if again is None or _agrees(*again):
            continue  # a kink
        return WrongRule(call, position, *found)
    return None


def _agrees(analytic, numeric):
    return abs(analytic - numeric) <= 1e-4 * max(abs(analytic), abs(numeric), 1e-6)


def _compare(call, position, args, rng):
    """(analytic, numeric) derivative along a random direction of one argument, weighted at random; None: cannot.

    Results that are not finite have no weight; a difference that rounding explains is none.
    """
    array = args[position]
    direction = rng.standard_normal(array.shape)
    if call.name in SYMMETRIC and array.shape[-1] == array.shape[-2]:
        direction = direction + direction.swapaxes(-1, -2)
    try:
        with unwatched(), enable_grad():
            leaf = wrap(array.copy()).requires_grad_()
            outs = _floats(call.run(*_with(args, position, leaf)))
        if not outs or any(o.array.dtype != np.float64 for o in outs):
            return None
        weights = [rng.standard_normal(o.array.shape) * (np.isfinite(o.array) & o.requires_grad) for o in outs]
        live = [(o, wrap(w)) for o, w in zip(outs, weights, strict=True) if o.requires_grad]
        with unwatched():
            pulled = grad_of([o for o, _ in live], leaf, [w for _, w in live], allow_unused=True)[0] if live else None
        analytic = 0.0 if pulled is None else float((pulled.array * direction).sum())
        found = [_numeric(call, position, args, step * direction, step, weights) for step in (1e-5, 1e-6, 1e-7)]
    except EXPLAINED:
        return None  # not defined a step away, or no rule for this argument
    usable = [(numeric, noise) for numeric, noise in found if np.isfinite(numeric)]
    if not usable or not np.isfinite(analytic):
        return None
    numeric, noise = min(usable, key=lambda pair: abs(pair[0] - analytic))
    return (analytic, analytic) if abs(numeric - analytic) <= noise else (analytic, numeric)


def _numeric(call, position, args, offset, step, weights):
    """The weighted sum of difference quotients, and what rounding may make of it."""
    ends = []
    for sign in (1, -1):
        with unwatched(), no_grad():
            moved = _floats(call.run(*_with(args, position, wrap(args[position] + sign * offset))))
        ends.append([np.where(w != 0, o.array, 0.0) for o, w in zip(moved, weights, strict=True)])
    numeric = sum(float((w * (up - down)).sum()) for w, up, down in zip(weights, *ends, strict=True)) / (2 * step)
    size = sum(float(np.abs(w * up).sum()) for w, up in zip(weights, ends[0], strict=True))
    return numeric, 8 * np.finfo(np.float64).eps * size / step


def _with(args, position, value):
    return [value if i == position else wrap(a) if isinstance(a, ndarray) else a for i, a in enumerate(args)]


def _floats(result):
    outs = result if isinstance(result, tuple) else (result,)
    return [o for o in outs if isinstance(o, Tensor) and o.array.dtype.kind == "f"]
