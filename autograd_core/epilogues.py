"""Epilogues: what is done to each element of a product is done while its tile is still in registers.

A product whose result has one reader takes that in: a scaling by a constant, the addition of a bias or of another
array, an activation, in this order. What follows the activation is left to elementwise fusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .kernels import conv, gemm
from .kernels.plan import Array, Plan, execute
from .program import Instruction, Program, Value
from .registry import Op, contraction

PRODUCTS = ("linear", "matmul", "mm", "bmm")
CONVOLUTION = "convolution"
ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "exp": "exp"}
"""Operations that a product may end with, by the names that kernels have for them."""


@dataclass(eq=False)
class Ended:
    """A product with its epilogue: ``activation(alpha * product + bias + residual)``."""

    members: list[Instruction]
    operands: list[Value | None]  # of the product: two arrays and a bias; then a residual
    alpha: float = 1.0
    activation: str = ""

    @property
    def product(self) -> Instruction:
        """The instruction that it begins with."""
        return self.members[0]

    def plan(self, given: list[Array | None]) -> Plan | None:
        """The plan for operands of these descriptions."""
        a, b, bias, residual = given
        if a is None or b is None:
            return None
        if self.product.op.name == CONVOLUTION:
            return conv.plan_convolution(a, b, bias, **self.product.static, ending=self.activation)
        if self.product.op.name == "linear":
            b = Array(b.shape[::-1], b.strides[::-1], b.dtype)
        return gemm.gemm_in_order(a, b, bias, residual, alpha=self.alpha, activation=self.activation)

    def __call__(self, *operands):
        """Run on arrays; one instruction after the other where no kernel serves them."""
        given = dict(zip(self.operands, operands, strict=True))
        if all([a is None or type(a) is np.ndarray for a in operands]):
            found = execute(lambda *arrays: self.plan(list(arrays)), operands)
            if found is not NotImplemented:
                return found
        known: dict[Any, Any] = {v: a for v, a in given.items() if v is not None}
        for row in self.members:
            arrays = [known.get(a, a.array) if type(a) is Value else a for a in row.args]
            known[row.out] = np.asarray(row.op.run(*arrays, **row.static))
        return known[self.members[-1].out]


def end_products(program: Program) -> None:
    """Let products take in what alone reads them."""
    readers: dict[Value, list[Instruction]] = {}
    for row in program.instructions:
        for value in dict.fromkeys(row.operands):
            readers.setdefault(value, []).append(row)
    finals, place = set(program.finals), {row: at for at, row in enumerate(program.instructions)}
    gone: set[Instruction] = set()
    made: dict[int, Instruction] = {}  # by the position of the last member
    for row in program.instructions:
        if not _is_product(row):
            continue
        ended = Ended([row], [*row.args, *[None] * (4 - len(row.args))])
        while ended.members[-1].out not in finals and len(readers.get(ended.members[-1].out, ())) == 1:
            (follower,) = readers[ended.members[-1].out]
            if follower in gone or not _take_in(ended, follower):
                break
            ended.members.append(follower)
        if len(ended.members) > 1:
            gone.update(ended.members)
            made[place[ended.members[-1]]] = _instruction(ended)
    program.instructions = [made.get(at, row) for at, row in enumerate(program.instructions)
                            if row not in gone or at in made]  # fmt: skip


def _is_product(row):
    if row.op.name not in (*PRODUCTS, CONVOLUTION) or len(row.outs) != 1 or row.runtime:
        return False
    arrays = [a for a in row.args if a is not None]
    if not all([type(a) is Value and a.dtype == row.out.dtype for a in arrays]) or row.out.dtype.char not in "fd":
        return False
    return 0 not in row.out.shape and (row.op.name != "linear" or len(row.args[1].shape) == 2)


def _take_in(ended, follower):
    """Whether the epilogue can be longer by an instruction; if so, it is."""
    before, name = ended.members[-1].out, follower.op.name
    if len(follower.outs) != 1 or follower.out.shape != before.shape or follower.out.dtype != before.dtype:
        return False
    if follower.runtime or ended.activation:
        return False
    if name in ACTIVATIONS and follower.args == (before,):
        if ended.product.op.name == CONVOLUTION and name != "relu":
            return False
        ended.activation = ACTIVATIONS[name]
        return True
    if ended.product.op.name == CONVOLUTION or len(follower.args) < 2 or follower.args[0] is follower.args[1]:
        return False
    other = follower.args[1] if follower.args[0] is before else follower.args[0]
    if name == "mul" and ended.operands[2] is None and ended.operands[3] is None:
        return _scale(ended, other)
    if name == "add" and follower.static.get("alpha", 1) == 1 and len(follower.args) == 2:
        return _add(ended, other)
    return False


def _scale(ended, other):
    if type(other) is Value and other.kind == "constant" and not other.shape and other.dtype.kind == "f":
        other = other.held.item()
    if type(other) not in (float, int):
        return False
    ended.alpha *= other
    return True


def _add(ended, other):
    if type(other) is not Value or other.dtype != ended.product.out.dtype:
        return False
    if 1 in other.shape and other.size > 1:  # a column: gemm adds rows
        return False
    slot = next((i for i in (2, 3) if ended.operands[i] is None), None)
    if slot is None:
        return False
    ended.operands[slot] = other
    return True


def _instruction(ended):
    last = ended.members[-1]
    name = "+".join([row.op.name for row in ended.members])
    op = Op(name, ended, contraction, run=ended)
    return Instruction(op, tuple(ended.operands), {}, (last.out,), scope=ended.product.scope, site=ended.product.site)
