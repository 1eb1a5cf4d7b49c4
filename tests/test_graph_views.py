"""Views of graphs: pictures, trees, tables, differences; and what people miss in other tools, answered one by one."""

import json
import random
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import autograd_core as ag
import nn
import nn.functional as F
import optim
from autograd_core.seeing.compare import largest_ulp
from autograd_core.seeing.export import from_json
from autograd_core.seeing.folding import stand_ins
from autograd_core.seeing.pictures import renderer
from autograd_core.seeing.scene import MOST, ROOM, Scene
from autograd_core.seeing.trace import chrome_trace, flame_svg, spans_of
from nn.models.lenet5 import LeNet5
from nn.models.resnet import resnet20

needs_renderer = pytest.mark.skipif(renderer() is None, reason="neither dot nor graphviz-pure is installed here")


def encoder(layers=3):
    ag.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), ag.randn(1, 4, 8)


def recurrent_loop(steps):
    """An LSTM written by hand: the rounds of a loop over plain operations."""
    ag.manual_seed(0)
    w_x, w_h = (ag.randn(n, 16).requires_grad_() for n in (3, 4))

    def run(sequence):
        h = c = ag.zeros(2, 4)
        for t in range(steps):
            i, f, g, o = (sequence[t] @ w_x + h @ w_h).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return h.sum()

    return run, ag.randn(steps, 2, 3)


def folds(graph):
    return [(m.path, m.fold["count"]) for m in graph.folded().modules.values()
            if m.fold is not None and m.fold["first"] == m.key]  # fmt: skip


def two_models():
    ag.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    second = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2), nn.LogSoftmax(1))
    second.load_state_dict(first.state_dict())
    return first, second, ag.randn(5, 4)


def plain_function():
    def collatz(x):
        steps = 0
        while x.item() > 1.5 and steps < 20:
            x = x / 2 if int(x.item()) % 2 == 0 else 3 * x + 1
            steps += 1
        return x

    return collatz, ag.tensor(6.0, requires_grad=True)


MODELS = {
    "LeNet-5": lambda: (LeNet5(), ag.randn(1, 1, 28, 28)),
    "ResNet": lambda: (resnet20(), ag.randn(2, 3, 4, 4)),
    "LSTM": lambda: (nn.LSTM(2, 3), ag.randn(64, 1, 2)),
    "LSTM by hand": lambda: recurrent_loop(64),
    "Transformer": encoder,
    "control flow": plain_function,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_view_of_every_kind_of_model(name):
    model, x = MODELS[name]()
    graph = ag.graph(model, x)
    for parameter in [v for v in graph.vertices.values() if v.kind == "parameter"]:
        assert parameter.gradient is not None, parameter.label
    scene = Scene(graph)
    assert 4 < len(scene.boxes) <= ROOM
    assert {key for start, end, _ in scene.edges for key in (start, end)} <= set(scene.boxes)
    for text in (graph.dot(), graph.mermaid(), str(graph), graph.dot(0)):
        assert text
    assert from_json(json.loads(json.dumps(graph.json(), allow_nan=False))).fingerprint() == graph.fingerprint()
    again = ag.graph(model, x)
    assert again.fingerprint() == graph.fingerprint()
    assert not ag.diff(graph, again)


# ---------------------------------------------------------------------------------------------------- complaints


def test_repeated_blocks_are_collapsed_with_a_count():
    model, x = encoder()
    graph = ag.graph(model, x)
    assert ("TransformerEncoder.layers.0", 3) in [(p.replace("layers.1", "layers.0"), n) for p, n in folds(graph)]
    text = graph.dot()
    assert "×3" in text
    assert text.count("linear2") == ag.graph(*encoder(1)).dot().count("linear2")
    assert "×3" in str(graph)


def test_the_rounds_of_a_loop_are_collapsed_be_they_modules_or_operations():
    run, sequence = recurrent_loop(64)
    graph = ag.graph(run, sequence)
    assert [count for _, count in folds(graph) if count > 4] == [64]
    assert len(Scene(graph).boxes) < 70 < 64 * 15 < len(graph.vertices)
    cell = nn.LSTMCell(3, 4)

    def cells(sequence):
        h = c = ag.zeros(2, 4)
        for t in range(64):
            h, c = cell(sequence[t], (h, c))
        return h

    graph = ag.graph(cells, sequence)
    assert [count for _, count in folds(graph)] == [64]
    assert len(Scene(graph).boxes) < 20
    again = [(a, b) for a, b, again in Scene(graph).edges if again]
    assert again, "an edge says that the next round takes what this one made"


def test_the_steps_of_a_training_loop_are_one_with_their_gradients_and_the_update():
    first, _, x = two_models()
    optimizer = optim.SGD(first.parameters(), lr=0.1)
    with ag.record() as graph:
        for _ in range(4):
            first(x).sum().backward()
            optimizer.step()
    assert folds(graph) == [("round 1", 4)]
    shown = [box.vertex.label for box in Scene(graph).boxes.values()]
    assert shown.count("linear") == 2
    for name, _ in first.named_parameters():
        assert shown.count(f"grad of {name}") == 1
    assert shown.count("SGD step") == 1
    assert sum(label.startswith("gradient of") for label in shown) == 1


def test_blocks_that_are_wired_otherwise_are_not_collapsed():
    def network(x):
        a = x.sin()
        b = a.exp().log()
        c = b.exp().log()
        d = (c + a).exp().log()
        return d + b

    assert folds(ag.graph(network, ag.ones(2))) == []


def test_every_hidden_vertex_has_a_counterpart_that_is_shown_forward_and_backward():
    graph = ag.graph(*recurrent_loop(8)).folded()
    hidden = stand_ins(graph)
    for key, shown in hidden.items():
        if key in graph.vertices:
            assert graph.vertices[key].label == graph.vertices[shown].label
            assert shown not in hidden
    rounds = [v for v in graph.backward if v.kind == "backward" and v.label == "tanh backward"]
    assert len({hidden.get(v.key, v.key) for v in rounds}) == 2


def test_pictures_have_real_names():
    first, _, x = two_models()
    text = ag.graph(first, x).dot()
    for name in ("0.weight", "2.bias", "0: Linear", "<x<br", "grad of 0.weight"):
        assert name in text


def test_parameters_work_and_memory_are_in_the_summary_with_the_backward():
    first, _, x = two_models()
    table = ag.summary(first, x, repeat=1)
    top, linear = table.rows[0], table.rows[1]
    assert (top.parameters, linear.parameters, linear.shape) == (23, 15, "float32[5, 3]")
    assert linear.flops == 2 * 5 * 4 * 3
    assert top.flops == 2 * 5 * (4 * 3 + 3 * 2) + 5 * 3
    assert 0 < linear.forward < top.forward
    assert 0 < linear.backward < top.backward
    assert top.activations == 5 * 3 * 4, "what relu made; the rest are leaves"
    assert top.peak >= 2 * 5 * 3 * 4
    text = str(table)
    for part in ("0: Linear", "float32[5, 3]", "23 (23 trainable)", "backward", "kept for backward", "at the peak"):
        assert part in text
    assert "<table>" in table._repr_html_()


def test_peaks_of_memory_are_measured():
    class Wide(nn.Module):
        def forward(self, x):
            return (x.expand(100, 300) + 1)[0, 0]

    model = nn.Sequential(nn.Identity(), Wide(), nn.Identity())
    table = ag.summary(model, ag.ones(1), repeat=1)
    peaks = {row.name.partition(":")[0]: row.peak for row in table.rows}
    assert 1.2e5 <= peaks["1"] < 3e5
    assert table.peak >= peaks["1"]


def test_two_models_are_compared():
    first, second, x = two_models()
    before, after = ag.graph(first, x), ag.graph(second, x)
    diff = ag.diff(before, after)
    assert [v.label for v in diff.added] == ["log_softmax", "log_softmax backward"]
    assert diff.removed == []
    assert [p.what[0] for p in diff.changed] == ["relu -> gelu", "relu backward -> gelu backward"]
    assert diff.value > 0 < diff.gradient
    text = str(diff)
    assert "+ log_softmax in Sequential.3" in text
    assert "~ gelu in Sequential.1: relu -> gelu" in text
    back = ag.diff(after, before)
    assert [v.label for v in back.removed] == ["log_softmax", "log_softmax backward"]
    for picture in (diff.dot(), back.dot()):
        assert "changed" in picture
    assert "added" in diff.dot()
    assert "removed" in back.dot()
    same = ag.diff(before, ag.graph(first, x))
    assert not same
    assert (same.value, same.gradient) == (0, 0)
    assert "equal" in str(same)


def test_gradients_are_on_the_graph():
    first, _, x = two_models()
    graph = ag.graph(first, x)
    found = next(v for v in graph.vertices.values() if v.name == "0.weight")
    norm = np.linalg.norm(found.gradient.array)
    assert found.gradient.statistics()["norm"] == pytest.approx(norm)
    assert f"‖g‖ {norm:.3g}" in graph.dot()
    assert "‖g‖" in str(graph)


def test_large_graphs_are_folded_refused_in_words_or_closed():
    def chain(names):
        def run(x):
            for name in names:
                x = getattr(x, name)()
            return x.sum()

        return run

    x = ag.ones(2, requires_grad=True)
    regular = ag.graph(chain(["sin", "exp", "tanh"] * 1000), x)
    assert len(Scene(regular).boxes) < 20
    names = random.Random(1).choices(["sin", "cos", "tanh"], k=MOST)
    with pytest.raises(ValueError, match=rf"boxes, more than {MOST:,}: give a smaller depth"):
        ag.graph(chain(names), x).dot()

    def parts(x):
        for number, start in enumerate(range(0, 400, 20)):
            with ag.scope(f"part {number}"):
                for name in names[start : start + 20]:
                    x = getattr(x, name)()
        return x.sum()

    graph = ag.graph(parts, x)
    scene = Scene(graph)
    assert len(scene.boxes) <= ROOM
    assert scene.is_closed
    assert "closed" in graph.dot()
    assert len(Scene(graph, depth=1).boxes) > ROOM


@needs_renderer
def test_pictures_need_no_installed_graphviz(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    if renderer() is None:
        pytest.skip("graphviz-pure is not installed here")
    first, _, x = two_models()
    assert b"<svg" in Path(ag.graph(first, x).save(tmp_path / "g.svg")).read_bytes()


# ---------------------------------------------------------------------------------------------------- forms


ENDINGS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"digraph", "mmd": b"flowchart TB", "txt": b"Seq",
           "html": b"<!doctype html", "json": b'{"format"'}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_graph_is_saved_by_its_ending(ending, tmp_path):
    if ending in ("svg", "png", "pdf") and renderer() is None:
        pytest.skip("neither dot nor graphviz-pure is installed here")
    first, _, x = two_models()
    path = tmp_path / f"graph.{ending}"
    assert ag.graph(first, x).save(path) == str(path)
    assert path.read_bytes()[:20].lower().startswith(ENDINGS[ending].lower())


def test_other_endings_are_refused(tmp_path):
    first, second, x = two_models()
    graph = ag.graph(first, x)
    with pytest.raises(ValueError, match=r"cannot save x\.doc: the endings are \.svg"):
        graph.save(tmp_path / "x.doc")
    with pytest.raises(ValueError, match=r"cannot save x\.doc"):
        ag.diff(graph, ag.graph(second, x)).save(tmp_path / "x.doc")
    with pytest.raises(TypeError, match="two graphs"):
        ag.diff(graph, 3)


def test_a_graph_shows_itself_in_a_notebook():
    first, _, x = two_models()
    assert "<iframe" in ag.graph(first, x)._repr_html_()


def test_depth_closes_modules():
    model, x = encoder()
    graph = ag.graph(model, x)
    assert len(Scene(graph, depth=0).boxes) == 5, "input, model, output; model's backward and its start"
    scene = Scene(graph, depth=1)
    assert {scene.levels[box.module.key] for box in scene.boxes.values() if box.module is not None} == {2}
    assert "linear1" not in str(graph.dot(1))
    assert graph.mermaid(1).count("[[") == 2


def test_the_tree_is_readable():
    first, _, x = two_models()
    lines = str(ag.graph(first, x)).splitlines()
    assert lines[0] == "Sequential: x float32[5, 4] -> float32[5, 2]"
    assert lines[1].startswith("  forward and backward, 23 parameters, ")
    assert [re.sub(r"  +", "  ", line).split("  ")[0].strip("│├└─ ") for line in lines[2:]] == [
        "Sequential", "", "", ""]  # fmt: skip
    assert "├─ 0: Linear  linear" in lines[3]
    assert "float32[5, 3]" in lines[3]
    assert "15 parameters" in lines[3]


def test_mermaid_escapes_what_it_must():
    graph = ag.graph(lambda x: x + 1, ag.ones(2), title="a")
    next(iter(graph.vertices.values())).name = 'x"<b>&'
    assert "x&quot;&lt;b&gt;&amp;" in graph.mermaid()
    assert "<b>" not in graph.dot().replace("x&quot;&lt;b&gt;&amp;", "")


def test_a_nan_is_marked():
    graph = ag.graph(lambda x: x.log().sum(), ag.tensor([-1.0, 1.0]))
    assert "#d00000" in graph.dot()


def test_a_table_of_all_vertices():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed here")
    first, _, x = two_models()
    graph = ag.graph(first, x)
    table = graph.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == len(graph.vertices)
    assert table[table.name == "0.weight"].gradient_norm.item() > 0
    assert len(ag.summary(first, x, repeat=1).to_pandas()) == 4


# ---------------------------------------------------------------------------------------------------- differences


def test_a_fingerprint_pins_an_architecture():
    first, second, x = two_models()
    mark = ag.graph(first, x).fingerprint()
    assert mark == ag.graph(two_models()[0], ag.ones(5, 4), backward=False).fingerprint() == "89e5872f11d8be72"
    assert mark != ag.graph(second, x).fingerprint()
    assert mark != ag.graph(first, ag.ones(6, 4)).fingerprint()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_distances_are_counted_in_floating_point_numbers(kind):
    one = np.ones(3, kind)
    assert largest_ulp(one, one) == 0
    assert largest_ulp(one, np.nextafter(one, kind(2))) == 1
    tiny = np.nextafter(kind(0), kind(1))
    assert largest_ulp(np.array([tiny]), np.array([-tiny])) == 2
    assert largest_ulp(np.array([kind(0)]), np.array([kind(-0.0)])) == 0
    nan = np.array([kind("nan")])
    assert largest_ulp(nan, nan) == 0
    assert largest_ulp(nan, one[:1]) == float("inf")


def test_distances_of_integers_are_differences():
    assert largest_ulp(np.array([3, -5]), np.array([3, 5])) == 10
    assert largest_ulp(np.array([True]), np.array([False])) == 1
    assert largest_ulp(np.zeros(0), np.zeros(0)) == 0
    assert largest_ulp(np.zeros(1, complex), np.zeros(1, complex)) is None


def test_numbers_that_moved_are_found_and_where_they_began():
    first, _, x = two_models()
    before = ag.graph(first, x)
    with ag.no_grad():
        first[2].bias.add_(1)
    diff = ag.diff(before, ag.graph(first, x))
    assert (diff.added, diff.removed, diff.changed) == ([], [], [])
    assert diff.moved[0].after.label == "linear"
    assert diff.moved[0].value > 1000
    assert "ulp" in diff.dot()
    assert "linear in Sequential.2" in str(diff)


def test_a_graph_from_a_file_is_compared_by_structure(tmp_path):
    run, sequence = recurrent_loop(8)
    graph = ag.graph(run, sequence)
    stored = ag.load_graph(graph.save(tmp_path / "g.json"))
    diff = ag.diff(stored, graph)
    assert not diff
    assert diff.value is None
    assert "nothing to compare" in str(diff)
    longer = ag.diff(stored, ag.graph(*recurrent_loop(9)))
    assert len(longer.added) == len(ag.graph(*recurrent_loop(9)).vertices) - len(graph.vertices)
    assert longer.removed == []


def test_the_difference_of_tensors_stays_what_it_was():
    assert ag.diff(ag.tensor([1.0, 4.0, 9.0])).tolist() == [3, 5]
    assert ag.tensor([1, 4, 9]).diff(n=2).tolist() == [2]


def test_a_difference_is_saved(tmp_path):
    first, second, x = two_models()
    diff = ag.diff(ag.graph(first, x), ag.graph(second, x))
    assert "added" in Path(diff.save(tmp_path / "d.txt")).read_text(encoding="utf-8")
    data = json.loads(Path(diff.save(tmp_path / "d.json")).read_text(encoding="utf-8"))
    assert (len(data["added"]), data["removed"]) == (2, [])
    assert data["pairs"][0]["value_ulp"] is not None


# ---------------------------------------------------------------------------------------------------- time


def test_a_chrome_trace_holds_modules_and_operations_in_time(tmp_path):
    first, _, x = two_models()
    graph = ag.graph(first, x)
    events = json.loads(Path(graph.trace(tmp_path / "t.json")).read_text(encoding="utf-8"))["traceEvents"]
    done = [e for e in events if e["ph"] == "X"]
    assert {"Sequential: Sequential", "0: Linear", "linear", "linear backward"} <= {e["name"] for e in done}
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in done)
    linear = next(e for e in done if e["name"] == "linear")
    module = next(e for e in done if e["name"] == "0: Linear")
    assert module["ts"] <= linear["ts"]
    assert linear["ts"] + linear["dur"] <= module["ts"] + module["dur"] + 1
    assert linear["args"]["flops"] == 2 * 5 * 4 * 3
    assert "test_graph_views.py" in linear["args"]["line"]
    assert len(json.loads(chrome_trace(spans_of(graph)))["traceEvents"]) == len(events)


def test_a_flame_graph_is_as_wide_as_the_time(tmp_path):
    svg = flame_svg([(("a", "b"), 3.0), (("a", "c"), 1.0), (("a", "b"), 1.0, "#ff0000")], "title <&>")
    boxes = {t.text.split(":")[0]: float(r.get("width")) for g in ET.fromstring(svg).iter()
             if g.tag.endswith("}g") for t, r in [(g[0], g[1])]}  # fmt: skip
    assert boxes["a"] == pytest.approx(boxes["b"] + boxes["c"], abs=0.1)
    assert boxes["b"] == pytest.approx(4 * boxes["c"], abs=0.1)
    assert "b: 4 s, 80.0%" in svg
    first, _, x = two_models()
    text = Path(ag.graph(first, x).flame(tmp_path / "f.svg")).read_text(encoding="utf-8")
    for part in ("forward", "backward", "linear", "Sequential"):
        assert part in text


def test_loss_makes_the_backward_that_of_a_training_step():
    first, _, x = two_models()
    target = ag.tensor([0, 1, 0, 1, 0])
    graph = ag.graph(first, x, loss=lambda out: F.cross_entropy(out, target))
    F.cross_entropy(first(x), target).backward()
    found = next(v for v in graph.vertices.values() if v.name == "2.weight")
    assert np.array_equal(found.gradient.array, first[2].weight.grad.array)
