"""What of a graph a picture or tree shows: repeated blocks once, modules below a depth as one closed box each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .folding import stand_ins
from .graphs import LEAVES, Graph, Module, Vertex

ROOM = 160
"""Boxes up to which a picture opens modules by itself."""
MOST = 2500
"""Boxes that a picture may have at all: more cannot be looked at, and layout takes too long."""
APART = 70
"""Boxes up to which parameters and their gradients are boxes, not lines in the operation that uses them."""


@dataclass(eq=False)
class Box:
    """One operation, tensor or closed module; ``held``: what a closed module holds, ``result``: the operation
    whose value leaves it, ``leaves``: parameters inside."""  # noqa: D209

    key: str
    vertex: Vertex | None = None
    module: Module | None = None
    held: list[Vertex] = field(default_factory=list)
    result: Vertex | None = None
    leaves: list[Vertex] = field(default_factory=list)
    is_backward: bool = False


@dataclass(eq=False)
class Frame:
    """An open module with its boxes and frames in order."""

    key: str
    module: Module | None = None
    items: list[Box | Frame] = field(default_factory=list)

    def boxes(self) -> Iterator[Box]:
        """All boxes, at any depth."""
        for item in self.items:
            if isinstance(item, Box):
                yield item
            else:
                yield from item.boxes()


class Scene:
    """Boxes in frames, forward and backward, and the edges between them as (from, to, whether to the next round).

    ``depth``: modules below it are closed (None: as many levels are open as make `ROOM` boxes). Raises ValueError where
    there are more than `MOST` boxes.
    """

    def __init__(self, graph: Graph, depth: int | None = None):
        self.graph = graph = graph.folded()
        self.hidden = stand_ins(graph)
        self.levels = {key: len(list(self._chain(key))) for key in graph.modules}
        self.shown = [v for v in graph.vertices.values() if v.key not in self.hidden]
        self.depth = self._chosen() if depth is None else depth
        count = self._count(self.depth)
        if count > MOST:
            what = "" if depth is None else f" at depth {depth}"
            raise ValueError(f"the picture would have {count:,} boxes{what}, more than {MOST:,}: give a smaller depth, "
                             "name parts of it with ag.scope, or save it as .html, which shows any number")  # fmt: skip
        self.merges = count > APART
        self.boxes: dict[str, Box] = {}
        self.forward, self.backward = Frame("cluster_forward"), Frame("cluster_backward")
        self._fill()
        self.edges = self._visible_edges()

    @property
    def is_closed(self) -> bool:
        """Whether some modules are closed that could be opened."""
        return any([box.module is not None for box in self.boxes.values()])

    def _chain(self, key) -> Iterator[Module]:
        """The modules around a place, the innermost first; those that are shown for others stand in for them."""
        while key is not None:
            found = self.graph.modules[self.hidden.get(key, key)]
            yield found
            key = found.parent

    def _count(self, depth) -> int:
        found = set()
        for vertex in self.shown:
            home = self._home(vertex, depth)
            found.add((vertex.key if home is None else home.key, vertex.is_backward))
        return len(found)

    def _chosen(self) -> int:
        depth = max(self.levels.values(), default=0)
        while depth > 0 and self._count(depth) > ROOM:
            depth -= 1
        return depth

    def _home(self, vertex, depth) -> Module | None:
        """The closed module in which a vertex lies, the outermost one."""
        closed = None
        for module in self._chain(vertex.module):
            if self.levels[module.key] > depth:
                closed = module
        return closed

    # -------------------------------------------------- boxes

    def _fill(self):
        frames: dict[tuple[str, bool], Frame] = {}
        for vertex in self.shown:
            if self.merges and self._is_merged(vertex):
                continue
            home = self._home(vertex, self.depth)
            key = vertex.key if home is None else f"{home.key}_{'b' if vertex.is_backward else 'f'}"
            if key not in self.boxes:
                parent = next(self._chain(vertex.module if home is None else home.parent), None)
                box = self.boxes[key] = Box(key, vertex if home is None else None, home, is_backward=vertex.is_backward)
                self._frame(parent, vertex.is_backward, frames).items.append(box)
            self.boxes[key].held.append(vertex)
        if self.merges:
            self._merge()

    def _frame(self, module, backward, frames) -> Frame:
        if module is None:
            return self.backward if backward else self.forward
        found = frames.get((module.key, backward))
        if found is None:
            found = frames[module.key, backward] = Frame(f"cluster_{module.key}_{'b' if backward else 'f'}", module)
            self._frame(next(self._chain(module.parent), None), backward, frames).items.append(found)
        return found

    def _is_merged(self, vertex) -> bool:
        """Whether a tensor is a line in the box of the operation that uses it."""
        if vertex.kind == "gradient":
            return not vertex.begins
        return vertex.kind in ("parameter", "buffer", "constant")

    def _merge(self):
        for start, end in self.graph.edges:
            start, end = self.hidden.get(start, start), self.hidden.get(end, end)
            for leaf, other in ((start, end), (end, start)):
                vertex = self.graph.vertices[leaf]
                if self._is_merged(vertex) and vertex.kind in (*LEAVES, "gradient"):
                    box = self.boxes.get(self._box_of(other))
                    if box is not None and vertex not in box.leaves:
                        box.leaves.append(vertex)

    # -------------------------------------------------- edges

    def _box_of(self, key) -> str:
        vertex = self.graph.vertices[self.hidden.get(key, key)]
        home = self._home(vertex, self.depth)
        return vertex.key if home is None else f"{home.key}_{'b' if vertex.is_backward else 'f'}"

    def _visible_edges(self) -> list[tuple[str, str, bool]]:
        order = {key: n for n, key in enumerate(self.graph.vertices)}
        found: dict[tuple[str, str], bool] = {}
        for start, end in self.graph.edges:
            a, b = self._box_of(start), self._box_of(end)
            if a not in self.boxes or b not in self.boxes or (a == b and (start == end or self.boxes[a].module)):
                continue
            moved = a == b or order[self.hidden.get(start, start)] > order[self.hidden.get(end, end)]
            found[a, b] = found.get((a, b), True) and moved
            self.boxes[a].result = self.graph.vertices[start]
        return [(a, b, again) for (a, b), again in found.items()]
