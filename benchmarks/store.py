"""The kept results: rows, and of each the run (command, date, commit, machine) that measured it."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import machine

Results = dict[str, Any]
FORMAT = 2
ROOT = Path(__file__).resolve().parent.parent


def made(rows: list[dict[str, Any]], command: str, threads: int) -> Results:
    """The results of one run."""
    run = {"command": command, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": commit(),
           "machine": machine.describe(threads)}  # fmt: skip
    return {"format": FORMAT, "runs": [run], "rows": [{**row, "run": 0} for row in rows]}


def commit() -> str:
    """The commit that is measured, and whether the packages differ from it; empty outside a checkout."""
    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "autograd_core", "nn", "optim")
        return git("rev-parse", "--short", "HEAD") + " with changes" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return ""


def merged(old: Results, new: Results, whole: set[str]) -> Results:
    """The new rows in place of the old ones of the same name; of the groups in ``whole`` no old row stays."""
    fresh = {(row["group"], row["name"]): row for row in new["rows"]}
    shift = len(old["runs"])
    rows = []
    for row in old["rows"]:
        key = row["group"], row["name"]
        if key[0] not in whole:
            rows.append({**fresh.pop(key), "run": shift} if key in fresh else row)
    rows += [{**row, "run": shift} for row in fresh.values()]
    runs = [*old["runs"], *new["runs"]]
    used = sorted({row["run"] for row in rows})
    return {"format": FORMAT, "runs": [runs[number] for number in used],
            "rows": [{**row, "run": used.index(row["run"])} for row in rows]}  # fmt: skip


def read(file: Path) -> Results:
    """The results in ``file``; raises ValueError where it holds none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise ValueError(f"{file} is not JSON: {reason}") from reason
    if not isinstance(found, dict) or found.get("format") != FORMAT or "rows" not in found:
        raise ValueError(f"{file} holds no results of this version of the benchmarks")
    return found


def text(results: Results) -> str:
    """The results as JSON, a row a line, numbers with five digits."""
    head = json.dumps({key: value for key, value in results.items() if key != "rows"}, indent=1, ensure_ascii=False)
    rows = ",\n".join(json.dumps(_short(row), ensure_ascii=False) for row in results["rows"])
    return f'{head[:-2]},\n "rows": [\n{rows}\n]}}\n'


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
