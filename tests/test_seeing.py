"""What the users of other tools miss, and the test that shows it answered; every view on every kind of computation.

torchviz draws the backward without values and modules, torchview and netron the forward without gradients:
    test_graph::test_forward_and_backward_are_matched_in_order_with_modules_and_lines
    test_graph::test_values_and_gradients_are_those_of_the_step
    test_graph_views::test_gradients_are_on_the_graph
Overlays of values cost many times a forward pass (TorchLens):
    test_seeing::test_values_are_held_as_they_are_and_worked_out_when_looked_at
Repeated blocks are not collapsed:
    test_graph_views::test_repeated_blocks_are_collapsed_with_a_count
    test_graph_views::test_the_rounds_of_a_loop_are_collapsed_be_they_modules_or_operations
Names are not the user's:
    test_graph::test_names_are_those_that_the_user_gave
    test_graph::test_results_have_the_names_of_attributes_entries_loops_and_tuples
    test_graph_views::test_pictures_have_real_names
Parameters, FLOPs and memory leave the backward out:
    test_graph::test_work_and_memory_are_known_forward_and_backward
    test_graph_views::test_parameters_work_and_memory_are_in_the_summary_with_the_backward
Two models cannot be compared:
    test_graph_views::test_two_models_are_compared
    test_graph_views::test_numbers_that_moved_are_found_and_where_they_began
Functions that are no modules cannot be traced, control flow neither:
    test_graph::test_any_function_is_traced_with_its_control_flow
Large graphs hang:
    test_graph_views::test_large_graphs_are_folded_refused_in_words_or_closed
    test_page::test_ten_thousand_nodes
Graphviz must be installed:
    test_graph_views::test_pictures_need_no_installed_graphviz
Anomaly detection sees the NaNs of the backward alone, and blames a later operation:
    test_debug::test_an_infinity_of_the_forward
    test_debug::test_a_gradient_names_the_line_of_the_forward
    test_debug::test_a_planted_nan_is_found_in_every_computation
Errors of in-place operations are false alarms, or name one line of two:
    test_messages::test_parts_that_do_not_overlap_raise_no_alarm
    test_messages::test_in_place_errors_name_both_lines
    test_debug::test_a_write_through_numpy_is_noticed_with_the_line_that_saved
"""

import json
import re
from pathlib import Path

import pytest
from subjects import SUBJECTS, training_step, without_kernels  # noqa: F401 (a fixture of every test here)

import autograd_core as ag
import nn
from autograd_core.seeing.pictures import renderer

HERE = Path(__file__).parent


def test_each_answer_is_there():
    named = re.findall(r"(test_\w+)::(test_\w+)", __doc__)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (HERE / f"{file}.py").read_text(), f"{file} has no {test}"


def test_values_are_held_as_they_are_and_worked_out_when_looked_at():
    layer, x = nn.Linear(3, 4), ag.randn(5, 3)
    with ag.record() as graph:
        y = layer(x)
        y.sum().backward()
    (linear,) = [v for v in graph.vertices.values() if v.label == "linear"]
    assert linear.value.raw is y.array
    assert linear.value._statistics is None
    assert linear.value.statistics()["norm"] == pytest.approx(y.square().sum().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_view_of_one_step(name, tmp_path):
    model, loss_fn, x, y = SUBJECTS[name]()
    step, _ = training_step(model, loss_fn)
    with ag.record(name, model=model) as graph, ag.profile() as profile:
        step(x, y)
    for ending in ("dot", "mmd", "html", "json", "txt", *(["svg"] if renderer() is not None else [])):
        assert Path(graph.save(tmp_path / f"g.{ending}", depth=2)).stat().st_size > 200
    assert ag.load_graph(tmp_path / "g.json").fingerprint() == graph.fingerprint()
    spans = json.loads(Path(graph.trace(tmp_path / "t.json")).read_text())["traceEvents"]
    assert len(spans) > len(graph.forward) / 2
    assert "<rect" in Path(graph.flame(tmp_path / "f.svg")).read_text()
    assert not ag.diff(graph, graph)
    made = [v for v in graph.vertices.values() if v.kind == "backward"]
    noted = [e for e in profile.events if e.side == "backward" and e.family != "engine"]
    assert [e.name for e in profile.events if e.side == "update"] == ["Adam.step"]
    assert len(made) == len(noted) > 2, "both saw the same backward, node by node"
