"""``ag.profile``: what every operation costs while a block of code runs, without changing the way it runs.

Forward operations are timed at the door. Backward stays on arrays: its walk is timed from node to node, so that fused
rules and kernels are those of any other run. An optimizer's step is one row, a compiled step is timed row by row. While
the block runs bare facts are noted, see `measurements`; all the rest is worked out when somebody looks.
"""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import ExitStack
from time import perf_counter_ns as clock

from ..modes import Watcher, state
from ..provenance import site
from ..tensor import Tensor, apply
from .events import ENGINE, UPDATE, Profile
from .measurements import (
    Named,
    events_of,
    meeting,
    memory_of,
    noting,
    of_failure,
    of_hand_out,
    of_leaves,
    of_other,
    of_row,
)
from .observed import Observer, observed

FEW_COLLECTIONS = 50_000
"""New objects between two searches for cycles, while a profile runs."""


class profile(Observer, Watcher):
    """Measure time, operations and memory of what runs inside: ``with ag.profile() as p:``, then ``print(p)``.

    ``p`` is a `Profile`: tables by operation, by module and by source line, forward and backward, each beside the best
    that this machine can do; ``p.save("x.json")`` is a Chrome trace, ``.svg`` a flame graph, ``.html`` a page.

    ``memory=True`` also measures the most memory that each operation holds while it runs, temporary arrays included,
    with `tracemalloc`, which slows small operations down. Results are the same bits as without the profile. Measuring
    costs about what a tiny operation takes: on a Xeon 1.5 us, 2.1 us where the operation before has emptied the caches.
    """

    def __init__(self, memory: bool = False, title: str = ""):
        self.memory = memory
        self.result = Profile(title or "profile")

    def __enter__(self) -> Profile:
        super().__enter__()
        self.steers = self.outer is not None and self.outer.steers
        self.raw: list[tuple] = []
        numbers: set[int] = set()  # of the nodes that were made inside
        self.note, self.meet = noting(self.raw.append, numbers.add), meeting(self.raw.append, numbers)
        self.held: int | None = None  # traced memory before the rules at work
        if not self.memory:
            self.arrive = self.meet  # type: ignore[method-assign]
            if self.outer is None:
                self.call = _door(self, self.note)  # type: ignore[method-assign]
        self.stack = ExitStack()
        if self.memory and not tracemalloc.is_tracing():
            tracemalloc.start()
            self.stack.callback(tracemalloc.stop)
        every, *rest = gc.get_threshold()
        if every:  # the collector would go through the facts again and again: a third of what they cost
            gc.set_threshold(max(every, FEW_COLLECTIONS), *rest)
            self.stack.callback(gc.set_threshold, every, *rest)
        self.prepared = 0  # spent on getting ready to measure
        self.began = clock()
        return self.result

    def __exit__(self, *error):
        ended = clock()
        super().__exit__(*error)
        self.stack.close()
        for hook in ("call", "arrive"):
            self.__dict__.pop(hook, None)
        raw, began = self.raw, self.began
        self.result.fill(lambda: events_of(raw, began), (ended - began - self.prepared) * 1e-9)

    # -------------------------------------------------- forward

    def call(self, op, args, static):
        """Time one operation: what it calls itself, and who looks on outside, are inside of its time."""
        return self._timed(op, args, static, apply, (op, args, static))

    def call_function(self, function, args, kwargs):
        """Time a user's Function, as one operation."""
        return self._timed(Named(function.__name__, "network"), args, {}, function.apply, args, kwargs)

    def _timed(self, op, args, static, run, given, named=None):
        state.watch = self.outer
        held = self._watch_memory()
        start = clock()
        try:
            result = run(*given, **(named or {}))
        finally:
            stop = clock()
            state.watch = self
        self.note(op, args, static, result, start, stop, self._most(held))
        return result

    # -------------------------------------------------- memory

    def _watch_memory(self):
        if not self.memory:
            return None
        tracemalloc.reset_peak()
        return tracemalloc.get_traced_memory()[0]

    def _most(self, held):
        return None if held is None else max(tracemalloc.get_traced_memory()[1] - held, 0)

    # -------------------------------------------------- backward

    def backward(self, walk, roots):
        """Time a backward on arrays, node by node."""
        walk = observed(walk, self)
        try:
            return super().backward(walk, roots)
        except BaseException:
            self.raw.append((of_failure, walk.since, clock()))
            raise

    def arrive(self, node, slots, since, until):
        """Backward comes to a node; memory is measured up to here."""
        self.meet(node, slots, since, until, self._most_of_a_node())

    def hand_out(self, pending, since, until):
        """Leaves are about to get their gradients."""
        gradients = {memory_of([leaf.array])[0]: memory_of(found) for leaf, found in pending.items()}
        self.raw.append((of_leaves, gradients, since, until, self._most_of_a_node()))

    def finished(self, since, until):
        """They have got them."""
        self.raw.append((of_hand_out, state.scope, since, until))

    def _most_of_a_node(self):
        """The most memory that the rules of the node before held."""
        most, self.held = self._most(self.held), self._watch_memory()
        return most

    # -------------------------------------------------- what does not pass the door

    def update(self, optimizer, place):
        """Time an optimizer's step as one row: it reads and writes parameters and state, and reads gradients."""
        held = self._watch_memory()
        start = clock()
        super().update(optimizer, place)
        stop = clock()
        moved = 0
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p._grad is not None:
                    kept = [v.array.nbytes for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor)]
                    moved += 3 * p.array.nbytes + 2 * sum(kept)
        self._other(f"{type(optimizer).__name__}.step", UPDATE, state.scope, place, start, stop, moved, held)

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
            self._other(f"compile {compiled._name}", ENGINE, scope, place, start, stop)
        self.raw += [(of_row, event, began) for event, began in rows]
        return result

    def _other(self, name, side, scope, place, start, stop, moved=0, held=None):
        family = "engine" if side == ENGINE else "update"
        self.raw.append((of_other, name, family, side, scope, place, start, stop, moved, self._most(held)))


def _door(watcher, note):
    """What times one operation where nobody else looks on, with all that it uses at hand."""
    here = state.__dict__

    def call(op, args, static):
        here["watch"] = None
        start = clock()
        try:
            result = op.door(static, *args) if args and isinstance(args[0], Tensor) else apply(op, args, static)
        finally:
            stop = clock()
            here["watch"] = watcher
        note(op, args, static, result, start, stop, None)
        return result

    return call
