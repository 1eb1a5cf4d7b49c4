"""``ag.debug``: stop at the first value that is not finite, with what led there, in the user's frame."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import wraps

import numpy as np

from .. import provenance
from ..errors import OpError, shape_text
from ..modes import BackwardScope, state
from ..shapes import ndarray
from ..tensor import Tensor
from ..writes import detect_writes
from .names import called
from .statistics import statistics

UNSET = frozenset(["empty", "empty_like"])
"""Operations whose results hold whatever was in memory."""

SHOWN = 12
"""Steps of the chain that a report shows."""


class NonFiniteError(OpError):
    """A NaN or an infinity was made inside ``ag.debug()``; ``finding`` says by which operation, of what."""

    explained = True
    finding: Finding


@dataclass(eq=False, slots=True)
class Step:
    """One operation that ran: what it made (type, smallest and greatest value) and the steps that it read."""

    number: int
    name: str
    type: str
    low: float
    high: float
    scope: str
    place: tuple | None
    sources: tuple[int, ...]

    def __str__(self):
        where = provenance.describe(self.place)
        scope = f" in {self.scope}" if self.scope else ""
        return f"{self.name} -> {self.type}, {self.low:.6g} to {self.high:.6g}{scope}" + (f"  {where}" if where else "")


@dataclass(eq=False)
class Finding:
    """The first operation that made a value that is not finite, what it was given and the chain that led there.

    ``op``: its name; ``phase``: "forward", "backward" or "write"; ``what``: the sentence; ``result`` and ``inputs``:
    arrays as they were, by name; ``chain``: the steps that led to it, oldest first.
    """

    op: str
    phase: str
    what: str
    result: ndarray
    inputs: list[tuple[str, ndarray]]
    place: tuple | None
    scope: str = ""
    made: str = ""
    remarks: list[str] = field(default_factory=list)
    chain: list[Step] = field(default_factory=list)
    step: int | None = None

    @property
    def line(self) -> str:
        """File, line and text of the user's code that ran the operation."""
        return provenance.describe(self.place)

    def __str__(self):
        lines = [self.what if self.step is None else f"step {self.step}: {self.what}"]
        lines.append(f"  result: {numbers_text(self.result)}")
        lines += [f"  {name}: {numbers_text(array)}" for name, array in self.inputs]
        lines += [f"  in module: {self.scope}"] if self.scope else []
        lines += [f"  at {self.line}"] if self.line else []
        lines += [f"  made in forward: {self.made}"] if self.made else []
        lines += [f"  {remark}" for remark in self.remarks]
        if self.chain:
            lines.append("  what led there, oldest first:")
            lines += [f"    {step}" for step in self.chain]
        return "\n".join(lines)

    __repr__ = __str__


def numbers_text(array: ndarray) -> str:
    """Type, range, mean and the counts of what is special in an array, as a sentence."""
    found = statistics(array)
    if found is None:
        return shape_text(array)
    parts = [f"{found[key]} {word}" for key, word in (("nan", "NaN"), ("inf", "infinite"), ("zeros", "zeros"))
             if found[key]]  # fmt: skip
    text = shape_text(array)
    if array.size == 1:
        return f"{text} = {array.reshape(-1)[0]:.6g}"
    if found["min"] is not None:
        text += f" from {found['min']:.6g} to {found['max']:.6g}, mean {found['mean']:.6g}"
    return f"{text}; {', '.join(parts)} of {array.size}" if parts else text


def range_of(array: ndarray) -> tuple[float, float]:
    """Smallest and greatest element, NaN where there is a NaN; 0 of an array without elements."""
    if not array.size:
        return 0.0, 0.0
    with np.errstate(all="ignore"):
        return float(array.min()), float(array.max())


def _is_bad(low, high):
    return not (math.isfinite(low) and math.isfinite(high))


def _holds_infinity(value) -> bool:
    """Whether an argument or a setting holds an infinity: then one in the result is no surprise."""
    value = getattr(value, "array", value)
    if isinstance(value, (ndarray, np.generic)):
        return value.dtype.kind == "f" and bool(np.isinf(value).any())
    if isinstance(value, (list, tuple)):
        return any(map(_holds_infinity, value))
    return isinstance(value, float) and math.isinf(value)


class debug(detect_writes):
    """Stop at the first value that is not finite, forward or backward: a context manager and a decorator.

        with ag.debug():
            loss = step(x)
            loss.backward()

    The error, a `NonFiniteError` (a RuntimeError), names the operation, its module and line, what it was given with
    statistics, for a gradient the line of the forward operation, and the chain of operations that led there. Its
    traceback ends in the user's code, so that a debugger (``python -m pdb``, ``%debug``) opens there.

    A NaN always stops; an infinity stops where no infinity went in: masks of -inf are no mistake. Values between the
    operations of one gradient rule are judged by what the rule returns. Writes through NumPy into what a graph has
    saved are found in the backward, as by ``ag.autograd.detect_writes``. Compiled functions run eagerly inside.

    ``check_nan=False`` looks for such writes alone. ``history``: how many operations back the chain may reach.
    """

    def __init__(self, check_nan: bool = True, *, history: int = 4096):
        self.check_nan, self.history = check_nan, history
        self._begin()

    def _begin(self):
        self.steps: OrderedDict[int, tuple[Step, list[int]]] = OrderedDict()
        self.made: dict[int, tuple[weakref.ref, int]] = {}  # by the id of an array: the array, and its step
        self.count = 0
        self.suspect: Finding | None = None

    def __enter__(self):
        self._begin()
        return super().__enter__()

    def __exit__(self, kind=None, error=None, trace=None):
        super().__exit__(kind, error, trace)
        if isinstance(error, OpError):
            end_in_users_code(error)

    def __call__(self, function):
        @wraps(function)
        def wrapped(*args, **kwargs):
            with debug(self.check_nan, history=self.history):
                return function(*args, **kwargs)

        return wrapped

    # -------------------------------------------------- what is seen

    def call(self, op, args, static):
        """Let the operation run, then look at what it made."""
        result = super().call(op, args, static)
        if self.check_nan:
            for out in result if isinstance(result, tuple) else (result,):
                if isinstance(out, Tensor) and out.array.dtype.kind == "f":
                    self._look(op, args, static, out.array)
        return result

    def call_function(self, function, args, kwargs):
        """The operations inside a user's Function are looked at one by one."""
        return function._apply(args, kwargs)

    def write(self, target, result):
        """What is written was made by the step of ``result``."""
        super().write(target, result)
        if not self.check_nan or target.array.dtype.kind != "f":
            return
        source = result.array if isinstance(result, Tensor) else np.asarray(result)
        known = self._step_of(source)
        if known is not None:
            self._note(target.array, known)
        elif source.dtype.kind == "f" and np.isnan(source).any():
            name = f" {target.name}" if getattr(target, "name", None) else ""
            found = Finding("write", "write", f"NaN is written into a tensor{name}", source,
                            [("before", target.array)], provenance.site(), str(state.scope or ""))  # fmt: skip
            raise self._error(found)

    def differentiated(self, node, given, found):
        """Judge what the gradient rules of a node returned."""
        super().differentiated(node, given, found)
        suspect, self.suspect = self.suspect, None
        if not self.check_nan:
            return
        for slot, gradient in found:
            array = getattr(gradient, "array", gradient)
            if isinstance(array, ndarray) and array.dtype.kind == "f" and _is_bad(*range_of(array)):
                raise self._error(self._of_gradient(node, given, slot, array, suspect))

    # -------------------------------------------------- findings

    def _look(self, op, args, static, array):
        low, high = range_of(array)
        number = self._remember(public_name(op), args, array, low, high)
        if not _is_bad(low, high) or op.name in UNSET:
            return
        nan = math.isnan(low) or math.isnan(high)
        backward = isinstance(state.scope, BackwardScope)
        if not nan and (any(map(_holds_infinity, args)) or any(map(_holds_infinity, static.values()))):
            return
        found = self._of_op(op, args, array, nan)
        found.chain = self._chain(number)
        if backward:
            self.suspect = self.suspect or found
        else:
            raise self._error(found)

    def _of_op(self, op, args, array, nan):
        names = [*op.parameters, *[op.variadic or "argument"] * len(args)]
        given = [(name, getattr(a, "array", a)) for name, a in zip(names, args, strict=False)]
        inputs = [(name, np.asarray(a)) for name, a in given if isinstance(a, (ndarray, float, int))]
        shown = public_name(op)
        what = f"{shown}: made {_counted(array)} from finite values"
        remarks = []
        for name, value in inputs:
            if value.dtype.kind == "f" and np.isnan(value).any():
                what = f"{shown}: {name} holds NaN already"
                remarks.append(f"no operation inside ag.debug() made {name}: it came in from outside")
                break
            if value.dtype.kind == "f" and np.isinf(value).any():
                what = f"{shown}: made {_counted(array)} from infinite values"
        return Finding(op.name, "forward", what, array, inputs, provenance.site(), str(state.scope or ""),
                       remarks=remarks)  # fmt: skip

    def _of_gradient(self, node, given, slot, array, suspect):
        position = node.plan.positions[slot] if slot < len(node.plan.positions) else slot
        names = getattr(node.op, "parameters", ())
        name = names[position] if position < len(names) else f"argument {position}"
        inputs = [(f"gradient of output {i}" if len(given) > 1 else "gradient that came in", getattr(g, "array", g))
                  for i, g in enumerate(given) if g is not None]  # fmt: skip
        for keep, value in zip(node.plan.keep, node.saved or (), strict=False):
            if isinstance(value, ndarray):
                label = names[keep[1]] if keep[0] == "input" and keep[1] < len(names) else keep[0]
                inputs.append((f"saved {label}", value))
        finite = all(not _is_bad(*range_of(a)) for label, a in inputs if label.startswith("gradient"))
        what = f"backward of {node.op.name}: the gradient of {name} holds {_counted(array)}"
        if not finite:
            what += "; the gradient that came in was not finite (the sum of several, or given to backward)"
        remarks = []
        if suspect is not None:
            remarks.append(f"first inside the rule: {suspect.what}")
            remarks += [f"  {label}: {numbers_text(value)}" for label, value in suspect.inputs]
        chain = self._chain(self.count) if suspect is None else suspect.chain
        return Finding(node.op.name, "backward", what, array, inputs, provenance.site(), str(node.scope or ""),
                       provenance.describe(node.site), remarks, chain)  # fmt: skip

    def _error(self, found):
        error = NonFiniteError(str(found))
        error.finding = found
        return error

    # -------------------------------------------------- history

    def _remember(self, name, args, array, low, high):
        sources = [self._step_of(a.array if isinstance(a, Tensor) else a) for a in args
                   if isinstance(a, (Tensor, ndarray))]  # fmt: skip
        self.count += 1
        scope = state.scope
        forward = scope.forward() if isinstance(scope, BackwardScope) else None
        if forward is not None:
            name = f"{name} (in the gradient of {forward.op.name})"
        step = Step(self.count, name, shape_text(array), low, high, str(scope or ""),
                    provenance.site(4) if forward is None else forward.site,
                    tuple([s for s in dict.fromkeys(sources) if s is not None]))  # fmt: skip
        self.steps[self.count] = step, []
        self._note(array, self.count)
        while len(self.steps) > self.history:
            for key in self.steps.popitem(last=False)[1][1]:
                if key in self.made and self.made[key][1] not in self.steps:
                    del self.made[key]
        return self.count

    def _note(self, array, number):
        self.made[id(array)] = weakref.ref(array), number
        self.steps[number][1].append(id(array))

    def _step_of(self, array):
        known = self.made.get(id(array))
        return known[1] if known is not None and known[0]() is array and known[1] in self.steps else None

    def _chain(self, number):
        """The steps that led to one, through the input of the widest range each time; oldest first."""
        chain: list[Step] = []
        while number in self.steps and len(chain) < SHOWN:
            step = self.steps[number][0]
            chain.append(step)
            known = [self.steps[n][0] for n in step.sources if n in self.steps]
            if not known:
                break
            number = max(known, key=_width).number
        return chain[::-1]


def public_name(op) -> str:
    """What the user called that ran ``op``: ``conv2d`` of ``internal.convolution``."""
    internal = op.qualified.startswith("internal.")
    return (called(2) if internal else None) or op.qualified.removeprefix("nn.functional.").removeprefix("internal.")


def _width(step):
    reach = max(abs(step.low), abs(step.high))
    return math.inf if math.isnan(reach) else reach


def _counted(array):
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    parts = [f"{nan} NaN"] if nan else []
    parts += [f"{infinite} infinite value{'s' if infinite > 1 else ''}"] if infinite else []
    return " and ".join(parts)


def end_in_users_code(error: BaseException) -> None:
    """Cut the traceback of ``error`` behind its last frame of the user's code, where a debugger then opens."""
    last, trace = None, error.__traceback__
    while trace is not None:
        if provenance.written_by_user(trace.tb_frame.f_code.co_filename):
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None
