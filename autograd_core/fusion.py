"""Fusion: elementwise functions of whole arrays become one loop, which reads and writes each element once.

A function is *traced* once: it runs on symbols that pass the one door like Tensors, and every operation adds the steps
of its record's ``scalar`` expression to a list, from which `kernels.elementwise` makes a loop in machine code. What the
function does not do element by element ends the trace with `NotFusable`, and the caller evaluates it as it is.

Numbers (settings, learning rates) are inputs of the loop, never part of it. Where a function asks something of a number
(``alpha == 1``), the answer becomes a guard: the same loop serves all numbers that give the same answers.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .kernels.elementwise import LANEWISE, NUMBER, SIMD, VMATH, Loop, Output, plan_loop, plan_update
from .kernels.plan import execute
from .registry import Op
from .shapes import default_dtype, ndarray
from .tensor import Tensor, Watcher, new

SERVED = frozenset(["float32", "float64", "int32", "int64", "uint8", "bool"])
"""Dtypes of arrays that loops read."""

MOST_VARIANTS = 8
"""Loops kept for one function and one set of dtypes; a function that asks for more is evaluated as it is."""


class NotFusable(Exception):
    """What is being traced does something that is not elementwise, or that no loop can do."""


# ---------------------------------------------------------------------------------------------------- values


class Trace:
    """The steps of a loop while they are being written; equal steps are written once."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self.numbers: list[float] = []
        self.steps: list[tuple[str, tuple, str]] = []
        self.known: dict[tuple, Value | Number] = {}
        self.guards: list[str] = []
        self.wanted: str | None = None  # dtype of a choice between two constants

    def input(self, dtype: str) -> Value:
        """A further array of the loop."""
        if dtype not in SERVED:
            raise NotFusable(f"arrays of {dtype}")
        self.inputs.append(dtype)
        return Value(self, ("input", len(self.inputs) - 1), dtype)

    def number(self, now: float) -> Number:
        """A further run-time number, which is ``now`` at present."""
        self.numbers.append(now)
        place = len(self.numbers) - 1
        return Number(self, ("number", place), now, f"n[{place}]")

    def value(self, function: str, operands: tuple, dtype: str) -> Value:
        """A step on arrays; operands are values, numbers and constants."""
        key = (function, tuple(_place(o) for o in operands), dtype)
        if key not in self.known:
            self.steps.append(key)
            self.known[key] = Value(self, ("step", len(self.steps) - 1), dtype)
        found = self.known[key]
        assert isinstance(found, Value)
        return found

    def scalar(self, function: str, operands: tuple, now: float, text: str) -> Number:
        """A step on run-time numbers alone."""
        key = (function, tuple(_place(o) for o in operands), NUMBER)
        if key not in self.known:
            self.steps.append(key)
            self.known[key] = Number(self, ("step", len(self.steps) - 1), now, text)
        found = self.known[key]
        assert isinstance(found, Number)
        return found

    def loop(self, title: str, names: Sequence[str], outputs: Sequence[Value], reduce: Sequence[str] = ()) -> Loop:
        """The loop that works out ``outputs``, without the steps that they do not need."""
        needed: dict[int, int] = {}
        stack = [output.place for output in outputs]
        while stack:
            kind, number = stack.pop()
            if kind == "step" and number not in needed:
                needed[number] = 0
                stack += [o for o in self.steps[number][1] if isinstance(o, tuple)]
        first = len(self.inputs) + len(self.numbers)
        needed = {number: first + k for k, number in enumerate(sorted(needed))}

        def index(place):
            kind, number = place
            return number if kind == "input" else len(self.inputs) + number if kind == "number" else needed[number]

        steps = [self.steps[number] for number in sorted(needed)]
        typed = tuple([(f, tuple([index(o) if isinstance(o, tuple) else o for o in operands]), dtype)
                       for f, operands, dtype in steps])  # fmt: skip
        reductions = [*reduce, *[""] * (len(outputs) - len(reduce))]
        return Loop(title, tuple(names), tuple(self.inputs), len(self.numbers), typed,
                    tuple([Output(index(v.place), r) for v, r in zip(outputs, reductions, strict=True)]))  # fmt: skip


def _place(operand):
    """A step's operand: where a value stands, or the text of a constant."""
    if isinstance(operand, (Value, Number)):
        return operand.place
    if isinstance(operand, (bool, int)):
        return repr(operand)
    if not math.isfinite(operand):
        return "np.nan" if math.isnan(operand) else "np.inf" if operand > 0 else "-np.inf"
    return repr(float(operand))


class _Arithmetic:
    """Python's operators, for what a trace works on; ``_binary`` and ``_unary`` do the work."""

    __slots__ = ()

    def __add__(self, other):
        return binary("+", self, other)

    def __radd__(self, other):
        return binary("+", other, self)

    def __sub__(self, other):
        return binary("-", self, other)

    def __rsub__(self, other):
        return binary("-", other, self)

    def __mul__(self, other):
        return binary("*", self, other)

    def __rmul__(self, other):
        return binary("*", other, self)

    def __truediv__(self, other):
        return binary("/", self, other)

    def __rtruediv__(self, other):
        return binary("/", other, self)

    def __pow__(self, other):
        return power(self, other)

    def __rpow__(self, other):
        return power(other, self)

    def __neg__(self):
        return unary("neg", self)

    def __pos__(self):
        return self

    def __abs__(self):
        return unary("abs", self)

    def __lt__(self, other):
        return compare("<", self, other)

    def __le__(self, other):
        return compare("<=", self, other)

    def __gt__(self, other):
        return compare(">", self, other)

    def __ge__(self, other):
        return compare(">=", self, other)

    def __eq__(self, other):
        return compare("==", self, other)

    def __ne__(self, other):
        return compare("!=", self, other)

    def __and__(self, other):
        return binary("&", self, other)

    def __or__(self, other):
        return binary("|", self, other)

    def __xor__(self, other):
        return binary("^", self, other)

    def __lshift__(self, other):
        return binary("<<", self, other)

    def __rshift__(self, other):
        return binary(">>", self, other)

    __hash__ = None  # type: ignore[assignment]


class Value(_Arithmetic):
    """What a loop knows for each element: an input or the result of a step."""

    __slots__ = ("dtype", "place", "trace")

    def __init__(self, trace: Trace, place: tuple[str, int], dtype: str) -> None:
        self.trace, self.place, self.dtype = trace, place, dtype

    def __bool__(self):
        raise NotFusable("the elements' values decide what is done")

    def to(self, dtype: str) -> Value:
        """The value in another dtype."""
        if dtype == self.dtype:
            return self
        if dtype == "bool":
            return self.trace.value("!=", (self, 0), "bool")
        return self.trace.value("convert", (self,), dtype)


class Number(_Arithmetic, float):
    """A number that may change from run to run. As a Python float it is NaN, so that nobody can use its value unseen.

    Comparisons answer for the number of now and leave a guard.
    """

    def __new__(cls, trace, place, now, text):
        return float.__new__(cls, math.nan)

    def __init__(self, trace: Trace, place: tuple[str, int], now: float, text: str) -> None:
        self.trace, self.place, self.now, self.text = trace, place, now, text

    def __float__(self):
        raise NotFusable("a run-time number is made a constant")

    __int__ = __index__ = __float__

    def __array_ufunc__(self, *args, **kwargs):
        raise NotFusable("NumPy works on a run-time number")

    def __bool__(self):
        return self != 0

    __hash__ = None  # type: ignore[assignment]


NOW = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "<": operator.lt,
       "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}  # fmt: skip


def _check_operands(*operands) -> bool:
    """Whether all operands are plain values, numbers and constants; a Tensor's own operators serve the others."""
    for operand in operands:
        if isinstance(operand, Tensor):
            return False
        if not isinstance(operand, (Value, int, float)):
            raise NotFusable(f"a {type(operand).__name__} among the operands")
        if isinstance(operand, float) and not isinstance(operand, Number) and math.isnan(operand):
            raise NotFusable("a constant NaN, perhaps made of a run-time number")
    return True


def common(operands, floating=False) -> str:
    """The dtype in which values meet: constants and numbers are weak, a float type wins over any integer type."""
    found = None
    for operand in operands:
        if isinstance(operand, Value):
            kind = np.dtype(operand.dtype)
            if found is None or (kind.kind == "f") > (found.kind == "f"):
                found = kind
            elif (kind.kind == "f") == (found.kind == "f"):
                found = np.promote_types(kind, found)
        elif isinstance(operand, float):
            floating = True
    assert found is not None
    if found.kind == "b" and not floating and any(type(o) is int for o in operands):
        found = np.dtype(np.int64)
    if floating and found.kind != "f":
        found = default_dtype()
    if found.name not in SERVED:
        raise NotFusable(f"values of {found}")
    return found.name


def _cast(operands, dtype):
    return tuple([o.to(dtype) if isinstance(o, Value) else o for o in operands])


def _text(operand):
    return operand.text if isinstance(operand, Number) else repr(operand)


def _trace(operands) -> Trace:
    return next(o.trace for o in operands if isinstance(o, (Value, Number)))


def binary(symbol: str, a, b):
    """An arithmetic or bitwise operation on values, numbers and constants."""
    if not _check_operands(a, b):
        return NotImplemented
    if not isinstance(a, Value) and not isinstance(b, Value):
        if symbol not in NOW:
            raise NotFusable(f"{symbol} of run-time numbers")
        now = [o.now if isinstance(o, Number) else o for o in (a, b)]
        if symbol == "/" and now[1] == 0:
            raise NotFusable("a division by a number that is zero")
        return _trace((a, b)).scalar(symbol, (a, b), NOW[symbol](*now), f"({_text(a)} {symbol} {_text(b)})")
    dtype = common((a, b), floating=symbol == "/")
    if dtype == "bool" and symbol in "+-*":
        raise NotFusable("arithmetic of booleans")
    if symbol in ("<<", ">>"):
        raise NotFusable("shifts")
    if symbol in "+*" and _is_neutral(b, 0 if symbol == "+" else 1) and isinstance(a, Value):
        return a.to(dtype)
    return _trace((a, b)).value(symbol, _cast((a, b), dtype), dtype)


def _is_neutral(operand, value):
    """Whether a constant changes nothing: 1 as a factor (0 as a summand would change -0.0)."""
    return value == 1 and not isinstance(operand, (Value, Number)) and operand == 1


def compare(symbol: str, a, b):
    """A comparison: of values, a mask; of run-time numbers, the answer for now, with a guard."""
    if b is None or isinstance(b, str):
        return symbol == "!="
    if not _check_operands(a, b):
        return NotImplemented
    if isinstance(a, Value) or isinstance(b, Value):
        return _trace((a, b)).value(symbol, _cast((a, b), common((a, b))), "bool")
    answer = NOW[symbol](*[o.now if isinstance(o, Number) else o for o in (a, b)])
    _trace((a, b)).guards.append(f"({_text(a)} {symbol} {_text(b)}) is {answer}")
    return answer


def unary(function: str, x):
    """A function of one argument."""
    if isinstance(x, Number):
        if function == "neg":
            return x.trace.scalar("neg", (x,), -x.now, f"(-{x.text})")
        if function == "abs":
            return x.trace.scalar("abs", (x,), abs(x.now), f"abs({x.text})")
        raise NotFusable(f"{function} of a run-time number")
    if not isinstance(x, Value):
        return {"neg": operator.neg, "abs": abs}.get(function, getattr(math, function, None))(x)
    if function in ("neg", "abs", "floor", "ceil", "trunc", "rint"):
        if x.dtype == "bool":
            raise NotFusable("arithmetic of booleans")
        if x.dtype.startswith("int") and function not in ("neg", "abs"):
            return x
        return x.trace.value(function, (x,), x.dtype)
    dtype = common((x,), floating=True)
    return x.trace.value(function, _cast((x,), dtype), dtype)


def call(function: str, *operands):
    """A function by the name that it has in ``scalar`` expressions."""
    if len(operands) == 1:
        return unary(function, operands[0])
    if not _check_operands(*operands) or not any(isinstance(o, Value) for o in operands):
        raise NotFusable(f"{function} of run-time numbers")
    dtype = common(operands, floating=function not in ("minimum", "maximum"))
    trace = _trace(operands)
    kind = tuple([o if isinstance(o, Value) else trace.value("full", (o,), dtype) for o in _cast(operands, dtype)])
    return trace.value(function, kind, dtype)


POWERS: dict[float, Callable] = {
    -2: lambda x: 1 / (x * x), -1: lambda x: 1 / x, -0.5: lambda x: 1 / unary("sqrt", x),
    0.5: lambda x: unary("sqrt", x), 1: lambda x: x, 2: lambda x: x * x, 3: lambda x: x * x * x,
    4: lambda x: (x * x) * (x * x),
}  # fmt: skip
"""Powers that are products and roots, as in `ops.pow`."""


def power(base, exponent):
    """``base ** exponent`` of floats."""
    if isinstance(base, Tensor) or isinstance(exponent, Tensor):
        return NotImplemented
    if isinstance(base, Value) and not base.dtype.startswith("float"):
        raise NotFusable("powers of integers")
    if isinstance(exponent, Number):
        known, text = exponent.now in POWERS, exponent.text
        exponent.trace.guards.append(f"{text} == {exponent.now!r}" if known else f"{text} not in POWERS")
        exponent = exponent.now if known else exponent
    if isinstance(exponent, (int, float)) and not isinstance(exponent, Number) and exponent in POWERS:
        return POWERS[exponent](base)
    return call("pow", base, exponent)


# --------------------------------------------------------------------------------------------------- scalar expressions


def _where(test, first, second):
    """``first if test else second``, of functions without arguments."""
    if not isinstance(test, Value):
        return first() if test else second()
    a, b = first(), second()
    if isinstance(a, Value) or isinstance(b, Value):
        dtype = common((a, b))
    else:
        if test.trace.wanted is None:
            raise NotFusable("a choice between two numbers")
        dtype = test.trace.wanted
    return test.trace.value("where", (test.to("bool"), *_cast((a, b), dtype)), dtype)


def _logic(symbol, *tests):
    """``and`` or ``or`` of masks and plain booleans."""
    found = tests[0]
    for test in tests[1:]:
        if isinstance(found, Value) and isinstance(test, Value):
            found = found.trace.value(symbol, (found.to("bool"), test.to("bool")), "bool")
        else:
            plain, other = (found, test) if not isinstance(found, Value) else (test, found)
            found = (other if plain else False) if symbol == "&" else (True if plain else other)
    return found


_FUNCTIONS: dict[str, Any] = {name: functools.partial(call, name) for name in {*SIMD, *VMATH} - {"where"}}
_FUNCTIONS |= {"min": functools.partial(call, "minimum"), "max": functools.partial(call, "maximum"), "inf": math.inf,
               "nan": math.nan, "_where": _where, "_both": functools.partial(_logic, "&"),
               "_either": functools.partial(_logic, "|")}  # fmt: skip


class _Lazy(ast.NodeTransformer):
    """Turns conditions, ``and``, ``or`` and chains of comparisons, which Python decides itself, into calls."""

    def visit_IfExp(self, node):
        node = self.generic_visit(node)
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        branches = [ast.Lambda(args=nothing, body=branch) for branch in (node.body, node.orelse)]
        return self._call("_where", [node.test, *branches])

    def visit_BoolOp(self, node):
        node = self.generic_visit(node)
        return self._call("_both" if isinstance(node.op, ast.And) else "_either", node.values)

    def visit_Compare(self, node):
        node = self.generic_visit(node)
        terms = [node.left, *node.comparators]
        pairs = [ast.Compare(a, [symbol], [b]) for a, symbol, b in zip(terms, node.ops, terms[1:], strict=False)]
        return pairs[0] if len(pairs) == 1 else self._call("_both", pairs)

    def _call(self, name, arguments):
        return ast.Call(ast.Name(name, ast.Load()), arguments, [])


@functools.cache
def _expression(text: str, names: tuple[str, ...]) -> Callable:
    """A ``scalar`` expression as a function of what its names stand for."""
    tree = _Lazy().visit(ast.parse(f"lambda {', '.join(names)}: {text}", mode="eval"))
    code = compile(ast.fix_missing_locations(tree), f"<scalar {text}>", "eval")
    return eval(code, dict(_FUNCTIONS))  # noqa: S307 (the text is that of our own records)


def _limited(input, min, max):
    bounded = input if min is None else call("maximum", input, min)
    return bounded if max is None else call("minimum", bounded, max)


WITHOUT_SCALAR: dict[str, Callable] = {
    "zeros_like": lambda input, **_: 0, "ones_like": lambda input, **_: 1, "clamp": _limited,
    "isinf": lambda input: abs(input) == math.inf,
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
        if op.scalar is not None:
            found = _expression(op.scalar, (*op.parameters, *op.settings))(*args, *[settings[k] for k in op.settings])
        elif op.name in WITHOUT_SCALAR:
            found = WITHOUT_SCALAR[op.name](*args, **settings)
        else:
            raise NotFusable(f"{op.qualified} has no scalar expression")
    finally:
        trace.wanted = before
    return found.to(dtype) if isinstance(found, Value) else trace.value("full", (found,), dtype)


# ---------------------------------------------------------------------------------------------------- tracing


class Symbol(Tensor):
    """Stands for an array while a function is traced: operations on it pass the door, its elements are not there."""

    value: Value

    @property
    def array(self):
        """Not there."""
        raise NotFusable("the function looks at an array as a whole")

    shape = ndim = dtype = requires_grad = array  # type: ignore[assignment]


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

    Numbers become run-time numbers; anything else is a constant.
    """
    trace = Trace()
    dtypes = iter(arrays)
    given = []
    for argument in arguments:
        if argument is ARRAY:
            given.append(symbol(trace.input(next(dtypes))))
        elif type(argument) in (int, float):
            given.append(trace.number(argument))
        else:
            given.append(argument)
    with _Tracer(trace):
        found = function(*given)
    return trace, found


ARRAY = object()
"""Stands for an array among the arguments of a function to be traced."""


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
    called with the arguments, arrays cut to one element, for the errors that it raises.
    """

    def __init__(self, function: Callable, title: str, names: Sequence[str], check: Callable | None = None) -> None:
        self.function, self.title, self.names, self.check = function, title, names, check
        self.variants: dict[tuple, list[Variant]] = {}
        self.checked: set[tuple] = set()

    def __call__(self, *arguments):
        arrays, numbers, key = [], [], []
        for argument in arguments:
            kind = type(argument)
            if kind is ndarray:
                if argument.dtype.char not in EAGER:
                    return NotImplemented
                arrays.append(argument)
                key.append(argument.dtype.char)
            elif kind is float or kind is int:
                numbers.append(argument)
                key.append(None)
            elif isinstance(argument, (Tensor, np.generic, list)):
                return NotImplemented
            else:
                key.append((argument,))
        key = tuple(key)
        variant = self.variant(key, arguments, arrays, numbers)
        if max([a.nbytes for a in arrays]) < variant.least:
            return NotImplemented
        if self.check is not None and (key, *numbers) not in self.checked:
            self.check(*[a[(slice(0, 1),) * a.ndim] if type(a) is ndarray else a for a in arguments])
            self.checked.add((key, *numbers))
        if numbers:
            arrays.append(np.array(numbers, np.float64))
        return execute(variant.planner, arrays)

    def variant(self, key, arguments, arrays, numbers) -> Variant:
        """The loop for these arguments, traced if there is none yet."""
        variants = self.variants.setdefault(key, [])
        for variant in variants:
            if variant.holds(numbers):
                return variant
        made = NO_VARIANT if len(variants) >= MOST_VARIANTS else self.trace(arguments, arrays)
        variants.append(made)
        return made

    def trace(self, arguments, arrays) -> Variant:
        """Trace the function on arguments like these."""
        marked = [ARRAY if type(a) is ndarray else a for a in arguments]
        names = [n for n, a in zip(self.names, arguments, strict=True) if type(a) is ndarray]
        try:
            trace, found = traced(self.function, marked, [a.dtype.name for a in arrays])
            loop = trace.loop(self.title, names, outputs_of(trace, found))
        except NotFusable:
            return NO_VARIANT
        if any(function in LANEWISE and not (function == "pow" and dtype == "float32")
               for function, _, dtype in loop.steps):  # fmt: skip
            return NO_VARIANT
        return Variant(guard(trace), least(loop), loop, functools.partial(plan_loop, loop=loop, gather=False))


EAGER = frozenset("fd?")
"""Dtypes of arrays that are worked on in fused loops outside of compiled programs."""

ONE_PASS = 1 << 20
"""Bytes from which a function that NumPy does in one pass gains, by the use of all cores."""


def least(loop: Loop) -> int:
    """From how many bytes on a loop is quicker than NumPy: at once where it saves passes, later where it does not."""
    steps = [step for step in loop.steps if step[2] != NUMBER and step[0] != "convert"]
    saves = len(steps) > 1 or steps[0][0] in ("erf", "sigmoid")
    return 0 if saves else ONE_PASS


def guard(trace: Trace) -> Callable:
    """A function of the numbers that says whether a trace holds for them."""
    text = " and ".join(dict.fromkeys(trace.guards)) or "True"
    return eval(f"lambda n: {text}", {"POWERS": POWERS})  # noqa: S307 (the text was written by `compare` and `power`)


NO_VARIANT = Variant(lambda n: True)


# ---------------------------------------------------------------------------------------------------- operations


def fused_op(op: Op) -> Fused:
    """The operation of a record as one loop, on its arrays and settings in order."""
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
    return Fused(body, f"{op.qualified}({', '.join(names)}) = {op.scalar}", names, check if op.settings else None)


def fused_rule(op: Op, rule: Callable) -> Fused:
    """A gradient rule of a record as one loop, on what the rule asks for."""
    names = rule.__code__.co_varnames[: rule.__code__.co_argcount]
    return Fused(rule, f"a gradient of {op.qualified}({', '.join(op.parameters)}): {op.scalar}", names)


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
        except NotFusable:
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
