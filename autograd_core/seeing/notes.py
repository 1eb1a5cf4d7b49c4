"""What a recorder knows while it writes: which vertex made which array, what is held, where in the modules it is."""

from __future__ import annotations

import weakref
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import provenance, storage
from ..modes import BackwardScope, Watcher, state
from ..registry import index as index_family
from ..shapes import ndarray
from ..tensor import Tensor
from .graphs import Graph, Module, Vertex
from .names import called, name_of, users_frame
from .statistics import Kept

RENAMED = {"scatter_view": "setitem"}  # a part of a tensor is written whose history goes on
SETITEM = SimpleNamespace(name="setitem", qualified="setitem", family=index_family, parameters=())


class Notes(Watcher):
    """Vertices, tensors, writes and modules of a graph that is being recorded; `recording.Recorder` is the rest.

    Arrays are known by their identity: ``makers`` says which vertex each comes from. Values are held by reference; one
    that is about to be written is copied before.
    """

    def __init__(self, graph: Graph, values: bool = True, names: dict[int, tuple[str, str]] | None = None):
        self.graph, self.values = graph, values
        self.names = dict(names or {})  # id of a tensor -> (kind, name)
        self.holds_back = False  # whether gradients are kept from the ``grad`` of leaves
        self.makers: dict[int, tuple[Any, str]] = {}  # id of an array -> a reference to it, the key of what made it
        self.places: dict[int, list[int]] = {}  # id of memory -> ids of the arrays in it
        self.sharing: dict[int, list[Kept]] = {}  # id of memory -> values in it
        self.nodes: dict[Any, str] = {}  # Node (or leaf) -> key of its vertex
        self.walked: list[tuple[Any, str]] = []  # (Node, key of its backward vertex) in order
        self.known: dict[int, Any] = {}  # memory of leaves and of what is already kept for backward, by id
        self.numbers: dict[str, tuple] = {}  # key -> (op, args by kind, settings), until the end
        self.open: list[tuple[Any, Module, str]] = []  # (module, its call, scope inside)
        self.named_scope: tuple[str, Module] | None = None
        self.start_scope = ""
        self.calls: dict[int, int] = {}  # id of a module -> how often it was called
        self.paths: dict[str, str] = {}  # path -> key of the module, of nodes that were made before
        self.pending: list[tuple] = []  # (frame, its offsets, targets, tensors, vertex): assignments yet to happen
        self.current: Vertex | None = None  # the backward vertex that is at work
        self.kept: list = []  # what must stay alive, so that its id stays its own
        self.zero = perf_counter()
        self.saved = 0

    # -------------------------------------------------- vertices

    def new_vertex(self, kind, op, arrays, place, module) -> Vertex:
        """A vertex of an operation that has made ``arrays``."""
        label = (called(3) if op.qualified.startswith("internal.") else None) or RENAMED.get(op.name, op.name)
        vertex = Vertex(f"n{len(self.graph.vertices)}", kind, label, tuple([a.shape for a in arrays]),
                        str(arrays[0].dtype) if arrays else "", op.qualified, op.family.name, op.family.colour,
                        module=module, place=place)  # fmt: skip
        if arrays:
            vertex.value = self.hold(arrays[0])
        self.graph.vertices[vertex.key] = vertex
        return vertex

    def remember(self, vertex, op, args, static) -> None:
        """Note what settings and the count of operations are worked out from in the end."""
        given = [a.array.shape if isinstance(a, Tensor) else a.shape if isinstance(a, ndarray) else a for a in args]
        self.numbers[vertex.key] = op, given, static

    def hold(self, array) -> Kept | None:
        """An array by reference, where values are held."""
        if not self.values:
            return None
        kept = Kept(array, storage.latest)
        self.sharing.setdefault(id(storage.owner_of(array)), []).append(kept)
        return kept

    def newly_kept(self, node):
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

    # -------------------------------------------------- tensors

    def maker(self, tensor):
        """The key of what made a tensor; it becomes a leaf where nothing that was seen did."""
        key = self.nodes.get(tensor.node) or self.maker_of(tensor.array)
        if key is not None and tensor.node is not None:
            self.nodes[tensor.node] = key  # of a checkpoint, too: another node for the same array
        return self.leaf(tensor) if key is None else key

    def leaf(self, tensor, kind=None, label=None, module=None) -> str:
        """A new vertex for a tensor that comes from outside."""
        found, name = self.names.get(id(tensor), (None, None))
        name = name or tensor.name or name_of(tensor, users_frame(2))
        if kind is None:
            kind = found or ("parameter" if tensor.tracks and tensor.node is None else "input" if name else "constant")
        module = self.here(state.scope) if module is None and type(state.scope) is not BackwardScope else module
        array = tensor.array
        value = self.hold(array)
        vertex = Vertex(f"t{len(self.graph.vertices)}", kind, label or name or kind, (array.shape,), str(array.dtype),
                        name=name or label, module=module, value=value)  # fmt: skip
        self.graph.add(vertex)
        self.kept.append(tensor)
        owner = storage.owner_of(array)
        self.known[id(owner)] = self._reference(owner)
        self.made(array, vertex.key)
        self.nodes[tensor.node if tensor.node is not None else tensor] = vertex.key
        if kind == "parameter":
            self.graph.parameters += array.size
        return vertex.key

    def _reference(self, array):
        """A call that gives the array: while the graph is recorded, or while it lives where no values are held."""
        return (lambda: array) if self.values else weakref.ref(array)

    def made(self, array, key) -> None:
        """Note which vertex an array comes from."""
        if id(array) not in self.makers:
            self.places.setdefault(id(storage.owner_of(array)), []).append(id(array))
        self.makers[id(array)] = self._reference(array), key

    def maker_of(self, array):
        """The key of what made an array, or None."""
        reference, key = self.makers.get(id(array), (None, None))
        return key if reference is not None and reference() is array else None

    def _overlapping(self, array) -> list[ndarray]:
        """The known arrays that share memory with ``array``."""
        known = [self.makers[number][0]() for number in self.places.get(id(storage.owner_of(array)), ())]
        return [other for other in known if other is not None and np.may_share_memory(other, array)]

    # -------------------------------------------------- writes

    def write(self, target, result):
        """Values in memory that is about to be written are copied; what is there comes from ``result`` now."""
        super().write(target, result)
        self.about_to_change(target.array)
        if not target.tracks and not getattr(result, "tracks", False) and self._write_part(target.array, result):
            return
        key = self.maker(result) if isinstance(result, Tensor) else None
        if key is None:
            return
        vertex, before = self.graph.vertices[key], self.maker_of(target.array)
        known = before is None or before == key or (before, key) in self.graph.edges[-8:]
        if not known and not target.tracks:
            self.graph.edges.append((before, key))
        vertex.settings = {**vertex.settings, "in place": "yes"}
        for array in self._overlapping(target.array):
            if array is not result.array:
                self.made(array, key)
        self.made(target.array, key)
        for *_, outs, _ in self.pending:
            if any([result is out for out in outs]):
                outs.append(target)

    def _write_part(self, part, result) -> bool:
        """Where ``part`` is a part of a known array: that array comes from an operation "setitem" now."""
        arrays = self._overlapping(part)
        whole = max(arrays, key=lambda array: array.size, default=part)
        if whole.size <= part.size:
            return False
        place = provenance.site(4)
        sources = [self.maker_of(whole), *([self.maker(result)] if isinstance(result, Tensor) else [])]
        vertex = self.new_vertex("op", SETITEM, [whole], place, self.here(state.scope))
        self.graph.edges += [(source, vertex.key) for source in sources if source is not None]
        for array in arrays:
            if array is not getattr(result, "array", None):
                self.made(array, vertex.key)
        vertex.value = None  # it is written only after this
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

    # -------------------------------------------------- names and modules

    def settle(self):
        """See whether results that were noted have been assigned to what their statements name."""
        if not self.pending:
            return
        waiting, self.pending = self.pending, []
        for entry in waiting:
            frame, (first, last), targets, outs, vertex = entry
            variables = frame.f_locals
            if any([t.name not in variables for t in targets]):
                variables = {**frame.f_globals, **variables}
            held = [target.found_in(variables) for target in targets]
            found = [text for text, value in held if value is not None and any([value is out for out in outs])]
            if found:
                vertex.name = ", ".join(found)
            elif first <= frame.f_lasti < last:
                self.pending.append(entry)  # the statement still computes

    def _learn_names(self, module):
        for kind, named in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
            for name, tensor in named:
                self.names.setdefault(id(tensor), (kind, name))

    def enter(self, module):
        """A module is called."""
        super().enter(module)
        self.settle()
        if not self.open:
            self._learn_names(module)
        scope = state.scope or ""
        name = getattr(module, "_label", None) or type(module).__name__
        around = scope[: -len(name)].rstrip(".") if scope.endswith(name) else scope
        parent = self.here(around)
        path = f"{self.graph.modules[parent].path}.{name}" if parent else name
        self.calls[id(module)] = call = self.calls.get(id(module), 0) + 1
        if call == 1:
            self.kept.append(module)
        made = self.new_module(path, name, type(module).__name__, parent)
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

    def new_module(self, path, name, kind, parent) -> Module:
        """A call of a module, or what stands for one."""
        made = Module(f"m{len(self.graph.modules)}", path, name, kind, parent)
        self.graph.modules[made.key] = made
        return made

    def module_at(self, scope):
        """The key of the module with a path, for nodes that were made before: calls cannot be told apart."""
        key = None
        parts = str(scope or "").split(".") if scope else []
        for count, name in enumerate(parts, 1):
            path = ".".join(parts[:count])
            if path not in self.paths:
                self.paths[path] = self.new_module(path, name, "", key).key
            key = self.paths[path]
        return key

    def here(self, scope):
        """The key of the call of a module in which ``scope`` lies; a scope that the user named is one, too."""
        scope = scope or ""
        inside, base = (self.open[-1][1].key, self.open[-1][2]) if self.open else (None, self.start_scope)
        name = scope[len(base) :].lstrip(".") if scope.startswith(base) else scope
        if not name:
            self.named_scope = None
            return inside
        if self.named_scope is None or self.named_scope[0] != scope or self.named_scope[1].parent != inside:
            path = f"{self.graph.modules[inside].path}.{name}" if inside else name
            self.named_scope = scope, self.new_module(path, name, "scope", inside)
        return self.named_scope[1].key
