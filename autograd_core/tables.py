"""Tables: a recurrent layer whose input is rows of an embedding works on the table, each of whose rows it meets once.

The input's share of the gates is a product with each row that is looked up. Where letters are more than the alphabet
has, it is less work to multiply the table and look up the products; and in backward, to add up the gates' gradients of
equal letters before they meet the weights and the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .kernels import recurrent
from .kernels.plan import Array, Plan, execute
from .program import Instruction, Program, Value
from .registry import Kernel, Op, network
from .shapes import ndarray

LAYERS = {"lstm_layer": "lstm", "gru_layer": "gru", "rnn_layer": "rnn"}
BACKWARDS = {"lstm_backward": "lstm_backward", "gru_backward": "gru_backward", "rnn_backward": "rnn_backward"}
"""Layers and their gradients, with the names of their planners."""

LEAST = 2
"""How many times more rows must be looked up than the table has."""


@dataclass(eq=False)
class Tabled:
    """A layer or its gradient, of (table, its other operands..., indices); ``members`` are what it stands for.

    ``steps_first``: whether the indices are (T, B), not (B, T).
    """

    members: list[Instruction]
    looked_up: Instruction
    steps_first: bool
    settings: dict[str, Any]

    @property
    def layer(self) -> Instruction:
        """The layer, or its gradient."""
        return self.members[0]

    @property
    def flops(self) -> int:
        """Operations of its products: the input's with the rows of the table, the hidden state's with all steps."""
        first = 3 if self.layer.op.name.startswith("lstm") else 2
        own, recurrent_weight = self.layer.args[first : first + 2]
        indices, table = self.looked_up.args
        once = 2 * table.shape[0] * own.size + 2 * indices.size * recurrent_weight.size
        return 2 * once if self.layer.op.name in BACKWARDS else once

    def plan(self, given: list[Array | None]) -> Plan | None:
        """The plan for operands of these descriptions."""
        planner: Callable[..., Plan | None] = getattr(recurrent, (LAYERS | BACKWARDS)[self.layer.op.name])
        *others, indices = given
        if indices is None:
            return None
        if not self.steps_first:
            indices = Array(indices.shape[::-1], indices.strides[::-1], indices.dtype)
        return planner(*others, indices, **self.layer.static, **self.settings)

    def __call__(self, *operands):
        """Run on arrays; the rows are looked up first where no kernel serves them."""
        if all([a is None or type(a) is ndarray for a in operands]):
            found = execute(lambda *arrays: self.plan(list(arrays)), operands)
            if found is not NotImplemented:
                return found
        return self.rows_first(*operands)

    def rows_first(self, table, *given):
        """As it was recorded: the rows are looked up, and the layer works on them."""
        *others, indices = given
        rows = self.looked_up.op.run(indices, table, **self.looked_up.static)
        rows = rows if self.steps_first else rows.swapaxes(0, 1)
        found = list(self.layer.op.run(rows, *others, **self.layer.static))
        if len(self.members) > 1:
            back = self.members[-1]
            found[0] = back.op.run(found[0] if self.steps_first else found[0].swapaxes(0, 1), indices, **back.static)
        return tuple(found)


def work_on_tables(program: Program) -> None:
    """Let recurrent layers, and their gradients, work on the tables that their inputs are rows of."""
    makers = program.makers()
    readers: dict[Value, list[Instruction]] = {}
    for row in program.instructions:
        for value in dict.fromkeys(row.operands):
            readers.setdefault(value, []).append(row)
    finals = set(program.finals)
    placed: dict[Instruction, list[Instruction]] = {}
    for row in program.instructions:
        if row.op.name not in (*LAYERS, *BACKWARDS) or row.runtime or not _is_served(row):
            continue
        source = _rows_of(row.args[0], makers)
        if source is None:
            continue
        looked_up, steps_first = source
        sent = _sent(row, looked_up, steps_first, readers, finals) if row.op.name in BACKWARDS else [row]
        if sent:
            placed |= {one: [] for one in sent} | {sent[-1]: [_instruction(sent, looked_up, steps_first)]}
    program.instructions = [one for row in program.instructions for one in placed.get(row, [row])]


def _rows_of(value, makers):
    """(the instruction that looks the rows up, whether as (T, B)) of an input; None where it is anything else."""
    row, steps_first = makers.get(value), True
    if row is not None and _is_exchange(row):
        row, steps_first = makers.get(row.args[0]), False
    if row is None or row.op.name != "lookup" or row.static["scale_grad_by_freq"]:
        return None
    indices, table = row.args
    if type(indices) is not Value or type(table) is not Value or len(indices.shape) != 2 or 0 in indices.shape:
        return None
    return (row, steps_first) if indices.size >= LEAST * table.shape[0] else None


def _is_served(row):
    """Whether there are kernels for a layer's dtype, and it projects nothing."""
    return (type(row.args[0]) is Value and row.args[0].dtype.char in "fd"
            and not (row.op.name.startswith("lstm") and row.args[7] is not None))  # fmt: skip


def _is_exchange(row):
    """Whether an instruction exchanges time and batch."""
    return (row.op.name == "transpose" and len(row.out.shape) == 3 and not row.runtime
            and {row.static["dim0"] % 3, row.static["dim1"] % 3} == {0, 1})  # fmt: skip


def _sent(row, looked_up, steps_first, readers, finals):
    """A backward and what its input's gradient goes through to the table; empty where others read it, too."""
    members, value = [row], row.outs[0]
    while value is not None:
        if value in finals or len(readers.get(value, ())) != 1:
            return []
        (row,) = readers[value]
        members.append(row)
        if row.op.name == "embedding_backward":
            same = row.args == (value, looked_up.args[0]) and row.static["rows"] == looked_up.args[1].shape[0]
            fits = len(members) == 2 + (not steps_first) and not row.static["scale_grad_by_freq"]
            return members if same and fits else []
        if steps_first or len(members) > 2 or not _is_exchange(row):
            return []
        value = row.out
    return members


def _instruction(members, looked_up, steps_first):
    indices, table = looked_up.args
    layer, place = members[0], len(members[0].args)
    backward = layer.op.name in BACKWARDS
    run = Tabled(members, looked_up, steps_first, {"padding_idx": looked_up.static["padding_idx"]} if backward else {})
    kernel = None if backward else Kernel(  # backward relies on what the forward has looked at
        "", when=lambda *given, **_: _rows_exist(given[place], given[0]),
        indices=lambda *given, **_: (place, given[0].shape[0], 0))  # fmt: skip
    name = "+".join(["lookup", *[row.op.name for row in members if row.alias is None]])
    op = Op(name, run.rows_first, network, run=run, kernel=kernel)
    outs = (members[-1].outs[0], *layer.outs[1:])
    return Instruction(op, (table, *layer.args[1:], indices), {}, outs, scope=layer.scope, site=layer.site)


def _rows_exist(indices, table):
    return indices.size > 0 and indices.min() >= 0 and indices.max() < len(table)
