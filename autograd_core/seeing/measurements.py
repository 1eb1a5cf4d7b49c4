"""The bare facts that a profile notes while a block runs, and the events that are made of them when somebody looks.

What is noted is a tuple: the function that makes events of it, and what that function asks for. Of an array it holds
shape, dtype and the id of the memory that it lies in, never the array; of a node its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from ..modes import BackwardScope, state
from ..provenance import site
from ..registry import FAMILIES, Family
from ..shapes import ndarray
from ..tensor import Node, Tensor
from .events import BACKWARD, FORWARD, Event
from .names import callers, public_in
from .work import backward_flops, flops


class Named:
    """Stands for the record of something that has none."""

    hidden = ()
    namespace = ""

    def __init__(self, name: str, family: str) -> None:
        self.name, self.family = name, FAMILIES.get(family) or Family(family)


# ---------------------------------------------------------------------------------------------------- noting

NUMBER, ABSENT = ((), None, 0, -1), (None, None, 0, -1)
"""Arguments without memory. Facts of an argument: shape, dtype, memory, the number of the node that made it (0: none
did, it is the user's; -1: it is no Tensor)."""


def noting(append: Callable, remember: Callable) -> Callable:
    """What notes a call of an operation: ``note(op, args, static, result, start, stop, peak)``."""
    here = state.__dict__

    def note(op, args, static, result, start, stop, peak):
        memory: Any
        given: list[tuple] = []
        for arg in args:
            if isinstance(arg, Tensor):
                array, node = arg.array, arg.node
                base = array.base
                given.append((array.shape, array.dtype, id(array if base is None else base),
                              0 if node is None else node.number))  # fmt: skip
            elif isinstance(arg, ndarray):
                given.append((arg.shape, arg.dtype, id(arg if arg.base is None else arg.base), -1))
            else:
                given.append(ABSENT if arg is None else NUMBER)
        if isinstance(result, Tensor):
            node, array = result.node, result.array
            base = array.base
            memory = id(array if base is None else base)
            kinds = ((array.shape, array.dtype),) if node is None else node.meta
        else:
            node, kinds, memory = _several(result)
        scope = here["scope"]
        above = callers(4) if op.namespace == "internal" else None
        if node is None or type(scope) is BackwardScope:
            place = site(5) if type(scope) is not BackwardScope else _place(scope)
            append((_of_call, op, above, static, scope, place, start, stop, given, kinds, memory, None, 0, 0, peak))
        else:
            remember(node.number)
            append((_of_call, op, above, static, scope, node.site, start, stop, given, kinds, memory, node.plan,
                    node.number, _hidden(node) if op.hidden else 0, peak))  # fmt: skip

    return note


def meeting(append: Callable, known: set[int]) -> Callable:
    """What notes that backward has come to a node; of one that was made inside, the number says all."""

    def meet(node, slots, since, until, peak=None):
        if len(slots) == 1:
            array = slots[0]
            base = array.base
            memory: Any = id(array if base is None else base)
        else:
            memory = memory_of(slots)
        number = node.number
        if number in known:
            append((_of_gradient, number, memory, since, until, peak))
        else:
            append((_of_foreign_gradient, *_facts_of(node), memory, since, until, peak))

    return meet


def _place(scope):
    """The user's line of a call in a backward: that of the node whose gradient it is part of."""
    forward = scope.forward()
    return forward.site if forward is not None else None


def _several(result):
    """The node of several results, or of none; shape and dtype of each; and its memory."""
    outs = [out for out in (result if isinstance(result, tuple) else (result,)) if isinstance(out, Tensor)]
    node = next((out.node for out in outs if out.node is not None), None)
    arrays = [out.array for out in outs]
    return node, [(a.shape, a.dtype) for a in arrays], memory_of(arrays)


def _hidden(node):
    """Bytes of the results that no user sees, which are kept for backward."""
    return sum([value.nbytes for keep, value in zip(node.plan.keep, node.saved, strict=True)
                if keep[0] == "value" and type(value) is ndarray])  # fmt: skip


def memory_of(arrays: Iterable[Any]) -> tuple[int, ...]:
    """The ids of the memory of several arrays."""
    return tuple([id(a if a.base is None else a.base) for a in arrays if a is not None])


# ---------------------------------------------------------------------------------------------------- looking


@dataclass(slots=True)
class Rules:
    """What backward has to do for one call; ``targets``: where its gradients go (node or memory), and their bytes."""

    op: Any
    name: str
    scope: Any
    place: Any
    kinds: list
    flops: int | None
    read: int
    targets: dict[Any, int]


class Facts:
    """What was noted so far, while events are made of it."""

    def __init__(self, began: int) -> None:
        self.began = began
        self.events: list[Event] = []
        self.sizes: dict[int, int] = {}  # memory -> bytes of the result that was made in it
        self.known: set[int] = set()  # memory that is kept since the last backward, which frees it, or is the user's
        self.rules: dict[int, Rules] = {}  # by the number of the node
        self.walk: list[tuple[Any, Rules, Any]] = []  # (number of a node, its rules, memory of its gradients)
        self.times: list[tuple] = []  # (since, until, peak) of them

    def add(self, op: Any, side: str, scope: Any, place: Any, start: int, stop: int, name: str = "",
            **more: Any) -> None:  # fmt: skip
        """One more event, with its times in seconds."""
        self.events.append(
            Event(name or op.name, side, str(scope or ""), place, (start - self.began) * 1e-9, (stop - start) * 1e-9,
                  family=op.family.name, colour=op.family.colour, **more)
        )  # fmt: skip

    def newly_kept(self, op: Any, plan: Any, given: list, made: list) -> int:
        """Bytes that a node keeps and nothing kept since the last backward; parameters and the user's left out."""
        self.known |= {memory for _, _, memory, number in given if number == 0}
        total = 0
        for shape, dtype, memory, cast in _kept(op, plan, given, made):
            if cast or memory not in self.known:
                total += self.sizes.get(memory, bytes_in(shape, dtype)) if not cast else bytes_in(shape, dtype)
            if not cast:
                self.known.add(memory)
        return total

    def walked(self, gradients: dict[int, tuple[int, ...]]) -> None:
        """A backward is over: ``gradients`` of leaves, by the memory of the leaf."""
        sent = {number: memory for number, _, memory in self.walk} | {("leaf", k): v for k, v in gradients.items()}
        for (_, rules, memory), (since, until, peak) in zip(self.walk, self.times[1:], strict=True):
            new = sum([size for target, size in rules.targets.items()
                       if target in sent and not set(sent[target]).intersection(memory)])  # fmt: skip
            read = rules.read + sum([bytes_in(*kind) for kind in rules.kinds])
            self.add(rules.op, BACKWARD, rules.scope, rules.place, since, until, name=rules.name, flops=rules.flops,
                     bytes=read + new, allocated=new, peak=peak, type=_types(rules.kinds))  # fmt: skip
        self.walk, self.times = [], []


def _kept(op, plan, given, made):
    """(shape, dtype, memory, whether it is a copy in the common type) of the arrays that a node keeps."""
    for kind, *first in plan.keep:
        source = given if kind.startswith("input") else made if kind.startswith("output") else ()
        start = first[0] if first else 0
        for shape, dtype, memory, *_ in source[start:] if kind.endswith("s") else source[start : start + 1]:
            if dtype is not None:
                cast = source is given and op.promote is not None and dtype != made[0][1]
                yield shape, made[0][1] if cast else dtype, memory, cast


def events_of(raw: list[tuple], began: int) -> list[Event]:
    """The events of all that was noted, in order of time."""
    facts = Facts(began)
    for read, *noted in raw:
        read(facts, *noted)
    return facts.events


def _of_call(facts, op, above, static, scope, place, start, stop, given, kinds, memory, plan, number, hidden, peak):
    made = [(*kind, owner) for kind, owner in zip(kinds, memory if type(memory) is tuple else [memory], strict=True)]
    read = {(owner, shape): bytes_in(shape, dtype) for shape, dtype, owner, _ in given if dtype is not None}
    before = {owner for owner, _ in read}
    fresh = {owner: bytes_in(shape, dtype) for shape, dtype, owner in made if owner not in before}
    facts.sizes |= fresh
    new, shapes = sum(fresh.values()), [g[0] for g in given]
    work = flops(op, shapes, [shape for shape, *_ in made], static)
    saved = hidden + facts.newly_kept(op, plan, given, made) if plan is not None else 0
    side = BACKWARD if type(scope) is BackwardScope else FORWARD
    name = (public_in(above) if above is not None else None) or op.name
    facts.add(op, side, scope, place, start, stop, name=name, flops=work, bytes=sum(read.values()) + new,
              allocated=new + hidden, saved=saved, peak=peak, type=_types(kinds))  # fmt: skip
    if plan is not None:
        wanted = [given[i] for i in plan.positions]
        targets = {n or ("leaf", owner): bytes_in(shape, dtype) for shape, dtype, owner, n in wanted}
        kept = sum([bytes_in(shape, dtype) for shape, dtype, *_ in _kept(op, plan, given, made)])
        facts.rules[number] = Rules(op, name, scope, place, kinds, backward_flops(op, work, plan.positions, shapes),
                                    kept + hidden, targets)  # fmt: skip


def _of_gradient(facts, number, memory, since, until, peak):
    """Backward came to a node that was made inside; the rules of the one before ran from ``since`` to ``until``."""
    facts.times.append((since, until, peak))
    facts.walk.append((number, facts.rules[number], memory if type(memory) is tuple else (memory,)))


def _facts_of(node: Node) -> tuple:
    """What `_of_foreign_gradient` needs to know of a node that was made outside."""
    targets = {}
    for parent, index in node.edges:
        leaf = isinstance(parent, Tensor)
        shape, dtype = (parent.array.shape, parent.array.dtype) if leaf else parent.meta[index]
        key = ("leaf", *memory_of([parent.array])) if leaf else parent.number
        targets[key] = bytes_in(shape, dtype)
    saved = [v for value in node.saved for v in (value if type(value) is tuple else (value,)) if type(v) is ndarray]
    kinds = [kind for kind in node.meta if kind is not None]
    return node.number, Rules(node.op, node.op.name, node.scope, node.site, kinds, None,
                              sum([v.nbytes for v in saved]), targets)  # fmt: skip


def _of_foreign_gradient(facts, number, rules, memory, since, until, peak):
    """Backward came to a node that was made outside."""
    facts.rules[number] = rules
    _of_gradient(facts, number, memory, since, until, peak)


def of_leaves(facts, gradients, since, until, peak):
    """Backward has come to its end."""
    facts.times.append((since, until, peak))
    facts.walked(gradients)


def of_hand_out(facts, scope, start, stop):
    """The leaves have got their gradients; what was kept for backward is free."""
    facts.known.clear()
    facts.add(_HAND_OUT, BACKWARD, scope, None, start, stop, flops=0, bytes=0)


_HAND_OUT = Named("hand out gradients", "engine")


def of_failure(facts, since, stop):
    """A gradient rule raised."""
    facts.times.append((since, stop, None))
    facts.walked({})


def of_other(facts, name, family, side, scope, place, start, stop, moved, peak):
    """Something ran that is no operation."""
    facts.add(Named(name, family), side, scope, place, start, stop, flops=0, bytes=moved, peak=peak)


def of_row(facts, event, start):
    """A compiled row ran, from ``start`` on."""
    facts.events.append(event._replace(start=(start - facts.began) * 1e-9))


def bytes_in(shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes of an array."""
    return prod(shape) * dtype.itemsize


def _types(kinds):
    return ", ".join([f"{dtype}{list(shape)}" for shape, dtype in kinds])
