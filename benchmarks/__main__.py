"""``python -m benchmarks``: measure, print tables, keep them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this engine beside PyTorch, JAX, NumPy and HIPS autograd where they are installed "
        "(pip install torch==2.13.0 jax autograd). Every row shows times, ratios with their quartiles, and in brackets "
        "the largest error of gradients (of values in forward rows) against float64.",
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP",
                        help="steps (default), compiled, kernels, ops, memory, startup, all")  # fmt: skip
    parser.add_argument("--only", metavar="REGEX", default="", help="rows whose name matches")
    parser.add_argument("--engines", metavar="NAMES", help="contestants, with commas between (default: all installed)")
    parser.add_argument("--compiled", action="store_true", help="with steps: compiled steps too")
    parser.add_argument("--threads", type=int, help="threads of every contestant (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="few and short repeats")
    parser.add_argument("--repeats", type=int, help="blocks a row and contestant; 0 only checks the results")
    parser.add_argument("--confirm", action="store_true", help="measure each row in separate processes too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="write the ratios as bars (.svg or .png)")
    parser.add_argument("--compare", metavar="OLD.json", type=Path, help="show what moved since these numbers")
    parser.add_argument("--write", action="store_true", help="write benchmarks/README.md, results.json, results.svg")
    parser.add_argument("--tiny", action="store_true", help="sizes for a trial of the benchmarks themselves")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    from autograd_core.kernels import host

    options.threads = options.threads or int(os.environ.get("AG_NUM_THREADS") or host.cores())
    try:
        wanted = _groups(options)
        old = _read(options.compare) if options.compare else None
        results = run(wanted, options)
    except (ValueError, OSError) as reason:
        print(f"benchmarks: {reason}", file=sys.stderr)
        return 1
    results["command"] = "python -m benchmarks " + " ".join(given)
    _leave(results, options, old)
    return 0


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except ValueError as reason:
        raise ValueError(f"--compare: {file} is not JSON: {reason}") from reason
    if not isinstance(found, dict) or "rows" not in found:
        raise ValueError(f"--compare: {file} holds no results of benchmarks")
    return found


def _groups(options) -> list[str]:
    from .groups import OTHERS, TIMED

    known = [*TIMED, *OTHERS]
    wanted = known if "all" in options.groups else options.groups or ["steps"]
    if options.compiled and "compiled" not in wanted:
        wanted = [*wanted, "compiled"]
    unknown = [group for group in wanted if group not in known]
    if unknown:
        raise ValueError(f"there is no group {unknown[0]!r}; there are {', '.join([*known, 'all'])}")
    return [group for group in known if group in wanted]


def run(wanted: list[str], options) -> dict[str, Any]:
    """Measure the groups; a line is printed as each row is done."""
    from . import engines, groups, machine, measure, processes, steps

    names = options.engines.split(",") if options.engines else list(engines.ENGINES)
    unknown = [name for name in names if name not in engines.ENGINES]
    if unknown:
        raise ValueError(f"there is no contestant {unknown[0]!r}; there are {', '.join(engines.ENGINES)}")
    ready = engines.ready(names, options.threads)
    only = _matching(options.only)
    rows: list[dict[str, Any]] = []
    for group in wanted:
        repeats = _repeats(group, options)
        settings = measure.Settings(repeats, _block(group, options), 1 if options.quick else 3, options.threads)
        if group in groups.TIMED:
            for case in groups.cases(group, only, options.tiny):
                row = measure.measure(case, ready, settings)
                if _is_news(row, case):
                    if options.confirm and repeats and not options.tiny:
                        _confirm(row, settings)
                    rows.append(_shown(row))
        elif group == "memory":
            rows += map(_shown, processes.memory(options.threads, steps.eager()[2:], only))
        else:
            rows += map(_shown, processes.startup(options.threads, 1 if options.quick else 5, only))
    if not rows:
        raise ValueError(f"no row of {', '.join(wanted)} matches {options.only!r}")
    return {"format": 1, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": machine.describe(options.threads),
            "rows": rows}  # fmt: skip


def _matching(pattern: str) -> Callable[[str], bool]:
    try:
        found = re.compile(pattern)
    except re.error as reason:
        raise ValueError(f"--only: {pattern!r} is no regular expression: {reason}") from reason
    return lambda name: bool(found.search(name))


def _repeats(group: str, options) -> int:
    if options.repeats is not None:
        return options.repeats
    return 3 if options.quick else 5 if group == "ops" else 11


def _block(group: str, options) -> float:
    return 0.02 if options.quick or group == "ops" else 0.1


def _is_news(row: dict[str, Any], case) -> bool:
    """Whether the row has anything of ours: operations without a gradient have no backward row."""
    if case.by_name:
        from .ops import shapes

        row["shapes"] = shapes(case)
        return "missing" not in row["contestants"].get("ours", {})
    return True


def _confirm(row: dict[str, Any], settings) -> None:
    """Take the ratios again with each contestant in a process of its own."""
    from . import processes

    first, *peers = [name for name, entry in row["contestants"].items() if "seconds" in entry]
    seconds = {name: processes.alone(row["group"], row["name"], name, settings.threads, settings.block)
               for name in ((first, *peers) if first.startswith("ours") else ())}  # fmt: skip
    row["alone"] = {peer: seconds[peer] / seconds[first] for peer in peers if peer in seconds}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    from .report import amount, counted, title

    parts = [f"{title(name)} {amount(entry['seconds'], row.get('unit', 's'))}"
             for name, entry in row["contestants"].items() if "seconds" in entry]  # fmt: skip
    ratios = [f"{title(peer)} / ours {ratio:.2f}" for peer, ratio in counted(row).items()]
    print(f"{row['group']}: {row['name']}: {'; '.join([*parts, *ratios]) or 'checked'}", flush=True)
    return row


def _leave(results: dict[str, Any], options, old: dict[str, Any] | None) -> None:
    from autograd_core.files import write

    from . import report

    text = json.dumps(results, indent=1) + "\n"
    print("\n" + report.markdown(results))
    if options.json:
        write(options.json, text)
    if options.markdown:
        write(options.markdown, report.markdown(results))
    if options.picture:
        report.draw(results, options.picture)
    if options.write:
        write(HERE / "results.json", text)
        report.draw(results, HERE / "results.svg")
        report.rewrite(HERE / "README.md", report.markdown(results, "results.svg"))
    if old is not None:
        print(report.compared(old, results))


if __name__ == "__main__":
    sys.exit(main())
