"""Time as pictures: Chrome traces (for chrome://tracing and Perfetto) and flame graphs (SVG)."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .graphs import Graph
from .texts import time_text

WIDTH, ROW, MARGIN = 1200, 19, 12
"""Pixels of a flame graph: its width, the height of a row, the space around it."""
SIDES = {"forward": "#f6b26b", "backward": "#e8836f", "update": "#c9b458"}
"""Colours of frames that have none of their own."""


class Span(NamedTuple):
    """A stretch of time: ``start`` and ``seconds``, in seconds; ``track`` names the row in which it is shown."""

    name: str
    start: float
    seconds: float
    category: str = ""
    track: str = "main"
    details: dict[str, Any] | None = None


class Stack(NamedTuple):
    """Time spent at the end of a path of frames, the outermost first."""

    frames: tuple[str, ...]
    seconds: float
    colour: str | None = None


def chrome_trace(spans: Iterable[Span]) -> str:
    """The JSON that chrome://tracing and Perfetto open: one complete event a span, one row a track."""
    tracks: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    for span in spans:
        row = tracks.setdefault(span.track, len(tracks) + 1)
        events.append({"name": span.name, "cat": span.category or "op", "ph": "X", "ts": round(span.start * 1e6, 3),
                       "dur": round(span.seconds * 1e6, 3), "pid": 1, "tid": row,
                       "args": {k: v for k, v in (span.details or {}).items() if v is not None}})  # fmt: skip
    names = [{"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name}}
             for name, row in tracks.items()]  # fmt: skip
    return json.dumps({"traceEvents": [*names, *events], "displayTimeUnit": "ms"}, separators=(",", ":"))


def spans_of(graph: Graph) -> Iterator[Span]:
    """What was measured in a graph: calls of modules, and the operations inside them, forward and backward."""
    for module in graph.modules.values():
        if module.started is not None and module.seconds is not None:
            details = {"path": module.path, "parameters": module.parameters}
            yield Span(f"{module.name}: {module.type}", module.started, module.seconds, "module", details=details)
    for vertex in graph.vertices.values():
        if vertex.started is None or vertex.seconds is None:
            continue
        place = vertex.source()
        module_path = graph.modules[vertex.module].path if vertex.module else None
        details = {"type": vertex.type, "name": vertex.name, "module": module_path, "flops": vertex.flops,
                   "bytes": vertex.bytes, "saved_bytes": vertex.saved_bytes, "error": vertex.error,
                   "line": f"{place['file']}:{place['line']}" if place else None}  # fmt: skip
        yield Span(vertex.label, vertex.started, vertex.seconds, vertex.family, details=details)


def stacks_of(graph: Graph) -> Iterator[Stack]:
    """Time by pass, module and operation."""
    for vertex in graph.vertices.values():
        if vertex.seconds is None:
            continue
        path: list[str] = []
        key = vertex.module
        while key is not None:
            path.append(graph.modules[key].name)
            key = graph.modules[key].parent
        side = "backward" if vertex.is_backward else "forward"
        yield Stack((side, *reversed(path), vertex.label.removesuffix(" backward")), vertex.seconds, vertex.colour)


# ---------------------------------------------------------------------------------------------------- flame graphs


class _Frame:
    """One box of a flame graph: its own time and the boxes above it, in order of appearance."""

    __slots__ = ("above", "colour", "name", "own")

    def __init__(self, name, colour=None):
        self.name, self.colour, self.own = name, colour, 0.0
        self.above: dict[str, _Frame] = {}

    @property
    def seconds(self) -> float:
        return self.own + sum([frame.seconds for frame in self.above.values()])

    def depth(self) -> int:
        return 1 + max([frame.depth() for frame in self.above.values()], default=0)


def flame_svg(stacks: Iterable[Stack | Sequence[Any]], title: str = "") -> str:
    """A flame graph as SVG: a box a frame, as wide as the time spent in it and above it; hover for the numbers.

    The outermost frames stand at the bottom. ``stacks``: (frames, seconds) or (frames, seconds, colour of the last).
    """
    root = _Frame("all")
    for given in stacks:
        frames, seconds, colour = Stack(*given)
        frame = root
        for name in frames:
            frame = frame.above.setdefault(name, _Frame(name, SIDES.get(name)))
        frame.own += seconds
        frame.colour = colour or frame.colour
    whole, height = root.seconds, (root.depth() + 2) * ROW + MARGIN
    size = f'width="{WIDTH}" height="{height}"'
    font = 'font-family="Helvetica,Arial,sans-serif" font-size="11"'
    text = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" {font}>',
            f'<rect {size} fill="#ffffff"/>',
            f'<text x="{WIDTH / 2}" y="{ROW}" text-anchor="middle" font-size="14">{html.escape(title)}</text>',
    ]  # fmt: skip
    if whole > 0:
        text += _boxes(root, MARGIN, height - MARGIN - ROW, (WIDTH - 2 * MARGIN) / whole, whole)
    return "\n".join([*text, "</svg>"]) + "\n"


def _boxes(frame, x, y, scale, whole) -> Iterator[str]:
    seconds = frame.seconds
    width = seconds * scale
    if width < 0.3:
        return
    label = html.escape(f"{frame.name}: {time_text(seconds)}, {seconds / whole:.1%}")
    yield (f'<g><title>{label}</title><rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" rx="2" '
           f'fill="{frame.colour or "#e6e6e6"}" stroke="#00000033" stroke-width="0.5"/>')  # fmt: skip
    room = int(width / 6.2)
    if room >= 3:
        shown = frame.name if len(frame.name) <= room else frame.name[: room - 1] + "…"
        more = f"{shown}  {time_text(seconds)}"
        yield f'<text x="{x + 4:.2f}" y="{y + 13}">{html.escape(more if len(more) <= room else shown)}</text>'
    yield "</g>"
    for above in frame.above.values():
        yield from _boxes(above, x, y - ROW, scale, whole)
        x += above.seconds * scale
