"""A computation as data: operations, tensors and calls of modules, forward and backward.

A `Graph` is made by `recording` (something ran and was watched) or by `histories` (what a tensor remembers), and looked
at through its methods: every view is a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from .names import source
from .statistics import Kept

if TYPE_CHECKING:
    from .compare import GraphDiff

BACKWARD = ("backward", "gradient")
"""Kinds of vertices that belong to the backward."""
LEAVES = ("input", "parameter", "buffer", "constant")
"""Kinds of vertices that no operation has made."""


@dataclass(eq=False, slots=True)
class Vertex:
    """One thing in a graph: an operation, a tensor that enters or leaves, or their counterparts in the backward.

    ``kind``: "op", "input", "parameter", "buffer", "constant", "output", "backward" or "gradient". ``value`` is the
    (first) result, ``gradient`` what backward brought for it; of a "backward" or "gradient", ``value`` is the gradient
    itself. What was not measured is None. ``forward``: of a "backward" or "gradient", the key of its counterpart.
    """

    key: str
    kind: str
    label: str
    shapes: tuple[tuple[int, ...], ...] = ()
    dtype: str = ""
    op: str | None = None
    family: str = ""
    colour: str = "#ffffff"
    name: str | None = None
    module: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    forward: str | None = None
    place: tuple | None = None
    started: float | None = None
    seconds: float | None = None
    flops: int | None = None
    bytes: int | None = None
    saved_bytes: int | None = None
    value: Kept | None = None
    gradient: Kept | None = None
    error: str | None = None
    written: dict[str, Any] | None = None  # the user's line, of a graph that was read from a file

    @property
    def is_backward(self) -> bool:
        """Whether it belongs to the backward."""
        return self.kind in BACKWARD

    @property
    def begins(self) -> bool:
        """Whether it is the gradient with which a backward begins."""
        return self.kind == "gradient" and self.key.startswith("s")

    @property
    def title(self) -> str:
        """The label, with the user's name for the result where there is one."""
        return f"{self.name} = {self.label}" if self.name and self.kind == "op" else self.name or self.label

    @property
    def type(self) -> str:
        """Shapes and dtype as text: ``float32[128, 10]``."""
        return f"{self.dtype}{', '.join([str(list(s)) for s in self.shapes])}" if self.shapes else self.dtype

    def source(self) -> dict[str, Any] | None:
        """File, line, function and text of the user's line that made it."""
        return self.written if self.place is None else source(self.place)


@dataclass(eq=False, slots=True)
class Module:
    """One call of a module (or a named scope, or one round of a repeated sequence), which holds vertices and others."""

    key: str
    path: str
    name: str
    type: str
    parent: str | None = None
    parameters: int = 0
    call: int = 1
    fold: dict[str, Any] | None = None
    started: float | None = None
    seconds: float | None = None
    backward_seconds: float | None = None
    peak: int | None = None


@dataclass(eq=False)
class Graph:
    """Vertices by key in the order of execution, edges (from, to), and calls of modules by key.

    ``str()`` is a text tree; ``save`` writes any form; in a notebook it shows itself. ``error``: why it ends early.
    """

    title: str = ""
    vertices: dict[str, Vertex] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    modules: dict[str, Module] = field(default_factory=dict)
    error: str | None = None
    seconds: float | None = None  # from the first operation to the last
    parameters: int = 0  # elements of all parameters
    saved_bytes: int | None = None  # memory that the forward keeps for the backward, parameters left out

    def add(self, vertex: Vertex) -> str:
        """Put a vertex in; returns its key."""
        self.vertices[vertex.key] = vertex
        return vertex.key

    @property
    def forward(self) -> list[Vertex]:
        """The vertices of the forward."""
        return [v for v in self.vertices.values() if not v.is_backward]

    @property
    def backward(self) -> list[Vertex]:
        """The vertices of the backward."""
        return [v for v in self.vertices.values() if v.is_backward]

    @property
    def passes(self) -> str:
        """Which passes it holds, in words."""
        known = [side for side, found in (("forward", self.forward), ("backward", self.backward)) if found]
        return " and ".join(known) or "nothing"

    def total(self, what: str, vertices: Iterable[Vertex] | None = None) -> Any:
        """The sum of ``what`` ("seconds", "flops", "bytes", "saved_bytes") where it is known; None if nowhere."""
        chosen = self.vertices.values() if vertices is None else vertices
        known = [value for v in chosen if (value := getattr(v, what)) is not None]
        return sum(known) if known else None

    def inputs_of(self) -> dict[str, list[str]]:
        """The keys that lead into each vertex, in order."""
        found: dict[str, list[str]] = {key: [] for key in self.vertices}
        for start, end in self.edges:
            found[end].append(start)
        return found

    def outputs_of(self) -> dict[str, list[str]]:
        """The keys to which each vertex leads, in order."""
        found: dict[str, list[str]] = {key: [] for key in self.vertices}
        for start, end in self.edges:
            found[start].append(end)
        return found

    # -------------------------------------------------- views

    def __str__(self):
        from .text import tree

        return tree(self)

    def __repr__(self):
        ops = sum(v.kind == "op" for v in self.vertices.values())
        return f"<Graph {self.title or 'of a computation'}: {ops} operations, {self.passes}>"

    def _repr_html_(self) -> str:
        from .page import embedded

        return embedded(self)

    def folded(self) -> Graph:
        """The graph with its repeated blocks marked (``Module.fold``): what pictures, trees and exports show once."""
        from .folding import fold

        return fold(self)

    def save(self, path, *, depth: int | None = None) -> str:
        """Write the view that the ending names: svg, png, pdf, dot, mmd, html, json or txt; returns the path.

        ``depth``: modules below it are closed, one box each; for pictures and text.
        """
        from .export import saved_form

        path = Path(path)
        files.write(path, saved_form(self, path.suffix.lstrip(".").lower(), path.name, depth))
        return str(path)

    def dot(self, depth: int | None = None) -> str:
        """The picture as DOT text."""
        from .pictures import dot

        return dot(self, depth)

    def mermaid(self, depth: int | None = None) -> str:
        """The picture as Mermaid text, which many viewers of Markdown draw."""
        from .text import mermaid

        return mermaid(self, depth)

    def json(self) -> dict[str, Any]:
        """All of it as JSON data: see `export`."""
        from .export import as_json

        return as_json(self)

    def to_pandas(self):
        """The vertices as a table: a `pandas.DataFrame` with one row each."""
        from .tables import to_pandas

        return to_pandas(self)

    def fingerprint(self) -> str:
        """A short name of the structure: operations, settings, shapes, types and wiring, not values, names or times.

        Equal graphs have equal fingerprints on every machine, so a test can pin an architecture.
        """
        from .compare import fingerprint

        return fingerprint(self)

    def diff(self, other: Graph) -> GraphDiff:
        """What ``other`` has more, less or otherwise: ``ag.diff(graph, other)``."""
        from .compare import difference

        return difference(self, other)

    def trace(self, path) -> str:
        """Write a Chrome trace (JSON for chrome://tracing or Perfetto) of what was measured; returns the path."""
        from .trace import chrome_trace, spans_of

        files.write(path, chrome_trace(spans_of(self)))
        return str(path)

    def flame(self, path) -> str:
        """Write a flame graph (SVG) of the time by module and operation; returns the path."""
        from .trace import flame_svg, stacks_of

        files.write(path, flame_svg(stacks_of(self), f"{self.title}: time by module and operation"))
        return str(path)
