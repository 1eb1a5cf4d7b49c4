"""Pictures of computations."""

import pytest

import autograd_core as ag
import nn
from autograd_core.seeing.pictures import renderer


def small():
    ag.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_a_module_is_drawn_with_names_shapes_and_clusters():
    drawing = ag.draw(small(), ag.randn(5, 3))
    for part in ("linear", "relu", "5×4", "float32", "0.weight", "2.bias", "linear backward", "subgraph"):
        assert part in drawing.source


def test_a_tensor_with_history_and_a_function_are_drawn():
    model = small()
    out = model(ag.randn(5, 3)).sum()
    assert "0.weight" in ag.draw(out, model=model).source
    drawing = ag.draw(lambda a, b: (a * b).exp(), ag.randn(2, requires_grad=True), ag.randn(2))
    assert "exp" in drawing.source
    assert "backward" in drawing.source
    with pytest.raises(ValueError, match="no history"):
        ag.draw(ag.randn(2))
    with pytest.raises(TypeError, match="needs a Tensor"):
        ag.draw(3)


def test_a_module_called_twice_is_two_clusters():
    layer = nn.Linear(3, 3)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.act = layer, nn.Tanh()

        def forward(self, x):
            return self.layer(self.act(self.layer(x)))

    graph = ag.draw(Twice(), ag.randn(1, 3)).graph
    assert [v.label for v in graph.vertices.values() if v.kind == "op"] == ["linear", "tanh", "linear"]
    assert sum(v.kind == "parameter" for v in graph.vertices.values()) == 2


@pytest.mark.parametrize("ending", ["svg", "png", "dot", "txt"])
def test_it_saves_in_every_form(tmp_path, ending):
    if ending in ("svg", "png") and renderer() is None:
        pytest.skip("neither dot nor graphviz-pure is installed here")
    path = tmp_path / f"graph.{ending}"
    assert ag.draw(small(), ag.randn(5, 3)).save(path) == str(path)
    start = path.read_bytes()[:200]
    assert {"svg": b"<?xml", "png": b"\x89PNG", "dot": b"digraph", "txt": b"Sequential"}[ending] in start
    with pytest.raises(ValueError, match="endings"):
        ag.draw(small(), ag.randn(5, 3)).save(tmp_path / "x.doc")


def test_it_is_a_graphviz_source_and_shows_itself():
    import graphviz

    drawing = ag.draw(small(), ag.randn(5, 3))
    assert isinstance(drawing, graphviz.Source)
    if renderer() is None:
        pytest.skip("neither dot nor graphviz-pure is installed here")
    assert "<svg" in drawing._repr_mimebundle_()["image/svg+xml"]
    assert drawing.pipe("png").startswith(b"\x89PNG")


def test_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *a, **k: None)
    with pytest.raises(RuntimeError, match="dot on the PATH"):
        ag.draw(small(), ag.randn(5, 3)).pipe("svg")
