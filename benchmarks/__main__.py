"""``python -m benchmarks``: measure, print tables, keep them."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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
                        help="steps (default), compiled, kernels, ops, memory, startup, busy, all")  # fmt: skip
    parser.add_argument("--only", metavar="REGEX", default="", help="rows whose name matches")
    parser.add_argument("--engines", metavar="NAMES", help="contestants, with commas between (default: all installed)")
    parser.add_argument("--compiled", action="store_true", help="with steps: compiled steps too")
    parser.add_argument("--threads", type=int, help="threads of every contestant (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="few and short repeats")
    parser.add_argument("--repeats", type=int, help="blocks a row and contestant; 0 only checks the results")
    parser.add_argument("--confirm", action="store_true", help="measure each row in separate processes too")
    parser.add_argument("--budget", type=float, metavar="MINUTES",
                        help="most that each timed group may take (default: 12 for ops); rows get fewer blocks")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="write the ratios as bars (.svg or .png)")
    parser.add_argument("--compare", metavar="OLD.json", type=Path, help="show what moved since these numbers")
    parser.add_argument("--write", action="store_true", help="write README.md, ops.md, results.json and results.svg of "
                        "the benchmarks; groups and rows that were not measured now stay as they are")  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="sizes for a trial of the benchmarks themselves")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    from autograd_core.kernels import host

    from . import store

    options.threads = options.threads or int(os.environ.get("AG_NUM_THREADS") or host.cores())
    try:
        wanted = _groups(options)
        old = store.read(options.compare) if options.compare else None
        rows = run(wanted, options)
    except (ValueError, OSError) as reason:
        print(f"benchmarks: {reason}", file=sys.stderr)
        return 1
    results = store.made(rows, shlex.join(["python", "-m", "benchmarks", *given]), options.threads)
    _leave(results, options, old)
    if options.write:
        _keep(results, set() if options.only else set(wanted))
    return 0


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


def run(wanted: list[str], options) -> list[dict[str, Any]]:
    """Measure the groups; a line is printed as each row is done."""
    from . import busy, engines, groups, measure, processes, steps

    names = options.engines.split(",") if options.engines else list(engines.ENGINES)
    unknown = [name for name in names if name not in engines.ENGINES]
    if unknown:
        raise ValueError(f"there is no contestant {unknown[0]!r}; there are {', '.join(engines.ENGINES)}")
    ready = engines.ready(names, options.threads)
    only = _matching(options.only)
    rows: list[dict[str, Any]] = []
    for group in wanted:
        settings = measure.Settings(_repeats(group, options), _block(group, options),
                                    attempts=1 if options.quick else 3, threads=options.threads)  # fmt: skip
        if group in groups.TIMED:
            found = _timed(group, ready, settings, only, options)
        elif group == "busy":
            found = busy.rows(ready, settings, only)
        elif group == "memory":
            found = processes.memory(options.threads, steps.eager()[2:], only)
        else:
            found = processes.startup(options.threads, 1 if options.quick else 5, only)
        rows += map(_shown, found)
    if not rows:
        raise ValueError(f"no row of {', '.join(wanted)} matches {options.only!r}")
    return rows


def _timed(group: str, ready: dict[str, Any], settings, only, options) -> Iterator[dict[str, Any]]:
    """The rows of a group, each in an equal part of the time that is left for all."""
    from . import groups, measure
    from .apart import Apart

    minutes = options.budget if options.budget is not None else 12 if group == "ops" else math.inf
    end = time.perf_counter() + 60 * minutes
    left = len(groups.names(group, only))
    confirming = options.confirm and settings.repeats and not options.tiny
    with Apart(options.threads) as apart:
        for case in groups.cases(group, only, options.tiny):
            part = (end - time.perf_counter()) / left / (2 if confirming else 1)
            own, left = replace(settings, seconds=part), left - 1
            row = measure.measure(case, ready, own)
            contestants = [name for name, entry in row["contestants"].items() if "seconds" in entry]
            if confirming and contestants and contestants[0].startswith("ours"):
                row["alone"] = apart.ratios(case, contestants, own)
            if _is_news(row, case):
                yield row


def _matching(pattern: str) -> Callable[[str], bool]:
    try:
        found = re.compile(pattern)
    except re.error as reason:
        raise ValueError(f"--only: {pattern!r} is no regular expression: {reason}") from reason
    return lambda name: bool(found.search(name))


def _repeats(group: str, options) -> int:
    if options.repeats is not None:
        return options.repeats
    return 3 if options.quick else 5 if group in ("ops", "busy") else 11


def _block(group: str, options) -> float:
    return 0.02 if options.quick or group == "ops" else 0.1


def _is_news(row: dict[str, Any], case) -> bool:
    """Whether the row has anything of ours: operations without a gradient have no backward row."""
    if case.by_name:
        from .ops import family, shapes

        row["shapes"], row["family"] = shapes(case), family(case)
        return "missing" not in row["contestants"].get("ours", {})
    return True


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    from .report import amount, counted, title

    parts = [f"{title(name)} {amount(entry['seconds'], row.get('unit', 's'))}"
             for name, entry in row["contestants"].items() if "seconds" in entry]  # fmt: skip
    ratios = [f"{title(peer)} / ours {ratio:.2f}" for peer, ratio in counted(row).items()]
    print(f"{row['group']}: {row['name']}: {'; '.join([*parts, *ratios]) or 'checked'}", flush=True)
    return row


def _leave(results: dict[str, Any], options, old: dict[str, Any] | None) -> None:
    from autograd_core.files import write

    from . import report, store

    print("\n" + report.markdown(results))
    if options.json:
        write(options.json, store.text(results))
    if options.markdown:
        write(options.markdown, report.markdown(results))
    if options.picture:
        report.draw(results, options.picture)
    if old is not None:
        print(report.compared(old, results))


def _keep(results: dict[str, Any], whole: set[str], folder: Path = HERE) -> None:
    """Put the results among those that are kept; of the groups in ``whole`` every row was measured."""
    from autograd_core.files import write

    from . import report, store

    file = folder / "results.json"
    results = store.merged(store.read(file), results, whole) if file.exists() else results
    write(file, store.text(results))
    report.draw(results, folder / "results.svg")
    report.rewrite(folder / "README.md", report.markdown(results, "results.svg"))
    if any(row["group"] == "ops" for row in results["rows"]):
        write(folder / "ops.md", report.ops_page(results))


if __name__ == "__main__":
    sys.exit(main())
