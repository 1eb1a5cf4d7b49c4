"""Proof by numbers: analytic gradients against central differences, and which operation's rule is first wrong."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from . import ops
from .backward import grad as grad_of
from .modes import enable_grad, no_grad
from .tensor import Tensor, wrap


class GradcheckError(RuntimeError):
    """An analytic gradient differs from the numeric one."""


class Mismatch(NamedTuple):
    """The worst element: which output and input, where in the input, and both values."""

    output: int
    input: int
    position: tuple[int, ...]
    analytic: float
    numeric: float


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, nondet_tol=0.0,
              check_undefined_grad=True, fast_mode=False):  # fmt: skip
    """Whether the gradients of ``func`` at ``inputs`` agree with numbers: central differences, or the complex step.

    ``inputs``: a Tensor or a tuple; those that require grad must be float64, and every element of them is checked:
    |analytic - numeric| <= atol + rtol * |numeric|. With ``fast_mode`` one random direction an input and output is
    checked instead. On failure raises `GradcheckError`, which names input, element, both values, and the first
    operation whose own rule is wrong (or returns False with ``raise_exception=False``).
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    try:
        _require_double(inputs, checked)
        _check_repeatable(func, inputs, checked, nondet_tol)
        worst = (_fast_mismatch if fast_mode else _mismatch)(func, inputs, checked, eps, atol, rtol)
        if worst is not None:
            raise GradcheckError(_report(func, inputs, worst, atol, rtol))
        if check_undefined_grad:
            _check_absent(func, inputs, checked)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False,
                  raise_exception=True, nondet_tol=0.0, fast_mode=False):  # fmt: skip
    """`gradcheck` of the gradient: second derivatives with respect to the inputs and to ``grad_outputs``."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        with no_grad():
            outs = [o for o in _outputs(func(*inputs)) if o.array.dtype.kind == "f"]
        grad_outputs = [wrap(rng.standard_normal(o.array.shape).astype(o.array.dtype)).requires_grad_() for o in outs]
    weights = (grad_outputs,) if isinstance(grad_outputs, Tensor) else tuple(grad_outputs)

    def gradient(*values):
        xs, ws = values[: len(inputs)], values[len(inputs) :]
        xs = tuple(ops.alias(x) if i in checked else x for i, x in enumerate(xs))
        live = [(o, w) for o, w in zip(_differentiable(func(*xs)), ws, strict=False) if o.requires_grad]
        found = grad_of([o for o, _ in live], [xs[i] for i in checked], [w for _, w in live], create_graph=True,
                        allow_unused=True)  # fmt: skip
        return tuple([f for f in found if f is not None])

    return gradcheck(gradient, (*inputs, *weights), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol, check_undefined_grad=False, fast_mode=fast_mode)  # fmt: skip


def _outputs(result):
    listed = result if isinstance(result, (tuple, list)) else (result,)
    return [o for o in listed if isinstance(o, Tensor)]


def _differentiable(result):
    return [o for o in _outputs(result) if o.array.dtype.kind == "f"]


def _require_double(inputs, checked):
    if not checked:
        raise ValueError("gradcheck: none of the inputs requires grad")
    for i in checked:
        if inputs[i].array.dtype != np.float64:
            raise ValueError(f"gradcheck: input {i} is {inputs[i].dtype}; differences need float64 to mean anything")


def _check_repeatable(func, inputs, checked, tolerance):
    first, second = (_analytic_rows(func, inputs, checked, limit=1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            if x is not None and np.abs(x - y).max(initial=0) > tolerance:
                raise GradcheckError(
                    "backward is not repeatable: two runs of the same function gave different gradients; "
                    "set nondet_tol, or fix the random seed inside the function"
                )


def _analytic_rows(func, inputs, checked, limit=None):
    """For each element of each output the gradients of the checked inputs."""
    with enable_grad():
        outs = [o for o in _differentiable(func(*inputs)) if o.requires_grad]
        rows = []
        for out in outs:
            for position in range(out.array.size if limit is None else min(limit, out.array.size)):
                weight = np.zeros(out.array.shape, out.array.dtype)
                weight.reshape(-1)[position] = 1
                found = grad_of(out, [inputs[i] for i in checked], wrap(weight), retain_graph=True, allow_unused=True)
                rows.append([None if f is None else f.array for f in found])
    return rows


def _evaluate(func, inputs, index, array):
    """The outputs of ``func`` as arrays, with input ``index`` replaced."""
    replaced = list(inputs)
    replaced[index] = wrap(array).requires_grad_() if array.dtype.kind == "f" else wrap(array)
    with enable_grad():  # functions that differentiate inside need it
        return [o.array.copy() for o in _outputs(func(*replaced)) if o.array.dtype.kind in "fc"]


def _numeric_column(func, inputs, index, position, eps):
    """d(outputs)/d(input[position]): central differences, made sharper by the complex step where the two agree."""
    array = inputs[index].array
    pair = []
    for sign in (1, -1):
        moved = array.copy()
        moved[position] += sign * eps
        pair.append(_evaluate(func, inputs, index, moved))
    columns = [(up - down) / (2 * eps) for up, down in zip(*pair, strict=True)]
    try:
        moved = array.astype(np.complex128)
        moved[position] += 1e-30j
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            exact = [o.imag / 1e-30 for o in _evaluate(func, inputs, index, moved)]
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, np.exceptions.ComplexWarning):
        return columns  # the function does not take complex numbers
    if len(exact) == len(columns) and all(
        e.shape == c.shape and np.allclose(e, c, rtol=1e-4, atol=1e-4 * (1 + np.abs(c).max(initial=0)))
        for e, c in zip(exact, columns, strict=True)
    ):
        return exact
    return columns


def _mismatch(func, inputs, checked, eps, atol, rtol):
    """The element with the largest error beyond tolerance, or None."""
    with enable_grad():
        outs = _differentiable(func(*inputs))
    live = [k for k, o in enumerate(outs) if o.requires_grad]
    rows = _analytic_rows(func, inputs, checked)
    if not live:  # no gradient at all is right where nothing changes
        live = list(range(len(outs)))
        rows = [[None] * len(checked) for o in outs for _ in range(o.array.size)]
    starts = np.concatenate([[0], np.cumsum([outs[k].array.size for k in live])]).astype(int)
    worst, excess = None, 0.0
    for slot, index in enumerate(checked):
        for position in np.ndindex(inputs[index].array.shape):
            columns = _numeric_column(func, inputs, index, position, eps)
            for number, k in enumerate(live):
                numeric = columns[k].reshape(-1)
                found = [rows[r][slot] for r in range(starts[number], starts[number + 1])]
                analytic = np.array([0.0 if f is None else f[position] for f in found])
                over = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
                over[np.isnan(analytic) != np.isnan(numeric)] = np.inf
                if over.size and not np.nanmax(over, initial=-1.0) <= excess:
                    at = int(np.nanargmax(over))
                    excess = over[at]
                    worst = Mismatch(k, index, position, float(analytic[at]), float(numeric[at]))
    return worst


def _fast_mismatch(func, inputs, checked, eps, atol, rtol):
    """As `_mismatch`, along one random direction in the inputs and one in the outputs."""
    rng = np.random.default_rng(0)
    with enable_grad():
        outs = [o for o in _differentiable(func(*inputs)) if o.requires_grad]
        weights = [rng.standard_normal(o.array.shape) for o in outs]
        pulled = grad_of(outs, [inputs[i] for i in checked], [wrap(w.astype(o.array.dtype)) for w, o in
                         zip(weights, outs, strict=True)], allow_unused=True)  # fmt: skip
    for slot, index in enumerate(checked):
        array = inputs[index].array
        direction = rng.standard_normal(array.shape)
        up = _evaluate(func, inputs, index, array + eps * direction)
        down = _evaluate(func, inputs, index, array - eps * direction)
        numeric = sum(float(np.sum(w * (u - d))) for w, u, d in zip(weights, up, down, strict=True)) / (2 * eps)
        analytic = 0.0 if pulled[slot] is None else float(np.sum(pulled[slot].array * direction))
        if not abs(analytic - numeric) <= atol + rtol * abs(numeric):
            return Mismatch(0, index, (), analytic, numeric)
    return None


def _check_absent(func, inputs, checked):
    """Backward must also work when an output gets no gradient at all."""
    with enable_grad():
        outs = [o for o in _differentiable(func(*inputs)) if o.requires_grad]
        for out in outs if len(outs) > 1 else ():
            nothing = wrap(np.zeros_like(out.array))
            grad_of(out, [inputs[i] for i in checked], nothing, retain_graph=True, allow_unused=True)


def _report(func, inputs, worst, atol, rtol):
    wrong = (
        f"gradient of output {worst.output} with respect to input {worst.input}, element {list(worst.position)}: "
        f"analytic {worst.analytic:.10g}, numeric {worst.numeric:.10g} "
        f"(difference {abs(worst.analytic - worst.numeric):.3g}, allowed {atol + rtol * abs(worst.numeric):.3g})"
    )
    return f"{wrong}\n{_kink(func, inputs, worst) or first_wrong_op(func, inputs) or _NO_CULPRIT}"


def _kink(func, inputs, worst, eps=1e-6):
    """A remark where the slopes on the two sides of the point differ: there is no derivative to compare with."""
    if not worst.position and inputs[worst.input].array.ndim:
        return None  # a random direction was checked
    array, ends = inputs[worst.input].array, []
    for step in (-eps, 0.0, eps):
        moved = array.copy()
        moved[worst.position] += step
        ends.append(_evaluate(func, inputs, worst.input, moved)[worst.output].reshape(-1))
    left, right = (ends[1] - ends[0]) / eps, (ends[2] - ends[1]) / eps
    at = int(np.argmax(np.abs(right - left))) if left.size else 0
    if not left.size or not abs(right[at] - left[at]) > 1e-2 * max(1.0, abs(left[at]), abs(right[at])):
        return None
    return f"the function has a kink there: its slope is {left[at]:.6g} on the left and {right[at]:.6g} on the right"


_NO_CULPRIT = (
    "no single operation's rule is wrong at these values: the fault is in how they are combined "
    "(a value changed in place, a detach, a kink in the function)"
)


def first_wrong_op(func, inputs) -> str | None:
    """The first operation of ``func(*inputs)`` whose own rule disagrees with central differences, and its line."""
    from .seeing.calls import Calls, first_wrong

    with enable_grad(), Calls() as watcher:
        func(*inputs)
    found = first_wrong(watcher.calls)
    return None if found is None else str(found)
