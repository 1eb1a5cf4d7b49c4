"""What is written out for each record: the door of its Tensors.

A door is `apply` for one record and its number of arguments: the text below, filled in with what the record knows and
compiled when the operation is first used. Where `apply` changes, so does the text.
"""

from __future__ import annotations

import numpy as np

from . import provenance
from .bodies import fused_from
from .errors import EXPLAINED, explain
from .modes import QUIET, quiet, state
from .shapes import broadcast_nbytes, ndarray, promote, promote_to_float
from .tensor import Tensor, link_view, new_node, several

# ---------------------------------------------------------------------------------------------------- doors


def _steps(record, arrays, static):
    """Arrays as the body wants them, and what it makes of them."""
    arrays = record.promote(arrays)
    return arrays, record.run(*arrays, **static)


DOOR = """
def {name}(static, {xs}):
    here = state.__dict__
    lifted = {any_tensor}
    if lifted and here["watch"] is not None:
        return here["watch"].call(record, ({xs}), static)
    mask = 0
{unwrap}
    if not lifted and type(x0) is not ndarray:
        record.check_given(({xs}))
{track}
    try:
{prepare}
        if {ready}:
            work = {work}
            result = {call}
        else:
            arrays = [{arrays}]
            ({arrays}), result = (steps(record, arrays, static) if quiet() is QUIET else
                                  here["quietly"](steps, record, arrays, static))
    except EXPLAINED as error:
        if not lifted:
            raise
        raise explain(error, record, ({xs}), static)
    if type(result) is not ndarray:
        if type(result) is tuple:
            return several(record, ({xs}), static, ({arrays}), mask, result, lifted)
        if lifted:
            result = asarray(result)
    if not lifted:
        return result
    out = new(Tensor)
    out.array = result
    if mask and result.dtype.kind == "f":
        try:
            plan = record.plans[mask, {count}]
        except KeyError:
            plan = record.plan(mask, {count})
        if plan.rules:
            edges, save = plan.edges, plan.save
            out.node = new_node(record, static, plan, edges(({xs})), save(({arrays}), (result,)) if plan.keep else (),
                                ((result.shape, result.dtype),), site(3), here["scope"])
            out.tracks = True
{view}
    return out
"""

UNWRAP = """
    if isinstance({x}, Tensor):
        if {x}.base is not None and {x}.edition != {x}.base.edition:
            {x}._refresh()
        {a} = {x}.array
        if {x}.tracks:
            mask |= {bit}
    else:
        {a} = float({x}) if lifted and type({x}) is float64 else {x}
"""

_SPACE = {
    "state": state, "Tensor": Tensor, "EXPLAINED": EXPLAINED, "explain": explain, "quiet": quiet,
    "QUIET": QUIET, "several": several, "new_node": new_node, "new": object.__new__, "site": provenance.site,
    "link_view": link_view, "ndarray": ndarray, "float64": np.float64, "asarray": np.asarray, "steps": _steps,
    "broadcast_nbytes": broadcast_nbytes,
    "SINGLE": np.dtype(np.float32), "DOUBLE": np.dtype(np.float64), "WEAK": frozenset((float, int, bool, type(None))),
}  # fmt: skip


def door(record):
    """`apply` for one record, written out."""
    count, kernel = len(record.parameters), record.kernel
    xs, arrays = ("".join([f"{letter}{i}, " for i in range(count)]) for letter in "xa")
    track, work = "    if mask and not here['grad']:\n        mask = 0", "body"
    if record.vjp is None:
        track = "    mask = 0"
    elif record.composite is not None and record.vjp == ():
        track = f"    if mask and here['grad']:\n        return record.composite({xs}**static)\n    mask = 0"
    if kernel is not None:
        more = f" or {kernel.small.format(*[f'a{i}' for i in range(count)])}" if kernel.small else ""
        work = f"body if type(a{kernel.by}) is ndarray and (a{kernel.by}.size < {kernel.above}{more}) else record.run"
    elif record.scalar is not None:
        above = fused_from(record)
        small = " and ".join([f"(type(a{i}) is not ndarray or a{i}.nbytes < {above})" for i in range(count)])
        if count == 2:  # of two that are not large, a row and a column may make a large table
            both = "type(a0) is ndarray is type(a1)"
            small = (f"({both} and a0.size * a1.size < {above // 8}) or ({small} and (not ({both}) or "
                     f"a0.shape == a1.shape or broadcast_nbytes([a0, a1]) < {above}))")  # fmt: skip
        work = f"body if {small} else record.run"
    given = arrays + ("**static" if record.prepare else "".join([f"{k}=static[{k!r}], " for k in record.settings]))
    call = f"work({given})"
    if not record.view:  # which works nothing out
        call += f" if quiet() is QUIET else here['quietly'](work, {given})"
    text = DOOR.format(
        name=record.name, xs=xs, arrays=arrays, count=count, track=track, ready=_ready(record), work=work, call=call,
        any_tensor=" or ".join([f"isinstance(x{i}, Tensor)" for i in range(count)]),
        unwrap="".join([UNWRAP.format(x=f"x{i}", a=f"a{i}", bit=1 << i) for i in range(count)]),
        prepare=f"        static = record.prepare([{arrays}], static)" if record.prepare else "",
        view=f"    link_view(out, x0, record, ({xs}), static)" if record.view else "",
    )  # fmt: skip
    space = {**_SPACE, "record": record, "body": record.function}
    code = compile(text, f"{provenance.GENERATED}{record.qualified}>", "exec")
    exec(code, space)  # noqa: S102 (as in `compiled`)
    return space[record.name]


def _ready(record):
    """The text of: settings and arrays are what the body asks for already."""
    if record.promote not in (None, promote, promote_to_float):
        return "False"
    if record.promote is None:
        return "True"
    others = "".join([f" and (type(a{i}) is ndarray and a{i}.dtype is kind or type(a{i}) in WEAK)"
                      for i in range(1, len(record.parameters))])  # fmt: skip
    return f"type(a0) is ndarray and ((kind := a0.dtype) is SINGLE or kind is DOUBLE){others}"


def compiled(text, **names):
    """The value of an expression in which ``names`` are known."""
    code = compile(text, f"{provenance.GENERATED}rules>", "eval")  # not the user's code, where places are concerned
    return eval(code, names)  # noqa: S307 (the text holds parameter names of our own records alone)
