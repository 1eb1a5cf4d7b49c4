"""Symbols for one element of a fused loop: values, run-time numbers, and the steps that are written down as they meet.

The language of the records' ``scalar`` expressions is Python's arithmetic, comparisons, ``a if test else b``, ``and``,
``or`` and the functions of `kernels.loop_text`. `expression` evaluates it on symbols; `loop_from_text` makes a loop
of assignments in it.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .kernels.loop_text import NUMBER, SIMD, VMATH, Loop, Output
from .shapes import default_dtype
from .tensor import Tensor

SERVED = frozenset(["float32", "float64", "int32", "int64", "uint8", "bool"])
"""Dtypes of arrays that loops read."""


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

    def __invert__(self):
        return unary("not", self)

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


class Number(_Arithmetic, float):  # type: ignore[misc]
    """A number that may change from run to run. As a Python float it is NaN, so that nobody can use its value unseen.

    Comparisons answer for the number of now and leave a guard.
    """

    def __new__(cls, trace, place, now, text):
        return float.__new__(cls, math.nan)

    def __init__(self, trace: Trace, place: tuple[str, int], now: float, text: str) -> None:
        self.trace, self.place, self.now, self.text = trace, place, now, text
        self.whole = type(now) is int

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
        elif isinstance(operand, float) and not (isinstance(operand, Number) and operand.whole):
            floating = True
    assert found is not None
    if found.kind == "b" and not floating and any(type(o) in (int, Number) for o in operands):
        found = np.dtype(np.int64)
    if found == np.uint8 and any(isinstance(o, Number) for o in operands):
        raise NotFusable("a run-time number among bytes")
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
        x, count = _cast((a, b), dtype)
        return _shift(symbol, x, count, dtype)
    if symbol in "+*" and _is_neutral(b, 0 if symbol == "+" else 1) and isinstance(a, Value):
        return a.to(dtype)
    if symbol == "*" and _is_neutral(a, 1) and isinstance(b, Value):
        return b.to(dtype)
    return _trace((a, b)).value(symbol, _cast((a, b), dtype), dtype)


def _shift(symbol: str, x, count, dtype: str):
    """A shift of whole numbers; counts that are negative or too large leave nothing but the sign (which << drops)."""
    if dtype.startswith("float") or dtype == "bool" or not isinstance(x, Value):
        raise NotFusable("shifts of anything but whole numbers")
    most, trace = np.dtype(dtype).itemsize * 8 - 1, x.trace
    count = count if isinstance(count, Value) else trace.value("full", (count,), dtype)
    inside = (count >= 0) & (count <= most)
    if symbol == ">>":
        return trace.value(">>", (x, _where(inside, lambda: count, lambda: most)), dtype)
    return _where(inside, lambda: trace.value("<<", (x, count & most), dtype), lambda: 0)


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
        if isinstance(a, Value) and a.dtype == "bool" and type(b) in (int, bool) and b == 0 and symbol in ("==", "!="):
            return a if symbol == "!=" else a.trace.value("not", (a,), "bool")
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
        known: dict[str, Callable] = {"neg": operator.neg, "abs": abs, "trunc": math.trunc, "floor": math.floor}
        if function not in known and not hasattr(math, function):
            raise NotFusable(f"{function} of a constant")
        return (known.get(function) or getattr(math, function))(x)
    if function == "not":
        if x.dtype.startswith("float"):
            raise NotFusable("bits of a fraction")
        return x.trace.value("not", (x,), x.dtype)
    if function in ("neg", "abs", "floor", "ceil", "trunc", "rint"):
        if x.dtype == "bool":
            raise NotFusable("arithmetic of booleans")
        if x.dtype.startswith("int") and function not in ("neg", "abs"):
            return x
        return x.trace.value(function, (x,), x.dtype)
    dtype = common((x,), floating=True)
    return x.trace.value(function, _cast((x,), dtype), dtype)


WHOLE = frozenset(["minimum", "maximum", "gcd", "lcm"])
"""Functions of two whole numbers that are whole numbers."""

QUOTIENTS = frozenset(["fmod", "remainder", "floor_divide"])


def call(function: str, *operands):
    """A function by the name that it has in ``scalar`` expressions."""
    if len(operands) == 1:
        return unary(function, operands[0])
    if not _check_operands(*operands) or not any(isinstance(o, Value) for o in operands):
        raise NotFusable(f"{function} of run-time numbers")
    dtype = common(operands, floating=function not in WHOLE)
    if function in QUOTIENTS and any(not o.dtype.startswith("float") for o in operands if isinstance(o, Value)):
        raise NotFusable(f"{function} of whole numbers, which refuse to be divided by zero")
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
    if "float" not in "".join(v.dtype for v in (base, exponent) if isinstance(v, Value)):
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


def _largest(x):
    """The largest finite number of the dtype of ``x``."""
    if not x.dtype.startswith("float"):
        raise NotFusable("infinities of whole numbers")
    return float(np.finfo(x.dtype).max)


def _trunc_divide(a, b):
    """A quotient of fractions, rounded towards zero."""
    if any(not o.dtype.startswith("float") for o in (a, b) if isinstance(o, Value)):
        raise NotFusable("a quotient of whole numbers, which refuse to be divided by zero")
    return unary("trunc", a / b)


def _unserved():
    """What an expression says where the setting at hand is none of its business."""
    raise NotFusable("no loop for this setting")


_FUNCTIONS: dict[str, Any] = {name: functools.partial(call, name) for name in {*SIMD, *VMATH} - {"where"}}
_FUNCTIONS |= {
    "trunc_divide": _trunc_divide, "largest": _largest, "unserved": _unserved, "inf": math.inf, "nan": math.nan,
    "min": functools.partial(call, "minimum"), "max": functools.partial(call, "maximum"), "_where": _where,
    "_both": functools.partial(_logic, "&"), "_either": functools.partial(_logic, "|"),
}  # fmt: skip


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
def expression(text: str, names: tuple[str, ...]) -> Callable:
    """A ``scalar`` expression as a function of what its names stand for."""
    tree = _Lazy().visit(ast.parse(f"lambda {', '.join(names)}: {text}", mode="eval"))
    code = compile(ast.fix_missing_locations(tree), f"<scalar {text}>", "eval")
    return eval(code, dict(_FUNCTIONS))  # noqa: S307 (the text is that of our own records)


def loop_from_text(text: str, arrays: dict[str, str], numbers: dict[str, float], outputs: Sequence[str],
                   reduce: Sequence[str] = ()) -> Loop:  # fmt: skip
    """The loop of assignments such as ``"s = 1 / (1 + exp(-x)); y = x * s"``.

    ``arrays``: dtypes by name. ``numbers``: run-time numbers by name, with what they are now. ``outputs``: names of the
    results; ``reduce``: for each, "" or how it is reduced (see `kernels.loop_text.Output`).
    """
    trace = Trace()
    known: dict[str, Any] = {name: trace.input(dtype) for name, dtype in arrays.items()}
    known |= {name: trace.number(now) for name, now in numbers.items()}
    for line in text.replace("\n", ";").split(";"):
        name, equals, formula = line.partition("=")
        if equals:
            names = tuple(known)
            known[name.strip()] = expression(formula.strip(), names)(*[known[n] for n in names])
    return trace.loop(text, tuple(arrays), [known[name] for name in outputs], reduce)
