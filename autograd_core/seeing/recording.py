"""Recording: code runs as it always does, and a `Recorder` notes every operation, forward and backward, in a `Graph`.

The engine stays on its own paths (``steers`` is False): backward works on arrays with its fused loops, so what is
measured is what runs without being watched. Values are held by reference, see `statistics.Kept`.
"""

from __future__ import annotations

from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import provenance, storage
from ..modes import BackwardScope, state
from ..registry import network
from ..shapes import ndarray
from ..tensor import Node, Tensor
from .graphs import Vertex
from .names import assignment_after, users_frame
from .notes import Notes
from .observed import Observer, observed
from .statistics import Kept
from .work import backward_flops, bytes_of, flops

UPDATE = SimpleNamespace(name="step", qualified="step", family=network, parameters=())


class Recorder(Observer, Notes):
    """Writes what happens in this thread into ``graph`` while it is entered. ``values``: whether arrays are held.

    ``names``: kinds and names of parameters and buffers by id; those of modules that are called are found anyway.
    """

    @property
    def steers(self):  # type: ignore[override]
        """Only where a watcher outside of it does."""
        return self.outer is not None and self.outer.steers

    def __enter__(self):
        self.start_scope = state.scope or ""
        self.zero = perf_counter()
        return super().__enter__()

    def __exit__(self, kind, error, trace):
        super().__exit__(kind, error, trace)
        if error is not None and self.graph.error is None:
            self.graph.error = f"{kind.__name__}: {error}"
        self.finish()

    # -------------------------------------------------- operations

    def call(self, op, args, static):
        """Let the operation run, and note it."""
        before = next(storage.clock) if op.composite is not None and op.vjp == () else None
        started = perf_counter()
        try:
            result = super().call(op, args, static)
        except BaseException as error:
            self._note_failure(op, args, static, error, started)
            raise
        self._note(op, args, static, result, started, perf_counter(), before)
        return result

    def call_function(self, function, args, kwargs):
        """A user's `Function` is one vertex."""
        started = perf_counter()
        op = SimpleNamespace(name=function.__name__, qualified=function.__name__, family=network, parameters=())
        try:
            result = super().call_function(function, args, kwargs)
        except BaseException as error:
            self._note_failure(op, args, kwargs, error, started)
            raise
        self._note(op, args, kwargs, result, started, perf_counter(), None)
        return result

    def _note(self, op, args, static, result, started, ended, before):
        outs = [t for t in (result if isinstance(result, tuple) else (result,)) if isinstance(t, Tensor)]
        if not outs:
            return
        self.settle()
        node = outs[0].node
        scope = state.scope
        if type(scope) is BackwardScope:
            self._note_inside_backward(scope, op, args, static, outs, started, ended)
            return
        sources = [self.maker(a) for a in args if isinstance(a, Tensor)]
        place = node.site if node is not None else provenance.site(3)
        vertex = self.new_vertex("op", op, [t.array for t in outs], place, self.here(scope))
        vertex.started, vertex.seconds = started - self.zero, ended - started
        vertex.bytes = bytes_of([a.array if isinstance(a, Tensor) else a for a in args] + [t.array for t in outs])
        self.remember(vertex, op, args, static)
        if node is not None:
            vertex.saved_bytes = self.newly_kept(node)
            self.nodes.setdefault(node, vertex.key)
            if before is not None:
                self._claim(node, vertex.key, before)
        for out in outs:
            self.made(out.array, vertex.key)
        self.graph.edges += [(source, vertex.key) for source in sources]
        if place is not None and (assignment := assignment_after(place)) and (frame := users_frame(3)) is not None:
            targets = [target.bound(frame) for target in assignment.targets]
            self.pending.append((frame, (place[1], assignment.end), targets, outs, vertex))

    def _note_inside_backward(self, scope, op, args, static, outs, started, ended):
        """An operation of a gradient rule (of a backward that is itself recorded) belongs to the rule's vertex."""
        vertex = self.back_of(scope.forward())
        vertex.seconds = (vertex.seconds or 0.0) + ended - started
        vertex.started = started - self.zero if vertex.started is None else vertex.started
        shapes = [a.array.shape if isinstance(a, Tensor) else np.shape(a) for a in args]
        work = flops(op, shapes, [t.array.shape for t in outs], static)
        vertex.flops = work if vertex.flops is None else vertex.flops + (work or 0)
        for out in outs:
            self.made(out.array, vertex.key)
            if out.node is not None:
                self.nodes.setdefault(out.node, vertex.key)

    def _note_failure(self, op, args, static, error, started):
        """The operation that raised is the last one of the graph."""
        if type(state.scope) is BackwardScope:
            return
        sources = [self.maker(a) for a in args if isinstance(a, Tensor)]
        vertex = self.new_vertex("op", op, [], provenance.site(3), self.here(state.scope))
        vertex.started, vertex.seconds = started - self.zero, perf_counter() - started
        vertex.error = f"{type(error).__name__}: {error}"
        self.remember(vertex, op, args, static)
        self.graph.edges += [(source, vertex.key) for source in sources]

    def _claim(self, node, key, before):
        """All nodes that a composite made since ``before`` belong to its vertex."""
        stack = [node]
        while stack:
            for parent, _ in stack.pop().edges:
                if type(parent) is Node and parent.number > before and parent not in self.nodes:
                    self.nodes[parent] = key
                    self.graph.vertices[key].saved_bytes += self.newly_kept(parent)
                    stack.append(parent)

    # -------------------------------------------------- backward

    def backward(self, walk, roots):
        """A backward on arrays runs, and tells this recorder where it is."""
        self.settle()
        for parent, _, gradient in roots:
            self._start(parent, gradient)
        try:
            return super().backward(observed(walk, self), roots)
        except BaseException as error:
            if self.current is not None:
                self.current.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.current = None

    def _start(self, parent, gradient):
        """The gradient with which backward begins."""
        forward = self.forward_of(parent)
        array = gradient if isinstance(gradient, ndarray) else gradient.array
        key = f"s{len(self.graph.vertices)}"
        label = f"gradient of {self.graph.vertices[forward].name or 'the output'}"
        self.graph.add(Vertex(key, "gradient", label, (array.shape,), str(array.dtype), forward=forward,
                              value=self.hold(array)))  # fmt: skip
        self.walked.append(((parent,), key))

    def forward_of(self, node):
        """The key of the vertex of a node; one that was made before the recording is added."""
        return self.nodes[node] if node in self.nodes else self.recall(node)

    def recall(self, node) -> str:
        """Add the vertex of a node (or leaf) that was made before: what the graph itself remembers of it."""
        if isinstance(node, Tensor):
            return self.leaf(node)
        known = [meta for meta in node.meta if meta is not None]
        op, module, kept = node.op, self.module_at(node.scope), self.newly_kept(node)
        vertex = Vertex(f"n{len(self.graph.vertices)}", "op", op.name, tuple([shape for shape, _ in known]),
                        str(known[0][1]), getattr(op, "qualified", op.name), op.family.name, op.family.colour,
                        module=module, place=node.site, saved_bytes=kept)  # fmt: skip
        self.graph.add(vertex)
        self.nodes[node] = vertex.key
        given = {keep[1]: value for keep, value in zip(node.plan.keep, node.saved or (), strict=False)
                 if keep[0] == "input"}  # fmt: skip
        outs = [v for keep, v in zip(node.plan.keep, node.saved or (), strict=False) if keep == ("output", 0)]
        if outs and self.values and isinstance(outs[0], ndarray):
            vertex.value = Kept(outs[0], node.number)
        self.numbers[vertex.key] = node.op, [v for v in given.values() if isinstance(v, (int, float))], node.static
        return vertex.key

    def back_of(self, node) -> Vertex:
        """The backward vertex of a node, which is made where it is not the one at work."""
        forward = self.forward_of(node)
        last = self.graph.vertices[self.walked[-1][1]] if self.walked else None
        if last is not None and last.kind == "backward" and last.forward == forward:
            self.walked.append((node, last.key))
            return last
        there = self.graph.vertices[forward]
        key = f"b{len(self.graph.vertices)}"
        name = node.op.name if getattr(node.op, "foreign", False) else there.label
        vertex = Vertex(key, "backward", f"{name} backward", there.shapes, there.dtype, there.op, there.family,
                        there.colour, module=there.module, forward=forward, place=there.place)  # fmt: skip
        self.graph.add(vertex)
        self.walked.append((node, key))
        return vertex

    def arrive(self, node, slots, since, until):
        """Backward has come to ``node`` with the gradients ``slots`` of its outputs."""
        self._depart(since, until)
        vertex = self.current = self.back_of(node)
        if vertex.bytes is None:
            first = next((g for g in slots if g is not None), None)
            if self.values and isinstance(first, ndarray):
                vertex.value = self.graph.vertices[vertex.forward].gradient = self.hold(first)  # type: ignore[index]
            vertex.bytes = bytes_of([*slots, *[v for v in node.saved or () if isinstance(v, ndarray)]])

    def _depart(self, since, until):
        """What the backward vertex at work had to do is done."""
        vertex, self.current = self.current, None
        if vertex is not None:
            vertex.seconds = (vertex.seconds or 0.0) + (until - since) * 1e-9
            vertex.started = since * 1e-9 - self.zero if vertex.started is None else vertex.started

    def hand_out(self, pending, since, until):
        """Backward hands gradients to the leaves."""
        self._depart(since, until)
        for leaf, (gradient,) in pending.items():
            self.arrive_at_leaf(leaf, gradient)

    def arrive_at_leaf(self, leaf, gradient) -> None:
        """Backward hands ``gradient`` to a leaf."""
        array = gradient.array if isinstance(gradient, Tensor) else gradient
        forward = self.forward_of(leaf)
        there = self.graph.vertices[forward]
        key = f"g{len(self.graph.vertices)}"
        made = Vertex(key, "gradient", f"grad of {there.name or there.label}", (array.shape,), str(array.dtype),
                      module=there.module, forward=forward, started=perf_counter() - self.zero)  # fmt: skip
        if self.values:
            made.value = there.gradient = self.hold(array)
        self.graph.add(made)
        self.walked.append((leaf, key))
        if leaf._grad is not None:
            self.about_to_change(leaf._grad.array)

    def differentiated(self, node, given, found):
        """The rules of a node have run in a backward that is itself recorded."""
        super().differentiated(node, given, found)
        vertex = self.back_of(node)
        first = next((g for g in given if g is not None), None)
        if vertex.value is None and isinstance(first, Tensor):
            vertex.value = self.graph.vertices[vertex.forward].gradient = self.hold(first.array)  # type: ignore[index]

    def accumulate(self, leaf, gradient):
        """A gradient reaches a leaf in a backward that is itself recorded."""
        self.arrive_at_leaf(leaf, gradient)
        return self.holds_back or super().accumulate(leaf, gradient)

    def update(self, optimizer, place):
        """An optimizer's step is one vertex, behind the gradients that it uses."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p._grad is not None]
        for parameter in parameters:
            self.about_to_change(parameter.array)
        started = perf_counter()
        super().update(optimizer, place)
        vertex = self.new_vertex("op", UPDATE, [], place, self.here(state.scope))
        vertex.label, vertex.op = f"{type(optimizer).__name__} step", None
        vertex.started, vertex.seconds = started - self.zero, perf_counter() - started
        latest = {node: key for node, key in self.walked if isinstance(node, Tensor)}
        self.graph.edges += [(latest[p], vertex.key) for p in parameters if p in latest]

    # -------------------------------------------------- the end

    def finish(self) -> None:
        """Work out what was left for later, and let go of all that is not part of the graph."""
        self.settle()
        self._connect_backward()
        graph = self.graph
        for key, (op, given, static) in self.numbers.items():
            self._complete(graph.vertices[key], op, given, static)
        for node, key in self.walked:
            vertex = graph.vertices[key]
            if vertex.kind == "backward" and vertex.flops is None and vertex.forward in self.numbers:
                op, given, _ = self.numbers[vertex.forward]
                vertex.flops = backward_flops(op, graph.vertices[vertex.forward].flops, node.plan.positions, given)
        self._time_modules()
        graph.saved_bytes = self.saved
        spans = [(v.started, v.started + v.seconds) for v in graph.vertices.values()
                 if v.started is not None and v.seconds is not None]  # fmt: skip
        graph.seconds = max([end for _, end in spans]) - min([start for start, _ in spans]) if spans else None
        self.pending.clear()
        tables = (self.makers, self.places, self.sharing, self.nodes, self.known, self.numbers)
        for held in (*tables, self.walked, self.kept, self.open):
            held.clear()

    def _complete(self, vertex, op, given, static):
        names = list(op.parameters) + [f"argument {i}" for i in range(len(op.parameters), len(given))]
        numbers = {names[i]: repr(v) for i, v in enumerate(given) if isinstance(v, (bool, int, float))}
        vertex.settings = {**numbers, **settings_of(static), **vertex.settings}
        if vertex.error is None and vertex.seconds is not None:
            shapes = [v if isinstance(v, tuple) else None for v in given]
            vertex.flops = flops(op, shapes, vertex.shapes, static) if shapes and shapes[0] is not None else None

    def _connect_backward(self):
        """Edges of the backward: from each vertex to those of the nodes and leaves that it sends gradients to."""
        edges: dict[tuple[str, str], None] = {}
        latest: dict[Any, str] = {}
        for node, key in reversed(self.walked):  # what a gradient goes to was walked later
            if type(node) is tuple:
                ends = [node[0]]
            else:
                ends = [parent for parent, _ in node.edges] if isinstance(node, Node) else []
                latest[node] = key
            edges |= {(key, latest[end]): None for end in ends if end in latest and latest[end] != key}
        self.graph.edges += reversed(edges)
        senders: dict[str, list[str]] = {}
        for start, end in edges:
            senders.setdefault(end, []).append(start)
        for key, (sender, *others) in senders.items():
            vertex = self.graph.vertices[key]
            if vertex.kind == "gradient" and not others:  # it lies where it was made: a leaf may have several
                vertex.module = self.graph.vertices[sender].module

    def _time_modules(self):
        modules = self.graph.modules
        for vertex in self.graph.vertices.values():
            if vertex.kind == "backward" and vertex.seconds is not None:
                key = vertex.module
                while key is not None:
                    modules[key].backward_seconds = (modules[key].backward_seconds or 0.0) + vertex.seconds
                    key = modules[key].parent


def settings_of(static) -> dict[str, str]:
    """The settings of an operation as short texts; arrays, functions and what is None are left out."""
    found = {}
    for name, value in static.items():
        if value is None or name.startswith("_") or isinstance(value, (Tensor, ndarray)) or callable(value):
            continue
        if name in ("seed", "offset", "recipe"):  # differ from run to run, or say nothing
            continue
        if type(value) is tuple and len(value) == 1 and type(value[0]) is tuple:
            value = value[0]  # sizes, which may be given one by one
        text = value.name if isinstance(value, np.dtype) else repr(value)
        if " at 0x" not in text:
            found[name] = text if len(text) <= 60 else text[:57] + "..."
    return found
