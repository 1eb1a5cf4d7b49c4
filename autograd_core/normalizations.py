"""Endings of batch norm: the addition of a shortcut and ReLU are done while the result is written.

Forward, the only reader of a normalised array is taken in: an addition of another array that is there already, then a
ReLU. Backward, the gradient of such a ReLU is taken into that of the norm, which works the result out again where its
channels lie last: one pass over memory less each way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .kernels import normalize
from .kernels.plan import execute
from .program import Instruction, Program, Value
from .registry import Kernel, Op, network


@dataclass(eq=False)
class Ended:
    """A norm with what follows it: ``members`` are the instructions that it stands for."""

    members: Sequence[Instruction]

    def __call__(self, x, weight, bias, added, *, relu, **static):
        """The results of the norm, the first with its ending."""
        found = execute(normalize.standardize, (x, weight, bias, added), relu=relu, **static)
        if found is not NotImplemented:
            return found
        out, *rest = self.members[0].op.run(x, weight, bias, **static)
        out = out if added is None else out + added
        return (np.maximum(out, 0) if relu else out, *rest)


@dataclass(eq=False)
class EndedBackward:
    """The gradients of a norm that ends with ReLU."""

    members: Sequence[Instruction]

    def __call__(self, g, x, weight, centre, rstd, bias, *, relu, **static):
        """The gradients in x, weight and bias."""
        found = execute(normalize.standardize_backward, (g, x, weight, centre, rstd, bias), relu=relu, **static)
        if found is not NotImplemented:
            return found
        scale = rstd if weight is None else rstd * weight
        result = (x - centre if static["centred"] else x) * scale
        result = result if bias is None else result + bias
        return self.members[-1].op.run(np.where(result <= 0, 0, g), x, weight, centre, rstd, **static)


def end_norms(program: Program) -> None:
    """Let batch norms take in what alone reads them, and their gradients that of the ReLU."""
    ending = _Ending(program)
    for row in list(program.instructions):
        if row.op.name == "standardize" and row.outs[0] is not None and _is_batch_norm(row):
            ending.forward(row)
    for row in list(program.instructions):
        if row.op.name == "standardize_backward":
            ending.backward(row)
    program.instructions = [ending.made.get(row, row) for row in program.instructions if row not in ending.gone]


def _is_batch_norm(row):
    """Whether the dimensions that are left alone have normalised ones before them."""
    shape, dims = row.args[0].shape, row.static["dims"]
    kept = [i for i, n in enumerate(shape) if n != 1 and i not in dims]
    return bool(kept) and any([d < kept[0] and shape[d] > 1 for d in dims])


class _Ending:
    """What is known of a program while its norms are ended."""

    def __init__(self, program: Program) -> None:
        self.readers: dict[Value, list[Instruction]] = {}
        self.place: dict[Value, int] = {}
        for at, row in enumerate(program.instructions):
            for value in dict.fromkeys(row.operands):
                self.readers.setdefault(value, []).append(row)
            self.place.update(dict.fromkeys(row.results, at))
        self.finals = set(program.finals)
        self.made: dict[Instruction, Instruction] = {}
        self.gone: set[Instruction] = set()
        self.makers = program.makers()
        self.limited: dict[Value, Instruction] = {}  # results of norms that end with ReLU alone, and the norm

    def _follower(self, value, name):
        """The only reader of a value, where it does what it is asked for to an array of the same type."""
        readers = self.readers.get(value, ())
        if len(readers) != 1 or value in self.finals:
            return None
        (row,) = readers
        same = row.op.name == name and len(row.outs) == 1 and not row.runtime and row not in self.gone
        return row if same and (row.out.shape, row.out.dtype) == (value.shape, value.dtype) else None

    def forward(self, row):
        """Let a norm take in an addition and a ReLU."""
        members, added, last = [row], None, row.out
        adding = self._follower(last, "add")
        if adding is not None:
            added = self._added(adding, last, row)
            if added is None:
                return
            members, last = [*members, adding], adding.out
        limiting = self._follower(last, "relu")
        if limiting is not None:
            members, last = [*members, limiting], limiting.out
        if len(members) == 1:
            return
        op = Op("+".join([m.op.name for m in members]), row.op.function, network, run=Ended(members),
                kernel=Kernel("normalize:standardize"))  # fmt: skip
        weight, bias = row.args[1:]
        self.made[row] = replace(row, op=op, args=(row.args[0], weight, bias, added), outs=(last, *row.outs[1:]),
                                 static={**row.static, "relu": limiting is not None})  # fmt: skip
        self.gone.update(members[1:])
        self.place[last] = self.place[row.out]
        if limiting is not None and added is None:
            self.limited[last] = row

    def _added(self, adding, normal, row):
        """The other operand of an addition, where it is there before the norm."""
        if len(adding.args) != 2 or adding.static.get("alpha", 1) != 1:
            return None
        other = adding.args[1] if adding.args[0] is normal else adding.args[0]
        known = type(other) is Value and other is not normal and self.place.get(other, -1) < self.place[row.out]
        return other if known and (other.shape, other.dtype) == (normal.shape, normal.dtype) else None

    def backward(self, row):
        """Let the gradient of a norm take in that of its ReLU."""
        grad, image, weight, *moments = row.args
        choice = self.makers.get(grad)
        if choice is None or choice.op.name != "where":
            return
        if self.readers[grad] != [row] or grad in self.finals or image.shape != grad.shape:
            return
        mask, zero, sent = choice.args
        test = self.makers.get(mask)
        if not _is_zero(zero) or test is None or test.op.name != "le" or not _is_zero(test.args[1]):
            return
        norm = self.limited.get(test.args[0])
        if norm is None or norm.args[0] is not image or type(sent) is not Value or sent.shape != grad.shape:
            return
        if len(image.shape) - 1 in norm.static["dims"]:  # there is a kernel for columns alone
            return
        centre, rstd = moments  # the mean, which is two of the norm's results
        if norm.args[1] is not weight or centre not in (norm.outs[1], norm.outs[3]) or rstd is not norm.outs[4]:
            return
        op = Op("relu+" + row.op.name, row.op.function, network, run=EndedBackward([choice, row]),
                kernel=Kernel("normalize:standardize_backward"))  # fmt: skip
        self.made[row] = replace(row, op=op, args=(sent, image, weight, *moments, norm.args[2]),
                                 static={**row.static, "relu": True})  # fmt: skip
        self.gone.add(choice)
        if self.readers[mask] == [choice] and mask not in self.finals:
            self.gone.add(test)


def _is_zero(value):
    if type(value) is Value:
        return value.kind == "constant" and value.size == 1 and value.held.item() == 0
    return type(value) in (int, float) and value == 0
