"""Recording: code runs as it always does, and a `Recorder` notes every operation, forward and backward, in a `Graph`.

The engine stays on its own paths (``steers`` is False): backward works on arrays with its fused loops, so what is
measured is what runs without being watched. Values are held by reference, see `statistics.Kept`.
"""

from __future__ import annotations

import weakref
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import provenance, storage
from ..backward import _Pass
from ..modes import BackwardScope, Watcher, state, unwatched
from ..registry import index as index_family
from ..registry import network
from ..shapes import ndarray
from ..tensor import Node, Tensor
from .graphs import Graph, Module, Vertex
from .names import assigned_names, called, name_of, users_frame
from .statistics import Kept
from .work import backward_flops, bytes_of, flops

RENAMED = {"scatter_view": "setitem"}  # a part of a tensor is written whose history goes on
SETITEM = SimpleNamespace(name="setitem", qualified="setitem", family=index_family, parameters=())
UPDATE = SimpleNamespace(name="step", qualified="step", family=network, parameters=())


class Recorder(Watcher):
    """Writes what happens in this thread into ``graph`` while it is entered. ``values``: whether arrays are held.

    ``names``: names of parameters and buffers by id; those of modules that are called are found by themselves.
    """

    def __init__(self, graph: Graph, values: bool = True, names: dict[int, tuple[str, str]] | None = None):
        self.graph, self.values = graph, values
        self.names = dict(names or {})  # id of a tensor -> (kind, name)
        self.holds_back = False  # whether gradients are kept from the ``grad`` of leaves
        self.makers: dict[int, tuple[Any, str]] = {}  # id of an array -> a reference to it, the key of what made it
        self.places: dict[int, list[int]] = {}  # id of memory -> ids of the arrays in it
        self.sharing: dict[int, list[Kept]] = {}  # id of memory -> values in it
        self.nodes: dict[Any, str] = {}  # Node (or leaf) -> key of its vertex
        self.backs: dict[str, str] = {}  # key of a backward vertex -> its node
        self.walked: list[tuple[Any, str]] = []  # (Node, key of its backward vertex) in order
        self.known: dict[int, Any] = {}  # memory of leaves and of what is already kept for backward, by id
        self.numbers: dict[str, tuple] = {}  # key -> (op, args by kind, settings), until the end
        self.open: list[tuple[Any, Module, str]] = []  # (module, its call, scope inside)
        self.named_scope: tuple[str, Module] | None = None
        self.calls: dict[int, int] = {}
        self.pending: tuple | None = None  # (frame, names, tensors, key): the assignment that is about to happen
        self.current: Vertex | None = None  # the backward vertex that is at work
        self.kept: list = []  # what must stay alive, so that its id stays its own
        self.zero = perf_counter()
        self.saved = 0

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
        if self.pending is not None:
            self._settle()
        node = outs[0].node
        scope = state.scope
        if type(scope) is BackwardScope:
            self._note_inside_backward(scope, op, args, static, outs, started, ended)
            return
        sources = [self.maker(a) for a in args if isinstance(a, Tensor)]
        place = node.site if node is not None else provenance.site(3)
        vertex = self._vertex("op", op, [t.array for t in outs], place, self._here(scope))
        vertex.started, vertex.seconds = started - self.zero, ended - started
        vertex.bytes = bytes_of([a.array if isinstance(a, Tensor) else a for a in args] + [t.array for t in outs])
        self._remember(vertex, op, args, static)
        if node is not None:
            vertex.saved_bytes = self._newly_kept(node)
            self.nodes.setdefault(node, vertex.key)
            if before is not None:
                self._claim(node, vertex.key, before)
        for out in outs:
            self._made(out.array, vertex.key)
        self.graph.edges += [(source, vertex.key) for source in sources]
        if place is not None and (names := assigned_names(place)):
            self.pending = users_frame(3), names, outs, vertex

    def _note_inside_backward(self, scope, op, args, static, outs, started, ended):
        """An operation of a gradient rule (of a backward that is itself recorded) belongs to the rule's vertex."""
        vertex = self._back_of(scope.forward())
        vertex.seconds = (vertex.seconds or 0.0) + ended - started
        vertex.started = started - self.zero if vertex.started is None else vertex.started
        shapes = [a.array.shape if isinstance(a, Tensor) else np.shape(a) for a in args]
        work = flops(op, shapes, [t.array.shape for t in outs], static)
        vertex.flops = work if vertex.flops is None else vertex.flops + (work or 0)
        for out in outs:
            self._made(out.array, vertex.key)
            if out.node is not None:
                self.nodes.setdefault(out.node, vertex.key)

    def _note_failure(self, op, args, static, error, started):
        """The operation that raised is the last one of the graph."""
        if type(state.scope) is BackwardScope:
            return
        sources = [self.maker(a) for a in args if isinstance(a, Tensor)]
        vertex = self._vertex("op", op, [], provenance.site(3), self._here(state.scope))
        vertex.started, vertex.seconds = started - self.zero, perf_counter() - started
        vertex.error = f"{type(error).__name__}: {error}"
        self._remember(vertex, op, args, static)
        self.graph.edges += [(source, vertex.key) for source in sources]

    def _vertex(self, kind, op, arrays, place, module):
        label = (called(3) if op.qualified.startswith("internal.") else None) or RENAMED.get(op.name, op.name)
        vertex = Vertex(f"n{len(self.graph.vertices)}", kind, label, tuple([a.shape for a in arrays]),
                        str(arrays[0].dtype) if arrays else "", op.qualified, op.family.name, op.family.colour,
                        module=module, place=place)  # fmt: skip
        if arrays and self.values:
            vertex.value = self._hold(arrays[0])
        self.graph.vertices[vertex.key] = vertex
        return vertex

    def _remember(self, vertex, op, args, static):
        given = [a.array.shape if isinstance(a, Tensor) else a.shape if isinstance(a, ndarray) else a for a in args]
        self.numbers[vertex.key] = op, given, static

    def _hold(self, array):
        kept = Kept(array, storage.latest)
        self.sharing.setdefault(id(storage.owner_of(array)), []).append(kept)
        return kept

    def _newly_kept(self, node):
        """Bytes that ``node`` keeps alive for backward, without leaves and what other nodes keep already."""
        count = 0
        for value in node.saved or ():
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, ndarray):
                    owner = storage.owner_of(array)
                    found = self.known.get(id(owner))
                    if found is None or found() is not owner:
                        self.known[id(owner)] = self._reference(owner)
                        count += owner.nbytes
        self.saved += count
        return count

    def _claim(self, node, key, before):
        """All nodes that a composite made since ``before`` belong to its vertex."""
        stack = [node]
        while stack:
            for parent, _ in stack.pop().edges:
                if type(parent) is Node and parent.number > before and parent not in self.nodes:
                    self.nodes[parent] = key
                    self.graph.vertices[key].saved_bytes += self._newly_kept(parent)
                    stack.append(parent)

    # -------------------------------------------------- tensors

    def _reference(self, array):
        """A call that gives the array: while the graph is recorded, or while it lives where no values are held."""
        return (lambda: array) if self.values else weakref.ref(array)

    def _made(self, array, key):
        if id(array) not in self.makers:
            self.places.setdefault(id(storage.owner_of(array)), []).append(id(array))
        self.makers[id(array)] = self._reference(array), key

    def _overlapping(self, array) -> list[ndarray]:
        """The known arrays that share memory with ``array``."""
        known = [self.makers[number][0]() for number in self.places.get(id(storage.owner_of(array)), ())]
        return [other for other in known if other is not None and np.may_share_memory(other, array)]

    def _maker_of(self, array):
        """The key of what made an array, or None."""
        reference, key = self.makers.get(id(array), (None, None))
        return key if reference is not None and reference() is array else None

    def maker(self, tensor):
        """The key of what made a tensor; it becomes a leaf where nothing that was seen did."""
        key = self.nodes.get(tensor.node) or self._maker_of(tensor.array)
        if key is not None and tensor.node is not None:
            self.nodes[tensor.node] = key  # of a checkpoint, too: another node for the same array
        return self.leaf(tensor) if key is None else key

    def leaf(self, tensor, kind=None, label=None, module=None) -> str:
        """A new vertex for a tensor that comes from outside."""
        found, name = self.names.get(id(tensor), (None, None))
        name = name or tensor.name or name_of(tensor, users_frame(2))
        if kind is None:
            kind = found or ("parameter" if tensor.tracks and tensor.node is None else "input" if name else "constant")
        module = self._here(state.scope) if module is None and type(state.scope) is not BackwardScope else module
        array = tensor.array
        value = self._hold(array) if self.values else None
        vertex = Vertex(f"t{len(self.graph.vertices)}", kind, label or name or kind, (array.shape,), str(array.dtype),
                        name=name or label, module=module, value=value)  # fmt: skip
        self.graph.add(vertex)
        self.kept.append(tensor)
        owner = storage.owner_of(array)
        self.known[id(owner)] = self._reference(owner)
        self._made(array, vertex.key)
        self.nodes[tensor.node if tensor.node is not None else tensor] = vertex.key
        if kind == "parameter":
            self.graph.parameters += array.size
        return vertex.key

    def write(self, target, result):
        """Values in memory that is about to be written are copied; what is there comes from ``result`` now."""
        super().write(target, result)
        self.about_to_change(target.array)
        if not target.tracks and not getattr(result, "tracks", False) and self._write_part(target.array, result):
            return
        key = self.maker(result) if isinstance(result, Tensor) else None
        if key is None:
            return
        vertex, before = self.graph.vertices[key], self._maker_of(target.array)
        known = before is None or before == key or (before, key) in self.graph.edges[-8:]
        if not known and not target.tracks:
            self.graph.edges.append((before, key))
        vertex.settings = {**vertex.settings, "in place": "yes"}
        for array in self._overlapping(target.array):
            if array is not result.array:
                self._made(array, key)
        self._made(target.array, key)
        if self.pending is not None and any([result is out for out in self.pending[2]]):
            self.pending[2].append(target)

    def _write_part(self, part, result) -> bool:
        """Where ``part`` is a part of a known array: that array comes from an operation "setitem" now."""
        arrays = self._overlapping(part)
        whole = max(arrays, key=lambda array: array.size, default=part)
        if whole.size <= part.size:
            return False
        place = provenance.site(4)
        sources = [self._maker_of(whole), *([self.maker(result)] if isinstance(result, Tensor) else [])]
        vertex = self._vertex("op", SETITEM, [whole], place, self._here(state.scope))
        self.graph.edges += [(source, vertex.key) for source in sources if source is not None]
        for array in arrays:
            if array is not getattr(result, "array", None):
                self._made(array, vertex.key)
        if vertex.value is not None:  # it is written only after this
            vertex.value = None
        return True

    def about_to_change(self, array):
        """Copy the values that lie in the memory of ``array``."""
        owner = id(storage.owner_of(array))
        held = self.sharing.get(owner)
        if held:
            rest = self.sharing[owner] = []
            for kept in held:
                if np.may_share_memory(kept.raw, array):
                    kept.keep()
                else:
                    rest.append(kept)

    def _settle(self):
        """See whether the result that was last noted has been assigned to the variables that its line names."""
        frame, names, outs, vertex = self.pending  # type: ignore[misc]
        self.pending = None
        if frame is None:
            return
        variables = frame.f_locals
        found = [n for n in names if (held := variables.get(n)) is not None and any([held is out for out in outs])]
        if found:
            vertex.name = ", ".join(found)

    # -------------------------------------------------- modules

    def enter(self, module):
        """A module is called."""
        super().enter(module)
        if self.pending is not None:
            self._settle()
        if not self.open:
            self._learn_names(module)
        scope = state.scope or ""
        name = getattr(module, "_label", None) or type(module).__name__
        around = scope[: -len(name)].rstrip(".") if scope.endswith(name) else scope
        parent = self._here(around)
        path = f"{self.graph.modules[parent].path}.{name}" if parent else name
        self.calls[id(module)] = call = self.calls.get(id(module), 0) + 1
        made = self._module(path, name, type(module).__name__, parent)
        made.call, made.parameters = call, sum([p.array.size for p in module.parameters()])
        self.open.append((module, made, scope))
        made.started = perf_counter() - self.zero

    def leave(self, module):
        """The call of a module is over."""
        ended = perf_counter() - self.zero
        super().leave(module)
        if any([entry[0] is module for entry in self.open]):
            while self.open:
                found, made, _ = self.open.pop()
                made.seconds = ended - made.started  # type: ignore[operator]  # it has been entered
                if found is module:
                    break

    def _learn_names(self, module):
        self.kept.append(module)
        for kind, named in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
            for name, tensor in named:
                self.names.setdefault(id(tensor), (kind, name))

    def _module(self, path, name, kind, parent):
        made = Module(f"m{len(self.graph.modules)}", path, name, kind, parent)
        self.graph.modules[made.key] = made
        return made

    def _here(self, scope):
        """The key of the call of a module in which ``scope`` lies; a scope that the user named is one, too."""
        scope = scope or ""
        inside, base = (self.open[-1][1].key, self.open[-1][2]) if self.open else (None, self.start_scope)
        name = scope[len(base) :].lstrip(".") if scope.startswith(base) else scope
        if not name:
            self.named_scope = None
            return inside
        if self.named_scope is None or self.named_scope[0] != scope or self.named_scope[1].parent != inside:
            path = f"{self.graph.modules[inside].path}.{name}" if inside else name
            self.named_scope = scope, self._module(path, name, "scope", inside)
        return self.named_scope[1].key

    # -------------------------------------------------- backward

    def backward(self, walk, roots):
        """A backward on arrays runs, and tells this recorder and those right outside of it where it is."""
        recorders, outer = [self], self.outer
        while isinstance(outer, Recorder):
            recorders.append(outer)
            outer = outer.outer
        seen = WatchedPass(walk.retain, walk.create, walk.wanted, walk.accumulate)
        seen.recorders = recorders
        for recorder in recorders:
            if recorder.pending is not None:
                recorder._settle()
            for parent, _, gradient in roots:
                recorder._start(parent, gradient)
        with unwatched():
            try:
                return seen.run(roots)
            except BaseException as error:
                for recorder in recorders:
                    if recorder.current is not None:
                        recorder.current.error = f"{type(error).__name__}: {error}"
                raise
            finally:
                for recorder in recorders:
                    recorder.depart()

    def _start(self, parent, gradient):
        """The gradient with which backward begins."""
        forward = self._forward_of(parent)
        array = gradient if isinstance(gradient, ndarray) else gradient.array
        key = f"s{len(self.graph.vertices)}"
        label = f"gradient of {self.graph.vertices[forward].name or 'the output'}"
        self.graph.add(Vertex(key, "gradient", label, (array.shape,), str(array.dtype), forward=forward,
                              value=self._hold(array) if self.values else None))  # fmt: skip
        self.walked.append(((parent,), key))

    def _forward_of(self, node):
        """The key of the vertex of a node; one that was made before the recording is added."""
        return self.nodes[node] if node in self.nodes else self.recall(node)

    def recall(self, node) -> str:
        """Add the vertex of a node (or leaf) that was made before: what the graph itself remembers of it."""
        if isinstance(node, Tensor):
            return self.leaf(node)
        shapes = tuple([meta[0] for meta in node.meta if meta is not None])
        vertex = Vertex(f"n{len(self.graph.vertices)}", "op", node.op.name, shapes, str(node.meta[0][1]),
                        getattr(node.op, "qualified", node.op.name), node.op.family.name, node.op.family.colour,
                        module=self._path(node.scope), place=node.site, saved_bytes=self._newly_kept(node))  # fmt: skip
        self.graph.add(vertex)
        self.nodes[node] = vertex.key
        given = {keep[1]: value for keep, value in zip(node.plan.keep, node.saved or (), strict=False)
                 if keep[0] == "input"}  # fmt: skip
        outs = [v for keep, v in zip(node.plan.keep, node.saved or (), strict=False) if keep == ("output", 0)]
        if outs and self.values and isinstance(outs[0], ndarray):
            vertex.value = Kept(outs[0], node.number)
        self.numbers[vertex.key] = node.op, [v for v in given.values() if isinstance(v, (int, float))], node.static
        return vertex.key

    def _path(self, scope):
        """The key of the module with a path, for nodes that were made before: calls cannot be told apart."""
        key = None
        parts = str(scope or "").split(".") if scope else []
        for count, name in enumerate(parts, 1):
            path = ".".join(parts[:count])
            found = next((m.key for m in self.graph.modules.values() if m.path == path), None)
            key = found or self._module(path, name, "", key).key
        return key

    def _back_of(self, node) -> Vertex:
        """The backward vertex of a node, which is made where it is not the one at work."""
        forward = self._forward_of(node)
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

    def arrive(self, node, slots) -> None:
        """Backward has come to ``node`` with the gradients ``slots`` of its outputs."""
        self.depart()
        vertex = self._back_of(node)
        if vertex.started is None:
            first = next((g for g in slots if g is not None), None)
            if self.values and isinstance(first, ndarray):
                vertex.value = self.graph.vertices[vertex.forward].gradient = self._hold(first)  # type: ignore[index]
            vertex.bytes = bytes_of([*slots, *[v for v in node.saved or () if isinstance(v, ndarray)]])
        self.current = vertex
        self.since = perf_counter()
        if vertex.started is None:
            vertex.started = self.since - self.zero

    def depart(self) -> None:
        """What the backward vertex at work has to do is done."""
        if self.current is not None:
            self.current.seconds = (self.current.seconds or 0.0) + perf_counter() - self.since
            self.current = None

    def arrive_at_leaf(self, leaf, gradient) -> None:
        """Backward hands ``gradient`` to a leaf."""
        array = gradient.array if isinstance(gradient, Tensor) else gradient
        forward = self._forward_of(leaf)
        there = self.graph.vertices[forward]
        key = f"g{len(self.graph.vertices)}"
        made = Vertex(key, "gradient", f"grad of {there.name or there.label}", (array.shape,), str(array.dtype),
                      module=there.module, forward=forward, started=perf_counter() - self.zero)  # fmt: skip
        if self.values:
            made.value = there.gradient = self._hold(array)
        self.graph.add(made)
        self.walked.append((leaf, key))
        if leaf._grad is not None:
            self.about_to_change(leaf._grad.array)

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
        if self.outer is None:
            super().update(optimizer, place)
        else:
            self.outer.update(optimizer, place)
            state.watch = self
        vertex = self._vertex("op", UPDATE, [], place, self._here(state.scope))
        vertex.label, vertex.op = f"{type(optimizer).__name__} step", None
        vertex.started, vertex.seconds = started - self.zero, perf_counter() - started
        latest = {node: key for node, key in self.walked if isinstance(node, Tensor)}
        self.graph.edges += [(latest[p], vertex.key) for p in parameters if p in latest]

    # -------------------------------------------------- the end

    def finish(self) -> None:
        """Work out what was left for later, and let go of all that is not part of the graph."""
        if self.pending is not None:
            self._settle()
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

    def _time_modules(self):
        modules = self.graph.modules
        for vertex in self.graph.vertices.values():
            if vertex.kind == "backward" and vertex.seconds is not None:
                key = vertex.module
                while key is not None:
                    modules[key].backward_seconds = (modules[key].backward_seconds or 0.0) + vertex.seconds
                    key = modules[key].parent


class WatchedPass(_Pass):
    """A backward on arrays that tells recorders where it is."""

    __slots__ = ("recorders",)

    recorders: list[Recorder]  # the innermost first

    def _enter(self, node, slots):
        runs = super()._enter(node, slots)
        if runs:
            for recorder in self.recorders:
                recorder.arrive(node, slots)
        return runs

    def _hand_out(self):
        for recorder in self.recorders:
            recorder.depart()
            for leaf, (gradient,) in self.pending.items():
                recorder.arrive_at_leaf(leaf, gradient)
        return None if self.accumulate and self.recorders[0].holds_back else super()._hand_out()


def settings_of(static) -> dict[str, str]:
    """The settings of an operation as short texts; arrays, functions and what is None are left out."""
    found = {}
    for name, value in static.items():
        if value is None or name.startswith("_") or isinstance(value, (Tensor, ndarray)) or callable(value):
            continue
        if name in ("seed", "offset", "recipe"):  # differ from run to run, or say nothing
            continue
        text = repr(value)
        if " at 0x" not in text:
            found[name] = text if len(text) <= 60 else text[:57] + "..."
    return found
