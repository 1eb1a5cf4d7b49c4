"""A profile as HTML: flame graph, roofline, and tables that sort by a click on a head; one file, no network."""

from __future__ import annotations

import html

from .events import KEYS, Profile, flame, label_of
from .roofline import roofline_svg

STYLE = """
.agp { font: 14px/1.4 system-ui, sans-serif; color: #222; }
.agp table { border-collapse: collapse; margin: 0.6em 0 1.6em; }
.agp th, .agp td { padding: 2px 10px; text-align: right; white-space: nowrap; border: 0; }
.agp th { cursor: pointer; border-bottom: 1px solid #999; }
.agp th:last-child, .agp td:last-child { text-align: left; white-space: pre; font-family: ui-monospace, monospace; }
.agp tr:nth-child(even) td { background-color: #f6f6f6; }
.agp td.part { background-image: linear-gradient(to right, var(--bar) var(--part), transparent var(--part)); }
.agp svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { body.agp { background: #fff; } }
"""
SCRIPT = """
document.querySelectorAll(".agp th").forEach(head => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], at = head.cellIndex, down = head.dataset.down !== "1";
  head.dataset.down = down ? "1" : "0";
  const key = row => +row.cells[at].dataset.value || row.cells[at].textContent;
  [...body.rows].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (down ? -1 : 1))
    .forEach(row => body.append(row));
}));
"""
TITLES = {"operation": "By operation", "module": "By module, with what it calls", "line": "By line",
          "call": "Each call"}  # fmt: skip
MOST_CALLS = 1000
"""Rows of the table of single calls."""


def page(profile: Profile) -> str:
    """The whole page."""
    title = html.escape(profile.title)
    body = f"{_style()}<h1>{title}</h1>{_parts(profile, KEYS)}<script>{SCRIPT}</script>"
    return (f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<body class="agp">{body}</body></html>\n')  # fmt: skip


def fragment(profile: Profile) -> str:
    """What a notebook shows: the pictures and the tables by operation and module."""
    return f'<div class="agp">{_style()}{_parts(profile, ("operation", "module"))}</div>'


def _style():
    return f"<style>{STYLE}</style>"


def _parts(profile, kinds):
    head = "".join([f"<p>{html.escape(line)}</p>" for line in profile.head()])
    roofline = roofline_svg(profile.rows("call"), profile.roof())
    if roofline:
        roofline = f"<h2>Beside what this machine can do</h2>{roofline}"
    return head + flame(profile) + roofline + "".join([_table(profile, by) for by in kinds])


def _table(profile, by):
    rows, whole = profile.rows(by)[:MOST_CALLS], max(profile.measured, 1e-12)
    columns = profile.columns(rows)
    heads = "".join([f"<th>{html.escape(c.name)}</th>" for c in columns])
    lines = [f"<h2>{TITLES[by]}</h2><table><thead><tr>{heads}<th>{by}</th></tr></thead><tbody>"]
    for row in rows:
        cells = "".join([_cell(c, row, whole) for c in columns])
        lines.append(f"<tr>{cells}<td>{html.escape(label_of(row, by))}</td></tr>")
    return "".join([*lines, "</tbody></table>"])


BARS = {"share": "#f6b26b99", "of best": "#93c47d99"}


def _cell(column, row, whole):
    part = ""
    if column.name in BARS:
        length = column.number(row) / (whole if column.name == "share" else 1)
        part = f' class="part" style="--part: {length:.1%}; --bar: {BARS[column.name]}"'
    return f'<td{part} data-value="{column.number(row):.6g}">{html.escape(column.of(row, whole))}</td>'
