"""``ag.gradient_report``: is the gradient right, and is it of a size that trains?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import files, generator, ops
from ..func import tensors_of, with_tensors
from ..modes import enable_grad, no_grad, unwatched
from ..shapes import ndarray
from ..tensor import Tensor, wrap
from . import references
from .calls import Call, Calls, WrongRule, first_wrong
from .searching import State

TOLERANCE = 1e-5
"""Relative error up to which a derivative along a direction agrees with central differences in double precision."""

SPREAD = 1e3
"""A layer whose gradient (root mean square) is so many times smaller or greater than the last layer's stands out, if it
is also beside the parameter's own size."""


@dataclass(frozen=True)
class ParameterRow:
    """What the gradient of one parameter is like.

    ``update``: size of an update over that of the parameter, NaN where that is zero. ``dead``: units (rows) whose
    gradient is exactly zero for the whole batch. ``error``: relative error against central differences along a random
    direction; None where it was not checked. ``remark``: what stands out.
    """

    name: str
    shape: tuple[int, ...]
    weight_norm: float
    gradient_norm: float
    rms: float
    update: float
    dead: int
    units: int
    error: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class RepeatedRow:
    """A call that is made again and again (steps of a recurrence): how large the gradients of its results are."""

    name: str
    place: str
    count: int
    first: float
    last: float
    remark: str = ""


@dataclass(frozen=True)
class Check:
    """Derivatives of the loss along random directions through all parameters: by rules, by differences, the error."""

    pairs: tuple[tuple[float, float, float], ...]
    wrong: WrongRule | None = None

    @property
    def error(self) -> float:
        """The largest relative error beyond what rounding explains."""
        return max([error for _, _, error in self.pairs], default=0.0)


@dataclass
class GradientReport:
    """What `gradient_report` found; ``str()`` is text, `save` writes Markdown, HTML or a picture by the ending."""

    title: str
    loss: float
    parameters: list[ParameterRow]
    repeated: list[RepeatedRow] = field(default_factory=list)
    check: Check | None = None
    reference: list[references.Comparison] | None = None
    update_of: str = ""
    calls: list[Call] = field(default_factory=list, repr=False)

    @property
    def problems(self) -> list[str]:
        """Sentences on what is wrong or stands out; none where all is well."""
        found = [f"{row.name}: {row.remark}" for row in self.parameters if row.remark]
        found += [f"{row.name}: {row.remark}" for row in self.repeated if row.remark]
        if not np.isfinite(self.loss):
            found.insert(0, f"the loss is {self.loss}: ag.debug() says where that comes from")
        if self.check is not None:
            bad = [row.name for row in self.parameters if row.error is not None and row.error > TOLERANCE]
            if self.check.wrong is not None:
                found.insert(0, str(self.check.wrong))
            if self.check.error > TOLERANCE or bad:
                of = f" (of {', '.join(bad[:5])})" if bad else ""
                found.insert(0, f"the gradient{of} disagrees with central differences")
                if self.check.wrong is None:
                    found.insert(1, "no operation's own rule is wrong at these values: look for a detach, a value "
                                    "changed in place, or a kink")  # fmt: skip
        return found

    @property
    def ok(self) -> bool:
        """Whether the gradient agrees with central differences everywhere."""
        checked = [row.error for row in self.parameters if row.error is not None]
        return self.check is None or max([self.check.error, *checked], default=0.0) <= TOLERANCE

    def worst(self) -> list[tuple[str, int, float, float | None]]:
        """(operation, calls, value, gradient): the largest distances from PyTorch in ulp, by name, worst first."""
        by_name: dict[str, list] = {}
        for row in self.reference or ():
            if row.value is not None:
                by_name.setdefault(row.call.name.removeprefix("internal.").removeprefix("nn.functional."), []).append(
                    row
                )
        found = [(name, len(rows), max(r.value for r in rows), max([r.gradient for r in rows if r.gradient is not None],
                  default=None)) for name, rows in by_name.items()]  # fmt: skip
        return sorted(found, key=lambda row: -max(row[2], row[3] or 0.0))

    def __str__(self):
        from .report_pages import text

        return text(self)

    def markdown(self) -> str:
        """The report as Markdown."""
        from .report_pages import markdown

        return markdown(self)

    def html(self) -> str:
        """The report as one HTML page, with pictures where matplotlib is installed."""
        from .report_pages import html

        return html(self)

    _repr_html_ = html
    _repr_markdown_ = markdown

    def plot(self):
        """A matplotlib figure: gradient norms, update ratios and distances from PyTorch."""
        from .report_pages import plot

        return plot(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report; the ending of ``path`` says as what: md, html, txt, or png, svg, pdf for the picture."""
        ending = os.fspath(path).rpartition(".")[2].lower()
        forms: dict[str, Callable[[], str]] = {"md": self.markdown, "html": self.html, "txt": self.__str__}
        if ending in forms:
            files.write(path, forms[ending]())
        elif ending in ("png", "svg", "pdf"):
            with files.writing(path) as file:
                self.plot().savefig(file, format=ending, bbox_inches="tight")
        else:
            raise ValueError(f"save: the ending must be md, html, txt, png, svg or pdf, got {os.fspath(path)!r}")


# ---------------------------------------------------------------------------------------------------- making it


def gradient_report(model: Callable, loss_fn: Callable, data: tuple, *, optimizer: Any = None, lr: float = 0.01,
                    check: bool = True, reference: bool | None = None, directions: int = 3,
                    seed: int = 0) -> GradientReport:  # fmt: skip
    """What the gradient of ``loss_fn(model(inputs), target)`` is like, parameter by parameter, and whether it is right.

        print(ag.gradient_report(model, nn.CrossEntropyLoss(), (inputs, target)))

    ``data``: (inputs, target); a tuple or list of inputs is spread over the model's arguments. ``model`` may be any
    function: then the inputs that require grad stand in for parameters. The model, its gradients and the random
    generator are left as they were.

    The report holds norms of gradients and parameters; the size of an update relative to the parameter (by
    ``optimizer`` where given, else by plain SGD with ``lr``); units without gradient; layers and steps whose gradients
    vanish or explode. With ``check``, in double precision, derivatives along ``directions`` random directions, and one
    for each parameter, are compared with central differences; if they disagree, the first operation whose own rule is
    wrong is named. Where PyTorch is installed (``reference=None``; True insists, False leaves it out), its value and
    gradient of each operation stand beside ours, in ulp.
    """
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        raise TypeError(f"gradient_report: data must be (inputs, target), got {type(data).__name__}")
    drawn = generator.default_generator.get_state()
    subject = _Subject(model, loss_fn, data, drawn)
    try:
        with enable_grad():
            calls, loss, gradients = subject.watched()
            report = GradientReport(_title(model), loss, [], calls=calls)
            updates, report.update_of = _updates(subject, gradients, optimizer, lr)
            report.parameters = _rows(subject, gradients, updates, calls)
            report.repeated = _repeated(calls)
            if reference or (reference is None and references.is_installed()):
                report.reference = references.compare(calls)
            if check:
                errors, report.check = _checked(subject, directions, seed)
                report.parameters = [replace(row, error=e) for row, e in zip(report.parameters, errors, strict=True)]
    finally:
        subject.restore()
        generator.default_generator.set_state(drawn)
    return report


def _title(model):
    return getattr(model, "__name__", None) or type(model).__name__


class _Subject:
    """The model with its data, evaluated again and again with the same random draws; `restore` leaves it as it was."""

    def __init__(self, model, loss_fn, data, drawn):
        self.model, self.loss_fn, self.drawn = model, loss_fn, drawn
        self.held = State((model, loss_fn))
        inputs, target = data
        self.inputs = _copied(tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,))
        self.target = _copied(target)
        self.named = [(name, tensor) for name, tensor in self._named() if tensor.requires_grad and tensor.is_leaf]
        if not self.named:
            raise ValueError("gradient_report: no parameter of the model, and no input, requires grad")
        self.leaves = [tensor for _, tensor in self.named]
        for leaf in self.leaves:
            leaf._grad = None

    def _named(self):
        """Parameters of a module; of a function, inputs and the tensors that it holds."""
        if hasattr(self.model, "named_parameters"):
            return list(self.model.named_parameters())
        inputs = [(t.name or f"input {i}", t) for i, t in enumerate(tensors_of(self.inputs))]
        names: dict[int, str] = {}
        for module in self.held.modules():
            for name, tensor in module.named_parameters():
                names[id(tensor)] = max(names.get(id(tensor), ""), name, key=len)
        held = [tensor for tensor, *_ in self.held.tensors]
        return inputs + [(names.get(id(t)) or t.name or f"tensor {i}", t) for i, t in enumerate(held)]

    def double(self) -> None:
        """Everything in double precision, until `restore`."""
        for tensor in (*[t for t, *_ in self.held.tensors], *tensors_of((self.inputs, self.target))):
            if tensor.array.dtype.kind == "f":
                tensor.array = tensor.array.astype(np.float64)

    def restore(self) -> None:
        """Parameters, gradients and running statistics as they were."""
        self.held.restore()

    def __call__(self):
        generator.default_generator.set_state(self.drawn)
        loss = self.loss_fn(self.model(*self.inputs), self.target)
        if not isinstance(loss, Tensor) or loss.array.size != 1:
            raise ValueError("gradient_report: loss_fn must return a tensor of one element, got "
                             f"{list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__}")  # fmt: skip
        return loss

    def watched(self):
        """(calls, loss, gradient of each leaf), operation by operation."""
        kept = self.inputs
        if not any(t.requires_grad for t in tensors_of(kept)):  # their gradients show how far gradients reach back
            given = [ops.alias(wrap(t.array).requires_grad_()) if t.array.dtype.kind == "f" else t
                     for t in tensors_of(kept)]  # fmt: skip
            self.inputs = with_tensors(kept, iter(given))
        try:
            with Calls() as watcher:
                loss = self()
                loss.backward()
        finally:
            self.inputs = kept
        return watcher.calls, float(loss.array.reshape(-1)[0]), self.taken()

    def taken(self):
        """The gradients of the leaves, which then have none."""
        found = [None if leaf._grad is None else leaf._grad.array for leaf in self.leaves]
        for leaf in self.leaves:
            leaf._grad = None
        return found

    def value(self):
        """The loss as a number."""
        with unwatched(), no_grad():
            return float(self().array.reshape(-1)[0])


def _copied(tree):
    def made(tensor):
        found = wrap(tensor.array.copy())
        found.name = tensor.name
        return found.requires_grad_() if tensor.requires_grad else found

    return with_tensors(tree, iter([made(t) for t in tensors_of(tree)]))


def _updates(subject, gradients, optimizer, lr):
    """The norm of what an update would add to each leaf, and a word on whose."""
    if optimizer is None:
        return [lr * _norm(g) for g in gradients], f"plain SGD, lr={lr:g}"
    before, old = State(optimizer), [leaf.array.copy() for leaf in subject.leaves]
    try:
        for leaf, gradient in zip(subject.leaves, gradients, strict=True):
            leaf._grad = None if gradient is None else wrap(gradient.copy())
        with unwatched():
            optimizer.step()
        found = [_norm(leaf.array - values) for leaf, values in zip(subject.leaves, old, strict=True)]
    finally:
        before.restore()
    return found, type(optimizer).__name__


def _norm(array):
    if array is None:
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.sum(np.square(array, dtype=np.float64))))


# ---------------------------------------------------------------------------------------------------- the check


def _relative(analytic, numeric, noise):
    """Relative error; of a large one, without the ``noise`` that rounding leaves in a difference quotient."""
    if not (np.isfinite(analytic) and np.isfinite(numeric)):
        return float("inf")
    gap, size = abs(analytic - numeric), max(abs(analytic), abs(numeric), 1e-300)
    return gap / size if gap <= TOLERANCE * size else max(gap - noise, 0.0) / size


def _checked(subject, directions, seed):
    """Relative error of each leaf along a direction, and the check along directions through all of them."""
    rng = np.random.default_rng(seed)
    subject.double()
    with unwatched():
        loss = subject()
        loss.backward()
    rounding = 64 * np.finfo(np.float64).eps * max(float(np.abs(loss.array).max()), 1e-30)
    found = subject.taken()
    gradients = [np.zeros_like(leaf.array) if g is None else g for leaf, g in zip(subject.leaves, found, strict=True)]

    def pair(chosen):
        drawn = [rng.standard_normal(subject.leaves[i].array.shape) * _size(subject.leaves[i].array) for i in chosen]
        analytic = sum(float((gradients[i] * d).sum()) for i, d in zip(chosen, drawn, strict=True))
        best = None
        for step in (1e-5, 1e-6, 1e-4):
            numeric = _difference(subject, chosen, drawn, step)
            error = _relative(analytic, numeric, rounding / step)
            if best is None or error < best[2]:
                best = analytic, numeric, error
            if error <= TOLERANCE / 10:
                break
        return best

    everything = range(len(subject.leaves))
    pairs = tuple([pair(everything) for _ in range(directions)])
    errors = [pair([i])[2] for i in everything]
    wrong = None
    if max([*errors, *[error for _, _, error in pairs]]) > TOLERANCE:
        with unwatched():
            wrong = first_wrong(subject.watched()[0], seed)
    return errors, Check(pairs, wrong)


def _size(array):
    return float(np.sqrt(np.mean(np.square(array)))) or 1.0 if array.size else 1.0


def _difference(subject, chosen, directions, step):
    kept = [subject.leaves[i].array for i in chosen]
    ends = []
    try:
        for sign in (1, -1):
            for i, array, direction in zip(chosen, kept, directions, strict=True):
                subject.leaves[i].array = array + sign * step * direction
            ends.append(subject.value())
    finally:
        for i, array in zip(chosen, kept, strict=True):
            subject.leaves[i].array = array
    return (ends[0] - ends[1]) / (2 * step)


# ---------------------------------------------------------------------------------------------------- tables


def _rows(subject, gradients, updates, calls):
    """A row for each parameter; its gradient is judged beside that of the last of its kind (matrices, vectors)."""
    own = f"{type(subject.model).__name__}."
    looked_up = {f"{call.scope}.weight".removeprefix(own) for call in calls if "lookup" in call.name}  # a few rows each
    usual: dict[bool, tuple[float, float]] = {}
    sizes = []
    for leaf, gradient in zip(subject.leaves, gradients, strict=True):
        size, weight = _rms(gradient), _rms(leaf.array)
        sizes.append((size, size / weight if weight else None))
        if np.isfinite(size) and size > 0:
            usual[leaf.array.ndim > 1] = size, size / weight if weight else 0.0
    rows = []
    for (name, leaf), gradient, size, update in zip(subject.named, gradients, sizes, updates, strict=True):
        weight = _norm(leaf.array)
        dead, units = _dead(gradient)
        remark = _remark(gradient, size, usual.get(leaf.array.ndim > 1), 0 if name in looked_up else dead, units)
        rows.append(ParameterRow(name, tuple(leaf.array.shape), weight, _norm(gradient), size[0],
                                 update / weight if weight else float("nan"), dead, units, remark=remark))  # fmt: skip
    return rows


def _rms(array):
    """Root mean square, of the rows that are not zero throughout."""
    if array is None or not array.size:
        return float("nan")
    dead, units = _dead(array)
    return _norm(array) / float(np.sqrt(array.size * ((units - dead) / units if units > dead else 1)))


def _dead(gradient):
    """(units whose gradient is exactly zero, units): a unit is a row of a matrix, an element of a vector."""
    if gradient is None or not gradient.ndim or not gradient.size:
        return 0, 0
    rows = gradient.reshape(len(gradient), -1)
    return int((~rows.any(1)).sum()), len(rows)


def _remark(gradient, size, usual, dead, units):
    if gradient is None:
        return "gets no gradient: the loss does not depend on it"
    if not np.isfinite(gradient).all():
        return "the gradient is not finite"
    if units and dead == units:
        return "the gradient is zero everywhere"
    times = _times(size, usual) if usual is not None and size[0] > 0 else 1.0
    if times < 1 / SPREAD:
        return f"vanishing: its gradient is {1 / times:,.0f} times smaller than the last layer's"
    if times > SPREAD:
        return f"exploding: its gradient is {times:,.0f} times greater than the last layer's"
    return f"{dead} of {units} units get no gradient" if dead and units > 1 and 2 * dead >= units else ""


def _times(size, usual):
    """How many times greater a gradient is than the usual one, or beside the parameter's own size, if that is less."""
    plain = size[0] / usual[0]
    if not size[1] or not usual[1]:
        return plain
    relative = size[1] / usual[1]
    return min(plain, relative) if plain > 1 else max(plain, relative)


def _repeated(calls):
    """Calls from one line that come again at least four times, and the steps inside of recurrent layers."""
    groups: dict[tuple, list[Call]] = {}
    for call in calls:
        groups.setdefault((call.name, call.scope, call.line, None if call.out is None else call.out.shape), []).append(
            call
        )
    rows = []
    for (name, scope, line, _), group in groups.items():
        sizes = [_norm(next(g for g in call.gradients if g is not None)) for call in group if call.gradients]
        if len(group) >= 4 and len(sizes) >= 4:
            rows.append(_repeated_row(f"{name} in {scope}" if scope else name, line, sizes))
        if name.endswith("_layer") and len(group) == 1 and isinstance(group[0].returned.get(0), ndarray):
            given = group[0].returned[0]
            steps = [_norm(part) for part in (given[::-1] if group[0].static.get("reverse") else given)]
            if len(steps) >= 4 and any(steps):
                rows.append(_repeated_row(f"steps of {name.removeprefix('internal.')} in {scope}", line, steps))
    by_line: dict[str, RepeatedRow] = {}
    for row in rows:  # operations of one line tell the same story: the one with the greatest gradients stands for them
        known = by_line.setdefault(row.place, row)
        if max(row.first, row.last) > max(known.first, known.last):
            by_line[row.place] = row
    return list(by_line.values())


def _repeated_row(name, line, sizes):
    first, last = sizes[0], sizes[-1]
    remark = ""
    if not np.isfinite([first, last]).all():
        remark = "a gradient is not finite"
    elif last > SPREAD * first:
        remark = f"vanishing: over {len(sizes)} steps back the gradient falls from {last:.3g} to {first:.3g}"
    elif first > SPREAD * last > 0:
        remark = f"exploding: over {len(sizes)} steps back the gradient grows from {last:.3g} to {first:.3g}"
    return RepeatedRow(
        name.replace("nn.functional.", "").replace("internal.", ""), line, len(sizes), first, last, remark
    )
