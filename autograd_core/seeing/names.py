"""What the user called things: the variables to which results were assigned, read from the code that ran."""

from __future__ import annotations

import dis
import os
import sys
from functools import cache, lru_cache
from types import CodeType, FrameType
from typing import Any

from .. import ops, provenance
from ..registry import OPS

_PASSED_OVER = ("CACHE", "NOP", "COPY", "EXTENDED_ARG", "SWAP")
_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")

_OPS = os.path.dirname(ops.__file__) + os.sep

_of_code: dict[CodeType, dict[int, tuple[str, ...]]] = {}


def assigned_names(place) -> tuple[str, ...]:
    """The variables to which the statement at a site assigns what the call there returns: ``("h", "c")``."""
    code, offset = place
    found = _of_code.get(code)
    if found is None:
        steps = list(dis.get_instructions(code))
        ends = [step.offset for step in steps[1:]] + [len(code.co_code)]
        found = _of_code[code] = {}
        for i, (step, end) in enumerate(zip(steps, ends, strict=True)):
            if names := _stored_after(steps, i):  # a frame that calls may stand in the caches behind its instruction
                found |= dict.fromkeys(range(step.offset, end, 2), names)
    return found.get(offset, ())


def _stored_after(steps, position):
    names: list[str] = []
    missing = 1
    for step in steps[position + 1 :]:
        if step.opname in _PASSED_OVER:
            missing += step.opname == "COPY"
        elif step.opname == "UNPACK_SEQUENCE":
            missing += step.arg - 1
        elif step.opname == "STORE_FAST_STORE_FAST":
            names += step.argval
            missing -= 2
        elif step.opname == "STORE_FAST_LOAD_FAST":
            return (*names, step.argval[0])
        elif step.opname in _STORES:
            names.append(step.argval)
            missing -= 1
        else:
            break
        if missing <= 0:
            break
    return tuple(names)


def users_frame(depth: int = 1) -> FrameType | None:
    """The nearest frame outside this library."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and not provenance.written_by_user(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def name_of(value: Any, frame: FrameType | None) -> str | None:
    """The name of a variable of ``frame`` that holds ``value`` itself; the innermost one counts."""
    if frame is None:
        return None
    for variables in (frame.f_locals, frame.f_globals):
        for name, held in list(variables.items()):
            if held is value and name.isidentifier() and not name.startswith("_"):
                return name
    return None


@cache
def _public_names() -> frozenset[str]:
    return frozenset([record.name for record in OPS.values() if record.namespace != "internal"])


def called(depth: int = 1) -> str | None:
    """The innermost public function of `ops` on the way to an operation, such as ``conv2d``; or None."""
    frame: FrameType | None = sys._getframe(depth)
    inside = False
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith((_OPS, provenance.GENERATED)):
            inside = True
            if code.co_name in ("get_item", "set_item"):
                return code.co_name.replace("_", "")
            if code.co_name in _public_names():
                return code.co_name
        elif inside:
            return None
        frame = frame.f_back
    return None


@lru_cache(1 << 16)
def source(place) -> dict[str, Any]:
    """A site as data: file (relative to the current folder where it lies below it), line, function, text."""
    import linecache

    code, line = place[0], provenance.line_of(place)
    file = code.co_filename
    if file.startswith(os.getcwd() + os.sep):
        file = os.path.relpath(file)
    text = linecache.getline(code.co_filename, line or 0).strip()
    return {"file": file, "line": line, "function": code.co_name, "text": text}
