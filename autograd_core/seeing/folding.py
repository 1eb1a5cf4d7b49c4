"""Repeated blocks: found by structure and wiring, marked so that views show one of them and a count.

A block is a run of neighbours in one module: calls of equal modules, or rounds of a loop (operations and calls), which
become modules of type "repeat". Blocks are equal when they hold the same operations with the same settings, shapes and
types (but for which elements are picked), wired in the same way among themselves and to the block before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .graphs import LEAVES, Graph, Module, Vertex

LONGEST = 256
"""Neighbours that a block of several may have."""
FEWEST, ROUNDS = 4, 3
"""Plain operations fold where so many are covered by at least so many rounds (two, of a round so long)."""


def fold(graph: Graph) -> Graph:
    """A copy of the graph whose repeated blocks are marked; rounds of a loop become modules."""
    if any([m.fold is not None for m in graph.modules.values()]):
        return graph
    copy = replace(graph, modules={key: replace(m) for key, m in graph.modules.items()},
                   vertices=dict(graph.vertices))  # fmt: skip
    _Folder(copy).run()
    return copy


class Tree:
    """Which operations and calls of modules each module holds, in order of execution (None: the outermost)."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.inside: dict[str | None, list[Vertex | Module]] = {None: []}
        placed: set[str] = set()
        for vertex in graph.vertices.values():
            if vertex.kind != "op":
                continue
            path = []
            key = vertex.module
            while key is not None and key not in placed:
                path.append(graph.modules[key])
                placed.add(key)
                key = graph.modules[key].parent
            for module in reversed(path):
                self.inside.setdefault(module.parent, []).append(module)
                self.inside.setdefault(module.key, [])
            self.inside[vertex.module].append(vertex)

    def operations(self, item: Vertex | Module) -> Iterator[Vertex]:
        """All operations of an item, in order."""
        stack = [item]
        while stack:
            found = stack.pop()
            if isinstance(found, Vertex):
                yield found
            else:
                stack += reversed(self.inside.get(found.key, []))


class _Folder:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.tree = Tree(graph)
        self.inputs = graph.inputs_of()
        self.known: dict[Any, int] = {}  # structure -> number
        self.of_module: dict[str, int] = {}
        self.groups = 0
        self.backs: dict[str, list[str]] = {}
        self.uses: dict[str, set[str]] = {}
        for vertex in graph.vertices.values():
            if vertex.forward is not None and not vertex.begins:
                self.backs.setdefault(vertex.forward, []).append(vertex.key)
        for start, end in graph.edges:
            self.uses.setdefault(start, set()).add(end)

    def run(self):
        """Fold from the outermost module inwards; inside a group, the first alone."""
        for key in reversed(list(self.tree.inside)):
            if key is not None:
                self._signature_of_module(key)
        stack: list[str | None] = [None]
        while stack:
            key = stack.pop()
            items = self.tree.inside[key]
            skipped: set[str] = set()
            for start, period, count in self._runs(items):
                rounds = [items[start + i * period : start + (i + 1) * period] for i in range(count)]
                modules = self._marked(key, rounds)
                skipped |= {m.key for m in modules[1:]}
                if period > 1 or isinstance(rounds[0][0], Vertex):
                    stack.append(modules[0].key)  # the shown one
                    skipped |= {i.key for r in rounds for i in r}
            stack += [i.key for i in items if isinstance(i, Module) and i.key not in skipped]

    # -------------------------------------------------- structure

    def _number(self, structure) -> int:
        return self.known.setdefault(structure, len(self.known))

    def _signature(self, item) -> int:
        if isinstance(item, Module):
            return self._signature_of_module(item.key)
        picks = item.family in ("view", "index")  # which elements are picked differs from round to round
        settings = () if picks else tuple(sorted(item.settings.items()))
        return self._number((item.op, item.label, item.shapes, item.dtype, settings, item.error))

    def _signature_of_module(self, key) -> int:
        found = self.of_module.get(key)
        if found is None:
            module = self.graph.modules[key]
            inside = tuple([self._signature(i) for i in self.tree.inside.get(key, [])])
            found = self.of_module[key] = self._number((module.type, module.parameters, inside))
        return found

    # -------------------------------------------------- runs

    def _runs(self, items) -> Iterator[tuple[int, int, int]]:
        """(start, period, count) of the repeated runs among neighbours: at each place the one that covers most."""
        signs = [self._signature(i) for i in items]
        at = 0
        while at < len(signs) - 1:
            period, count = self._best(signs, at)
            while count >= 2 and not self._is_worth(items[at : at + period], count):
                count = 0
            if count >= 2:
                wired = self._wired_alike(items, at, period, count)
                if wired >= 2 and self._is_worth(items[at : at + period], wired):
                    yield at, period, wired
                    at += period * wired
                    continue
            at += 1

    @staticmethod
    def _best(signs, at):
        left = len(signs) - at
        best, cover = (0, 0), 0
        for period in range(1, min(left // 2, LONGEST) + 1):
            if signs[at] != signs[at + period] or cover >= left - period + 1:
                continue
            end = at
            while end + period < len(signs) and signs[end] == signs[end + period]:
                end += 1
            count = (end - at) // period + 1
            if count >= 2 and count * period > cover:
                best, cover = (period, count), count * period
        return best

    @staticmethod
    def _is_worth(items, count):
        if any([isinstance(i, Module) for i in items]):
            return True
        return count * len(items) >= FEWEST and (count >= ROUNDS or len(items) >= FEWEST)

    def _wired_alike(self, items, at, period, count) -> int:
        """How many rounds, from the first, take their inputs in the same way."""
        rounds = [[v for i in items[at + r * period : at + (r + 1) * period] for v in self.tree.operations(i)]
                  for r in range(count)]  # fmt: skip
        places = [{v.key: n for n, v in enumerate(ops)} for ops in rounds]
        usual = None
        for number, ops in enumerate(rounds):
            before = places[number - 1] if number else {}
            wiring = [[self._origin(k, places[number], before) for k in self.inputs[v.key]] for v in ops]
            if number == 0:
                first = wiring
            elif number == 1:
                usual = wiring
                if not _begins(first, usual):
                    return 1
            elif wiring != usual:
                return number
        return count

    def _origin(self, key, here, before):
        if key in here:
            return "here", here[key]
        if key in before:
            return "before", before[key]
        kind = self.graph.vertices[key].kind
        return "outside", kind if kind in LEAVES else "op"

    # -------------------------------------------------- marks

    def _marked(self, parent, rounds) -> list[Module]:
        """Mark the rounds as one group; those of several items are put into modules of their own."""
        self.groups += 1
        wrapped = len(rounds[0]) > 1 or isinstance(rounds[0][0], Vertex)
        modules = [self._wrapper(parent, n, r) for n, r in enumerate(rounds)] if wrapped else [r[0] for r in rounds]
        backs = [sum([len(self.backs.get(v.key, ())) for v in self.tree.operations(m)]) for m in modules]
        shown = modules[backs.index(max(backs))]  # the first block's input may need no gradient: then another says more
        names = [modules[0].name, modules[-1].name]
        for module in modules:
            module.fold = {"group": f"g{self.groups}", "count": len(modules), "first": shown.key, "names": names}
        return [shown, *[m for m in modules if m is not shown]]

    def _wrapper(self, parent, number, items) -> Module:
        modules = self.graph.modules
        name = f"round {number + 1}"
        path = f"{modules[parent].path}.{name}" if parent else name
        made = Module(f"r{len(modules)}", path, name, "repeat", parent, call=number + 1)
        modules[made.key] = made
        self.tree.inside[made.key] = items
        for item in items:
            if isinstance(item, Module):
                item.parent = made.key
            else:
                self._move(item.key, made.key)
        self._move_leaves(parent, made, items)
        return made

    def _move(self, key, module):
        vertices = self.graph.vertices
        for one in (key, *self.backs.get(key, ())):
            vertices[one] = replace(vertices[one], module=module)

    def _move_leaves(self, parent, made, items):
        """Leaves that this round alone uses go into it."""
        here = {i.key for i in items if isinstance(i, Vertex)}
        for key in dict.fromkeys([k for i in here for k in self.inputs[i]]):
            leaf = self.graph.vertices[key]
            if leaf.kind in LEAVES and leaf.module == parent and self.uses[key] <= here:
                self._move(key, made.key)


def _begins(first, usual):
    """Whether the first round is wired as the others, but for what they take from the round before."""
    if [len(origins) for origins in first] != [len(origins) for origins in usual]:
        return False
    pairs = [pair for a, b in zip(first, usual, strict=True) for pair in zip(a, b, strict=True)]
    return all([x == y or (y[0] == "before" and x[0] == "outside") for x, y in pairs])


# ---------------------------------------------------------------------------------------------------- what is hidden


def stand_ins(graph: Graph) -> dict[str, str]:
    """For everything in a folded block that is not shown: the key of its counterpart in the block that is."""
    tree, inputs, outputs = Tree(graph), graph.inputs_of(), graph.outputs_of()
    backs: dict[str, list[str]] = {}
    for vertex in graph.vertices.values():
        if vertex.forward is not None and not vertex.begins:
            backs.setdefault(vertex.forward, []).append(vertex.key)
    found: dict[str, str] = {}
    vertices = graph.vertices

    def match(key, shown):
        if key != shown and key not in found:
            found[key] = shown
            for a, b in zip(backs.get(key, ()), backs.get(shown, ()), strict=False):
                found.setdefault(a, b)
                match_gradients(a, b)

    def match_gradients(key, shown):
        """Of several backwards: what starts and ends in a hidden block stands beside the same of the one shown."""
        for side in (inputs, outputs):
            there = {vertices[k].forward: k for k in side[shown] if vertices[k].kind == "gradient"}
            for k in [k for k in side[key] if vertices[k].kind == "gradient"]:
                leaf = vertices[k].forward or ""
                other = there.get(found.get(leaf, leaf))
                if other is not None and other != k:
                    found.setdefault(k, other)

    for module in graph.modules.values():
        if module.fold is None or module.fold["first"] == module.key:
            continue
        first = graph.modules[module.fold["first"]]
        own = {v.key for v in tree.operations(first)}
        used = {k for key in own for k in inputs[key]}
        for a, b in zip(tree.operations(module), tree.operations(first), strict=False):
            match(a.key, b.key)
            for x, y in zip(inputs[a.key], inputs[b.key], strict=False):
                leaves = graph.vertices[x].kind in LEAVES and graph.vertices[x].kind == graph.vertices[y].kind
                if leaves and x not in used:
                    match(x, y)
        _match_modules(tree, module, first, found)
    return {key: _final(found, key) for key in found}


def _match_modules(tree, hidden, shown, found):
    pairs = [(hidden, shown)]
    while pairs:
        a, b = pairs.pop()
        found.setdefault(a.key, b.key)
        inner = [[i for i in tree.inside.get(m.key, []) if isinstance(i, Module)] for m in (a, b)]
        pairs += zip(*inner, strict=False)


def _final(found, key):
    while key in found:
        key = found[key]
    return key
