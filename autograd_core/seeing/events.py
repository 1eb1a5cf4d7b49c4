"""What was measured, and the tables made of it: a `Profile` of an eager block of code or of a compiled program."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import files, provenance

if TYPE_CHECKING:
    from ..kernels.peak import Roof
    from .trace import Span

SIDES = FORWARD, BACKWARD, UPDATE, ENGINE = ("forward", "backward", "update", "engine")
ROWS = 30
"""Rows of a table that are printed."""


class Event(NamedTuple):
    """One call of one operation. ``start`` counts seconds from the beginning; what is not known is None.

    ``bytes``: read and written, each array once. ``allocated``: of results in new memory. ``saved``: kept for backward
    that nothing before it kept, parameters left out. ``peak``: the most that was held while it ran. ``native``: whether
    a compiled row runs in machine code.
    """

    name: str
    side: str
    scope: str
    place: tuple | None
    start: float
    seconds: float
    flops: int | None
    bytes: int
    allocated: int = 0
    saved: int = 0
    peak: int | None = None
    type: str = ""
    family: str = ""
    colour: str = "#dddddd"
    native: bool = True

    @property
    def line(self) -> str:
        """File and line of the user's code."""
        if self.place is None:
            return ""
        return f"{Path(self.place[0].co_filename).name}:{provenance.line_of(self.place)}"


@dataclass
class Row:
    """The sum of some events: one line of a table."""

    name: str
    calls: int = 0
    seconds: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    flops: int = 0
    bytes: int = 0
    allocated: int = 0
    saved: int = 0
    peak: int = 0
    least: float = 0.0  # seconds that the work would take at the machine's best
    depth: int = 0

    def add(self, event: Event, roof: Roof) -> None:
        """One more event."""
        self.calls += 1
        self.seconds += event.seconds
        if event.side in ("forward", "backward"):
            setattr(self, event.side, getattr(self, event.side) + event.seconds)
        self.flops += event.flops or 0
        self.bytes += event.bytes
        self.allocated += event.allocated
        self.saved += event.saved
        self.peak = max(self.peak, event.peak or 0)
        wide = 2 if event.type.startswith(("float64", "f64")) else 1  # half as many numbers fit into a register
        self.least += min(roof.seconds(wide * (event.flops or 0), event.bytes), event.seconds)


class Profile:
    """What was measured in a block: `events` in order of time, and tables of them.

    ``str()`` is the tables by operation, module and line; ``rows("operation")`` one of them as data; ``save`` writes a
    Chrome trace (.json), a flame graph (.svg), a page (.html) or text (.txt).
    """

    def __init__(self, title: str):
        self.title, self.seconds = title, 0.0
        self._events: list[Event] | Callable[[], list[Event]] = []

    def fill(self, events: list[Event] | Callable[[], list[Event]], seconds: float) -> Profile:
        """Take what was measured over so many seconds, or what gives it when it is first asked for; returns itself."""
        self._events, self.seconds = events, seconds
        return self

    @property
    def events(self) -> list[Event]:
        """Every call that was measured, in order of time."""
        if callable(self._events):
            self._events = self._events()
        return self._events

    @property
    def measured(self) -> float:
        """Seconds inside operations; the rest of ``seconds`` is Python between them."""
        return sum([event.seconds for event in self.events])

    @property
    def saved(self) -> int:
        """Bytes that the forward keeps for the backward."""
        return sum([event.saved for event in self.events])

    def roof(self) -> Roof:
        """The best that this machine can do with the threads in use: measured once, kept in the user's cache."""
        from ..kernels import peak, threads

        return peak.roof(threads.get_num_threads())

    # -------------------------------------------------- tables

    def rows(self, by: str = "operation") -> list[Row]:
        """The events summed up by "operation", "module" (each with what it calls), "line" or "call", dearest first.

        Modules come in the order in which they were called first.
        """
        if by not in KEYS:
            raise ValueError(f"rows: by must be one of {', '.join(KEYS)}, got {by!r}")
        found: dict[str, Row] = {}
        roof = self.roof()
        for number, event in enumerate(self.events):
            for depth, key in enumerate(KEYS[by](event)):
                name = f"{number}" if by == "call" else key
                found.setdefault(name, Row(key, depth=depth)).add(event, roof)
        return _in_order(found) if by == "module" else sorted(found.values(), key=lambda row: -row.seconds)

    def __str__(self):
        return "\n".join([*self.head(), *[line for by in ("operation", "module", "line") for line in self.table(by)]])

    __repr__ = __str__

    def head(self) -> Iterable[str]:
        """Two lines: where the time went by pass, and what the machine can do."""
        parts = [f"{self._side(side) * 1e3:,.2f} ms {side}" for side in SIDES if self._side(side)]
        outside = max(self.seconds - self.measured, 0.0)
        yield (f"{self.title}: {self.seconds * 1e3:,.2f} ms, {len(self.events)} calls; {', '.join(parts)}; "
               f"{outside * 1e3:,.2f} ms between them")  # fmt: skip
        yield f"keeps {size_text(self.saved)} for backward; this machine at best: {self.roof()}"

    def _side(self, side):
        return sum([event.seconds for event in self.events if event.side == side])

    def table(self, by: str = "operation", most: int = ROWS) -> list[str]:
        """One table as lines of text: the ``most`` dearest rows."""
        rows = self.rows(by)
        if not rows or (by == "module" and len(rows) == 1 and not rows[0].name):
            return []
        columns, whole = self.columns(rows), max(self.measured, 1e-12)
        shown = [[c.of(row, whole) for c in columns] + [label_of(row, by)] for row in rows[:most]]
        heads = [c.name for c in columns] + [f"by {by}"]
        widths = [max(map(len, column)) for column in zip(heads, *shown, strict=True)]
        lines = ["", _line(heads, widths)]
        lines += [_line(cells, widths) for cells in shown]
        if len(rows) > most:
            rest = sum([row.seconds for row in rows[most:]])
            lines.append(f"... {len(rows) - most} more, {rest / whole:.1%}")
        return lines

    def columns(self, rows: list[Row]) -> list[Column]:
        """The columns in which some row has something to say."""
        times = _times("ms", 1e3) if self.measured > 0.01 else _times("us", 1e6)
        return [c for c in (*times, *COLUMNS) if any([c.number(row) for row in rows])]

    def to_pandas(self):
        """The events as a `pandas.DataFrame`, one row each; needs pandas."""
        import pandas as pd

        table = pd.DataFrame(self.events, columns=Event._fields).drop(columns=["place", "colour"])
        table.insert(3, "line", [event.line for event in self.events])
        return table

    # -------------------------------------------------- files

    def save(self, path) -> str:
        """Write the form that the ending names: .json (Chrome trace), .svg (flame graph), .html or .txt."""
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in FORMS:
            raise ValueError(f"save: cannot write {path.name}: the endings are {', '.join(FORMS)}")
        files.write(path, FORMS[kind](self))
        return str(path)

    def _repr_html_(self) -> str:
        from .profile_page import fragment

        return fragment(self)


def label_of(row: Row, by: str) -> str:
    """The name of a row as its table shows it."""
    if by == "module":
        return "  " * row.depth + (row.name.rpartition(".")[2] if row.depth else row.name or "(no module)")
    if by == "line":
        file, _, number = row.name.rpartition(":")
        text = linecache.getline(file, int(number)).strip() if number.isdigit() else ""
        return f"{Path(file).name}:{number}  {text}" if file else "(elsewhere)"
    return row.name


def _line(cells, widths):
    *numbers, label = cells
    return "  ".join([c.rjust(w) for c, w in zip(numbers, widths[:-1], strict=True)] + [label]).rstrip()


def _in_order(found):
    """Modules below the one that holds them, siblings in the order of their first calls."""
    children: dict[str, list[Row]] = {}
    for row in found.values():
        children.setdefault(row.name.rpartition(".")[0] if row.depth else "", []).append(row)

    def below(row):
        yield row
        for child in children.get(row.name, ()):
            if child.depth == row.depth + 1:
                yield from below(child)

    return [r for row in found.values() if row.depth == 0 for r in below(row)]


def _prefixes(event: Event) -> Iterable[str]:
    parts = event.scope.split(".") if event.scope else [""]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _line_key(event: Event) -> Iterable[str]:
    place = event.place
    return [f"{place[0].co_filename}:{provenance.line_of(place)}" if place is not None else ""]


KEYS: dict[str, Callable[[Event], Iterable[str]]] = {
    "operation": lambda event: [event.name], "module": _prefixes, "line": _line_key,
    "call": lambda event: [f"{event.name}: {event.type}"],
}  # fmt: skip
"""The names under which an event is counted, by kind of table."""


class Column(NamedTuple):
    """One column: its head, a row's number in it, and how the number is written; 0 is left out."""

    name: str
    number: Callable[[Row], float]
    write: Callable[[float], str]

    def of(self, row: Row, whole: float) -> str:
        """The text of a cell; ``whole``: seconds of all rows."""
        number = self.number(row) / (whole if self.name == "share" else 1)
        return self.write(number) if number else ""


def size_text(count: float) -> str:
    """Bytes as a short text: ``1.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def _times(unit, scale):
    def write(seconds):
        return f"{seconds * scale:.2f}"

    return (
        Column(unit, lambda row: row.seconds, write),
        Column("share", lambda row: row.seconds, _percent),
        Column("calls", lambda row: row.calls, "{:.0f}".format),
        Column("forward", lambda row: row.forward, write),
        Column("backward", lambda row: row.backward, write),
    )


def _percent(part):
    return f"{part:.1%}" if part < 0.1 else f"{part:.0%}"


COLUMNS = (
    Column("GFLOP/s", lambda row: row.flops / max(row.seconds, 1e-9) / 1e9, "{:.1f}".format),
    Column("GB/s", lambda row: row.bytes / max(row.seconds, 1e-9) / 1e9, "{:.1f}".format),
    Column("of best", lambda row: row.least / max(row.seconds, 1e-12), _percent),
    Column("new", lambda row: row.allocated, size_text),
    Column("kept", lambda row: row.saved, size_text),
    Column("peak", lambda row: row.peak, size_text),
)
"""``of best``: the least time that the operations and bytes can take here, as a part of the time taken."""


def _spans(profile: Profile) -> Iterable[Span]:
    from .trace import Span

    for e in profile.events:
        details = {"type": e.type, "module": e.scope, "line": e.line, "flops": e.flops, "bytes": e.bytes,
                   "allocated": e.allocated, "saved": e.saved, "peak": e.peak}  # fmt: skip
        yield Span(e.name, e.start, e.seconds, e.side, e.side, {k: v for k, v in details.items() if v})


def flame(profile: Profile) -> str:
    """The flame graph as SVG: pass, modules, operation."""
    from .trace import Stack, flame_svg

    stacks = [Stack((e.side, *filter(None, e.scope.split(".")), e.name), e.seconds, e.colour) for e in profile.events]
    return flame_svg(stacks, f"{profile.title}: time by pass, module and operation")


def _trace(profile: Profile) -> str:
    from .trace import chrome_trace

    return chrome_trace(_spans(profile))


def _page(profile: Profile) -> str:
    from .profile_page import page

    return page(profile)


FORMS: dict[str, Callable[[Profile], str]] = {
    ".json": _trace, ".svg": flame, ".html": _page, ".txt": lambda profile: f"{profile}\n",
}  # fmt: skip
