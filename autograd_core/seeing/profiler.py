"""``ag.profile``: what every operation costs while a block of code runs, without changing the way it runs.

Forward operations are timed at the door. Backward stays on arrays: its walk is timed from node to node, so that fused
rules and kernels are those of any other run. An optimizer's step is one row, a compiled step is timed row by row. What
is noted is made into `Event` entries only when the block ends.
"""

from __future__ import annotations

import tracemalloc
from contextlib import ExitStack
from time import perf_counter_ns as clock
from typing import Any

from ..backward import _Pass
from ..modes import BackwardScope, Watcher, state
from ..provenance import site
from ..registry import FAMILIES, Family
from ..shapes import ndarray
from ..storage import owner_of
from ..tensor import Node, Tensor, apply
from .events import Event, Profile
from .work import backward_flops, flops

FORWARD, BACKWARD, UPDATE, ENGINE = "forward", "backward", "update", "engine"


class profile(Watcher):
    """Measure time, operations and memory of what runs inside: ``with ag.profile() as p:``, then ``print(p)``.

    ``p`` is a `Profile`: tables by operation, by module and by source line, forward and backward, each beside the best
    that this machine can do; ``p.save("x.json")`` is a Chrome trace, ``.svg`` a flame graph, ``.html`` a page.

    ``memory=True`` also measures the most memory that each operation holds while it runs, temporary arrays included,
    with `tracemalloc`, which slows small operations down. Results are the same bits as without the profile. Measuring
    costs about as much as a tiny operation takes: 2 us on a Xeon, 4 % of an operation of 50 us.
    """

    def __init__(self, memory: bool = False, title: str = ""):
        self.memory = memory
        self.result = Profile(title or "profile")

    def __enter__(self) -> Profile:
        super().__enter__()
        self.steers = self.outer is not None and self.outer.steers
        self.raw: list[tuple] = []
        self.nodes: dict[int, int] = {}  # number of a node -> the entry of its forward
        self.known: set[int] = set()  # ids of memory that was saved since the last backward, which frees it
        self.stack = ExitStack()
        if self.memory and not tracemalloc.is_tracing():
            tracemalloc.start()
            self.stack.callback(tracemalloc.stop)
        self.prepared = 0  # spent on getting ready to measure
        self.began = clock()
        return self.result

    def __exit__(self, *error):
        ended = clock()
        super().__exit__(*error)
        self.stack.close()
        self.result.fill(_events(self.raw, self.began), (ended - self.began - self.prepared) * 1e-9)
        self.raw, self.nodes, self.known = [], {}, set()

    # -------------------------------------------------- forward

    def call(self, op, args, static):
        """Time one operation."""
        local = state
        local.watch = self.outer
        held = self._watch_memory() if self.memory else None
        start = clock()
        try:
            result = apply(op, args, static)
        finally:
            stop = clock()
            local.watch = self
        self._note(op, args, static, result, start, stop, held)
        return result

    def call_function(self, function, args, kwargs):
        """Time a user's Function, as one operation."""
        state.watch = self.outer
        held = self._watch_memory() if self.memory else None
        start = clock()
        try:
            result = function.apply(*args, **kwargs)
        finally:
            stop = clock()
            state.watch = self
        self._note(_Named(function.__name__, "network"), args, {}, result, start, stop, held)
        return result

    def _note(self, op, args, static, result, start, stop, held):
        given, shapes, moved, leaves = [], [], 0, []
        for a in args:
            if isinstance(a, Tensor):
                array = a.array
                if a.node is None:
                    leaves.append(array)
            elif isinstance(a, ndarray):
                array = a
            else:
                shapes.append(None if a is None else ())
                continue
            given.append(array)
            shapes.append(array.shape)
            moved += array.nbytes
        node, outs, allocated = None, [], 0
        for out in result if isinstance(result, tuple) else (result,):
            if isinstance(out, Tensor):
                array, node = out.array, out.node or node
                outs.append((array.shape, array.dtype))
                if _is_new(array, given):
                    size = array.nbytes
                    allocated += size
                    moved += size
        scope, side, saved = state.scope, FORWARD, 0
        if type(scope) is BackwardScope:
            forward = scope.forward()
            side, place = BACKWARD, forward.site if forward is not None else None
        elif node is not None:
            place = node.site
            if node.saved:
                saved = self._saved(node.saved, leaves)
                if op.hidden:
                    allocated += sum([v.nbytes for k, v in zip(node.plan.keep, node.saved, strict=True)
                                      if k[0] == "value" and type(v) is ndarray])  # fmt: skip
            self.nodes[node.number] = len(self.raw)
        else:
            place = site(3)
        self.raw.append((op, side, scope, place, start, stop, shapes, outs, static, moved, allocated, saved,
                         None if held is None else self._most(held), None))  # fmt: skip

    def _saved(self, values, leaves):
        """Bytes kept alive that nothing kept since the last backward; parameters and inputs of the user's left out."""
        total, known = 0, self.known
        for value in values:
            for array in value if type(value) is tuple else (value,):
                if type(array) is not ndarray:
                    continue
                owner = array if array.base is None else owner_of(array)
                if id(owner) in known:
                    continue
                for leaf in leaves:
                    if leaf is owner or (leaf.base is not None and owner_of(leaf) is owner):
                        break
                else:
                    known.add(id(owner))
                    total += owner.nbytes
        return total

    # -------------------------------------------------- memory

    def _watch_memory(self):
        tracemalloc.reset_peak()
        return tracemalloc.get_traced_memory()[0]

    def _most(self, held):
        return max(tracemalloc.get_traced_memory()[1] - held, 0)

    # -------------------------------------------------- what does not pass the door

    def backward(self, walk, roots):
        """Time a backward on arrays, node by node."""
        profiles, watch = [self], self.outer
        while isinstance(watch, profile):
            profiles.append(watch)
            watch = watch.outer
        state.watch, start = watch, clock()
        try:
            if watch is None:
                return _TimedPass(walk, profiles).run(roots)
            found = watch.backward(walk, roots)  # another observer walks in a way of its own: one row in all
        finally:
            state.watch = self
        for watching in profiles:
            watching.raw.append((_Named("backward", "engine"), BACKWARD, state.scope, site(2), start, clock(), (), (),
                                 {}, 0, 0, 0, None, None))  # fmt: skip
        return found

    def update(self, optimizer, place):
        """Time an optimizer's step as one row: it reads and writes parameters and state, and reads gradients."""
        state.watch = self.outer
        held = self._watch_memory() if self.memory else None
        start = clock()
        try:
            if self.outer is not None:
                self.outer.update(optimizer, place)
            else:
                optimizer._update_arrays(place)
        finally:
            stop = clock()
            state.watch = self
        moved = 0
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p._grad is not None:
                    kept = [v.array.nbytes for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor)]
                    moved += 3 * p.array.nbytes + 2 * sum(kept)
        self.raw.append((_Named(f"{type(optimizer).__name__}.step", "update"), UPDATE, state.scope, place, start, stop,
                         (), (), {}, moved, 0, 0, None if held is None else self._most(held), None))  # fmt: skip

    def call_compiled(self, compiled, args, kwargs):
        """Run a compiled function with its rows timed one by one; its recording is one row."""
        if self.steers:
            return super().call_compiled(compiled, args, kwargs)
        from ..costs import timing

        asked = clock()
        state.watch = self.outer
        place, scope = site(2), state.scope
        try:
            with timing(compiled) as timed:
                start = clock()
                result = compiled(*args, **kwargs)
                stop = clock()
        finally:
            state.watch = self
        self.prepared += start - asked
        rows = timed()
        if not rows:
            self.raw.append((_Named(f"compile {compiled._name}", "engine"), ENGINE, scope, place, start, stop, (), (),
                             {}, 0, 0, 0, None, None))  # fmt: skip
        for event, began in rows:
            self.raw.append((None, None, None, None, began, None, None, None, None, None, None, None, None, event))
        return result


class _Named:
    """Stands for the record of something that has none."""

    hidden = ()

    def __init__(self, name, family):
        self.name, self.family = name, FAMILIES.get(family) or Family(family)


HAND_OUT = _Named("hand out gradients", "engine")


def _is_new(array, given):
    """Whether a result lies in memory of its own."""
    if array.base is None:
        for other in given:  # noqa: SIM110 (a generator would cost three times as much, at every operation)
            if other is array:
                return False
        return True
    owner = owner_of(array)
    return not [1 for other in given if other is not None and owner_of(other) is owner]


class _TimedPass(_Pass):
    """The walk of an ordinary backward, with the clock read whenever it comes to another node."""

    __slots__ = ("allocated", "given", "held", "memory", "moved", "node", "profiles", "start")

    def __init__(self, walk, profiles):
        super().__init__(walk.retain, walk.create, walk.wanted, walk.accumulate)
        self.profiles = profiles
        self.memory = next((p for p in profiles if p.memory), None)
        self.node: Node | None = None
        self.held: int | None = None
        self.start = self.moved = self.allocated = 0

    def _enter(self, node, slots):
        if self.node is not None:
            self._leave(clock())
        moved = 0
        for array in slots:
            if array is not None:
                moved += array.nbytes
        for array in node.saved or ():
            if type(array) is ndarray:
                moved += array.nbytes
        self.node, self.given, self.moved, self.allocated = node, slots, moved, 0
        if self.memory is not None:
            self.held = self.memory._watch_memory()
        self.start = clock()
        return _Pass._enter(self, node, slots)

    def _deliver(self, parent, index, gradient):
        if self.node is not None and _is_new(gradient, self.given):
            size = gradient.nbytes
            self.moved += size
            self.allocated += size
        _Pass._deliver(self, parent, index, gradient)

    def _leave(self, now):
        node: Any = self.node
        self.node = None
        most = None if self.memory is None else self.memory._most(self.held)
        for watching in self.profiles:
            watching.raw.append((node.op, BACKWARD, node.scope, node.site, self.start, now, None, node.meta,
                                 node.plan.positions, self.moved, self.allocated, 0, most,
                                 watching.nodes.get(node.number)))  # fmt: skip

    def _finish(self):
        start = clock()
        if self.node is not None:
            self._leave(start)
        found = super()._finish()
        stop = clock()
        for watching in self.profiles:
            watching.known.clear()
            watching.raw.append((HAND_OUT, BACKWARD, state.scope, None, start, stop, (), (), {}, 0, 0, 0, None,
                                 None))  # fmt: skip
        return found


def _events(raw: list[tuple], began: int) -> list[Event]:
    """What was noted, as events in order of time; nodes of a backward find the shapes in their forward's entry."""
    made = []
    for op, side, scope, place, start, stop, shapes, outs, static, moved, allocated, saved, peak, other in raw:
        if op is None:
            made.append(other._replace(start=(start - began) * 1e-9))
            continue
        if shapes is not None:
            count = flops(op, shapes, [shape for shape, _ in outs], static)
        elif other is not None:
            of_forward = raw[other]
            once = flops(op, of_forward[6], [shape for shape, _ in of_forward[7]], of_forward[8])
            count = backward_flops(op, once, static, of_forward[6])
        else:
            count = None
        kinds = ", ".join([f"{o[1]}{list(o[0])}" for o in outs if o is not None])
        made.append(Event(op.name, side, str(scope or ""), place, (start - began) * 1e-9, (stop - start) * 1e-9, count,
                          moved, allocated, saved, peak, kinds, op.family.name, op.family.colour))  # fmt: skip
    return made
