"""L-BFGS: a quasi-Newton method that works on all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from autograd_core.modes import enable_grad, no_grad
from autograd_core.storage import log_write
from autograd_core.tensor import Tensor, wrap

from .optimizer import Optimizer, arguments, check_nonnegative


class Point(NamedTuple):
    """A place on the line of a search: the step, the loss there, its gradient, and the slope along the line."""

    step: float
    loss: float
    gradient: np.ndarray
    slope: float


def cubic_minimum(p: Point, q: Point, low: float, high: float) -> float:
    """Where the cubic through two points with their slopes is least, kept within [low, high]; else the middle."""
    if p.step > q.step:
        p, q = q, p
    if p.step == q.step:
        return (low + high) / 2
    d1 = p.slope + q.slope - 3 * (p.loss - q.loss) / (p.step - q.step)
    square = d1 * d1 - p.slope * q.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    bottom = q.slope - p.slope + 2 * d2
    if bottom == 0:
        return (low + high) / 2
    return min(max(q.step - (q.step - p.step) * ((q.slope + d2 - d1) / bottom), low), high)


def strong_wolfe(evaluate: Callable[[float], Point], start: Point, step: float, reach: float, tolerance: float,
                 most: int) -> tuple[Point, int]:  # fmt: skip
    """A point that satisfies the strong Wolfe conditions (or the best found), and the number of evaluations.

    ``start`` is the point at step 0, ``reach`` the largest element of the direction, ``most`` bounds the evaluations.
    Source: J. Nocedal and S. J. Wright, "Numerical optimization", algorithms 3.5 and 3.6.
    """
    bracket, count, done = _bracket(evaluate, start, step, most)
    stalled = False
    while not done and count - 1 < most:
        low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
        near, far = sorted(point.step for point in bracket)
        if (far - near) * reach < tolerance:
            break
        step = cubic_minimum(bracket[0], bracket[1], near, far)
        margin = 0.1 * (far - near)
        if min(far - step, step - near) < margin:  # twice too close to an end: a tenth inwards
            if stalled or step >= far or step <= near:
                step = far - margin if abs(step - far) < abs(step - near) else near + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        point = evaluate(step)
        count += 1
        if point.loss > start.loss + SUFFICIENT * point.step * start.slope or point.loss >= bracket[low].loss:
            bracket[high] = point
        else:
            if abs(point.slope) <= -CURVATURE * start.slope:
                done = True
            elif point.slope * (bracket[high].step - bracket[low].step) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
    return min(bracket, key=lambda point: point.loss), count


SUFFICIENT, CURVATURE = 1e-4, 0.9
"""How much the loss must fall, and the slope flatten, of what the slope at the start promises."""


def _bracket(evaluate, start, step, most):
    """Points on both sides of an acceptable one (or that one alone), evaluations so far, and whether it was found."""
    before, point, count = start, evaluate(step), 1
    while count - 1 < most:
        if point.loss > start.loss + SUFFICIENT * point.step * start.slope or (count > 2 and point.loss >= before.loss):
            return [before, point], count, False
        if abs(point.slope) <= -CURVATURE * start.slope:
            return [point], count, True
        if point.slope >= 0:
            return [before, point], count, False
        near, far = point.step + 0.01 * (point.step - before.step), point.step * 10
        before, point = point, evaluate(cubic_minimum(before, point, near, far))
        count += 1
    return [start, point], count, False


class LBFGS(Optimizer):
    """Limited-memory BFGS. ``step`` needs a closure that clears the gradients, computes the loss and goes backward.

    ``max_iter`` iterations a step, ``max_eval`` calls of the closure (default 1.25 * max_iter); stops when no gradient
    exceeds ``tolerance_grad``, or loss and parameters change by less than ``tolerance_change``. ``history_size`` pairs
    of vectors are remembered. ``line_search_fn``: None (a fixed step of ``lr``) or "strong_wolfe". One group alone.

    Source: J. Nocedal, "Updating quasi-Newton matrices with limited storage", 1980.
    """

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9,
                 history_size=100, line_search_fn=None):  # fmt: skip
        defaults = arguments(locals())
        if max_eval is None:
            defaults["max_eval"] = max_iter * 5 // 4
        check_nonnegative(self, lr=lr)
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self):
        return self.param_groups[0]["params"]

    def _gradient(self):
        return np.concatenate([np.zeros(p.array.size, p.array.dtype) if p.grad is None else p.grad.array.reshape(-1)
                               for p in self._params])  # fmt: skip

    def _move(self, origin, step, direction):
        """Put the parameters at ``origin`` + step * direction."""
        start = 0
        for p, values in zip(self._params, origin, strict=True):
            part = direction[start : start + values.size].reshape(values.shape)
            np.copyto(p.array, values + part * step)
            log_write(p.array)
            start += values.size

    def step(self, closure: Callable):  # type: ignore[override]
        """Run up to ``max_iter`` iterations; returns the loss of the first call of ``closure``."""

        def evaluate():
            with enable_grad():
                return closure()

        with no_grad():
            return self._step(evaluate)

    def _step(self, closure):
        group, state = self.param_groups[0], self.state[self._params[0]]
        lr = float(group["lr"])
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = closure()
        loss, gradient = float(first), self._gradient()
        evaluations = 1
        state["func_evals"] += 1
        if _largest(gradient) <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            self._remember(state, gradient, group["history_size"])
            direction = _newton_direction(state, gradient)
            state["d"], state["prev_flat_grad"], state["prev_loss"] = wrap(direction), wrap(gradient), loss
            step = min(1.0, 1.0 / float(np.abs(gradient).sum())) * lr if state["n_iter"] == 1 else lr
            state["t"] = step
            slope = float(gradient @ direction)
            if slope > -group["tolerance_change"]:
                break
            before, used = loss, 0
            origin = [p.array.copy() for p in self._params]
            if group["line_search_fn"] is not None:
                point, used = self._search(closure, origin, Point(0.0, loss, gradient, slope), step, direction,
                                           group["max_eval"] - evaluations)  # fmt: skip
                step, loss, gradient = point.step, point.loss, point.gradient
                state["t"] = step
                self._move(origin, step, direction)
            else:
                self._move(origin, step, direction)
                if iteration != group["max_iter"]:
                    loss, gradient, used = float(closure()), self._gradient(), 1
            evaluations += used
            state["func_evals"] += used
            if (evaluations >= group["max_eval"] or _largest(gradient) <= group["tolerance_grad"]
                    or _largest(direction * step) <= group["tolerance_change"]
                    or abs(loss - before) < group["tolerance_change"]):  # fmt: skip
                break
        return first

    def _search(self, closure, origin, start, step, direction, most):
        name = self.param_groups[0]["line_search_fn"]
        if name != "strong_wolfe":
            raise RuntimeError(f"only 'strong_wolfe' is supported, got line_search_fn={name!r}")

        def evaluate(step):
            self._move(origin, step, direction)
            loss, gradient = float(closure()), self._gradient()
            return Point(step, loss, gradient, float(gradient @ direction))

        return strong_wolfe(evaluate, start, step, _largest(direction), self.param_groups[0]["tolerance_change"], most)

    @staticmethod
    def _remember(state, gradient, history_size):
        """Add what the last step taught to the history: the change of the gradient, and the step that made it."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return
        change = gradient - state["prev_flat_grad"].array
        moved = state["d"].array * _number(state["t"])
        product = float(change @ moved)
        if product <= 1e-10:
            return
        if len(state["old_dirs"]) == history_size:
            for name in ("old_dirs", "old_stps", "ro"):
                state[name].pop(0)
        state["old_dirs"].append(wrap(change))
        state["old_stps"].append(wrap(moved))
        state["ro"].append(1.0 / product)
        state["H_diag"] = product / float(change @ change)


def _newton_direction(state, gradient):
    """-H g, H being the approximate inverse Hessian of the history, by the two-loop recursion."""
    direction = -gradient
    history = list(zip([t.array for t in state["old_dirs"]], [t.array for t in state["old_stps"]],
                       map(_number, state["ro"]), strict=True))  # fmt: skip
    weights = []
    for change, moved, rho in reversed(history):
        weights.append(float(moved @ direction) * rho)
        direction = direction - change * weights[-1]
    direction = direction * _number(state["H_diag"])
    for change, moved, rho in history:
        direction = direction + moved * (weights.pop() - float(change @ direction) * rho)
    return direction


def _number(value):
    return float(value) if isinstance(value, Tensor) else value


def _largest(values):
    return float(np.abs(values).max())
