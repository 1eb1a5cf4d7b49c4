"""``ag.profile``: what is counted is what happened, and measuring changes nothing."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from subjects import Cube

import autograd_core as ag
import nn
import optim
from autograd_core.kernels import peak
from autograd_core.seeing.events import size_text

HERE = Path(__file__).name


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.second = nn.Linear(4, 3)

    def forward(self, x):
        return self.second(self.first(x).relu())


def made(seed=0):
    ag.manual_seed(seed)
    model = Net()
    return model, optim.Adam(model.parameters(), lr=0.1), ag.randn(6, 5), ag.randint(0, 3, (6,))


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


@pytest.fixture
def fixed_roof(monkeypatch):
    """A machine of round numbers: the tests of tables need not measure."""
    monkeypatch.setattr(peak, "roof", lambda threads: peak.Roof(1e12, ((1, 1e11), (1 << 27, 1e10))))


def replaced(event):
    """An event without its times and its place."""
    return event._replace(start=0.0, seconds=0.0, place=None)


def events_of(p, name):
    return [e for e in p.events if e.name == name]


# ---------------------------------------------------------------------------------------------------- what is counted


def test_operations_of_both_passes_by_module_and_line():
    model, optimizer, x, y = made()
    with ag.profile() as p:
        step(model, optimizer, x, y)
    forward, backward = ([e for e in events_of(p, "linear") if e.side == side] for side in ("forward", "backward"))
    assert [e.scope for e in forward] == ["first", "second"]
    assert [e.scope for e in backward] == ["second", "first"]
    assert [e.flops for e in forward] == [2 * 6 * 5 * 4, 2 * 6 * 4 * 3]
    assert [e.flops for e in backward] == [4 * 6 * 4 * 3, 2 * 6 * 5 * 4]  # the input of the first wants no gradient
    assert [e.bytes for e in forward] == [4 * (6 * 5 + 4 * 5 + 4 + 6 * 4), 4 * (6 * 4 + 3 * 4 + 3 + 6 * 3)]
    assert [e.allocated for e in forward] == [4 * 6 * 4, 4 * 6 * 3]
    assert all(e.line.startswith(HERE) for e in [*forward, *backward])
    assert [e.side for e in events_of(p, "Adam.step")] == ["update"]
    assert 0 < p.measured < p.seconds
    starts = [e.start for e in p.events]
    assert starts == sorted(starts)


def test_memory_kept_for_backward_counts_once_and_without_parameters():
    model, _, x, _ = made()
    with ag.profile() as p:
        hidden = model.first(x)  # keeps x and the weight, which are the user's
        out = hidden.relu()  # keeps its output (or input): 6 * 4 floats
        result = model.second(out)  # keeps the same output again, and its own weight
    kept = [e.saved for e in p.events]
    assert kept[0] == 0
    assert sum(kept) == p.saved == 4 * 6 * 4
    assert result.shape == (6, 3)


def test_views_are_no_new_memory():
    x = ag.randn(4, 6)
    with ag.profile() as p:
        x.reshape(3, 8)
        x.t().contiguous()
    assert events_of(p, "reshape")[0].allocated == 0
    assert p.events[-1].allocated == x.nbytes


def test_a_gradient_of_gradients_belongs_to_backward_and_to_the_line_of_its_forward():
    x = ag.randn(3, requires_grad=True)
    with ag.profile() as p:
        y = x.exp().sum()
        (g,) = ag.grad(y, x, create_graph=True)
        g.sum().backward()
    backward = [e for e in p.events if e.side == "backward"]
    assert {e.name for e in backward} >= {"mul", "exp"}
    assert all(e.line.startswith(HERE) for e in backward if e.name == "mul")
    np.testing.assert_allclose(x.grad.numpy(), np.exp(x.detach().numpy()), rtol=1e-6)


def test_a_users_function_is_one_operation():
    x = ag.randn(3, requires_grad=True)
    with ag.profile() as p:
        Cube.apply(x).sum().backward()
    assert [e.side for e in events_of(p, "Cube")] == ["forward", "backward"]


def test_operations_have_the_names_of_what_was_called():
    image = ag.ones(1, 1, 3, 3, requires_grad=True)
    with ag.profile() as p:
        scores = nn.functional.conv2d(image, ag.ones(2, 1, 3, 3)).flatten(1)
        nn.functional.cross_entropy(scores[:, :], ag.tensor([1])).backward()
    named = [[e.name for e in p.events if e.side == side] for side in ("forward", "backward")]
    assert set(named[0]) >= {"conv2d", "getitem", "cross_entropy"}
    assert named[1][0] == "cross_entropy"
    assert "conv2d" in named[1]


def test_the_most_memory_of_an_operation():
    x = ag.randn(100, 100)
    with ag.profile(memory=True) as p:
        x.exp()
    assert p.events[0].peak >= 40_000
    with ag.profile() as p:
        x.exp()
    assert p.events[0].peak is None


def test_a_block_that_raises_leaves_what_ran():
    x = ag.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError), ag.profile() as p:
        (x.exp() + ag.ones(4)).sum()
    assert [e.name for e in p.events] == ["exp", "ones"]
    x.exp().sum().backward()  # nobody watches any more
    assert x.grad is not None


# ---------------------------------------------------------------------------------------------------- nothing changes


def test_the_same_bits_with_and_without():
    losses, weights = [], []
    for watched in (False, True):
        model, optimizer, x, y = made()
        for _ in range(3):
            if watched:
                with ag.profile():
                    loss = step(model, optimizer, x, y)
            else:
                loss = step(model, optimizer, x, y)
            losses.append(loss.item())
        weights.append(model.first.weight.detach().numpy())
    assert losses[:3] == losses[3:]
    assert np.array_equal(*weights)


def test_arrays_stay_arrays():
    with ag.profile():
        assert type(ag.exp(np.ones(3))) is np.ndarray
        x = ag.zeros(3)
        x[1] = 2.0
        assert x[ag.tensor(1)].item() == 2.0


def test_profiles_nest_and_a_recording_outside_sees_all(fixed_roof):
    model, optimizer, x, y = made()
    with ag.profile() as outer, ag.profile() as inner:
        step(model, optimizer, x, y)
    assert [e.name for e in inner.events] == [e.name for e in outer.events]
    with ag.record() as g, ag.profile() as p:
        model(x).sum().backward()
    assert g.backward
    with ag.profile() as alone:
        model(x).sum().backward()
    with ag.profile() as outside, ag.record():
        model(x).sum().backward()
    for found in (p, outside):
        assert [replaced(e) for e in found.events] == [replaced(e) for e in alone.events]


def test_recording_a_compiled_function_is_one_row():
    model, _, x, _ = made()
    compiled = ag.compile(lambda a: model(a).sum())
    with ag.profile() as p:
        first = compiled(x)  # records: the profile sees one row
        second = compiled(x)
    assert p.events[0].side == "engine"
    np.testing.assert_allclose(first.item(), second.item(), rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- compiled steps


def test_a_compiled_step_is_measured_row_by_row():
    model, optimizer, x, y = made()
    compiled = ag.compile(lambda a, b: step(model, optimizer, a, b), disable=["fusion", "epilogues"])
    for _ in range(3):
        compiled(x, y)
    before = model.first.weight.detach().clone()
    with ag.profile() as p:
        for _ in range(2):
            compiled(x, y)
    assert not ag.equal(before, model.first.weight)
    assert len(events_of(p, "linear")) == 4
    assert {e.side for e in p.events} >= {"forward", "backward", "update"}
    assert sum(e.flops or 0 for e in events_of(p, "linear")) == 2 * 2 * (6 * 5 * 4 + 6 * 4 * 3)
    rows = compiled.profile(x, y, repeat=2)
    assert [e.name for e in rows.events] == [e.name for e in p.events[: len(rows.events)]]
    assert any(e.scope == "first" and e.side == "backward" for e in rows.events)


# ---------------------------------------------------------------------------------------------------- tables and files


def test_tables(fixed_roof):
    model, optimizer, x, y = made()
    with ag.profile(title="a step") as p:
        step(model, optimizer, x, y)
    text = str(p)
    assert text.startswith("a step: ")
    for part in ("by operation", "by module", "by line", "GFLOP/s", "of best", f"{HERE}:", "first"):
        assert part in text
    rows = {row.name: row for row in p.rows()}
    linear = rows["linear"]
    assert linear.calls == 4
    assert linear.forward + linear.backward == pytest.approx(linear.seconds)
    assert linear.least <= linear.seconds
    assert sum(row.seconds for row in p.rows("line")) == pytest.approx(p.measured)
    assert sum(row.seconds for row in p.rows("call")) == pytest.approx(p.measured)
    with pytest.raises(ValueError, match=r"by must be one of operation, .*got 'colour'"):
        p.rows("colour")


def test_modules_hold_what_they_call(fixed_roof):
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(2, 2))
    x = ag.randn(3, 2)
    with ag.profile() as p:
        model(x)
    rows = {row.name: row for row in p.rows("module")}
    assert list(rows) == ["0", "0.0", "0.1", "1"]
    assert rows["0"].seconds == pytest.approx(rows["0.0"].seconds + rows["0.1"].seconds)


def test_files(tmp_path, fixed_roof):
    model, optimizer, x, y = made()
    with ag.profile() as p:
        step(model, optimizer, x, y)
    for ending in ("json", "svg", "html", "txt"):
        p.save(tmp_path / f"p.{ending}")
    spans = [e for e in json.loads((tmp_path / "p.json").read_text())["traceEvents"] if e["ph"] == "X"]
    assert len(spans) == len(p.events)
    assert {span["cat"] for span in spans} == {"forward", "backward", "update"}
    assert ET.fromstring((tmp_path / "p.svg").read_text()).tag.endswith("svg")
    page = (tmp_path / "p.html").read_text()
    assert page.count("<table>") == 4
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert p._repr_html_().count("<table>") == 2
    assert page.count("<circle") == len([e for e in p.events if e.flops])
    with pytest.raises(ValueError, match=r"the endings are \.json, \.svg, \.html, \.txt"):
        p.save(tmp_path / "p.doc")


def test_pandas():
    pytest.importorskip("pandas", reason="pandas is not among what the package needs")
    with ag.profile() as p:
        ag.ones(3).exp()
    assert list(p.to_pandas()["name"])[-1] == "exp"


@pytest.mark.parametrize(("count", "text"), [(3, "3 B"), (4096, "4.1 kB"), (2.5e6, "2.5 MB"), (3e9, "3 GB")])
def test_sizes(count, text):
    assert size_text(count) == text


# ---------------------------------------------------------------------------------------------------- the machine


def test_the_roof_is_measured_once_and_kept(monkeypatch):
    kept, asked = {}, []
    monkeypatch.setattr(peak.cache, "load", kept.get)
    monkeypatch.setattr(peak.cache, "store", kept.__setitem__)
    monkeypatch.setattr(peak, "peak", lambda threads: asked.append(threads) or 1e9)
    monkeypatch.setattr(peak, "bandwidth", lambda threads, moved: 1e9 if moved > 1e7 else 4e9)
    peak.roof.cache_clear()
    first = peak.roof(3)
    peak.roof.cache_clear()  # as in another process
    assert peak.roof(3) == first
    assert asked == [3]
    assert first.seconds(1e9, 0) == 1.0
    assert first.bandwidth(1) == 4e9
    assert first.bandwidth(1e12) == 1e9
    monkeypatch.setattr(peak, "peak", lambda threads: 5e8)
    assert peak.measure(3).flops == 1e9  # a busy machine does not lower it
    peak.roof.cache_clear()


def test_the_peak_is_above_what_a_product_reaches():
    roof = peak.roof(1)
    assert 1e8 < roof.flops < 1e14
    assert all(1e8 < speed < 1e13 for _, speed in roof.speeds)
