"""The roofline as a picture: how fast each operation computes, beside the most that arithmetic and memory allow.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from math import log10, sqrt

from ..kernels.peak import Roof
from .events import Row
from .trace import time_text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 330, 64, 40, 24
ROOM = 80, 11
"""Pixels that a label needs: a circle whose label would cover another's has its name only where the mouse points."""


class _Axes:
    """Logarithmic axes: x in operations a byte, y in operations a second."""

    def __init__(self, points: list[tuple[float, float]], roof: Roof):
        ridge = roof.flops / roof.speeds[0][1]
        xs, ys = [x for x, _ in points] + [ridge / 30, ridge * 10], [y for _, y in points] + [roof.flops * 2]
        self.x0, self.x1 = log10(min(xs)) - 0.2, log10(max(xs)) + 0.3
        self.y0, self.y1 = log10(min(ys)) - 0.3, log10(max(ys))

    def x(self, value: float) -> float:
        return LEFT + (log10(value) - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - 16)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (log10(value) - self.y0) / (self.y1 - self.y0) * (HEIGHT - BOTTOM - TOP)

    def ticks(self) -> Iterator[str]:
        """Grid lines at powers of ten, with their numbers."""
        for k in range(round(self.x0), int(self.x1) + 1):
            x = self.x(10.0**k)
            if x >= LEFT:
                yield f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>'
                yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{10.0**k:g}</text>'
        for k in range(round(self.y0), int(self.y1) + 1):
            y = self.y(10.0**k)
            if y <= HEIGHT - BOTTOM:
                yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - 16}" stroke="#eee"/>'
                yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_rate(10.0**k)}</text>'


def _rate(flops):
    return f"{flops / 1e9:g} G" if flops >= 1e9 else f"{flops / 1e6:g} M"


def roofline_svg(rows: Iterable[Row], roof: Roof) -> str:
    """An SVG with a circle a row, its area the time; rows without known operations or bytes are left out."""
    shown = [row for row in rows if row.flops and row.bytes and row.seconds]
    points = [(row.flops / row.bytes, row.flops / row.seconds) for row in shown]
    if not points:
        return ""
    axes, whole = _Axes(points, roof), sum([row.seconds for row in shown])
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="Helvetica,Arial,sans-serif" font-size="11">')  # fmt: skip
    text = [head, '<rect width="100%" height="100%" fill="#fff"/>', *axes.ticks(), *_roofs(axes, roof)]
    labels: list[tuple[float, float]] = []
    for row, point in zip(shown, points, strict=True):
        x, y = axes.x(point[0]), axes.y(point[1])
        radius = 2.5 + 18 * sqrt(row.seconds / whole)
        about = f"{html.escape(row.name)}: {time_text(row.seconds)}, {row.least / row.seconds:.0%} of best"
        text.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#e8836f" fill-opacity="0.6">'
                    f'<title>{about}</title></circle>')  # fmt: skip
        if not any([abs(x - a) < ROOM[0] and abs(y - b) < ROOM[1] for a, b in labels]):
            labels.append((x, y))
            left = x > WIDTH - ROOM[0] - 20
            at, anchor = (x - radius - 2, "end") if left else (x + radius + 2, "start")
            name = html.escape(row.name.partition(":")[0])
            text.append(f'<text x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{name}</text>')
    text.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">operations for each byte moved</text>')
    text.append(f'<text x="8" y="{TOP - 10}">operations a second; a circle is as large as the time it takes</text>')
    return "\n".join([*text, "</svg>"]) + "\n"


def _roofs(axes, roof):
    """The lines above which nothing can be: caches (fast) and main memory (slow), then arithmetic."""
    for (_, speed), dash, name in ((roof.speeds[0], "", "cache"), (roof.speeds[-1], "5 4", "main memory")):
        low, ridge, high = 10**axes.x0, roof.flops / speed, 10**axes.x1
        start = max(low, 10**axes.y0 / speed)
        path = f"M{axes.x(start):.1f} {axes.y(start * speed):.1f}L{axes.x(ridge):.1f} {axes.y(roof.flops):.1f}"
        yield f'<path d="{path}H{axes.x(high):.1f}" fill="none" stroke="#333" stroke-dasharray="{dash}"/>'
        at = sqrt(start * ridge)
        yield f'<text x="{axes.x(at) + 6:.1f}" y="{axes.y(at * speed) + 12:.1f}" fill="#555">{name}</text>'
