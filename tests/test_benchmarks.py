"""The benchmarks' plumbing, at sizes and repeats that measure nothing."""

import itertools
import json
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import autograd_core as ag
from autograd_core.ops.samples import real, sample
from autograd_core.registry import ops_by_public_name

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed

from benchmarks import apart, busy, cases, engines, groups, measure, ops, processes, report, steps, store  # noqa: E402
from benchmarks.__main__ import _keep, main  # noqa: E402

OURS = engines.ready(["ours"], 1)
NOTHING = measure.Settings(repeats=0, elements=1)


def everything(name):
    return True


def row(name="r", ours=1.0, torch=2.0, **more):
    ratio = torch / ours
    return {"group": "steps", "name": name, "aim": 1.5,
            "contestants": {"ours": {"seconds": ours, "error": 1e-7}, "torch": {"seconds": torch, "error": 2e-7}},
            "ratios": {"torch": {"low": ratio - 0.1, "median": ratio, "high": ratio + 0.1}}, **more}  # fmt: skip


def results(*rows, **run):
    run = {"date": "2026-01-01", "command": "python -m benchmarks", "commit": "abc", "machine": {"cores": "2"}, **run}
    return {"format": store.FORMAT, "runs": [run], "rows": [{"run": 0, **row} for row in rows]}


@pytest.fixture(autouse=True)
def _same_threads():
    before = ag.get_num_threads()
    yield
    ag.set_num_threads(before)


LONG = ("ResNet", "LeNet", "char LSTM", "transformer")  # minutes of compiling; test_compile trains these networks
SMALL = [
    case for group in ("steps", "kernels") for case in groups.cases(group, everything, tiny=True)
    if ("conv" not in case.name or "6, 16" in case.name) and "10 M" not in case.name  # the others are the same, shrunk
    and not case.name.startswith(LONG)
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_a_row_is_right_in_float32(case):
    found = measure.measure(case, OURS, NOTHING)["contestants"]["ours"]
    assert "missing" not in found
    assert found["error"] < 1e-3


@pytest.mark.parametrize("qualified", ["tanh", "matmul", "conv2d", "cumsum", "sort"])
def test_rows_of_operations(qualified):
    found = list(ops.cases(lambda name: name.startswith(f"{qualified},"), tiny=True))
    assert [case.name for case in found] == [f"{qualified}, forward", f"{qualified}, forward + backward"]
    made = [measure.measure(case, engines.ready(["ours", "numpy"], 1), NOTHING) for case in found]
    assert made[1]["contestants"]["ours"]["error"] < 1e-3
    assert "missing" in made[1]["contestants"]["numpy"]


def test_every_operation_has_a_row():
    assert {case.qualified for case in ops.cases(tiny=True)} == set(ops_by_public_name())


@pytest.mark.parametrize(("qualified", "least"), [("tanh", 2**10), ("matmul", 2**8), ("outer", 100)])
def test_samples_are_scaled_up_within_bounds(qualified, least, monkeypatch):
    monkeypatch.setattr(ops, "MOST_ELEMENTS", 2**12)
    monkeypatch.setattr(ops, "ELEMENTS", {"contraction": 2**10})
    assert least <= ops._size(ops.largest.__wrapped__(qualified)) <= ops.MOST_ELEMENTS


def test_scaling_keeps_dimensions_of_length_one():
    entry = ops.scaled(sample(real(3, 1), real(4)), 4, first_only=False)
    assert [value.shape for value in entry.args] == [(12, 1), (16,)]
    assert ops.scaled(sample(real(3, 4)), 4, first_only=True).args[0].shape == (12, 4)


def test_a_wrong_gradient_shows():
    class Wrong(engines.Ours):
        def function_job(self, function, args, kwargs, backward):
            run, found = super().function_job(function, args, kwargs, backward)
            return cases.Job(run, lambda: {k: v * 1.01 for k, v in found().items()})

    right = cases.reference(steps.ADD, OURS)
    assert cases.error(steps.ADD.job(OURS["ours"]).results(), right) < 1e-6
    assert cases.error(steps.ADD.job(Wrong(1)).results(), right) == pytest.approx(0.01, rel=1e-3)


def test_errors_of_what_is_missing_or_not_a_number_are_infinite():
    right = {"w": (..., np.ones(3))}
    assert cases.error({}, right) == math.inf
    assert cases.error({"w": np.ones(2)}, right) == math.inf
    assert cases.error({"w": np.array([1, 1, np.nan])}, right) == math.inf
    assert cases.error({"w": np.ones(3)}, right) == 0


def test_differences_agree_with_backward():
    case = steps.XOR
    right = cases.differences(case, OURS["ours"], elements=3)
    assert set(right) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert cases.error(case.job(OURS["ours"], np.float64).results(), right) < 1e-7


def test_contestants_take_turns():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    times = measure.alternate(runs, measure.Settings(repeats=2, block=1e-4))
    assert [len(taken) for taken in times.values()] == [2, 2]
    assert [name for name, _ in itertools.groupby(order)] == ["a", "b", "a", "b", "a"]  # b twice running


def test_who_has_used_its_share_of_the_time_sits_out():
    calls = Counter()
    runs = {"quick": lambda: calls.update(["quick"]), "slow": lambda: (calls.update(["slow"]), time.sleep(0.02))}
    times = measure.alternate(runs, measure.Settings(repeats=5, block=1e-5, seconds=0.03))
    assert [len(taken) for taken in times.values()] == [5, 1]
    assert calls["slow"] == 2


def test_tables():
    text = report.markdown(results(row(), row("slow", ours=4.0, alone={"torch": 0.3}), row("†", drift=0.2)), "p.svg")
    assert "| r | 1 s (1e-07) | 2 s (2e-07) | 2.00 (1.90–2.10) | 1.5 |" in text
    assert "0.50 (0.40–0.60); alone 0.30" in text
    assert "geometric mean 1.06 over 3 rows, 1 below 1" in text
    assert "![ratios by row](p.svg)" in text


def test_the_lower_ratio_counts():
    assert report.counted(row(alone={"torch": 1.2})) == {"torch": 1.2}
    assert report.counted(row(alone={"torch": 3.0})) == {"torch": 2.0}


def test_comparing():
    text = report.compared(results(row(), row("same"), row("gone")), results(row(ours=0.5), row("same"), row("new")))
    assert "| steps: r | 1 s | 500 ms | 2.00 | 2.00 | 4.00 |" in text
    assert "same |" not in text
    assert "2 rows in both" in text
    assert "No row is in both" in report.compared(results(), results(row()))


def test_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    report.draw(results(row(), row("slow", ours=4.0), {**row("tanh"), "group": "ops"}), tmp_path / "p.svg")
    assert "tanh" not in (tmp_path / "p.svg").read_text()  # operations are one bar together
    assert (tmp_path / "p.svg").read_text().count("<svg") == 1


def test_the_readme_keeps_what_people_wrote(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    report.rewrite(readme, "new")
    assert readme.read_text() == f"above\n{report.BEGIN}\n\nnew\n{report.END}\nbelow\n"
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        report.rewrite(readme, "new")
    assert report.BEGIN in (ROOT / "benchmarks" / "README.md").read_text()


def test_command(tmp_path, capsys):
    arguments = ["steps", "kernels", "--tiny", "--repeats", "0", "--threads", "1", "--engines", "ours"]
    assert main([*arguments, "--only", "4x4|^matmul 16,", "--json", str(tmp_path / "r.json"), "--markdown",
                 str(tmp_path / "r.md")]) == 0  # fmt: skip
    made = json.loads((tmp_path / "r.json").read_text())
    products = ["matmul 16, forward", "matmul 16, forward + backward"]
    assert [r["name"] for r in made["rows"]] == ["add + sum + backward, 4x4", *products]
    assert "numpy" in made["runs"][0]["machine"]
    assert (tmp_path / "r.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["flops"], "no group 'flops'"),
    (["--only", "("], "no regular expression"),
    (["--only", "nothing like it"], "no row"),
    (["--engines", "theirs"], "no contestant 'theirs'"),
    (["--compare", os.devnull], "is not JSON"),
])  # fmt: skip
def test_mistakes_are_explained(arguments, complaint, capsys):
    assert main([*arguments, "--repeats", "0"]) == 1
    assert complaint in capsys.readouterr().err


def test_agrad_bench_hands_its_options_on(capsys):
    from nn.cli import main as agrad

    assert agrad(["bench", "--tiny", "--repeats", "0", "--engines", "ours", "--only", "4x4"]) == 0
    assert "add + sum + backward" in capsys.readouterr().out


def test_a_process_of_its_own():
    assert float(processes.child("-c", "print(1); print(2.5)")) == 2.5
    with pytest.raises(RuntimeError, match="ValueError: no"):
        processes.child("-c", "raise ValueError('no')")
    assert processes.resident(peak=True) > 1 << 20
    assert float(processes.child("-m", "benchmarks.processes", "memory", "ours", "1", steps.XOR.name)) > 0


def test_rows_are_measured_again_apart():
    with apart.Apart(1) as others:
        settings = measure.Settings(repeats=1, block=1e-4, threads=1)
        assert others.seconds(steps.ADD, "ours", settings) > 0
        (tanh,) = ops.cases(lambda name: name == "tanh, forward", tiny=True)
        assert others.ratios(tanh, ["ours", "numpy"], settings)["numpy"] > 0
        (process, _) = others.running["ours"]
    assert not process.is_alive()


def test_processes_that_spin_end_with_the_block():
    with pytest.raises(KeyError), busy.spinning(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
        raise KeyError
    assert all(process.returncode is not None for process in processes)


def test_rows_of_a_busy_machine(monkeypatch):
    monkeypatch.setattr(busy, "CASES", (steps.XOR,))
    (found,) = busy.rows(OURS, measure.Settings(repeats=1, block=1e-3, threads=1), everything)
    entry = found["contestants"]["ours"]
    assert entry["seconds"] == pytest.approx(entry["busy"] / entry["alone"])
    assert f"| {entry['seconds']:.2f} × (" in report.markdown(results(found))


def test_rows_that_were_not_measured_are_kept():
    ops_row = {**row("tanh, forward"), "group": "ops", "family": "elementwise"}
    first = store.merged(results(row("a"), row("b")), results(ops_row, commit="def"), {"ops"})
    assert [(r["name"], r["run"]) for r in first["rows"]] == [("a", 0), ("b", 0), ("tanh, forward", 1)]
    some = store.merged(first, results(row("b", ours=0.5), commit="ghi", machine={"cores": "4"}), set())
    assert [(r["name"], r["run"]) for r in some["rows"]] == [("a", 0), ("b", 2), ("tanh, forward", 1)]
    text = report.markdown(some)
    assert "1 of 2 rows were measured 2026-01-01 at commit abc by `python -m benchmarks`, with cores 2." in text
    every = store.merged(some, results(row("c"), commit="jkl"), {"steps"})
    assert [(r["name"], r["run"]) for r in every["rows"]] == [("tanh, forward", 0), ("c", 1)]
    assert [run["commit"] for run in every["runs"]] == ["def", "jkl"]


def test_operations_are_summed_up_by_family():
    rows = [{**row(name, ours), "group": "ops", "family": family, "shapes": "3"}
            for name, ours, family in (("tanh, forward", 1, "elementwise"), ("exp, forward", 0.25, "elementwise"),
                                       ("tanh, forward + backward", 4, "elementwise"), ("mm, forward", 1, "linalg"))]
    text = report.markdown(results(*rows))
    assert "| elementwise | 3 | 4.00 | 0.50 | 1 of 3 |" in text
    assert "| all | 4 | 3.17 | 0.50 | 1 of 4 |" in text
    assert text.index("| tanh, forward + backward [3] |") < text.index("| mm, forward [3] |")  # the worst first
    assert "## linalg" in report.ops_page(results(*rows))


def test_results_are_kept(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    _keep(results(row()), {"steps"}, tmp_path)
    _keep(results({**row("tanh, forward", 1 / 3), "group": "ops", "family": "elementwise"}), {"ops"}, tmp_path)
    assert [r["name"] for r in store.read(tmp_path / "results.json")["rows"]] == ["r", "tanh, forward"]
    assert "### Training steps, eager" in (tmp_path / "README.md").read_text()
    assert "tanh, forward" in (tmp_path / "ops.md").read_text()
    assert '"seconds": 0.33333,' in (tmp_path / "results.json").read_text()


def test_the_kept_results_can_be_read():
    assert store.read(ROOT / "benchmarks" / "results.json")["rows"]


def test_install_size_counts_what_is_needed():
    assert processes.install_size("autograd_core") > processes.install_size("numpy") > 10**6
