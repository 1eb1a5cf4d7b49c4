"""``ag.leaks``: which live reference keeps which graph alive, and the line that made it.

A graph lives as long as somebody holds a tensor (or node) of it. Who that is, Python's collector knows: from each
tensor that is the end of a graph we walk up through what refers to it, to a variable of a function or a module.
"""

from __future__ import annotations

import gc
import re
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from types import CellType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType, TracebackType
from typing import Any

import numpy as np

from .. import provenance
from ..tensor import Node, Tensor

DEPTH = 8
"""References that are followed up from a tensor."""

SHOWN = 10
"""Graphs that the text lists."""


@dataclass(eq=False)
class Held:
    """One graph that is alive: its newest tensor, who holds that, and what it costs.

    ``references``: who holds it, as ``the global losses[3] of __main__``; ``place``: the user's line that made it.
    """

    end: weakref.ref
    op: str
    type: str
    nodes: int
    bytes: int
    place: str
    scope: str
    references: list[str] = field(default_factory=list)

    @property
    def tensor(self) -> Any:
        """The tensor (or node) itself, while it lives: the report does not keep it alive."""
        return self.end()

    def __str__(self):
        size = (
            f"{self.nodes} operations, {_bytes(self.bytes)} saved" if self.bytes else f"{self.nodes} operations, freed"
        )
        inside = f" in module {self.scope}" if self.scope else ""
        lines = [f"{self.op} {self.type}: {size}", f"    made{inside} at {self.place or 'an unknown place'}"]
        lines += [f"    held by {reference}" for reference in self.references] or ["    held by code outside of Python"]
        return "\n".join(lines)


class Leaks(list):
    """What `leaks` found: `Held` graphs, the one that costs most first."""

    def __str__(self):
        if not self:
            return "no graph is alive"
        nodes, size = sum(held.nodes for held in self), sum(held.bytes for held in self)
        count = "1 graph is" if len(self) == 1 else f"{len(self)} graphs are"
        lines = [f"{count} alive: {nodes} operations, {_bytes(size)} saved for backward"]
        alike: dict[tuple, list[Held]] = {}
        for held in self:
            alike.setdefault((held.place, held.type, *map(_owner, held.references)), []).append(held)
        for group in list(alike.values())[:SHOWN]:
            lines.append(f"  {group[0]}")
            if len(group) > 1:
                others = [reference for held in group[1:] for reference in held.references]
                lines.append(
                    f"    and {len(group) - 1} more like it, up to {others[-1] if others else group[-1].place}"
                )
        if len(alike) > SHOWN:
            lines.append(f"  and {sum(map(len, list(alike.values())[SHOWN:]))} more")
        lines += [f"  hint: {hint}" for hint in self.hints()]
        return "\n".join(lines)

    __repr__ = __str__

    def hints(self) -> list[str]:
        """What to do about graphs that pile up."""
        by_owner: dict[tuple[str, str], int] = {}
        for held in self:
            for reference in held.references:
                owner = _owner(reference)
                by_owner[owner, held.place] = by_owner.get((owner, held.place), 0) + 1
        found = [f"{owner} holds {count} graphs made by one line: keep loss.item() or loss.detach() instead"
                 for (owner, _), count in by_owner.items() if count > 3]  # fmt: skip
        longest = max(self, key=lambda held: held.nodes, default=None)
        if longest is not None and longest.nodes > 1000:
            found.append(f"the longest graph has {longest.nodes} operations: a value that is carried from step to step "
                         "needs detach()")  # fmt: skip
        return found


def _owner(reference):
    """A reference without the number of the entry."""
    return re.sub(r"\[\d+\]", "", reference)


def _bytes(count):
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count} B"
        count /= 1000
    return f"{count:.3g} GB"


def leaks(*, minimum: int = 0) -> Leaks:
    """Every graph that is alive now: who holds it, which line made it, how much memory it keeps.

        print(ag.leaks())

    A graph is listed by its newest tensors, those from which no other live tensor was made. Call it where no graph
    should be left, such as between two steps. ``minimum``: bytes below which a graph is left out. Garbage that waits
    for the collector is collected first.
    """
    gc.collect()
    everything = gc.get_objects()
    tensors = [o for o in everything if issubclass(type(o), Tensor) and o.node is not None]  # proxies may be dead
    nodes = [o for o in everything if type(o) is Node]
    alive = {id(o) for o in everything} - {id(everything)}
    del everything
    found, inner = [], _inner(tensors, nodes)
    ends: list[Any] = [t for t in tensors if t.node not in inner]
    ended = {t.node for t in ends}
    ends += [n for n in nodes if n not in inner and n not in ended]
    paths = _Paths(ends, alive)
    for end in ends:
        node = end if type(end) is Node else end.node
        count, size = _cost(node)
        if size >= minimum:
            shape, dtype = node.meta[end.index if isinstance(end, Tensor) else 0] or ((), "")
            kind = f"{np.dtype(dtype).name if dtype else ''}{list(shape)}"
            found.append(Held(weakref.ref(end), node.op.name, kind, count, size,
                              provenance.describe(node.site), str(node.scope or ""), paths.of(end)))  # fmt: skip
    return Leaks(sorted(found, key=lambda held: (-held.bytes, -held.nodes)))


def _inner(tensors, nodes):
    """The nodes from which another live tensor, or node, was made."""
    found = set()
    for node in nodes:
        found.update([parent for parent, _ in node.edges if type(parent) is Node])
    return found


def _cost(node) -> tuple[int, int]:
    """(operations, bytes that they have saved) of the graph behind a node; memory that is saved twice counts once."""
    seen, stack, owners = {node}, [node], {}
    while stack:
        node = stack.pop()
        for value in node.saved or ():
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, np.ndarray):
                    owners[array.__array_interface__["data"][0]] = array.nbytes
        for parent, _ in node.edges:
            if type(parent) is Node and parent not in seen:
                seen.add(parent)
                stack.append(parent)
            elif isinstance(parent, Tensor):
                owners.setdefault(parent.array.__array_interface__["data"][0], 0)
    return len(seen), sum(owners.values())


# ---------------------------------------------------------------------------------------------------- references


class _Paths:
    """Names for who refers to objects, worked out for all of them together, one level of references at a time.

    ``alive``: ids of the objects that there were before: what has come since is our own.
    """

    def __init__(self, ends: list, alive: set[int]):
        self.locals, self.alive = _local_variables(), alive
        self.parents: dict[int, list[Any]] = {}
        level = list(ends)
        for _ in range(DEPTH):
            level = self._climb(level)
            if not level:
                break

    def _climb(self, level):
        wanted = {id(o): o for o in level if not _is_top(o) and id(o) not in self.parents}
        for key in wanted:
            self.parents[key] = []
        found = {}
        for holder in _referrers(wanted):
            if id(holder) not in self.alive:
                continue
            for held in gc.get_referents(holder):
                if id(held) in wanted:
                    known = self.parents[id(held)]
                    if not any(holder is k for k in known):
                        known.append(holder)
            found[id(holder)] = holder
        return list(found.values())

    def of(self, thing) -> list[str]:
        """Who holds ``thing``, as text."""
        return [name.replace("\0", "") for name in dict.fromkeys(self._names(thing, DEPTH, set()))]

    def _names(self, thing, depth, seen) -> list[str]:
        found = list(self.locals.get(id(thing), ()))
        if depth == 0 or id(thing) in seen:
            return found
        seen = seen | {id(thing)}
        for holder in self.parents.get(id(thing), ()):
            found += self._through(holder, thing, depth - 1, seen)
        return found

    def _through(self, holder, thing, depth, seen) -> list[str]:
        if isinstance(holder, dict):
            return self._in_dict(holder, thing, depth, seen)
        if isinstance(holder, (list, tuple)):
            part = next((f"[{i}]" for i, v in enumerate(holder) if v is thing), "[...]")
            return [_extended(name, part) for name in self._owners(holder, depth, seen)]
        if isinstance(holder, CellType):
            return [self._of_cell(up, holder) for up in self.parents.get(id(holder), ()) for up in _functions(up)]
        if isinstance(holder, FunctionType):
            return [f"the function {holder.__qualname__} ({_file(holder.__code__)})"]
        if isinstance(holder, MethodType):
            return self._owners(holder, depth, seen) or [f"the method {holder.__qualname__}"]
        if isinstance(holder, FrameType):
            return [_variable(holder, thing)]
        if isinstance(holder, TracebackType):
            return ["the traceback of an error (sys.last_traceback, or an exception that is kept)"]
        if isinstance(holder, GeneratorType):
            return [f"the generator {holder.__qualname__}, which is not finished ({_file(holder.gi_code)})"]
        if type(holder) is Node:
            return [f"the saved values of {holder.where()}"]
        names = [name for name, value in _attributes(holder) if value is thing]
        part = f".{names[0]}" if names else ""
        owners = self._owners(holder, depth, seen)
        return [_extended(owner, part) for owner in owners]

    def _owners(self, thing, depth, seen):
        return self._names(thing, depth, seen) or [_article(type(thing).__name__)]

    def _in_dict(self, holder, thing, depth, seen):
        key = next((k for k, v in holder.items() if v is thing), "...")
        for up in self.parents.get(id(holder), ()):
            if isinstance(up, ModuleType):
                return [f"the global {key}\0 of {up.__name__}"]
            if getattr(up, "__dict__", None) is holder:
                named = self._owners(up, depth - 1, seen)
                return [_extended(name, f".{key}") for name in named]
        if holder.get("__name__") and "__builtins__" in holder:
            return [f"the global {key}\0 of {holder['__name__']}"]
        return [_extended(name, f"[{key!r}]") for name in self._owners(holder, depth, seen)]

    @staticmethod
    def _of_cell(function, cell):
        names = function.__code__.co_freevars
        name = next((n for n, c in zip(names, function.__closure__ or (), strict=False) if c is cell), "?")
        return f"the variable {name}\0 of a closure, {function.__qualname__} ({_file(function.__code__)})"


FEW = 16
"""Objects that the collector is asked about at once: it compares every reference in the process with each of them."""


def _referrers(wanted: dict[int, Any]) -> list:
    """What refers to any of the objects, which are given by their ids."""
    if len(wanted) <= FEW:
        return gc.get_referrers(*wanted.values()) if wanted else []
    return [o for o in gc.get_objects() if not wanted.keys().isdisjoint(map(id, gc.get_referents(o)))]


def _is_top(thing):
    return isinstance(thing, (ModuleType, FrameType, FunctionType, TracebackType, GeneratorType, type))


def _functions(holder) -> Iterable[FunctionType]:
    """The functions that a tuple of cells belongs to."""
    if isinstance(holder, FunctionType):
        return [holder]
    if isinstance(holder, tuple):
        return [f for f in gc.get_referrers(holder) if isinstance(f, FunctionType) and f.__closure__ is holder]
    return []


def _attributes(thing):
    held = getattr(thing, "__dict__", None)
    yield from held.items() if isinstance(held, dict) else ()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__"):
                yield name, getattr(thing, name, None)


def _extended(name, part):
    """``the list x[3] of f``: the part comes behind the name, which a mark ends."""
    return name.replace("\0", part + "\0", 1) if "\0" in name else name + part


def _article(name):
    return f"a{'n' if name[0].lower() in 'aeiou' else ''} {name}"


def _file(code):
    return f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"


# ---------------------------------------------------------------------------------------------------- frames


def _local_variables() -> dict[int, list[str]]:
    """By id of what they hold: the variables of functions that are running, in all threads."""
    found: dict[int, list[str]] = {}
    for frame in sys._current_frames().values():
        up: FrameType | None = frame
        while up is not None:
            if up.f_code.co_filename != __file__ and up.f_code.co_flags & CO_OPTIMIZED:  # modules are found as such
                for name, value in variables_of(up):
                    found.setdefault(id(value), []).append(_named(up, name))
            up = up.f_back
    del frame, up  # a frame that holds itself would keep everything here until the next collection
    return found


def _named(frame, name):
    code = frame.f_code
    if code.co_name == "<module>":
        return f"the global {name}\0 of {frame.f_globals.get('__name__', '?')}"
    return f"the variable {name}\0 of {code.co_name} ({code.co_filename.rpartition('/')[2]}:{frame.f_lineno})"


def _variable(frame, thing):
    name = next((n for n, v in variables_of(frame) if v is thing), "?")
    return f"{_named(frame, name)}, which has ended but is kept (by an error's traceback)"


def variables_of(frame) -> list[tuple[str, Any]]:
    """Names and values of the variables of a frame, without leaving a copy of them behind.

    Up to Python 3.12, looking at the variables of a running function makes a dict that lives as long as the frame, and
    what it holds with it; it is emptied unless somebody else holds it, too.
    """
    held = frame.f_locals
    pairs = list(held.items())
    if frame.f_code.co_flags & CO_OPTIMIZED and isinstance(held, dict) and sys.getrefcount(held) <= 3:
        held.clear()
    return pairs
