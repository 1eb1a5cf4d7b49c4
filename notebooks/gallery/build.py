"""Builds the gallery: runs its notebooks in full and writes one static site, runs/gallery/index.html.

    python notebooks/gallery/build.py                     # all
    python notebooks/gallery/build.py xor_mlp lenet5      # some (make gallery ONLY=...); others keep their pages
    python notebooks/gallery/build.py --fast              # small budgets, to look at the pages

Each notebook runs in a process of its own. A notebook that fails has its error on its page, and the exit code is 1.
What it costs is told in processor time (its own and its children's), which a busy machine does not inflate; there is
no limit by the clock.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # notebooks are not installed

from benchmarks.machine import processor  # noqa: E402 (after the path)
from notebooks.gallery import pages  # noqa: E402

FOLDER = Path(__file__).resolve().parent
ORDER = ["perceptron", "logistic_regression", "xor_mlp", "one_hidden_layer", "deep_mlp", "lenet5", "regularisation",
         "optimizers", "rnn_and_lstm", "ragged_sequences", "transformer", "autoencoder", "deep_belief_network",
         "residual_network", "recommender", "ensembles_and_search", "ship_it"]  # fmt: skip
"""The order in which a reader takes them; others follow by name."""


def notebooks() -> list[Path]:
    """The gallery's notebooks in reading order."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    return [found.pop(name) for name in ORDER if name in found] + list(found.values())


def build(path: Path, site: Path, fast: bool) -> dict:
    """Run one notebook into its page; returns what the index says of it."""
    page = site / path.stem
    shutil.rmtree(page, ignore_errors=True)
    page.mkdir(parents=True)
    settings = os.environ | {
        "MPLBACKEND": "Agg",
        "PYTHONIOENCODING": "utf-8",
        "AG_GALLERY": str(page),
        "COLUMNS": "130",
    }
    settings |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    settings |= {"AG_FAST": "1"} if fast else {}
    started, before = time.perf_counter(), os.times()
    code = subprocess.run(
        [sys.executable, __file__, "--page", str(path), str(page)], cwd=page, env=settings, check=False
    ).returncode
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    held = page / "results.jsonl"
    results = [json.loads(line) for line in held.read_text("utf-8").splitlines()] if held.exists() else []
    about = {"name": path.stem, "failed": bool(code), "seconds": time.perf_counter() - started, "cpu": used}
    about |= {"fast": fast, "results": results, "machine": f"{processor()}, {os.cpu_count()} cores"}
    (page / "about.json").write_text(json.dumps(about), encoding="utf-8")
    return about


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run the gallery's notebooks and write its site.")
    parser.add_argument("names", nargs="*", help="notebooks to run (default: all)")
    parser.add_argument("--out", default=str(ROOT / "runs" / "gallery"), help="folder of the site")
    parser.add_argument("--fast", action="store_true", help="small data and few steps")
    parser.add_argument("--page", nargs=2, metavar=("NOTEBOOK", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.page:
        return pages.run(*map(Path, given.page), [path.stem for path in notebooks()])
    missing = [name for name in ("matplotlib", "latex2mathml") if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"needs {' and '.join(missing)}: pip install 'autograd-core[demo,gallery]'")
    site = Path(given.out).resolve()
    known = {path.stem: path for path in notebooks()}
    for name in given.names:
        if name not in known:
            parser.error(f"no notebook is named {name!r}; there are {', '.join(known)}")
    failed = []
    for name in given.names or known:
        print(f"gallery: {name}", flush=True)
        about = build(known[name], site, given.fast)
        state = f"{about['cpu']:.0f} s of processor time in {about['seconds']:.0f} s"
        print(f"gallery: {name} {'FAILED' if about['failed'] else 'ok'}, {state}", flush=True)
        failed += [name] if about["failed"] else []
    pages.index(site, list(known))
    print(f"gallery: {site / 'index.html'}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
