"""How much work an operation is: floating-point operations by formula, bytes by the sizes of what goes in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

Shapes = Sequence[tuple[int, ...] | None]


def _matmul(shapes, out, static):
    return 2 * prod(out) * shapes[0][-1]


def _weighted(shapes, out, static):
    return 2 * prod(out) * prod(shapes[1][1:])


def _convolution_input(shapes, out, static):
    return 2 * prod(shapes[0]) * prod(shapes[1][1:])


def _convolution_weight(shapes, out, static):
    return 2 * prod(shapes[0]) * prod(out[1:])


def _attention(shapes, out, static):
    query, key, value = shapes[:3]
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(first, passes=1):
    """The formula of a layer whose weights are arguments ``first`` and the next."""

    def formula(shapes, out, static):
        steps, batch = shapes[0][:2]
        return passes * 2 * steps * batch * (prod(shapes[first]) + prod(shapes[first + 1]))

    return formula


def _each(count):
    """``count`` operations for each element of the first argument."""
    return lambda shapes, out, static: count * prod(shapes[0])


def _windows(shapes, out, static):
    return prod(out) * prod(static["kernel_size"])


def _tables(shapes, out, static):
    """A multiplication and an addition for each element that the tables name, one dimension after the other."""
    size, total = list(shapes[0]), 0
    for dim, table in enumerate(static["tables"], len(size) - len(static["tables"])):
        if table is not None:
            size[dim], total = table.out, total + 2 * len(table.positions) * prod(size) // size[dim]
    return total


FORMULAS: dict[str, Callable] = {
    "matmul": _matmul, "mm": _matmul, "bmm": _matmul, "linear": _weighted, "convolution": _weighted,
    "convolution_input": _convolution_input, "convolution_weight": _convolution_weight, "attention": _attention,
    "lstm_layer": _recurrent(3), "gru_layer": _recurrent(2), "rnn_layer": _recurrent(2),
    "lstm_backward": _recurrent(3, 2), "gru_backward": _recurrent(2, 2), "rnn_backward": _recurrent(2, 2),
    "attention_backward": lambda *a: 2 * _attention(*a),
    "max_pool": _windows, "largest_of_windows": _windows, "weighted_sum": _tables, "window_sum": _windows,
    "window_spread": _each(1), "place_at": _each(1),
    "softmax": _each(4), "log_softmax": _each(4), "softmax_backward": _each(4), "log_softmax_backward": _each(4),
    "softmax_nll": _each(4), "softmax_nll_backward": _each(3),
    "standardize": _each(6), "standardize_backward": _each(9), "by_statistics": _each(2),
    "convolution_last": _weighted, "convolution_input_last": _convolution_input,
    "convolution_weight_last": _convolution_weight,
}  # fmt: skip
"""Work by (shapes of the arguments, shape of the first result, settings): multiplications and additions of products,
comparisons of windows, passes over the elements of what is normalised (an exponential counts as one)."""

PER_RESULT, PER_ARGUMENT = ("elementwise", "arithmetic", "comparison"), ("reduction",)
NOTHING = ("view", "creation", "index")


def flops(op: Any, shapes: Shapes, outs: Shapes, static: dict) -> int | None:
    """Floating-point operations of one call: twice the multiplications of a product, one an element of elementwise
    operations and of what is reduced, none for views, copies and picking; None where no formula is known."""  # noqa: D209
    out = next((s for s in outs if s is not None), ())
    if op.name in FORMULAS:
        return int(FORMULAS[op.name](shapes, out, static))
    family = op.family.name
    if family in PER_RESULT:
        return prod(out)
    if family in PER_ARGUMENT:
        return prod(shapes[0] or ()) if shapes else None
    return 0 if family in NOTHING else None


def backward_flops(op: Any, forward: int | None, wanted: Sequence[int], shapes: Shapes) -> int | None:
    """Floating-point operations of the gradients of the arguments ``wanted`` (positions), from those of the forward.

    The gradient of a product with respect to one factor is a product of the same size; that of a bias is a sum.
    """
    if forward is None:
        return None
    if op.name not in FORMULAS:
        return forward * len(wanted) if op.family.name in (*PER_RESULT, *NOTHING) else None
    if op.name.endswith(("_layer", "attention")):
        return 2 * forward  # each product has two factors; what kernels compute again is no work asked for
    return forward * len([p for p in wanted if p < 2])


def bytes_of(values: Sequence[Any]) -> int:
    """Bytes of all arrays among ``values``; one that is there twice counts once."""
    arrays = {id(v): v.nbytes for v in values if isinstance(v, np.ndarray)}
    return sum(arrays.values())
