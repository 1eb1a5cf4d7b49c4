"""What a compiled program costs, row by row (`Compiled.profile`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import numpy as np

from .entry import MISS, Entry
from .program import Instruction, Program, Value
from .seeing.events import Event, Profile
from .seeing.work import flops
from .tables import Tabled


@contextmanager
def timing(compiled: Any) -> Iterator[Callable[[], list[tuple[Event, int]]]]:
    """Time the rows of a compiled function's calls inside, one by one.

    What it yields returns (event, clock at its beginning) of every row that ran.
    """
    held = [(recording, _ticked(recording)) for recording in compiled._programs]
    before = [(recording, recording.entry) for recording, _ in held]
    for recording, ticked in held:
        recording.use(ticked.entry)
    try:
        yield lambda: [found for _, ticked in held for found in ticked.events()]
    finally:
        for recording, entry in before:
            recording.use(entry)


class _Ticked:
    """The program of a recording, with the clock read between rows."""

    def __init__(self, recording: Any) -> None:
        self.clock: list[int] = []
        self.sides = _sides(recording.program)
        self.entry = Entry(recording, tick=lambda: self.clock.append(perf_counter_ns()))

    def events(self) -> list[tuple[Event, int]]:
        """Each row that ran, and the clock when it began; then forgets them."""
        lowered: Any = self.entry.lowered
        clock, rows = self.clock[:], lowered.timed
        self.clock.clear()
        found = []
        for first in range(0, len(clock), len(rows) + 1):
            ticks = clock[first : first + len(rows) + 1]
            for (row, native), start, stop in zip(rows, ticks, ticks[1:], strict=False):
                found.append((_event(row, native, (stop - start) * 1e-9, self.sides.get(row, "forward")), start))
        return found


def _ticked(recording: Any) -> _Ticked:
    """Made once for a recording; its memory is touched, or the first run would count that as work."""
    if not hasattr(recording, "ticked"):
        recording.ticked = made = _Ticked(recording)
        lowered: Any = made.entry.lowered
        if lowered.native:
            lowered.layout.arena[::4096] |= 0
    return recording.ticked


def _sides(program: Program) -> dict[Instruction | None, str]:
    """To which part of a step each row belongs: what reads gradients without being backward is the update."""
    late: set[Value] = set()
    sides: dict[Instruction | None, str] = {None: "engine"}
    for row in program.instructions:
        backward = str(row.scope or "").endswith("backward")
        sides[row] = "backward" if backward else "update" if late.intersection(row.operands) else "forward"
        if sides[row] != "forward":
            late.update(row.results)
    return sides


def measure(recording: Any, args: tuple, kwargs: dict, repeat: int) -> Profile:
    """Run a recording ``repeat`` times, with the clock read between rows: the median of each row's times."""
    ticked, runs = _ticked(recording), []
    for _ in range(repeat):
        if ticked.entry.run(args, kwargs, True) is MISS:
            raise RuntimeError(f"profile: what {recording.program.name} relies on has changed; call it first")
        runs.append([event for event, _ in ticked.events()])
    middle = np.median([[event.seconds for event in run] for run in runs], axis=0).tolist()
    timed = zip(ticked.entry.lowered.timed, middle, runs[0], strict=False)
    recording.costs = {row: (seconds, event.flops) for (row, _), seconds, event in timed if row is not None}
    starts = np.cumsum([0.0, *middle]).tolist()
    events = [event._replace(seconds=seconds, start=start)
              for event, seconds, start in zip(runs[0], middle, starts, strict=False)]  # fmt: skip
    return Profile(recording.program.name).fill(events, sum(middle))


def _event(row: Instruction | None, native: bool, seconds: float, side: str) -> Event:
    if row is None:
        return Event("copy", side, "", None, 0.0, seconds, 0, 0, native=native)
    moved = sum([v.nbytes for v in (*dict.fromkeys(row.operands), *row.results)])
    kind = ", ".join([v.type for v in row.results])
    scope = str(row.scope or "").removesuffix("backward").strip()
    return Event(row.op.name, side, scope, row.site, 0.0, seconds, _flops(row), moved, type=kind,
                 family=row.op.family.name, colour=row.op.family.colour, native=native)  # fmt: skip


def _flops(row: Instruction) -> int | None:
    members = getattr(row.op.run, "members", None)  # of a fused loop
    if isinstance(row.op.run, Tabled):
        return row.op.run.flops
    if members is not None:
        return sum([_flops(member) or 0 for member in members])
    shapes = [a.shape if isinstance(a, Value) else None if a is None else () for a in row.args]
    return flops(row.op, shapes, [None if out is None else out.shape for out in row.outs], row.static)


# ---------------------------------------------------------------------------------------------------- the table


def kernel_table(recording: Any) -> str:
    """The kernel calls of a recording in order: what each works on, in how many chunks, and where its results lie."""
    lowered = recording.entry.lowered
    if not lowered.native:
        return "no native rows: the pass that makes them is switched off"
    names, layout, lines = recording.program.names(), lowered.layout, [("instruction", "kernel", "chunks", "makes")]
    for row in layout.rows:
        if isinstance(row, Instruction):
            lines.append((row.op.name, "(Python)", "", ", ".join([names[v] for v in row.results])))
            continue
        results = [v for one in (row.row, *row.merged) if one is not None for v in one.results]
        made = ", ".join([f"{names[v]} in {_memory(layout.places[v])}" for v in results if v in layout.places])
        for call in row.plan.calls:
            kernel, chunks = call.kernel.name.partition("@")[0], -(-call.size // call.grain)
            last = call is row.plan.calls[-1]
            lines.append((row.row.op.name if results else "copy", _shortened(kernel), str(chunks),
                          made if last else "(scratch)"))  # fmt: skip
    widths = [max([len(line[i]) for line in lines]) for i in range(3)]
    text = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in lines]
    return "\n".join([*text, f"arena: {layout.arena_size:,} bytes"])


def loop_sources(recording: Any) -> dict[str, str]:
    """The generated files of a recording's fused loops, by the name that `kernel_table` shows."""
    rows = recording.entry.lowered.layout.rows if recording.entry.lowered.native else []
    kernels = [call.kernel for row in rows if not isinstance(row, Instruction) for call in row.plan.calls]
    return {kernel.name.partition("@")[0]: kernel.source for kernel in kernels if kernel.source}


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _memory(place) -> str:
    root = place.root
    return f"arena+{root.offset + place.offset}" if root.kind == "arena" else f"{root.kind} memory"
