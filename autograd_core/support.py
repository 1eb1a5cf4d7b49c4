"""Writes ``ops/README.md``: what each function supports. A cell says what happened when the record's samples ran.

Run ``python -m autograd_core.support`` after adding or changing an op; a test runs everything anew and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import autograd_core as ag
from autograd_core import Tensor

from . import files
from .batching import vmap
from .gradient_check import gradcheck, gradgradcheck
from .ops.samples import build
from .passes import NATIVE
from .registry import FAMILIES, OPS, Op, ops_by_public_name
from .transforms import jvp

README = Path(__file__).parent / "ops" / "README.md"
YES, NO = "✓", "–"
REFUSALS = (TypeError, RuntimeError, ValueError, IndexError, ArithmeticError)
"""What a function raises for what it does not support."""

RECORDS = {record.qualified: record for record in OPS.values()}

SYMMETRIC = {"linalg.cholesky", "linalg.eigh", "linalg.eigvalsh", "linalg.pinv", "internal.pseudo_inverse"}
"""Functions that look at one triangle: their gradient is that of the symmetric part of the input."""

NOT_THE_DERIVATIVE = {
    "internal.lookup-0": "padding_idx keeps a row's gradient at zero on purpose",
    "nn.functional.embedding-1": "padding_idx keeps a row's gradient at zero on purpose",
    "internal.round_to_bfloat16-0": "the gradient passes as if nothing were rounded",
    "internal.to-0": "differences drown in the rounding to float32",
    "normal-0": "draws are not differentiated, as in PyTorch",
    "normal-1": "draws are not differentiated, as in PyTorch",
}
"""Samples whose gradient is not what differences give."""


class Call:
    """One sample of one record, ready to be called: ``leaves`` are its floating-point tensors, ``inputs`` all."""

    def __init__(self, name: str, number: int, dtype=np.float64, change: Callable | None = None):
        self.record, self.number = RECORDS[name], number
        args, self.kwargs = build(self.record.samples[number], seed=number, dtype=dtype)
        self.leaves: list[Tensor] = []
        self.inputs: list[Tensor] = []
        self.args = [self._lift(arg, change) for arg in args]

    def _lift(self, value, change):
        if isinstance(value, np.ndarray):
            made = ag.tensor(value if change is None else change(value))
            self.inputs.append(made)
            if made.is_floating_point():
                made.requires_grad_(not self.record.qualified.startswith("Tensor."))  # in place: not on leaves
                self.leaves.append(made)
            return made
        return type(value)(self._lift(v, change) for v in value) if isinstance(value, (list, tuple)) else value

    def __call__(self, *leaves: Tensor) -> Any:
        """The outputs, draws always the same; ``leaves`` stand in for the leaves (all inputs, if there are none)."""
        ag.manual_seed(7)
        return self.run(*leaves)

    def run(self, *leaves: Tensor) -> Any:
        """As calling it, without seeding."""
        replaced = self.leaves or self.inputs
        put = {id(old): new for old, new in zip(replaced, leaves, strict=True)} if leaves else {}

        def filled(value):
            if isinstance(value, Tensor):
                return put.get(id(value), value)
            return type(value)(filled(v) for v in value) if isinstance(value, (list, tuple)) else value

        args = [filled(a) for a in self.args]
        known = self.record.qualified
        if known in SYMMETRIC and (known != "linalg.pinv" or "hermitian" in self.kwargs):
            args[0] = (args[0] + args[0].mT) / 2
        return self.record.public(*args, **self.kwargs)

    def smooth(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """The outputs that carry gradients."""
        return tuple(t for t in tensors(self(*leaves)) if t.requires_grad)

    def keep_differentiable(self) -> bool:
        """Make leaves without a gradient constants; whether any leaf is left."""
        found = self.gradients(allow_unused=True)
        for leaf, gradient in zip(self.leaves, found, strict=True):
            leaf.requires_grad_(gradient is not None)
        self.leaves = [leaf for leaf in self.leaves if leaf.requires_grad]
        return bool(self.leaves)

    def gradients(self, **settings):
        """The gradients of the sum of all smooth outputs, for each leaf."""
        outs = self.smooth()
        if not outs or not self.leaves:
            return (None,) * len(self.leaves)
        return ag.grad(outs, self.leaves, [ag.ones_like(o) for o in outs], **settings)


def tensors(result) -> list[Tensor]:
    """The tensors among results, in order."""
    if isinstance(result, Tensor):
        return [result]
    return [t for r in result for t in tensors(r)] if isinstance(result, (list, tuple)) else []


# ---------------------------------------------------------------------------------------------------- the cells


def calls(record: Op) -> Iterator[Call]:
    """The samples of a record, in turn."""
    for number in range(len(record.samples)):
        yield Call(record.qualified, number)


def first_with_gradient(record: Op) -> Call | None:
    """The first sample whose gradient can be compared with differences."""
    if record.family.name == "random":
        return None
    for call in calls(record):
        if f"{record.qualified}-{call.number}" in NOT_THE_DERIVATIVE:
            continue
        try:
            if call.keep_differentiable():
                return call
        except NotImplementedError:  # PyTorch has no gradient either
            continue
    return None


def gradient(call: Call | None) -> str:
    """Whether there is a gradient; it is compared with differences."""
    if call is None:
        return NO
    gradcheck(call.smooth, tuple(call.leaves), atol=1e-5, rtol=1e-4, fast_mode=True)
    return YES


def second_gradient(call: Call | None) -> str:
    """Whether the gradient has a gradient (that may be zero)."""
    if call is None or getattr(call.record.function, "once_differentiable", False):
        return NO
    first = call.gradients(create_graph=True, allow_unused=True)
    if any(g is not None and g.requires_grad for g in first):
        gradgradcheck(call.smooth, tuple(call.leaves), atol=1e-4, rtol=1e-3, fast_mode=True)
    return YES


def forward_mode(call: Call | None) -> str:
    """Whether derivatives along a direction can be had; they are compared with differences."""
    if call is None:
        return NO
    rng = np.random.default_rng(0)
    directions = [rng.standard_normal(t.shape) for t in call.leaves]
    try:
        _, found = jvp(call.smooth, tuple(call.leaves), tuple(map(ag.tensor, directions)))
    except REFUSALS:
        return NO
    step = 1e-6
    up, down = (
        call.smooth(*[ag.tensor(t.array + sign * step * d, requires_grad=True)
                      for t, d in zip(call.leaves, directions, strict=True)]) for sign in (1, -1))  # fmt: skip
    for derivative, a, b in zip(tensors(found), up, down, strict=True):
        expected = (a.array - b.array) / (2 * step)
        if not np.allclose(derivative.array, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise AssertionError(f"{call.record.qualified}: jvp differs from differences")
    return YES


def varied(t: Tensor) -> Tensor:
    """Other values of the same kind, in the domain of the same functions."""
    return t * 0.75 if t.is_floating_point() else ag.flip(t, (0,)).clone() if t.ndim else t


def mapped(record: Op) -> str:
    """Whether vmap gives what a loop over the samples gives."""
    for call in calls(record):
        given = call.leaves or call.inputs
        if not given or record.qualified.startswith("Tensor."):
            continue
        given = [t.detach() for t in given]
        twice = [ag.stack([t, varied(t)]) for t in given]
        try:
            expected = [tensors(call(*[t[k] for t in twice])) for k in range(2)]
            found = tensors(vmap(call, randomness="same")(*twice))
        except REFUSALS:
            return NO
        for number, out in enumerate(found):
            both = np.stack([row[number].detach().array for row in expected])
            if not np.allclose(out.detach().array, both, rtol=1e-6, atol=1e-9, equal_nan=True):
                raise AssertionError(f"{record.qualified}: vmap differs from a loop")
        return YES
    return NO


def compiled(record: Op) -> str:
    """Whether a recorded program gives, for other values of the same shapes, what the function gives."""
    for call in calls(record):
        given = call.leaves or call.inputs
        given = [t.detach() for t in given]
        program = ag.compile(lambda *t, call=call: tensors(call.run(*t)), disable=("fusion", NATIVE))
        try:
            program(*given)
            ag.manual_seed(7)
            found, expected = program(*map(varied, given)), tensors(call(*map(varied, given)))
        except REFUSALS:
            return NO
        for one, reference in zip(found, expected, strict=True):
            if not np.allclose(one.detach().array, reference.detach().array, rtol=1e-6, atol=1e-9, equal_nan=True):
                raise AssertionError(f"{record.qualified}: compiled differs from eager")
        return YES
    return NO


_DTYPES = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "i64": np.int64, "u8": np.uint8, "bool": np.bool_}
_SHORT = {tuple(_DTYPES): "all", ("f16", "f32", "f64"): "floats", ("f32", "f64"): "f32 f64",
          ("f16", "f32", "f64", "i64", "u8"): "numbers", ("i64", "u8", "bool"): "integers, bool",
          ("i64", "u8"): "integers", (): NO}  # fmt: skip


def dtypes(record: Op) -> str:
    """The types in which the first sample runs, in place of its floats (or of its integers, if it has no floats)."""
    first = next(calls(record), None)
    if first is None or not first.inputs:
        return NO
    kinds = "f" if first.leaves else "iub"
    taken = []
    for known, kind in _DTYPES.items():
        dtype = np.dtype(kind)

        def change(array, dtype=dtype):
            if array.dtype.kind not in kinds:
                return array
            if array.dtype.kind == "f" and dtype.kind in "iu":
                array = np.abs(array) + 1  # no zeros, by which integers cannot be divided
            return array > 0.5 if dtype.kind == "b" else array.astype(dtype)

        try:
            Call(record.qualified, 0, change=change)()
        except REFUSALS:
            continue
        taken.append(known)
    return _SHORT.get(tuple(taken), " ".join(taken))


OWN_IN_PLACE = {"bernoulli", "normal"}
"""Functions whose ``name_`` form takes other arguments: it draws into the tensor."""


def in_place(record: Op) -> str:
    """Whether the ``name_`` form writes the function's result into the tensor."""
    method = getattr(Tensor, record.name + "_", None) if record.namespace == "" else None
    if method is None:
        return NO
    for call in calls(record):
        if not call.args or not isinstance(call.args[0], Tensor):
            continue
        target = call.args[0].detach().clone()
        if record.name in OWN_IN_PLACE:
            return YES if method(target) is target else NO
        with ag.no_grad():
            try:
                expected = call()
                ag.manual_seed(7)
                returned = method(target, *call.args[1:], **call.kwargs)
            except REFUSALS:
                continue
        if returned is not target or not np.allclose(target.array, expected.array, equal_nan=True):
            raise AssertionError(f"{record.name}_ differs from {record.name}")
        return YES
    return NO


COLUMNS = ("gradient", "second", "jvp", "vmap", "compiled", "dtypes", "in-place", "ONNX")


def cells(record: Op) -> tuple[str, ...]:
    """What stands in the row of a record, worked out by running its samples."""
    smooth = first_with_gradient(record)
    return (gradient(smooth), second_gradient(smooth), forward_mode(smooth), mapped(record), compiled(record),
            dtypes(record), in_place(record), record.onnx or NO)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the page

HEAD = """# What every function supports

Made by `python -m autograd_core.support` from the records: a tick says that the record's samples ran that way and gave
what they should. **gradient**: agrees with differences; **second**: so does the gradient's gradient; **jvp**: so does
the derivative along a direction; **vmap**: gives what a loop gives; **compiled**: `ag.compile` replays it with other
values; **dtypes**: in which the first sample runs (f16 to f64, i64, u8, bool); **in-place**: `name_`; **ONNX**: the
node it becomes. Random functions have no gradient to compare; functions that make tensors take no dtype of an input.
"""


def row(record: Op) -> str:
    """The line of a record."""
    also = f" ({', '.join(f'`{a}`' for a in record.aliases)})" if record.aliases else ""
    return f"| `{record.qualified}`{also} | {' | '.join(cells(record))} |"


def page(rows: dict[str, str]) -> str:
    """The whole page, of the lines by the names of their records."""
    public = ops_by_public_name()
    parts = [HEAD]
    for family in FAMILIES.values():
        names = sorted(n for n, record in public.items() if record.family is family)
        if names:
            parts += [f"## {family.name}: {family.purpose}\n", f"| function | {' | '.join(COLUMNS)} |",
                      f"|---|{':-:|' * len(COLUMNS)}", *[rows[n] for n in names], ""]  # fmt: skip
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    files.write(README, page({name: row(record) for name, record in ops_by_public_name().items()}))
    print(README)  # noqa: T201 (a command line)


if __name__ == "__main__":
    main()
