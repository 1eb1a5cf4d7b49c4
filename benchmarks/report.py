"""Results as Markdown, as a picture, and beside older ones."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from autograd_core.files import write, writing

from .engines import ENGINES

HEADINGS = {
    "steps": "Training steps, eager", "compiled": "Training steps, compiled", "kernels": "Single operations",
    "ops": "Every operation of the registry", "memory": "Memory", "startup": "Start-up",
    "busy": "On a busy machine",
}  # fmt: skip
BEGIN, END = "<!-- results: written by python -m benchmarks -->", "<!-- end of results -->"
Row = dict[str, Any]
Results = dict[str, Any]


def title(engine: str) -> str:
    """A contestant's name in a table."""
    return ENGINES[engine].title


def counted(row: Row) -> dict[str, float]:
    """The ratio to each peer: the lower of that in one process and that in separate processes."""
    alone = row.get("alone", {})
    return {peer: min(ratio["median"], alone.get(peer, math.inf)) for peer, ratio in row.get("ratios", {}).items()}


def worst(row: Row) -> tuple[float, str] | None:
    """(ratio, peer) for the fastest peer; NumPy, which has no gradients, is shown but is none."""
    return min(((ratio, peer) for peer, ratio in counted(row).items()
                if peer != "numpy" and not peer.startswith("ours")), default=None)  # fmt: skip


def amount(seconds: float, unit: str = "s") -> str:
    """A number with its unit, at three digits."""
    if unit == "×":
        return f"{seconds:.2f} ×"
    if unit != "s":
        return f"{seconds:.3g} {unit}"
    for factor, name in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def _cell(row: Row, engine: str) -> str:
    entry = row["contestants"].get(engine)
    if entry is None or ("seconds" not in entry and entry.get("error") is None):
        return "–"
    text = amount(entry["seconds"], row.get("unit", "s")) if "seconds" in entry else ""
    if "busy" in entry:
        text += f" ({amount(entry['alone'])} → {amount(entry['busy'])})"
    return text + (f" ({entry['error']:.0e})" if entry.get("error") is not None else "")


def _ratio(row: Row, peer: str) -> str:
    ratio = row.get("ratios", {}).get(peer)
    if ratio is None:
        return "–"
    text = f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"
    return text + (f"; alone {row['alone'][peer]:.2f}" if peer in row.get("alone", {}) else "")


def _speed(row: Row) -> str:
    parts = []
    for key, unit in (("flops", "GFLOP/s"), ("bytes", "GB/s")):
        if key in row:
            parts.append(f"{row[key]['a second'] / 1e9:.3g} {unit}, {100 * row[key]['of what can be']:.0f} %")
    return "; ".join(parts) or "–"


def table(rows: list[Row], engines: tuple[str, ...] = tuple(ENGINES)) -> str:
    """The rows of one group as a Markdown table, with those of ``engines`` that took part."""
    present = [e for e in engines if any("missing" not in r["contestants"].get(e, {"missing": 1}) for r in rows)]
    peers = [e for e in present if any(e in r.get("ratios", {}) for r in rows)]
    speeds = any("flops" in r or "bytes" in r for r in rows)
    aims = any(r["aim"] for r in rows)
    head = ["row", *map(title, present), *[f"{title(p)} / ours" for p in peers], *["aim"] * aims, *["ours"] * speeds]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        name = row["name"].replace("|", "\\|") + (f" [{row['shapes']}]" if row.get("shapes") else "")
        name += " †" if row.get("drift", 0) > 0.1 else ""
        cells = [name, *[_cell(row, e) for e in present], *[_ratio(row, p) for p in peers]]
        cells += [f"{row['aim']:g}" if row["aim"] else "–"] * aims + [_speed(row)] * speeds
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: list[Row]) -> str:
    """Geometric means of the ratios, and the rows below 1."""
    lines = []
    for peer in ENGINES:
        found = [counted(r)[peer] for r in rows if peer in counted(r)]
        if found:
            lines.append(f"{title(peer)} / ours: geometric mean {geometric_mean(found):.2f} over {len(found)} rows, "
                         f"{sum(f < 1 for f in found)} below 1.")  # fmt: skip
    missing = sorted({f"{title(e)}: {c['missing']}" for r in rows if r["group"] != "ops"
                      for e, c in r["contestants"].items() if "missing" in c})  # fmt: skip
    return "\n".join(lines + [f"Not measured, {line}." for line in missing])


NOTES = {
    "busy": "How many times longer a step takes beside one spinning process a core (limit: 3).",
}


def markdown(results: Results, picture: str | None = None) -> str:
    """Everything: machine, one table a group (of ``ops`` a summary), how to read them."""
    newest = results["runs"][-1]["machine"]
    parts = [f"- {key}: {value}" for key, value in newest.items()]
    if picture:
        parts += ["", f"![ratios by row]({picture})"]
    for group, heading in HEADINGS.items():
        rows = [r for r in results["rows"] if r["group"] == group]
        if rows:
            parts += ["", f"### {heading}", "", *_origin(rows, results), "", NOTES.get(group, summary(rows)), ""]
            parts.append(ops_summary(rows) if group == "ops" else table(rows))
    return "\n".join(parts) + "\n"


def _origin(rows: list[Row], results: Results) -> list[str]:
    """When, at which commit and by which command the rows were measured; what of the machine was different then."""
    newest, lines = results["runs"][-1]["machine"], []
    for number, run in enumerate(results["runs"]):
        count = sum(row["run"] == number for row in rows)
        if count:
            which = "Measured" if count == len(rows) else f"{count} of {len(rows)} rows were measured"
            other = [f"{key} {value}" for key, value in run["machine"].items() if newest.get(key) != value]
            lines.append(f"{which} {run['date']}" + f" at commit {run['commit']}" * bool(run["commit"])
                         + f" by `{run['command']}`" + f", with {', '.join(other)}" * bool(other) + ".")  # fmt: skip
    if any(row.get("alone") for row in rows):
        confirmed = sum(bool(row.get("alone")) for row in rows)
        which = "Every row was" if confirmed == len(rows) else f"{confirmed} of {len(rows)} rows were"
        lines.append(f"{which} confirmed with each contestant alone in a process; the lower ratio counts.")
    return lines


COLUMNS = (("torch", "forward"), ("torch", "forward + backward"), ("jax", "forward"), ("jax", "forward + backward"),
           ("numpy", "forward"), ("autograd", "forward + backward"))  # fmt: skip


def ops_summary(rows: list[Row]) -> str:
    """The rows of ``ops`` by family: geometric means of the ratios; and the worst of them."""
    columns = [c for c in COLUMNS if any(c[0] in counted(r) for r in rows)]
    head = ["family", "rows", *[f"{title(peer)}, {passes}" for peer, passes in columns], "below 1 against PyTorch"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    families = sorted({r["family"] for r in rows})
    for name, own in [*((f, [r for r in rows if r["family"] == f]) for f in families), ("all", rows)]:
        cells = [name, str(len(own))]
        for peer, passes in columns:
            found = [counted(r)[peer] for r in own if r["name"].endswith(f", {passes}") and peer in counted(r)]
            cells.append(f"{geometric_mean(found):.2f}" if found else "–")
        against = [counted(r)["torch"] for r in own if "torch" in counted(r)]
        lines.append("| " + " | ".join([*cells, f"{sum(f < 1 for f in against)} of {len(against)}"]) + " |")
    lines += ["", "Geometric means of peer / ours. All rows, with times and errors: [ops.md](ops.md)."]
    slow = [r for r in rows if r["contestants"].get("torch", {}).get("seconds", 0) >= SMALL]
    for which, chosen in (("The ten worst", rows), (f"Those where PyTorch takes {amount(SMALL)} or more", slow)):
        worst_ones = sorted((r for r in chosen if "torch" in counted(r)), key=lambda r: counted(r)["torch"])[:10]
        if worst_ones:
            lines += ["", f"{which}, against PyTorch:", "", table(worst_ones, ("ours", "torch"))]
    return "\n".join(lines)


SMALL = 1e-4
"""Seconds: below, a row measures Python's calls."""


def ops_page(results: Results) -> str:
    """Every row of ``ops`` by family."""
    rows = [r for r in results["rows"] if r["group"] == "ops"]
    parts = ["# Every operation of the registry", "", *_origin(rows, results), "",
             "How to read it: [README.md](README.md). In square brackets the shapes of the inputs."]  # fmt: skip
    for name in sorted({r["family"] for r in rows}):
        own = [r for r in rows if r["family"] == name]
        parts += ["", f"## {name}", "", summary(own), "", table(own)]
    return "\n".join(parts) + "\n"


def rewrite(readme: Path, text: str) -> None:
    """Put ``text`` between the markers of ``readme``; what a person wrote around it stays."""
    old = readme.read_text(encoding="utf-8") if readme.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        raise ValueError(f"{readme}: the markers {BEGIN!r} and {END!r} are missing")
    before, after = old.partition(BEGIN)[0], old.partition(END)[2]
    write(readme, f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def bars(rows: list[Row]) -> list[tuple[str, str, float, float, float]]:
    """(group, name, ratio, low, high) to the fastest peer; the rows of ``ops`` as one geometric mean a peer."""
    found = []
    for row in rows:
        fastest = worst(row)
        if fastest and row["group"] != "ops":
            spread = row["ratios"][fastest[1]]
            found.append((row["group"], row["name"], fastest[0], spread["low"], spread["high"]))
    for peer in ENGINES:
        ops = sorted(counted(r)[peer] for r in rows if r["group"] == "ops" and peer in counted(r))
        if ops:
            quarter = len(ops) // 4
            found.append(("ops", f"{len(ops)} rows against {title(peer)}: geometric mean, quartiles",
                          geometric_mean(ops), ops[quarter], ops[-1 - quarter]))  # fmt: skip
    return found


def draw(results: dict[str, Any], path: Path) -> None:
    """Horizontal bars: how many times faster than the fastest peer, by row; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg", force=False)
    import matplotlib.pyplot as plt

    shown = bars(results["rows"])
    figure, axis = plt.subplots(figsize=(10, 0.9 + 0.24 * max(len(shown), 1)))
    for place, (_, _, ratio, low, high) in enumerate(shown):
        axis.barh(place, ratio - 1, left=1, color="#4c8c4a" if ratio >= 1 else "#c0504d", height=0.7)
        axis.plot([low, high], [place, place], color="black", linewidth=0.8)
        axis.text(1, place, f" {ratio:.2f} ", ha="right" if ratio >= 1 else "left", va="center", fontsize=7)
    axis.set_yticks(range(len(shown)), [f"{group}: {name}" for group, name, *_ in shown], fontsize=7)
    axis.invert_yaxis()
    axis.set_xscale("log")
    ends = [end for *_, low, high in shown for end in (low, high)] or [1]
    ticks = [2.0**k for k in range(math.floor(math.log2(min(ends))), math.ceil(math.log2(max(ends))) + 1)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.axvline(1, color="black", linewidth=1)
    axis.set_xlabel("fastest peer / autograd-core (right of 1: autograd-core is better); lines: quartiles")
    axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    kind = path.suffix.removeprefix(".") or "svg"
    with mpl.rc_context({"svg.hashsalt": "benchmarks"}), writing(path) as file:
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)


def _ours(row: Row) -> float:
    """Our own time, 0 if it was not measured."""
    return next((c.get("seconds", 0) for e, c in row["contestants"].items() if e.startswith("ours")), 0)


def compared(old: dict[str, Any], new: dict[str, Any], least: float = 0.05) -> str:
    """What moved: our own time and the ratio to the fastest peer, rows that changed by more than ``least`` alone."""
    before = {(r["group"], r["name"]): r for r in old["rows"]}
    lines = ["| row | ours before | now | before / now | ratio before | now |", "|---|---:|---:|---:|---:|---:|"]
    moved = []
    for row in new["rows"]:
        then = before.get((row["group"], row["name"]))
        if then and then.get("shapes") == row.get("shapes"):
            ours = [_ours(r) for r in (then, row)]
            if all(ours):
                moved.append((ours[0] / ours[1], row, then, ours))
    for change, row, then, ours in sorted(moved, key=lambda entry: entry[0]):
        if abs(math.log(change)) > math.log1p(least):
            ratios = [f"{w[0]:.2f}" if (w := worst(r)) else "–" for r in (then, row)]
            times = [amount(o, row.get("unit", "s")) for o in ours]
            lines.append(f"| {row['group']}: {row['name']} | {times[0]} | {times[1]} | {change:.2f} | {ratios[0]} | "
                         f"{ratios[1]} |")  # fmt: skip
    if not moved:
        return "No row is in both.\n"
    mean = geometric_mean([m[0] for m in moved])
    return "\n".join([*lines, "", f"{len(moved)} rows in both; before / now has the geometric mean {mean:.3f}."]) + "\n"
