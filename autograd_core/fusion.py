"""Fusion: elementwise functions of whole arrays become one loop, which reads and writes each element once.

A function is *traced* once: it runs on symbols that pass the one door like Tensors, and every operation adds the steps
of its record's ``scalar`` expression to a list, from which `kernels.elementwise` makes a loop in machine code. What the
function does not do element by element ends the trace with `NotFusable`, and the caller evaluates it as it is.

Numbers (settings, learning rates) are inputs of the loop, never part of it. Where a function asks something of a number
(``alpha == 1``), the answer becomes a guard: the same loop serves all numbers that give the same answers.

For operations that are known one by one, as to the compiler: make a `symbolic.Trace`, its inputs and numbers, call
`lower` for each operation, and `Trace.loop` with the results; `kernels.elementwise.plan_loop` plans it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, signature
from typing import NamedTuple

import numpy as np

from .bodies import ONE_PASS, TARGET
from .kernels.elementwise import plan_loop, plan_update
from .kernels.loop_text import LANEWISE, NUMBER, VMATH, Loop
from .kernels.plan import PLANS, Bound, execute, keep, prepare
from .modes import Watcher
from .registry import Op
from .shapes import broadcast_nbytes, ndarray
from .symbolic import POWERS, NotFusable, Trace, Value, call, common, expression
from .tensor import Tensor, new

MOST_VARIANTS = 8
"""Loops kept for one function and one set of dtypes; a function that asks for more is evaluated as it is."""

MOST_CHECKED = 64
"""Sets of numbers remembered as valid for one launch."""

MOST_WHOLE = 1 << 31
"""Whole numbers below this size pass through float64, and into every integer type of loops but uint8, unchanged."""


# ---------------------------------------------------------------------------------------------------- lowering


def _limited(input, min, max):
    bounded = input if min is None else call("maximum", input, min)
    return bounded if max is None else call("minimum", bounded, max)


WITHOUT_SCALAR: dict[str, Callable] = {
    "zeros_like": lambda input, **_: 0, "ones_like": lambda input, **_: 1, "clamp": _limited,
}  # fmt: skip
"""What a few ops do to an element that a ``scalar`` expression cannot say."""


def lower(op: Op, trace: Trace, args: Sequence, settings: dict) -> Value:
    """Add the steps of an operation on values, numbers and constants to a trace; returns its result."""
    values = [a for a in args if isinstance(a, Value)]
    if op.name == "where" or not values:
        values = [a for a in args[1:] if isinstance(a, Value)] or values
    if op.family.name == "comparison":
        dtype = "bool"
    else:
        numbers = [a for a in args if isinstance(a, (int, float)) and not isinstance(a, bool)]
        dtype = common([*values, *numbers], floating=op.family.name == "elementwise")
    before, trace.wanted = trace.wanted, dtype
    try:
        if op.scalar is not None and not any(a is None for a in args):
            found = expression(op.scalar, (*op.parameters, *op.settings))(*args, *[settings[k] for k in op.settings])
        elif op.name in WITHOUT_SCALAR:
            found = WITHOUT_SCALAR[op.name](*args, **settings)
        else:
            raise NotFusable(f"{op.qualified} has no scalar expression")
    finally:
        trace.wanted = before
    if isinstance(found, Value):
        if found.dtype.startswith("float") and not dtype.startswith("float"):
            raise NotFusable("a fraction among whole numbers")
        return found.to(dtype)
    return trace.value("full", (found,), dtype)


# ---------------------------------------------------------------------------------------------------- tracing


class Symbol(Tensor):
    """Stands for an array while a function is traced: operations on it pass the door, its elements are not there."""

    value: Value

    @property
    def array(self):  # type: ignore[override]
        """Not there."""
        raise NotFusable("the function looks at an array as a whole")

    shape = ndim = dtype = requires_grad = array


def symbol(value: Value) -> Symbol:
    """A Tensor that stands for a value of a trace."""
    made = new(Symbol)
    made.value = value
    return made


class _Tracer(Watcher):
    """Writes down the operations that pass the door."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def call(self, op, args, static):
        known = [a.value if isinstance(a, Symbol) else a for a in args]
        if any(isinstance(a, (Tensor, ndarray, np.generic)) for a in known):
            raise NotFusable(f"{op.qualified} of an array that is no argument")
        return symbol(lower(op, self.trace, known, static))


class Variant(NamedTuple):
    """One loop of a function: the numbers that it holds for, the bytes from which it pays, how it is planned."""

    holds: Callable
    least: float = math.inf
    loop: Loop | None = None
    planner: Callable | None = None


def traced(function: Callable, arguments: Sequence, arrays: Sequence[str]):
    """(trace, results) of ``function`` on ``arguments``, where the next of ``arrays`` (dtypes) stands for each `ARRAY`.

    Numbers become run-time numbers; what is marked as `Constant`, and anything else, is a constant.
    """
    trace = Trace()
    dtypes = iter(arrays)
    given: list = []
    for argument in arguments:
        if argument is ARRAY:
            given.append(symbol(trace.input(next(dtypes))))
        elif type(argument) is Constant:
            given.append(argument.value)
        elif type(argument) in (int, float):
            given.append(trace.number(argument))
        else:
            given.append(argument)
    with _Tracer(trace):
        found = function(*given)
    return trace, found


ARRAY = object()
"""Stands for an array among the arguments of a function to be traced."""

DEFAULT = object()
"""Stands for a setting with its default in the key of a launch. As a default: there is none, no argument is this."""


class Constant(NamedTuple):
    """A number among the arguments of a function to be traced that is part of the loop."""

    value: float


def taken(bound: Bound, arrays: Sequence[ndarray]) -> list[ndarray] | None:
    """`TARGET` as the output of a launch; None where it is not what the plan asks for, or part of an input."""
    target, TARGET.array = TARGET.array, None
    spec = bound.plan.outputs[0]
    if spec is None or spec.shape != target.shape or np.dtype(spec.dtype) != target.dtype:
        return None
    if target.strides != spec.strides and not (spec.strides is None and target.flags.c_contiguous):
        return None
    return [target] if all([a is target or not np.may_share_memory(a, target) for a in arrays]) else None


def outputs_of(trace: Trace, found) -> list[Value]:
    """The values of what a traced function returned: a Symbol, or a tuple of them."""
    values = []
    for result in found if isinstance(found, tuple) else (found,):
        if not isinstance(result, Symbol):
            raise NotFusable("the result is no array")
        values.append(result.value)
    if all(value.place[0] == "input" for value in values):
        raise NotFusable("nothing is done")
    return values


class Fused:
    """A function of arrays and numbers that runs as one loop where it can and pays, and returns NotImplemented else.

    ``function`` is traced once for each set of dtypes, constants, and answers that it asks of its numbers. ``check`` is
    called with the arguments, arrays cut to one element, for the errors that it raises. ``reduce="sum"``: the loop
    closes with the sum of the elements.
    """

    def __init__(self, function: Callable, title: str, names: Sequence[str], check: Callable | None = None,
                 reduce: str = "", defaults: Sequence = ()) -> None:  # fmt: skip
        self.function, self.title, self.names, self.check, self.reduce = function, title, names, check, reduce
        self.defaults = (*[DEFAULT] * (len(names) - len(defaults)), *defaults)
        self.variants: dict[tuple, list[Variant]] = {}

    def __call__(self, *arguments):
        arrays: list = []
        numbers: list = []
        key: list = [self]
        for argument, default in zip(arguments, self.defaults, strict=True):
            kind = type(argument)
            if kind is ndarray:
                arrays.append(argument)
                key.append((argument.shape, argument.strides, argument.dtype))
            elif argument is default:
                key.append(DEFAULT)
            elif kind is float or (kind is int and -MOST_WHOLE < argument < MOST_WHOLE):
                numbers.append(argument)
                key.append(kind)
            elif kind is int or isinstance(argument, (Tensor, np.generic, list)):
                return NotImplemented
            else:
                key.append((argument,))
        place = tuple(key)
        try:
            launches = PLANS[place]
        except KeyError:
            launches = keep(place, [])
        for launch in launches:
            if launch[0](numbers):
                break
        else:
            launch = self._launch(launches, arguments, arrays, numbers)
        _, bound, checked = launch
        if bound is None:
            return NotImplemented
        if numbers and tuple(numbers) not in checked:
            self._check(checked, arguments, numbers)
        return bound.launch(arrays, numbers, None if TARGET.array is None else taken(bound, arrays))

    def _launch(self, launches, arguments, arrays, numbers):
        """When it holds, the plan for arguments like these, the numbers that it was checked for: a new launch."""
        variant = self._variant(arguments, numbers)
        bound, checked = None, set[tuple]()
        if variant.planner is not None and broadcast_nbytes(arrays) >= variant.least:
            bound = prepare(variant.planner, arrays, {}, len(numbers))
            if bound is not None:
                self._check(checked, arguments, numbers)
        launches.append((variant.holds, bound, checked))
        return launches[-1]

    def _check(self, checked, arguments, numbers):
        """Let ``check`` raise what it has to say about the arguments."""
        if self.check is not None:
            self.check(*[a[(slice(0, 1),) * a.ndim] if type(a) is ndarray else a for a in arguments])
        if len(checked) >= MOST_CHECKED:
            checked.clear()
        checked.add(tuple(numbers))

    def _variant(self, arguments, numbers) -> Variant:
        """The loop for these arguments, traced if there is none yet."""
        kinds = [a.dtype.char if type(a) is ndarray else
                 DEFAULT if a is d else type(a) if type(a) in (int, float) else (a,)
                 for a, d in zip(arguments, self.defaults, strict=True)]  # fmt: skip
        variants = self.variants.setdefault(tuple(kinds), [])
        for variant in variants:
            if variant.holds(numbers):
                return variant
        made = NO_VARIANT if len(variants) >= MOST_VARIANTS else self._made(self.trace(arguments))
        variants.append(made)
        return made

    def _made(self, written) -> Variant:
        if written is None:
            return NO_VARIANT
        trace, loop = written
        if any(f in LANEWISE and (f, dtype) != ("pow", "float32") for f, _, dtype in loop.steps):
            return NO_VARIANT
        planner = functools.partial(plan_loop, loop=loop, axes=None, gather=False)
        return Variant(guard(trace), 0 if self.reduce else least(loop), loop, planner)

    def numbers(self, arguments) -> list:
        """The run-time numbers among the arguments."""
        return [a for a, d in zip(arguments, self.defaults, strict=True) if type(a) in (int, float) and a is not d]

    def trace(self, arguments) -> tuple[Trace, Loop] | None:
        """Trace the function on arguments like these; None where it is not elementwise."""
        arrays = [a for a in arguments if type(a) is ndarray]
        marked = [ARRAY if type(a) is ndarray else Constant(a) if a is d else a
                  for a, d in zip(arguments, self.defaults, strict=True)]  # fmt: skip
        names = [n for n, a in zip(self.names, arguments, strict=True) if type(a) is ndarray]
        try:
            trace, found = traced(self.function, marked, [a.dtype.name for a in arrays])
            return trace, trace.loop(self.title, names, outputs_of(trace, found), [self.reduce])
        except REFUSED:
            return None


REFUSED = (NotFusable, TypeError, ValueError, NotImplementedError)
"""What ends a trace: a function that refuses symbols may take arrays, and says itself what is wrong if it does not."""


def least(loop: Loop) -> int:
    """From how many bytes on a loop is quicker than NumPy: at once where it saves passes, later where it does not."""
    steps = [step for step in loop.steps if step[2] != NUMBER and step[0] != "convert"]
    saves = len(steps) > 1 or steps[0][0] in VMATH
    return 0 if saves else ONE_PASS


def guard(trace: Trace) -> Callable:
    """A function of the numbers that says whether a trace holds for them."""
    text = " and ".join(dict.fromkeys(trace.guards)) or "True"
    return eval(f"lambda n: {text}", {"POWERS": POWERS})  # noqa: S307 (the text was written by `compare` and `power`)


NO_VARIANT = Variant(lambda n: True)


# ---------------------------------------------------------------------------------------------------- operations


def fused_op(op: Op, reduce: str = "") -> Fused:
    """The operation of a record as one loop, on its arrays and settings in order; ``reduce="sum"`` adds it up."""
    count = len(op.parameters)

    def settings(arguments):
        return dict(zip(op.settings, arguments[count:], strict=True))

    def body(*arguments):
        known = [a.value if isinstance(a, Symbol) else a for a in arguments[:count]]
        trace = next(a.trace for a in known if isinstance(a, Value))
        return symbol(lower(op, trace, known, settings(arguments)))

    def check(*arguments):
        op.function(*arguments[:count], **settings(arguments))

    names = (*op.parameters, *op.settings)
    title = f"{op.qualified}({', '.join(names)}) = {op.scalar}"
    return Fused(body, title, names, check, reduce, defaults(op, op.settings))


def fused_rule(op: Op, rule: Callable) -> Fused:
    """A gradient rule of a record as one loop, on what the rule asks for."""
    names = rule.__code__.co_varnames[: rule.__code__.co_argcount]
    return Fused(rule, f"a gradient of {op.qualified}({', '.join(op.parameters)}): {op.scalar}", names,
                 defaults=defaults(op, names))  # fmt: skip


def defaults(op: Op, names: Iterable[str]) -> list:
    """The default of each setting among ``names``, the very object that a call without it hands on."""
    known = signature(op.public).parameters
    found = [known[name].default if name in known and name in op.settings else Parameter.empty for name in names]
    return [DEFAULT if default is Parameter.empty else default for default in found]


# ---------------------------------------------------------------------------------------------------- optimizers


class FusedUpdate:
    """An optimizer's ``update`` as one loop over many parameters and their state, written in place.

    ``update(parameter, gradient, state, settings)`` returns the new parameter and the new state, as `optim.Optimizer`
    describes. It is traced once for each dtype, set of state entries, and answers that it asks of the settings.
    """

    def __init__(self, update: Callable) -> None:
        self.update = update
        self.variants: dict[tuple, list[Variant]] = {}

    def __call__(self, parameters: Sequence[tuple], settings: dict) -> bool:
        """Update ``parameters`` (values, gradient, state arrays by name), all of one dtype; False if it cannot."""
        numbers: list[float] = []
        key: list = [parameters[0][0].dtype.name, tuple(parameters[0][2])]
        for name, value in settings.items():
            if name not in NO_SETTINGS:
                kinds = _flatten(value, numbers)
                key.append((name, kinds))
        variant = self._variant(tuple(key), settings, numbers)
        if variant.planner is None:
            return False
        arrays = [np.array(numbers or [0.0], np.float64)]
        for values, gradient, state in parameters:
            arrays += (values, gradient, *state.values())
        return execute(variant.planner, arrays) is not NotImplemented

    def _variant(self, key, settings, numbers) -> Variant:
        variants = self.variants.setdefault(key, [])
        for variant in variants:
            if variant.holds(numbers):
                return variant
        made = NO_VARIANT if len(variants) >= MOST_VARIANTS else self._trace(key[0], key[1], settings)
        variants.append(made)
        return made

    def _trace(self, dtype, state_names, settings) -> Variant:
        trace = Trace()
        parameter, gradient, *kept = [symbol(trace.input(dtype)) for _ in range(2 + len(state_names))]
        group = {k: v if k in NO_SETTINGS else _as_numbers(v, trace) for k, v in settings.items()}
        try:
            with _Tracer(trace):
                new, new_state = self.update(parameter, gradient, dict(zip(state_names, kept, strict=True)), group)
            if not new_state.keys() <= set(state_names):
                return NO_VARIANT  # state that begins with this step
            written = [(0, new), *[(2 + state_names.index(k), v) for k, v in new_state.items()]]
            targets = [(t, v.value) for t, v in written if v.value.place != ("input", t)]
        except REFUSED:
            return NO_VARIANT
        names = ("parameter", "gradient", *state_names)
        loop = trace.loop(getattr(self.update, "__qualname__", "update"), names, [v for _, v in targets])
        planner = functools.partial(plan_update, loop=loop, targets=tuple([t for t, _ in targets]))
        return Variant(guard(trace), 0, loop, planner)


NO_SETTINGS = frozenset(["params", "param_names"])
"""Entries of a parameter group that are no settings."""


def _flatten(value, numbers):
    """Append the numbers of a setting to ``numbers``; returns what else there is to know about it."""
    if type(value) in (int, float):
        numbers.append(value)
        return None
    if type(value) is tuple:
        return tuple([_flatten(v, numbers) for v in value])
    return value if value.__hash__ is not None else repr(value)


def _as_numbers(value, trace):
    if type(value) in (int, float):
        return trace.number(value)
    return tuple([_as_numbers(v, trace) for v in value]) if type(value) is tuple else value
