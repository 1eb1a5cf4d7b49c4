"""A `GradientReport` as text, Markdown, HTML and pictures."""

from __future__ import annotations

import base64
import importlib.util
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .gradient_reports import GradientReport

SHOWN = 12
"""Rows of long tables that the text shows; Markdown and HTML hold all."""


def _number(value) -> str:
    return "" if value is None or value != value else f"{value:.3g}"


def _tables(report: GradientReport, most: int | None = None):
    """(heading, remark, column titles, rows) of each table."""
    rows = [[p.name, "x".join(map(str, p.shape)) or "scalar", _number(p.weight_norm), _number(p.gradient_norm),
             _number(p.update), f"{p.dead} of {p.units}" if p.units else "", _number(p.error), p.remark]
            for p in report.parameters]  # fmt: skip
    yield ("Parameters", f"update: size of an update by {report.update_of} over that of the parameter",
           ["parameter", "shape", "|w|", "|gradient|", "update", "dead units", "error", "remark"], rows)  # fmt: skip
    if report.repeated:
        rows = [[r.name, str(r.count), _number(r.first), _number(r.last), r.remark, r.place] for r in report.repeated]
        yield ("Repeated calls", "size of the gradient that reaches the first and the last of them",
               ["operation", "calls", "first", "last", "remark", "line"], rows[:most])  # fmt: skip
    if report.check is not None:
        rows = [list(map(_number, pair)) for pair in report.check.pairs]
        yield ("Gradient check", "derivatives of the loss along random directions through all parameters, float64",
               ["by rules", "by differences", "relative error"], rows)  # fmt: skip
    if report.reference is not None:
        rows = [
            [name, str(count), _number(value), _number(gradient)] for name, count, value, gradient in report.worst()
        ]
        missing = sorted({r.call.name.removeprefix("internal.") for r in report.reference if r.value is None})
        remark = "largest distances by operation, in ulp" + (
            f"; without counterpart: {', '.join(missing)}" if missing else ""
        )
        yield "Beside PyTorch", remark, ["operation", "calls", "value", "gradient"], rows[:most]
        if most is None:
            rows = [[str(i), r.call.name.removeprefix("internal."), r.call.scope, r.call.type, _number(r.value),
                     _number(r.gradient), r.why or r.call.line] for i, r in enumerate(report.reference)]  # fmt: skip
            yield ("Beside PyTorch, node by node", "in ulp, in the order in which they ran",
                   ["", "operation", "module", "type", "value", "gradient", "line"], rows)  # fmt: skip


def _verdict(report) -> str:
    if report.check is None:
        return "not checked against central differences"
    if not report.ok:
        return "WRONG: the gradient disagrees with central differences"
    return f"right: largest relative error against central differences {_number(_largest(report))}"


def _largest(report):
    return max([report.check.error, *[row.error for row in report.parameters if row.error is not None]])


def text(report: GradientReport) -> str:
    """The report as aligned text."""
    size = f"loss {report.loss:.6g}, {len(report.parameters)} parameters"
    lines = [f"gradients of {report.title}: {size}, {_verdict(report)}"]
    lines += [f"  ! {problem}" for problem in report.problems]
    for heading, remark, titles, rows in _tables(report, SHOWN):
        lines += ["", f"{heading} ({remark})"]
        widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
        for row in [titles, *rows]:
            cells = [c.ljust(w) if i == 0 or titles[i] in ("remark", "line") else c.rjust(w)
                     for i, (c, w) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
            lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(report: GradientReport) -> str:
    """The report as Markdown."""
    lines = [f"# Gradients of {report.title}", "", f"Loss {report.loss:.6g}; {_verdict(report)}.", ""]
    lines += [f"- **{_cell(problem)}**" for problem in report.problems]
    for heading, remark, titles, rows in _tables(report):
        lines += ["", f"## {heading}", "", f"{remark.capitalize()}.", "", "| " + " | ".join(titles) + " |",
                  "|" + " --- |" * len(titles)]  # fmt: skip
        lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value):
    return value.replace("|", "\\|").replace("\n", " ")


def html(report: GradientReport) -> str:
    """The report as one page without anything from elsewhere."""
    parts = [f"<h1>Gradients of {escape(report.title)}</h1>",
             f"<p>Loss {report.loss:.6g}; {escape(_verdict(report))}.</p>"]  # fmt: skip
    if report.problems:
        parts.append("<ul>" + "".join(f"<li><pre>{escape(p)}</pre></li>" for p in report.problems) + "</ul>")
    if importlib.util.find_spec("matplotlib") is not None:
        picture = io.BytesIO()
        plot(report).savefig(picture, format="png", dpi=110, bbox_inches="tight")
        data = base64.b64encode(picture.getvalue()).decode()
        parts.append(f'<img alt="norms of gradients and sizes of updates" src="data:image/png;base64,{data}">')
    for heading, remark, titles, rows in _tables(report):
        parts.append(f"<h2>{escape(heading)}</h2><p>{escape(remark)}</p><table><tr>")
        parts += [f"<th>{escape(title)}</th>" for title in titles]
        parts.append("</tr>")
        for row in rows:
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    return _PAGE.format(title=escape(report.title), body="\n".join(parts))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Gradients of {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }}
td:first-child, th:first-child, td:last-child, th:last-child {{ text-align: left; }}
img {{ max-width: 100%; }} pre {{ margin: 0; white-space: pre-wrap; }}
</style></head><body>
{body}
</body></html>
"""


def plot(report: GradientReport):
    """A matplotlib figure: norms of gradients and sizes of updates by parameter, distances from PyTorch."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter
    except ImportError as error:
        raise ImportError("plots of a gradient report need matplotlib: pip install 'autograd-core[plots]'") from error
    rows, worst = report.parameters, report.worst()
    height = max(2.5, 0.24 * max(len(rows), len(worst)) + 1)
    figure = Figure(figsize=(16 if worst else 11, height), layout="constrained")
    axes = figure.subplots(1, 3 if worst else 2, squeeze=False)[0]
    names = [row.name for row in rows]
    bars = (("norm of the gradient", [row.gradient_norm for row in rows], [bool(row.remark) for row in rows]),
            (f"update over parameter ({report.update_of})", [row.update for row in rows],
             [row.update == row.update and not 1e-5 < row.update < 1e-1 for row in rows]))  # fmt: skip
    for axis, (title, values, odd) in zip(axes, bars, strict=False):
        _bars(axis, title, names, values, odd)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())  # labels between the powers of ten would overlap
    if worst:
        sizes = [max(value, gradient or 0.0) for _, _, value, gradient in worst]
        _bars(axes[2], "distance from PyTorch (ulp)", [name for name, *_ in worst], sizes, [s > 1e3 for s in sizes])
        axes[2].set_xscale("symlog")
    figure.suptitle(f"Gradients of {report.title}, {_verdict(report)}", fontsize=10)
    return figure


def _bars(axis, title, names, values, odd):
    shown = [v if np.isfinite(v) and v > 0 else np.nan for v in values]
    axis.barh(range(len(names)), shown, color=["#c44e52" if strange else "#4c72b0" for strange in odd])
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_title(title, fontsize=9)
    axis.grid(axis="x", alpha=0.3)
