"""What the user called things: the variables to which results were assigned, read from the code that ran."""

from __future__ import annotations

import dis
import os
import sys
from functools import cache, lru_cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

from .. import ops, provenance, registry
from ..registry import OPS

_OPS, _REGISTRY = os.path.dirname(ops.__file__) + os.sep, registry.__file__


class Target(NamedTuple):
    """Where a statement stores something: a variable, then attributes and keys of what it holds.

    A part of ``path`` is (True, name) for an attribute, (False, expression) for a key: a constant or a `Target`.
    """

    name: str
    path: tuple[tuple[bool, Any], ...] = ()

    def bound(self, frame: FrameType) -> Target:
        """The target with the keys that the variables of ``frame`` hold now: they may move on."""
        if not any([isinstance(part, Target) for _, part in self.path]):
            return self
        known = frame.f_locals
        return Target(self.name, tuple([(attribute, part.found_in(known)[1] if isinstance(part, Target) else part)
                                        for attribute, part in self.path]))  # fmt: skip

    def found_in(self, variables: dict[str, Any]) -> tuple[str, Any]:
        """Its text and what it holds now; nothing that was written by a user runs for that."""
        text, value = self.name, variables.get(self.name)
        for is_attribute, key in self.path:
            text = f"{text}.{key}" if is_attribute else f"{text}[{key!r}]"
            held = getattr(value, "__dict__", {}) if is_attribute else value
            if type(held) is dict and type(key) in (str, int, bool):
                value = held.get(key)
            elif type(held) is list and type(key) is int and -len(held) <= key < len(held):
                value = held[key]
            else:
                return text, None
        return text, value


class Assignment(NamedTuple):
    """The targets of a statement behind one of its calls, and the offset of the last instruction that stores."""

    targets: tuple[Target, ...]
    end: int


_LOADS = ("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")
_LOADS_OF_TWO = ("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW")
_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")
_PASSED_OVER = ("CACHE", "NOP", "COPY", "EXTENDED_ARG", "SWAP", "UNPACK_SEQUENCE", "UNPACK_EX", "LIST_TO_TUPLE")
_ENDS = ("POP_TOP", "RETURN", "JUMP", "POP_JUMP", "YIELD", "RAISE")

_of_code: dict[CodeType, dict[int, Assignment]] = {}


def assignment_after(place) -> Assignment | None:
    """What the statement at a site stores into behind the call there: ``h, self.c = cell(x)`` into two."""
    code, offset = place
    found = _of_code.get(code)
    if found is None:
        steps = list(dis.get_instructions(code))
        ends = [step.offset for step in steps[1:]] + [len(code.co_code)]
        found = _of_code[code] = {}
        for i, (step, end) in enumerate(zip(steps, ends, strict=True)):
            if made := stores_after(steps, i):  # a frame that calls may stand in the caches behind its instruction
                found |= dict.fromkeys(range(step.offset, end, 2), made)
    return found.get(offset)


def stores_after(steps, position) -> Assignment | None:
    """The stores of the statement behind an instruction; what else it computes before that does not matter."""
    targets: list[Target] = []
    loaded: list[Any] = []  # targets and constants on the stack, as far as they are known
    line = end = None
    for step in steps[position + 1 :]:
        name, value = step.opname, step.argval
        if line is not None and step.positions.lineno != line:
            break
        if name in _LOADS or name in _LOADS_OF_TWO:
            loaded += [Target(n) for n in ((value,) if name in _LOADS else value)]
            continue
        if name == "LOAD_CONST":
            loaded.append(value)
            continue
        if name == "LOAD_ATTR" and loaded and isinstance(loaded[-1], Target):
            loaded[-1] = Target(loaded[-1].name, (*loaded[-1].path, (True, value)))
            continue
        made = _stored(name, value, loaded)
        if made:
            targets, line, end = [*targets, *made], step.positions.lineno, step.offset
            loaded = [Target(value[1])] if name == "STORE_FAST_LOAD_FAST" else []
        elif name not in _PASSED_OVER:
            if targets or name.startswith(_ENDS):
                break
            loaded = []
    return Assignment(tuple(targets), end) if end is not None else None


def _stored(name, value, loaded) -> list[Target]:
    """Into what an instruction stores."""
    if name in _STORES:
        return [Target(value)]
    if name == "STORE_FAST_STORE_FAST":
        return [Target(n) for n in value]
    if name == "STORE_FAST_LOAD_FAST":
        return [Target(value[0])]
    if name == "STORE_ATTR" and loaded and isinstance(loaded[-1], Target):
        return [Target(loaded[-1].name, (*loaded[-1].path, (True, value)))]
    if name == "STORE_SUBSCR" and len(loaded) > 1 and isinstance(loaded[-2], Target):
        return [Target(loaded[-2].name, (*loaded[-2].path, (False, loaded[-1])))]
    return []


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
        elif inside and code.co_filename != _REGISTRY:  # which makes functions when they are first called
            return None
        frame = frame.f_back
    return None


def callers(depth: int) -> list[CodeType]:
    """What stands on the stack above ``depth``, as far as a public function of `ops` may be: cheap, for `public_in`."""
    frame: FrameType | None = sys._getframe(depth)
    found: list[CodeType] = []
    while frame is not None and len(found) < 5:
        found.append(frame.f_code)
        frame = frame.f_back
    return found


def public_in(codes: list[CodeType]) -> str | None:
    """The innermost public function of `ops` among ``codes``."""
    ours = [c.co_name for c in codes if c.co_filename.startswith((_OPS, provenance.GENERATED))]
    known = {"get_item": "getitem", "set_item": "setitem"} | {name: name for name in _public_names()}
    return next((known[name] for name in ours if name in known), None)


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
