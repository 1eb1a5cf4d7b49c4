"""Tables: ``ag.summary`` of a model, and graphs as data frames."""

from __future__ import annotations

import html
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..backward import _Pass
from ..backward import backward as run_backward
from ..modes import Watcher, unwatched
from ..ops import ones_like
from .folding import Tree
from .graphs import Graph, Module, Vertex
from .making import graph, tensors_in, undisturbed
from .texts import count_text, module_title, size_text, time_text


@dataclass
class Row:
    """One line of a summary: a call of a module (or an operation outside of any), with what was measured.

    ``activations``: bytes that its operations keep for backward. ``peak``: the most memory in use while it ran, above
    what was in use before the run. ``count``: how many equal blocks it stands for; numbers are those of one.
    """

    name: str
    type: str
    level: int
    shape: str
    parameters: int
    flops: int | None
    forward: float | None
    backward: float | None
    activations: int | None
    peak: int | None
    count: int = 1


@dataclass
class Summary:
    """Rows, and totals of the whole: ``print`` it, or see it in a notebook; ``graph`` is what was measured."""

    graph: Graph
    rows: list[Row] = field(default_factory=list)
    trainable: int = 0
    peak: int | None = None
    forward: float | None = None
    backward: float | None = None

    COLUMNS = ("layer", "output", "parameters", "FLOP", "forward", "backward", "kept", "peak")

    def cells(self) -> Iterator[list[str]]:
        """The rows as texts."""
        for row in self.rows:
            work = "" if row.flops is None else count_text(row.flops).strip()
            yield ["  " * row.level + row.name, row.shape, f"{row.parameters:,}" if row.parameters else "", work,
                   time_text(row.forward), time_text(row.backward), size_text(row.activations),
                   size_text(row.peak)]  # fmt: skip

    def totals(self) -> list[str]:
        """Lines below the table."""
        graph = self.graph
        lines = [f"parameters: {graph.parameters:,} ({self.trainable:,} trainable)"]
        if flops := graph.total("flops"):
            ahead = graph.total("flops", graph.forward)
            lines.append(f"work: {count_text(ahead or 0)}FLOP forward, {count_text(flops - (ahead or 0))}FLOP backward")
        both = f", {time_text(self.backward)} backward" if self.backward is not None else ""
        lines.append(f"time: {time_text(self.forward)} forward{both}")
        lines.append(f"memory: {size_text(graph.saved_bytes)} kept for backward, {size_text(self.peak)} at the peak")
        return lines

    def __str__(self):
        table = [list(self.COLUMNS), *self.cells()]
        widths = [max([len(line[i]) for line in table]) for i in range(len(self.COLUMNS))]
        lines = ["  ".join([cell.ljust(w) if i < 2 else cell.rjust(w)
                            for i, (cell, w) in enumerate(zip(line, widths, strict=True))]).rstrip()
                 for line in table]  # fmt: skip
        rule = "─" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, *self.totals()])

    __repr__ = __str__

    def _repr_html_(self):
        def line(cells, kind):
            ends = [f'style="text-align:{"left" if i < 2 else "right"};white-space:pre"' for i in range(len(cells))]
            return "".join([f"<{kind} {e}>{html.escape(c)}</{kind}>" for c, e in zip(cells, ends, strict=True)])

        body = "".join([f"<tr>{line(cells, 'td')}</tr>" for cells in self.cells()])
        below = "<br>".join(map(html.escape, self.totals()))
        return f"<table><thead><tr>{line(self.COLUMNS, 'th')}</tr></thead><tbody>{body}</tbody></table><p>{below}</p>"

    def to_pandas(self):
        """The rows as a `pandas.DataFrame`; needs pandas."""
        return _pandas("summary").DataFrame([vars(row) for row in self.rows])


def summary(model: Any, *inputs: Any, kwargs: dict[str, Any] | None = None, loss: Callable | None = None,
            backward: bool = True, depth: int | None = None, repeat: int = 3) -> Summary:  # fmt: skip
    """A table of a model's layers, measured by running it: shapes, parameters, FLOPs, times and memory.

    Each line is a call of a module: its output's shape, parameters, floating-point operations of the forward, times of
    forward and backward (the shortest of ``repeat`` runs, after one that warms up), bytes kept for backward, and the
    peak of memory while it ran (allocations of NumPy and Python, above what was in use before, in a run of its own).
    Equal blocks are one line, with their count. Arguments as in `graph`: without ``loss``, backward starts from ones.

    The model is run ``repeat`` + 2 times; its buffers, gradients and the default generator stay as they were.
    """
    how: dict[str, Any] = {"kwargs": kwargs, "loss": loss, "backward": backward, "values": False}
    graph(model, *inputs, **how)
    runs = [graph(model, *inputs, **how) for _ in range(max(repeat, 1))]
    first = runs[0]
    _shortest(runs)
    meter = _Meter()
    _run_measured(meter, model, inputs, kwargs or {}, loss, backward)
    called = [m for m in first.modules.values() if m.type != "scope"]
    for module, peak in zip(called, meter.peaks, strict=False):
        module.peak = peak
    parameters = list(model.parameters()) if hasattr(model, "parameters") else []
    made = Summary(first, trainable=sum([p.array.size for p in parameters if p.requires_grad]), peak=meter.peak)
    made.forward = first.total("seconds", [v for v in first.forward if v.kind == "op"])
    made.backward = first.total("seconds", first.backward)
    made.rows = list(_rows(first.folded(), depth))
    return made


def _shortest(runs):
    """Into the first of equal graphs, the shortest time of each vertex and module."""
    first = runs[0]
    for other in runs[1:]:
        for kind in ("vertices", "modules"):
            for a, b in zip(getattr(first, kind).values(), getattr(other, kind).values(), strict=False):
                for what in ("seconds", "backward_seconds"):
                    if getattr(a, what, None) is not None and getattr(b, what, None) is not None:
                        setattr(a, what, min(getattr(a, what), getattr(b, what)))


def _rows(graph: Graph, depth) -> Iterator[Row]:
    tree = Tree(graph)
    outer = graph.outputs_of()

    def walk(key, level):
        for item in tree.inside.get(key, []):
            if isinstance(item, Vertex):
                if key is None:
                    backs = [v.seconds for v in graph.backward if v.forward == item.key and v.kind == "backward"]
                    behind = sum([s for s in backs if s is not None]) if backs else None
                    yield Row(item.label, item.op or "", level, item.type, 0, item.flops, item.seconds, behind,
                              item.saved_bytes, None)  # fmt: skip
                continue
            if item.fold is not None and item.fold["first"] != item.key:
                continue
            if item.type == "repeat" and all([isinstance(i, Vertex) for i in tree.inside[item.key]]):
                continue
            yield _row(graph, item, list(tree.operations(item)), outer, level)
            if depth is None or level < depth:
                yield from walk(item.key, level + 1)

    yield from walk(None, 0)


def _row(graph: Graph, module: Module, ops: list[Vertex], outer, level) -> Row:
    own = {v.key for v in ops}
    leaving = [v for v in ops if any([end not in own for end in outer[v.key]])] or ops[-1:]
    shapes = list(dict.fromkeys([v.dtype + str(list(v.shapes[0])) for v in leaving if v.shapes]))
    return Row(module_title(module), module.type, level, ", ".join(shapes), module.parameters,
               graph.total("flops", ops), module.seconds, module.backward_seconds, graph.total("saved_bytes", ops),
               module.peak, module.fold["count"] if module.fold else 1)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- memory


class _Meter(Watcher):
    """Measures the peak of memory during each call of a module, and over all."""

    steers = False

    def __init__(self):
        self.peaks: list[int] = []
        self.open: list[tuple[int, int]] = []  # (number of the call, the peak of its parts so far)
        self.peak = 0
        self.start = 0

    def enter(self, module):
        """A module is called."""
        super().enter(module)
        self._note()
        self.open.append((len(self.peaks), 0))
        self.peaks.append(0)
        tracemalloc.reset_peak()

    def leave(self, module):
        """The call of a module is over."""
        self._note()
        number, most = self.open.pop()
        self.peaks[number] = most
        self._raise_to(most)
        super().leave(module)

    def _note(self):
        """Take the peak since the last look."""
        self._raise_to(tracemalloc.get_traced_memory()[1] - self.start)
        tracemalloc.reset_peak()

    def _raise_to(self, most):
        self.peak = max(self.peak, most)
        if self.open:
            number, before = self.open[-1]
            self.open[-1] = number, max(before, most)


def _run_measured(meter, model, inputs, kwargs, loss, backward):
    """One more run, forward and backward, whose memory is traced; gradients go to tensors that are thrown away."""
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start(1)
    try:
        with undisturbed(model if hasattr(model, "modules") else None):
            meter.start = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            with meter:
                result = model(*inputs, **kwargs)
                result = result if loss is None else loss(result)
            outs = [t for t in dict.fromkeys(tensors_in(result)) if t.requires_grad and t.grad_fn is not None]
            if backward and outs:
                _backward_for_nothing(outs)
            meter._note()
    finally:
        if not traced:
            tracemalloc.stop()


class _Nowhere(Watcher):
    """Gradients of leaves go nowhere."""

    steers = False

    def backward(self, walk, roots):
        """Run it, without handing anything out."""
        with unwatched():
            _PassForNothing(walk.retain, walk.create, walk.wanted, walk.accumulate).run(roots)


class _PassForNothing(_Pass):
    """A backward whose gradients go nowhere."""

    __slots__ = ()

    def _hand_out(self):
        return None


def _backward_for_nothing(outs):
    with _Nowhere():
        run_backward(outs, [ones_like(t) for t in outs], retain_graph=False)


# ---------------------------------------------------------------------------------------------------- pandas


def _pandas(name):
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{name}: to_pandas needs pandas: pip install pandas") from error
    return pd


def to_pandas(graph: Graph):
    """The vertices of a graph as a `pandas.DataFrame`, one row each, statistics of values and gradients as columns."""
    rows = []
    for v in graph.vertices.values():
        place = v.source() or {}
        row = {"key": v.key, "kind": v.kind, "label": v.label, "op": v.op, "family": v.family, "name": v.name,
               "module": graph.modules[v.module].path if v.module else None, "shapes": v.shapes, "dtype": v.dtype,
               "settings": v.settings, "forward": v.forward, "file": place.get("file"), "line": place.get("line"),
               "seconds": v.seconds, "flops": v.flops, "bytes": v.bytes, "saved_bytes": v.saved_bytes}  # fmt: skip
        for what, kept in (("value", v.value), ("gradient", v.gradient)):
            found = kept.statistics() if kept is not None else None
            for measure in ("min", "max", "mean", "std", "norm", "nan", "zeros"):
                row[f"{what}_{measure}"] = found[measure] if found else None
        rows.append(row)
    return _pandas("graph").DataFrame(rows)
