"""Passes: each takes a `Program` and leaves an equal one that costs less. ``PASSES`` lists them in order, by name."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from .modes import QUIET, quiet_off, quiet_on
from .program import CHECK_NAN, COPY, Instruction, Program, Value
from .recomputing import recompute
from .runtime import Number
from .shapes import ndarray

MOST_FOLDED = 1 << 20
"""Bytes up to which the result of constant operands is kept in the program."""


def dead_code(program: Program) -> None:
    """Drop instructions whose results nobody reads."""
    wanted = set(program.finals)
    kept = []
    for row in reversed(program.instructions):
        if any([out in wanted for out in row.results]):
            wanted.update(row.operands)
            kept.append(row)
    program.instructions = kept[::-1]
    for row in program.instructions:
        row.outs = tuple([out if out in wanted else None for out in row.outs])
    program.captured = [value for value in program.captured if value in wanted or _is_written(program, value)]


def _is_written(program, value):
    return any([target is value for target, _ in program.effects])


def constants(program: Program) -> None:
    """Work out once what depends on constants alone."""
    known: dict[Value, Value] = {}
    kept = []
    for row in program.instructions:
        row = _with_operands(row, known)
        size = sum([out.nbytes for out in row.results])
        if (
            row.runtime
            or any([v.kind != "constant" for v in row.operands])
            or size > MOST_FOLDED
            or Number in map(type, row.args)
        ):
            kept.append(row)
            continue
        token = quiet_on(QUIET)
        try:
            found = row.op.run(*[a.array if type(a) is Value else a for a in row.args], **row.static)
        finally:
            quiet_off(token)
        for out, array in zip(row.outs, found if type(found) is tuple else (found,), strict=True):
            if out is not None:
                known[out] = Value("constant", out.shape, out.dtype, array=np.array(array))
    program.instructions = kept
    _rename(program, known)


def common(program: Program) -> None:
    """Merge instructions that do the same to the same operands."""
    known: dict[Value, Value] = {}
    seen: dict[Hashable, Instruction] = {}
    arrays: dict[tuple, Value] = {}
    kept = []
    for row in program.instructions:
        row = _with_operands(row, known)
        row = replace(row, args=tuple([_one_of(a, arrays) for a in row.args]))
        key = _key(row)
        first = seen.get(key) if key is not None else None
        if first is None:
            if key is not None:
                seen[key] = row
            kept.append(row)
            continue
        merged = list(first.outs)
        for number, (out, same) in enumerate(zip(row.outs, first.outs, strict=True)):
            if out is not None and same is None:
                merged[number] = out
            elif out is not None and same is not None:
                known[out] = same
        first.outs = tuple(merged)
    program.instructions = kept
    _rename(program, known)


def _one_of(value, arrays):
    """The first constant of a kind: small equal ones become one."""
    if type(value) is Value and value.kind == "constant" and value.nbytes <= 64:
        return arrays.setdefault((value.shape, value.dtype, value.held.tobytes()), value)
    return value


def _key(row):
    """What two instructions must share to be one; None where that cannot be told."""
    settings = []
    for name, value in row.static.items():
        value = row.runtime.get(name, value)
        if isinstance(value, ndarray):
            return None
        settings.append((name, type(value), repr(value) if type(value) is float else value))
    plain = [(type(a), repr(a)) if type(a) in (float, int, bool) else a for a in row.args]
    key = row.op.name, id(row.op.run), tuple(plain), tuple(settings)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _with_operands(row, known):
    """The instruction with renamed operands."""
    if not any([v in known for v in row.operands]):
        return row
    return replace(row, args=tuple([known.get(a, a) if type(a) is Value else a for a in row.args]))


def _rename(program, known):
    """Renamed values where they are read at the end."""

    def final(value):
        return known.get(value, value) if value is not None else None

    program.outputs = [final(v) for v in program.outputs]
    program.effects = [(target, final(v)) for target, v in program.effects]
    program.gradients = [(leaf, final(v)) for leaf, v in program.gradients]


def safe_effects(program: Program) -> None:
    """Copy what an effect writes where an earlier effect would have changed it."""
    looks: dict[Value, Value] = {}
    for row in program.instructions:
        if row.alias is not None:
            for out in row.results:
                source = row.args[row.alias]
                looks[out] = looks.get(source, source)
    written = {target for target, _ in program.effects}
    made: dict[Value, Value] = {}

    def safe(value):
        if value is None or looks.get(value, value) not in written:
            return value
        if value not in made:
            made[value] = Value("result", value.shape, value.dtype)
            program.instructions.append(Instruction(COPY, (value,), {}, (made[value],)))
        return made[value]

    program.effects = [(target, safe(v)) for target, v in program.effects]
    program.outputs = [safe(v) for v in program.outputs]
    program.gradients = [(leaf, safe(v)) for leaf, v in program.gradients]


def tables(program: Program) -> None:
    """Let recurrent layers multiply an embedding's table, not each row that is looked up in it."""
    from .tables import work_on_tables

    work_on_tables(program)
    dead_code(program)


def layout(program: Program) -> None:
    """Keep images between convolutions with their channels last where that pays."""
    if any([row.op.name == "convolution" for row in program.instructions]):
        from .layouts import choose_layouts

        choose_layouts(program)


def norms(program: Program) -> None:
    """Let batch norms take in the addition of a shortcut and ReLU."""
    if any([row.op.name == "standardize" for row in program.instructions]):
        from .normalizations import end_norms

        end_norms(program)


def epilogues(program: Program) -> None:
    """Let products take in what is done to each of their elements next."""
    from .epilogues import end_products

    end_products(program)


def fusion(program: Program) -> None:
    """Make one loop of every run of elementwise instructions and the reduction that closes it."""
    from .clusters import fuse

    fuse(program)


NATIVE = "native"
"""The name by which native segments are switched off: then every instruction is a line of Python."""

IN_PLACE = "in_place"
"""The name by which writing over memory that nobody reads again is switched off, in native segments."""

PASSES: dict[str, Callable[[Program], None]] = {
    "dead_code": dead_code,
    "constants": constants,
    "common": common,
    "tables": tables,
    "layout": layout,
    "norms": norms,
    "epilogues": epilogues,
    "fusion": fusion,
}
"""Passes that may be switched off, in the order in which they run."""


def check_nan(program: Program) -> None:
    """After each instruction that makes floats, look for NaN among them."""
    rows = []
    for row in program.instructions:
        rows.append(row)
        if row.alias is None:
            rows += [Instruction(CHECK_NAN, (out,), {"row": row}, (), scope=row.scope, site=row.site)
                     for out in row.results if out.dtype.kind == "f"]  # fmt: skip
    program.instructions = rows


CHECKED = "check_nan"
"""The name by which the search for NaN is switched on; each operation is then done by itself."""


def run_passes(program: Program, names: list[str], memory_budget: int | None = None) -> None:
    """Run the passes that are named, checking the program after each; then what every program needs."""
    if CHECKED in names:
        names = [n for n in names if n not in ("fusion", "epilogues", "norms")]
    program.check()
    program.in_place = IN_PLACE in names
    for name, run in PASSES.items():
        if name in names:
            run(program)
            program.check()
    safe_effects(program)
    if "dead_code" in names:
        dead_code(program)
    if memory_budget is not None:
        recompute(program, memory_budget)
    if CHECKED in names:
        check_nan(program)
    program.check()
