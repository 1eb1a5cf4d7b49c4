"""What a Tensor can do besides its operations: operators, conversions, new_* and NumPy's protocols."""

from __future__ import annotations

import numpy as np

from ..registry import OPS
from ..tensor import Tensor, apply

# ---------------------------------------------------------------------------------------------------- operators

BINARY_OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "true_divide", "floordiv": "floor_divide", "mod": "remainder", "pow": "pow",
    "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip
"""The operations behind ``+``, ``-`` and so on, by the name of the special method without its underscores."""

COMPARISONS = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
UNARY_OPERATORS = {"neg": "neg", "pos": "positive", "abs": "abs", "invert": "bitwise_not"}


def _default_settings(record):
    """The settings of a call that gives none."""
    code, defaults = record.public.__code__, record.public.__defaults__ or ()
    given = dict(zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True))
    given.update(record.public.__kwdefaults__ or {})
    return {name: given[name] for name in record.settings}


def _is_operand(value):
    return isinstance(value, (Tensor, np.ndarray, np.generic, int, float))


def _operator(known, symbol, reflected=False):
    """The special method of two operands: straight to the door, and NotImplemented for what no operation can take."""
    record = OPS[known]
    if record.family.name == "composite":
        def method(self, other):
            if not _is_operand(other):
                return NotImplemented
            return record.public(other, self) if reflected else record.public(self, other)
    else:
        settings = _default_settings(record)
        if reflected:
            def method(self, other):
                try:
                    return apply(record, (other, self), settings)
                except TypeError:
                    if _is_operand(other):
                        raise
                    return NotImplemented
        else:
            def method(self, other):
                try:
                    return apply(record, (self, other), settings)
                except TypeError:
                    if _is_operand(other):
                        raise
                    return NotImplemented
    method.__name__ = method.__qualname__ = f"__{symbol}__"
    method.__doc__ = f"See `{known}`."
    method.record = record
    return method


def _in_place_operator(known, symbol):
    def method(self, other):
        return getattr(self, known + "_")(other) if _is_operand(other) else NotImplemented

    method.__name__ = method.__qualname__ = f"__{symbol}__"
    method.__doc__ = f"See `{known}`; writes into this tensor."
    return method


def attach_operators():
    """Give Tensor its operators; called when all records stand."""
    for symbol, known in BINARY_OPERATORS.items():
        if known not in OPS:
            continue
        setattr(Tensor, f"__{symbol}__", _operator(known, symbol))
        setattr(Tensor, f"__r{symbol}__", _operator(known, "r" + symbol, reflected=True))
        if hasattr(Tensor, known + "_"):
            setattr(Tensor, f"__i{symbol}__", _in_place_operator(known, "i" + symbol))
    for symbol, known in COMPARISONS.items():
        if known in OPS:
            setattr(Tensor, f"__{symbol}__", _operator(known, symbol))
    for symbol, known in UNARY_OPERATORS.items():
        if known in OPS:
            setattr(Tensor, f"__{symbol}__", OPS[known].public)
    if hasattr(Tensor, "__rtruediv__"):
        Tensor.__div__, Tensor.__rdiv__ = Tensor.__truediv__, Tensor.__rtruediv__
    if hasattr(Tensor, "__itruediv__"):
        Tensor.__idiv__ = Tensor.__itruediv__


# ---------------------------------------------------------------------------------------------------- as text


def _text(self):
    from ..printing import tensor_text

    return tensor_text(self)


Tensor.__repr__ = Tensor.__str__ = _text
