"""Two graphs side by side: what was added, removed and changed, and how far the numbers are apart; fingerprints."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from .. import files
from .graphs import LEAVES, Graph, Vertex
from .texts import number_text

PAIRS = 4_000_000
"""Pairs of equal entries up to which the longest common subsequences are searched; beyond, the order decides."""


@dataclass
class Pair:
    """A vertex that both graphs have: ``what`` has changed (texts), and the largest differences in ulp (None: unknown).

    An ulp is a step from one floating-point number to the next; the difference is infinite where only one is NaN.
    """

    before: Vertex
    after: Vertex
    what: list[str] = field(default_factory=list)
    value: float | None = None
    gradient: float | None = None


@dataclass
class GraphDiff:
    """What ``after`` has more (``added``), less (``removed``) and otherwise (``changed``) than ``before``.

    ``pairs``: all vertices that both have. True where anything differs, numbers included. ``str()`` lists it; ``save``
    writes it as text, JSON or a picture (green: added, red: removed, orange: changed, blue: other numbers).
    """

    before: Graph
    after: Graph
    added: list[Vertex]
    removed: list[Vertex]
    pairs: list[Pair]

    @property
    def changed(self) -> list[Pair]:
        """The pairs whose structure differs."""
        return [pair for pair in self.pairs if pair.what]

    @property
    def moved(self) -> list[Pair]:
        """The pairs whose values or gradients differ."""
        return [pair for pair in self.pairs if pair.value or pair.gradient]

    @property
    def value(self) -> float | None:
        """The largest difference of values, in ulp; None where none could be compared."""
        return max([p.value for p in self.pairs if p.value is not None], default=None)

    @property
    def gradient(self) -> float | None:
        """The largest difference of gradients, in ulp; None where none could be compared."""
        return max([p.gradient for p in self.pairs if p.gradient is not None], default=None)

    def __bool__(self):
        return bool(self.added or self.removed or self.changed or self.moved)

    def __str__(self):
        names = [graph.title or "a graph" for graph in (self.before, self.after)]
        counts = f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed"
        lines = [f"{names[0]} -> {names[1]}: {counts}" if self else f"{names[0]} and {names[1]} are equal"]
        lines += [f"  + {_where(self.after, v)}: {v.type}" for v in self.added]
        lines += [f"  - {_where(self.before, v)}: {v.type}" for v in self.removed]
        lines += [f"  ~ {_where(self.after, p.after)}: {'; '.join(p.what)}" for p in self.changed]
        for what in ("value", "gradient"):
            known = [p for p in self.pairs if getattr(p, what) is not None]
            apart = [p for p in known if getattr(p, what)]
            if not known:
                lines.append(f"  {what}s: nothing to compare")
            elif not apart:
                lines.append(f"  {what}s: the same in all {len(known)} that both have")
            else:
                worst = max(apart, key=lambda p: getattr(p, what))
                first = f", the first at {_where(self.after, apart[0].after)}" if apart[0] is not worst else ""
                most = _ulp(getattr(worst, what))
                lines.append(f"  {what}s: {len(apart)} of {len(known)} differ, by up to {most} at "
                             f"{_where(self.after, worst.after)}{first}")  # fmt: skip
        return "\n".join(lines)

    __repr__ = __str__

    def dot(self, depth: int | None = None) -> str:
        """The picture as DOT text: the newer graph with what was removed, changes marked by colour."""
        from .pictures import dot

        merged, marks = _merged(self)
        return dot(merged, depth, marks)

    def save(self, path, *, depth: int | None = None) -> str:
        """Write the form that the ending names: svg, png, pdf, html, dot, txt or json; returns the path."""
        from .page import page
        from .pictures import render

        path = Path(path)
        ending = path.suffix.lstrip(".").lower()
        if ending in ("svg", "png", "pdf"):
            files.write(path, render(self.dot(depth), ending))
        elif ending == "html":
            files.write(path, page(*_merged(self)))
        elif ending in ("dot", "gv", "txt", "json"):
            text = str(self) if ending == "txt" else json.dumps(self.json()) if ending == "json" else self.dot(depth)
            files.write(path, text.rstrip() + "\n")
        else:
            raise ValueError(f"cannot save {path.name}: the endings are .svg, .png, .pdf, .html, .dot, .txt and .json")
        return str(path)

    def json(self) -> dict:
        """The difference as JSON data: keys of vertices, and for each pair that differs what does."""
        pairs = [
            {"before": p.before.key, "after": p.after.key, "what": p.what, "value_ulp": _number(p.value),
             "gradient_ulp": _number(p.gradient)}
            for p in self.pairs if p.what or p.value or p.gradient
        ]  # fmt: skip
        return {"format": "autograd-core graph difference", "version": 1, "added": [v.key for v in self.added],
                "removed": [v.key for v in self.removed], "pairs": pairs}  # fmt: skip

    def _repr_mimebundle_(self, include=None, exclude=None, **rest):
        from .pictures import render

        return {"image/svg+xml": render(self.dot(), "svg").decode(), "text/plain": str(self)}


def difference(before: Graph, after: Graph) -> GraphDiff:
    """Match the vertices of two graphs by module, name and order, and compare what both have."""
    for graph in (before, after):
        if not isinstance(graph, Graph):
            raise TypeError(f"diff: needs a Tensor, or two graphs, got {type(graph).__name__}")
    added, removed, pairs = [], [], []
    for side in ("forward", "backward"):
        left, right = getattr(before, side), getattr(after, side)
        for a, b in _aligned([_sign(before, v) for v in left], [_sign(after, v) for v in right]):
            if a is None:
                added.append(right[b])
            elif b is None:
                removed.append(left[a])
            else:
                pairs.append(_compared(left[a], right[b]))
    added, removed = _replaced(before, after, added, removed, pairs)
    order = {key: n for n, key in enumerate(after.vertices)}
    return GraphDiff(before, after, added, removed, sorted(pairs, key=lambda p: order[p.after.key]))


def _module_path(graph: Graph, vertex: Vertex) -> str:
    """The path of the module around a vertex; rounds of a loop are not modules of the user's."""
    key = vertex.module
    while key is not None and graph.modules[key].type == "repeat":
        key = graph.modules[key].parent
    return "" if key is None else graph.modules[key].path


def _where(graph: Graph, vertex: Vertex) -> str:
    path = _module_path(graph, vertex)
    return f"{vertex.label} in {path}" if path else vertex.label


def _path(graph: Graph, vertex: Vertex) -> str:
    """The path of a vertex's module below the outermost one, whose name is the model's."""
    return _module_path(graph, vertex).partition(".")[2]


def _sign(graph: Graph, vertex: Vertex) -> Hashable:
    named = vertex.kind in ("parameter", "buffer")
    return vertex.kind, _path(graph, vertex) if not named else "", vertex.label


def _aligned(left: Sequence, right: Sequence) -> Iterator[tuple]:
    """(position, position) of equal entries in order, with None on one side for what the other lacks."""
    ahead = 0
    while ahead < min(len(left), len(right)) and left[ahead] == right[ahead]:
        yield ahead, ahead
        ahead += 1
    behind = 0
    while behind < min(len(left), len(right)) - ahead and left[-1 - behind] == right[-1 - behind]:
        behind += 1
    a, b = left[ahead : len(left) - behind], right[ahead : len(right) - behind]
    counts = Counter(b)
    found = _by_order(a, b) if sum([counts[x] for x in a]) > PAIRS else _by_subsequence(a, b)
    for i, j in found:
        yield None if i is None else i + ahead, None if j is None else j + ahead
    for k in range(behind, 0, -1):
        yield len(left) - k, len(right) - k


def _by_subsequence(a, b):
    for _, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if a[i1:i2] == b[j1:j2]:
            yield from zip(range(i1, i2), range(j1, j2), strict=True)
        else:
            yield from ((i, None) for i in range(i1, i2))
            yield from ((None, j) for j in range(j1, j2))


def _by_order(a, b):
    """The k-th of each kind with the k-th of the same kind."""
    places: dict[Hashable, list[int]] = {}
    for j in range(len(b) - 1, -1, -1):
        places.setdefault(b[j], []).append(j)
    for i, sign in enumerate(a):
        yield i, places[sign].pop() if places.get(sign) else None
    yield from ((None, j) for rest in places.values() for j in rest)


def _replaced(before, after, added, removed, pairs):
    """What was removed and added in the same module in the same order is one changed vertex."""
    waiting: dict[Hashable, list[Vertex]] = {}
    for vertex in removed:
        waiting.setdefault((vertex.kind, _path(before, vertex)), []).append(vertex)
    fresh: dict[Hashable, list[Vertex]] = {}
    for vertex in added:
        fresh.setdefault((vertex.kind, _path(after, vertex)), []).append(vertex)
    gone, new = set(), set()
    for key, old in waiting.items():
        if key[1] and len(old) == len(fresh.get(key, ())):  # type: ignore[index]  # a module whose inside was exchanged
            for a, b in zip(old, fresh[key], strict=True):
                pairs.append(_compared(a, b))
                gone.add(a.key)
                new.add(b.key)
    return [v for v in added if v.key not in new], [v for v in removed if v.key not in gone]


def _compared(before: Vertex, after: Vertex) -> Pair:
    pair = Pair(before, after)
    if before.label != after.label:
        pair.what.append(f"{before.label} -> {after.label}")
    if before.type != after.type:
        pair.what.append(f"{before.type} -> {after.type}")
    if not before.is_backward:
        for name in [*before.settings, *[n for n in after.settings if n not in before.settings]]:
            a, b = before.settings.get(name), after.settings.get(name)
            if a != b:
                pair.what.append(f"{name}: {a} -> {b}")
    pair.value = _apart(before.value, after.value)
    if not before.is_backward:
        pair.gradient = _apart(before.gradient, after.gradient)
    else:  # of a vertex of the backward the value is a gradient
        pair.value, pair.gradient = None, pair.value
    return pair


def _apart(first, second):
    if first is None or second is None:
        return None
    a, b = first.array, second.array
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return None
    return largest_ulp(a, b)


_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def largest_ulp(a: np.ndarray, b: np.ndarray) -> float | None:
    """The largest distance of two arrays of one shape and type in units in the last place; 0 and -0 are equal.

    Of integers and booleans the largest difference; infinite where only one is NaN; None for complex numbers.
    """
    if a.size == 0:
        return 0.0
    if a.dtype.kind in "iub":
        wide = np.maximum(a, b).astype(np.float64) - np.minimum(a, b).astype(np.float64)
        return float(wide.max())
    if a.dtype.kind != "f" or a.dtype.itemsize not in _BITS:
        return None
    nans = np.isnan(a), np.isnan(b)
    if (nans[0] != nans[1]).any():
        return math.inf
    first, second = _place(np.ascontiguousarray(a)), _place(np.ascontiguousarray(b))
    apart = np.maximum(first, second) - np.minimum(first, second)
    return float(np.where(nans[0], 0, apart).max())


def _place(array) -> np.ndarray:
    """The place of each number in the order of all numbers of its type."""
    kind = _BITS[array.dtype.itemsize]
    bits = array.view(kind)
    half = kind(1 << (8 * array.dtype.itemsize - 1))
    size = bits & kind((1 << (8 * array.dtype.itemsize - 1)) - 1)
    return np.where(bits >= half, half - size, half + size)


def _ulp(count: float) -> str:
    return "a NaN" if math.isinf(count) else f"{count:,.0f} ulp" if count < 1e6 else f"{number_text(count)} ulp"


def _number(value):
    return "inf" if value is not None and math.isinf(value) else value


# ---------------------------------------------------------------------------------------------------- the picture


def _merged(diff: GraphDiff) -> tuple[Graph, dict[str, tuple[str, str]]]:
    """The newer graph with what was removed put back, and the marks of all that differs."""
    marks = {v.key: ("added", "") for v in diff.added}
    partner = {}
    for pair in diff.pairs:
        partner[pair.before.key] = pair.after.key
        apart = [f"{what} {_ulp(n)}" for what, n in (("value", pair.value), ("gradient", pair.gradient)) if n]
        if pair.what:
            marks[pair.after.key] = "changed", "; ".join([*pair.what, *apart])
        elif apart:
            marks[pair.after.key] = "moved", "; ".join(apart)
    homes = {m.path.partition(".")[2]: key for key, m in diff.after.modules.items()}
    made = replace(diff.after, vertices=dict(diff.after.vertices), edges=list(diff.after.edges))
    for vertex in diff.removed:
        key = partner[vertex.key] = f"x_{vertex.key}"
        module = homes.get(_path(diff.before, vertex)) if vertex.module else None
        made.add(replace(vertex, key=key, module=module, forward=partner.get(vertex.forward or "")))
        marks[key] = "removed", ""
    gone = {v.key for v in diff.removed}
    made.edges += [(partner[a], partner[b]) for a, b in diff.before.edges
                   if (a in gone or b in gone) and a in partner and b in partner]  # fmt: skip
    return made, marks


# ---------------------------------------------------------------------------------------------------- fingerprints


def fingerprint(graph: Graph) -> str:
    """Sixteen hexadecimal digits of the structure of the forward: see `Graph.fingerprint`."""
    order = {v.key: number for number, v in enumerate(graph.forward)}
    lines = [_structure(v) for v in graph.forward]
    edges = [[order[a], order[b]] for a, b in graph.edges if a in order and b in order]
    text = json.dumps([lines, sorted(edges)], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _structure(vertex: Vertex) -> list:
    name = "" if vertex.kind in (*LEAVES, "output") else vertex.op or vertex.label
    return [vertex.kind, name, [list(s) for s in vertex.shapes], vertex.dtype, sorted(vertex.settings.items())]
